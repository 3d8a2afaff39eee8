//! An image's bytes as served, through every cut: a reader that goes on with `Range` and `If-Range` where a connection
//! broke, and that never joins parts of two different files.

use crate::{
    log::Log,
    patience::{Patience, sleep_unless},
};
use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error("{url}: no byte after {at} of {size} for {seconds} s; the last reason: {reason}")]
    Away { url: String, at: u64, size: u64, seconds: u64, reason: String },
    #[error("{url}: wrong answers at byte {at} of {size}, {times} times; the last: {reason}")]
    WrongAnswers { url: String, at: u64, size: u64, times: u32, reason: String },
    #[error("{url}: not whole within {seconds} s, at byte {at} of {size}")]
    TooSlow { url: String, at: u64, size: u64, seconds: u64 },
    #[error("{url}: the file was changed while it was fetched (entity tag {before}, then {now})")]
    Changed { url: String, before: String, now: String },
    #[error("the fetch was called off")]
    Stopped,
}

/// What a connection attempt, or a read from one, has shown.
enum Trouble {
    /// Silence, a cut, 5xx: wait and go on.
    Away(String),
    /// An answer that does not fit: a few, then give up.
    Wrong(String),
    Final(SourceError),
}

/// Reads exactly `size` bytes, or fails with a [`SourceError`] inside the `io::Error`.
pub struct Source {
    http: ureq::Agent,
    url: String,
    size: u64,
    patience: Patience,
    log: Arc<Log>,
    stop: Arc<AtomicBool>,
    at: u64,
    etag: Option<String>,
    body: Option<Box<dyn Read + Send>>,
    began: Instant,
    advanced: Instant,
    attempts: u32,
    wrong_answers: u32,
    interruptions: u32,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({} at {} of {})", self.url, self.at, self.size)
    }
}

impl Source {
    /// Setting `stop` ends a running read soon with [`SourceError::Stopped`].
    pub fn new(
        http: ureq::Agent,
        url: String,
        size: u64,
        patience: Patience,
        log: Arc<Log>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let now = Instant::now();
        Self {
            http,
            url,
            size,
            patience,
            log,
            stop,
            at: 0,
            etag: None,
            body: None,
            began: now,
            advanced: now,
            attempts: 0,
            wrong_answers: 0,
            interruptions: 0,
        }
    }

    /// Set by whoever no longer wants the bytes.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }

    /// How often it had to be asked again, so far.
    pub fn interruptions(&self) -> u32 {
        self.interruptions
    }

    fn read_once(&mut self, buffer: &mut [u8]) -> Result<usize, Trouble> {
        let mut body = match self.body.take() {
            Some(body) => body,
            None => self.connect()?,
        };
        let left = usize::try_from(self.size - self.at).unwrap_or(usize::MAX).min(buffer.len());
        match body.read(buffer.get_mut(..left).unwrap_or_default()) {
            Ok(0) => Err(Trouble::Away("the connection ended early".into())),
            Err(error) => Err(Trouble::Away(error.to_string())),
            Ok(count) => {
                self.at += count as u64;
                self.body = Some(body);
                self.advanced = Instant::now();
                (self.attempts, self.wrong_answers) = (0, 0);
                Ok(count)
            }
        }
    }

    /// A body that begins at `self.at`.
    fn connect(&mut self) -> Result<Box<dyn Read + Send>, Trouble> {
        let mut request = self.http.get(&self.url).header("accept-encoding", "identity");
        if self.at > 0 {
            request = request.header("range", format!("bytes={}-", self.at));
            if let Some(etag) = &self.etag {
                request = request.header("if-range", etag);
            }
        }
        let response = request.call().map_err(|e| Trouble::Away(e.to_string()))?;
        let (parts, body) = response.into_parts();
        let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        if let Some(encoding) = header("content-encoding").filter(|e| e != "identity") {
            return Err(Trouble::Wrong(format!("the body was re-encoded as {encoding}")));
        }
        let skip = match parts.status.as_u16() {
            200 => self.check_whole(header("content-length"))?,
            206 => self.check_range(header("content-range").unwrap_or_default())?,
            status @ (408 | 425 | 429 | 500..=599) => return Err(Trouble::Away(format!("status {status}"))),
            status => return Err(Trouble::Wrong(format!("status {status}"))),
        };
        self.check_etag(header("etag"))?;
        let mut reader: Box<dyn Read + Send> = Box::new(body.into_reader());
        if skip > 0 {
            let skipped = io::copy(&mut (&mut reader).take(skip), &mut io::sink());
            if skipped.as_ref().ok() != Some(&skip) {
                return Err(Trouble::Away("cut again while skipping what was read before".into()));
            }
        }
        Ok(reader)
    }

    /// A whole body: where it was asked for a range, the bytes already had are skipped.
    fn check_whole(&self, length: Option<String>) -> Result<u64, Trouble> {
        match length.as_deref().map(str::parse::<u64>) {
            Some(Ok(length)) if length == self.size => Ok(self.at),
            Some(Ok(length)) => Err(Trouble::Wrong(format!(
                "it has {length} bytes, but the image is declared with {}",
                self.size
            ))),
            _ => Err(Trouble::Wrong("the answer has no Content-Length".into())),
        }
    }

    /// RFC 9110 §14.4: `bytes first-last/length`.
    fn check_range(&self, range: String) -> Result<u64, Trouble> {
        let wanted = format!("bytes {}-{}/{}", self.at, self.size.saturating_sub(1), self.size);
        if self.at > 0 && range == wanted {
            return Ok(0);
        }
        Err(Trouble::Wrong(format!("it sent the range \"{range}\" where \"{wanted}\" was asked for")))
    }

    fn check_etag(&mut self, now: Option<String>) -> Result<(), Trouble> {
        match (&self.etag, now) {
            (Some(before), Some(now)) if *before != now => Err(Trouble::Final(SourceError::Changed {
                url: self.url.clone(),
                before: before.clone(),
                now,
            })),
            (None, Some(now)) if self.at == 0 && !now.starts_with("W/") => {
                self.etag = Some(now);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Waits before the next attempt, or says that there will be none.
    fn bear(&mut self, trouble: Trouble) -> Result<(), SourceError> {
        let (url, at, size) = (self.url.clone(), self.at, self.size);
        let reason = match trouble {
            Trouble::Final(error) => return Err(error),
            Trouble::Wrong(reason) => {
                self.wrong_answers += 1;
                let times = self.wrong_answers;
                if times >= self.patience.wrong_answers {
                    return Err(SourceError::WrongAnswers { url, at, size, times, reason });
                }
                reason
            }
            Trouble::Away(reason) => reason,
        };
        let idle = self.advanced.elapsed();
        if idle >= self.patience.give_up_after {
            return Err(SourceError::Away { url, at, size, seconds: idle.as_secs(), reason });
        }
        if self.attempts == 0 {
            self.log.say(format_args!("{url}: at byte {at} of {size}: {reason}; going on from there"));
        }
        sleep_unless(&self.stop, self.patience.pause(self.attempts));
        self.attempts += 1;
        self.interruptions += 1;
        Ok(())
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.size || buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(io::Error::other(SourceError::Stopped));
            }
            if self.began.elapsed() > self.patience.whole_image {
                let (url, at, size) = (self.url.clone(), self.at, self.size);
                let seconds = self.patience.whole_image.as_secs();
                return Err(io::Error::other(SourceError::TooSlow { url, at, size, seconds }));
            }
            match self.read_once(buffer) {
                Ok(count) => return Ok(count),
                Err(trouble) => self.bear(trouble).map_err(io::Error::other)?,
            }
        }
    }
}

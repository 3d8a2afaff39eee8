//! One file from one of several mirrors: resumed where a connection was cut, and whole only when its hash is right.
//! Nothing that a mirror says is trusted: not its length, not that it goes on where we asked, not that its content is
//! still the same.

use super::{
    ledger::Full,
    room::{Room, Share},
};
use crate::{
    image::{cache::Contents, progress::Progress, verify},
    reach::{AskError, Client, shown},
};
use reqwest::{
    RequestBuilder, Response, StatusCode, Url,
    header::{
        ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE,
        LAST_MODIFIED, RANGE, RETRY_AFTER,
    },
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Duration,
};
use tokio::time::timeout;

/// Tries at one mirror that bring nothing new.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
/// As long as a mirror may ask us to wait.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Without a byte: the connection is dead, whatever TCP says.
const STALL: Duration = Duration::from_secs(30);

/// What is to be fetched.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The mirrors, the best first.
    pub urls: Vec<Url>,
    /// Hexadecimal, of the file as it is.
    pub sha256: String,
    pub size: Option<u64>,
    /// No file is larger, whatever was declared.
    pub largest: u64,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("{url}: answered {status}{}", retry.as_ref().map(|r| format!(" (Retry-After {r:?})")).unwrap_or_default())]
    Status { url: String, status: StatusCode, retry: Option<Duration> },
    #[error("{url}: the connection ended after {at} bytes: {why}")]
    Cut { url: String, at: u64, why: String },
    #[error("{url}: nothing came for {} s after {at} bytes", STALL.as_secs())]
    Stalled { url: String, at: u64 },
    #[error("{url}: it is larger than {most} bytes")]
    TooLarge { url: String, most: u64 },
    #[error("{url}: it has {is} bytes, declared are {declared}")]
    Size { url: String, is: u64, declared: u64 },
    #[error("{url}: asked for the bytes from {asked} on, it answered {answered:?}")]
    Range { url: String, asked: u64, answered: String },
    #[error("{url}: it comes as {coding:?}, though the file itself was asked for")]
    Coded { url: String, coding: String },
    #[error("{url}: its SHA-256 is {is}, declared is {declared}")]
    Sha256 { url: String, is: String, declared: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Full(#[from] Full),
    #[error("{}: something else is being fetched to it; try again when that is done", .0.display())]
    Taken(PathBuf),
    #[error("there is no mirror to fetch it from")]
    NoMirror,
    #[error("no mirror has it: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    All(Vec<FetchError>),
}

impl FetchError {
    /// The same mirror may do better the next time.
    fn may_pass(&self) -> bool {
        match self {
            Self::Ask(error) => !error.is_lasting(),
            Self::Status { status, .. } => {
                status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429)
            }
            Self::Cut { .. } | Self::Stalled { .. } => true,
            _ => false,
        }
    }

    /// Trying again later cannot help without somebody changing something.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::All(errors) => errors.iter().all(Self::is_lasting),
            Self::Io { .. } | Self::Taken(_) => false,
            Self::Full(full) => full.is_lasting(),
            error => !error.may_pass(),
        }
    }
}

/// The file at `to`, fetched through `to` with `.part` at its end; what is there of that is gone on with. Sealed against
/// power cuts: `to` is the whole file or it is not there. No byte is written that `room` has no room for.
pub async fn fetch(
    client: &Client,
    wanted: &Wanted,
    (to, room): (&Path, &Room),
    progress: &Progress,
    dress: impl Fn(RequestBuilder, bool) -> RequestBuilder,
) -> Result<Contents, FetchError> {
    let mut part = Part::open(to, room, wanted.size)?;
    let mut errors = Vec::new();
    for url in &wanted.urls {
        match from(client, wanted, url, &mut part, progress, &dress).await {
            Ok(contents) => {
                part.seal(to)?;
                return Ok(contents);
            }
            Err(error @ (FetchError::Io { .. } | FetchError::Full(_))) => return Err(error),
            Err(error) => {
                tracing::warn!("an image's mirror: {error}");
                errors.push(error);
            }
        }
    }
    Err(match errors.len() {
        0 => FetchError::NoMirror,
        1 => errors.swap_remove(0),
        _ => FetchError::All(errors),
    })
}

/// All of it from one mirror, going on after each cut as long as that brings more.
async fn from(
    client: &Client,
    wanted: &Wanted,
    url: &Url,
    part: &mut Part,
    progress: &Progress,
    dress: &impl Fn(RequestBuilder, bool) -> RequestBuilder,
) -> Result<Contents, FetchError> {
    let mut in_vain = 0;
    // What another mirror began may be of another file: then it is begun anew, once.
    let mut inherited = part.length > 0;
    let mut version = None;
    loop {
        let before = part.length;
        let error = match stretch(client, wanted, url, part, &mut version, progress, dress).await {
            Ok(()) => match judged(wanted, url, part).await {
                Err(_) if inherited => {
                    inherited = false;
                    part.begin_anew()?;
                    continue;
                }
                judged => return judged,
            },
            Err(error) => error,
        };
        in_vain = if part.length > before { 0 } else { in_vain + 1 };
        if !error.may_pass() || in_vain >= TRIES {
            return Err(error);
        }
        tracing::info!("an image is gone on with: {error}");
        let asked = if let FetchError::Status { retry, .. } = &error { *retry } else { None };
        tokio::time::sleep(asked.unwrap_or(PAUSE * (in_vain + 1)).min(PAUSE_MAX)).await;
    }
}

/// What names the version of a file that a mirror has: a strong entity tag, or the time of its last change (RFC 9110
/// §13.1.5).
fn version_of(answer: &Response) -> Option<HeaderValue> {
    let strong = answer.headers().get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"));
    strong.or_else(|| answer.headers().get(LAST_MODIFIED)).cloned()
}

/// One request: from where the part ends to the end, or until it is cut.
async fn stretch(
    client: &Client,
    wanted: &Wanted,
    url: &Url,
    part: &mut Part,
    version: &mut Option<HeaderValue>,
    progress: &Progress,
    dress: &impl Fn(RequestBuilder, bool) -> RequestBuilder,
) -> Result<(), FetchError> {
    if wanted.size.is_some_and(|size| part.length == size) {
        return Ok(());
    }
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if part.length > 0 {
        if let Ok(range) = HeaderValue::from_str(&format!("bytes={}-", part.length)) {
            headers.insert(RANGE, range);
        }
        if let Some(version) = version.clone() {
            headers.insert(IF_RANGE, version);
        }
    }
    let mut answer = client.get(url, &headers, dress).await?;
    let url = shown(url);
    match answer.status() {
        StatusCode::OK => part.begin_anew()?,
        StatusCode::PARTIAL_CONTENT => goes_on(&answer, &url, part.length)?,
        // The part is as long as the file, or longer than what there is now.
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let all = answer.headers().get(CONTENT_RANGE).and_then(|r| r.to_str().ok());
            if all == Some(&format!("bytes */{}", part.length)) {
                return Ok(());
            }
            part.begin_anew()?;
            return Err(FetchError::Cut { url, at: 0, why: "it is shorter than it was".to_owned() });
        }
        status => return Err(FetchError::Status { url, status, retry: retry_after(&answer) }),
    }
    if let Some(coding) = answer.headers().get(CONTENT_ENCODING).filter(|c| *c != "identity") {
        return Err(FetchError::Coded {
            url,
            coding: String::from_utf8_lossy(coding.as_bytes()).into_owned(),
        });
    }
    *version = version_of(&answer);
    let total = answer.content_length().map(|rest| rest + part.length);
    held_to(wanted, &url, total)?;
    if let Some(total) = total {
        part.fits(total)?;
    }
    progress.fetching(part.length, wanted.size.or(total));
    receive(wanted, &url, part, &mut answer, progress).await?;
    match total {
        Some(total) if part.length < total => {
            Err(FetchError::Cut { url, at: part.length, why: format!("{total} bytes were announced") })
        }
        _ => Ok(()),
    }
}

fn goes_on(answer: &Response, url: &str, asked: u64) -> Result<(), FetchError> {
    let range = answer.headers().get(CONTENT_RANGE).and_then(|r| r.to_str().ok()).unwrap_or_default();
    let from: Option<u64> = range.strip_prefix("bytes ").and_then(|r| r.split_once('-')?.0.parse().ok());
    match from {
        Some(from) if asked > 0 && from == asked => Ok(()),
        _ => Err(FetchError::Range { url: url.to_owned(), asked, answered: range.to_owned() }),
    }
}

/// An announced length that cannot be right costs no download.
fn held_to(wanted: &Wanted, url: &str, total: Option<u64>) -> Result<(), FetchError> {
    let Some(total) = total else { return Ok(()) };
    if let Some(declared) = wanted.size.filter(|size| *size != total) {
        return Err(FetchError::Size { url: url.to_owned(), is: total, declared });
    }
    if total > wanted.largest {
        return Err(FetchError::TooLarge { url: url.to_owned(), most: wanted.largest });
    }
    Ok(())
}

async fn receive(
    wanted: &Wanted,
    url: &str,
    part: &mut Part,
    answer: &mut Response,
    progress: &Progress,
) -> Result<(), FetchError> {
    let most = wanted.size.unwrap_or(wanted.largest).min(wanted.largest);
    loop {
        let next = timeout(STALL, answer.chunk()).await;
        let next = next.map_err(|_| FetchError::Stalled { url: url.to_owned(), at: part.length })?;
        let bytes = next.map_err(|error| FetchError::Cut {
            url: url.to_owned(),
            at: part.length,
            why: error.without_url().to_string(),
        })?;
        let Some(bytes) = bytes else { return Ok(()) };
        if part.length + bytes.len() as u64 > most {
            part.begin_anew()?;
            return Err(FetchError::TooLarge { url: url.to_owned(), most });
        }
        part.put(&bytes)?;
        progress.done().store(part.length, Ordering::Relaxed);
    }
}

fn retry_after(answer: &Response) -> Option<Duration> {
    let text = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(text.trim().parse().ok()?).min(PAUSE_MAX))
}

/// Reads the part from its beginning: what the disk gives back is what counts.
async fn judged(wanted: &Wanted, url: &Url, part: &mut Part) -> Result<Contents, FetchError> {
    let (path, url) = (part.path.clone(), shown(url));
    let read = tokio::task::spawn_blocking(move || verify::read(&path)).await;
    let contents = read
        .unwrap_or_else(|e| Err(io::Error::other(e)))
        .map_err(|source| FetchError::Io { path: part.path.clone(), source })?;
    let (is, declared) = (part.length, wanted.size.unwrap_or(part.length));
    let wrong = if is != declared {
        FetchError::Size { url, is, declared }
    } else if contents.sha256 != wanted.sha256 {
        FetchError::Sha256 { url, is: contents.sha256, declared: wanted.sha256.clone() }
    } else {
        return Ok(contents);
    };
    part.begin_anew()?;
    Err(wrong)
}

/// A file that is being fetched.
struct Part {
    path: PathBuf,
    file: File,
    length: u64,
    share: Share,
    /// That the declaration, or a registry's manifest, says it will have.
    size: Option<u64>,
}

impl Part {
    fn open(to: &Path, room: &Room, size: Option<u64>) -> Result<Self, FetchError> {
        let path = to.with_extension("part");
        let io = |source| FetchError::Io { path: path.clone(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(io)?;
        }
        let share = room.share(&path).map_err(io)?.ok_or_else(|| FetchError::Taken(path.clone()))?;
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut part = Self { path, file, length, share, size };
        // All of it, before anybody is asked for it.
        part.share.reach(length.max(1), size)?;
        Ok(part)
    }

    fn io(&self) -> impl Fn(io::Error) -> FetchError + use<> {
        let path = self.path.clone();
        move |source| FetchError::Io { path: path.clone(), source }
    }

    /// What a mirror announces is not reserved, as nobody answers for it; but it must not be begun in vain.
    fn fits(&self, total: u64) -> Result<(), FetchError> {
        Ok(self.share.could_reach(total)?)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.share.reach(self.length + bytes.len() as u64, self.size)?;
        self.file.write_all(bytes).map_err(self.io())?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn begin_anew(&mut self) -> Result<(), FetchError> {
        self.file.set_len(0).map_err(self.io())?;
        self.length = 0;
        if self.size.is_none() {
            self.share.back_to(0);
        }
        Ok(())
    }

    fn seal(self, to: &Path) -> Result<(), FetchError> {
        let (folder, io) = (to.parent().unwrap_or(to), self.io());
        let done = || {
            self.file.sync_all()?;
            self.share.seal(to)?;
            File::open(folder)?.sync_all()
        };
        done().map_err(io)
    }
}

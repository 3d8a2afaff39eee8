//! Where TUF metadata comes from, and where what was seen of it is kept.

use crate::{
    inventory::HttpUrl,
    reach::{Client, shown},
};
use provisioner_wire::chunks::Sha;
use reqwest::{Url, header::HeaderMap};
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

/// A metadata file may take this long.
const WITHIN: Duration = Duration::from_secs(30);

/// A repository's metadata by file name.
pub trait Shelf {
    /// The file's bytes; `None` where there is none; an error where there are more than `most`.
    fn get(&self, file: &str, most: u64) -> io::Result<Option<Vec<u8>>>;
}

/// A folder.
#[derive(Debug)]
pub struct Folder(pub PathBuf);

impl Shelf for Folder {
    fn get(&self, file: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        match File::open(self.0.join(file)) {
            Ok(opened) => bounded(opened, most).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A web server, held to the rules about addresses. Blocks: not to be called on a thread that runs tasks.
#[derive(Debug)]
pub struct Web {
    pub base: HttpUrl,
    pub client: Client,
    pub runtime: tokio::runtime::Handle,
}

impl Shelf for Web {
    fn get(&self, file: &str, most: u64) -> io::Result<Option<Vec<u8>>> {
        let url = format!("{}/{file}", self.base.as_str().trim_end_matches('/'));
        let url = Url::parse(&url).map_err(io::Error::other)?;
        self.runtime.block_on(async {
            let answer = tokio::time::timeout(WITHIN, self.read(&url, most)).await;
            answer.unwrap_or_else(|_| {
                let what = format!("{}: not whole within {} s", shown(&url), WITHIN.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, what))
            })
        })
    }
}

impl Web {
    async fn read(&self, url: &Url, most: u64) -> io::Result<Option<Vec<u8>>> {
        let answer = self.client.get(url, &HeaderMap::new(), |request, _| request).await;
        let mut answer = answer.map_err(io::Error::other)?;
        if matches!(answer.status().as_u16(), 403 | 404 | 410) {
            return Ok(None);
        }
        if !answer.status().is_success() {
            return Err(io::Error::other(format!("{}: status {}", shown(url), answer.status())));
        }
        let cut = |e: reqwest::Error| io::Error::other(format!("{}: {}", shown(url), e.without_url()));
        let mut bytes = Vec::new();
        while let Some(part) = answer.chunk().await.map_err(cut)? {
            bytes.extend_from_slice(&part);
            if bytes.len() as u64 > most {
                return Err(too_long(most));
            }
        }
        Ok(Some(bytes))
    }
}

/// What was seen of one repository: a folder whose files survive a power cut.
#[derive(Debug)]
pub struct Memory(PathBuf);

impl Memory {
    /// Below `folder`, for this repository with this first root.
    pub fn of(folder: &Path, repository: &str, first_root: &[u8]) -> io::Result<Self> {
        let name = Sha::of(&[repository.as_bytes(), &[0], first_root].concat()).to_string();
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        Ok(Self(folder))
    }

    pub(super) fn get(&self, file: &str) -> io::Result<Option<Vec<u8>>> {
        Folder(self.0.clone()).get(file, u64::MAX)
    }

    /// On the medium when this returns: a version that was seen must not be forgotten.
    pub(super) fn put(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        let mut aside = tempfile::NamedTempFile::new_in(&self.0)?;
        aside.write_all(bytes)?;
        aside.as_file().sync_all()?;
        aside.persist(self.0.join(file)).map_err(|e| e.error)?;
        File::open(&self.0)?.sync_all()
    }
}

/// All of `from`, unless it is more than `most`.
pub(super) fn bounded(from: impl Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most { Err(too_long(most)) } else { Ok(bytes) }
}

fn too_long(most: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes"))
}

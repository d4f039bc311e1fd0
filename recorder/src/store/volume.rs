//! A mounted folder. An object appears whole or not at all: hidden temporary file, fsync, then a hard link (refuses to overwrite) or
//! a rename. A segment's ledger entry is an extended attribute of its file, where the file system has such. The ETag is the content's SHA-256. Compare-and-rename is not atomic: between two attempts on two nodes it narrows the
//! window to microseconds, it does not close it (ARCHITECTURE.md, Decisions, 29).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{XattrFlags, fsetxattr, getxattr};
use sha2::{Digest, Sha256};

use super::{Condition, Described, Document, Fetched, LIST_PAGE, Segment, Store, StoreFailure, hex};

const COPY_BLOCK_BYTES: usize = 256 * 1024;
const LEDGER_ATTRIBUTE: &str = "user.recording-operator.ledger";
/// A ledger entry has some 600 bytes.
const LEDGER_BYTES_MAX: usize = 4096;

#[derive(Clone, Debug)]
pub(crate) struct VolumeStore {
    root: PathBuf,
}

impl VolumeStore {
    /// `mount` must exist (a missing one is a missing volume); the folders of `sub_path` are made.
    ///
    /// # Errors
    /// [`StoreFailure::Invalid`] when the mount is missing, [`StoreFailure::Denied`] when it is not writable.
    pub(crate) fn open(mount: &Path, sub_path: &str) -> Result<Self, StoreFailure> {
        if !mount.is_dir() {
            return Err(StoreFailure::Invalid(format!("the volume is not mounted at {}", mount.display())));
        }
        let root = mount.join(sub_path.trim_matches('/'));
        fs::create_dir_all(&root).map_err(|error| failure("make the folder of subPath", &error))?;
        let probe = root.join(temporary_name("probe"));
        fs::write(&probe, b"").and_then(|()| fs::remove_file(&probe)).map_err(|error| failure("write to the volume", &error))?;
        Ok(Self { root })
    }

    /// A folder that is there, to be read; nothing is tried.
    pub(crate) fn of(folder: &Path) -> Self {
        Self { root: folder.to_owned() }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(PathBuf) -> Result<T, StoreFailure> + Send + 'static,
    ) -> Result<T, StoreFailure> {
        let root = self.root.clone();
        match tokio::task::spawn_blocking(move || work(root)).await {
            Ok(result) => result,
            Err(error) => Err(StoreFailure::Retryable(format!("the write was abandoned: {error}"))),
        }
    }
}

#[async_trait]
impl Store for VolumeStore {
    async fn put_segment(&self, segment: Segment<'_>) -> Result<String, StoreFailure> {
        let (key, path, sha256) = (segment.key.to_owned(), segment.path.to_owned(), segment.sha256.to_owned());
        let ledger = segment.ledger.to_owned();
        self.blocking(move |root| {
            let mut source = File::open(&path).map_err(|error| failure("read the spool", &error))?;
            let target = root.join(&key);
            place(&target, &sha256, Condition::Absent, |file| {
                // Not every file system has attributes: then it is known by its content.
                let _ = fsetxattr(&*file, LEDGER_ATTRIBUTE, ledger.as_bytes(), XattrFlags::empty());
                copy_hashed(&mut source, file)
            })
        })
        .await
    }

    async fn put_document(&self, document: &Document, condition: &Condition) -> Result<String, StoreFailure> {
        let (document, condition) = (document.clone(), condition.clone());
        self.blocking(move |root| {
            let sha256 = hex(&Sha256::digest(&document.body));
            let target = root.join(&document.key);
            place(&target, &sha256, condition, |file| file.write_all(&document.body).map(|()| sha256.clone()))
        })
        .await
    }

    async fn fetch(&self, key: &str) -> Result<Option<Fetched>, StoreFailure> {
        let key = key.to_owned();
        self.blocking(move |root| match fs::read(root.join(&key)) {
            Ok(body) => Ok(Some(Fetched { etag: hex(&Sha256::digest(&body)), body: Bytes::from(body) })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failure("read the volume", &error)),
        })
        .await
    }

    async fn describe(&self, key: &str) -> Result<Option<Described>, StoreFailure> {
        let key = key.to_owned();
        self.blocking(move |root| {
            let path = root.join(&key);
            let Some(etag) = hash_of(&path)? else { return Ok(None) };
            let bytes = fs::metadata(&path).map_err(|error| failure("read the volume", &error))?.len();
            Ok(Some(Described { bytes, etag, ledger: ledger_of(&path) }))
        })
        .await
    }

    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<String>, StoreFailure> {
        let (prefix, after) = (prefix.to_owned(), after.to_owned());
        self.blocking(move |root| {
            let files = fs::read_dir(&root).map_err(|error| failure("read the volume", &error))?;
            let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
            let mut names: Vec<String> = names.filter(|name| name.starts_with(&prefix) && *name > after).collect();
            names.sort_unstable();
            names.truncate(LIST_PAGE);
            Ok(names)
        })
        .await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreFailure> {
        let key = key.to_owned();
        self.blocking(move |root| match fs::remove_file(root.join(&key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failure("write to the volume", &error)),
            _ => Ok(()),
        })
        .await
    }
}

/// Writes a hidden file beside `target` and moves it into place if `condition` holds; `write` returns the hash of what it wrote.
fn place(
    target: &Path,
    expected: &str,
    condition: Condition,
    write: impl FnOnce(&mut File) -> io::Result<String>,
) -> Result<String, StoreFailure> {
    if let Some(there) = hash_of(target)? {
        if there == expected {
            return Ok(there);
        }
        if condition != Condition::Matches(there) {
            return Err(StoreFailure::Conflict);
        }
    } else if condition != Condition::Absent {
        return Err(StoreFailure::Conflict);
    }
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let temporary = target.with_file_name(temporary_name(&name));
    let placed = write_whole(&temporary, write).and_then(|written| {
        if written != expected {
            return Err(io::Error::other("the content differs from its checksum: the spool is damaged"));
        }
        match condition {
            Condition::Absent => link_or_rename(&temporary, target),
            Condition::Matches(_) => fs::rename(&temporary, target),
        }
    });
    let _ = fs::remove_file(&temporary);
    match placed {
        Ok(()) => Ok(expected.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match hash_of(target)? {
            Some(there) if there == expected => Ok(there),
            _ => Err(StoreFailure::Conflict),
        },
        Err(error) => Err(failure("write to the volume", &error)),
    }
}

fn write_whole(path: &Path, write: impl FnOnce(&mut File) -> io::Result<String>) -> io::Result<String> {
    let mut file = File::create_new(path)?;
    let written = write(&mut file)?;
    file.sync_all()?;
    Ok(written)
}

/// A hard link never overwrites; file systems without links get a rename, the check before it must do.
fn link_or_rename(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => fs::rename(from, to),
        other => other,
    }
}

/// Hidden, and unique within and between the processes that share the volume.
fn temporary_name(name: &str) -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let host = std::env::var("HOSTNAME").unwrap_or_default();
    // Keeps the name within a file system's 255 bytes.
    let short: String = name.chars().rev().take(120).collect::<Vec<_>>().into_iter().rev().collect();
    format!(".{short}.{host}.{}.{}.tmp", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

fn copy_hashed(from: &mut File, to: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut block = vec![0; COPY_BLOCK_BYTES];
    loop {
        let length = from.read(&mut block)?;
        if length == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&block[..length]);
        to.write_all(&block[..length])?;
    }
}

fn ledger_of(path: &Path) -> Option<String> {
    let mut line = vec![0; LEDGER_BYTES_MAX];
    let length = getxattr(path, LEDGER_ATTRIBUTE, &mut line[..]).ok()?;
    line.truncate(length);
    String::from_utf8(line).ok()
}

fn hash_of(path: &Path) -> Result<Option<String>, StoreFailure> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failure("read the volume", &error)),
    };
    let mut hash = Sha256::new();
    let mut block = vec![0; COPY_BLOCK_BYTES];
    loop {
        match file.read(&mut block).map_err(|error| failure("read the volume", &error))? {
            0 => return Ok(Some(hex(&hash.finalize()))),
            length => hash.update(&block[..length]),
        }
    }
}

fn failure(what: &str, error: &io::Error) -> StoreFailure {
    let text = format!("failed to {what}: {error}");
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => StoreFailure::Denied(text),
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => StoreFailure::Invalid(text),
        _ => StoreFailure::Retryable(text),
    }
}

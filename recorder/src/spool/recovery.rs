//! What an earlier process left in the spool: its state, its closed segments, and parts that are closed here.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use bytes::Bytes;
use recorder_media::{Continuation, LedgerEntry, Manifest, MediaTime, VOLUME_90K, WallMicros, names};
use sha2::{Digest, Sha256};

use super::{Folders, PART, ts_tail};
use crate::manifest::{self, ManifestError};
use crate::store::hex;
use crate::wall;

#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoveryError {
    #[error("failed to read the spool: {0}")]
    Io(#[from] io::Error),
    #[error("failed to read the spool's state: {0}")]
    State(#[from] ManifestError),
    #[error("the spool belongs to recording {0}")]
    Foreign(String),
}

/// The manifest as an earlier process knew it, and whether its journal holds all that came since; None: nothing was begun here.
///
/// # Errors
/// When the state cannot be read or belongs to another recording.
pub(crate) fn read_state(folders: &Folders, recording_id: &str) -> Result<Option<(Manifest, bool)>, RecoveryError> {
    let text = match fs::read(folders.state()) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let head = manifest::parse(&text)?;
    if head.recording_id != recording_id {
        return Err(RecoveryError::Foreign(head.recording_id));
    }
    let chunks = head.chunks.iter().map(|key| fs::read(folders.ledger().join(key)).map(Bytes::from)).collect::<io::Result<Vec<Bytes>>>()?;
    let journalled = head.is_journalled();
    Ok(Some((head.into_manifest(&chunks)?, journalled)))
}

/// Removes what the state does not know: the journal holds all of it. For a replay, instead of [`adopt`].
///
/// # Errors
/// When the disk fails.
pub(crate) fn keep_known(folders: &Folders, manifest: &mut Manifest) -> io::Result<()> {
    for name in names_with(folders, PART)? {
        fs::remove_file(folders.segments().join(name))?;
    }
    for name in names_with(folders, "ts")? {
        let waits = manifest.ledger.iter().any(|entry| entry.name == name && !entry.stored);
        if !waits {
            fs::remove_file(folders.segment(&name))?;
        }
    }
    lose_what_is_gone(folders, manifest);
    Ok(())
}

fn lose_what_is_gone(folders: &Folders, manifest: &mut Manifest) {
    for entry in manifest.ledger.iter_mut().filter(|entry| !entry.stored && !entry.in_backup && !entry.lost) {
        entry.lost = !folders.segment(&entry.name).exists();
    }
}

/// Closes every part, enters into the ledger what it does not know yet, and clears away what storage has.
///
/// # Errors
/// When the disk fails; a part without a whole unit of media is no failure, it is removed.
pub(crate) fn adopt(folders: &Folders, manifest: &mut Manifest) -> io::Result<()> {
    for name in names_with(folders, PART)? {
        let base = name.trim_end_matches(".part").to_owned();
        if close_part(folders, &base)? {
            tracing::info!("closed a segment that an earlier process had open");
        }
    }
    let mut files = names_with(folders, "ts")?;
    files.sort();
    for name in files {
        match manifest.ledger.iter().find(|entry| entry.name == name) {
            Some(entry) if entry.stored => fs::remove_file(folders.segment(&name))?,
            Some(_) => {}
            None => match entry_of(&name, &fs::read(folders.segment(&name))?, manifest) {
                Some(entry) => manifest.ledger.push(entry),
                None => fs::remove_file(folders.segment(&name))?,
            },
        }
    }
    lose_what_is_gone(folders, manifest);
    Ok(())
}

/// Cuts a part behind its last whole unit and gives it its final name; false: nothing worth keeping.
fn close_part(folders: &Folders, name: &str) -> io::Result<bool> {
    let path = folders.part(name);
    let Some(tail) = ts_tail::scan(&fs::read(&path)?) else {
        fs::remove_file(&path)?;
        return Ok(false);
    };
    OpenOptions::new().write(true).open(&path)?.set_len(tail.keep as u64)?;
    fs::rename(&path, folders.segment(name))?;
    Ok(true)
}

/// The ledger entry of a segment that the state does not know, from its name and its content. None: it belongs to no known playlist.
pub(crate) fn entry_of(name: &str, content: &[u8], manifest: &mut Manifest) -> Option<LedgerEntry> {
    let (tail, epoch) = (ts_tail::whole(content)?, manifest.epoch_time?);
    let (base, wall) = parts_of(name)?;
    let since_epoch = i64::try_from(wall.0.saturating_sub(epoch.0)).unwrap_or(i64::MAX);
    let start = MediaTime::from_micros(since_epoch);
    let playlist = volume(manifest, base, start)?;
    let of_base = |entry: &&LedgerEntry| names::volume_of(&entry.playlist).0 == base;
    let known = manifest.ledger.iter().filter(of_base).map(|entry| entry.n + 1).max();
    let record = manifest.playlists.iter_mut().find(|record| record.name == playlist)?;
    let n = known.unwrap_or(0).max(record.continuation.next_n);
    record.continuation.next_n = n + 1;
    go_on_from(&mut record.continuation, tail.continuity_counters);
    Some(LedgerEntry {
        playlist,
        n,
        name: name.to_owned(),
        start,
        duration90k: tail.duration90k,
        wall,
        bytes: content.len() as u64,
        sha256: hex(&Sha256::digest(content)),
        etag: String::new(),
        stored: false,
        in_backup: false,
        lost: false,
        // Whether it began with one is not known; one too many is harmless, one too few is not.
        discontinuity: n > 0,
        independent: true,
        epoch: manifest.epoch,
    })
}

/// Base and wall clock of a segment's name.
pub(crate) fn parts_of(name: &str) -> Option<(&str, WallMicros)> {
    let (base, digits) = name.strip_suffix(".ts")?.rsplit_once('_')?;
    Some((base, wall::parse_compact(digits)?))
}

/// The transport stream goes on behind one with these counters.
pub(crate) fn go_on_from(continuation: &mut Continuation, counters: Vec<(u16, u8)>) {
    for (pid, counter) in counters {
        match continuation.continuity_counters.iter_mut().find(|(known, _)| *known == pid) {
            Some(known) => known.1 = counter,
            None => continuation.continuity_counters.push((pid, counter)),
        }
    }
}

/// The newest volume of a playlist, unless the segment began before the day of the volume before it was over.
fn volume(manifest: &Manifest, base: &str, start: MediaTime) -> Option<String> {
    let volumes = manifest.playlists.iter().map(|record| names::volume_of(&record.name)).filter(|(of, _)| *of == base);
    let newest = volumes.map(|(_, volume)| volume).max()?;
    let before = names::volume_name(base, newest - 1);
    let began = manifest.ledger.iter().filter(|entry| newest > 1 && entry.playlist == before).map(|entry| entry.start.0).min();
    // Names have milliseconds: a segment that begins the volume may seem to begin just before it.
    let earlier = began.is_some_and(|began| start.0 + MediaTime::PER_SECOND / 1000 < began + VOLUME_90K);
    Some(if earlier { before } else { names::volume_name(base, newest) })
}

fn names_with(folders: &Folders, extension: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(folders.segments())? {
        let name = file?.file_name().to_string_lossy().into_owned();
        if Path::new(&name).extension().is_some_and(|found| found == extension) {
            names.push(name);
        }
    }
    Ok(names)
}

/// Bytes of media in the spool.
pub(crate) fn used_bytes(folders: &Folders) -> u64 {
    let Ok(files) = fs::read_dir(folders.segments()) else { return 0 };
    files.filter_map(|file| file.ok()?.metadata().ok()).map(|facts| facts.len()).sum()
}

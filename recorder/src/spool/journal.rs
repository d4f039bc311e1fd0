//! What the room sent, as it came: written before anything is decided about it, so that a process that died is made up for by
//! handing the same inputs to a new session (recorder-media, `Replay`).
//!
//! ```text
//! <spool>/intake/<number>   records: length u32 | CRC-32 u32 (little endian) | (tick, Record) as postcard
//! ```
//!
//! Every file begins with a [`Start`]: from there on the records behind it are enough. A file whose records are all in segments that
//! the saved state names is deleted. The journal holds at most a share of the spool ([`SHARE`]); beyond it the oldest file goes although
//! it is needed, and until newer segments are finished the saved state says that the journal lacks something: a restart then closes
//! the open parts instead (recovery.rs), and loses what was in the delay line.
//!
//! Written to the page cache and not synced: it is there for a process that dies; with its node the spool is gone.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use recorder_media::{Input, Replay, Tick, WallMicros};
use serde::{Deserialize, Serialize};

/// Rises with every change of what a record looks like: another version's journal is not replayed.
const VERSION: u32 = 5;
/// Length, CRC-32.
const HEADER_BYTES: usize = 8;
/// A new file is begun after this much ...
const FILE_BYTES: u64 = 4 << 20;
/// ... or after this long, so that little is read again and much can be deleted.
const FILE_TICKS_US: u64 = 5_000_000;
/// One part in so many of the spool is the journal's at most: of the 3 GiB for 17 people 384 MiB, over a minute of 34 Mbit/s.
const SHARE: u64 = 8;

/// What a file's records go on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Start {
    version: u32,
    pub(crate) wall: WallMicros,
    pub(crate) replay: Replay,
}

impl Start {
    pub(crate) fn new(wall: WallMicros, replay: Replay) -> Self {
        Self { version: VERSION, wall, replay }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Record {
    Start(Box<Start>),
    Input(Input),
}

/// The end that is written.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    used: Arc<AtomicU64>,
    limit: u64,
    /// Something from before this moment is missing.
    whole_from: Tick,
    /// Oldest first; the last one is being written. With the tick of its newest record.
    files: VecDeque<Written>,
    last_number: u64,
    open: Option<File>,
    buffer: Vec<u8>,
    began: Tick,
}

#[derive(Debug)]
struct Written {
    number: u64,
    bytes: u64,
    began: Tick,
    newest: Tick,
}

impl Journal {
    /// Goes on behind what an earlier process wrote (`intake`), or begins anew. `capacity`: of the spool, whose bytes `used` counts.
    ///
    /// # Errors
    /// When the folder cannot be read, or what is of no use any more cannot be removed.
    pub(crate) fn open(folder: PathBuf, intake: Option<&Intake>, capacity: u64, used: Arc<AtomicU64>) -> io::Result<Self> {
        let mut files = VecDeque::new();
        for number in numbers(&folder)? {
            let path = folder.join(number.to_string());
            if intake.is_none() {
                fs::remove_file(path)?;
                continue;
            }
            let bytes = fs::read(path)?;
            let ticks = || records(&bytes).map(|(at, _)| at);
            let (began, newest) = (ticks().next().unwrap_or(Tick(0)), ticks().max().unwrap_or(Tick(0)));
            files.push_back(Written { number, bytes: bytes.len() as u64, began, newest });
        }
        used.fetch_add(files.iter().map(|file| file.bytes).sum(), Ordering::Relaxed);
        let last_number = files.back().map_or(0, |file| file.number);
        let (limit, whole_from) = (capacity / SHARE, Tick(0));
        Ok(Self { folder, used, limit, whole_from, files, last_number, open: None, buffer: Vec::new(), began: Tick(0) })
    }

    /// All that came from this moment on is here.
    pub(crate) fn covers(&self, needed: Tick) -> bool {
        needed >= self.whole_from
    }

    /// Kept in memory until [`Self::flush`].
    pub(crate) fn note(&mut self, at: Tick, input: &Input) {
        if self.open.is_some() {
            self.put(at, &Borrowed::Input(input));
        }
    }

    fn put(&mut self, at: Tick, record: &Borrowed<'_>) {
        let begin = self.buffer.len();
        self.buffer.resize(begin + HEADER_BYTES, 0);
        let buffer = std::mem::take(&mut self.buffer);
        // Plain data into memory: serialising cannot fail.
        self.buffer = postcard::to_extend(&(at, record), buffer).unwrap_or_default();
        let body = &self.buffer[begin + HEADER_BYTES..];
        let (length, sum) = (body.len() as u32, crc32fast::hash(body));
        self.buffer[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
        self.buffer[begin + 4..begin + HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
        if let Some(file) = self.files.back_mut() {
            file.newest = file.newest.max(at);
        }
    }

    /// Is it time for [`Self::begin_file`]?
    pub(crate) fn wants_file(&self, now: Tick) -> bool {
        let full = self.files.back().is_some_and(|file| file.bytes >= FILE_BYTES);
        let first = self.open.is_none() && self.began == Tick(0);
        first || full || now.since(self.began) >= FILE_TICKS_US
    }

    /// # Errors
    /// When the disk does not take it: the caller goes on without a journal.
    pub(crate) fn begin_file(&mut self, now: Tick, start: &Start) -> io::Result<()> {
        self.flush()?;
        let number = self.last_number + 1;
        self.open = Some(File::create_new(self.path(number))?);
        self.last_number = number;
        self.files.push_back(Written { number, bytes: 0, began: now, newest: now });
        self.began = now;
        self.put(now, &Borrowed::Start(start));
        self.flush()
    }

    /// One write for everything that was noted since the last.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let (Some(open), Some(file), false) = (&mut self.open, self.files.back_mut(), self.buffer.is_empty()) else { return Ok(()) };
        open.write_all(&self.buffer)?;
        file.bytes += self.buffer.len() as u64;
        self.used.fetch_add(self.buffer.len() as u64, Ordering::Relaxed);
        self.buffer.clear();
        Ok(())
    }

    /// Files all of whose records came before `needed`: to be removed once the state that makes them superfluous is on disk.
    pub(crate) fn forget(&mut self, needed: Tick) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        while self.files.len() > 1 && self.files.front().is_some_and(|file| file.newest < needed) {
            paths.extend(self.files.pop_front().map(|file| self.path(file.number)));
        }
        paths
    }

    /// Files beyond the limit, needed or not.
    pub(crate) fn shed(&mut self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        let mut bytes: u64 = self.files.iter().map(|file| file.bytes).sum();
        while self.files.len() > 1 && bytes > self.limit {
            let Some(oldest) = self.files.pop_front() else { break };
            bytes -= oldest.bytes;
            paths.push(self.path(oldest.number));
            self.whole_from = self.files.front().map_or(self.whole_from, |file| file.began);
        }
        paths
    }

    /// Everything: the recording has ended, or the disk refuses and a journal with holes is worse than none.
    pub(crate) fn end(&mut self, now: Tick) -> Vec<PathBuf> {
        (self.open, self.began, self.whole_from) = (None, now, now);
        self.buffer.clear();
        let numbers: Vec<u64> = self.files.drain(..).map(|file| file.number).collect();
        self.last_number = numbers.last().copied().unwrap_or(self.last_number);
        numbers.into_iter().map(|number| self.path(number)).collect()
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(number.to_string())
    }
}

/// [`Record`] as it is written.
#[derive(Serialize)]
enum Borrowed<'a> {
    Start(&'a Start),
    Input(&'a Input),
}

/// What an earlier process left.
#[derive(Debug)]
pub(crate) struct Intake {
    pub(crate) began: Tick,
    pub(crate) start: Start,
    /// Its newest record.
    pub(crate) ended: Tick,
    folder: PathBuf,
    numbers: VecDeque<u64>,
}

impl Intake {
    /// None: there is no journal, or none that can be gone on from.
    ///
    /// # Errors
    /// When the disk fails.
    pub(crate) fn find(folder: &Path) -> io::Result<Option<Self>> {
        let numbers: VecDeque<u64> = numbers(folder)?.into();
        let Some(first) = numbers.front() else { return Ok(None) };
        let bytes = fs::read(folder.join(first.to_string()))?;
        let Some((began, Record::Start(start))) = records(&bytes).next() else { return Ok(None) };
        if start.version != VERSION {
            return Ok(None);
        }
        let mut ended = began;
        for number in &numbers {
            let bytes = fs::read(folder.join(number.to_string()))?;
            ended = records(&bytes).map(|(at, _)| at).max().unwrap_or(began).max(ended);
        }
        Ok(Some(Self { began, start: *start, ended, folder: folder.to_owned(), numbers }))
    }

    /// Record by record, oldest first; files are read one at a time. A record that was not written whole ends its file.
    pub(crate) fn records(&self) -> impl Iterator<Item = io::Result<(Tick, Record)>> + use<'_> {
        self.numbers.iter().flat_map(|number| match fs::read(self.folder.join(number.to_string())) {
            Ok(bytes) => records(&bytes).map(Ok).collect(),
            Err(error) => vec![Err(error)],
        })
    }
}

/// The whole records at the beginning of `file`. Nothing of it is trusted: the first that is not as it was written is the end.
pub(crate) fn records(mut file: &[u8]) -> impl Iterator<Item = (Tick, Record)> + use<'_> {
    std::iter::from_fn(move || {
        let (header, rest) = file.split_first_chunk::<HEADER_BYTES>()?;
        let [a, b, c, d, e, f, g, h] = *header;
        let body = rest.get(..u32::from_le_bytes([a, b, c, d]) as usize)?;
        file = &rest[body.len()..];
        (crc32fast::hash(body) == u32::from_le_bytes([e, f, g, h])).then_some(())?;
        postcard::from_bytes(body).ok()
    })
}

fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for file in fs::read_dir(folder)? {
        numbers.extend(file?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests;

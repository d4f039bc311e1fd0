//! The thread that writes to the spool and hashes what it writes.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Receiver;

use recorder_media::{Input, LEDGER_CHUNK, SegmentFacts};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{Folders, Order, replace};
use crate::manifest::Rendered;
use crate::store::hex;

#[derive(Debug)]
struct Part {
    file: File,
    hash: Sha256,
    bytes: u64,
}

#[derive(Debug)]
pub(super) struct Writer {
    folders: Folders,
    used: Arc<AtomicU64>,
    results: mpsc::UnboundedSender<Input>,
    parts: HashMap<String, io::Result<Part>>,
    chunks_written: HashSet<String>,
}

impl Writer {
    pub(super) fn new(folders: Folders, used: Arc<AtomicU64>, results: mpsc::UnboundedSender<Input>) -> Self {
        Self { folders, used, results, parts: HashMap::new(), chunks_written: HashSet::new() }
    }

    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        while let Ok(order) = orders.recv() {
            match order {
                Order::Append { name, data } => self.append(name, &data),
                Order::Close { op, name } => {
                    let result = self.close(&name).map_err(|error| format!("failed to write to the spool: {error}"));
                    // The driver may have ended meanwhile.
                    let _ = self.results.send(Input::SegmentClosed { op, result });
                }
                Order::Remove { path } => self.remove(&path),
                // Who waited for it may have ended meanwhile.
                Order::Reached(sender) => drop(sender.send(())),
                Order::State(manifest) => {
                    if let Err(error) = self.save_state(&manifest) {
                        tracing::warn!(%error, "failed to write the spool's state; a restart would know less");
                    }
                }
            }
        }
    }

    /// After a failure the segment takes nothing more, and its close says why.
    fn append(&mut self, name: String, data: &[u8]) {
        let Self { folders, parts, used, .. } = self;
        let part = parts.entry(name).or_insert_with_key(|name| {
            let file = File::create(folders.part(name))?;
            Ok(Part { file, hash: Sha256::new(), bytes: 0 })
        });
        let Ok(open) = part else { return };
        match open.file.write_all(data) {
            Ok(()) => {
                open.hash.update(data);
                open.bytes += data.len() as u64;
                used.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            Err(error) => {
                used.fetch_sub(open.bytes, Ordering::Relaxed);
                *part = Err(error);
            }
        }
    }

    fn close(&mut self, name: &str) -> io::Result<SegmentFacts> {
        let part = self.parts.remove(name).unwrap_or_else(|| Err(io::Error::other("nothing was written")));
        let part = part.inspect_err(|_| {
            let _ = std::fs::remove_file(self.folders.part(name));
        })?;
        std::fs::rename(self.folders.part(name), self.folders.segment(name))?;
        Ok(SegmentFacts { bytes: part.bytes, sha256: hex(&part.hash.finalize()) })
    }

    fn remove(&mut self, path: &Path) {
        let bytes = std::fs::metadata(path).map_or(0, |facts| facts.len());
        match std::fs::remove_file(path) {
            Ok(()) => {
                self.used.fetch_sub(bytes, Ordering::Relaxed);
            }
            // Moved from the backup storage: its file went before.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "failed to remove what is not needed any more from the spool"),
        }
    }

    /// The chunks first: a state never names one that is not there.
    fn save_state(&mut self, manifest: &Rendered) -> io::Result<()> {
        for (key, text) in &manifest.chunks {
            if !self.chunks_written.contains(key) {
                replace(&self.folders.ledger().join(key), text)?;
                self.chunks_written.insert(key.clone());
            }
        }
        replace(&self.folders.state(), &manifest.head)?;
        if !manifest.chunks.is_empty() {
            let entries = (manifest.spooled.len() + manifest.chunks.len()) * LEDGER_CHUNK;
            // The driver may have ended meanwhile.
            let _ = self.results.send(Input::LedgerKept { entries });
        }
        Ok(())
    }
}

//! Media on its way: written to disk as it is finished, gone once storage has confirmed it.
//!
//! ```text
//! <spool>/state.json            the manifest as last known, replaced atomically
//! <spool>/ledger/<chunk>        full chunks of its ledger, written once
//! <spool>/intake/<number>       what the room sent, until it is in closed segments (journal.rs)
//! <spool>/moving/<name>         read from the backup storage, on its way to the primary
//! <spool>/segments/<name>.part  being written      -> <name> when closed
//! ```

pub(crate) mod journal;
pub(crate) mod recovery;
pub(crate) mod ts_tail;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use bytes::Bytes;
use recorder_media::{Input, OpId};
use tokio::sync::{mpsc, oneshot};

use crate::manifest::Rendered;
use journal::{Intake, Journal};

/// Writes waiting for the disk. 17 people write some 1,500 units a second: over a second of them. When it is full the event loop
/// waits for the disk, and the connector's queue behind it says so.
const WRITES_QUEUED: usize = 2048;
/// Above this share of its size the spool takes no more media, so that the kubelet never evicts the pod ...
const FULL_PERCENT: u64 = 80;
/// ... until it is below this.
const ROOM_PERCENT: u64 = 60;
const PART: &str = "part";

#[derive(Clone, Debug)]
pub(crate) struct Folders {
    root: PathBuf,
}

impl Folders {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    pub(crate) fn create(&self) -> io::Result<()> {
        std::fs::create_dir_all(self.segments())?;
        std::fs::create_dir_all(self.intake())?;
        std::fs::create_dir_all(self.moving())?;
        std::fs::create_dir_all(self.ledger())
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("state.json")
    }

    pub(crate) fn intake(&self) -> PathBuf {
        self.root.join("intake")
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    pub(crate) fn segments(&self) -> PathBuf {
        self.root.join("segments")
    }

    /// What is on its way from the backup storage to the primary.
    pub(crate) fn moving(&self) -> PathBuf {
        self.root.join("moving")
    }

    pub(crate) fn segment(&self, name: &str) -> PathBuf {
        self.segments().join(name)
    }

    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.segments().join(format!("{name}.{PART}"))
    }
}

#[derive(Debug)]
enum Order {
    Append {
        name: String,
        data: Bytes,
    },
    Close {
        op: OpId,
        name: String,
    },
    Remove {
        path: PathBuf,
    },
    State(Rendered),
    /// Everything before it is done.
    Reached(oneshot::Sender<()>),
}

/// The handle of the one thread that writes; orders are carried out in order.
#[derive(Debug)]
pub(crate) struct Spool {
    folders: Folders,
    orders: SyncSender<Order>,
    used: Arc<AtomicU64>,
    capacity: u64,
    full: bool,
}

impl Spool {
    /// `results` gets one [`Input::SegmentClosed`] for each close, and [`Input::LedgerKept`] when chunks of the ledger are written.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(folders: Folders, capacity: u64, results: mpsc::UnboundedSender<Input>) -> io::Result<Self> {
        let used = Arc::new(AtomicU64::new(recovery::used_bytes(&folders)));
        let (orders, taken) = sync_channel(WRITES_QUEUED);
        let writer = writer::Writer::new(folders.clone(), used.clone(), results);
        std::thread::Builder::new().name("spool".into()).spawn(move || writer.run(&taken))?;
        Ok(Self { folders, orders, used, capacity, full: false })
    }

    pub(crate) fn append(&self, name: String, data: Bytes) {
        self.order(Order::Append { name, data });
    }

    pub(crate) fn close(&self, op: OpId, name: String) {
        self.order(Order::Close { op, name });
    }

    /// A segment, or a file of the journal.
    pub(crate) fn remove(&self, path: PathBuf) {
        self.order(Order::Remove { path });
    }

    /// Ready when everything that was ordered until now is on disk.
    pub(crate) fn reached(&self) -> oneshot::Receiver<()> {
        let (sender, reached) = oneshot::channel();
        self.order(Order::Reached(sender));
        reached
    }

    pub(crate) fn save_state(&self, manifest: Rendered) {
        self.order(Order::State(manifest));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folders.segment(name)
    }

    /// The journal's bytes are the spool's.
    pub(crate) fn journal(&self, intake: Option<&Intake>) -> io::Result<Journal> {
        Journal::open(self.folders.intake(), intake, self.capacity, self.used.clone())
    }

    /// A file for what comes back from the backup storage.
    pub(crate) fn moving_path(&self, name: &str) -> PathBuf {
        self.folders.moving().join(name)
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// `Some` when the spool has become full (true) or has room again (false).
    pub(crate) fn turned(&mut self) -> Option<bool> {
        let limit = self.capacity / 100 * if self.full { ROOM_PERCENT } else { FULL_PERCENT };
        let full = self.used() >= limit;
        (full != self.full).then(|| {
            self.full = full;
            full
        })
    }

    fn order(&self, order: Order) {
        // The thread ends only when this sender is gone.
        if self.orders.send(order).is_err() {
            tracing::error!("the spool's thread is gone");
        }
    }
}

/// Replaces `path` so that a reader sees the old or the new text, never half of one.
pub(crate) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, text)?;
    std::fs::rename(&temporary, path)
}

#[cfg(test)]
pub(crate) mod tests;

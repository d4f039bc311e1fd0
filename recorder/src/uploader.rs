//! Carries out what the session wants stored, and answers. Segments go side by side; documents (playlists, manifest) one after the
//! other in the order they were asked for, each conditional on the version this process wrote last. A backup storage has a line of
//! its own: a storage that hangs does not hold up the other.

mod newest;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use recorder_media::{Input, LedgerEntry, OpId, Order, Place, StopReason, StoreError, Stored, attempt_line};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::connect::ConnectOrder;
use crate::manifest::{self, Rendered};
use crate::store::{Condition, Document, DocumentKind, Segment, Store, StoreFailure, hex};
pub(crate) use newest::Primary;

/// Segments on their way at once: with 15 s segments of 2 Mbit/s each, four fill a line of 100 Mbit/s at 100 ms of delay.
const UPLOADS_AT_ONCE: usize = 4;
/// RFC 8216 section 4.3.3.4.
pub(crate) const END_OF_PLAYLIST: &[u8] = b"#EXT-X-ENDLIST\n";

#[derive(Debug)]
enum Put {
    Playlist { op: OpId, key: String, body: String },
    Manifest { op: OpId, rendered: Rendered },
    Remove { op: OpId, keys: Vec<String> },
}

#[derive(Debug)]
pub(crate) struct Uploader {
    primary: Line,
    backup: Option<Line>,
    results: mpsc::UnboundedSender<Input>,
}

/// What goes to one storage.
#[derive(Debug)]
struct Line {
    storage: Arc<Storage>,
    slots: Arc<Semaphore>,
    documents: mpsc::UnboundedSender<Put>,
}

/// A storage whose manifest this attempt has claimed, if it has: with which ETag.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub(crate) storage: Arc<Storage>,
    pub(crate) etag: Option<String>,
}

impl Line {
    fn start(claimed: Claimed, ledger: PathBuf, results: &mpsc::UnboundedSender<Input>) -> Self {
        let Claimed { storage, etag } = claimed;
        let (documents, orders) = mpsc::unbounded_channel();
        let mut writer = DocumentWriter::new(storage.clone(), ledger);
        writer.etags.extend(etag.map(|etag| (storage.manifest_key.clone(), etag)));
        tokio::spawn(writer.run(orders, results.clone()));
        Self { storage, slots: Arc::new(Semaphore::new(UPLOADS_AT_ONCE)), documents }
    }
}

/// The store, with what is needed to tell a newer attempt from our own retry.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) store: Box<dyn Store>,
    pub(crate) manifest_key: String,
    /// Our own epoch.
    pub(crate) attempt: u32,
    /// Of the backup.
    pub(crate) primary: Option<Primary>,
}

impl Uploader {
    /// Results go to `results`, one for each order. `ledger`: the spool's folder of chunks.
    pub(crate) fn start(primary: Claimed, backup: Option<Claimed>, ledger: PathBuf, results: mpsc::UnboundedSender<Input>) -> Self {
        let backup = backup.map(|backup| Line::start(backup, ledger.clone(), &results));
        Self { primary: Line::start(primary, ledger, &results), backup, results }
    }

    /// The session speaks of a backup only when it was told that there is one.
    fn line(&self, at: Place) -> &Line {
        match at {
            Place::Primary => &self.primary,
            Place::Backup => self.backup.as_ref().unwrap_or(&self.primary),
        }
    }

    /// `known`: the spool's state names the segment. A process that comes back must know it, or would write another one of its name.
    pub(crate) fn upload(&self, op: OpId, path: PathBuf, entry: LedgerEntry, to: Place, known: oneshot::Receiver<()>) {
        let line = self.line(to);
        let (storage, slots, results) = (line.storage.clone(), line.slots.clone(), self.results.clone());
        tokio::spawn(async move {
            // A spool that is gone has said so.
            let _ = known.await;
            // Never closed: an error cannot come, and would only mean one upload too many.
            let _slot = slots.acquire().await;
            let result = storage.put_segment(&path, entry, to).await;
            let _ = results.send(Input::Uploaded { op, result });
        });
    }

    /// From the spool, if it is still there, else from the backup by way of `copy`.
    pub(crate) fn move_to_primary(&self, op: OpId, spooled: PathBuf, copy: PathBuf, entry: LedgerEntry) {
        let (primary, backup) = (self.primary.storage.clone(), self.line(Place::Backup).storage.clone());
        let (slots, results) = (self.primary.slots.clone(), self.results.clone());
        tokio::spawn(async move {
            let _slot = slots.acquire().await;
            let result = if tokio::fs::try_exists(&spooled).await.unwrap_or(false) {
                primary.put_segment(&spooled, entry, Place::Primary).await
            } else {
                primary.take_from(&backup, &copy, entry).await
            };
            let _ = results.send(Input::Uploaded { op, result });
        });
    }

    /// Somebody has taken our identity: either the recording too, which ends this attempt, or the connector may return. Without an
    /// answer of storage nothing is done: a newer attempt must not be thrown out of the room.
    pub(crate) fn yield_or(&self, connector: mpsc::Sender<ConnectOrder>) {
        let (storage, results) = (self.primary.storage.clone(), self.results.clone());
        tokio::spawn(async move {
            match storage.newer_attempt().await {
                Some(true) => drop(results.send(Input::Order(Order::Stop(StopReason::Superseded)))),
                Some(false) => drop(connector.send(ConnectOrder::Return).await),
                None => tracing::warn!("storage does not say whether there is a newer attempt"),
            }
        });
    }

    pub(crate) fn put_playlist(&self, op: OpId, key: String, body: String, to: Place) {
        self.put(Put::Playlist { op, key, body }, to);
    }

    pub(crate) fn put_manifest(&self, op: OpId, rendered: Rendered, to: Place) {
        self.put(Put::Manifest { op, rendered }, to);
    }

    pub(crate) fn remove_from_backup(&self, op: OpId, keys: Vec<String>) {
        self.put(Put::Remove { op, keys }, Place::Backup);
    }

    /// Beside everything else: the session leaves few under way.
    pub(crate) fn put_snapshot(&self, op: OpId, key: String, body: Bytes) {
        let (storage, results) = (self.primary.storage.clone(), self.results.clone());
        tokio::spawn(async move {
            let result = storage.put_snapshot(Document { key, body, kind: DocumentKind::Snapshot }).await;
            if let Err(error) = &result {
                tracing::warn!(?error, "storage did not take a snapshot");
            }
            let _ = results.send(Input::SnapshotPut { op, result });
        });
    }

    fn put(&self, put: Put, to: Place) {
        if self.line(to).documents.send(put).is_err() {
            tracing::error!("the document writer is gone");
        }
    }
}

impl Storage {
    async fn put_segment(&self, path: &std::path::Path, mut entry: LedgerEntry, at: Place) -> Result<Stored, StoreError> {
        (entry.stored, entry.in_backup) = (at == Place::Primary, at == Place::Backup);
        let ledger = manifest::ledger_line(&entry);
        let segment = Segment { key: &entry.name, path, sha256: &entry.sha256, ledger: &ledger };
        match self.store.put_segment(segment).await {
            Ok(etag) => Ok(Stored { etag }),
            Err(StoreFailure::Conflict) if self.is_superseded().await => Err(StoreError::Superseded),
            // The disk lost it, or somebody removed it.
            Err(_) if matches!(tokio::fs::try_exists(path).await, Ok(false)) => {
                // Its number: the name holds an identity, and this is logged.
                Err(StoreError::Gone(format!("segment {} is not in the spool any more", entry.n)))
            }
            Err(failure) => Err(failure.into_media()),
        }
    }

    /// One of this moment that is there already, of an earlier process or a newer attempt, is as good: it stays.
    async fn put_snapshot(&self, snapshot: Document) -> Result<(), StoreError> {
        match self.store.put_document(&snapshot, &Condition::Absent).await {
            Ok(_) | Err(StoreFailure::Conflict) => Ok(()),
            Err(failure) => Err(failure.into_media()),
        }
    }

    /// What the backup has. A copy that could not be stored stays for the next try: it need not be read again.
    async fn take_from(&self, backup: &Storage, copy: &std::path::Path, entry: LedgerEntry) -> Result<Stored, StoreError> {
        if !tokio::fs::try_exists(copy).await.unwrap_or(false) {
            let found = backup.store.fetch(&entry.name).await.map_err(StoreFailure::into_media)?;
            let Some(found) = found else { return self.has_already(&entry).await };
            let written = tokio::fs::write(copy, &found.body).await;
            written.map_err(|error| StoreError::Retryable(format!("failed to write to the spool: {error}")))?;
        }
        let result = self.put_segment(copy, entry, Place::Primary).await;
        if !matches!(result, Err(StoreError::Retryable(_))) {
            // Damaged or not wanted: read again, if at all.
            let _ = tokio::fs::remove_file(copy).await;
        }
        result
    }

    /// An earlier process may have moved it and told nobody.
    async fn has_already(&self, entry: &LedgerEntry) -> Result<Stored, StoreError> {
        let found = self.store.fetch(&entry.name).await.map_err(StoreFailure::into_media)?;
        match found.filter(|found| hex(&Sha256::digest(&found.body)) == entry.sha256) {
            Some(found) => Ok(Stored { etag: found.etag }),
            None => Err(StoreError::Gone(format!("segment {} is not in the backup storage any more", entry.n))),
        }
    }
}

#[derive(Debug)]
pub(crate) struct DocumentWriter {
    storage: Arc<Storage>,
    /// The spool's, with the chunks that the session does not keep.
    ledger: PathBuf,
    /// What this process wrote or read last, by key.
    pub(crate) etags: HashMap<String, String>,
    chunks_stored: HashSet<String>,
}

impl DocumentWriter {
    pub(crate) fn new(storage: Arc<Storage>, ledger: PathBuf) -> Self {
        Self { storage, ledger, etags: HashMap::new(), chunks_stored: HashSet::new() }
    }

    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Put>, results: mpsc::UnboundedSender<Input>) {
        while let Some(put) = orders.recv().await {
            let (op, result) = match put {
                Put::Playlist { op, key, body } => (op, self.put(Document { key, body: body.into(), kind: DocumentKind::Playlist }).await),
                Put::Manifest { op, rendered } => (op, self.put_manifest(rendered).await),
                Put::Remove { op, keys } => (op, self.remove(keys).await),
            };
            if let Err(error) = &result {
                tracing::warn!(?error, "storage did not take a document");
            }
            let _ = results.send(Input::Put { op, result });
        }
    }

    /// The chunks first: a head never names one that is not stored.
    pub(crate) async fn put_manifest(&mut self, rendered: Rendered) -> Result<(), StoreError> {
        for key in rendered.spooled {
            if !self.chunks_stored.contains(&key) {
                let text = tokio::fs::read(self.ledger.join(&key)).await;
                let text = text.map_err(|error| StoreError::Retryable(format!("failed to read {key} in the spool: {error}")))?;
                self.put_chunk(key, text.into()).await?;
            }
        }
        for (key, text) in rendered.chunks {
            if !self.chunks_stored.contains(&key) {
                self.put_chunk(key, text).await?;
            }
        }
        let key = self.storage.manifest_key.clone();
        self.put(Document { key, body: rendered.head, kind: DocumentKind::Manifest }).await
    }

    async fn put_chunk(&mut self, key: String, body: Bytes) -> Result<(), StoreError> {
        self.put(Document { key: key.clone(), body, kind: DocumentKind::LedgerChunk }).await?;
        self.chunks_stored.insert(key);
        Ok(())
    }

    /// The first that cannot be removed ends it; what is gone already is no hindrance when it is asked for again.
    async fn remove(&mut self, keys: Vec<String>) -> Result<(), StoreError> {
        for key in keys {
            self.storage.store.remove(&key).await.map_err(StoreFailure::into_media)?;
            self.etags.remove(&key);
            self.chunks_stored.remove(&key);
        }
        Ok(())
    }

    pub(crate) async fn put(&mut self, document: Document) -> Result<(), StoreError> {
        let known = self.etags.get(&document.key).cloned();
        // Nothing is there yet that would refuse it, or the newer attempt's has the same text.
        if known.is_none() && document.kind == DocumentKind::Playlist {
            match self.storage.look_for_newer_attempt().await {
                Ok(true) => return Err(StoreError::Superseded),
                Err(failure @ StoreFailure::Retryable(_)) => return Err(failure.into_media()),
                // Who may not read may write all the same.
                Ok(false) | Err(_) => {}
            }
        }
        let condition = known.map_or(Condition::Absent, Condition::Matches);
        let put = match self.storage.store.put_document(&document, &condition).await {
            Err(StoreFailure::Conflict) => self.put_over(&document).await?,
            other => other.map_err(StoreFailure::into_media)?,
        };
        self.etags.insert(document.key, put);
        Ok(())
    }

    /// Another version is there: of a newer attempt, then we are done; of an older one or an earlier process of our own, then it is
    /// replaced. It is read before the manifest: what a newer attempt writes, it writes after its claim, so a version that was there before
    /// the question is not its own, and the condition refuses any that came since.
    async fn put_over(&mut self, document: &Document) -> Result<String, StoreError> {
        let found = self.storage.store.fetch(&document.key).await.map_err(StoreFailure::into_media)?;
        if self.storage.look_for_newer_attempt().await.map_err(StoreFailure::into_media)? {
            return Err(StoreError::Superseded);
        }
        let condition = match found {
            Some(found) if self.is_ended_already(document, &found.body) => return Ok(found.etag),
            Some(found) => Condition::Matches(found.etag),
            None => Condition::Absent,
        };
        match self.storage.store.put_document(document, &condition).await {
            Err(StoreFailure::Conflict) => Err(StoreError::Retryable("two recorders write the same object".into())),
            other => other.map_err(StoreFailure::into_media),
        }
    }

    /// An earlier process has ended this very playlist. Its readers were told that nothing follows: that stays, unless something does.
    fn is_ended_already(&self, document: &Document, there: &[u8]) -> bool {
        let line = attempt_line(self.storage.attempt);
        let without = |text: &[u8], end: &[u8]| text.strip_suffix(end).unwrap_or(text).to_vec();
        let bare = |text: &[u8]| without(&without(text, END_OF_PLAYLIST), line.as_bytes());
        document.kind == DocumentKind::Playlist && there.ends_with(END_OF_PLAYLIST) && bare(there) == bare(&document.body)
    }
}

#[cfg(test)]
mod tests;

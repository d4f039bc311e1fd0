//! Carries out what the session wants stored, and answers. Segments go side by side; documents (playlists, manifest) one after the
//! other in the order they were asked for, each conditional on the version this process wrote last.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use recorder_media::{Input, LedgerEntry, OpId, StoreError, Stored};
use tokio::sync::{Semaphore, mpsc};

use crate::manifest::{self, Rendered};
use crate::store::{Condition, Document, DocumentKind, Segment, Store, StoreFailure};

/// Segments on their way at once: with 15 s segments of 2 Mbit/s each, four fill a line of 100 Mbit/s at 100 ms of delay.
const UPLOADS_AT_ONCE: usize = 4;

#[derive(Debug)]
enum Put {
    Playlist { op: OpId, key: String, body: String },
    Manifest { op: OpId, rendered: Rendered },
}

#[derive(Debug)]
pub(crate) struct Uploader {
    storage: Arc<Storage>,
    slots: Arc<Semaphore>,
    documents: mpsc::UnboundedSender<Put>,
    results: mpsc::UnboundedSender<Input>,
}

/// The store, with what is needed to tell a newer attempt from our own retry.
#[derive(Debug)]
pub(crate) struct Storage {
    pub(crate) store: Box<dyn Store>,
    pub(crate) manifest_key: String,
    /// Our own epoch.
    pub(crate) attempt: u32,
}

impl Uploader {
    /// `etag`: of the manifest that this attempt has claimed. Results go to `results`, one for each order.
    pub(crate) fn start(storage: Arc<Storage>, etag: Option<String>, results: mpsc::UnboundedSender<Input>) -> Self {
        let (documents, orders) = mpsc::unbounded_channel();
        let mut writer = DocumentWriter::new(storage.clone());
        writer.etags.extend(etag.map(|etag| (storage.manifest_key.clone(), etag)));
        tokio::spawn(writer.run(orders, results.clone()));
        Self { storage, slots: Arc::new(Semaphore::new(UPLOADS_AT_ONCE)), documents, results }
    }

    pub(crate) fn upload(&self, op: OpId, path: PathBuf, entry: LedgerEntry) {
        let (storage, slots, results) = (self.storage.clone(), self.slots.clone(), self.results.clone());
        tokio::spawn(async move {
            // Never closed: an error cannot come, and would only mean one upload too many.
            let _slot = slots.acquire().await;
            let result = storage.put_segment(&path, entry).await;
            let _ = results.send(Input::Uploaded { op, result });
        });
    }

    pub(crate) fn put_playlist(&self, op: OpId, key: String, body: String) {
        self.put(Put::Playlist { op, key, body });
    }

    pub(crate) fn put_manifest(&self, op: OpId, rendered: Rendered) {
        self.put(Put::Manifest { op, rendered });
    }

    fn put(&self, put: Put) {
        if self.documents.send(put).is_err() {
            tracing::error!("the document writer is gone");
        }
    }
}

impl Storage {
    async fn put_segment(&self, path: &std::path::Path, mut entry: LedgerEntry) -> Result<Stored, StoreError> {
        entry.stored = true;
        let ledger = manifest::ledger_line(&entry);
        let segment = Segment { key: &entry.name, path, sha256: &entry.sha256, ledger: &ledger };
        match self.store.put_segment(segment).await {
            Ok(etag) => Ok(Stored { etag }),
            Err(StoreFailure::Conflict) if self.is_superseded().await => Err(StoreError::Superseded),
            Err(failure) => Err(failure.into_media()),
        }
    }

    /// Does the manifest in storage carry a higher epoch?
    pub(crate) async fn is_superseded(&self) -> bool {
        match self.store.fetch(&self.manifest_key).await {
            Ok(Some(found)) => manifest::parse(&found.body).is_ok_and(|head| head.epoch > self.attempt),
            Ok(None) | Err(_) => false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct DocumentWriter {
    storage: Arc<Storage>,
    /// What this process wrote or read last, by key.
    pub(crate) etags: HashMap<String, String>,
    chunks_stored: HashSet<String>,
}

impl DocumentWriter {
    pub(crate) fn new(storage: Arc<Storage>) -> Self {
        Self { storage, etags: HashMap::new(), chunks_stored: HashSet::new() }
    }

    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Put>, results: mpsc::UnboundedSender<Input>) {
        while let Some(put) = orders.recv().await {
            let (op, result) = match put {
                Put::Playlist { op, key, body } => (op, self.put(Document { key, body: body.into(), kind: DocumentKind::Playlist }).await),
                Put::Manifest { op, rendered } => (op, self.put_manifest(rendered).await),
            };
            if let Err(error) = &result {
                tracing::warn!(?error, "storage did not take a document");
            }
            let _ = results.send(Input::Put { op, result });
        }
    }

    /// The chunks first: a head never names one that is not stored.
    pub(crate) async fn put_manifest(&mut self, rendered: Rendered) -> Result<(), StoreError> {
        for (key, body) in rendered.chunks {
            if !self.chunks_stored.contains(&key) {
                self.put(Document { key: key.clone(), body, kind: DocumentKind::LedgerChunk }).await?;
                self.chunks_stored.insert(key);
            }
        }
        let key = self.storage.manifest_key.clone();
        self.put(Document { key, body: rendered.head, kind: DocumentKind::Manifest }).await
    }

    async fn put(&mut self, document: Document) -> Result<(), StoreError> {
        let known = self.etags.get(&document.key).cloned();
        let condition = known.map_or(Condition::Absent, Condition::Matches);
        let put = match self.storage.store.put_document(&document, &condition).await {
            Err(StoreFailure::Conflict) => self.put_over(&document).await?,
            other => other.map_err(StoreFailure::into_media)?,
        };
        self.etags.insert(document.key, put);
        Ok(())
    }

    /// Another version is there: of a newer attempt, then we are done; of an older one or an earlier process of our own, then it is
    /// read and replaced.
    async fn put_over(&mut self, document: &Document) -> Result<String, StoreError> {
        if self.storage.is_superseded().await {
            return Err(StoreError::Superseded);
        }
        let found = self.storage.store.fetch(&document.key).await.map_err(StoreFailure::into_media)?;
        let condition = found.map_or(Condition::Absent, |found| Condition::Matches(found.etag));
        match self.storage.store.put_document(document, &condition).await {
            Err(StoreFailure::Conflict) => Err(StoreError::Retryable("two recorders write the same object".into())),
            other => other.map_err(StoreFailure::into_media),
        }
    }
}

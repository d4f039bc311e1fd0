use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::store::volume::VolumeStore;
use crate::store::{Described, Fetched};

const MANIFEST: &str = "0f8c_daily.json";
const PLAYLIST: &str = "0f8c_daily__uid_s_ann__uid_e_av.m3u8";

fn document(key: &str, body: &str) -> Document {
    let kind = if key == MANIFEST { DocumentKind::Manifest } else { DocumentKind::Playlist };
    Document { key: key.to_owned(), body: body.to_owned().into(), kind }
}

fn storage(store: Box<dyn Store>, attempt: u32) -> Arc<Storage> {
    Arc::new(Storage { store, manifest_key: MANIFEST.into(), attempt, primary: None })
}

fn manifest_of(epoch: u32) -> String {
    let identity = manifest::Identity { recording_id: "0f8c".into(), stem: "0f8c_daily".into(), channel: "daily".into(), app_id: None };
    let rendered = manifest::render(&identity, &recorder_media::Manifest { epoch, ..recorder_media::Manifest::default() });
    String::from_utf8(rendered.head.to_vec()).expect("JSON")
}

/// A newer attempt takes over right after this one has read an object.
#[derive(Debug)]
struct TakenOver {
    store: VolumeStore,
    after: &'static str,
    done: AtomicBool,
}

impl TakenOver {
    async fn take_over(&self) -> Result<(), StoreFailure> {
        for document in [document(MANIFEST, &manifest_of(2)), document(PLAYLIST, "of the second")] {
            let found = self.store.fetch(&document.key).await?.map_or(Condition::Absent, |found| Condition::Matches(found.etag));
            self.store.put_document(&document, &found).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Store for TakenOver {
    async fn put_segment(&self, segment: Segment<'_>) -> Result<String, StoreFailure> {
        self.store.put_segment(segment).await
    }

    async fn put_document(&self, document: &Document, condition: &Condition) -> Result<String, StoreFailure> {
        self.store.put_document(document, condition).await
    }

    async fn fetch(&self, key: &str) -> Result<Option<Fetched>, StoreFailure> {
        let found = self.store.fetch(key).await;
        if key == self.after && !self.done.swap(true, Ordering::Relaxed) {
            self.take_over().await?;
        }
        found
    }

    async fn describe(&self, key: &str) -> Result<Option<Described>, StoreFailure> {
        self.store.describe(key).await
    }

    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<String>, StoreFailure> {
        self.store.list_after(prefix, after).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreFailure> {
        self.store.remove(key).await
    }
}

/// The first attempt puts a playlist that an earlier process of its own has written; meanwhile the second one takes over.
async fn put_while_taken_over(folder: &Path, after: &'static str) -> Result<(), StoreError> {
    let store = VolumeStore::open(folder, "").expect("a folder");
    for document in [document(MANIFEST, &manifest_of(1)), document(PLAYLIST, "of the first")] {
        store.put_document(&document, &Condition::Absent).await.expect("stored");
    }
    let store = Box::new(TakenOver { store, after, done: AtomicBool::new(false) });
    let mut writer = DocumentWriter::new(storage(store, 1), PathBuf::new());
    writer.put(document(PLAYLIST, "of the first, and more")).await
}

#[tokio::test]
async fn an_older_attempt_begins_no_playlist() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = VolumeStore::open(folder.path(), "").expect("a folder");
    store.put_document(&document(MANIFEST, &manifest_of(2)), &Condition::Absent).await.expect("stored");
    let storage = |attempt| storage(Box::new(store.clone()), attempt);
    assert_eq!(DocumentWriter::new(storage(1), PathBuf::new()).put(document(PLAYLIST, "of the first")).await, Err(StoreError::Superseded));
    assert!(!folder.path().join(PLAYLIST).exists());
    assert_eq!(DocumentWriter::new(storage(2), PathBuf::new()).put(document(PLAYLIST, "of the second")).await, Ok(()));
}

/// The newer attempt's playlist may have the same text: then nothing would refuse it.
#[tokio::test]
async fn a_storage_that_does_not_say_who_is_newest_gets_no_first_playlist() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join(MANIFEST)).expect("what cannot be read");
    let store = Box::new(VolumeStore::open(folder.path(), "").expect("a folder"));
    let put = DocumentWriter::new(storage(store, 1), PathBuf::new()).put(document(PLAYLIST, "of the first")).await;
    assert!(matches!(put, Err(StoreError::Retryable(_))), "{put:?}");
    assert!(!folder.path().join(PLAYLIST).exists());
}

#[tokio::test]
async fn whenever_a_newer_attempt_takes_over_its_playlist_stays() {
    for after in [MANIFEST, PLAYLIST] {
        let folder = tempfile::tempdir().expect("a folder");
        let put = put_while_taken_over(folder.path(), after).await;
        assert!(put.is_err(), "taken over after {after} was read: {put:?}");
        let there = std::fs::read_to_string(folder.path().join(PLAYLIST)).expect("a playlist");
        assert_eq!(there, "of the second", "taken over after {after} was read");
    }
}

/// A backup that the first attempt writes to, whose primary is `primary`.
fn backup_of_the_first(backup: &Path, primary: Box<dyn Store>) -> Arc<Storage> {
    let store = Box::new(VolumeStore::open(backup, "").expect("a folder"));
    let mut primary = Primary::new(storage(primary, 1));
    primary.answers_within = Duration::from_millis(50);
    Arc::new(Storage { store, manifest_key: MANIFEST.into(), attempt: 1, primary: Some(primary) })
}

/// The second attempt has moved everything to the primary, and has cleared the backup.
#[tokio::test]
async fn an_older_attempt_writes_nothing_to_a_backup_that_a_newer_one_has_cleared() {
    let (primary, backup) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = VolumeStore::open(primary.path(), "").expect("a folder");
    store.put_document(&document(MANIFEST, &manifest_of(2)), &Condition::Absent).await.expect("stored");
    let mut writer = DocumentWriter::new(backup_of_the_first(backup.path(), Box::new(store)), PathBuf::new());
    writer.etags.insert(MANIFEST.into(), "\"of its own manifest, which is gone\"".into());
    for late in [document(PLAYLIST, "of the first"), document(MANIFEST, &manifest_of(1))] {
        let key = late.key.clone();
        assert_eq!(writer.put(late).await, Err(StoreError::Superseded), "{key}");
        assert!(!backup.path().join(&key).exists(), "{key}");
    }
}

/// Never answers; counts how often it is asked.
#[derive(Debug, Default)]
struct Silent(Arc<AtomicUsize>);

#[async_trait]
impl Store for Silent {
    async fn put_segment(&self, _: Segment<'_>) -> Result<String, StoreFailure> {
        std::future::pending().await
    }

    async fn put_document(&self, _: &Document, _: &Condition) -> Result<String, StoreFailure> {
        std::future::pending().await
    }

    async fn fetch(&self, _: &str) -> Result<Option<Fetched>, StoreFailure> {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::future::pending().await
    }

    async fn describe(&self, _: &str) -> Result<Option<Described>, StoreFailure> {
        std::future::pending().await
    }

    async fn list_after(&self, _: &str, _: &str) -> Result<Vec<String>, StoreFailure> {
        std::future::pending().await
    }

    async fn remove(&self, _: &str) -> Result<(), StoreFailure> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_primary_that_gives_no_answer_does_not_hold_up_the_backup() {
    let (backup, silent) = (tempfile::tempdir().expect("a folder"), Silent::default());
    let asked = silent.0.clone();
    let mut writer = DocumentWriter::new(backup_of_the_first(backup.path(), Box::new(silent)), PathBuf::new());
    for key in [PLAYLIST, "0f8c_daily__uid_s_bob__uid_e_av.m3u8"] {
        assert_eq!(writer.put(document(key, "of the first")).await, Ok(()));
        assert_eq!(std::fs::read_to_string(backup.path().join(key)).expect("a playlist"), "of the first");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1, "not once for each document");
}

#[tokio::test]
async fn what_an_earlier_process_ended_stays_ended_until_there_is_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = VolumeStore::open(folder.path(), "").expect("a folder");
    store.put_document(&document(PLAYLIST, "one\n#EXT-X-ENDLIST\n"), &Condition::Absent).await.expect("stored");
    let mut writer = DocumentWriter::new(storage(Box::new(store), 1), PathBuf::new());
    let there = || std::fs::read_to_string(folder.path().join(PLAYLIST)).expect("a playlist");
    assert_eq!(writer.put(document(PLAYLIST, "one\n")).await, Ok(()));
    assert_eq!(there(), "one\n#EXT-X-ENDLIST\n");
    assert_eq!(writer.put(document(PLAYLIST, "one\ntwo\n")).await, Ok(()));
    assert_eq!(there(), "one\ntwo\n", "a recording that goes on after all");
    assert_eq!(writer.put(document(PLAYLIST, "one\ntwo\n#EXT-X-ENDLIST\n")).await, Ok(()));
    assert_eq!(there(), "one\ntwo\n#EXT-X-ENDLIST\n");
}

#[tokio::test]
async fn what_the_session_does_not_keep_is_taken_from_the_spool() {
    let (folder, spool) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let store = Box::new(VolumeStore::open(folder.path(), "").expect("a folder"));
    let mut writer = DocumentWriter::new(storage(store, 1), spool.path().to_owned());
    let rendered = Rendered {
        head: manifest_of(1).into(),
        spooled: vec!["0f8c_daily_ledger_0.ndjson".into()],
        chunks: vec![("0f8c_daily_ledger_1.ndjson".into(), "second".into())],
    };
    let missing = writer.put_manifest(rendered.clone()).await;
    assert!(matches!(&missing, Err(StoreError::Retryable(why)) if why.contains("ledger_0")), "{missing:?}");
    assert!(!folder.path().join(MANIFEST).exists(), "a head names no chunk that is not there");
    std::fs::write(spool.path().join("0f8c_daily_ledger_0.ndjson"), "first").expect("written");
    assert_eq!(writer.put_manifest(rendered.clone()).await, Ok(()));
    std::fs::remove_file(spool.path().join("0f8c_daily_ledger_0.ndjson")).expect("removed");
    assert_eq!(writer.put_manifest(rendered).await, Ok(()), "stored once");
    let texts = ["0f8c_daily_ledger_0.ndjson", "0f8c_daily_ledger_1.ndjson"]
        .map(|key| std::fs::read_to_string(folder.path().join(key)).expect("there"));
    assert_eq!(texts, ["first", "second"]);
}

/// Of an earlier process, or of a newer attempt: it is of the same moment.
#[tokio::test]
async fn a_snapshot_that_is_there_already_stays_and_is_as_good() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = storage(Box::new(VolumeStore::open(folder.path(), "").expect("a volume")), 1);
    let snapshot = |body: &'static str| Document { key: "p_1.jpg".into(), body: body.into(), kind: DocumentKind::Snapshot };
    for body in ["first", "second"] {
        assert_eq!(storage.put_snapshot(snapshot(body)).await, Ok(()));
    }
    let found = storage.store.fetch("p_1.jpg").await.expect("readable").expect("it is there");
    assert_eq!(found.body, "first");
    std::fs::remove_dir_all(folder.path()).expect("removed");
    assert!(storage.put_snapshot(snapshot("third")).await.is_err(), "and what is not stored is told");
}

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use recorder_media::{Input, Output, ParticipantRecord, Place, Resume, Session, Tick};
use sha2::{Digest, Sha256};

use super::*;
use crate::spool::tests::stream;
use crate::store::volume::VolumeStore;
use crate::store::{Condition, Document, Fetched, Segment, Store, StoreFailure, hex};

/// 2025-12-31T23:59:58.123Z
const EPOCH: WallMicros = WallMicros(1_767_225_598_123_000);

/// A folder that keeps ledger entries beside its objects, whatever its file system can; a store that can be told to refuse listings.
#[derive(Debug)]
struct Keeping {
    store: VolumeStore,
    entries: BTreeMap<String, String>,
    refuses: bool,
    listings: AtomicUsize,
    looked_at: Mutex<Vec<String>>,
}

#[async_trait]
impl Store for Arc<Keeping> {
    async fn put_segment(&self, segment: Segment<'_>) -> Result<String, StoreFailure> {
        self.store.put_segment(segment).await
    }

    async fn put_document(&self, document: &Document, condition: &Condition) -> Result<String, StoreFailure> {
        self.store.put_document(document, condition).await
    }

    async fn fetch(&self, key: &str) -> Result<Option<Fetched>, StoreFailure> {
        self.store.fetch(key).await
    }

    async fn describe(&self, key: &str) -> Result<Option<Described>, StoreFailure> {
        self.looked_at.lock().expect("unharmed").push(key.to_owned());
        let ledger = self.entries.get(key).cloned();
        Ok(self.store.describe(key).await?.map(|described| Described { ledger, ..described }))
    }

    async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<String>, StoreFailure> {
        self.listings.fetch_add(1, Ordering::Relaxed);
        if self.refuses {
            return Err(StoreFailure::Denied("HTTP 403 AccessDenied".into()));
        }
        self.store.list_after(prefix, after).await
    }

    async fn remove(&self, key: &str) -> Result<(), StoreFailure> {
        self.store.remove(key).await
    }
}

/// A storage being filled.
struct Filling {
    disk: tempfile::TempDir,
    entries: BTreeMap<String, String>,
}

impl Filling {
    fn new() -> Self {
        Self { disk: tempfile::tempdir().expect("a folder"), entries: BTreeMap::new() }
    }

    /// Objects as a recorder stores them.
    fn with(mut self, entries: &[LedgerEntry]) -> Self {
        for entry in entries {
            std::fs::write(self.disk.path().join(&entry.name), stream()).expect("written");
            self.entries.insert(entry.name.clone(), manifest::ledger_line(entry));
        }
        self
    }

    fn file(self, name: &str, content: &[u8]) -> Self {
        std::fs::write(self.disk.path().join(name), content).expect("written");
        self
    }

    fn store(&self, refuses: bool) -> Arc<Keeping> {
        let (store, entries) = (VolumeStore::of(self.disk.path()), self.entries.clone());
        Arc::new(Keeping { store, entries, refuses, listings: AtomicUsize::new(0), looked_at: Mutex::default() })
    }

    fn storage(&self, refuses: bool) -> Storage {
        storage(self.store(refuses))
    }
}

fn storage(store: Arc<Keeping>) -> Storage {
    Storage { store: Box::new(store), manifest_key: String::new(), attempt: 2, primary: None }
}

fn job() -> Job {
    Job { attempt: 2, ..Job::parse(include_str!("../../../../crds/tests/golden/job-v1.json")).expect("the golden job") }
}

fn base(identity: &str) -> String {
    names::individual_base(&job().stem, &recording_crds::names::escape(identity), "av")
}

/// The segment of a second that begins at second `n`.
fn entry(identity: &str, n: u32) -> LedgerEntry {
    let (start, content) = (MediaTime(i64::from(n) * MediaTime::PER_SECOND), stream());
    let wall = names::wall_at(EPOCH, start);
    LedgerEntry {
        playlist: names::playlist_name(&base(identity)),
        n,
        name: names::segment_name(&base(identity), wall),
        start,
        duration90k: MediaTime::PER_SECOND,
        wall,
        bytes: content.len() as u64,
        sha256: hex(&Sha256::digest(&content)),
        etag: String::new(),
        stored: true,
        in_backup: false,
        lost: false,
        discontinuity: false,
        independent: true,
        epoch: 1,
    }
}

fn entries(identity: &str, of: impl IntoIterator<Item = u32>) -> Vec<LedgerEntry> {
    of.into_iter().map(|n| entry(identity, n)).collect()
}

/// As it was written when so much was known of `a`.
fn known(of: impl IntoIterator<Item = u32>) -> Manifest {
    let mut playlist = PlaylistRecord::begin(names::playlist_name(&base("a")), "a".into(), MediaKinds::AudioVideo);
    let ledger = entries("a", of);
    playlist.continuation.next_n = ledger.len() as u32;
    Manifest { epoch: 1, epoch_time: Some(EPOCH), playlists: vec![playlist], ledger: ledger.into(), ..Manifest::default() }
}

async fn entered(mut manifest: Manifest, storage: &Storage, backup: Option<&Storage>) -> Manifest {
    enter(&job(), MediaKinds::AudioVideo, &mut manifest, storage, backup).await;
    manifest
}

/// Number, discontinuity, in the storage, in the backup.
fn of(manifest: &Manifest, identity: &str) -> Vec<(u32, bool, bool, bool)> {
    let playlist = names::playlist_name(&base(identity));
    let of = manifest.ledger.iter().filter(|entry| entry.playlist == playlist);
    of.map(|entry| (entry.n, entry.discontinuity, entry.stored, entry.in_backup)).collect()
}

fn stored(numbers: impl IntoIterator<Item = u32>) -> Vec<(u32, bool, bool, bool)> {
    numbers.into_iter().map(|n| (n, false, true, false)).collect()
}

#[tokio::test]
async fn what_is_stored_behind_the_manifest_is_entered_and_named() {
    let filling = Filling::new().with(&entries("a", [0, 1, 2, 4])).with(&entries("b b", [0, 1]));
    let manifest = entered(known(0..2), &filling.storage(false), None).await;

    assert_eq!(of(&manifest, "a"), [stored(0..3), vec![(4, true, true, false)]].concat());
    assert_eq!(of(&manifest, "b b"), stored(0..2));
    let gap = Gap {
        start: MediaTime(3 * 90_000),
        duration90k: 90_000,
        reason: GapReason::SegmentLost,
        playlist: Some(names::playlist_name(&base("a"))),
        open: false,
    };
    assert_eq!(manifest.gaps, [gap], "the fourth is nowhere");
    let [a, b] = manifest.playlists.as_slice() else { panic!("two playlists: {:?}", manifest.playlists) };
    assert_eq!((b.identity.as_str(), b.has_video, b.has_audio), ("b b", true, true));
    assert_eq!((a.continuation.next_n, b.continuation.next_n), (5, 2));
    let counters = ts_tail::whole(&stream()).expect("media").continuity_counters;
    assert_eq!((&a.continuation.continuity_counters, &b.continuation.continuity_counters), (&counters, &counters));

    let names: Vec<String> = manifest.ledger.iter().map(|entry| entry.name.clone()).collect();
    assert_eq!(named(manifest), names.into_iter().collect());
}

/// By the playlists that a session goes on with.
fn named(manifest: Manifest) -> BTreeSet<String> {
    let config = super::super::config(&job(), Some(Resume { manifest, replay: None }));
    let mut session = Session::new(config, Tick(0), names::wall_at(EPOCH, MediaTime(3600 * MediaTime::PER_SECOND)));
    let mut bodies = String::new();
    for second in 0..60 {
        session.handle(Tick(second * 1_000_000), Input::Wake);
        while let Some(output) = session.poll_output() {
            if let Output::PutPlaylist { op, body, to: Place::Primary, .. } = output {
                bodies += &body;
                session.handle(Tick(second * 1_000_000), Input::Put { op, result: Ok(()) });
            }
        }
    }
    bodies.lines().filter(|line| line.ends_with(".ts")).map(str::to_owned).collect()
}

#[tokio::test]
async fn without_an_entry_the_content_tells() {
    let mut filling = Filling::new().with(&entries("a", 0..4)).with(&entries("b", 2..4));
    filling.entries.clear();
    let manifest = entered(known(0..2), &filling.storage(false), None).await;
    assert_eq!(of(&manifest, "a"), [stored(0..2), vec![(2, true, true, false), (3, true, true, false)]].concat());
    assert_eq!(of(&manifest, "b"), [(0, false, true, false), (1, true, true, false)]);
    let last = manifest.ledger.iter().rev().find(|found| found.name == self::entry("a", 3).name).expect("entered");
    let content = ts_tail::whole(&stream()).expect("media");
    assert_eq!((last.start.0, last.duration90k, &last.sha256), (3 * 90_000, content.duration90k, &entry("a", 3).sha256));
    assert_eq!(manifest.playlists[0].continuation.continuity_counters, content.continuity_counters);
    assert_eq!(manifest.playlists[1].identity, "b");
}

#[tokio::test]
async fn the_first_segment_may_begin_a_little_before_the_epoch() {
    let start = MediaTime(-18_000);
    let wall = names::wall_at(EPOCH, start);
    let first = LedgerEntry { name: names::segment_name(&base("a"), wall), start, wall, duration90k: 108_000, ..entry("a", 0) };
    let filling = Filling::new().with(std::slice::from_ref(&first)).with(&entries("a", 1..3));
    for epoch_time in [Some(EPOCH), None] {
        let manifest = entered(Manifest { epoch_time, ..Manifest::default() }, &filling.storage(false), None).await;
        let entered = &manifest.ledger[0];
        assert_eq!((entered.start, entered.duration90k, &entered.name), (first.start, first.duration90k, &first.name));
        assert_eq!((manifest.ledger.len(), manifest.epoch_time), (3, Some(EPOCH)));
    }
}

#[tokio::test]
async fn what_is_no_segment_of_the_recording_is_left_alone() {
    let unbelievable = |n: u32, spoil: &dyn Fn(&mut LedgerEntry)| {
        let mut spoilt = entry("a", n);
        spoil(&mut spoilt);
        (entry("a", n).name, manifest::ledger_line(&spoilt))
    };
    let mut filling = Filling::new()
        .with(&entries("a", 0..8))
        .file(&format!("{}_20251231235959123.ts", base("text")), b"no transport stream")
        .file(&format!("{}_latest.ts", base("a")), &stream())
        .file(&format!("{}_20260101000059123.jpg", base("a")), &stream())
        .file(&format!("{}__uid_s_a_20260101000059123.ts", job().stem), &stream())
        .file("ffff_daily-standup__uid_s_a__uid_e_av_20260101000059123.ts", &stream());
    filling.entries.extend([
        unbelievable(2, &|entry| entry.name = "other.ts".into()),
        unbelievable(3, &|entry| entry.start = MediaTime(i64::MAX)),
        unbelievable(4, &|entry| entry.duration90k = -1),
        unbelievable(5, &|entry| entry.n = u32::MAX),
        unbelievable(6, &|entry| entry.bytes += 1),
        (entry("a", 7).name, "{".into()),
    ]);
    let manifest = entered(known(0..2), &filling.storage(false), None).await;
    let by_content = (2..8).map(|n| (n, true, true, false)).collect();
    assert_eq!(of(&manifest, "a"), [stored(0..2), by_content].concat(), "what is said of them is not believed, they are");
    assert_eq!((manifest.ledger.len(), manifest.playlists.len()), (8, 1));
    assert!(manifest.ledger.iter().all(|entry| entry.start.0 <= 7 * 90_000 && entry.duration90k > 0), "{:?}", manifest.ledger);
}

#[tokio::test]
async fn what_an_older_attempt_stored_late_is_left_alone() {
    let newer = LedgerEntry { epoch: 2, ..entry("a", 3) };
    let filling = Filling::new().with(&entries("a", 0..3)).with(&[newer]);
    let manifest = entered(Manifest { epoch: 2, ..known(0..2) }, &filling.storage(false), None).await;
    assert_eq!(of(&manifest, "a"), [stored(0..2), vec![(3, true, true, false)]].concat());
}

#[tokio::test]
async fn a_storage_that_refuses_to_list_leaves_what_the_manifest_says() {
    let filling = Filling::new().with(&entries("a", 0..5));
    assert_eq!(entered(known(0..2), &filling.storage(true), None).await, known(0..2));
}

#[tokio::test]
async fn without_a_manifest_everything_is_entered() {
    let filling = Filling::new().with(&entries("a", 1..4));
    let manifest = entered(Manifest::default(), &filling.storage(false), None).await;
    assert_eq!(manifest.epoch_time, Some(EPOCH));
    assert_eq!(of(&manifest, "a").iter().map(|entry| entry.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(entered(Manifest::default(), &Filling::new().storage(false), None).await, Manifest::default());
}

#[tokio::test]
async fn either_storage_may_have_it() {
    let (primary, backup) = (Filling::new().with(&entries("a", [0, 1, 2, 4])), Filling::new().with(&entries("a", [2, 3])));
    let manifest = entered(known(0..2), &primary.storage(false), Some(&backup.storage(false))).await;
    let both = vec![(2, false, true, true), (3, false, false, true), (4, false, true, false)];
    assert_eq!(of(&manifest, "a"), [stored(0..2), both].concat());
    let alone = entered(known(0..2), &primary.storage(true), Some(&backup.storage(false))).await;
    assert_eq!(of(&alone, "a"), [stored(0..2), vec![(2, false, false, true), (3, false, false, true)]].concat());
}

#[tokio::test]
async fn thousands_that_are_known_are_passed_over() {
    let empty = |filling: Filling, entries: Vec<LedgerEntry>| entries.iter().fold(filling, |filling, entry| filling.file(&entry.name, b""));
    let filling = empty(Filling::new(), entries("a", 0..3500)).with(&entries("a", 3500..3504)).with(&entries("z", 0..2));
    let store = filling.store(false);
    let manifest = entered(known(0..3500), &storage(store.clone()), None).await;
    assert_eq!((of(&manifest, "a").len(), of(&manifest, "z")), (3504, stored(0..2)));
    assert_eq!(store.looked_at.lock().expect("unharmed").len(), 6);
    let listings = store.listings.load(Ordering::Relaxed);
    assert!(listings <= 3, "{listings} listings");
}

#[test]
fn a_playlist_is_of_whom_its_name_says() {
    let person = ParticipantRecord { identity: "x".repeat(100), stays: vec![] };
    let manifest = Manifest { participants: vec![person.clone()], ..Manifest::default() };
    assert_eq!(identity(&job().stem, &base(&person.identity), &manifest), person.identity, "it is cut in the name");
    assert_eq!(identity(&job().stem, &base("ann@example.org ü"), &manifest), "ann@example.org ü");
}

//! The store protocol: what was closed, what is stored, which playlist may name what, and when the small objects are written.

use crate::playlist::PlaylistText;
use crate::segmenter::Finished;
use crate::{LedgerEntry, Manifest, OpId, Output, PlaylistKey, SegmentFacts, SegmentKey, StoreError, Tick};
use std::collections::BTreeMap;

/// Uploads under way at once: enough to fill a line, few enough to keep memory and order.
const MAX_UPLOADS: usize = 4;
const FIRST_RETRY_US: u64 = 500_000;
const LAST_RETRY_US: u64 = 30_000_000;
/// Smaller objects are put at every change.
const SMALL_BYTES: u64 = 20_000;
/// Larger ones when this many times their size of media was stored since ...
const GROWTH: u64 = 100;
/// ... or after this long.
const PUT_AT_LEAST_US: u64 = 300_000_000;
/// Ledger entries in a chunk; only the tail is part of the manifest object (media.md section 4).
const LEDGER_CHUNK: usize = 256;

#[derive(Debug)]
struct Waiting {
    entry: usize,
    attempts: u32,
    not_before: Tick,
}

/// One small object that is overwritten: at most one put in flight, later states coalesce.
#[derive(Debug, Default)]
struct Object {
    in_flight: Option<OpId>,
    dirty: bool,
    attempts: u32,
    not_before: Tick,
    last_put: Tick,
    media_bytes: u64,
}

#[derive(Debug)]
struct Listing {
    record: usize,
    entries: Vec<usize>,
    named: usize,
    text: PlaylistText,
    ended: bool,
    object: Object,
}

#[derive(Debug)]
pub(crate) struct Store {
    attempt: u32,
    target_seconds: u32,
    next_op: u64,
    closing: BTreeMap<OpId, (PlaylistKey, Finished)>,
    waiting: Vec<Waiting>,
    uploads: BTreeMap<OpId, Waiting>,
    listings: BTreeMap<PlaylistKey, Listing>,
    manifest: Object,
    /// Wishes are put at once, whatever the size.
    urgent: bool,
    pub(crate) failing: bool,
    pub(crate) superseded: bool,
}

fn backoff(attempts: u32) -> u64 {
    (FIRST_RETRY_US << attempts.min(10)).min(LAST_RETRY_US)
}

impl Object {
    /// When it is to be put; None: nothing new, or a put is under way.
    fn due(&self, size: u64, urgent: bool) -> Option<Tick> {
        if !self.dirty || self.in_flight.is_some() {
            return None;
        }
        let soon = urgent || size < SMALL_BYTES || self.media_bytes >= GROWTH * size;
        let at = if soon { self.not_before } else { self.last_put.after(PUT_AT_LEAST_US) };
        Some(at.max(self.not_before))
    }

    fn start(&mut self, now: Tick, op: OpId) {
        self.in_flight = Some(op);
        self.dirty = false;
        self.media_bytes = 0;
        self.last_put = now;
    }

    fn answered(&mut self, now: Tick, ok: bool) {
        self.in_flight = None;
        if ok {
            self.attempts = 0;
        } else {
            self.dirty = true;
            self.not_before = now.after(backoff(self.attempts));
            self.attempts += 1;
        }
    }

    fn settled(&self) -> bool {
        !self.dirty && self.in_flight.is_none()
    }
}

impl Store {
    pub(crate) fn new(attempt: u32, target_seconds: u32) -> Self {
        Self {
            attempt,
            target_seconds,
            next_op: 1,
            closing: BTreeMap::new(),
            waiting: Vec::new(),
            uploads: BTreeMap::new(),
            listings: BTreeMap::new(),
            manifest: Object::default(),
            urgent: false,
            failing: false,
            superseded: false,
        }
    }

    fn op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op - 1)
    }

    /// A playlist object; `record`: its place in the manifest. What the ledger already holds of it is taken over.
    pub(crate) fn add_playlist(&mut self, key: PlaylistKey, record: usize, manifest: &Manifest) {
        let name = &manifest.playlists[record].name;
        let entries: Vec<usize> = (0..manifest.ledger.len()).filter(|i| manifest.ledger[*i].playlist == *name).collect();
        for entry in &entries {
            let known = &manifest.ledger[*entry];
            if !known.stored && !known.lost {
                self.waiting.push(Waiting { entry: *entry, attempts: 0, not_before: Tick(0) });
            }
        }
        let text = PlaylistText::new(self.target_seconds);
        let listing = Listing { record, entries, named: 0, text, ended: false, object: Object::default() };
        self.listings.insert(key, listing);
        self.name_stored(key, manifest, 0);
    }

    pub(crate) fn close(&mut self, playlist: PlaylistKey, finished: Finished) -> Output {
        let op = self.op();
        let segment = SegmentKey { playlist, n: finished.n };
        let name = finished.name.clone();
        self.closing.insert(op, (playlist, finished));
        Output::CloseSegment { op, segment, name }
    }

    /// The file is complete (or the disk lost it): it enters the ledger. Returns the entry when it is lost.
    pub(crate) fn closed(&mut self, now: Tick, op: OpId, result: Result<SegmentFacts, String>, manifest: &mut Manifest) -> Option<usize> {
        let (playlist, finished) = self.closing.remove(&op)?;
        let lost = result.is_err();
        let facts = result.unwrap_or(SegmentFacts { bytes: 0, sha256: String::new() });
        let listing = self.listings.get_mut(&playlist)?;
        let entry = manifest.ledger.len();
        manifest.ledger.push(LedgerEntry {
            playlist: manifest.playlists[listing.record].name.clone(),
            n: finished.n,
            name: finished.name,
            start: finished.start,
            duration90k: finished.end.0 - finished.start.0,
            wall: finished.wall,
            bytes: facts.bytes,
            sha256: facts.sha256,
            etag: String::new(),
            stored: false,
            lost,
            discontinuity: finished.discontinuity,
            independent: finished.independent,
            epoch: self.attempt,
        });
        listing.entries.push(entry);
        if !lost {
            self.waiting.push(Waiting { entry, attempts: 0, not_before: now });
            return None;
        }
        self.manifest.dirty = true;
        self.name_stored(playlist, manifest, 0);
        Some(entry)
    }

    pub(crate) fn uploaded(&mut self, now: Tick, op: OpId, result: Result<crate::Stored, StoreError>, manifest: &mut Manifest) -> bool {
        let Some(mut upload) = self.uploads.remove(&op) else { return false };
        match result {
            Ok(stored) => {
                let entry = &mut manifest.ledger[upload.entry];
                entry.etag = stored.etag;
                entry.stored = true;
                self.failing = false;
                self.stored(upload.entry, manifest);
                return true;
            }
            Err(StoreError::Superseded) => self.superseded = true,
            Err(StoreError::Retryable(_) | StoreError::Refused(_)) => {
                self.failing = true;
                upload.not_before = now.after(backoff(upload.attempts));
                upload.attempts += 1;
                self.waiting.push(upload);
            }
        }
        false
    }

    fn stored(&mut self, entry: usize, manifest: &Manifest) {
        let (name, bytes) = (&manifest.ledger[entry].playlist, manifest.ledger[entry].bytes);
        self.manifest.dirty = true;
        self.manifest.media_bytes += bytes;
        let key = self.listings.iter().find(|(_, l)| manifest.playlists[l.record].name == *name).map(|(key, _)| *key);
        if let Some(key) = key {
            self.name_stored(key, manifest, bytes);
        }
    }

    /// Names what may be named: stored segments in media order, up to the first that is not stored yet.
    fn name_stored(&mut self, key: PlaylistKey, manifest: &Manifest, bytes: u64) {
        let Some(listing) = self.listings.get_mut(&key) else { return };
        listing.object.media_bytes += bytes;
        while let Some(index) = listing.entries.get(listing.named) {
            let entry = &manifest.ledger[*index];
            match (entry.stored, entry.lost) {
                (true, _) => {
                    listing.text.push(entry);
                    listing.object.dirty = true;
                }
                (false, true) => listing.text.skip(),
                (false, false) => break,
            }
            listing.named += 1;
        }
    }

    pub(crate) fn put_answered(&mut self, now: Tick, op: OpId, result: Result<(), StoreError>, manifest: &mut Manifest) {
        let ok = result.is_ok();
        let listing = self.listings.values_mut().find(|l| l.object.in_flight == Some(op));
        let object = match listing {
            Some(listing) => {
                let record = &mut manifest.playlists[listing.record];
                record.stored |= ok;
                record.ended |= ok && listing.ended && listing.object.settled_text();
                &mut listing.object
            }
            None if self.manifest.in_flight == Some(op) => &mut self.manifest,
            None => return,
        };
        object.answered(now, ok);
        self.failing = !ok;
        self.superseded |= result == Err(StoreError::Superseded);
    }

    pub(crate) fn manifest_changed(&mut self) {
        self.manifest.dirty = true;
    }

    /// The next thing to ask of the driver, if any is due.
    pub(crate) fn next_output(&mut self, now: Tick, manifest: &Manifest) -> Option<Output> {
        if self.superseded {
            return None;
        }
        self.next_upload(now, manifest).or_else(|| self.next_playlist(now, manifest)).or_else(|| self.next_manifest(now, manifest))
    }

    fn next_upload(&mut self, now: Tick, manifest: &Manifest) -> Option<Output> {
        if self.uploads.len() >= MAX_UPLOADS {
            return None;
        }
        let due = self.waiting.iter().enumerate().filter(|(_, w)| w.not_before <= now);
        let (index, _) = due.min_by_key(|(_, w)| w.entry)?;
        let waiting = self.waiting.remove(index);
        let entry = manifest.ledger[waiting.entry].clone();
        let key = self.listings.iter().find(|(_, l)| manifest.playlists[l.record].name == entry.playlist);
        let playlist = key.map_or(PlaylistKey(u32::MAX), |(key, _)| *key);
        let op = self.op();
        self.uploads.insert(op, waiting);
        let segment = SegmentKey { playlist, n: entry.n };
        Some(Output::Upload { op, segment, name: entry.name.clone(), entry })
    }

    fn next_playlist(&mut self, now: Tick, manifest: &Manifest) -> Option<Output> {
        let urgent = self.urgent;
        let due = self.listings.iter().find(|(_, l)| l.due(urgent).is_some_and(|at| at <= now));
        let key = *due?.0;
        let op = self.op();
        let listing = self.listings.get_mut(&key)?;
        listing.object.start(now, op);
        let name = manifest.playlists[listing.record].name.clone();
        Some(Output::PutPlaylist { op, name, body: listing.text.render(listing.ended) })
    }

    fn next_manifest(&mut self, now: Tick, manifest: &Manifest) -> Option<Output> {
        if self.manifest.due(manifest_size(manifest), self.urgent).is_none_or(|at| at > now) {
            return None;
        }
        let op = self.op();
        self.manifest.start(now, op);
        Some(Output::PutManifest { op })
    }

    pub(crate) fn next_wake(&self, manifest: &Manifest) -> Option<Tick> {
        let uploads = self.waiting.iter().map(|w| w.not_before).filter(|_| self.uploads.len() < MAX_UPLOADS);
        let playlists = self.listings.values().filter_map(|l| l.due(self.urgent));
        uploads.chain(playlists).chain(self.manifest.due(manifest_size(manifest), self.urgent)).min()
    }

    /// Nothing of media is on its way to storage any more.
    pub(crate) fn media_is_settled(&self) -> bool {
        self.closing.is_empty() && self.waiting.is_empty() && self.uploads.is_empty()
    }

    /// Gives up on what is not stored; returns the entries.
    pub(crate) fn give_up(&mut self, manifest: &mut Manifest) -> Vec<usize> {
        let uploads = std::mem::take(&mut self.uploads).into_values();
        let mut lost: Vec<usize> = self.waiting.drain(..).chain(uploads).map(|w| w.entry).collect();
        lost.sort_unstable();
        self.closing.clear();
        lost.iter().for_each(|entry| manifest.ledger[*entry].lost = true);
        let keys: Vec<PlaylistKey> = self.listings.keys().copied().collect();
        keys.into_iter().for_each(|key| self.name_stored(key, manifest, 0));
        lost
    }

    /// The last state of every playlist is written, with ENDLIST unless another attempt goes on.
    pub(crate) fn end_playlists(&mut self, now: Tick, endlist: bool) {
        self.urgent = true;
        (self.manifest.attempts, self.manifest.not_before) = (0, now);
        for listing in self.listings.values_mut().filter(|l| !l.text.is_empty()) {
            listing.object.dirty |= endlist;
            listing.ended = endlist;
            (listing.object.attempts, listing.object.not_before) = (0, now);
        }
    }

    pub(crate) fn playlists_are_settled(&self) -> bool {
        self.listings.values().all(|l| l.text.is_empty() || l.object.settled())
    }

    pub(crate) fn manifest_is_settled(&self) -> bool {
        self.manifest.settled()
    }

    pub(crate) fn playlist_record(&self, key: PlaylistKey) -> Option<usize> {
        self.listings.get(&key).map(|l| l.record)
    }
}

impl Object {
    /// The state that was just stored is the newest.
    fn settled_text(&self) -> bool {
        !self.dirty
    }
}

impl Listing {
    fn due(&self, urgent: bool) -> Option<Tick> {
        self.object.due(self.text.len(), urgent).filter(|_| !self.text.is_empty())
    }
}

/// About how long the manifest object is: its head and the tail of the ledger.
fn manifest_size(manifest: &Manifest) -> u64 {
    let tail = manifest.ledger.len() % LEDGER_CHUNK;
    let records = manifest.participants.len() + manifest.tracks.len() + manifest.gaps.len() + manifest.playlists.len();
    (tail * 400 + records * 250 + manifest.ledger.len() / LEDGER_CHUNK * 80) as u64
}

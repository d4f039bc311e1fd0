//! The store protocol: what was closed, what is stored, which playlist may name what, and when the small objects are written.

mod backup;
mod naming;
mod object;

use crate::playlist::PlaylistText;
use crate::segmenter::Finished;
use crate::{
    LEDGER_CHUNK, Ledger, LedgerEntry, Manifest, MediaTime, OpId, Output, Place, PlaylistKey, SegmentFacts, SegmentKey, StoreError, Tick,
};
use backup::{Backup, Tries};
use naming::Naming;
pub(crate) use object::backoff;
use object::{MANIFEST, Object};
use std::collections::BTreeMap;

/// Uploads under way at once: enough to fill a line, few enough to keep memory and order.
const MAX_UPLOADS: usize = 4;
/// Of these at most so many come back from the backup: what is recorded now goes first.
const MAX_MOVES: usize = 2;

#[derive(Debug)]
struct Waiting {
    entry: usize,
    /// The primary did not take it when it was tried there last.
    refused: bool,
    attempts: u32,
    not_before: Tick,
    /// It is in the backup and is to come to the primary too.
    moves: bool,
    to_backup: bool,
    tries: Tries,
}

impl Waiting {
    fn new(entry: usize, now: Tick) -> Self {
        Self { entry, refused: false, attempts: 0, not_before: now, moves: false, to_backup: false, tries: Tries::default() }
    }
}

/// Under way.
#[derive(Debug)]
struct Upload {
    waiting: Waiting,
    to: Place,
    /// Tells whether the primary takes segments again.
    probe: bool,
}

#[derive(Debug)]
struct Listing {
    key: PlaylistKey,
    entries: Vec<usize>,
    /// A later volume goes on: it ends with what it has.
    complete: bool,
    primary: Naming,
    backup: Naming,
    /// Of the entries, the first that went to the backup; until all are moved the primary names none from here on.
    backed_from: Option<usize>,
}

#[derive(Debug)]
pub(crate) struct Store {
    attempt: u32,
    target_seconds: u32,
    next_op: u64,
    closing: BTreeMap<OpId, (usize, Finished)>,
    waiting: Vec<Waiting>,
    uploads: BTreeMap<OpId, Upload>,
    /// By the playlist's place in the manifest.
    listings: BTreeMap<usize, Listing>,
    manifest: Object,
    backup: Backup,
    /// Wishes are put at once, whatever the size.
    urgent: bool,
    pub(crate) superseded: bool,
}

impl Store {
    pub(crate) fn new(attempt: u32, target_seconds: u32, backup: bool) -> Self {
        Self {
            attempt,
            target_seconds,
            next_op: 1,
            closing: BTreeMap::new(),
            waiting: Vec::new(),
            uploads: BTreeMap::new(),
            listings: BTreeMap::new(),
            manifest: Object::default(),
            backup: Backup::new(backup),
            urgent: false,
            superseded: false,
        }
    }

    fn empty_text(&self) -> PlaylistText {
        PlaylistText::new(self.target_seconds, self.attempt)
    }

    fn op(&mut self) -> OpId {
        self.next_op += 1;
        OpId(self.next_op - 1)
    }

    /// A playlist object, the newest volume of `key`; `record`: its place in the manifest. What the ledger already holds of it is taken over.
    pub(crate) fn add_playlist(&mut self, key: PlaylistKey, record: usize, manifest: &Manifest) {
        let name = &manifest.playlists[record].name;
        let entries = manifest.ledger.places(name);
        entries.iter().for_each(|entry| self.take_over(*entry, &manifest.ledger[*entry]));
        let earlier: Vec<usize> = self.listings.iter().filter(|(_, l)| l.key == key && !l.complete).map(|(record, _)| *record).collect();
        let backed_from = entries.iter().position(|entry| self.backup.alone.contains(entry));
        let primary = Naming::new(Place::Primary, backed_from.unwrap_or(entries.len()), self.empty_text());
        let backup = Naming::new(Place::Backup, entries.len(), self.empty_text());
        let listing = Listing { key, entries, complete: false, primary, backup, backed_from };
        self.listings.insert(record, listing);
        self.name_stored(record, manifest, 0);
        earlier.into_iter().for_each(|record| self.complete(record, manifest));
    }

    /// An entry of an earlier process.
    fn take_over(&mut self, entry: usize, known: &LedgerEntry) {
        match (known.stored, known.in_backup && self.backup.present) {
            (true, true) => self.backup.may_hold(entry),
            (false, true) => self.backup_took(Tick(0), entry),
            (false, false) if !known.lost && !known.in_backup => {
                // It may have been on its way to the backup.
                self.backup.may_hold(entry);
                self.waiting.push(Waiting::new(entry, Tick(0)));
            }
            (..) => {}
        }
    }

    /// No more segments than those that are closed or closing.
    fn complete(&mut self, record: usize, manifest: &Manifest) {
        if let Some(listing) = self.listings.get_mut(&record) {
            listing.complete = true;
        }
        self.name_stored(record, manifest, 0);
    }

    pub(crate) fn close(&mut self, playlist: PlaylistKey, finished: Finished) -> Option<Output> {
        let record = self.playlist_record(playlist)?;
        let op = self.op();
        let segment = SegmentKey { playlist, n: finished.n };
        let name = finished.name.clone();
        self.closing.insert(op, (record, finished));
        Some(Output::CloseSegment { op, segment, name })
    }

    /// The file is complete (or the disk lost it): it enters the ledger. Returns the entry when it is lost.
    pub(crate) fn closed(&mut self, now: Tick, op: OpId, result: Result<SegmentFacts, String>, manifest: &mut Manifest) -> Option<usize> {
        let (record, finished) = self.closing.remove(&op)?;
        let lost = result.is_err();
        let facts = result.unwrap_or(SegmentFacts { bytes: 0, sha256: String::new() });
        let key = self.listings.get(&record)?.key;
        // A next volume may have begun meanwhile: it goes on from here, too.
        for (volume, _) in self.listings.range(record..).filter(|(_, l)| l.key == key) {
            manifest.playlists[*volume].continuation = finished.continuation.clone();
        }
        let listing = self.listings.get_mut(&record)?;
        let entry = manifest.ledger.len();
        manifest.ledger.push(LedgerEntry {
            playlist: manifest.playlists[record].name.clone(),
            n: finished.n,
            name: finished.name,
            start: finished.start,
            duration90k: finished.end.0 - finished.start.0,
            wall: finished.wall,
            bytes: facts.bytes,
            sha256: facts.sha256,
            etag: String::new(),
            stored: false,
            in_backup: false,
            lost,
            discontinuity: finished.discontinuity,
            independent: finished.independent,
            epoch: self.attempt,
        });
        listing.entries.push(entry);
        if !lost {
            self.waiting.push(Waiting::new(entry, now));
            return None;
        }
        self.manifest_changed();
        self.name_stored(record, manifest, 0);
        Some(entry)
    }

    /// Returns the entry when it is lost for good.
    pub(crate) fn uploaded(
        &mut self,
        now: Tick,
        op: OpId,
        result: Result<crate::Stored, StoreError>,
        manifest: &mut Manifest,
    ) -> Option<usize> {
        let upload = self.uploads.remove(&op)?;
        let entry = upload.waiting.entry;
        match result {
            Ok(stored) => self.confirmed(now, entry, upload.to, stored.etag, manifest),
            Err(StoreError::Gone(_)) => {
                if upload.probe {
                    self.backup.probe_failed(now);
                }
                manifest.ledger[entry].lost = true;
                manifest.ledger[entry].in_backup = false;
                self.backup.lost(entry);
                self.settled(entry, manifest);
                return Some(entry);
            }
            Err(StoreError::Superseded) => self.superseded = true,
            Err(error) => self.try_again(now, upload, matches!(error, StoreError::Refused(_))),
        }
        None
    }

    fn confirmed(&mut self, now: Tick, entry: usize, at: Place, etag: String, manifest: &mut Manifest) {
        let known = &mut manifest.ledger[entry];
        known.etag = etag;
        match at {
            Place::Primary => {
                known.stored = true;
                self.backup.alone.remove(&entry);
                self.primary_took(now);
            }
            Place::Backup => {
                known.in_backup = true;
                self.backup_took(now, entry);
            }
        }
        self.settled(entry, manifest);
    }

    /// A segment is stored, or lost: its playlist may go on.
    fn settled(&mut self, entry: usize, manifest: &Manifest) {
        let (name, bytes) = (&manifest.ledger[entry].playlist, manifest.ledger[entry].bytes);
        self.manifest_changed();
        self.manifest.media_bytes += bytes;
        self.backup.manifest.media_bytes += bytes;
        let record = manifest.playlists.iter().position(|record| record.name == *name);
        if let Some(record) = record {
            self.name_stored(record, manifest, bytes);
        }
    }

    /// Names what may be named, at either storage.
    fn name_stored(&mut self, record: usize, manifest: &Manifest, bytes: u64) {
        let closing = self.closing.values().any(|(of, _)| *of == record);
        let Some(listing) = self.listings.get_mut(&record) else { return };
        let alone = &self.backup.alone;
        let backed = if alone.is_empty() { None } else { listing.entries.iter().position(|entry| alone.contains(entry)) };
        listing.backed_from = backed.map(|first| listing.backed_from.map_or(first, |before| before.min(first)));
        let (all, primary_to) = (listing.entries.len(), listing.backed_from);
        for (naming, end) in [(&mut listing.primary, primary_to.unwrap_or(all)), (&mut listing.backup, all)] {
            naming.object.media_bytes += bytes;
            naming.advance(&listing.entries[..end], &manifest.ledger, &self.backup.being_removed);
            if listing.complete && !closing && naming.named == all {
                naming.end();
            }
        }
    }

    pub(crate) fn put_answered(&mut self, now: Tick, op: OpId, result: Result<(), StoreError>, manifest: &mut Manifest) {
        let ok = result.is_ok();
        self.superseded |= result == Err(StoreError::Superseded);
        if self.removed(now, op, ok, manifest) {
            return;
        }
        let of = |object: &Object| object.in_flight == Some(op);
        let primary = self.listings.iter_mut().find(|(_, listing)| of(&listing.primary.object));
        if let Some((record, listing)) = primary {
            let record = &mut manifest.playlists[*record];
            record.stored |= ok;
            record.ended |= ok && listing.primary.ended && !listing.primary.object.dirty;
            listing.primary.object.answered(now, ok);
            if record.ended {
                listing.primary.text.forget();
            }
        } else if of(&self.manifest) {
            self.manifest.answered(now, ok);
        } else if of(&self.backup.manifest) {
            self.backup_manifest_answered(now, ok);
        } else if let Some(listing) = self.listings.values_mut().find(|listing| of(&listing.backup.object)) {
            listing.backup.object.answered(now, ok);
            self.backup.failing = !ok;
        }
    }

    pub(crate) fn manifest_changed(&mut self) {
        self.manifest.dirty = true;
        self.backup.manifest.dirty = true;
    }

    /// What is named or left out everywhere, and has no copy that is to go, is not looked at again.
    pub(crate) fn seal(&self, before: usize, ledger: &mut Ledger) {
        let namings =
            self.listings.values().flat_map(|l| [(l, &l.primary)].into_iter().chain(self.backup.present.then_some((l, &l.backup))));
        let unnamed = namings.filter_map(|(listing, naming)| listing.entries.get(naming.named).copied());
        ledger.seal(unnamed.chain(self.backup.first_copy()).fold(before, usize::min));
    }

    /// The next thing to ask of the driver, if any is due.
    pub(crate) fn next_output(&mut self, now: Tick, manifest: &Manifest) -> Option<Output> {
        if self.superseded {
            return None;
        }
        let primary = self.next_upload(now, manifest).or_else(|| self.next_playlist(now, manifest));
        primary.or_else(|| self.next_manifest(now, manifest)).or_else(|| self.next_for_backup(now, manifest))
    }

    fn next_upload(&mut self, now: Tick, manifest: &Manifest) -> Option<Output> {
        if self.uploads.len() >= MAX_UPLOADS {
            return None;
        }
        let due = self.waiting.iter().enumerate().filter(|(_, w)| self.ready(w).is_some_and(|at| at <= now));
        // A move that failed lets the others go first: it may be alone in that.
        let (index, _) = due.min_by_key(|(_, w)| (w.moves, if w.moves { w.attempts } else { 0 }, w.entry))?;
        let waiting = self.waiting.swap_remove(index);
        let to = self.destination(now, &waiting);
        let probe = to == Place::Primary && self.backup.primary_is_away();
        match to {
            Place::Primary if probe => self.backup.probe(),
            Place::Primary => {}
            Place::Backup => self.backup.may_hold(waiting.entry),
        }
        let entry = manifest.ledger[waiting.entry].clone();
        let record = manifest.playlists.iter().position(|record| record.name == entry.playlist);
        let listing = record.and_then(|record| self.listings.get(&record));
        let playlist = listing.map_or(PlaylistKey(u32::MAX), |l| l.key);
        let (op, moves) = (self.op(), waiting.moves);
        self.uploads.insert(op, Upload { waiting, to, probe });
        let segment = SegmentKey { playlist, n: entry.n };
        let name = entry.name.clone();
        Some(if moves { Output::Move { op, name, entry } } else { Output::Upload { op, segment, name, entry, to } })
    }

    fn next_playlist(&mut self, now: Tick, manifest: &Manifest) -> Option<Output> {
        let urgent = self.urgent;
        let due = self.listings.iter().find(|(_, l)| l.primary.due(urgent).is_some_and(|at| at <= now));
        let record = *due?.0;
        let op = self.op();
        let primary = &mut self.listings.get_mut(&record)?.primary;
        primary.object.start(now, op);
        let name = manifest.playlists[record].name.clone();
        Some(Output::PutPlaylist { op, name, body: primary.text.render(primary.ended), to: Place::Primary })
    }

    fn next_manifest(&mut self, now: Tick, manifest: &Manifest) -> Option<Output> {
        self.manifest_due(manifest).filter(|at| *at <= now)?;
        let op = self.op();
        self.manifest.start(now, op);
        Some(Output::PutManifest { op, to: Place::Primary })
    }

    fn manifest_due(&self, manifest: &Manifest) -> Option<Tick> {
        self.manifest.due(manifest_size(manifest, &self.backup), &MANIFEST, self.urgent || self.wants_to_clear())
    }

    pub(crate) fn next_wake(&self, manifest: &Manifest) -> Option<Tick> {
        let room = self.uploads.len() < MAX_UPLOADS;
        let uploads = self.waiting.iter().filter(|_| room).filter_map(|w| self.ready(w));
        let playlists = self.listings.values().filter_map(|l| l.primary.due(self.urgent));
        uploads.chain(playlists).chain(self.manifest_due(manifest)).chain(self.backup_wake(manifest)).min()
    }

    /// The time for it is short from now on: what failed is tried again at once, and the pauses begin anew.
    pub(crate) fn hurry(&mut self, now: Tick) {
        for waiting in self.waiting.iter_mut().chain(self.uploads.values_mut().map(|upload| &mut upload.waiting)) {
            (waiting.attempts, waiting.not_before) = (0, now);
        }
        for listing in self.listings.values_mut() {
            listing.primary.object.hurry(now);
            listing.backup.object.hurry(now);
        }
        self.manifest.hurry(now);
        self.backup.hurry(now);
    }

    /// What came from then on is needed to write again the segments that the disk has not confirmed.
    pub(crate) fn closing_from(&self) -> Option<MediaTime> {
        self.closing.values().map(|(_, finished)| finished.needs_from).min()
    }

    /// Something that the primary refused is still not taken; what else goes through meanwhile does not hide it.
    pub(crate) fn is_failing(&self) -> bool {
        let objects = self.listings.values().map(|listing| &listing.primary.object).chain([&self.manifest]);
        self.on_their_way().any(|waiting| waiting.refused) || objects.into_iter().any(|object| object.refused)
    }

    fn on_their_way(&self) -> impl Iterator<Item = &Waiting> {
        self.waiting.iter().chain(self.uploads.values().map(|upload| &upload.waiting))
    }

    /// Every segment is in one of the storages.
    pub(crate) fn media_is_stored(&self) -> bool {
        self.closing.is_empty() && self.on_their_way().all(|waiting| waiting.moves)
    }

    /// And nothing has to be moved to the primary.
    pub(crate) fn media_is_settled(&self) -> bool {
        self.media_is_stored() && self.backup.alone.is_empty()
    }

    /// Segments are in the backup and nowhere else.
    pub(crate) fn is_backed_up(&self) -> bool {
        !self.backup.alone.is_empty()
    }

    /// Objects go to the backup now.
    pub(crate) fn uses_backup(&self) -> bool {
        self.backup.primary_is_away() || self.is_backed_up()
    }

    /// Neither of the two takes what it is given.
    pub(crate) fn both_fail(&self) -> bool {
        self.backup.failing && (self.is_failing() || self.backup.primary_is_away())
    }

    /// Gives up on what no storage has taken; returns the entries. What is in the backup stays there.
    pub(crate) fn give_up(&mut self, manifest: &mut Manifest) -> Vec<usize> {
        let uploads = std::mem::take(&mut self.uploads).into_values().map(|upload| upload.waiting);
        let given_up = self.waiting.drain(..).chain(uploads).filter(|waiting| !waiting.moves);
        let mut lost: Vec<usize> = given_up.map(|waiting| waiting.entry).collect();
        lost.sort_unstable();
        self.closing.clear();
        for entry in &lost {
            manifest.ledger[*entry].lost = true;
            self.backup.lost(*entry);
        }
        let records: Vec<usize> = self.listings.keys().copied().collect();
        records.into_iter().for_each(|record| self.name_stored(record, manifest, 0));
        lost
    }

    /// The last state of every playlist is written, with ENDLIST unless another attempt goes on.
    pub(crate) fn end_playlists(&mut self, now: Tick, endlist: bool) {
        self.urgent = true;
        self.manifest.hurry(now);
        self.backup.manifest.hurry(now);
        for listing in self.listings.values_mut() {
            for naming in [&mut listing.primary, &mut listing.backup] {
                if endlist {
                    naming.end();
                }
                naming.object.hurry(now);
            }
        }
    }

    /// Nothing has to be waited for: of a playlist whose segments are in the backup, a primary that is away need not have the rest.
    pub(crate) fn playlists_are_settled(&self) -> bool {
        let away = self.is_failing() || self.backup.primary_is_away();
        self.playlists_are_stored() && self.listings.values().all(|l| l.primary.settled() || (away && self.is_backed(l)))
    }

    /// Of every playlist the storage that has the newest of it has the last state.
    pub(crate) fn playlists_are_stored(&self) -> bool {
        self.listings.values().all(|l| if self.is_backed(l) { l.backup.settled() } else { l.primary.settled() })
    }

    pub(crate) fn manifest_is_settled(&self) -> bool {
        self.manifest.settled() && (self.backup.alone.is_empty() || self.backup.manifest.settled())
    }

    /// Nothing is left in the backup that is to go.
    pub(crate) fn backup_is_clear(&self) -> bool {
        self.backup.is_clear()
    }

    /// The newest volume of a playlist.
    pub(crate) fn playlist_record(&self, key: PlaylistKey) -> Option<usize> {
        self.listings.iter().rev().find(|(_, l)| l.key == key).map(|(record, _)| *record)
    }
}

/// About how long the manifest object is: its head and the tail of the ledger.
fn manifest_size(manifest: &Manifest, backup: &Backup) -> u64 {
    // What may still move keeps its chunk open.
    let settled = backup.first_copy().unwrap_or(manifest.ledger.len());
    let tail = manifest.ledger.len() - settled / LEDGER_CHUNK * LEDGER_CHUNK;
    let records = manifest.participants.len() + manifest.tracks.len() + manifest.gaps.len() + manifest.playlists.len();
    (tail * 400 + records * 250 + settled / LEDGER_CHUNK * 80) as u64
}

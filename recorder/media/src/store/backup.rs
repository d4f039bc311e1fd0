//! The backup storage: when an object goes there, when the primary is asked again, and what of the backup may go.
//!
//! * A segment goes to the backup when the primary has refused it [`REFUSALS`] times, or has not taken it for [`PATIENCE_US`]
//!   ([`HURRIED_PATIENCE_US`] once the recording has ended). If the primary has taken nothing else meanwhile it is *away*.
//! * While it is away segments go to the backup at once; one at a time is tried at the primary, with growing pauses.
//! * When the primary takes one again, what lies in the backup alone is copied to it.
//! * The backup is cleared when nothing is there alone any more and the primary's playlists and manifest say so: playlists first, then
//!   segments, the manifest last. So at any moment one of the two holds playlists that are whole.

use super::object::{MANIFEST, backoff};
use super::{Store, Upload, Waiting};
use crate::{Manifest, OpId, Output, Place, Removal, Tick};
use std::collections::{BTreeSet, VecDeque};

/// A refusal will not get better by itself, but a rotated Secret may lie between two of them.
const REFUSALS: u32 = 3;
/// The field's uploaders try again after 60 s; the spool holds many times that.
const PATIENCE_US: u64 = 60_000_000;
/// After the end the drain time-out counts.
const HURRIED_PATIENCE_US: u64 = 5_000_000;
const FIRST_PROBE_US: u64 = 5_000_000;
const LAST_PROBE_US: u64 = 60_000_000;
/// Segments of one order to remove.
const REMOVED_AT_ONCE: usize = 100;
/// What the backup will not let go by then does not hold up the end: about 15 s.
const REMOVAL_TRIES: u32 = 6;

/// What became of an upload at the primary so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tries {
    since: Option<Tick>,
    refusals: u32,
}

impl Tries {
    pub(super) fn failed(&mut self, now: Tick, refused: bool) {
        self.since.get_or_insert(now);
        self.refusals += u32::from(refused);
    }
}

#[derive(Debug)]
struct Away {
    probe_at: Tick,
    probes: u32,
    probing: bool,
}

#[derive(Debug)]
pub(super) struct Backup {
    /// There is one.
    pub(super) present: bool,
    /// The primary takes nothing.
    away: Option<Away>,
    patience_us: u64,
    /// When the primary took a segment last.
    taken: Option<Tick>,
    pub(super) failing: bool,
    /// Entries that are nowhere else.
    pub(super) alone: BTreeSet<usize>,
    /// Entries of which a copy is, or may be, in the backup.
    copies: BTreeSet<usize>,
    /// Those whose removal was ordered: gone, perhaps, whatever the answer is.
    pub(super) being_removed: BTreeSet<usize>,
    pub(super) manifest: super::object::Object,
    /// A manifest is, or may be, there.
    claimed: bool,
    /// It is ours: an older attempt is refused from then on.
    fenced: bool,
    removals: VecDeque<Removal>,
    removing: Option<(OpId, Removal)>,
    attempts: u32,
    not_before: Tick,
}

impl Backup {
    pub(super) fn new(present: bool) -> Self {
        Self {
            present,
            away: None,
            patience_us: PATIENCE_US,
            taken: None,
            failing: false,
            alone: BTreeSet::new(),
            copies: BTreeSet::new(),
            being_removed: BTreeSet::new(),
            manifest: super::object::Object::default(),
            claimed: false,
            fenced: false,
            removals: VecDeque::new(),
            removing: None,
            attempts: 0,
            not_before: Tick(0),
        }
    }

    pub(super) fn primary_is_away(&self) -> bool {
        self.away.is_some()
    }

    /// When the primary may be asked again; None: it is being asked.
    pub(super) fn probe_at(&self) -> Option<Tick> {
        self.away.as_ref().filter(|away| !away.probing).map(|away| away.probe_at)
    }

    pub(super) fn probe(&mut self) {
        if let Some(away) = &mut self.away {
            away.probing = true;
        }
    }

    pub(super) fn probe_failed(&mut self, now: Tick) {
        if let Some(away) = &mut self.away {
            let pause = (FIRST_PROBE_US << away.probes.min(10)).min(LAST_PROBE_US);
            *away = Away { probe_at: now.after(pause), probes: away.probes + 1, probing: false };
        }
    }

    pub(super) fn primary_took(&mut self, now: Tick) {
        self.taken = Some(now);
        self.away = None;
    }

    /// How long the primary may still be tried with this one.
    fn patience_left(&self, now: Tick, tries: Tries) -> u64 {
        self.patience_us.saturating_sub(now.since(tries.since.unwrap_or(now)))
    }

    /// Enough was tried; true: this one goes to the backup.
    fn gives_up(&mut self, now: Tick, tries: Tries) -> bool {
        let since = tries.since.unwrap_or(now);
        if !self.present || (tries.refusals < REFUSALS && self.patience_left(now, tries) > 0) {
            return false;
        }
        if self.away.is_none() && self.taken.is_none_or(|taken| taken < since) {
            self.away = Some(Away { probe_at: now, probes: 0, probing: false });
            self.probe_failed(now);
        }
        true
    }

    pub(super) fn hurry(&mut self, now: Tick) {
        self.patience_us = HURRIED_PATIENCE_US;
        if let Some(away) = &mut self.away {
            (away.probe_at, away.probes) = (now, 0);
        }
        self.manifest.hurry(now);
    }

    /// A copy may come into being there.
    pub(super) fn may_hold(&mut self, entry: usize) {
        if self.present {
            self.copies.insert(entry);
        }
    }

    /// It is needed again: nothing more is removed for now.
    fn holds_alone(&mut self, entry: usize) {
        self.copies.insert(entry);
        self.being_removed.remove(&entry);
        self.alone.insert(entry);
        self.removals.clear();
    }

    pub(super) fn first_copy(&self) -> Option<usize> {
        self.copies.first().copied()
    }

    /// No storage has it.
    pub(super) fn lost(&mut self, entry: usize) {
        self.copies.remove(&entry);
        self.alone.remove(&entry);
    }

    /// Nothing of it has to be waited for any more, or waiting is in vain.
    pub(super) fn is_clear(&self) -> bool {
        let idle = self.removals.is_empty() && self.removing.is_none() && self.copies.is_empty() && !self.is_claimed_in_vain();
        idle || !self.alone.is_empty() || self.attempts >= REMOVAL_TRIES
    }

    /// A manifest is there, and the primary takes segments.
    fn is_claimed_in_vain(&self) -> bool {
        self.claimed && self.taken.is_some()
    }

    pub(super) fn removes_playlist(&self, name: &str) -> bool {
        let all = self.removals.iter().chain(self.removing.iter().map(|(_, what)| what));
        all.into_iter().any(|what| matches!(what, Removal::Playlist(of) if of == name))
    }
}

impl Store {
    /// When an upload may go; None: something must happen first.
    pub(super) fn ready(&self, waiting: &Waiting) -> Option<Tick> {
        let probe = self.backup.probe_at();
        match (waiting.moves, self.backup.primary_is_away()) {
            (true, true) => probe,
            (true, false) => (self.moving() < super::MAX_MOVES).then_some(waiting.not_before),
            (false, true) if self.backup.failing => probe.into_iter().chain([waiting.not_before]).min(),
            (false, _) => Some(waiting.not_before),
        }
    }

    pub(super) fn destination(&self, now: Tick, waiting: &Waiting) -> Place {
        let probe = self.backup.probe_at().is_some_and(|at| at <= now);
        let primary = waiting.moves || probe || !(waiting.to_backup || self.backup.primary_is_away());
        if primary { Place::Primary } else { Place::Backup }
    }

    pub(crate) fn backup_is_claimed(&mut self) {
        (self.backup.claimed, self.backup.fenced) = (true, true);
    }

    fn moving(&self) -> usize {
        self.uploads.values().filter(|upload| upload.waiting.moves).count()
    }

    /// An upload failed; it is tried again, perhaps elsewhere.
    pub(super) fn try_again(&mut self, now: Tick, upload: Upload, refused: bool) {
        let Upload { mut waiting, to, probe } = upload;
        let mut pause = backoff(waiting.attempts);
        waiting.attempts += 1;
        match to {
            Place::Backup => {
                self.backup.failing = true;
                waiting.to_backup = false;
            }
            Place::Primary => {
                waiting.refused = true;
                waiting.tries.failed(now, refused);
                if probe {
                    self.backup.probe_failed(now);
                }
                // What is to be moved says nothing: it may be one object that the primary does not want.
                if !waiting.moves && self.backup.present {
                    pause = pause.min(self.backup.patience_left(now, waiting.tries));
                    waiting.to_backup = self.gives_up(now, waiting.tries);
                    // To the other one at once, unless that has failed before.
                    pause = if waiting.to_backup && !self.backup.failing { 0 } else { pause };
                }
            }
        }
        waiting.not_before = now.after(pause);
        self.waiting.push(waiting);
    }

    /// This one goes to the backup; if the primary takes nothing at all, so does what waits for it.
    fn gives_up(&mut self, now: Tick, tries: Tries) -> bool {
        let away = self.backup.primary_is_away();
        let gives_up = self.backup.gives_up(now, tries);
        if !away && self.backup.primary_is_away() && !self.backup.failing {
            for waiting in self.waiting.iter_mut().filter(|waiting| !waiting.moves) {
                (waiting.attempts, waiting.not_before) = (0, now);
            }
        }
        gives_up || away
    }

    /// The primary takes segments: what waited for that need not.
    pub(super) fn primary_took(&mut self, now: Tick) {
        if self.backup.primary_is_away() {
            for waiting in &mut self.waiting {
                *waiting = Waiting { moves: waiting.moves, refused: waiting.refused, ..Waiting::new(waiting.entry, now) };
            }
        }
        self.backup.primary_took(now);
    }

    /// The backup has confirmed a segment.
    pub(super) fn backup_took(&mut self, now: Tick, entry: usize) {
        self.backup.failing = false;
        self.backup.holds_alone(entry);
        self.backup.manifest.dirty = true;
        self.waiting.push(Waiting { moves: true, ..Waiting::new(entry, now) });
    }

    /// The backup has answered about the manifest.
    pub(super) fn backup_manifest_answered(&mut self, now: Tick, ok: bool) {
        self.backup.manifest.answered(now, ok);
        self.backup.fenced |= ok;
        self.backup.failing = !ok;
    }

    /// The backup's next playlist, manifest or removal.
    pub(super) fn next_for_backup(&mut self, now: Tick, manifest: &Manifest) -> Option<Output> {
        if !self.backup.present {
            return None;
        }
        self.next_backup_playlist(now, manifest).or_else(|| self.next_backup_manifest(now, manifest)).or_else(|| {
            self.begin_clearing(manifest);
            self.next_removal(now)
        })
    }

    fn next_backup_playlist(&mut self, now: Tick, manifest: &Manifest) -> Option<Output> {
        let due = |store: &Self, record: &usize| store.backup_playlist_due(*record, manifest).is_some_and(|at| at <= now);
        let record = *self.listings.keys().find(|record| due(self, record))?;
        let op = self.op();
        let listing = self.listings.get_mut(&record)?;
        listing.backup.object.start(now, op);
        let body = listing.backup.text.render(listing.backup.ended);
        Some(Output::PutPlaylist { op, name: manifest.playlists[record].name.clone(), body, to: Place::Backup })
    }

    /// Not before our epoch is there: an older attempt could write over it, or be written over.
    fn backup_playlist_due(&self, record: usize, manifest: &Manifest) -> Option<Tick> {
        let listing = self.listings.get(&record).filter(|listing| self.backup.fenced && self.is_backed(listing))?;
        listing.backup.due(self.urgent).filter(|_| !self.backup.removes_playlist(&manifest.playlists[record].name))
    }

    fn next_backup_manifest(&mut self, now: Tick, manifest: &Manifest) -> Option<Output> {
        self.backup_manifest_due(manifest).filter(|at| *at <= now)?;
        let op = self.op();
        self.backup.manifest.start(now, op);
        self.backup.claimed = true;
        Some(Output::PutManifest { op, to: Place::Backup })
    }

    fn backup_manifest_due(&self, manifest: &Manifest) -> Option<Tick> {
        let due = self.backup.manifest.due(super::manifest_size(manifest, &self.backup), &MANIFEST, self.urgent || !self.backup.fenced);
        due.filter(|_| !self.backup.alone.is_empty())
    }

    /// Something of this playlist is in the backup and nowhere else.
    pub(super) fn is_backed(&self, listing: &super::Listing) -> bool {
        !self.backup.alone.is_empty() && listing.entries.iter().any(|entry| self.backup.alone.contains(entry))
    }

    pub(super) fn wants_to_clear(&self) -> bool {
        let idle = self.backup.removals.is_empty() && self.backup.removing.is_none();
        idle && self.backup.alone.is_empty() && (self.backup.is_claimed_in_vain() || !self.backup.copies.is_empty())
    }

    /// Nothing is there alone, nothing is on its way there, and the primary's documents do without it.
    fn begin_clearing(&mut self, manifest: &Manifest) {
        let on_its_way = self.uploads.values().any(|upload| upload.to == Place::Backup)
            || self.listings.values().any(|listing| listing.backup.object.in_flight.is_some())
            || self.backup.manifest.in_flight.is_some()
            || self.backup.primary_is_away();
        let told = self.manifest.settled() && self.listings.values().all(|listing| listing.primary.settled());
        if !self.wants_to_clear() || on_its_way || !told {
            return;
        }
        let mut stored = Vec::new();
        for (record, listing) in &self.listings {
            let copied = |entries: &[usize]| entries.iter().copied().filter(|entry| self.backup.copies.contains(entry)).collect::<Vec<_>>();
            let (all, named) = (copied(&listing.entries), copied(&listing.entries[..listing.primary.named]));
            if all.is_empty() || all.len() != named.len() {
                continue;
            }
            self.backup.removals.push_back(Removal::Playlist(manifest.playlists[*record].name.clone()));
            stored.extend(named);
        }
        if stored.is_empty() && !self.backup.is_claimed_in_vain() {
            return;
        }
        let segments = stored.chunks(REMOVED_AT_ONCE).map(|entries| Removal::Segments(entries.to_vec()));
        self.backup.removals.extend(segments);
        if stored.len() == self.backup.copies.len() {
            self.backup.removals.push_back(Removal::Manifest);
        }
        self.backup.attempts = 0;
    }

    fn next_removal(&mut self, now: Tick) -> Option<Output> {
        if self.backup.removing.is_some() || self.backup.not_before > now {
            return None;
        }
        let what = self.backup.removals.pop_front()?;
        let op = self.op();
        // It may be gone even when the answer is that it is not.
        self.backup.fenced &= what != Removal::Manifest;
        if let Removal::Segments(entries) = &what {
            self.backup.being_removed.extend(entries);
        }
        self.backup.removing = Some((op, what.clone()));
        Some(Output::RemoveFromBackup { op, what })
    }

    /// True: it was the answer to a removal.
    pub(super) fn removed(&mut self, now: Tick, op: OpId, ok: bool, manifest: &mut Manifest) -> bool {
        let Some((_, what)) = self.backup.removing.take_if(|(removing, _)| *removing == op) else { return false };
        if !ok {
            self.backup.not_before = now.after(backoff(self.backup.attempts));
            self.backup.attempts += 1;
            self.backup.removals.push_front(what);
            return true;
        }
        self.backup.attempts = 0;
        match what {
            Removal::Segments(entries) => {
                for entry in entries {
                    self.backup.copies.remove(&entry);
                    self.backup.being_removed.remove(&entry);
                    manifest.ledger[entry].in_backup = false;
                }
                self.manifest_changed();
            }
            Removal::Playlist(name) => self.begin_playlist_anew(&name, manifest),
            Removal::Manifest => self.backup.claimed = false,
        }
        true
    }

    /// The playlist object is gone from the backup; one that comes later names what comes later.
    fn begin_playlist_anew(&mut self, name: &str, manifest: &Manifest) {
        let Some(record) = manifest.playlists.iter().position(|record| record.name == name) else { return };
        let text = self.empty_text();
        let Some(listing) = self.listings.get_mut(&record) else { return };
        let needed = listing.entries.iter().position(|entry| self.backup.alone.contains(entry));
        listing.backup.begin_anew(needed.unwrap_or(listing.backup.named), text);
        self.name_stored(record, manifest, 0);
    }

    pub(super) fn backup_wake(&self, manifest: &Manifest) -> Option<Tick> {
        let playlists = self.listings.keys().filter_map(|record| self.backup_playlist_due(*record, manifest));
        let removal = (self.backup.removing.is_none() && !self.backup.removals.is_empty()).then_some(self.backup.not_before);
        playlists.chain(self.backup_manifest_due(manifest)).chain(removal).min()
    }
}

//! Stills: when one is due, what it is called, and how it comes to storage. They are besides: nothing waits for one, and what storage does not take
//! is dropped, the oldest first.

use crate::store::backoff;
use crate::{Manifest, MediaTime, OpId, Output, SnapshotMark, SnapshotRecord, Source, StoreError, Tick, TrackKey, names};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// A picture this much behind its moment is none of it: nobody was to be seen then.
const LATE_90K: i64 = 5 * MediaTime::PER_SECOND;
/// So much waits for storage at most; what came first is dropped.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// Puts under way at once, of different people: segments go first.
const PUTS_AT_ONCE: usize = 2;

/// What a job says of snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotPlan {
    /// 5..=3600
    pub interval_seconds: u32,
    /// Of a composite: also of each camera on the canvas.
    pub per_participant: bool,
}

/// One picture that is to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Of a composite; None: the canvas. Of one person's playlist there is but one picture.
    pub camera: Option<TrackKey>,
    /// What its name begins with.
    pub base: String,
    /// The moment that it is of: a multiple of the interval.
    pub moment: MediaTime,
}

/// The moments of one picture.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moments {
    interval90k: i64,
    /// What was before is an earlier process'.
    since: MediaTime,
    last: Option<MediaTime>,
}

impl Moments {
    pub(crate) fn new(plan: SnapshotPlan, since: MediaTime) -> Self {
        Self { interval90k: i64::from(plan.interval_seconds.max(1)) * MediaTime::PER_SECOND, since, last: None }
    }

    /// The newest moment at `at`; None: that is long ago, or was not ours.
    pub(crate) fn newest(&self, at: MediaTime) -> Option<MediaTime> {
        let behind = at.0.rem_euclid(self.interval90k);
        Some(MediaTime(at.0 - behind)).filter(|moment| *moment >= self.since && behind < LATE_90K)
    }

    /// The moment that a picture at `at` is of, if none was taken of it yet.
    pub(crate) fn due(&self, at: MediaTime) -> Option<MediaTime> {
        self.newest(at).filter(|moment| self.last.is_none_or(|last| last < *moment))
    }

    pub(crate) fn taken(&mut self, moment: MediaTime) {
        self.last = self.last.max(Some(moment));
    }
}

/// A composite's.
#[derive(Debug)]
pub(crate) struct CanvasSnapshots {
    plan: SnapshotPlan,
    moments: Moments,
    stem: String,
    /// What names of each camera's begin with.
    bases: BTreeMap<TrackKey, String>,
}

impl CanvasSnapshots {
    pub(crate) fn new(plan: SnapshotPlan, since: MediaTime, stem: &str) -> Self {
        Self { plan, moments: Moments::new(plan, since), stem: stem.to_owned(), bases: BTreeMap::new() }
    }

    /// Of one person one camera and one share is shown at a time: they need no numbers.
    pub(crate) fn enters(&mut self, track: TrackKey, source: Source, escaped_identity: &str) {
        let kind = names::kind_suffix(source, true, 1);
        self.bases.insert(track, names::individual_base(&self.stem, escaped_identity, &kind));
    }

    /// What is wanted of a frame that shows these cameras.
    pub(crate) fn due(&self, at: MediaTime, cameras: &[TrackKey]) -> Vec<Snapshot> {
        let Some(moment) = self.moments.due(at) else { return Vec::new() };
        let canvas = Snapshot { camera: None, base: self.stem.clone(), moment };
        let shown = cameras.iter().filter(|_| self.plan.per_participant);
        let of = |track: &TrackKey| Some(Snapshot { camera: Some(*track), base: self.bases.get(track)?.clone(), moment });
        std::iter::once(canvas).chain(shown.filter_map(of)).collect()
    }

    pub(crate) fn taken(&mut self, moment: MediaTime) {
        self.moments.taken(moment);
    }
}

/// One camera's or share's, with a playlist of its own.
#[derive(Debug)]
pub(crate) struct CameraSnapshots {
    moments: Moments,
    base: String,
}

impl CameraSnapshots {
    pub(crate) fn new(plan: SnapshotPlan, since: MediaTime, playlist_base: &str) -> Self {
        Self { moments: Moments::new(plan, since), base: names::snapshot_base(playlist_base) }
    }

    /// If one is wanted of a picture at `at`: it is taken.
    pub(crate) fn take(&mut self, at: MediaTime) -> Option<Snapshot> {
        let moment = self.moments.due(at)?;
        self.moments.taken(moment);
        Some(Snapshot { camera: None, base: self.base.clone(), moment })
    }
}

impl SnapshotRecord {
    /// What became of it is known: of a journal nothing is to be done for it again.
    pub(crate) fn is_settled(&self, snapshot: &Snapshot) -> bool {
        self.marks.get(&snapshot.base).and_then(|mark| mark.settled).is_some_and(|settled| snapshot.moment <= settled)
    }

    /// Taken, and neither stored nor lost.
    pub(crate) const fn waiting(&self) -> u64 {
        self.taken.saturating_sub(self.stored).saturating_sub(self.lost)
    }

    fn mark(&mut self, snapshot: &Snapshot) -> &mut SnapshotMark {
        self.marks.entry(snapshot.base.clone()).or_default()
    }

    fn settle(&mut self, snapshot: &Snapshot, stored: bool) {
        let count = if stored { &mut self.stored } else { &mut self.lost };
        *count = count.saturating_add(1);
        let mark = self.mark(snapshot);
        mark.settled = mark.settled.max(Some(snapshot.moment));
    }
}

#[derive(Debug)]
struct Waiting {
    snapshot: Snapshot,
    picture: Bytes,
    op: Option<OpId>,
}

/// On their way to storage.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    /// The driver makes them.
    ordered: Vec<Snapshot>,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    last_op: u64,
    /// Refused since storage took one.
    refusals: u32,
    not_before: Tick,
    /// An earlier process had these in memory when it died; those that a journal brings again are taken off.
    orphans: u64,
}

impl Snapshots {
    /// Behind an earlier process. `replayed`: a journal follows.
    pub(crate) fn resume(&mut self, record: &mut SnapshotRecord, replayed: bool) {
        self.orphans = record.waiting();
        if !replayed {
            self.lose_orphans(record);
            record.marks.values_mut().for_each(|mark| mark.settled = mark.settled.max(mark.taken));
        }
    }

    fn lose_orphans(&mut self, record: &mut SnapshotRecord) {
        record.lost = record.lost.saturating_add(std::mem::take(&mut self.orphans));
    }

    /// The driver is told to make it. False: a journal brings it again, and it is known what became of it.
    pub(crate) fn order(&mut self, snapshot: &Snapshot, record: &SnapshotRecord) -> bool {
        let is_new = !record.is_settled(snapshot);
        self.ordered.extend(is_new.then(|| snapshot.clone()));
        is_new
    }

    /// `picture`: None: it could not be made.
    pub(crate) fn take(&mut self, snapshot: Snapshot, picture: Option<Bytes>, record: &mut SnapshotRecord) {
        self.ordered.retain(|ordered| *ordered != snapshot);
        if record.is_settled(&snapshot) {
            return;
        }
        let mark = record.mark(&snapshot);
        let known = mark.taken.is_some_and(|taken| snapshot.moment <= taken);
        mark.taken = mark.taken.max(Some(snapshot.moment));
        match known {
            true => self.orphans = self.orphans.saturating_sub(1),
            false => record.taken = record.taken.saturating_add(1),
        }
        let Some(picture) = picture else { return record.settle(&snapshot, false) };
        self.bytes += picture.len();
        self.waiting.push_back(Waiting { snapshot, picture, op: None });
        while self.bytes > WAITING_BYTES_MAX {
            let Some(oldest) = self.waiting.iter().position(|waiting| waiting.op.is_none()) else { break };
            self.forget(oldest).into_iter().for_each(|dropped| record.settle(&dropped, false));
        }
    }

    fn forget(&mut self, place: usize) -> Option<Snapshot> {
        let Waiting { snapshot, picture, .. } = self.waiting.remove(place)?;
        self.bytes -= picture.len();
        Some(snapshot)
    }

    /// The oldest that may go; of one base one after the other, so that what is settled of it is settled in order.
    fn next(&self) -> Option<usize> {
        let under_way: Vec<&str> = self.waiting.iter().filter(|w| w.op.is_some()).map(|w| w.snapshot.base.as_str()).collect();
        let at_once = if self.refusals > 0 { 1 } else { PUTS_AT_ONCE };
        let is_free = |w: &Waiting| w.op.is_none() && !under_way.contains(&w.snapshot.base.as_str());
        (under_way.len() < at_once).then(|| self.waiting.iter().position(is_free)).flatten()
    }

    pub(crate) fn next_wake(&self) -> Option<Tick> {
        self.next().map(|_| self.not_before)
    }

    pub(crate) fn next_output(&mut self, now: Tick, manifest: &Manifest) -> Option<Output> {
        let (place, epoch) = self.next().filter(|_| now >= self.not_before).zip(manifest.epoch_time)?;
        self.last_op += 1;
        let op = OpId(self.last_op);
        let waiting = &mut self.waiting[place];
        waiting.op = Some(op);
        let name = names::snapshot_name(&waiting.snapshot.base, names::wall_at(epoch, waiting.snapshot.moment));
        Some(Output::PutSnapshot { op, name, picture: waiting.picture.clone() })
    }

    /// Storage's answer.
    pub(crate) fn answered(&mut self, now: Tick, op: OpId, result: &Result<(), StoreError>, record: &mut SnapshotRecord) {
        let Some(place) = self.waiting.iter().position(|waiting| waiting.op == Some(op)) else { return };
        match result {
            Ok(()) => {
                self.refusals = 0;
                self.forget(place).into_iter().for_each(|snapshot| record.settle(&snapshot, true));
            }
            Err(_) => {
                self.waiting[place].op = None;
                self.not_before = now.after(backoff(self.refusals));
                self.refusals += 1;
            }
        }
    }

    /// The next try is at once.
    pub(crate) fn hurry(&mut self, now: Tick) {
        (self.refusals, self.not_before) = (0, now);
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.ordered.is_empty()
    }

    /// Nothing more is waited for.
    pub(crate) fn give_up(&mut self, record: &mut SnapshotRecord) {
        for ordered in std::mem::take(&mut self.ordered) {
            self.take(ordered, None, record);
        }
        while let Some(dropped) = self.forget(0) {
            record.settle(&dropped, false);
        }
        self.lose_orphans(record);
    }
}

#[cfg(test)]
mod tests;

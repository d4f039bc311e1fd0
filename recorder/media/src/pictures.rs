//! A playlist's pictures on their way to the segmenter, in order of time: some are ready, some the driver transcodes meanwhile.

use crate::canvas::Scene;
use crate::decode_times::Order;
use crate::stage::Visual;
use crate::{Codec, ComposedPicture, Encoding, GapReason, MediaTime, OpId, Snapshot, SourceUnit, TrackKey, Transcoded, UnitMark, VideoOp};
use bytes::Bytes;
use std::collections::VecDeque;

const SECOND: i64 = MediaTime::PER_SECOND;
/// Operations of one playlist that are unanswered at a time: enough that the transcoder never waits for the session, few enough that
/// what waits does so encoded (a decoded 720p picture is 1.4 MB).
pub const MAX_UNANSWERED_PICTURES: usize = 4;
/// This much may wait for the transcoder (media.md section 6); what comes then is left out ...
const FULL_90K: i64 = 60 * SECOND;
const FULL_BYTES: usize = 32 << 20;
/// ... until the transcoder has worked off half of it and a key frame comes.
const HALF_90K: i64 = FULL_90K / 2;
const HALF_BYTES: usize = FULL_BYTES / 2;
/// Overloaded no more: everything came through since, and no more than this waits.
const RECOVERED_90K: i64 = 10 * SECOND;

/// Pictures of one format follow each other without a discontinuity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Filler,
    /// As it came.
    Passed((u32, u32)),
    /// From our encoder; codecs differ in colour, too.
    Transcoded(Codec, (u32, u32)),
    /// A canvas of this size.
    Composed((u32, u32)),
}

/// A publisher's access unit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Provenance {
    /// The track record that counts it.
    pub record: usize,
    pub unit: UnitMark,
    /// The key frame that it can be decoded from.
    pub key_at: MediaTime,
    /// Its track was replayed: it may be counted already.
    pub replayed: bool,
}

/// What has to be there to write a picture again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// Everything that came since: its key frame.
    pub from: MediaTime,
    /// The one unit that it is; None: a composite's.
    pub unit: Option<UnitMark>,
}

impl From<&Provenance> for Needs {
    fn from(of: &Provenance) -> Self {
        Self { from: of.key_at, unit: Some(of.unit) }
    }
}

#[derive(Debug)]
pub(crate) enum Ready {
    Picture {
        order: Order,
        key: bool,
        format: Format,
        data: Bytes,
        /// None: filler.
        needs: Option<Needs>,
        /// What it shows for the first time.
        of: Vec<Provenance>,
        /// In a finished segment of an earlier process already: decoded for the sake of what follows.
        again: bool,
    },
    /// Shows nothing, but is in the recording all the same.
    Hidden {
        of: Provenance,
        again: bool,
    },
    /// A composite's frame that is in the recording.
    Known(MediaTime),
    Missing(GapReason),
    End,
}

/// An access unit that waits for the transcoder or is in it.
#[derive(Debug)]
pub(crate) struct Source {
    pub track: TrackKey,
    pub of: Provenance,
    pub codec: Codec,
    pub key: bool,
    pub rotation: u16,
    pub force_key: bool,
    /// As [`Ready::Picture`].
    pub again: bool,
    pub data: Bytes,
    pub snapshot: Option<Snapshot>,
}

/// A frame of a composite, likewise.
#[derive(Debug, Default)]
pub(crate) struct Composing {
    pub units: Vec<(TrackKey, SourceUnit)>,
    pub scene: Option<Scene<Visual>>,
    /// None: it is in the recording already.
    pub encoding: Option<Encoding>,
    pub force_key: bool,
    pub of: Vec<(TrackKey, Provenance)>,
    pub needs_from: MediaTime,
    pub snapshots: Vec<Snapshot>,
}

#[derive(Debug)]
enum Unit {
    Ready(Ready),
    Waiting(Source),
    WaitingFrame(Box<Composing>),
    UnderWay { op: OpId, track: TrackKey, of: Provenance, codec: Codec, again: bool },
    FrameUnderWay { op: OpId, of: Vec<(TrackKey, Provenance)>, needs_from: MediaTime, again: bool },
}

impl Unit {
    fn is_under_way(&self, answered: OpId) -> bool {
        matches!(self, Self::UnderWay { op, .. } | Self::FrameUnderWay { op, .. } if *op == answered)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acceptance {
    Accepted,
    /// Left out: the transcoder is too far behind.
    Full,
    /// Left out, and only a key frame is missing.
    WantsKey,
}

#[derive(Debug, Default)]
pub(crate) struct Pictures {
    units: VecDeque<(MediaTime, Unit)>,
    /// Units before this index were looked at by [`Self::take_ops`].
    looked_at: usize,
    unanswered: usize,
    waiting_bytes: usize,
    /// Frames of a composite are at most this far from each other, if none is left out.
    apart90k: i64,
    last_op: u64,
    /// The driver has a transcoder for this playlist.
    running: bool,
    /// It may go when nothing waits for it.
    retired: bool,
    leaving_out: bool,
    overloaded: bool,
    /// Less is asked of the transcoder than there would be.
    pub(crate) economises: bool,
}

impl Pictures {
    pub(crate) fn push(&mut self, at: MediaTime, ready: Ready) {
        self.units.push_back((at, Unit::Ready(ready)));
    }

    pub(crate) fn transcode(&mut self, at: MediaTime, source: Source) {
        self.waiting_bytes += source.data.len();
        self.retired = false;
        self.units.push_back((at, Unit::Waiting(source)));
    }

    pub(crate) fn compose(&mut self, at: MediaTime, frame: Composing) {
        self.waiting_bytes += bytes_of(&frame.units);
        self.retired = false;
        if let Some(Encoding { frames_per_second, .. }) = frame.encoding {
            self.apart90k = 2 * SECOND / i64::from(frames_per_second.max(1));
        }
        self.units.push_back((at, Unit::WaitingFrame(Box::new(frame))));
    }

    /// Nothing is to be transcoded for now.
    pub(crate) fn retire(&mut self) {
        self.retired = true;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Time of the next unit and whether it can be taken.
    pub(crate) fn front(&self) -> Option<(MediaTime, bool)> {
        self.units.front().map(|(at, unit)| (*at, matches!(unit, Unit::Ready(_))))
    }

    pub(crate) fn next_is_end(&self) -> bool {
        matches!(self.units.front(), Some((_, Unit::Ready(Ready::End))))
    }

    /// The key frame that the oldest unit needs.
    pub(crate) fn oldest(&self) -> Option<MediaTime> {
        let needed_from = |unit: &Unit| match unit {
            Unit::Ready(Ready::Picture { needs, .. }) => needs.map(|needs| needs.from),
            Unit::Ready(Ready::Hidden { of, .. }) | Unit::Waiting(Source { of, .. }) | Unit::UnderWay { of, .. } => Some(of.key_at),
            Unit::Ready(Ready::Known(from)) | Unit::FrameUnderWay { needs_from: from, .. } => Some(*from),
            Unit::WaitingFrame(frame) => Some(frame.needs_from),
            Unit::Ready(Ready::Missing(_) | Ready::End) => None,
        };
        self.units.front().map(|(at, unit)| needed_from(unit).unwrap_or(*at))
    }

    pub(crate) fn back(&self) -> Option<MediaTime> {
        self.units.back().map(|(at, _)| *at)
    }

    pub(crate) fn pop(&mut self) -> Option<(MediaTime, Ready)> {
        let (at, unit) = self.units.pop_front()?;
        match unit {
            Unit::Ready(ready) => {
                self.looked_at = self.looked_at.saturating_sub(1);
                Some((at, ready))
            }
            waiting => {
                self.units.push_front((at, waiting));
                None
            }
        }
    }

    /// What the transcoder can be given now.
    pub(crate) fn take_ops(&mut self) -> Vec<(OpId, VideoOp)> {
        let mut ops = Vec::new();
        while self.unanswered < MAX_UNANSWERED_PICTURES && self.looked_at < self.units.len() {
            let (at, unit) = &mut self.units[self.looked_at];
            self.looked_at += 1;
            let op = OpId(self.last_op + 1);
            match unit {
                Unit::Waiting(source) => {
                    let Source { track, of, codec, key, rotation, force_key, again, .. } = *source;
                    let (data, snapshots) = (std::mem::take(&mut source.data), source.snapshot.take().into_iter().collect());
                    self.waiting_bytes -= data.len();
                    ops.push((op, VideoOp::Transcode { codec, data, key, rotation, at: *at, force_key, snapshots }));
                    *unit = Unit::UnderWay { op, track, of, codec, again };
                }
                Unit::WaitingFrame(frame) => {
                    let Composing { units, scene, encoding, force_key, of, needs_from, snapshots } = std::mem::take(&mut **frame);
                    self.waiting_bytes -= bytes_of(&units);
                    ops.push((op, VideoOp::Compose { units, scene, encoding, at: *at, force_key, snapshots }));
                    *unit = Unit::FrameUnderWay { op, of, needs_from, again: encoding.is_none() };
                }
                _ => continue,
            }
            self.last_op = op.0;
            self.unanswered += 1;
            self.running = true;
        }
        if self.retired && self.running && self.looked_at == self.units.len() {
            self.running = false;
            self.last_op += 1;
            ops.push((OpId(self.last_op), VideoOp::Finish));
        }
        ops
    }

    /// The answer to one operation; returns the tracks whose publishers have to send a key frame before anything can be decoded again.
    pub(crate) fn answered(&mut self, answered: OpId, result: Transcoded) -> Vec<(TrackKey, MediaTime)> {
        let under_way = self.units.iter_mut().take(self.looked_at).find(|(_, unit)| unit.is_under_way(answered));
        let Some((at, unit)) = under_way else { return Vec::new() };
        let at = *at;
        self.unanswered -= 1;
        let (ready, stuck) = match unit {
            Unit::UnderWay { track, of, codec, again, .. } => {
                let stuck = if result == Transcoded::Undecodable { vec![*track] } else { Vec::new() };
                (transcoded(*of, *codec, *again, result), stuck)
            }
            Unit::FrameUnderWay { of, needs_from, again, .. } => composed(std::mem::take(of), *needs_from, *again, result),
            Unit::Ready(_) | Unit::Waiting(_) | Unit::WaitingFrame(_) => return Vec::new(),
        };
        *unit = Unit::Ready(ready);
        stuck.into_iter().map(|track| (track, at)).collect()
    }

    /// Nobody waits for the transcoder any longer.
    pub(crate) fn give_up(&mut self) {
        for (_, unit) in self.units.iter_mut().filter(|(_, unit)| !matches!(unit, Unit::Ready(_))) {
            *unit = Unit::Ready(Ready::Missing(GapReason::Overloaded));
        }
        (self.unanswered, self.waiting_bytes, self.looked_at) = (0, 0, self.units.len());
        self.retired = true;
    }

    /// Whether there is room for one more to transcode.
    pub(crate) fn accepts(&mut self, at: MediaTime, key: bool) -> Acceptance {
        let behind = self.behind(at);
        let full = behind > FULL_90K || self.waiting_bytes > FULL_BYTES;
        let half = behind <= HALF_90K && self.waiting_bytes <= HALF_BYTES;
        self.leaving_out = full || self.leaving_out && !(half && key);
        self.overloaded = self.leaving_out || self.overloaded && behind > RECOVERED_90K;
        match (self.leaving_out, half) {
            (false, _) => Acceptance::Accepted,
            (true, false) => Acceptance::Full,
            (true, true) => Acceptance::WantsKey,
        }
    }

    /// Whether a frame now and then is none too much while others are left out.
    pub(crate) fn may_hold(&self, at: MediaTime) -> bool {
        self.behind(at) <= FULL_90K + SECOND && self.waiting_bytes <= FULL_BYTES
    }

    /// How much of what may wait does, in hundredths.
    pub(crate) fn filled_percent(&self, at: MediaTime) -> i64 {
        let bytes = (self.waiting_bytes * 100 / FULL_BYTES) as i64;
        bytes.max(self.behind(at) * 100 / FULL_90K)
    }

    /// Until half of what waits is worked off.
    pub(crate) fn leaves_out(&self) -> bool {
        self.leaving_out && self.waits()
    }

    /// Something waits for the transcoder.
    fn waits(&self) -> bool {
        self.units.iter().any(|(_, unit)| !matches!(unit, Unit::Ready(_)))
    }

    /// Frames of a composite come at a rate: a hole between them is nothing to be made.
    pub(crate) fn behind(&self, at: MediaTime) -> i64 {
        let waiting = self.units.iter().filter(|(_, unit)| matches!(unit, Unit::WaitingFrame(_) | Unit::FrameUnderWay { .. }));
        let mut times = waiting.map(|(at, _)| at.0).peekable();
        if times.peek().is_none() {
            return self.behind_oldest(at);
        }
        let (mut sum, mut last) = (0, None::<i64>);
        for time in times.chain([at.0]) {
            sum += last.map_or(0, |last| (time - last).min(self.apart90k));
            last = Some(time);
        }
        sum
    }

    fn behind_oldest(&self, at: MediaTime) -> i64 {
        let oldest = self.units.iter().find(|(_, unit)| !matches!(unit, Unit::Ready(_)));
        oldest.map_or(0, |(oldest, _)| at.0 - oldest.0)
    }

    /// Pictures were left out, or are less than they should be, and the transcoder is still behind.
    pub(crate) fn is_overloaded(&self) -> bool {
        (self.overloaded || self.economises) && self.waits()
    }
}

fn bytes_of(units: &[(TrackKey, SourceUnit)]) -> usize {
    units.iter().map(|(_, unit)| unit.data.len()).sum()
}

fn transcoded(of: Provenance, codec: Codec, again: bool, result: Transcoded) -> Ready {
    match result {
        Transcoded::Picture { key, size, data } => {
            let (order, format) = (Order::default(), Format::Transcoded(codec, size));
            Ready::Picture { order, key, format, data, needs: Some(Needs::from(&of)), of: vec![of], again }
        }
        Transcoded::Hidden => Ready::Hidden { of, again },
        // What is missing of a finished segment was told when it was written.
        Transcoded::Undecodable | Transcoded::Composed { .. } if again => Ready::Hidden { of, again },
        Transcoded::Undecodable | Transcoded::Composed { .. } => Ready::Missing(GapReason::Undecodable),
    }
}

fn composed(of: Vec<(TrackKey, Provenance)>, needs_from: MediaTime, again: bool, result: Transcoded) -> (Ready, Vec<TrackKey>) {
    let (picture, stuck) = match result {
        Transcoded::Composed { picture, undecodable } => (picture, undecodable),
        _ => (None, Vec::new()),
    };
    let ready = match picture {
        _ if again => Ready::Known(needs_from),
        Some(ComposedPicture { key, size, data }) => {
            let (order, format, needs) = (Order::default(), Format::Composed(size), Some(Needs { from: needs_from, unit: None }));
            let of = of.into_iter().filter(|(track, _)| !stuck.contains(track)).map(|(_, of)| of).collect();
            Ready::Picture { order, key, format, data, needs, of, again }
        }
        None => Ready::Missing(GapReason::Undecodable),
    };
    (ready, stuck)
}

/// Where the segmenter will cut, known before it does: what it will cut at has yet to be encoded.
#[derive(Debug)]
pub(crate) struct CutPlan {
    segment90k: i64,
    /// A key frame this much before the wished length is the cut.
    early90k: i64,
    start: Option<MediaTime>,
    shown: bool,
}

impl CutPlan {
    pub(crate) fn new(segment90k: i64, early90k: i64) -> Self {
        Self { segment90k, early90k, start: None, shown: false }
    }

    pub(crate) fn begin(&mut self, at: MediaTime) {
        (self.start, self.shown) = (Some(at), false);
    }

    /// The next picture should be a key frame.
    pub(crate) fn is_due(&self, at: MediaTime) -> bool {
        self.start.is_none_or(|start| at.0 - start.0 >= self.segment90k)
    }

    pub(crate) fn picture(&mut self, at: MediaTime, key: bool, fresh: bool) {
        let long = self.start.is_none_or(|start| at.0 - start.0 >= self.segment90k - self.early90k);
        if (fresh && self.shown) || (key && long) {
            self.start = Some(at);
        }
        self.shown = true;
    }

    /// The segmenter had reasons of its own to cut.
    pub(crate) fn cut(&mut self, start: Option<MediaTime>) {
        self.start = self.start.max(start);
    }
}

//! The cameras of a composite: what each owes, and which of somebody's is shown.

use crate::segmenter::Effect;
use crate::stage::HOLD_SILENT;
use crate::{GapReason, MediaTime, ParticipantKey, TrackKey};
use std::collections::BTreeMap;

/// Somebody's cameras, or their screen shares (true).
pub(super) type Whose = (ParticipantKey, bool);

#[derive(Debug, Default)]
pub(super) struct Cameras {
    known: BTreeMap<TrackKey, Camera>,
    owners: BTreeMap<Whose, Owner>,
}

#[derive(Debug, Default)]
struct Owner {
    identity: String,
    /// In the order in which they came.
    tracks: Vec<TrackKey>,
    shown: Option<TrackKey>,
    /// Their place is there.
    has_place: bool,
}

/// What is known of a camera's pictures; not of those that wait.
#[derive(Debug, Default)]
pub(super) struct Camera {
    /// Unknown while pictures are mapped to moments before their publication.
    pub(super) whose: Option<Whose>,
    shown: bool,
    /// Its last picture, or since when it should send.
    pub(super) last: Option<MediaTime>,
    pub(super) key_at: Option<MediaTime>,
    /// Since when pictures are missing after a loss.
    pub(super) hole: Option<MediaTime>,
    /// Since when nothing of it can be decoded, as the driver has found: until a key frame.
    pub(super) stuck: Option<MediaTime>,
    pub(super) wanted: bool,
}

impl Camera {
    pub(super) fn is_shown(&self) -> bool {
        self.shown
    }

    /// Not while another one of the same person is.
    pub(super) fn may_be_shown(&self) -> bool {
        self.shown || self.whose.is_none()
    }

    /// What is missing until a picture at `at`, or until nothing is expected any more.
    /// `key`: a key frame, or the end.
    pub(super) fn holes(&mut self, at: MediaTime, key: bool, since: Option<MediaTime>) -> impl Iterator<Item = Effect> + use<> {
        let last = self.last.zip(since).filter(|_| self.wanted).map(|(last, since)| last.max(since));
        let silent = last.map(|last| MediaTime(last.0 + HOLD_SILENT));
        let stuck = if key { self.stuck.take() } else { None };
        let holes = [(self.hole.take(), GapReason::PacketLoss), (stuck, GapReason::Undecodable), (silent, GapReason::NoPicture)];
        let gap = move |(start, reason): (Option<MediaTime>, _)| {
            let start = start.filter(|start| *start < at)?;
            Some(Effect::Gap { start, end: at, reason })
        };
        holes.into_iter().filter_map(gap)
    }
}

impl Cameras {
    pub(super) fn enters(&mut self, track: TrackKey, whose: Whose, identity: &str) {
        self.of(track).whose = Some(whose);
        let owner = self.owners.entry(whose).or_default();
        identity.clone_into(&mut owner.identity);
        owner.tracks.retain(|known| *known != track);
        owner.tracks.push(track);
    }

    pub(super) fn of(&mut self, track: TrackKey) -> &mut Camera {
        self.known.entry(track).or_default()
    }

    pub(super) fn get_mut(&mut self, track: TrackKey) -> Option<&mut Camera> {
        self.known.get_mut(&track)
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Camera> {
        self.known.values_mut()
    }

    pub(super) fn remove(&mut self, track: TrackKey) -> Option<Camera> {
        let camera = self.known.remove(&track)?;
        if let Some(owner) = camera.whose.and_then(|whose| self.owners.get_mut(&whose)) {
            owner.tracks.retain(|known| *known != track);
            owner.shown = owner.shown.filter(|shown| *shown != track);
        }
        Some(camera)
    }

    pub(super) fn left(&mut self, participant: ParticipantKey) {
        self.owners.retain(|whose, _| whose.0 != participant);
    }

    /// The newest that is on is to be shown; else nothing changes: the last picture holds. If that is another one than before: which was, which is, and whose.
    pub(super) fn choose(&mut self, whose: Whose) -> Option<(Option<&mut Camera>, TrackKey, &str)> {
        let owner = self.owners.get_mut(&whose)?;
        let is_on = |track: &&TrackKey| self.known.get(track).is_some_and(|camera| camera.wanted);
        let first = owner.tracks.last().copied().filter(|_| !owner.has_place);
        let chosen = owner.tracks.iter().rev().find(is_on).copied().or(owner.shown).or(first)?;
        owner.has_place = true;
        let before = owner.shown.replace(chosen);
        if before == Some(chosen) {
            return None;
        }
        self.known.get_mut(&chosen)?.shown = true;
        let mut before = before.and_then(|before| self.known.get_mut(&before));
        before.iter_mut().for_each(|camera| camera.shown = false);
        Some((before, chosen, &owner.identity))
    }
}

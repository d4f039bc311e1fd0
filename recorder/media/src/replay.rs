//! Going on behind a process that died: a new session is handed what the room had sent to the old one, at the same times, and writes
//! what the old one had not finished.
//!
//! The driver journals every input for which [`Input::is_journalled`] says yes, beginning with a [`Replay`] of the moment, and may
//! forget what came before [`Session::needed_from`]. After a crash it drops the segments that the saved manifest does not know, gives
//! manifest and `Replay` to a new session, hands it the journal's inputs at their ticks, then [`Input::Restarted`] and
//! [`Input::Replayed`], and goes on with what happens now, numbering participants and tracks behind the journal's. Times of the roster are the same as before, so what the
//! manifest knows already is not entered twice; pictures and counts go on behind their [`UnitMark`]s.

use crate::lane::{LaneEvent, MediaClock};
use crate::room::{Person, Publication};
use crate::stage::Composition;
use crate::{Codec, GapReason, Input, MediaTime, Mode, Order, ParticipantKey, Session, Source, Subscription, Tick, TrackKey, TrackRecord};
use serde::{Deserialize, Serialize};

/// Media is mapped to at most this much before its arrival, and a little for the clocks to have learned.
const BEFORE_ARRIVAL_US: u64 = 3_000_000;

/// One access unit or sound packet of a track.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitMark {
    pub ssrc: u32,
    /// RTP timestamp.
    pub rtp: u32,
    pub at: MediaTime,
}

impl UnitMark {
    /// By RTP time where that can be compared: media times of two processes differ by what their clocks have learned.
    pub(crate) fn is_after(&self, other: &Self) -> bool {
        if self.ssrc == other.ssrc { (self.rtp.wrapping_sub(other.rtp) as i32) > 0 } else { self.at > other.at }
    }

    /// Moves to `unit` if it is news: always, but for what is told a second time.
    fn advance(mark: &mut Option<Self>, unit: Self, replaying: bool) -> bool {
        let news = !replaying || mark.is_none_or(|known| unit.is_after(&known));
        if news {
            *mark = Some(unit);
        }
        news
    }
}

/// The state of a room at a moment: what a journal begins with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// A moment and its media time; None before the first media.
    pub clock: Option<(Tick, MediaTime)>,
    pub connected: bool,
    pub spool_full: bool,
    pub subscription: Subscription,
    /// Of a composite.
    pub composition: Option<Composition>,
    /// Ends of what processes before this one recorded, if nothing has come since.
    pub restarts: Vec<MediaTime>,
    pub participants: Vec<ReplayParticipant>,
    pub tracks: Vec<ReplayTrack>,
    /// Publications before this moment: the next one's place in [`Manifest::tracks`](crate::Manifest::tracks).
    pub known_tracks: usize,
    /// Playlists that something was written of, without extension: of the others a camera may still be handed over.
    pub written: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayParticipant {
    pub participant: ParticipantKey,
    pub identity: String,
    pub escaped: String,
    /// When this stay began.
    pub since: MediaTime,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayTrack {
    pub track: TrackKey,
    pub participant: ParticipantKey,
    pub source: Source,
    pub codec: Codec,
    pub muted: bool,
    /// When it was published.
    pub since: MediaTime,
    /// The playlist that its media went to, without extension: a second camera's may be the only one by now.
    pub playlist: Option<String>,
    /// Its place in [`Manifest::tracks`](crate::Manifest::tracks).
    pub record: usize,
}

/// A replay under way.
#[derive(Clone, Debug)]
pub(crate) struct Replaying {
    /// The manifest knows everything before.
    as_of: MediaTime,
    /// What the job says now; until the journal's end it is what it said then.
    subscription: Subscription,
    composition: Option<Composition>,
    /// Of the next publication, its place among the manifest's tracks: they are told again in the same order.
    pub next_track: usize,
}

impl TrackRecord {
    pub(crate) fn receives(&mut self, units: u64, unit: UnitMark, replaying: bool) {
        if units > 0 && UnitMark::advance(&mut self.received, unit, replaying) {
            self.received_units += units;
        }
    }

    pub(crate) fn writes(&mut self, unit: UnitMark, replaying: bool) {
        if UnitMark::advance(&mut self.written, unit, replaying) {
            self.written_units += 1;
        }
    }

    pub(crate) fn lost(&mut self, packets: u64, before: UnitMark, replaying: bool) {
        if !replaying || self.received.is_none_or(|known| before.is_after(&known)) {
            self.lost += packets;
        }
    }
}

impl Input {
    /// What a journal holds: what the room sends, and what decides about what is taken of it. Not: answers, timers, the end.
    pub fn is_journalled(&self) -> bool {
        match self {
            Self::Connected
            | Self::Disconnected
            | Self::Joined { .. }
            | Self::Left { .. }
            | Self::Published { .. }
            | Self::Unpublished { .. }
            | Self::Muted { .. }
            | Self::Unmuted { .. }
            | Self::Packet { .. }
            | Self::SenderReport { .. }
            | Self::SpoolFull(_)
            | Self::Order(Order::Subscription(_) | Order::Compose(_))
            | Self::Restarted => true,
            Self::AudioEncoded { .. }
            | Self::VideoEncoded { .. }
            | Self::SegmentClosed { .. }
            | Self::LedgerKept { .. }
            | Self::Uploaded { .. }
            | Self::Put { .. }
            | Self::SnapshotTaken { .. }
            | Self::SnapshotPut { .. }
            | Self::Order(_)
            | Self::Replayed
            | Self::Wake => false,
        }
    }
}

impl Session {
    /// Whether a journal has to have it. What comes when the recording has been closed is none of it: a process that is killed before it has
    /// ended has recorded until then, and its successor begins the hole there.
    pub fn is_noted(&self, input: &Input) -> bool {
        let media = matches!(input, Input::Packet { .. } | Input::SenderReport { .. });
        input.is_journalled() && !self.is_closed() && (!media || self.accepts_media())
    }

    /// What a journal that begins now has to begin with.
    pub fn replay(&self) -> Replay {
        let present = self.people.iter().filter(|(_, person)| person.present);
        let participants = present.map(|(key, person)| ReplayParticipant {
            participant: *key,
            identity: person.identity.clone(),
            escaped: person.escaped.clone(),
            since: self.last_stay(&person.identity).unwrap_or(MediaTime(0)),
        });
        let tracks = self.tracks.iter().filter(|(_, track)| track.published).map(|(key, track)| ReplayTrack {
            track: *key,
            participant: track.participant,
            source: track.source,
            codec: track.codec,
            muted: track.muted,
            since: self.manifest.tracks[track.record].start,
            playlist: track.playlist.and_then(|playlist| Some(self.lanes.get(&playlist)?.base.clone())),
            record: track.record,
        });
        Replay {
            clock: self.time.map(|time| (time.at, time.base)),
            connected: self.connected,
            spool_full: self.spool_full,
            subscription: self.config.subscription.clone(),
            composition: self.composition().cloned(),
            restarts: self.restarts.clone(),
            participants: participants.collect(),
            tracks: tracks.collect(),
            known_tracks: self.manifest.tracks.len(),
            written: self.lanes.values().filter(|lane| lane.written).map(|lane| lane.base.clone()).collect(),
        }
    }

    fn last_stay(&self, identity: &str) -> Option<MediaTime> {
        let record = self.manifest.participants.iter().find(|p| p.identity == identity)?;
        record.stays.last().map(|(since, _)| *since)
    }

    /// What came before this moment is in segments that [`Self::manifest`] names, or shows in [`Self::replay`].
    pub fn needed_from(&self, now: Tick) -> Tick {
        let Some(time) = self.time else { return now };
        let streams = self.lanes.values().filter_map(|lane| lane.stream.as_ref()?.needed_from());
        let lines = self.people.iter().filter_map(|(key, person)| person.horizon.or_else(|| self.first_media_of(*key, time)));
        let oldest = streams.chain(lines).chain(self.store.closing_from()).min();
        let Some(oldest) = oldest else { return now };
        let at = time.at.0 as i64 + MediaTime(oldest.0 - time.base.0).as_micros();
        Tick((at.max(0) as u64).min(now.0).saturating_sub(BEFORE_ARRIVAL_US))
    }

    fn first_media_of(&self, participant: ParticipantKey, time: MediaClock) -> Option<MediaTime> {
        let theirs = self.tracks.values().filter(|track| track.participant == participant);
        theirs.filter_map(|track| track.first_packet).map(|first| time.media_at(first)).min()
    }

    /// Stands where the journal begins.
    /// `composition`: what the job says now.
    pub(crate) fn restore(&mut self, now: Tick, replay: Replay, composition: Option<Composition>) {
        let subscription = std::mem::replace(&mut self.config.subscription, replay.subscription);
        self.time = replay.clock.map(|(at, base)| MediaClock { at, base });
        (self.replaying, self.replayed) = (Some(Replaying { as_of: self.manifest.as_of, subscription, composition, next_track: 0 }), true);
        (self.connected, self.ever_connected) = (replay.connected, replay.connected);
        self.spool_full = replay.spool_full;
        self.restarts = replay.restarts.into_iter().filter(|at| !self.is_known_restart(*at)).collect();
        self.reopen_gaps(self.media_at(now));
        for person in replay.participants {
            let ReplayParticipant { participant, identity, escaped, since } = person;
            self.begin_stay(&identity, since);
            self.people.insert(participant, Person::new(identity, escaped));
        }
        for track in replay.tracks {
            let ReplayTrack { track, participant, source, codec, muted, since, playlist, record } = track;
            let whose = Some(participant).filter(|_| self.config.mode == Mode::Individual);
            let home = playlist.map(|base| self.lane(whose, base));
            self.replaying.iter_mut().for_each(|replaying| replaying.next_track = record);
            self.publish(since, track, home, Publication { participant, source, codec, muted });
        }
        self.replaying.iter_mut().for_each(|replaying| replaying.next_track = replay.known_tracks);
        self.lanes.values_mut().for_each(|lane| lane.written = replay.written.contains(&lane.base));
        self.update_idle(now);
    }

    /// Holes that had begun before the journal and had not ended.
    fn reopen_gaps(&mut self, at: MediaTime) {
        let open = self.manifest.gaps.iter().enumerate().filter(|(_, gap)| gap.open && gap.start < at);
        let kinds = open.filter_map(|(index, gap)| match gap.reason {
            GapReason::Disconnected if !self.connected => Some(("connection", index)),
            GapReason::DiskFull if self.spool_full => Some(("spool", index)),
            _ => None,
        });
        self.open_gaps = kinds.collect();
    }

    /// Counted before, by the process that wrote the manifest.
    pub(crate) fn is_known(&self, now: Tick) -> bool {
        self.replaying.as_ref().is_some_and(|replaying| self.media_at(now) < replaying.as_of)
    }

    /// The journal ends here: the process that wrote it died, and with it its connection. Who is still there will join again.
    pub(crate) fn restarted(&mut self, now: Tick) {
        self.expect_again(self.media_at(now));
        let present: Vec<ParticipantKey> = self.people.iter().filter(|(_, person)| person.present).map(|(key, _)| *key).collect();
        present.into_iter().for_each(|participant| self.left(now, participant));
        let at = self.media_at(now);
        self.lanes.values_mut().for_each(|lane| lane.events.push_back((at, LaneEvent::Pause)));
        self.close_gap(at, "connection");
        self.close_gap(at, "spool");
        self.manifest.gaps.iter_mut().for_each(|gap| gap.open = false);
        (self.connected, self.outage, self.spool_full) = (false, None, false);
        self.update_idle(now);
        self.returned = None;
        let died = self.time.map(|time| time.media_at(now));
        self.restarts.extend(died.filter(|at| !self.is_known_restart(*at) && !self.restarts.contains(at)));
        self.store.manifest_changed();
    }

    /// Who is on a composite's stage when a process ends gets the same place again, whomever the next one is told of first.
    pub(crate) fn expect_again(&mut self, at: MediaTime) {
        let mut order = Vec::new();
        for track in self.manifest.tracks.iter().filter(|track| track.end.is_none() && track.source != Source::ScreenShareAudio) {
            let whose = (track.identity.clone(), track.source == Source::ScreenShare);
            if !order.contains(&whose) {
                order.push(whose);
            }
        }
        if let (Mode::Composite(_), Some(lane)) = (&self.config.mode, self.lanes.values_mut().next()) {
            lane.events.push_back((at, LaneEvent::Expect(order)));
        }
    }

    pub(crate) fn end_replay(&mut self, now: Tick) {
        if let Some(replaying) = self.replaying.take() {
            self.config.subscription = replaying.subscription;
            replaying.composition.into_iter().for_each(|composition| self.compose(now, composition));
        }
    }

    pub(crate) fn composition(&self) -> Option<&Composition> {
        match &self.config.mode {
            Mode::Individual => None,
            Mode::Composite(composition) => Some(composition),
        }
    }

    /// Media has come since, and the hole is entered.
    fn is_known_restart(&self, at: MediaTime) -> bool {
        let holes = self.manifest.gaps.iter().filter(|gap| gap.reason == GapReason::RecorderRestarted && gap.playlist.is_none());
        holes.into_iter().any(|gap| (gap.start..gap.end()).contains(&at))
    }

    /// A hole that is entered again, by the same event, is the same hole.
    pub(crate) fn known_gap(&self, start: MediaTime, reason: GapReason) -> Option<usize> {
        self.manifest.gaps.iter().position(|gap| gap.start == start && gap.reason == reason && gap.playlist.is_none())
    }
}

/// Begins a span at `at`, unless one that began then is known.
pub(crate) fn begin_span(spans: &mut Vec<(MediaTime, Option<MediaTime>)>, at: MediaTime) {
    if !spans.iter().any(|(start, _)| *start == at) {
        spans.push((at, None));
    }
}

/// Ends the span that is open at `at`; one whose end is known keeps it.
pub(crate) fn end_span(spans: &mut [(MediaTime, Option<MediaTime>)], at: MediaTime) {
    if let Some((_, end @ None)) = spans.iter_mut().rev().find(|(start, _)| *start <= at) {
        *end = Some(at);
    }
}

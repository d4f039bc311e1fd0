//! Who is there and what they publish.

use crate::clock::ParticipantClock;
use crate::lane::{Lane, LaneEvent};
use crate::replay::{begin_span, end_span};
use crate::session::LONGEST_LINE_US;
use crate::track::{Track, is_video};
use crate::{
    Codec, Gap, GapReason, Input, MediaKinds, MediaTime, Mode, ParticipantKey, ParticipantRecord, PlaylistKey, Session, Source, Tick,
    TrackKey, TrackRecord, names,
};

/// ICE and signalling notice within 16 s that a server is gone; a silence longer than this had another reason.
const NOTICED_WITHIN_US: u64 = 30_000_000;

/// No connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    /// The last packet, or when it was noticed.
    since: Tick,
    paused: bool,
}

/// What a roster says of a track.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publication {
    pub participant: ParticipantKey,
    pub source: Source,
    pub codec: Codec,
    pub muted: bool,
}

#[derive(Debug)]
pub(crate) struct Person {
    pub identity: String,
    pub escaped: String,
    pub present: bool,
    pub clock: ParticipantClock,
    /// Media up to here has left the lines.
    pub horizon: Option<MediaTime>,
}

impl Person {
    /// Somebody who is there.
    pub(crate) fn new(identity: String, escaped: String) -> Self {
        Self { identity, escaped, present: true, clock: ParticipantClock::default(), horizon: None }
    }
}

impl Session {
    pub(crate) fn roster(&mut self, now: Tick, input: Input) {
        match input {
            Input::Connected => self.set_connected(now, true),
            Input::Disconnected => self.set_connected(now, false),
            // Who comes and goes when the recording has been closed is none of it.
            _ if self.is_closed() => return,
            Input::Joined { participant, identity, escaped } => self.joined(now, participant, identity, escaped),
            Input::Left { participant } => self.left(now, participant),
            Input::Published { track, participant, source, codec, muted } => {
                self.published(now, track, Publication { participant, source, codec, muted });
            }
            Input::Unpublished { track } => self.unpublished(now, track),
            Input::Muted { track } => self.set_muted(now, track, true),
            Input::Unmuted { track } => self.set_muted(now, track, false),
            _ => {}
        }
        self.store.manifest_changed();
    }

    fn set_connected(&mut self, now: Tick, connected: bool) {
        if self.connected == connected {
            return;
        }
        self.connected = connected;
        if !connected {
            let since = self.silent_since(now);
            self.outage = Some(Outage { since, paused: false });
            self.open_gap(since, "connection", GapReason::Disconnected);
        } else {
            self.ever_connected = true;
            if !self.restarts.is_empty() {
                self.returned = self.returned.or(Some(self.media_at(now)));
            }
            self.close_gap(self.media_at(now), "connection");
            if self.outage.take().is_some_and(|outage| outage.paused) {
                self.begin_anew();
            }
        }
        self.update_idle(now);
    }

    /// A connection is noticed to be lost seconds after the last packet came over it.
    fn silent_since(&self, now: Tick) -> Tick {
        let last = self.last_packet.filter(|last| self.expects_packets() && now.since(*last) <= NOTICED_WITHIN_US);
        last.unwrap_or(now)
    }

    /// While disconnected nothing stands in for what is missing: once the lines have run dry, every stay ends where the connection did.
    pub(crate) fn pause_while_disconnected(&mut self, now: Tick) {
        let Some(outage) = self.outage.filter(|outage| !outage.paused) else { return };
        let silent = self.last_packet.map_or(outage.since, |last| last.max(outage.since));
        if now.since(silent) >= LONGEST_LINE_US {
            self.outage = Some(Outage { paused: true, ..outage });
            self.pause(self.media_at(silent));
        }
    }

    /// Not before what has left the lines, silence that stands in for sound too: a loss may be noticed late.
    fn pause(&mut self, at: MediaTime) {
        for lane in self.lanes.values_mut() {
            let person = lane.participant.and_then(|participant| self.people.get(&participant));
            let written = person.and_then(|person| person.horizon).or(lane.horizon);
            let last = lane.events.back().map(|(last, _)| *last);
            let at = [written, last].into_iter().flatten().fold(at, MediaTime::max);
            lane.events.push_back((at, LaneEvent::Pause));
        }
    }

    /// What comes now does not continue what was there: key frames first, and no loss is counted.
    fn begin_anew(&mut self) {
        self.tracks.values_mut().for_each(Track::begin_anew);
    }

    /// A hole for everybody that lasts until [`Self::close_gap`].
    fn open_gap(&mut self, since: Tick, kind: &'static str, reason: GapReason) {
        if self.time.is_none() || self.is_closed() || self.open_gaps.contains_key(kind) {
            return;
        }
        let start = self.media_at(since);
        let known = self.known_gap(start, reason);
        self.open_gaps.insert(kind, known.unwrap_or(self.manifest.gaps.len()));
        if known.is_none() {
            self.manifest.gaps.push(Gap { start, duration90k: 0, reason, playlist: None, open: true });
        }
    }

    pub(crate) fn close_gap(&mut self, end: MediaTime, kind: &'static str) {
        if let Some(gap) = self.open_gaps.remove(kind).and_then(|index| self.manifest.gaps.get_mut(index)) {
            gap.duration90k = (end.0 - gap.start.0).max(0);
            gap.open = false;
        }
    }

    pub(crate) fn set_spool_full(&mut self, now: Tick, full: bool) {
        if self.spool_full == full {
            return;
        }
        self.spool_full = full;
        if !full {
            self.begin_anew();
            return self.close_gap(self.media_at(now), "spool");
        }
        self.open_gap(now, "spool", GapReason::DiskFull);
        self.pause(self.media_at(now));
    }

    /// All that belongs to the recording has been handed out.
    pub(crate) fn is_closed(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.closed)
    }

    fn joined(&mut self, now: Tick, key: ParticipantKey, identity: String, escaped: String) {
        let at = self.media_at(now);
        let was_there = self.people.get(&key).is_some_and(|person| person.present);
        self.people.entry(key).or_insert_with(|| Person::new(identity.clone(), escaped)).present = true;
        if !was_there {
            self.begin_stay(&identity, at);
        }
        self.update_idle(now);
    }

    pub(crate) fn begin_stay(&mut self, identity: &str, at: MediaTime) {
        match self.manifest.participants.iter_mut().find(|p| p.identity == identity) {
            Some(record) => begin_span(&mut record.stays, at),
            None => self.manifest.participants.push(ParticipantRecord { identity: identity.to_owned(), stays: vec![(at, None)] }),
        }
    }

    pub(crate) fn left(&mut self, now: Tick, key: ParticipantKey) {
        let at = self.media_at(now);
        let tracks: Vec<TrackKey> = self.tracks.iter().filter(|(_, t)| t.participant == key).map(|(k, _)| *k).collect();
        tracks.into_iter().for_each(|track| self.unpublished(now, track));
        let Some(person) = self.people.get_mut(&key).filter(|p| p.present) else { return };
        person.present = false;
        if let Some(record) = self.manifest.participants.iter_mut().find(|p| p.identity == person.identity) {
            end_span(&mut record.stays, at);
        }
        self.make_room(at, key);
        self.update_idle(now);
    }

    /// Whoever was there when an earlier process ended: their stays end with what it recorded.
    pub(crate) fn close_stays(&mut self, end: MediaTime) {
        let stays = self.manifest.participants.iter_mut().flat_map(|p| p.stays.iter_mut());
        stays.filter(|(_, e)| e.is_none()).for_each(|(start, e)| *e = Some(end.max(*start)));
        self.manifest.tracks.iter_mut().for_each(|track| track.close(end));
    }

    fn published(&mut self, now: Tick, key: TrackKey, publication: Publication) {
        self.publish(self.media_at(now), key, None, publication);
        self.update_idle(now);
    }

    /// `home`: the playlist that it had in the process that a journal is of.
    pub(crate) fn publish(&mut self, at: MediaTime, key: TrackKey, home: Option<PlaylistKey>, publication: Publication) {
        let Publication { participant, source, codec, muted } = publication;
        let Some(person) = self.people.get(&participant).filter(|_| !self.tracks.contains_key(&key)) else { return };
        let identity = person.identity.clone();
        let record = self.track_record(at, identity, source, codec, muted);
        let mut track = Track::new(participant, source, codec, muted, record);
        track.composed = self.config.mode != Mode::Individual;
        (track.replayed, track.home) = (self.replaying.is_some(), home);
        self.tracks.insert(key, track);
        self.decide(at, key);
    }

    /// A new record, or that of the same publication when it is told again.
    fn track_record(&mut self, start: MediaTime, identity: String, source: Source, codec: Codec, muted: bool) -> usize {
        if let Some(replaying) = &mut self.replaying {
            let known = replaying.next_track;
            replaying.next_track += 1;
            let same = |t: &TrackRecord| t.start == start && t.source == source && t.codec == codec && t.identity == identity;
            if self.manifest.tracks.get(known).is_some_and(same) {
                return known;
            }
        }
        self.manifest.tracks.push(TrackRecord {
            identity,
            source,
            codec,
            start,
            end: None,
            packets: 0,
            lost: 0,
            received_units: 0,
            written_units: 0,
            muted: if muted { vec![(start, None)] } else { Vec::new() },
            unsubscribed: Vec::new(),
            recorded: false,
            transcoded: None,
            unrecorded: None,
            sizes: Vec::new(),
            received: None,
            written: None,
        });
        self.manifest.tracks.len() - 1
    }

    /// The playlist of a publication: the person's own, the share's own, one more for every further camera at the same time.
    pub(crate) fn lane_for(&mut self, participant: ParticipantKey, source: Source) -> PlaylistKey {
        if let Mode::Composite(_) = self.config.mode {
            return self.lane(None, self.config.stem.clone());
        }
        let alone = self.config.media != MediaKinds::AudioVideo;
        let mut ordinal = 1;
        loop {
            let escaped = self.people.get(&participant).map_or("", |p| p.escaped.as_str());
            let kind = names::kind_suffix(source, alone, ordinal);
            let key = self.lane(Some(participant), names::individual_base(&self.config.stem, escaped, &kind));
            // Also by one that is not subscribed at the moment: it comes back here.
            let is_its = |t: &Track| t.playlist.or(t.home) == Some(key) && t.published && t.source == source;
            if !(is_video(source) && self.tracks.values().any(is_its)) {
                return key;
            }
            ordinal += 1;
        }
    }

    /// The playlist of this name, without extension.
    pub(crate) fn lane(&mut self, participant: Option<ParticipantKey>, base: String) -> PlaylistKey {
        let found = self.lanes.iter().find(|(_, l)| l.base == base).map(|(key, _)| *key);
        let key = found.unwrap_or(PlaylistKey(self.lanes.len() as u32));
        let since = self.time.map_or(MediaTime(0), |time| time.base);
        let make = || match &self.config.mode {
            Mode::Individual => Lane::of_one(participant, base, self.config.snapshots, since),
            Mode::Composite(composition) => Lane::of_everybody(composition.clone(), base, self.config.snapshots, since),
        };
        self.lanes.entry(key).or_insert_with(make).participant = participant;
        key
    }

    fn unpublished(&mut self, now: Tick, key: TrackKey) {
        let at = self.media_at(now);
        let Some(track) = self.tracks.get_mut(&key).filter(|t| t.published) else { return };
        track.published = false;
        self.manifest.tracks[track.record].close(at);
        let (playlist, participant, source) = (track.playlist, track.participant, track.source);
        match playlist.and_then(|p| self.lanes.get_mut(&p)) {
            Some(lane) => lane.events.push_back((at, LaneEvent::Unpublished(key))),
            None => drop(self.tracks.remove(&key)),
        }
        if let Some(playlist) = playlist.filter(|_| self.config.mode == Mode::Individual) {
            self.hand_over(at, key, playlist);
        }
        if source == Source::ScreenShare {
            self.foresee_without(&[(participant, true)]);
        }
        self.update_idle(now);
    }

    /// Servers withdraw late what a publisher has replaced. A camera that was published in the meantime, began after the other's last
    /// packet and has nothing written yet goes on in its playlist.
    fn hand_over(&mut self, at: MediaTime, key: TrackKey, playlist: PlaylistKey) {
        let Some(old) = self.tracks.get(&key).filter(|t| t.is_video()) else { return };
        let succeeds = |lane: &Lane, heir: TrackKey, t: &Track| {
            t.participant == old.participant && t.source == old.source && t.published && lane.tracks == [heir] && t.begins_after(old)
        };
        let unwritten = self.lanes.iter().filter(|(_, lane)| !lane.written);
        let found = unwritten.flat_map(|(at, lane)| lane.tracks.iter().map(move |heir| (*at, *heir, lane)));
        let mut heirs = found.filter(|(_, heir, lane)| self.tracks.get(heir).is_some_and(|t| succeeds(lane, *heir, t)));
        let Some((from, heir, _)) = heirs.next() else { return };
        let events = self.lanes.get_mut(&from).map(|lane| {
            lane.tracks.clear();
            std::mem::take(&mut lane.events)
        });
        if let (Some(track), Some(lane)) = (self.tracks.get_mut(&heir), self.lanes.get_mut(&playlist)) {
            track.playlist = Some(playlist);
            lane.tracks.push(heir);
            lane.events.extend(events.unwrap_or_default().into_iter().map(|(_, event)| (at, event)));
        }
    }

    fn set_muted(&mut self, now: Tick, key: TrackKey, muted: bool) {
        let at = self.media_at(now);
        let Some(track) = self.tracks.get_mut(&key).filter(|t| t.published && t.muted != muted) else { return };
        track.muted = muted;
        let spans = &mut self.manifest.tracks[track.record].muted;
        match muted {
            true => begin_span(spans, at),
            false => end_span(spans, at),
        }
        if let Some(lane) = track.playlist.filter(|_| track.subscribed).and_then(|p| self.lanes.get_mut(&p)) {
            let event = if muted { LaneEvent::Unwanted(key) } else { LaneEvent::Wanted(key) };
            lane.events.push_back((at, event));
        }
    }
}

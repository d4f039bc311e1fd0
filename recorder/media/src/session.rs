//! The session: one recording in one process. Dispatches inputs, pumps the lanes, drains effects into outputs.

use crate::clock::ParticipantClock;
use crate::ending::Ending;
use crate::lane::{Lane, MediaClock, Surroundings, clock_of};
use crate::replay::Replaying;
use crate::room::{Outage, Person};
use crate::segmenter::{EXACT_EXTRA_SECONDS, Effect, HARD_EXTRA_SECONDS};
use crate::snapshots::{Moments, Snapshots};
use crate::store::Store;
use crate::track::Track;
use crate::{
    ClockOverride, GapReason, Input, Manifest, MediaTime, Mode, Output, ParticipantKey, PlaylistKey, RtpPacket, SegmentKey, SenderReport,
    Tick, TrackKey, WallMicros,
};
use std::collections::{BTreeMap, VecDeque};

/// How long packets wait: retransmissions arrive, timestamps are decided with knowledge.
pub(crate) const LINE_US: u64 = 3_000_000;
/// While nothing arrives at all the line grows to this.
pub(crate) const LONGEST_LINE_US: u64 = 10_000_000;
/// Nothing at all for this long is an outage ...
const STALL_US: u64 = 1_000_000;
/// ... and retransmissions have this long after it.
const AFTER_STALL_US: u64 = 2_000_000;
/// A track without a sender report holds its participant back for at most this long.
const REPORT_WAIT_US: u64 = 8_000_000;
/// First packets may be mapped to this much before their arrival.
const BEFORE_ARRIVAL_US: i64 = 500_000;
/// Lines are looked at this often: what is done together is cheaper, and 3 s behind everything nobody notices.
const PUMP_US: u64 = 100_000;

/// See the crate's documentation for the loop that drives it.
#[derive(Debug)]
pub struct Session {
    pub(crate) config: crate::Config,
    pub(crate) started: (Tick, WallMicros),
    pub(crate) time: Option<MediaClock>,
    pub(crate) manifest: Manifest,
    pub(crate) people: BTreeMap<ParticipantKey, Person>,
    pub(crate) tracks: BTreeMap<TrackKey, Track>,
    pub(crate) lanes: BTreeMap<PlaylistKey, Lane>,
    pub(crate) store: Store,
    pub(crate) snapshots: Snapshots,
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) ending: Option<Ending>,
    pub(crate) connected: bool,
    pub(crate) ever_connected: bool,
    pub(crate) idle_since: Option<Tick>,
    pub(crate) saw_unsupported: bool,
    pub(crate) spool_full: bool,
    pub(crate) open_gaps: BTreeMap<&'static str, usize>,
    pub(crate) outage: Option<Outage>,
    /// Ends of what earlier processes recorded, until newer media comes.
    pub(crate) restarts: Vec<MediaTime>,
    /// Since then a process that follows one that died is in the room.
    pub(crate) returned: Option<MediaTime>,
    /// A journal is handed in again.
    pub(crate) replaying: Option<Replaying>,
    /// One was handed in to this process.
    pub(crate) replayed: bool,
    pub(crate) shown: Option<crate::report::Shown>,
    last_pump: Option<Tick>,
    pub(crate) last_packet: Option<Tick>,
    flowing_since: Option<Tick>,
}

/// No segment is longer.
fn target_seconds(config: &crate::Config) -> u32 {
    config.segment_seconds
        + match config.mode {
            Mode::Individual => HARD_EXTRA_SECONDS,
            Mode::Composite(_) => EXACT_EXTRA_SECONDS,
        }
}

impl Session {
    pub fn new(mut config: crate::Config, now: Tick, wall: WallMicros) -> Self {
        let resume = config.resume.take();
        let mut session = Self {
            store: Store::new(config.attempt, target_seconds(&config), config.backup),
            config,
            started: (now, wall),
            time: None,
            manifest: Manifest::default(),
            snapshots: Snapshots::default(),
            people: BTreeMap::new(),
            tracks: BTreeMap::new(),
            lanes: BTreeMap::new(),
            outputs: VecDeque::new(),
            ending: None,
            connected: false,
            ever_connected: false,
            idle_since: None,
            saw_unsupported: false,
            spool_full: false,
            open_gaps: BTreeMap::new(),
            outage: None,
            restarts: Vec::new(),
            returned: None,
            replaying: None,
            replayed: false,
            shown: None,
            last_pump: None,
            last_packet: None,
            flowing_since: None,
        };
        if let Some(resume) = resume {
            session.resume(now, wall, resume);
        }
        session.manifest.epoch = session.config.attempt;
        session
    }

    /// Goes on where an earlier process ended: same epoch, same playlists, what is not stored goes first.
    fn resume(&mut self, now: Tick, wall: WallMicros, resume: crate::Resume) {
        self.manifest = resume.manifest;
        self.manifest.outcome = None;
        self.snapshots.resume(&mut self.manifest.snapshots, resume.replay.is_some());
        let ordered = self.composition().cloned();
        let then = resume.replay.as_ref().and_then(|replay| replay.composition.clone());
        if let (Mode::Composite(known), Some(then)) = (&mut self.config.mode, then) {
            *known = then;
        }
        let end = self.manifest.ledger.end();
        if let Some(epoch) = self.manifest.epoch_time {
            let by_wall = MediaTime::from_micros(wall.0 as i64 - epoch.0 as i64).0;
            // Even when the wall clock went back: not before the epoch, and 1 ms behind what there is, so that names are unique and sorted.
            let base = by_wall.max(end.map_or(0, |end| end.0 + MediaTime::PER_SECOND / 1000));
            self.time = Some(MediaClock { at: now, base: MediaTime(base) });
        }
        self.resume_playlists();
        match resume.replay {
            Some(replay) => self.restore(now, replay, ordered),
            None => {
                // Media may have come of which nothing is finished.
                let end = end.unwrap_or(MediaTime(0));
                self.restarts.extend(self.manifest.epoch_time.map(|_| end));
                self.manifest.gaps.iter_mut().for_each(|gap| gap.open = false);
                self.book_unfinished(end);
                self.expect_again(end);
                self.close_stays(end);
                if self.manifest.epoch_time.is_none() {
                    // Without media there was no time: what comes now could not be told from it.
                    self.manifest.tracks.clear();
                }
            }
        }
    }

    /// `now` never goes back between calls.
    pub fn handle(&mut self, now: Tick, input: Input) {
        if self.is_finished() {
            return;
        }
        let quiet =
            matches!(input, Input::Packet { .. } | Input::AudioEncoded { .. } | Input::VideoEncoded { .. } | Input::SenderReport { .. });
        self.dispatch(now, input);
        self.manifest.as_of = self.manifest.as_of.max(self.media_at(now));
        let pumped = self.pump_if_due(now);
        self.check_ending(now);
        if (!quiet || pumped) && !self.is_finished() {
            self.drain_store(now);
            self.show_report();
        }
    }

    fn dispatch(&mut self, now: Tick, input: Input) {
        match input {
            Input::Packet { track, packet } => self.packet(now, track, packet),
            Input::SenderReport { track, report } => self.sender_report(now, track, report),
            Input::AudioEncoded { playlist, frames } => {
                if let Some(stream) = self.lanes.get_mut(&playlist).and_then(|lane| lane.stream.as_mut()) {
                    stream.encoded(frames);
                }
                self.drain_effects(playlist);
            }
            Input::VideoEncoded { playlist, op, result } => {
                if let Some(lane) = self.lanes.get_mut(&playlist) {
                    lane.transcoded(op, result);
                }
                self.drain_effects(playlist);
            }
            Input::SegmentClosed { op, result } => self.segment_closed(now, op, result),
            Input::LedgerKept { entries } => self.store.seal(entries, &mut self.manifest.ledger),
            Input::Uploaded { op, result } => {
                let lost = self.store.uploaded(now, op, result, &mut self.manifest);
                lost.into_iter().for_each(|entry| self.segment_lost(entry));
            }
            Input::Put { op, result } => self.store.put_answered(now, op, result, &mut self.manifest),
            Input::SnapshotTaken { snapshot, picture } => self.snapshots.take(snapshot, picture, &mut self.manifest.snapshots),
            Input::SnapshotPut { op, result } => self.snapshots.answered(now, op, &result, &mut self.manifest.snapshots),
            Input::Order(order) => self.order(now, order),
            Input::SpoolFull(full) => self.set_spool_full(now, full),
            Input::Restarted => {
                self.empty_lines(now);
                self.restarted(now);
            }
            Input::Replayed => self.end_replay(now),
            Input::Wake => {}
            roster => self.roster(now, roster),
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call with [`Input::Wake`] if nothing else happens; may be in the past: at once.
    pub fn next_wake(&self) -> Option<Tick> {
        if self.is_finished() {
            return None;
        }
        let pump = self.last_pump.filter(|_| self.has_work()).map(|at| at.after(PUMP_US));
        let store = self.store.next_wake(&self.manifest);
        [pump, store, self.snapshots.next_wake(), self.next_deadline()].into_iter().flatten().min()
    }

    /// Everything known of the recording: what [`Output::PutManifest`] stores.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest was written to the backup before anything else: it is to go when it is not needed there.
    pub fn backup_is_claimed(&mut self) {
        self.store.backup_is_claimed();
    }

    /// Media time of a moment; 0 before the epoch.
    pub(crate) fn media_at(&self, now: Tick) -> MediaTime {
        self.time.map_or(MediaTime(0), |time| time.media_at(now))
    }

    /// Packets that come now are recorded.
    pub fn accepts_media(&self) -> bool {
        !self.spool_full && self.ending.as_ref().is_none_or(|ending| !ending.closed)
    }

    fn packet(&mut self, now: Tick, key: TrackKey, packet: RtpPacket) {
        let quality = self.config.report_quality;
        let segment_us = u64::from(self.config.segment_seconds) * 1_000_000;
        let known = self.is_known(now);
        if !self.accepts_media() {
            return;
        }
        let Some(track) = self.tracks.get_mut(&key).filter(|t| t.playlist.is_some() && t.subscribed) else { return };
        let Some(person) = self.people.get_mut(&track.participant) else { return };
        let is_key = track.is_video() && crate::depacketizer::payload_is_key(track.codec, &packet.payload);
        let taken = track.packet(now, packet, quality, &mut person.clock);
        let fault = track.take_fault().filter(|_| !known);
        if let (Some(fault), Some(time)) = (fault, self.time) {
            let (identity, source) = (person.identity.clone(), track.source);
            self.manifest.clock_overrides.push(ClockOverride { identity, source, at: time.media_at(now), fault });
            self.store.manifest_changed();
        }
        if !taken {
            return;
        }
        self.manifest.tracks[track.record].packets += u64::from(!known);
        if is_key && track.cut_base().is_none_or(|base| now.since(base) + 500_000 >= segment_us) {
            track.cut_expected(now);
        }
        if self.last_packet.is_none_or(|last| now.since(last) >= STALL_US) {
            self.flowing_since = Some(now);
        }
        self.last_packet = Some(now);
        self.begin_time(now);
    }

    /// The epoch: arrival of the first media.
    fn begin_time(&mut self, now: Tick) {
        if self.time.is_none() {
            let time = MediaClock { at: now, base: MediaTime(0) };
            self.time = Some(time);
            self.apply_early_events(time);
        }
        if self.manifest.epoch_time.is_none() {
            let wall = self.started.1.0 + now.since(self.started.0);
            self.manifest.epoch_time = Some(WallMicros(wall));
            self.store.manifest_changed();
        }
    }

    /// What the roster said before the first media has its time, and comes before it.
    fn apply_early_events(&mut self, time: MediaClock) {
        for lane in self.lanes.values_mut() {
            let (tracks, people, manifest) = (&mut self.tracks, &self.people, &mut self.manifest);
            lane.apply_all(&mut Surroundings { tracks, people, time, manifest });
        }
    }

    fn sender_report(&mut self, now: Tick, key: TrackKey, report: SenderReport) {
        let Some(track) = self.tracks.get_mut(&key).filter(|t| t.playlist.is_some()) else { return };
        if let Some(person) = self.people.get_mut(&track.participant) {
            track.report(now, report, &mut person.clock);
        }
    }

    fn segment_closed(&mut self, now: Tick, op: crate::OpId, result: Result<crate::SegmentFacts, String>) {
        if let Some(entry) = self.store.closed(now, op, result, &mut self.manifest) {
            self.segment_lost(entry);
        }
    }

    fn pump_if_due(&mut self, now: Tick) -> bool {
        let due = self.last_pump.is_none_or(|last| now.since(last) >= PUMP_US);
        let urgent = self.ending.as_ref().is_some_and(|e| !e.closed && now >= self.last_line_wake(e));
        if self.time.is_none() || self.is_closed() || !(due || urgent) {
            return false;
        }
        self.last_pump = Some(now);
        self.pause_while_disconnected(now);
        self.pump(now);
        self.ask_for_keyframes(now);
        true
    }

    fn pump(&mut self, now: Tick) {
        match self.config.mode {
            Mode::Individual => {
                let people: Vec<ParticipantKey> = self.people.keys().copied().collect();
                people.into_iter().for_each(|participant| self.pump_lanes(now, Some(participant)));
            }
            Mode::Composite(_) => self.pump_lanes(now, None),
        }
    }

    /// `whose`: None: everybody's.
    fn pump_lanes(&mut self, now: Tick, whose: Option<ParticipantKey>) {
        let horizon = self.horizon(now, whose);
        let Some(time) = self.time else { return };
        let people = self.people.iter_mut().filter(|(key, _)| whose.is_none_or(|whose| **key == whose));
        people.for_each(|(_, person)| person.horizon = Some(horizon));
        let keys: Vec<PlaylistKey> = self.lanes.iter().filter(|(_, l)| l.participant == whose).map(|(key, _)| *key).collect();
        for key in keys {
            self.start_lane(key, horizon);
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            let mut around = Surroundings { tracks: &mut self.tracks, people: &self.people, time, manifest: &mut self.manifest };
            lane.pump(&mut around, horizon);
            self.drain_effects(key);
        }
    }

    /// Nothing that was under way arrives any more, and how the ticks of what comes lie to the senders' clocks is not known: a wall clock
    /// that may have been set is all that ties two processes together. What came is handed on by the clocks it came by.
    fn empty_lines(&mut self, now: Tick) {
        let Some(end) = self.time.map(|time| time.media_at(now)) else { return };
        self.people.values_mut().for_each(|person| person.horizon = person.horizon.max(Some(end)));
        self.pump(now);
        self.people.values_mut().for_each(|person| person.clock = ParticipantClock::default());
    }

    /// Media up to here leaves the lines of a participant, or all lines, now. Never goes back.
    fn horizon(&self, now: Tick, whose: Option<ParticipantKey>) -> MediaTime {
        let people = self.people.iter().filter(|(key, _)| whose.is_none_or(|whose| **key == whose));
        let lanes = self.lanes.values().filter(|lane| lane.participant == whose).filter_map(|lane| lane.horizon);
        let before = people.filter_map(|(_, person)| person.horizon).chain(lanes).max().unwrap_or(MediaTime(i64::MIN));
        let Some(time) = self.time else { return before };
        let ending = self.ending.as_ref();
        let mut at = now.0 as i64 - self.line_us(now) as i64;
        let waiting = self.tracks.values().filter(|t| whose.is_none_or(|whose| t.participant == whose) && t.is_expected());
        for first in waiting.filter(|t| t.playlist.is_some() && !t.has_report()).filter_map(|t| t.first_packet) {
            if now.since(first) < REPORT_WAIT_US && ending.is_none_or(|e| now.since(e.since) < LINE_US) {
                at = at.min(first.0 as i64 - BEFORE_ARRIVAL_US);
            }
        }
        let horizon = match ending {
            Some(ending) if ending.at_once => ending.stamp,
            Some(ending) => time.media(at).min(ending.stamp),
            None => time.media(at),
        };
        horizon.max(before)
    }

    /// Somebody's track was sending and is neither muted nor withdrawn.
    pub(crate) fn expects_packets(&self) -> bool {
        self.tracks.values().any(|t| t.is_expected() && t.first_packet.is_some())
    }

    /// Length of the delay line: it grows while nothing arrives at all, because a server resends what it still holds.
    fn line_us(&self, now: Tick) -> u64 {
        let Some(last) = self.last_packet.filter(|_| self.ending.is_none()) else { return LINE_US };
        let stalled = now.since(last) >= STALL_US;
        let recovering = self.flowing_since.is_some_and(|since| now.since(since) < AFTER_STALL_US);
        if self.expects_packets() && (stalled || recovering) { LONGEST_LINE_US } else { LINE_US }
    }

    /// Turns what a playlist wants into outputs.
    pub(crate) fn drain_effects(&mut self, key: PlaylistKey) {
        let Some(stream) = self.lanes.get_mut(&key).and_then(|l| l.stream.as_mut()) else { return };
        let effects = stream.take_effects();
        for effect in effects {
            match effect {
                Effect::Audio(op) => self.outputs.push_back(Output::Audio { playlist: key, op }),
                Effect::Video { op, mut work } => {
                    if let Some(snapshots) = work.snapshots_mut() {
                        snapshots.retain(|snapshot| self.snapshots.order(snapshot, &self.manifest.snapshots));
                    }
                    self.outputs.push_back(Output::Video { playlist: key, op, work });
                }
                Effect::Snapshot { snapshot, codec, data } => {
                    if self.snapshots.order(&snapshot, &self.manifest.snapshots) {
                        self.outputs.push_back(Output::Snapshot { snapshot, codec, data });
                    }
                }
                Effect::Written(of) => self.manifest.tracks[of.record].writes(of.unit, of.replayed),
                Effect::Size(track, wanted) => self.outputs.push_back(Output::Size { track, wanted }),
                Effect::NeedKey(track) => self.tracks.get_mut(&track).into_iter().for_each(Track::need_key),
                Effect::Append { n, name, start, data } => {
                    self.end_restarts(start);
                    self.outputs.push_back(Output::Append { segment: SegmentKey { playlist: key, n }, name, data });
                }
                Effect::Close(finished) => {
                    let output = self.store.close(key, finished);
                    self.outputs.extend(output);
                }
                Effect::NextVolume => self.next_volume(key),
                Effect::Gap { start, end, reason } => {
                    let name = self.store.playlist_record(key).map(|r| self.manifest.playlists[r].name.clone());
                    self.gap(start, end, reason, name);
                }
            }
        }
    }

    /// Media is written again: of a segment that began here.
    fn end_restarts(&mut self, start: MediaTime) {
        let over: Vec<MediaTime> = self.restarts.extract_if(.., |end| *end <= start).collect();
        over.into_iter().for_each(|end| self.gap(end, start, GapReason::RecorderRestarted, None));
    }

    /// It ends without more media: nothing was received from the death to the return. Whoever never returned was to end it only.
    pub(crate) fn end_restarts_without_media(&mut self) {
        let died = std::mem::take(&mut self.restarts);
        let Some(returned) = self.returned.filter(|returned| died.iter().all(|at| at < returned)) else { return };
        died.into_iter().for_each(|at| self.gap(at, returned, GapReason::RecorderRestarted, None));
    }

    fn ask_for_keyframes(&mut self, now: Tick) {
        if !self.connected || self.ending.is_some() {
            return;
        }
        let segment_us = u64::from(self.config.segment_seconds) * 1_000_000;
        let moment = self.config.snapshots.zip(self.time).and_then(|(plan, time)| {
            let moment = Moments::new(plan, time.base).newest(time.media_at(now))?;
            Some((time, moment))
        });
        for (key, track) in self.tracks.iter_mut().filter(|(_, t)| t.playlist.is_some()) {
            let key_at = clock_of(&self.people, track).and_then(|clock| track.key_time(clock));
            let snapshot = moment.is_some_and(|(time, moment)| key_at.is_none_or(|us| time.media(us) < moment));
            if track.asks(now, segment_us, snapshot) {
                self.outputs.push_back(Output::RequestKeyframe { track: *key });
            }
        }
    }

    fn has_work(&self) -> bool {
        self.time.is_some() && !self.is_closed() && self.lanes.values().any(|lane| lane.has_work(&self.tracks))
    }

    fn drain_store(&mut self, now: Tick) {
        while let Some(output) = self.store.next_output(now, &self.manifest) {
            self.outputs.push_back(output);
        }
        while let Some(output) = self.snapshots.next_output(now, &self.manifest) {
            self.outputs.push_back(output);
        }
    }
}

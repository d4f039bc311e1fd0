//! The session: one recording in one process. Dispatches inputs, pumps the lanes, drains effects into outputs.

use crate::ending::Ending;
use crate::lane::{Lane, MediaClock, Surroundings};
use crate::room::Person;
use crate::segmenter::{Beginning, Effect, HARD_EXTRA_SECONDS};
use crate::store::Store;
use crate::track::Track;
use crate::ts::Streams;
use crate::{
    Continuation, GapReason, Input, Manifest, MediaKinds, MediaTime, Output, ParticipantKey, PlaylistKey, PlaylistRecord, RtpPacket,
    SegmentKey, SenderReport, Tick, TrackKey, WallMicros,
};
use std::collections::{BTreeMap, VecDeque};

/// How long packets wait: retransmissions arrive, timestamps are decided with knowledge.
pub(crate) const LINE_US: u64 = 3_000_000;
/// While nothing arrives at all the line grows to this.
const LONGEST_LINE_US: u64 = 10_000_000;
/// Nothing at all for this long is an outage ...
const STALL_US: u64 = 1_000_000;
/// ... and retransmissions have this long after it.
const AFTER_STALL_US: u64 = 2_000_000;
/// A track without a sender report holds its participant back for at most this long.
const REPORT_WAIT_US: u64 = 8_000_000;
/// First packets may be mapped to this much before their arrival.
const BEFORE_ARRIVAL_US: i64 = 500_000;
/// Lines are looked at this often.
const PUMP_US: u64 = 50_000;

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
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) ending: Option<Ending>,
    pub(crate) connected: bool,
    pub(crate) ever_connected: bool,
    pub(crate) idle_since: Option<Tick>,
    pub(crate) saw_unsupported: bool,
    pub(crate) spool_full: bool,
    pub(crate) open_gaps: BTreeMap<&'static str, usize>,
    /// End of what an earlier process recorded, until new media comes.
    pub(crate) restarted_at: Option<MediaTime>,
    pub(crate) shown: Option<crate::report::Shown>,
    last_pump: Option<Tick>,
    last_packet: Option<Tick>,
    flowing_since: Option<Tick>,
}

impl Session {
    pub fn new(mut config: crate::Config, now: Tick, wall: WallMicros) -> Self {
        let resume = config.resume.take();
        let mut session = Self {
            store: Store::new(config.attempt, config.segment_seconds + HARD_EXTRA_SECONDS),
            config,
            started: (now, wall),
            time: None,
            manifest: Manifest::default(),
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
            restarted_at: None,
            shown: None,
            last_pump: None,
            last_packet: None,
            flowing_since: None,
        };
        if let Some(resume) = resume {
            session.resume(now, wall, resume.manifest);
        }
        session.manifest.epoch = session.config.attempt;
        session
    }

    /// Goes on where an earlier process ended: same epoch, same playlists, what is not stored goes first.
    fn resume(&mut self, now: Tick, wall: WallMicros, manifest: Manifest) {
        self.manifest = manifest;
        self.manifest.outcome = None;
        self.manifest.gaps.iter_mut().for_each(|gap| gap.open = false);
        let end = self.manifest.ledger.iter().map(|e| e.start.0 + e.duration90k).max();
        if let Some(epoch) = self.manifest.epoch_time {
            let by_wall = MediaTime::from_micros(wall.0 as i64 - epoch.0 as i64).0;
            // At least 1 ms behind, so that names are unique and sorted even when the wall clock went back.
            let base = end.map_or(by_wall, |end| by_wall.max(end + MediaTime::PER_SECOND / 1000));
            self.time = Some(MediaClock { at: now, base: MediaTime(base) });
        }
        self.restarted_at = end.map(MediaTime);
        for record in 0..self.manifest.playlists.len() {
            let base = self.manifest.playlists[record].name.trim_end_matches(".m3u8").to_string();
            let key = PlaylistKey(record as u32);
            let mut lane = Lane::new(ParticipantKey(u32::MAX), base);
            lane.record = Some(record);
            self.manifest.playlists[record].ended = false;
            self.lanes.insert(key, lane);
            self.store.add_playlist(key, record, &self.manifest);
        }
        self.close_stays();
    }

    /// `now` never goes back between calls.
    pub fn handle(&mut self, now: Tick, input: Input) {
        if self.is_finished() {
            return;
        }
        let quiet = matches!(input, Input::Packet { .. } | Input::AudioEncoded { .. } | Input::SenderReport { .. });
        self.dispatch(now, input);
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
            Input::AudioEncoded { playlist, frames } => self.encoded(playlist, frames),
            Input::SegmentClosed { op, result } => self.segment_closed(now, op, result),
            Input::Uploaded { op, result } => {
                self.store.uploaded(now, op, result, &mut self.manifest);
            }
            Input::Put { op, result } => self.store.put_answered(now, op, result, &mut self.manifest),
            Input::Order(order) => self.order(now, order),
            Input::SpoolFull(full) => self.set_spool_full(now, full),
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
        [pump, store, self.next_deadline()].into_iter().flatten().min()
    }

    /// Everything known of the recording: what [`Output::PutManifest`] stores.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Media time of a moment; 0 before the epoch.
    pub(crate) fn media_at(&self, now: Tick) -> MediaTime {
        self.time.map_or(MediaTime(0), |time| time.media_at(now))
    }

    fn packet(&mut self, now: Tick, key: TrackKey, packet: RtpPacket) {
        let quality = self.config.report_quality;
        let segment_us = u64::from(self.config.segment_seconds) * 1_000_000;
        let Some(track) = self.tracks.get_mut(&key).filter(|t| t.playlist.is_some()) else { return };
        let Some(person) = self.people.get_mut(&track.participant) else { return };
        if self.spool_full || self.ending.as_ref().is_some_and(|e| e.closed) {
            return;
        }
        let is_key = track.is_video() && crate::h264::payload_is_key(&packet.payload);
        if !track.packet(now, packet, quality, &mut person.clock) {
            return;
        }
        self.manifest.tracks[track.record].packets += 1;
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
            self.time = Some(MediaClock { at: now, base: MediaTime(0) });
        }
        if self.manifest.epoch_time.is_none() {
            let wall = self.started.1.0 + now.since(self.started.0);
            self.manifest.epoch_time = Some(WallMicros(wall));
            self.store.manifest_changed();
        }
    }

    fn sender_report(&mut self, now: Tick, key: TrackKey, report: SenderReport) {
        let Some(track) = self.tracks.get_mut(&key).filter(|t| t.playlist.is_some()) else { return };
        if let Some(person) = self.people.get_mut(&track.participant) {
            track.report(now, report, &mut person.clock);
        }
    }

    fn encoded(&mut self, playlist: PlaylistKey, frames: Vec<bytes::Bytes>) {
        if let Some(stream) = self.lanes.get_mut(&playlist).and_then(|l| l.stream.as_mut()) {
            stream.encoded(frames);
        }
        self.drain_effects(playlist);
    }

    fn segment_closed(&mut self, now: Tick, op: crate::OpId, result: Result<crate::SegmentFacts, String>) {
        if let Some(entry) = self.store.closed(now, op, result, &mut self.manifest) {
            self.segment_lost(entry);
        }
    }

    fn pump_if_due(&mut self, now: Tick) -> bool {
        let due = self.last_pump.is_none_or(|last| now.since(last) >= PUMP_US);
        let urgent = self.ending.as_ref().is_some_and(|e| !e.closed && now >= self.last_line_wake(e));
        if self.time.is_none() || !(due || urgent) {
            return false;
        }
        self.last_pump = Some(now);
        let participants: Vec<ParticipantKey> = self.people.keys().copied().collect();
        for participant in participants {
            self.pump(now, participant);
        }
        self.ask_for_keyframes(now);
        true
    }

    fn pump(&mut self, now: Tick, participant: ParticipantKey) {
        let horizon = self.horizon(now, participant);
        let (Some(person), Some(time)) = (self.people.get_mut(&participant), self.time) else { return };
        person.horizon = Some(horizon);
        let keys: Vec<PlaylistKey> = self.lanes.iter().filter(|(_, l)| l.participant == participant).map(|(key, _)| *key).collect();
        for key in keys {
            self.start_lane(key);
            let (Some(lane), Some(person)) = (self.lanes.get_mut(&key), self.people.get(&participant)) else { continue };
            let clock = &person.clock;
            let mut around = Surroundings { tracks: &mut self.tracks, clock, time, manifest: &mut self.manifest };
            lane.pump(&mut around, horizon);
            self.drain_effects(key);
        }
    }

    /// Media up to here leaves the lines of a participant now. Never goes back.
    fn horizon(&self, now: Tick, participant: ParticipantKey) -> MediaTime {
        let before = self.people.get(&participant).and_then(|p| p.horizon).unwrap_or(MediaTime(i64::MIN));
        let Some(time) = self.time else { return before };
        let ending = self.ending.as_ref();
        let mut at = now.0 as i64 - self.line_us(now) as i64;
        let waiting = self.tracks.values().filter(|t| t.participant == participant && t.published && !t.muted);
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

    /// Length of the delay line: it grows while nothing arrives at all, because a server resends what it still holds.
    fn line_us(&self, now: Tick) -> u64 {
        let Some(last) = self.last_packet.filter(|_| self.ending.is_none()) else { return LINE_US };
        let expected = self.tracks.values().any(|t| t.published && !t.muted && t.first_packet.is_some());
        let stalled = now.since(last) >= STALL_US;
        let recovering = self.flowing_since.is_some_and(|since| now.since(since) < AFTER_STALL_US);
        if expected && (stalled || recovering) { LONGEST_LINE_US } else { LINE_US }
    }

    /// A playlist comes into being with its first packet.
    fn start_lane(&mut self, key: PlaylistKey) {
        let Some(lane) = self.lanes.get(&key).filter(|l| l.stream.is_none()) else { return };
        let Some(epoch) = self.manifest.epoch_time else { return };
        let has_packets = lane.tracks.iter().any(|k| self.tracks.get(k).is_some_and(|t| t.first_packet.is_some()));
        if !has_packets {
            return;
        }
        let record = lane.record.unwrap_or_else(|| self.add_playlist(key));
        let known = &self.manifest.playlists[record];
        let ledger = self.manifest.ledger.iter().filter(|e| e.playlist == known.name);
        let bounds = |e: &crate::LedgerEntry| (e.start.0, e.start.0 + e.duration90k, e.n + 1);
        let earlier = ledger.map(bounds).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1), a.2.max(b.2)));
        let beginning = Beginning {
            base: self.lanes[&key].base.clone(),
            streams: Streams { video: known.has_video, audio: known.has_audio },
            segment_seconds: self.config.segment_seconds,
            epoch,
            counters: known.continuation.continuity_counters.clone(),
            next_n: earlier.map_or(0, |(.., n)| n).max(known.continuation.next_n),
            earlier: earlier.map(|(start, end, _)| (MediaTime(start), MediaTime(end))),
        };
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.record = Some(record);
            lane.start(beginning);
        }
    }

    fn add_playlist(&mut self, key: PlaylistKey) -> usize {
        let lane = &self.lanes[&key];
        let kind = lane.base.rsplit("__uid_e_").next().unwrap_or_default();
        let sound_too = kind == "av" || kind == "screen";
        let record = self.manifest.playlists.len();
        self.manifest.playlists.push(PlaylistRecord {
            name: crate::names::playlist_name(&lane.base),
            identity: self.people.get(&lane.participant).map(|p| p.identity.clone()).unwrap_or_default(),
            has_video: self.config.media != MediaKinds::Audio,
            has_audio: match self.config.media {
                MediaKinds::AudioVideo => sound_too,
                MediaKinds::Audio => true,
                MediaKinds::Video => false,
            },
            stored: false,
            ended: false,
            continuation: Continuation::default(),
        });
        self.store.add_playlist(key, record, &self.manifest);
        record
    }

    /// Turns what a playlist wants into outputs.
    pub(crate) fn drain_effects(&mut self, key: PlaylistKey) {
        let Some(stream) = self.lanes.get_mut(&key).and_then(|l| l.stream.as_mut()) else { return };
        let effects = stream.take_effects();
        let name = self.store.playlist_record(key).map(|r| self.manifest.playlists[r].name.clone());
        for effect in effects {
            match effect {
                Effect::Audio(op) => self.outputs.push_back(Output::Audio { playlist: key, op }),
                Effect::Append { n, name, data } => self.append(key, n, name, data),
                Effect::Close(finished) => {
                    self.note_continuation(key);
                    let output = self.store.close(key, finished);
                    self.outputs.push_back(output);
                }
                Effect::Gap { start, end, reason } => self.gap(start, end, reason, name.clone()),
            }
        }
    }

    fn append(&mut self, playlist: PlaylistKey, n: u32, name: String, data: bytes::Bytes) {
        let start = self.lanes.get(&playlist).and_then(|l| l.stream.as_ref()).and_then(|s| s.segments().start());
        if let (Some(end), Some(start)) = (self.restarted_at, start) {
            self.restarted_at = None;
            self.gap(end, start, GapReason::RecorderRestarted, None);
        }
        self.outputs.push_back(Output::Append { segment: SegmentKey { playlist, n }, name, data });
    }

    fn note_continuation(&mut self, key: PlaylistKey) {
        let segments = self.lanes.get(&key).and_then(|l| l.stream.as_ref()).map(|s| s.segments());
        if let (Some(segments), Some(record)) = (segments, self.store.playlist_record(key)) {
            self.manifest.playlists[record].continuation =
                Continuation { continuity_counters: segments.counters(), next_n: segments.next_n() };
        }
    }

    fn ask_for_keyframes(&mut self, now: Tick) {
        if !self.connected || self.ending.is_some() {
            return;
        }
        let segment_us = u64::from(self.config.segment_seconds) * 1_000_000;
        for (key, track) in self.tracks.iter_mut().filter(|(_, t)| t.playlist.is_some()) {
            if track.asks(now, segment_us) {
                self.outputs.push_back(Output::RequestKeyframe { track: *key });
            }
        }
    }

    fn has_work(&self) -> bool {
        self.time.is_some() && self.lanes.values().any(|lane| lane.has_work(&self.tracks))
    }

    fn drain_store(&mut self, now: Tick) {
        while let Some(output) = self.store.next_output(now, &self.manifest) {
            self.outputs.push_back(output);
        }
    }
}

//! A room in virtual time: publishers that send RTP, a driver that answers like the real one, and a reader of what was stored.

use bytes::Bytes;
use recorder_media::*;
use std::collections::{BTreeMap, BTreeSet};
use transcoder::Transcoder;

pub mod backup;
pub mod composite;
pub mod journal;
pub mod reader;
pub mod sound;
pub mod transcoder;
pub mod watch;

/// A small generator (Knuth's constants): seeded, the same everywhere.
#[derive(Clone, Debug)]
pub struct Lcg(pub u64);

impl Lcg {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

pub fn config() -> Config {
    Config {
        stem: "rec_room".into(),
        attempt: 1,
        media: MediaKinds::AudioVideo,
        mode: Mode::Individual,
        subscription: Subscription::default(),
        segment_seconds: 4,
        idle_timeout_seconds: 30,
        max_duration_seconds: None,
        drain_timeout_seconds: 60,
        idle_counts_publishers: false,
        backup: false,
        report_quality: ReportQuality::Sender,
        snapshots: None,
        resume: None,
    }
}

pub const WALL: WallMicros = WallMicros(1_700_000_000_000_000);

#[derive(Clone, Debug, Default)]
pub struct Segment {
    pub name: String,
    pub data: Vec<u8>,
    pub bytes: u64,
    pub closed: bool,
    pub stored: bool,
}

/// How storage behaves.
#[derive(Clone, Debug)]
pub struct Storage {
    pub delay_us: u64,
    /// Percent of uploads and puts that fail.
    pub failing: u64,
    /// Uploads alone fail.
    pub refuses_segments: bool,
    /// And that will not get better by itself.
    pub refuses: bool,
    /// A newer attempt has taken over.
    pub superseded: bool,
    /// Playlist and number of a segment whose file vanishes before it is stored.
    pub vanishing: Option<(u32, u32)>,
    pub rng: Lcg,
}

impl Storage {
    /// It takes everything.
    pub fn well() -> Self {
        Self { delay_us: 20_000, failing: 0, refuses_segments: false, refuses: false, superseded: false, vanishing: None, rng: Lcg(7) }
    }
}

pub struct Room {
    pub session: Session,
    pub now: Tick,
    pub segments: BTreeMap<(u32, u32), Segment>,
    pub playlists: BTreeMap<String, String>,
    pub puts: Vec<(String, String)>,
    pub manifests: u32,
    /// By name; what is there stays.
    pub snapshots: BTreeMap<String, Bytes>,
    /// Storage takes everything but these.
    pub refuses_snapshots: bool,
    pub keyframe_requests: Vec<(Tick, TrackKey)>,
    /// What the SFU was asked for, in order.
    pub subscribed: Vec<(u32, bool)>,
    /// Which sizes, likewise, as a server of cameras of 16:9 is told.
    pub sizes: Vec<(u32, (u32, u32))>,
    pub finished: Option<Outcome>,
    pub storage: Storage,
    pub backup: backup::BackupStorage,
    /// Playlist and number of a segment that the primary storage refuses.
    pub refused: Option<(u32, u32)>,
    /// Everything that came out, as text: two runs must agree byte for byte.
    pub log: String,
    pub keep_log: bool,
    /// Segments that are closed are lost by the disk.
    pub disk_fails: bool,
    /// Tick and wall clock of the session's start.
    started: (Tick, WallMicros),
    pub audio_ops: Vec<(PlaylistKey, AudioOp)>,
    /// Instead of log, operations and files of a run of hours: what a reader sees of each playlist.
    pub watch: Option<BTreeMap<u32, watch::Watch>>,
    /// What came in, for a test that lets the process die.
    pub journal: Option<journal::Journal>,
    pub lives: u32,
    pub transcoder: Transcoder,
    answers: BTreeMap<(u64, u64), Input>,
    next_answer: u64,
    /// One writer has the disk: files are closed one after another, however long each takes.
    disk_busy_until: Tick,
    pub encoders: BTreeMap<PlaylistKey, sound::Encoder>,
    in_flight: BTreeSet<String>,
}

impl Room {
    pub fn new(config: Config) -> Self {
        Self::at(config, Tick::from_millis(1000), WALL)
    }

    pub fn at(config: Config, now: Tick, wall: WallMicros) -> Self {
        Self {
            session: Session::new(config, now, wall),
            now,
            segments: BTreeMap::new(),
            playlists: BTreeMap::new(),
            puts: Vec::new(),
            manifests: 0,
            snapshots: BTreeMap::new(),
            refuses_snapshots: false,
            keyframe_requests: Vec::new(),
            subscribed: Vec::new(),
            sizes: Vec::new(),
            finished: None,
            storage: Storage::well(),
            backup: backup::BackupStorage::default(),
            refused: None,
            log: String::new(),
            keep_log: true,
            disk_fails: false,
            started: (now, wall),
            audio_ops: Vec::new(),
            watch: None,
            journal: None,
            lives: 1,
            transcoder: Transcoder::default(),
            answers: BTreeMap::new(),
            next_answer: 0,
            disk_busy_until: Tick(0),
            encoders: BTreeMap::new(),
            in_flight: BTreeSet::new(),
        }
    }

    /// For hours of media: each segment is read when it is closed and then forgotten.
    pub fn watched(mut self) -> Self {
        self.watch = Some(BTreeMap::new());
        self
    }

    /// Keeps a journal, so that it can [`Room::die_and_return`].
    pub fn journalled(mut self) -> Self {
        self.journal = Some(journal::Journal::default());
        self
    }

    pub fn input(&mut self, input: Input) {
        if let (Some(journal), None) = (&mut self.journal, self.finished) {
            journal.note(self.now, &self.session, &input);
        }
        let saves = matches!(input, Input::SegmentClosed { .. } | Input::Uploaded { result: Ok(_), .. });
        self.hand_in(input);
        if let (Some(journal), true) = (&mut self.journal, saves) {
            journal.save(self.now, &self.session);
        }
    }

    /// Not entered into the journal.
    fn hand_in(&mut self, input: Input) {
        if let Input::VideoEncoded { playlist, .. } = &input {
            self.transcoder.answered(*playlist);
        }
        self.session.handle(self.now, input);
        while let Some(output) = self.session.poll_output() {
            self.carry_out(output);
        }
    }

    pub fn input_unless_finished(&mut self, input: Input) {
        if self.finished.is_none() {
            self.input(input);
        }
    }

    /// Lets time pass: timers and answers in order.
    pub fn run_until(&mut self, until: Tick) {
        let mut steps = 0;
        loop {
            let wake = self.session.next_wake().map(|at| at.max(self.now));
            let answer = self.answers.keys().next().map(|(at, _)| Tick(*at));
            let Some(next) = wake.into_iter().chain(answer).min().filter(|at| *at <= until) else { break };
            steps = if next > self.now { 0 } else { steps + 1 };
            assert!(steps < 1000, "the timer does not come to rest");
            self.now = next.max(self.now);
            let due = self.answers.first_key_value().filter(|((at, _), _)| *at <= self.now.0).map(|(key, _)| *key);
            let input = due.and_then(|key| self.answers.remove(&key)).unwrap_or(Input::Wake);
            self.input(input);
        }
        self.now = self.now.max(until);
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.run_until(self.now.after(ms * 1000));
    }

    pub fn answer(&mut self, input: Input) {
        self.answer_at(self.now.after(self.storage.delay_us), input);
    }

    fn answer_at(&mut self, at: Tick, input: Input) {
        self.answers.insert((at.0, self.next_answer), input);
        self.next_answer += 1;
    }

    pub fn store_result<T>(&mut self, ok: T) -> Result<T, StoreError> {
        let failing = self.storage.failing;
        if self.storage.superseded {
            return Err(StoreError::Superseded);
        }
        match self.storage.rng.chance(failing) {
            true if self.storage.refuses => Err(StoreError::Refused("403".into())),
            true => Err(StoreError::Retryable("503".into())),
            false => Ok(ok),
        }
    }

    fn carry_out(&mut self, output: Output) {
        assert!(self.finished.is_none(), "nothing comes after Finished");
        if self.keep_log && self.watch.is_none() {
            self.log.push_str(&format!("{} {output:?}\n", self.now.0));
        }
        match output {
            Output::Audio { playlist, op } => self.encode(playlist, op),
            Output::Video { playlist, op, mut work } => {
                let snapshots = work.snapshots_mut().map(std::mem::take).unwrap_or_default();
                if let Some((at, result)) = self.transcoder.run(self.now, playlist, work) {
                    for snapshot in snapshots {
                        let picture = self.transcoder.still(playlist, snapshot.camera);
                        self.answer_at(at, Input::SnapshotTaken { snapshot, picture });
                    }
                    self.answer_at(at, Input::VideoEncoded { playlist, op, result });
                }
            }
            Output::Append { segment, name, data } => self.append(segment, name, &data),
            Output::CloseSegment { op, segment, .. } => {
                let file = self.segments.get_mut(&(segment.playlist.0, segment.n)).expect("closed what was appended to");
                file.closed = true;
                if let Some(watch) = &mut self.watch {
                    watch.entry(segment.playlist.0).or_default().segment(&std::mem::take(&mut file.data));
                }
                let facts = SegmentFacts { bytes: file.bytes, sha256: "00".into() };
                let result = if self.disk_fails { Err("no space left on device".into()) } else { Ok(facts) };
                self.disk_busy_until = self.now.after(self.storage.delay_us).max(self.disk_busy_until);
                self.answer_at(self.disk_busy_until, Input::SegmentClosed { op, result });
            }
            Output::Upload { op, segment, to: Place::Primary, .. } => self.upload(op, segment),
            Output::PutPlaylist { op, name, body, to: Place::Primary } => self.put_playlist(op, name, body),
            Output::Upload { to: Place::Backup, .. }
            | Output::Move { .. }
            | Output::PutPlaylist { to: Place::Backup, .. }
            | Output::PutManifest { to: Place::Backup, .. }
            | Output::RemoveFromBackup { .. } => self.carry_out_backup(output),
            Output::PutManifest { op, to: Place::Primary } => {
                assert!(self.in_flight.insert("manifest".into()), "one manifest put at a time");
                self.manifests += 1;
                let result = self.store_result(());
                self.in_flight.remove("manifest");
                self.answer(Input::Put { op, result });
            }
            Output::Snapshot { snapshot, data, .. } => {
                let picture = transcoder::number_of(&data).map(|n| Bytes::from(n.to_string()));
                self.answer(Input::SnapshotTaken { snapshot, picture });
            }
            Output::PutSnapshot { op, name, picture } => {
                let refused = Err(StoreError::Refused("403".into()));
                let result = if self.refuses_snapshots { refused } else { self.store_result(()) };
                if result.is_ok() {
                    self.snapshots.entry(name).or_insert(picture);
                }
                self.answer(Input::SnapshotPut { op, result });
            }
            Output::Subscribe { track, wanted } => self.subscribed.push((track.0, wanted)),
            Output::Size { track, wanted } => {
                let size = (track.0, wanted.size_of((16, 9)));
                let told = self.sizes.iter().rfind(|told| told.0 == track.0) == Some(&size);
                self.sizes.extend((!told).then_some(size));
            }
            Output::RequestKeyframe { track } => self.keyframe_requests.push((self.now, track)),
            Output::ReportChanged => drop(self.session.report()),
            Output::Finished(outcome) => self.finished = Some(outcome),
        }
    }

    fn append(&mut self, segment: SegmentKey, name: String, data: &[u8]) {
        let file = self.segments.entry((segment.playlist.0, segment.n)).or_default();
        assert!(!file.closed, "{name} was appended to after its end");
        assert!(file.name.is_empty() || file.name == name);
        file.name = name;
        file.data.extend_from_slice(data);
        file.bytes += data.len() as u64;
    }

    fn upload(&mut self, op: OpId, segment: SegmentKey) {
        let gone = self.storage.vanishing == Some((segment.playlist.0, segment.n));
        let stored = Stored { etag: format!("e{}", segment.n) };
        let refused = self.storage.refuses_segments || self.refused == Some((segment.playlist.0, segment.n));
        let result = match (gone, refused) {
            (true, _) => Err(StoreError::Gone("no such file".into())),
            (_, true) => Err(StoreError::Refused("409".into())),
            _ => self.store_result(stored),
        };
        if result.is_ok()
            && let Some(file) = self.segments.get_mut(&(segment.playlist.0, segment.n))
        {
            assert!(file.closed && (!file.stored || self.lives > 1), "a segment is stored once");
            file.stored = true;
        }
        self.answer(Input::Uploaded { op, result });
    }

    fn put_playlist(&mut self, op: OpId, name: String, body: String) {
        let known = self.session.manifest().ledger.iter().filter(|e| e.stored).map(|e| e.name.as_str());
        let stored: BTreeSet<&str> = self.segments.values().filter(|s| s.stored).map(|s| s.name.as_str()).chain(known).collect();
        for segment in body.lines().filter(|l| !l.starts_with('#')) {
            assert!(stored.contains(segment), "{name} names {segment}, which is not stored");
        }
        let before = self.playlists.get(&name).cloned().unwrap_or_default();
        assert!(tags_and_names(&body).starts_with(&tags_and_names(&before)), "an EVENT playlist only grows");
        let result = self.store_result(());
        if result.is_ok() {
            self.playlists.insert(name.clone(), body.clone());
        }
        if self.watch.is_none() {
            self.puts.push((name, body));
        }
        self.answer(Input::Put { op, result });
    }

    fn encode(&mut self, playlist: PlaylistKey, op: AudioOp) {
        let frames = self.encoders.entry(playlist).or_default().run(&op);
        if self.watch.is_none() {
            self.audio_ops.push((playlist, op));
        }
        self.input(Input::AudioEncoded { playlist, frames });
    }

    pub fn data(&self, playlist: u32) -> Vec<Vec<u8>> {
        self.segments.iter().filter(|((p, _), _)| *p == playlist).map(|(_, s)| s.data.clone()).collect()
    }

    pub fn join(&mut self, key: u32, identity: &str) -> ParticipantKey {
        let participant = ParticipantKey(key);
        self.input(Input::Joined { participant, identity: identity.into(), escaped: identity.into() });
        participant
    }

    pub fn publish(&mut self, publisher: &Publisher, participant: ParticipantKey, codec: Codec) {
        let (track, source) = (publisher.track, publisher.source);
        self.input(Input::Published { track, participant, source, codec, muted: false });
    }
}

/// Sends one track: a picture or an Opus packet per `interval`, each with its number inside.
#[derive(Clone, Debug)]
pub struct Publisher {
    pub track: TrackKey,
    pub source: Source,
    pub ssrc: u32,
    pub sequence: u16,
    pub frame: u32,
    pub size: (u32, u32),
    pub key_every: u32,
    pub force_key: bool,
    /// RTP time at tick 0 and rate.
    pub rtp0: u32,
    pub rate: u64,
    pub interval_us: u64,
    pub next: Tick,
    pub next_report: Tick,
    /// The publisher's NTP clock minus ours, microseconds.
    pub ntp_offset_us: i64,
    /// The publisher's clock runs fast against ours by this.
    pub clock_ppm: i64,
    /// What its media is counted by (the sound card) runs fast against the publisher's clock by this.
    pub card_ppm: i64,
    pub reports: Reports,
    /// Its RTP time has stood since.
    pub stands_since: Option<Tick>,
    /// From capture to sending.
    pub sent_after_us: u64,
    pub fragments: u32,
    pub codec: Codec,
    /// Of the video-orientation extension.
    pub rotation: u16,
    /// So many between two others: they come after the picture that is shown behind them.
    pub b_frames: u32,
}

/// Sender reports as LiveKit makes them: the publisher's last one, carried on at the nominal rate to a fixed tick.
#[derive(Clone, Debug)]
pub struct Reports {
    /// A publisher's own, with this much between its two clocks that is not so, either way.
    pub error_us: u64,
    pub own_every_us: u64,
    pub tick_us: u64,
    /// An own report's RTP time may be behind by up to this (a relay's: of what it forwarded last).
    pub late_us: u64,
    pub rng: Lcg,
    /// Our tick, NTP microseconds, RTP of the publisher's last one.
    own: Option<(Tick, i64, u32)>,
}

impl Reports {
    pub fn exact() -> Self {
        Self::livekit(0, 0, 5)
    }

    /// The next one is the publisher's own.
    pub fn forget(&mut self) {
        self.own = None;
    }

    pub fn livekit(error_us: u64, own_every_us: u64, seed: u64) -> Self {
        Self { error_us, own_every_us, tick_us: 3_000_000, late_us: 0, rng: Lcg(seed), own: None }
    }
}

impl Publisher {
    pub fn camera(track: u32, start: Tick) -> Self {
        Self {
            track: TrackKey(track),
            source: Source::Camera,
            ssrc: 1000 + track,
            sequence: 65_500,
            frame: 0,
            size: (640, 360),
            key_every: 60,
            force_key: true,
            rtp0: u32::MAX - 90_000,
            rate: 90_000,
            interval_us: 40_000,
            next: start,
            next_report: start.after(1_000_000),
            ntp_offset_us: 3_900_000_000_000_000,
            clock_ppm: 0,
            card_ppm: 0,
            reports: Reports::exact(),
            stands_since: None,
            sent_after_us: 0,
            fragments: 3,
            codec: Codec::H264,
            rotation: 0,
            b_frames: 0,
        }
    }

    pub fn microphone(track: u32, start: Tick) -> Self {
        Self {
            source: Source::Microphone,
            rtp0: 12_345,
            rate: 48_000,
            interval_us: 20_000,
            fragments: 1,
            next_report: start.after(2_000_000),
            ..Self::camera(track, start)
        }
    }

    /// Our time as its media counts it, and back.
    fn media_us(&self, at: Tick) -> u64 {
        fast(at.0, self.clock_ppm + self.card_ppm)
    }

    fn tick_of(&self, media_us: u64) -> Tick {
        Tick((u128::from(media_us) * 1_000_000 / (1_000_000 + self.clock_ppm + self.card_ppm) as u128) as u64)
    }

    pub fn rtp_at(&self, at: Tick) -> u32 {
        self.rtp0.wrapping_add((u128::from(self.media_us(at)) * u128::from(self.rate) / 1_000_000) as u32)
    }

    fn ntp_at(&self, at: Tick) -> i64 {
        fast(at.0, self.clock_ppm) as i64 + self.ntp_offset_us
    }

    pub fn report(&mut self, at: Tick) -> SenderReport {
        let fresh = self.reports.own.is_none_or(|(since, ..)| at.since(since) >= self.reports.own_every_us);
        if fresh {
            let error = self.reports.rng.below(2 * self.reports.error_us + 1) as i64 - self.reports.error_us as i64;
            let late = self.reports.rng.below(self.reports.late_us + 1);
            self.reports.own = Some((at, self.ntp_at(at) + error, self.rtp_at(Tick(at.0 - late))));
        }
        let (since, ntp, rtp) = self.reports.own.expect("made above");
        let on = at.since(since);
        let us = (ntp + on as i64) as u128;
        SenderReport { ssrc: self.ssrc, ntp: ((us << 32) / 1_000_000) as u64, rtp: rtp.wrapping_add((on * self.rate / 1_000_000) as u32) }
    }

    /// By how many pictures the next one is shown after its place in decoding order, counted from the last key frame.
    fn shown_after(&self) -> i64 {
        let (group, n) = (self.b_frames + 1, self.frame % self.key_every);
        match (n, n.wrapping_sub(1) % group) {
            (0, _) => 0,
            (_, 0) => i64::from(self.b_frames),
            _ => -1,
        }
    }

    /// The packets of the next frame, captured at `self.next`; with B-frames key frames are only where `key_every` puts them.
    pub fn produce(&mut self) -> Vec<RtpPacket> {
        let key = self.frame.is_multiple_of(self.key_every) || self.force_key && self.b_frames == 0;
        self.force_key = false;
        let captured = self.stands_since.unwrap_or(self.next).0 as i64 + self.shown_after() * self.interval_us as i64;
        let timestamp = self.rtp_at(Tick(captured as u64));
        let payloads = match self.source {
            Source::Camera | Source::ScreenShare if self.codec == Codec::Vp8 => vp8(self.frame, key, self.size, self.fragments),
            Source::Camera | Source::ScreenShare => {
                let sps = key.then(|| parameter_set(self.size, (self.b_frames > 0).then_some(1)));
                coded(self.frame, sps, self.fragments)
            }
            _ => vec![opus(self.frame)],
        };
        self.frame += 1;
        self.next = self.tick_of(self.media_us(self.next) + self.interval_us);
        let last = payloads.len() - 1;
        let packets = payloads.into_iter().enumerate();
        packets
            .map(|(n, payload)| {
                self.sequence = self.sequence.wrapping_add(1);
                let marker = n == last;
                // As libwebrtc does: on the last packet of a picture.
                let rotation = if marker { self.rotation } else { 0 };
                RtpPacket { ssrc: self.ssrc, sequence: self.sequence, timestamp, marker, payload, rotation }
            })
            .collect()
    }
}

/// A span as a clock counts it that runs fast by this.
fn fast(us: u64, ppm: i64) -> u64 {
    (i128::from(us) + i128::from(us) * i128::from(ppm) / 1_000_000) as u64
}

/// A 20 ms Opus packet with its number inside.
pub fn opus(n: u32) -> Bytes {
    let mut data = vec![0xf8];
    data.extend_from_slice(&n.to_be_bytes());
    Bytes::from(data)
}

/// Packets of one VP8 frame (RFC 7741): the headers are real, its number stands where the coded picture would.
pub fn vp8(n: u32, key: bool, size: (u32, u32), fragments: u32) -> Vec<Bytes> {
    let mut frame = vec![0x10 | u8::from(!key), 0, 0];
    if key {
        let [width, height] = [size.0, size.1].map(|side| (side as u16).to_le_bytes());
        frame.extend([0x9d, 0x01, 0x2a]);
        frame.extend(width.into_iter().chain(height));
    }
    frame.extend(n.to_be_bytes());
    frame.resize(frame.len() + 300, 0xaa);
    let part = frame.len().div_ceil(fragments as usize);
    let payload = |(i, chunk): (usize, &[u8])| Bytes::from([&[if i == 0 { 0x10 } else { 0 }], chunk].concat());
    frame.chunks(part).enumerate().map(payload).collect()
}

/// The last NAL unit of a coded picture, its slice: its number is inside.
pub fn slice(n: u32, key: bool) -> Vec<u8> {
    let mut slice = vec![if key { 0x65 } else { 0x41 }, 0x88];
    slice.extend(n.to_be_bytes().iter().flat_map(|b| [0x10 | b >> 4, 0x10 | b & 15]));
    slice.resize(slice.len() + 300, 0xaa);
    slice
}

/// The number in a slice; None: black.
pub fn number(slice: &[u8]) -> Option<u32> {
    let nibbles = slice.get(2..10).filter(|_| slice[1..3] == [0x88, 0x10])?;
    Some(nibbles.chunks(2).fold(0, |v, c| v << 8 | u32::from(c[0] & 15) << 4 | u32::from(c[1] & 15)))
}

/// Packets of one coded picture: STAP-A with parameter sets before a key frame, then FU-A. Its number is in the slice.
pub fn picture(n: u32, key: bool, size: (u32, u32), fragments: u32) -> Vec<Bytes> {
    coded(n, key.then(|| sps(size)), fragments)
}

/// As [`picture`]; a key frame has parameter sets.
fn coded(n: u32, sps: Option<Vec<u8>>, fragments: u32) -> Vec<Bytes> {
    let mut payloads = Vec::new();
    let key = sps.is_some();
    if let Some(sps) = sps {
        let pps = vec![0x68, 0xce, 0x3c, 0x80];
        let mut stap = vec![24];
        for nal in [&sps, &pps, &pps] {
            stap.extend_from_slice(&(nal.len() as u16).to_be_bytes());
            stap.extend_from_slice(nal);
        }
        payloads.push(Bytes::from(stap));
    }
    let kind = if key { 5u8 } else { 1 };
    let slice = slice(n, key).split_off(1);
    let part = slice.len().div_ceil(fragments as usize);
    let count = slice.chunks(part).count();
    for (i, chunk) in slice.chunks(part).enumerate() {
        let header = kind | if i == 0 { 0x80 } else { 0 } | if i + 1 == count { 0x40 } else { 0 };
        let mut fu = vec![0x7c, header];
        fu.extend_from_slice(chunk);
        payloads.push(Bytes::from(fu));
    }
    payloads
}

/// A Constrained Baseline SPS of a size that is a multiple of two.
pub fn sps(size: (u32, u32)) -> Vec<u8> {
    parameter_set(size, None)
}

/// Constrained Baseline; or Main, of which so many pictures may be out of order.
fn parameter_set((width, height): (u32, u32), reordered: Option<u32>) -> Vec<u8> {
    let mut bits = Vec::new();
    let ue = |v: u32, bits: &mut Vec<u8>| {
        let n = v + 1;
        let len = 32 - n.leading_zeros();
        bits.extend(std::iter::repeat_n(0, len as usize - 1));
        bits.extend((0..len).rev().map(|i| (n >> i & 1) as u8));
    };
    let (mbs_x, mbs_y) = (width.div_ceil(16), height.div_ceil(16));
    // id, log2_max_frame_num - 4, pic_order_cnt_type (and log2_max_pic_order_cnt_lsb - 4), max_num_ref_frames
    let fields = if reordered.is_none() { [0, 0, 2, 1].as_slice() } else { &[0, 0, 0, 0, 1] };
    fields.iter().for_each(|v| ue(*v, &mut bits));
    bits.push(0);
    ue(mbs_x - 1, &mut bits);
    ue(mbs_y - 1, &mut bits);
    bits.extend([1, 1]); // frame_mbs_only, direct_8x8
    let (crop_x, crop_y) = ((mbs_x * 16 - width) / 2, (mbs_y * 16 - height) / 2);
    bits.push(u8::from(crop_x + crop_y > 0));
    if crop_x + crop_y > 0 {
        for v in [0, crop_x, 0, crop_y] {
            ue(v, &mut bits);
        }
    }
    match reordered {
        None => bits.push(0), // no VUI
        Some(reordered) => {
            bits.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]); // nothing but a bitstream restriction
            [0, 0, 0, 0, reordered, 4].iter().for_each(|v| ue(*v, &mut bits));
        }
    }
    bits.push(1); // stop bit
    let mut out = if reordered.is_none() { vec![0x67, 66, 0xc0, 31] } else { vec![0x67, 77, 0, 31] };
    out.extend(bits.chunks(8).map(|c| c.iter().enumerate().fold(0u8, |v, (i, b)| v | b << (7 - i))));
    out
}

/// A network between publishers and the session.
#[derive(Clone, Debug)]
pub struct Network {
    pub delay_us: u64,
    pub jitter_us: u64,
    /// Percent of packets that come 300 ms late (retransmitted).
    pub late: u64,
    /// Percent of packets that never come.
    pub lost: u64,
    pub rng: Lcg,
}

impl Network {
    pub fn clean() -> Self {
        Self { delay_us: 30_000, jitter_us: 0, late: 0, lost: 0, rng: Lcg(1) }
    }
}

/// Publishers, a network and a room, stepped together.
pub struct World {
    pub room: Room,
    pub network: Network,
    pub publishers: BTreeMap<u32, Publisher>,
    /// Pictures and sounds that were sent, by track.
    pub sent: BTreeMap<u32, Vec<u32>>,
    /// When each was captured.
    pub captured: BTreeMap<u32, Vec<Tick>>,
    wire: BTreeMap<(u64, u64), Input>,
    wire_n: u64,
}

impl World {
    pub fn new(room: Room) -> Self {
        Self {
            room,
            network: Network::clean(),
            publishers: BTreeMap::new(),
            sent: BTreeMap::new(),
            captured: BTreeMap::new(),
            wire: BTreeMap::new(),
            wire_n: 0,
        }
    }

    pub fn add(&mut self, publisher: Publisher) {
        self.publishers.insert(publisher.track.0, publisher);
    }

    fn send(&mut self, at: Tick, input: Input) {
        let jitter = if self.network.jitter_us > 0 { self.network.rng.below(self.network.jitter_us) } else { 0 };
        let late = if self.network.rng.chance(self.network.late) { 300_000 } else { 0 };
        self.wire.insert((at.0 + self.network.delay_us + jitter + late, self.wire_n), input);
        self.wire_n += 1;
    }

    fn produce(&mut self, track: u32) {
        let Some(publisher) = self.publishers.get_mut(&track) else { return };
        let (at, frame) = (publisher.next, publisher.frame);
        let report = (at >= publisher.next_report).then(|| publisher.report(at));
        if report.is_some() {
            publisher.next_report = at.after(publisher.reports.tick_us);
        }
        let (key, sent) = (publisher.track, at.after(publisher.sent_after_us));
        let packets = publisher.produce();
        self.sent.entry(track).or_default().push(frame);
        self.captured.entry(track).or_default().push(at);
        for packet in packets {
            if !self.network.rng.chance(self.network.lost) {
                self.send(sent, Input::Packet { track: key, packet });
            }
        }
        if let Some(report) = report {
            self.send(at, Input::SenderReport { track: key, report });
        }
    }

    pub fn run_until(&mut self, until: Tick) {
        loop {
            let capture = self.publishers.values().map(|p| (p.next.0, p.track.0)).min();
            let arrival = self.wire.keys().next().map(|(at, _)| *at);
            let next = capture.map(|(at, _)| at).into_iter().chain(arrival).min();
            let Some(next) = next.filter(|at| *at <= until.0) else { break };
            self.room.run_until(Tick(next));
            match capture {
                Some((at, track)) if at == next => self.produce(track),
                _ => {
                    if let Some((_, input)) = self.wire.pop_first() {
                        self.room.input(input);
                    }
                }
            }
            self.answer_keyframes();
        }
        self.room.run_until(until);
        self.answer_keyframes();
    }

    fn answer_keyframes(&mut self) {
        for (_, track) in self.room.keyframe_requests.split_off(0) {
            if let Some(publisher) = self.publishers.get_mut(&track.0) {
                publisher.force_key = true;
            }
        }
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.run_until(self.room.now.after(ms * 1000));
    }

    /// The wall clock of the session.
    pub fn wall(&self) -> WallMicros {
        let (tick, wall) = self.room.started;
        WallMicros(wall.0 + self.room.now.since(tick))
    }

    /// Silences a publisher.
    pub fn stop_sending(&mut self, track: u32) -> Publisher {
        self.publishers.remove(&track).expect("it was sending")
    }
}

/// What must be true of a manifest at any time: segments of a playlist follow each other, none longer than the hard limit; no unit is
/// counted twice.
pub fn check_books(manifest: &Manifest, segment_seconds: u32) {
    let longest = (i64::from(segment_seconds) + 14) * MediaTime::PER_SECOND;
    for playlist in &manifest.playlists {
        let mut end = MediaTime(i64::MIN);
        for entry in manifest.ledger.iter().filter(|e| e.playlist == playlist.name) {
            assert!(entry.start >= end, "{} begins at {:?} before its predecessor ends at {end:?}", entry.name, entry.start);
            assert!(entry.duration90k > 0 && entry.duration90k <= longest, "{entry:?}");
            end = MediaTime(entry.start.0 + entry.duration90k);
        }
    }
    for track in &manifest.tracks {
        assert!(track.written_units <= track.received_units && track.received_units <= track.packets, "{track:?}");
    }
}

/// A playlist without its comments, which tell whose text it is.
pub fn tags_and_names(text: &str) -> String {
    text.lines().filter(|line| !line.starts_with("# ")).flat_map(|line| [line, "\n"]).collect()
}

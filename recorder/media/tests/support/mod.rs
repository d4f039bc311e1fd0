//! A room in virtual time: publishers that send RTP, a driver that answers like the real one, and a reader of what was stored.

use bytes::Bytes;
use recorder_media::*;
use std::collections::{BTreeMap, BTreeSet};

pub mod reader;

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
        segment_seconds: 4,
        idle_timeout_seconds: 30,
        max_duration_seconds: None,
        drain_timeout_seconds: 60,
        idle_counts_publishers: false,
        report_quality: ReportQuality::Sender,
        resume: None,
    }
}

pub const WALL: WallMicros = WallMicros(1_700_000_000_000_000);

#[derive(Clone, Debug, Default)]
pub struct Segment {
    pub name: String,
    pub data: Vec<u8>,
    pub closed: bool,
    pub stored: bool,
}

/// How storage behaves.
#[derive(Clone, Debug)]
pub struct Storage {
    pub delay_us: u64,
    /// Percent of uploads and puts that fail.
    pub failing: u64,
    /// A newer attempt has taken over.
    pub superseded: bool,
    pub rng: Lcg,
}

pub struct Room {
    pub session: Session,
    pub now: Tick,
    pub segments: BTreeMap<(u32, u32), Segment>,
    pub playlists: BTreeMap<String, String>,
    pub puts: Vec<(String, String)>,
    pub manifests: u32,
    pub keyframe_requests: Vec<(Tick, TrackKey)>,
    pub finished: Option<Outcome>,
    pub storage: Storage,
    /// Everything that came out, as text: two runs must agree byte for byte.
    pub log: String,
    pub audio_ops: Vec<(PlaylistKey, AudioOp)>,
    answers: BTreeMap<(u64, u64), Input>,
    next_answer: u64,
    fed: BTreeMap<PlaylistKey, (i64, i64)>,
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
            keyframe_requests: Vec::new(),
            finished: None,
            storage: Storage { delay_us: 20_000, failing: 0, superseded: false, rng: Lcg(7) },
            log: String::new(),
            audio_ops: Vec::new(),
            answers: BTreeMap::new(),
            next_answer: 0,
            fed: BTreeMap::new(),
            in_flight: BTreeSet::new(),
        }
    }

    pub fn input(&mut self, input: Input) {
        self.session.handle(self.now, input);
        while let Some(output) = self.session.poll_output() {
            self.carry_out(output);
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

    fn answer(&mut self, input: Input) {
        let at = self.now.0 + self.storage.delay_us;
        self.answers.insert((at, self.next_answer), input);
        self.next_answer += 1;
    }

    fn store_result<T>(&mut self, ok: T) -> Result<T, StoreError> {
        let failing = self.storage.failing;
        if self.storage.superseded {
            return Err(StoreError::Superseded);
        }
        match self.storage.rng.chance(failing) {
            true => Err(StoreError::Retryable("503".into())),
            false => Ok(ok),
        }
    }

    fn carry_out(&mut self, output: Output) {
        assert!(self.finished.is_none(), "nothing comes after Finished");
        self.log.push_str(&format!("{} {output:?}\n", self.now.0));
        match output {
            Output::Audio { playlist, op } => self.encode(playlist, op),
            Output::Append { segment, name, data } => self.append(segment, name, &data),
            Output::CloseSegment { op, segment, .. } => {
                let file = self.segments.get_mut(&(segment.playlist.0, segment.n)).expect("closed what was appended to");
                file.closed = true;
                let facts = SegmentFacts { bytes: file.data.len() as u64, sha256: "00".into() };
                self.answer(Input::SegmentClosed { op, result: Ok(facts) });
            }
            Output::Upload { op, segment, .. } => self.upload(op, segment),
            Output::PutPlaylist { op, name, body } => self.put_playlist(op, name, body),
            Output::PutManifest { op } => {
                assert!(self.in_flight.insert("manifest".into()), "one manifest put at a time");
                self.manifests += 1;
                let result = self.store_result(());
                self.in_flight.remove("manifest");
                self.answer(Input::Put { op, result });
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
    }

    fn upload(&mut self, op: OpId, segment: SegmentKey) {
        let result = self.store_result(Stored { etag: format!("e{}", segment.n) });
        if result.is_ok()
            && let Some(file) = self.segments.get_mut(&(segment.playlist.0, segment.n))
        {
            assert!(file.closed && !file.stored, "a segment is stored once");
            file.stored = true;
        }
        self.answer(Input::Uploaded { op, result });
    }

    fn put_playlist(&mut self, op: OpId, name: String, body: String) {
        let stored: BTreeSet<&str> = self.session.manifest().ledger.iter().filter(|e| e.stored).map(|e| e.name.as_str()).collect();
        for segment in body.lines().filter(|l| !l.starts_with('#')) {
            assert!(stored.contains(segment), "{name} names {segment}, which is not stored");
        }
        let before = self.playlists.get(&name).cloned().unwrap_or_default();
        assert!(body.starts_with(&before), "an EVENT playlist only grows");
        let result = self.store_result(());
        if result.is_ok() {
            self.playlists.insert(name.clone(), body.clone());
        }
        self.puts.push((name, body));
        self.answer(Input::Put { op, result });
    }

    /// One fake ADTS frame per 1024 samples, with its number in it.
    fn encode(&mut self, playlist: PlaylistKey, op: AudioOp) {
        self.audio_ops.push((playlist, op.clone()));
        let (fed, frames) = self.fed.entry(playlist).or_default();
        *fed += match &op {
            AudioOp::Decode { samples, .. } | AudioOp::Recover { samples, .. } => i64::from(*samples),
            AudioOp::Conceal { samples } | AudioOp::Silence { samples } => i64::from(*samples),
            AudioOp::Compensate { samples, .. } => i64::from(*samples),
            AudioOp::Reset | AudioOp::Prime | AudioOp::Finish => 0,
        };
        let whole = *fed / 1024 + i64::from(op == AudioOp::Finish);
        let new = (*frames..whole).map(|k| Bytes::from(format!("{k:010}"))).collect();
        *frames = whole.max(*frames);
        self.input(Input::AudioEncoded { playlist, frames: new });
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
    pub fragments: u32,
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
            fragments: 3,
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

    pub fn rtp_at(&self, at: Tick) -> u32 {
        self.rtp0.wrapping_add((at.0 * self.rate / 1_000_000) as u32)
    }

    pub fn report(&self, at: Tick) -> SenderReport {
        let us = (at.0 as i64 + self.ntp_offset_us) as u128;
        SenderReport { ssrc: self.ssrc, ntp: ((us << 32) / 1_000_000) as u64, rtp: self.rtp_at(at) }
    }

    /// The packets of the next frame, captured at `self.next`.
    pub fn produce(&mut self) -> Vec<RtpPacket> {
        let key = self.force_key || self.frame.is_multiple_of(self.key_every);
        self.force_key = false;
        let timestamp = self.rtp_at(self.next);
        let payloads = match self.source {
            Source::Camera | Source::ScreenShare => picture(self.frame, key, self.size, self.fragments),
            _ => vec![opus(self.frame)],
        };
        self.frame += 1;
        self.next = self.next.after(self.interval_us);
        let last = payloads.len() - 1;
        let packets = payloads.into_iter().enumerate();
        packets
            .map(|(n, payload)| {
                self.sequence = self.sequence.wrapping_add(1);
                RtpPacket { ssrc: self.ssrc, sequence: self.sequence, timestamp, marker: n == last, payload, rotation: 0 }
            })
            .collect()
    }
}

/// A 20 ms Opus packet with its number inside.
pub fn opus(n: u32) -> Bytes {
    let mut data = vec![0xf8];
    data.extend_from_slice(&n.to_be_bytes());
    Bytes::from(data)
}

/// Packets of one coded picture: STAP-A with parameter sets before a key frame, then FU-A. Its number is in the slice.
pub fn picture(n: u32, key: bool, size: (u32, u32), fragments: u32) -> Vec<Bytes> {
    let mut payloads = Vec::new();
    if key {
        let (sps, pps) = (sps(size), vec![0x68, 0xce, 0x3c, 0x80]);
        let mut stap = vec![24];
        for nal in [&sps, &pps, &pps] {
            stap.extend_from_slice(&(nal.len() as u16).to_be_bytes());
            stap.extend_from_slice(nal);
        }
        payloads.push(Bytes::from(stap));
    }
    let kind = if key { 5u8 } else { 1 };
    let mut slice = vec![0x88];
    slice.extend(n.to_be_bytes().iter().flat_map(|b| [0x10 | b >> 4, 0x10 | b & 15]));
    slice.resize(slice.len() + 300, 0xaa);
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
pub fn sps((width, height): (u32, u32)) -> Vec<u8> {
    let mut bits = Vec::new();
    let ue = |v: u32, bits: &mut Vec<u8>| {
        let n = v + 1;
        let len = 32 - n.leading_zeros();
        bits.extend(std::iter::repeat_n(0, len as usize - 1));
        bits.extend((0..len).rev().map(|i| (n >> i & 1) as u8));
    };
    let (mbs_x, mbs_y) = (width.div_ceil(16), height.div_ceil(16));
    for v in [0, 0, 2, 1] {
        ue(v, &mut bits); // id, log2_max_frame_num - 4, pic_order_cnt_type, max_num_ref_frames
    }
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
    bits.extend([0, 1]); // no VUI, stop bit
    let mut out = vec![0x67, 66, 0xc0, 31];
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
    wire: BTreeMap<(u64, u64), Input>,
    wire_n: u64,
}

impl World {
    pub fn new(room: Room) -> Self {
        Self { room, network: Network::clean(), publishers: BTreeMap::new(), sent: BTreeMap::new(), wire: BTreeMap::new(), wire_n: 0 }
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
            publisher.next_report = at.after(3_000_000);
        }
        let key = publisher.track;
        let packets = publisher.produce();
        self.sent.entry(track).or_default().push(frame);
        for packet in packets {
            if !self.network.rng.chance(self.network.lost) {
                self.send(at, Input::Packet { track: key, packet });
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

    /// Silences a publisher.
    pub fn stop_sending(&mut self, track: u32) -> Publisher {
        self.publishers.remove(&track).expect("it was sending")
    }
}

//! A recording of a day in virtual time: what playlist, manifest and ledger cost storage, and what the process keeps. Session and
//! manifest texts are the real ones; the room never falters, and storage takes everything at once.

use bytes::Bytes;
use recorder_media::*;

const DAY_SECONDS: u64 = 24 * 3600;
const DAYS: u64 = 3;
/// By then every buffer has its size.
const SETTLED_SECONDS: u64 = 4 * 3600;
const SEGMENT_SECONDS: u32 = 6;
/// A day's units would take minutes: there are fewer and smaller ones, and the disk says that a file with pictures is larger, as at
/// 1.7 Mbit/s, LiveKit's 720p30.
const VIDEO_BYTES_PER_SECOND: u64 = 1_700_000 / 8;
const PICTURE_PACKETS: usize = 2;
const PICTURE_EVERY_MS: u64 = 1_500;
const PACKET_BYTES: usize = 100;
const KEY_EVERY: u32 = 4;
/// The longest that Opus makes (RFC 6716 section 2.1.4) but for several frames in one.
const SOUND_EVERY_MS: u64 = 60;
/// AAC-LC, 48 kbit/s: a frame of 1024 samples.
const FRAME: Bytes = Bytes::from_static(&[0; 128]);
const FRAME_SAMPLES: u64 = 1024;
/// Constrained Baseline, 1280x720 (ITU-T H.264 section 7.3.2.1), and a picture parameter set.
const SPS: &[u8] = &[0x67, 0x42, 0xc0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xe4];
const PPS: &[u8] = &[0x68, 0xce, 0x3c, 0x80];

/// What went to storage, bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Put {
    media: u64,
    playlists: u64,
    manifests: u64,
    ledger: u64,
    objects: u64,
}

impl Put {
    /// Everything but media, in percent of it.
    fn share(&self) -> f64 {
        (self.playlists + self.manifests + self.ledger) as f64 / self.media as f64 * 100.0
    }
}

struct Day {
    session: Session,
    now: Tick,
    put: Put,
    open_bytes: u64,
    /// Each file, by the pictures it would hold.
    larger_by: u64,
    samples: u64,
    frames: u64,
    finished: Option<Outcome>,
}

impl Day {
    fn new(media: MediaKinds) -> Self {
        let config = Config {
            stem: "0f8c5b1e_standup".into(),
            attempt: 1,
            media,
            mode: Mode::Individual,
            subscription: Subscription::default(),
            segment_seconds: SEGMENT_SECONDS,
            idle_timeout_seconds: 30,
            max_duration_seconds: None,
            drain_timeout_seconds: 60,
            idle_counts_publishers: false,
            report_quality: ReportQuality::Sender,
            snapshots: None,
            backup: false,
            resume: None,
        };
        let larger_by = if media == MediaKinds::Audio { 0 } else { VIDEO_BYTES_PER_SECOND * u64::from(SEGMENT_SECONDS) };
        let now = Tick(1_000_000);
        let session = Session::new(config, now, WallMicros(1_767_225_600_000_000));
        Self { session, now, put: Put::default(), open_bytes: 0, larger_by, samples: 0, frames: 0, finished: None }
    }

    fn input(&mut self, input: Input) {
        self.session.handle(self.now, input);
        while let Some(output) = self.session.poll_output() {
            if let Some(answer) = self.answer(output) {
                self.input(answer);
            }
        }
    }

    fn answer(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Audio { playlist, op } => Some(Input::AudioEncoded { playlist, frames: self.encode(&op) }),
            Output::Append { data, .. } => {
                self.open_bytes += data.len() as u64;
                None
            }
            Output::CloseSegment { op, .. } => {
                let bytes = std::mem::take(&mut self.open_bytes) + self.larger_by;
                self.put.media += bytes;
                self.put.objects += 1;
                Some(Input::SegmentClosed { op, result: Ok(SegmentFacts { bytes, sha256: "0f".repeat(32) }) })
            }
            Output::Upload { op, .. } => Some(Input::Uploaded { op, result: Ok(Stored { etag: format!("\"{}\"", "0f".repeat(16)) }) }),
            Output::PutPlaylist { op, body, .. } => {
                self.put.playlists += body.len() as u64;
                Some(Input::Put { op, result: Ok(()) })
            }
            Output::PutManifest { op, .. } => {
                let (head, chunks) = recorder::fuzzing::manifest_bytes(self.session.manifest());
                self.put.manifests += head as u64;
                self.put.ledger += chunks.iter().sum::<usize>() as u64;
                // The spool's thread has written them meanwhile.
                let entries = self.session.manifest().ledger.sealed() + chunks.len() * LEDGER_CHUNK;
                self.input(Input::LedgerKept { entries });
                Some(Input::Put { op, result: Ok(()) })
            }
            Output::Finished(outcome) => {
                self.finished = Some(outcome);
                None
            }
            Output::Move { .. } | Output::RemoveFromBackup { .. } => unreachable!("there is no backup"),
            Output::Snapshot { .. } | Output::PutSnapshot { .. } => unreachable!("none is wanted"),
            Output::Video { .. }
            | Output::Subscribe { .. }
            | Output::Size { .. }
            | Output::RequestKeyframe { .. }
            | Output::ReportChanged => None,
        }
    }

    fn encode(&mut self, op: &AudioOp) -> Vec<Bytes> {
        if let AudioOp::Decode { samples, .. } | AudioOp::Conceal { samples } | AudioOp::Silence { samples } = op {
            self.samples += u64::from(*samples);
        }
        let due = self.samples / FRAME_SAMPLES + u64::from(*op == AudioOp::Finish);
        let frames = due.saturating_sub(self.frames);
        self.frames += frames;
        vec![FRAME; frames as usize]
    }

    fn pass_to(&mut self, until: Tick) {
        while let Some(wake) = self.session.next_wake().filter(|wake| *wake <= until && self.finished.is_none()) {
            self.now = self.now.max(wake);
            self.input(Input::Wake);
        }
        self.now = until;
    }

    /// Three days.
    fn of(media: MediaKinds, sources: &[Source]) -> (Self, Kept) {
        let mut day = Self::new(media);
        let (put, kept) = day.run(sources);
        day.put = put;
        println!("{media:?}: {:.2} % of {put:?}; {kept:?}", put.share());
        (day, kept)
    }

    /// One participant, who sends from the first to the last second. What the first day has put, and what was kept.
    fn run(&mut self, sources: &[Source]) -> (Put, Kept) {
        let participant = ParticipantKey(0);
        self.input(Input::Connected);
        self.input(Input::Joined { participant, identity: "alice@example.org".into(), escaped: "alice!40example.org".into() });
        for (n, source) in sources.iter().enumerate() {
            let codec = if *source == Source::Camera { Codec::H264 } else { Codec::Opus };
            self.input(Input::Published { track: TrackKey(n as u32), participant, source: *source, codec, muted: false });
        }
        let began = self.now;
        let (mut put, mut kept) = (Put::default(), Kept::default());
        for ms in (0..DAYS * DAY_SECONDS * 1000).step_by(SOUND_EVERY_MS as usize) {
            self.pass_to(began.after(ms * 1000));
            for (n, source) in sources.iter().enumerate() {
                self.send(TrackKey(n as u32), *source, ms);
            }
            if ms == SETTLED_SECONDS * 1000 {
                kept.settled = anonymous_kib();
            } else if ms == DAY_SECONDS * 1000 {
                (put, kept.first_day) = (self.put, anonymous_kib());
            } else if ms == 2 * DAY_SECONDS * 1000 {
                kept.second_day = anonymous_kib();
            }
        }
        kept.third_day = anonymous_kib();
        self.input(Input::Order(Order::Stop(StopReason::StopRequested)));
        self.pass_to(self.now.after(60_000_000));
        assert_eq!(self.finished, Some(Outcome::StopRequested));
        (put, kept)
    }

    fn send(&mut self, track: TrackKey, source: Source, ms: u64) {
        let (ssrc, rate, packets) = match source {
            Source::Camera if ms.is_multiple_of(PICTURE_EVERY_MS) => (1, 90, picture((ms / PICTURE_EVERY_MS) as u32)),
            Source::Camera => return,
            _ => (2, 48, vec![Bytes::from_static(&[0x58; 240])]),
        };
        let count = packets.len() as u64;
        let unit = if source == Source::Camera { ms / PICTURE_EVERY_MS } else { ms / SOUND_EVERY_MS };
        for (n, payload) in packets.into_iter().enumerate() {
            let sequence = (unit * count + n as u64) as u16;
            let packet = RtpPacket { ssrc, sequence, timestamp: (ms * rate) as u32, marker: n as u64 + 1 == count, payload, rotation: 0 };
            self.input(Input::Packet { track, packet });
        }
    }
}

/// STAP-A with the parameter sets, then FU-A (RFC 6184 sections 5.7.1, 5.8); as many packets of a key frame as of another.
fn picture(n: u32) -> Vec<Bytes> {
    let key = n.is_multiple_of(KEY_EVERY);
    let mut packets = Vec::with_capacity(PICTURE_PACKETS);
    if key {
        let nal = |unit: &[u8]| [&(unit.len() as u16).to_be_bytes(), unit].concat();
        packets.push(Bytes::from([vec![24], nal(SPS), nal(PPS)].concat()));
    }
    let first = packets.len();
    for i in first..PICTURE_PACKETS {
        let (start, end) = (u8::from(i == first) << 7, u8::from(i + 1 == PICTURE_PACKETS) << 6);
        let mut payload = vec![0x7c, start | end | if key { 5 } else { 1 }, 0x88];
        payload.resize(PACKET_BYTES, 0xaa);
        packets.push(Bytes::from(payload));
    }
    packets
}

/// Anonymous memory of the process, KiB.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    settled: u64,
    /// When the first day, and with it the first playlist, ends.
    first_day: u64,
    second_day: u64,
    third_day: u64,
}

impl Kept {
    fn check(self) {
        let segments = (DAY_SECONDS - SETTLED_SECONDS) / u64::from(SEGMENT_SECONDS);
        let growth = self.first_day.saturating_sub(self.settled) * 1024 / segments;
        assert!(growth <= GROWTH_BYTES_PER_SEGMENT, "{growth} bytes a segment: {self:?}");
        assert!(self.third_day <= self.second_day + NEXT_DAY_KIB, "{self:?}");
    }
}

fn anonymous_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("RssAnon");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of KiB")
}

/// The newest playlist's text (140 bytes a segment) is kept, to be put again, and a copy of it that is on its way; with its volume, after a
/// day, it goes.
const GROWTH_BYTES_PER_SEGMENT: u64 = 300;
/// Of the volume that ended, 8 bytes a segment and its records.
const NEXT_DAY_KIB: u64 = 256;

// One test: memory is the process'.
#[test]
fn a_day_costs_storage_little_more_than_its_media_and_memory_nothing() {
    let (day, kept) = Day::of(MediaKinds::AudioVideo, &[Source::Camera, Source::Microphone]);
    assert!(day.put.share() <= 2.0, "{:.2} % {:?}", day.put.share(), day.put);
    kept.check();
    let camera = &day.session.manifest().tracks[0];
    assert_eq!(camera.written_units, DAYS * DAY_SECONDS * 1000 / PICTURE_EVERY_MS);
    assert_eq!(day.session.manifest().playlists.len() as u64, DAYS, "a volume a day");
    drop(day);
    // 48 kbit/s of sound are so little that a playlist of a day, written again every 5 minutes, is a good part of it.
    let (day, kept) = Day::of(MediaKinds::Audio, &[Source::Microphone]);
    assert!(day.put.share() <= 50.0, "{:.2} % {:?}", day.put.share(), day.put);
    kept.check();
}

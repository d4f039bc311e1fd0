//! One published track: its packets on their way through the delay line, and when its publisher is asked for a key frame.

use crate::clock::{ParticipantClock, TrackClock};
use crate::delay_line::{DelayLine, Held, Taken};
use crate::h264;
use crate::video::VideoInput;
use crate::{Codec, ParticipantKey, PlaylistKey, ReportQuality, RtpPacket, SenderReport, Source, Tick};
use std::collections::VecDeque;

/// A published camera that is silent for this long is asked for a key frame.
const SILENT_US: u64 = 3_500_000;
/// Asked again after this long.
const ASK_INTERVAL_US: u64 = 1_000_000;
/// A timestamp this far from its arrival is not of the same clock any more.
const MAX_AHEAD_US: i64 = 2_000_000;
const MAX_BEHIND_US: i64 = 15_000_000;

pub(crate) fn is_video(source: Source) -> bool {
    matches!(source, Source::Camera | Source::ScreenShare)
}

pub(crate) fn is_recordable(source: Source, codec: Codec) -> bool {
    codec == if is_video(source) { Codec::H264 } else { Codec::Opus }
}

/// State of one SSRC; a new SSRC starts afresh.
#[derive(Debug)]
pub(crate) struct Receiver {
    ssrc: u32,
    pub line: DelayLine,
    pub clock: TrackClock,
    /// No packet has left yet.
    pub fresh: bool,
}

/// When to ask the publisher for a key frame. Works at arrival, not behind the delay line.
#[derive(Debug, Default)]
struct KeyframeWish {
    /// The next segment may begin at this key frame's time plus the segment's length.
    cut_base: Option<Tick>,
    /// A decoder has lost its reference, or never had one.
    needed: bool,
    last_packet: Option<Tick>,
    last_asked: Option<Tick>,
}

#[derive(Debug)]
pub(crate) struct Track {
    pub participant: ParticipantKey,
    pub source: Source,
    pub codec: Codec,
    pub playlist: Option<PlaylistKey>,
    pub muted: bool,
    pub published: bool,
    /// Index of its record in the manifest.
    pub record: usize,
    /// The SFU's filler is coming: as good as muted.
    pub blank: bool,
    pub first_packet: Option<Tick>,
    pub video: VideoInput,
    receivers: VecDeque<Receiver>,
    /// Packets lost with the end of an earlier SSRC, to be told with the next.
    wish: KeyframeWish,
    /// A report that came before the first packet of its SSRC.
    early_report: Option<SenderReport>,
}

impl Track {
    pub(crate) fn new(participant: ParticipantKey, source: Source, codec: Codec, muted: bool, record: usize) -> Self {
        Self {
            participant,
            source,
            codec,
            playlist: None,
            muted,
            published: true,
            record,
            blank: false,
            first_packet: None,
            video: VideoInput::default(),
            receivers: VecDeque::new(),
            wish: KeyframeWish { needed: true, ..KeyframeWish::default() },
            early_report: None,
        }
    }

    pub(crate) fn is_video(&self) -> bool {
        is_video(self.source)
    }

    fn rate(&self) -> u32 {
        if self.is_video() { 90_000 } else { 48_000 }
    }

    /// Takes a packet in; false: seen already, or too late.
    pub(crate) fn packet(&mut self, now: Tick, packet: RtpPacket, quality: ReportQuality, participant: &mut ParticipantClock) -> bool {
        self.wish.last_packet = Some(now);
        self.first_packet.get_or_insert(now);
        if !self.belongs(now, &packet, participant) {
            let clock = TrackClock::new(self.rate(), quality);
            self.receivers.push_back(Receiver { ssrc: packet.ssrc, line: DelayLine::default(), clock, fresh: true });
        }
        let early = self.early_report.filter(|r| r.ssrc == packet.ssrc);
        let Some(receiver) = self.receivers.iter_mut().rev().find(|r| r.ssrc == packet.ssrc) else { return false };
        let rtp = receiver.clock.unwrapped(packet.timestamp);
        let key = self.codec == Codec::H264 && h264::payload_is_key(&packet.payload);
        let sequence = receiver.line.sequence(packet.sequence);
        let newest = receiver.line.highest().is_none_or(|highest| sequence > highest);
        let held = Held { rtp, marker: packet.marker, payload: packet.payload };
        if receiver.line.insert(sequence, held) != Taken::New {
            return false;
        }
        if newest {
            // Retransmissions say nothing about the network's least delay and would only cost time.
            receiver.clock.observe(now, rtp, participant);
        }
        if let Some(report) = early {
            receiver.clock.report(now, &report, participant);
            self.early_report = None;
        }
        if key {
            self.wish.needed = false;
        }
        true
    }

    /// Whether the packet continues a stream that is known: same SSRC, a clock that did not jump.
    fn belongs(&self, now: Tick, packet: &RtpPacket, participant: &ParticipantClock) -> bool {
        let Some(receiver) = self.receivers.iter().rev().find(|r| r.ssrc == packet.ssrc) else { return false };
        let rtp = receiver.clock.unwrapped(packet.timestamp);
        let sequence = receiver.line.sequence(packet.sequence);
        if receiver.line.highest().is_some_and(|highest| sequence <= highest) {
            return true;
        }
        receiver.clock.estimate(rtp, participant).is_none_or(|at| {
            let late = now.0 as i64 - at;
            (-MAX_AHEAD_US..MAX_BEHIND_US).contains(&late)
        })
    }

    pub(crate) fn report(&mut self, now: Tick, report: SenderReport, participant: &mut ParticipantClock) {
        match self.receivers.iter_mut().rev().find(|r| r.ssrc == report.ssrc) {
            Some(receiver) => receiver.clock.report(now, &report, participant),
            None => self.early_report = Some(report),
        }
    }

    pub(crate) fn has_report(&self) -> bool {
        self.receivers.back().is_some_and(|r| r.clock.has_report())
    }

    /// Our time of the next packet in line, in microseconds of the tick.
    pub(crate) fn head_time(&mut self, participant: &ParticipantClock) -> Option<i64> {
        while self.receivers.len() > 1 && self.receivers.front().is_some_and(|r| r.line.head().is_none()) {
            self.receivers.pop_front();
            self.video.resync();
        }
        let receiver = self.receivers.front()?;
        receiver.clock.estimate(receiver.line.head()?.rtp, participant)
    }

    pub(crate) fn is_over_full(&self) -> bool {
        self.receivers.iter().any(|r| r.line.is_over_full())
    }

    /// Takes the next packet out: how many are lost before it, itself, whether its SSRC is new.
    pub(crate) fn pop(&mut self, time_us: i64) -> Option<(u64, Held, bool)> {
        let receiver = self.receivers.front_mut()?;
        let (missing, held) = receiver.line.pop()?;
        receiver.clock.commit(held.rtp, time_us);
        Some((missing, held, std::mem::take(&mut receiver.fresh)))
    }

    /// Our time of an RTP time of the SSRC that is leaving the line.
    pub(crate) fn time_of(&self, rtp: i64, participant: &ParticipantClock) -> Option<i64> {
        self.receivers.front()?.clock.estimate(rtp, participant)
    }

    /// Forgets what is in the line: media is not accepted at the moment.
    pub(crate) fn clear(&mut self) {
        self.receivers.clear();
        self.video.resync();
        self.wish.needed = true;
    }

    /// Pictures cannot be decoded until the next IDR; ask, unless it is already in the line.
    pub(crate) fn need_key(&mut self) {
        let waiting = self.receivers.iter().any(|r| r.line.any(|held| h264::payload_is_key(&held.payload)));
        self.wish.needed |= !waiting;
    }

    /// A key frame has come in at which the next cut will be.
    pub(crate) fn cut_expected(&mut self, at: Tick) {
        self.wish.cut_base = Some(self.wish.cut_base.map_or(at, |base| base.max(at)));
    }

    pub(crate) fn cut_base(&self) -> Option<Tick> {
        self.wish.cut_base
    }

    /// Whether to ask for a key frame now.
    pub(crate) fn asks(&mut self, now: Tick, segment_us: u64) -> bool {
        let Some(first) = self.first_packet else { return false };
        if !self.published || self.muted || self.blank || self.codec != Codec::H264 {
            return false;
        }
        let silent = now.since(self.wish.last_packet.unwrap_or(first)) >= SILENT_US;
        let due = self.wish.cut_base.is_some_and(|base| now.since(base) >= segment_us);
        let recently = self.wish.last_asked.is_some_and(|at| now.since(at) < ASK_INTERVAL_US);
        let asks = (self.wish.needed || silent || due) && !recently;
        if asks {
            self.wish.last_asked = Some(now);
        }
        asks
    }
}

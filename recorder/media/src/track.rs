//! One published track: its packets on their way through the delay line, and when its publisher is asked for a key frame.

use crate::clock::{ParticipantClock, TrackClock};
use crate::delay_line::{DelayLine, Held, Taken};
use crate::depacketizer::payload_is_key;
use crate::video::{VideoEvent, VideoInput};
use crate::{ClockFault, Codec, ParticipantKey, PlaylistKey, ReportQuality, RtpPacket, SenderReport, Source, Tick, TranscodeReason};
use std::collections::VecDeque;

/// A published camera that is silent for this long is asked for a key frame.
const SILENT_US: u64 = 3_500_000;
/// A packet that is resent at all is here by then: SFUs resend it a few times (LiveKit three times), then no more.
const RESENT_US: u64 = 500_000;
/// Asked again after this long.
const ASK_INTERVAL_US: u64 = 1_000_000;
/// The journal reaches back to the last key frame of what is transcoded (replay.rs): after this long the publisher is asked for one.
const KEY_AT_LEAST_US: u64 = 30_000_000;
/// A timestamp this far from its arrival is not of the same clock any more.
const MAX_AHEAD_US: i64 = 2_000_000;
const MAX_BEHIND_US: i64 = 15_000_000;

pub(crate) fn is_video(source: Source) -> bool {
    matches!(source, Source::Camera | Source::ScreenShare)
}

pub(crate) fn is_recordable(source: Source, codec: Codec) -> bool {
    match codec {
        Codec::H264 | Codec::Vp8 | Codec::Vp9 | Codec::Av1 => is_video(source),
        Codec::Opus => !is_video(source),
        Codec::H265 | Codec::Other => false,
    }
}

/// State of one SSRC; a new SSRC starts afresh.
#[derive(Debug)]
pub(crate) struct Receiver {
    ssrc: u32,
    /// The subscription it came by.
    subscription: u32,
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
    /// RTP time of the newest key frame, and whether it lies on its side.
    last_key: Option<(i64, bool)>,
    last_key_at: Option<Tick>,
}

impl KeyframeWish {
    /// A key frame is what was wished for; what passed untouched is transcoded once it is turned, and back, which takes a key frame, too.
    fn arrived(&mut self, now: Tick, codec: Codec, composed: bool, rtp: i64, packet: &RtpPacket) {
        let on_its_side = packet.rotation != 0;
        if payload_is_key(codec, &packet.payload) {
            self.needed = false;
            (self.last_key, self.last_key_at) = (Some((rtp, on_its_side)), Some(now));
        }
        if let Some((key_rtp, turned)) = self.last_key.as_mut().filter(|_| packet.marker) {
            match *key_rtp == rtp {
                true => *turned = on_its_side,
                false => self.needed |= !composed && codec.passes_through() && *turned != on_its_side,
            }
        }
    }

    fn is_turned(&self) -> bool {
        self.last_key.is_some_and(|(_, turned)| turned)
    }
}

#[derive(Debug)]
pub(crate) struct Track {
    pub participant: ParticipantKey,
    pub source: Source,
    pub codec: Codec,
    pub playlist: Option<PlaylistKey>,
    /// The playlist that it had in the process that a journal is of.
    pub home: Option<PlaylistKey>,
    pub muted: bool,
    pub published: bool,
    /// The job's lists take it.
    pub subscribed: bool,
    /// Counts subscriptions: packets of two do not belong together, whatever their SSRC.
    subscription: u32,
    /// Index of its record in the manifest.
    pub record: usize,
    /// It is of the journal of an earlier process: what came of it may be counted already.
    pub replayed: bool,
    /// Its pictures are decoded, whatever their codec, and become part of a composite.
    pub composed: bool,
    /// The SFU's filler is coming: as good as muted.
    pub blank: bool,
    pub first_packet: Option<Tick>,
    /// What leaves the line is transcoded; decided at key frames, where it can change without a fault.
    pub transcoded: Option<TranscodeReason>,
    pub video: VideoInput,
    receivers: VecDeque<Receiver>,
    /// Packets lost with the end of an earlier SSRC, to be told with the next.
    wish: KeyframeWish,
    /// A report that came before the first packet of its SSRC.
    early_report: Option<SenderReport>,
    fault: Option<ClockFault>,
    stands_still: bool,
}

impl Track {
    pub(crate) fn new(participant: ParticipantKey, source: Source, codec: Codec, muted: bool, record: usize) -> Self {
        Self {
            participant,
            source,
            codec,
            playlist: None,
            home: None,
            muted,
            published: true,
            subscribed: false,
            subscription: 0,
            record,
            replayed: false,
            composed: false,
            blank: false,
            first_packet: None,
            transcoded: None,
            video: VideoInput::new(codec),
            receivers: VecDeque::new(),
            wish: KeyframeWish { needed: true, ..KeyframeWish::default() },
            early_report: None,
            fault: None,
            stands_still: false,
        }
    }

    pub(crate) fn is_video(&self) -> bool {
        is_video(self.source)
    }

    /// None of its packets came before the last of the other.
    pub(crate) fn begins_after(&self, other: &Self) -> bool {
        let (first, last) = (self.first_packet, other.wish.last_packet);
        first.zip(last).is_none_or(|(first, last)| first >= last)
    }

    fn rate(&self) -> u32 {
        if self.is_video() { 90_000 } else { 48_000 }
    }

    /// Takes a packet in; false: seen already, or too late.
    pub(crate) fn packet(&mut self, now: Tick, packet: RtpPacket, quality: ReportQuality, participant: &mut ParticipantClock) -> bool {
        self.wish.last_packet = Some(now);
        self.first_packet.get_or_insert(now);
        if let Some(clock) = self.other_clock(now, &packet, quality, participant) {
            let subscription = self.subscription;
            self.receivers.push_back(Receiver { ssrc: packet.ssrc, subscription, line: DelayLine::default(), clock, fresh: true });
        }
        let video = self.is_video();
        let early = self.early_report.filter(|r| r.ssrc == packet.ssrc);
        let Some(receiver) = self.receivers.iter_mut().rev().find(|r| r.ssrc == packet.ssrc) else { return false };
        let sequence = receiver.line.sequence(packet.sequence);
        let newest = receiver.line.highest().is_none_or(|highest| sequence > highest);
        let rtp = match newest {
            true => {
                let (rtp, stands) = receiver.clock.advancing(now, packet.timestamp, packet.marker || !video);
                let begins = stands && !self.stands_still;
                self.stands_still = stands;
                self.fault = self.fault.or(begins.then_some(ClockFault::StoodStill));
                rtp
            }
            false => receiver.clock.unwrapped(packet.timestamp),
        };
        // Whatever it is, it is not what is missing there.
        if !newest && !(-MAX_AHEAD_US..MAX_BEHIND_US).contains(&receiver.clock.behind_newest(rtp)) {
            return false;
        }
        let held = Held { rtp, marker: packet.marker, rotation: packet.rotation, payload: packet.payload.clone() };
        if receiver.line.insert(now, sequence, held) != Taken::New {
            return false;
        }
        if newest {
            // Retransmissions say nothing about the network's least delay and would only cost time.
            let apart = receiver.clock.observe(now, rtp, participant);
            self.fault = self.fault.or(apart.then_some(ClockFault::Apart));
        }
        if let Some(report) = early {
            receiver.clock.report(now, &report, participant);
            self.early_report = None;
        }
        if self.is_video() {
            self.wish.arrived(now, self.codec, self.composed, rtp, &packet);
        }
        true
    }

    /// What has to be done to a picture, and from here on to those that follow it.
    pub(crate) fn transcodes(&mut self, key: bool, rotation: u16) -> Option<TranscodeReason> {
        if key {
            let turned = (rotation != 0).then_some(TranscodeReason::Rotation);
            self.transcoded = match (self.composed, self.codec.passes_through()) {
                (true, _) => Some(TranscodeReason::Composed),
                (false, true) => turned,
                (false, false) => Some(TranscodeReason::Codec),
            };
        }
        self.transcoded
    }

    /// A clock of its own for a packet that does not continue a known stream: another SSRC, or RTP time that does not run on.
    fn other_clock(&mut self, now: Tick, packet: &RtpPacket, quality: ReportQuality, participant: &ParticipantClock) -> Option<TrackClock> {
        let fresh = || TrackClock::new(self.rate(), quality);
        let known = |r: &&Receiver| r.ssrc == packet.ssrc && r.subscription == self.subscription;
        let Some(receiver) = self.receivers.iter().rev().find(known) else { return Some(fresh()) };
        let rtp = receiver.clock.unwrapped(packet.timestamp);
        let sequence = receiver.line.sequence(packet.sequence);
        if receiver.line.highest().is_some_and(|highest| sequence <= highest) || receiver.clock.repeats(packet.timestamp) {
            return None;
        }
        let late = receiver.clock.estimate(rtp, participant).map(|at| now.0 as i64 - at);
        let far = late.is_some_and(|late| !(-MAX_AHEAD_US..MAX_BEHIND_US).contains(&late));
        let fault = receiver.clock.departs(now, rtp).or(far.then_some(ClockFault::Jumped))?;
        let clock = TrackClock::after(&receiver.clock);
        self.fault = Some(fault);
        Some(clock)
    }

    /// The clock was overridden since the last call.
    pub(crate) fn take_fault(&mut self) -> Option<ClockFault> {
        self.fault.take()
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

    /// Of what is leaving the line.
    pub(crate) fn ssrc(&self) -> u32 {
        self.receivers.front().map_or(0, |receiver| receiver.ssrc)
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

    /// What a packet that left the line completes.
    pub(crate) fn picture_events(&mut self, missing: u64, held: &Held) -> Vec<VideoEvent> {
        let next = self.receivers.front().and_then(|receiver| receiver.line.head());
        self.video.packet(missing, held, next)
    }

    /// Our time of an RTP time of the SSRC that is leaving the line.
    pub(crate) fn time_of(&self, rtp: i64, participant: &ParticipantClock) -> Option<i64> {
        self.receivers.front()?.clock.estimate(rtp, participant)
    }

    /// What comes from now on does not continue what is in the line, whatever its SSRC.
    pub(crate) fn begin_anew(&mut self) {
        self.subscription += 1;
        self.wish.needed = true;
    }

    /// Its publisher sends, and the SFU should pass it on.
    pub(crate) fn is_expected(&self) -> bool {
        self.published && self.subscribed && !self.muted
    }

    pub(crate) fn subscribe(&mut self) {
        self.subscribed = true;
        self.wish.needed = true;
        // The silence until here was ours.
        self.wish.last_packet = None;
        self.wish.cut_base = None;
    }

    /// The number of the subscription that ends; what it brought stays in line until its time has come.
    pub(crate) fn unsubscribe(&mut self) -> u32 {
        self.subscribed = false;
        self.subscription += 1;
        self.subscription - 1
    }

    /// Forgets what came by this subscription or an earlier one; whether it is a picture.
    pub(crate) fn forget(&mut self, subscription: u32) -> bool {
        let before = self.receivers.len();
        self.receivers.retain(|r| r.subscription > subscription);
        if self.receivers.len() < before {
            self.video.resync();
        }
        self.is_video()
    }

    /// Pictures cannot be decoded until the next IDR; ask, unless it is already in the line.
    pub(crate) fn need_key(&mut self) {
        let waiting = self.receivers.iter().any(|r| r.line.any_behind(None, |held| payload_is_key(self.codec, &held.payload)));
        self.wish.needed |= !waiting;
    }

    /// Only a key frame that is still to come is of use.
    pub(crate) fn need_new_key(&mut self) {
        self.wish.needed = true;
    }

    /// A packet is missing that nobody resends any more, and no key frame has come since: pictures would be lost until one comes.
    fn breaks_off(&self, now: Tick) -> bool {
        let Some(then) = now.0.checked_sub(RESENT_US).map(Tick) else { return false };
        let is_key = |held: &Held| payload_is_key(self.codec, &held.payload);
        let newest = self.receivers.back().map(|r| &r.line);
        newest.is_some_and(|line| line.open_since(then).is_some_and(|hole| !line.any_behind(Some(hole), is_key)))
    }

    /// A key frame has come in at which the next cut will be.
    pub(crate) fn cut_expected(&mut self, at: Tick) {
        self.wish.cut_base = Some(self.wish.cut_base.map_or(at, |base| base.max(at)));
    }

    pub(crate) fn cut_base(&self) -> Option<Tick> {
        self.wish.cut_base
    }

    /// Our time of the newest key frame that has come, in microseconds of the tick.
    pub(crate) fn key_time(&self, participant: &ParticipantClock) -> Option<i64> {
        let (rtp, _) = self.wish.last_key?;
        self.receivers.back()?.clock.estimate(rtp, participant)
    }

    /// Whether to ask for a key frame now. `snapshot`: one is due, and no key frame has come since.
    pub(crate) fn asks(&mut self, now: Tick, segment_us: u64, snapshot: bool) -> bool {
        let Some(first) = self.first_packet else { return false };
        if !self.is_expected() || self.blank || !self.is_video() {
            return false;
        }
        let silent = now.since(self.wish.last_packet.unwrap_or(first)) >= SILENT_US;
        // What is transcoded gets its key frames for cuts from our own encoder.
        let passes = !self.composed && self.codec.passes_through() && !self.wish.is_turned();
        let since = if passes { self.wish.cut_base } else { self.wish.last_key_at };
        let due = since.is_some_and(|since| now.since(since) >= if passes { segment_us } else { KEY_AT_LEAST_US }) || passes && snapshot;
        let recently = self.wish.last_asked.is_some_and(|at| now.since(at) < ASK_INTERVAL_US);
        let asks = !recently && (self.wish.needed || silent || due || self.breaks_off(now));
        if asks {
            self.wish.last_asked = Some(now);
        }
        asks
    }
}

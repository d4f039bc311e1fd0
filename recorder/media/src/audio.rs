//! A playlist's sound on its own sample clock: what the decoder and the encoder are told, and where the encoder's frames stand in time.

use crate::{AudioOp, MediaTime};
use bytes::Bytes;
use std::collections::VecDeque;

/// Samples per AAC frame.
pub(crate) const FRAME: i64 = 1024;
/// Media time of one AAC frame at 48 kHz, 90 kHz.
pub(crate) const FRAME_90K: i64 = 1920;
/// ADTS frame k begins this many samples before sample k * 1024 of what was fed (FFmpeg's aac, measured).
const ENCODER_DELAY: i64 = 1024;
/// Fed behind the last sound of a stay, so that its last frames come out without ending the encoder.
const TAIL: i64 = 4 * FRAME;
/// Silence stays this far behind the pump: jitter of the clock must not tear holes into running speech.
const SILENCE_LAG: i64 = 48 * 100;
const SILENCE_STEP: i64 = 48 * 100;
/// A gap of more is filled; less is drift.
const GAP: i64 = 48 * 20;
/// Sound that comes later than this after its place was filled is cut.
const MAX_OVERLAP: i64 = 48 * 60;
/// Drift below this is left alone (3 ms).
const DRIFT: i64 = 48 * 3;
/// Drift is absorbed by at most 5 ms per second.
const MAX_COMPENSATION: i64 = 48 * 5;
const COMPENSATION_OVER: i64 = 48_000;
/// Opus conceals this much credibly; then silence.
const MAX_CONCEALED: i64 = 48 * 60;
/// Decoded Opus lags its RTP time by the codec's own delay: 2.5 ms that every encoder has and 4 ms in which libopus looks ahead
/// (RFC 6716 section 2; 312 samples, what it tells a file's pre-skip, RFC 7845 section 4.2). RTP carries no pre-skip (RFC 7587), and
/// WebRTC's senders are libopus; its low-delay mode has 2.5 ms, then sound is 4 ms early instead of 2.5 ms late.
const OPUS_DELAY: i64 = 312;
/// After a longer gap the decoder starts afresh.
const RESET_AFTER: i64 = 48_000;
/// An encoder that holds back more frames than this is not waited for.
const MAX_ENCODER_LAG: i64 = 8 * FRAME;

pub(crate) fn samples(t90k: i64) -> i64 {
    t90k * 8 / 15
}

fn media(samples: i64) -> i64 {
    samples * 15 / 8
}

/// Samples at 48 kHz in an Opus packet (RFC 6716 section 3.1); None: malformed.
pub(crate) fn opus_samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let config = toc >> 3;
    let frame = match config {
        0..=11 => [480, 960, 1920, 2880][usize::from(config % 4)],
        12..=15 => [480, 960][usize::from(config % 2)],
        _ => [120, 240, 480, 960][usize::from(config % 4)],
    };
    let count = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(*packet.get(1)? & 63),
    };
    // 120 ms is the most that a packet may hold.
    Some(frame * count).filter(|n| (1..=5760).contains(n))
}

/// From this sample on, what is fed stands at this media time.
#[derive(Debug)]
struct Stay {
    sample: i64,
    start: MediaTime,
    end: Option<MediaTime>,
}

/// Resampling under way: `over` samples become `total`. The driver counts in the same way, sample for sample.
#[derive(Debug)]
struct Compensation {
    over: i64,
    total: i64,
    done: i64,
}

impl Compensation {
    /// Samples that have come out after `count` went in: each as soon as the two around it are known.
    fn out(&self, count: i64) -> i64 {
        match count {
            0 => 0,
            _ if count >= self.over => self.total + count - self.over,
            _ => ((count - 1) * self.total / self.over + 1).min(self.total),
        }
    }
}

/// When the sound of a packet with this time was captured.
pub(crate) fn captured(packet: MediaTime) -> MediaTime {
    MediaTime(packet.0 - media(OPUS_DELAY))
}

/// An Opus packet on its way in.
#[derive(Debug)]
pub(crate) struct Sound {
    pub at: MediaTime,
    pub lost_before: u64,
    /// A decoder that knows nothing of what came before is wanted.
    pub fresh: bool,
    pub payload: Bytes,
}

#[derive(Debug, Default)]
pub(crate) struct AudioChain {
    stays: VecDeque<Stay>,
    fed: i64,
    frames: i64,
    compensation: Option<Compensation>,
    /// The next sound is the first behind a [`Self::join`].
    joins: bool,
    /// It gives the encoder the mix of a composite's voices; nothing that is mixed is silence.
    mixes: bool,
    /// Operations that the driver has not answered yet.
    pub(crate) unanswered: u32,
    ops: Vec<AudioOp>,
    pub(crate) ready: VecDeque<(MediaTime, Bytes)>,
    /// Silence put in place of lost packets.
    pub(crate) holes: Vec<(MediaTime, i64)>,
    /// Since when silence stands in for packets that have not come; the next one tells whether they were lost.
    waiting_since: Option<MediaTime>,
}

impl AudioChain {
    pub(crate) fn of_composite() -> Self {
        Self { mixes: true, ..Self::default() }
    }

    /// Among its operations; no sound of its own.
    pub(crate) fn order(&mut self, op: AudioOp) {
        self.ops.push(op);
    }

    /// The place of a moment of this stay among all samples.
    pub(crate) fn place_of(&self, at: MediaTime) -> i64 {
        self.stays.back().map_or(0, |stay| stay.sample + samples(at.0 - stay.start.0))
    }

    pub(crate) fn begin(&mut self, start: MediaTime) {
        assert!(self.stays.back().is_none_or(|s| s.end.is_some()), "a stay ends before the next begins");
        self.stays.push_back(Stay { sample: self.fed, start, end: None });
    }

    /// As [`Self::begin`], at a frame's beginning, not behind the first sound: silence leads up to it.
    pub(crate) fn join(&mut self, start: MediaTime) {
        self.begin(start);
        self.joins = true;
    }

    pub(crate) fn take_ops(&mut self) -> Vec<AudioOp> {
        self.unanswered += self.ops.len() as u32;
        std::mem::take(&mut self.ops)
    }

    /// Media time up to which sound was fed.
    pub(crate) fn cursor(&self) -> Option<MediaTime> {
        let stay = self.stays.back().filter(|s| s.end.is_none())?;
        Some(MediaTime(stay.start.0 + media(self.fed - stay.sample)))
    }

    fn feed(&mut self, op: AudioOp, count: i64) {
        self.ops.push(op);
        let Some(under_way) = &mut self.compensation else {
            self.fed += count;
            return;
        };
        let before = under_way.out(under_way.done);
        under_way.done += count;
        self.fed += under_way.out(under_way.done) - before;
        if under_way.done >= under_way.over {
            self.compensation = None;
        }
    }

    /// The clocks of the next stay have nothing to do with this one's.
    fn stop_compensation(&mut self) {
        if self.compensation.take().is_some() {
            self.ops.push(AudioOp::Compensate { samples: 0, over: 0 });
        }
    }

    fn silence(&mut self, count: i64) {
        let mut left = count;
        while left > 0 {
            let part = left.min(COMPENSATION_OVER);
            let samples = part as u32;
            let op = if self.mixes { AudioOp::Mix { samples } } else { AudioOp::Silence { samples } };
            self.feed(op, part);
            left -= part;
        }
    }

    /// One packet, in order. Returns whether it was used.
    pub(crate) fn sound(&mut self, sound: &Sound) -> bool {
        let (Some(cursor), Some(count)) = (self.cursor(), opus_samples(&sound.payload).map(i64::from)) else {
            return false;
        };
        let ahead = samples(sound.at.0 - cursor.0);
        if ahead < -MAX_OVERLAP {
            self.too_late(sound.at, count);
            return false;
        }
        if sound.fresh || ahead > RESET_AFTER {
            self.ops.push(AudioOp::Reset);
        }
        self.waited_for(sound, cursor);
        let joins = std::mem::take(&mut self.joins);
        if ahead > GAP || (ahead > 0 && (sound.lost_before > 0 || joins)) {
            self.fill(ahead, count, sound);
        } else {
            self.compensate(ahead);
        }
        self.feed(AudioOp::Decode { packet: sound.payload.clone(), samples: count as u32 }, count);
        true
    }

    /// Its place was filled long ago: it is missing there.
    fn too_late(&mut self, at: MediaTime, count: i64) {
        if self.stays.back().is_some_and(|stay| stay.start <= at) {
            self.holes.push((at, media(count)));
        }
    }

    /// Silence up to here was put before this packet came: a hole when packets before it were lost.
    fn waited_for(&mut self, sound: &Sound, cursor: MediaTime) {
        let since = self.waiting_since.take().filter(|_| sound.lost_before > 0 && !sound.fresh);
        self.holes.extend(since.map(|since| (since, cursor.0 - since.0)));
    }

    /// What stands between the cursor and a packet: forward error correction, concealment, silence after losses; silence alone where nothing was sent.
    fn fill(&mut self, gap: i64, count: i64, sound: &Sound) {
        if sound.lost_before == 0 || sound.fresh {
            return self.silence(gap);
        }
        let recovered = count.min(gap);
        let concealed = (gap - recovered).min(MAX_CONCEALED);
        let silent = gap - recovered - concealed;
        if concealed > 0 {
            self.feed(AudioOp::Conceal { samples: concealed as u32 }, concealed);
        }
        if let (true, Some(from)) = (silent > 0, self.cursor()) {
            self.holes.push((from, media(silent)));
            self.silence(silent);
        }
        self.feed(AudioOp::Recover { next: sound.payload.clone(), samples: recovered as u32 }, recovered);
    }

    fn compensate(&mut self, ahead: i64) {
        if ahead.abs() <= DRIFT || self.compensation.is_some() {
            return;
        }
        let samples = ahead.clamp(-MAX_COMPENSATION, MAX_COMPENSATION);
        self.ops.push(AudioOp::Compensate { samples: samples as i32, over: COMPENSATION_OVER as u32 });
        self.compensation = Some(Compensation { over: COMPENSATION_OVER, total: COMPENSATION_OVER + samples, done: 0 });
    }

    /// All packets up to `to` were given: what is missing well before it is silence.
    pub(crate) fn advance(&mut self, to: MediaTime) {
        let Some(cursor) = self.cursor() else { return };
        let behind = samples(to.0 - cursor.0) - SILENCE_LAG;
        if behind > SILENCE_STEP {
            self.waiting_since.get_or_insert(cursor);
            self.silence(behind);
        }
    }

    /// Sound ends at `end`. The encoder goes on: the next stay begins on a frame boundary.
    pub(crate) fn end(&mut self, end: MediaTime) {
        let Some(cursor) = self.cursor() else { return };
        self.stop_compensation();
        self.waiting_since = None;
        self.silence(samples(end.0 - cursor.0));
        let aligned = (self.fed + TAIL + FRAME - 1) / FRAME * FRAME;
        self.silence(aligned - self.fed);
        if let Some(stay) = self.stays.back_mut() {
            stay.end = Some(end);
        }
        // The last packet may reach beyond it, and its frames may have come out already.
        self.ready.retain(|(at, _)| *at < end);
    }

    pub(crate) fn finish(&mut self) {
        self.ops.push(AudioOp::Finish);
    }

    /// The encoder's answer to one operation.
    pub(crate) fn encoded(&mut self, frames: Vec<Bytes>) {
        self.unanswered = self.unanswered.saturating_sub(1);
        for frame in frames {
            let sample = self.frames * FRAME - ENCODER_DELAY;
            self.frames += 1;
            if let Some(at) = self.place(sample) {
                self.ready.push_back((at, frame));
            }
        }
        let done = self.frames * FRAME - ENCODER_DELAY;
        while self.stays.len() > 1 && self.stays[1].sample <= done {
            self.stays.pop_front();
        }
    }

    /// Where a frame that begins at this sample stands; None: nowhere (priming, tail).
    fn place(&self, sample: i64) -> Option<MediaTime> {
        let stay = self.stays.iter().rev().find(|s| s.sample <= sample)?;
        let at = MediaTime(stay.start.0 + media(sample - stay.sample));
        (stay.end.is_none_or(|end| at < end)).then_some(at)
    }

    /// Every frame before this time is in `ready` or was taken.
    pub(crate) fn frontier(&self) -> MediaTime {
        let mut sample = self.frames * FRAME - ENCODER_DELAY;
        if self.unanswered == 0 && self.ops.is_empty() {
            sample = sample.max(self.fed - MAX_ENCODER_LAG);
        }
        let Some(index) = self.stays.iter().rposition(|s| s.sample <= sample) else {
            return self.stays.front().map_or(MediaTime(i64::MAX), |first| first.start);
        };
        let stay = &self.stays[index];
        let at = MediaTime(stay.start.0 + media(sample - stay.sample));
        if stay.end.is_none_or(|end| at < end) {
            return at;
        }
        self.stays.get(index + 1).map_or(MediaTime(i64::MAX), |next| next.start)
    }

    pub(crate) fn idle(&self) -> bool {
        self.unanswered == 0 && self.ops.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_that_comes_after_its_place_was_filled_is_missing_there() {
        let mut chain = AudioChain::default();
        chain.begin(MediaTime(0));
        chain.advance(MediaTime(900_000));
        let sound = |at| Sound { at: MediaTime(at), lost_before: 0, fresh: false, payload: Bytes::from_static(&[0xf8, 0]) };
        assert!(!chain.sound(&sound(180_000)) && !chain.sound(&sound(-9_000)), "of what was before the stay nothing is missing in it");
        assert_eq!(chain.holes, [(MediaTime(180_000), 1800)]);
        assert!(chain.sound(&sound(900_000)));
        assert_eq!(chain.holes.len(), 1);
    }

    /// Its last packet may hold 120 ms.
    #[test]
    fn sound_that_reaches_beyond_the_end_of_a_stay_is_none_of_it() {
        let mut chain = AudioChain::default();
        chain.begin(MediaTime(0));
        chain.silence(4 * FRAME);
        chain.take_ops();
        chain.encoded(vec![Bytes::new(); 4]);
        chain.end(MediaTime(2_000));
        let ready: Vec<i64> = chain.ready.iter().map(|(at, _)| at.0).collect();
        assert_eq!(ready, [0, 1_920]);
    }
}

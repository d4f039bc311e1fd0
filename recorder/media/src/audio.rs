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

#[derive(Debug)]
struct Compensation {
    samples: i64,
    done: i64,
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
    /// Operations that the driver has not answered yet.
    pub(crate) unanswered: u32,
    ops: Vec<AudioOp>,
    pub(crate) ready: VecDeque<(MediaTime, Bytes)>,
    /// Silence put in place of lost packets.
    pub(crate) holes: Vec<(MediaTime, i64)>,
}

impl AudioChain {
    pub(crate) fn begin(&mut self, start: MediaTime) {
        assert!(self.stays.back().is_none_or(|s| s.end.is_some()), "a stay ends before the next begins");
        self.stays.push_back(Stay { sample: self.fed, start, end: None });
        self.compensation = None;
    }

    pub(crate) fn take_ops(&mut self) -> Vec<AudioOp> {
        self.unanswered += self.ops.len() as u32;
        std::mem::take(&mut self.ops)
    }

    /// Media time up to which sound was fed.
    fn cursor(&self) -> Option<MediaTime> {
        let stay = self.stays.back().filter(|s| s.end.is_none())?;
        Some(MediaTime(stay.start.0 + media(self.fed - stay.sample)))
    }

    fn feed(&mut self, op: AudioOp, count: i64) {
        self.ops.push(op);
        self.fed += count;
        if let Some(c) = &mut self.compensation {
            let share = |done: i64| c.samples * done.min(COMPENSATION_OVER) / COMPENSATION_OVER;
            let before = share(c.done);
            c.done += count;
            self.fed += c.samples * c.done.min(COMPENSATION_OVER) / COMPENSATION_OVER - before;
            if c.done >= COMPENSATION_OVER {
                self.compensation = None;
            }
        }
    }

    fn silence(&mut self, count: i64) {
        let mut left = count;
        while left > 0 {
            let part = left.min(COMPENSATION_OVER);
            self.feed(AudioOp::Silence { samples: part as u32 }, part);
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
            return false; // its place was filled long ago
        }
        if sound.fresh || ahead > RESET_AFTER {
            self.ops.push(AudioOp::Reset);
        }
        if ahead > GAP || (ahead > 0 && sound.lost_before > 0) {
            self.fill(ahead, count, sound);
        } else {
            self.compensate(ahead);
        }
        self.feed(AudioOp::Decode { packet: sound.payload.clone(), samples: count as u32 }, count);
        true
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
        self.compensation = Some(Compensation { samples, done: 0 });
    }

    /// All packets up to `to` were given: what is missing well before it is silence.
    pub(crate) fn advance(&mut self, to: MediaTime) {
        let Some(cursor) = self.cursor() else { return };
        let behind = samples(to.0 - cursor.0) - SILENCE_LAG;
        if behind > SILENCE_STEP {
            self.silence(behind);
        }
    }

    /// Sound ends at `end`. The encoder goes on: the next stay begins on a frame boundary.
    pub(crate) fn end(&mut self, end: MediaTime) {
        let Some(cursor) = self.cursor() else { return };
        self.compensation = None;
        self.silence(samples(end.0 - cursor.0));
        let aligned = (self.fed + TAIL + FRAME - 1) / FRAME * FRAME;
        self.silence(aligned - self.fed);
        if let Some(stay) = self.stays.back_mut() {
            stay.end = Some(end);
        }
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

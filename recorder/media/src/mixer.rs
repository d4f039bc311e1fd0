//! One sound of many voices: their sum at unity gain, without clicks where one begins or stops, limited to -1 dBFS.
//!
//! Sound is 48 kHz `f32` in -1..1; a sample is one value per channel, interleaved left, right. A place is a sample's number in the mix,
//! from 0. What comes out at a place is what the voices gave for that place; it comes [`LAG`] samples later.

mod limiter;

use crate::TrackKey;
use limiter::{LOOK_AHEAD, Limiter};
use std::collections::{BTreeMap, VecDeque};

/// How far the mix stays behind what is complete, in samples (10 ms): before the last 5 ms of a voice can be faded it must be known that
/// nothing follows, and the limiter looks another 5 ms ahead.
pub const LAG: i64 = FADE + LOOK_AHEAD as i64;

/// How far a voice may be ahead of what is complete, in samples: 10 s, the longest that a delay line grows (1.9 MB per voice and channel).
/// What it gives for later places is dropped, and it is silent there.
pub const AHEAD_MAX: i64 = 480_000;

/// A voice that begins or stops does so over 5 ms.
const FADE: i64 = 240;

/// No decoder gives more than this (18 dB over full scale). It keeps out infinity, from which the limiter would not recover.
const VALUE_MAX: f32 = 8.0;

/// Of a voice, or of the mix. One channel becomes two that are each as loud; two become one by their mean, as libopus does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    Mono,
    Stereo,
}

impl Channels {
    /// 1 or 2.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Mono => 1,
            Self::Stereo => 2,
        }
    }
}

#[derive(Debug)]
pub struct Mixer {
    channels: Channels,
    voices: BTreeMap<TrackKey, Voice>,
    /// Nothing is taken for places before this one.
    complete: i64,
    /// The voices are summed up to here.
    summed: i64,
    sum: Vec<f32>,
    limiter: Limiter,
}

impl Mixer {
    #[must_use]
    pub fn new(channels: Channels) -> Self {
        let (voices, limiter) = (BTreeMap::new(), Limiter::new(channels.count()));
        Self { channels, voices, complete: 0, summed: 0, sum: Vec::new(), limiter }
    }

    /// What this voice gives from now on stands at `at` and behind. Where it gave up to exactly there, it goes on without a seam; else it
    /// is faded out where it stopped and in where it begins. A silent stretch is best left out in this way, and costs nothing.
    ///
    /// What falls on a place that is complete, or for which this voice gave already, is dropped.
    pub fn begin(&mut self, voice: TrackKey, channels: Channels, at: i64) {
        let voice = self.voices.entry(voice).or_insert_with(|| Voice::new(channels, at));
        if voice.next != at {
            voice.close();
        }
        (voice.channels, voice.next, voice.ended) = (channels, at, false);
    }

    /// Appends to what this voice gave. What is no number is silent; half a sample at the end is dropped; a voice that never began, or
    /// was ended, is not heard.
    pub fn give(&mut self, voice: TrackKey, samples: &[f32]) {
        if let Some(voice) = self.voices.get_mut(&voice).filter(|voice| !voice.ended) {
            voice.give(samples, self.channels, self.complete);
        }
    }

    /// Nothing more comes of this voice. What it gave is still mixed, faded out at its end, then it is forgotten. It may begin again.
    pub fn end(&mut self, voice: TrackKey) {
        if let Some(voice) = self.voices.get_mut(&voice) {
            voice.close();
            voice.ended = true;
        }
    }

    /// All voices have given what they have for the places before `until`. Appends what can be told of the mix by that.
    ///
    /// Over all calls exactly `max(0, until - LAG)` samples come out, for the largest `until` so far: the places from 0 on, each once.
    pub fn mix(&mut self, until: i64, out: &mut Vec<f32>) {
        self.complete = self.complete.max(until);
        self.sum(self.complete - FADE, out);
    }

    /// Appends the rest, up to the largest `until` that [`Self::mix`] was told: then as many samples have come out, over all calls. What
    /// goes on there is faded out.
    pub fn finish(mut self, out: &mut Vec<f32>) {
        for voice in self.voices.values_mut() {
            voice.cut(self.complete, self.channels);
        }
        self.sum(self.complete, out);
        self.limiter.finish(out);
    }

    fn sum(&mut self, until: i64, out: &mut Vec<f32>) {
        if until <= self.summed {
            return;
        }
        self.sum.clear();
        self.sum.resize((until - self.summed) as usize * self.channels.count(), 0.0);
        for voice in self.voices.values_mut() {
            voice.add(self.summed, until, self.channels, &mut self.sum);
        }
        self.voices.retain(|_, voice| !(voice.ended && voice.runs.is_empty()));
        self.summed = until;
        self.limiter.limit(&self.sum, out);
    }
}

#[derive(Debug)]
struct Voice {
    channels: Channels,
    /// The place of what it gives next.
    next: i64,
    ended: bool,
    /// By place; they do not overlap.
    runs: VecDeque<Run>,
}

impl Voice {
    fn new(channels: Channels, next: i64) -> Self {
        Self { channels, next, ended: false, runs: VecDeque::new() }
    }

    fn close(&mut self) {
        if let Some(run) = self.runs.back_mut() {
            run.closed = true;
        }
    }

    fn give(&mut self, samples: &[f32], mix: Channels, complete: i64) {
        let width = self.channels.count();
        let at = self.next;
        self.next += (samples.len() / width) as i64;
        let free = self.runs.back().map_or(complete, |run| run.end.max(complete));
        let (first, last) = (at.max(free), self.next.min(complete + AHEAD_MAX));
        if first >= last {
            return;
        }
        if !self.runs.back().is_some_and(|run| run.end == first && !run.closed) {
            self.runs.push_back(Run { start: first, end: first, closed: false, waiting: VecDeque::new() });
        }
        if let Some(run) = self.runs.back_mut() {
            run.append(&samples[(first - at) as usize * width..(last - at) as usize * width], self.channels, mix);
        }
    }

    /// Adds what stands before `until` to `sum`, which begins at `from`, and forgets it.
    fn add(&mut self, from: i64, until: i64, mix: Channels, sum: &mut [f32]) {
        for run in &mut self.runs {
            run.add(from, until, mix, sum);
        }
        // One of which nothing waits ends before what is complete: nothing can go on from it.
        while self.runs.pop_front_if(|run| run.waiting.is_empty()).is_some() {}
    }

    fn cut(&mut self, end: i64, mix: Channels) {
        self.runs.retain(|run| run.start < end);
        if let Some(run) = self.runs.back_mut().filter(|run| run.end > end) {
            let surplus = (run.end - end) as usize * mix.count();
            run.waiting.truncate(run.waiting.len() - surplus);
            run.end = end;
        }
    }
}

/// Sound without a hole.
#[derive(Debug)]
struct Run {
    /// The place of its first sample, summed or not.
    start: i64,
    /// The place behind its last sample.
    end: i64,
    /// What comes behind it, however close, is other sound.
    closed: bool,
    /// Its last samples, up to `end`: those that are not summed. As many channels as the mix has.
    waiting: VecDeque<f32>,
}

impl Run {
    fn append(&mut self, samples: &[f32], from: Channels, to: Channels) {
        match (from, to) {
            (Channels::Mono, Channels::Stereo) => self.waiting.extend(samples.iter().flat_map(|value| [bounded(*value); 2])),
            (Channels::Stereo, Channels::Mono) => {
                self.waiting.extend(samples.chunks_exact(2).map(|pair| (bounded(pair[0]) + bounded(pair[1])) / 2.0));
            }
            _ => self.waiting.extend(samples.iter().map(|value| bounded(*value))),
        }
        self.end += (samples.len() / from.count()) as i64;
    }

    fn add(&mut self, from: i64, until: i64, mix: Channels, sum: &mut [f32]) {
        let width = mix.count();
        let (first, last) = (self.end - (self.waiting.len() / width) as i64, self.end.min(until));
        if last <= first {
            return;
        }
        self.fade(first, last, width);
        let count = (last - first) as usize * width;
        let sum = &mut sum[(first - from) as usize * width..][..count];
        let (head, tail) = self.waiting.as_slices();
        let split = head.len().min(count);
        let (front, back) = sum.split_at_mut(split);
        front.iter_mut().zip(&head[..split]).for_each(|(sum, value)| *sum += value);
        back.iter_mut().zip(tail).for_each(|(sum, value)| *sum += value);
        self.waiting.drain(..count);
    }

    /// Of the places from `first`, where the oldest waits, to `last`: those near an edge. `end` is one if it lies less than 5 ms behind
    /// `last`, because then everything up to beyond it is complete.
    fn fade(&mut self, first: i64, last: i64, width: usize) {
        for place in first..last.min(self.start + FADE) {
            self.scale((place - first) as usize * width, width, faded(place - self.start));
        }
        for place in first.max(self.end - FADE)..last {
            self.scale((place - first) as usize * width, width, faded(self.end - 1 - place));
        }
    }

    fn scale(&mut self, index: usize, width: usize, gain: f32) {
        self.waiting.range_mut(index..index + width).for_each(|value| *value *= gain);
    }
}

fn bounded(value: f32) -> f32 {
    if value.is_nan() { 0.0 } else { value.clamp(-VALUE_MAX, VALUE_MAX) }
}

/// Gain so many samples from an edge: half a period of a cosine, which has no corner at either end.
fn faded(from_edge: i64) -> f32 {
    let phase = (from_edge as f32 + 0.5) / FADE as f32;
    0.5 - 0.5 * (phase * std::f32::consts::PI).cos()
}

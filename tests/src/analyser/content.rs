//! Frames, beeps and tones of a stored recording, and the offset between sound and picture.

use super::block_code::{self, BEEP_LEVEL, Code, Rect, SAMPLE_RATE, TONE_LEVEL, beep_hz, tone_hz};
use super::decode;
use super::playlist::Playlist;
use anyhow::{Result, ensure};
use std::collections::{BTreeMap, BTreeSet};

/// A filler picture is ours, black, 320 x 180; black decodes to 16 and coding noise adds a few.
pub const FILLER_SIZE: (usize, usize) = (320, 180);
pub const FILLER_MAX_LUMA: f64 = 24.0;
/// libwebrtc's sender reports are true to about 25 ms ([M] media.md section 2) and a frame at 15 fps lasts 67 ms: the
/// picture is captured at its own clock, so half a frame plus the reports is what a correct recorder can be off.
pub const MAX_AV_OFFSET_P95_MS: f64 = 60.0;
/// ITU-R BT.1359: the viewer notices sound 45 ms early; it is never acceptable beyond 90.
pub const MAX_AV_OFFSET_ABSOLUTE_MS: f64 = 90.0;
/// Against a stimulus with exact timestamps: one AAC transient of 128 samples (2.7 ms) and rounding to 90 kHz.
pub const EXACT_AV_OFFSET_MS: f64 = 3.0;
/// A packet of Opus is 20 ms; one concealed packet keeps the tone, so a longer absence is a real hole.
pub const MAX_TONE_HOLE_MS: f64 = 40.0;
/// Below this (RMS, of 1.0) nobody plays a tone of -20 dBFS: -60 dBFS.
pub const SILENCE_RMS: f64 = 0.001;

/// Windows of the tone: whole cycles of every tone and beep, so they do not disturb each other.
const TONE_WINDOW: usize = SAMPLE_RATE as usize / 50;
/// Half the tone's level: a window half filled.
const TONE_PRESENT: f64 = TONE_LEVEL / 2.0;
/// Step of the beep detector, 0.25 ms.
const HOP: usize = 12;
/// Its window, 5 ms: whole cycles of every beep.
const HOPS_PER_WINDOW: usize = 20;
const HOP_SECONDS: f64 = HOP as f64 / SAMPLE_RATE as f64;
/// A quarter of the beep's level wakes the detector; tones leak less than a twentieth.
const BEEP_WAKES: f64 = BEEP_LEVEL / 4.0;
/// A beep lasts 100 ms; shorter bursts are clicks of a codec.
const MIN_BEEP_SECONDS: f64 = 0.05;
/// Shorter, and where the voice begins: its beginning was not received, so it says nothing of when it was.
const WHOLE_BEEP_MS: f64 = 95.0;
/// The voice's beginning is known to a window of the tone.
const BEGINNING_SECONDS: f64 = 0.03;
/// A beep belongs to the second of media time that is nearest in the picture; further apart it belongs to none.
const MAX_ASSOCIATION_SECONDS: f64 = 0.5;
/// When the frame of a full second was lost, a neighbour this near stands in.
const NEIGHBOUR_FRAMES: u32 = 3;

#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Frame {
    pub pts_90k: i64,
    pub width: usize,
    pub height: usize,
    pub code: Option<Code>,
    pub filler: bool,
    /// What the flash rows show; meaningless without a code.
    pub flash: bool,
}

/// Frames of one participant.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Counts {
    pub first: u32,
    pub last: u32,
    /// last - first + 1.
    pub expected: u64,
    /// Different frame numbers.
    pub present: u64,
    /// Shown again.
    pub duplicated: u64,
    /// Shown for the first time after a later one.
    pub out_of_order: u64,
    pub missing: Vec<u32>,
}

#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct VideoReport {
    pub frames: Vec<Frame>,
    pub participants: BTreeMap<u8, Counts>,
    /// No filler and yet no code.
    pub undecodable: u64,
    pub filler: u64,
    /// Sizes in the order in which they came.
    pub sizes: Vec<(usize, usize)>,
    /// PTS that do not increase.
    pub backwards: u64,
    /// Longest time between two pictures, ms.
    pub longest_gap_ms: f64,
}

/// A camera that pauses for longer begins anew.
const BREAK_90K: i64 = 45_000;
const COARSE_90K: i64 = 180_000;

/// Decodes every frame. Each run between discontinuities gets a decoder of its own.
pub fn video(playlist: &Playlist) -> Result<VideoReport> {
    let mut tracks = tiles(playlist, &[None])?;
    Ok(tracks.remove(0))
}

/// As `video`, for several places of the picture at once (Composite); `None` is the whole picture.
pub fn tiles(playlist: &Playlist, places: &[Option<Rect>]) -> Result<Vec<VideoReport>> {
    let mut reports = vec![VideoReport::default(); places.len()];
    let files = playlist.files();
    for run in playlist.runs() {
        decode::pictures(&files[run], |picture| {
            for (report, place) in reports.iter_mut().zip(places) {
                report.frames.push(frame(&picture, *place)?);
            }
            Ok(())
        })?;
    }
    reports.iter_mut().for_each(VideoReport::count);
    Ok(reports)
}

fn frame(picture: &decode::Picture<'_>, place: Option<Rect>) -> Result<Frame> {
    let (width, height) = (picture.width, picture.height);
    let rect = place.unwrap_or(Rect { x: 0, y: 0, width, height });
    ensure!(rect.x + rect.width <= width && rect.y + rect.height <= height, "{rect:?} is outside of {width}x{height}");
    let luma = &picture.data[..width * height];
    let code = block_code::read(luma, width, rect);
    let mean = || luma.iter().map(|p| u64::from(*p)).sum::<u64>() as f64 / luma.len() as f64;
    Ok(Frame {
        pts_90k: picture.pts_90k,
        width,
        height,
        code,
        filler: code.is_none() && (width, height) == FILLER_SIZE && mean() <= FILLER_MAX_LUMA,
        flash: code.is_some() && block_code::reads_flash(luma, width, rect),
    })
}

impl VideoReport {
    fn count(&mut self) {
        let mut seen: BTreeMap<u8, BTreeSet<u32>> = BTreeMap::new();
        let mut last_pts = None;
        for f in &self.frames {
            if self.sizes.last() != Some(&(f.width, f.height)) {
                self.sizes.push((f.width, f.height));
            }
            if let Some(last) = last_pts.replace(f.pts_90k) {
                self.backwards += u64::from(f.pts_90k <= last);
                self.longest_gap_ms = self.longest_gap_ms.max((f.pts_90k - last) as f64 / 90.0);
            }
            self.filler += u64::from(f.filler);
            let Some(code) = f.code else {
                self.undecodable += u64::from(!f.filler);
                continue;
            };
            let (seen, counts) = (seen.entry(code.participant).or_default(), self.participants.entry(code.participant).or_default());
            if seen.last().is_some_and(|last| *last > code.frame) && !seen.contains(&code.frame) {
                counts.out_of_order += 1;
            }
            counts.duplicated += u64::from(!seen.insert(code.frame));
        }
        for (participant, seen) in seen {
            let counts = self.participants.entry(participant).or_default();
            (counts.first, counts.last) = (seen.first().copied().unwrap_or(0), seen.last().copied().unwrap_or(0));
            counts.expected = u64::from(counts.last - counts.first) + 1;
            counts.present = seen.len() as u64;
            counts.missing = (counts.first..=counts.last).filter(|n| !seen.contains(n)).collect();
        }
    }

    /// Pictures without a code, but for those of an encoder that has just begun: on a starved machine libwebrtc's first seconds are too coarse
    /// to be read. Each with the seconds since its encoder began, and what is shown before and after it.
    #[must_use]
    pub fn without_a_code_once_settled(&self) -> Vec<(f64, [Option<Frame>; 3])> {
        let (mut began, mut unreadable) = (0, Vec::new());
        let coded: Vec<&Frame> = self.frames.iter().filter(|f| !f.filler).collect();
        for (n, f) in coded.iter().enumerate() {
            let before = n.checked_sub(1).map(|n| coded[n]);
            let goes_on = before.is_some_and(|b| f.pts_90k - b.pts_90k < BREAK_90K && (b.width, b.height) == (f.width, f.height));
            began = if goes_on { began } else { f.pts_90k };
            if f.code.is_none() && f.pts_90k - began > COARSE_90K {
                let around = [before, Some(*f), coded.get(n + 1).copied()].map(|f| f.copied());
                unreadable.push(((f.pts_90k - began) as f64 / 90_000.0, around));
            }
        }
        unreadable
    }

    /// PTS in seconds at which media second `k` of a participant is shown, by its frame `k * fps` or a neighbour.
    fn shown_at(&self, shown: &BTreeMap<u32, i64>, k: u32, fps: u32) -> Option<f64> {
        let n = k * fps;
        let near = shown.range(n.saturating_sub(NEIGHBOUR_FRAMES)..=n + NEIGHBOUR_FRAMES).min_by_key(|(m, _)| m.abs_diff(n))?;
        Some(*near.1 as f64 / 90_000.0 + (f64::from(n) - f64::from(*near.0)) / f64::from(fps))
    }

    /// Does every coded frame show the flash exactly when its number says so? Returns the frames that do not.
    #[must_use]
    pub fn wrong_flashes(&self, fps: u32) -> Vec<u32> {
        let coded = self.frames.iter().filter_map(|f| Some((f.code?.frame, f.flash)));
        coded.filter(|(n, flash)| block_code::flashes(*n, fps) != *flash).map(|(n, _)| n).collect()
    }
}

/// Seconds of PTS.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Span {
    pub start: f64,
    pub end: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Beep {
    /// PTS of its onset in seconds, good to about 0.5 ms.
    pub at: f64,
    pub duration_ms: f64,
    /// Amplitude of 1.0.
    pub level: f64,
}

/// What is heard of one participant.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Voice {
    pub beeps: Vec<Beep>,
    /// For each whole second from the first sample: share of it in which the tone is there, 0 .. 1.
    pub tone: Vec<f64>,
    /// Amplitude of 1.0 of the tone where it is there, median.
    pub level: f64,
    /// From the tone's first to its last appearance; none: it is not heard.
    pub heard: Option<Span>,
    /// Where the tone is not there in between.
    pub holes: Vec<Span>,
}

#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct AudioReport {
    /// Seconds.
    pub first_pts: f64,
    /// 48 kHz samples that were decoded.
    pub samples: u64,
    /// From the first to the last sample by their timestamps, seconds.
    pub duration: f64,
    /// Timestamps that leave a hole of more than a sample or two between decoded frames.
    pub gaps: Vec<Span>,
    /// Frames of sound that begin before the last one ended.
    pub overlaps: u64,
    /// Stretches >= 20 ms below -60 dBFS.
    pub silences: Vec<Span>,
    pub voices: BTreeMap<u8, Voice>,
}

/// Rounding of 90 kHz to 48 kHz and of FFmpeg's interpolation inside a PES.
const TIMESTAMP_SLACK_SAMPLES: i64 = 4;

/// Decodes all sound and listens for these participants. Memory: 6 MB a minute.
pub fn audio(playlist: &Playlist, participants: &[u8]) -> Result<AudioReport> {
    let (mut pcm, mut first) = (Vec::<i16>::new(), None);
    let mut report = AudioReport::default();
    let seconds = |samples: i64| samples as f64 / f64::from(SAMPLE_RATE);
    decode::samples(&playlist.files(), |s| {
        let first = *first.get_or_insert(s.start);
        let (at, end) = (s.start - first, pcm.len() as i64);
        if at > end + TIMESTAMP_SLACK_SAMPLES {
            report.gaps.push(Span { start: seconds(first + end), end: seconds(s.start) });
            pcm.resize(at as usize, 0);
        } else if at < end - TIMESTAMP_SLACK_SAMPLES {
            report.overlaps += 1;
        }
        report.samples += s.samples.len() as u64;
        pcm.extend_from_slice(s.samples);
    })?;
    report.first_pts = seconds(first.unwrap_or(0));
    report.duration = seconds(pcm.len() as i64);
    report.silences = silences(&pcm, report.first_pts);
    for id in participants {
        report.voices.insert(*id, voice(&pcm, report.first_pts, *id));
    }
    Ok(report)
}

fn voice(pcm: &[i16], origin: f64, id: u8) -> Voice {
    let levels: Vec<f64> = pcm.chunks_exact(TONE_WINDOW).map(|w| amplitude(w, tone_hz(id))).collect();
    let windows: Vec<bool> = levels.iter().map(|level| *level > TONE_PRESENT).collect();
    let mut present: Vec<f64> = levels.into_iter().filter(|level| *level > TONE_PRESENT).collect();
    present.sort_by(f64::total_cmp);
    let second = windows.chunks_exact(50);
    let tone = second.map(|w| w.iter().filter(|present| **present).count() as f64 / 50.0).collect();
    let range = windows.iter().position(|w| *w).zip(windows.iter().rposition(|w| *w));
    let holes = range.map_or(vec![], |(a, b)| spans(windows[a..=b].iter().map(|w| !w), origin + a as f64 * 0.02, 0.02));
    let heard = range.map(|(a, b)| Span { start: origin + a as f64 * 0.02, end: origin + (b + 1) as f64 * 0.02 });
    Voice { beeps: beeps(pcm, origin, beep_hz(id)), tone, level: quantile(&present, 0.5), heard, holes }
}

/// Amplitude of one frequency in a window that holds whole cycles of it.
fn amplitude(window: &[i16], hz: f64) -> f64 {
    let (mut re, mut im) = (0.0, 0.0);
    let step = std::f64::consts::TAU * hz / f64::from(SAMPLE_RATE);
    for (i, s) in window.iter().enumerate() {
        let (sin, cos) = (step * i as f64).sin_cos();
        re += f64::from(*s) * cos;
        im += f64::from(*s) * sin;
    }
    2.0 * re.hypot(im) / window.len() as f64 / 32768.0
}

fn silences(pcm: &[i16], origin: f64) -> Vec<Span> {
    let rms = |w: &[i16]| (w.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / w.len() as f64).sqrt() / 32768.0;
    spans(pcm.chunks_exact(TONE_WINDOW).map(|w| rms(w) < SILENCE_RMS), origin, 0.02)
}

/// The stretches of `true`.
fn spans(flags: impl Iterator<Item = bool>, origin: f64, step: f64) -> Vec<Span> {
    let mut out: Vec<Span> = vec![];
    let mut open = false;
    for (i, flag) in flags.enumerate() {
        let end = origin + (i + 1) as f64 * step;
        match (flag, open) {
            (true, true) => out.last_mut().into_iter().for_each(|s| s.end = end),
            (true, false) => out.push(Span { start: origin + i as f64 * step, end }),
            (false, _) => {}
        }
        open = flag;
    }
    out
}

/// The beeps of a participant in sound that begins at 0, 48 kHz mono.
#[must_use]
pub fn beeps_of(pcm: &[i16], participant: u8) -> Vec<Beep> {
    beeps(pcm, 0.0, beep_hz(participant))
}

/// A boxcar of 5 ms slides over the sound; its amplitude is half of the beep's exactly when half of it lies in the beep,
/// i.e. when its centre passes the onset. That makes the onset finer than the window.
fn beeps(pcm: &[i16], origin: f64, hz: f64) -> Vec<Beep> {
    let level = envelope(pcm, hz);
    let time = |position: f64| origin + position * HOP_SECONDS;
    let (mut out, mut i) = (vec![], 0);
    while i < level.len() {
        if level[i] < BEEP_WAKES {
            i += 1;
            continue;
        }
        let end = level[i..].iter().position(|l| *l < BEEP_WAKES).map_or(level.len(), |n| i + n);
        if (end - i) as f64 * HOP_SECONDS >= MIN_BEEP_SECONDS {
            let mut inside = level[i..end].to_vec();
            inside.sort_by(f64::total_cmp);
            let plateau = inside[inside.len() / 2];
            let onset = crossing(&level, i, end, plateau / 2.0);
            let fall = crossing_down(&level, i, end, plateau / 2.0);
            out.push(Beep { at: time(onset), duration_ms: (fall - onset) * HOP_SECONDS * 1000.0, level: plateau });
        }
        i = end;
    }
    out
}

/// Index where the level first rises through `threshold`. The search begins a window before the detector woke.
fn crossing(level: &[f64], from: usize, end: usize, threshold: f64) -> f64 {
    let from = from.saturating_sub(HOPS_PER_WINDOW).max(1);
    let i = (from..end).find(|i| level[*i] >= threshold && level[*i - 1] < threshold).unwrap_or(from);
    i as f64 - ((level[i] - threshold) / (level[i] - level[i - 1]).max(1e-9)).clamp(0.0, 1.0)
}

fn crossing_down(level: &[f64], from: usize, end: usize, threshold: f64) -> f64 {
    let i = (from..end).rev().find(|i| level[*i] >= threshold).unwrap_or(from);
    let next = level.get(i + 1).copied().unwrap_or(0.0);
    i as f64 + ((level[i] - threshold) / (level[i] - next).max(1e-9)).clamp(0.0, 1.0)
}

/// Amplitude of `hz` in a 5 ms window centred on each hop.
fn envelope(pcm: &[i16], hz: f64) -> Vec<f64> {
    // The oscillator repeats every 240 samples, since hz is a multiple of 200.
    let step = std::f64::consts::TAU * hz / f64::from(SAMPLE_RATE);
    let table: Vec<(f64, f64)> = (0..HOP * HOPS_PER_WINDOW).map(|i| (step * i as f64).sin_cos()).collect();
    let mut sums = vec![(0.0, 0.0); 1];
    for (h, hop) in pcm.chunks_exact(HOP).enumerate() {
        let phase = &table[h % HOPS_PER_WINDOW * HOP..][..HOP];
        let part = hop.iter().zip(phase).fold((0.0, 0.0), |a, (s, (sin, cos))| (a.0 + f64::from(*s) * cos, a.1 + f64::from(*s) * sin));
        let last = sums[h];
        sums.push((last.0 + part.0, last.1 + part.1));
    }
    let half = HOPS_PER_WINDOW / 2;
    let scale = 2.0 / (HOP * HOPS_PER_WINDOW) as f64 / 32768.0;
    (0..sums.len())
        .map(|i| {
            let (a, b) = (sums[i.saturating_sub(half)], sums[(i + half).min(sums.len() - 1)]);
            (b.0 - a.0).hypot(b.1 - a.1) * scale
        })
        .collect()
}

/// Picture minus sound in ms, one value per second of media time: positive = the picture comes after its sound.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Offsets {
    /// (media second, offset in ms).
    pub each: Vec<(u32, f64)>,
    /// Of the offsets with their sign.
    pub median: f64,
    /// The rest are of absolute values.
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
    /// Slope of the offset in ppm (1 ppm = 3.6 ms an hour); 0 for less than 10 values.
    pub drift_ppm: f64,
    /// Beeps without a frame near them (camera off).
    pub beeps_without_picture: usize,
}

/// Offsets of one participant.
///
/// A flash is only as sharp as a frame lasts, so the block code is used: frame `n` shows media time `n / fps`, hence media
/// second `k` is on screen at the PTS of frame `k * fps` (if that was lost: of a neighbour within 3 frames, minus its
/// distance in media time). Beep `k` starts at media second `k` in the sound. A beep belongs to the `k` whose frame is
/// nearest in PTS, at most 500 ms away.
#[must_use]
pub fn av_offset(video: &VideoReport, audio: &AudioReport, participant: u8, fps: u32) -> Offsets {
    let mut shown = BTreeMap::new();
    for f in &video.frames {
        if let Some(code) = f.code.filter(|c| c.participant == participant) {
            shown.entry(code.frame).or_insert(f.pts_90k);
        }
    }
    let range = shown.keys().next().zip(shown.keys().next_back());
    let seconds = range.map_or(0..0, |(a, b)| a / fps..b / fps + 2);
    let shown: Vec<(u32, f64)> = seconds.filter_map(|k| Some((k, video.shown_at(&shown, k, fps)?))).collect();
    let mut out = Offsets::default();
    let voice = audio.voices.get(&participant);
    let begins = voice.and_then(|v| v.heard).map_or(f64::NEG_INFINITY, |heard| heard.start);
    let is_whole = |beep: &&Beep| beep.duration_ms >= WHOLE_BEEP_MS || beep.at > begins + BEGINNING_SECONDS;
    for beep in voice.into_iter().flat_map(|v| &v.beeps).filter(is_whole) {
        let near = shown.iter().min_by(|a, b| (a.1 - beep.at).abs().total_cmp(&(b.1 - beep.at).abs()));
        match near.filter(|n| (n.1 - beep.at).abs() <= MAX_ASSOCIATION_SECONDS) {
            Some((k, at)) => out.each.push((*k, (at - beep.at) * 1000.0)),
            None => out.beeps_without_picture += 1,
        }
    }
    out.summarise();
    out
}

impl Offsets {
    fn summarise(&mut self) {
        let sorted = |f: fn(f64) -> f64| {
            let mut v: Vec<f64> = self.each.iter().map(|e| f(e.1)).collect();
            v.sort_by(f64::total_cmp);
            v
        };
        let (signed, absolute) = (sorted(|x| x), sorted(f64::abs));
        self.median = quantile(&signed, 0.5);
        [self.p50, self.p95, self.p99, self.max] = [0.5, 0.95, 0.99, 1.0].map(|q| quantile(&absolute, q));
        self.drift_ppm = if self.each.len() < 10 { 0.0 } else { slope(&self.each) * 1000.0 };
    }
}

/// Nearest rank; 0 for nothing.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

/// Least squares.
fn slope(points: &[(u32, f64)]) -> f64 {
    let n = points.len() as f64;
    let (mx, my) = (points.iter().map(|p| f64::from(p.0)).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let sxy: f64 = points.iter().map(|p| (f64::from(p.0) - mx) * (p.1 - my)).sum();
    let sxx: f64 = points.iter().map(|p| (f64::from(p.0) - mx).powi(2)).sum();
    sxy / sxx.max(1e-9)
}

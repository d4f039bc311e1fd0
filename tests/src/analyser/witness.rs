//! When a frame was captured and when a beep began, by nothing but RTP times and sender reports: what tests/tools/witness, a second
//! subscriber that shares no code with the recorder, has written down.

use super::block_code::{self, Rect, SAMPLE_RATE};
use super::content;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

const VIDEO_RATE: f64 = 90_000.0;
const AUDIO_RATE: f64 = SAMPLE_RATE as f64;
/// Samples of a 20 ms packet, what libwebrtc sends.
const PACKET: u32 = 960;
/// What comes out of libopus belongs to this much earlier (RFC 6716 section 2, RFC 7845 section 4.2).
const OPUS_DELAY: f64 = 312.0;
/// LiveKit ends a track with silence of its own, whose numbers and times do not follow.
const MADE_UP_MAX: usize = 6;
/// A beep belongs to the second whose frame is nearest.
const MAX_ASSOCIATION_MS: f64 = 500.0;

/// RTP time of one track -> the publisher's clock, by its reports.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping {
    /// Milliseconds of NTP at RTP 0 of the unwrapped count, in the middle of all reports.
    offset_ms: f64,
    rate: f64,
    origin: u32,
    pub reports: usize,
    /// How far the reports are from each other, 5 % left out on either side: each of them may be wrong by so much.
    pub spread_ms: f64,
}

impl Mapping {
    fn new(reports: &[(u64, u32)], rate: f64) -> Result<Self> {
        let (_, origin) = *reports.first().context("no sender report")?;
        let base = reports[0].0 >> 32 << 32;
        let ntp_ms = |ntp: u64| (ntp - base) as f64 / 2f64.powi(32) * 1000.0;
        let mut offsets: Vec<f64> = reports.iter().map(|(ntp, rtp)| ntp_ms(*ntp) - unwrapped(*rtp, origin) / rate * 1000.0).collect();
        offsets.sort_by(f64::total_cmp);
        let tail = offsets.len() / 20;
        let spread_ms = offsets[offsets.len() - 1 - tail] - offsets[tail];
        // The origin of NTP is the same second for both tracks: their difference is what counts.
        let offset_ms = offsets[offsets.len() / 2] + (base >> 32) as f64 * 1000.0;
        Ok(Self { offset_ms, rate, origin, reports: offsets.len(), spread_ms })
    }

    fn ntp_ms(&self, rtp: u32, beyond: f64) -> f64 {
        (unwrapped(rtp, self.origin) + beyond) / self.rate * 1000.0 + self.offset_ms
    }
}

/// Ticks from `origin`, for spans of less than half a cycle.
fn unwrapped(rtp: u32, origin: u32) -> f64 {
    f64::from(rtp.wrapping_sub(origin).cast_signed())
}

/// Picture minus sound, ms, for each second of media time, as RTP and reports have it.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    pub each: BTreeMap<u32, f64>,
    pub video: Mapping,
    pub audio: Mapping,
}

/// `size`: of the pictures, `fps`: of the stimulus.
pub fn read(folder: &Path, size: (usize, usize), fps: u32, participant: u8) -> Result<Truth> {
    let reports = reports(&folder.join("reports"))?;
    let of = |kind: &str| reports.get(kind).map_or(&[][..], Vec::as_slice);
    let (video, audio) = (Mapping::new(of("video"), VIDEO_RATE)?, Mapping::new(of("audio"), AUDIO_RATE)?);
    let frames = frames(folder, size, participant)?;
    let seconds: Vec<(u32, f64)> =
        frames.iter().filter(|(n, _)| **n % fps == 0).map(|(n, rtp)| (n / fps, video.ntp_ms(*rtp, 0.0))).collect();
    let (first, beeps) = beeps(folder, participant)?;
    let mut each = BTreeMap::new();
    for samples in beeps {
        let beep = audio.ntp_ms(first, samples - OPUS_DELAY);
        let nearest = seconds.iter().min_by(|a, b| (a.1 - beep).abs().total_cmp(&(b.1 - beep).abs()));
        if let Some((k, shown)) = nearest.filter(|(_, shown)| (shown - beep).abs() < MAX_ASSOCIATION_MS) {
            each.insert(*k, shown - beep);
        }
    }
    Ok(Truth { each, video, audio })
}

fn reports(path: &Path) -> Result<BTreeMap<String, Vec<(u64, u32)>>> {
    let mut out: BTreeMap<String, Vec<(u64, u32)>> = BTreeMap::new();
    for line in std::fs::read_to_string(path)?.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [kind, ntp, rtp] = words[..] else { continue };
        out.entry(kind.to_owned()).or_default().push((ntp.parse()?, rtp.parse()?));
    }
    Ok(out)
}

/// RTP time of each frame number.
fn frames(folder: &Path, (width, height): (usize, usize), participant: u8) -> Result<BTreeMap<u32, u32>> {
    let times: Vec<u32> = std::fs::read_to_string(folder.join("video.rtp"))?.lines().map(str::parse).collect::<Result<_, _>>()?;
    let args = ["-fps_mode", "passthrough", "-pix_fmt", "yuv420p", "-f", "rawvideo"];
    let mut decoded = ffmpeg(&["-f", "h264"], &folder.join("video.h264"), &args)?;
    let mut picture = vec![0; width * height * 3 / 2];
    let mut out = BTreeMap::new();
    let mut count = 0;
    while decoded.next(&mut picture)? {
        let rect = Rect { x: 0, y: 0, width, height };
        if let Some(code) = block_code::read(&picture[..width * height], width, rect).filter(|c| c.participant == participant) {
            out.insert(code.frame, *times.get(count).context("more pictures than access units")?);
        }
        count += 1;
    }
    ensure!(count == times.len(), "{count} pictures of {} access units", times.len());
    Ok(out)
}

/// RTP time of the first packet, and where each beep begins, in samples from there.
fn beeps(folder: &Path, participant: u8) -> Result<(u32, Vec<f64>)> {
    let text = std::fs::read_to_string(folder.join("audio.rtp"))?;
    let numbers = text.lines().filter_map(|line| line.split_once(' '));
    let packets: Vec<(u16, u32)> = numbers.map(|(s, t)| Ok((s.parse()?, t.parse()?))).collect::<Result<_>>()?;
    let follows = |w: &[(u16, u32)]| w[1].0 == w[0].0.wrapping_add(1) && w[1].1 == w[0].1.wrapping_add(PACKET);
    let breaks: Vec<_> = packets.windows(2).enumerate().filter(|(_, w)| !follows(w)).collect();
    let sent = breaks.first().map_or(packets.len(), |(last, _)| last + 1);
    ensure!(sent + MADE_UP_MAX >= packets.len(), "sound came with holes or out of order, of {} packets: {breaks:?}", packets.len());
    let first = packets.first().context("no sound")?.1;
    let mut pcm = Vec::new();
    let args = ["-f", "s16le", "-ac", "1", "-ar", "48000"];
    ffmpeg(&["-c:a", "libopus"], &folder.join("audio.ogg"), &args)?.out.read_to_end(&mut pcm)?;
    let pcm: Vec<i16> = pcm.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
    // The file's pre-skip is cut off at the front.
    let skipped = (packets.len() * PACKET as usize).checked_sub(pcm.len()).context("more sound than was sent")?;
    let found = content::beeps_of(&pcm, participant);
    Ok((first, found.iter().map(|beep| beep.at * AUDIO_RATE + skipped as f64).collect()))
}

struct Decoded {
    child: std::process::Child,
    out: std::process::ChildStdout,
}

fn ffmpeg(input: &[&str], file: &Path, output: &[&str]) -> Result<Decoded> {
    let mut child = Command::new("ffmpeg")
        .args(["-nostats", "-hide_banner", "-loglevel", "error"])
        .args(input)
        .arg("-i")
        .arg(file)
        .args(output)
        .arg("pipe:1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("failed to start ffmpeg")?;
    let out = child.stdout.take().context("stdout")?;
    Ok(Decoded { child, out })
}

impl Decoded {
    /// Fills `picture`; false at the end.
    fn next(&mut self, picture: &mut [u8]) -> Result<bool> {
        match self.out.read_exact(picture) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Decoded {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

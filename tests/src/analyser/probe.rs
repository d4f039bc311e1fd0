//! What FFmpeg's own tools say about a recording; they share no code with the recorder's writer of TS and playlists.

use super::playlist::Playlist;
use super::ts;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Stream {
    /// `video` or `audio`.
    pub kind: String,
    pub codec: String,
    pub profile: Option<String>,
    pub width: u32,
    pub height: u32,
    pub sample_rate: u32,
    pub channels: u32,
    pub packets: u64,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Probe {
    pub streams: Vec<Stream>,
    /// Seconds. Of a playlist: the sum of EXTINF as FFmpeg reads it.
    pub duration: f64,
    /// Lines FFmpeg complained with, empty for a good file.
    pub complaints: Vec<String>,
}

impl Probe {
    #[must_use]
    pub fn stream(&self, kind: &str) -> Option<&Stream> {
        self.streams.iter().find(|s| s.kind == kind)
    }
}

/// ffprobe of the whole playlist, every packet counted.
pub fn ffprobe(playlist: &Playlist) -> Result<Probe> {
    probe_file(&playlist.path)
}

/// ffprobe of any file.
pub fn probe_file(path: &Path) -> Result<Probe> {
    let entries = "stream=codec_type,codec_name,profile,width,height,sample_rate,channels,nb_read_packets:format=duration";
    let (json, complaints) = run_ffprobe(&["-count_packets", "-show_entries", entries, "-of", "json"], path)?;
    let json: serde_json::Value = serde_json::from_slice(&json)?;
    let streams = json["streams"].as_array().context("ffprobe named no streams")?.iter().map(stream).collect();
    Ok(Probe { streams, duration: number(&json["format"]["duration"]), complaints })
}

fn stream(s: &serde_json::Value) -> Stream {
    let text = |key: &str| s[key].as_str().unwrap_or_default().to_owned();
    Stream {
        kind: text("codec_type"),
        codec: text("codec_name"),
        profile: s["profile"].as_str().map(str::to_owned),
        width: number(&s["width"]) as u32,
        height: number(&s["height"]) as u32,
        sample_rate: number(&s["sample_rate"]) as u32,
        channels: number(&s["channels"]) as u32,
        packets: number(&s["nb_read_packets"]) as u64,
    }
}

/// ffprobe writes some numbers as strings.
fn number(v: &serde_json::Value) -> f64 {
    v.as_f64().or_else(|| v.as_str()?.parse().ok()).unwrap_or(0.0)
}

pub(super) fn run_ffprobe(args: &[&str], path: &Path) -> Result<(Vec<u8>, Vec<String>)> {
    let out = Command::new("ffprobe")
        .args(["-v", "error", "-allowed_extensions", "ALL"].iter().take(if is_playlist(path) { 4 } else { 2 }))
        .args(args)
        .arg(path)
        .output()
        .context("failed to start ffprobe")?;
    let complaints: Vec<String> = String::from_utf8_lossy(&out.stderr).lines().map(str::to_owned).collect();
    ensure!(out.status.success(), "ffprobe failed on {}: {}", path.display(), complaints.join("; "));
    Ok((out.stdout, complaints))
}

/// Decodes everything, as a player built on FFmpeg would, and returns what it complained of.
pub fn decode(playlist: &Playlist) -> Result<Vec<String>> {
    let out = Command::new("ffmpeg")
        // Times as they are: what follows ten seconds without media FFmpeg would move up to the last of whichever stream comes first.
        .args(["-nostdin", "-v", "error", "-threads", "1", "-copyts", "-allowed_extensions", "ALL", "-i"])
        .arg(&playlist.path)
        // The input's own time base: rounded to a guessed frame rate, two pictures might get the same time.
        .args(["-map", "0", "-fps_mode", "passthrough", "-enc_time_base", "-1", "-f", "null", "-"])
        .output()
        .context("failed to start ffmpeg")?;
    let mut complaints: Vec<String> = String::from_utf8_lossy(&out.stderr).lines().map(str::to_owned).collect();
    if !out.status.success() {
        complaints.push(out.status.to_string());
    }
    Ok(complaints)
}

fn is_playlist(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "m3u8")
}

/// EXTINF is rounded to milliseconds from a running sum, PTS to 1/90 ms.
pub const EXTINF_TOLERANCE_MS: f64 = 2.0;
/// Where no segment follows, the last picture has no end of its own: one frame of the slowest camera (10 fps).
pub const LAST_EXTINF_TOLERANCE_MS: f64 = 100.0;

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ExtinfCheck {
    pub uri: String,
    pub extinf: f64,
    /// Seconds, from the timestamps of the media.
    pub decoded: f64,
    pub tolerance_ms: f64,
}

impl ExtinfCheck {
    #[must_use]
    pub fn agrees(&self) -> bool {
        (self.extinf - self.decoded).abs() * 1000.0 <= self.tolerance_ms
    }
}

/// EXTINF beside the time from a segment's first timestamp to the next segment's (of the picture, else of the sound);
/// at the end and before a discontinuity to the end of what lasts longest in it, estimated by the mean duration of a frame
/// (sound goes on to the moment a person leaves, the last picture may be older).
pub fn extinf_matches_decoded(playlist: &Playlist) -> Result<Vec<ExtinfCheck>> {
    let report = ts::inspect_playlist(playlist)?;
    let video = report.pid(ts::STREAM_H264);
    let pid = video.or(report.pid(ts::STREAM_AAC)).context("no stream to measure by")?;
    let mut out = vec![];
    for (i, segment) in playlist.segments.iter().enumerate() {
        let (own, _) = *report.spans[i].get(&pid).with_context(|| format!("{} holds nothing of PID {pid}", segment.uri))?;
        // A stretch begins with whatever comes first in it, or, as FFmpeg counts, with its picture; later segments with the picture of the cut.
        let begins = i == 0 || segment.discontinuity;
        let earliest = report.spans[i].values().map(|(first, _)| *first).min().filter(|_| begins).unwrap_or(own);
        let next = playlist.segments.get(i + 1).filter(|n| !n.discontinuity).and_then(|_| report.spans[i + 1].get(&pid));
        let (end, tolerance_ms) = match next {
            Some(next) => (next.0 as f64, EXTINF_TOLERANCE_MS),
            None => (last_end(&report, i, &segment.path)?, LAST_EXTINF_TOLERANCE_MS),
        };
        let [by_picture, by_all] = [own, earliest].map(|first| (end - first as f64) / 90_000.0);
        let closer = (by_picture - segment.duration).abs() < (by_all - segment.duration).abs();
        let decoded = if closer { by_picture } else { by_all };
        out.push(ExtinfCheck { uri: segment.uri.clone(), extinf: segment.duration, decoded, tolerance_ms });
    }
    Ok(out)
}

/// Where a segment ends, 90 kHz: with its last frame of sound, or where a process died before that was written, with its last picture;
/// without sound with its last picture and the mean step. How long the last picture holds is not told: black filler comes once a second.
fn last_end(report: &ts::TsReport, segment: usize, path: &Path) -> Result<f64> {
    let picture = report.pid(ts::STREAM_H264).filter(|pid| report.spans[segment].contains_key(pid));
    let (last_picture, held) = picture.map_or((0.0, 0.0), |pid| (report.spans[segment][&pid].1 as f64, mean_step(report, segment, pid)));
    let (csv, _) = run_ffprobe(&["-select_streams", "a", "-show_entries", "packet=pts_time,duration_time", "-of", "csv=p=0"], path)?;
    let last = String::from_utf8_lossy(&csv).lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned).unwrap_or_default();
    let sound: f64 = last.split(',').filter_map(|value| value.parse::<f64>().ok()).sum();
    Ok(if sound > 0.0 { last_picture.max(sound * 90_000.0) } else { last_picture + held })
}

/// Ticks between two PES of a segment.
fn mean_step(report: &ts::TsReport, segment: usize, pid: u16) -> f64 {
    let (first, last) = report.spans[segment][&pid];
    let count = report.pes_per_segment[segment].get(&pid).copied().unwrap_or(1);
    if count < 2 { 0.0 } else { (last - first) as f64 / (count - 1) as f64 }
}

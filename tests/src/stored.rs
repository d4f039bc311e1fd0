//! A recording as it lies in storage: its manifest, its playlists, and what every one of them must satisfy.

use crate::analyser::playlist::Playlist;
use crate::analyser::{content, probe, ts};
use crate::harness::s3::S3;
use crate::local::download;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// MPEG-TS: a picture needs time to arrive before it is due (media.md section 4).
const LEAST_DTS_LEAD_90K: i64 = 9_000;

/// From and to, 90 kHz; no end: still so.
pub type Stay = (i64, Option<i64>);

/// The manifest's public fields, read apart from the recorder's own types.
#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    pub chunks: Vec<String>,
    pub tail: Vec<Entry>,
    pub participants: Vec<Participant>,
    pub tracks: Vec<Track>,
    pub gaps: Vec<Gap>,
    pub playlists: Vec<PlaylistEntry>,
    pub snapshots: Option<Snapshots>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Snapshots {
    pub taken: u64,
    pub stored: u64,
    pub lost: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    pub playlist: String,
    pub name: String,
    pub start90k: i64,
    pub duration90k: i64,
    pub bytes: u64,
    pub at: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Participant {
    pub identity: String,
    pub stays90k: Vec<Stay>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Track {
    pub identity: String,
    pub source: String,
    pub codec: String,
    pub start90k: i64,
    pub end90k: Option<i64>,
    pub packets: u64,
    pub lost: u64,
    pub received_units: u64,
    pub written_units: u64,
    pub muted90k: Vec<Stay>,
    pub recorded: bool,
    pub transcoded: Option<Transcoded>,
    #[serde(default)]
    pub sizes: Vec<PictureSize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct PictureSize {
    pub width: u32,
    pub height: u32,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Transcoded {
    pub from: String,
    pub to: String,
    pub reason: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Gap {
    pub start90k: i64,
    pub duration90k: i64,
    pub reason: String,
    pub playlist: Option<String>,
    pub open: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaylistEntry {
    pub name: String,
    pub identity: String,
    pub ended: bool,
}

/// A recording's folder.
pub struct Stored {
    folder: PathBuf,
    pub manifest: Manifest,
    /// When it is a copy of ours.
    _copy: Option<TempDir>,
}

impl Stored {
    /// All that lies below `prefix`: one recording.
    pub fn download(s3: &S3, bucket: &str, prefix: &str) -> Result<Self> {
        let copy = tempfile::tempdir()?;
        download(s3, bucket, prefix, copy.path())?;
        let stored = Self::open(copy.path())?;
        Ok(Self { _copy: Some(copy), ..stored })
    }

    /// A folder that holds one recording.
    pub fn open(folder: &Path) -> Result<Self> {
        let manifest = files(folder, ".json")?.pop().context("a manifest")?;
        let manifest = serde_json::from_slice(&std::fs::read(folder.join(manifest))?)?;
        Ok(Self { folder: folder.to_owned(), manifest, _copy: None })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `kind`: `av`, `screen`, …; checked as [`sound`] does.
    pub fn playlist(&self, identity: &str, kind: &str) -> Result<Playlist> {
        sound_behind(&self.path(identity, kind)?, &self.behind_lost())
    }

    /// The segments that stand behind a lost one in the ledger of their playlist.
    fn behind_lost(&self) -> Vec<&str> {
        let is_lost = |entry: &Entry| entry.at.as_deref() == Some("Lost");
        let next =
            |lost: &Entry| self.manifest.tail.iter().find(|e| e.playlist == lost.playlist && e.start90k > lost.start90k && !is_lost(e));
        self.manifest.tail.iter().filter(|entry| is_lost(entry)).filter_map(next).map(|entry| entry.name.as_str()).collect()
    }

    /// The playlist of a recording that has no other; checked as [`sound`] does.
    pub fn only_playlist(&self) -> Result<Playlist> {
        let found = files(self.folder(), ".m3u8")?;
        ensure!(found.len() == 1, "{found:?}");
        sound_behind(&self.folder().join(&found[0]), &self.behind_lost())
    }

    fn path(&self, identity: &str, kind: &str) -> Result<PathBuf> {
        let end = format!("__uid_s_{identity}__uid_e_{kind}.m3u8");
        let found = files(self.folder(), ".m3u8")?.into_iter().find(|name| name.ends_with(&end));
        Ok(self.folder().join(found.with_context(|| format!("no playlist of {identity}, {kind}"))?))
    }

    /// The publications of one source, in their order.
    pub fn tracks(&self, identity: &str, source: &str) -> Vec<&Track> {
        self.manifest.tracks.iter().filter(|t| t.identity == identity && t.source == source).collect()
    }

    pub fn stays(&self, identity: &str) -> &[Stay] {
        self.manifest.participants.iter().find(|p| p.identity == identity).map_or(&[], |p| &p.stays90k)
    }

    /// Gaps of a playlist and of everybody.
    pub fn gaps(&self, playlist: &Playlist) -> Vec<&Gap> {
        let name = playlist.path.file_name().map(|name| name.to_string_lossy().into_owned());
        self.manifest.gaps.iter().filter(|gap| gap.playlist.is_none() || gap.playlist == name).collect()
    }

    /// Every segment the manifest calls stored is there, of that size, and every segment there is named by it.
    pub fn manifest_is_true(&self) -> Result<()> {
        ensure!(self.manifest.chunks.is_empty(), "a short recording has its whole ledger in the tail");
        let mut named = BTreeSet::new();
        for entry in self.manifest.tail.iter().filter(|entry| entry.at.as_deref() == Some("Primary")) {
            let bytes = std::fs::metadata(self.folder().join(&entry.name)).with_context(|| entry.name.clone())?.len();
            ensure!(entry.bytes == bytes, "{bytes} bytes: {entry:?}");
            named.insert(entry.name.clone());
        }
        let stored: BTreeSet<String> = files(self.folder(), ".ts")?.into_iter().collect();
        ensure!(named == stored, "the manifest names {named:?}, stored is {stored:?}");
        Ok(())
    }

    /// What was received whole from a track's first key frame on was written, and is in the file: once each, in order.
    pub fn every_picture_is_there(&self, identity: &str, source: &str, video: &content::VideoReport) -> Result<u64> {
        let tracks = self.tracks(identity, source);
        ensure!(tracks.iter().all(|t| t.received_units == t.written_units), "{tracks:?}");
        self.every_written_picture_is_there(identity, source, video)
    }

    /// What was written is in the file: once each, in order.
    pub fn every_written_picture_is_there(&self, identity: &str, source: &str, video: &content::VideoReport) -> Result<u64> {
        let tracks = self.tracks(identity, source);
        ensure!(!tracks.is_empty(), "{identity} has no {source}");
        let written: u64 = tracks.iter().map(|t| t.written_units).sum();
        let in_file = video.frames.iter().filter(|f| !f.filler).count() as u64;
        ensure!(written == in_file, "{identity}: written {written}, in the file {in_file}");
        let uncoded = video.without_a_code_once_settled();
        ensure!(uncoded.is_empty() && video.backwards == 0, "{identity}: without a code {uncoded:?}; sizes {:?}", video.sizes);
        for counts in video.participants.values() {
            ensure!(counts.duplicated == 0 && counts.out_of_order == 0, "{identity}: {counts:?}");
        }
        Ok(written)
    }

    /// Sound follows sound, and it is silent nowhere but where packets never came: lost ones, or such as were never sent (an SFU or a sender
    /// on a starved machine leaves out RTP time and no sequence number; so packets are counted against time).
    pub fn all_sound_is_there(&self, identity: &str, source: &str, audio: &content::AudioReport, id: u8) -> Result<()> {
        ensure!(audio.gaps.is_empty() && audio.overlaps == 0, "{identity}: {:?}, {} overlaps", audio.gaps, audio.overlaps);
        let (tracks, voice) = (self.tracks(identity, source), &audio.voices[&id]);
        ensure!(voice.tone.iter().any(|share| *share > 0.0), "{identity} is not heard at all: {tracks:?}");
        let (lost, received) = tracks.iter().fold((0, 0), |(lost, received), track| (lost + track.lost, received + track.received_units));
        let span = voice.heard.map_or(0.0, |span| span.end - span.start + HEARD_EDGES_SECONDS);
        let missing = ((span / PACKET_SECONDS) as u64).saturating_sub(received).max(lost);
        let holes = &voice.holes;
        let silent: f64 = holes.iter().map(|hole| (hole.end - hole.start - HOLE_EDGES_SECONDS).max(0.0)).sum();
        let explained = holes.len() as u64 <= missing && silent <= missing as f64 * PACKET_SECONDS;
        ensure!(explained, "{identity}: {received} packets of sound came, {missing} did not; silent at {holes:?}, heard {:?}", voice.heard);
        Ok(())
    }
}

/// What libwebrtc and the load publisher put into a packet of sound.
const PACKET_SECONDS: f64 = 0.02;
/// The first and the last packet are told by the same windows.
const HEARD_EDGES_SECONDS: f64 = 0.04;
/// Both edges of a hole, told by windows of 20 ms, and AAC's overlap.
const HOLE_EDGES_SECONDS: f64 = 0.06;

/// A playlist that a strict reader, our own walker over its bytes and FFmpeg's tools all accept.
pub fn sound(path: &Path) -> Result<Playlist> {
    sound_behind(path, &[])
}

/// In the segments `behind_lost`, which begin with a discontinuity, continuity counters show what is missing.
fn sound_behind(path: &Path, behind_lost: &[&str]) -> Result<Playlist> {
    let playlist = Playlist::read(path)?;
    let name = path.display();
    ensure!(playlist.endlist && playlist.kind.as_deref() == Some("EVENT"), "{name}");
    let longest = playlist.segments.iter().map(|s| s.duration).fold(0.0, f64::max);
    ensure!(longest <= f64::from(playlist.target_duration), "a segment of {longest} s");
    let report = ts::inspect_playlist(&playlist)?;
    let jumps = |fault: &str| fault.contains("continuity counter") && behind_lost.iter().any(|segment| fault.starts_with(segment));
    let faults: Vec<&String> = report.faults.iter().filter(|fault| !jumps(fault)).collect();
    ensure!(faults.is_empty(), "{name}: {faults:?}");
    ensure!(report.max_pcr_interval_90k <= ts::MAX_PCR_INTERVAL_90K, "{name}: PCR every {} ticks", report.max_pcr_interval_90k);
    ensure!(report.min_dts_lead_90k >= Some(LEAST_DTS_LEAD_90K), "{name}: DTS {:?} ahead of PCR", report.min_dts_lead_90k);
    ffprobe_agrees(&playlist, &report)?;
    let complaints = probe::decode(&playlist)?;
    ensure!(complaints.is_empty(), "{name}: FFmpeg: {complaints:?}");
    for check in probe::extinf_matches_decoded(&playlist)? {
        ensure!(check.agrees(), "{name}: {check:?}");
    }
    Ok(playlist)
}

/// FFmpeg's reader finds the streams, the packets and the duration that ours finds.
fn ffprobe_agrees(playlist: &Playlist, report: &ts::TsReport) -> Result<()> {
    let probed = probe::ffprobe(playlist)?;
    ensure!(probed.complaints.is_empty(), "ffprobe: {:?}", probed.complaints);
    ensure!((probed.duration - playlist.duration()).abs() < 0.01, "{} s, EXTINF {} s", probed.duration, playlist.duration());
    let (video, audio) = (probed.stream("video"), probed.stream("audio"));
    ensure!(video.is_some() == report.pid(ts::STREAM_H264).is_some() && audio.is_some() == report.pid(ts::STREAM_AAC).is_some());
    ensure!(video.is_none_or(|s| s.codec == "h264" && s.packets == report.access_units), "{} pictures: {video:?}", report.access_units);
    ensure!(audio.is_none_or(|s| s.codec == "aac" && s.sample_rate == 48_000), "{audio:?}");
    Ok(())
}

/// Names in a folder with this ending, sorted.
fn files(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(folder)?.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.ends_with(ending));
    names.sort();
    Ok(names)
}

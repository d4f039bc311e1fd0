//! A recording of the built-in room through a proxy.

use crate::table::Trouble;
use anyhow::{Context, Result, bail, ensure};
use recording_crds::RecordingStatus;
use recording_crds::codes::Code;
use recording_crds::conditions::{DEGRADED, find};
use recording_crds::status::Phase;
use recording_tests::analyser::content;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::harness::process::{send_signal, wait_until};
use recording_tests::harness::s3::S3;
use recording_tests::harness::s3_proxy::{S3Proxy, Seen};
use recording_tests::harness::usage::{Usage, child};
use recording_tests::local::{Local, composed, pattern_to_s3};
use recording_tests::stored::{Stored, Track};
use recording_tests::watch::while_watching;
use serde_json::Value;
use std::time::{Duration, Instant};

const SEGMENT_SECONDS: u32 = 2;
/// Nobody leaves before the test ends.
const ROOM_SECONDS: u32 = 600;
/// The longest pause between two tries is 30 s.
const RECOVERY: Duration = Duration::from_secs(60);
/// Until another recorder has joined, on a busy machine.
const RESTART: Duration = Duration::from_secs(15);
const LIMIT: Duration = Duration::from_secs(90);
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);
const IDENTITY: &str = "participant-1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Individual,
    Composite,
}

impl Kind {
    pub fn of(self, manifest: &str) -> String {
        match self {
            Self::Individual => manifest.to_owned(),
            Self::Composite => composed(manifest, 10),
        }
    }
}

pub struct Recording {
    name: &'static str,
    kind: Kind,
    pub proxy: S3Proxy,
    local: Local,
}

impl Recording {
    pub fn start(s3: &S3, name: &'static str, kind: Kind) -> Result<Self> {
        s3.create_bucket(name)?;
        let proxy = S3Proxy::to(s3)?;
        let manifest = pattern_to_s3(s3, &proxy.endpoint(), name, ROOM_SECONDS, SEGMENT_SECONDS);
        Ok(Self { name, kind, local: Local::start(&kind.of(&manifest), &["--follow"])?, proxy })
    }

    /// While somebody reads the playlists and looks whether what they name is there.
    pub fn watched(&mut self, s3: &S3, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let ((), looks) = while_watching(s3, self.name, || work(self))?;
        ensure!(looks > 10, "the reader looked {looks} times");
        Ok(())
    }

    /// So many more are stored than were.
    pub fn wait_for_segments(&self, count: usize) -> Result<()> {
        let stored = |seen: &Seen| seen.call.method == "PUT" && seen.call.key.ends_with(".ts") && seen.status == Some(200);
        self.proxy.wait_for("a segment stored", count, LIMIT, stored)
    }

    pub fn recorded_seconds(&self) -> Result<u64> {
        Ok(self.local.report()?.counters.recorded_seconds)
    }

    /// Of media, whatever process it was.
    pub fn wait_for_recorded(&self, seconds: u64) -> Result<()> {
        let recorded = || self.recorded_seconds().ok().filter(|recorded| *recorded >= seconds);
        wait_until("media", LIMIT, recorded).map(drop)
    }

    pub fn memory_kb(&self) -> Result<u64> {
        let recorder = child(self.local.process.pid(), "recorder").context("no recorder runs")?;
        Ok(Usage::of(recorder)?.anonymous_kb)
    }

    /// As long as it lasts; the most memory that was seen. It is told before the end, and then steadily.
    pub fn endures(&mut self, trouble: &Trouble) -> Result<u64> {
        let until = Instant::now() + trouble.lasts;
        let (mut peak, mut told, mut backlog) = (0, None, 0);
        while Instant::now() < until {
            let report = self.local.report()?;
            let codes: Vec<Code> = report.degraded.iter().map(|degraded| degraded.code).collect();
            match (told, trouble.degraded) {
                (None, Some(code)) if codes.contains(&code) => told = Some(Instant::now()),
                (None, Some(_)) => {}
                (_, expected) => ensure!(codes == Vec::from_iter(expected), "told {told:?}, now {codes:?}"),
            }
            backlog = backlog.max(report.backlog_seconds);
            peak = peak.max(self.memory_kb()?);
            std::thread::sleep(BETWEEN_LOOKS);
        }
        ensure!(told.is_some() == trouble.degraded.is_some(), "told: {told:?}");
        ensure!((backlog > u64::from(SEGMENT_SECONDS) + 1) == trouble.backlog, "a backlog of {backlog} s");
        if let Some(code) = trouble.degraded {
            let degraded = self.status_degraded()?.context("the status says nothing")?;
            ensure!(degraded == code.as_str(), "the status says {degraded}");
        }
        Ok(peak)
    }

    /// Everything is stored, and nothing is called wrong any more.
    pub fn recovers(&mut self) -> Result<()> {
        let well = || self.local.report().ok().filter(|report| report.backlog_seconds == 0 && report.degraded.is_empty());
        wait_until("the end of the backlog", RECOVERY, well)?;
        let cleared = || self.status_degraded().ok().filter(Option::is_none);
        wait_until("a status that is not Degraded", LIMIT, cleared).map(drop)
    }

    /// The reason of Degraded in the newest status, while it is true.
    fn status_degraded(&self) -> Result<Option<String>> {
        let log = self.local.process.log();
        let newest = log.lines().rev().find_map(|line| serde_json::from_str::<RecordingStatus>(line).ok()).context("no status")?;
        Ok(find(&newest.conditions, DEGRADED).filter(|degraded| degraded.status == "True").map(|degraded| degraded.reason.clone()))
    }

    fn end(self) -> Result<()> {
        self.local.process.signal(libc::SIGINT)?;
        let ended = self.local.wait(LIMIT)?;
        let status = ended.status()?;
        ensure!(status.phase == Some(Phase::Completed), "{}\n{}", ended.said, ended.recorder_log());
        let progress = status.progress.as_ref().context("progress")?;
        ensure!(progress.backlog_seconds == 0 && progress.uploaded_files == progress.recorded_files, "{progress:?}");
        Ok(())
    }

    /// SIGKILL to the recorder; another process goes on in its spool.
    pub fn kill(&self) -> Result<()> {
        let recorder = child(self.local.process.pid(), "recorder").context("no recorder runs")?;
        Ok(send_signal(recorder as i32, libc::SIGKILL)?)
    }

    /// So much waits for storage.
    pub fn wait_for_backlog(&self, seconds: u64) -> Result<()> {
        let waits = || self.local.report().ok().filter(|report| report.backlog_seconds >= seconds);
        wait_until("a backlog", LIMIT, waits).map(drop)
    }

    /// Ends it: the ledger is true, and `recorder verify` says so too.
    fn ended(self, s3: &S3) -> Result<(Stored, Playlist)> {
        let name = self.name;
        self.end()?;
        let stored = Stored::download(s3, name, "acme")?;
        stored.manifest_is_true()?;
        verified(s3, name)?;
        let playlist = stored.only_playlist()?;
        Ok((stored, playlist))
    }

    /// Ends it: but for the time in which no recorder ran, all that was received is there.
    pub fn ends_whole_but_for_a_restart(self, s3: &S3) -> Result<()> {
        let (name, kind) = (self.name, self.kind);
        let (stored, playlist) = self.ended(s3)?;
        let [gap] = &stored.manifest.gaps[..] else { bail!("{:?}", stored.manifest.gaps) };
        let hole = Duration::from_millis(u64::try_from(gap.duration90k / 90)?);
        ensure!(gap.reason == "RecorderRestarted" && hole < RESTART, "{gap:?}");
        let breaks = playlist.segments.iter().filter(|segment| segment.discontinuity).count();
        ensure!(breaks == 1, "{breaks} breaks");
        let tracks = stored.tracks(IDENTITY, "Camera");
        let video = content::video(&playlist)?;
        match kind {
            Kind::Individual => {
                ensure!(tracks.len() == 2 && tracks.iter().all(|track| track.received_units == track.written_units), "{tracks:?}");
                let in_file = video.frames.iter().filter(|frame| !frame.filler).count() as u64;
                let written: u64 = tracks.iter().map(|track| track.written_units).sum();
                ensure!(written == in_file, "written {written}, in the file {in_file}");
            }
            Kind::Composite => is_on_the_clock(&video, &tracks)?,
        }
        let written: u64 = tracks.iter().map(|track| track.written_units).sum();
        println!("{name}: a hole of {hole:?}, {written} pictures in {} segments", playlist.segments.len());
        Ok(())
    }

    /// Ends it: every picture that came is there, in order, without a gap.
    pub fn ends_whole(self, s3: &S3) -> Result<()> {
        let (name, kind) = (self.name, self.kind);
        let (stored, playlist) = self.ended(s3)?;
        ensure!(stored.manifest.gaps.is_empty(), "{:?}", stored.manifest.gaps);
        ensure!(playlist.segments.iter().all(|segment| !segment.discontinuity), "it is one stretch");
        let video = content::video(&playlist)?;
        let pictures = match kind {
            Kind::Individual => stored.every_picture_is_there(IDENTITY, "Camera", &video)?,
            Kind::Composite => {
                is_on_the_clock(&video, &stored.tracks(IDENTITY, "Camera"))?;
                video.frames.len() as u64
            }
        };
        println!("{name}: {pictures} pictures in {} segments", playlist.segments.len());
        Ok(())
    }
}

/// A composite of ten pictures a second: each a tenth of a second behind the other, in as many stretches as there were processes, and in each
/// every picture of the person that came, in order. On a machine that stands still the room leaves pictures out, and the one before holds.
fn is_on_the_clock(video: &content::VideoReport, tracks: &[&Track]) -> Result<()> {
    let mut stretches = vec![vec![number(&video.frames[0])?]];
    for pair in video.frames.windows(2) {
        match pair[1].pts_90k - pair[0].pts_90k {
            9_000 => stretches.last_mut().context("a stretch")?.push(number(&pair[1])?),
            ticks => {
                ensure!(ticks > 9_000, "{ticks} after {}", pair[0].pts_90k);
                stretches.push(vec![number(&pair[1])?]);
            }
        }
    }
    ensure!(stretches.len() == tracks.len(), "{} stretches of {tracks:?}", stretches.len());
    for (mut numbers, track) in stretches.into_iter().zip(tracks) {
        ensure!(numbers.is_sorted(), "{numbers:?}");
        numbers.dedup();
        // The second may be nearer to the first tick than the first; what came behind the last tick is not shown.
        let shown = numbers.len() as u64 + u64::from(numbers[0] == 1);
        ensure!(numbers[0] <= 1 && shown == track.written_units && track.received_units - shown <= 1, "{numbers:?} of {track:?}");
    }
    Ok(())
}

fn number(frame: &content::Frame) -> Result<u32> {
    frame.code.map(|code| code.frame).with_context(|| format!("no code at {}", frame.pts_90k))
}

/// By the recorder's own eyes, in the bucket itself.
fn verified(s3: &S3, bucket: &str) -> Result<()> {
    let (code, verdict) = recording_tests::verify::in_bucket(s3, bucket, &[])?;
    ensure!(code == 0 && verdict["whole"] == Value::Bool(true), "{code}: {verdict:#}");
    Ok(())
}

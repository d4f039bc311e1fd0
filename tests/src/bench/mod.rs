//! What recording costs, ours and others', on the same stimulus: CPU per media second and memory.
//!
//! Figures of one run say little on a shared machine: compare medians of interleaved repetitions, and prefer ratios.

pub mod peers;
pub mod table;
pub mod usage;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::harness::livekit::LiveKit;
use crate::harness::process::{Process, wait_until};
use crate::harness::workspace;
use crate::load::{self, Media, Sent, Stimulus, Target};
use crate::local::{Local, livekit_to_folder, recorder_log};
use crate::stored::Stored;
use peers::Peer;
use usage::Usage;

/// From the first packet until the figures are taken: delay line, first segment, and caches are filled by then.
pub const WARM_UP: Duration = Duration::from_secs(6);
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The publisher goes on for so long behind the window.
const MARGIN: Duration = Duration::from_secs(3);
/// How often memory is looked at within the window.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A subject that stored less of what was sent than this did not do the work.
const LEAST_STORED: f64 = 0.75;
const IDLE_SECONDS: u32 = 5;

/// What records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Subject {
    /// This repository's recorder, in a LiveKit room.
    Recorder,
    /// The same, everybody in one picture.
    Composite,
    /// The same way into the room, and nothing behind it: recorder/examples/receive.rs.
    Receiving,
    Gstreamer,
    Janus,
    Mediamtx,
    Floor,
}

impl Subject {
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Recorder => "recorder (TS, AAC)",
            Self::Composite => "recorder, one picture (TS, AAC)",
            Self::Receiving => "recorder, receiving only",
            Self::Gstreamer => "GStreamer webrtcbin (TS, AAC)",
            Self::Janus => "Janus videoroom (mjr, no AAC)",
            Self::Mediamtx => "MediaMTX WHIP (TS, no AAC)",
            Self::Floor => "floor: SRTP and copy (no AAC)",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub subject: Subject,
    pub participants: u32,
    pub window: Duration,
    pub stimulus: Stimulus,
}

/// One run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Measured {
    pub subject: Subject,
    pub participants: u32,
    /// User and system, all threads, per second and participant.
    pub cpu_per_media_second: f64,
    pub peak_rss_mib: f64,
    pub peak_rss_anon_mib: f64,
    /// From the start of `recording-operator local` to the first packet; ours only.
    #[serde(default)]
    pub first_packet_seconds: Option<f64>,
    pub load_average: f64,
}

/// Publishes to the subject, waits until it runs evenly, and takes its figures over the window.
///
/// # Errors
/// When something does not start, or what was sent is not stored.
pub fn measure(plan: Plan) -> Result<Measured> {
    let media = plan.stimulus.media()?;
    let folder = tempfile::tempdir()?;
    match plan.subject {
        Subject::Recorder | Subject::Composite | Subject::Receiving => ours(plan, &media, folder.path()),
        Subject::Gstreamer => {
            ensure!(plan.participants == 1, "a GStreamer pipeline records one");
            peer(plan, &media, folder.path(), peers::gstreamer(folder.path())?)
        }
        Subject::Janus => peer(plan, &media, folder.path(), peers::janus(folder.path())?),
        Subject::Mediamtx => peer(plan, &media, folder.path(), peers::mediamtx(folder.path())?),
        Subject::Floor => peer(plan, &media, folder.path(), peers::floor(folder.path(), plan.participants)?),
    }
}

fn publish(plan: Plan, target: &Target<'_>, media: &Media, flags: &[&str]) -> Result<Process> {
    let seconds = (WARM_UP + plan.window + MARGIN).as_secs_f64();
    let mut publisher = load::publish(target, media, plan.participants, seconds, flags)?;
    publisher.wait_for_line(r#""event":"started""#, START_TIMEOUT)?;
    Ok(publisher)
}

fn ours(plan: Plan, media: &Media, folder: &Path) -> Result<Measured> {
    const ROOM: &str = "bench";
    let livekit = LiveKit::start()?;
    let publisher = publish(plan, &Target::LiveKit { server: &livekit, room: ROOM }, media, &[])?;
    let applied = SystemTime::now();
    let mut manifest = livekit_to_folder(&livekit, ROOM, IDLE_SECONDS);
    if plan.subject == Subject::Composite {
        manifest = manifest.replace("mode: Individual", "mode: Composite");
    }
    let (output, receive) = (folder.display().to_string(), workspace().join("target/release/examples/receive"));
    let mut flags = vec!["--output".to_owned(), output];
    if plan.subject == Subject::Receiving {
        ensure!(receive.exists(), "{} is missing: cargo build --release --workspace --examples", receive.display());
        flags.extend(["--recorder".to_owned(), receive.display().to_string()]);
    }
    let recording = Local::start(&manifest, &flags.iter().map(String::as_str).collect::<Vec<_>>())?;
    let pid = wait_until("the recorder", START_TIMEOUT, || usage::child_of(recording.process.pid()))?;
    let mut measured = window(plan, pid)?;
    let sent = sent(publisher)?;
    if plan.subject == Subject::Receiving {
        received_enough(&recording, &sent)?;
        return Ok(measured);
    }
    let ended = recording.wait(START_TIMEOUT)?;
    ensure!(ended.exit_code == 0, "{}\n{}", ended.said, ended.recorder_log());
    if plan.subject == Subject::Composite {
        composed(plan, folder)?
    } else {
        stored_enough(folder, &sent)?
    }
    measured.first_packet_seconds = Some(first_packet(folder)?.duration_since(applied).unwrap_or_default().as_secs_f64());
    Ok(measured)
}

fn peer(plan: Plan, media: &Media, folder: &Path, mut peer: Peer) -> Result<Measured> {
    let flags: Vec<&str> = peer.flags.iter().map(String::as_str).collect();
    let publisher = publish(plan, &peer.target, media, &flags)?;
    let measured = window(plan, peer.process.pid())?;
    let sent = sent(publisher)?;
    peer.process.stop(START_TIMEOUT);
    stored_enough(folder, &sent)?;
    Ok(measured)
}

/// The pauses here are the measurement: figures are taken between two moments.
fn window(plan: Plan, pid: u32) -> Result<Measured> {
    std::thread::sleep(WARM_UP);
    let before = Usage::of(pid)?;
    let mut peak_rss_anon = before.rss_anon;
    let mut now = before;
    while now.at.duration_since(before.at) < plan.window {
        std::thread::sleep(LOOK_EVERY);
        now = Usage::of(pid)?;
        peak_rss_anon = peak_rss_anon.max(now.rss_anon);
    }
    let media_seconds = now.at.duration_since(before.at).as_secs_f64() * f64::from(plan.participants);
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Ok(Measured {
        subject: plan.subject,
        participants: plan.participants,
        cpu_per_media_second: (now.cpu_seconds - before.cpu_seconds) / media_seconds,
        peak_rss_mib: mib(now.peak_rss),
        peak_rss_anon_mib: mib(peak_rss_anon),
        first_packet_seconds: None,
        load_average: usage::load_average(),
    })
}

/// Everything that was sent, once the publisher has ended.
fn sent(mut publisher: Process) -> Result<Sent> {
    ensure!(publisher.wait(START_TIMEOUT)?.success(), "{}", publisher.log());
    let mut total = Sent::default();
    for person in load::sent(&publisher.log())?.into_values() {
        for track in [person.video, person.audio].into_iter().flatten() {
            total.bytes += track.bytes;
            total.packets += track.packets;
            total.units += track.units;
        }
    }
    Ok(total)
}

fn stored_enough(folder: &Path, sent: &Sent) -> Result<()> {
    let stored = peers::stored_bytes(folder)?;
    ensure!(stored as f64 >= LEAST_STORED * sent.bytes as f64, "{stored} bytes are stored of {} sent", sent.bytes);
    Ok(())
}

/// What recorder/examples/receive.rs says when all have left.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Received {
    received_packets: u64,
    received_bytes: u64,
}

fn received_enough(receiving: &Local, sent: &Sent) -> Result<()> {
    let said = || recorder_log(&receiving.state()).lines().find_map(|line| serde_json::from_str::<Received>(line).ok());
    let received = wait_until("the room to be empty", START_TIMEOUT, said)?;
    let enough = |received: u64, sent: u64| received as f64 >= LEAST_STORED * sent as f64;
    let is_whole = enough(received.received_packets, sent.packets) && enough(received.received_bytes, sent.bytes);
    ensure!(is_whole, "{received:?} of {sent:?}");
    Ok(())
}

/// Everything of everybody, and nothing left out.
fn composed(plan: Plan, folder: &Path) -> Result<()> {
    let manifest = Stored::open(folder)?.manifest;
    let whole = manifest.tracks.iter().filter(|track| track.written_units > 0 && track.written_units == track.received_units).count();
    ensure!(whole == 2 * plan.participants as usize && manifest.gaps.is_empty(), "{whole} tracks are whole: {manifest:?}");
    Ok(())
}

/// The manifest's epoch is the arrival of the first media.
fn first_packet(folder: &Path) -> Result<SystemTime> {
    let mut files = std::fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let path: PathBuf = files.find(|path| path.extension().is_some_and(|e| e == "json")).context("a manifest")?;
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(path)?)?;
    let text = manifest["epochTime"].as_str().context("epochTime")?;
    let time: k8s_openapi::jiff::Timestamp = text.parse()?;
    Ok(UNIX_EPOCH + Duration::from_micros(u64::try_from(time.as_microsecond())?))
}

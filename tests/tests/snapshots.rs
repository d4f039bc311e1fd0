//! Stills beside a recording: of every moment one, of the right people, in the right colours, and counted.

use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::civil::DateTime;
use k8s_openapi::jiff::tz::TimeZone;
use recording_crds::status::Phase;
use recording_tests::analyser::block_code::{self, Code, Rect};
use recording_tests::analyser::still;
use recording_tests::harness::binary;
use recording_tests::local::{Ended, Local};
use recording_tests::stored::Stored;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
const INTERVAL: u64 = 5;
const FPS: i64 = 10;
const SECONDS: u64 = 18;
const CAMERA: (usize, usize) = (320, 180);
/// What media time may be behind the wall clock of a sender beside us, and half a picture.
const EXACT_MS: i64 = 150;
/// Until a key frame that was asked for is there.
const KEY_MS: i64 = 1_500;
/// What two lossy encoders leave of a colour.
const CLOSE: u8 = 8;

fn manifest(mode: &str, snapshots: &str) -> String {
    let (width, height) = CAMERA;
    format!(
        "apiVersion: recording-operator.io/v1alpha1
kind: Recording
metadata: {{name: stills}}
spec:
  channel: {{name: stills, testPattern: {{participants: 2, width: {width}, height: {height}, framesPerSecond: {FPS}, durationSeconds: {SECONDS}}}}}
  mode: {mode}
  idleTimeoutSeconds: 5
  output: {{snapshots: {snapshots}}}
  storage: {{volume: {{claimName: recordings}}}}
"
    )
}

/// By what names begin with, and the moments: unix milliseconds.
type Files = BTreeMap<String, Vec<(i64, String)>>;

fn files(folder: &Path) -> Result<Files> {
    let mut files = Files::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some((base, digits)) = name.strip_suffix(".jpg").and_then(|stem| stem.rsplit_once('_')) else { continue };
        ensure!(digits.len() == 17, "{name}");
        let at = DateTime::strptime("%Y%m%d%H%M%S", &digits[..14])?.to_zoned(TimeZone::UTC)?.timestamp();
        let millis: i64 = digits[14..].parse()?;
        files.entry(base.to_owned()).or_default().push((at.as_millisecond() + millis, name));
    }
    files.values_mut().for_each(|moments| moments.sort());
    Ok(files)
}

/// A picture each [`INTERVAL`], from the first one at the latest by the second moment on.
fn every_moment(files: &Files) -> Result<()> {
    for (base, moments) in files {
        let apart: BTreeSet<i64> = moments.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        ensure!(apart == BTreeSet::from([INTERVAL as i64 * 1000]), "{base}: {moments:?}");
        ensure!((3..=4).contains(&moments.len()), "{base}: {moments:?}");
    }
    Ok(())
}

fn completed(ended: &Ended, folder: &Path, files: &Files) -> Result<()> {
    ensure!(ended.exit_code == 0, "exit {}: {}\n{}", ended.exit_code, ended.said, ended.recorder_log());
    let status = ended.status()?;
    ensure!(status.phase == Some(Phase::Completed) && status.gap_count.unwrap_or(0) == 0, "{status:?}");
    let progress = status.progress.as_ref().context("progress")?;
    let count = files.values().map(Vec::len).sum::<usize>();
    ensure!((progress.snapshots, progress.snapshots_lost) == (Some(count as i64), Some(0)), "{count} files: {progress:?}");
    let stored = Stored::open(folder)?;
    stored.manifest_is_true()?;
    let told = stored.manifest.snapshots.as_ref().context("the manifest counts them")?;
    ensure!((told.taken, told.stored, told.lost) == (count as u64, count as u64, 0), "{told:?}");
    whole(&folder.join(status.manifest.as_deref().context("a manifest")?), count)
}

/// `recorder verify` finds nothing wrong, and says how many there are.
fn whole(manifest: &Path, count: usize) -> Result<()> {
    let output = Command::new(binary("recorder")?).arg("verify").arg(manifest).args(["--output", "json"]).output()?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.success() && said["whole"] == true, "{said}");
    ensure!(said["snapshots"]["stored"] == count && said["snapshots"]["lost"] == 0, "{said}");
    Ok(())
}

/// The code in a part of a picture: who, and what was captured within `late_ms` behind the moment in its name.
fn code(picture: &still::Still, part: Rect, moment: i64, late_ms: i64) -> Result<Code> {
    let code = block_code::read(&picture.luma, picture.width, part).with_context(|| format!("no code in {part:?}"))?;
    let behind = code.sent_ms as i64 - (moment & ((1 << block_code::TIME_BITS) - 1));
    ensure!((-EXACT_MS..late_ms).contains(&behind), "{code:?}: captured {behind} ms behind its moment");
    Ok(code)
}

fn right_colour(picture: &still::Still, part: Rect, participant: u8) -> Result<()> {
    let (y, u, v) = block_code::colour(participant);
    let found = picture.colour(part.x + part.width / 2, part.y + part.height * 5 / 8);
    let off = [found.0.abs_diff(y), found.1.abs_diff(u), found.2.abs_diff(v)];
    ensure!(off.iter().all(|off| *off <= CLOSE), "{participant} is {found:?} and should be {:?}", (y, u, v));
    Ok(())
}

fn whole_picture(picture: &still::Still) -> Rect {
    Rect { x: 0, y: 0, width: picture.width, height: picture.height }
}

/// Of each person: their own picture at their own size, one after the other as many frames apart as the moments are.
fn of_people(folder: &Path, files: &Files, late_ms: i64) -> Result<BTreeSet<u8>> {
    let mut people = BTreeSet::new();
    for (base, moments) in files.iter().filter(|(base, _)| base.contains("__uid_s_")) {
        ensure!(base.ends_with("__uid_e_video"), "{base}");
        let mut codes: Vec<Code> = Vec::new();
        for (moment, name) in moments {
            let picture = still::read(&folder.join(name))?;
            ensure!((picture.width, picture.height) == CAMERA, "{name}: {}x{}", picture.width, picture.height);
            codes.push(code(&picture, whole_picture(&picture), *moment, late_ms).with_context(|| name.clone())?);
            right_colour(&picture, whole_picture(&picture), codes[0].participant)?;
        }
        let identity = format!("__uid_s_participant-{}__", codes[0].participant);
        ensure!(base.contains(&identity) && people.insert(codes[0].participant), "{base}: {codes:?}");
        for pair in codes.windows(2) {
            let frames = i64::from(pair[1].frame) - i64::from(pair[0].frame);
            let tolerance = 1 + late_ms * FPS / 1000;
            ensure!(pair[0].participant == pair[1].participant, "{codes:?}");
            ensure!((frames - INTERVAL as i64 * FPS).abs() <= tolerance, "{base}: {codes:?}");
        }
    }
    Ok(people)
}

#[test]
fn of_a_composite_the_canvas_and_everybody_on_it() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let text = manifest("Composite", "{intervalSeconds: 5, perParticipant: true}")
        .replace("participants: 2", "participants: 4")
        .replace("  idle", "  layout: {canvas: {width: 640, height: 360, framesPerSecond: 10, videoKbps: 600}}\n  idle");
    let ended = Local::start(&text, &["--output", &folder.path().display().to_string()])?.wait(LIMIT)?;
    let files = files(folder.path())?;
    completed(&ended, folder.path(), &files)?;
    every_moment(&files)?;
    ensure!(files.len() == 5, "the canvas and four people: {:?}", files.keys());
    let people = of_people(folder.path(), &files, EXACT_MS)?;
    ensure!(people.len() == 4, "{people:?}");
    let playlist = ended.status()?.playlist.clone().context("a playlist")?;
    let canvas = files.get(playlist.trim_end_matches(".m3u8")).context("the canvas is called as its playlist")?;
    for (moment, name) in &canvas[1..] {
        let picture = still::read(&folder.path().join(name))?;
        ensure!((picture.width, picture.height) == (640, 360), "{name}: {}x{}", picture.width, picture.height);
        let tiles = [(0, 0), (320, 0), (0, 180), (320, 180)].map(|(x, y)| Rect { x, y, width: 320, height: 180 });
        let mut seen = BTreeSet::new();
        for tile in tiles {
            let code = code(&picture, tile, *moment, EXACT_MS).with_context(|| name.clone())?;
            right_colour(&picture, tile, code.participant)?;
            seen.insert(code.participant);
        }
        ensure!(seen == people, "{name}: {seen:?}");
    }
    Ok(())
}

#[test]
fn of_single_recordings_each_camera_by_key_frames_that_are_asked_for() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let ended = Local::start(&manifest("Individual", "{intervalSeconds: 5}"), &["--output", &folder.path().display().to_string()])?;
    let ended = ended.wait(LIMIT)?;
    let files = files(folder.path())?;
    completed(&ended, folder.path(), &files)?;
    every_moment(&files)?;
    ensure!(files.len() == 2, "{:?}", files.keys());
    let people = of_people(folder.path(), &files, KEY_MS)?;
    ensure!(people.len() == 2, "{people:?}");
    Ok(())
}

#[test]
fn without_a_word_there_are_none() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let text = manifest("Individual", "null").replace(&format!("durationSeconds: {SECONDS}"), "durationSeconds: 6");
    let ended = Local::start(&text, &["--output", &folder.path().display().to_string()])?.wait(LIMIT)?;
    ensure!(ended.exit_code == 0, "{}", ended.said);
    ensure!(files(folder.path())?.is_empty());
    let progress = ended.status()?.progress.clone().context("progress")?;
    ensure!((progress.snapshots, progress.snapshots_lost) == (None, None), "{progress:?}");
    ensure!(Stored::open(folder.path())?.manifest.snapshots.is_none());
    Ok(())
}

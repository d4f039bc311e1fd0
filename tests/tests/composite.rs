//! One picture and one sound of everybody, measured on what is stored: who is where, every picture of each, every voice, lip sync.

use anyhow::{Context, Result, ensure};
use recording_crds::status::Phase;
use recording_tests::analyser::block_code::{Rect, TONE_LEVEL};
use recording_tests::analyser::content::{AudioReport, VideoReport};
use recording_tests::analyser::playlist::Playlist;
use recording_tests::analyser::{content, player};
use recording_tests::bench::usage::Usage;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::wait_until;
use recording_tests::harness::workspace;
use recording_tests::load::{Stimulus, Target, publish};
use recording_tests::local::{Ended, Local, livekit_to_folder};
use recording_tests::publisher::Publisher;
use recording_tests::stored::{Stored, sound};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(30);
const RSS_MAX: u64 = 250 << 20;
/// A picture is shown with the tick that is nearest to it: half a frame of 30 a second off, and what the pattern itself is (media.md: 10 ms).
const EXACT_OFFSET_MS: f64 = 33.4 + 10.0;
/// What libwebrtc's reports may add to that (media.md section 2).
const LIVE_OFFSET_MS: f64 = 33.4 + 50.0;
/// Not 8: its beep lies on the edge of two bands of Opus, which takes most of it.
const NINE: [u8; 9] = [1, 2, 3, 4, 5, 6, 7, 9, 10];
/// The load publisher's sound is made stereo by FFmpeg, which takes 3 dB.
const LOAD_TONE_LEVEL: f64 = TONE_LEVEL * std::f64::consts::FRAC_1_SQRT_2;
const MINUTE: u32 = 60;
/// Of a segment's length, seconds: a frame.
const FRAME_SECONDS: f64 = 0.034;

fn completed(ended: &Ended) -> Result<()> {
    ensure!(ended.exit_code == 0, "exit {}: {}\n{}", ended.exit_code, ended.said, ended.recorder_log());
    let status = ended.status()?;
    ensure!(status.phase == Some(Phase::Completed) && status.playlist_count == Some(1), "{status:?}");
    ensure!(status.gap_count.unwrap_or(0) == 0, "{status:?}");
    Ok(())
}

fn names(folder: &Path, ending: &str) -> Result<Vec<String>> {
    let files = std::fs::read_dir(folder)?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(files.filter(|name| name.ends_with(ending)).collect())
}

/// The one playlist, by the name that the status told from the start.
fn playlist(ended: &Ended, folder: &Path) -> Result<Playlist> {
    let name = ended.status()?.playlist.clone().context("a playlist's name")?;
    sound(&folder.join(name))
}

/// All but the first and the last segment of a stretch are as long as ordered.
fn exact(playlist: &Playlist, seconds: f64) -> Result<()> {
    for (n, pair) in playlist.segments.windows(2).enumerate().skip(1) {
        let off = (pair[0].duration - seconds).abs();
        ensure!(pair[1].discontinuity || off <= FRAME_SECONDS, "segment {n}: {} s", pair[0].duration);
    }
    Ok(())
}

/// Halves of 1280x720: BestFit of two to four people.
fn quarter(n: usize) -> Option<Rect> {
    Some(Rect { x: 640 * (n % 2), y: 360 * (n / 2), width: 640, height: 360 })
}

/// Their pictures are all there, once seen in order; what is shown longer than a tick is shown again.
fn whole(video: &VideoReport, participant: u8, least: u64) -> Result<u64> {
    ensure!(video.participants.keys().eq([&participant]), "{:?} where {participant} should be", video.participants.keys());
    let counts = &video.participants[&participant];
    ensure!(counts.missing.is_empty() && counts.out_of_order == 0, "of {participant} are missing {:?}", counts.missing);
    ensure!(counts.present >= least, "{counts:?}");
    Ok(counts.present)
}

fn in_sync(video: &VideoReport, audio: &AudioReport, participant: u8, fps: u32, limit_ms: f64, least: usize) -> Result<()> {
    let offsets = content::av_offset(video, audio, participant, fps);
    println!(
        "{participant}: A/V offset median {:.1} p99 {:.1} max {:.1} ms of {}",
        offsets.median,
        offsets.p99,
        offsets.max,
        offsets.each.len()
    );
    ensure!(offsets.each.len() >= least && offsets.p99.abs() <= limit_ms && offsets.max.abs() <= limit_ms, "{offsets:?}");
    Ok(())
}

/// The built-in room, of four: tones of -20 dBFS each in one sound.
#[test]
fn four_people_of_the_built_in_room_are_in_one_picture() -> Result<()> {
    let media = tempfile::tempdir()?;
    let manifest = std::fs::read_to_string(workspace().join("examples/composite.yaml"))?;
    let ended = Local::start(&manifest, &["--output", &media.path().display().to_string()])?.wait(LIMIT)?;
    completed(&ended)?;
    let playlist = playlist(&ended, media.path())?;
    exact(&playlist, 6.0)?;
    let tiles = content::tiles(&playlist, &[0, 1, 2, 3].map(quarter))?;
    let people: BTreeMap<u8, &VideoReport> = tiles.iter().filter_map(|tile| Some((*tile.participants.keys().next()?, tile))).collect();
    ensure!(people.len() == 4, "four people: {:?}", people.keys());
    let ids: Vec<u8> = people.keys().copied().collect();
    let audio = content::audio(&playlist, &ids)?;
    ensure!(audio.gaps.is_empty() && audio.overlaps == 0, "{:?}", audio.gaps);
    for (id, video) in &people {
        whole(video, *id, 19 * 30)?;
        in_sync(video, &audio, *id, 30, EXACT_OFFSET_MS, 15)?;
        let voice = &audio.voices[id];
        let heard = voice.tone.iter().filter(|share| **share > 0.99).count();
        ensure!(heard >= 17 && voice.holes.is_empty(), "{id}: {:?} {:?}", voice.tone, voice.holes);
        let off = 20.0 * (voice.level / TONE_LEVEL).log10();
        println!("{id}: {off:+.2} dB");
        ensure!(off.abs() <= 0.5, "the voice of {id} is {off:.2} dB off");
    }
    let report = player::play(&playlist)?;
    ensure!(report.is_good(), "{report:?}");
    let stored = Stored::open(media.path())?;
    for track in &stored.manifest.tracks {
        ensure!(track.received_units == track.written_units && track.lost == 0, "{track:?}");
    }
    stored.manifest_is_true()
}

/// Real libwebrtc, in H.264, VP8 and VP9: one mutes the camera, another layout while recording, one leaves.
#[test]
fn a_livekit_room_is_composed_while_people_come_and_go() -> Result<()> {
    let livekit = LiveKit::start()?;
    let media = tempfile::tempdir()?;
    let with = |lines: &str| livekit_to_folder(&livekit, "composed", 5).replace("mode: Individual\n", &format!("mode: Composite\n{lines}"));
    let mut recording = Local::start(&with(""), &["--output", &media.path().display().to_string(), "--follow"])?;
    let join = |name: &str, id: u8, seconds: &str, codec: &str| {
        Publisher::start(&livekit, "composed", name, id, &["--seconds", seconds, "--size", "640x360", "--codec", codec])
    };
    let mut people = Vec::new();
    for (name, id, seconds, codec) in [("alice", 1, "40", "H264"), ("bob", 2, "40", "VP8"), ("carol", 3, "30", "VP9")] {
        let mut person = join(name, id, seconds, codec)?;
        person.started()?;
        people.push(person);
        recording.process.wait_for_line(&format!("\"participantCount\":{id}"), SOON)?;
    }
    wait_until("two segments", SOON, || (names(media.path(), ".ts").ok()?.len() >= 2).then_some(()))?;
    let regions = "[{uid: bob, left: 0, top: 0, width: 1280, height: 720}, {left: 960, top: 540, width: 320, height: 180, zOrder: 1}]";
    recording.save(&with(&format!("  layout: {{type: Custom, regions: {regions}}}\n")))?;
    recording.wait_for_generation(2, SOON)?;
    for person in &mut people {
        person.finish(LIMIT)?;
    }
    let ended = recording.wait(LIMIT)?;
    completed(&ended)?;
    let playlist = playlist(&ended, media.path())?;
    exact(&playlist, 6.0)?;
    let small = Some(Rect { x: 960, y: 540, width: 320, height: 180 });
    let places: Vec<Option<Rect>> = (0..4).map(quarter).chain([None, small]).collect();
    let tiles = content::tiles(&playlist, &places)?;
    for (n, tile) in tiles.iter().enumerate() {
        println!("{n}: {:?}", tile.participants.iter().map(|(id, counts)| (*id, counts.present)).collect::<Vec<_>>());
    }
    let audio = content::audio(&playlist, &[1, 2, 3])?;
    ensure!(audio.gaps.is_empty() && audio.overlaps == 0, "{:?}", audio.gaps);
    // Alice was alone at first; of those without a region she came first.
    for (place, person) in [(4, 2), (5, 1)] {
        let seen = &tiles[place].participants;
        ensure!(seen.get(&person).is_some_and(|counts| counts.present > 100 && counts.missing.is_empty()), "{person} at {place}: {seen:?}");
    }
    ensure!(tiles[0].participants.contains_key(&1) && tiles[1].participants.contains_key(&2) && tiles[2].participants.contains_key(&3));
    in_sync(&tiles[0], &audio, 1, 15, LIVE_OFFSET_MS, 5)?;
    let report = player::play(&playlist)?;
    ensure!(report.is_good(), "{report:?}");
    let stored = Stored::open(media.path())?;
    stored.manifest_is_true()
}

/// Four cameras of 720p30, as benchmarks send them; how long it goes on changes nothing (recorder-media's tests of hours).
#[test]
fn four_large_cameras_take_less_than_250_mib() -> Result<()> {
    let (livekit, media) = (LiveKit::start()?, Stimulus::CAMERA_720P30.media()?);
    let folder = tempfile::tempdir()?;
    let manifest = livekit_to_folder(&livekit, "large", 5).replace("mode: Individual", "mode: Composite");
    let mut recording = Local::start(&manifest, &["--output", &folder.path().display().to_string(), "--follow"])?;
    let target = Target::LiveKit { server: &livekit, room: "large" };
    let mut publisher = publish(&target, &media, 4, LIMIT.as_secs_f64(), &[])?;
    recording.process.wait_for_line("\"participantCount\":4", SOON)?;
    let (recorder, _) = recording.recorder()?;
    let recorded = || recording.report().ok().filter(|report| report.counters.recorded_seconds >= 15);
    wait_until("15 s of media", LIMIT, recorded)?;
    let usage = Usage::of(recorder)?;
    println!("peak RSS {} MiB, of it anonymous {} MiB", usage.peak_rss >> 20, usage.rss_anon >> 20);
    ensure!(usage.peak_rss <= RSS_MAX, "{} MiB", usage.peak_rss >> 20);
    publisher.stop(SOON);
    let ended = recording.wait(LIMIT)?;
    ensure!(ended.exit_code == 0, "{}\n{}", ended.said, ended.recorder_log());
    Ok(())
}

/// A third of 1280x720, to the next even pixel: BestFit of nine people.
fn ninth(n: usize) -> Option<Rect> {
    let (columns, rows) = ([0, 426, 854, 1280], [0, 240, 480, 720]);
    let (x, y) = (columns[n % 3], rows[n / 3]);
    Some(Rect { x, y, width: columns[n % 3 + 1] - x, height: rows[n / 3 + 1] - y })
}

/// Nine who are told from each other, for a minute.
#[test]
fn nine_people_are_all_seen_and_heard() -> Result<()> {
    let livekit = LiveKit::start()?;
    let folder = tempfile::tempdir()?;
    let mut media = Vec::new();
    for participant in NINE {
        media.push(Stimulus { participant, width: 640, height: 360, frames_per_second: 15, seconds: MINUTE + 2, kbps: None }.media()?);
    }
    let manifest = livekit_to_folder(&livekit, "nine", 5).replace("mode: Individual", "mode: Composite");
    let mut recording = Local::start(&manifest, &["--output", &folder.path().display().to_string(), "--follow"])?;
    let target = Target::LiveKit { server: &livekit, room: "nine" };
    let mut publishers = Vec::new();
    for (n, media) in (1..).zip(&media) {
        publishers.push(publish(&target, media, 1, f64::from(MINUTE), &["-first", &n.to_string()])?);
        // One after the other: beeps of all at once are too loud to be told apart.
        recording.process.wait_for_line(&format!("\"participantCount\":{n}"), SOON)?;
    }
    for publisher in &mut publishers {
        ensure!(publisher.wait(LIMIT)?.success(), "{}", publisher.log());
    }
    let ended = recording.wait(LIMIT)?;
    completed(&ended)?;
    let playlist = playlist(&ended, folder.path())?;
    exact(&playlist, 6.0)?;
    let tiles = content::tiles(&playlist, &(0..9).map(ninth).collect::<Vec<_>>())?;
    let audio = content::audio(&playlist, &NINE)?;
    ensure!(audio.gaps.is_empty() && audio.overlaps == 0, "{:?}", audio.gaps);
    let mut seen = BTreeSet::new();
    for tile in &tiles {
        // Whoever came later stood elsewhere before all were there.
        let (id, _) = tile.participants.iter().max_by_key(|(_, counts)| counts.present).context("nobody in a tile")?;
        seen.insert(*id);
        let counts = &tile.participants[id];
        ensure!(counts.missing.is_empty() && counts.out_of_order == 0 && counts.present >= 45 * 15, "{id}: {counts:?}");
        in_sync(tile, &audio, *id, 15, LIVE_OFFSET_MS, 40)?;
        let voice = &audio.voices[id];
        let off = 20.0 * (voice.level / LOAD_TONE_LEVEL).log10();
        let heard = voice.tone.iter().filter(|share| **share > 0.8).count();
        println!("{id}: {} pictures, heard in {heard} s, {off:+.2} dB", counts.present);
        ensure!(off.abs() <= 0.5 && heard >= 50, "{id}: {off:.2} dB, {:?}", voice.tone);
    }
    ensure!(seen.iter().eq(&NINE), "{seen:?}");
    Stored::open(folder.path())?.manifest_is_true()
}

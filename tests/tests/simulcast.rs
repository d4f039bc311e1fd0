//! Cameras of several sizes: in mode Composite the one that fills its place is what comes, and no picture stands still while that changes.

use anyhow::{Context, Result, ensure};
use recording_crds::status::Phase;
use recording_tests::analyser::block_code::Rect;
use recording_tests::analyser::content::{self, VideoReport};
use recording_tests::analyser::decode::{self, Picture};
use recording_tests::analyser::playlist::Playlist;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::wait_until;
use recording_tests::local::{Local, livekit_to_folder, recorder_log};
use recording_tests::publisher::Publisher;
use recording_tests::stored::{Stored, sound};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
/// A place that has become smaller is told after 5 s, what comes lies 3 s in the delay line, and a layer begins with its key frame.
const SOON: Duration = Duration::from_secs(30);
const ALICE: u8 = 1;
const CAMERA: [&str; 8] = ["--seconds", "150", "--kinds", "v", "--size", "1280x720", "--bitrate", "1200000"];
const SMALL: Rect = Rect { x: 0, y: 0, width: 320, height: 180 };
const LARGE: Rect = Rect { x: 0, y: 0, width: 1280, height: 720 };
/// LiveKit asks a publisher for a key frame of a layer twice a second and takes what comes; meanwhile the other layer goes on.
const LONGEST_STAND_SECONDS: f64 = 2.0;
/// A larger layer is asked for when its place is ordered, and comes at the latest this long behind it, in media time.
const LARGE_WITHIN_SECONDS: f64 = 4.0;
/// Edges between the blocks of the first row, `block_code::SYNC`: of a picture of 1280x720 hardly a pixel there is neither black nor white, of a smaller
/// one that was made as large one or two at each edge are.
const EDGES: usize = 8;
/// Ticks of a second.
const CLOCK: f64 = 90_000.0;

#[test]
fn h264_comes_as_large_as_it_is_shown() -> Result<()> {
    comes_as_large_as_it_is_shown("H264")
}

#[test]
fn vp8_comes_as_large_as_it_is_shown() -> Result<()> {
    comes_as_large_as_it_is_shown("VP8")
}

fn comes_as_large_as_it_is_shown(codec: &str) -> Result<()> {
    let mut room = Room::new(&[&CAMERA[..], &["--codec", codec, "--simulcast"]].concat())?;
    room.receives((320, 180))?;
    for (place, size) in [(LARGE, (1280, 720)), (SMALL, (320, 180)), (LARGE, (1280, 720))] {
        room.place(place)?;
        room.receives(size)?;
    }
    // The publisher's own choice: the layers are halves and quarters of that.
    room.alice.order("size v 640x360")?;
    room.receives((640, 360))?;
    let ended = room.ended()?;
    ended.goes_on_throughout()?;
    for sizes in [(320, 180), (1280, 720), (640, 360)] {
        ensure!(ended.sizes.contains(&sizes), "{sizes:?} is not in the manifest: {:?}", ended.sizes);
    }
    ended.is_large_soon()
}

/// One size, whatever its place.
#[test]
fn a_camera_of_one_size_is_left_alone() -> Result<()> {
    let mut room = Room::new(&[&CAMERA[..], &["--codec", "VP8"]].concat())?;
    room.receives((1280, 720))?;
    room.place(LARGE)?;
    recorded(&room.recording, 6)?;
    room.alice.order("size v 640x360")?;
    room.receives((640, 360))?;
    let ended = room.ended()?;
    ended.goes_on_throughout()?;
    ensure!(ended.sizes == [(1280, 720), (640, 360)], "{:?}", ended.sizes);
    Ok(())
}

/// In mode Individual, where the largest layer is taken: a new size begins a segment, every picture has its own.
#[test]
fn a_publisher_who_changes_the_size_is_recorded_in_both() -> Result<()> {
    let (livekit, media) = (LiveKit::start()?, tempfile::tempdir()?);
    let output = media.path().display().to_string();
    let manifest = livekit_to_folder(&livekit, "sizes", 5).replace("  storage:", "  output: {hls: {segmentSeconds: 4}}\n  storage:");
    let recording = Local::start(&manifest, &["--output", &output])?;
    let mut alice = Publisher::start(&livekit, "sizes", "alice", ALICE, &[&CAMERA[..], &["--codec", "H264", "--simulcast"]].concat())?;
    alice.started()?;
    recorded(&recording, 6)?;
    alice.order("size v 640x360")?;
    recorded(&recording, 8)?;
    alice.order("quit")?;
    alice.finish(SOON)?;
    let ended = recording.wait(LIMIT)?;
    ensure!(ended.status()?.phase == Some(Phase::Completed), "{}\n{}", ended.said, ended.recorder_log());
    let stored = Stored::open(media.path())?;
    stored.manifest_is_true()?;
    let playlist = stored.playlist("alice", "av")?;
    let video = content::video(&playlist)?;
    stored.every_picture_is_there("alice", "Camera", &video)?;
    let gaps = stored.gaps(&playlist);
    ensure!(video.sizes.ends_with(&[(1280, 720), (640, 360)]) && gaps.is_empty(), "{:?} {gaps:?}", video.sizes);
    Ok(())
}

/// Waits until so many seconds more are recorded.
fn recorded(recording: &Local, seconds: u64) -> Result<()> {
    let recorded = || Ok::<_, anyhow::Error>(recording.report()?.counters.recorded_seconds);
    let before = wait_until("a report", SOON, || recorded().ok())?;
    wait_until(&format!("{seconds} s more"), SOON, || recorded().ok().filter(|now| *now >= before + seconds)).map(drop)
}

struct Room {
    livekit: LiveKit,
    media: tempfile::TempDir,
    recording: Local,
    alice: Publisher,
    generation: i64,
    /// How often the size of what comes has changed.
    changes: usize,
}

struct Stayed {
    _media: tempfile::TempDir,
    /// Of the manifest.
    sizes: Vec<(u32, u32)>,
    playlist: Playlist,
    small: VideoReport,
    large: VideoReport,
}

fn manifest(livekit: &LiveKit, place: Rect) -> String {
    let Rect { x, y, width, height } = place;
    let region = format!("{{uid: alice, left: {x}, top: {y}, width: {width}, height: {height}}}");
    let composite = format!("mode: Composite\n  layout: {{type: Custom, regions: [{region}]}}\n");
    livekit_to_folder(livekit, "sizes", 5).replace("mode: Individual\n", &composite)
}

impl Room {
    /// Alice, in a small place.
    fn new(flags: &[&str]) -> Result<Self> {
        let (livekit, media) = (LiveKit::start()?, tempfile::tempdir()?);
        let output = media.path().display().to_string();
        let recording = Local::start(&manifest(&livekit, SMALL), &["--output", &output, "--follow"])?;
        let mut alice = Publisher::start(&livekit, "sizes", "alice", ALICE, flags)?;
        alice.started()?;
        Ok(Self { livekit, media, recording, alice, generation: 1, changes: 0 })
    }

    fn place(&mut self, place: Rect) -> Result<()> {
        self.generation += 1;
        self.recording.save(&manifest(&self.livekit, place))?;
        self.recording.wait_for_generation(self.generation, SOON)
    }

    /// Waits until pictures are of this size, after they were of another.
    fn receives(&mut self, (width, height): (u32, u32)) -> Result<()> {
        let (state, wanted) = (self.recording.state(), format!("\"width\":{width},\"height\":{height},"));
        let mut log = String::new();
        let changed = wait_until(&format!("pictures of {width}x{height}"), SOON, || {
            log = recorder_log(&state);
            let changes: Vec<&str> = log.lines().filter(|line| line.contains("pictures of another size")).skip(self.changes).collect();
            self.changes += changes.iter().position(|line| line.contains(&wanted))? + 1;
            Some(())
        });
        changed.with_context(|| log)
    }

    fn ended(mut self) -> Result<Stayed> {
        self.alice.order("quit")?;
        self.alice.finish(SOON)?;
        let ended = self.recording.wait(LIMIT)?;
        let status = ended.status()?;
        ensure!(status.phase == Some(Phase::Completed) && status.gap_count.unwrap_or(0) == 0, "{}\n{}", ended.said, ended.recorder_log());
        let stored = Stored::open(self.media.path())?;
        stored.manifest_is_true()?;
        let tracks = stored.tracks("alice", "Camera");
        ensure!(tracks.len() == 1 && tracks[0].lost == 0 && tracks[0].received_units == tracks[0].written_units, "{tracks:?}");
        let sizes = tracks[0].sizes.iter().map(|size| (size.width, size.height)).collect();
        let playlist = sound(&self.media.path().join(status.playlist.clone().context("a playlist's name")?))?;
        let mut tiles = content::tiles(&playlist, &[Some(SMALL), Some(LARGE)])?.into_iter();
        let (small, large) = tiles.next().zip(tiles.next()).context("two places")?;
        Ok(Stayed { _media: self.media, sizes, playlist, small, large })
    }
}

impl Stayed {
    /// In every frame Alice is in her place, small or large, and her pictures follow each other.
    fn goes_on_throughout(&self) -> Result<()> {
        let mut since: Option<(i64, u32)> = None;
        for (small, large) in self.small.frames.iter().zip(&self.large.frames) {
            let at = small.pts_90k;
            let code = small.code.or(large.code).with_context(|| format!("nobody at {at}"))?;
            ensure!(code.participant == ALICE, "{code:?} at {at}");
            let (began, shown) = since.filter(|(_, shown)| *shown == code.frame).unwrap_or((at, code.frame));
            let stands = (at - began) as f64 / CLOCK;
            ensure!(stands <= LONGEST_STAND_SECONDS, "picture {shown} stands for {stands:.2} s at {at}");
            since = Some((began, shown));
        }
        Ok(())
    }

    /// Whenever she gets the large place, her picture there is soon as sharp as it can be.
    fn is_large_soon(&self) -> Result<()> {
        let mut sharp = Vec::new();
        decode::pictures(&self.playlist.files(), |picture| {
            sharp.push(is_sharp(&picture));
            Ok(())
        })?;
        ensure!(sharp.last() == Some(&false), "at the end a picture of 640x360 is in the large place");
        let (mut waits, mut began) = (Vec::new(), None);
        for (frame, sharp) in self.large.frames.iter().zip(sharp) {
            let (since, known) = began.unwrap_or((frame.pts_90k, false));
            if frame.code.is_some() && sharp && !known {
                waits.push((frame.pts_90k - since) as f64 / CLOCK);
            }
            began = frame.code.map(|_| (since, known || sharp));
        }
        println!("sharp after {waits:.2?} s");
        ensure!(waits.len() == 2 && waits.iter().all(|wait| *wait <= LARGE_WITHIN_SECONDS), "{waits:?}");
        Ok(())
    }
}

/// As seen in the middle of the first row.
fn is_sharp(picture: &Picture<'_>) -> bool {
    let row = picture.height / 36 * picture.width;
    picture.data[row..][..picture.width].iter().filter(|luma| (60..190).contains(*luma)).count() < EDGES
}

//! A composite that gets too little CPU: a short shortage costs nothing; a lasting one lowers the picture, says so, and never costs sound.

use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_crds::status::Phase;
use recording_tests::analyser::block_code::Rect;
use recording_tests::analyser::content;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::{Process, wait_until};
use recording_tests::harness::starved::Starved;
use recording_tests::load::{Stimulus, Target, publish};
use recording_tests::local::{Ended, Local, livekit_to_folder};
use recording_tests::stored::{Stored, sound};
use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(60);
const PEOPLE: [u8; 4] = [1, 2, 3, 4];
const SHORT: Duration = Duration::from_secs(30);
/// Of a core: composing four of 360p15 on 1280x720 at 30 takes 27.
const TOO_LITTLE_PERCENT: u32 = 20;
const FAR_TOO_LITTLE_PERCENT: u32 = 12;

struct Room {
    recording: Local,
    publishers: Vec<Process>,
    folder: tempfile::TempDir,
    _livekit: LiveKit,
}

impl Room {
    /// Four of 640x360 at 15, when 6 s are recorded.
    fn open(name: &str) -> Result<Self> {
        let (livekit, folder) = (LiveKit::start()?, tempfile::tempdir()?);
        let stimulus = |participant| Stimulus { participant, width: 640, height: 360, frames_per_second: 15, seconds: 600, kbps: None };
        let media = PEOPLE.map(|participant| stimulus(participant).media()).into_iter().collect::<Result<Vec<_>>>()?;
        let manifest = livekit_to_folder(&livekit, name, 5).replace("mode: Individual", "mode: Composite");
        let mut recording = Local::start(&manifest, &["--output", &folder.path().display().to_string(), "--follow"])?;
        let target = Target::LiveKit { server: &livekit, room: name };
        let mut publishers = Vec::new();
        for (participant, media) in PEOPLE.iter().zip(&media) {
            publishers.push(publish(&target, media, 1, LIMIT.as_secs_f64(), &["-jump", "-first", &participant.to_string()])?);
            recording.process.wait_for_line(&format!("\"participantCount\":{participant}"), SOON)?;
        }
        wait_until("a segment", SOON, || recording.report().ok().filter(|report| report.counters.recorded_seconds >= 6))?;
        Ok(Self { recording, publishers, folder, _livekit: livekit })
    }

    fn is_overloaded(&self) -> Result<bool> {
        Ok(self.recording.report()?.degraded.iter().any(|degraded| degraded.code == Code::Overloaded))
    }

    fn seconds(&self) -> Result<u64> {
        Ok(self.recording.report()?.counters.recorded_seconds)
    }

    fn starve(&self, percent: u32) -> Result<Starved> {
        Starved::new(self.recording.recorder()?.0, percent)
    }

    fn close(mut self) -> Result<(Ended, tempfile::TempDir)> {
        self.publishers.iter_mut().for_each(|publisher| _ = publisher.stop(SOON));
        let ended = self.recording.wait(LIMIT)?;
        ensure!(ended.exit_code == 0 && ended.status()?.phase == Some(Phase::Completed), "{}\n{}", ended.said, ended.recorder_log());
        Ok((ended, self.folder))
    }
}

fn playlist(ended: &Ended, folder: &Path) -> Result<Playlist> {
    sound(&folder.join(ended.status()?.playlist.clone().context("a playlist's name")?))
}

fn quarter(n: usize) -> Option<Rect> {
    Some(Rect { x: 640 * (n % 2), y: 360 * (n / 2), width: 640, height: 360 })
}

#[test]
#[ignore = "two minutes, and root's rights: make overload"]
fn half_a_minute_with_too_little_cpu_costs_nothing() -> Result<()> {
    let room = Room::open("short")?;
    let (before, began) = (room.seconds()?, Instant::now());
    let starved = room.starve(TOO_LITTLE_PERCENT)?;
    thread::sleep(SHORT);
    let (behind, overloaded) = (room.seconds()?, room.is_overloaded()?);
    drop(starved);
    let lag = began.elapsed().as_secs().saturating_sub(behind - before);
    println!("starved for {SHORT:?}: {lag} s behind");
    ensure!(lag >= 4, "it was not starved: {lag} s behind");
    ensure!(!overloaded, "something was lowered");
    let relieved = Instant::now();
    let caught_up = |room: &Room| Some(room.seconds().ok()? + 7 >= before + began.elapsed().as_secs());
    wait_until("the backlog to clear", SOON, || caught_up(&room).filter(|is| *is))?;
    println!("made up for after {:.1} s", relieved.elapsed().as_secs_f64());
    let (ended, folder) = room.close()?;
    ensure!(ended.status()?.gap_count.unwrap_or(0) == 0, "{:?}", ended.status()?);
    let playlist = playlist(&ended, folder.path())?;
    let tiles = content::tiles(&playlist, &[0, 1, 2, 3].map(quarter))?;
    for tile in &tiles {
        let (id, counts) = tile.participants.iter().max_by_key(|(_, counts)| counts.present).context("nobody in a tile")?;
        println!("{id}: {counts:?}");
        ensure!(counts.missing.is_empty() && counts.out_of_order == 0 && counts.present >= 40 * 15, "{id}: {counts:?}");
    }
    heard(&playlist, 40)?;
    Stored::open(folder.path())?.manifest_is_true()
}

/// Everybody's voice, without a hole.
fn heard(playlist: &Playlist, seconds: usize) -> Result<()> {
    let audio = content::audio(playlist, &PEOPLE)?;
    ensure!(audio.gaps.is_empty() && audio.overlaps == 0, "{:?}", audio.gaps);
    for id in PEOPLE {
        let voice = &audio.voices[&id];
        let heard = voice.tone.iter().filter(|share| **share > 0.8).count();
        ensure!(heard >= seconds && voice.holes.is_empty(), "{id}: heard in {heard} s, {:?}", voice.holes);
    }
    Ok(())
}

#[test]
#[ignore = "five minutes, and root's rights: make overload"]
fn a_lasting_lack_of_cpu_lowers_the_picture_says_so_and_costs_no_sound() -> Result<()> {
    let room = Room::open("long")?;
    let began = Instant::now();
    let starved = room.starve(FAR_TOO_LITTLE_PERCENT)?;
    wait_until("Degraded/Overloaded", LIMIT, || room.is_overloaded().ok().filter(|is| *is))?;
    let said = began.elapsed();
    println!("overloaded after {:.0} s", said.as_secs_f64());
    // The steps behind the first, and the hole when there is no room any more.
    let left_out = || room.recording.report().ok().filter(|report| report.gaps.count > 0);
    let holes = wait_until("pictures to be left out", LIMIT, left_out)?;
    println!("pictures are left out after {:.0} s: {:?}", began.elapsed().as_secs_f64(), holes.gaps);
    ensure!(room.is_overloaded()?, "the status says so");
    drop(starved);
    let relieved = Instant::now();
    wait_until("the condition to be cleared", LIMIT, || room.is_overloaded().ok().filter(|is| !is))?;
    println!("cleared {:.0} s after there is CPU again", relieved.elapsed().as_secs_f64());
    let seconds = room.seconds()?;
    wait_until("three more segments", SOON, || Some(room.seconds().ok()? >= seconds + 18).filter(|is| *is))?;
    let (ended, folder) = room.close()?;
    let stored = Stored::open(folder.path())?;
    let reasons: BTreeSet<&str> = stored.manifest.gaps.iter().map(|gap| gap.reason.as_str()).collect();
    ensure!(reasons == BTreeSet::from(["Overloaded"]), "{:?}", stored.manifest.gaps);
    let playlist = playlist(&ended, folder.path())?;
    heard(&playlist, usize::try_from(said.as_secs())?)?;
    // At the end everybody is seen at their rate again.
    let video = content::tiles(&playlist, &[0, 1, 2, 3].map(quarter))?;
    for tile in &video {
        let last: Vec<u32> = tile.frames.iter().rev().take(10 * 30).filter_map(|frame| frame.code).map(|code| code.frame).collect();
        let different = last.iter().collect::<BTreeSet<_>>().len();
        ensure!(different >= 9 * 15, "{different} pictures in the last 10 s");
    }
    stored.manifest_is_true()
}

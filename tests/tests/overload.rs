//! A composite that gets less CPU than it takes: for half a minute that costs nothing; for good it lowers the picture, says so, and costs no sound.

use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_crds::status::Phase;
use recording_tests::analyser::block_code::Rect;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::analyser::{content, player};
use recording_tests::bench::usage::Usage;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::{Process, wait_until};
use recording_tests::harness::starved::Starved;
use recording_tests::load::{Stimulus, Target, publish};
use recording_tests::local::{Ended, Local, livekit_to_folder};
use recording_tests::stored::{Stored, sound};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(600);
const SOON: Duration = Duration::from_secs(60);
const PEOPLE: [u8; 4] = [1, 2, 3, 4];
const FRAMES_PER_SECOND: u32 = 15;
/// As a camera sends: with pictures that cost nothing nobody is short of anything.
const KBPS: u32 = 700;
const SHORT: Duration = Duration::from_secs(30);
/// What is measured to know how much is too little.
const MEASURED: Duration = Duration::from_secs(10);
/// Of what the recorder takes when it may.
const TOO_LITTLE: f64 = 0.5;
const FAR_TOO_LITTLE: f64 = 0.3;
/// What may wait, seconds (media.md section 6), and the frames that the transcoder holds.
const BACKLOG_MAX: f64 = 60.5;
/// The last of docs/composite.md's steps.
const LEAVES_OUT: u8 = 4;
/// Of the loudest sentence that nobody interrupts.
const HEARD: f64 = 0.8;

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
        let stimulus = |participant| Stimulus {
            participant,
            width: 640,
            height: 360,
            frames_per_second: FRAMES_PER_SECOND,
            seconds: 240,
            kbps: Some(KBPS),
        };
        let media = PEOPLE.map(|participant| stimulus(participant).media()).into_iter().collect::<Result<Vec<_>>>()?;
        let manifest = livekit_to_folder(&livekit, name, 5).replace("mode: Individual", "mode: Composite");
        let mut recording = Local::start(&manifest, &["--output", &folder.path().display().to_string(), "--follow"])?;
        let target = Target::LiveKit { server: &livekit, room: name };
        let mut publishers = Vec::new();
        for (participant, media) in PEOPLE.iter().zip(&media) {
            publishers.push(publish(&target, media, 1, LIMIT.as_secs_f64(), &["-jump", "-first", &participant.to_string()])?);
            recording.process.wait_for_line(&format!("\"participantCount\":{participant}"), SOON)?;
        }
        let room = Self { recording, publishers, folder, _livekit: livekit };
        wait_until("a segment", SOON, || room.seconds().ok().filter(|seconds| *seconds >= 6))?;
        Ok(room)
    }

    fn is_overloaded(&self) -> Result<bool> {
        Ok(self.recording.report()?.degraded.iter().any(|degraded| degraded.code == Code::Overloaded))
    }

    fn seconds(&self) -> Result<u64> {
        Ok(self.recording.report()?.counters.recorded_seconds)
    }

    /// Pictures that wait to be composed, seconds, and what is done about it.
    fn load(&self) -> Result<(f64, u8)> {
        Ok((self.recording.metric("recorder_transcode_backlog_seconds")?, self.recording.metric("recorder_overload_step")? as u8))
    }

    /// This share of what the recorder takes, from now on.
    fn starve(&self, share: f64) -> Result<Starved> {
        let (pid, _) = self.recording.recorder()?;
        let before = Usage::of(pid)?;
        let since = wait_until("a measure", MEASURED * 2, || Usage::of(pid).ok().filter(|now| now.at - before.at >= MEASURED))?;
        let takes = (since.cpu_seconds - before.cpu_seconds) / (since.at - before.at).as_secs_f64();
        println!("takes {:.0} % of a core, gets {:.0} %", takes * 100.0, takes * share * 100.0);
        Starved::new(pid, takes * share)
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

/// Everybody's voice, without a hole.
fn heard(playlist: &Playlist, seconds: usize) -> Result<()> {
    let audio = content::audio(playlist, &PEOPLE)?;
    ensure!(audio.gaps.is_empty() && audio.overlaps == 0, "{:?}", audio.gaps);
    for id in PEOPLE {
        let voice = &audio.voices[&id];
        let heard = voice.tone.iter().filter(|share| **share > HEARD).count();
        println!("{id} is heard in {heard} s");
        ensure!(heard >= seconds && voice.holes.is_empty(), "{id}: heard in {heard} s, {:?}", voice.holes);
    }
    Ok(())
}

#[test]
#[ignore = "two minutes, and root's rights: make overload"]
fn half_a_minute_with_too_little_cpu_costs_nothing() -> Result<()> {
    let room = Room::open("short")?;
    let starved = room.starve(TOO_LITTLE)?;
    let began = Instant::now();
    let mut most = 0.0_f64;
    wait_until("half a minute", SHORT * 2, || {
        let (waits, step) = room.load().ok()?;
        most = most.max(waits);
        (step > 0 || began.elapsed() >= SHORT).then_some(())
    })?;
    let (_, step) = room.load()?;
    drop(starved);
    println!("starved for {:.0} s: {most:.1} s behind", began.elapsed().as_secs_f64());
    ensure!(most >= 8.0, "it was not starved: {most} s behind");
    ensure!(step == 0 && !room.is_overloaded()?, "something was lowered: {step}");
    let relieved = Instant::now();
    wait_until("the backlog to clear", SOON, || room.load().ok().filter(|(waits, _)| *waits < 1.0))?;
    println!("made up for after {:.1} s", relieved.elapsed().as_secs_f64());
    let (ended, folder) = room.close()?;
    ensure!(ended.status()?.gap_count.unwrap_or(0) == 0, "{:?}", ended.status()?);
    let playlist = playlist(&ended, folder.path())?;
    for tile in &content::tiles(&playlist, &[0, 1, 2, 3].map(quarter))? {
        let (id, counts) = tile.participants.iter().max_by_key(|(_, counts)| counts.present).context("nobody in a tile")?;
        println!("{id}: {} pictures, {:?} missing, {} out of order", counts.present, counts.missing, counts.out_of_order);
        let least = SHORT.as_secs() * u64::from(FRAMES_PER_SECOND);
        ensure!(counts.missing.is_empty() && counts.out_of_order == 0 && counts.present >= least, "{id}: {counts:?}");
    }
    heard(&playlist, SHORT.as_secs() as usize)?;
    Stored::open(folder.path())?.manifest_is_true()
}

#[test]
#[ignore = "four minutes, and root's rights: make overload"]
fn a_lasting_lack_of_cpu_lowers_the_picture_says_so_and_costs_no_sound() -> Result<()> {
    let room = Room::open("long")?;
    let starved = room.starve(FAR_TOO_LITTLE)?;
    let began = Instant::now();
    let (mut steps, mut most, mut left_out) = (vec![0], 0.0_f64, None);
    wait_until("pictures to be left out for half a minute", LIMIT, || {
        let (waits, step) = room.load().ok()?;
        most = most.max(waits);
        if steps.last() != Some(&step) {
            println!("{:.0} s: {waits:.1} s wait, step {step}", began.elapsed().as_secs_f64());
            steps.push(step);
        }
        left_out = left_out.or((step == LEAVES_OUT).then(Instant::now));
        left_out.filter(|since| since.elapsed() >= SHORT)
    })?;
    ensure!(steps.starts_with(&[0, 1, 2, 3, LEAVES_OUT]) && most <= BACKLOG_MAX, "{steps:?}, at most {most} s wait");
    ensure!(room.is_overloaded()?, "the status says so");
    let starved_for = began.elapsed().as_secs();
    drop(starved);
    let relieved = Instant::now();
    wait_until("the condition to be cleared", LIMIT, || room.is_overloaded().ok().filter(|is| !is))?;
    println!("cleared {:.0} s after there is CPU again", relieved.elapsed().as_secs_f64());
    // What waited is stored in no time.
    wait_until("the backlog to clear", SOON, || room.load().ok().filter(|(waits, _)| *waits < 1.0))?;
    let seconds = room.seconds()?;
    wait_until("four more segments", SOON, || room.seconds().ok().filter(|now| *now >= seconds + 24))?;
    let (ended, folder) = room.close()?;
    let stored = Stored::open(folder.path())?;
    let reasons: BTreeSet<&str> = stored.manifest.gaps.iter().map(|gap| gap.reason.as_str()).collect();
    ensure!(reasons == BTreeSet::from(["Overloaded"]), "{:?}", stored.manifest.gaps);
    let playlist = playlist(&ended, folder.path())?;
    heard(&playlist, usize::try_from(starved_for)?)?;
    let played = player::play(&playlist)?;
    ensure!(played.is_good(), "{played:?}");
    // Before they leave, one by one, everybody is seen at their rate again.
    for (tile, id) in content::tiles(&playlist, &[0, 1, 2, 3].map(quarter))?.iter().zip(PEOPLE) {
        let end = tile.frames.last().context("frames")?.pts_90k;
        let late = tile.frames.iter().filter(|frame| (end - 15 * 90_000..end - 5 * 90_000).contains(&frame.pts_90k));
        let theirs: BTreeSet<u32> =
            late.filter_map(|frame| frame.code.filter(|code| code.participant == id)).map(|code| code.frame).collect();
        let least = 10 * FRAMES_PER_SECOND as usize - 1;
        println!("{id}: {} pictures in 10 s", theirs.len());
        ensure!(theirs.len() >= least, "{id}: {} pictures in 10 s", theirs.len());
    }
    stored.manifest_is_true()
}

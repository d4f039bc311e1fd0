//! People come and go, publish and unpublish, mute and unmute: all of it is told, all media is there, and nothing of it stays behind
//! in the recorder.

use anyhow::{Context, Result, ensure};
use recording_crds::status::Phase;
use recording_tests::analyser::content;
use recording_tests::analyser::player;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::wait_until;
use recording_tests::harness::s3::S3;
use recording_tests::harness::usage::{self, Usage};
use recording_tests::local::{Local, livekit_to_s3};
use recording_tests::publisher::{Publisher, Sent};
use recording_tests::stored::{Stay, Stored, Track};
use std::time::Duration;

const CYCLES: usize = 20;
const CYCLE_SECONDS: usize = 2;
/// When the first cycle begins, publisher's time.
const FIRST_SECOND: usize = 3;
/// All cycles and a moment.
const GUEST_SECONDS: usize = FIRST_SECOND + CYCLES * CYCLE_SECONDS + 2;
/// Buffers of the allocator and of the delay line; a leak of a connection, a track or a task in ten cycles is more.
const MEMORY_SLACK_KB: u64 = 2048;
/// A camera's first picture reaches a recorder this late: the offer's debounce of 150 ms, an answer, a key frame.
const FIRST_FRAMES: u32 = 12;
/// Frames that libwebrtc drops before its encoder, at the end of a stretch.
const LAST_FRAMES: u32 = 2;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn twenty_renegotiations_are_all_told_and_leave_nothing_behind() -> Result<()> {
    let (livekit, s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("media")?;
    let mut recording = Local::start(&livekit_to_s3(&livekit, &s3, "churn", "media", 5, 4), &[])?;
    let small = ["--size", "320x180", "--linger", "0.2"];
    let start = |identity: &str, id, flags: &[&str]| Publisher::start(&livekit, "churn", identity, id, &[&small, flags].concat());
    let mut host = start("host", 1, &["--seconds", "300"])?;
    let local = recording.process.pid();
    let recorder = recording.process.wait_until("the recorder", LIMIT, || usage::child(local, "recorder"))?;
    let stored = || s3.list("media").ok().filter(|keys| keys.iter().filter(|k| k.ends_with(".ts")).count() >= 2);
    recording.process.wait_until("stored segments", LIMIT, stored)?;
    let before = Usage::of(recorder)?;

    let seconds = GUEST_SECONDS.to_string();
    let mut visitor = start("visitor", 2, &["--seconds", &seconds, "--script", &script("leave", "join")])?;
    let mut switcher = start("switcher", 3, &["--seconds", &seconds, "--script", &script("unpublish v; mute a", "publish v; unmute a")])?;
    visitor.carried_out("join", 2, LIMIT)?;
    let mut late = start("late", 4, &["--seconds", "8"])?;
    late.finish(LIMIT)?;
    visitor.carried_out("join", CYCLES / 2, LIMIT)?;
    let halfway = Usage::of(recorder)?;
    visitor.carried_out("join", CYCLES, LIMIT)?;
    let all = Usage::of(recorder)?;
    println!("before {before:?}\nhalfway {halfway:?}\nall {all:?}");
    ensure!(all.anonymous_kb <= halfway.anonymous_kb + MEMORY_SLACK_KB, "memory grows: {halfway:?}, {all:?}");
    let sent = [visitor.finish(LIMIT)?, switcher.finish(LIMIT)?];
    let same = || Usage::of(recorder).ok().filter(|now| now.descriptors <= before.descriptors && now.threads <= before.threads);
    let after = wait_until("the recorder to be as it was", LIMIT, same);
    let after = after.with_context(|| format!("{before:?}, {:?}: {:?}", Usage::of(recorder), usage::descriptors(recorder)))?;
    println!("after {after:?}");
    host.order("quit")?;
    host.finish(LIMIT)?;
    let ended = recording.wait(LIMIT)?;
    ensure!(ended.status()?.phase == Some(Phase::Completed), "{}\n{}", ended.said, ended.recorder_log());

    let stored = Stored::download(&s3, "media", "acme")?;
    stored.manifest_is_true()?;
    ensure!(stored.manifest.playlists.len() == 4 && stored.manifest.participants.len() == 4, "{:?}", stored.manifest.playlists);
    for (identity, id, sent) in [("visitor", 2, &sent[0]), ("switcher", 3, &sent[1])] {
        all_pictures_are_there(&stored, identity, id, sent).context(identity)?;
    }
    the_visitor(&stored)?;
    the_switcher(&stored)?;
    ensure!(stored.stays("late").len() == 1 && stored.stays("host").len() == 1);
    ensure!(stored.stays("late")[0].0 > stored.stays("visitor")[1].0, "{:?}", stored.manifest.participants);
    let playlists = [stored.playlist("visitor", "av")?, stored.playlist("switcher", "av")?, stored.playlist("host", "av")?];
    for (playlist, report) in playlists.iter().zip(player::play_all(&playlists)?) {
        println!("{:.2} s, {} stretches, {report:?}", playlist.duration(), playlist.runs().len());
        ensure!(report.is_good(), "{}: {report:?}", playlist.path.display());
    }
    Ok(())
}

/// Both, twenty times: the second half a second behind the first.
fn script(first: &str, second: &str) -> String {
    let cycle = |n: usize| {
        let at = FIRST_SECOND + n * CYCLE_SECONDS;
        let steps = |at: f64, commands: &str| commands.split("; ").map(|c| format!("{at} {c}; ")).collect::<String>();
        steps(at as f64, first) + &steps(at as f64 + 0.5, second)
    };
    (0..CYCLES).map(cycle).collect()
}

/// From soon after each beginning to each end, as the publisher captured them.
fn all_pictures_are_there(stored: &Stored, identity: &str, id: u8, sent: &[Sent]) -> Result<()> {
    let playlist = stored.playlist(identity, "av")?;
    let video = content::video(&playlist)?;
    stored.every_picture_is_there(identity, "Camera", &video)?;
    let shown: Vec<u32> = video.frames.iter().filter_map(|f| f.code.filter(|c| c.participant == id)).map(|c| c.frame).collect();
    let stretches: Vec<(u32, u32)> = sent.iter().filter(|s| s.kind == "v").flat_map(|s| s.captured.clone()).collect();
    ensure!(stretches.len() == CYCLES + 1, "{stretches:?}");
    for (first, last) in stretches {
        let of_this: Vec<u32> = shown.iter().copied().filter(|n| (first..=last).contains(n)).collect();
        let (from, to) = of_this.first().zip(of_this.last()).with_context(|| format!("nothing of {first}..{last}"))?;
        ensure!(*from <= first + FIRST_FRAMES && *to + LAST_FRAMES >= last, "{first}..{last} captured, {from}..{to} stored");
        ensure!(of_this.len() as u32 + LAST_FRAMES > to - from, "{first}..{last} captured, stored {of_this:?}");
    }
    Ok(())
}

/// Gone and back twenty times: as many stays and tracks, one playlist, a discontinuity at each return.
fn the_visitor(stored: &Stored) -> Result<()> {
    let stays = stored.stays("visitor");
    ensure!(stays.len() == CYCLES + 1 && in_order(stays), "{stays:?}");
    for source in ["Camera", "Microphone"] {
        let tracks = stored.tracks("visitor", source);
        ensure!(tracks.len() == CYCLES + 1 && tracks.iter().all(|t| t.written_units > 0), "{tracks:?}");
        ensure!(in_order(&spans(&tracks)), "{tracks:?}");
    }
    ensure!(stored.playlist("visitor", "av")?.runs().len() == CYCLES + 1);
    Ok(())
}

/// His camera was unpublished twenty times, his microphone muted as often.
fn the_switcher(stored: &Stored) -> Result<()> {
    ensure!(stored.stays("switcher").len() == 1);
    let (cameras, microphones) = (stored.tracks("switcher", "Camera"), stored.tracks("switcher", "Microphone"));
    ensure!(cameras.len() == CYCLES + 1 && in_order(&spans(&cameras)), "{cameras:?}");
    ensure!(microphones.len() == 1 && microphones[0].muted90k.len() == CYCLES && in_order(&microphones[0].muted90k), "{microphones:?}");
    Ok(())
}

fn spans(tracks: &[&Track]) -> Vec<Stay> {
    tracks.iter().map(|t| (t.start90k, t.end90k)).collect()
}

/// All ended, none before it began, one after the other.
fn in_order(stays: &[Stay]) -> bool {
    stays.iter().all(|(start, end)| end.is_some_and(|end| end > *start))
        && stays.windows(2).all(|pair| pair[0].1.is_some_and(|end| end <= pair[1].0))
}

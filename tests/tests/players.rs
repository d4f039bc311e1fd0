//! What a camera can do to a playlist, and players that play it to its end all the same: one room, one person a case.

use anyhow::{Context, Result, ensure};
use recording_crds::status::Phase;
use recording_tests::analyser::content::{self, VideoReport};
use recording_tests::analyser::ffplay;
use recording_tests::analyser::player::{self, PlayerReport};
use recording_tests::analyser::playlist::Playlist;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::s3::S3;
use recording_tests::local::{Local, livekit_to_s3};
use recording_tests::publisher::{Publisher, Sent};
use recording_tests::stored::Stored;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const FPS: u32 = 15;
const SECONDS: &str = "26";
/// What a person publishes behind the first codec, see [`codecs`].
const SECOND_CODEC: &str = "VP8";
/// A muted camera's last picture holds this long before black begins (media.md section 4).
const HOLD_SECONDS: f64 = 3.5;
/// Signalling and media take different ways to the recorder.
const SLACK_SECONDS: f64 = 0.5;

/// Name, id in the block code, flags of the publisher.
const CASES: [(&str, u8, &[&str]); 7] = [
    ("late", 1, &["--video-after", "6"]),
    ("off-on", 2, &["--script", "7 mute v; 15 unmute v"]),
    ("camera-only", 3, &["--kinds", "v"]),
    ("voice-only", 4, &["--kinds", "a"]),
    ("resized", 5, &["--size", "640x360", "--script", "8 size v 320x180; 16 size v 960x540"]),
    ("codecs", 6, &["--script", "8 unpublish v; 9 publish v"]),
    ("lossy", 7, &[]),
];

#[test]
fn whatever_a_camera_does_players_play_to_the_end() -> Result<()> {
    let (livekit, mut s3) = (LiveKit::start()?, S3::start()?);
    s3.create_bucket("media")?;
    let mut recording = Local::start(&livekit_to_s3(&livekit, &s3, "cases", "media", 5, 4), &[])?;
    let mut people = vec![];
    for (identity, id, flags) in CASES {
        let flags: Vec<String> = flags.iter().map(|flag| flag.replace("9 publish v", &format!("9 publish v {SECOND_CODEC}"))).collect();
        let flags: Vec<&str> = ["--seconds", SECONDS, "--size", "320x180"].into_iter().chain(flags.iter().map(String::as_str)).collect();
        people.push(Publisher::start(&livekit, "cases", identity, id, &flags)?);
    }
    let lost = lose_a_segment(&mut recording, &mut s3, "lossy")?;
    let sent: Vec<Vec<Sent>> = people.iter_mut().map(|person| person.finish(Duration::from_secs(60))).collect::<Result<_>>()?;
    let ended = recording.wait(Duration::from_secs(60))?;
    ensure!(ended.status()?.phase == Some(Phase::Completed), "{}\n{}", ended.said, ended.recorder_log());
    let stored = Stored::download(&s3, "media", "acme")?;
    stored.manifest_is_true()?;

    let playlists: Vec<Playlist> = CASES.iter().map(|(identity, ..)| stored.playlist(identity, "av")).collect::<Result<_>>()?;
    for (playlist, played) in playlists.iter().zip(ffplay::play_all(&playlists)?) {
        played.check(playlist)?;
    }
    let reports = player::play_all(&playlists)?;
    for ((((identity, id, _), playlist), report), sent) in CASES.iter().zip(&playlists).zip(&reports).zip(&sent) {
        let case = Case { stored: &stored, identity, id: *id, playlist, video: content::video(playlist)?, report };
        case.plays()?;
        match *identity {
            "late" => case.late(),
            "off-on" => case.off_and_on(),
            "camera-only" => case.camera_only(),
            "voice-only" => case.voice_only(),
            "resized" => case.resized(),
            "codecs" => case.codecs(),
            _ => case.lossy(&lost),
        }
        .with_context(|| format!("{identity}: {report:?}, sent {sent:?}"))?;
    }
    Ok(())
}

/// While storage is down the spool loses a finished segment: nobody will ever store it. Its name.
fn lose_a_segment(recording: &mut Local, s3: &mut S3, identity: &str) -> Result<String> {
    let mine = format!("uid_s_{identity}__");
    let stored = |s3: &S3| s3.list("media").ok().filter(|keys| keys.iter().any(|k| k.contains(&mine) && k.ends_with(".ts"))).map(drop);
    recording.process.wait_until("a stored segment of his", Duration::from_secs(40), || stored(s3))?;
    s3.kill();
    let killed = SystemTime::now();
    let state = recording.state();
    // One that is older may be stored, and its file still be there for a moment.
    let is_new = |path: &PathBuf| path.metadata().and_then(|file| file.modified()).is_ok_and(|written| written > killed);
    let finished = || segments(&state).into_iter().find(|path| path.to_string_lossy().contains(&mine) && is_new(path));
    let path = recording.process.wait_until("a finished segment of his in the spool", Duration::from_secs(20), finished)?;
    std::fs::remove_file(&path)?;
    s3.restart()?;
    Ok(path.file_name().unwrap_or_default().to_string_lossy().into_owned())
}

/// Finished segments in the only spool below a state folder.
fn segments(state: &Path) -> Vec<PathBuf> {
    let recordings = std::fs::read_dir(state).into_iter().flatten().flatten();
    let files = recordings.flat_map(|r| std::fs::read_dir(r.path().join("spool/segments")).into_iter().flatten().flatten());
    files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "ts")).collect()
}

struct Case<'a> {
    stored: &'a Stored,
    identity: &'a str,
    id: u8,
    playlist: &'a Playlist,
    video: VideoReport,
    report: &'a PlayerReport,
}

impl Case<'_> {
    fn plays(&self) -> Result<()> {
        let (report, duration) = (self.report, self.playlist.duration());
        println!("{}: {duration:.2} s, longest stall {} ms, {:?}", self.identity, report.longest_stall_ms, report.errors);
        ensure!(report.is_good(), "{}: {report:?}", self.identity);
        ensure!((report.played_to - duration).abs() < 1.0, "{}: {duration} s are played to {}", self.identity, report.played_to);
        Ok(())
    }

    fn all_received(&self) -> Result<()> {
        self.stored.every_picture_is_there(self.identity, "Camera", &self.video).map(drop)
    }

    /// PTS of the filler pictures in seconds of the publisher's time: all frames of this person tell the same difference, about.
    fn filler_times(&self) -> Result<Vec<f64>> {
        let coded = self.video.frames.iter().find_map(|f| Some((f.code?.frame, f.pts_90k))).context("a coded picture")?;
        let zero = coded.1 as f64 / 90_000.0 - f64::from(coded.0) / f64::from(FPS);
        Ok(self.video.frames.iter().filter(|f| f.filler).map(|f| f.pts_90k as f64 / 90_000.0 - zero).collect())
    }

    /// The tone is there from the first to the last second.
    fn speaks_throughout(&self) -> Result<f64> {
        let audio = content::audio(self.playlist, &[self.id])?;
        let voice = &audio.voices[&self.id];
        self.stored.all_sound_is_there(self.identity, "Microphone", &audio, self.id)?;
        let told = || self.stored.tracks(self.identity, "Microphone");
        ensure!(voice.beeps.len() >= 25, "{} beeps, heard {:?} of each second, {:?}", voice.beeps.len(), voice.tone, told());
        Ok(audio.first_pts)
    }

    /// Sound comes first: over black.
    fn late(&self) -> Result<()> {
        self.all_received()?;
        let start = self.speaks_throughout()?;
        let first = self.video.frames.iter().find(|f| f.code.is_some()).context("a camera picture")?;
        let before = first.pts_90k as f64 / 90_000.0 - start;
        ensure!((5.5..7.5).contains(&before), "the camera came after {before:.2} s");
        ensure!(self.video.filler >= 5 && self.playlist.runs().len() == 2, "{} black pictures", self.video.filler);
        Ok(())
    }

    /// Muted from 7 s to 15 s: the last picture holds, then a black one a second, then the camera again.
    fn off_and_on(&self) -> Result<()> {
        self.all_received()?;
        self.speaks_throughout()?;
        let times = self.filler_times()?;
        ensure!((times[0] - 7.0 - HOLD_SECONDS).abs() < SLACK_SECONDS && times.iter().all(|t| *t < 15.0 + SLACK_SECONDS), "{times:?}");
        ensure!((4..=6).contains(&times.len()) && self.playlist.runs().len() == 3, "{times:?}");
        let again = self.video.frames.iter().filter_map(|f| f.code).find(|c| c.frame >= 14 * FPS).context("the camera again")?;
        ensure!(again.frame < 16 * FPS, "{again:?}");
        let muted = &self.stored.tracks(self.identity, "Camera")[0].muted90k;
        ensure!(muted.len() == 1, "{muted:?}");
        let seconds = (muted[0].1.context("unmuted")? - muted[0].0) as f64 / 90_000.0;
        ensure!((seconds - 8.0).abs() < SLACK_SECONDS, "muted for {seconds} s");
        Ok(())
    }

    /// With `media: AudioVideo` the sound of somebody who never speaks is silence.
    fn camera_only(&self) -> Result<()> {
        self.all_received()?;
        let audio = content::audio(self.playlist, &[self.id])?;
        let silent: f64 = audio.silences.iter().map(|s| s.end - s.start).sum();
        ensure!(audio.gaps.is_empty() && silent > audio.duration - 0.1, "{silent} of {} s are silent", audio.duration);
        ensure!(audio.duration > 25.0 && self.video.filler == 0 && self.playlist.runs().len() == 1, "{} s", audio.duration);
        Ok(())
    }

    fn voice_only(&self) -> Result<()> {
        self.speaks_throughout()?;
        ensure!(self.video.participants.is_empty() && self.video.undecodable == 0, "{:?}", self.video.participants);
        ensure!((25..=28).contains(&self.video.filler) && self.playlist.runs().len() == 1, "{} black pictures", self.video.filler);
        Ok(())
    }

    /// A change of size begins a segment of its own, and all of it is shown.
    fn resized(&self) -> Result<()> {
        self.all_received()?;
        self.speaks_throughout()?;
        let sizes = [(640, 360), (320, 180), (960, 540)];
        ensure!(self.video.sizes == sizes && self.playlist.runs().len() == 3, "{:?}", self.video.sizes);
        ensure!(self.report.sizes == sizes.map(|(w, h)| (w as u32, h as u32)), "{:?}", self.report.sizes);
        Ok(())
    }

    /// Unpublished and published again with another codec: the same playlist goes on.
    fn codecs(&self) -> Result<()> {
        self.all_received()?;
        self.speaks_throughout()?;
        let tracks = self.stored.tracks(self.identity, "Camera");
        ensure!(tracks.len() == 2 && tracks.iter().all(|t| t.written_units > 60 && t.recorded), "{tracks:?}");
        let codecs: Vec<String> = tracks.iter().map(|t| t.codec.to_uppercase()).collect();
        ensure!(codecs == ["H264", SECOND_CODEC], "{codecs:?}");
        ensure!(self.video.filler == 0, "he was away for a second");
        Ok(())
    }

    /// The playlist leaves out what is lost, and says so; what is missing is exactly that.
    fn lossy(&self, lost: &str) -> Result<()> {
        let name = self.playlist.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mine: Vec<_> = self.stored.manifest.tail.iter().filter(|e| e.playlist == name).collect();
        let at = mine.iter().position(|e| e.name == lost).context("the lost segment is in the ledger")?;
        ensure!(mine.iter().enumerate().all(|(i, e)| e.at.as_deref() == Some(if i == at { "Lost" } else { "Primary" })), "{mine:?}");
        let named: Vec<&str> = self.playlist.segments.iter().map(|s| s.uri.as_str()).collect();
        let expected: Vec<&str> = mine.iter().map(|e| e.name.as_str()).filter(|n| *n != lost).collect();
        ensure!(named == expected && at > 0 && at + 1 < mine.len(), "{named:?}, {mine:?}");
        ensure!(self.playlist.segments[at].discontinuity && self.playlist.runs().len() == 2, "{:?}", self.playlist.segments);
        let gaps = self.stored.gaps(self.playlist);
        let gap = gaps.iter().find(|gap| gap.reason == "SegmentLost").context("the gap is recorded")?;
        ensure!((gap.start90k, gap.duration90k) == (mine[at].start90k, mine[at].duration90k), "{gap:?}, {:?}", mine[at]);
        let counts = &self.video.participants[&self.id];
        // Single ones are missing too where the publisher left them out.
        let (missing, seconds) = (longest_run(&counts.missing), mine[at].duration90k as f64 / 90_000.0);
        ensure!((missing as f64 - seconds * f64::from(FPS)).abs() <= 3.0, "{missing} pictures are missing of {seconds} s: {counts:?}");
        let written = self.stored.tracks(self.identity, "Camera")[0].written_units;
        let in_file = self.video.frames.iter().filter(|frame| !frame.filler).count() as u64;
        let lost = written.checked_sub(in_file).with_context(|| format!("{written} written, {in_file} in the file"))?;
        ensure!((missing.saturating_sub(3)..=missing).contains(&lost), "{written} written, of which storage lost {missing}: {counts:?}");
        Ok(())
    }
}

/// Of numbers that follow one another.
fn longest_run(numbers: &[u32]) -> u64 {
    numbers.chunk_by(|a, b| *b == a + 1).map(|run| run.len() as u64).max().unwrap_or(0)
}

//! What is stored, measured: every frame, its order, lip sync, the transport stream, a real player.

use anyhow::{Context, Result, bail, ensure};
use recording_crds::codes::Code;
use recording_crds::status::Phase;
use recording_tests::analyser::block_code::TONE_LEVEL;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::analyser::{content, player, probe};
use recording_tests::harness::workspace;
use recording_tests::local::Local;
use recording_tests::stored::{Stored, sound};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The test pattern's reports come from the clock that makes its media (media.md: test pattern p99).
const EXACT_OFFSET_MS: f64 = 20.0;

#[test]
fn the_built_in_room_is_recorded_whole_and_in_sync() -> Result<()> {
    let media = tempfile::tempdir()?;
    let manifest = std::fs::read_to_string(workspace().join("examples/test-pattern.yaml"))?;
    let ended = Local::start(&manifest, &["--output", &media.path().display().to_string()])?.wait(Duration::from_secs(90))?;
    ensure!(ended.exit_code == 0, "{}\n{}", ended.said, ended.recorder_log());
    let status = ended.status()?;
    ensure!(status.phase == Some(Phase::Completed) && status.playlist_count == Some(2), "{status:?}");
    ensure!(status.result.as_ref().is_some_and(|r| r.reason == Code::NoUsers), "{status:?}");
    ensure!(ended.said.contains("ffplay"), "it says how to play the result: {}", ended.said);

    let playlists = playlists(media.path())?;
    ensure!(playlists.len() == 2, "{playlists:?}");
    for path in &playlists {
        let playlist = sound(path)?;
        let video = content::video(&playlist)?;
        let (&id, counts) = video.participants.iter().next().context("a participant in the picture")?;
        ensure!(video.participants.len() == 1 && video.undecodable == 0, "{:?}", video.participants);
        ensure!(counts.missing.is_empty() && counts.duplicated == 0 && counts.out_of_order == 0, "{counts:?}");
        ensure!(counts.present >= 19 * 30, "20 s at 30 pictures a second: {counts:?}");
        let audio = content::audio(&playlist, &[id])?;
        ensure!(audio.gaps.is_empty() && audio.overlaps == 0, "{:?}", audio.gaps);
        let offsets = content::av_offset(&video, &audio, id, 30);
        ensure!(offsets.each.len() >= 15, "{offsets:?}");
        ensure!(offsets.p99.abs() <= EXACT_OFFSET_MS && offsets.max.abs() <= EXACT_OFFSET_MS, "{offsets:?}");
        println!("{}: {} frames, A/V offset median {:.1} p99 {:.1} ms", id, counts.present, offsets.median, offsets.p99);
    }
    let report = player::play(&Playlist::read(&playlists[0])?)?;
    ensure!(report.is_good(), "{report:?}");
    let stored = Stored::open(media.path())?;
    for track in &stored.manifest.tracks {
        ensure!(track.received_units == track.written_units && track.lost == 0, "{track:?}");
    }
    stored.manifest_is_true()
}

/// By what FFmpeg says of it, and as loud as it was.
#[test]
fn sound_is_written_as_the_profile_says() -> Result<()> {
    for (mode, profile, channels) in [("Individual", "Mono128", 1), ("Individual", "Stereo192", 2), ("Composite", "Stereo192", 2)] {
        let media = tempfile::tempdir()?;
        let manifest = format!(
            "apiVersion: recording-operator.io/v1alpha1
kind: Recording
metadata: {{name: profile}}
spec:
  channel: {{name: profile, testPattern: {{participants: 1, width: 320, height: 180, framesPerSecond: 10, durationSeconds: 6}}}}
  mode: {mode}
  audio: {{profile: {profile}}}
  idleTimeoutSeconds: 5
  storage: {{volume: {{claimName: recordings}}}}
"
        );
        let ended = Local::start(&manifest, &["--output", &media.path().display().to_string()])?.wait(Duration::from_secs(60))?;
        ensure!(ended.exit_code == 0, "{}\n{}", ended.said, ended.recorder_log());
        let [path] = &playlists(media.path())?[..] else { bail!("one playlist") };
        let playlist = sound(path)?;
        let probed = probe::ffprobe(&playlist)?;
        let stream = probed.stream("audio").context("sound")?;
        let described = (stream.codec.as_str(), stream.profile.as_deref(), stream.sample_rate, stream.channels);
        ensure!(described == ("aac", Some("LC"), 48_000, channels), "{mode} {profile}: {stream:?}");
        let audio = content::audio(&playlist, &[1])?;
        ensure!(audio.gaps.is_empty() && audio.overlaps == 0, "{:?}", audio.gaps);
        let off = 20.0 * (audio.voices[&1].level / TONE_LEVEL).log10();
        println!("{mode} {profile}: {off:+.2} dB");
        ensure!(off.abs() <= 0.5, "{mode} {profile}: {off} dB");
    }
    Ok(())
}

fn playlists(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder)?.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "m3u8")).collect();
    found.sort();
    Ok(found)
}

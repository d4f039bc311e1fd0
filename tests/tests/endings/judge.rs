//! Is an ending what its row says, whatever it was?

use crate::scene::{Over, Scene};
use crate::table::{Ending, Media};
use anyhow::{Context, Result, ensure};
use recording_crds::RecordingStatus;
use recording_crds::conditions::{self as c, is_true};
use recording_crds::report::{Report, TERMINATION_MESSAGE_MAX};
use recording_crds::status::Phase;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::analyser::{probe, ts};
use recording_tests::stored::{Stored, sound};
use recording_tests::sweep::Place;
use std::io::Write;
use std::path::{Path, PathBuf};

pub fn judge(ending: &Ending, scene: &Scene, over: &Over) -> Result<()> {
    let said = || over.said.clone();
    ensure!(over.exit_code == ending.exit, "exit {}\n{}", over.exit_code, over.said);
    let status = over.status.as_ref().with_context(said)?;
    result(ending, status).with_context(said)?;
    conditions(ending, status).with_context(|| format!("{:#?}", status.conditions))?;
    if let Some(message) = &over.termination_message {
        last_word(ending, message).with_context(|| message.clone())?;
    }
    nothing_leaks(scene, over, status)?;
    media(ending.media, scene).with_context(said)
}

fn result(ending: &Ending, status: &RecordingStatus) -> Result<()> {
    ensure!(status.phase == Some(ending.phase), "{:?}", status.phase);
    let result = status.result.as_ref().context("a result")?;
    ensure!(result.reason == ending.result && result.number == ending.number && result.component == ending.component, "{result:?}");
    ensure!(result.remedy.as_ref().is_some_and(|text| text.ends_with('.')), "{result:?}");
    ensure!(result.message.as_ref().is_some_and(|text| !text.is_empty()), "{result:?}");
    let failure = status.failure.as_ref();
    ensure!(failure.map(|failure| (failure.code, failure.number)) == ending.failure, "{failure:?}");
    ensure!(failure.is_none_or(|failure| failure.remedy.as_ref().is_some_and(|text| text.ends_with('.'))), "{failure:?}");
    ensure!(status.completion_time.is_some() && status.stop_time.is_some(), "{status:?}");
    ensure!(status.participant_count == Some(0), "{status:?}");
    Ok(())
}

fn conditions(ending: &Ending, status: &RecordingStatus) -> Result<()> {
    let completed = ending.phase == Phase::Completed;
    let all_stored = matches!(ending.media, Media::Whole | Media::Adopted);
    let expected = [
        (c::COMPLETE, completed),
        (c::FAILED, !completed),
        (c::READY, completed),
        (c::STALLED, !completed),
        (c::RECORDING, false),
        (c::UPLOADED, all_stored),
    ];
    for (condition, truth) in expected {
        let found = c::find(&status.conditions, condition).with_context(|| format!("no condition {condition}"))?;
        ensure!(is_true(&status.conditions, condition) == truth, "{found:?}");
    }
    let (condition, reason) = ending.failure.map_or((c::COMPLETE, ending.result), |(code, _)| (c::FAILED, code));
    let found = c::find(&status.conditions, condition).context("the final condition")?;
    ensure!(found.reason == reason.as_str(), "{found:?}");
    Ok(())
}

fn last_word(ending: &Ending, message: &str) -> Result<()> {
    ensure!(message.len() <= TERMINATION_MESSAGE_MAX, "{} bytes", message.len());
    let report: Report = serde_json::from_str(message)?;
    let outcome = report.outcome.as_ref().context("an outcome")?;
    ensure!(outcome.code == ending.result && outcome.number.map(i64::from) == ending.number, "{outcome:?}");
    ensure!(outcome.component == ending.component && !outcome.remedy.is_empty(), "{outcome:?}");
    ensure!(outcome.media == !matches!(ending.media, Media::Nothing), "{outcome:?}");
    Ok(())
}

fn nothing_leaks(scene: &Scene, over: &Over, status: &RecordingStatus) -> Result<()> {
    let mut found = scene.forbidden.look(Place::Public, "what was said", &over.said);
    found.extend(scene.forbidden.look(Place::Public, "the status", &serde_json::to_string(status)?));
    found.extend(scene.forbidden.look(Place::Public, "the termination message", over.termination_message.as_deref().unwrap_or_default()));
    for key in scene.world.s3.list(scene.name).unwrap_or_default() {
        let headers = format!("{:?}", scene.world.s3.head(scene.name, &key)?);
        found.extend(scene.forbidden.look(Place::AboutPeople, "an object's metadata", &headers));
        if !key.ends_with(".ts") {
            let text = String::from_utf8(scene.world.s3.get(scene.name, &key)?)?;
            found.extend(scene.forbidden.look(Place::AboutPeople, "a document in storage", &text));
        }
    }
    ensure!(found.is_empty(), "{found:?}");
    Ok(())
}

fn media(expected: Media, scene: &Scene) -> Result<()> {
    if expected == Media::Gone {
        ensure!(scene.world.s3.list(scene.name).is_err(), "the bucket is back");
        return Ok(());
    }
    let stored = Stored::download(&scene.world.s3, scene.name, "acme")?;
    let playlists = playlists(&stored)?;
    if expected == Media::Nothing {
        ensure!(playlists.is_empty() && stored.manifest.tail.is_empty(), "{playlists:?}");
        return Ok(());
    }
    ensure!(!playlists.is_empty(), "no playlist");
    if expected == Media::Unfinished {
        playlists.iter().try_for_each(|path| end(path))?;
    } else {
        stored.manifest_is_true()?;
        let at = |place| stored.manifest.tail.iter().filter(|entry| entry.at.as_deref() == Some(place)).count();
        let (lost, kept) = (at("Lost"), at("Primary"));
        ensure!(lost + kept == stored.manifest.tail.len(), "{:?}", stored.manifest.tail);
        ensure!((lost > 0) == (expected == Media::Lossy), "{lost} lost, {kept} stored");
    }
    for path in &playlists {
        let playlist = if matches!(expected, Media::Lossy | Media::Adopted) { holed(path)? } else { sound(path)? };
        ensure!(!playlist.segments.is_empty(), "{} is empty", path.display());
    }
    Ok(())
}

/// As sound as a playlist can be from which segments are missing.
fn holed(path: &Path) -> Result<Playlist> {
    let playlist = Playlist::read(path)?;
    ensure!(playlist.endlist, "{} has no end", path.display());
    let report = ts::inspect_holed_playlist(&playlist)?;
    ensure!(report.faults.is_empty(), "{:?}", report.faults);
    let probed = probe::ffprobe(&playlist)?;
    ensure!((probed.duration - playlist.duration()).abs() < 0.01, "{} s, EXTINF {} s", probed.duration, playlist.duration());
    for check in probe::extinf_matches_decoded(&playlist)? {
        ensure!(check.agrees(), "{check:?}");
    }
    Ok(playlist)
}

pub fn playlists(stored: &Stored) -> Result<Vec<PathBuf>> {
    let files = std::fs::read_dir(stored.folder())?.flatten().map(|entry| entry.path());
    Ok(files.filter(|path| path.extension().is_some_and(|extension| extension == "m3u8")).collect())
}

/// What a player of a live stream does when no more comes.
fn end(path: &Path) -> Result<()> {
    let text = std::fs::read_to_string(path)?;
    ensure!(!text.contains("#EXT-X-ENDLIST"), "nobody could have written that");
    Ok(std::fs::OpenOptions::new().append(true).open(path)?.write_all(b"#EXT-X-ENDLIST\n")?)
}

//! What a recording promises when it is over: all of it is named, read back whole, and what is missing is said.

use super::bucket::Bucket;
use super::support::backup::names;
use super::support::reader::Reader;
use super::world::World;
use recorder_media::*;
use std::collections::{BTreeMap, BTreeSet};

/// A publication is known before its first packet, a mute after its last, and packets are captured before they arrive.
const EDGE_90K: i64 = 3 * MediaTime::PER_SECOND;
/// Less than this between two pieces of media is no hole: a late first picture, the last picture's length.
const HOLE_90K: i64 = 3 * MediaTime::PER_SECOND / 2;

pub fn check(manifest: &Manifest, outcome: Outcome, world: &World, harmed: bool) {
    assert_eq!(manifest.outcome, Some(outcome));
    assert!(manifest.gaps.iter().all(|gap| !gap.open && gap.duration90k >= 0), "{:?}", manifest.gaps);
    let mut pictures = BTreeMap::new();
    for playlist in &manifest.playlists {
        check_named(manifest, playlist, &world.primary, world.backup.as_ref());
        read_back(manifest, playlist, world, &mut pictures);
        check_coverage(manifest, playlist);
    }
    check_counts(manifest, &pictures, harmed);
}

/// The storage that has the newest of a playlist names all that is not lost, in order, and says that it is over.
fn check_named(manifest: &Manifest, playlist: &PlaylistRecord, primary: &Bucket, backup: Option<&Bucket>) {
    let entries = || manifest.ledger.iter().filter(|entry| entry.playlist == playlist.name && !entry.lost);
    let alone = entries().any(|entry| entry.in_backup && !entry.stored);
    let bucket = if alone { backup.expect("a backup") } else { primary };
    let text = bucket.playlists().find(|(name, _)| *name == playlist.name).map(|(_, text)| text);
    if entries().next().is_none() {
        return;
    }
    let text = text.unwrap_or_else(|| panic!("{} is nowhere", playlist.name));
    assert!(text.ends_with("#EXT-X-ENDLIST\n"), "{} has no end", playlist.name);
    let expected: Vec<&str> = entries().filter(|entry| !alone || entry.in_backup).map(|entry| entry.name.as_str()).collect();
    let named: Vec<&str> = names(text).collect();
    assert_eq!(named, expected, "{}", playlist.name);
}

/// Every stream is one that a player can follow; no picture is there twice or out of order. Adds its pictures, by track.
pub fn read_back(manifest: &Manifest, playlist: &PlaylistRecord, world: &World, pictures: &mut BTreeMap<u32, BTreeSet<u32>>) {
    let mut reader = Reader::default();
    let mut before: Option<(u32, u32)> = None;
    let mut newest = BTreeMap::new();
    for entry in manifest.ledger.iter().filter(|entry| entry.playlist == playlist.name) {
        let data = world.primary.segment(&entry.name).or_else(|| world.backup.as_ref()?.segment(&entry.name));
        let follows = before.is_some_and(|(n, epoch)| n + 1 == entry.n && epoch == entry.epoch);
        assert!(before.is_none_or(|(n, _)| n < entry.n), "numbers rise: {entry:?}");
        let Some(data) = data.filter(|_| !entry.lost && !world.watched.collided.contains(&entry.name)) else {
            before = None;
            continue;
        };
        if !follows {
            reader = Reader::default();
        }
        before = Some((entry.n, entry.epoch));
        for pes in reader.segment(data) {
            if let Some((_, Some(number), ..)) = pes.picture() {
                let last = newest.insert(number / 10_000, number);
                assert!(last.is_none_or(|last| last < number), "{}: picture {number} after {last:?}", entry.name);
                assert!(pictures.entry(number / 10_000).or_default().insert(number), "{}: picture {number} again", entry.name);
            }
        }
    }
}

/// Media, or a stated hole, for every moment at which a publication was live.
fn check_coverage(manifest: &Manifest, playlist: &PlaylistRecord) {
    let mut covered: Vec<(i64, i64)> = Vec::new();
    let entries = manifest.ledger.iter().filter(|entry| entry.playlist == playlist.name);
    covered.extend(entries.map(|entry| (entry.start.0, entry.start.0 + entry.duration90k)));
    let gaps = manifest.gaps.iter().filter(|gap| gap.playlist.as_ref().is_none_or(|name| *name == playlist.name));
    covered.extend(gaps.map(|gap| (gap.start.0, gap.start.0 + gap.duration90k)));
    let theirs = manifest.tracks.iter().filter(|track| track.recorded && belongs(track, playlist, manifest));
    for track in theirs {
        let mut spans = covered.clone();
        let end = track.end.unwrap_or_else(|| panic!("it is over: {track:?}")).0;
        let off = track.muted.iter().chain(&track.unsubscribed);
        spans.extend(off.map(|(from, to)| (from.0, to.map_or(end, |to| to.0) + EDGE_90K)));
        spans.sort_unstable();
        let mut at = track.start.0 + EDGE_90K;
        for (from, to) in spans.into_iter().chain([(end - EDGE_90K, end)]) {
            let missing = from.min(end - EDGE_90K) - at;
            assert!(
                missing <= HOLE_90K,
                "{} lacks {} s from {} s on and says nothing: {track:?} {:?}",
                playlist.name,
                missing as f64 / 9e4,
                at as f64 / 9e4,
                manifest.gaps
            );
            at = at.max(to);
        }
    }
}

/// A microphone is in the person's own playlist, a share's sound in the share's; of several cameras it is not known which is where.
fn belongs(track: &TrackRecord, playlist: &PlaylistRecord, manifest: &Manifest) -> bool {
    let kind = playlist.name.rsplit("__uid_e_").next().unwrap_or_default();
    let several =
        manifest.playlists.iter().filter(|other| other.identity == playlist.identity && other.name.contains("__uid_e_screen")).count();
    track.identity == playlist.identity
        && match track.source {
            Source::Microphone => kind == "av.m3u8",
            Source::ScreenShareAudio => kind == "screen.m3u8" && several == 1,
            Source::Camera | Source::ScreenShare => false,
        }
}

/// What is counted as written is in the files, and what was received is written or its loss is said.
fn check_counts(manifest: &Manifest, pictures: &BTreeMap<u32, BTreeSet<u32>>, harmed: bool) {
    if harmed || manifest.ledger.iter().any(|entry| entry.lost) {
        return;
    }
    let video = || manifest.tracks.iter().filter(|track| track.codec != Codec::Opus);
    let written: u64 = video().map(|track| track.written_units).sum();
    assert_eq!(pictures.values().map(|numbers| numbers.len() as u64).sum::<u64>(), written, "what is counted as written is in the files");
    let excused = |reason: GapReason| matches!(reason, GapReason::PacketLoss | GapReason::Overloaded | GapReason::Undecodable);
    let lost = manifest.gaps.iter().any(|gap| excused(gap.reason));
    for track in video().filter(|_| !lost) {
        assert_eq!(track.received_units, track.written_units, "{track:?}");
    }
}

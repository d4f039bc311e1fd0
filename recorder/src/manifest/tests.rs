use recorder_media::{
    Codec, Continuation, GapReason, LedgerEntry, Manifest, ParticipantRecord, PlaylistRecord, Source, TrackRecord, WallMicros,
};

use super::*;

const GOLDEN: &str = include_str!("../../tests/golden/manifest-v1.json");
const EPOCH: u64 = 1_767_225_599_123_456;

fn identity() -> Identity {
    Identity { stem: "0f8c_daily".into(), recording_id: "0f8c".into(), channel: "daily".into(), app_id: Some("acme".into()) }
}

fn entry(n: u32, stored: bool, lost: bool) -> LedgerEntry {
    LedgerEntry {
        playlist: "p.m3u8".into(),
        n,
        name: format!("p_{n}.ts"),
        start: MediaTime(i64::from(n) * 540_000),
        duration90k: 540_000,
        wall: WallMicros(EPOCH + u64::from(n) * 6_000_000),
        bytes: 188,
        sha256: "ab".repeat(32),
        etag: if stored { "\"e\"".into() } else { String::new() },
        stored,
        lost,
        discontinuity: n == 1,
        independent: n != 2,
        epoch: 2,
    }
}

fn sample() -> Manifest {
    Manifest {
        epoch: 2,
        epoch_time: Some(WallMicros(EPOCH)),
        ledger: vec![entry(0, true, false), entry(1, false, true), entry(2, false, false)],
        participants: vec![ParticipantRecord {
            identity: "ünï".into(),
            stays: vec![(MediaTime(0), Some(MediaTime(9))), (MediaTime(20), None)],
        }],
        tracks: vec![TrackRecord {
            identity: "ünï".into(),
            source: Source::ScreenShareAudio,
            codec: Codec::Opus,
            start: MediaTime(-3),
            end: Some(MediaTime(7)),
            packets: 5,
            lost: 1,
            received_units: 4,
            written_units: 3,
            muted: vec![(MediaTime(1), None)],
            recorded: true,
        }],
        gaps: vec![recorder_media::Gap {
            start: MediaTime(4),
            duration90k: 8,
            reason: GapReason::RecorderRestarted,
            playlist: None,
            open: true,
        }],
        playlists: vec![PlaylistRecord {
            name: "p.m3u8".into(),
            identity: "ünï".into(),
            has_video: true,
            has_audio: false,
            stored: true,
            ended: false,
            continuation: Continuation { continuity_counters: vec![(256, 15)], next_n: 3 },
        }],
        outcome: Some(recorder_media::Outcome::NoUsers),
    }
}

#[test]
fn the_format_is_the_one_that_was_promised() {
    let rendered = render(&identity(), &sample());
    let value: serde_json::Value = serde_json::from_slice(&rendered.head).expect("JSON");
    let pretty = serde_json::to_string_pretty(&value).expect("JSON") + "\n";
    assert_eq!(pretty, GOLDEN, "the manifest is API: a change needs a new format version");
}

#[test]
fn what_was_written_is_read_back_whole() {
    let rendered = render(&identity(), &sample());
    assert!(rendered.chunks.is_empty());
    assert_eq!(parse(&rendered.head).expect("ours").into_manifest(&[]).expect("ours"), sample());
}

#[test]
fn full_chunks_leave_the_head_and_never_change() {
    let mut manifest = sample();
    manifest.ledger = (0..600).map(|n| entry(n, n < 590, false)).collect();
    let first = render(&identity(), &manifest);
    assert_eq!(
        first.chunks.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
        ["0f8c_daily_ledger_0.ndjson", "0f8c_daily_ledger_1.ndjson"]
    );
    assert!(first.head.len() < 40_000, "88 entries, not 600");
    let bodies: Vec<Bytes> = first.chunks.iter().map(|(_, body)| body.clone()).collect();
    assert_eq!(parse(&first.head).expect("ours").into_manifest(&bodies).expect("ours"), manifest);

    manifest.ledger.iter_mut().for_each(|entry| entry.stored = true);
    assert_eq!(render(&identity(), &manifest).chunks, first.chunks);

    manifest.ledger[3].stored = false;
    assert!(render(&identity(), &manifest).chunks.is_empty(), "an entry that may still change keeps its chunk open");
}

#[test]
fn what_is_no_manifest_is_refused() {
    assert!(matches!(parse(b"{"), Err(ManifestError::Syntax(_))));
    let newer = String::from_utf8(render(&identity(), &sample()).head.to_vec()).expect("UTF-8").replace("manifest/v1", "manifest/v9");
    assert!(matches!(parse(newer.as_bytes()), Err(ManifestError::Format(found)) if found.ends_with("v9")));
}

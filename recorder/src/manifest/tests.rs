use recorder_media::{
    ClockFault, ClockOverride, Codec, Continuation, GapReason, LedgerEntry, Manifest, ParticipantRecord, PlaylistRecord, SnapshotMark,
    SnapshotRecord, Source, TrackRecord, TranscodeReason, WallMicros,
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
        in_backup: false,
        lost,
        discontinuity: n == 1,
        independent: n != 2,
        epoch: 2,
    }
}

fn track(source: Source, codec: Codec, transcoded: Option<TranscodeReason>) -> TrackRecord {
    TrackRecord {
        identity: "ünï".into(),
        source,
        codec,
        start: MediaTime(-3),
        end: Some(MediaTime(7)),
        packets: 5,
        lost: 1,
        received_units: 4,
        written_units: 3,
        muted: vec![(MediaTime(1), None)],
        unsubscribed: vec![(MediaTime(2), Some(MediaTime(3)))],
        recorded: false,
        transcoded,
        unrecorded: Some(recorder_media::Unrecorded::NotSubscribed),
        sizes: vec![recorder_media::PictureSize { at: MediaTime(5), width: 1280, height: 720 }],
        received: None,
        written: None,
    }
}

fn sample() -> Manifest {
    Manifest {
        epoch: 2,
        as_of: MediaTime(0),
        epoch_time: Some(WallMicros(EPOCH)),
        ledger: [entry(0, true, false), entry(1, false, true), entry(2, false, false)].into_iter().collect(),
        participants: vec![ParticipantRecord {
            identity: "ünï".into(),
            stays: vec![(MediaTime(0), Some(MediaTime(9))), (MediaTime(20), None)],
        }],
        tracks: vec![track(Source::ScreenShareAudio, Codec::Opus, None), track(Source::Camera, Codec::Vp8, Some(TranscodeReason::Codec))],
        gaps: vec![recorder_media::Gap {
            start: MediaTime(4),
            duration90k: 8,
            reason: GapReason::RecorderRestarted,
            playlist: None,
            open: true,
        }],
        clock_overrides: vec![ClockOverride {
            identity: "ünï".into(),
            source: Source::Camera,
            at: MediaTime(11),
            fault: ClockFault::StoodStill,
        }],
        playlists: vec![PlaylistRecord {
            name: "p.m3u8".into(),
            identity: "ünï".into(),
            has_video: true,
            has_audio: false,
            stored: true,
            ended: false,
            continuation: Continuation { continuity_counters: vec![(256, 15)], next_n: 3, seam: None },
        }],
        snapshots: SnapshotRecord { taken: 9, stored: 6, lost: 2, ..SnapshotRecord::default() },
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
fn a_spools_state_is_read_back_with_the_marks_of_its_journal() {
    let mut manifest = sample();
    let mark = |rtp| Some(recorder_media::UnitMark { ssrc: 1, rtp, at: MediaTime(-9) });
    manifest.as_of = MediaTime(77);
    manifest.snapshots.marks.insert("p".into(), SnapshotMark { taken: Some(MediaTime(8)), settled: None });
    (manifest.tracks[1].received, manifest.tracks[1].written) = (mark(2), mark(1));
    let (end, sound) = (MediaTime(4), Some(MediaTime(5)));
    let seam = recorder_media::Seam { end, continuous: true, sound, decoded: Some(-6), clock: Some(-7), picture: mark(3) };
    manifest.playlists[0].continuation.seam = Some(seam);
    let read = |rendered: Rendered| parse(&rendered.head).expect("ours");
    assert!(read(render_state(&identity(), &manifest, true)).is_journalled());
    assert!(!read(render_state(&identity(), &manifest, false)).is_journalled());
    assert!(!read(render(&identity(), &manifest)).is_journalled());
    assert_eq!(read(render_state(&identity(), &manifest, true)).into_manifest(&[]).expect("ours"), manifest);
    assert_eq!(read(render(&identity(), &manifest)).into_manifest(&[]).expect("ours"), sample(), "storage is not told");
}

#[test]
fn where_a_segment_is_is_said_and_read_back() {
    let mut manifest = sample();
    manifest.ledger = (0..4).map(|n| entry(n, n < 2, false)).collect();
    manifest.ledger[1].in_backup = true;
    manifest.ledger[2].in_backup = true;
    let rendered = render(&identity(), &manifest);
    let value: serde_json::Value = serde_json::from_slice(&rendered.head).expect("JSON");
    let told: Vec<_> = value["tail"].as_array().expect("a list").iter().map(|e| (e["at"].as_str(), e["backupCopy"].as_bool())).collect();
    assert_eq!(told, [(Some("Primary"), None), (Some("Primary"), Some(true)), (Some("Backup"), None), (None, None)]);
    assert_eq!(parse(&rendered.head).expect("ours").into_manifest(&[]).expect("ours"), manifest);
}

#[test]
fn what_may_still_move_keeps_its_chunk_open() {
    let mut manifest = sample();
    manifest.ledger = (0..100).map(|n| entry(n, true, false)).collect();
    assert_eq!(render(&identity(), &manifest).chunks.len(), 1);
    manifest.ledger[7].in_backup = true;
    assert!(render(&identity(), &manifest).chunks.is_empty(), "its copy will go");
    assert_eq!(keys(&identity(), &manifest), ["0f8c_daily.json", "0f8c_daily_ledger_0.ndjson"]);
}

#[test]
fn full_chunks_leave_the_head_and_never_change() {
    let mut manifest = sample();
    manifest.ledger = (0..150).map(|n| entry(n, n < 140, false)).collect();
    let first = render(&identity(), &manifest);
    assert_eq!(
        first.chunks.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
        ["0f8c_daily_ledger_0.ndjson", "0f8c_daily_ledger_1.ndjson"]
    );
    assert!(first.head.len() < 15_000, "22 entries, not 150");
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

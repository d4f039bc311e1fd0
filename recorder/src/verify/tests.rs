//! Recordings made in a folder, each broken in one way.

use std::path::PathBuf;

use recorder_media::{Continuation, MediaTime, PlaylistRecord, WallMicros};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::manifest::Identity;
use crate::store::hex;

const PLAYLIST: &str = "rec__uid_s_ann__uid_e_av.m3u8";
/// The hard limit of 6 s segments.
const TARGET_SECONDS: u32 = 20;

/// A recording in a folder; segments of 6.0003 s.
struct Made {
    folder: TempDir,
    manifest: Manifest,
}

fn name(n: u32) -> String {
    format!("rec__uid_s_ann__uid_e_av_{n}.ts")
}

fn content(n: u32) -> Vec<u8> {
    vec![n as u8; 1880 + n as usize]
}

fn entry(n: u32) -> LedgerEntry {
    LedgerEntry {
        playlist: PLAYLIST.into(),
        n,
        name: name(n),
        start: MediaTime(i64::from(n) * 540_030),
        duration90k: 540_030,
        wall: WallMicros(1_767_225_600_000_000 + u64::from(n) * 6_000_333),
        bytes: content(n).len() as u64,
        sha256: hex(&Sha256::digest(content(n))),
        etag: "e".into(),
        stored: true,
        in_backup: false,
        lost: false,
        discontinuity: false,
        independent: true,
        epoch: 1,
    }
}

impl Made {
    fn of(ledger: Vec<LedgerEntry>) -> Self {
        let record = PlaylistRecord {
            name: PLAYLIST.into(),
            identity: "ann".into(),
            has_video: true,
            has_audio: true,
            stored: true,
            ended: true,
            continuation: Continuation::default(),
        };
        let manifest = Manifest { ledger: ledger.into(), playlists: vec![record], outcome: Some(Outcome::NoUsers), ..Manifest::default() };
        let made = Self { folder: tempfile::tempdir().expect("a folder"), manifest };
        for entry in made.manifest.ledger.iter().filter(|entry| entry.stored) {
            std::fs::write(made.path(&entry.name), content(entry.n)).expect("written");
        }
        made.save();
        std::fs::write(made.path(PLAYLIST), made.text()).expect("written");
        made
    }

    fn whole() -> Self {
        Self::of((0..3).map(entry).collect())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn save(&self) {
        let identity = Identity { stem: "rec".into(), recording_id: "rec".into(), channel: "c".into(), app_id: None };
        let rendered = manifest::render(&identity, &self.manifest);
        std::fs::write(self.path("rec.json"), rendered.head).expect("written");
        rendered.chunks.iter().for_each(|(key, text)| std::fs::write(self.path(key), text).expect("written"));
    }

    fn text(&self) -> String {
        listing::text(self.manifest.ledger.iter(), TARGET_SECONDS, None, true).render(true)
    }

    fn playlist(&self) -> String {
        std::fs::read_to_string(self.path(PLAYLIST)).expect("read")
    }

    /// Replaces a piece of the playlist that is there.
    fn rewrite(&self, from: &str, to: &str) {
        let text = self.playlist();
        assert!(text.contains(from), "{from:?} in {text}");
        std::fs::write(self.path(PLAYLIST), text.replace(from, to)).expect("written");
    }

    async fn verify(&self, flags: &[&str]) -> Result<Verdict, Refused> {
        check(&self.options(flags)).await
    }

    fn options(&self, flags: &[&str]) -> Options {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            options: Options,
        }
        let path = self.path("rec.json").display().to_string();
        <Line as clap::Parser>::parse_from([&["verify", path.as_str()][..], flags].concat()).options
    }

    async fn findings(&self) -> Vec<Finding> {
        self.verify(&[]).await.expect("checked").findings
    }
}

fn segment(n: u32) -> (String, String) {
    (PLAYLIST.into(), name(n))
}

#[tokio::test]
async fn a_whole_recording_has_no_findings() {
    assert_eq!(Made::whole().findings().await, []);
}

#[tokio::test]
async fn chunks_are_part_of_the_ledger() {
    let made = Made::of((0..66).map(entry).collect());
    assert_eq!(made.findings().await, []);
    std::fs::write(made.path(&name(3)), b"x").expect("written");
    assert_eq!(made.findings().await, [Finding::Size { object: name(3), expected: 1883, found: 1 }]);
    std::fs::remove_file(made.path("rec_ledger_0.ndjson")).expect("removed");
    let findings = made.findings().await;
    assert_eq!(findings[0], Finding::Missing { object: "rec_ledger_0.ndjson".into() });
    let unknown = findings.iter().filter(|finding| matches!(finding, Finding::Unknown { .. })).count();
    assert_eq!((findings.len(), unknown), (65, 64), "what it held is unknown");
}

#[tokio::test]
async fn segments_that_are_missing_shorter_or_changed_are_named() {
    let made = Made::whole();
    std::fs::remove_file(made.path(&name(0))).expect("removed");
    std::fs::write(made.path(&name(1)), [7; 10]).expect("written");
    std::fs::write(made.path(&name(2)), vec![9; 1882]).expect("written");
    let expected = [
        Finding::Missing { object: name(0) },
        Finding::Size { object: name(1), expected: 1881, found: 10 },
        Finding::Checksum { object: name(2) },
    ];
    assert_eq!(made.findings().await, expected);
}

#[tokio::test]
async fn what_was_never_stored_is_wrong_when_the_recording_is_over() {
    let unstored = LedgerEntry { stored: false, etag: String::new(), ..entry(2) };
    let mut made = Made::of(vec![entry(0), entry(1), unstored]);
    assert_eq!(made.findings().await, [Finding::NeverStored { object: name(2) }]);
    made.manifest.outcome = None;
    made.save();
    made.rewrite("#EXT-X-ENDLIST\n", "");
    assert_eq!(made.findings().await, [], "it may be on its way");
}

#[tokio::test]
async fn what_was_never_moved_from_the_backup_is_wrong_here() {
    let backed_up = LedgerEntry { stored: false, in_backup: true, ..entry(2) };
    let made = Made::of(vec![entry(0), entry(1), backed_up]);
    assert_eq!(made.findings().await, [Finding::InBackup { object: name(2) }]);
}

#[tokio::test]
async fn a_loss_that_the_manifest_states_is_no_finding() {
    let lost = LedgerEntry { stored: false, lost: true, ..entry(1) };
    let made = Made::of(vec![entry(0), lost, entry(2)]);
    let verdict = made.verify(&[]).await.expect("checked");
    assert_eq!(verdict.findings, []);
    let said = report::text(&verdict, &made.options(&[]));
    assert!(
        said.contains(&format!("lost      {}, as the manifest says\nwhole (playlists: 1, segments: 2, bytes: 3762)\n", name(1))),
        "{said}"
    );
    made.rewrite("#EXT-X-DISCONTINUITY\n", "");
    let (playlist, segment) = segment(2);
    assert_eq!(made.findings().await, [Finding::NoDiscontinuity { playlist, segment }]);
}

#[tokio::test]
async fn a_playlist_that_is_not_there_or_cannot_be_read() {
    let made = Made::whole();
    made.rewrite("#EXTM3U\n", "");
    let syntax = |line, why: &str| Finding::Syntax { playlist: PLAYLIST.into(), line, why: why.into() };
    assert_eq!(made.findings().await, [syntax(1, "#EXTM3U is missing")]);
    std::fs::write(made.path(PLAYLIST), made.text() + "more.ts\n").expect("written");
    assert_eq!(made.findings().await, [syntax(16, "text behind EXT-X-ENDLIST")]);
    std::fs::remove_file(made.path(PLAYLIST)).expect("removed");
    assert_eq!(made.findings().await, [Finding::Missing { object: PLAYLIST.into() }]);
}

/// One line of the playlist, what it becomes, and the only finding.
#[tokio::test]
async fn each_wrong_line_of_a_playlist_is_named() {
    let (playlist, second) = segment(1);
    let third = name(2);
    let named = |segment: &str| format!("{segment}\n");
    let piece = |n: u32| format!("#EXTINF:6.000,\n{}", named(&name(n)));
    let cases = [
        (
            named(&second),
            named("other.ts"),
            vec![
                Finding::Unknown { playlist: playlist.clone(), segment: "other.ts".into() },
                Finding::NotNamed { playlist: playlist.clone(), segment: second.clone() },
            ],
        ),
        (
            named(&third),
            named(&second),
            vec![
                Finding::Order { playlist: playlist.clone(), segment: second.clone() },
                Finding::NotNamed { playlist: playlist.clone(), segment: third.clone() },
            ],
        ),
        ("#EXT-X-ENDLIST\n".into(), String::new(), vec![Finding::NoEnd { playlist: playlist.clone() }]),
        (
            format!("#EXT-X-TARGETDURATION:{TARGET_SECONDS}"),
            "#EXT-X-TARGETDURATION:5".into(),
            (0..3)
                .map(|n| Finding::TooLong {
                    playlist: playlist.clone(),
                    segment: name(n),
                    found_ms: [6000, 6001, 6000][n as usize],
                    target_seconds: 5,
                })
                .collect(),
        ),
        (
            piece(0),
            piece(0).replace("6.000", "7.000"),
            vec![Finding::Duration { playlist: playlist.clone(), segment: name(0), expected_ms: 6000, found_ms: 7000 }],
        ),
        ("#EXT-X-VERSION:3".into(), "#EXT-X-VERSION:7".into(), vec![Finding::Text { playlist: playlist.clone(), line: 2 }]),
    ];
    for (from, to, expected) in cases {
        let made = Made::whole();
        made.rewrite(&from, &to);
        assert_eq!(made.findings().await, expected, "{from} -> {to}");
    }
}

#[tokio::test]
async fn a_segment_that_the_ledger_does_not_call_stored_must_not_be_named() {
    let mut made = Made::whole();
    made.manifest.ledger[2].stored = false;
    made.manifest.ledger[2].lost = true;
    made.save();
    let (playlist, segment) = segment(2);
    assert_eq!(made.findings().await, [Finding::NotStored { playlist, segment }]);
}

/// As a recorder leaves it that was killed between two uploads: the first segment is named, the others are stored.
fn left_open() -> Made {
    let made = Made::whole();
    let text = made.text();
    let end = text.find(&name(0)).map(|at| at + name(0).len() + 1).expect("the first");
    std::fs::write(made.path(PLAYLIST), &text[..end]).expect("written");
    made
}

#[tokio::test]
async fn a_playlist_left_open_is_ended_and_its_segments_are_added() {
    let made = left_open();
    let (playlist, not_named) = (PLAYLIST.to_owned(), |n| Finding::NotNamed { playlist: PLAYLIST.into(), segment: name(n) });
    assert_eq!(made.findings().await, [not_named(1), not_named(2), Finding::NoEnd { playlist }]);
    let verdict = made.verify(&["--repair"]).await.expect("checked");
    assert_eq!((verdict.findings, verdict.repairs), (vec![], vec![format!("{PLAYLIST}: ended, 2 segments added")]));
    assert_eq!(made.playlist(), made.text());
    let again = made.verify(&["--repair"]).await.expect("checked");
    assert_eq!((again.findings, again.repairs), (vec![], vec![]), "nothing is left to do");
}

#[tokio::test]
async fn a_playlist_that_was_never_written_is_written() {
    let made = Made::whole();
    std::fs::remove_file(made.path(PLAYLIST)).expect("removed");
    let verdict = made.verify(&["--repair"]).await.expect("checked");
    assert_eq!((verdict.findings, verdict.repairs), (vec![], vec![format!("{PLAYLIST}: written, 3 segments added")]));
    assert!(made.playlist().contains("#EXT-X-TARGETDURATION:7\n"), "{}", made.playlist());
}

#[tokio::test]
async fn repair_never_names_a_segment_that_is_not_there() {
    let made = left_open();
    std::fs::remove_file(made.path(&name(1))).expect("removed");
    let verdict = made.verify(&["--repair"]).await.expect("checked");
    assert_eq!(verdict.repairs, [format!("{PLAYLIST}: ended, 1 segment added")]);
    let (playlist, segment) = segment(1);
    assert_eq!(verdict.findings, [Finding::Missing { object: name(1) }, Finding::NotNamed { playlist, segment }]);
    assert!(made.playlist().contains("#EXT-X-DISCONTINUITY"), "{}", made.playlist());
}

#[tokio::test]
async fn repair_leaves_alone_what_it_cannot_mend_by_adding() {
    let made = Made::whole();
    made.rewrite(&name(1), "other.ts");
    let before = made.playlist();
    let verdict = made.verify(&["--repair"]).await.expect("checked");
    let why = "it has ended, and a playlist that has ended may not change".to_owned();
    assert_eq!(verdict.findings.last(), Some(&Finding::NotRepaired { playlist: PLAYLIST.into(), why }));
    made.rewrite("#EXT-X-ENDLIST\n", "");
    let verdict = made.verify(&["--repair"]).await.expect("checked");
    let why = "what it says is not what the ledger gives".to_owned();
    assert_eq!(verdict.findings.last(), Some(&Finding::NotRepaired { playlist: PLAYLIST.into(), why }));
    assert_eq!(made.playlist() + "#EXT-X-ENDLIST\n", before, "and it is not touched");
}

#[tokio::test]
async fn a_recording_that_may_go_on_is_repaired_only_by_order() {
    let mut made = left_open();
    made.manifest.outcome = None;
    made.save();
    assert_eq!(made.findings().await, [], "the playlist may be behind");
    assert!(matches!(made.verify(&["--repair"]).await, Err(Refused::MayGoOn)));
    let verdict = made.verify(&["--repair", "--over"]).await.expect("checked");
    assert_eq!((verdict.findings.len(), verdict.repairs.len()), (0, 1));
    assert_eq!(made.playlist(), made.text());
}

#[tokio::test]
async fn what_is_no_manifest_is_refused() {
    let made = Made::whole();
    std::fs::write(made.path("rec.json"), "{}").expect("written");
    assert!(matches!(made.verify(&[]).await, Err(Refused::Manifest(_))));
    std::fs::remove_file(made.path("rec.json")).expect("removed");
    assert!(matches!(made.verify(&[]).await, Err(Refused::Absent(_))));
    let folder = Options { manifest: made.folder.path().display().to_string(), ..made.options(&[]) };
    assert!(matches!(check(&folder).await, Err(Refused::Place(_))));
    let bucket = Options { manifest: "s3://bucket".into(), ..folder };
    assert!(matches!(check(&bucket).await, Err(Refused::Place(_))));
}

#[tokio::test]
async fn json_carries_each_finding_with_its_kind() {
    let made = Made::whole();
    std::fs::remove_file(made.path(&name(0))).expect("removed");
    let options = made.options(&["--output", "json"]);
    let text = report::text(&check(&options).await.expect("checked"), &options);
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((json["whole"].as_bool(), json["segments"].as_u64(), json["recordingID"].as_str()), (Some(false), Some(3), Some("rec")));
    let message = format!("{} is not there", name(0));
    assert_eq!(json["findings"], serde_json::json!([{"kind": "Missing", "object": name(0), "message": message}]));
}

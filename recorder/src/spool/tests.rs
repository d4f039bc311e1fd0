use std::collections::BTreeMap;

use recorder_media::{LedgerEntry, Manifest, MediaTime, PlaylistRecord, WallMicros};
use sha2::{Digest, Sha256};

use super::*;
use crate::manifest::{self, Identity};
use crate::store::hex;

const NAME: &str = "0f8c_demo__uid_s_a__uid_e_av_20251231235959123.ts";
const PACKET: usize = 188;

fn identity() -> Identity {
    Identity { stem: "0f8c_demo".into(), recording_id: "0f8c".into(), channel: "demo".into(), app_id: None }
}

fn known() -> Manifest {
    let playlist = PlaylistRecord {
        name: "0f8c_demo__uid_s_a__uid_e_av.m3u8".into(),
        identity: "a".into(),
        has_video: true,
        has_audio: true,
        stored: false,
        ended: false,
        continuation: Default::default(),
    };
    // One second before the segment begins.
    Manifest { epoch: 1, epoch_time: Some(WallMicros(1_767_225_598_123_000)), playlists: vec![playlist], ..Manifest::default() }
}

/// A PES packet with a PTS and `length` bytes of body, in TS packets; `bounded`: the header says how long it is.
fn pes(pid: u16, stream_id: u8, pts: u64, length: usize, bounded: bool, counters: &mut BTreeMap<u16, u8>) -> Vec<u8> {
    let declared = if bounded { (length + 8) as u16 } else { 0 };
    let mut body = vec![0, 0, 1, stream_id];
    body.extend(declared.to_be_bytes());
    body.extend([
        0x80,
        0x80,
        5,
        0x21 | (pts >> 29 & 0x0e) as u8,
        (pts >> 22) as u8,
        (pts >> 14) as u8 | 1,
        (pts >> 7) as u8,
        (pts << 1) as u8 | 1,
    ]);
    body.resize(14 + length, 0xAA);
    let mut out = Vec::new();
    for (index, part) in body.chunks(PACKET - 4).enumerate() {
        let counter = counters.entry(pid).or_default();
        let stuffing = PACKET - 4 - part.len();
        let start = if index == 0 { 0x40 } else { 0 };
        let adaptation = if stuffing > 0 { 0x30 } else { 0x10 };
        out.extend([0x47, start | (pid >> 8) as u8, pid as u8, adaptation | *counter]);
        *counter = (*counter + 1) & 0x0f;
        if stuffing > 0 {
            out.push((stuffing - 1) as u8);
            out.extend([0].iter().take(stuffing - 1));
            out.extend(std::iter::repeat_n(0xff, stuffing.saturating_sub(2)));
        }
        out.extend(part);
    }
    out
}

/// 30 pictures and 10 packets of sound in one second.
pub(crate) fn stream() -> Vec<u8> {
    let mut counters = BTreeMap::new();
    let mut out = Vec::new();
    for n in 0..30u64 {
        out.extend(pes(0x100, 0xe0, 900_000 + n * 3000, 700, false, &mut counters));
        if n % 3 == 0 {
            out.extend(pes(0x101, 0xc0, 900_000 + n * 3000, 300, true, &mut counters));
        }
    }
    out
}

#[test]
fn a_part_cut_off_at_any_byte_ends_at_a_whole_unit() {
    let whole = stream();
    let full = ts_tail::scan(&whole).expect("media");
    assert_eq!(full.duration90k, 28 * 3000 + 3000, "the last picture's end is not known, so it goes");
    for length in 0..=whole.len() {
        let Some(tail) = ts_tail::scan(&whole[..length]) else {
            assert!(length < 10 * PACKET, "media is lost at {length}");
            continue;
        };
        assert!(tail.keep <= length && tail.keep % PACKET == 0);
        assert!(length - tail.keep <= 8 * PACKET, "at most one picture and the sound behind it go");
        // Another cut of what was kept may only lose the unbounded last picture.
        let again = ts_tail::scan(&whole[..tail.keep]);
        assert!(again.is_none_or(|again| again.keep <= tail.keep));
        for (pid, counter) in tail.continuity_counters {
            let packets = whole[..tail.keep].chunks(PACKET).filter(|p| u16::from(p[1] & 0x1f) << 8 | u16::from(p[2]) == pid);
            assert_eq!(usize::from(counter), packets.count() % 16, "PID {pid}");
        }
    }
}

#[test]
fn of_what_was_not_cut_everything_counts() {
    let whole = stream();
    let tail = ts_tail::whole(&whole).expect("media");
    assert_eq!(
        (tail.keep, tail.duration90k),
        (whole.len(), 29 * 3000 + 3000),
        "the last picture too, although it does not say how long it is"
    );
    for (pid, counter) in tail.continuity_counters {
        let packets = whole.chunks(PACKET).filter(|p| u16::from(p[1] & 0x1f) << 8 | u16::from(p[2]) == pid);
        assert_eq!(usize::from(counter), packets.count() % 16, "PID {pid}");
    }
}

#[test]
fn noise_is_no_media() {
    assert_eq!(ts_tail::scan(&[]), None);
    assert_eq!(ts_tail::scan(&[0x47; 188 * 3]), None);
    assert_eq!(ts_tail::scan(&vec![0; 188 * 3]), None);
    assert_eq!([ts_tail::whole(&[]), ts_tail::whole(&[0x47; 188 * 3]), ts_tail::whole(b"text")], [None, None, None]);
}

#[test]
fn a_restarted_process_adopts_what_was_open_and_what_was_closed() {
    let disk = tempfile::tempdir().expect("a folder");
    let folders = Folders::new(disk.path());
    folders.create().expect("created");
    let rendered = manifest::render(&identity(), &known());
    replace(&folders.state(), &rendered.head).expect("written");
    let whole = stream();
    std::fs::write(folders.part(NAME), &whole[..whole.len() - 100]).expect("written");
    std::fs::write(folders.part("0f8c_demo__uid_s_a__uid_e_av_20251231235960000.ts"), [0x47; 50]).expect("written");

    let mut manifest = recovery::read_state(&folders, "0f8c").expect("readable").expect("there").0;
    recovery::adopt(&folders, &mut manifest).expect("adopted");
    let [entry] = manifest.ledger.kept() else { panic!("one segment, found {:?}", manifest.ledger) };
    let kept = std::fs::read(folders.segment(NAME)).expect("closed");
    assert_eq!((entry.name.as_str(), entry.n, entry.start.0), (NAME, 0, 90_000));
    assert_eq!((entry.bytes, entry.sha256.clone()), (kept.len() as u64, hex(&Sha256::digest(&kept))));
    assert!(whole.starts_with(&kept) && !entry.stored && !entry.lost && !entry.discontinuity);
    assert_eq!(manifest.playlists[0].continuation.next_n, 1);
    assert_eq!(manifest.playlists[0].continuation.continuity_counters.len(), 2);
    assert_eq!(recovery::used_bytes(&folders), entry.bytes, "the other part is gone");

    // Once more, as after another crash: nothing is entered twice.
    let before = manifest.clone();
    recovery::adopt(&folders, &mut manifest).expect("adopted");
    assert_eq!(manifest, before);

    manifest.ledger[0].stored = true;
    recovery::adopt(&folders, &mut manifest).expect("adopted");
    assert!(!folders.segment(NAME).exists(), "what storage has needs no place");
    manifest.ledger[0].stored = false;
    recovery::adopt(&folders, &mut manifest).expect("adopted");
    assert!(manifest.ledger[0].lost, "what nobody has is lost");
}

/// The process died while the second day began: what it left belongs to the volume in whose day it began.
#[test]
fn what_is_adopted_belongs_to_the_volume_of_its_day() {
    let disk = tempfile::tempdir().expect("a folder");
    let folders = Folders::new(disk.path());
    folders.create().expect("created");
    let mut manifest = known();
    // The first volume's first segment, 24 h before 23:59:59.123.
    manifest.epoch_time = Some(WallMicros(1_767_225_599_123_000 - 24 * 3_600_000_000));
    std::fs::write(folders.part("0f8c_demo__uid_s_a__uid_e_av_20251230235959123.ts"), stream()).expect("written");
    recovery::adopt(&folders, &mut manifest).expect("adopted");
    let second = PlaylistRecord { name: "0f8c_demo__uid_s_a__uid_e_av_2.m3u8".into(), ..manifest.playlists[0].clone() };
    manifest.playlists.push(second);
    for name in ["0f8c_demo__uid_s_a__uid_e_av_20251231235952000.ts", NAME] {
        std::fs::write(folders.part(name), stream()).expect("written");
    }
    recovery::adopt(&folders, &mut manifest).expect("adopted");
    let entries: Vec<(u32, &str)> = manifest.ledger.iter().map(|e| (e.n, e.playlist.trim_start_matches("0f8c_demo__uid_s_a__"))).collect();
    assert_eq!(entries, [(0, "uid_e_av.m3u8"), (1, "uid_e_av.m3u8"), (2, "uid_e_av_2.m3u8")]);
}

#[test]
fn a_spool_of_another_recording_is_refused() {
    let disk = tempfile::tempdir().expect("a folder");
    let folders = Folders::new(disk.path());
    assert!(recovery::read_state(&folders, "0f8c").expect("nothing yet").is_none());
    folders.create().expect("created");
    replace(&folders.state(), &manifest::render(&identity(), &known()).head).expect("written");
    assert!(matches!(recovery::read_state(&folders, "beef"), Err(recovery::RecoveryError::Foreign(found)) if found == "0f8c"));
}

#[tokio::test]
async fn facts_are_those_of_the_file_and_the_spool_knows_when_it_is_full() {
    let disk = tempfile::tempdir().expect("a folder");
    let folders = Folders::new(disk.path());
    folders.create().expect("created");
    let (results, mut taken) = mpsc::unbounded_channel();
    let mut spool = Spool::start(folders.clone(), 1000, results).expect("started");
    for block in [b"abc".as_slice(), &[7; 900]] {
        spool.append(NAME.into(), Bytes::copy_from_slice(block));
    }
    spool.close(OpId(5), NAME.into());
    spool.close(OpId(6), "never-begun.ts".into());
    let Some(Input::SegmentClosed { op: OpId(5), result: Ok(facts) }) = taken.recv().await else { panic!("closed") };
    let content = std::fs::read(folders.segment(NAME)).expect("there");
    assert_eq!((facts.bytes, facts.sha256), (903, hex(&Sha256::digest(&content))));
    assert!(matches!(taken.recv().await, Some(Input::SegmentClosed { op: OpId(6), result: Err(_) })));
    assert_eq!(spool.turned(), Some(true), "903 of 1000");
    assert_eq!(spool.turned(), None);
    spool.remove(spool.path(NAME));
    spool.close(OpId(7), "barrier".into());
    taken.recv().await.expect("in order, so the removal is done");
    assert_eq!((spool.turned(), spool.used()), (Some(false), 0));
    assert!(!folders.segment(NAME).exists());
}

#[tokio::test]
async fn chunks_of_the_ledger_are_written_once_and_need_not_be_kept_from_then_on() {
    let disk = tempfile::tempdir().expect("a folder");
    let folders = Folders::new(disk.path());
    folders.create().expect("created");
    let (results, mut taken) = mpsc::unbounded_channel();
    let spool = Spool::start(folders.clone(), 1000, results).expect("started");
    let stored = |n: u32| LedgerEntry {
        playlist: known().playlists[0].name.clone(),
        n,
        name: format!("{n}.ts"),
        start: MediaTime(i64::from(n) * 90_000),
        duration90k: 90_000,
        wall: WallMicros(1_767_225_598_123_000),
        bytes: 7,
        sha256: "ab".repeat(32),
        etag: "e".into(),
        stored: true,
        in_backup: false,
        lost: false,
        discontinuity: false,
        independent: true,
        epoch: 1,
    };
    let manifest = Manifest { ledger: (0..150).map(stored).collect(), ..known() };
    let whole = manifest::render(&identity(), &manifest);
    spool.save_state(whole.clone());
    assert!(matches!(taken.recv().await, Some(Input::LedgerKept { entries: 128 })));
    // A session that keeps the rest alone names the chunks, and has no text of them.
    let spooled: Vec<String> = whole.chunks.iter().map(|(key, _)| key.clone()).collect();
    spool.save_state(Rendered { head: whole.head, spooled, chunks: vec![] });
    spool.reached().await.expect("written");
    assert!(taken.try_recv().is_err(), "nothing new");
    assert_eq!(recovery::read_state(&folders, "0f8c").expect("readable").expect("there").0, manifest);
}

use super::*;
use crate::WallMicros;

const SECOND: i64 = MediaTime::PER_SECOND;

fn of(base: &str, seconds: i64) -> Snapshot {
    Snapshot { camera: None, base: base.into(), moment: MediaTime(seconds * SECOND) }
}

fn picture(bytes: usize) -> Option<Bytes> {
    Some(Bytes::from(vec![0xff; bytes]))
}

fn begun() -> Manifest {
    Manifest { epoch_time: Some(WallMicros(1_700_000_000_000_000)), ..Manifest::default() }
}

/// Names of what is put now.
fn puts(snapshots: &mut Snapshots, now: Tick, manifest: &Manifest) -> Vec<(OpId, String)> {
    let outputs = std::iter::from_fn(|| snapshots.next_output(now, manifest));
    let named = outputs.map(|output| match output {
        Output::PutSnapshot { op, name, .. } => (op, name),
        other => panic!("{other:?}"),
    });
    named.collect()
}

#[test]
fn a_moment_is_a_multiple_of_the_interval_and_has_its_picture_within_five_seconds() {
    let mut moments = Moments::new(SnapshotPlan { interval_seconds: 10, per_participant: false }, MediaTime(0));
    let seconds = |at: f64| MediaTime((at * SECOND as f64) as i64);
    let cases = [(-0.2, None), (0.3, Some(0)), (0.4, None), (9.99, None), (10.0, Some(10)), (25.0, None), (34.99, Some(30)), (34.99, None)];
    for (at, expected) in cases {
        let due = moments.due(seconds(at));
        assert_eq!(due, expected.map(|moment: i64| MediaTime(moment * SECOND)), "{at} s");
        due.into_iter().for_each(|moment| moments.taken(moment));
    }
}

#[test]
fn a_moment_before_a_process_is_not_its_own() {
    let moments = Moments::new(SnapshotPlan { interval_seconds: 10, per_participant: false }, MediaTime(12 * SECOND));
    assert_eq!([13, 20].map(|at| moments.due(MediaTime(at * SECOND))), [None, Some(MediaTime(20 * SECOND))]);
}

#[test]
fn what_storage_refuses_waits_and_of_one_base_one_follows_the_other() {
    let (mut snapshots, mut manifest, mut now) = (Snapshots::default(), begun(), Tick(0));
    for (base, at) in [("a", 0), ("b", 0), ("a", 10), ("c", 10)] {
        snapshots.take(of(base, at), picture(10), &mut manifest.snapshots);
    }
    let first = puts(&mut snapshots, now, &manifest);
    assert_eq!(first.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["a_20231114221320000.jpg", "b_20231114221320000.jpg"]);
    for (op, _) in first {
        snapshots.answered(now, op, &Err(StoreError::Retryable("503".into())), &mut manifest.snapshots);
    }
    assert_eq!(puts(&mut snapshots, now, &manifest), [], "not at once");
    let mut tried = Vec::new();
    while let Some(at) = snapshots.next_wake() {
        now = at.max(now);
        let now_tried = puts(&mut snapshots, now, &manifest);
        assert_eq!(now_tried.len().min(PUTS_AT_ONCE), now_tried.len());
        for (op, name) in now_tried {
            snapshots.answered(now, op, &Ok(()), &mut manifest.snapshots);
            tried.push(name);
        }
    }
    let wanted = ["a_20231114221320000.jpg", "b_20231114221320000.jpg", "a_20231114221330000.jpg", "c_20231114221330000.jpg"];
    assert_eq!(tried, wanted);
    assert!(now >= Tick(1_000_000) && snapshots.is_settled());
    assert_eq!((manifest.snapshots.taken, manifest.snapshots.stored, manifest.snapshots.lost), (4, 4, 0));
}

#[test]
fn while_storage_is_away_memory_is_bounded_and_the_oldest_go() {
    let (mut snapshots, mut manifest) = (Snapshots::default(), begun());
    for n in 0..100 {
        snapshots.take(of("a", 10 * n), picture(1 << 20), &mut manifest.snapshots);
        assert!(snapshots.bytes <= WAITING_BYTES_MAX);
        puts(&mut snapshots, Tick(0), &manifest);
    }
    let record = &manifest.snapshots;
    assert_eq!((record.taken, record.lost, record.waiting()), (100, 68, 32));
    assert_eq!(snapshots.waiting.len(), 32);
    let kept: Vec<i64> = snapshots.waiting.iter().map(|waiting| waiting.snapshot.moment.0 / SECOND).collect();
    assert_eq!((kept[0], kept[1], kept[31]), (0, 690, 990), "what is under way stays");
    snapshots.give_up(&mut manifest.snapshots);
    assert_eq!((manifest.snapshots.lost, manifest.snapshots.stored, snapshots.bytes), (100, 0, 0));
}

/// The process that died had stored the first, had the second and third in memory; a journal brings the third and a new one.
#[test]
fn what_a_journal_brings_again_is_counted_once() {
    let (mut before, mut manifest) = (Snapshots::default(), begun());
    for at in [0, 10, 20] {
        before.take(of("a", at), picture(10), &mut manifest.snapshots);
    }
    let (op, _) = puts(&mut before, Tick(0), &manifest).remove(0);
    before.answered(Tick(0), op, &Ok(()), &mut manifest.snapshots);
    assert!(manifest.snapshots.is_settled(&of("a", 0)) && !manifest.snapshots.is_settled(&of("a", 10)));

    let mut after = Snapshots::default();
    after.resume(&mut manifest.snapshots, true);
    for at in [0, 20, 30] {
        after.take(of("a", at), picture(10), &mut manifest.snapshots);
    }
    while let Some((op, _)) = puts(&mut after, Tick(0), &manifest).pop() {
        after.answered(Tick(0), op, &Ok(()), &mut manifest.snapshots);
    }
    after.give_up(&mut manifest.snapshots);
    let SnapshotRecord { taken, stored, lost, .. } = manifest.snapshots;
    assert_eq!((taken, stored, lost), (4, 3, 1));
}

#[test]
fn without_a_journal_what_was_in_memory_is_lost() {
    let mark = SnapshotMark { taken: Some(MediaTime(20 * SECOND)), settled: Some(MediaTime(0)) };
    let marks = BTreeMap::from([("a".to_owned(), mark)]);
    let mut record = SnapshotRecord { taken: 9, stored: 5, lost: 1, marks };
    Snapshots::default().resume(&mut record, false);
    assert_eq!((record.stored, record.lost, record.waiting()), (5, 4, 0));
    assert!(record.is_settled(&of("a", 20)) && !record.is_settled(&of("a", 30)));
}

#[test]
fn one_that_could_not_be_made_is_lost() {
    let (mut snapshots, mut manifest) = (Snapshots::default(), begun());
    snapshots.take(of("a", 0), None, &mut manifest.snapshots);
    assert_eq!((manifest.snapshots.taken, manifest.snapshots.lost, snapshots.next_wake()), (1, 1, None));
}

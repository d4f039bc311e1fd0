use super::*;
use crate::fixture::{at, final_report, merged, recording, report, validated};
use recording_crds::conditions::{self as c, find, is_true};
use recording_crds::report::{Degraded, Gaps};
use serde_json::json;

fn reason<'a>(status: &'a RecordingStatus, type_: &str) -> (&'a str, &'a str) {
    find(&status.conditions, type_).map_or(("", ""), |c| (c.status.as_str(), c.reason.as_str()))
}

/// Folds a list of reports, one per second.
fn folded(reports: &[Report]) -> RecordingStatus {
    let v = validated(&recording(json!({})));
    reports.iter().zip(1..).fold(RecordingStatus::default(), |status, (report, second)| fold(&v, &status, Some(report), at(second)))
}

#[test]
fn names_are_known_before_anything_runs() {
    let status = fold(&validated(&recording(json!({}))), &RecordingStatus::default(), None, at(0));
    assert_eq!(status.phase, Some(Phase::Pending));
    assert_eq!(status.recording_id.as_deref(), Some("0f8c2a3b111122223333444455556666"));
    assert_eq!(status.manifest.as_deref(), Some("0f8c2a3b111122223333444455556666_daily!20standup.json"));
    assert_eq!(status.manifest_url.as_deref(), Some("s3://recordings/acme/0f8c2a3b111122223333444455556666_daily!20standup.json"));
    assert_eq!(reason(&status, c::ACCEPTED), ("True", "Valid"));
    assert_eq!(reason(&status, c::RECORDING), ("False", "Pending"));
}

#[test]
fn phases_follow_the_reports() {
    let cases = [
        (ReportState::Connecting, 0, Phase::Starting, ("False", "Connecting"), ("False", "NotInRoom")),
        (ReportState::Waiting, 0, Phase::Starting, ("False", "WaitingForMedia"), ("True", "InRoom")),
        (ReportState::Recording, 30, Phase::Recording, ("True", "MediaArrives"), ("True", "InRoom")),
        (ReportState::Draining, 30, Phase::Stopping, ("False", "Ended"), ("True", "InRoom")),
        (ReportState::Interrupted, 30, Phase::Recording, ("Unknown", "NextAttempt"), ("True", "InRoom")),
    ];
    for (state, seconds, phase, recording, ready) in cases {
        let status = folded(&[report(state, seconds)]);
        assert_eq!((status.phase, reason(&status, c::RECORDING), reason(&status, c::READY)), (Some(phase), recording, ready), "{state:?}");
    }
}

#[test]
fn a_mute_or_a_restart_in_place_does_not_clear_recording() {
    for state in [ReportState::Waiting, ReportState::Starting, ReportState::Connecting] {
        let after = Report { first_media_time: None, connected_time: None, ..report(state, 0) };
        let status = folded(&[report(ReportState::Recording, 30), after]);
        assert_eq!((status.phase, reason(&status, c::RECORDING).0), (Some(Phase::Recording), "True"), "{state:?}");
        let away = find(&status.conditions, c::RECORDING).is_some_and(|c| c.message.contains("not in the room"));
        assert_eq!(away, state != ReportState::Waiting, "{state:?}: {:?}", status.conditions);
        assert_eq!(status.progress.as_ref().map(|p| (p.percent, p.recorded_seconds)), Some((100, 30)), "counters never fall");
    }
}

/// `drainTimeoutSeconds` counts from the stop: one that was none would end a recording that goes on.
#[test]
fn what_goes_on_has_no_stop_time() {
    let going = Report { stop_time: Some("2026-11-21T10:00:05.000Z".into()), ..report(ReportState::Draining, 30) };
    let next = Report { attempt: going.attempt + 1, ..report(ReportState::Recording, 30) };
    assert_eq!(folded(&[going.clone(), next.clone()]).stop_time, None);
    assert_eq!(folded(std::slice::from_ref(&going)).stop_time, Some(Time(at(5))));
    let stopped = validated(&recording(json!({"spec": {"desiredState": "Stopped"}})));
    let status = [going, next].iter().fold(RecordingStatus::default(), |status, report| fold(&stopped, &status, Some(report), at(6)));
    assert_eq!(status.stop_time, Some(Time(at(5))), "a later attempt only stores what is left");
}

#[test]
fn the_percentage_is_a_high_water_mark() {
    let mut behind = report(ReportState::Recording, 60);
    behind.counters.uploaded_files = 1;
    let first = folded(std::slice::from_ref(&behind));
    assert_eq!(first.progress.expect("reported").percent, 25);
    let status = folded(&[report(ReportState::Recording, 30), behind]);
    assert_eq!(status.progress.expect("reported").percent, 100);
}

#[test]
fn an_older_attempts_report_is_history() {
    let v = validated(&recording(json!({})));
    let attempt = recording_crds::status::Attempt { number: 2, ..Default::default() };
    let old = RecordingStatus { attempt: Some(attempt), ..RecordingStatus::default() };
    let status = fold(&v, &old, Some(&final_report(Code::Disconnected, 30, true)), at(1));
    assert_eq!((status.phase, status.result), (Some(Phase::Starting), None));
}

/// Every code at the end, with and without media.
#[test]
fn an_end_in_good_order_needs_media() {
    use Code::*;
    for code in Code::ALL.iter().copied().filter(|c| *c != Superseded) {
        let in_order = matches!(code, NoUsers | StopRequested | Deleted | MaxDurationReached | RemovedFromChannel);
        let with = if in_order { Phase::Completed } else { Phase::Failed };
        let without = if in_order { NoRecordedData } else { code };
        assert_eq!(phase_after(code, true), (with, code), "{code}");
        assert_eq!(phase_after(code, false), (Phase::Failed, without), "{code}");
    }
}

#[test]
fn a_completed_recording_says_so_everywhere() {
    let status = folded(&[report(ReportState::Recording, 30), final_report(Code::NoUsers, 60, true)]);
    assert_eq!(status.phase, Some(Phase::Completed));
    assert_eq!(status.result.as_ref().map(|r| (r.reason, r.number)), Some((Code::NoUsers, Some(434))));
    assert_eq!((status.failure.clone(), status.completion_time.clone().map(|t| t.0)), (None, Some(at(2))));
    let expected = [
        (c::COMPLETE, "True"),
        (c::FAILED, "False"),
        (c::UPLOADED, "True"),
        (c::RECORDING, "False"),
        (c::READY, "True"),
        (c::STALLED, "False"),
    ];
    for (type_, truth) in expected {
        assert_eq!(reason(&status, type_).0, truth, "{type_}");
    }
}

#[test]
fn an_idle_end_without_media_fails_with_the_remedy_of_the_missing_media() {
    let status = folded(&[final_report(Code::NoUsers, 0, false)]);
    let failure = status.failure.expect("failed");
    assert_eq!((status.phase, failure.code, failure.number), (Some(Phase::Failed), Code::NoRecordedData, Some(435)));
    assert!(failure.message.expect("said").contains("NoUsers"));
    assert_eq!(failure.remedy.as_deref(), Some(Code::NoRecordedData.remedy()));
    assert_eq!(status.result.map(|r| r.reason), Some(Code::NoUsers));
}

#[test]
fn a_failure_keeps_its_number_message_and_remedy() {
    let mut last = final_report(Code::ConnectError, 0, false);
    last.outcome.as_mut().expect("set").message = "UDP egress to 10.1.2.3:7882 is blocked".into();
    let status = folded(&[last]);
    let failure = status.failure.clone().expect("failed");
    assert_eq!((failure.code, failure.number, failure.component.to_string().as_str()), (Code::ConnectError, Some(430), "Recorder"));
    assert!(find(&status.conditions, c::FAILED).expect("set").message.starts_with("UDP egress to 10.1.2.3:7882 is blocked. Check"));
    assert!(is_true(&status.conditions, c::STALLED));
}

#[test]
fn final_phases_latch() {
    let v = validated(&recording(json!({})));
    let over = folded(&[final_report(Code::NoUsers, 30, true)]);
    assert_eq!(fold(&v, &over, Some(&report(ReportState::Recording, 90)), at(99)), over);
    assert_eq!(end(&v, &over, &ReportOutcome::new(Code::GeneralError, "", false, false), at(99)), over);
}

#[test]
fn superseded_ends_an_attempt_and_not_the_recording() {
    let status = folded(&[report(ReportState::Recording, 30), final_report(Code::Superseded, 30, true)]);
    assert!(!is_final(&status));
}

#[test]
fn degraded_is_stated_while_it_lasts_with_its_remedy() {
    let mut full = report(ReportState::Recording, 30);
    full.degraded = vec![Degraded { code: Code::DiskFull, message: String::new() }];
    let status = folded(std::slice::from_ref(&full));
    assert_eq!(reason(&status, c::DEGRADED), ("True", "DiskFull"));
    assert!(find(&status.conditions, c::DEGRADED).expect("set").message.contains("Repair the storage"));
    let status = folded(&[full, report(ReportState::Recording, 45)]);
    assert_eq!(reason(&status, c::DEGRADED), ("False", "AsAsked"));
}

/// A report while so many of its files are in the backup alone.
fn backed_up(mut report: Report, files: u64) -> Report {
    report.counters.backup_files = files;
    report.counters.uploaded_files -= files;
    report
}

#[test]
fn what_is_in_the_backup_is_stated_while_it_is_there_and_at_the_end() {
    let away = backed_up(report(ReportState::Recording, 30), 1);
    let status = folded(std::slice::from_ref(&away));
    assert_eq!((reason(&status, c::UPLOADED), reason(&status, c::BACKED_UP)), (("False", "BackedUp"), ("True", "StorageRefused")));
    assert_eq!(status.progress.as_ref().map(|p| p.backup_files), Some(1));

    let moved = folded(&[away.clone(), final_report(Code::NoUsers, 60, true)]);
    assert_eq!((reason(&moved, c::UPLOADED), reason(&moved, c::BACKED_UP)), (("True", "AllStored"), ("False", "Moved")));

    let mut last = final_report(Code::NoUsers, 60, true);
    let outcome = last.outcome.as_mut().expect("set");
    (outcome.all_stored, outcome.backed_up) = (false, true);
    let stayed = folded(&[away.clone(), backed_up(last, 1)]);
    assert_eq!(stayed.phase, Some(Phase::Completed));
    assert_eq!((reason(&stayed, c::UPLOADED), reason(&stayed, c::BACKED_UP)), (("False", "BackedUp"), ("True", "StorageRefused")));

    let mut last = final_report(Code::UploaderFailed, 60, true);
    last.outcome.as_mut().expect("set").all_stored = false;
    let failed = folded(&[away, backed_up(last, 1)]);
    assert_eq!(failed.phase, Some(Phase::Failed));
    assert_eq!((reason(&failed, c::UPLOADED).0, reason(&failed, c::BACKED_UP)), ("False", ("False", "UploaderFailed")));
}

#[test]
fn a_recording_that_never_needed_a_backup_says_nothing_of_it() {
    let status = folded(&[report(ReportState::Recording, 30), final_report(Code::NoUsers, 60, true)]);
    assert_eq!(find(&status.conditions, c::BACKED_UP), None);
}

#[test]
fn seconds_are_rounded_up_and_nonsense_is_not_believed() {
    let mut odd = report(ReportState::Recording, 30);
    odd.gaps = Gaps {
        count: 2,
        seconds: f64::NAN,
        last: Some(recording_crds::report::LastGap { start_time: "yesterday".into(), duration_seconds: -1.0, reason: "x".into() }),
    };
    odd.counters.uploaded_bytes = u64::MAX;
    let status = folded(&[odd]);
    assert_eq!((status.gap_seconds, status.last_gap, status.progress.map(|p| p.uploaded_bytes)), (Some(0), None, Some(i64::MAX)));
    let mut gap = report(ReportState::Recording, 30);
    gap.gaps.seconds = 3.2;
    assert_eq!(folded(&[gap]).gap_seconds, Some(4));
}

#[test]
fn what_is_read_back_equals_what_was_written() {
    let status = folded(&[report(ReportState::Recording, 30)]);
    let text = serde_json::to_string(&status).expect("JSON");
    assert_eq!(serde_json::from_str::<RecordingStatus>(&text).expect("a status"), status);
}

#[test]
fn counters_alone_are_written_once_a_minute_and_all_else_at_once() {
    let first = folded(&[report(ReportState::Recording, 30)]);
    let v = validated(&recording(json!({})));
    let later = |seconds, now| fold(&v, &first, Some(&report(ReportState::Recording, seconds)), at(now));
    assert!(!worth_writing(&first, &first));
    assert!(!worth_writing(&first, &later(45, 11)), "only counters");
    assert!(worth_writing(&first, &later(90, 1 + write::COUNTERS_SECONDS)));
    let mut someone_left = report(ReportState::Recording, 45);
    someone_left.participants = 1;
    assert!(worth_writing(&first, &fold(&v, &first, Some(&someone_left), at(3))));
}

#[test]
fn a_merge_patch_removes_what_is_gone() {
    let old = json!({"a": 1, "b": {"c": 2, "d": 3}, "e": [1, 2]});
    let new = json!({"b": {"c": 2, "f": 4}, "e": [2]});
    let patch = merge_patch(&old, &new);
    assert_eq!(patch, json!({"a": null, "b": {"d": null, "f": 4}, "e": [2]}));
    assert_eq!(merged(old, patch), new);
}

#[test]
fn snapshots_are_counted_only_where_they_are_asked_for() {
    let mut some = report(ReportState::Recording, 30);
    (some.counters.snapshots, some.counters.snapshots_lost) = (7, 2);
    let counted = |spec| {
        let v = validated(&recording(spec));
        let status = fold(&v, &RecordingStatus::default(), Some(&some), at(1));
        let restarted = fold(&v, &status, Some(&report(ReportState::Starting, 0)), at(2));
        restarted.progress.map(|p| (p.snapshots, p.snapshots_lost))
    };
    assert_eq!(counted(json!({})), Some((None, None)));
    assert_eq!(counted(json!({"spec": {"output": {"snapshots": {}}}})), Some((Some(7), Some(2))), "and never fall");
}

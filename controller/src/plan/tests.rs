//! Tables: what is seen -> what to do.

use super::*;
use crate::fixture::{at, ended, final_report, heard, observed, pod, recording, report, validated};
use crate::pod::NewPod;
use crate::seen::Trouble;
use recording_crds::Recording;
use recording_crds::conditions as c;
use recording_crds::report::ReportState;
use recording_crds::status::Phase;
use serde_json::{Value, json};

/// A recording whose attempt `number` has a pod and which has `seconds` of media stored.
fn running(number: i32, seconds: u64, changes: Value) -> Recording {
    let mut r = recording(changes);
    let v = validated(&recording(json!({})));
    let mut status = RecordingStatus::default();
    if seconds > 0 {
        status = status::fold(&v, &status, Some(&report(ReportState::Recording, seconds)), at(10));
    }
    let time = status::whole_seconds(at(1));
    status.attempt =
        Some(Attempt { number, pod: Some(format!("standup-0f8c2a3b-{number}")), node: Some("node-a".into()), start_time: Some(time) });
    r.status = Some(status);
    r
}

fn deleted() -> Value {
    json!({"metadata": {"deletionTimestamp": "2026-11-21T10:01:00Z"}})
}

fn planned(seen: &Observed, second: i64) -> Plan {
    let plan = plan(&validated(&seen.recording), seen, at(second));
    assert!(plan.wake > Duration::ZERO && plan.wake <= WAKE_FINISHED, "never without a next look: {plan:?}");
    plan
}

fn condition<'a>(plan: &'a Plan, type_: &str) -> (&'a str, &'a str) {
    c::find(&plan.status.conditions, type_).map_or(("", ""), |c| (c.status.as_str(), c.reason.as_str()))
}

fn created(plan: &Plan) -> Option<(i32, JobKind, u32)> {
    plan.create.as_ref().map(|new| (new.attempt, new.kind, new.fruitless))
}

fn ending(plan: &Plan) -> (Option<Phase>, Option<Code>) {
    (plan.status.phase, plan.status.result.as_ref().map(|r| r.reason))
}

#[test]
fn a_new_recording_gets_the_finalizer_an_attempt_and_a_pod() {
    let seen = observed(recording(json!({"metadata": {"finalizers": null}})), vec![]);
    let plan = planned(&seen, 1);
    assert_eq!(plan.finish, Finalizer::Add);
    assert_eq!(created(&plan), Some((1, JobKind::Record, 0)));
    assert_eq!(
        plan.status.attempt.as_ref().map(|a| (a.number, a.start_time.is_none())),
        Some((1, true)),
        "written before the pod is created"
    );
    assert_eq!(plan.status.phase, Some(Phase::Pending));
}

#[test]
fn an_attempt_that_is_written_and_has_no_pod_is_created_with_its_number() {
    for number in [1, 2] {
        let mut r = running(number, 0, json!({}));
        r.status.as_mut().expect("set").attempt.as_mut().expect("set").start_time = None;
        assert_eq!(created(&planned(&observed(r, vec![]), 5)), Some((number, JobKind::Record, 0)));
    }
}

#[test]
fn a_pod_that_was_seen_and_is_gone_without_a_trace_is_followed_by_the_next_number() {
    assert_eq!(created(&planned(&observed(running(1, 30, json!({})), vec![]), 60)), Some((2, JobKind::Record, 0)));
}

#[test]
fn while_it_records_nothing_is_done_and_the_node_is_named() {
    let r = running(1, 0, json!({}));
    let mut seen = observed(r, vec![pod(&validated(&recording(json!({}))), 1)]);
    seen.heard = heard(report(ReportState::Recording, 30), 40);
    let plan = planned(&seen, 41);
    assert_eq!((plan.create.clone(), plan.orders.len(), plan.delete.len(), plan.release.len()), (None, 0, 0, 0));
    assert_eq!((plan.status.phase, plan.finish), (Some(Phase::Recording), Finalizer::Leave));
    assert_eq!(plan.status.attempt.as_ref().and_then(|a| a.node.as_deref()), Some("node-a"));
}

#[test]
fn orders_go_into_the_annotation_once() {
    let finish = deleted();
    let mut cancel = deleted();
    cancel["spec"] = json!({"onDelete": "Cancel"});
    let cases = [
        (json!({"spec": {"desiredState": "Stopped"}}), JobState::Stopped, StopReason::StopRequested),
        (finish, JobState::Stopped, StopReason::Deleted),
        (cancel, JobState::Cancelled, StopReason::Deleted),
    ];
    for (changes, state, reason) in cases {
        let r = running(1, 30, changes);
        let before = pod(&validated(&recording(json!({}))), 1);
        let plan = planned(&observed(r.clone(), vec![before]), 61);
        let (name, job) = &plan.orders[0];
        assert_eq!((name.as_str(), job.desired_state, job.stop_reason), ("standup-0f8c2a3b-1", state, Some(reason)));
        assert_eq!((plan.status.phase, plan.finish), (Some(Phase::Stopping), Finalizer::Leave));
        let after = pod(&validated(&r), 1);
        assert_eq!(planned(&observed(r, vec![after]), 61).orders, vec![]);
    }
}

#[test]
fn the_result_comes_by_either_road() {
    let last = final_report(Code::StopRequested, 60, true);
    let v = validated(&recording(json!({})));
    let mut by_report = observed(running(1, 30, json!({})), vec![pod(&v, 1)]);
    by_report.heard = heard(last.clone(), 60);
    let by_message = observed(running(1, 30, json!({})), vec![PodSeen { container: ended(0, Some(last)), ..pod(&v, 1) }]);
    for seen in [by_report, by_message] {
        let plan = planned(&seen, 61);
        assert_eq!(ending(&plan), (Some(Phase::Completed), Some(Code::StopRequested)));
        assert_eq!((plan.release.len(), plan.delete.len(), plan.finish), (0, 0, Finalizer::Leave), "written before anything may go");
    }
}

/// Once it is written: pods, finalizer, in time the Recording.
#[test]
fn a_completed_recordings_pod_goes_and_a_failed_ones_last_pod_stays() {
    let v = validated(&recording(json!({})));
    for (code, kept) in [(Code::NoUsers, 0), (Code::ConnectError, 1)] {
        let mut r = running(2, 30, json!({}));
        let status = r.status.take().expect("set");
        let report = Report { attempt: 2, ..final_report(code, 60, true) };
        r.status = Some(status::fold(&v, &status, Some(&report), at(60)));
        let pods = vec![PodSeen { container: ended(143, None), ..pod(&v, 1) }, PodSeen { container: ended(0, None), ..pod(&v, 2) }];
        let plan = planned(&observed(r, pods), 61);
        assert_eq!((plan.delete.len(), plan.release.len(), plan.finish), (2 - kept, 2, Finalizer::Remove), "{code}");
        assert_eq!(plan.create, None);
    }
}

#[test]
fn a_finished_recording_is_removed_when_its_time_is_over() {
    let mut r = running(1, 30, json!({"spec": {"ttlSecondsAfterFinished": 100}}));
    r.status = Some(status::fold(&validated(&r), &r.status.clone().expect("set"), Some(&final_report(Code::NoUsers, 60, true)), at(60)));
    let seen = observed(r, vec![]);
    let before = planned(&seen, 70);
    assert_eq!((before.remove_recording, before.wake), (false, Duration::from_secs(90)));
    assert!(planned(&seen, 160).remove_recording);
}

/// The table of contracts.md: what ended the pod -> does it count.
#[test]
fn disruptions_never_count_and_crashes_do() {
    let v = validated(&recording(json!({})));
    let base = || pod(&v, 1);
    let cases = [
        ("interrupted", PodSeen { container: ended(143, None), ..base() }, 0),
        ("deleted by somebody", PodSeen { container: ended(137, None), deleting: Some(at(20)), ..base() }, 0),
        ("preempted", PodSeen { container: ended(137, None), disruption: Some("PreemptionByScheduler".into()), ..base() }, 0),
        ("node lost", PodSeen { deleting: Some(at(60)), disruption: Some("DeletionByTaintManager".into()), ..base() }, 0),
        ("spool over its limit", PodSeen { container: ended(137, None), evicted: true, ..base() }, 1),
        ("evicted in good order still counts", PodSeen { container: ended(143, None), evicted: true, ..base() }, 1),
        ("exit 0 without a result", PodSeen { container: ended(0, None), ..base() }, 1),
        ("crashes again and again", PodSeen { container: Container::Waiting { crash_loop: true }, ..base() }, 1),
    ];
    for (case, pod, fruitless) in cases {
        let plan = planned(&observed(running(1, 0, json!({})), vec![pod.clone()]), 61);
        assert_eq!(created(&plan), Some((2, JobKind::Record, fruitless)), "{case}");
        assert_eq!((plan.delete.is_empty(), plan.release.len()), (pod.deleting.is_some(), 1), "{case}: the old pod goes");
        assert_eq!(plan.status.attempt.as_ref().map(|a| a.number), Some(2), "{case}");
    }
}

#[test]
fn three_attempts_without_new_media_are_the_budget() {
    let v = validated(&recording(json!({})));
    let crashed = |fruitless, before| PodSeen { container: ended(137, None), fruitless, recorded_before: before, ..pod(&v, 3) };
    let cases = [
        ("nothing new, third", 30, crashed(2, 30), None),
        ("nothing new, second", 30, crashed(1, 30), Some(2)),
        ("a little new: not counted", 45, crashed(2, 30), Some(2)),
        ("five minutes new: cleared", 330, crashed(2, 30), Some(0)),
    ];
    for (case, seconds, pod, fruitless) in cases {
        let plan = planned(&observed(running(3, seconds, json!({})), vec![pod]), 400);
        assert_eq!(created(&plan).map(|(_, _, n)| n), fruitless, "{case}");
        if fruitless.is_none() {
            assert_eq!(ending(&plan), (Some(Phase::Failed), Some(Code::RecorderExit)), "{case}");
            assert!(plan.status.failure.expect("failed").message.expect("said").contains("exit code 137"));
        }
    }
}

#[test]
fn a_restart_in_place_changes_nothing() {
    let v = validated(&recording(json!({})));
    let restarted = PodSeen {
        container: Container::Waiting { crash_loop: false },
        previous: Some(crate::seen::Ended { exit_code: 137, reason: "Error".into(), at: None, report: None }),
        ..pod(&v, 1)
    };
    let plan = planned(&observed(running(1, 30, json!({})), vec![restarted]), 20);
    assert_eq!((plan.create.clone(), plan.status.phase, condition(&plan, c::RECORDING).0), (None, Some(Phase::Recording), "True"));
    assert_eq!(plan.status.attempt.as_ref().map(|a| a.number), Some(1));
}

#[test]
fn a_pod_that_is_being_deleted_is_waited_for_but_not_for_ever() {
    let v = validated(&recording(json!({})));
    let going = PodSeen { deleting: Some(at(60)), ..pod(&v, 1) };
    let seen = observed(running(1, 30, json!({})), vec![going]);
    let waiting = planned(&seen, 60 + DELETION_OVERDUE_SECONDS - 1);
    assert_eq!((waiting.create.clone(), waiting.orders.len()), (None, 0), "no order reaches a pod that terminates");
    assert_eq!(condition(&waiting, c::RECORDING), ("Unknown", "NextAttempt"));
    assert_eq!(created(&planned(&seen, 60 + DELETION_OVERDUE_SECONDS)), Some((2, JobKind::Record, 0)));
}

#[test]
fn silence_is_unknown_and_never_a_takeover() {
    let v = validated(&recording(json!({})));
    let mut seen = observed(running(1, 30, json!({})), vec![pod(&v, 1)]);
    seen.heard = heard(report(ReportState::Recording, 30), 40);
    let still = planned(&seen, 40 + SILENCE_SECONDS);
    assert_eq!(condition(&still, c::RECORDING).0, "True");
    let silent = planned(&seen, 41 + SILENCE_SECONDS);
    assert_eq!((condition(&silent, c::RECORDING), silent.create.clone()), (("Unknown", "ReportSilent"), None));
}

#[test]
fn silence_of_the_whole_node_is_said_and_waited_for() {
    let v = validated(&recording(json!({})));
    let mut seen = observed(running(1, 30, json!({})), vec![PodSeen { node_silent: true, ..pod(&v, 1) }]);
    seen.heard = heard(report(ReportState::Recording, 30), 40);
    let heard = planned(&seen, 40 + SILENCE_SECONDS);
    assert_eq!(condition(&heard, c::RECORDING), ("True", "MediaArrives"), "who is heard is not lost");
    let lost = planned(&seen, 41 + SILENCE_SECONDS);
    assert_eq!((condition(&lost, c::RECORDING), lost.create.clone()), (("Unknown", "NodeLost"), None));
}

#[test]
fn a_controller_that_has_just_started_does_not_call_it_silence() {
    let v = validated(&recording(json!({})));
    let mut seen = observed(running(1, 30, json!({})), vec![pod(&v, 1)]);
    seen.listening_since = at(1000);
    let plan = planned(&seen, 1001);
    assert_eq!((condition(&plan, c::RECORDING).0, plan.create.clone()), ("True", None));
}

#[test]
fn trouble_is_stated_with_its_remedy_and_the_pod_waited_for() {
    let v = validated(&recording(json!({})));
    for code in [Code::SecretNotFound, Code::ImageUnavailable, Code::Unschedulable, Code::VolumeUnavailable] {
        let stuck = PodSeen {
            container: Container::Waiting { crash_loop: false },
            trouble: Some(Trouble::new(code, "as Kubernetes says")),
            ..pod(&v, 1)
        };
        let plan = planned(&observed(running(1, 0, json!({})), vec![stuck]), 20);
        for type_ in [c::RECORDING, c::READY] {
            assert_eq!(condition(&plan, type_), ("False", code.as_str()), "{type_}");
        }
        assert_eq!((condition(&plan, c::DEGRADED), plan.status.phase), (("True", code.as_str()), Some(Phase::Pending)));
        let message = &c::find(&plan.status.conditions, c::RECORDING).expect("set").message;
        assert!(message.contains("as Kubernetes says") && message.contains(code.remedy()), "{message}");
        assert!(plan.wake >= Duration::from_secs(10), "{code}: looked at more than six times a minute");
    }
}

/// News and silence wake it; without any it looks when counters would have to be written, or silence be stated of one that does not answer.
#[test]
fn a_recorder_that_records_is_looked_at_when_something_is_due() {
    let r = running(1, 20, json!({}));
    let v = validated(&r);
    let wake = |heard: i64, now: i64| {
        let seen = Observed { heard: heard_at(heard), ..observed(running(1, 20, json!({})), vec![pod(&v, 1)]) };
        planned(&seen, now).wake.as_secs()
    };
    let heard_at_12_written_at_10 = wake(12, 15);
    assert_eq!(heard_at_12_written_at_10, 10 + 46 - 15);
    assert_eq!(wake(12, 35), 12 + 31 - 35, "it should have answered by then");
    assert_eq!(wake(50, 52), 10 + 46 - 52, "counters are due");
    assert_eq!(wake(12, 43), WAKE_STARTING.as_secs(), "silent: everything that could tell more is looked at");
}

fn heard_at(second: i64) -> Option<Heard> {
    heard(report(ReportState::Recording, 20), second)
}

#[test]
fn a_refused_pod_is_tried_again_and_the_refusal_stated() {
    let mut seen = observed(running(1, 0, json!({})), vec![]);
    seen.recording = std::sync::Arc::new(recording(json!({})));
    seen.refusal = Some(Refusal::Trouble(Trouble::new(Code::QuotaExceeded, "exceeded quota: small")));
    let plan = planned(&seen, 5);
    assert_eq!((created(&plan), plan.wake), (Some((1, JobKind::Record, 0)), WAKE_REFUSED));
    assert_eq!(condition(&plan, c::RECORDING), ("False", "QuotaExceeded"));
}

#[test]
fn in_a_namespace_that_goes_it_ends_with_what_is_stored() {
    let v = validated(&recording(json!({})));
    for (seconds, phase) in [(30, Phase::Completed), (0, Phase::Failed)] {
        let mut seen = observed(running(1, seconds, json!({})), vec![PodSeen { container: ended(143, None), ..pod(&v, 1) }]);
        seen.refusal = Some(Refusal::NamespaceTerminating);
        assert_eq!(ending(&planned(&seen, 20)), (Some(phase), Some(Code::Deleted)));
    }
}

#[test]
fn no_recorder_in_time_fails_and_says_what_kept_it() {
    let mut r = running(1, 0, json!({"spec": {"startDeadlineSeconds": 60}}));
    let v = validated(&r);
    let stuck = || PodSeen {
        container: Container::Waiting { crash_loop: false },
        trouble: Some(Trouble::new(Code::Unschedulable, "0/3 nodes")),
        ..pod(&v, 1)
    };
    assert_eq!(ending(&planned(&observed(r.clone(), vec![stuck()]), 59)).1, None);
    let late = planned(&observed(r.clone(), vec![stuck()]), 60);
    assert_eq!(ending(&late), (Some(Phase::Failed), Some(Code::StartDeadlineExceeded)));
    assert!(late.status.failure.expect("failed").message.expect("said").contains("0/3 nodes"));
    assert_eq!(late.delete, ["standup-0f8c2a3b-1"]);
    r.status = None;
    assert_eq!(ending(&planned(&observed(r.clone(), vec![]), 60)).1, Some(Code::StartDeadlineExceeded), "created when it was late already");
    assert_eq!(
        ending(&planned(&observed(running(1, 0, json!({"spec": {"startDeadlineSeconds": 60}})), vec![pod(&v, 1)]), 99)).1,
        None,
        "it runs"
    );
}

#[test]
fn an_order_to_end_with_nothing_begun_ends_at_once() {
    for (changes, code) in [(json!({"spec": {"desiredState": "Stopped"}}), Code::StopRequested), (deleted(), Code::Deleted)] {
        let plan = planned(&observed(recording(changes.clone()), vec![]), 61);
        assert_eq!((ending(&plan), plan.create), ((Some(Phase::Failed), Some(code)), None));
        assert_eq!(plan.status.failure.map(|f| f.code), Some(Code::NoRecordedData));
        let r = running(1, 0, changes);
        let never_ran = PodSeen { container: Container::Waiting { crash_loop: false }, ..pod(&validated(&r), 1) };
        let plan = planned(&observed(r, vec![never_ran]), 61);
        assert_eq!((ending(&plan).1, plan.delete.len()), (Some(code), 1));
    }
}

#[test]
fn an_order_to_end_with_no_live_pod_and_media_stored_is_carried_out_by_a_close_attempt() {
    for changes in [json!({"spec": {"desiredState": "Stopped"}}), deleted()] {
        let r = running(1, 30, changes);
        let gone = PodSeen { container: ended(143, None), ..pod(&validated(&r), 1) };
        assert_eq!(created(&planned(&observed(r, vec![gone]), 61)), Some((2, JobKind::Close, 0)));
    }
}

/// `kubectl delete --cascade=foreground`: every pod is deleted as soon as it is there.
#[test]
fn closing_is_not_tried_for_ever() {
    let r = running(4, 30, deleted());
    let v = validated(&r);
    let close = |fruitless| PodSeen {
        container: ended(143, None),
        deleting: Some(at(61)),
        fruitless,
        recorded_before: 30,
        job: Some(job::build(&v, 4, JobKind::Close, job::pod_files(&v)).to_text()),
        ..pod(&v, 4)
    };
    assert_eq!(created(&planned(&observed(r.clone(), vec![close(1)]), 62)), Some((5, JobKind::Close, 2)));
    assert_eq!(ending(&planned(&observed(r, vec![close(2)]), 62)).1, Some(Code::RecorderExit));
}

#[test]
fn an_attempt_after_max_duration_only_closes() {
    let r = running(1, 30, json!({"spec": {"maxDurationSeconds": 60}}));
    let gone = PodSeen { container: ended(143, None), ..pod(&validated(&r), 1) };
    assert_eq!(created(&planned(&observed(r, vec![gone]), 120)), Some((2, JobKind::Close, 0)));
}

#[test]
fn cancel_does_not_wait_and_finish_waits_for_the_drain() {
    let mut cancel = deleted();
    cancel["spec"] = json!({"onDelete": "Cancel"});
    let finish = deleted();
    let drain = 3600 + DRAIN_MARGIN_SECONDS;
    for (changes, after, code) in [(cancel, CANCEL_SECONDS, Code::Deleted), (finish, drain, Code::UploaderFailed)] {
        let r = running(1, 30, changes);
        let seen = observed(r.clone(), vec![pod(&validated(&r), 1)]);
        assert_eq!(ending(&planned(&seen, 60 + after)).1, None);
        let over = planned(&seen, 61 + after);
        assert_eq!((ending(&over).1, over.delete.len()), (Some(code), 1));
    }
}

#[test]
fn a_rejected_recording_says_so_and_ends() {
    let r = recording(json!({"spec": {"pod": {"spool": {"sizeLimit": "much"}}}}));
    let rejection = crate::validate::validate(&r, at(0)).expect_err("not a size");
    let plan = rejected(&rejection, &observed(r, vec![]), at(1));
    assert_eq!(ending(&plan), (Some(Phase::Failed), Some(Code::InvalidParameter)));
    assert_eq!(condition(&plan, c::ACCEPTED), ("False", "InvalidParameter"));
    assert!(plan.status.failure.expect("failed").message.expect("said").contains("spec.pod.spool.sizeLimit"));
}

#[test]
fn a_second_attempt_keeps_the_phase_and_retires_the_first_pod() {
    let v = validated(&recording(json!({})));
    let older = PodSeen { container: ended(143, None), ..pod(&v, 1) };
    let newer = PodSeen { container: Container::Waiting { crash_loop: false }, ..pod(&v, 2) };
    let plan = planned(&observed(running(2, 30, json!({})), vec![older, newer]), 62);
    assert_eq!(
        (plan.delete.as_slice(), plan.release.as_slice()),
        (["standup-0f8c2a3b-1".to_owned()].as_slice(), ["standup-0f8c2a3b-1".to_owned()].as_slice())
    );
    assert_eq!((plan.status.phase, condition(&plan, c::RECORDING)), (Some(Phase::Recording), ("Unknown", "NextAttempt")));
}

#[test]
fn a_controllers_restart_in_mid_recording_plans_nothing() {
    let v = validated(&recording(json!({})));
    let mut r = running(1, 30, json!({}));
    let mut seen = observed(r.clone(), vec![pod(&v, 1)]);
    seen.heard = heard(report(ReportState::Recording, 30), 20);
    // The state that a controller has settled on ...
    r.status = Some(planned(&seen, 21).status);
    // ... is the state that a new one, which has heard nothing yet, plans.
    let fresh = Observed { listening_since: at(25), ..observed(r.clone(), vec![pod(&v, 1)]) };
    let plan = planned(&fresh, 25);
    assert_eq!((plan.create.clone(), plan.orders.len(), plan.delete.len(), plan.release.len()), (None, 0, 0, 0));
    assert_eq!(Some(&plan.status), fresh.recording.status.as_ref(), "nothing to write");
    let first = NewPod::first(1, JobKind::Record);
    assert_eq!(first.name(&v), "standup-0f8c2a3b-1");
}

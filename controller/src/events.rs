//! A few Events: beginnings, ends, and what stands in the way. Progress is in the status, not here.

use kube::Resource;
use kube::runtime::events::{Event, EventType, Recorder};
use recording_crds::status::{Phase, RecordingStatus};
use recording_crds::{Recording, conditions};

/// One Event to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub warning: bool,
    pub reason: String,
    pub note: String,
    pub action: &'static str,
}

/// What is worth an Event between two statuses. Pure.
pub fn notices(old: &RecordingStatus, new: &RecordingStatus) -> Vec<Notice> {
    [attempt(old, new), recording(old, new), resumed(old, new), degraded(old, new), ended(old, new)].into_iter().flatten().collect()
}

fn attempt(old: &RecordingStatus, new: &RecordingStatus) -> Option<Notice> {
    let number = |s: &RecordingStatus| s.attempt.as_ref().map_or(0, |a| a.number);
    let pod = new.attempt.as_ref()?.pod.clone().unwrap_or_default();
    (number(new) > number(old)).then(|| Notice {
        // The first is how it always begins; a further one is news.
        warning: number(new) > 1,
        reason: "AttemptStarted".into(),
        note: format!("attempt {} is the pod {pod}", number(new)),
        action: "Start",
    })
}

fn recording(old: &RecordingStatus, new: &RecordingStatus) -> Option<Notice> {
    let begun = old.first_media_time.is_none() && new.first_media_time.is_some();
    begun.then(|| Notice { warning: false, reason: "Recording".into(), note: "the first media has arrived".into(), action: "Record" })
}

/// After a lost pod, a silent recorder, a node that was away.
fn resumed(old: &RecordingStatus, new: &RecordingStatus) -> Option<Notice> {
    let recording =
        |s: &RecordingStatus, status: &str| conditions::find(&s.conditions, conditions::RECORDING).is_some_and(|c| c.status == status);
    let again = old.first_media_time.is_some() && recording(old, "Unknown") && recording(new, "True");
    again.then(|| Notice { warning: false, reason: "Resumed".into(), note: "media is being recorded again".into(), action: "Record" })
}

fn degraded(old: &RecordingStatus, new: &RecordingStatus) -> Option<Notice> {
    let now = conditions::find(&new.conditions, conditions::DEGRADED).filter(|c| c.status == "True")?;
    let before = conditions::find(&old.conditions, conditions::DEGRADED);
    let known = before.is_some_and(|b| b.status == "True" && b.reason == now.reason);
    (!known).then(|| Notice { warning: true, reason: now.reason.clone(), note: now.message.clone(), action: "Record" })
}

fn ended(old: &RecordingStatus, new: &RecordingStatus) -> Option<Notice> {
    let phase = new.phase.filter(|p| p.is_final() && old.phase != Some(*p))?;
    let (reason, note) = match (&new.failure, &new.result) {
        (Some(f), _) => {
            (f.code, format!("{}. {}", f.message.clone().unwrap_or_default().trim_end_matches('.'), f.remedy.clone().unwrap_or_default()))
        }
        (None, Some(r)) => (r.reason, r.message.clone().unwrap_or_default()),
        (None, None) => return None,
    };
    Some(Notice { warning: phase == Phase::Failed, reason: reason.as_str().into(), note, action: "End" })
}

/// An Event that cannot be written is not worth a failure.
pub async fn publish(recorder: &Recorder, recording: &Recording, notices: Vec<Notice>) {
    for notice in notices {
        let event = Event {
            type_: if notice.warning { EventType::Warning } else { EventType::Normal },
            reason: notice.reason,
            note: Some(notice.note),
            action: notice.action.into(),
            secondary: None,
        };
        if let Err(error) = recorder.publish(&event, &recording.object_ref(&())).await {
            tracing::warn!(reason = event.reason, %error, "failed to write an Event");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{at, recording as recording_of, report, validated};
    use crate::status::{self, Facts};
    use recording_crds::report::ReportState;
    use recording_crds::status::Attempt;

    fn attempted(number: i32) -> RecordingStatus {
        RecordingStatus {
            attempt: Some(Attempt { number, pod: Some(format!("p-{number}")), ..Attempt::default() }),
            ..RecordingStatus::default()
        }
    }

    /// One report in a room, then silence, then the same report again.
    #[test]
    fn one_that_is_heard_again_has_resumed() {
        let v = validated(&recording_of(serde_json::json!({})));
        let heard = report(ReportState::Recording, 30);
        let live = status::fold(&v, &RecordingStatus::default(), Some(&heard), at(1));
        let silent =
            status::fold_facts(&v, &live, &Facts { report: Some(&heard), running: true, silent: true, ..Facts::default() }, at(60));
        let again = status::fold(&v, &silent, Some(&heard), at(70));
        let reasons = |old: &RecordingStatus, new: &RecordingStatus| notices(old, new).into_iter().map(|n| n.reason).collect::<Vec<_>>();
        assert_eq!(reasons(&RecordingStatus::default(), &live), ["Recording"]);
        assert_eq!(reasons(&live, &silent), Vec::<String>::new(), "an Event for each pause of the network would be a storm");
        assert_eq!(reasons(&silent, &again), ["Resumed"]);
        assert_eq!(reasons(&again, &again), Vec::<String>::new());
    }

    #[test]
    fn an_event_per_attempt_and_none_for_the_same() {
        assert_eq!(notices(&attempted(1), &attempted(1)), []);
        let second = notices(&attempted(1), &attempted(2));
        assert_eq!((second.len(), second[0].warning, second[0].note.as_str()), (1, true, "attempt 2 is the pod p-2"));
        assert!(!notices(&RecordingStatus::default(), &attempted(1))[0].warning);
    }
}

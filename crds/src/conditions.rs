//! Condition types of a Recording, and the one way to set them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The spec is accepted: what only the controller can know.
pub const ACCEPTED: &str = "Accepted";
/// Media is being recorded: True from the first media to the end; a mute does not clear it.
pub const RECORDING: &str = "Recording";
/// Everything recorded is in `storage`.
pub const UPLOADED: &str = "Uploaded";
/// Something recorded is in `backupStorage` and not in `storage`; absent until that was so.
pub const BACKED_UP: &str = "BackedUp";
/// Final: ended in good order.
pub const COMPLETE: &str = "Complete";
/// Final: did not.
pub const FAILED: &str = "Failed";
/// Something is not as asked, and it goes on.
pub const DEGRADED: &str = "Degraded";
/// In the room, or Complete (kstatus).
pub const READY: &str = "Ready";
/// Failed or not Accepted (kstatus).
pub const STALLED: &str = "Stalled";

/// API conventions allow 32768 bytes; nobody reads that.
pub const MESSAGE_MAX: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    pub fn as_str(self) -> &'static str {
        match self {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(value: bool) -> Self {
        if value { Truth::True } else { Truth::False }
    }
}

/// Sets a condition; `lastTransitionTime` moves only when its status changes.
pub fn set(
    conditions: &mut Vec<Condition>,
    type_: &str,
    status: impl Into<Truth>,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: &Time,
) {
    let status = status.into().as_str().to_owned();
    let mut message = message.to_owned();
    if message.len() > MESSAGE_MAX {
        let end = (0..=MESSAGE_MAX).rev().find(|&i| message.is_char_boundary(i)).unwrap_or(0);
        message.truncate(end);
    }
    let found = conditions.iter_mut().find(|c| c.type_ == type_);
    let last_transition_time = match &found {
        Some(old) if old.status == status => old.last_transition_time.clone(),
        _ => now.clone(),
    };
    let new = Condition {
        type_: type_.to_owned(),
        status,
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time,
    };
    match found {
        Some(old) => *old = new,
        None => conditions.push(new),
    }
}

pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}

pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn at(second: i64) -> Time {
        serde_json::from_value(serde_json::to_value(Timestamp::from_second(second).expect("in range")).expect("JSON")).expect("a time")
    }

    #[test]
    fn the_transition_time_moves_only_with_the_status() {
        let mut conditions = Vec::new();
        set(&mut conditions, READY, true, "InRoom", "a", Some(1), &at(10));
        set(&mut conditions, READY, true, "StillInRoom", "b", Some(2), &at(20));
        assert_eq!(conditions[0].last_transition_time, at(10));
        assert_eq!((conditions[0].reason.as_str(), conditions[0].observed_generation), ("StillInRoom", Some(2)));
        set(&mut conditions, READY, false, "Left", "c", Some(2), &at(30));
        assert_eq!((conditions.len(), conditions[0].last_transition_time.clone()), (1, at(30)));
    }
}

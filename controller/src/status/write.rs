//! When a status is worth a write, and the patch that writes it.

use recording_crds::status::{Progress, RecordingStatus};
use serde_json::{Map, Value};

/// Counters alone are written this often: true as of `lastReportTime`, at most a minute old (reports come every 15 s).
pub const COUNTERS_SECONDS: i64 = 45;

/// Everything but counters is written at once; counters when they are due.
pub fn worth_writing(old: &RecordingStatus, new: &RecordingStatus) -> bool {
    if old == new {
        return false;
    }
    let age = match (&old.last_report_time, &new.last_report_time) {
        (Some(old), Some(new)) => new.0.as_second() - old.0.as_second(),
        _ => COUNTERS_SECONDS,
    };
    age >= COUNTERS_SECONDS || without_counters(old) != without_counters(new)
}

fn without_counters(status: &RecordingStatus) -> RecordingStatus {
    RecordingStatus {
        last_report_time: None,
        progress: status.progress.as_ref().map(|_| Progress::default()),
        gap_seconds: None,
        ..status.clone()
    }
}

/// An RFC 7386 patch from `old` to `new`: what is gone becomes null, lists are replaced whole.
pub fn merge_patch(old: &Value, new: &Value) -> Value {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return new.clone() };
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    let merged = changed.map(|(key, value)| (key.clone(), merge_patch(old.get(key).unwrap_or(&Value::Null), value)));
    Value::Object(gone.chain(merged).collect::<Map<_, _>>())
}

//! The bodies of fuzz targets: each takes any bytes and panics on what must not be. Nothing here is for programs.

use crate::local::documents;
use crate::{manifest, validate};
use k8s_openapi::jiff::Timestamp;
use recording_crds::Recording;
use recording_crds::report::{Report, TERMINATION_MESSAGE_MAX};

/// A manifest file of local mode, through everything that may refuse it.
pub fn documents(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(documents) = documents::of_texts(&[("manifest.yaml".into(), text.to_owned())]) else { return };
    if !manifest::check(&documents.recording).is_empty() {
        return;
    }
    // The schema took it: it has the types' form.
    let filled = manifest::with_defaults(&documents.recording);
    let mut recording: Recording = serde_json::from_value(filled).expect("what the schema takes, the types take");
    recording.metadata.uid.get_or_insert_with(|| "0f8c2a3b-1111-2222-3333-444455556666".into());
    let _ = validate::validate(&recording, Timestamp::UNIX_EPOCH);
}

/// What a recorder says of itself, by either road.
pub fn report(data: &[u8]) {
    let Ok(report) = serde_json::from_slice::<Report>(data) else { return };
    let text = report.to_termination_message();
    assert!(text.len() <= TERMINATION_MESSAGE_MAX || report.outcome.is_none(), "{} bytes", text.len());
    assert!(serde_json::from_str::<Report>(&text).is_ok(), "we read what we write");
}

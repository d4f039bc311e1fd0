//! What GitOps tools take a Recording for: documents by the controller's own code, read by Argo CD's script (docs/gitops.md) in Lua 5.1 and by the
//! library that Flux uses.

use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use recording_controller::status::{self, Facts};
use recording_controller::validate::{self, ValidatedRecording};
use recording_crds::codes::Code;
use recording_crds::report::{Counters, Degraded, Report, ReportOutcome, ReportState};
use recording_crds::status::RecordingStatus;
use recording_crds::{Recording, labels};
use recording_tests::harness::{tool, workspace};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

const CREATED: &str = "2026-11-21T10:00:00Z";

fn recording() -> Result<Recording> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "recording-operator.io/v1alpha1", "kind": "Recording",
        "metadata": {
            "name": "standup", "namespace": "team", "uid": "0f8c2a3b-1111-2222-3333-444455556666", "generation": 1,
            "creationTimestamp": CREATED, "finalizers": [labels::FINISH],
        },
        "spec": {
            "channel": {"name": "standup", "livekit": {"url": "wss://sfu.example.com"}}, "token": {"apiKeySecretRef": {"name": "lk"}},
            "mode": "Individual", "storage": {"s3": {"bucket": "recordings", "region": "eu-west-1"}},
        },
    }))?)
}

fn report(state: ReportState) -> Report {
    let media = matches!(state, ReportState::Recording | ReportState::Draining | ReportState::Finished);
    Report {
        generation: 1,
        attempt: 1,
        state,
        connected: !matches!(state, ReportState::Starting | ReportState::Connecting | ReportState::Finished),
        counters: Counters { recorded_files: 4, uploaded_files: 4, recorded_seconds: 60, playlists: 2, ..Counters::default() },
        connected_time: Some("2026-11-21T10:00:02Z".into()),
        first_media_time: media.then(|| "2026-11-21T10:00:03Z".into()),
        ..Report::default()
    }
}

fn ended(code: Code, media: bool) -> Report {
    let counters = if media { report(ReportState::Finished).counters } else { Counters::default() };
    Report { outcome: Some(ReportOutcome::new(code, "", media, media)), counters, ..report(ReportState::Finished) }
}

struct Stage<'a> {
    v: &'a ValidatedRecording,
    now: Timestamp,
}

impl Stage<'_> {
    fn after(&self, reports: &[Report]) -> RecordingStatus {
        reports.iter().fold(RecordingStatus::default(), |before, report| status::fold(self.v, &before, Some(report), self.now))
    }

    fn facts(&self, before: &RecordingStatus, facts: &Facts<'_>) -> RecordingStatus {
        status::fold_facts(self.v, before, facts, self.now)
    }
}

/// What it is called in docs/gitops.md, the status, and what Argo CD and kstatus make of it.
type Document = (&'static str, Option<RecordingStatus>, &'static str, &'static str);

fn documents() -> Result<Vec<Document>> {
    let recording = recording()?;
    let now: Timestamp = "2026-11-21T10:01:00Z".parse()?;
    let v = validate::validate(&recording, now)?;
    let stage = Stage { v: &v, now };
    let live = stage.after(&[report(ReportState::Recording)]);
    let degraded = Report { degraded: vec![Degraded { code: Code::DiskFull, message: String::new() }], ..report(ReportState::Recording) };
    let rejection = match validate::validate(&without_uid(&recording), now) {
        Err(rejection) => rejection,
        Ok(_) => anyhow::bail!("a Recording without a uid was accepted"),
    };
    Ok(vec![
        // The controller has not looked yet: kstatus knows no better.
        ("created", None, "Progressing", "Current"),
        ("pending", Some(status::fold(&v, &RecordingStatus::default(), None, now)), "Progressing", "InProgress"),
        ("joining", Some(stage.after(&[report(ReportState::Connecting)])), "Progressing", "InProgress"),
        ("waiting for media", Some(stage.after(&[report(ReportState::Waiting)])), "Healthy", "Current"),
        ("recording", Some(live.clone()), "Healthy", "Current"),
        ("degraded", Some(stage.after(&[degraded])), "Healthy", "Current"),
        ("silent", Some(stage.facts(&live, &Facts { running: true, silent: true, ..Facts::default() })), "Progressing", "InProgress"),
        (
            "next attempt",
            Some(stage.facts(&live, &Facts { running: true, restarting: true, ..Facts::default() })),
            "Progressing",
            "InProgress",
        ),
        ("draining", Some(stage.after(&[report(ReportState::Recording), report(ReportState::Draining)])), "Healthy", "Current"),
        ("completed", Some(stage.after(&[ended(Code::NoUsers, true)])), "Healthy", "Current"),
        ("failed", Some(stage.after(&[ended(Code::ConnectError, false)])), "Degraded", "Failed"),
        ("failed with media", Some(stage.after(&[ended(Code::UploaderFailed, true)])), "Degraded", "Failed"),
        ("nobody came", Some(stage.after(&[ended(Code::NoUsers, false)])), "Degraded", "Failed"),
        ("refused", Some(status::reject(&recording, &rejection, now)), "Degraded", "Failed"),
        ("changed, not yet seen", Some(RecordingStatus { observed_generation: Some(0), ..live }), "Progressing", "InProgress"),
    ])
}

fn without_uid(recording: &Recording) -> Recording {
    let mut without = recording.clone();
    without.metadata.uid = None;
    without
}

fn object(status: Option<RecordingStatus>) -> Result<Value> {
    let mut recording = recording()?;
    recording.status = status;
    Ok(serde_json::to_value(recording)?)
}

#[test]
fn argo_cd_and_flux_take_a_recording_for_what_it_is() -> Result<()> {
    let script = script()?;
    for (case, status, argo, flux) in documents()? {
        let object = object(status)?;
        let (health, message) = argo_health(&script, &object)?;
        ensure!(health == argo && !message.is_empty(), "{case}: Argo CD says {health} ({message}), expected {argo}");
        let seen = kstatus(&object)?;
        ensure!(seen == flux, "{case}: kstatus says {seen}, expected {flux}: {object:#}");
    }
    Ok(())
}

#[test]
fn one_that_is_being_deleted_is_terminating() -> Result<()> {
    let recording = recording()?;
    let v = validate::validate(&recording, CREATED.parse()?)?;
    let mut object = object(Some(status::fold(&v, &RecordingStatus::default(), Some(&report(ReportState::Draining)), CREATED.parse()?)))?;
    object["metadata"]["deletionTimestamp"] = CREATED.into();
    ensure!(kstatus(&object)? == "Terminating");
    Ok(())
}

/// The only Lua block of the page.
fn script() -> Result<String> {
    let page = std::fs::read_to_string(workspace().join("docs/gitops.md"))?;
    let (_, rest) = page.split_once("```lua\n").context("docs/gitops.md has no Lua block")?;
    Ok(rest.split_once("```").context("an open block")?.0.to_owned())
}

/// Status and message.
fn argo_health(script: &str, object: &Value) -> Result<(String, String)> {
    let program = format!(
        "local function health(obj)\n{script}\nend\nlocal found = health({})\nprint(found.status)\nprint(found.message)\n",
        lua(object)
    );
    let said = fed(Command::new("lua5.1").arg("-"), &program)?;
    let (status, message) = said.split_once('\n').context("two lines")?;
    Ok((status.to_owned(), message.trim().to_owned()))
}

fn kstatus(object: &Value) -> Result<String> {
    Ok(fed(&mut Command::new(tool("kstatus")?), &object.to_string())?.trim().to_owned())
}

fn fed(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("make tools")?;
    child.stdin.take().context("piped")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// As a Lua expression; null is nil, as Argo CD hands it over.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".into(),
        Value::Array(items) => format!("{{{}}}", items.iter().map(lua).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(key, value)| format!("[{}] = {}", quoted(key), lua(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

fn quoted(text: &str) -> String {
    text.bytes().fold(String::from("\""), |so_far, byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'.' | b'-' | b'/' | b':' | b',' => so_far + &char::from(byte).to_string(),
        other => so_far + &format!("\\{other:03}"),
    }) + "\""
}

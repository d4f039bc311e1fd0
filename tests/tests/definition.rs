//! What of a Recording may be changed later, and what may not: each field of the spec changed, added and removed, on a real API server.

use anyhow::{Context, Result, ensure};
use recording_tests::harness::cluster::api_server::ApiServer;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Field, a value, another one.
type Row = (&'static str, Value, Value);

fn immutable() -> [Row; 12] {
    let s3 = |bucket: &str| json!({"s3": {"bucket": bucket, "region": "eu-west-1", "endpoint": "https://s3.example.com"}});
    [
        ("channel", json!({"appID": "acme"}), json!({"appID": "other"})),
        ("token", json!({"apiKeySecretRef": {"name": "livekit"}}), json!({"apiKeySecretRef": {"name": "other"}})),
        ("uid", json!(7), json!(8)),
        ("mode", json!("Composite"), json!("Individual")),
        ("media", json!("Video"), json!("AudioVideo")),
        ("videoStream", json!("Low"), json!("Auto")),
        ("audio", json!({"profile": "Mono128"}), json!({"profile": "Stereo192"})),
        ("startDeadlineSeconds", json!(60), json!(61)),
        ("output", json!({"snapshots": {"intervalSeconds": 5}}), json!({"snapshots": {"intervalSeconds": 6}})),
        ("storage", json!({"s3": {"prefix": "a"}}), json!({"s3": {"prefix": "b"}})),
        ("backupStorage", s3("spare"), s3("another")),
        ("pod", json!({"priorityClassName": "high"}), json!({"priorityClassName": "low"})),
    ]
}

fn mutable() -> [Row; 8] {
    [
        ("subscription", json!({"video": {"allow": ["alice"]}}), json!({"video": {"allow": ["bob"]}})),
        ("layout", json!({"type": "Floating"}), json!({"type": "Vertical"})),
        ("idleTimeoutSeconds", json!(60), json!(61)),
        ("maxDurationSeconds", json!(60), json!(61)),
        ("drainTimeoutSeconds", json!(60), json!(61)),
        ("onDelete", json!("Cancel"), json!("Finish")),
        ("ttlSecondsAfterFinished", json!(60), json!(61)),
        // The one way; the other: the table of wrong manifests.
        ("desiredState", json!("Recording"), json!("Stopped")),
    ]
}

/// Required: they can be changed, but neither added nor removed.
const ALWAYS: [&str; 2] = ["token", "mode"];
/// Without them there is no Recording to compare with; a part of them stands for them.
const REQUIRED: [&str; 3] = ["channel", "token", "storage"];

struct Definition {
    server: ApiServer,
}

impl Definition {
    fn create(&self, name: &str, fields: &[Row]) -> Result<()> {
        let mut recording = json!({
            "apiVersion": "recording-operator.io/v1alpha1", "kind": "Recording", "metadata": {"name": name},
            "spec": {
                "channel": {"name": "standup", "livekit": {"url": "wss://sfu.example.com"}}, "token": {"apiKeySecretRef": {"name": "livekit"}},
                "mode": "Composite", "storage": {"s3": {"bucket": "recordings", "region": "eu-west-1"}}
            }
        });
        for (field, value, _) in fields {
            match (recording["spec"][*field].as_object_mut(), value) {
                (Some(there), Value::Object(more)) if *field == "storage" => {
                    let s3 = there["s3"].as_object_mut().context("s3")?;
                    s3.extend(more["s3"].as_object().context("s3")?.clone());
                }
                (Some(there), Value::Object(more)) => there.extend(more.clone()),
                _ => recording["spec"][*field] = value.clone(),
            }
        }
        self.server.apply(&recording.to_string(), &["--validate=strict"]).map(drop)
    }

    /// What the API server says to a change of one field; nothing is written.
    fn change(&self, name: &str, field: &str, value: &Value) -> Result<String> {
        let patch = json!({"spec": {field: value}}).to_string();
        self.server.kubectl(&["patch", "recording", name, "--type=merge", "--dry-run=server", "-p", &patch])
    }
}

/// The same with nothing in it: in a merge patch null removes.
fn removed(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), removed(value))).collect(),
        _ => Value::Null,
    }
}

#[test]
fn what_may_be_changed_later_is_taken_and_nothing_else() -> Result<()> {
    let server = ApiServer::start()?;
    server.apply(&recording_crds::crd::yaml(), &["--server-side"])?;
    server.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
    let definition = Definition { server };
    let (immutable, mutable) = (immutable(), mutable());
    every_field_is_in_a_table(&immutable, &mutable)?;
    definition.create("bare", &[])?;
    // Sound and media: Video do not go together.
    let (heard, seen): (Vec<Row>, Vec<Row>) = immutable.iter().cloned().partition(|(field, ..)| *field == "audio");
    definition.create("full", &[&seen[..], &mutable[..]].concat())?;
    definition.create("heard", &heard)?;
    let mut complaints = Vec::new();
    for (field, value, other) in &immutable {
        // Of a required field the part goes, of another one the whole.
        let gone = if REQUIRED.contains(field) { removed(value) } else { Value::Null };
        let full = if *field == "audio" { "heard" } else { "full" };
        let mut tries = vec![(full, "changed", other.clone())];
        if !ALWAYS.contains(field) {
            tries.extend([(full, "removed", gone), ("bare", "added", value.clone())]);
        }
        for (name, how, value) in tries {
            let expected = format!("spec.{field} cannot be changed");
            match definition.change(name, field, &value) {
                Ok(said) => complaints.push(format!("{field} {how}: taken: {said}")),
                Err(error) if !format!("{error:#}").contains(&expected) => complaints.push(format!("{field} {how}: {error:#}")),
                Err(_) => {}
            }
        }
    }
    for (field, value, other) in &mutable {
        for (name, how, value) in [("full", "changed", other), ("full", "removed", &Value::Null), ("bare", "added", value)] {
            if let Err(error) = definition.change(name, field, value) {
                complaints.push(format!("{field} {how}: {error:#}"));
            }
        }
    }
    ensure!(complaints.is_empty(), "{}", complaints.join("\n"));
    Ok(())
}

/// Whoever adds a field decides whether it may be changed.
fn every_field_is_in_a_table(immutable: &[Row], mutable: &[Row]) -> Result<()> {
    let crd: Value = serde_yaml::from_str(&recording_crds::crd::yaml())?;
    let spec =
        crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties").and_then(Value::as_object).context("spec")?;
    let fields: BTreeSet<&str> = spec.keys().map(String::as_str).collect();
    let listed: BTreeSet<&str> = immutable.iter().chain(mutable).map(|(field, ..)| *field).collect();
    ensure!(fields == listed, "the spec has {fields:?}, the tables have {listed:?}");
    Ok(())
}

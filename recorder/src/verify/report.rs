//! The verdict as text: for people, or as one JSON object.

use serde::Serialize;

use super::finding::Finding;
use super::{Options, Output, Verdict};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    manifest: &'a str,
    #[serde(rename = "recordingID")]
    recording_id: &'a str,
    whole: bool,
    /// False: a recorder may still be at work.
    over: bool,
    playlists: usize,
    segments: usize,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshots: Option<Snapshots>,
    /// Segments that the manifest itself calls lost.
    lost: Vec<&'a str>,
    findings: Vec<Said<'a>>,
    repairs: &'a [String],
}

/// As the manifest says: each is by itself, nothing names them.
#[derive(Serialize)]
struct Snapshots {
    stored: u64,
    lost: u64,
}

#[derive(Serialize)]
struct Said<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    message: String,
}

pub(super) fn text(verdict: &Verdict, options: &Options) -> String {
    let report = report(verdict, options);
    match options.output {
        Output::Json => serde_json::to_string_pretty(&report).unwrap_or_default() + "\n",
        Output::Human => human(&report),
    }
}

fn report<'a>(verdict: &'a Verdict, options: &'a Options) -> Report<'a> {
    let manifest = &verdict.recording.manifest;
    let stored = manifest.ledger.iter().filter(|entry| entry.stored);
    Report {
        manifest: &options.manifest,
        recording_id: &verdict.recording.id,
        whole: verdict.findings.is_empty(),
        over: verdict.recording.over,
        playlists: manifest.playlists.len(),
        segments: stored.clone().count(),
        bytes: stored.map(|entry| entry.bytes).sum(),
        snapshots: (manifest.snapshots.taken > 0).then_some(Snapshots { stored: manifest.snapshots.stored, lost: manifest.snapshots.lost }),
        lost: manifest.ledger.iter().filter(|entry| entry.lost).map(|entry| entry.name.as_str()).collect(),
        findings: verdict.findings.iter().map(|finding| Said { finding, message: finding.to_string() }).collect(),
        repairs: &verdict.repairs,
    }
}

fn human(report: &Report) -> String {
    let mut lines: Vec<String> = report.repairs.iter().map(|repair| format!("repaired  {repair}")).collect();
    lines.extend(report.findings.iter().map(|said| format!("wrong     {}", said.message)));
    lines.extend(report.lost.iter().map(|segment| format!("lost      {segment}, as the manifest says")));
    let state = if report.over { "" } else { "; the recording is not over" };
    let stills = report.snapshots.as_ref().map(|stills| format!(", snapshots: {} and {} lost", stills.stored, stills.lost));
    let stills = stills.unwrap_or_default();
    let size = format!("playlists: {}, segments: {}, bytes: {}{stills}{state}", report.playlists, report.segments, report.bytes);
    lines.push(format!("{} ({size})", if report.whole { "whole" } else { "not whole" }));
    lines.join("\n") + "\n"
}

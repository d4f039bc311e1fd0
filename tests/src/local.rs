//! Runs `recording-operator local` as a user would, and reads what it says.

use crate::harness::livekit::LiveKit;
use crate::harness::process::{Process, Spec};
use crate::harness::s3::S3;
use crate::harness::{binary, python, workspace};
use anyhow::{Context, Result};
use recording_crds::RecordingStatus;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// One run of local mode, with a home of its own.
pub struct Local {
    pub process: Process,
    home: TempDir,
}

/// How a run ended.
pub struct Ended {
    pub exit_code: i32,
    /// The final status, when one was printed.
    pub status: Option<RecordingStatus>,
    /// Everything it printed, both streams.
    pub said: String,
    home: TempDir,
}

impl Local {
    /// `manifest` is the text of the file that `-f` names.
    pub fn start(manifest: &str, flags: &[&str]) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let file = home.path().join("recording.yaml");
        std::fs::write(&file, manifest)?;
        let spec = Spec::new("local", binary("recording-operator")?)?
            .arg("local")
            .arg("-f")
            .arg(&file)
            .args(["-o", "json"])
            .args(flags)
            .env("XDG_STATE_HOME", home.path().join("state"));
        Ok(Self { process: spec.spawn()?, home })
    }

    /// Folder of the recorder's state: job, spool, log.
    pub fn state(&self) -> PathBuf {
        self.home.path().join("state/recording-operator")
    }

    pub fn wait(mut self, timeout: Duration) -> Result<Ended> {
        let exit = self.process.wait(timeout).with_context(|| format!("the recorder's log: {}", recorder_log(&self.state())))?;
        let said = self.process.log();
        Ok(Ended { exit_code: exit.code().unwrap_or(-1), status: final_status(&said), said, home: self.home })
    }
}

impl Ended {
    pub fn status(&self) -> Result<&RecordingStatus> {
        self.status.as_ref().with_context(|| format!("no status was printed: {}", self.said))
    }

    /// The recorder's log, when the state folder was kept.
    pub fn recorder_log(&self) -> String {
        recorder_log(&self.home.path().join("state/recording-operator"))
    }
}

fn recorder_log(state: &Path) -> String {
    let folders = std::fs::read_dir(state).into_iter().flatten().flatten();
    folders.filter_map(|folder| std::fs::read_to_string(folder.path().join("recorder.log")).ok()).collect()
}

/// The JSON object that stands on lines of its own among what was said.
fn final_status(said: &str) -> Option<RecordingStatus> {
    let start = said.lines().position(|line| line == "{")?;
    let object: Vec<&str> = said.lines().skip(start).collect();
    let end = object.iter().position(|line| *line == "}")?;
    serde_json::from_str(&object[..=end].join("\n")).ok()
}

/// A LiveKit Recording into a bucket, with its Secrets.
pub fn livekit_to_s3(livekit: &LiveKit, s3: &S3, room: &str, bucket: &str, idle_seconds: u32, segment_seconds: u32) -> String {
    format!(
        "{secrets}---
apiVersion: recording-operator.io/v1alpha1
kind: Recording
metadata: {{name: {room}}}
spec:
  channel: {{name: {room}, livekit: {{url: '{url}'}}}}
  token: {{apiKeySecretRef: {{name: livekit}}}}
  mode: Individual
  idleTimeoutSeconds: {idle_seconds}
  output: {{hls: {{segmentSeconds: {segment_seconds}}}}}
  storage:
    s3: {{bucket: {bucket}, region: {region}, endpoint: '{endpoint}', forcePathStyle: true, prefix: acme, credentialsSecretRef: {{name: bucket}}}}
",
        secrets = secrets(livekit.api_key(), livekit.api_secret(), s3),
        url = livekit.url(),
        region = s3.region(),
        endpoint = s3.endpoint(),
    )
}

/// Secrets `livekit` and `bucket`.
pub fn secrets(api_key: &str, api_secret: &str, s3: &S3) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: livekit}}
stringData: {{LIVEKIT_API_KEY: {api_key}, LIVEKIT_API_SECRET: {api_secret}}}
---
apiVersion: v1
kind: Secret
metadata: {{name: bucket}}
stringData: {{AWS_ACCESS_KEY_ID: '{}', AWS_SECRET_ACCESS_KEY: '{}'}}
",
        s3.access_key(),
        s3.secret_key(),
    )
}

/// A person in a LiveKit room: real libwebrtc, the block-coded picture and the beeping tone.
pub fn publisher(livekit: &LiveKit, room: &str, identity: &str, id: u8, flags: &[&str]) -> Result<Process> {
    let script = workspace().join("tests/stimulus/publisher.py");
    Spec::new(identity, python()?)?
        .arg(script)
        .args(["--url", &livekit.url(), "--api-key", livekit.api_key(), "--api-secret", livekit.api_secret()])
        .args(["--room", room, "--identity", identity, "--participant", &id.to_string()])
        .args(flags)
        .with_stdin()
        .spawn()
}

/// Copies what lies below a prefix of a bucket into a folder, names without the prefix.
pub fn download(s3: &S3, bucket: &str, prefix: &str, folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for key in s3.list(bucket)? {
        let Some(name) = key.strip_prefix(prefix).map(|rest| rest.trim_start_matches('/').to_owned()) else { continue };
        std::fs::write(folder.join(&name), s3.get(bucket, &key)?)?;
        names.push(name);
    }
    Ok(names)
}

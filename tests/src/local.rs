//! Runs `recording-operator local` as a user would, and reads what it says.

use crate::harness::livekit::LiveKit;
use crate::harness::process::{Process, Spec, send_signal};
use crate::harness::s3::S3;
use crate::harness::{binary, python, workspace};
use crate::sweep::children;
use anyhow::{Context, Result};
use recording_crds::RecordingStatus;
use recording_crds::report::Report;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const MANIFEST: &str = "recording.yaml";

/// One run of local mode, with a home of its own.
pub struct Local {
    /// Before the process: it is dropped first.
    guard: Guard,
    pub process: Process,
    home: TempDir,
}

/// `local` is given no time to stop its recorder when a test fails; the recorder is in a process group of its own.
struct Guard(Option<u32>);

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(local) = self.0 else { return };
        let recorders = children(local);
        // Itself first, or it would start another.
        for pid in std::iter::once(local).chain(recorders) {
            let _ = send_signal(pid as i32, libc::SIGKILL);
        }
    }
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
        std::fs::write(home.path().join(MANIFEST), manifest)?;
        Self::run(home, flags)
    }

    fn run(home: TempDir, flags: &[&str]) -> Result<Self> {
        let spec = Spec::new("local", binary("recording-operator")?)?
            .arg("local")
            .arg("-f")
            .arg(home.path().join(MANIFEST))
            .args(["-o", "json"])
            .args(flags)
            .env("XDG_STATE_HOME", home.path().join("state"));
        let process = spec.spawn()?;
        Ok(Self { guard: Guard(Some(process.pid())), process, home })
    }

    /// Saves another text in the file that `-f` names, as an editor does: the old or the new text, never a part.
    pub fn save(&self, manifest: &str) -> Result<()> {
        let new = self.home.path().join("recording.yaml.new");
        std::fs::write(&new, manifest)?;
        Ok(std::fs::rename(new, self.home.path().join("recording.yaml"))?)
    }

    /// Waits until the recorder says that this generation of the job is in force; needs `--follow`.
    pub fn wait_for_generation(&mut self, generation: i64, timeout: Duration) -> Result<()> {
        self.process.wait_for_line(&format!("\"jobGeneration\":{generation}"), timeout).map(drop)
    }

    /// A counter or gauge of the running recorder, like `recorder_packets_total{kind="received"}`.
    pub fn metric(&self, name: &str) -> Result<f64> {
        metric(&self.ask_recorder("/metrics")?, name)
    }

    /// What the running recorder says of itself now; the status may be a little behind.
    pub fn report(&self) -> Result<Report> {
        Ok(serde_json::from_str(&self.ask_recorder("/v1/report")?)?)
    }

    fn ask_recorder(&self, path: &str) -> Result<String> {
        let (_, arguments) = self.recorder()?;
        let address = arguments.iter().skip_while(|a| *a != "--listen").nth(1).context("--listen has a value")?;
        ask(address, path)
    }

    /// The process that records, and its arguments.
    pub fn recorder(&self) -> Result<(u32, Vec<String>)> {
        let home = self.home.path().display().to_string();
        let of_ours = |arguments: &[String]| arguments.iter().any(|a| a.starts_with(&home)) && arguments.iter().any(|a| a == "--listen");
        let process = |entry: std::fs::DirEntry| {
            let line = std::fs::read_to_string(entry.path().join("cmdline")).ok()?;
            let arguments: Vec<String> = line.split('\0').map(str::to_owned).collect();
            Some((entry.file_name().to_str()?.parse().ok()?, arguments)).filter(|(_, arguments)| of_ours(arguments))
        };
        std::fs::read_dir("/proc")?.flatten().find_map(process).context("no recorder runs")
    }

    /// Folders of the recorder's state, one a recording: job, spool, log.
    pub fn state(&self) -> PathBuf {
        state(&self.home)
    }

    pub fn wait(mut self, timeout: Duration) -> Result<Ended> {
        let exit = self.process.wait(timeout).with_context(|| format!("the recorder's log: {}", recorder_log(&self.state())))?;
        self.guard.0 = None;
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
        recorder_log(&state(&self.home))
    }

    /// The recorder's last word, when the state folder was kept.
    pub fn termination_message(&self) -> Option<String> {
        std::fs::read_to_string(self.kept()?.join("termination")).ok()
    }

    /// The state folder of this recording, when it was kept.
    pub fn kept(&self) -> Option<PathBuf> {
        std::fs::read_dir(state(&self.home)).ok()?.flatten().map(|folder| folder.path()).next()
    }

    /// Goes on with an aborted recording, by the ID that it printed; the manifest is the same.
    pub fn resume(self, flags: &[&str]) -> Result<Local> {
        let id =
            self.said.lines().find_map(|line| line.split_once("--resume ")).context("no ID to resume was printed")?.1.trim().to_owned();
        Local::run(self.home, &[&["--resume", &id], flags].concat())
    }
}

fn state(home: &TempDir) -> PathBuf {
    home.path().join("state/recording-operator")
}

/// One of the pages that a recorder serves.
pub(crate) fn ask(address: &str, path: &str) -> Result<String> {
    Ok(ureq::get(format!("http://{address}{path}")).call()?.body_mut().read_to_string()?)
}

pub(crate) fn metric(page: &str, name: &str) -> Result<f64> {
    let value = page.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in {page}"))?;
    Ok(value.trim().parse()?)
}

/// The logs of every recorder below a folder of states.
pub fn recorder_log(state: &Path) -> String {
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

/// A LiveKit Recording with its Secret, for the flag `--output`.
pub fn livekit_to_folder(livekit: &LiveKit, room: &str, idle_seconds: u32) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: livekit}}
stringData: {{LIVEKIT_API_KEY: {key}, LIVEKIT_API_SECRET: {secret}}}
---
apiVersion: recording-operator.io/v1alpha1
kind: Recording
metadata: {{name: {room}}}
spec:
  channel: {{name: {room}, livekit: {{url: '{url}'}}}}
  token: {{apiKeySecretRef: {{name: livekit}}}}
  mode: Individual
  idleTimeoutSeconds: {idle_seconds}
  storage: {{volume: {{claimName: recordings}}}}
",
        key = livekit.api_key(),
        secret = livekit.api_secret(),
        url = livekit.url(),
    )
}

/// A recording of the built-in room with one person, `participant-1`, into a bucket below `acme`, with its Secret. The picture is small: 320x180
/// at 10 a second. `endpoint`: of the store or of what stands before it.
pub fn pattern_to_s3(s3: &S3, endpoint: &str, name: &str, seconds: u32, segment_seconds: u32) -> String {
    format!(
        "{bucket}---
apiVersion: recording-operator.io/v1alpha1
kind: Recording
metadata: {{name: {name}}}
spec:
  channel: {{name: {name}, testPattern: {{participants: 1, width: 320, height: 180, framesPerSecond: 10, durationSeconds: {seconds}}}}}
  mode: Individual
  idleTimeoutSeconds: 5
  output: {{hls: {{segmentSeconds: {segment_seconds}}}}}
  storage:
    s3: {{bucket: {name}, region: {region}, endpoint: '{endpoint}', forcePathStyle: true, prefix: acme, credentialsSecretRef: {{name: bucket}}}}
",
        bucket = bucket_secret(s3),
        region = s3.region(),
    )
}

/// The same recording of the built-in room, in one picture of its size and rate.
#[must_use]
pub fn composed(manifest: &str, frames_per_second: u64) -> String {
    let layout = format!("layout: {{canvas: {{width: 320, height: 180, framesPerSecond: {frames_per_second}, videoKbps: 300}}}}");
    manifest.replace("  mode: Individual\n", &format!("  mode: Composite\n  {layout}\n"))
}

/// Secrets `livekit` and `bucket`.
pub fn secrets(api_key: &str, api_secret: &str, s3: &S3) -> String {
    format!(
        "apiVersion: v1
kind: Secret
metadata: {{name: livekit}}
stringData: {{LIVEKIT_API_KEY: {api_key}, LIVEKIT_API_SECRET: {api_secret}}}
---
{}",
        bucket_secret(s3),
    )
}

fn bucket_secret(s3: &S3) -> String {
    format!(
        "apiVersion: v1
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

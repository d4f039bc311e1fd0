//! One attempt of a recorder without a controller: what a kubelet does for it, by hand.

use crate::harness::binary;
use crate::harness::ports;
use crate::harness::process::{Process, Spec};
use crate::local;
use anyhow::{Context, Result, anyhow};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use recording_controller::validate::{Order, ValidatedRecording, validate};
use recording_controller::{job, manifest, status};
use recording_crds::job::{Job, JobKind, JobState, StopReason};
use recording_crds::report::Report;
use recording_crds::{Recording, RecordingStatus};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// A running recorder.
pub struct Attempt {
    pub process: Process,
    validated: ValidatedRecording,
    number: i32,
    kind: JobKind,
    files: BTreeMap<String, PathBuf>,
    /// Where it serves its report and metrics.
    address: String,
    folder: TempDir,
}

/// A recorder that has ended.
pub struct AttemptEnded {
    pub exit_code: i32,
    /// Its termination message.
    pub report: Report,
    /// What a controller makes of that.
    pub status: RecordingStatus,
    pub log: String,
    /// The text of the termination message.
    pub said: String,
}

impl Attempt {
    /// `text`: a Recording with its Secrets; its `metadata.uid` must be given, so that attempts of the same recording can follow.
    pub fn start(text: &str, number: i32) -> Result<Self> {
        Self::begin(text, number, JobKind::Record, |_| {})
    }

    /// `spool_bytes`: less than the API allows, so that it is full soon.
    pub fn start_with_spool(text: &str, number: i32, spool_bytes: u64) -> Result<Self> {
        Self::begin(text, number, JobKind::Record, |validated| validated.sizes.spool_bytes = spool_bytes)
    }

    /// What follows on an attempt that was lost after the order to stop: it joins nothing, and ends what is stored.
    pub fn start_closing(text: &str, number: i32) -> Result<Self> {
        let stopped = Order { state: JobState::Stopped, reason: Some(StopReason::StopRequested) };
        Self::begin(text, number, JobKind::Close, |validated| validated.order = stopped)
    }

    fn begin(text: &str, number: i32, kind: JobKind, change: impl FnOnce(&mut ValidatedRecording)) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (recording, secrets) = read(text)?;
        let mut validated = validate(&recording, Timestamp::now()).map_err(|why| anyhow!("{why}"))?;
        change(&mut validated);
        let files = mount(&validated, &secrets, folder.path())?;
        let spec = Spec::new("recorder", binary("recorder")?)?;
        let file = |name: &str| folder.path().join(name);
        let address = format!("127.0.0.1:{}", ports::free_port(Ipv4Addr::LOCALHOST.into())?);
        let spec = spec.arg("--job").arg(file("job")).arg("--spool").arg(file("spool"));
        let spec = spec.arg("--termination-log").arg(file("termination")).args(["--listen", &address]);
        write_job(folder.path(), &job::build(&validated, number, kind, files.clone()))?;
        Ok(Self { process: spec.spawn()?, validated, number, kind, files, address, folder })
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn spool(&self) -> PathBuf {
        self.folder().join("spool")
    }

    /// What it says of itself now.
    pub fn report(&self) -> Result<Report> {
        Ok(serde_json::from_str(&local::ask(&self.address, "/v1/report")?)?)
    }

    pub fn metric(&self, name: &str) -> Result<f64> {
        local::metric(&local::ask(&self.address, "/metrics")?, name)
    }

    /// Replaces the job, as a changed annotation does.
    pub fn order(&mut self, state: JobState, reason: Option<StopReason>) -> Result<()> {
        self.validated.order = Order { state, reason };
        self.validated.generation += 1;
        write_job(self.folder.path(), &job::build(&self.validated, self.number, self.kind, self.files.clone()))
    }

    pub fn wait(mut self, timeout: Duration) -> Result<AttemptEnded> {
        let exit_code = self.process.wait(timeout)?.code().unwrap_or(-1);
        let said = std::fs::read_to_string(self.folder.path().join("termination")).context("no termination message")?;
        let report: Report = serde_json::from_str(&said)?;
        let status = status::fold(&self.validated, &RecordingStatus::default(), Some(&report), Timestamp::now());
        Ok(AttemptEnded { exit_code, report, status, log: self.process.log(), said })
    }
}

fn write_job(folder: &Path, job: &Job) -> Result<()> {
    std::fs::write(folder.join("job.new"), job.to_text())?;
    Ok(std::fs::rename(folder.join("job.new"), folder.join("job"))?)
}

fn read(text: &str) -> Result<(Recording, BTreeMap<String, Secret>)> {
    let (mut recording, mut secrets) = (None, BTreeMap::new());
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Value::deserialize(document)?;
        if value["kind"] == "Secret" {
            let secret: Secret = serde_json::from_value(value)?;
            secrets.insert(secret.metadata.name.clone().unwrap_or_default(), secret);
        } else {
            recording = Some(serde_json::from_value(manifest::with_defaults(&value))?);
        }
    }
    Ok((recording.context("no Recording")?, secrets))
}

/// Every role's folder with the keys of its Secret, as the kubelet would mount it.
fn mount(validated: &ValidatedRecording, secrets: &BTreeMap<String, Secret>, folder: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut files = BTreeMap::new();
    for source in &validated.files {
        let mounted = folder.join("secrets").join(source.role);
        std::fs::create_dir_all(&mounted)?;
        let data = secrets.get(&source.name).and_then(|secret| secret.string_data.clone()).context("no such Secret")?;
        for (key, content) in data {
            let wanted = source.key.as_ref().filter(|(wanted, _)| *wanted == key).map(|(_, file)| (*file).to_owned());
            if wanted.is_some() || source.key.is_none() {
                std::fs::write(mounted.join(wanted.unwrap_or(key)), content)?;
            }
        }
        files.insert(source.role.to_owned(), mounted);
    }
    Ok(files)
}

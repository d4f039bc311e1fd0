//! Local mode: one manifest without a cluster. The same checks, job, and status code as in a cluster; a process in place of a pod.

mod display;
pub(crate) mod documents;
mod files;
mod process;
mod session;
mod watch;

use crate::manifest;
use crate::validate::{self, ValidatedRecording};
use display::Format;
use files::NamedFolder;
use k8s_openapi::jiff::Timestamp;
use process::StateFolder;
use recording_crds::recording::{Storage, VolumeStorage};
use recording_crds::{Recording, exit};
use std::path::PathBuf;
use std::process::ExitCode;
use watch::{Inputs, Watched};

/// The claim that `--output` puts in place of the spec's storages.
const OUTPUT_CLAIM: &str = "output";

/// Run one Recording manifest on this machine, without a cluster.
///
/// Secrets and ConfigMaps may stand in the same file as further documents. The files are read again while it runs: what is saved is in force
/// like what is applied in a cluster. The first Ctrl-C stops in good order, the second aborts.
/// Exit status: 0 Completed, 1 Failed, 2 manifest or usage refused, 130 aborted (the spool is kept).
#[derive(Debug, clap::Args)]
pub struct LocalArgs {
    /// Manifest with one Recording, and the Secrets and ConfigMaps it uses; - for standard input; may be given several times
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    /// Store here instead of where the manifest says
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Files of this folder are the keys of Secret NAME; may be given several times
    #[arg(long, value_name = "NAME=DIR")]
    secret: Vec<NamedFolder>,
    /// Files of this folder are the keys of ConfigMap NAME; may be given several times
    #[arg(long = "configmap", value_name = "NAME=DIR")]
    config_map: Vec<NamedFolder>,
    /// This folder is the volume of claim CLAIM; may be given several times
    #[arg(long, value_name = "CLAIM=DIR")]
    volume: Vec<NamedFolder>,
    /// Print every change of the status as one JSON line
    #[arg(long)]
    follow: bool,
    /// How the final status is printed
    #[arg(short = 'o', long = "format", value_enum, default_value = "yaml", value_name = "FORMAT")]
    format: Format,
    /// Go on with an aborted recording: its ID, as printed when it was aborted
    #[arg(long, value_name = "ID")]
    resume: Option<String>,
    /// The recorder to run [default: beside this executable]
    #[arg(long, value_name = "PATH")]
    recorder: Option<PathBuf>,
}

/// Refused before anything ran: exit status 2.
#[derive(Debug)]
struct Refused(Vec<String>);

impl<E: std::error::Error> From<E> for Refused {
    fn from(error: E) -> Self {
        Refused(vec![error.to_string()])
    }
}

/// Everything a session needs.
#[derive(Debug)]
struct Prepared {
    recording: Recording,
    validated: ValidatedRecording,
    files: std::collections::BTreeMap<String, PathBuf>,
    state: StateFolder,
    recorder: PathBuf,
    watched: Watched,
}

pub fn execute(args: LocalArgs) -> ExitCode {
    let prepared = match prepare(&args) {
        Ok(prepared) => prepared,
        Err(Refused(messages)) => {
            for message in messages {
                eprintln!("error: {message}");
            }
            return code(exit::LOCAL_REFUSED);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: failed to start: {error}");
            return code(exit::LOCAL_FAILED);
        }
    };
    code(runtime.block_on(session::run(prepared, args.follow, args.format)))
}

fn code(value: i32) -> ExitCode {
    ExitCode::from(u8::try_from(value).unwrap_or(1))
}

fn prepare(args: &LocalArgs) -> Result<Prepared, Refused> {
    let documents = documents::load(&args.filename)?;
    let problems = manifest::check(&documents.recording);
    if !problems.is_empty() {
        return Err(Refused(problems.iter().map(ToString::to_string).collect()));
    }
    let mut recording: Recording = serde_json::from_value(manifest::with_defaults(&documents.recording))?;
    complete(&mut recording, args.resume.as_deref())?;
    local_storage(&mut recording, args.output.is_some());
    let recorder = process::find_recorder(args.recorder.as_deref()).map_err(|message| Refused(vec![message]))?;
    let validated = validate::validate(&recording, Timestamp::now())?;
    let state = StateFolder::create(&validated.recording_id)?;
    let inputs = Inputs {
        manifests: args.filename.clone(),
        secrets: args.secret.clone(),
        config_maps: args.config_map.clone(),
        volumes: args.volume.clone(),
        output: args.output.clone(),
    };
    let files = files::materialise(&validated, &inputs.sources(&documents), &state);
    if files.is_err() && args.resume.is_none() {
        state.clone().remove()?;
    }
    Ok(Prepared { recording, validated, files: files?, state, recorder, watched: Watched::new(inputs, documents) })
}

/// `--output` in place of the spec's storage and backupStorage.
fn local_storage(recording: &mut Recording, output: bool) {
    if output {
        let volume = VolumeStorage { claim_name: OUTPUT_CLAIM.into(), sub_path: None };
        recording.spec.storage = Storage { s3: None, volume: Some(volume) };
        recording.spec.backup_storage = None;
    }
}

/// What an API server would have filled in.
fn complete(recording: &mut Recording, resume: Option<&str>) -> Result<(), Refused> {
    let metadata = &mut recording.metadata;
    metadata.generation.get_or_insert(1);
    metadata.namespace.get_or_insert_with(|| "default".into());
    if let Some(id) = resume {
        if !StateFolder::exists(id) {
            return Err(Refused(vec![format!("--resume {id}: there is no such aborted recording on this machine")]));
        }
        metadata.uid = Some(id.to_owned());
    }
    metadata.uid.get_or_insert_with(|| uuid::Uuid::new_v4().to_string());
    Ok(())
}

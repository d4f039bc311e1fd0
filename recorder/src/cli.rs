//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use recording_crds::paths;

/// Records one room into a storage. Without a subcommand not started by hand: recording-operator runs it, in a pod or, with
/// `recording-operator local`, as a process; what to record stands in the job file.
#[derive(Debug, Parser)]
#[command(name = "recorder", version, long_version = long_version().leak() as &'static str, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The job; watched, orders come by it.
    #[arg(long, value_name = "PATH", default_value = paths::JOB)]
    pub(crate) job: PathBuf,
    /// Where media waits for storage; a restarted recorder goes on from here.
    #[arg(long, value_name = "DIR", default_value = paths::SPOOL)]
    pub(crate) spool: PathBuf,
    /// Where /metrics, /healthz, /readyz and /v1/report are served; `none`: nowhere.
    #[arg(long, value_name = "ADDR", default_value_t = format!("0.0.0.0:{}", paths::PORT))]
    pub(crate) listen: String,
    /// Where the final report is written.
    #[arg(long, value_name = "PATH", default_value = paths::TERMINATION_LOG)]
    pub(crate) termination_log: PathBuf,
    /// Images of a layout may lie on private addresses: the cluster's own, too. Link-local ones are never asked.
    #[arg(long)]
    pub(crate) allow_private_images: bool,
    #[arg(long, value_enum, default_value_t = LogFormat::Json)]
    pub(crate) log: LogFormat,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Verify(crate::verify::Options),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Human,
    Json,
}

fn long_version() -> String {
    format!("{}\n{}", env!("CARGO_PKG_VERSION"), recorder_codec::versions())
}

/// Levels by RUST_LOG; the libraries below us speak only when something is wrong.
pub(crate) fn start_logging(format: LogFormat) {
    let levels = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,recorder=info,webrtc=error,rtc=error"));
    let logs = tracing_subscriber::fmt().with_env_filter(levels).with_writer(std::io::stderr);
    match format {
        LogFormat::Human => logs.with_target(false).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
}

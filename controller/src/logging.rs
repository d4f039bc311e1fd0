//! Log lines: for people by default, JSON where something collects them.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Human,
    Json,
}

/// Sends logs to standard error; `RUST_LOG` overrides the default level `info`. A second call changes nothing.
pub fn install(format: Format) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let installed = match format {
        Format::Human => lines.try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    // Only fails when a subscriber is there already, which then logs.
    installed.ok();
}

//! `recording-operator`: see `recording_controller::cli` for what each command does.

use clap::Parser;
use recording_controller::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    Cli::parse().execute()
}

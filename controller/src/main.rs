//! `recording-operator`: see `recording_controller::cli` for what each command does.

use clap::Parser;
use recording_controller::cli::Cli;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    Cli::parse().execute()
}

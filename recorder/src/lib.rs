//! `recorder`: joins one room, records it, stores it. The I/O shell around recorder-media; its loop is in `driver`.
//!
//! A library only so that fuzz targets reach what reads foreign bytes (`fuzzing`) and benchmarks what receives (`receive`): nothing but [`main`] is
//! meant for programs.

mod audio;
mod cli;
mod compose;
mod connect;
mod credentials;
mod driver;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod images;
mod job;
mod manifest;
mod metrics;
mod outcome;
#[doc(hidden)]
pub mod receive;
mod replay;
mod report;
mod spool;
mod start;
mod stills;
mod store;
mod timeline;
mod transcode;
mod uploader;
mod verify;
mod wall;

use std::process::ExitCode;

use clap::Parser;

/// Threads for file access end when they have had nothing to do for so long: tokio's 10 s is longer than the time between two segments,
/// and a room's worst moment would decide for ever how many there are.
const BLOCKING_THREAD_IDLE: std::time::Duration = std::time::Duration::from_secs(1);

/// The whole program.
pub fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    cli::start_logging(if cli.command.is_some() { cli::LogFormat::Human } else { cli.log });
    let code = match runtime() {
        Ok(runtime) => {
            let code = match &cli.command {
                None => runtime.block_on(start::run(&cli)),
                Some(cli::Command::Verify(options)) => runtime.block_on(verify::run(options)),
            };
            // What is still under way is of no use to anybody: the result is written.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            tracing::error!(%error, "failed to start");
            recording_crds::exit::CANNOT_WRITE_RESULT
        }
    };
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

/// The event loop has the main thread, the network another: sound is encoded while packets are taken in, and no third thread is woken for what
/// two do.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().thread_keep_alive(BLOCKING_THREAD_IDLE).build()
}

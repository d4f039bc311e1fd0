//! `recorder`: joins one room, records it, stores it. The I/O shell around recorder-media; its loop is in `driver`.

mod audio;
mod cli;
mod connect;
mod credentials;
mod driver;
mod http;
mod job;
mod manifest;
mod metrics;
mod outcome;
mod report;
mod spool;
mod start;
mod store;
mod uploader;
mod wall;

use clap::Parser;

fn main() -> std::process::ExitCode {
    let cli = cli::Cli::parse();
    cli::start_logging(cli.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let code = match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(start::run(&cli));
            // What is still under way is of no use to anybody: the result is written.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            tracing::error!(%error, "failed to start");
            recording_crds::exit::CANNOT_WRITE_RESULT
        }
    };
    std::process::ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

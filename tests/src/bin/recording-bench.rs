//! `make bench`, one step at a time: scripts/bench.sh says in which order.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use recording_tests::bench::{Measured, Plan, Subject, measure, table};
use recording_tests::load::Stimulus;

#[derive(Parser)]
struct Cli {
    /// One JSON object a line for each run.
    #[arg(long, default_value = "target/bench/runs.jsonl")]
    runs: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes what all runs send, and tells where it is: names of files without `.h264` and `.ogg`.
    Prepare {
        #[command(flatten)]
        camera: Camera,
    },
    /// Measures one subject once.
    Run {
        subject: Subject,
        #[arg(long, default_value_t = 1)]
        participants: u32,
        /// Length of the window over which figures are taken.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        #[command(flatten)]
        camera: Camera,
    },
    /// Prints the medians of all runs.
    Table,
}

/// What everybody sends.
#[derive(clap::Args)]
struct Camera {
    #[arg(long, default_value_t = 1280)]
    width: u32,
    #[arg(long, default_value_t = 720)]
    height: u32,
    #[arg(long, default_value_t = 30)]
    fps: u32,
    #[arg(long, default_value_t = 1800)]
    kbps: u32,
}

impl Camera {
    fn stimulus(&self) -> Stimulus {
        let &Self { width, height, fps, kbps } = self;
        Stimulus { width, height, frames_per_second: fps, kbps: Some(kbps), ..Stimulus::CAMERA_720P30 }
    }
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Command::Prepare { camera } => {
            println!("{}", camera.stimulus().media()?.prefix.display());
            Ok(())
        }
        Command::Run { subject, participants, seconds, camera } => {
            let plan = Plan { subject, participants, window: Duration::from_secs(seconds), stimulus: camera.stimulus() };
            let line = serde_json::to_string(&measure(plan)?)?;
            println!("{line}");
            let mut file = OpenOptions::new().create(true).append(true).open(&cli.runs).with_context(|| cli.runs.display().to_string())?;
            Ok(writeln!(file, "{line}")?)
        }
        Command::Table => {
            let text = std::fs::read_to_string(&cli.runs).with_context(|| cli.runs.display().to_string())?;
            let runs = text.lines().map(serde_json::from_str).collect::<Result<Vec<Measured>, _>>()?;
            print!("{}", table::markdown(&runs));
            Ok(())
        }
    }
}

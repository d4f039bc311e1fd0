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
    /// Makes what all runs send.
    Prepare,
    /// Measures one subject once.
    Run {
        subject: Subject,
        #[arg(long, default_value_t = 1)]
        participants: u32,
        /// Length of the window over which figures are taken.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// Prints the medians of all runs.
    Table,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Command::Prepare => Stimulus::CAMERA_720P30.media().map(drop),
        Command::Run { subject, participants, seconds } => {
            let plan = Plan { subject, participants, window: Duration::from_secs(seconds), stimulus: Stimulus::CAMERA_720P30 };
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

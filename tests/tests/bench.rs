//! The benchmarks' own smoke tests, so that they do not rot: short runs of our recorder. What it costs is judged by `make bench`.

use anyhow::{Context, Result, ensure};
use recording_tests::bench::{Plan, Subject, measure, table};
use recording_tests::load::Stimulus;
use std::time::Duration;

/// Far above what a recorder of two people takes on any machine; a leak or a spin is above it.
const CPU_AT_MOST: f64 = 0.5;
const RSS_MIB_AT_MOST: f64 = 200.0;

#[test]
fn a_short_run_gives_figures_for_every_column() -> Result<()> {
    let plan = Plan {
        subject: Subject::Recorder,
        participants: 2,
        window: Duration::from_secs(5),
        stimulus: Stimulus { width: 640, height: 360, kbps: Some(500), ..Stimulus::CAMERA_720P30 },
    };
    let measured = measure(plan)?;
    let table = table::markdown(std::slice::from_ref(&measured));
    println!("{table}");
    ensure!(measured.cpu_per_media_second > 0.0 && measured.cpu_per_media_second < CPU_AT_MOST, "{measured:?}");
    ensure!(measured.peak_rss_anon_mib > 1.0 && measured.peak_rss_mib < RSS_MIB_AT_MOST, "{measured:?}");
    let first = measured.first_packet_seconds.context("the time to the first packet")?;
    ensure!(first > 0.0 && first < 10.0, "{measured:?}");
    ensure!(table.contains("| recorder (TS, AAC) | 2 | 1 |"), "{table}");
    Ok(())
}

/// What `make bench-composite` takes off; the run itself fails if much of what was sent did not arrive.
#[test]
fn receiving_alone_is_measured() -> Result<()> {
    let stimulus = Stimulus { width: 640, height: 360, kbps: Some(500), ..Stimulus::CAMERA_720P30 };
    let measured = measure(Plan { subject: Subject::Receiving, participants: 2, window: Duration::from_secs(3), stimulus })?;
    ensure!(measured.cpu_per_media_second > 0.0 && measured.cpu_per_media_second < CPU_AT_MOST, "{measured:?}");
    ensure!(measured.first_packet_seconds.is_none(), "nothing is stored: {measured:?}");
    Ok(())
}

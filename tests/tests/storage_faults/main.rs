//! Storage that misbehaves while a real recording goes on, and then recovers: nothing is lost, nothing is said that is not so, and memory
//! does not grow with what waits.
//!
//! `table` says what goes wrong and how it must show; cases run side by side, each with a recording, a bucket and a proxy of its own.

mod aftermath;
mod death;
mod fence;
mod moments;
mod recording;
mod spool;
mod successor;
mod table;

use anyhow::{Result, ensure};
use recording::Kind;
use recording_tests::cases::{self, Case};
use recording_tests::harness::s3::S3;
use std::process::ExitCode;
use table::{Fault, Trouble};

/// Cases wait most of the time.
const AT_ONCE: usize = 6;

fn main() -> ExitCode {
    let troubles = table::TROUBLES.iter().map(|trouble| -> Case<S3> { (trouble.name, Box::new(|s3| survives(trouble, s3))) });
    let full: Case<S3> = ("spool-full", Box::new(spool::fills));
    let unlisted: Case<S3> = ("listing-refused", Box::new(successor::goes_on_unlisted));
    let away: Case<S3> = ("composed-away", Box::new(|s3| is_away("composed-away", s3)));
    let pairs = [
        both(["fenced", "composed-fenced"], fence::older_attempt),
        both(["behind-the-manifest", "composed-behind-the-manifest"], successor::lists),
        both(["killed-while-away", "composed-killed-while-away"], is_killed),
    ];
    let deaths = moments::DEATHS.iter().map(|(individual, composed, moment, left)| {
        both([individual, composed], |name, kind, s3| moments::dies(name, kind, *moment, *left, s3))
    });
    cases::run(AT_ONCE, S3::start, troubles.chain([full, unlisted, away]).chain(pairs.into_iter().chain(deaths).flatten()))
}

/// A case for a recording of each kind, by its name.
fn both(names: [&'static str; 2], case: impl Fn(&'static str, Kind, &S3) -> Result<()> + Copy + Send + 'static) -> [Case<S3>; 2] {
    let of = |name, kind| -> Case<S3> { (name, Box::new(move |s3| case(name, kind, s3))) };
    [of(names[0], Kind::Individual), of(names[1], Kind::Composite)]
}

/// What waits for storage and what was received last outlive the recorder.
fn is_killed(name: &'static str, kind: Kind, s3: &S3) -> Result<()> {
    let mut recording = recording::Recording::start(s3, name, kind)?;
    recording.watched(s3, |recording| {
        recording.wait_for_segments(2)?;
        recording.proxy.go_away();
        recording.wait_for_backlog(8)?;
        let recorded = recording.recorded_seconds()?;
        recording.kill()?;
        recording.proxy.come_back();
        recording.wait_for_recorded(recorded + 6)?;
        recording.recovers()
    })?;
    recording.ends_whole_but_for_a_restart(s3)
}

/// One picture of everybody waits in the spool like everything else.
fn is_away(name: &'static str, s3: &S3) -> Result<()> {
    let mut recording = recording::Recording::start(s3, name, Kind::Composite)?;
    recording.watched(s3, |recording| {
        recording.wait_for_segments(2)?;
        recording.proxy.go_away();
        recording.wait_for_backlog(8)?;
        recording.proxy.come_back();
        recording.recovers()
    })?;
    recording.ends_whole(s3)
}

/// A fault begins, is told while it lasts, ends, and has cost nothing.
fn survives(trouble: &Trouble, s3: &S3) -> Result<()> {
    let mut recording = recording::Recording::start(s3, trouble.name, Kind::Individual)?;
    recording.watched(s3, |recording| {
        recording.wait_for_segments(2)?;
        let before = recording.memory_kb()?;
        match trouble.fault {
            Fault::Away => recording.proxy.go_away(),
            Fault::Of(fault) => recording.proxy.inflict(fault, trouble.on),
        }
        let peak = recording.endures(trouble)?;
        match trouble.fault {
            Fault::Away => recording.proxy.come_back(),
            Fault::Of(_) => recording.proxy.heal(),
        }
        println!("{}: {before} kB before, {peak} kB at most", trouble.name);
        ensure!(peak <= before + table::GROWTH_KB, "memory grew from {before} to {peak} kB");
        recording.recovers()?;
        recording.wait_for_segments(1)
    })?;
    recording.ends_whole(s3)
}

//! A recorder is killed at seeded moments, once with its spool left and once without: the table of what that costs is a golden file.

use super::bucket::Mood;
use super::endings::read_back;
use super::play::Play;
use super::support::Lcg;
use super::world::{Start, World};
use recorder_media::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const MOMENTS: u64 = 40;
/// A container is started again, a pod is made anew: both within this.
const AWAY_US: u64 = 2_000_000;
const SEGMENT_SECONDS: u32 = 6;
/// ARCHITECTURE.md, endings and restarts: the first crash.
const MOST_WITH_SPOOL_S: f64 = 6.0;
/// And one segment more without a spool, and what storage takes for the segment, the playlist and the manifest, at most.
const MOST_WITHOUT_S: f64 = SEGMENT_SECONDS as f64 + 6.0;
const REQUESTS: f64 = 3.0;
/// Of the camera's first picture behind it, and of the sound that a segment ends with.
const STATED_WITHIN_S: f64 = 1.5;
/// The network, events that are taken together, and a picture whose end has not been seen.
const NOT_RECEIVED_US: u64 = 350_000;

#[derive(Debug)]
struct Outcome {
    hole_s: f64,
    /// As the manifest says.
    stated_s: f64,
    discontinuities: usize,
    playlists: usize,
    lost: usize,
    recorded: bool,
    /// Capture of the last picture before the hole.
    kept_until: u64,
    /// The longest that storage takes for a request.
    request_s: f64,
    /// Of the first behind it.
    back_from: u64,
}

/// One person with camera and microphone; storage and spool are as quick or slow as the seed says.
fn room(seed: u64) -> (Play, u64) {
    let mut rng = Lcg(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x901d);
    (0..4).for_each(|_| _ = rng.next());
    let config = Config { segment_seconds: SEGMENT_SECONDS, ..super::play::play_config(false) };
    let mut world = World::new(rng.next(), config);
    world.primary.mood = Mood { delay_us: [20_000, 150_000, 600_000][rng.below(3) as usize], ..Mood::WELL };
    let lag = [1_000, 20_000, 300_000][rng.below(3) as usize];
    let now = world.now;
    world.start_at(now, Start { attempt: 1, disk: None });
    world.run_ms(10);
    world.processes[0].disk_lag_us = lag;
    let mut play = Play::of(world, rng);
    play.world.join(0);
    play.publish_h264(0);
    play.publish_as(0, Source::Microphone);
    let moment = play.world.now + 8_000_000 + play.rng.below(24_000_000);
    (play, moment)
}

fn kill(seed: u64, with_spool: bool) -> (u64, Outcome) {
    let (mut play, moment) = room(seed);
    let world = &mut play.world;
    world.run_until(moment);
    let disk = world.kill(0);
    let start = if with_spool { Start { attempt: 1, disk: Some(disk) } } else { Start { attempt: 2, disk: None } };
    world.start_at(moment + AWAY_US, start);
    world.run_ms(25_000);
    let request_s = world.primary.mood.delay_us as f64 * 2.0 / 1e6;
    play.harmed = !with_spool;
    play.end();
    (moment, Outcome { request_s, ..outcome(&play) })
}

fn outcome(play: &Play) -> Outcome {
    let world = &play.world;
    let process = &world.processes[world.newest().expect("a recorder")];
    let manifest = process.session.manifest();
    let mut pictures: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    manifest.playlists.iter().for_each(|playlist| read_back(manifest, playlist, world, &mut pictures));
    let camera = *pictures.keys().next().expect("pictures");
    let captured = &world.captured[&camera];
    let stored = pictures[&camera].iter().map(|n| captured[(n - camera * 10_000) as usize]);
    // Nothing may be stored of what came before.
    let times: Vec<u64> = [captured[0]].into_iter().chain(stored).collect();
    let hole = times.windows(2).max_by_key(|pair| pair[1] - pair[0]).expect("pictures");
    let texts: Vec<&str> = world.primary.playlists().map(|(_, text)| text).collect();
    let stated = manifest.gaps.iter().filter(|gap| gap.reason == GapReason::RecorderRestarted).map(|gap| gap.duration90k).sum::<i64>();
    let hole_s = (hole[1] - hole[0]) as f64 / 1e6;
    Outcome {
        hole_s,
        stated_s: stated as f64 / 9e4,
        discontinuities: texts.iter().map(|text| text.matches("#EXT-X-DISCONTINUITY").count()).sum(),
        playlists: texts.len(),
        lost: manifest.ledger.iter().filter(|entry| entry.lost).count(),
        recorded: process.finished == Some(recorder_media::Outcome::StopRequested),
        kept_until: hole[0],
        request_s: 0.0,
        back_from: hole[1],
    }
}

fn row(table: &mut String, wrong: &mut Vec<String>, seed: u64) {
    let (moment, spool) = kill(seed, true);
    let (_, storage) = kill(seed, false);
    for (what, outcome, most) in [("spool", &spool, MOST_WITH_SPOOL_S), ("storage", &storage, MOST_WITHOUT_S)] {
        let most = if what == "spool" { most } else { most + REQUESTS * outcome.request_s };
        let is_there = outcome.kept_until <= moment && moment <= outcome.back_from;
        let is_stated = (outcome.stated_s - outcome.hole_s).abs() < STATED_WITHIN_S;
        if outcome.hole_s > most || !is_there || !is_stated || !outcome.recorded || outcome.playlists != 1 {
            wrong.push(format!("seed {seed}, {what}, killed at {moment}: {outcome:?}"));
        }
    }
    if spool.kept_until + NOT_RECEIVED_US < moment || spool.discontinuities != 1 || spool.lost > 0 {
        wrong.push(format!("seed {seed}, killed at {moment}: not all that was received is there: {spool:?}"));
    }
    let moment_s = moment as f64 / 1e6;
    let columns = |of: &Outcome| format!("{:>6.1} {:>14} {:>9} {:>4}", of.hole_s, of.discontinuities, of.playlists, of.lost);
    let line = format!("{seed:>4} {moment_s:>9.3}   {}   {}", columns(&spool), columns(&storage));
    writeln!(table, "{line}").expect("a string takes all");
}

#[test]
fn golden_table_of_moments_and_outcomes() {
    let columns = "  hole discontinuity playlists lost";
    let mut table = format!(
        "Killed at a moment (s), back after 2 s: hole (s), discontinuities, playlists, segments lost.\n{:17}{:38}{}\n",
        "", "on the spool", "on storage alone"
    );
    writeln!(table, "seed    moment   {columns}   {columns}").expect("a string takes all");
    let mut wrong = Vec::new();
    (0..MOMENTS).for_each(|seed| row(&mut table, &mut wrong, seed));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/simulation/golden.txt");
    if std::env::var("SIMULATION_GOLDEN").is_ok_and(|what| what == "write") {
        std::fs::write(path, &table).expect("written");
    }
    assert!(wrong.is_empty(), "{}\n{table}", wrong.join("\n"));
    assert_eq!(table, std::fs::read_to_string(path).unwrap_or_default(), "SIMULATION_GOLDEN=write writes it anew");
}

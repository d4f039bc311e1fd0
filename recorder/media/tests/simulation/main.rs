//! The world in which a recorder lives, simulated: a room, its network, spools, storages, clocks, crashes, a second recorder. Everything
//! follows from a seed. Invariants of storage hold at every write, those of each recorder after every step, those of the recording at its
//! end.
//!
//! ```text
//! SIMULATION_SEED=17 cargo test --release -p recorder-media --test simulation seeded_rooms     one seed
//! SIMULATION_SEEDS=100000 cargo test --release -p recorder-media --test simulation seeded_rooms    so many
//! SIMULATION_GOLDEN=write cargo test --release -p recorder-media --test simulation golden      golden.txt anew
//! ```

#[allow(unreachable_pub, missing_debug_implementations, dead_code)] // shared: every test file uses its own part
#[path = "../support/mod.rs"]
mod support;

#[allow(unreachable_pub, missing_debug_implementations)]
mod bucket;
#[allow(unreachable_pub, missing_debug_implementations)]
mod disk;
#[allow(unreachable_pub, missing_debug_implementations)]
mod endings;
#[allow(unreachable_pub, missing_debug_implementations)]
mod golden;
#[allow(unreachable_pub, missing_debug_implementations)]
mod invariants;
#[allow(unreachable_pub, missing_debug_implementations)]
mod numbers;
#[allow(unreachable_pub, missing_debug_implementations)]
mod play;
#[allow(unreachable_pub, missing_debug_implementations)]
mod recorder;
mod room;
#[allow(unreachable_pub, missing_debug_implementations)]
mod uploads;
#[allow(unreachable_pub, missing_debug_implementations)]
mod world;

use play::Play;
use std::panic::{AssertUnwindSafe, catch_unwind};

const SEEDS: u64 = 1_000;
const STEPS: u32 = 14;
/// Failing seeds that are printed before a run ends.
const FAILURES_SHOWN: usize = 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn run(seed: u64) -> Play {
    let mut play = Play::new(seed);
    play.trace = number("SIMULATION_SEED").is_some();
    for _ in 0..STEPS {
        if play.world.is_over() {
            break;
        }
        play.step();
    }
    play.end();
    play
}

#[test]
fn seeded_rooms_keep_every_invariant() {
    if let Some(seed) = number("SIMULATION_SEED") {
        run(seed);
        return;
    }
    let first = number("SIMULATION_FIRST").unwrap_or(0);
    let mut failed = Vec::new();
    let (mut kills, mut takeovers, mut forgotten, mut between, mut lost, mut collided) = (0, 0, 0, 0, 0, 0);
    let mut media_s = 0;
    for seed in first..first + number("SIMULATION_SEEDS").unwrap_or(SEEDS) {
        match catch_unwind(AssertUnwindSafe(|| run(seed))) {
            Ok(play) => {
                (kills, takeovers) = (kills + play.kills, takeovers + play.takeovers);
                (forgotten, between) = (forgotten + play.world.watched.forgotten, between + play.world.watched.between);
                collided += play.world.watched.collided.len();
                media_s += play.world.now / 1_000_000;
                let newest = play.world.newest().map(|i| play.world.processes[i].session.manifest());
                lost += newest.map_or(0, |manifest| manifest.ledger.iter().filter(|entry| entry.lost).count());
            }
            Err(_) => {
                println!("seed {seed} fails: SIMULATION_SEED={seed} cargo test --release -p recorder-media --test simulation seeded_rooms");
                failed.push(seed);
            }
        }
        if failed.len() >= FAILURES_SHOWN {
            break;
        }
    }
    println!(
        "{media_s} s of rooms, {kills} kills, {takeovers} takeovers; {lost} segments lost, {forgotten} forgotten, {collided} collided, {between} playlists between"
    );
    assert!(failed.is_empty(), "seeds that fail: {failed:?}");
}

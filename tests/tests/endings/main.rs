//! Every ending of a recording, with real servers and processes: the right code, number, component and remedy, a true status, exit status
//! and termination message; what was stored can be played, the manifest says what is missing, and nobody reads a secret.
//!
//! `table` says what each ending must give; the acts that bring them about run side by side, each in a room and a bucket of its own.

mod attempts;
mod connection;
mod judge;
mod orders;
mod room;
mod scene;
mod storage;
mod table;
mod token;

use scene::{Scene, World};
use std::process::ExitCode;
use table::Ending;

/// Cases wait for people and time-outs most of the time: so many keep two cores busy and still meet their deadlines.
const AT_ONCE: usize = 8;

fn main() -> ExitCode {
    let cases =
        table::ENDINGS.iter().map(|ending| -> recording_tests::cases::Case<World> { (ending.name, Box::new(|world| run(ending, world))) });
    recording_tests::cases::run(AT_ONCE, World::start, cases)
}

fn run(ending: &Ending, world: &World) -> anyhow::Result<()> {
    let mut scene = Scene::new(world, ending.name)?;
    let over = (ending.act)(&mut scene)?;
    judge::judge(ending, &scene, &over)
}

//! Cases that run side by side on shared servers, each a test of its own.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};

/// A case's name, and the case.
pub type Case<W> = (&'static str, Box<dyn FnOnce(&W) -> Result<()> + Send>);

/// A test program's `main`: starts the servers, runs the cases, `at_once` of them at a time if not told otherwise, and stops the servers.
pub fn run<W: Send + Sync + 'static>(at_once: usize, start: impl FnOnce() -> Result<W>, cases: impl Iterator<Item = Case<W>>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(arguments.test_threads.unwrap_or(at_once));
    let world = match if arguments.list { Ok(None) } else { start().map(Some) } {
        Ok(world) => world.map(Arc::new),
        Err(error) => {
            eprintln!("error: {error:?}");
            return ExitCode::FAILURE;
        }
    };
    let trials = cases.map(|case| trial(case, world.clone())).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    // The servers stop with the last of these.
    drop(world);
    conclusion.exit_code()
}

fn trial<W: Send + Sync + 'static>((name, case): Case<W>, world: Option<Arc<W>>) -> Trial {
    Trial::test(name, move || {
        let world = world.as_ref().ok_or("no servers")?;
        // The thread's name is where the logs go.
        let outcome = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name(name.to_owned()).spawn_scoped(scope, || case(world))?;
            thread.join().map_err(|_| anyhow!("it panicked"))?
        });
        outcome.map_err(|error| Failed::from(format!("{error:?}")))
    })
}

//! What receiving alone costs: this program's own way into a room, and nothing behind it. Benchmarks take it off what recording costs; nothing
//! here is for programs.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use recorder_media::Input;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::cli::{self, Cli};
use crate::connect::{ConnectOrder, Event, Stamped};
use crate::driver::TAKE_EVERY;
use crate::{job, start};

/// Joins the room of `--job`, subscribes to everything and drops it as the driver would take it, until SIGTERM. When the last one has left it
/// says on standard output how much there was.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    cli::start_logging(cli.log);
    let ended = crate::runtime().context("failed to start").and_then(|runtime| runtime.block_on(run(&cli)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: &Cli) -> Result<()> {
    let job = job::read(&cli.job)?;
    let connector = start::connector(&job).map_err(|failure| anyhow::anyhow!(failure.message))?;
    let (orders, mut events, cancel) = start::join(connector);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut taken = Taken::default();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => taken.event(event, &orders),
                None => break,
            },
            _ = terminate.recv() => break,
        }
        for _ in 0..events.len() {
            let Ok(event) = events.try_recv() else { break };
            taken.event(event, &orders);
        }
        // The driver, too, is not woken for each packet.
        tokio::time::sleep(TAKE_EVERY).await;
    }
    cancel.cancel();
    Ok(())
}

#[derive(Debug, Default)]
struct Taken {
    people: usize,
    packets: u64,
    /// Payload.
    bytes: u64,
}

impl Taken {
    fn event(&mut self, event: Stamped<Event>, orders: &mpsc::Sender<ConnectOrder>) {
        let Event::Media(input) = event.value else { return };
        match input {
            Input::Joined { .. } => self.people += 1,
            Input::Left { .. } => {
                self.people -= 1;
                if self.people == 0 {
                    println!(r#"{{"receivedPackets":{},"receivedBytes":{}}}"#, self.packets, self.bytes);
                }
            }
            Input::Published { track, .. } => {
                let subscribed = orders.try_send(ConnectOrder::Subscribe { track, wanted: true });
                subscribed.unwrap_or_else(|_| tracing::error!(track = track.0, "not subscribed: the connector has no time"));
            }
            Input::Packet { packet, .. } => {
                self.packets += 1;
                self.bytes += packet.payload.len() as u64;
            }
            _ => {}
        }
    }
}

//! The one event loop: everything that happens goes into the session, everything the session wants is carried out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use recorder_media::{Input, OpId, Order, Outcome, Output, Session, State, StopReason, Tick, TrackKey};
use recording_crds::job::Job;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::audio::AudioChains;
use crate::connect::{ConnectOrder, EndReason, Event, Stamped};
use crate::credentials::TokenFile;
use crate::manifest::{self, Identity};
use crate::metrics::Metrics;
use crate::report::{self, Publisher};
use crate::spool::Spool;
use crate::uploader::Uploader;
use crate::{job, outcome};

/// How often the report is brought up to date when nothing calls for it.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// After SIGTERM: what is not stored by then stays in the spool and the next attempt goes on (pods get 50 s).
const INTERRUPTED_GRACE: Duration = Duration::from_secs(40);
/// Events taken at once before the session is drained and the other sources are looked at.
const EVENTS_AT_ONCE: usize = 256;

/// How the loop ended.
#[derive(Debug)]
pub(crate) enum Ending {
    Finished {
        outcome: Outcome,
        reason: Option<EndReason>,
    },
    /// SIGTERM, and the grace is over or a second signal came.
    Abandoned,
    Failed(String),
}

/// Where inputs come from.
#[derive(Debug)]
pub(crate) struct Sources {
    pub(crate) events: mpsc::Receiver<Stamped<Event>>,
    pub(crate) jobs: mpsc::Receiver<Job>,
    pub(crate) results: mpsc::UnboundedReceiver<Input>,
}

pub(crate) struct Driver {
    pub(crate) session: Session,
    /// Tick 0.
    pub(crate) origin: Instant,
    pub(crate) identity: Identity,
    pub(crate) spool: Spool,
    pub(crate) uploader: Uploader,
    pub(crate) orders: mpsc::Sender<ConnectOrder>,
    pub(crate) token: Option<TokenFile>,
    pub(crate) publisher: Publisher,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) state: Progress,
}

/// What the loop itself remembers.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    audio: AudioChains,
    now: Tick,
    /// Segments that have a file: a new one is a reason to save the state.
    open: HashSet<String>,
    /// Published end-to-end encrypted.
    encrypted: HashSet<TrackKey>,
    uploads: HashMap<OpId, (String, Instant)>,
    end_reason: Option<EndReason>,
    left: bool,
    interrupted: Option<Instant>,
    ending: Option<Ending>,
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Driver {
    /// Until the session has finished; returns its last report with how.
    pub(crate) async fn run(mut self, mut sources: Sources) -> (Ending, recorder_media::Report) {
        let mut terminate = match Terminate::new() {
            Ok(terminate) => terminate,
            Err(error) => return (Ending::Failed(format!("failed to listen for signals: {error}")), self.session.report()),
        };
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut batch = Vec::with_capacity(EVENTS_AT_ONCE);
        let mut joined = true;
        self.drain();
        while self.state.ending.is_none() {
            let wake = self.wake_at();
            tokio::select! {
                count = sources.events.recv_many(&mut batch, EVENTS_AT_ONCE), if joined => {
                    joined = count > 0;
                    batch.drain(..).for_each(|event| self.event(event));
                }
                Some(result) = sources.results.recv() => self.result(result),
                Some(job) = sources.jobs.recv() => self.job(&job),
                () = terminate.next() => self.terminate(),
                () = tokio::time::sleep_until(wake.into()) => self.handle(Instant::now(), Input::Wake),
                _ = heartbeat.tick() => self.heartbeat(),
            }
            self.publisher.turned();
        }
        self.show();
        (self.state.ending.take().unwrap_or(Ending::Abandoned), self.session.report())
    }

    /// Never in the past of an input before: events carry their arrival, which may lie behind a timer that fired since.
    fn handle(&mut self, at: Instant, input: Input) {
        let tick = Tick(u64::try_from(at.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX));
        self.state.now = self.state.now.max(tick);
        self.session.handle(self.state.now, input);
        self.drain();
    }

    fn wake_at(&self) -> Instant {
        let idle = Instant::now() + HEARTBEAT;
        let wake = self.session.next_wake().map(|tick| self.origin + Duration::from_micros(tick.0));
        wake.map_or(idle, |wake| wake.min(idle))
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Audio { playlist, op } => match self.state.audio.run(playlist, op) {
                Ok(frames) => self.session.handle(self.state.now, Input::AudioEncoded { playlist, frames }),
                Err(error) => self.state.ending = Some(Ending::Failed(format!("the sound cannot be encoded: {error}"))),
            },
            Output::Append { segment: _, name, data } => {
                let new = self.state.open.insert(name.clone());
                self.spool.append(name, data);
                if new {
                    self.save_state();
                }
            }
            Output::CloseSegment { op, segment: _, name } => {
                self.state.open.remove(&name);
                self.spool.close(op, name);
            }
            Output::Upload { op, segment: _, name, entry } => {
                self.uploader.upload(op, self.spool.path(&name), entry);
                self.state.uploads.insert(op, (name, Instant::now()));
            }
            Output::PutPlaylist { op, name, body } => self.uploader.put_playlist(op, name, body),
            Output::PutManifest { op } => {
                self.uploader.put_manifest(op, manifest::render(&self.identity, self.session.manifest()));
            }
            Output::RequestKeyframe { track } => self.order(ConnectOrder::RequestKeyframe(track)),
            Output::ReportChanged => self.show(),
            Output::Finished(outcome) => {
                let reason = self.state.end_reason.take();
                self.state.ending = Some(Ending::Finished { outcome, reason });
            }
        }
    }

    /// A request that finds no room is repeated by the session if it still matters.
    fn order(&self, order: ConnectOrder) {
        if self.orders.try_send(order).is_err() {
            tracing::debug!("the connector takes no orders");
        }
    }

    fn event(&mut self, event: Stamped<Event>) {
        match event.value {
            Event::Media(input) => self.handle(event.at, input),
            Event::Encrypted(track) => {
                tracing::warn!("a track is end-to-end encrypted and is not recorded");
                self.state.encrypted.insert(track);
            }
            Event::Stats(stats) => self.metrics.connector(&stats),
            Event::Ended(reason) => {
                tracing::info!(?reason, "the connection has ended");
                let stop = outcome::stop_for(&reason);
                self.state.end_reason = Some(reason);
                if let Some(stop) = stop {
                    self.handle(event.at, Input::Order(Order::Stop(stop)));
                }
            }
        }
    }

    fn result(&mut self, result: Input) {
        let closed = matches!(result, Input::SegmentClosed { .. });
        let mut stored = None;
        if let Input::Uploaded { op, result } = &result
            && let Some((name, since)) = self.state.uploads.remove(op)
        {
            match result {
                Ok(_) => {
                    self.metrics.uploaded(since.elapsed());
                    stored = Some(name);
                }
                Err(error) => tracing::warn!(?error, "storage did not take a segment"),
            }
        }
        self.handle(Instant::now(), result);
        if closed || stored.is_some() {
            // Before the file goes: a restart must know that storage has it.
            self.save_state();
        }
        if let Some(name) = stored {
            self.spool.remove(name);
        }
    }

    fn save_state(&self) {
        self.spool.save_state(manifest::render(&self.identity, self.session.manifest()));
    }

    fn job(&mut self, job: &Job) {
        tracing::info!(generation = job.generation, desired_state = ?job.desired_state, "a job is in force");
        for order in job::orders(job) {
            self.handle(Instant::now(), Input::Order(order));
        }
        self.publisher.update(|report| report.generation = job.generation);
    }

    fn terminate(&mut self) {
        if self.state.interrupted.is_some() {
            self.state.ending = Some(Ending::Abandoned);
            return;
        }
        tracing::info!("interrupted: closing the segment; another attempt goes on");
        self.state.interrupted = Some(Instant::now());
        self.handle(Instant::now(), Input::Order(Order::Stop(StopReason::Interrupted)));
    }

    fn heartbeat(&mut self) {
        if let Some(full) = self.spool.turned() {
            tracing::warn!(full, used = self.spool.used(), "the spool's state changed");
            self.handle(Instant::now(), Input::SpoolFull(full));
        }
        if let Some(token) = self.token.as_mut().and_then(TokenFile::changed) {
            self.order(ConnectOrder::TokenChanged(token));
        }
        if self.state.interrupted.is_some_and(|since| since.elapsed() > INTERRUPTED_GRACE) {
            self.state.ending = Some(Ending::Abandoned);
        }
        self.show();
    }

    /// Brings the report up to date; leaves the room once the session is done with it.
    fn show(&mut self) {
        let session = self.session.report();
        if matches!(session.state, State::Draining | State::Finished) && !self.state.left {
            self.state.left = true;
            self.order(ConnectOrder::Leave);
        }
        self.metrics.session(&session, self.session.manifest(), self.spool.used());
        let encrypted = !self.state.encrypted.is_empty();
        self.publisher.update(|report| report::fill(report, &session, encrypted));
    }
}

/// SIGTERM; SIGINT is left to the parent of a local run, which writes it into the job.
#[derive(Debug)]
struct Terminate {
    terminate: Signal,
    ignored: Signal,
}

impl Terminate {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, ignored: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.ignored.recv() => {}
            }
        }
    }
}

//! The one event loop: everything that happens goes into the session, everything the session wants is carried out.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use recorder_media::{Input, OpId, Order, Outcome, Output, Removal, Session, State, StopReason, Tick, TrackKey};
use recording_crds::job::Job;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::audio::AudioChains;
use crate::connect::{ConnectOrder, EndReason, Event, Stamped};
use crate::credentials::ChannelFiles;
use crate::images::Images;
use crate::manifest::{self, Identity};
use crate::metrics::Metrics;
use crate::replay::Numbers;
use crate::report::{self, Publisher};
use crate::spool::Spool;
use crate::spool::journal::{Intake, Journal};
use crate::stills::Stills;
use crate::timeline::Timeline;
use crate::transcode::Transcoders;
use crate::uploader::Uploader;
use crate::{job, outcome};

/// How often the report is brought up to date when nothing calls for it.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// After SIGTERM: what is not stored by then stays in the spool and the next attempt goes on (pods get 50 s).
const INTERRUPTED_GRACE: Duration = Duration::from_secs(40);
/// While events come, they are taken together this often: being woken for each packet costs more than the packet. They carry their
/// arrival, so nothing is late by it but our own requests for key frames.
pub(crate) const TAKE_EVERY: Duration = Duration::from_millis(100);

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

/// Why the loop goes round.
enum Turn {
    /// None: no more will come.
    Event(Option<Box<Stamped<Event>>>),
    Result(Input),
    Job(Box<Job>),
    Terminate,
    Wake,
    Heartbeat,
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
    pub(crate) timeline: Timeline,
    pub(crate) journal: Journal,
    pub(crate) numbers: Numbers,
    pub(crate) identity: Identity,
    pub(crate) spool: Spool,
    pub(crate) audio: AudioChains,
    pub(crate) transcoders: Transcoders,
    pub(crate) stills: Stills,
    pub(crate) images: Images,
    pub(crate) uploader: Uploader,
    pub(crate) orders: mpsc::Sender<ConnectOrder>,
    pub(crate) secret: Option<ChannelFiles>,
    pub(crate) publisher: Publisher,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) state: Progress,
}

/// What the loop itself remembers.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) now: Tick,
    /// Until then events wait; None: the next one is taken as it comes.
    take_at: Option<Instant>,
    /// Segments that have a file: a new one is a reason to save the state.
    open: HashSet<String>,
    /// Entries of the ledger that the saved state names.
    saved_entries: usize,
    /// Published end-to-end encrypted.
    encrypted: HashSet<TrackKey>,
    /// Orders that the connector's queue had no room for.
    undelivered: VecDeque<ConnectOrder>,
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
    pub(crate) async fn run(mut self, mut sources: Sources, intake: Option<Intake>) -> (Ending, recorder_media::Report) {
        let mut terminate = match Terminate::new() {
            Ok(terminate) => terminate,
            Err(error) => return (Ending::Failed(format!("failed to listen for signals: {error}")), self.session.report()),
        };
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut joined = true;
        // Before anything is journalled: what earlier attempts did is in no journal.
        self.save_state();
        self.drain();
        if let Some(intake) = intake {
            self.replay(&intake);
        }
        while self.state.ending.is_none() {
            let wake = self.wake_at();
            let turn = tokio::select! {
                event = sources.events.recv(), if joined && self.state.take_at.is_none() => Turn::Event(event.map(Box::new)),
                Some(result) = sources.results.recv() => Turn::Result(result),
                Some(job) = sources.jobs.recv() => Turn::Job(Box::new(job)),
                () = terminate.next() => Turn::Terminate,
                () = tokio::time::sleep_until(wake.into()) => Turn::Wake,
                _ = heartbeat.tick() => Turn::Heartbeat,
            };
            joined &= !matches!(turn, Turn::Event(None));
            self.turn(turn, &mut sources.events);
            self.flush_journal();
            self.deliver_orders();
            self.publisher.turned();
        }
        if matches!(self.state.ending, Some(Ending::Finished { .. })) {
            self.end_journal(self.state.now);
        }
        self.show();
        (self.state.ending.take().unwrap_or(Ending::Abandoned), self.session.report())
    }

    fn turn(&mut self, turn: Turn, events: &mut mpsc::Receiver<Stamped<Event>>) {
        if let Turn::Event(Some(first)) = turn {
            self.event(*first);
            self.take_events(events);
            self.state.take_at = Some(Instant::now() + TAKE_EVERY);
            return;
        }
        // What arrived before it goes first.
        let taken = self.take_events(events);
        match turn {
            Turn::Event(_) => {}
            Turn::Result(result) => self.result(result),
            Turn::Job(job) => self.job(&job),
            Turn::Terminate => self.terminate(),
            Turn::Heartbeat => self.heartbeat(),
            Turn::Wake => {
                let now = Instant::now();
                if self.state.take_at.is_some_and(|at| at <= now) {
                    self.state.take_at = (taken > 0).then(|| now + TAKE_EVERY);
                }
                self.handle(now, Input::Wake);
            }
        }
    }

    /// What is in the queue, and no more: the other sources have their turn. How many there were.
    fn take_events(&mut self, events: &mut mpsc::Receiver<Stamped<Event>>) -> usize {
        let waiting = events.len();
        for _ in 0..waiting {
            if self.state.ending.is_some() {
                break;
            }
            let Ok(event) = events.try_recv() else { break };
            self.event(event);
        }
        waiting
    }

    /// Never in the past of an input before: events carry their arrival, which may lie behind a timer that fired since.
    fn handle(&mut self, at: Instant, input: Input) {
        let tick = self.timeline.tick(at).max(self.state.now);
        self.note(tick, &input);
        self.hand_in(tick, input);
    }

    pub(crate) fn hand_in(&mut self, tick: Tick, input: Input) {
        self.state.now = self.state.now.max(tick);
        self.session.handle(self.state.now, input);
        self.drain();
    }

    fn wake_at(&self) -> Instant {
        let idle = Instant::now() + HEARTBEAT;
        let session = self.session.next_wake().map(|tick| self.timeline.instant(tick));
        [session, self.state.take_at].into_iter().flatten().fold(idle, Instant::min)
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Audio { playlist, op } => match self.audio.run(playlist, op) {
                Ok(frames) => self.session.handle(self.state.now, Input::AudioEncoded { playlist, frames }),
                Err(error) => self.state.ending = Some(Ending::Failed(format!("the sound cannot be encoded: {error}"))),
            },
            Output::Video { playlist, op, work } => self.transcoders.run(playlist, op, work),
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
            Output::Upload { op, segment: _, name, entry, to } => {
                if self.state.saved_entries < self.session.manifest().ledger.len() {
                    self.save_state();
                }
                self.uploader.upload(op, self.spool.path(&name), entry, to, self.spool.reached());
                self.state.uploads.insert(op, (name, Instant::now()));
            }
            Output::Move { op, name, entry } => {
                self.uploader.move_to_primary(op, self.spool.path(&name), self.spool.moving_path(&name), entry);
                self.state.uploads.insert(op, (name, Instant::now()));
            }
            Output::PutPlaylist { op, name, body, to } => self.uploader.put_playlist(op, name, body, to),
            Output::PutManifest { op, to } => {
                self.uploader.put_manifest(op, manifest::render(&self.identity, self.session.manifest()), to);
            }
            Output::RemoveFromBackup { op, what } => self.uploader.remove_from_backup(op, self.keys(what)),
            Output::Snapshot { snapshot, codec, data } => self.stills.make(snapshot, codec, data),
            Output::PutSnapshot { op, name, picture } => self.uploader.put_snapshot(op, name, picture),
            Output::RequestKeyframe { track } => self.order_for(track, ConnectOrder::RequestKeyframe),
            Output::Subscribe { track, wanted } => self.order_for(track, |track| ConnectOrder::Subscribe { track, wanted }),
            Output::Size { track, wanted } => self.order_for(track, |track| ConnectOrder::Size { track, wanted }),
            Output::ReportChanged => self.show(),
            Output::Finished(outcome) => {
                let reason = self.state.end_reason.take();
                self.state.ending = Some(Ending::Finished { outcome, reason });
            }
        }
    }

    fn keys(&self, what: Removal) -> Vec<String> {
        let manifest = self.session.manifest();
        match what {
            Removal::Playlist(name) => vec![name],
            Removal::Segments(entries) => entries.into_iter().map(|entry| manifest.ledger[entry].name.clone()).collect(),
            Removal::Manifest => manifest::keys(&self.identity, manifest),
        }
    }

    /// A track of an earlier process' connection needs none.
    fn order_for(&mut self, track: TrackKey, order: impl FnOnce(TrackKey) -> ConnectOrder) {
        if let Some(track) = self.numbers.to_connector(track) {
            self.order(order(track));
        }
    }

    /// A request for a key frame that finds no room is repeated by the session if it still matters; the others wait, in order.
    fn order(&mut self, order: ConnectOrder) {
        match order {
            ConnectOrder::RequestKeyframe(_) => drop(self.orders.try_send(order)),
            lasting => {
                self.state.undelivered.push_back(lasting);
                self.deliver_orders();
            }
        }
    }

    fn deliver_orders(&mut self) {
        while let Some(order) = self.state.undelivered.pop_front() {
            // A connector that is gone needs none.
            if let Err(mpsc::error::TrySendError::Full(order)) = self.orders.try_send(order) {
                return self.state.undelivered.push_front(order);
            }
        }
    }

    fn event(&mut self, event: Stamped<Event>) {
        match event.value {
            Event::Media(input) => {
                let input = self.numbers.translate(input);
                self.handle(event.at, input);
            }
            Event::Encrypted(track) => {
                tracing::warn!("a track is end-to-end encrypted and is not recorded");
                self.state.encrypted.insert(track);
            }
            Event::IdentityTaken => self.uploader.yield_or(self.orders.clone()),
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
            self.forget_journal();
        }
        if let Some(name) = stored {
            self.spool.remove(self.spool.path(&name));
        }
    }

    pub(crate) fn save_state(&mut self) {
        let manifest = self.session.manifest();
        self.state.saved_entries = manifest.ledger.len();
        let journalled = self.journal.covers(self.session.needed_from(self.state.now));
        self.spool.save_state(manifest::render_state(&self.identity, manifest, journalled));
    }

    fn job(&mut self, job: &Job) {
        tracing::info!(generation = job.generation, desired_state = ?job.desired_state, "a job is in force");
        job::images(job).into_iter().for_each(|images| self.images.want(images));
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
        self.images.tidy();
        if let Some(full) = self.spool.turned() {
            tracing::warn!(full, used = self.spool.used(), "the spool's state changed");
            self.handle(Instant::now(), Input::SpoolFull(full));
        }
        if let Some(secret) = self.secret.as_mut().and_then(ChannelFiles::changed) {
            tracing::info!("the channel's Secret has changed");
            self.order(ConnectOrder::SecretChanged(secret));
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
        let image = self.images.failure();
        self.publisher.update(|report| report::fill(report, &session, encrypted, image));
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

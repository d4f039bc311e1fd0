//! One process of the recorder: its event loop, in the order of effects of the real one (recorder, `driver.rs` and `replay.rs`).

use super::bucket::{Body, MANIFEST, Reply, Request};
use super::disk::{Disk, Done, JournalEnd, Order as DiskOrder};
use super::numbers::Numbers;
use super::support::sound::Encoder;
use super::support::transcoder::Transcoder;
use super::uploads::{Etags, Next, Task, Work};
use recorder_media::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

/// While events come they are taken together this often.
const TAKE_EVERY_US: u64 = 100_000;
/// After SIGTERM.
const INTERRUPTED_GRACE_US: u64 = 40_000_000;

/// True microseconds of the world <-> ticks of a process and its wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    /// True time of tick 0.
    pub origin: i64,
    /// Wall clock at tick 0.
    pub wall: u64,
}

impl Timeline {
    pub fn tick(&self, at: u64) -> Tick {
        Tick((at as i64 - self.origin).max(0) as u64)
    }

    pub fn time(&self, tick: Tick) -> u64 {
        (tick.0 as i64 + self.origin).max(0) as u64
    }

    pub fn wall_at(&self, tick: Tick) -> WallMicros {
        WallMicros(self.wall + tick.0)
    }
}

pub struct Process {
    pub life: u32,
    pub attempt: u32,
    pub session: Session,
    pub timeline: Timeline,
    pub disk: Disk,
    pub numbers: Numbers,
    pub transcoder: Transcoder,
    pub finished: Option<Outcome>,
    pub interrupted: Option<u64>,
    /// Requests to storage that the world is to carry out.
    pub requests: Vec<(u64, Place, Request)>,
    pub etags: Etags,
    pub keyframes: Vec<TrackKey>,
    /// What the report claimed last.
    pub claims: Option<Report>,
    /// The spool's thread is behind by this.
    pub disk_lag_us: u64,
    /// Everything that came out, as text.
    pub log: Option<String>,
    now: Tick,
    journal: JournalEnd,
    encoders: BTreeMap<PlaylistKey, Encoder>,
    events: VecDeque<(Tick, Input)>,
    take_at: Option<u64>,
    disk_at: Option<u64>,
    answers: BTreeMap<(u64, u64), Input>,
    next_answer: u64,
    open: BTreeSet<String>,
    saved_entries: usize,
    uploads: BTreeMap<OpId, String>,
    tasks: BTreeMap<u64, Task>,
    documents: BTreeMap<Place, VecDeque<u64>>,
    next_task: u64,
}

impl Process {
    /// `claimed`: ETags of the manifests that it has claimed.
    pub fn new(life: u32, attempt: u32, session: Session, timeline: Timeline, disk: Disk, claimed: Etags) -> Self {
        Self {
            life,
            attempt,
            session,
            timeline,
            journal: JournalEnd::behind(&disk),
            disk,
            numbers: Numbers::default(),
            transcoder: Transcoder::default(),
            finished: None,
            interrupted: None,
            requests: Vec::new(),
            etags: claimed,
            keyframes: Vec::new(),
            claims: None,
            disk_lag_us: 1_000,
            log: None,
            now: Tick(0),
            encoders: BTreeMap::new(),
            events: VecDeque::new(),
            take_at: None,
            disk_at: None,
            answers: BTreeMap::new(),
            next_answer: 0,
            open: BTreeSet::new(),
            saved_entries: 0,
            uploads: BTreeMap::new(),
            tasks: BTreeMap::new(),
            documents: BTreeMap::new(),
            next_task: 0,
        }
    }

    /// Begins the loop; hands in what the journal of an earlier process holds.
    pub fn begin(&mut self, at: u64, replays: bool) {
        self.save_state();
        self.drain(at);
        if replays {
            self.replay();
        }
        self.end_turn(at);
    }

    fn replay(&mut self) {
        let files: Vec<_> = self.disk.journal.iter().map(|file| (file.newest, file.start.clone(), file.records.clone())).collect();
        let ended = files.iter().map(|(newest, ..)| *newest).max().unwrap_or(Tick(0));
        for (index, (_, start, records)) in files.into_iter().enumerate() {
            if index == 0 {
                self.numbers.learn_start(&start);
            }
            for (tick, input) in records {
                self.pass_time(tick);
                self.numbers.learn(&input);
                self.hand_in(tick, input);
            }
        }
        self.pass_time(ended);
        self.note(ended, &Input::Restarted);
        self.hand_in(ended, Input::Restarted);
        self.hand_in(ended, Input::Replayed);
        self.journal.flush(&mut self.disk);
    }

    fn pass_time(&mut self, until: Tick) {
        while let Some(wake) = self.session.next_wake().filter(|wake| *wake < until) {
            let stands = wake <= self.now;
            self.hand_in(wake, Input::Wake);
            if stands && self.session.next_wake() == Some(wake) {
                return;
            }
        }
    }

    fn note(&mut self, tick: Tick, input: &Input) {
        if !self.session.is_noted(input) {
            return;
        }
        if self.journal.wants_file(tick) {
            self.journal.begin_file(tick, self.timeline.wall_at(tick), self.session.replay(), &mut self.disk);
        }
        self.journal.note(tick, input);
    }

    /// When something is due, true time.
    pub fn next_event(&self) -> Option<u64> {
        if self.finished.is_some() {
            return None;
        }
        let wake = self.session.next_wake().map(|tick| self.timeline.time(tick));
        let answer = self.answers.keys().next().map(|(at, _)| *at);
        let grace = self.interrupted.map(|since| since + INTERRUPTED_GRACE_US);
        [wake, answer, self.take_at, self.disk_at, grace].into_iter().flatten().min()
    }

    /// One turn of the loop: what is due first.
    pub fn turn(&mut self, at: u64) {
        if self.interrupted.is_some_and(|since| at >= since + INTERRUPTED_GRACE_US) {
            self.finished = Some(Outcome::Interrupted);
            return;
        }
        if self.disk_at.is_some_and(|due| due <= at) {
            self.disk_at = None;
            self.spool_works(at);
        }
        let due = self.answers.first_key_value().filter(|((due, _), _)| *due <= at).map(|(key, _)| *key);
        let taken = self.take_events(at);
        match due.and_then(|key| self.answers.remove(&key)) {
            Some(input) => self.result(at, input),
            None => {
                if self.take_at.is_some_and(|due| due <= at) {
                    self.take_at = (taken > 0).then_some(at + TAKE_EVERY_US);
                }
                self.handle(at, Input::Wake);
            }
        }
        self.end_turn(at);
    }

    fn end_turn(&mut self, at: u64) {
        self.journal.flush(&mut self.disk);
        if !self.disk.is_idle() && self.disk_at.is_none() {
            self.disk_at = Some(at + self.disk_lag_us);
        }
    }

    fn spool_works(&mut self, at: u64) {
        for done in self.disk.work(usize::MAX) {
            match done {
                Done::Closed { op, result } => self.answer(at, Input::SegmentClosed { op, result }),
                Done::Reached(task) => self.advance(at, task, None),
            }
        }
    }

    fn answer(&mut self, at: u64, input: Input) {
        self.answers.insert((at, self.next_answer), input);
        self.next_answer += 1;
    }

    /// From the connector, stamped at its arrival.
    pub fn event(&mut self, at: u64, input: Input) {
        if self.finished.is_some() {
            return;
        }
        self.events.push_back((self.timeline.tick(at), input));
        if self.take_at.is_none() {
            self.take_events(at);
            self.take_at = Some(at + TAKE_EVERY_US);
            self.end_turn(at);
        }
    }

    fn take_events(&mut self, at: u64) -> usize {
        let waiting = self.events.len();
        while let Some((tick, input)) = self.events.pop_front() {
            if self.finished.is_some() {
                break;
            }
            let input = self.numbers.translate(input);
            let tick = tick.max(self.now);
            self.note(tick, &input);
            self.hand_in_at(at, tick, input);
        }
        waiting
    }

    /// An order of the job, or another input of the driver's own.
    pub fn order(&mut self, at: u64, input: Input) {
        if self.finished.is_none() {
            self.take_events(at);
            self.handle(at, input);
            self.end_turn(at);
        }
    }

    fn handle(&mut self, at: u64, input: Input) {
        let tick = self.timeline.tick(at).max(self.now);
        self.note(tick, &input);
        self.hand_in_at(at, tick, input);
    }

    fn hand_in(&mut self, tick: Tick, input: Input) {
        let at = self.timeline.time(tick);
        self.hand_in_at(at, tick, input);
    }

    fn hand_in_at(&mut self, at: u64, tick: Tick, input: Input) {
        if self.finished.is_some() {
            return;
        }
        self.now = self.now.max(tick);
        if let Input::VideoEncoded { playlist, .. } = &input {
            self.transcoder.answered(*playlist);
        }
        self.session.handle(self.now, input);
        self.drain(at);
    }

    fn drain(&mut self, at: u64) {
        while let Some(output) = self.session.poll_output() {
            assert!(self.finished.is_none(), "nothing comes after Finished");
            if let Some(log) = &mut self.log {
                log.push_str(&format!("{} {output:?}\n", self.now.0));
            }
            self.carry_out(at, output);
        }
    }

    fn carry_out(&mut self, at: u64, output: Output) {
        match output {
            Output::Audio { playlist, op } => {
                let frames = self.encoders.entry(playlist).or_default().run(&op);
                self.session.handle(self.now, Input::AudioEncoded { playlist, frames });
            }
            Output::Video { playlist, op, work } => {
                if let Some((done, result)) = self.transcoder.run(self.now, playlist, work) {
                    let done = self.timeline.time(done).max(at);
                    self.answer(done, Input::VideoEncoded { playlist, op, result });
                }
            }
            Output::Append { segment: _, name, data } => {
                let new = self.open.insert(name.clone());
                self.disk.order(DiskOrder::Append { name, data });
                if new {
                    self.save_state();
                }
            }
            Output::CloseSegment { op, segment: _, name } => {
                self.open.remove(&name);
                self.disk.order(DiskOrder::Close { op, name });
            }
            Output::Upload { op, segment: _, name, entry, to } => {
                assert!(!entry.lost, "what is lost is not uploaded");
                if self.saved_entries < self.session.manifest().ledger.len() {
                    self.save_state();
                }
                self.uploads.insert(op, name.clone());
                let task = self.task(Task::new(op, to, Work::Segment { name }));
                self.disk.order(DiskOrder::Reached(task));
            }
            Output::Move { op, name, entry } => {
                assert!(entry.in_backup && !entry.stored, "only what is in the backup alone is moved");
                self.uploads.insert(op, name.clone());
                let task = self.task(Task::new(op, Place::Primary, Work::Move { name }));
                self.advance(at, task, None);
            }
            Output::PutPlaylist { op, name, body, to } => {
                self.document(at, Task::new(op, to, Work::Document { key: name, body: Body::Playlist(body.into()) }));
            }
            Output::PutManifest { op, to } => {
                let body = Body::Manifest(Rc::new(stored_form(self.session.manifest())));
                self.document(at, Task::new(op, to, Work::Document { key: MANIFEST.into(), body }));
            }
            Output::RemoveFromBackup { op, what } => {
                let keys = self.keys(what);
                self.document(at, Task::new(op, Place::Backup, Work::Remove { keys }));
            }
            Output::Snapshot { .. } | Output::PutSnapshot { .. } => unreachable!("none is wanted"),
            Output::Subscribe { .. } | Output::Size { .. } => {}
            Output::RequestKeyframe { track } => self.keyframes.extend(self.numbers.to_connector(track)),
            Output::ReportChanged => self.claims = Some(self.session.report()),
            Output::Finished(outcome) => self.finished = Some(outcome),
        }
    }

    fn keys(&self, what: Removal) -> VecDeque<String> {
        let ledger = &self.session.manifest().ledger;
        match what {
            Removal::Playlist(name) => [name].into(),
            Removal::Segments(entries) => entries.into_iter().map(|entry| ledger[entry].name.clone()).collect(),
            Removal::Manifest => [MANIFEST.to_owned()].into(),
        }
    }

    fn task(&mut self, task: Task) -> u64 {
        self.next_task += 1;
        self.tasks.insert(self.next_task, task);
        self.next_task
    }

    /// Documents of one storage go one after the other.
    fn document(&mut self, at: u64, task: Task) {
        let place = task.to;
        let task = self.task(task);
        let line = self.documents.entry(place).or_default();
        line.push_back(task);
        if line.len() == 1 {
            self.advance(at, task, None);
        }
    }

    /// Storage answered one of our requests.
    pub fn replied(&mut self, at: u64, task: u64, reply: Reply) {
        if self.finished.is_none() {
            self.advance(at, task, Some(reply));
            self.end_turn(at);
        }
    }

    fn advance(&mut self, at: u64, id: u64, reply: Option<Reply>) {
        let Some(task) = self.tasks.get_mut(&id) else { return };
        let input = match task.advance(reply, self.attempt, &self.disk, &mut self.etags) {
            Next::Ask(place, request) => return self.requests.push((id, place, request)),
            Next::Done(input) => *input,
        };
        let done = self.tasks.remove(&id);
        self.answer(at, input);
        if let Some(task) = done.filter(Task::is_document) {
            let line = self.documents.entry(task.to).or_default();
            line.pop_front();
            if let Some(next) = line.front().copied() {
                self.advance(at, next, None);
            }
        }
    }

    fn result(&mut self, at: u64, result: Input) {
        let closed = matches!(result, Input::SegmentClosed { .. });
        let stored = match &result {
            Input::Uploaded { op, result } => self.uploads.remove(op).filter(|_| result.is_ok()),
            _ => None,
        };
        self.handle(at, result);
        if closed || stored.is_some() {
            self.save_state();
            let needed = self.session.needed_from(self.now);
            self.journal.forget(needed, &mut self.disk);
        }
        if let Some(name) = stored {
            self.disk.order(DiskOrder::Remove(name));
        }
    }

    fn save_state(&mut self) {
        let manifest = self.session.manifest().clone();
        self.saved_entries = manifest.ledger.len();
        self.disk.order(DiskOrder::State(Box::new(manifest)));
    }

    /// Segments that wait for storage, and requests that do.
    pub fn under_way(&self) -> usize {
        self.tasks.len()
    }
}

/// What a manifest in storage keeps: no marks of a replay.
pub fn stored_form(manifest: &Manifest) -> Manifest {
    let mut stored = Manifest { as_of: MediaTime::default(), ..manifest.clone() };
    stored.playlists.iter_mut().for_each(|playlist| playlist.continuation.seam = None);
    stored.tracks.iter_mut().for_each(|track| (track.received, track.written) = (None, None));
    stored
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("life", &self.life).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

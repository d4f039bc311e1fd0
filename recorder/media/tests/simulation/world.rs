//! The world: a room, its network, recorders with their spools, two storages, one true time.

use super::bucket::{Body, Bucket, Failure, MANIFEST, Reply, Request};
use super::disk::Disk;
use super::invariants::Watched;
use super::recorder::{Process, Timeline};
use super::support::{Lcg, Publisher, WALL};
use recorder_media::*;
use std::collections::{BTreeMap, BTreeSet};

/// What goes over one recorder's network.
#[derive(Clone, Copy, Debug)]
pub struct Network {
    pub delay_us: u64,
    pub jitter_us: u64,
    /// Percent of packets that come 300 ms late, because they were asked for again.
    pub late: u64,
    /// Percent that never come.
    pub lost: u64,
}

/// A publication as the room's server knows it.
#[derive(Debug)]
pub struct Publication {
    pub person: usize,
    pub codec: Codec,
    pub muted: bool,
    pub publisher: Publisher,
}

#[derive(Debug)]
pub struct Person {
    pub identity: &'static str,
    pub present: bool,
}

/// One recorder's place in the room: its connector numbers people and tracks from 0.
#[derive(Debug, Default)]
struct Member {
    connected: bool,
    people: BTreeMap<usize, ParticipantKey>,
    tracks: BTreeMap<u32, TrackKey>,
}

/// A request on its way.
struct Flight {
    life: u32,
    attempt: u32,
    task: u64,
    place: Place,
    request: Request,
    refused: Option<Failure>,
    reply: Option<Reply>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leg {
    Effect,
    Answer,
}

/// A process that will be started.
#[derive(Debug)]
pub struct Start {
    pub attempt: u32,
    /// The spool of the one before; None: an empty one.
    pub disk: Option<Disk>,
}

pub struct World {
    pub now: u64,
    pub rng: Lcg,
    pub config: Config,
    /// The wall clock's error.
    pub wall_error_us: i64,
    pub primary: Bucket,
    pub backup: Option<Bucket>,
    pub people: Vec<Person>,
    pub tracks: BTreeMap<u32, Publication>,
    pub network: Network,
    pub processes: Vec<Process>,
    members: BTreeMap<u32, Member>,
    pub starts: BTreeMap<(u64, u32), Start>,
    pub watched: Watched,
    /// Attempts that were at work when a newer one began.
    pub overtaken: BTreeSet<u32>,
    pub stopped: bool,
    pub keep_log: bool,
    pub logs: Vec<String>,
    /// When each picture or packet of sound was captured, by track.
    pub captured: BTreeMap<u32, Vec<u64>>,
    wire: BTreeMap<(u64, u64), (u32, u32, Input)>,
    flights: BTreeMap<u64, Flight>,
    legs: BTreeMap<(u64, u64), (u64, Leg)>,
    counter: u64,
    next_life: u32,
}

impl World {
    pub fn new(seed: u64, config: Config) -> Self {
        let people = ["ann", "bob", "!C3!A4"].map(|identity| Person { identity, present: false });
        Self {
            now: 1_000_000,
            rng: Lcg(seed),
            wall_error_us: 0,
            primary: Bucket::new(seed ^ 11),
            backup: config.backup.then(|| Bucket::new(seed ^ 12)),
            config,
            people: people.into(),
            tracks: BTreeMap::new(),
            network: Network { delay_us: 30_000, jitter_us: 0, late: 0, lost: 0 },
            processes: Vec::new(),
            members: BTreeMap::new(),
            starts: BTreeMap::new(),
            watched: Watched::default(),
            overtaken: BTreeSet::new(),
            stopped: false,
            keep_log: false,
            logs: Vec::new(),
            captured: BTreeMap::new(),
            wire: BTreeMap::new(),
            flights: BTreeMap::new(),
            legs: BTreeMap::new(),
            counter: 0,
            next_life: 1,
        }
    }

    fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub fn wall(&self) -> u64 {
        (WALL.0 as i64 + self.now as i64 + self.wall_error_us) as u64
    }

    pub fn bucket(&mut self, place: Place) -> &mut Bucket {
        match (place, &mut self.backup) {
            (Place::Backup, Some(backup)) => backup,
            _ => &mut self.primary,
        }
    }

    /// The process of the highest attempt.
    pub fn newest(&self) -> Option<usize> {
        (0..self.processes.len()).max_by_key(|i| self.processes[*i].attempt)
    }

    /// The highest attempt has come to an end of its own, and nothing is to be started.
    pub fn is_over(&self) -> bool {
        self.starts.is_empty() && self.newest().is_none_or(|i| self.processes[i].finished.is_some())
    }

    pub fn start_at(&mut self, at: u64, start: Start) {
        let order = self.count() as u32;
        self.starts.insert((at, order), start);
    }

    /// A process begins: by its spool, else by storage; storage that does not answer is asked again later.
    fn start(&mut self, start: Start) {
        let Start { attempt, disk } = start;
        let knows = disk.as_ref().is_some_and(|disk| disk.state.is_some());
        let refuses = self.primary.refuses() && self.backup.as_mut().is_none_or(Bucket::refuses);
        if refuses && attempt > 1 {
            return self.start_at(self.now + 2_000_000, Start { attempt, disk });
        }
        if self.primary.manifest().is_some_and(|(known, _)| known.epoch > attempt) {
            return;
        }
        let mut disk = disk.unwrap_or_default();
        let (resume, timeline, began) = match disk.keep_known().map(|manifest| self.with_true_copies(manifest)) {
            Some(manifest) => match disk.journal.front() {
                Some(first) => {
                    let ended = disk.journal.iter().map(|file| file.newest).max().unwrap_or(first.began);
                    let wall = first.wall.0 - first.began.0;
                    let now = self.wall().saturating_sub(wall).max(ended.0 + 1_000);
                    let timeline = Timeline { origin: self.now as i64 - now as i64, wall };
                    (Some(Resume { manifest, replay: Some(first.start.clone()) }), timeline, first.began)
                }
                None => (Some(Resume { manifest, replay: None }), self.timeline(), Tick(0)),
            },
            None => {
                let manifest = self.of_storage(refuses).map(|manifest| self.with_true_copies(manifest));
                (manifest.map(|manifest| Resume { manifest, replay: None }), self.timeline(), Tick(0))
            }
        };
        let replays = resume.as_ref().is_some_and(|resume| resume.replay.is_some());
        let inherits = resume.is_some();
        let config = Config { attempt, resume, ..self.config.clone() };
        let mut session = Session::new(config, began, timeline.wall_at(began));
        // One that has written its outcome has nothing more to write.
        let over = self.primary.manifest().filter(|(manifest, _)| manifest.outcome.is_some()).map(|(manifest, _)| manifest.epoch);
        if inherits && !knows {
            self.fence(attempt);
        }
        let claimed = if refuses { BTreeMap::new() } else { self.claim(&mut session) };
        let at_work = self.processes.iter().filter(|process| process.finished.is_none() && Some(process.attempt) != over);
        self.overtaken.extend(at_work.map(|process| process.attempt));
        self.watched.newest_attempt = self.watched.newest_attempt.max(attempt);
        let life = self.next_life;
        self.next_life += 1;
        let mut process = Process::new(life, attempt, session, timeline, disk, claimed);
        process.log = self.keep_log.then(String::new);
        if inherits && !knows {
            self.watched.takes_over(attempt, &self.primary, self.backup.as_ref());
        }
        process.begin(self.now, replays);
        self.processes.push(process);
        self.members.insert(life, Member::default());
        let index = self.processes.len() - 1;
        let first = match self.stopped {
            true => Order::Stop(StopReason::StopRequested),
            false => Order::Subscription(self.config.subscription.clone()),
        };
        self.processes[index].order(self.now, Input::Order(first));
        self.connect(index);
        self.settle(index);
    }

    fn timeline(&self) -> Timeline {
        Timeline { origin: self.now as i64, wall: self.wall() }
    }

    /// recorder, `start.rs`: the manifest that knows more; what it did not know to be stored is looked for.
    fn of_storage(&self, refuses: bool) -> Option<Manifest> {
        if refuses {
            return None;
        }
        let progress = |manifest: &Manifest| {
            let placed: usize = manifest.ledger.iter().map(|e| usize::from(e.stored) * 2 + usize::from(e.in_backup || e.lost)).sum();
            (manifest.epoch, manifest.ledger.len(), placed)
        };
        let primary = self.primary.manifest().map(|(manifest, _)| manifest);
        let backup = self.backup.as_ref().and_then(|bucket| bucket.manifest()).map(|(manifest, _)| manifest);
        let newer = match (primary, backup) {
            (Some(primary), Some(backup)) => Some(if progress(backup) > progress(primary) { backup } else { primary }),
            (primary, backup) => primary.or(backup),
        };
        let mut manifest = Manifest::clone(newer?);
        for entry in manifest.ledger.iter_mut().filter(|entry| !entry.stored && !entry.in_backup && !entry.lost) {
            entry.stored = self.primary.has_segment(&entry.name);
            entry.in_backup = !entry.stored && self.backup.as_ref().is_some_and(|bucket| bucket.has_segment(&entry.name));
            entry.lost = !entry.stored && !entry.in_backup;
        }
        Some(manifest)
    }

    /// recorder, `start/backup.rs`: each copy that the backup is said to hold is looked for.
    fn with_true_copies(&self, mut manifest: Manifest) -> Manifest {
        let Some(backup) = &self.backup else { return manifest };
        for entry in manifest.ledger.iter_mut().filter(|entry| entry.stored && entry.in_backup) {
            entry.in_backup = backup.has_segment(&entry.name);
        }
        manifest
    }

    /// recorder, `start/fence.rs`: what an older attempt writes under a condition is refused from here on.
    fn fence(&mut self, attempt: u32) {
        for bucket in std::iter::once(&mut self.primary).chain(self.backup.as_mut()) {
            let open = bucket
                .playlists()
                .filter(|(_, text)| !text.ends_with("#EXT-X-ENDLIST\n"))
                .map(|(name, text)| (name.to_owned(), text.to_owned()));
            for (name, text) in open.collect::<Vec<_>>() {
                bucket.store(&name, Body::Playlist((text + &attempt_line(attempt)).into()));
            }
        }
    }

    /// The manifest under our epoch, before anything else.
    fn claim(&mut self, session: &mut Session) -> BTreeMap<(Place, String), u64> {
        let manifest = std::rc::Rc::new(super::recorder::stored_form(session.manifest()));
        let etag = self.primary.store(MANIFEST, Body::Manifest(manifest.clone()));
        let mut claimed = BTreeMap::from([((Place::Primary, MANIFEST.to_owned()), etag)]);
        let in_use = session.manifest().ledger.iter().any(|entry| entry.in_backup);
        if let Some(backup) = self.backup.as_mut().filter(|_| in_use) {
            let etag = backup.store(MANIFEST, Body::Manifest(manifest));
            claimed.insert((Place::Backup, MANIFEST.to_owned()), etag);
            session.backup_is_claimed();
        }
        claimed
    }

    /// Into the room: who is there and what they publish.
    pub fn connect(&mut self, index: usize) {
        let (now, life) = (self.now, self.processes[index].life);
        self.processes[index].event(now, Input::Connected);
        let Some(member) = self.members.get_mut(&life) else { return };
        member.connected = true;
        // A connector that comes back keeps its numbers of people, and numbers tracks on.
        let mut inputs = Vec::new();
        for (person, facts) in self.people.iter().enumerate().filter(|(_, person)| person.present) {
            let next = ParticipantKey(member.people.len() as u32);
            let participant = *member.people.entry(person).or_insert(next);
            inputs.push(Input::Joined { participant, identity: facts.identity.into(), escaped: facts.identity.into() });
        }
        for (track, publication) in &mut self.tracks {
            let next = TrackKey(member.tracks.len() as u32);
            let key = *member.tracks.entry(*track).or_insert(next);
            let participant = member.people[&publication.person];
            let source = publication.publisher.source;
            inputs.push(Input::Published { track: key, participant, source, codec: publication.codec, muted: publication.muted });
            publication.publisher.force_key = true;
        }
        inputs.into_iter().for_each(|input| self.processes[index].event(now, input));
        self.settle(index);
    }

    pub fn disconnect(&mut self, index: usize) {
        let life = self.processes[index].life;
        self.members.entry(life).or_default().connected = false;
        self.processes[index].event(self.now, Input::Disconnected);
        self.settle(index);
    }

    pub fn is_connected(&self, index: usize) -> bool {
        self.members.get(&self.processes[index].life).is_some_and(|member| member.connected)
    }

    pub fn join(&mut self, person: usize) {
        self.people[person].present = true;
        let identity = self.people[person].identity;
        self.tell(|member| {
            let next = ParticipantKey(member.people.len() as u32);
            let participant = *member.people.entry(person).or_insert(next);
            Some(Input::Joined { participant, identity: identity.into(), escaped: identity.into() })
        });
    }

    pub fn leave(&mut self, person: usize) {
        self.people[person].present = false;
        self.tracks.retain(|_, publication| publication.person != person);
        self.tell(|member| member.people.get(&person).map(|participant| Input::Left { participant: *participant }));
    }

    pub fn publish(&mut self, person: usize, codec: Codec, publisher: Publisher) -> u32 {
        let track = publisher.track.0;
        let source = publisher.source;
        self.tracks.insert(track, Publication { person, codec, muted: false, publisher });
        self.tell(|member| {
            let next = TrackKey(member.tracks.len() as u32);
            let key = *member.tracks.entry(track).or_insert(next);
            let participant = *member.people.get(&person)?;
            Some(Input::Published { track: key, participant, source, codec, muted: false })
        });
        track
    }

    pub fn unpublish(&mut self, track: u32) {
        self.tracks.remove(&track);
        self.tell(|member| member.tracks.get(&track).map(|key| Input::Unpublished { track: *key }));
    }

    pub fn mute(&mut self, track: u32, muted: bool) {
        let now = self.now;
        let Some(publication) = self.tracks.get_mut(&track) else { return };
        publication.muted = muted;
        publication.publisher.force_key = true;
        publication.publisher.next = publication.publisher.next.max(Tick(now));
        self.tell(|member| {
            let track = *member.tracks.get(&track)?;
            Some(if muted { Input::Muted { track } } else { Input::Unmuted { track } })
        });
    }

    fn tell(&mut self, input: impl Fn(&mut Member) -> Option<Input>) {
        for index in 0..self.processes.len() {
            let member = self.members.get_mut(&self.processes[index].life).filter(|member| member.connected);
            if let Some(input) = member.and_then(&input) {
                self.processes[index].event(self.now, input);
                self.settle(index);
            }
        }
    }

    pub fn order(&mut self, order: Order) {
        for index in 0..self.processes.len() {
            self.processes[index].order(self.now, Input::Order(order.clone()));
            self.settle(index);
        }
    }

    /// SIGKILL. Of what the spool's thread was told, so much has happened; requests that were sent may still arrive.
    pub fn kill(&mut self, index: usize) -> Disk {
        let mut process = self.processes.remove(index);
        self.logs.extend(process.log.take());
        let queued = process.disk.queued() as u64;
        process.disk.killed(self.rng.below(queued + 1) as usize);
        self.members.remove(&process.life);
        let theirs: Vec<u64> = self.flights.iter().filter(|(_, flight)| flight.life == process.life).map(|(id, _)| *id).collect();
        for id in theirs {
            if self.rng.chance(50) {
                self.flights.remove(&id);
            }
        }
        process.disk
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.run_until(self.now + ms * 1000);
    }

    pub fn run_until(&mut self, until: u64) {
        let mut steps = 0;
        while let Some((at, what)) = self.next().filter(|(at, _)| *at <= until) {
            steps = if at > self.now { 0 } else { steps + 1 };
            assert!(steps < 3000, "the world does not come to rest at {at}");
            self.now = self.now.max(at);
            self.happen(what);
        }
        self.now = self.now.max(until);
    }

    fn next(&self) -> Option<(u64, What)> {
        let sending = self.tracks.iter().filter(|(_, publication)| !publication.muted);
        let captures = sending.map(|(track, publication)| (publication.publisher.next.0, What::Capture(*track)));
        let turns = self.processes.iter().enumerate().filter_map(|(index, process)| Some((process.next_event()?, What::Turn(index))));
        let first = |at: Option<&(u64, u64)>, what| at.map(|(at, _)| (*at, what));
        let wire = first(self.wire.keys().next(), What::Arrival);
        let leg = first(self.legs.keys().next(), What::Leg);
        let start = self.starts.keys().next().map(|(at, _)| (*at, What::Start));
        captures.chain(turns).chain(wire).chain(leg).chain(start).min()
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Capture(track) => self.capture(track),
            What::Arrival => self.arrive(),
            What::Leg => self.fly(),
            What::Start => {
                if let Some((_, start)) = self.starts.pop_first() {
                    self.start(start);
                }
            }
            What::Turn(index) => {
                self.processes[index].turn(self.now);
                self.settle(index);
            }
        }
    }

    fn capture(&mut self, track: u32) {
        let Some(publication) = self.tracks.get_mut(&track) else { return };
        let publisher = &mut publication.publisher;
        let at = publisher.next;
        let report = (at >= publisher.next_report).then(|| publisher.report(at));
        if report.is_some() {
            publisher.next_report = at.after(publisher.reports.tick_us);
        }
        self.captured.entry(track).or_default().push(at.0);
        let sound = !publication.codec.is_video();
        let packets = publisher.produce();
        let lives: Vec<u32> = self.members.iter().filter(|(_, member)| member.connected).map(|(life, _)| *life).collect();
        for life in lives {
            for packet in &packets {
                if !self.rng.chance(self.network.lost) {
                    let packet = if sound { sixty_ms(packet) } else { packet.clone() };
                    self.send(at.0, life, track, Input::Packet { track: TrackKey(0), packet });
                }
            }
            if let Some(report) = report {
                self.send(at.0, life, track, Input::SenderReport { track: TrackKey(0), report });
            }
        }
    }

    fn send(&mut self, at: u64, life: u32, track: u32, input: Input) {
        let Network { delay_us, jitter_us, late, .. } = self.network;
        let jitter = if jitter_us > 0 { self.rng.below(jitter_us) } else { 0 };
        let late = if late > 0 && self.rng.chance(late) { 300_000 } else { 0 };
        let key = (at.max(self.now) + delay_us + jitter + late, self.count());
        self.wire.insert(key, (life, track, input));
    }

    fn arrive(&mut self) {
        let Some((_, (life, track, mut input))) = self.wire.pop_first() else { return };
        let member = self.members.get(&life).filter(|member| member.connected);
        let Some(key) = member.and_then(|member| member.tracks.get(&track)).copied() else { return };
        if let Input::Packet { track, .. } | Input::SenderReport { track, .. } = &mut input {
            *track = key;
        }
        if let Some(index) = self.processes.iter().position(|process| process.life == life) {
            self.processes[index].event(self.now, input);
            self.settle(index);
        }
    }

    /// What a process asked for while it had its turn.
    fn settle(&mut self, index: usize) {
        let (life, attempt) = (self.processes[index].life, self.processes[index].attempt);
        for (task, place, request) in std::mem::take(&mut self.processes[index].requests) {
            let way = self.bucket(place).way(&request);
            let id = self.count();
            let now = self.now;
            self.flights.insert(id, Flight { life, attempt, task, place, request, refused: way.refused, reply: None });
            if let Some(effect) = way.effect_us {
                let order = self.count();
                self.legs.insert((now + effect, order), (id, Leg::Effect));
            }
            let order = self.count();
            self.legs.insert((now + way.answer_us, order), (id, Leg::Answer));
        }
        for track in std::mem::take(&mut self.processes[index].keyframes) {
            let member = &self.members[&life];
            let found = member.tracks.iter().find(|(_, key)| **key == track).map(|(track, _)| *track);
            if let Some(publication) = found.and_then(|track| self.tracks.get_mut(&track)) {
                publication.publisher.force_key = true;
            }
        }
    }

    fn fly(&mut self) {
        let Some((_, (id, leg))) = self.legs.pop_first() else { return };
        let Some(mut flight) = self.flights.remove(&id) else { return };
        match leg {
            Leg::Effect => {
                self.take_effect(&mut flight);
                // An answer may have been given before: the request was late.
                if self.legs.values().any(|(of, leg)| *of == id && *leg == Leg::Answer) {
                    self.flights.insert(id, flight);
                }
            }
            Leg::Answer => {
                let reply = match (&flight.refused, &mut flight.reply) {
                    (Some(failure), _) => refusal(&flight.request, *failure),
                    (None, reply) => reply.take().unwrap_or_else(|| refusal(&flight.request, Failure::Retryable)),
                };
                let (life, task) = (flight.life, flight.task);
                if self.legs.values().any(|(of, leg)| *of == id && *leg == Leg::Effect) {
                    self.flights.insert(id, flight);
                }
                if let Some(index) = self.processes.iter().position(|process| process.life == life) {
                    self.processes[index].replied(self.now, task, reply);
                    self.settle(index);
                }
            }
        }
    }

    fn take_effect(&mut self, flight: &mut Flight) {
        let place = flight.place;
        let before = match &flight.request {
            Request::Put { key, .. } | Request::Get { key } | Request::Remove { key } => self.bucket(place).objects.get(key).cloned(),
        };
        let (reply, changed) = self.bucket(place).carry_out(&flight.request);
        if let (Request::Put { key, body: Body::Segment(_), .. }, Reply::Put(Err(Failure::Conflict))) = (&flight.request, &reply) {
            self.watched.collided.insert(key.clone());
        }
        flight.reply = Some(reply);
        if changed {
            let bucket = match (place, &self.backup) {
                (Place::Backup, Some(backup)) => backup,
                _ => &self.primary,
            };
            self.watched.changed(flight.attempt, place, &flight.request, before.as_ref(), bucket);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrival,
    Leg,
    Turn(usize),
    Capture(u32),
    Start,
}

fn refusal(request: &Request, failure: Failure) -> Reply {
    match request {
        Request::Put { .. } => Reply::Put(Err(failure)),
        Request::Get { .. } => Reply::Got(Err(failure)),
        Request::Remove { .. } => Reply::Removed(Err(failure)),
    }
}

/// The same packet as one of 60 ms of SILK at 16 kHz (RFC 6716 section 3.1, configuration 11): a third of the work.
fn sixty_ms(packet: &RtpPacket) -> RtpPacket {
    let mut payload = packet.payload.to_vec();
    payload[0] = 11 << 3;
    RtpPacket { payload: payload.into(), ..packet.clone() }
}

//! The spool as the recorder's spool thread and its journal leave it: what is here at the moment of a SIGKILL is what the next process finds.

use recorder_media::*;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

/// As the recorder's journal.
const FILE_TICKS_US: u64 = 5_000_000;

/// What the spool's thread was told, in order.
#[derive(Debug)]
pub enum Order {
    Append {
        name: String,
        data: bytes::Bytes,
    },
    Close {
        op: OpId,
        name: String,
    },
    Remove(String),
    RemoveJournal(u64),
    State(Box<Manifest>),
    /// An upload waits for everything before it.
    Reached(u64),
}

/// What the thread answers.
#[derive(Debug)]
pub enum Done {
    Closed { op: OpId, result: Result<SegmentFacts, String> },
    Reached(u64),
}

#[derive(Debug)]
pub struct JournalFile {
    pub number: u64,
    pub began: Tick,
    pub newest: Tick,
    pub wall: WallMicros,
    pub start: Replay,
    pub records: Vec<(Tick, Input)>,
}

#[derive(Debug, Default)]
pub struct Disk {
    pub state: Option<Manifest>,
    parts: BTreeMap<String, Vec<u8>>,
    pub segments: BTreeMap<String, Rc<Vec<u8>>>,
    pub journal: VecDeque<JournalFile>,
    queue: VecDeque<Order>,
    /// Segments are lost as they are closed.
    pub fails: bool,
}

impl Disk {
    pub fn order(&mut self, order: Order) {
        self.queue.push_back(order);
    }

    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// The thread carries out so many of its orders.
    pub fn work(&mut self, orders: usize) -> Vec<Done> {
        let now: Vec<Order> = self.queue.drain(..orders.min(self.queue.len())).collect();
        now.into_iter().filter_map(|order| self.carry_out(order)).collect()
    }

    fn carry_out(&mut self, order: Order) -> Option<Done> {
        match order {
            Order::Append { name, data } => self.parts.entry(name).or_default().extend_from_slice(&data),
            Order::Close { op, name } => return Some(Done::Closed { op, result: self.close(&name) }),
            Order::Remove(name) => drop(self.segments.remove(&name)),
            Order::RemoveJournal(number) => self.journal.retain(|file| file.number != number),
            Order::State(manifest) => self.state = Some(*manifest),
            Order::Reached(task) => return Some(Done::Reached(task)),
        }
        None
    }

    fn close(&mut self, name: &str) -> Result<SegmentFacts, String> {
        let data = self.parts.remove(name).filter(|_| !self.fails).ok_or("no space left on device")?;
        let facts = SegmentFacts { bytes: data.len() as u64, sha256: "00".into() };
        self.segments.insert(name.to_owned(), Rc::new(data));
        Ok(facts)
    }

    /// SIGKILL: of what the thread had not done yet it has done so many.
    pub fn killed(&mut self, orders: usize) {
        self.work(orders);
        self.queue.clear();
    }

    /// What the state does not know goes: the journal holds all of it (recovery.rs, `keep_known`).
    pub fn keep_known(&mut self) -> Option<Manifest> {
        let mut manifest = self.state.clone()?;
        self.parts.clear();
        self.segments.retain(|name, _| manifest.ledger.iter().any(|entry| entry.name == *name && !entry.stored));
        for entry in manifest.ledger.iter_mut().filter(|entry| !entry.stored && !entry.in_backup && !entry.lost) {
            entry.lost = !self.segments.contains_key(&entry.name);
        }
        Some(manifest)
    }
}

/// The end of the journal that is written; records wait in memory until the turn is over.
#[derive(Debug, Default)]
pub struct JournalEnd {
    open: bool,
    began: Tick,
    last_number: u64,
    files: VecDeque<(u64, Tick)>,
    buffer: Vec<(Tick, Input)>,
}

impl JournalEnd {
    pub fn behind(disk: &Disk) -> Self {
        let files: VecDeque<(u64, Tick)> = disk.journal.iter().map(|file| (file.number, file.newest)).collect();
        Self { last_number: files.back().map_or(0, |file| file.0), files, ..Self::default() }
    }

    pub fn wants_file(&self, now: Tick) -> bool {
        !self.open && self.began == Tick(0) || now.since(self.began) >= FILE_TICKS_US
    }

    pub fn begin_file(&mut self, now: Tick, wall: WallMicros, start: Replay, disk: &mut Disk) {
        self.flush(disk);
        self.last_number += 1;
        (self.open, self.began) = (true, now);
        self.files.push_back((self.last_number, now));
        disk.journal.push_back(JournalFile { number: self.last_number, began: now, newest: now, wall, start, records: Vec::new() });
    }

    pub fn note(&mut self, now: Tick, input: &Input) {
        self.buffer.push((now, input.clone()));
        if let Some(file) = self.files.back_mut() {
            file.1 = file.1.max(now);
        }
    }

    pub fn flush(&mut self, disk: &mut Disk) {
        if let Some(file) = disk.journal.back_mut().filter(|_| self.open) {
            file.newest = self.buffer.iter().map(|(at, _)| *at).fold(file.newest, Tick::max);
            file.records.append(&mut self.buffer);
        }
    }

    pub fn forget(&mut self, needed: Tick, disk: &mut Disk) {
        while self.files.len() > 1 && self.files.front().is_some_and(|(_, newest)| *newest < needed) {
            let gone = self.files.pop_front();
            gone.into_iter().for_each(|(number, _)| disk.order(Order::RemoveJournal(number)));
        }
    }
}

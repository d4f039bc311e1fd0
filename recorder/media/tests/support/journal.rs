//! The driver's journal, in memory: written, forgotten and handed in again as its contract says.

use super::Room;
use recorder_media::*;

/// A new journal file every so often.
const FILE_US: u64 = 2_000_000;

#[derive(Debug, Default)]
struct File {
    began: Tick,
    newest: Tick,
    replay: Replay,
    records: Vec<(Tick, Input)>,
}

#[derive(Debug, Default)]
pub struct Journal {
    files: Vec<File>,
    /// The state on disk.
    saved: Manifest,
    pub forgotten: usize,
}

impl Journal {
    pub fn note(&mut self, now: Tick, session: &Session, input: &Input) {
        if !session.is_noted(input) {
            return;
        }
        if self.files.last().is_none_or(|file| now.since(file.began) >= FILE_US) {
            self.files.push(File { began: now, newest: now, replay: session.replay(), records: Vec::new() });
        }
        if let Some(file) = self.files.last_mut() {
            file.newest = now;
            file.records.push((now, input.clone()));
        }
    }

    /// Older files than these are lost.
    pub fn keep_newest(&mut self, files: usize) {
        self.files.drain(..self.files.len().saturating_sub(files));
    }

    /// The state is saved, and what it makes superfluous is forgotten.
    pub fn save(&mut self, now: Tick, session: &Session) {
        self.saved = session.manifest().clone();
        let needed = session.needed_from(now);
        while self.files.len() > 1 && self.files[0].newest < needed {
            self.files.remove(0);
            self.forgotten += 1;
        }
    }
}

impl Room {
    /// The process dies and another one goes on, `away_us` later: what was in memory is gone, what storage and disk have is there.
    pub fn die_and_return(self, config: Config, away_us: u64) -> Self {
        let Room { mut segments, playlists, manifests, snapshots, storage, backup, refused, journal, lives, now, transcoder, .. } = self;
        let mut journal = journal.expect("it is journalled");
        let ended = journal.files.last().map_or(now, |file| file.newest);
        let (began, replay) = journal.files.first().map_or((now, Replay::default()), |file| (file.began, file.replay.clone()));
        let known = |name: &str| journal.saved.ledger.iter().any(|entry| entry.name == name);
        segments.retain(|_, segment| segment.closed && known(&segment.name));
        let resume = Some(Resume { manifest: journal.saved.clone(), replay: Some(replay) });
        let wall = super::WALL.0 - 1_000_000 + began.0;
        let mut room = Self::at(Config { resume, ..config }, began, WallMicros(wall)).journalled();
        (room.segments, room.playlists, room.manifests, room.storage) = (segments, playlists, manifests, storage);
        (room.backup, room.refused, room.snapshots) = (backup, refused, snapshots);
        room.lives += lives;
        room.transcoder.least_us = transcoder.least_us;
        let files = std::mem::take(&mut journal.files);
        for (tick, input) in files.iter().flat_map(|file| &file.records) {
            room.run_until(*tick);
            room.hand_in(input.clone());
        }
        // What was replayed stays in the journal until it is in finished segments.
        if let Some(journal) = &mut room.journal {
            journal.files = files;
        }
        room.run_until(ended);
        room.input(Input::Restarted);
        room.input(Input::Replayed);
        room.run_until(now.after(away_us));
        room
    }
}

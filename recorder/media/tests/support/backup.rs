//! A second storage, and what must be true of both at any time.

use super::{Lcg, Room, tags_and_names};
use recorder_media::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub struct BackupStorage {
    pub segments: BTreeSet<String>,
    pub playlists: BTreeMap<String, String>,
    pub manifest: bool,
    /// Percent of calls that fail.
    pub failing: u64,
    /// Of failing uploads, percent that have arrived all the same.
    pub arrives: u64,
    pub refuses_removal: bool,
    /// Every segment that was ever confirmed, playlist that was put, and object that was removed, in order.
    pub told: Vec<String>,
    pub rng: Lcg,
}

impl Default for BackupStorage {
    fn default() -> Self {
        Self {
            segments: BTreeSet::new(),
            playlists: BTreeMap::new(),
            manifest: false,
            failing: 0,
            arrives: 0,
            refuses_removal: false,
            told: Vec::new(),
            rng: Lcg(5),
        }
    }
}

impl BackupStorage {
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.playlists.is_empty() && !self.manifest
    }

    fn fails(&mut self) -> bool {
        let failing = self.failing;
        self.rng.chance(failing)
    }
}

pub fn names(body: &str) -> impl Iterator<Item = &str> {
    body.lines().filter(|line| !line.starts_with('#'))
}

impl Room {
    pub fn carry_out_backup(&mut self, output: Output) {
        let input = match output {
            Output::Upload { op, segment, name, entry, .. } => {
                assert!(!entry.stored && !entry.in_backup, "{name} is somewhere already");
                let failed = self.backup.fails();
                let arrives = self.backup.arrives;
                if !failed || self.backup.rng.chance(arrives) {
                    self.backup.segments.insert(name.clone());
                    self.backup.told.push(format!("put {name}"));
                }
                Input::Uploaded { op, result: if failed { Err(error()) } else { Ok(Stored { etag: format!("b{}", segment.n) }) } }
            }
            Output::Move { op, name, entry } => {
                assert!(entry.in_backup && !entry.stored, "only what is in the backup alone is moved");
                let refused = self.refused.is_some_and(|(_, n)| n == entry.n);
                let failed = refused || self.backup.fails();
                let result = if failed { Err(error()) } else { self.store_result(Stored { etag: "m".into() }) };
                assert!(self.backup.segments.contains(&name), "{name} is not in the backup");
                if result.is_ok() {
                    let file = self.segments.values_mut().find(|file| file.name == name).expect("it was recorded");
                    assert!(!file.stored || self.lives > 1, "a segment is stored once");
                    file.stored = true;
                }
                Input::Uploaded { op, result }
            }
            Output::PutPlaylist { op, name, body, .. } => {
                assert!(self.backup.manifest, "{name} is put to a backup where nothing fences it");
                let stored = &self.backup.segments;
                assert!(names(&body).all(|segment| stored.contains(segment)), "{name} at the backup names what is not there");
                let before = self.backup.playlists.get(&name).cloned().unwrap_or_default();
                assert!(tags_and_names(&body).starts_with(&tags_and_names(&before)), "an EVENT playlist only grows");
                let failed = self.backup.fails();
                if !failed {
                    self.backup.told.push(format!("put {name}"));
                    self.backup.playlists.insert(name, body);
                }
                Input::Put { op, result: if failed { Err(error()) } else { Ok(()) } }
            }
            Output::PutManifest { op, .. } => {
                let failed = self.backup.fails();
                self.backup.manifest |= !failed;
                Input::Put { op, result: if failed { Err(error()) } else { Ok(()) } }
            }
            Output::RemoveFromBackup { op, what } => {
                let failed = self.backup.refuses_removal || self.backup.fails();
                if !failed {
                    self.remove(what);
                }
                Input::Put { op, result: if failed { Err(error()) } else { Ok(()) } }
            }
            other => panic!("not the backup's: {other:?}"),
        };
        self.answer(input);
    }

    fn remove(&mut self, what: Removal) {
        match what {
            Removal::Playlist(name) => {
                self.backup.playlists.remove(&name);
                self.backup.told.push(format!("remove {name}"));
            }
            Removal::Manifest => self.backup.manifest = false,
            Removal::Segments(entries) => {
                for entry in entries {
                    let name = self.session.manifest().ledger[entry].name.clone();
                    let named = self.backup.playlists.values().any(|body| names(body).any(|segment| segment == name));
                    assert!(!named, "{name} goes while the backup's playlist names it");
                    let in_primary = self.playlists.values().any(|body| names(body).any(|segment| segment == name));
                    assert!(in_primary, "{name} goes before the primary's playlist names it");
                    self.backup.segments.remove(&name);
                    self.backup.told.push(format!("remove {name}"));
                }
            }
        }
    }

    /// Every closed segment is where the ledger says, and in no playlist twice. `answers`: none is on its way.
    pub fn check_places(&self) {
        let manifest = self.session.manifest();
        for entry in &manifest.ledger {
            let in_primary = self.segments.values().any(|file| file.name == entry.name && file.stored);
            assert!(!entry.stored || in_primary, "{} is not in the primary: {entry:?}", entry.name);
            // What the primary has is removed there before it is entered.
            let in_backup = self.backup.segments.contains(&entry.name) || entry.stored;
            assert!(!entry.in_backup || in_backup, "{} is not in the backup", entry.name);
            assert!(!entry.lost || !(entry.stored || entry.in_backup), "{entry:?}");
        }
        for (playlists, stored) in [(&self.playlists, None), (&self.backup.playlists, Some(&self.backup.segments))] {
            for (name, body) in playlists {
                let named: Vec<&str> = names(body).collect();
                let once: BTreeSet<&str> = named.iter().copied().collect();
                assert_eq!(named.len(), once.len(), "{name} names something twice");
                if let Some(stored) = stored {
                    assert!(named.iter().all(|segment| stored.contains(*segment)), "{name} names what is gone");
                }
            }
        }
    }
}

fn error() -> StoreError {
    StoreError::Retryable("503".into())
}

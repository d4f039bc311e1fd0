//! What a playlist at one storage may name: only what that storage has confirmed, in media order.

use super::object::{Object, PLAYLIST};
use crate::playlist::PlaylistText;
use crate::{Ledger, Place, Tick};
use std::collections::BTreeSet;

#[derive(Debug)]
pub(super) struct Naming {
    at: Place,
    /// So many entries of the playlist are named or left out.
    pub(super) named: usize,
    /// Entries of an earlier process: its playlist may name them all, so none that names fewer is put.
    pub(super) inherited: usize,
    pub(super) text: PlaylistText,
    /// Nothing more will be named.
    pub(super) ended: bool,
    pub(super) object: Object,
}

impl Naming {
    pub(super) fn new(at: Place, inherited: usize, text: PlaylistText) -> Self {
        Self { at, named: 0, inherited, text, ended: false, object: Object::default() }
    }

    /// Names those of these entries of its playlist that follow, up to the first of which it is not known yet where it will be. What is being
    /// removed from the backup may be gone.
    pub(super) fn advance(&mut self, entries: &[usize], ledger: &Ledger, being_removed: &BTreeSet<usize>) {
        for place in entries.iter().skip(self.named) {
            let entry = &ledger[*place];
            let (here, elsewhere) = match self.at {
                Place::Primary => (entry.stored, false),
                Place::Backup => (entry.in_backup && !being_removed.contains(place), entry.stored),
            };
            if here {
                self.text.push(entry);
                self.object.dirty = true;
            } else if entry.lost || elsewhere {
                self.text.skip();
            } else {
                return;
            }
            self.named += 1;
        }
    }

    /// The object is gone; the entries from `first` on make a new one.
    pub(super) fn begin_anew(&mut self, first: usize, text: PlaylistText) {
        *self = Self { named: first, ..Self::new(self.at, 0, text) };
    }

    pub(super) fn end(&mut self) {
        if !self.text.is_empty() && !self.ended {
            self.ended = true;
            self.object.dirty = true;
        }
    }

    pub(super) fn due(&self, urgent: bool) -> Option<Tick> {
        let complete = self.named >= self.inherited;
        self.object.due(self.text.len(), &PLAYLIST, urgent || self.ended).filter(|_| complete && !self.text.is_empty())
    }

    pub(super) fn settled(&self) -> bool {
        self.text.is_empty() || self.object.settled()
    }
}

//! The segments of a recording, in the order in which they were closed.
//!
//! Of a recording of days there are tens of thousands. What nothing can change any more is in the spool and in storage as text (a chunk,
//! see [`LEDGER_CHUNK`]); of that only sums stay in memory.

use crate::{MediaTime, WallMicros};
use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

/// Ledger entries in a chunk object; only the tail is part of the manifest object (media.md section 4). So few that the manifest, which is
/// overwritten again and again, is small.
pub const LEDGER_CHUNK: usize = 64;

/// A line of the ledger: one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Name of the playlist object.
    pub playlist: String,
    pub n: u32,
    /// Object name of the segment.
    pub name: String,
    pub start: MediaTime,
    pub duration90k: i64,
    pub wall: WallMicros,
    pub bytes: u64,
    pub sha256: String,
    /// Empty until stored; of the storage that took it last.
    pub etag: String,
    /// The primary storage has it.
    pub stored: bool,
    /// The backup storage has it, alone or besides the primary.
    pub in_backup: bool,
    /// Neither has it, and it is given up.
    pub lost: bool,
    pub discontinuity: bool,
    pub independent: bool,
    pub epoch: u32,
}

impl LedgerEntry {
    pub(crate) fn end(&self) -> MediaTime {
        MediaTime(self.start.0 + self.duration90k)
    }

    /// Neither storage nor the session will change it.
    pub fn is_settled(&self) -> bool {
        (self.stored && !self.in_backup) || self.lost
    }
}

/// Where the segments of a playlist lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) start: MediaTime,
    pub(crate) end: MediaTime,
    /// The number behind the highest.
    pub(crate) next_n: u32,
    /// Lengths of those that are not lost.
    pub(crate) recorded90k: i64,
}

impl Bounds {
    fn of(entry: &LedgerEntry) -> Self {
        let recorded90k = if entry.lost { 0 } else { entry.duration90k };
        Self { start: entry.start, end: entry.end(), next_n: entry.n + 1, recorded90k }
    }

    fn and(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
            next_n: self.next_n.max(other.next_n),
            recorded90k: self.recorded90k + other.recorded90k,
        }
    }
}

/// What is known of the segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) entries: usize,
    pub(crate) stored: u64,
    pub(crate) stored_bytes: u64,
    /// In the backup alone.
    pub(crate) backed_up: u64,
}

impl Totals {
    fn with(self, entry: &LedgerEntry) -> Self {
        Self {
            entries: self.entries + 1,
            stored: self.stored + u64::from(entry.stored),
            stored_bytes: self.stored_bytes + if entry.stored { entry.bytes } else { 0 },
            backed_up: self.backed_up + u64::from(entry.in_backup && !entry.stored),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    sealed: Totals,
    /// Of the sealed ones, by playlist.
    bounds: BTreeMap<String, Bounds>,
    kept: Vec<LedgerEntry>,
}

impl Ledger {
    /// How many segments there are, sealed ones among them.
    pub fn len(&self) -> usize {
        self.sealed.entries + self.kept.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// So many from the first on are not kept. A multiple of [`LEDGER_CHUNK`].
    pub fn sealed(&self) -> usize {
        self.sealed.entries
    }

    /// Those that are kept: all, in a ledger that was read.
    pub fn kept(&self) -> &[LedgerEntry] {
        &self.kept
    }

    pub fn iter(&self) -> std::slice::Iter<'_, LedgerEntry> {
        self.kept.iter()
    }

    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, LedgerEntry> {
        self.kept.iter_mut()
    }

    /// Those from this place on.
    ///
    /// # Panics
    /// When that one is sealed, or there are not so many.
    pub fn since(&self, place: usize) -> &[LedgerEntry] {
        &self.kept[place - self.sealed.entries..]
    }

    /// Those from this place on.
    ///
    /// # Panics
    /// When that one is sealed, or there are not so many.
    pub fn since_mut(&mut self, place: usize) -> &mut [LedgerEntry] {
        &mut self.kept[place - self.sealed.entries..]
    }

    pub fn push(&mut self, entry: LedgerEntry) {
        self.kept.push(entry);
    }

    /// The first place of which an entry may still change.
    pub fn settled(&self) -> usize {
        self.sealed.entries + self.kept.iter().take_while(|entry| entry.is_settled()).count()
    }

    /// Keeps only sums of whole chunks before this place.
    pub(crate) fn seal(&mut self, before: usize) {
        let end = before.min(self.settled()) / LEDGER_CHUNK * LEDGER_CHUNK;
        for entry in self.kept.drain(..end.saturating_sub(self.sealed.entries)) {
            self.sealed = self.sealed.with(&entry);
            let bounds = Bounds::of(&entry);
            self.bounds.entry(entry.playlist).and_modify(|known| *known = known.and(bounds)).or_insert(bounds);
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        self.kept.iter().fold(self.sealed, Totals::with)
    }

    /// Of one playlist object; None: it has no segment.
    pub(crate) fn bounds(&self, playlist: &str) -> Option<Bounds> {
        let kept = self.kept.iter().filter(|entry| entry.playlist == playlist).map(Bounds::of);
        self.bounds.get(playlist).copied().into_iter().chain(kept).reduce(Bounds::and)
    }

    /// Where the newest media ends.
    pub(crate) fn end(&self) -> Option<MediaTime> {
        self.bounds.values().map(|bounds| bounds.end).chain(self.kept.iter().map(LedgerEntry::end)).max()
    }

    /// Length of what is recorded, by playlist object.
    pub(crate) fn recorded(&self) -> impl Iterator<Item = (&str, i64)> {
        let sealed = self.bounds.iter().map(|(playlist, bounds)| (playlist.as_str(), bounds.recorded90k));
        sealed.chain(self.kept.iter().map(|entry| (entry.playlist.as_str(), Bounds::of(entry).recorded90k)))
    }

    /// Places of the kept ones of a playlist object.
    pub(crate) fn places(&self, playlist: &str) -> Vec<usize> {
        let places = self.sealed.entries..;
        places.zip(&self.kept).filter(|(_, entry)| entry.playlist == playlist).map(|(place, _)| place).collect()
    }
}

impl Index<usize> for Ledger {
    type Output = LedgerEntry;

    fn index(&self, place: usize) -> &LedgerEntry {
        &self.kept[place - self.sealed.entries]
    }
}

impl IndexMut<usize> for Ledger {
    fn index_mut(&mut self, place: usize) -> &mut LedgerEntry {
        &mut self.kept[place - self.sealed.entries]
    }
}

impl From<Vec<LedgerEntry>> for Ledger {
    fn from(kept: Vec<LedgerEntry>) -> Self {
        Self { kept, ..Self::default() }
    }
}

impl FromIterator<LedgerEntry> for Ledger {
    fn from_iter<T: IntoIterator<Item = LedgerEntry>>(entries: T) -> Self {
        entries.into_iter().collect::<Vec<_>>().into()
    }
}

impl<'a> IntoIterator for &'a Ledger {
    type Item = &'a LedgerEntry;
    type IntoIter = std::slice::Iter<'a, LedgerEntry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: usize, stored: bool) -> LedgerEntry {
        LedgerEntry {
            playlist: if n.is_multiple_of(3) { "b.m3u8" } else { "a.m3u8" }.into(),
            n: n as u32,
            name: format!("{n}.ts"),
            start: MediaTime(n as i64 * 100),
            duration90k: 100,
            wall: WallMicros(0),
            bytes: 10,
            sha256: String::new(),
            etag: String::new(),
            stored,
            in_backup: false,
            lost: n == 5,
            discontinuity: false,
            independent: true,
            epoch: 1,
        }
    }

    #[test]
    fn sums_are_the_same_whatever_is_sealed() {
        let whole: Ledger = (0..200).map(|n| entry(n, n < 150 && n != 5)).collect();
        let sums = |ledger: &Ledger| {
            let mut recorded = BTreeMap::<String, i64>::new();
            ledger.recorded().for_each(|(playlist, length)| *recorded.entry(playlist.into()).or_default() += length);
            (ledger.len(), ledger.settled(), ledger.totals(), ledger.bounds("a.m3u8"), ledger.bounds("b.m3u8"), ledger.end(), recorded)
        };
        let mut sealed = whole.clone();
        for (before, kept) in [(63, 200), (64, 136), (100, 136), (200, 72)] {
            sealed.seal(before);
            assert_eq!((sealed.iter().count(), sealed.sealed()), (kept, 200 - kept), "150 are settled");
            assert_eq!(sums(&sealed), sums(&whole));
        }
        assert_eq!(whole.totals(), Totals { entries: 200, stored: 149, stored_bytes: 1490, backed_up: 0 });
        let a = Bounds { start: MediaTime(100), end: MediaTime(20_000), next_n: 200, recorded90k: 132 * 100 };
        assert_eq!(whole.bounds("a.m3u8"), Some(a), "133 segments, of which one is lost");
    }

    #[test]
    fn places_stay_what_they_are() {
        let mut ledger: Ledger = (0..130).map(|n| entry(n, true)).collect();
        ledger.seal(130);
        ledger.push(entry(130, false));
        ledger[130].bytes = 7;
        assert_eq!((ledger[128].name.as_str(), ledger[130].bytes, ledger.since(129).len()), ("128.ts", 7, 2));
        assert_eq!((ledger.places("b.m3u8"), ledger.places("a.m3u8")), (vec![129], vec![128, 130]));
        assert_eq!((ledger.bounds("c.m3u8"), Ledger::default().end()), (None, None));
    }
}

//! Segments that storage has and the manifest does not name: it is written later than they are. What sorts behind the manifest's newest
//! segments is listed, and entered into the ledger by the entry that was stored with each, or by its content.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, stream};
use recorder_media::{Gap, GapReason, LedgerEntry, Manifest, MediaKinds, MediaTime, PlaylistRecord, WallMicros, names};
use recording_crds::job::Job;

use super::patiently;
use crate::manifest;
use crate::outcome::InitFailure;
use crate::spool::{recovery, ts_tail};
use crate::store::{Described, Fetched};
use crate::uploader::Storage;

/// Objects looked at side by side.
const LOOKS_AT_ONCE: usize = 8;
/// A listing that takes longer is given up: the room is waiting.
const LISTING_LIMIT: Duration = Duration::from_secs(60);
/// A segment's name, its entry's times and the recording's epoch agree to within this; names have milliseconds.
const TOLERANCE_90K: i64 = MediaTime::PER_SECOND;
/// `segmentSeconds` is at most 60, and a segment at most 14 s longer (media.md section 4); one more for rounding.
const LONGEST_90K: i64 = 75 * MediaTime::PER_SECOND;
/// Ten years: later than any recording lasts.
const LATEST_90K: i64 = 3653 * 86_400 * MediaTime::PER_SECOND;
/// Segments are cut at 50 MB.
const LARGEST_BYTES: u64 = 64_000_000;
const SHA256_DIGITS: usize = 64;

/// A segment behind the manifest, and where it is.
#[derive(Debug)]
struct Found<'a> {
    name: String,
    stored: bool,
    in_backup: bool,
    /// Where it is read.
    at: &'a Storage,
    described: Option<Described>,
}

/// Enters what the storages have behind the manifest. A storage that cannot be listed is gone on without: the hole then begins where the
/// manifest ends.
pub(super) async fn enter(job: &Job, media: MediaKinds, manifest: &mut Manifest, storage: &Storage, backup: Option<&Storage>) {
    let newest = newest_names(manifest);
    let mut found = BTreeMap::new();
    for name in listed(job, storage, &newest).await {
        found.insert(name.clone(), Found { name, stored: true, in_backup: false, at: storage, described: None });
    }
    if let Some(backup) = backup {
        for name in listed(job, backup, &newest).await {
            let new = Found { name: name.clone(), stored: false, in_backup: true, at: backup, described: None };
            found.entry(name).or_insert(new).in_backup = true;
        }
    }
    if found.is_empty() {
        return;
    }
    let (known, all) = (manifest.ledger.len(), found.len());
    let found = described(job, found.into_values().collect()).await;
    Entering { job, media, manifest, unread: BTreeMap::new(), away: false }.enter(found).await;
    manifest.ledger.since_mut(known).sort_by_key(|entry| entry.start);
    let entered = manifest.ledger.len() - known;
    tracing::info!(entered, left = all - entered, "storage has segments that the manifest does not name");
}

/// In their order; those behind one that the storage does not tell of are left out.
async fn described<'a>(job: &Job, found: Vec<Found<'a>>) -> Vec<Found<'a>> {
    let looks = found.into_iter().map(|found| async move {
        let described = patiently(job, || found.at.store.describe(&found.name)).await?;
        Ok::<_, InitFailure>(Found { described: described.flatten(), ..found })
    });
    let (mut looks, mut known) = (stream::iter(looks).buffered(LOOKS_AT_ONCE), Vec::new());
    while let Some(looked) = looks.next().await {
        match looked {
            Ok(found) => known.push(found),
            Err(failure) => {
                tracing::warn!(why = failure.message, "storage does not tell of a segment; those behind it stay unknown");
                break;
            }
        }
    }
    known
}

/// The newest segment of each playlist that the manifest knows, by base.
fn newest_names(manifest: &Manifest) -> BTreeMap<String, String> {
    let mut newest: BTreeMap<String, String> = BTreeMap::new();
    for entry in &manifest.ledger {
        let known = newest.entry(names::volume_of(&entry.playlist).0.to_owned()).or_default();
        if entry.name > *known {
            known.clone_from(&entry.name);
        }
    }
    newest
}

async fn listed(job: &Job, storage: &Storage, newest: &BTreeMap<String, String>) -> Vec<String> {
    let listing = tokio::time::timeout(LISTING_LIMIT, list(job, storage, newest)).await;
    let why = match listing {
        Ok(Ok(names)) => return names,
        Ok(Err(failure)) => failure.message,
        Err(_) => "time-out".to_owned(),
    };
    tracing::warn!(why, "storage cannot be listed; what it has behind the manifest stays unknown");
    Vec::new()
}

/// Names of segments behind the manifest. Where a page ends among segments that the manifest knows, the rest of them is left out.
async fn list(job: &Job, storage: &Storage, newest: &BTreeMap<String, String>) -> Result<Vec<String>, InitFailure> {
    // Of a person, or of everybody.
    let prefix = format!("{}_", job.stem);
    let is_ours = |base: &str| base == job.stem || base.starts_with(&format!("{}__uid_s_", job.stem)) && kind(base).is_some();
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let page = patiently(job, || storage.store.list_after(&prefix, &after)).await?.unwrap_or_default();
        let Some(last) = page.last().cloned() else { return Ok(names) };
        names.extend(page.into_iter().filter(|name| {
            recovery::parts_of(name).is_some_and(|(base, _)| is_ours(base) && newest.get(base).is_none_or(|newest| name > newest))
        }));
        let known = recovery::parts_of(&last).and_then(|(base, _)| newest.get(base));
        after = known.filter(|newest| **newest > last).cloned().unwrap_or(last);
    }
}

/// What a playlist's base says that it holds.
fn kind(base: &str) -> Option<&str> {
    base.rsplit_once("__uid_e_").map(|(_, kind)| kind).filter(|kind| !kind.is_empty())
}

#[derive(Debug)]
struct Entering<'a> {
    job: &'a Job,
    media: MediaKinds,
    manifest: &'a mut Manifest,
    /// Of each base, the newest entered segment whose content was not read.
    unread: BTreeMap<String, (String, &'a Storage)>,
    /// Nothing more is read.
    away: bool,
}

impl<'a> Entering<'a> {
    /// `found` in the order of names: of each playlist in the order of time.
    async fn enter(mut self, found: Vec<Found<'a>>) {
        self.manifest.epoch_time = self.manifest.epoch_time.or_else(|| epoch_time(&found));
        for found in &found {
            let Some((base, wall)) = recovery::parts_of(&found.name) else { continue };
            let noted = found.described.as_ref().and_then(|described| self.noted(&found.name, base, wall, described));
            match noted {
                Some(entry) if self.is_of_an_older_attempt(&entry) => {}
                Some(entry) => {
                    self.unread.insert(base.to_owned(), (found.name.clone(), found.at));
                    self.push(base, found, entry);
                }
                None => self.read(base, found).await,
            }
        }
        self.read_counters().await;
    }

    /// The entry that was stored with it, if it is of this object and this recording.
    fn noted(&self, name: &str, base: &str, wall: WallMicros, described: &Described) -> Option<LedgerEntry> {
        let entry = manifest::parse_ledger_line(described.ledger.as_deref()?).ok()?;
        let is_itself = entry.name == name && names::volume_of(&entry.playlist).0 == base && entry.playlist.ends_with(".m3u8");
        let is_content = entry.bytes == described.bytes && entry.sha256.len() == SHA256_DIGITS;
        let is_length = (1..=LONGEST_90K).contains(&entry.duration90k);
        let is_then = is_time(&entry)
            && between(entry.wall, wall).abs() <= TOLERANCE_90K
            && (entry.start.0 - self.since_epoch(entry.wall)).abs() <= TOLERANCE_90K;
        let attempt = u32::try_from(self.job.attempt).unwrap_or(u32::MAX);
        (is_itself && is_content && is_length && is_then && entry.n < u32::MAX && entry.epoch <= attempt).then_some(entry)
    }

    fn since_epoch(&self, wall: WallMicros) -> i64 {
        self.manifest.epoch_time.map_or(0, |epoch| between(epoch, wall))
    }

    /// Stored by one that a newer attempt has replaced: it may lie beside what that one has recorded.
    fn is_of_an_older_attempt(&self, entry: &LedgerEntry) -> bool {
        entry.epoch < self.manifest.epoch
    }

    /// By its content: whatever it may be, it is read.
    async fn read(&mut self, base: &str, found: &Found<'a>) {
        let Some(described) = found.described.as_ref().filter(|described| described.bytes <= LARGEST_BYTES) else { return };
        let Some(object) = self.fetch(&found.name, found.at).await else { return };
        if !self.manifest.playlists.iter().any(|record| names::volume_of(&record.name).0 == base) {
            if ts_tail::whole(&object.body).is_none() {
                return;
            }
            self.begin_playlist(names::playlist_name(base), base);
        }
        if let Some(entry) = recovery::entry_of(&found.name, &object.body, self.manifest) {
            self.unread.remove(base);
            self.push(base, found, LedgerEntry { etag: described.etag.clone(), ..entry });
        }
    }

    /// Enters it, unless it lies before what is known of its playlist.
    fn push(&mut self, base: &str, found: &Found<'a>, mut entry: LedgerEntry) {
        let before = self.manifest.ledger.iter().rev().find(|known| names::volume_of(&known.playlist).0 == base);
        if before.is_some_and(|known| !follows(&entry, known)) {
            return;
        }
        let before = before.map(|known| (known.n, MediaTime(known.start.0 + known.duration90k)));
        if entry.n > before.map_or(0, |(n, _)| n + 1) {
            entry.discontinuity = true;
            if let Some((_, end)) = before {
                lost(self.manifest, end, entry.start, &entry.playlist);
            }
        }
        if !self.manifest.playlists.iter().any(|record| record.name == entry.playlist) {
            self.begin_playlist(entry.playlist.clone(), base);
        }
        let volumes = self.manifest.playlists.iter_mut().filter(|record| names::volume_of(&record.name).0 == base);
        volumes.for_each(|record| record.continuation.next_n = record.continuation.next_n.max(entry.n + 1));
        let etag = found.described.as_ref().map(|described| described.etag.clone()).unwrap_or_default();
        let (stored, in_backup) = (found.stored, found.in_backup);
        self.manifest.ledger.push(LedgerEntry { etag, stored, in_backup, lost: false, ..entry });
    }

    /// One that began since the manifest was written.
    fn begin_playlist(&mut self, name: String, base: &str) {
        let earlier = self.manifest.playlists.iter().rev().find(|record| names::volume_of(&record.name).0 == base);
        let record = match earlier {
            Some(earlier) => PlaylistRecord { name, stored: false, ended: false, ..earlier.clone() },
            None => PlaylistRecord::begin(name, identity(&self.job.stem, base, self.manifest), self.media),
        };
        self.manifest.playlists.push(record);
    }

    async fn fetch(&mut self, name: &str, at: &Storage) -> Option<Fetched> {
        if self.away {
            return None;
        }
        match patiently(self.job, || at.store.fetch(name)).await {
            Ok(found) => found.flatten(),
            Err(failure) => {
                tracing::warn!(why = failure.message, "storage does not let segments be read");
                self.away = true;
                None
            }
        }
    }

    /// Where the transport streams go on: behind the newest segment of each.
    async fn read_counters(&mut self) {
        for (base, (name, at)) in std::mem::take(&mut self.unread) {
            let object = self.fetch(&name, at).await;
            let Some(tail) = object.and_then(|object| ts_tail::whole(&object.body)) else { continue };
            let volumes = self.manifest.playlists.iter_mut().filter(|record| names::volume_of(&record.name).0 == base);
            volumes.for_each(|record| recovery::go_on_from(&mut record.continuation, tail.continuity_counters.clone()));
        }
    }
}

fn follows(entry: &LedgerEntry, before: &LedgerEntry) -> bool {
    let end = before.start.0 + before.duration90k;
    entry.n > before.n && entry.name > before.name && entry.start > before.start && entry.start.0 >= end - TOLERANCE_90K
}

/// When the manifest does not say it yet: by an entry, or as the first segment's beginning.
fn epoch_time(found: &[Found<'_>]) -> Option<WallMicros> {
    let lines = found.iter().filter_map(|found| Some((found, found.described.as_ref()?.ledger.as_deref()?)));
    let entries =
        lines.filter_map(|(found, line)| manifest::parse_ledger_line(line).ok().filter(|entry| entry.name == found.name && is_time(entry)));
    let by_entry = entries.map(|entry| entry.wall.0.saturating_add_signed(-entry.start.as_micros())).min();
    let first = || found.iter().filter_map(|found| recovery::parts_of(&found.name)).map(|(_, wall)| wall.0).min();
    by_entry.or_else(first).map(WallMicros)
}

/// 90 kHz from one to the other.
fn between(from: WallMicros, to: WallMicros) -> i64 {
    MediaTime::from_micros(i64::try_from(to.0).unwrap_or(i64::MAX).saturating_sub_unsigned(from.0)).0
}

/// The epoch is the arrival of the first packet. One that was held up on its way was sent before.
fn is_time(entry: &LedgerEntry) -> bool {
    (-TOLERANCE_90K..=LATEST_90K).contains(&entry.start.0)
}

/// Books a segment that no storage has.
pub(super) fn lost(manifest: &mut Manifest, start: MediaTime, end: MediaTime, playlist: &str) {
    if end <= start {
        return;
    }
    let is_next = |gap: &&mut Gap| {
        gap.reason == GapReason::SegmentLost
            && gap.playlist.as_deref() == Some(playlist)
            && (gap.start.0 + gap.duration90k - start.0).abs() <= TOLERANCE_90K
    };
    match manifest.gaps.iter_mut().find(is_next) {
        Some(gap) => gap.duration90k = gap.duration90k.max(end.0 - gap.start.0),
        None => manifest.gaps.push(Gap {
            start,
            duration90k: end.0 - start.0,
            reason: GapReason::SegmentLost,
            playlist: Some(playlist.to_owned()),
            open: false,
        }),
    }
}

/// Whose playlist it is: everybody's, a participant's that the manifest knows, or what the name says of it.
fn identity(stem: &str, base: &str, manifest: &Manifest) -> String {
    if base == stem {
        return String::new();
    }
    let escaped = base.strip_prefix(stem).and_then(|rest| rest.strip_prefix("__uid_s_")).and_then(|rest| rest.rsplit_once("__uid_e_"));
    let escaped = escaped.map_or(base, |(escaped, _)| escaped);
    let known: BTreeSet<&str> = manifest.participants.iter().map(|participant| participant.identity.as_str()).collect();
    let known = known.into_iter().find(|identity| recording_crds::names::escape(identity) == escaped);
    known.map_or_else(|| recording_crds::names::unescape(escaped), str::to_owned)
}

#[cfg(test)]
mod tests;

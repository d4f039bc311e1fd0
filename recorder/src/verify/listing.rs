//! A playlist as it lies in storage, held against the ledger.

use std::collections::BTreeMap;

use recorder_media::{LedgerEntry, PlaylistText, attempt_of_line};

use super::finding::Finding;
use super::{Recording, objects};
use crate::store::{Fetched, Store, StoreFailure};

/// Durations are written as differences of rounded sums.
const ROUNDING_MS: i64 = 1;
const END: &str = "#EXT-X-ENDLIST";

pub(super) type Read = Result<Option<Fetched>, StoreFailure>;

/// What a player reads.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) target_seconds: u32,
    pub(super) segments: Vec<Named>,
    pub(super) ended: bool,
    /// Who wrote it, as the last comment says.
    pub(super) attempt: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) name: String,
    duration_ms: i64,
    discontinuity: bool,
}

pub(super) async fn read(store: &dyn Store, playlist: &str) -> Read {
    objects::fetch(store, playlist).await
}

/// A playlist comes to storage with its first segment; before that it may be absent.
pub(super) fn check(recording: &Recording, playlist: &str, read: &Read) -> Vec<Finding> {
    let object = playlist.to_owned();
    let found = match read {
        Ok(Some(found)) => found,
        Ok(None) if recording.ledger_of(playlist).all(|entry| !entry.stored) => return vec![],
        Ok(None) => return vec![Finding::Missing { object }],
        Err(why) => return vec![Finding::Unreadable { object, why: why.to_string() }],
    };
    let listing = match parse(&found.body) {
        Ok(listing) => listing,
        Err((line, why)) => return vec![Finding::Syntax { playlist: object, line, why: why.to_owned() }],
    };
    let mut findings = names(recording, playlist, &listing);
    findings.extend(details(recording, playlist, &listing));
    if recording.over && !listing.ended {
        findings.push(Finding::NoEnd { playlist: object.clone() });
    }
    if findings.is_empty() {
        findings.extend(difference(recording, &listing, playlist, &found.body).map(|line| Finding::Text { playlist: object, line }));
    }
    findings
}

/// Tags of a segment stand before its name.
pub(super) fn parse(body: &[u8]) -> Result<Listing, (usize, &'static str)> {
    let text = std::str::from_utf8(body).map_err(|_| (1, "no UTF-8"))?;
    if text.lines().next() != Some("#EXTM3U") {
        return Err((1, "#EXTM3U is missing"));
    }
    let (mut listing, mut next, mut duration) = (Listing::default(), Named::default(), None);
    for (line, text) in text.lines().enumerate().map(|(at, text)| (at + 1, text)) {
        let (tag, value) = text.split_once(':').unwrap_or((text, ""));
        match tag {
            _ if listing.ended => return Err((line, "text behind EXT-X-ENDLIST")),
            "#EXT-X-TARGETDURATION" => listing.target_seconds = value.parse().map_err(|_| (line, "no number of seconds"))?,
            "#EXTINF" => duration = Some(millis(value).ok_or((line, "no duration"))?),
            "#EXT-X-DISCONTINUITY" => next.discontinuity = true,
            END => listing.ended = true,
            _ if text.starts_with('#') => listing.attempt = attempt_of_line(text).or(listing.attempt),
            _ => {
                next.name = text.to_owned();
                next.duration_ms = duration.take().ok_or((line, "a segment without EXTINF"))?;
                listing.segments.push(std::mem::take(&mut next));
            }
        }
    }
    if listing.target_seconds == 0 { Err((1, "EXT-X-TARGETDURATION is missing")) } else { Ok(listing) }
}

/// `6.006,` as 6006.
fn millis(value: &str) -> Option<i64> {
    let (seconds, fraction) = value.split_once(',')?.0.split_once('.')?;
    (fraction.len() == 3).then_some(seconds.parse::<i64>().ok()? * 1000 + fraction.parse::<i64>().ok()?)
}

fn places<'a>(ledger: &[&'a LedgerEntry]) -> BTreeMap<&'a str, usize> {
    ledger.iter().enumerate().map(|(place, entry)| (entry.name.as_str(), place)).collect()
}

/// Exactly the stored segments, in order; while a recording goes on the newest may not be named yet.
fn names(recording: &Recording, playlist: &str, listing: &Listing) -> Vec<Finding> {
    let ledger: Vec<&LedgerEntry> = recording.ledger_of(playlist).collect();
    let places = places(&ledger);
    let (mut findings, mut named, mut next) = (vec![], vec![false; ledger.len()], 0);
    let finding = |segment: &str| (playlist.to_owned(), segment.to_owned());
    for segment in &listing.segments {
        let (playlist, segment) = finding(&segment.name);
        match places.get(segment.as_str()) {
            None => findings.push(Finding::Unknown { playlist, segment }),
            Some(place) if !ledger[*place].stored => findings.push(Finding::NotStored { playlist, segment }),
            Some(place) if *place < next => findings.push(Finding::Order { playlist, segment }),
            Some(place) => (named[*place], next) = (true, place + 1),
        }
    }
    let last = if recording.over { ledger.len() } else { next };
    let left_out = ledger[..last].iter().zip(named).filter(|(entry, named)| entry.stored && !named);
    findings.extend(left_out.map(|(entry, _)| finding(&entry.name)).map(|(playlist, segment)| Finding::NotNamed { playlist, segment }));
    findings
}

/// Durations and discontinuities of the segments that are rightly named.
fn details(recording: &Recording, playlist: &str, listing: &Listing) -> Vec<Finding> {
    let mut findings = vec![];
    let target_ms = i64::from(listing.target_seconds) * 1000;
    let ledger: Vec<&LedgerEntry> = recording.ledger_of(playlist).collect();
    let places = places(&ledger);
    for (at, named) in listing.segments.iter().enumerate() {
        let Some(place) = places.get(named.name.as_str()).copied() else { continue };
        let entry = ledger[place];
        let (playlist, segment, found_ms) = (playlist.to_owned(), named.name.clone(), named.duration_ms);
        let expected_ms = (entry.duration90k + 45) / 90;
        if (found_ms - expected_ms).abs() > ROUNDING_MS {
            findings.push(Finding::Duration { playlist: playlist.clone(), segment: segment.clone(), expected_ms, found_ms });
        }
        // RFC 8216 section 4.3.3.1: rounded to the nearest second.
        if found_ms >= target_ms + 500 {
            let target_seconds = listing.target_seconds;
            findings.push(Finding::TooLong { playlist: playlist.clone(), segment: segment.clone(), found_ms, target_seconds });
        }
        let breaks = entry.discontinuity || place > 0 && !ledger[place - 1].stored;
        if at > 0 && breaks && !named.discontinuity {
            findings.push(Finding::NoDiscontinuity { playlist, segment });
        }
    }
    findings
}

/// The first line that is not what the ledger gives; a recording that goes on may be ahead of its playlist.
fn difference(recording: &Recording, listing: &Listing, playlist: &str, body: &[u8]) -> Option<usize> {
    let expected = text(recording.ledger_of(playlist), listing.target_seconds, listing.attempt, recording.over).render(listing.ended);
    let found = String::from_utf8_lossy(body);
    let mut lines = expected.lines();
    let differs = found.lines().position(|line| lines.next() != Some(line));
    let unfinished = !body.ends_with(b"\n");
    differs.or(unfinished.then(|| found.lines().count().saturating_sub(1))).map(|at| at + 1)
}

/// What a recorder would write of these: all, or while a recording goes on up to the first that is on its way.
pub(super) fn text<'a>(
    ledger: impl Iterator<Item = &'a LedgerEntry>,
    target_seconds: u32,
    attempt: Option<u32>,
    over: bool,
) -> PlaylistText {
    let mut text = PlaylistText::new(target_seconds, attempt.unwrap_or(1));
    for entry in ledger.take_while(|entry| over || entry.stored || entry.lost) {
        if entry.stored { text.push(entry) } else { text.skip() }
    }
    text
}

//! Ends a playlist that was left open. A playlist only ever grows: what it says stays, and what the ledger says beyond that is added.

use recorder_media::LedgerEntry;

use super::Recording;
use super::finding::Finding;
use super::listing::{self, Read};
use crate::store::{Condition, Document, DocumentKind, Store, StoreFailure};

/// None: nothing that adding could mend. The sentence says what was done.
pub(super) async fn playlist(
    store: &dyn Store,
    recording: &Recording,
    name: &str,
    read: &Read,
    spoilt: &[Finding],
) -> Option<Result<String, Finding>> {
    let not = |why: &str| Finding::NotRepaired { playlist: name.to_owned(), why: why.to_owned() };
    let (before, condition) = match read {
        Ok(Some(found)) => (String::from_utf8(found.body.to_vec()).ok()?, Condition::Matches(found.etag.clone())),
        Ok(None) => (String::new(), Condition::Absent),
        Err(_) => return None,
    };
    let after = match text(recording, name, &before, spoilt) {
        Ok(after) if after == before => return None,
        Ok(after) => after,
        Err(why) => return Some(Err(not(why))),
    };
    let sentence = sentence(name, &before, &after);
    let document = Document { key: name.to_owned(), body: after.into(), kind: DocumentKind::Playlist };
    Some(match store.put_document(&document, &condition).await {
        Ok(_) => Ok(sentence),
        Err(StoreFailure::Conflict) => Err(not("somebody else has just written it; is a recorder still at work?")),
        Err(why) => Err(not(&why.to_string())),
    })
}

/// The ledger's text, if what is there is its beginning. A segment that is gone or damaged is left out like one that is lost.
fn text(recording: &Recording, name: &str, before: &str, spoilt: &[Finding]) -> Result<String, &'static str> {
    let (named, target_seconds, attempt) = match before {
        "" => (vec![], target(recording, name), None),
        _ => {
            let listing = listing::parse(before.as_bytes()).map_err(|_| "it cannot be read")?;
            if listing.ended {
                return Err("it has ended, and a playlist that has ended may not change");
            }
            (listing.segments.into_iter().map(|segment| segment.name).collect(), listing.target_seconds, listing.attempt)
        }
    };
    let is_good = |entry: &LedgerEntry| entry.stored && !spoilt.iter().any(|finding| finding.spoils(&entry.name));
    let mended: Vec<LedgerEntry> = recording
        .ledger_of(name)
        .map(|entry| {
            let stored = entry.stored && (is_good(entry) || named.contains(&entry.name));
            LedgerEntry { stored, ..entry.clone() }
        })
        .collect();
    let after = listing::text(mended.iter(), target_seconds, attempt, true).render(true);
    if after.starts_with(before) { Ok(after) } else { Err("what it says is not what the ledger gives") }
}

/// For a playlist that was never written: the least that holds for all its segments.
fn target(recording: &Recording, name: &str) -> u32 {
    let longest = recording.ledger_of(name).map(|entry| entry.duration90k).max().unwrap_or(0);
    u32::try_from((longest + 89_999) / 90_000).unwrap_or(1).max(1)
}

fn sentence(name: &str, before: &str, after: &str) -> String {
    let added = after[before.len()..].lines().filter(|line| !line.starts_with('#')).count();
    let verb = if before.is_empty() { "written" } else { "ended" };
    format!("{name}: {verb}, {added} segment{} added", if added == 1 { "" } else { "s" })
}

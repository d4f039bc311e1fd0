//! Every segment of the ledger, read and hashed.

use std::io::IsTerminal;
use std::time::Duration;

use futures::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use recorder_media::LedgerEntry;
use sha2::{Digest, Sha256};

use super::Recording;
use super::finding::Finding;
use crate::store::{Fetched, Store, StoreFailure, hex};

/// Each is held in memory whole: at most four times 50 MB.
const READS_AT_ONCE: usize = 4;
const TRIES: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// In the ledger's order.
pub(super) async fn check(store: &dyn Store, recording: &Recording) -> Vec<Finding> {
    let ledger = &recording.manifest.ledger;
    let bar = bar(ledger.iter().filter(|entry| entry.stored).map(|entry| entry.bytes).sum());
    let checks = ledger.iter().filter(|entry| !entry.lost).map(|entry| {
        let bar = &bar;
        async move {
            let finding = if entry.stored { segment(store, entry).await } else { never_stored(recording, entry) };
            bar.inc(if entry.stored { entry.bytes } else { 0 });
            finding
        }
    });
    let findings = stream::iter(checks).buffered(READS_AT_ONCE).filter_map(std::future::ready).collect().await;
    bar.finish_and_clear();
    findings
}

/// While a recording goes on, what is not stored yet is on its way.
fn never_stored(recording: &Recording, entry: &LedgerEntry) -> Option<Finding> {
    let object = entry.name.clone();
    recording.over.then_some(if entry.in_backup { Finding::InBackup { object } } else { Finding::NeverStored { object } })
}

async fn segment(store: &dyn Store, entry: &LedgerEntry) -> Option<Finding> {
    let object = entry.name.clone();
    let body = match fetch(store, &entry.name).await {
        Ok(Some(found)) => found.body,
        Ok(None) => return Some(Finding::Missing { object }),
        Err(why) => return Some(Finding::Unreadable { object, why: why.to_string() }),
    };
    let found = body.len() as u64;
    if found != entry.bytes {
        return Some(Finding::Size { object, expected: entry.bytes, found });
    }
    (hex(&Sha256::digest(&body)) != entry.sha256).then_some(Finding::Checksum { object })
}

/// Tries a few times when it may help.
pub(super) async fn fetch(store: &dyn Store, key: &str) -> Result<Option<Fetched>, StoreFailure> {
    for tried in 1..TRIES {
        match store.fetch(key).await {
            Err(StoreFailure::Retryable(_)) => tokio::time::sleep(FIRST_PAUSE * tried).await,
            answer => return answer,
        }
    }
    store.fetch(key).await
}

/// Drawn on a terminal only.
fn bar(bytes: u64) -> ProgressBar {
    let target = if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(bytes), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}") {
        bar.set_style(style);
    }
    bar
}

//! Two storages at the start: which of the two knows more, and which is claimed.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, stream};
use recorder_media::{Manifest, Session};
use recording_crds::codes::Code;
use recording_crds::job::Job;

use crate::manifest::Identity;
use crate::outcome::InitFailure;
use crate::uploader::{Claimed, Storage};

/// Objects of the backup that are asked for at the same time.
const LOOKS_AT_ONCE: usize = 8;

type Known = Result<Option<Manifest>, InitFailure>;

/// What the storages know of a recording: of two manifests the newer one. A first attempt may begin while the primary cannot be read; a
/// later one needs what its predecessor has stored.
pub(super) fn newer(job: &Job, primary: Known, backup: Known) -> Known {
    match (primary, backup) {
        (Ok(Some(primary)), Ok(Some(backup))) => Ok(Some(if progress(&backup) > progress(&primary) { backup } else { primary })),
        (Ok(None), Ok(backup)) => Ok(backup),
        (Ok(primary), _) => Ok(primary),
        (Err(_), Ok(Some(backup))) => Ok(Some(backup)),
        (Err(failure), Ok(None)) if job.attempt == 1 => {
            tracing::warn!(why = failure.message, "the storage cannot be read at the start");
            Ok(None)
        }
        (Err(failure), _) => Err(failure),
    }
}

/// Grows with every state that an attempt writes.
fn progress(manifest: &Manifest) -> (u32, usize, usize) {
    let placed = manifest.ledger.iter().map(|e| usize::from(e.stored) * 2 + usize::from(e.in_backup || e.lost)).sum();
    (manifest.epoch, manifest.ledger.len(), placed)
}

/// An earlier process may have ordered a copy's removal and never heard the answer: only what is there is believed. A backup that does not
/// tell is taken not to have it; the copy then stays where it is.
pub(super) async fn look_for_copies(manifest: &mut Manifest, backup: &Storage) {
    let copies = manifest.ledger.iter().filter(|entry| entry.stored && entry.in_backup).map(|entry| entry.name.clone());
    let looks = stream::iter(copies.collect::<Vec<_>>()).map(|name| async move {
        let found = backup.store.describe(&name).await;
        if let Err(why) = &found {
            tracing::warn!(%why, "the backup storage does not tell what it has");
        }
        (name, matches!(found, Ok(Some(_))))
    });
    let there: HashMap<String, bool> = looks.buffer_unordered(LOOKS_AT_ONCE).collect().await;
    for entry in manifest.ledger.iter_mut().filter(|entry| entry.stored && entry.in_backup) {
        entry.in_backup = there.get(&entry.name).copied().unwrap_or(false);
    }
}

/// Claims the primary; the backup too when something lies there, and instead when the primary refuses.
///
/// # Errors
/// When neither can be claimed, the primary's; when a newer attempt has claimed one of them.
pub(super) async fn claim(
    job: &Job,
    storage: Arc<Storage>,
    backup: Option<Arc<Storage>>,
    identity: &Identity,
    session: &mut Session,
) -> Result<(Claimed, Option<Claimed>), InitFailure> {
    let primary = super::claim(job, &storage, identity, session).await;
    let Some(backup) = backup else { return Ok((Claimed { storage, etag: primary? }, None)) };
    let in_use = session.manifest().ledger.iter().any(|entry| entry.in_backup);
    let refused = match &primary {
        Err(failure) if failure.code == Code::Superseded => return Err(failure.clone()),
        other => other.is_err(),
    };
    let mut etag = None;
    if refused || in_use {
        match (super::claim(job, &backup, identity, session).await, &primary) {
            (Ok(claimed), _) => {
                etag = claimed;
                session.backup_is_claimed();
            }
            (Err(failure), _) if failure.code == Code::Superseded => return Err(failure),
            (Err(_), Err(failure)) => return Err(failure.clone()),
            (Err(failure), Ok(_)) => tracing::warn!(why = failure.message, "the backup storage cannot be claimed"),
        }
    }
    let primary = primary.unwrap_or_else(|failure| {
        tracing::warn!(why = failure.message, "the storage refuses; recording begins with the backup storage");
        None
    });
    Ok((Claimed { storage, etag: primary }, Some(Claimed { storage: backup, etag })))
}

#[cfg(test)]
mod tests {
    use recorder_media::LedgerEntry;

    use super::*;
    use crate::store::volume::VolumeStore;

    fn entry() -> LedgerEntry {
        LedgerEntry {
            playlist: "p.m3u8".into(),
            n: 0,
            name: "p_0.ts".into(),
            start: recorder_media::MediaTime(0),
            duration90k: 1,
            wall: recorder_media::WallMicros(0),
            bytes: 1,
            sha256: String::new(),
            etag: String::new(),
            stored: false,
            in_backup: true,
            lost: false,
            discontinuity: false,
            independent: true,
            epoch: 1,
        }
    }

    fn known(epoch: u32, entries: usize, outcome: Option<recorder_media::Outcome>) -> Known {
        Ok(Some(Manifest { epoch, outcome, ledger: vec![entry(); entries].into(), ..Manifest::default() }))
    }

    fn refused() -> Known {
        Err(InitFailure::new(Code::UploaderInit, "403"))
    }

    #[tokio::test]
    async fn a_copy_that_is_gone_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("there.ts"), "media").expect("written");
        let store = Box::new(VolumeStore::open(folder.path(), "").expect("a folder"));
        let backup = Storage { store, manifest_key: "m.json".into(), attempt: 2, primary: None };
        let entry = |name: &str, stored| LedgerEntry { name: name.into(), stored, ..entry() };
        let ledger = vec![entry("there.ts", true), entry("removed.ts", true), entry("alone.ts", false)];
        let mut manifest = Manifest { ledger: ledger.into(), ..Manifest::default() };
        look_for_copies(&mut manifest, &backup).await;
        // What is there alone is not the backup's to lose: that it is gone is for the upload to find out.
        assert_eq!(manifest.ledger.iter().map(|entry| entry.in_backup).collect::<Vec<_>>(), [true, false, true]);
    }

    #[test]
    fn of_two_manifests_the_newer_one_is_gone_on_with() {
        let job = |attempt| Job { attempt, ..Job::parse(include_str!("../../../crds/tests/golden/job-v1.json")).expect("the golden job") };
        let of = |attempt, primary, backup| newer(&job(attempt), primary, backup).map(|m| m.map(|m| (m.epoch, m.ledger.len())));
        assert_eq!(of(2, known(1, 3, None), known(1, 5, None)), Ok(Some((1, 5))), "the primary was away since");
        assert_eq!(of(3, known(2, 3, None), known(1, 5, None)), Ok(Some((2, 3))), "a later attempt knew better");
        assert_eq!(of(2, known(1, 3, None), Ok(None)), Ok(Some((1, 3))));
        assert_eq!(of(2, Ok(None), known(1, 5, None)), Ok(Some((1, 5))));
        assert_eq!(of(2, known(1, 3, None), refused()), Ok(Some((1, 3))));
        assert_eq!(of(2, refused(), known(1, 5, None)), Ok(Some((1, 5))));
        assert_eq!(of(1, refused(), Ok(None)), Ok(None), "nothing is known, and there is nothing to know");
        assert!(of(2, refused(), Ok(None)).is_err(), "what was stored before is not known");
        assert!(of(1, refused(), refused()).is_err());
    }
}

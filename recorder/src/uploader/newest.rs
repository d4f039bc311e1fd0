//! Who is newest: the manifest in storage tells of a higher epoch.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Storage;
use crate::manifest;
use crate::store::StoreFailure;

/// A primary that is reached at all has answered by then; the SDK's own tries would hold up the backup's documents for minutes.
const PRIMARY_ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// One that gave no answer is not asked before the backup's next documents: each would wait anew.
const PRIMARY_RESTS: Duration = Duration::from_secs(60);
/// Whether there is a newer attempt is asked for about a minute: the connector waits no longer.
const QUESTIONS_MAX: u32 = 60;
const QUESTION_INTERVAL: Duration = Duration::from_secs(1);

/// The primary, as it is asked before the backup is written to.
#[derive(Debug)]
pub(crate) struct Primary {
    storage: Arc<Storage>,
    pub(super) answers_within: Duration,
    /// When it gave no answer last.
    silent: Mutex<Option<Instant>>,
}

impl Primary {
    pub(crate) fn new(storage: Arc<Storage>) -> Self {
        Self { storage, answers_within: PRIMARY_ANSWERS_WITHIN, silent: Mutex::default() }
    }

    /// What it does not answer is no: that it is away is what the backup is for.
    async fn knows_newer_attempt(&self) -> bool {
        let silent = *self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if silent.is_some_and(|since| since.elapsed() < PRIMARY_RESTS) {
            return false;
        }
        let answer = tokio::time::timeout(self.answers_within, self.storage.manifest_is_newer()).await;
        let newer = answer.ok().and_then(Result::ok);
        *self.silent.lock().unwrap_or_else(PoisonError::into_inner) = newer.is_none().then(Instant::now);
        newer.unwrap_or(false)
    }
}

impl Storage {
    /// What storage does not answer is no.
    pub(super) async fn is_superseded(&self) -> bool {
        self.look_for_newer_attempt().await.unwrap_or(false)
    }

    /// Does a manifest in storage carry a higher epoch? In the backup there is none when a newer attempt has moved everything and cleared
    /// it. That attempt's is in the primary by then, so the primary is asked second.
    pub(super) async fn look_for_newer_attempt(&self) -> Result<bool, StoreFailure> {
        if self.manifest_is_newer().await? {
            return Ok(true);
        }
        match &self.primary {
            Some(primary) => Ok(primary.knows_newer_attempt().await),
            None => Ok(false),
        }
    }

    async fn manifest_is_newer(&self) -> Result<bool, StoreFailure> {
        let found = self.store.fetch(&self.manifest_key).await?;
        Ok(found.is_some_and(|found| manifest::parse(&found.body).is_ok_and(|head| head.newest() > self.attempt)))
    }

    /// None: storage gave no answer.
    pub(super) async fn newer_attempt(&self) -> Option<bool> {
        for _ in 0..QUESTIONS_MAX {
            if let Ok(answer) = self.look_for_newer_attempt().await {
                return Some(answer);
            }
            tokio::time::sleep(QUESTION_INTERVAL).await;
        }
        None
    }
}

//! The images that a layout names: fetched, decoded and put into the album; tried again until they come.

mod fetch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use recorder_codec::{CodecError, Still};
use recorder_media::stage::ImageKey;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinError};

use crate::compose::Album;
use fetch::{FetchError, Fetcher};

/// Each may take 6 MiB as it comes, and 13 bytes a pixel while it is decoded.
const AT_ONCE: usize = 2;
const RETRY_FIRST: Duration = Duration::from_secs(2);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// An image that a job names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) url: String,
    /// Where it is named.
    pub(crate) field: &'static str,
}

/// The same for the same URL.
pub(crate) fn key(url: &str) -> ImageKey {
    let digest = Sha256::digest(url.as_bytes());
    ImageKey(digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first)))
}

/// What cannot be shown at the moment, and why, in words that may be published.
type Failures = Arc<Mutex<BTreeMap<ImageKey, String>>>;

#[derive(Debug)]
pub(crate) struct Images {
    allow_private: bool,
    album: Arc<Album>,
    /// Those of the layout before are kept: it is in force until the new one comes out of the delay line.
    before: BTreeMap<ImageKey, AbortHandle>,
    now: BTreeMap<ImageKey, AbortHandle>,
    failures: Failures,
    free: Arc<Semaphore>,
}

impl Images {
    /// `allow_private`: images may lie on addresses that are not global.
    pub(crate) fn new(album: Arc<Album>, allow_private: bool) -> Self {
        let (before, now) = Default::default();
        Self { allow_private, album, before, now, failures: Failures::default(), free: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// These are to be shown from now on.
    pub(crate) fn want(&mut self, images: Vec<Wanted>) {
        let (mut oldest, mut old) = (std::mem::take(&mut self.before), std::mem::take(&mut self.now));
        for image in images {
            let key = key(&image.url);
            if !self.now.contains_key(&key) {
                let task = old.remove(&key).or_else(|| oldest.remove(&key)).unwrap_or_else(|| self.spawn(key, image));
                self.now.insert(key, task);
            }
        }
        self.before = old;
        for (key, task) in oldest {
            task.abort();
            self.album.remove(key);
        }
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| self.now.contains_key(key));
    }

    fn spawn(&self, key: ImageKey, image: Wanted) -> AbortHandle {
        let (album, failures, free) = (self.album.clone(), self.failures.clone(), self.free.clone());
        tokio::spawn(bring(key, image, self.allow_private, album, failures, free)).abort_handle()
    }

    /// What cannot be shown at the moment; of several one.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).values().next().cloned()
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        self.now.values().chain(self.before.values()).for_each(AbortHandle::abort);
    }
}

/// Until it has come.
async fn bring(key: ImageKey, image: Wanted, allow_private: bool, album: Arc<Album>, failures: Failures, free: Arc<Semaphore>) {
    let mut wait = RETRY_FIRST;
    loop {
        let turn = free.acquire().await;
        let loaded = load(&image.url, allow_private).await;
        drop(turn);
        let error = match loaded {
            Ok(still) => {
                album.put(key, still);
                failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                return;
            }
            Err(error) => error,
        };
        let message = format!("spec.layout.{}: {error}", image.field);
        tracing::warn!("{message}");
        failures.lock().unwrap_or_else(PoisonError::into_inner).insert(key, message);
        // What somebody must mend is looked at now and then.
        wait = if error.may_pass() { wait } else { RETRY_MAX };
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MAX);
    }
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Decode(#[from] CodecError),
    #[error("failed to decode an image: {0}")]
    Panicked(#[from] JoinError),
}

impl LoadError {
    fn may_pass(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.may_pass())
    }
}

async fn load(url: &str, allow_private: bool) -> Result<Still, LoadError> {
    let bytes = Fetcher::new(allow_private)?.fetch(url).await?;
    Ok(tokio::task::spawn_blocking(move || Still::decode(&bytes)).await??)
}

#[cfg(test)]
mod tests;

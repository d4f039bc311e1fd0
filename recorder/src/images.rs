//! The images that a layout names: fetched, decoded and put into the album; tried again until they come.

mod fetch;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use recorder_codec::{CodecError, Still};
use recorder_media::stage::ImageKey;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, Semaphore};
use tokio::task::{AbortHandle, JoinError};

use crate::compose::Album;
use fetch::{FetchError, Fetcher};

/// Each may take 6 MiB as it comes, and 13 bytes a pixel while it is decoded.
const AT_ONCE: usize = 2;
/// All images of a layout together, as they are kept: 48 MB, or 80 with transparency.
const PIXELS_MAX: usize = 32 << 20;
/// More than the delay line and a full backlog hold together.
const KEPT: Duration = Duration::from_secs(120);
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
    /// Those of layouts before, and since when: they are in force until the new one comes out of the delay line.
    before: BTreeMap<ImageKey, Instant>,
    /// With what brings them; None: they were there.
    now: BTreeMap<ImageKey, Option<AbortHandle>>,
    failures: Failures,
    free: Arc<Semaphore>,
    /// One has come, or cannot.
    news: Arc<Notify>,
}

impl Images {
    /// `allow_private`: images may lie on addresses that are not global.
    pub(crate) fn new(album: Arc<Album>, allow_private: bool) -> Self {
        let (before, now) = Default::default();
        let (failures, free, news) = (Failures::default(), Arc::new(Semaphore::new(AT_ONCE)), Arc::default());
        Self { allow_private, album, before, now, failures, free, news }
    }

    /// These are to be shown from now on.
    pub(crate) fn want(&mut self, images: Vec<Wanted>) {
        // Something else has changed.
        if images.iter().map(|image| key(&image.url)).collect::<BTreeSet<_>>().iter().eq(self.now.keys()) {
            return;
        }
        let mut old = std::mem::take(&mut self.now);
        for image in images {
            let key = key(&image.url);
            if !self.now.contains_key(&key) {
                let is_there = self.before.remove(&key).filter(|_| self.album.has(key)).map(|_| None);
                let task = old.remove(&key).or(is_there).unwrap_or_else(|| Some(self.spawn(key, image)));
                self.now.insert(key, task);
            }
        }
        for (key, task) in old {
            // What has not come so far is not waited for any more.
            task.into_iter().for_each(|task| task.abort());
            self.before.insert(key, Instant::now());
        }
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).retain(|key, _| self.now.contains_key(key));
    }

    /// Forgets images of layouts that are not in force any more.
    pub(crate) fn tidy(&mut self) {
        for (key, _) in self.before.extract_if(.., |_, since| since.elapsed() > KEPT) {
            self.album.remove(key);
        }
    }

    fn spawn(&self, key: ImageKey, image: Wanted) -> AbortHandle {
        let bring = Bring {
            key,
            image,
            allow_private: self.allow_private,
            album: self.album.clone(),
            failures: self.failures.clone(),
            free: self.free.clone(),
            news: self.news.clone(),
        };
        tokio::spawn(bring.run()).abort_handle()
    }

    /// What cannot be shown at the moment; of several one.
    pub(crate) fn failure(&self) -> Option<String> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        self.now.keys().find_map(|key| failures.get(key)).cloned()
    }

    /// Waits until each has come or has failed once, but no longer than this.
    pub(crate) async fn settled(&self, limit: Duration) {
        let settled = async {
            loop {
                let news = self.news.notified();
                let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect::<BTreeSet<_>>();
                if self.now.keys().all(|key| self.album.has(*key) || failures.contains(key)) {
                    return;
                }
                news.await;
            }
        };
        let _ = tokio::time::timeout(limit, settled).await;
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        self.now.values().flatten().for_each(AbortHandle::abort);
    }
}

/// What brings one image into the album.
struct Bring {
    key: ImageKey,
    image: Wanted,
    allow_private: bool,
    album: Arc<Album>,
    failures: Failures,
    free: Arc<Semaphore>,
    news: Arc<Notify>,
}

impl Bring {
    /// Until it has come.
    async fn run(self) {
        let mut wait = RETRY_FIRST;
        while let Err(error) = self.try_once().await {
            let message = format!("spec.layout.{}: {error}", self.image.field);
            tracing::warn!("{message}");
            self.failures.lock().unwrap_or_else(PoisonError::into_inner).insert(self.key, message);
            self.news.notify_waiters();
            // What somebody must mend is looked at now and then.
            wait = if error.may_pass() { wait } else { RETRY_MAX };
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_MAX);
        }
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        self.news.notify_waiters();
    }

    async fn try_once(&self) -> Result<(), LoadError> {
        let _turn = self.free.acquire().await;
        let allow_private = self.allow_private;
        // The system's certificates are read from files.
        let fetcher = tokio::task::spawn_blocking(move || Fetcher::new(allow_private)).await??;
        let bytes = fetcher.fetch(&self.image.url).await?;
        let still = tokio::task::spawn_blocking(move || Still::decode(&bytes)).await??;
        if self.album.pixels() + still.picture.y.len() > PIXELS_MAX {
            return Err(LoadError::TooMany);
        }
        self.album.put(self.key, still);
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Decode(#[from] CodecError),
    #[error("the images of the layout have more than {} megapixels together", PIXELS_MAX >> 20)]
    TooMany,
    #[error("failed to decode an image: {0}")]
    Panicked(#[from] JoinError),
}

impl LoadError {
    fn may_pass(&self) -> bool {
        matches!(self, Self::Fetch(error) if error.may_pass())
    }
}

#[cfg(test)]
mod tests;

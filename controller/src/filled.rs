//! Waiting until a cache is filled: any number of waiters.
//!
//! `Store::wait_until_ready` wakes only the waiter that was polled last (kube-runtime 5.0.0, `DelayedInit`: one oneshot receiver, one waker); the
//! others wait for ever. Reconciles run side by side, so they all wait here. The controller's own runner still uses the store: it lives in the same
//! task as the sweep, which waits here, and is polled with it.

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use kube::runtime::reflector::{Lookup, Store};
use std::hash::Hash;

/// Of one cache; clones wait for the same.
#[derive(Clone, Debug)]
pub(crate) struct Filled(Shared<BoxFuture<'static, bool>>);

impl Filled {
    pub(crate) fn of<K>(cache: &Store<K>) -> Self
    where
        K: Lookup + Clone + Send + Sync + 'static,
        K::DynamicType: Eq + Hash + Clone + Send + Sync + 'static,
    {
        let cache = cache.clone();
        Self(async move { cache.wait_until_ready().await.is_ok() }.boxed().shared())
    }

    /// False when whoever fills it is gone.
    pub(crate) async fn wait(&self) -> bool {
        self.0.clone().await
    }

    /// Without waiting.
    pub(crate) fn already(&self) -> bool {
        self.0.clone().now_or_never().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use kube::runtime::{reflector, watcher};
    use std::time::Duration;

    #[tokio::test]
    async fn every_waiter_is_woken_and_a_glance_disturbs_none() {
        let (cache, mut writer) = reflector::store::<Pod>();
        let filled = Filled::of(&cache);
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                tokio::spawn({
                    let filled = filled.clone();
                    async move { filled.wait().await }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(!filled.already());
        writer.apply_watcher_event(&watcher::Event::Init);
        writer.apply_watcher_event(&watcher::Event::InitDone);
        for waiter in waiters {
            let woken = tokio::time::timeout(Duration::from_secs(5), waiter).await.expect("a waiter was not woken");
            assert!(woken.expect("a waiter panicked"));
        }
        assert!(filled.already());
    }
}

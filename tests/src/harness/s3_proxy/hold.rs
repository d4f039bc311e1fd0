//! Requests that are stopped on their way, so that something can be done at just that moment.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;

use super::{Call, Matches, lock};
use crate::harness::process::wait_until;

/// Where a request is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Before the store hears of it.
    Request,
    /// When the store has a part of its body.
    Part,
    /// When the store has done it, before its sender hears of that.
    Answer,
}

/// Released when dropped.
#[derive(Debug)]
pub struct Hold(Arc<State>);

pub(super) struct State {
    point: Point,
    on: Matches,
    /// None: they wait.
    verdict: watch::Sender<Option<Verdict>>,
    stopped: std::sync::Mutex<Vec<Call>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    GoesOn,
    CutOff,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("point", &self.point).field("stopped", &self.stopped).finish_non_exhaustive()
    }
}

impl Hold {
    pub(super) fn new(state: Arc<State>) -> Self {
        Self(state)
    }

    /// The first request that was stopped, as soon as there is one.
    pub fn wait(&self, limit: Duration) -> Result<Call> {
        let first = || lock(&self.0.stopped).first().cloned();
        wait_until("a request to be held", limit, first).with_context(|| format!("{:?}", self.0.point))
    }

    /// All that were stopped so far.
    pub fn stopped(&self) -> Vec<Call> {
        lock(&self.0.stopped).clone()
    }

    /// What is held goes on, and nothing more is held.
    pub fn release(self) {}

    /// What is held ends where it is: its connections break on both sides. Nothing more is held.
    pub fn cut_off(self) {
        self.0.decide(Verdict::CutOff);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.decide(Verdict::GoesOn);
    }
}

impl State {
    pub(super) fn new(point: Point, on: Matches) -> Arc<Self> {
        Arc::new(Self { point, on, verdict: watch::Sender::new(None), stopped: std::sync::Mutex::default() })
    }

    pub(super) fn concerns(&self, point: Point, call: &Call) -> bool {
        self.point == point && self.verdict.borrow().is_none() && (self.on)(call)
    }

    /// The first decision counts.
    fn decide(&self, verdict: Verdict) {
        self.verdict.send_if_modified(|known| {
            let news = known.is_none();
            known.get_or_insert(verdict);
            news
        });
    }

    /// # Errors
    /// When it is cut off.
    pub(super) async fn stop(&self, call: &Call) -> Result<()> {
        lock(&self.stopped).push(call.clone());
        let verdict = *self.verdict.subscribe().wait_for(Option::is_some).await?;
        ensure!(verdict == Some(Verdict::GoesOn), "cut off");
        Ok(())
    }
}

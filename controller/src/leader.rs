//! Who of several controllers acts: the holder of one Lease (coordination.k8s.io/v1).
//!
//! The holder writes the Lease every [`RETRY`]; one that has not been able to for [`RENEW_DEADLINE`] stops. Others wait until they have seen it
//! unchanged for [`LEASE`]. Every write names the version it stands on, so of two writers one gets a conflict. The deadline counts from before a
//! renewal was sent, the others' patience from after it was stored: a leader has stopped 3 s before anybody takes over.

pub mod decide;

use anyhow::Context as _;
use decide::{Action, Observed, decide};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use recording_crds::labels;
use std::time::{Duration, Instant};
use tokio::time::{sleep, sleep_until, timeout};

/// How long a Lease that nobody renews holds.
pub const LEASE: Duration = Duration::from_secs(8);
/// A holder that could not renew for this long stops.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(5);
/// Between renewals, and between tries after an error.
pub const RETRY: Duration = Duration::from_secs(1);
/// Between two looks of who waits: what it sees late is added to the time that nobody leads.
const LOOK: Duration = Duration::from_millis(500);
/// For one request: a second try fits the deadline.
const TRY: Duration = Duration::from_secs(2);

/// How the Lease was lost. Whoever gets it must not act any more.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    #[error("lost the Lease {lease}: {holder} holds it")]
    Taken { lease: String, holder: String },
    #[error("lost the Lease {lease}: it was released or deleted by somebody else")]
    Gone { lease: String },
    #[error("lost the Lease {lease}: it could not be renewed for {} s", RENEW_DEADLINE.as_secs())]
    Silent { lease: String },
}

/// One candidate.
#[derive(Clone, Debug)]
pub struct Elector {
    api: Api<Lease>,
    name: String,
    identity: String,
}

/// Ours as long as [`Held::keep`] runs.
#[derive(Debug)]
pub struct Held {
    elector: Elector,
    observed: Observed,
    /// When the request was sent that made or kept us the holder.
    confirmed: Instant,
}

impl Elector {
    /// `identity` must be unique among those that are alive: who has the holder's name takes the Lease without waiting.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), identity: identity.to_owned() }
    }

    /// Waits until we are the holder. Errors are logged and tried again: an API server that is away is no reason to end.
    pub async fn acquire(&self) -> Held {
        let mut observed = Observed::new(None, Instant::now());
        let mut waits_for = None;
        loop {
            match self.candidate(&mut observed).await {
                Ok(Some(held)) => return held,
                Ok(None) => {
                    if waits_for.as_deref() != observed.holder() {
                        waits_for = observed.holder().map(str::to_owned);
                        tracing::info!(lease = self.name, holder = waits_for, "standing by");
                    }
                    sleep(self.patience(&observed)).await;
                }
                Err(error) => {
                    tracing::warn!(lease = self.name, "{error:#}; will be tried again");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// One look, and one write if it seems ours to take.
    async fn candidate(&self, observed: &mut Observed) -> anyhow::Result<Option<Held>> {
        let read = bounded(self.api.get_opt(&self.name)).await.context("failed to read the Lease")?;
        observed.update(read, Instant::now());
        let confirmed = Instant::now();
        if !matches!(decide(observed, &self.identity, false, confirmed), Action::Create | Action::Take) {
            return Ok(None);
        }
        let Some(lease) = self.write(observed).await.context("failed to take the Lease")? else { return Ok(None) };
        let version = lease.metadata.resource_version.clone();
        tracing::info!(lease = self.name, identity = self.identity, version, "leading");
        Ok(Some(Held { elector: self.clone(), observed: Observed::new(Some(lease), confirmed), confirmed }))
    }

    /// Lets the next one begin at once. Only after everything that acts has ended; does nothing when somebody else is the holder.
    pub async fn release(&self) {
        match self.free().await {
            Ok(true) => tracing::info!(lease = self.name, "released the Lease"),
            Ok(false) => {}
            Err(error) => tracing::warn!(lease = self.name, "{error:#}; others wait until it is over"),
        }
    }

    /// Whether it was ours. Read again: the answer to our last write may have been dropped.
    async fn free(&self) -> anyhow::Result<bool> {
        let Some(mut lease) = bounded(self.api.get_opt(&self.name)).await.context("failed to read the Lease")? else { return Ok(false) };
        let ours = |spec: &&mut LeaseSpec| spec.holder_identity.as_deref() == Some(&self.identity);
        let Some(spec) = lease.spec.as_mut().filter(ours) else { return Ok(false) };
        spec.holder_identity = None;
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        bounded(self.api.replace(&self.name, &PostParams::default(), &lease)).await.context("failed to release the Lease")?;
        Ok(true)
    }

    fn patience(&self, observed: &Observed) -> Duration {
        match decide(observed, &self.identity, false, Instant::now()) {
            Action::Wait(left) => left.min(LOOK),
            // Somebody was faster.
            _ => LOOK,
        }
    }

    /// Writes us as the holder over what was read; None when somebody else wrote first.
    async fn write(&self, observed: &Observed) -> anyhow::Result<Option<Lease>> {
        let lease = held(observed.lease.as_ref(), &self.name, &self.identity, Timestamp::now());
        let params = PostParams::default();
        let written = match &observed.lease {
            Some(_) => bounded(self.api.replace(&self.name, &params, &lease)).await,
            None => bounded(self.api.create(&params, &lease)).await,
        };
        match written {
            Ok(lease) => Ok(Some(lease)),
            Err(Refused::Api(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() || status.is_not_found() => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Held {
    /// Renews for ever; returns when we must not act any more. Dropped at any moment it leaves the Lease as it is.
    pub async fn keep(&mut self) -> Lost {
        loop {
            sleep(RETRY.saturating_sub(self.confirmed.elapsed())).await;
            let deadline = self.confirmed + RENEW_DEADLINE;
            let lost = tokio::select! {
                biased;
                () = sleep_until(deadline.into()) => Some(Lost::Silent { lease: self.elector.name.clone() }),
                lost = self.renew() => lost,
            };
            if let Some(lost) = lost {
                return lost;
            }
        }
    }

    /// Until it is renewed, or lost.
    async fn renew(&mut self) -> Option<Lost> {
        loop {
            let sent = Instant::now();
            let error = match self.elector.write(&self.observed).await {
                Ok(Some(lease)) => {
                    self.observed = Observed::new(Some(lease), sent);
                    self.confirmed = sent;
                    return None;
                }
                // Somebody wrote: perhaps only a label, perhaps our own write whose answer was lost.
                Ok(None) => match self.look().await {
                    Ok(()) => match decide(&self.observed, &self.elector.identity, true, Instant::now()) {
                        Action::Lost { holder } => return Some(self.lost(holder)),
                        _ => continue,
                    },
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tracing::warn!(lease = self.elector.name, "failed to renew the Lease: {error:#}; will be tried again");
            sleep(RETRY).await;
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let read = bounded(self.elector.api.get_opt(&self.elector.name)).await.context("failed to read the Lease")?;
        self.observed.update(read, Instant::now());
        Ok(())
    }

    fn lost(&self, holder: Option<String>) -> Lost {
        let lease = self.elector.name.clone();
        match holder {
            Some(holder) => Lost::Taken { lease, holder },
            None => Lost::Gone { lease },
        }
    }
}

/// The Lease as we write it.
fn held(old: Option<&Lease>, name: &str, identity: &str, now: Timestamp) -> Lease {
    let mut lease = old.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned())].into()),
            ..ObjectMeta::default()
        },
        ..Lease::default()
    });
    let spec = lease.spec.get_or_insert_default();
    if spec.holder_identity.as_deref() != Some(identity) {
        spec.acquire_time = Some(MicroTime(now));
        spec.lease_transitions = Some(spec.lease_transitions.map_or(i32::from(old.is_some()), |n| n.saturating_add(1)));
        spec.holder_identity = Some(identity.to_owned());
    }
    spec.renew_time = Some(MicroTime(now));
    spec.lease_duration_seconds = i32::try_from(LEASE.as_secs()).ok();
    lease
}

#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Api(#[from] kube::Error),
    #[error("no answer within {} s", TRY.as_secs())]
    Silent,
}

async fn bounded<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Refused> {
    match timeout(TRY, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Refused::Silent),
    }
}

#[cfg(test)]
mod tests;

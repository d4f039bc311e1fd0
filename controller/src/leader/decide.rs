//! What to do about the Lease: a pure function of what was read, when it was first read so, who asks, and now.
//!
//! Only our own monotonic clock counts. Times written in the Lease are for people: nodes' clocks differ.

use super::LEASE;
use k8s_openapi::api::coordination::v1::Lease;
use std::time::{Duration, Instant};

/// The Lease as last read, and since when it has been so.
#[derive(Clone, Debug)]
pub struct Observed {
    pub lease: Option<Lease>,
    /// When this resourceVersion was seen for the first time.
    pub since: Instant,
}

/// The next step of one elector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// There is none: make it, held by us.
    Create,
    /// Ours to write, over the version that was read: nobody's, expired, or ours from before a restart.
    Take,
    /// We lead: write it again.
    Renew,
    /// Somebody else's; it may be expired after this long, unless it is renewed.
    Wait(Duration),
    /// We led, and no longer do. Absent: the Lease was deleted, so anybody may have made a new one.
    Lost { holder: Option<String> },
}

impl Observed {
    pub fn new(lease: Option<Lease>, now: Instant) -> Self {
        Self { lease, since: now }
    }

    /// After another look; the same version goes on ageing.
    pub fn update(&mut self, lease: Option<Lease>, now: Instant) {
        let version = |lease: &Option<Lease>| lease.as_ref().and_then(|l| l.metadata.resource_version.clone());
        if version(&self.lease) != version(&lease) {
            self.since = now;
        }
        self.lease = lease;
    }

    pub fn holder(&self) -> Option<&str> {
        self.lease.as_ref()?.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    /// How long the holder asked others to wait; what it does not say is taken from ours.
    fn duration(&self) -> Duration {
        let seconds = self.lease.as_ref().and_then(|l| l.spec.as_ref()?.lease_duration_seconds);
        seconds.and_then(|s| u64::try_from(s).ok()).map_or(LEASE, Duration::from_secs)
    }
}

pub fn decide(observed: &Observed, me: &str, leading: bool, now: Instant) -> Action {
    match (observed.lease.is_some(), observed.holder()) {
        (false, _) if leading => Action::Lost { holder: None },
        (false, _) => Action::Create,
        (true, Some(holder)) if holder == me => {
            if leading {
                Action::Renew
            } else {
                Action::Take
            }
        }
        (true, holder) if leading => Action::Lost { holder: holder.map(str::to_owned) },
        (true, None) => Action::Take,
        (true, Some(_)) => match observed.duration().saturating_sub(now.saturating_duration_since(observed.since)) {
            Duration::ZERO => Action::Take,
            left => Action::Wait(left),
        },
    }
}

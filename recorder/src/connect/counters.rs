//! What a connector counts; identities are never among it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Totals since the connector started, of all tracks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConnectStats {
    /// Packets handed to the driver.
    pub(crate) packets: u64,
    /// Packets that came twice and were dropped.
    pub(crate) duplicates: u64,
    /// Sequence numbers asked for again.
    pub(crate) nacks: u64,
    /// Lost packets that came back by RTX.
    pub(crate) recovered: u64,
    /// Lost packets rebuilt from RED.
    pub(crate) rebuilt: u64,
    pub(crate) sender_reports: u64,
    pub(crate) keyframe_requests: u64,
    /// Packets that the driver's queue had no room for.
    pub(crate) overflowed: u64,
    /// Packets of streams that no participant claimed in time.
    pub(crate) unclaimed: u64,
}

/// [`ConnectStats`] while they are counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) packets: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) nacks: AtomicU64,
    pub(crate) recovered: AtomicU64,
    pub(crate) rebuilt: AtomicU64,
    pub(crate) sender_reports: AtomicU64,
    pub(crate) keyframe_requests: AtomicU64,
    pub(crate) overflowed: AtomicU64,
    pub(crate) unclaimed: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    pub(crate) fn stats(&self) -> ConnectStats {
        ConnectStats {
            packets: Self::get(&self.packets),
            duplicates: Self::get(&self.duplicates),
            nacks: Self::get(&self.nacks),
            recovered: Self::get(&self.recovered),
            rebuilt: Self::get(&self.rebuilt),
            sender_reports: Self::get(&self.sender_reports),
            keyframe_requests: Self::get(&self.keyframe_requests),
            overflowed: Self::get(&self.overflowed),
            unclaimed: Self::get(&self.unclaimed),
        }
    }
}

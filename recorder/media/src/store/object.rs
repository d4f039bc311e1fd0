//! One small object that is overwritten: at most one put in flight, later states coalesce.

use crate::{OpId, Tick};

const FIRST_RETRY_US: u64 = 500_000;
const LAST_RETRY_US: u64 = 30_000_000;
/// Whatever its pace, an object is put after this long; one that was refused, as soon as it may be tried again.
const PUT_AT_LEAST_US: u64 = 300_000_000;

/// How often an object is overwritten that grows.
#[derive(Debug)]
pub(super) struct Pace {
    /// Smaller ones are put at every change.
    small_bytes: u64,
    /// Larger ones when so many times their size of media was stored since.
    growth: u64,
}

pub(super) const PLAYLIST: Pace = Pace { small_bytes: 20_000, growth: 100 };
/// What a successor without the spool does not find in the manifest it finds by listing the storage.
pub(super) const MANIFEST: Pace = Pace { small_bytes: 5_000, growth: 300 };

#[derive(Debug, Default)]
pub(super) struct Object {
    pub(super) in_flight: Option<OpId>,
    pub(super) dirty: bool,
    /// Storage did not take it when it was tried last.
    pub(super) refused: bool,
    pub(super) attempts: u32,
    pub(super) not_before: Tick,
    last_put: Tick,
    pub(super) media_bytes: u64,
}

pub(crate) fn backoff(attempts: u32) -> u64 {
    (FIRST_RETRY_US << attempts.min(10)).min(LAST_RETRY_US)
}

impl Object {
    /// When it is to be put; None: nothing new, or a put is under way.
    pub(super) fn due(&self, size: u64, pace: &Pace, urgent: bool) -> Option<Tick> {
        if !self.dirty || self.in_flight.is_some() {
            return None;
        }
        let soon = urgent || self.refused || size < pace.small_bytes || self.media_bytes >= pace.growth * size;
        let at = if soon { self.not_before } else { self.last_put.after(PUT_AT_LEAST_US) };
        Some(at.max(self.not_before))
    }

    pub(super) fn start(&mut self, now: Tick, op: OpId) {
        self.in_flight = Some(op);
        self.dirty = false;
        self.media_bytes = 0;
        self.last_put = now;
    }

    pub(super) fn answered(&mut self, now: Tick, ok: bool) {
        self.in_flight = None;
        self.refused = !ok;
        if ok {
            self.attempts = 0;
        } else {
            self.dirty = true;
            self.not_before = now.after(backoff(self.attempts));
            self.attempts += 1;
        }
    }

    /// The next try is at once, and the pauses begin anew.
    pub(super) fn hurry(&mut self, now: Tick) {
        (self.attempts, self.not_before) = (0, now);
    }

    pub(super) fn settled(&self) -> bool {
        !self.dirty && self.in_flight.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_does_not_wait_for_its_pace() {
        let mut object = Object { dirty: true, ..Object::default() };
        let size = 10 * MANIFEST.small_bytes;
        object.start(Tick(1), OpId(1));
        object.answered(Tick(2), false);
        assert_eq!(object.due(size, &MANIFEST, false), Some(Tick(2 + FIRST_RETRY_US)));
        object.start(Tick(600_000), OpId(2));
        object.answered(Tick(700_000), true);
        object.dirty = true;
        assert_eq!(object.due(size, &MANIFEST, false), Some(Tick(600_000 + PUT_AT_LEAST_US)));
    }
}

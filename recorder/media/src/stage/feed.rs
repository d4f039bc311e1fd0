//! The access units of one camera on their way to frames.

use super::LOOK_AHEAD;
use crate::MediaTime;
use std::collections::VecDeque;

/// Of two pictures the one on the same side of the tick as the one before may be farther away by this: capture is not regular, and a camera half a
/// frame beside the clock would be shown twice here and left out there.
const STEADY: i64 = MediaTime::PER_SECOND / 200;

#[derive(Debug)]
pub(super) struct Feed<U> {
    pub(super) waiting: VecDeque<(MediaTime, bool, U)>,
    /// Of the picture that was taken last.
    pub(super) last: Option<MediaTime>,
    /// It was taken before its time.
    early: Option<bool>,
    /// Of the key frame that was taken last.
    pub(super) key_at: Option<MediaTime>,
    /// What comes can be decoded: nothing was left out since the last key frame.
    pub(super) in_sync: bool,
    /// A key frame was asked for.
    pub(super) asked: bool,
    /// Pictures were left out for economy: what follows them cannot be decoded.
    pub(super) skipped: bool,
}

impl<U> Feed<U> {
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), last: None, early: None, key_at: None, in_sync: false, asked: false, skipped: false }
    }

    /// The units up to the picture that is nearest to `at`, as steadily as those before.
    pub(super) fn take(&mut self, at: MediaTime) -> Vec<U> {
        let mut taken = Vec::new();
        let bias = self.early.map_or(0, |early| if early { STEADY } else { -STEADY });
        while let Some(&(next, key, _)) = self.waiting.front() {
            let nearer = self.last.is_some_and(|last| next.0 - at.0 < at.0 - last.0 + bias) && next.0 <= at.0 + LOOK_AHEAD;
            if next > at && !nearer {
                break;
            }
            self.last = Some(next);
            self.key_at = if key { self.last } else { self.key_at };
            taken.extend(self.waiting.pop_front().map(|(.., unit)| unit));
        }
        if !taken.is_empty() {
            self.early = self.last.map(|last| last > at);
        }
        taken
    }

    /// What waits up to here is not shown.
    pub(super) fn leave_out(&mut self, until: MediaTime) {
        let before = self.waiting.len();
        self.waiting.retain(|(at, ..)| *at > until);
        if self.waiting.len() < before {
            self.resync();
        }
    }

    /// What the decoder knows is of no use: it goes on with the next key frame.
    pub(super) fn resync(&mut self) {
        while self.waiting.front().is_some_and(|(_, key, _)| !key) {
            self.waiting.pop_front();
        }
        self.in_sync = !self.waiting.is_empty();
    }

    /// Whether to ask for a key frame: once, until it comes.
    pub(super) fn asks(&mut self) -> bool {
        !self.in_sync && !std::mem::replace(&mut self.asked, true)
    }

    /// The newest key frame of those that are due, and nothing else.
    pub(super) fn take_key(&mut self, at: MediaTime) -> Vec<U> {
        let due = self.waiting.iter().take_while(|(next, ..)| *next <= at).count();
        let mut taken: Vec<_> = self.waiting.drain(..due).collect();
        self.skipped |= !taken.is_empty();
        let Some(n) = taken.iter().rposition(|(_, key, _)| *key) else { return Vec::new() };
        // What follows it can be decoded.
        self.skipped = n + 1 < taken.len();
        let (key_at, _, unit) = taken.swap_remove(n);
        (self.last, self.key_at) = (Some(key_at), Some(key_at));
        vec![unit]
    }

    /// Everything is to be decoded again.
    pub(super) fn go_on(&mut self) {
        self.skipped = false;
        self.resync();
    }
}

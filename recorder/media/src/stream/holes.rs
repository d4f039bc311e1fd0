//! Since when pictures are missing, and why: gaps end when pictures come again.

use crate::segmenter::Effect;
use crate::{GapReason, MediaTime};

#[derive(Debug, Default)]
pub(super) struct Holes {
    /// Lost ones.
    lost: Option<MediaTime>,
    /// Those that cannot be transcoded in time.
    left_out: Option<MediaTime>,
    /// Black stands in for a camera that should send.
    absent: Option<MediaTime>,
}

impl Holes {
    pub(super) fn lose(&mut self, last: Option<MediaTime>) {
        self.lost = self.lost.or(last);
    }

    pub(super) fn leave_out(&mut self, last: Option<MediaTime>) {
        self.left_out = self.left_out.or(last);
    }

    pub(super) const fn leaves_out(&self) -> bool {
        self.left_out.is_some()
    }

    /// A camera that should send does not. What is left out has come.
    pub(super) fn begin_absence(&mut self, at: MediaTime) {
        if !self.leaves_out() {
            self.absent = Some(at);
        }
    }

    /// What follows continues nothing.
    pub(super) const fn break_off(&self) -> bool {
        self.lost.is_some() || self.left_out.is_some()
    }

    pub(super) fn close(&mut self, at: MediaTime) -> impl Iterator<Item = Effect> + use<> {
        let Self { lost, left_out, absent } = std::mem::take(self);
        let open = [(lost, GapReason::PacketLoss), (left_out, GapReason::Overloaded), (absent, GapReason::NoPicture)];
        open.into_iter().filter_map(move |(start, reason)| Some(Effect::Gap { start: start.filter(|start| *start < at)?, end: at, reason }))
    }
}

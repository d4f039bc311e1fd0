//! The holes of a recording.

use crate::{Gap, GapReason, MediaTime, Session};

/// Gaps of one reason closer than this are one gap.
const SAME_GAP_90K: i64 = MediaTime::PER_SECOND;

impl Session {
    pub(crate) fn segment_lost(&mut self, entry: usize) {
        let entry = &self.manifest.ledger[entry];
        let (start, end, name) = (entry.start, MediaTime(entry.start.0 + entry.duration90k), entry.playlist.clone());
        self.gap(start, end, GapReason::SegmentLost, Some(name));
    }

    /// Books a hole; one that follows closely on another of its kind makes it longer.
    pub(crate) fn gap(&mut self, start: MediaTime, end: MediaTime, reason: GapReason, playlist: Option<String>) {
        let same = |g: &&mut Gap| g.reason == reason && g.playlist == playlist && !g.open;
        let last = self.manifest.gaps.iter_mut().rev().find(same);
        match last.filter(|g| start.0 <= g.start.0 + g.duration90k + SAME_GAP_90K && start >= g.start) {
            Some(gap) => gap.duration90k = gap.duration90k.max(end.0 - gap.start.0),
            None => self.manifest.gaps.push(Gap { start, duration90k: end.0 - start.0, reason, playlist, open: false }),
        }
        self.store.manifest_changed();
    }
}

//! One line of time for a recording in this spool: ticks go on where an earlier process' ended.

use std::time::{Duration, Instant};

use recorder_media::{Tick, WallMicros};

use crate::spool::journal::Intake;
use crate::wall;

/// A process that comes back is at least this much later than the last thing its predecessor saw.
const LEAST_AWAY_US: u64 = 1_000;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeline {
    /// Tick 0.
    origin: Instant,
    /// Wall clock at tick 0, microseconds.
    wall: u64,
}

impl Timeline {
    /// Tick 0 is now.
    pub(crate) fn begin() -> Self {
        Self { origin: Instant::now(), wall: wall::now().0 }
    }

    /// Behind a journal, by the wall clock: monotonic clocks of two processes cannot be compared. None: its ticks cannot be gone on from.
    pub(crate) fn behind(intake: &Intake) -> Option<Self> {
        let wall = intake.start.wall.0.checked_sub(intake.began.0)?;
        let now = wall::now().0.saturating_sub(wall).max(intake.ended.0.checked_add(LEAST_AWAY_US)?);
        Some(Self { origin: Instant::now().checked_sub(Duration::from_micros(now))?, wall })
    }

    pub(crate) fn tick(&self, at: Instant) -> Tick {
        Tick(u64::try_from(at.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX))
    }

    pub(crate) fn instant(&self, tick: Tick) -> Instant {
        self.origin + Duration::from_micros(tick.0)
    }

    pub(crate) fn wall_at(&self, tick: Tick) -> WallMicros {
        WallMicros(self.wall.saturating_add(tick.0))
    }
}

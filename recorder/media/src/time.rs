//! Time is told, never asked.

use serde::{Deserialize, Serialize};

/// Monotonic microseconds since an origin of the driver's choice (process start).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tick(pub u64);

/// Wall clock, microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallMicros(pub u64);

/// Media time since the recording's epoch (arrival of the first media), 90 kHz (ISO/IEC 13818-1's system time base).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MediaTime(pub i64);

impl Tick {
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1000)
    }
    pub fn after(self, micros: u64) -> Self {
        Self(self.0 + micros)
    }
    /// Microseconds from `earlier` to `self`; 0 when `earlier` is later.
    pub fn since(self, earlier: Tick) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl MediaTime {
    pub const PER_SECOND: i64 = 90_000;
    pub const fn from_micros(us: i64) -> Self {
        Self(us * 9 / 100)
    }
    pub const fn as_micros(self) -> i64 {
        self.0 * 100 / 9
    }
}

//! What is written.

use super::{Mode, defaults};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// HTTP Live Streaming: MPEG-TS segments and playlists.
    #[serde(default)]
    pub hls: Hls,
    /// Stills besides, as JPEG. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<Snapshots>,
}

/// Mode Composite: of the canvas. Mode Individual: of each camera and shared screen.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Snapshots {
    /// One every so many seconds of the recording, 5..3600. In mode Individual each asks whoever sends H.264 for a key frame. Default: 10.
    #[serde(default = "defaults::snapshot_interval_seconds")]
    #[schemars(range(min = 5, max = 3600))]
    pub interval_seconds: i32,
    /// Mode Composite: also of each camera and shared screen that is seen on the canvas, in its own size; mode Individual always does. Default: false.
    #[serde(default)]
    pub per_participant: bool,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Hls {
    /// Length of a segment in seconds, 2..60; in mode Individual cut at the next key frame. Default: 15, in mode Composite 6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 60))]
    pub segment_seconds: Option<i32>,
}

impl Hls {
    pub fn segment_seconds(&self, mode: Mode) -> i32 {
        self.segment_seconds.unwrap_or(match mode {
            Mode::Individual => defaults::segment_seconds(),
            Mode::Composite => defaults::composite_segment_seconds(),
        })
    }
}

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

//! What is written.

use super::defaults;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// HTTP Live Streaming: MPEG-TS segments and playlists.
    #[serde(default)]
    pub hls: Hls,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Hls {
    /// Length of a segment in seconds, 2..60; cut at the next key frame. Default: 15.
    #[serde(default = "defaults::segment_seconds")]
    #[schemars(range(min = 2, max = 60))]
    pub segment_seconds: i32,
}

impl Default for Hls {
    fn default() -> Self {
        Self { segment_seconds: defaults::segment_seconds() }
    }
}

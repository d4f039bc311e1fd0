//! The room to record.

use super::defaults;
use super::references::CaBundle;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The room to record; exactly one of `livekit` and `testPattern`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.livekit) ? 1 : 0) + (has(self.testPattern) ? 1 : 0) == 1")
        .message("spec.channel needs exactly one of livekit and testPattern"),
    // Cc: C0, DEL and C1.
    validation = Rule::new("!self.name.matches('\\\\p{Cc}')")
        .message("spec.channel.name must not contain control characters: remove them"),
    // maxLength counts characters; the name goes over the wire and into object names as UTF-8.
    validation = Rule::new("size(bytes(self.name)) <= 255")
        .message("spec.channel.name may have at most 255 bytes of UTF-8: shorten it")
)]
pub struct Channel {
    /// Name of the room, 1..255 bytes of UTF-8 without control characters; becomes part of object names.
    #[schemars(length(min = 1, max = 255))]
    pub name: String,
    /// An application's identifier, recorded in the manifest.
    #[serde(rename = "appID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub app_id: Option<String>,
    /// Communication: idle = nobody else is there. LiveBroadcasting: idle = nobody publishes. Default: Communication.
    #[serde(default)]
    pub profile: ChannelProfile,
    /// A room of a LiveKit server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub livekit: Option<LiveKit>,
    /// The built-in room: a moving picture and a tone per participant, over real WebRTC inside the recorder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_pattern: Option<TestPattern>,
    /// Certificate authorities to trust for the room's url, besides the public ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelProfile {
    #[default]
    Communication,
    LiveBroadcasting,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LiveKit {
    /// Address of the server: wss://, ws://, https:// or http://, without user, password, query or spaces.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^(wss?|https?)://[^\s/?#@]+(/[^\s?#]*)?$"))]
    pub url: String,
}

#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TestPattern {
    /// People in the room, 1..8. Default: 2.
    #[serde(default = "defaults::participants")]
    #[schemars(range(min = 1, max = 8))]
    pub participants: i32,
    /// Width of their picture in pixels, 160..1920, a multiple of 16. Default: 1280.
    #[serde(default = "defaults::width")]
    #[schemars(range(min = 160, max = 1920), extend("multipleOf" = 16))]
    pub width: i32,
    /// Height of their picture in pixels, 90..1080, even. Default: 720.
    #[serde(default = "defaults::height")]
    #[schemars(range(min = 90, max = 1080), extend("multipleOf" = 2))]
    pub height: i32,
    /// Pictures per second, 1..60. Default: 30.
    #[serde(default = "defaults::frames_per_second")]
    #[schemars(range(min = 1, max = 60))]
    pub frames_per_second: i32,
    /// They leave after this many seconds, 1..86400. Default: 20.
    #[serde(default = "defaults::duration_seconds")]
    #[schemars(range(min = 1, max = 86400))]
    pub duration_seconds: i32,
}

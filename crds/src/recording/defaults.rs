//! Defaults, once.

pub const fn idle_timeout_seconds() -> i64 {
    30
}
pub const fn max_duration_seconds() -> i64 {
    86_400
}
pub const fn drain_timeout_seconds() -> i64 {
    3600
}
/// Of a playlist per participant: a key frame that is asked for costs the live call.
pub const fn segment_seconds() -> i32 {
    15
}
/// Of a composite, whose key frames are the recorder's own.
pub const fn composite_segment_seconds() -> i32 {
    6
}
pub const fn snapshot_interval_seconds() -> i32 {
    10
}
pub const fn participants() -> i32 {
    2
}
pub const fn width() -> i32 {
    1280
}
pub const fn height() -> i32 {
    720
}
pub const fn frames_per_second() -> i32 {
    30
}
pub const fn video_kbps() -> i32 {
    2000
}
pub fn background_color() -> String {
    "#000000".into()
}
pub const fn opacity_percent() -> i32 {
    100
}
pub const fn duration_seconds() -> i32 {
    20
}

pub(super) const fn enabled() -> bool {
    true
}

pub(super) const fn caption_percent() -> i32 {
    4
}

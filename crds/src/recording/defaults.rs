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
pub const fn segment_seconds() -> i32 {
    15
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
pub const fn duration_seconds() -> i32 {
    20
}

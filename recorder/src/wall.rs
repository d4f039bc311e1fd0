//! Wall clock as text: RFC 3339 in UTC, microseconds kept.

use aws_sdk_s3::primitives::{DateTime, DateTimeFormat};
use recorder_media::WallMicros;

pub(crate) fn now() -> WallMicros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    WallMicros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// `2026-01-31T12:00:00.123456Z`; the fraction is left out when it is zero.
pub(crate) fn to_text(wall: WallMicros) -> String {
    let seconds = i64::try_from(wall.0 / 1_000_000).unwrap_or(i64::MAX);
    let nanos = u32::try_from(wall.0 % 1_000_000 * 1000).unwrap_or(0);
    DateTime::from_secs_and_nanos(seconds, nanos).fmt(DateTimeFormat::DateTime).unwrap_or_default()
}

pub(crate) fn parse(text: &str) -> Option<WallMicros> {
    let nanos = DateTime::from_str(text, DateTimeFormat::DateTime).ok()?.as_nanos();
    u64::try_from(nanos / 1000).ok().map(WallMicros)
}

/// The `yyyyMMddHHmmssSSS` of a segment's name.
pub(crate) fn parse_compact(digits: &str) -> Option<WallMicros> {
    if digits.len() != 17 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| &digits[from..to];
    parse(&format!("{}-{}-{}T{}:{}:{}.{}Z", part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14), part(14, 17)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_keeps_microseconds_and_names_keep_milliseconds() {
        let wall = WallMicros(1_767_225_599_123_456);
        assert_eq!(to_text(wall), "2025-12-31T23:59:59.123456Z");
        assert_eq!(parse(&to_text(wall)), Some(wall));
        assert_eq!(parse_compact("20251231235959123"), Some(WallMicros(1_767_225_599_123_000)));
        assert_eq!(parse_compact("2025123123595912x"), None);
    }
}

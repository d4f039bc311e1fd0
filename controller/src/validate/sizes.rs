//! What a recorder needs, computed from the spec: the documented table.
//!
//! | | LiveKit room | built-in room (also makes the media) |
//! |---|---|---|
//! | CPU request | 250m | 250m + 150m per 1280x720x30 of each participant |
//! | memory request, limit | 256Mi, 1Gi | the same |
//! | spool | [`OUTAGE_SECONDS`] of the assumed media, at least 1Gi | the same |

use super::{Rejection, refuse};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use recording_crds::RecordingSpec;
use recording_crds::recording::{Canvas, Media, Mode};

/// The spool holds this much media while the storage does not answer; after that media is not accepted (gap DiskFull).
pub(super) const OUTAGE_SECONDS: u64 = 1800;
/// How many people of a room are assumed to publish; more shorten the outage that the spool holds.
const ASSUMED_PUBLISHERS: u64 = 4;
/// A 720p30 camera and a microphone, as libwebrtc sends them.
const VIDEO_BITS_PER_SECOND: u64 = 2_500_000;
const AUDIO_BITS_PER_SECOND: u64 = 64_000;
const GIB: u64 = 1 << 30;
/// Below this a spool cannot hold the open segments of a room.
const SPOOL_MIN_BYTES: u64 = 64 << 20;

const CPU_MILLIS: u64 = 250;
/// Making one test picture of 1280x720 at 30 per second.
const PATTERN_MILLIS: u64 = 150;
const PATTERN_PIXELS_PER_SECOND: u64 = 1280 * 720 * 30;
/// Encoding 1280x720 at 30 per second (x264 veryfast: docs/sizing.md).
const COMPOSITE_MILLIS: u64 = 600;
const COMPOSITE_PEOPLE_MILLIS: u64 = 150;
/// Decoders, the canvas and the encoder.
const COMPOSITE_BYTES: u64 = 256 << 20;
const MEMORY_REQUEST_BYTES: u64 = 256 << 20;
const MEMORY_LIMIT_BYTES: u64 = GIB;

/// Closing and storing what is open takes this long besides two segments.
const GRACE_BASE_SECONDS: u32 = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    pub spool_bytes: u64,
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    pub memory_limit_bytes: u64,
    /// From SIGTERM to SIGKILL: to close the segment and store it.
    pub grace_seconds: u32,
}

impl Sizes {
    pub fn of(spec: &RecordingSpec) -> Result<Self, Rejection> {
        let segment = u32::try_from(spec.output.hls.segment_seconds(spec.mode)).unwrap_or_default();
        Ok(Self {
            spool_bytes: spool_bytes(spec)?,
            cpu_millis: CPU_MILLIS + pattern_millis(spec) + composite_millis(spec),
            memory_bytes: MEMORY_REQUEST_BYTES + composite_bytes(spec),
            memory_limit_bytes: MEMORY_LIMIT_BYTES,
            grace_seconds: GRACE_BASE_SECONDS + 2 * segment,
        })
    }
}

fn spool_bytes(spec: &RecordingSpec) -> Result<u64, Rejection> {
    let field = "spec.pod.spool.sizeLimit";
    if let Some(Quantity(text)) = spec.pod.as_ref().and_then(|p| p.spool.as_ref()).and_then(|s| s.size_limit.as_ref()) {
        return match parse_quantity(text) {
            Some(bytes) if bytes >= SPOOL_MIN_BYTES => Ok(bytes),
            Some(_) => refuse(field, format!("{text} is too small; at least {}Mi", SPOOL_MIN_BYTES >> 20)),
            None => refuse(field, format!("{text} is not a size; write it like 4Gi")),
        };
    }
    let publishers = spec.channel.test_pattern.as_ref().map_or(ASSUMED_PUBLISHERS, |p| p.participants.unsigned_abs().into());
    let bits = match spec.media {
        Media::Audio => AUDIO_BITS_PER_SECOND,
        Media::Video => VIDEO_BITS_PER_SECOND,
        Media::AudioVideo => VIDEO_BITS_PER_SECOND + AUDIO_BITS_PER_SECOND,
    };
    Ok((publishers * bits / 8 * OUTAGE_SECONDS).div_ceil(GIB).max(1) * GIB)
}

fn pattern_millis(spec: &RecordingSpec) -> u64 {
    let Some(p) = &spec.channel.test_pattern else { return 0 };
    let size = |n: i32| u64::from(n.unsigned_abs());
    size(p.participants) * PATTERN_MILLIS * size(p.width) * size(p.height) * size(p.frames_per_second) / PATTERN_PIXELS_PER_SECOND
}

/// Encoding the canvas, and decoding nine people of 640x360 at 15 pictures per second.
fn composite_millis(spec: &RecordingSpec) -> u64 {
    let Some(canvas) = canvas(spec) else { return 0 };
    let size = |n: i32| u64::from(n.unsigned_abs());
    COMPOSITE_PEOPLE_MILLIS
        + COMPOSITE_MILLIS * size(canvas.width) * size(canvas.height) * size(canvas.frames_per_second) / PATTERN_PIXELS_PER_SECOND
}

fn composite_bytes(spec: &RecordingSpec) -> u64 {
    if canvas(spec).is_some() { COMPOSITE_BYTES } else { 0 }
}

/// None: nothing is composed.
fn canvas(spec: &RecordingSpec) -> Option<Canvas> {
    let composes = spec.mode == Mode::Composite && spec.media != Media::Audio;
    composes.then(|| spec.layout.as_ref().map(|layout| layout.canvas.clone()).unwrap_or_default())
}

/// A Kubernetes quantity as whole units: `4Gi`, `500M`, `1.5Gi`, `1e9`; None when it is none, negative, or out of range.
pub fn parse_quantity(text: &str) -> Option<u64> {
    const SUFFIXES: [(&str, f64); 12] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("m", 0.001),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("", 1.0),
    ];
    let (number, factor) = SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))?;
    if !number.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+')) {
        return None;
    }
    let value = number.parse::<f64>().ok()? * factor;
    // 2^53: beyond it a float no longer counts bytes, and no disk is that large.
    (value.is_finite() && (0.0..9.007e15).contains(&value)).then_some(value.ceil() as u64)
}

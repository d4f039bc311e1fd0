//! FFmpeg and libopus behind a safe API: the only crate of the workspace that may write `unsafe`.
//!
//! Sound is 48 kHz, interleaved `f32` in -1..1; pictures are I420; video timestamps are 90 kHz ticks.
//! Every codec is `Send` and belongs to one thread at a time; none blocks on anything but the CPU.

pub mod aac;
mod decoded;
mod error;
pub mod h264;
mod jpeg;
pub mod opus;
mod picture;
mod rotate;
mod scale;
mod still;
pub mod video;

pub use decoded::Decoded;
pub use error::CodecError;
pub use jpeg::jpeg;
pub use picture::{Colour, I420, Picture, View};
pub use rotate::Rotation;
pub use scale::{Crop, Scaler};
pub use still::{IMAGE_BYTES_MAX, Still};

/// The only sample rate of this crate, in Hz.
pub const SAMPLE_RATE: u32 = 48_000;

/// One or two channels, interleaved left, right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channels {
    Mono,
    Stereo,
}

impl Channels {
    /// 1 or 2.
    pub const fn count(self) -> usize {
        match self {
            Self::Mono => 1,
            Self::Stereo => 2,
        }
    }
}

/// FFmpeg, and through it x264 and dav1d, write to stderr by themselves: a line for each damaged slice. All of it is silenced; what matters
/// comes back as a [`CodecError`]. Idempotent, process-wide.
pub(crate) fn quiet() {
    ffmpeg_next::log::set_level(ffmpeg_next::log::Level::Quiet);
}

/// The libraries in use, on one line, for `--version`: those found at run time, not the headers of the build.
pub fn versions() -> String {
    // SAFETY: av_version_info takes nothing and returns a static NUL-terminated string.
    let ffmpeg = unsafe { std::ffi::CStr::from_ptr(ffmpeg_next::ffi::av_version_info()) };
    format!(
        "FFmpeg {} (libavcodec {}, libswscale {}, libavutil {}), {}",
        ffmpeg.to_string_lossy(),
        dotted(ffmpeg_next::codec::version()),
        dotted(ffmpeg_next::software::scaling::version()),
        dotted(ffmpeg_next::util::version()),
        ::opus::version()
    )
}

/// FFmpeg's AV_VERSION_INT: major << 16 | minor << 8 | micro.
fn dotted(version: u32) -> String {
    format!("{}.{}.{}", version >> 16, version >> 8 & 0xff, version & 0xff)
}

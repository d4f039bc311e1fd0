//! One participant of the test pattern: picture and sound, encoded and paced in real time on a thread of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use recorder_codec::h264::{EncodedFrame, H264Config, H264Encoder, Latency, Preset, Rate};
use recorder_codec::opus::OpusEncoder;
use recorder_codec::{Channels, CodecError, Colour};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::packetizer;
use super::pattern::{Painter, SAMPLES_PER_SECOND, Voice};

/// One Opus packet, samples.
const OPUS_SAMPLES: u64 = 960;
const OPUS_BITS_PER_SECOND: u32 = 48_000;
const VIDEO_TICKS_PER_SECOND: u64 = 90_000;
/// A picture that is late by more than this is left out: the machine is too slow for what was asked.
const PICTURE_LATE_MAX: Duration = Duration::from_millis(500);
/// Sender reports of each track.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Bits per pixel of the picture: large flat areas need little.
const PIXELS_PER_BIT: u64 = 18;

/// What a participant looks and sounds like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    pub(crate) id: u8,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frames_per_second: u32,
    pub(crate) duration: Duration,
    pub(crate) video: bool,
    pub(crate) audio: bool,
}

/// Which of a participant's two tracks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Video,
    Audio,
}

/// What the thread hands to the network.
#[derive(Debug)]
pub(crate) enum Sent {
    /// All packets of one timestamp; the marker belongs on the last one of a picture. The timestamp is counted from media time 0.
    Media { kind: Kind, timestamp: u64, payloads: Vec<Bytes> },
    /// `media` time of both tracks, and the wall clock of media time 0 since the Unix epoch.
    Report { media: Duration, epoch: Duration },
}

/// Runs until the script's end, or until the other side goes. Blocks: for a thread of its own.
///
/// # Errors
/// When an encoder does not take the script.
pub(crate) fn run(
    script: Script,
    keyframe: &Arc<AtomicBool>,
    sent: &mpsc::Sender<Sent>,
    cancel: &CancellationToken,
) -> Result<(), CodecError> {
    let mut video = if script.video { Some(Video::open(script)?) } else { None };
    let mut audio = if script.audio { Some(Audio::open(script)?) } else { None };
    let (start, epoch) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    let mut report_due = Duration::ZERO;
    loop {
        let video_due = video.as_ref().map_or(Duration::MAX, Video::due);
        let audio_due = audio.as_ref().map_or(Duration::MAX, Audio::due);
        let due = video_due.min(audio_due).min(report_due);
        if due >= script.duration || cancel.is_cancelled() {
            return Ok(());
        }
        std::thread::sleep((start + due).saturating_duration_since(Instant::now()));
        let next = if due == report_due {
            report_due += REPORT_EVERY;
            Some(Sent::Report { media: due, epoch })
        } else if let Some(video) = video.as_mut().filter(|_| due == video_due) {
            video.next(start, keyframe.swap(false, Ordering::Relaxed))?
        } else if let Some(audio) = audio.as_mut() {
            Some(audio.next()?)
        } else {
            None
        };
        if let Some(next) = next
            && sent.blocking_send(next).is_err()
        {
            return Ok(());
        }
    }
}

struct Video {
    frames_per_second: u64,
    frame: u64,
    painter: Painter,
    encoder: H264Encoder,
    encoded: Vec<EncodedFrame>,
}

impl Video {
    fn open(script: Script) -> Result<Self, CodecError> {
        let Script { width, height, frames_per_second, .. } = script;
        let pixels = u64::from(width) * u64::from(height) * u64::from(frames_per_second);
        let config = H264Config {
            width,
            height,
            frames_per_second,
            rate: Rate::Average { kbps: (pixels / PIXELS_PER_BIT / 1000).clamp(200, 4000) as u32 },
            colour: Colour::default(),
            preset: Preset::Ultrafast,
            latency: Latency::ZeroLatency,
            baseline: true,
            threads: 1,
        };
        Ok(Self {
            frames_per_second: u64::from(frames_per_second),
            frame: 0,
            painter: Painter::new(script.id, width, height, frames_per_second),
            encoder: H264Encoder::new(&config)?,
            encoded: vec![],
        })
    }

    fn due(&self) -> Duration {
        Duration::from_micros(self.frame * 1_000_000 / self.frames_per_second)
    }

    /// None for a picture that is left out.
    fn next(&mut self, start: Instant, keyframe: bool) -> Result<Option<Sent>, CodecError> {
        let late = start.elapsed().saturating_sub(self.due());
        let frame = self.frame;
        self.frame += 1;
        if late > PICTURE_LATE_MAX && !keyframe {
            return Ok(None);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let picture = self.painter.paint(frame as u32, now.as_millis() as u64);
        let timestamp = frame * VIDEO_TICKS_PER_SECOND / self.frames_per_second;
        self.encoder.encode(&picture, timestamp as i64, keyframe || frame == 0, &mut self.encoded)?;
        let payloads = self.encoded.drain(..).flat_map(|unit| packetizer::payloads(&unit.data)).collect();
        Ok(Some(Sent::Media { kind: Kind::Video, timestamp, payloads }))
    }
}

struct Audio {
    sample: u64,
    voice: Voice,
    encoder: OpusEncoder,
}

impl Audio {
    fn open(script: Script) -> Result<Self, CodecError> {
        Ok(Self { sample: 0, voice: Voice::new(script.id), encoder: OpusEncoder::new(Channels::Mono, OPUS_BITS_PER_SECOND)? })
    }

    /// A packet can leave when its last sample was "heard".
    fn due(&self) -> Duration {
        Duration::from_micros((self.sample + OPUS_SAMPLES) * 1_000_000 / SAMPLES_PER_SECOND)
    }

    fn next(&mut self) -> Result<Sent, CodecError> {
        let timestamp = self.sample;
        self.sample += OPUS_SAMPLES;
        let packet = self.encoder.encode(self.voice.samples(timestamp, OPUS_SAMPLES as usize))?;
        Ok(Sent::Media { kind: Kind::Audio, timestamp, payloads: vec![packet.into()] })
    }
}

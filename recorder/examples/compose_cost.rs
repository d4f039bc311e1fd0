//! What composing costs: `cargo run --release -p recorder --example compose_cost -- FOLDER PEOPLE WIDTHxHEIGHT@FPS SECONDS`.
//!
//! Cameras are made first (a gradient that moves, with grain) and lie in the folder as `camera-N.h264`; then they are composed as Best Fit on
//! 1280x720@30 at 2 Mbit/s into `composite.h264`. Told are CPU seconds per second of media, of this thread: a busy machine does not disturb.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use recorder::compose::Composer;
use recorder_codec::h264::{H264Config, H264Encoder};
use recorder_codec::{Colour, I420};
use recorder_media::canvas::Yuv;
use recorder_media::layout::{Canvas, Layout};
use recorder_media::stage::{Change, Composition, Images, LOOK_AHEAD, Stage};
use recorder_media::{Codec, Encoding, MediaTime, ParticipantKey, SourceUnit, TrackKey};

const CANVAS: Canvas = Canvas { width: 1280, height: 720 };
const FRAMES_PER_SECOND: u32 = 30;
const KBPS: u32 = 2000;
const ENCODING: Encoding = Encoding { frames_per_second: FRAMES_PER_SECOND, kbps: KBPS };
const SEGMENT_SECONDS: i64 = 6;

struct Cameras {
    people: u32,
    width: u32,
    height: u32,
    per_second: u32,
    seconds: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [folder, people, format, seconds] = args.as_slice() else {
        return Err("FOLDER PEOPLE WIDTHxHEIGHT@FPS SECONDS".into());
    };
    let (size, per_second) = format.split_once('@').ok_or("WIDTHxHEIGHT@FPS")?;
    let (width, height) = size.split_once('x').ok_or("WIDTHxHEIGHT@FPS")?;
    let cameras = Cameras {
        people: people.parse()?,
        width: width.parse()?,
        height: height.parse()?,
        per_second: per_second.parse()?,
        seconds: seconds.parse()?,
    };
    let folder = PathBuf::from(folder);
    let sent = (0..cameras.people).map(|n| camera(&cameras, n, &folder)).collect::<Result<Vec<_>, _>>()?;
    let (frames, cpu) = compose(&cameras, sent, &folder)?;
    println!("{{\"frames\": {frames}, \"cpu_per_second\": {:.4}}}", cpu / f64::from(cameras.seconds));
    Ok(())
}

/// One person's access units, each a picture.
fn camera(cameras: &Cameras, n: u32, folder: &Path) -> Result<Vec<SourceUnit>, Box<dyn Error>> {
    let (width, height) = (cameras.width, cameras.height);
    let config = H264Config { frames_per_second: cameras.per_second, ..H264Config::transcoding(width, height, Colour::BT601) };
    let mut encoder = H264Encoder::new(&config)?;
    let (mut units, mut file, mut grain) = (Vec::new(), Vec::new(), n.wrapping_add(1));
    let chroma: [Vec<u8>; 2] = [100 + n as u8 * 5, 160 - n as u8 * 3].map(|level| vec![level; (width * height / 4) as usize]);
    for picture in 0..cameras.per_second * cameras.seconds {
        let mut y = Vec::with_capacity((width * height) as usize);
        for row in 0..height {
            for column in 0..width {
                grain = grain.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let wave = ((column + picture * 3 + row / 2) % 256).abs_diff(128) as u8;
                y.push(60 + wave + (grain >> 30) as u8);
            }
        }
        let mut frames = Vec::new();
        let pts = i64::from(picture) * MediaTime::PER_SECOND / i64::from(cameras.per_second);
        encoder.encode(&I420 { width, height, y: &y, u: &chroma[0], v: &chroma[1] }, pts, false, &mut frames)?;
        for frame in frames {
            file.extend_from_slice(&frame.data);
            units.push(SourceUnit { codec: Codec::H264, data: Bytes::from(frame.data), key: frame.keyframe, rotation: 0 });
        }
    }
    std::fs::write(folder.join(format!("camera-{n}.h264")), file)?;
    Ok(units)
}

/// Frames made, and CPU seconds that it took.
fn compose(cameras: &Cameras, sent: Vec<Vec<SourceUnit>>, folder: &Path) -> Result<(u64, f64), Box<dyn Error>> {
    let background = Yuv::from_rgb("#000000").ok_or("a colour")?;
    let mut stage =
        Stage::new(Composition { layout: Layout::BestFit, canvas: CANVAS, background, images: Images::default(), encoding: ENCODING });
    for (n, units) in (0..).zip(sent) {
        let (participant, uid) = (ParticipantKey(n), n.to_string());
        stage.change(MediaTime(0), Change::Published { participant, uid, screen: false, video: Some(TrackKey(n)) });
        for (at, unit) in (0..).zip(units) {
            let at = MediaTime(at * MediaTime::PER_SECOND / i64::from(cameras.per_second));
            stage.unit(at, TrackKey(n), unit.key, unit);
        }
    }
    let mut composer = Composer::new(Arc::default());
    let (mut file, mut count) = (Vec::new(), 0);
    let began = cpu_seconds()?;
    for frame in stage.frames(MediaTime(i64::from(cameras.seconds) * MediaTime::PER_SECOND + LOOK_AHEAD - 1)) {
        let key = frame.at.0 % (SEGMENT_SECONDS * MediaTime::PER_SECOND) == 0;
        let (picture, undecodable) = composer.frame(frame.at, frame.scene, frame.units, Some(frame.encoding), key)?;
        if !undecodable.is_empty() {
            return Err(format!("{undecodable:?} cannot be decoded").into());
        }
        file.extend_from_slice(&picture.ok_or("a picture")?.data);
        count += 1;
    }
    let took = cpu_seconds()? - began;
    std::fs::write(folder.join("composite.h264"), file)?;
    Ok((count, took))
}

/// CPU time of this thread since its start.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = text.split_whitespace().next().ok_or("schedstat is empty")?.parse()?;
    Ok(nanoseconds / 1e9)
}

//! The canvas changes its size while it is recorded: each size has segments of its own, nothing is lost between them, and players play on.

use anyhow::{Context, Result, ensure};
use recording_tests::analyser::block_code::Rect;
use recording_tests::analyser::{content, decode, player};
use recording_tests::composed::{Composed, Taken};
use recording_tests::frames::scene::{Fit, Layer, Person, Scene};
use recording_tests::frames::{BACKGROUND, Expected, Frame};
use recording_tests::harness::livekit::LiveKit;
use recording_tests::load::{Stimulus, Target, publish};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(60);
const IDS: [u8; 2] = [1, 2];
const CAMERA_FPS: u32 = 15;
/// Twice the cameras': no picture of theirs is left out.
const CANVAS_FPS: i64 = 30;
/// Of each canvas, at least.
const SECONDS: u64 = 2;

struct Canvas {
    size: (usize, usize),
    /// Of both, in the cameras' shape.
    rects: [Rect; 2],
}

const fn canvas(size: (usize, usize), [width, height]: [usize; 2]) -> Canvas {
    let last = Rect { x: size.0 - width, y: size.1 - height, width, height };
    Canvas { size, rects: [Rect { x: 0, y: 0, ..last }, last] }
}

const CANVASES: [Canvas; 4] =
    [canvas((640, 360), [320, 180]), canvas((960, 540), [480, 270]), canvas((360, 640), [320, 180]), canvas((640, 360), [320, 180])];

impl Canvas {
    fn layout(&self) -> String {
        let (width, height) = self.size;
        let region = |(id, rect): (&u8, &Rect)| {
            format!("{{uid: load-{id}, left: {}, top: {}, width: {}, height: {}}}", rect.x, rect.y, rect.width, rect.height)
        };
        let regions: Vec<String> = IDS.iter().zip(&self.rects).map(region).collect();
        let canvas = format!("{{width: {width}, height: {height}, framesPerSecond: {CANVAS_FPS}, backgroundColor: '{BACKGROUND}'}}");
        format!("{{type: Custom, canvas: {canvas}, regions: [{}]}}", regions.join(", "))
    }

    fn scene(&self) -> Scene {
        let layer = |(id, rect): (&u8, &Rect)| Layer::person(Person::new(*id, (320, 180), Fit::Crop), *rect);
        Scene::new(format!("{:?}", self.size), self.size, &IDS.iter().zip(&self.rects).map(layer).collect::<Vec<_>>()).coarse()
    }
}

#[test]
fn another_canvas_begins_a_segment_and_loses_nothing() -> Result<()> {
    let livekit = LiveKit::start()?;
    let stimulus = |participant| Stimulus { participant, width: 320, height: 180, frames_per_second: CAMERA_FPS, seconds: 60, kbps: None };
    let media = IDS.map(|id| stimulus(id).media());
    let mut room = Composed::start(&livekit, "sizes", &CANVASES[0].layout())?;
    let (target, mut publishers) = (Target::LiveKit { server: &livekit, room: "sizes" }, Vec::new());
    for (id, media) in IDS.into_iter().zip(media) {
        publishers.push(publish(&target, &media?, 1, LIMIT.as_secs_f64(), &["-first", &id.to_string()])?);
        room.wait_for_people(u32::from(id))?;
    }
    room.wait_for_media(SECONDS)?;
    for canvas in &CANVASES[1..] {
        room.order(&canvas.layout())?;
        room.wait_for_media(SECONDS)?;
    }
    publishers.iter_mut().for_each(|publisher| _ = publisher.stop(SOON));
    let taken = room.finish()?;
    pictures(&taken)?;
    let audio = content::audio(&taken.playlist, &IDS)?;
    ensure!(audio.gaps.is_empty() && audio.overlaps == 0, "{:?}", audio.gaps);
    for id in IDS {
        let voice = &audio.voices[&id];
        ensure!(voice.holes.is_empty(), "{id} is silent at {:?}, heard {:?}", voice.holes, voice.heard);
    }
    let report = player::play(&taken.playlist)?;
    println!("{report:?}");
    ensure!(report.is_good() && (report.played_to - taken.playlist.duration()).abs() < 1.0, "{} s: {report:?}", taken.playlist.duration());
    let sizes = CANVASES.map(|canvas| (canvas.size.0 as u32, canvas.size.1 as u32));
    ensure!(report.sizes == sizes, "{report:?}");
    Ok(())
}

/// Each stretch of segments has pictures of its canvas alone, one every tick, and everybody's pictures go on from one to the next.
fn pictures(taken: &Taken) -> Result<()> {
    let (runs, files) = (taken.playlist.runs(), taken.playlist.files());
    ensure!(runs.len() == CANVASES.len(), "{} stretches of segments: {runs:?}", runs.len());
    let (mut last_pts, mut shown, mut right) = (None, [const { Vec::<u32>::new() }; 2], [0_u64; CANVASES.len()]);
    for (n, (run, canvas)) in runs.into_iter().zip(&CANVASES).enumerate() {
        let scene = canvas.scene();
        decode::pictures(&files[run], |picture| {
            let frame = Frame(&picture);
            let step = last_pts.replace(picture.pts_90k).map_or(90_000 / CANVAS_FPS, |last| picture.pts_90k - last);
            ensure!((step - 90_000 / CANVAS_FPS).abs() <= 1, "{step} ticks before a picture of {canvas:?}", canvas = canvas.size);
            for (shown, rect) in shown.iter_mut().zip(&canvas.rects) {
                shown.extend(frame.code(*rect, 0).map(|code| code.frame));
            }
            match scene.differs(&frame) {
                None => right[n] += 1,
                // Not everybody is there from the start, nor to the end.
                Some(fault) => ensure!(right[0] == 0 || n + 1 == CANVASES.len(), "{scene:?}: {fault:?}"),
            }
            Ok(())
        })
        .with_context(|| format!("canvas {n}"))?;
    }
    println!("{right:?} pictures of each canvas");
    ensure!(right.iter().all(|right| *right >= SECONDS * CANVAS_FPS as u64 / 2), "{right:?} are as they should be");
    for (id, shown) in IDS.iter().zip(&mut shown) {
        shown.dedup();
        ensure!(shown.windows(2).all(|pair| pair[1] == pair[0] + 1), "of {id} are shown {shown:?}");
    }
    Ok(())
}

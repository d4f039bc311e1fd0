//! Cameras in one picture that turn and change their size, each in another codec, from libwebrtc: what is stored of them at any moment.

use anyhow::{Context, Result, ensure};
use recording_tests::analyser::block_code::{Code, Rect};
use recording_tests::analyser::{content, decode};
use recording_tests::composed::{Composed, Taken};
use recording_tests::frames::scene::{Fit, Layer, Person, Scene};
use recording_tests::frames::{BACKGROUND, Expected, Fault, Frame};
use recording_tests::harness::livekit::LiveKit;
use recording_tests::publisher::Publisher;
use std::collections::BTreeSet;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const CANVAS: (usize, usize) = (1280, 720);
const FPS: f64 = 15.0;
const SECONDS: f64 = 24.0;
const WIDE: (usize, usize) = (640, 360);
/// A change that is ordered between two frames is seen in the next or the next but one.
const EXACT_SECONDS: f64 = 2.0 / FPS;
/// Where a picture cannot be read its time is told by its place among those that can: within two of the canvas, and libwebrtc's reports.
const NEAR_SECONDS: f64 = 0.25;
/// libwebrtc's first pictures are coarse.
const SETTLED_SECONDS: f64 = 2.0;
/// An encoder's first pictures of another size are too coarse here and there: so many points of some 35,000 may be wrong for so long.
const COARSE_POINTS: usize = 100;
const COARSE_SECONDS: f64 = 1.0;
/// libwebrtc leaves out pictures on a busy machine.
const LEAST_SHARE: f64 = 0.8;

/// From so many seconds on: a size, and how it is turned.
type Pose = (f64, (usize, usize), usize);

const TURNING: [Pose; 5] = [(0.0, WIDE, 0), (5.0, WIDE, 90), (9.0, WIDE, 180), (13.0, WIDE, 270), (17.0, WIDE, 0)];
const RESIZED: [Pose; 4] = [(0.0, WIDE, 0), (6.0, (640, 480), 0), (11.0, (360, 640), 0), (17.0, WIDE, 0)];

struct Camera {
    name: &'static str,
    id: u8,
    codec: &'static str,
    fit: Fit,
    poses: &'static [Pose],
}

const CAMERAS: [Camera; 4] = [
    Camera { name: "alice", id: 1, codec: "H264", fit: Fit::Fit, poses: &TURNING },
    Camera { name: "bob", id: 2, codec: "VP8", fit: Fit::Crop, poses: &TURNING },
    Camera { name: "carol", id: 3, codec: "VP9", fit: Fit::Fit, poses: &RESIZED },
    Camera { name: "dave", id: 4, codec: "AV1", fit: Fit::Crop, poses: &RESIZED },
];

impl Camera {
    /// A quarter of the canvas.
    fn rect(&self) -> Rect {
        let n = usize::from(self.id) - 1;
        Rect { x: 640 * (n % 2), y: 360 * (n / 2), width: 640, height: 360 }
    }

    fn region(&self) -> String {
        let (Rect { x, y, width, height }, Self { name, fit, .. }) = (self.rect(), self);
        format!("{{uid: {name}, left: {x}, top: {y}, width: {width}, height: {height}, fit: {fit:?}}}")
    }

    fn script(&self) -> String {
        let change = |pair: &[Pose]| match pair {
            [(_, before, _), (at, (width, height), _)] if *before != (*width, *height) => format!("{at} size v {width}x{height}"),
            [.., (at, _, degrees)] => format!("{at} rotate v {degrees}"),
            [] => String::new(),
        };
        self.poses.windows(2).map(change).collect::<Vec<_>>().join("; ")
    }

    fn join(&self, livekit: &LiveKit) -> Result<Publisher> {
        let (seconds, script) = (SECONDS.to_string(), self.script());
        let flags = ["--seconds", &seconds, "--size", "640x360", "--codec", self.codec, "--script", &script];
        Publisher::start(livekit, "cameras", self.name, self.id, &flags)
    }

    fn person(&self, (_, size, degrees): Pose) -> Person {
        Person { degrees, ..Person::new(self.id, size, self.fit) }
    }

    /// What its region is like in each pose.
    fn scenes(&self) -> Vec<Scene> {
        let rect = self.rect();
        let scene = |pose: &Pose| Scene::new(format!("{pose:?}"), CANVAS, &[Layer::person(self.person(*pose), rect)]).only(rect).coarse();
        self.poses.iter().map(scene).collect()
    }

    /// Where all of the picture is seen.
    fn code(&self, frame: &Frame<'_>) -> Option<Code> {
        let read = |pose: &Pose| frame.code(self.person(*pose).whole(self.rect())?, pose.2);
        self.poses.iter().find_map(read)
    }
}

/// One camera's part of one picture.
struct Seen {
    /// Seconds.
    pts: f64,
    code: Option<Code>,
    /// What is wrong with it, for each pose.
    faults: Vec<Option<Fault>>,
}

#[test]
fn cameras_of_all_codecs_turn_and_change_their_size() -> Result<()> {
    let livekit = LiveKit::start()?;
    let regions = CAMERAS.iter().map(Camera::region).collect::<Vec<_>>().join(", ");
    let canvas = format!("{{width: 1280, height: 720, framesPerSecond: {FPS}, videoKbps: 4000, backgroundColor: '{BACKGROUND}'}}");
    let room = Composed::start(&livekit, "cameras", &format!("{{type: Custom, canvas: {canvas}, regions: [{regions}]}}"))?;
    let mut people = CAMERAS.iter().map(|camera| camera.join(&livekit)).collect::<Result<Vec<_>>>()?;
    for person in &mut people {
        person.finish(SOON * 2)?;
    }
    let taken = room.finish()?;
    let seen = seen(&taken)?;
    for (camera, seen) in CAMERAS.iter().zip(&seen) {
        camera.advances(seen).and_then(|()| camera.poses_as_ordered(seen)).with_context(|| camera.name)?;
    }
    let ids = CAMERAS.map(|camera| camera.id);
    let audio = content::audio(&taken.playlist, &ids)?;
    ensure!(audio.gaps.is_empty() && audio.overlaps == 0, "{:?}", audio.gaps);
    for id in ids {
        let heard = audio.voices[&id].tone.iter().filter(|share| **share > 0.9).count();
        ensure!(heard as f64 >= SECONDS * LEAST_SHARE, "{id} is heard in {heard} s: {:?}", audio.voices[&id].tone);
    }
    Ok(())
}

/// Of each camera.
fn seen(taken: &Taken) -> Result<Vec<Vec<Seen>>> {
    let scenes: Vec<Vec<Scene>> = CAMERAS.iter().map(Camera::scenes).collect();
    let mut seen: Vec<Vec<Seen>> = CAMERAS.iter().map(|_| Vec::new()).collect();
    decode::pictures(&taken.playlist.files(), |picture| {
        let (frame, pts) = (Frame(&picture), picture.pts_90k as f64 / 90_000.0);
        for ((camera, scenes), seen) in CAMERAS.iter().zip(&scenes).zip(&mut seen) {
            seen.push(Seen { pts, code: camera.code(&frame), faults: scenes.iter().map(|scene| scene.differs(&frame)).collect() });
        }
        Ok(())
    })?;
    Ok(seen)
}

impl Camera {
    /// Its numbers rise, and hardly one is missing among those that can be read.
    fn advances(&self, seen: &[Seen]) -> Result<()> {
        let codes: Vec<Code> = seen.iter().filter_map(|seen| seen.code).collect();
        ensure!(codes.iter().all(|code| code.participant == self.id), "somebody else is in the place");
        if let Some(pair) = codes.windows(2).find(|pair| pair[1].frame < pair[0].frame) {
            anyhow::bail!("out of order: {pair:?}");
        }
        let numbers: BTreeSet<u32> = codes.iter().map(|code| code.frame).collect();
        let readable: f64 =
            self.stays().filter(|(n, _)| self.person(self.poses[*n]).whole(self.rect()).is_some()).map(|(_, stay)| stay).sum();
        println!("{} ({}): {} different pictures read, in {readable} s", self.name, self.codec, numbers.len());
        ensure!(numbers.len() as f64 >= (readable - SETTLED_SECONDS) * FPS * LEAST_SHARE, "{} pictures", numbers.len());
        Ok(())
    }

    /// Seconds of each pose.
    fn stays(&self) -> impl Iterator<Item = (usize, f64)> {
        let ends = self.poses[1..].iter().map(|pose| pose.0).chain([SECONDS]);
        self.poses.iter().zip(ends).map(|(pose, end)| end - pose.0).enumerate()
    }

    /// Each picture shows what was ordered for its time.
    fn poses_as_ordered(&self, seen: &[Seen]) -> Result<()> {
        let coded: Vec<(f64, f64)> = seen.iter().filter_map(|seen| Some((seen.pts, f64::from(seen.code?.frame) / FPS))).collect();
        let mut zeros: Vec<f64> = coded.iter().map(|(pts, time)| pts - time).collect();
        zeros.sort_by(f64::total_cmp);
        let zero = *zeros.get(zeros.len() / 2).context("a picture that can be read")?;
        let (first, last) = (coded[0].0 + SETTLED_SECONDS, coded[coded.len() - 1].0);
        let mut right = vec![0_u32; self.poses.len()];
        for seen in seen.iter().filter(|seen| (first..=last).contains(&seen.pts)) {
            let read = seen.code.map(|code| f64::from(code.frame) / FPS);
            let (time, slack) = read.map_or((seen.pts - zero, NEAR_SECONDS), |time| (time, EXACT_SECONDS));
            let due = |n: &usize| {
                let ends = self.poses.get(n + 1).map_or(SECONDS, |next| next.0);
                (self.poses[*n].0 - slack..=ends + slack).contains(&time)
            };
            let due: Vec<usize> = (0..self.poses.len()).filter(due).collect();
            let few = |n: usize| if time < self.poses[n].0 + COARSE_SECONDS { COARSE_POINTS } else { 0 };
            let is = due.iter().find(|n| seen.faults[**n].as_ref().is_none_or(|fault| fault.wrong <= few(**n)));
            let faults = || due.iter().map(|n| (self.poses[*n], &seen.faults[*n])).collect::<Vec<_>>();
            right[*is.with_context(|| format!("at {time:.2} s, read {read:?}: {:?}", faults()))?] += 1;
        }
        println!("{}: {right:?} pictures in each pose", self.name);
        ensure!(right.iter().all(|right| f64::from(*right) >= FPS), "a pose is hardly seen: {right:?} pictures");
        Ok(())
    }
}

//! Rooms that are composed: who joins them, and what must be true of what comes out.

use super::reader::{Read, read};
use super::*;
use canvas::Content;
use recorder_media::layout::{Canvas, Layout};
use recorder_media::stage::{Composition, Images, Visual};

pub const PLAYLIST: &str = "rec_room.m3u8";
/// Ticks of 90 kHz between two frames.
pub const FRAME: i64 = 3_000;
pub const FIRST_PTS: i64 = 900_000;

pub fn composition(layout: Layout) -> Composition {
    Composition {
        layout,
        canvas: Canvas { width: 1280, height: 720 },
        background: canvas::Yuv { y: 16, u: 128, v: 128 },
        images: Images::default(),
        encoding: Encoding { frames_per_second: 30, kbps: 1000 },
    }
}

/// A tile with this camera in it.
pub fn shows(track: u32) -> Content<Visual> {
    Content::Source(Visual::Camera(TrackKey(track)))
}

pub fn composite() -> Config {
    Config { mode: Mode::Composite(composition(Layout::BestFit)), ..config() }
}

pub fn world() -> World {
    World::new(Room::new(composite()).journalled())
}

/// Camera `10 n`, microphone `10 n + 1`; of a second stay 100 more.
pub fn join(world: &mut World, n: u32, name: &str, stay: u32) -> ParticipantKey {
    world.room.input(Input::Connected);
    let who = world.room.join(n + 1_000 * stay, name);
    let (track, start) = (10 * n + 100 * stay, world.room.now);
    // Not all on one grid.
    let start = start.after(u64::from(n) * 7_000);
    let camera = Publisher { frame: track * 10_000, interval_us: 40_000 + u64::from(n) * 10_000, ..Publisher::camera(track, start) };
    let microphone = Publisher::microphone(track + 1, start);
    world.room.publish(&camera, who, Codec::H264);
    world.room.publish(&microphone, who, Codec::Opus);
    world.add(camera);
    world.add(microphone);
    who
}

pub fn stop(world: &mut World) {
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    world.run_ms(5_000);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
}

/// Numbers of a track's pictures that frames show or are decoded for those that do, in order.
pub fn decoded(world: &World, track: u32) -> Vec<u32> {
    let frames = world.room.transcoder.frames.iter();
    frames.flat_map(|frame| &frame.decoded).filter(|(key, _)| key.0 == track).map(|(_, n)| n % 10_000).collect()
}

/// Every frame once, a thirtieth of a second behind the other, but where a stretch begins: their times.
pub fn check_frames(read: &Read, stretches: usize) -> Vec<i64> {
    let pictures = read.pictures();
    let steps: Vec<i64> = pictures.windows(2).map(|pair| pair[1].0 - pair[0].0).filter(|step| *step != FRAME).collect();
    assert_eq!(steps.len(), stretches - 1, "{steps:?}");
    assert!(steps.iter().all(|step| *step > FRAME), "{steps:?}");
    pictures.iter().map(|picture| picture.0).collect()
}

pub fn check_sound(read: &Read, stretches: usize) {
    let sounds = read.sounds();
    let leaps: Vec<i64> = sounds.windows(2).map(|pair| pair[1].0 - pair[0].0).filter(|step| *step != 1920).collect();
    assert!(leaps.len() == stretches - 1 && leaps.iter().all(|step| *step > 1920), "{leaps:?}");
}

/// Segments are exactly as long as they should be, but the last of a stretch, and begin with a key frame each.
pub fn check_segments(world: &World) {
    let ledger = world.room.session.manifest().ledger.kept();
    let read = read(&world.room.data(0));
    for (n, pair) in ledger.windows(2).enumerate().filter(|(_, pair)| !pair[1].discontinuity) {
        let off = (pair[0].duration90k - 4 * 90_000).abs();
        assert!(off <= FRAME, "segment {n} is {off} ticks off");
    }
    for n in 0..ledger.len() {
        let first = read.pictures().into_iter().find(|picture| picture.3 == n);
        assert!(first.is_none_or(|first| first.2), "segment {n} begins with a key frame");
    }
    let text = &world.room.playlists[PLAYLIST];
    assert!(text.contains("#EXT-X-TARGETDURATION:5\n") && text.ends_with("#EXT-X-ENDLIST\n"), "{text}");
    let longest = ledger.iter().map(|entry| entry.duration90k).max();
    assert!(longest < Some(5 * 90_000 + 45_000), "{longest:?}");
}

/// By how much the first place of what a voice gave differs from when it was captured, in milliseconds; `number`: in the packet.
pub fn heard_off(world: &World, track: u32, base: (u32, u32)) -> Vec<f64> {
    let captured: BTreeMap<u32, Tick> = world.sent[&track].iter().copied().zip(world.captured[&track].iter().copied()).collect();
    let of = |(key, number): (u32, u32), heard: &[(TrackKey, u32, i64)]| {
        let found = heard.iter().find(|(k, n, _)| (k.0, *n) == (key, number));
        found.map(|(.., at)| *at).expect("heard")
    };
    let heard = &world.room.encoders[&PlaylistKey(0)].heard;
    let (at, begins) = (of(base, heard), world.captured[&base.0][world.sent[&base.0].iter().position(|n| *n == base.1).expect("sent")]);
    let mine = heard.iter().filter(|(key, ..)| key.0 == track);
    mine.map(|(_, n, place)| (place - at) as f64 / 48.0 - (captured[n].0 as f64 - begins.0 as f64) / 1000.0).collect()
}

/// The last scene at or before each of these moments, seconds behind the first frame.
pub fn scenes(world: &World, seconds: &[f64]) -> Vec<Vec<Content<Visual>>> {
    let frames = &world.room.transcoder.frames;
    let first = frames[0].at.0;
    let scene = |second: &f64| {
        let until = first + (second * 90_000.0) as i64;
        let found = frames.iter().filter(|frame| frame.at.0 <= until).filter_map(|frame| frame.scene.as_ref()).next_back();
        found.map(|scene| scene.tiles.iter().map(|tile| tile.content).collect()).unwrap_or_default()
    };
    seconds.iter().map(scene).collect()
}

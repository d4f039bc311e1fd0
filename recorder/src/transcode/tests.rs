use std::time::{Duration, Instant};

use recorder_codec::Still;
use recorder_codec::h264::{Latency, Preset, Rate};
use recorder_media::{MediaTime, Snapshot};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

const WIDTH: u32 = 192;
const HEIGHT: u32 = 96;
const TICKS: i64 = 3000;
const WHITE: u8 = 220;
const BLACK: u8 = 30;
/// Waiting for a thread; nothing here takes a tenth of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// Black with a white square in the corner top left.
fn picture(n: i64) -> Picture {
    let luma = |i: usize| if i % (WIDTH as usize) < 48 && i / (WIDTH as usize) < 48 { WHITE } else { BLACK };
    let (samples, chroma) = ((WIDTH * HEIGHT) as usize, (WIDTH * HEIGHT / 4) as usize);
    let y = (0..samples).map(luma).collect();
    Picture { width: WIDTH, height: HEIGHT, y, u: vec![128; chroma], v: vec![128; chroma], pts: n * TICKS, colour: Colour::default() }
}

/// A publisher's H.264: a key frame, then pictures that need it.
fn source(count: i64) -> Vec<EncodedFrame> {
    let config = H264Config {
        rate: Rate::Average { kbps: 800 },
        preset: Preset::Ultrafast,
        latency: Latency::ZeroLatency,
        baseline: true,
        ..H264Config::transcoding(WIDTH, HEIGHT, Colour::default())
    };
    let mut encoder = H264Encoder::new(&config).expect("an encoder");
    let mut out = Vec::new();
    (0..count).for_each(|n| encoder.encode(&picture(n).i420(), n * TICKS, n == 0, &mut out).expect("a frame"));
    out
}

fn work(frame: &EncodedFrame, rotation: u16, force_key: bool) -> VideoOp {
    let data = Bytes::from(frame.data.clone());
    VideoOp::Transcode {
        codec: Codec::H264,
        data,
        key: frame.keyframe,
        rotation,
        at: MediaTime(frame.pts),
        force_key,
        snapshots: Vec::new(),
    }
}

fn answer(results: &mut UnboundedReceiver<Input>) -> (PlaylistKey, OpId, Transcoded) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match results.try_recv() {
            Ok(Input::VideoEncoded { playlist, op, result }) => return (playlist, op, result),
            Ok(other) => panic!("{other:?} is no answer"),
            Err(_) => assert!(Instant::now() < deadline, "no answer"),
        }
        thread::yield_now();
    }
}

/// Threads of this process with the names that [`Transcoders`] gives.
fn threads(playlists: std::ops::Range<u32>) -> usize {
    let names: Vec<String> = playlists.map(|n| format!("transcode-{n}")).collect();
    let tasks = std::fs::read_dir("/proc/self/task").expect("tasks").flatten();
    let comm = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    comm.filter(|name| names.iter().any(|known| name.trim_end() == known)).count()
}

fn decoded(units: &[Bytes]) -> Vec<Picture> {
    let mut decoder = VideoDecoder::new(VideoCodec::H264).expect("a decoder");
    let mut out = Vec::new();
    units.iter().for_each(|unit| decoder.decode(unit, 0, &mut out).expect("a picture"));
    decoder.finish(&mut out).expect("the end");
    out.iter().map(Decoded::picture).collect()
}

#[test]
fn each_picture_comes_out_once_in_order_upright_and_with_the_key_frames_that_were_ordered() {
    let (sender, mut results) = unbounded_channel();
    let mut transcoders = Transcoders::new(sender, Arc::default());
    let playlist = PlaylistKey(7001);
    let mut units = Vec::new();
    for (n, frame) in source(20).iter().enumerate() {
        transcoders.run(playlist, OpId(n as u64), work(frame, 90, n % 6 == 0));
        let (from, op, result) = answer(&mut results);
        assert_eq!((from, op), (playlist, OpId(n as u64)));
        let Transcoded::Picture { key, size, data } = result else { panic!("{n}: {result:?}") };
        assert_eq!((key, size), (n % 6 == 0, (HEIGHT, WIDTH)), "picture {n}");
        assert_eq!(data[..6], ACCESS_UNIT_DELIMITER);
        assert_eq!(data[10] & 31 == 7, key, "an SPS stands before a key frame: {:?}", &data[..16]);
        units.push(data);
    }
    let pictures = decoded(&units);
    assert_eq!(pictures.len(), 20);
    for picture in pictures {
        let luma = |x: u32, y: u32| picture.y[(y * picture.width + x) as usize];
        // A quarter clockwise takes the corner top left to top right.
        assert!(luma(HEIGHT - 10, 10) > 180 && luma(10, 10) < 70 && luma(HEIGHT - 10, WIDTH - 10) < 70);
    }
}

#[test]
fn a_turn_to_another_shape_begins_a_new_sequence() {
    let (sender, mut results) = unbounded_channel();
    let mut transcoders = Transcoders::new(sender, Arc::default());
    let seen: Vec<(bool, (u32, u32))> = source(6)
        .iter()
        .enumerate()
        .map(|(n, frame)| {
            transcoders.run(PlaylistKey(7002), OpId(1), work(frame, [0, 0, 180, 270, 270, 0][n], false));
            match answer(&mut results).2 {
                Transcoded::Picture { key, size, .. } => (key, size),
                other => panic!("{other:?}"),
            }
        })
        .collect();
    let (wide, high) = ((WIDTH, HEIGHT), (HEIGHT, WIDTH));
    assert_eq!(seen, vec![(true, wide), (false, wide), (false, wide), (true, high), (false, high), (true, wide)]);
}

/// Of the very picture, upright, before the answer; of one that cannot be decoded none.
#[test]
fn a_snapshot_shows_what_was_decoded() {
    let (sender, mut results) = unbounded_channel();
    let mut transcoders = Transcoders::new(sender, Arc::default());
    let mut frames = source(3);
    frames[2].data = vec![0, 0, 0, 1, 0x65, 1, 2, 3];
    let snapshot = |n: i64| Snapshot { camera: None, base: "p".into(), moment: MediaTime(n) };
    for (n, frame) in (0..).zip(&frames) {
        let mut work = work(frame, 90, false);
        work.snapshots_mut().expect("it has").extend((n > 0).then(|| snapshot(n)));
        transcoders.run(PlaylistKey(7005), OpId(n as u64), work);
    }
    let mut came = Vec::new();
    while came.len() < 5 {
        match results.blocking_recv().expect("an answer") {
            Input::SnapshotTaken { snapshot, picture } => came.push((snapshot.moment.0, picture)),
            Input::VideoEncoded { op, .. } => came.push((-(op.0 as i64), None)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(came.iter().map(|(what, _)| *what).collect::<Vec<_>>(), [0, 1, -1, 2, -2]);
    assert!(came[3].1.is_none());
    let picture = Still::decode(came[1].1.as_ref().expect("a JPEG")).expect("ours").picture;
    assert_eq!((picture.width, picture.height), (HEIGHT, WIDTH));
    let luma = |x: u32, y: u32| picture.y[(y * picture.width + x) as usize];
    assert!(luma(HEIGHT - 10, 10) > 180 && luma(10, 10) < 70);
}

#[test]
fn after_damage_nothing_comes_until_a_key_frame_and_a_key_frame_that_is_owed_is_made_then() {
    let (sender, mut results) = unbounded_channel();
    let mut transcoders = Transcoders::new(sender, Arc::default());
    let frames = source(4);
    let garbage = EncodedFrame { data: vec![0, 0, 0, 1, 0x65, 1, 2, 3], ..frames[0].clone() };
    let order = [&frames[0], &frames[1], &garbage, &frames[2], &frames[0], &frames[1]];
    let results: Vec<Option<bool>> = order
        .into_iter()
        .enumerate()
        .map(|(n, frame)| {
            let frame = EncodedFrame { pts: n as i64 * TICKS, ..frame.clone() };
            // Only what is damaged asks for a key frame.
            transcoders.run(PlaylistKey(7003), OpId(1), work(&frame, 180, n == 2));
            match answer(&mut results).2 {
                Transcoded::Picture { key, .. } => Some(key),
                Transcoded::Undecodable => None,
                other => panic!("nothing is hidden or composed here: {other:?}"),
            }
        })
        .collect();
    assert_eq!(results, vec![Some(true), Some(false), None, None, Some(true), Some(false)]);
}

#[test]
fn what_was_handed_over_is_answered_and_then_the_thread_ends() {
    let (sender, mut results) = unbounded_channel();
    let mut transcoders = Transcoders::new(sender, Arc::default());
    let frames = source(i64::try_from(MAX_UNANSWERED_PICTURES).expect("a few"));
    for round in 0..25 {
        let playlist = PlaylistKey(8000 + round);
        for (n, frame) in frames.iter().enumerate() {
            transcoders.run(playlist, OpId(n as u64), work(frame, 90, false));
        }
        transcoders.run(playlist, OpId(99), VideoOp::Finish);
        for n in 0..frames.len() {
            let (from, op, result) = answer(&mut results);
            assert_eq!((from, op), (playlist, OpId(n as u64)));
            assert!(matches!(result, Transcoded::Picture { .. }), "{result:?}");
        }
    }
    assert!(transcoders.threads.is_empty());
    let deadline = Instant::now() + PATIENCE;
    while threads(8000..8025) > 0 {
        assert!(Instant::now() < deadline, "{} threads stay", threads(8000..8025));
        thread::yield_now();
    }
}

#[test]
fn a_queue_that_is_full_is_answered_too() {
    let (sender, mut results) = unbounded_channel();
    let mut transcoders = Transcoders::new(sender, Arc::default());
    let frames = source(1);
    let many = 4 * MAX_UNANSWERED_PICTURES as u64;
    for n in 0..many {
        let frame = EncodedFrame { pts: n as i64 * TICKS, ..frames[0].clone() };
        transcoders.run(PlaylistKey(7004), OpId(n), work(&frame, 90, false));
    }
    let mut answered: Vec<u64> = (0..many).map(|_| answer(&mut results).1.0).collect();
    answered.sort_unstable();
    assert_eq!(answered, (0..many).collect::<Vec<_>>());
}

//! What a composite costs: pictures no larger than their places, and less, step by step, where that is too much still.

#[allow(unreachable_pub, missing_debug_implementations, dead_code)] // shared: every test file uses its own part
mod support;

use recorder_media::*;
use support::composite::*;
use support::reader::read;
use support::*;

/// Publishers who send several sizes are asked for the smallest that fills their place: a larger one at once, a smaller one when it has lasted.
#[test]
fn pictures_are_asked_for_as_large_as_they_are_shown() {
    let mut world = world();
    join(&mut world, 1, "ann", 0);
    world.run_ms(6_000);
    assert_eq!(world.room.sizes, [(10, (1280, 720))]);
    let bob = join(&mut world, 2, "bob", 0);
    world.run_ms(6_000);
    // Half of the canvas, cut out of a picture as high.
    assert_eq!(world.room.sizes[1..], [(20, (1280, 720))]);
    let cem = join(&mut world, 3, "cem", 0);
    world.run_ms(7_000);
    assert_eq!(world.room.sizes[2..], [(30, (640, 360))], "a smaller place for two of them, not long enough");
    world.run_ms(3_000);
    assert_eq!(world.room.sizes[3..], [(10, (640, 360)), (20, (640, 360))]);
    for (who, track) in [(bob, 20), (cem, 30)] {
        world.room.input(Input::Left { participant: who });
        world.stop_sending(track);
        world.stop_sending(track + 1);
    }
    world.run_ms(500);
    // Bob went first, and left half of the canvas to each.
    assert_eq!(world.room.sizes[5..], [(10, (1280, 720)), (30, (1280, 720))], "while what lies in the delay line shows them still");
    stop(&mut world);
}

#[test]
fn a_larger_picture_is_asked_for_when_the_order_comes_and_not_when_it_is_carried_out() {
    let of_ann = |width, height| {
        let rect = layout::Rect { x: 0, y: 0, width, height };
        let region = layout::Region { uid: Some("ann".into()), rect, fit: layout::Fit::Crop, opacity_percent: 100, z_order: 0 };
        Input::Order(Order::Compose(composition(layout::Layout::Custom(vec![region]))))
    };
    let mut world = world();
    world.room.input(of_ann(320, 180));
    join(&mut world, 1, "ann", 0);
    world.run_ms(8_000);
    assert_eq!(world.room.sizes, [(10, (320, 180))]);
    world.room.input(of_ann(1280, 720));
    world.run_ms(500);
    assert_eq!(world.room.sizes[1..], [(10, (1280, 720))], "within the delay line");
    world.run_ms(6_000);
    world.room.input(of_ann(320, 180));
    world.run_ms(6_000);
    assert_eq!(world.room.sizes.len(), 2, "smaller, not long enough");
    world.run_ms(4_000);
    assert_eq!(world.room.sizes[2..], [(10, (320, 180))]);
    stop(&mut world);
}

/// Half a minute of a starved machine is worked off later; nothing is less than it should be.
#[test]
fn what_can_be_worked_off_later_is_composed_as_ordered() {
    let mut world = world();
    for n in 1..=4 {
        join(&mut world, n, &format!("p{n}"), 0);
    }
    world.run_ms(15_000);
    let sizes = world.room.sizes.len();
    (world.room.transcoder.least_us, world.room.transcoder.spread_us) = (2_000_000, 0);
    world.run_ms(20_000);
    (world.room.transcoder.least_us, world.room.transcoder.unit_us) = (5_000, 1_000);
    world.run_ms(60_000);
    assert_eq!(world.room.session.report().degraded, []);
    stop(&mut world);
    check_frames(&read(&world.room.data(0)), 1);
    check_segments(&world);
    assert_eq!(world.room.session.manifest().gaps, []);
    assert_eq!(world.room.sizes.len(), sizes, "no smaller pictures were asked for");
}

/// Frames a second within these seconds, and units that they take.
fn rate(world: &World, seconds: std::ops::Range<f64>) -> (f64, f64) {
    let frames = &world.room.transcoder.frames;
    let inside = frames.iter().filter(|frame| seconds.contains(&(frame.at.0 as f64 / 90_000.0)));
    let (count, units) = inside.fold((0, 0), |(count, units), frame| (count + 1, units + frame.decoded.len()));
    let length = seconds.end - seconds.start;
    (f64::from(count) / length, units as f64 / length)
}

#[test]
fn a_machine_that_is_too_slow_for_good_does_less_step_by_step_and_says_so() {
    let mut world = world();
    for n in 1..=4 {
        join(&mut world, n, &format!("p{n}"), 0);
    }
    world.run_ms(5_000);
    // Thirty frames and some sixty units a second: a second and a half of work.
    (world.room.transcoder.least_us, world.room.transcoder.spread_us, world.room.transcoder.unit_us) = (40_000, 0, 4_500);
    let (mut asked_at, mut steps) = (None, vec![0]);
    for second in 0..240 {
        world.run_ms(1_000);
        let Report { overload_step, transcoding90k, .. } = world.room.session.report();
        assert!((0..60 * 90_000).contains(&transcoding90k), "{transcoding90k} waits");
        assert!(overload_step < 2 || transcoding90k > 9 * 90_000, "{overload_step} with {transcoding90k}");
        steps.push(overload_step);
        let asked = world.room.sizes.iter().any(|(_, size)| *size == (320, 180));
        asked_at = asked_at.or(asked.then_some(second));
    }
    assert!(world.room.session.report().degraded.contains(&Degradation::Overloaded));
    steps.dedup();
    assert!(steps.starts_with(&[0, 1, 2]) && !steps.contains(&4), "{steps:?}");
    let gaps = &world.room.session.manifest().gaps;
    assert!(gaps.is_empty(), "half the rate is enough: {gaps:?}");
    let asked = f64::from(asked_at.expect("smaller pictures are asked for"));
    let slower = world.room.transcoder.frames.windows(2).find(|pair| pair[1].at.0 - pair[0].at.0 > FRAME);
    let halved = slower.expect("half the rate")[0].at.0 as f64 / 90_000.0;
    assert!(halved > asked, "smaller pictures first: at {asked} s, half the rate at {halved} s");
    let (frames, units) = rate(&world, halved + 2.0..halved + 12.0);
    assert!((14.9..15.1).contains(&frames) && units > 60.0, "{frames} frames and {units} units a second");
    (world.room.transcoder.least_us, world.room.transcoder.unit_us) = (3_000, 100);
    world.run_ms(65_000);
    assert_eq!(world.room.session.report().degraded, []);
    let now = world.room.now.since(Tick::from_millis(1_000)) as f64 / 1e6;
    let (frames, _) = rate(&world, now - 10.0..now - 5.0);
    assert!((29.0..31.0).contains(&frames), "{frames} frames a second again");
    stop(&mut world);
    check_sound(&read(&world.room.data(0)), 1);
}

#[test]
fn a_transcoder_that_is_too_slow_leaves_frames_out_and_says_so_and_the_sound_is_whole() {
    let mut world = world();
    join(&mut world, 1, "ann", 0);
    world.run_ms(5_000);
    (world.room.transcoder.least_us, world.room.transcoder.spread_us) = (100_000, 0);
    let mut steps = vec![0];
    for _ in 0..120 {
        world.run_ms(1_000);
        steps.push(world.room.session.report().overload_step);
    }
    steps.dedup();
    assert!(steps.starts_with(&[0, 1, 2, 3, 4]), "{steps:?}");
    assert!(world.room.session.report().degraded.contains(&Degradation::Overloaded));
    (world.room.transcoder.least_us, world.room.transcoder.spread_us) = (5_000, 0);
    world.run_ms(30_000);
    let report = world.room.session.report();
    assert_eq!((report.degraded, report.overload_step), (vec![], 0));
    stop(&mut world);
    let read = read(&world.room.data(0));
    check_sound(&read, 1);
    let lengths: Vec<i64> = world.room.session.manifest().ledger.iter().map(|entry| entry.duration90k).collect();
    let exact = lengths[1..lengths.len() - 1].iter().all(|length| (length - 4 * 90_000).abs() <= 2 * FRAME);
    assert!(exact, "{lengths:?}");
    let gaps = &world.room.session.manifest().gaps;
    assert!(!gaps.is_empty() && gaps.iter().all(|gap| gap.reason == GapReason::Overloaded), "{gaps:?}");
    let longest = world.room.session.manifest().ledger.iter().map(|entry| entry.duration90k).max();
    assert!(longest <= Some(5 * 90_000), "{longest:?}");
}

#[test]
fn nothing_is_left_out_of_nothing() {
    let mut world = world();
    let ann = join(&mut world, 1, "ann", 0);
    world.run_ms(5_000);
    (world.room.transcoder.least_us, world.room.transcoder.spread_us) = (100_000, 0);
    world.run_ms(120_000);
    assert_eq!(world.room.session.report().overload_step, 4);
    (world.room.transcoder.least_us, world.room.transcoder.spread_us) = (5_000, 0);
    world.room.input(Input::Muted { track: TrackKey(10) });
    world.room.input(Input::Left { participant: ann });
    world.stop_sending(10);
    world.stop_sending(11);
    world.run_ms(15_000);
    let report = world.room.session.report();
    assert_eq!((report.degraded, report.overload_step, report.transcoding90k), (vec![], 0, 0));
    stop(&mut world);
}

/// A frame that is left out is no reason to ask; nor is it when there is none to be made.
#[test]
fn an_overload_of_a_slow_canvas_asks_nobody_for_key_frames() {
    let mut world = world();
    let mut slow = composition(layout::Layout::BestFit);
    slow.encoding.frames_per_second = 10;
    world.room.input(Input::Order(Order::Compose(slow)));
    join(&mut world, 1, "ann", 0);
    world.run_ms(5_000);
    (world.room.transcoder.least_us, world.room.transcoder.spread_us) = (400_000, 0);
    world.run_ms(120_000);
    assert_eq!(world.room.session.report().overload_step, 4);
    let before = world.room.keyframe_requests.len();
    world.run_ms(15_000);
    assert_eq!(world.room.session.report().overload_step, 4, "for all of it");
    assert!(world.room.keyframe_requests.len() <= before + 2, "{} more", world.room.keyframe_requests.len() - before);
    (world.room.transcoder.least_us, world.room.transcoder.spread_us) = (5_000, 0);
    world.run_ms(65_000);
    assert_eq!(world.room.session.report().overload_step, 0);
    stop(&mut world);
}

/// Ann alone, without sound.
fn silent(config: Config) -> World {
    let mut world = World::new(Room::new(Config { media: MediaKinds::Video, ..config }).journalled());
    join(&mut world, 1, "ann", 0);
    world
}

fn longest(world: &World) -> Option<i64> {
    world.room.session.manifest().ledger.iter().map(|entry| entry.duration90k).max()
}

#[test]
fn a_recording_without_sound_that_ends_while_frames_are_left_out_ends_with_its_last_picture() {
    let mut world = silent(composite());
    world.run_ms(5_000);
    (world.room.transcoder.least_us, world.room.transcoder.spread_us) = (400_000, 0);
    world.run_ms(120_000);
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    // The room has been closed.
    world.run_ms(4_000);
    (world.room.transcoder.least_us, world.room.transcoder.spread_us) = (1_000, 0);
    world.run_ms(60_000);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
    assert!(longest(&world) <= Some(5 * 90_000), "{:?} {:?}", longest(&world), world.room.session.manifest().gaps);
}

/// Pictures a second apart do not fit into segments of four seconds; nothing is left out.
#[test]
fn a_slow_composite_without_sound_has_no_holes() {
    let small = stage::Composition { canvas: layout::Canvas { width: 640, height: 360 }, ..composition(layout::Layout::BestFit) };
    let mut slow = small.clone();
    slow.encoding.frames_per_second = 1;
    let mut world = silent(composite());
    // A segment that begins between two of its pictures.
    world.run_ms(2_430);
    world.room.input(Input::Order(Order::Compose(small)));
    world.run_ms(300);
    world.room.input(Input::Order(Order::Compose(slow)));
    world.run_ms(30_000);
    stop(&mut world);
    let text = &world.room.playlists[PLAYLIST];
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY").count(), 1, "of the canvas: {text}");
    assert!(longest(&world) < Some(5 * 90_000 + 45_000), "{:?}", longest(&world));
    let steps: Vec<_> =
        read(&world.room.data(0)).pictures().windows(2).map(|pair| pair[1].0 - pair[0].0).filter(|step| *step > 90_000).collect();
    assert_eq!(steps, []);
}

/// Players do not go on where the next picture is far.
#[test]
fn a_composite_has_a_picture_every_second_whatever_is_left_out() {
    let mut world = silent(composite());
    world.run_ms(5_000);
    (world.room.transcoder.least_us, world.room.transcoder.spread_us) = (400_000, 0);
    world.run_ms(180_000);
    (world.room.transcoder.least_us, world.room.transcoder.spread_us) = (5_000, 0);
    world.run_ms(30_000);
    stop(&mut world);
    let gaps = &world.room.session.manifest().gaps;
    let longest = gaps.iter().map(|gap| gap.duration90k).max();
    assert!(longest > Some(4 * 90_000) && gaps.iter().all(|gap| gap.reason == GapReason::Overloaded), "{gaps:?}");
    let longest = world.room.session.manifest().ledger.iter().map(|entry| entry.duration90k).max();
    assert!(longest <= Some(5 * 90_000), "{longest:?}");
    let text = &world.room.playlists[PLAYLIST];
    assert!(!text.contains("#EXT-X-DISCONTINUITY") && text.contains("#EXT-X-TARGETDURATION:5\n"), "{text}");
    let pictures = read(&world.room.data(0)).pictures();
    // The clock goes at half its rate meanwhile.
    let apart = pictures.windows(2).map(|pair| pair[1].0 - pair[0].0).max();
    assert!(apart > Some(90_000 - 2 * FRAME) && apart <= Some(90_000 + 2 * FRAME), "{apart:?}");
}

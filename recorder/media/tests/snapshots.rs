//! Stills of a recording in virtual time: which moments have one, what it is called, what it shows.

#[allow(unreachable_pub, missing_debug_implementations, dead_code)] // shared: every test file uses its own part
mod support;

use recorder_media::layout::Layout;
use recorder_media::*;
use std::collections::BTreeMap;
use support::composite::*;
use support::*;

const SECOND: i64 = MediaTime::PER_SECOND;

fn every(interval_seconds: u32, per_participant: bool) -> Config {
    Config { snapshots: Some(SnapshotPlan { interval_seconds, per_participant }), ..composite() }
}

/// Of what a name begins with: the seconds of its moments, by the recording's epoch.
fn moments(world: &World) -> BTreeMap<String, Vec<f64>> {
    let epoch = world.room.session.manifest().epoch_time.expect("there was media");
    let mut found = BTreeMap::<String, Vec<f64>>::new();
    for name in world.room.snapshots.keys() {
        let (base, digits) = name.strip_suffix(".jpg").and_then(|name| name.rsplit_once('_')).expect("a name");
        let of = |at: i64| names::Civil::from_wall(names::wall_at(epoch, MediaTime(at))).compact();
        let moment = (0..1000).find(|second| of(second * SECOND) == digits).unwrap_or_else(|| panic!("{name} is of no moment"));
        found.entry(base.to_owned()).or_default().push(moment as f64);
    }
    found
}

fn counts(world: &World) -> (u64, u64, u64) {
    let report = world.room.session.report();
    let record = &world.room.session.manifest().snapshots;
    assert_eq!((report.snapshots, report.snapshots_lost), (record.stored, record.lost));
    assert_eq!(record.taken, record.stored + record.lost, "all are settled at the end");
    (record.stored, record.lost, world.room.snapshots.len() as u64)
}

/// The time of the frame that a canvas' snapshot shows.
fn shown_at(world: &World, moment: i64) -> i64 {
    let epoch = world.room.session.manifest().epoch_time.expect("there was media");
    let name = names::snapshot_name("rec_room", names::wall_at(epoch, MediaTime(moment)));
    String::from_utf8_lossy(&world.room.snapshots[&name]).parse().expect("a time")
}

#[test]
fn the_canvas_has_one_of_each_moment_whatever_happens_on_it() {
    let mut world = World::new(Room::new(every(5, false)));
    join(&mut world, 1, "ann", 0);
    world.run_ms(7_000);
    let bob = join(&mut world, 2, "bob", 0);
    world.run_ms(5_000);
    world.room.input(Input::Order(Order::Compose(composition(Layout::Floating))));
    world.run_ms(5_000);
    world.room.input(Input::Left { participant: bob });
    world.stop_sending(20);
    world.stop_sending(21);
    world.run_ms(6_000);
    stop(&mut world);
    assert_eq!(moments(&world), BTreeMap::from([("rec_room".into(), vec![0.0, 5.0, 10.0, 15.0, 20.0])]));
    assert_eq!(counts(&world), (5, 0, 5));
    for moment in [5, 10, 15, 20] {
        assert_eq!(shown_at(&world, moment * SECOND), moment * SECOND, "a frame stands at each second");
    }
}

#[test]
fn each_camera_that_is_on_has_its_own_and_a_share_is_not_a_camera() {
    let mut world = World::new(Room::new(every(5, true)));
    let ann = join(&mut world, 1, "ann", 0);
    join(&mut world, 2, "bob", 0);
    world.run_ms(6_000);
    let share = Publisher { source: Source::ScreenShare, ..Publisher::camera(15, world.room.now) };
    world.room.publish(&share, ann, Codec::H264);
    world.add(share);
    world.run_ms(6_000);
    world.room.input(Input::Muted { track: TrackKey(20) });
    world.stop_sending(20);
    world.run_ms(6_000);
    stop(&mut world);
    let person = |name: &str, kind: &str| names::individual_base("rec_room", name, kind);
    let expected = [
        ("rec_room".to_owned(), vec![0.0, 5.0, 10.0, 15.0]),
        (person("ann", "video"), vec![0.0, 5.0, 10.0, 15.0]),
        (person("ann", "screen"), vec![10.0, 15.0]),
        (person("bob", "video"), vec![0.0, 5.0, 10.0]),
    ];
    let mut found = moments(&world);
    // Whether the first frame shows the camera is a matter of its first milliseconds.
    found.values_mut().for_each(|moments| moments.retain(|moment| *moment > 0.0));
    let expected = expected.map(|(base, moments)| (base, moments.into_iter().filter(|moment| *moment > 0.0).collect::<Vec<_>>()));
    assert_eq!(found, BTreeMap::from(expected));
    let (stored, lost, files) = counts(&world);
    assert_eq!((stored, lost), (files, 0));
}

#[test]
fn a_recorder_that_dies_makes_the_same_names_again_and_none_twice() {
    for lived_ms in [3_300, 5_000, 9_999, 10_400, 13_100, 17_777] {
        let mut world = World::new(Room::new(every(5, true)).journalled());
        join(&mut world, 1, "ann", 0);
        join(&mut world, 2, "bob", 0);
        world.run_ms(lived_ms);
        let before = world.room.snapshots.clone();
        let mut world = World::new(world.room.die_and_return(every(5, true), 2_500_000));
        join(&mut world, 1, "ann", 1);
        join(&mut world, 2, "bob", 1);
        world.run_ms(9_000);
        stop(&mut world);
        for (name, shows) in &before {
            assert_eq!(world.room.snapshots.get(name), Some(shows), "died after {lived_ms} ms: {name}");
        }
        let (stored, lost, files) = counts(&world);
        assert_eq!((stored, lost), (files, 0), "died after {lived_ms} ms");
        let canvas = &moments(&world)["rec_room"];
        let hole = lived_ms as f64 / 1000.0 - 0.2..lived_ms as f64 / 1000.0 + 3.0;
        let last = *canvas.last().expect("some");
        let missing: Vec<f64> = (0..).map(|n| 5.0 * f64::from(n)).take_while(|m| *m < last).filter(|m| !canvas.contains(m)).collect();
        assert!(missing.iter().all(|moment| hole.contains(moment)), "died after {lived_ms} ms: {missing:?} of {canvas:?}");
    }
}

#[test]
fn storage_that_is_away_holds_up_nothing_and_they_come_when_it_is_back() {
    let mut world = World::new(Room::new(every(5, false)));
    join(&mut world, 1, "ann", 0);
    world.run_ms(3_000);
    world.room.storage.failing = 100;
    world.run_ms(30_000);
    assert!(world.room.snapshots.len() < 3);
    world.room.storage.failing = 0;
    world.run_ms(31_000);
    stop(&mut world);
    let (stored, lost, files) = counts(&world);
    assert_eq!((stored, lost), (files, 0));
    let expected: Vec<f64> = (0..13).map(|n| 5.0 * f64::from(n)).collect();
    assert_eq!(moments(&world)["rec_room"], expected);
}

fn alone(interval_seconds: u32) -> Config {
    Config { mode: Mode::Individual, ..every(interval_seconds, false) }
}

/// Pictures that are not decoded anyway: the publisher is asked for a key frame at each moment, and that is what is shown.
#[test]
fn a_camera_that_passes_untouched_is_asked_for_a_key_frame_at_each_moment() {
    let mut world = World::new(Room::new(Config { segment_seconds: 60, ..alone(10) }));
    join(&mut world, 1, "ann", 0);
    world.run_ms(36_000);
    stop(&mut world);
    let base = "rec_room__uid_s_ann__uid_e_video".to_owned();
    assert_eq!(moments(&world), BTreeMap::from([(base.clone(), vec![0.0, 10.0, 20.0, 30.0])]));
    assert_eq!(counts(&world), (4, 0, 4));
    let asked: Vec<f64> = world.room.keyframe_requests.iter().map(|(at, _)| at.0 as f64 / 1e6).collect();
    assert!(asked.len() <= 6, "once for each moment, and at the start: {asked:?}");
    let epoch = world.room.session.manifest().epoch_time.expect("there was media");
    for moment in [10, 20, 30] {
        let name = names::snapshot_name(&base, names::wall_at(epoch, MediaTime(moment * SECOND)));
        let number: u32 = String::from_utf8_lossy(&world.room.snapshots[&name]).parse().expect("a number");
        let place = world.sent[&10].iter().position(|n| *n == number).expect("sent");
        let captured = (world.captured[&10][place].0 as i64 - (epoch.0 as i64 - WALL.0 as i64) - 1_000_000) as f64 / 1e6;
        // On its way for some time.
        let late = captured - moment as f64;
        assert!((-0.1..1.5).contains(&late), "of {moment} s: captured at {captured} s");
    }
}

/// What is decoded anyway needs no key frame.
#[test]
fn of_a_camera_that_is_transcoded_the_very_picture_is_taken() {
    let mut world = World::new(Room::new(alone(10)));
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let camera = Publisher::camera(10, world.room.now);
    world.room.publish(&camera, ann, Codec::Vp8);
    world.add(Publisher { codec: Codec::Vp8, ..camera });
    world.run_ms(36_000);
    stop(&mut world);
    assert_eq!(moments(&world), BTreeMap::from([("rec_room__uid_s_ann__uid_e_video".into(), vec![0.0, 10.0, 20.0, 30.0])]));
    assert_eq!(counts(&world), (4, 0, 4));
    assert!(world.room.keyframe_requests.len() <= 3, "{:?}", world.room.keyframe_requests);
}

#[test]
fn a_death_in_mode_individual_makes_none_twice() {
    for lived_ms in [5_100, 11_000, 14_200, 20_900] {
        let mut world = World::new(Room::new(alone(5)).journalled());
        join(&mut world, 1, "ann", 0);
        world.run_ms(lived_ms);
        let before = world.room.snapshots.clone();
        let mut world = World::new(world.room.die_and_return(alone(5), 2_500_000));
        join(&mut world, 1, "ann", 1);
        world.run_ms(9_000);
        stop(&mut world);
        let (stored, lost, files) = counts(&world);
        assert_eq!((stored, lost), (files, 0), "died after {lived_ms} ms");
        for (name, shows) in &before {
            assert_eq!(world.room.snapshots.get(name), Some(shows), "died after {lived_ms} ms: {name}");
        }
    }
}

/// Another attempt, from what storage has: a moment that both could name is counted once.
#[test]
fn without_a_journal_nothing_is_counted_twice() {
    for mode in [every(5, true).mode, Mode::Individual] {
        let config = || Config { mode: mode.clone(), ..every(5, true) };
        let mut world = World::new(Room::new(config()));
        join(&mut world, 1, "ann", 0);
        world.run_ms(13_500);
        let manifest = world.room.session.manifest().clone();
        let before = world.room.snapshots.clone();
        assert!(!before.is_empty());
        let resume = Some(Resume { manifest, replay: None });
        let wall = WallMicros(WALL.0 + world.room.now.0 - 1_000_000 + 500_000);
        let mut world = World::new(Room::at(Config { attempt: 2, resume, ..config() }, Tick(0), wall));
        world.room.snapshots.clone_from(&before);
        join(&mut world, 1, "ann", 1);
        world.run_ms(9_000);
        stop(&mut world);
        let (stored, lost, files) = counts(&world);
        assert_eq!((stored, lost), (files, 0), "{mode:?}");
        assert!(files > before.len() as u64, "{mode:?}");
    }
}

/// It refuses them alone: they are waited for a little and then lost, and the recording is none the worse.
#[test]
fn a_recording_ends_without_those_that_storage_refuses() {
    let mut world = World::new(Room::new(every(5, false)));
    world.room.refuses_snapshots = true;
    join(&mut world, 1, "ann", 0);
    world.run_ms(21_000);
    let before = world.room.now;
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    while world.room.finished.is_none() {
        world.run_ms(100);
    }
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
    let took = world.room.now.since(before);
    assert!((9_000_000..15_000_000).contains(&took), "{took} us");
    assert_eq!(counts(&world), (0, 5, 0));
    assert!(world.room.session.manifest().ledger.iter().all(|entry| entry.stored));
}

/// One picture a second is made all the same: each moment has a snapshot, once.
#[test]
fn a_composite_that_leaves_frames_out_has_one_of_each_moment() {
    let mut world = World::new(Room::new(every(5, false)));
    join(&mut world, 1, "ann", 0);
    world.run_ms(5_000);
    (world.room.transcoder.least_us, world.room.transcoder.spread_us) = (100_000, 0);
    world.run_ms(120_000);
    assert_eq!(world.room.session.report().overload_step, 4);
    (world.room.transcoder.least_us, world.room.transcoder.spread_us) = (5_000, 0);
    world.run_ms(33_000);
    stop(&mut world);
    let expected: Vec<f64> = (0..32).map(|n| f64::from(n) * 5.0).collect();
    assert_eq!(moments(&world), BTreeMap::from([("rec_room".into(), expected)]));
    assert_eq!(counts(&world), (32, 0, 32));
}

/// What is not stored by then is not wanted; the last playlist is waited for, and its timer alone.
#[test]
fn a_cancelled_recording_comes_to_rest_while_one_is_on_its_way() {
    let mut world = World::new(Room::new(every(5, false)));
    join(&mut world, 1, "ann", 0);
    world.run_ms(9_000);
    world.room.storage.delay_us = 6_000_000;
    world.run_ms(4_500);
    world.room.input(Input::Order(Order::Cancel));
    world.run_ms(60_000);
    assert_eq!(world.room.finished, Some(Outcome::Cancelled));
    counts(&world);
}

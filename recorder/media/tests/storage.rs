//! Storage that misbehaves, and a spool that fills up meanwhile: what is said of it, and what it costs.

#[allow(unreachable_pub, missing_debug_implementations, dead_code)] // shared: every test file uses its own part
mod support;

use recorder_media::*;
use support::reader::read;
use support::*;

/// Ann's camera and microphone.
fn ann(config: Config) -> World {
    let mut world = World::new(Room::new(config));
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let (camera, microphone) = (Publisher::camera(1, world.room.now), Publisher::microphone(2, world.room.now));
    world.room.publish(&camera, ann, Codec::H264);
    world.room.publish(&microphone, ann, Codec::Opus);
    world.add(camera);
    world.add(microphone);
    world
}

fn stop(world: &mut World) {
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    world.run_ms(12_000);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
}

fn is_degraded(world: &World, by: Degradation) -> bool {
    world.room.session.report().degraded.contains(&by)
}

fn gaps(world: &World) -> Vec<(GapReason, i64)> {
    world.room.session.manifest().gaps.iter().map(|gap| (gap.reason, gap.duration90k)).collect()
}

#[test]
fn what_goes_through_does_not_hide_what_is_refused() {
    let mut world = ann(config());
    world.run_ms(9_000);
    world.room.storage.refuses_segments = true;
    while !is_degraded(&world, Degradation::StorageUnavailable) {
        world.run_ms(100);
        assert!(world.room.now < Tick::from_millis(40_000), "refused segments are told");
    }
    let manifests = world.room.manifests;
    for _ in 0..200 {
        // Each of them a reason to write the manifest, which storage takes.
        world.room.input(Input::Disconnected);
        world.room.input(Input::Connected);
        world.run_ms(100);
        assert!(is_degraded(&world, Degradation::StorageUnavailable), "at {:?}", world.room.now);
    }
    assert!(world.room.session.report().backlog90k > 0);
    world.room.storage.refuses_segments = false;
    world.run_ms(31_000);
    assert!(!is_degraded(&world, Degradation::StorageUnavailable), "all is stored");
    assert!(world.room.manifests > manifests, "the manifest was written");
    stop(&mut world);
    assert!(world.room.session.manifest().ledger.iter().all(|entry| entry.stored));
}

#[test]
fn the_hurry_at_the_end_does_not_call_storage_well() {
    let mut world = ann(Config { drain_timeout_seconds: 60, ..config() });
    world.run_ms(9_000);
    world.room.storage.failing = 100;
    world.run_ms(20_000);
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    for _ in 0..50 {
        assert!(is_degraded(&world, Degradation::StorageUnavailable), "at {:?}", world.room.now);
        world.run_ms(100);
    }
}

/// Uploads must be able to free room: nothing waits for media that is not accepted.
#[test]
fn all_that_a_full_spool_holds_can_be_stored() {
    let mut world = ann(config());
    world.run_ms(8_000);
    world.room.storage.failing = 100;
    world.run_ms(10_000);
    world.room.input(Input::SpoolFull(true));
    assert!(is_degraded(&world, Degradation::DiskFull));
    world.run_ms(20_000);
    let written = |world: &World| world.room.segments.values().map(|segment| segment.bytes).sum::<u64>();
    let held = written(&world);
    world.room.storage.failing = 0;
    world.run_ms(40_000);
    assert!(world.room.segments.values().all(|segment| segment.closed && segment.stored), "no part is left open");
    assert_eq!(written(&world), held, "nothing more was written");
    world.room.input(Input::SpoolFull(false));
    assert!(!is_degraded(&world, Degradation::DiskFull));
    world.run_ms(8_000);
    stop(&mut world);
    assert_eq!(gaps(&world), [(GapReason::DiskFull, 60 * 90_000)]);
    check_books(world.room.session.manifest(), 6);
}

#[test]
fn a_full_spool_asks_nobody_for_key_frames_and_paints_nothing() {
    let mut world = ann(config());
    world.run_ms(8_000);
    world.room.input(Input::SpoolFull(true));
    world.run_ms(1_000);
    let asked = world.room.keyframe_requests.len();
    world.run_ms(60_000);
    assert_eq!(world.room.keyframe_requests.len(), asked, "of no use while nothing is accepted");
    world.room.input(Input::SpoolFull(false));
    world.run_ms(8_000);
    stop(&mut world);
    let pictures = read(&world.room.data(0)).pictures();
    assert!(pictures.iter().all(|picture| picture.1.is_some()), "black stands in for nothing");
    assert_eq!(gaps(&world), [(GapReason::DiskFull, 61 * 90_000)]);
}

/// In pieces: each time the spool is full is a gap of its own, and what lies between is recorded.
#[test]
fn a_spool_that_fills_again_and_again_is_as_many_gaps() {
    let mut world = ann(config());
    world.run_ms(8_000);
    for _ in 0..4 {
        world.room.input(Input::SpoolFull(true));
        world.run_ms(7_000);
        world.room.input(Input::SpoolFull(false));
        world.run_ms(9_000);
    }
    stop(&mut world);
    assert_eq!(gaps(&world), [(GapReason::DiskFull, 7 * 90_000); 4]);
    let playlist = world.room.playlists.values().next().expect("a playlist");
    assert_eq!(playlist.matches("#EXT-X-DISCONTINUITY").count(), 4, "{playlist}");
    let sounds = read(&world.room.data(0)).sounds();
    let jumps = sounds.windows(2).filter(|pair| pair[1].0 - pair[0].0 > 90_000).count();
    assert_eq!(jumps, 4);
}

/// It is over while the line still holds what came before.
#[test]
fn what_came_before_a_spool_was_full_for_a_moment_is_recorded() {
    let mut world = ann(config());
    world.run_ms(8_000);
    world.room.input(Input::SpoolFull(true));
    world.run_ms(800);
    world.room.input(Input::SpoolFull(false));
    world.run_ms(8_000);
    stop(&mut world);
    assert_eq!(gaps(&world).len(), 1, "{:?}", gaps(&world));
    let read = read(&world.room.data(0));
    let jump = read.sounds().windows(2).map(|pair| pair[1].0 - pair[0].0).max().expect("sounds");
    assert!((jump - 72_000).abs() < 18_000, "{jump}");
    let numbers: Vec<u32> = read.pictures().into_iter().filter_map(|picture| picture.1).collect();
    let missing: u32 = numbers.windows(2).map(|pair| pair[1] - pair[0] - 1).sum();
    assert!(missing <= 40, "pictures of 800 ms, and until a key frame was asked for and came: {missing}");
}

#[test]
fn an_end_while_the_spool_is_full_ends_the_gap() {
    let mut world = ann(config());
    world.run_ms(8_000);
    world.room.input(Input::SpoolFull(true));
    world.run_ms(5_000);
    stop(&mut world);
    assert_eq!(gaps(&world), [(GapReason::DiskFull, 5 * 90_000)]);
    assert!(world.room.session.manifest().gaps.iter().all(|gap| !gap.open));
    let playlist = world.room.playlists.values().next().expect("a playlist");
    assert!(playlist.ends_with("#EXT-X-ENDLIST\n"), "{playlist}");
}

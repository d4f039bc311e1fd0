//! A playlist of more than a day: its next volume, whose timestamps begin anew before 33 bits run out.

#[allow(unreachable_pub, missing_debug_implementations, dead_code)] // shared: every test file uses its own part
mod support;

use recorder_media::*;
use support::reader::{Read, read};
use support::*;

const ONE: &str = "rec_room__uid_s_ann__uid_e_av.m3u8";
const TWO: &str = "rec_room__uid_s_ann__uid_e_av_2.m3u8";
const SECOND: i64 = 90_000;
const DAY_US: u64 = VOLUME_90K as u64 / 9 * 100;

/// Ann with camera and microphone, from now on.
fn enter(mut room: Room) -> World {
    room.input(Input::Connected);
    let ann = room.join(1, "ann");
    let (camera, microphone) = (Publisher::camera(1, room.now), Publisher::microphone(2, room.now));
    room.publish(&camera, ann, Codec::H264);
    room.publish(&microphone, ann, Codec::Opus);
    let mut world = World::new(room);
    world.add(camera);
    world.add(microphone);
    world
}

/// SIGTERM, and another process `later_us` of wall clock after the first one's start.
fn resumed(mut world: World, attempt: u32, later_us: u64) -> (World, Vec<Vec<u8>>) {
    world.room.input(Input::Order(Order::Stop(StopReason::Interrupted)));
    world.room.run_ms(1_000);
    assert_eq!(world.room.finished, Some(Outcome::Interrupted));
    let manifest = world.room.session.manifest().clone();
    let playlists = std::mem::take(&mut world.room.playlists);
    let mut room =
        Room::at(Config { attempt, resume: Some(Resume { manifest, replay: None }), ..config() }, Tick(5), WallMicros(WALL.0 + later_us));
    room.playlists = playlists;
    (enter(room), world.room.data(0))
}

fn stop(world: &mut World) {
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    world.run_ms(5_000);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
}

/// Files of this process' segments of a volume.
fn files(world: &World, playlist: &str) -> Vec<Vec<u8>> {
    let ledger = &world.room.session.manifest().ledger;
    let named = |name: &str| ledger.iter().any(|e| e.name == name && e.playlist == playlist);
    world.room.segments.values().filter(|s| named(&s.name)).map(|s| s.data.clone()).collect()
}

fn first_pts(read: &Read) -> i64 {
    read.pictures()[0].0.min(read.sounds()[0].0)
}

#[test]
fn after_a_day_the_next_volume_begins_at_ten_seconds() {
    let mut world = enter(Room::new(config()));
    world.run_ms(9_000);
    let (mut world, _) = resumed(world, 2, DAY_US - 10_000_000);
    world.run_ms(30_000);
    assert!(world.room.playlists[ONE].ends_with("#EXT-X-ENDLIST\n"), "the first ends while the second grows");
    assert!(!world.room.playlists[TWO].contains("ENDLIST"));
    stop(&mut world);
    let (one, two) = (read(&files(&world, ONE)), read(&files(&world, TWO)));
    let late = one.pictures()[0].0 - 10 * SECOND - VOLUME_90K;
    assert!((-11 * SECOND..0).contains(&late), "the first one's last minute: {late}");
    assert!(one.pictures().last().expect("pictures").0 < 1 << 33);
    assert_eq!(first_pts(&two), 10 * SECOND);
    assert!(two.pictures()[0].2, "a key frame");
    let numbers = |read: &Read| read.pictures().iter().filter_map(|p| p.1).collect::<Vec<u32>>();
    let all = [numbers(&one), numbers(&two)].concat();
    assert!(all.windows(2).all(|w| w[1] == w[0] + 1), "no picture is missing or twice at the change");
    let sounds: Vec<u32> = one.sounds().iter().chain(&two.sounds()).map(|s| s.1).collect();
    assert!(sounds.windows(2).all(|w| w[1] == w[0] + 1), "nor a frame of sound");
    // Pictures come every 3600 ticks, frames of sound every 1920.
    let zero = |read: &Read| {
        let (picture, sound) = (read.pictures()[0], read.sounds()[0]);
        (picture.0 - 3600 * i64::from(picture.1.expect("a number"))) - (sound.0 - 1920 * i64::from(sound.1))
    };
    assert!((zero(&one) - zero(&two)).abs() <= 100, "lip sync goes on: {} and {}", zero(&one), zero(&two));
    let manifest = world.room.session.manifest();
    assert_eq!(
        manifest.playlists.iter().map(|p| (p.name.as_str(), p.stored, p.ended)).collect::<Vec<_>>(),
        [(ONE, true, true), (TWO, true, true)]
    );
    let mut names: Vec<&String> = manifest.ledger.iter().map(|e| &e.name).collect();
    assert!(names.is_sorted(), "{names:?}");
    names.dedup();
    let numbers: Vec<u32> = manifest.ledger.iter().map(|e| e.n).collect();
    assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "numbers go on: {numbers:?}");
    assert_eq!(names.len(), numbers.len());
    assert!(!world.room.playlists[TWO].contains("DISCONTINUITY"), "nothing stands before its first segment");
}

#[test]
fn a_restart_after_the_change_goes_on_in_the_second_volume() {
    let mut world = enter(Room::new(config()));
    world.run_ms(9_000);
    let (mut world, _) = resumed(world, 2, DAY_US - 10_000_000);
    world.run_ms(30_000);
    let one = world.room.playlists[ONE].clone();
    let (mut world, _) = resumed(world, 3, DAY_US + 40_000_000);
    world.run_ms(12_000);
    stop(&mut world);
    assert_eq!(tags_and_names(&world.room.playlists[ONE]), tags_and_names(&one), "complete is complete");
    assert_eq!(world.room.playlists.len(), 2);
    assert_eq!(world.room.playlists[TWO].matches("DISCONTINUITY").count(), 1);
    let began = world.room.session.manifest().ledger.iter().find(|e| e.playlist == TWO).expect("a segment").start.0;
    let resumed = first_pts(&read(&files(&world, TWO)));
    let expected = 10 * SECOND + VOLUME_90K + 40 * SECOND - began;
    assert!((resumed - expected).abs() < SECOND / 5, "counted from the second volume's beginning: {resumed}, {expected}");
}

#[test]
fn a_restart_at_the_change_begins_the_second_volume() {
    let mut world = enter(Room::new(config()));
    world.run_ms(9_000);
    let (mut world, _) = resumed(world, 2, DAY_US + 60_000_000);
    world.run_ms(12_000);
    stop(&mut world);
    assert!(world.room.playlists[ONE].ends_with("#EXT-X-ENDLIST\n"));
    assert_eq!(first_pts(&read(&files(&world, TWO))), 10 * SECOND);
    assert!(files(&world, ONE).is_empty());
}

#[test]
fn the_first_volume_ends_only_when_storage_has_its_last_segment() {
    let mut world = enter(Room::new(config()));
    world.run_ms(9_000);
    let (mut world, _) = resumed(world, 2, DAY_US - 10_000_000);
    world.run_ms(8_000);
    world.room.storage.failing = 100;
    world.run_ms(20_000);
    assert!(!world.room.playlists[ONE].contains("ENDLIST"));
    assert!(!world.room.playlists.contains_key(TWO));
    world.room.storage.failing = 0;
    world.run_ms(32_000);
    assert!(world.room.playlists[ONE].ends_with("#EXT-X-ENDLIST\n"));
    assert!(world.room.playlists.contains_key(TWO));
    stop(&mut world);
}

//! Whose media is taken, and limits that change while recording.

#[allow(unreachable_pub, missing_debug_implementations, dead_code)] // shared: every test file uses its own part
mod support;

use recorder_media::*;
use support::reader::{self, read};
use support::*;

const AV: &str = "rec_room__uid_s_ann__uid_e_av.m3u8";
const CAMERA: TrackKey = TrackKey(1);

/// Ann with camera (track 1) and microphone (track 2), both from the start.
fn ann(config: Config) -> World {
    let mut world = World::new(Room::new(config));
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let start = world.room.now;
    let (camera, microphone) = (Publisher::camera(1, start), Publisher::microphone(2, start));
    world.room.publish(&camera, ann, Codec::H264);
    world.room.publish(&microphone, ann, Codec::Opus);
    world.add(camera);
    world.add(microphone);
    world
}

fn except(people: &[&str]) -> Selection {
    Selection::Except(people.iter().map(ToString::to_string).collect())
}

fn only(people: &[&str]) -> Selection {
    Selection::Only(people.iter().map(ToString::to_string).collect())
}

fn order(world: &mut World, audio: Selection, video: Selection) {
    world.room.input(Input::Order(Order::Subscription(Subscription { audio, video })));
}

/// The SFU stops sending, or sends again: by a new SSRC or by the same, whose numbers went on meanwhile.
fn resend(world: &mut World, mut publisher: Publisher, same_ssrc: bool) {
    publisher.ssrc += if same_ssrc { 0 } else { 7000 };
    publisher.sequence = publisher.sequence.wrapping_add(500);
    publisher.force_key = true;
    publisher.next = world.room.now;
    world.add(publisher);
}

fn stop(world: &mut World) {
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    world.run_ms(5_000);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
}

fn blacks(read: &reader::Read) -> usize {
    read.pictures().iter().filter(|p| p.1.is_none()).count()
}

fn track(world: &World, source: Source) -> &TrackRecord {
    world.room.session.manifest().tracks.iter().find(|t| t.source == source).expect("a record")
}

#[test]
fn who_is_not_on_the_list_costs_nothing_and_is_in_the_manifest_with_the_reason() {
    let mut world = ann(Config { subscription: Subscription { audio: Selection::All, video: only(&["bob"]) }, ..config() });
    world.stop_sending(1);
    world.run_ms(10_000);
    stop(&mut world);
    assert_eq!(world.room.subscribed, [(2, true)], "the camera was never asked for");
    let (camera, microphone) = (track(&world, Source::Camera), track(&world, Source::Microphone));
    assert_eq!((camera.recorded, camera.unrecorded), (false, Some(Unrecorded::NotSubscribed)));
    assert_eq!((microphone.recorded, microphone.unrecorded), (true, None));
    assert_eq!(camera.unsubscribed, [(MediaTime(0), camera.end)]);
    assert!(world.room.session.manifest().gaps.is_empty() && camera.lost == 0);
    let read = read(&world.room.data(0));
    assert!((9..=10).contains(&blacks(&read)) && read.pictures().len() == blacks(&read), "sound over black");
    assert!(world.room.playlists.contains_key(AV));
}

#[test]
fn a_camera_left_out_for_a_while_is_black_after_the_hold_and_comes_back_in_the_same_playlist() {
    for same_ssrc in [false, true] {
        let mut world = ann(config());
        world.run_ms(10_000);
        order(&mut world, Selection::All, except(&["ann"]));
        world.run_ms(100); // what was under way still arrives
        let camera = world.stop_sending(1);
        world.run_ms(9_900);
        order(&mut world, Selection::All, except(&["bob"]));
        resend(&mut world, camera, same_ssrc);
        world.run_ms(5_000);
        stop(&mut world);
        assert_eq!(world.room.subscribed, [(1, true), (2, true), (1, false), (1, true)]);
        let read = read(&world.room.data(0));
        let pictures = read.pictures();
        let off = pictures.iter().position(|p| p.1.is_none()).expect("black came");
        let held = pictures[off].0 - pictures[off - 1].0;
        assert!((held - 315_000).abs() < 9000, "the last picture held 3.5 s: {held}");
        assert_eq!(blacks(&read), 7, "6.5 s of black");
        assert!(pictures[off].3 > pictures[off - 1].3 && pictures[off + 7].3 > pictures[off + 6].3, "black is segments of its own");
        assert!(pictures[off + 7..].iter().all(|p| p.1.is_some()) && pictures.len() > off + 120, "and pictures to the end");
        assert!(read.sounds().windows(2).all(|w| w[1].0 - w[0].0 == 1920), "the sound went on");
        assert_eq!(world.room.playlists[AV].matches("DISCONTINUITY").count(), 2);
        assert_eq!(world.room.playlists.len(), 1);
        let manifest = world.room.session.manifest();
        let camera = track(&world, Source::Camera);
        assert!(manifest.gaps.is_empty() && camera.lost == 0, "no loss: {:?} {}", manifest.gaps, camera.lost);
        let [(from, Some(to))] = camera.unsubscribed[..] else { panic!("{:?}", camera.unsubscribed) };
        assert!((from.0 - 900_000).abs() < 9000 && (to.0 - 1_800_000).abs() < 9000, "{from:?} {to:?}");
        assert_eq!((camera.recorded, camera.unrecorded, camera.end.is_some()), (true, None, true));
    }
}

#[test]
fn somebody_left_out_entirely_pauses_their_playlist_and_keeps_the_room_from_being_idle() {
    let mut world = ann(Config { idle_counts_publishers: true, idle_timeout_seconds: 5, ..config() });
    world.run_ms(10_000);
    order(&mut world, except(&["ann"]), except(&["ann"]));
    let (camera, microphone) = (world.stop_sending(1), world.stop_sending(2));
    world.run_ms(10_000);
    assert_eq!(world.room.finished, None, "published is published, recorded or not");
    order(&mut world, Selection::All, Selection::All);
    resend(&mut world, camera, false);
    resend(&mut world, microphone, false);
    world.run_ms(8_000);
    stop(&mut world);
    let manifest = world.room.session.manifest();
    assert!(manifest.gaps.is_empty(), "{:?}", manifest.gaps);
    assert_eq!((world.room.playlists.len(), world.room.playlists[AV].matches("DISCONTINUITY").count()), (1, 1));
    let read = read(&world.room.data(0));
    assert_eq!(blacks(&read), 0);
    let spans: Vec<(i64, i64)> = manifest.ledger.iter().map(|e| (e.start.0, e.start.0 + e.duration90k)).collect();
    let hole = spans.windows(2).map(|pair| pair[1].0 - pair[0].1).max().expect("segments");
    assert!((hole - 900_000).abs() < 90_000, "10 s were left out: {hole}");
}

#[test]
fn lists_that_change_faster_than_the_line_is_long_lose_nothing_and_double_nothing() {
    let mut world = ann(config());
    world.run_ms(6_000);
    for _ in 0..3 {
        order(&mut world, Selection::All, except(&["ann"]));
        let camera = world.stop_sending(1);
        world.run_ms(400);
        order(&mut world, Selection::All, Selection::All);
        resend(&mut world, camera, true);
        world.run_ms(700);
    }
    world.run_ms(6_000);
    let sent = world.sent[&1].len();
    stop(&mut world);
    let read = read(&world.room.data(0));
    let numbers: Vec<u32> = read.pictures().iter().filter_map(|p| p.1).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "in order, none twice");
    // At most what is still on the wire when the order comes: 30 ms, one picture, each time.
    assert!(sent - numbers.len() <= 2 * 3 + 1, "{} of {sent}", numbers.len());
    assert_eq!(blacks(&read), 0, "shorter than the hold");
    let manifest = world.room.session.manifest();
    assert!(manifest.gaps.is_empty() && track(&world, Source::Camera).unsubscribed.len() == 3, "{:?}", manifest.gaps);
}

#[test]
fn a_late_comer_is_judged_by_the_lists_in_force_and_a_mute_does_not_call_for_a_picture() {
    let mut world = ann(config());
    world.run_ms(3_000);
    order(&mut world, Selection::All, only(&["ann"]));
    let bob = world.room.join(2, "bob");
    world.room.publish(&Publisher::camera(3, world.room.now), bob, Codec::H264);
    world.room.publish(&Publisher::camera(4, world.room.now), bob, Codec::H265);
    world.room.input(Input::Muted { track: TrackKey(3) });
    world.room.input(Input::Unmuted { track: TrackKey(3) });
    world.run_ms(15_000);
    assert!(world.room.session.report().degraded.is_empty(), "what is left out is not missed for its codec");
    assert_eq!(world.room.subscribed, [(1, true), (2, true)]);
    stop(&mut world);
    assert_eq!(world.room.playlists.len(), 1);
    assert!(world.room.session.manifest().gaps.is_empty());
}

#[test]
fn only_the_wanted_kind_is_asked_for() {
    for (media, wanted, name) in [(MediaKinds::Audio, 2, "audio"), (MediaKinds::Video, 1, "video")] {
        let mut world = ann(Config { media, ..config() });
        world.stop_sending(3 - wanted);
        world.run_ms(8_000);
        order(&mut world, Selection::All, Selection::Except([String::from("bob")].into()));
        stop(&mut world);
        assert_eq!(world.room.subscribed, [(wanted, true)], "{media:?}");
        let unwanted = &world.room.session.manifest().tracks[(2 - wanted) as usize];
        assert_eq!((unwanted.recorded, unwanted.unrecorded), (false, Some(Unrecorded::MediaNotWanted)));
        assert!(unwanted.unsubscribed.is_empty());
        let playlists: Vec<&String> = world.room.playlists.keys().collect();
        assert_eq!(playlists, [&format!("rec_room__uid_s_ann__uid_e_{name}.m3u8")]);
        let read = read(&world.room.data(0));
        assert_eq!((read.pictures().is_empty(), read.sounds().is_empty()), (wanted == 2, wanted == 1));
    }
}

#[test]
fn sizes_of_layers_received_are_noted_once_each() {
    let mut world = ann(config());
    for size in [(1280, 720), (320, 180), (1280, 720)] {
        let camera = world.stop_sending(1);
        world.add(Publisher { size, force_key: true, ..camera });
        world.run_ms(3_000);
    }
    stop(&mut world);
    let sizes: Vec<(u32, u32)> = track(&world, Source::Camera).sizes.iter().map(|size| (size.width, size.height)).collect();
    assert_eq!(sizes, [(1280, 720), (320, 180)]);
    let at = track(&world, Source::Camera).sizes[1].at.0;
    assert!((at - 270_000).abs() < 9000, "{at}");
    assert!(track(&world, Source::Microphone).sizes.is_empty());
}

fn limits(world: &mut World, idle: u32, max: u32, drain: u32) {
    let order = Order::Limits { idle_timeout_seconds: idle, max_duration_seconds: Some(max), drain_timeout_seconds: drain };
    world.room.input(Input::Order(order));
}

#[test]
fn the_longest_duration_may_be_raised_and_lowered_while_recording() {
    let mut world = ann(Config { max_duration_seconds: Some(10), ..config() });
    world.run_ms(9_000);
    limits(&mut world, 30, 2_592_000, 60);
    world.run_ms(6_000);
    assert_eq!(world.room.finished, None, "raised in time");
    limits(&mut world, 30, 20, 60);
    world.run_ms(10_000);
    assert_eq!(world.room.finished, Some(Outcome::MaxDurationReached));
    let end = |world: &World| world.room.session.manifest().ledger.iter().map(|e| e.start.0 + e.duration90k).max().expect("segments");
    assert!((end(&world) - 20 * 90_000).abs() < 9000, "lowered to 20 s: {}", end(&world));

    let mut world = ann(config());
    world.run_ms(20_000);
    limits(&mut world, 30, 1, 60);
    world.run_ms(5_000);
    assert_eq!(world.room.finished, Some(Outcome::MaxDurationReached));
    assert!((end(&world) - 20 * 90_000).abs() < 9000, "what is there already is kept: {}", end(&world));
    let read = read(&world.room.data(0));
    assert!(read.pictures().len() >= 498, "{}", read.pictures().len());
}

#[test]
fn the_idle_time_may_be_changed_while_it_runs() {
    for (idle, ends_after_ms) in [(5, 6_000), (60, 40_000)] {
        let mut world = ann(config());
        world.run_ms(5_000);
        let (..) = (world.stop_sending(1), world.stop_sending(2));
        world.room.input(Input::Left { participant: ParticipantKey(1) });
        world.run_ms(20_000);
        limits(&mut world, idle, 86_400, 60);
        world.run_ms(ends_after_ms - 1_000);
        assert_eq!(world.room.finished.is_some(), idle == 5, "{idle}");
        world.run_ms(6_000);
        assert_eq!(world.room.finished, Some(Outcome::NoUsers), "{idle}");
    }
}

#[test]
fn the_drain_time_may_be_changed_while_it_runs() {
    for (drain, over_after_ms) in [(1, 15_000), (120, 80_000)] {
        let mut world = ann(config());
        world.run_ms(9_000);
        world.room.storage.failing = 100;
        world.run_ms(9_000);
        world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
        world.run_ms(10_000);
        limits(&mut world, 30, 86_400, drain);
        world.run_ms(over_after_ms);
        assert_eq!(world.room.finished.is_some(), drain == 1, "{drain}");
        world.run_ms(60_000);
        assert_eq!(world.room.finished, Some(Outcome::UploaderFailed), "{drain}");
    }
}

#[test]
fn the_largest_limits_do_not_overflow() {
    let largest = 2_592_000;
    let mut world = ann(Config { idle_timeout_seconds: largest, max_duration_seconds: Some(u32::MAX), ..config() });
    world.run_ms(2_000);
    limits(&mut world, u32::MAX, u32::MAX, u32::MAX);
    assert!(world.room.session.next_wake().is_some());
    world.room.input(Input::Unpublished { track: CAMERA });
    stop(&mut world);
}

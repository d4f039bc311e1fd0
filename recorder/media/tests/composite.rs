//! Everybody in one playlist: frames on the output clock, voices in their places, whoever comes, goes, is muted, lost or killed.

#[allow(unreachable_pub, missing_debug_implementations, dead_code)] // shared: every test file uses its own part
mod support;

use canvas::Content;
use recorder_media::layout::{Canvas, Layout};
use recorder_media::stage::Composition;
use recorder_media::*;
use std::collections::BTreeMap;
use support::composite::*;
use support::reader::read;
use support::*;

#[test]
fn everybody_is_in_one_playlist_each_picture_once_each_sound_in_its_place() {
    let mut world = world();
    world.network = Network { jitter_us: 15_000, rng: Lcg(3), ..Network::clean() };
    for (n, name) in [(1, "ann"), (2, "bob"), (3, "cem")] {
        join(&mut world, n, name, 0);
    }
    world.run_ms(21_000);
    stop(&mut world);
    assert_eq!(world.room.playlists.keys().collect::<Vec<_>>(), [PLAYLIST]);
    let read = read(&world.room.data(0));
    let times = check_frames(&read, 1);
    check_sound(&read, 1);
    check_segments(&world);
    assert!((620..=640).contains(&times.len()), "21 s of 30 frames: {}", times.len());
    for n in 1..=3 {
        let pictures = decoded(&world, 10 * n);
        assert_eq!(pictures, (0..pictures.len() as u32).collect::<Vec<_>>());
        let sent = world.sent[&(10 * n)].iter().filter(|_| true).count();
        assert!(pictures.len() + 260 / (4 + n as usize) * 5 > sent, "{} of {sent}", pictures.len());
        let off = heard_off(&world, 10 * n + 1, (11, 0));
        assert!(
            off.len() > 1_000 && off.iter().all(|off| off.abs() < 5.0),
            "of {n} by at most {:?} ms",
            off.iter().copied().reduce(f64::max)
        );
    }
    let manifest = world.room.session.manifest();
    assert_eq!((manifest.gaps.len(), manifest.playlists.len()), (0, 1), "{:?}", manifest.gaps);
    assert_eq!(world.room.encoders[&PlaylistKey(0)].late, 0, "nothing comes when its place is mixed");
    for track in manifest.tracks.iter().filter(|track| track.source == Source::Camera) {
        assert!(track.written_units + 2 >= track.received_units && track.transcoded == Some(TranscodeReason::Composed), "{track:?}");
    }
}

#[test]
fn who_comes_is_muted_and_goes_is_seen_so() {
    let mut world = world();
    join(&mut world, 1, "ann", 0);
    world.run_ms(5_000);
    let bob = join(&mut world, 2, "bob", 0);
    world.run_ms(5_000);
    world.room.input(Input::Muted { track: TrackKey(10) });
    let ann = world.stop_sending(10);
    world.run_ms(6_000);
    world.room.input(Input::Unmuted { track: TrackKey(10) });
    world.add(Publisher { next: world.room.now.after(20_000), force_key: true, ..ann });
    world.run_ms(4_000);
    world.room.input(Input::Left { participant: bob });
    world.stop_sending(20);
    world.stop_sending(21);
    world.run_ms(4_000);
    stop(&mut world);
    let (ann, bob) = (shows(10), shows(20));
    let seen = scenes(&world, &[1.0, 4.8, 5.3, 13.0, 14.0, 16.5, 19.8, 20.3]);
    let one = vec![ann];
    let both = vec![ann, bob];
    let muted = vec![Content::Empty, bob];
    assert_eq!(seen, [one.clone(), one.clone(), both.clone(), both.clone(), muted, both.clone(), both, one]);
    let read = read(&world.room.data(0));
    check_frames(&read, 1);
    check_sound(&read, 1);
    check_segments(&world);
    assert_eq!(world.room.session.manifest().gaps, []);
}

#[test]
fn a_death_leaves_one_hole_and_every_frame_before_it() {
    for lived_ms in [3_300, 5_000, 7_130, 9_999, 12_020, 16_660, 31_415] {
        let mut world = world();
        world.network = Network { jitter_us: 10_000, rng: Lcg(lived_ms), ..Network::clean() };
        join(&mut world, 1, "ann", 0);
        join(&mut world, 2, "bob", 0);
        world.run_ms(lived_ms);
        let World { room, network, .. } = world;
        let mut world = World::new(room.die_and_return(composite(), 2_500_000));
        world.network = network;
        join(&mut world, 1, "ann", 1);
        join(&mut world, 2, "bob", 1);
        world.run_ms(9_000);
        stop(&mut world);
        let read = read(&world.room.data(0));
        let times = check_frames(&read, 2);
        check_sound(&read, 2);
        check_segments(&world);
        let before = times.windows(2).position(|pair| pair[1] - pair[0] != FRAME).expect("a hole") + 1;
        let lasted = before as i64 * FRAME;
        assert!(lasted >= lived_ms as i64 * 90 - 18_000, "died after {lived_ms} ms: {} ms of pictures", lasted / 90);
        // A packet that was overtaken and never came: of the last picture.
        let told = world.room.session.manifest().gaps.iter();
        let gaps: Vec<_> = told.filter(|gap| gap.reason != GapReason::PacketLoss || gap.duration90k > 9_000).collect();
        assert_eq!(gaps.iter().map(|gap| gap.reason).collect::<Vec<_>>(), [GapReason::RecorderRestarted], "died after {lived_ms} ms");
        let hole = gaps[0].duration90k as f64 / 90_000.0;
        assert!((2.4..3.0).contains(&hole), "died after {lived_ms} ms: a hole of {hole} s");
        let text = &world.room.playlists[PLAYLIST];
        assert_eq!(text.matches("#EXT-X-DISCONTINUITY").count(), 1, "after {lived_ms} ms: {text}");
        let ledger = world.room.session.manifest().ledger.kept();
        for pair in ledger.windows(2).filter(|pair| !pair[1].discontinuity) {
            assert_eq!(pair[0].start.0 + pair[0].duration90k, pair[1].start.0, "died after {lived_ms} ms");
        }
    }
}

/// Whoever the next recorder is told of first.
#[test]
fn after_a_death_everybody_stands_where_they_stood() {
    for has_journal in [true, false] {
        let mut world = world();
        let people = [(1, "ann"), (2, "bob"), (3, "cem")];
        for (n, name) in people {
            join(&mut world, n, name, 0);
        }
        world.run_ms(12_000);
        let mut world = World::new(if has_journal {
            world.room.die_and_return(composite(), 2_500_000)
        } else {
            let resume = Some(Resume { manifest: world.room.session.manifest().clone(), replay: None });
            Room::at(Config { attempt: 2, resume, ..composite() }, Tick(0), WallMicros(WALL.0 + 15_000_000))
        });
        join(&mut world, 4, "dan", 1);
        let mut ann = ParticipantKey(0);
        for (n, name) in people.into_iter().rev() {
            ann = join(&mut world, n, name, 1);
        }
        world.run_ms(9_000);
        let shown = newest(&world);
        assert_eq!(shown, [110, 120, 130, 140].map(shows), "with a journal: {has_journal}");
        // Once: who leaves and comes back later is the last.
        world.room.input(Input::Left { participant: ann });
        world.stop_sending(110);
        world.stop_sending(111);
        world.run_ms(9_000);
        join(&mut world, 1, "ann", 2);
        world.run_ms(9_000);
        stop(&mut world);
        assert_eq!(newest(&world), [120, 130, 140, 210].map(shows), "with a journal: {has_journal}");
    }
}

/// The last scene.
fn newest(world: &World) -> Vec<Content<recorder_media::stage::Visual>> {
    let last = world.room.transcoder.frames.iter().filter_map(|frame| frame.scene.as_ref()).next_back().expect("a scene");
    last.tiles.iter().map(|tile| tile.content).collect()
}

#[test]
fn another_layout_is_in_force_at_the_next_frame_and_another_canvas_in_the_next_segment() {
    let mut world = world();
    join(&mut world, 1, "ann", 0);
    join(&mut world, 2, "bob", 0);
    world.run_ms(5_500);
    let ordered = world.room.now;
    let small = Composition { canvas: Canvas { width: 640, height: 360 }, ..composition(Layout::BestFit) };
    world.room.input(Input::Order(Order::Compose(composition(Layout::Floating))));
    world.run_ms(3_000);
    world.room.input(Input::Order(Order::Compose(small)));
    world.run_ms(6_000);
    stop(&mut world);
    let frames = &world.room.transcoder.frames;
    let scenes = frames.iter().filter_map(|frame| Some((frame.at, frame.scene.as_ref()?.size.width, frame.key)));
    let changes: Vec<_> = scenes.filter(|(at, ..)| at.0 > 4 * 90_000).collect();
    assert_eq!(changes.iter().map(|change| (change.1, change.2)).collect::<Vec<_>>(), [(1280, false), (640, true)]);
    // Media time runs from the first packet.
    let first = Tick::from_millis(1_000).after(7_000 + 30_000);
    let due = ordered.since(first) as i64 * 9 / 100;
    assert!((0..=FRAME).contains(&(changes[0].0.0 - due)), "ordered at {due}, in force at {:?}", changes[0].0);
    let text = &world.room.playlists[PLAYLIST];
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY").count(), 1, "{text}");
    let read = read(&world.room.data(0));
    check_frames(&read, 1);
    check_sound(&read, 1);
}

/// A camera without a place is not decoded. When it gets one, its key frame should not be asked for only when that comes out of the delay line.
#[test]
fn whoever_gets_a_place_is_asked_for_a_key_frame_when_the_order_comes() {
    let mut world = world();
    join(&mut world, 1, "ann", 0);
    join(&mut world, 2, "bob", 0);
    let rect = layout::Rect { x: 0, y: 0, width: 640, height: 360 };
    let region = layout::Region { uid: Some("ann".into()), rect, fit: layout::Fit::Crop, opacity_percent: 100, z_order: 0 };
    world.room.input(Input::Order(Order::Compose(composition(Layout::Custom(vec![region])))));
    world.publishers.get_mut(&20).expect("bob's camera").key_every = u32::MAX;
    world.run_ms(8_000);
    world.room.input(Input::Order(Order::Compose(composition(Layout::BestFit))));
    world.run_ms(5_000);
    assert_eq!(scenes(&world, &[7.8, 8.5]), [vec![shows(10)], vec![shows(10), shows(20)]]);
    stop(&mut world);
}

/// Nor when somebody else makes room.
#[test]
fn whoever_moves_up_is_asked_for_a_key_frame_when_somebody_leaves() {
    let mut world = world();
    let ann = join(&mut world, 1, "ann", 0);
    let bob = join(&mut world, 2, "bob", 0);
    join(&mut world, 3, "cem", 0);
    join(&mut world, 4, "dan", 0);
    let region = |x| {
        let rect = layout::Rect { x, y: 0, width: 640, height: 360 };
        layout::Region { uid: None, rect, fit: layout::Fit::Crop, opacity_percent: 100, z_order: 0 }
    };
    world.room.input(Input::Order(Order::Compose(composition(Layout::Custom(vec![region(0), region(640)])))));
    for late in [30, 40] {
        world.publishers.get_mut(&late).expect("a camera").key_every = u32::MAX;
    }
    world.run_ms(8_000);
    for (participant, track) in [(ann, 10), (bob, 20)] {
        world.room.input(Input::Left { participant });
        world.stop_sending(track);
        world.stop_sending(track + 1);
    }
    world.run_ms(5_000);
    assert_eq!(scenes(&world, &[7.8, 8.5]), [vec![shows(10), shows(20)], vec![shows(30), shows(40)]]);
    stop(&mut world);
}

#[test]
fn whoever_moves_up_is_asked_for_a_key_frame_when_a_share_ends() {
    let mut world = world();
    let ann = join(&mut world, 1, "ann", 0);
    let share = Publisher { source: Source::ScreenShare, ..Publisher::camera(15, world.room.now) };
    world.room.publish(&share, ann, Codec::H264);
    world.add(share);
    join(&mut world, 2, "bob", 0);
    let region = |x| {
        let rect = layout::Rect { x, y: 0, width: 640, height: 360 };
        layout::Region { uid: None, rect, fit: layout::Fit::Crop, opacity_percent: 100, z_order: 0 }
    };
    world.room.input(Input::Order(Order::Compose(composition(Layout::Custom(vec![region(0), region(640)])))));
    world.publishers.get_mut(&20).expect("bob's camera").key_every = u32::MAX;
    world.run_ms(8_000);
    world.stop_sending(15);
    world.room.input(Input::Unpublished { track: TrackKey(15) });
    world.run_ms(5_000);
    assert_eq!(scenes(&world, &[7.8, 8.5]), [vec![shows(10), shows(15)], vec![shows(10), shows(20)]]);
    stop(&mut world);
}

#[test]
fn the_first_frame_is_the_first_tick_behind_the_first_key_frame() {
    let mut world = world();
    join(&mut world, 1, "ann", 0);
    world.run_ms(6_000);
    stop(&mut world);
    let frames = &world.room.transcoder.frames;
    let picture = frames[0].decoded.first().expect("a picture in the first frame");
    assert_eq!((picture.0, picture.1 % 10_000), (TrackKey(10), 0));
    assert!(frames[0].key && frames[0].at.0 % FRAME == 0);
    let read = read(&world.room.data(0));
    let (picture, sound) = (read.pictures()[0].0, read.sounds()[0].0);
    assert_eq!(picture.min(sound), FIRST_PTS);
    assert!(picture - sound < FRAME + 1920, "{picture} {sound}");
}

/// The rest of a picture never comes, and nothing behind it: everybody else goes on.
#[test]
fn what_one_camera_owes_holds_up_nobody() {
    let mut world = world();
    join(&mut world, 1, "ann", 0);
    join(&mut world, 2, "bob", 0);
    world.run_ms(5_000);
    let mut bob = world.stop_sending(20);
    let begun = bob.produce().swap_remove(0);
    world.room.input(Input::Packet { track: TrackKey(20), packet: begun });
    world.room.input(Input::Muted { track: TrackKey(20) });
    world.run_ms(60_000);
    let newest = world.room.transcoder.frames.last().expect("frames").at;
    let now = world.room.now.since(Tick::from_millis(1_000)) as i64 * 9 / 100;
    assert!(now - newest.0 < 6 * 90_000, "the newest frame is {} s old", (now - newest.0) / 90_000);
    stop(&mut world);
    let read = read(&world.room.data(0));
    check_frames(&read, 1);
    check_sound(&read, 1);
    check_segments(&world);
}

/// A microphone that begins after the camera: the stay begins with the camera.
#[test]
fn a_stay_begins_with_whoever_comes_first() {
    for later_us in [10_000, 30_000, 60_000, 90_000, 130_000, 400_000] {
        let mut world = world();
        world.room.input(Input::Connected);
        let ann = world.room.join(1, "ann");
        let start = world.room.now;
        let (camera, microphone) = (Publisher::camera(10, start), Publisher::microphone(11, start.after(later_us)));
        world.room.publish(&camera, ann, Codec::H264);
        world.room.publish(&microphone, ann, Codec::Opus);
        world.add(camera);
        world.add(microphone);
        world.run_ms(9_000);
        stop(&mut world);
        let read = read(&world.room.data(0));
        check_frames(&read, 1);
        check_sound(&read, 1);
    }
}

/// The newest of those that are on; when it is off or withdrawn, the other again. What is not shown owes nothing.
#[test]
fn of_two_cameras_of_one_person_the_newest_that_is_on_is_shown() {
    let mut world = world();
    let ann = join(&mut world, 1, "ann", 0);
    world.run_ms(4_000);
    let second = Publisher { frame: 150_000, ..Publisher::camera(15, world.room.now) };
    world.room.publish(&second, ann, Codec::H264);
    world.add(second);
    world.run_ms(14_000);
    world.room.input(Input::Muted { track: TrackKey(15) });
    let second = world.stop_sending(15);
    world.run_ms(4_000);
    world.room.input(Input::Unmuted { track: TrackKey(15) });
    world.add(Publisher { next: world.room.now.after(20_000), force_key: true, ..second });
    world.run_ms(4_000);
    world.room.input(Input::Unpublished { track: TrackKey(15) });
    world.stop_sending(15);
    world.run_ms(4_000);
    stop(&mut world);
    let seen = scenes(&world, &[3.5, 6.0, 17.5, 20.5, 24.0, 28.0]);
    assert_eq!(seen.iter().map(|scene| scene[..].to_vec()).collect::<Vec<_>>(), [10, 15, 15, 10, 15, 10].map(|n| vec![shows(n)]));
    assert_eq!(world.room.session.manifest().gaps, []);
}

/// A camera that is behind another one is muted and on again: nobody waits for it.
#[test]
fn a_camera_that_is_not_shown_owes_nothing() {
    let mut world = world();
    let ann = join(&mut world, 1, "ann", 0);
    world.run_ms(4_000);
    let second = Publisher { frame: 150_000, ..Publisher::camera(15, world.room.now) };
    world.room.publish(&second, ann, Codec::H264);
    world.add(second);
    world.stop_sending(10);
    world.run_ms(4_000);
    world.room.input(Input::Muted { track: TrackKey(10) });
    world.run_ms(2_000);
    world.room.input(Input::Unmuted { track: TrackKey(10) });
    world.run_ms(16_000);
    stop(&mut world);
    assert_eq!(world.room.session.manifest().gaps, []);
}

/// The other one is off: the last picture holds as ever.
#[test]
fn a_camera_that_is_withdrawn_holds_though_another_is_there() {
    let mut world = world();
    let ann = join(&mut world, 1, "ann", 0);
    let second = Publisher { frame: 150_000, ..Publisher::camera(15, world.room.now) };
    world.room.publish(&second, ann, Codec::H264);
    world.room.input(Input::Muted { track: TrackKey(15) });
    world.run_ms(6_000);
    world.room.input(Input::Unpublished { track: TrackKey(10) });
    world.stop_sending(10);
    world.run_ms(6_000);
    world.room.input(Input::Unmuted { track: TrackKey(15) });
    world.add(Publisher { next: world.room.now.after(20_000), force_key: true, ..second });
    world.run_ms(4_000);
    stop(&mut world);
    let seen = scenes(&world, &[5.0, 8.5, 10.5, 14.0]);
    assert_eq!(seen, [shows(10), shows(10), Content::Empty, shows(15)].map(|tile| vec![tile]));
}

/// A camera that another one replaced sends nothing, and is withdrawn long after.
#[test]
fn a_camera_that_another_replaced_owes_nothing() {
    let mut world = world();
    let ann = join(&mut world, 1, "ann", 0);
    world.run_ms(4_000);
    let second = Publisher { frame: 150_000, ..Publisher::camera(15, world.room.now) };
    world.room.publish(&second, ann, Codec::H264);
    world.add(second);
    world.stop_sending(10);
    world.run_ms(16_000);
    world.room.input(Input::Unpublished { track: TrackKey(10) });
    world.run_ms(4_000);
    stop(&mut world);
    assert_eq!(scenes(&world, &[23.0]), [vec![shows(15)]]);
    assert_eq!(world.room.session.manifest().gaps, []);
}

#[test]
fn a_channel_whose_name_is_a_number_goes_on_after_a_death() {
    let config = || Config { stem: "rec_42".into(), ..composite() };
    let mut world = World::new(Room::new(config()).journalled());
    join(&mut world, 1, "ann", 0);
    world.run_ms(10_000);
    let mut world = World::new(world.room.die_and_return(config(), 1_000_000));
    join(&mut world, 1, "ann", 1);
    world.run_ms(9_000);
    stop(&mut world);
    check_frames(&read(&world.room.data(0)), 2);
    let manifest = world.room.session.manifest();
    assert_eq!(manifest.playlists.len(), 1);
    let named = world.room.playlists["rec_42.m3u8"].lines().filter(|line| line.ends_with(".ts")).count();
    assert_eq!(named, manifest.ledger.len());
}

/// Another canvas a second before a death, in a segment that was not finished.
#[test]
fn a_layout_of_before_a_death_is_that_of_then() {
    let small = || Composition { canvas: Canvas { width: 640, height: 360 }, ..composition(Layout::BestFit) };
    let mut world = world();
    join(&mut world, 1, "ann", 0);
    world.run_ms(9_500);
    world.room.input(Input::Order(Order::Compose(small())));
    world.run_ms(1_000);
    let ordered = 9_500 * 90;
    let config = Config { mode: Mode::Composite(small()), ..config() };
    let mut world = World::new(world.room.die_and_return(config, 2_000_000));
    join(&mut world, 1, "ann", 1);
    world.run_ms(9_000);
    stop(&mut world);
    let frames = &world.room.transcoder.frames;
    let changes: Vec<_> = frames.iter().filter_map(|frame| Some((frame.at.0, frame.scene.as_ref()?.size.width))).collect();
    let first_small = changes.iter().find(|(_, width)| *width == 640).expect("the new canvas");
    assert!(changes[0].1 == 1280 && (first_small.0 - ordered).abs() < 9_000, "{changes:?}");
    let text = &world.room.playlists[PLAYLIST];
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY").count(), 2, "the canvas, and the death: {text}");
}

/// A camera whose pictures cannot be decoded is missing until its next key frame, and that is said.
#[test]
fn what_cannot_be_decoded_of_a_camera_is_a_gap() {
    let mut world = world();
    join(&mut world, 1, "ann", 0);
    join(&mut world, 2, "bob", 0);
    world.run_ms(8_000);
    world.room.transcoder.undecodable = 100;
    world.run_ms(100);
    world.room.transcoder.undecodable = 0;
    world.run_ms(10_000);
    stop(&mut world);
    check_frames(&read(&world.room.data(0)), 1);
    let manifest = world.room.session.manifest();
    let undecodable: i64 = manifest.gaps.iter().filter(|gap| gap.reason == GapReason::Undecodable).map(|gap| gap.duration90k).sum();
    assert!((9_000..5 * 90_000).contains(&undecodable), "{:?}", manifest.gaps);
    assert!(manifest.tracks.iter().any(|track| track.source == Source::Camera && track.written_units < track.received_units));
}

/// Sound alone is a meeting, too; and pictures alone.
#[test]
fn of_one_kind_alone() {
    for (media, pictures, sounds) in [(MediaKinds::Audio, 0, 500), (MediaKinds::Video, 300, 0)] {
        let mut world = World::new(Room::new(Config { media, ..composite() }));
        join(&mut world, 1, "ann", 0);
        join(&mut world, 2, "bob", 0);
        world.run_ms(12_000);
        stop(&mut world);
        let read = read(&world.room.data(0));
        let seen = (read.pictures().len(), read.sounds().len());
        assert!(seen.0 >= pictures && (seen.0 == 0) == (pictures == 0), "{media:?}: {seen:?}");
        assert!(seen.1 >= sounds && (seen.1 == 0) == (sounds == 0), "{media:?}: {seen:?}");
        assert_eq!(world.room.session.manifest().gaps, []);
        assert_eq!(world.room.playlists[PLAYLIST].matches("#EXTINF:4.0").count(), 2, "{}", world.room.playlists[PLAYLIST]);
    }
}

#[test]
fn a_room_where_nobody_has_a_camera_is_its_background() {
    let mut world = world();
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let microphone = Publisher::microphone(11, world.room.now);
    world.room.publish(&microphone, ann, Codec::Opus);
    world.add(microphone);
    world.run_ms(9_000);
    stop(&mut world);
    let read = read(&world.room.data(0));
    assert!(check_frames(&read, 1).len() > 260);
    assert_eq!(scenes(&world, &[5.0]), [vec![Content::Empty]]);
}

#[test]
fn a_connection_that_was_away_is_one_hole() {
    let mut world = world();
    join(&mut world, 1, "ann", 0);
    world.run_ms(9_000);
    let (camera, microphone) = (world.stop_sending(10), world.stop_sending(11));
    world.run_ms(1_500);
    world.room.input(Input::Disconnected);
    world.run_ms(20_000);
    world.room.input(Input::Connected);
    let next = world.room.now.after(50_000);
    world.add(Publisher { next, ..camera });
    world.add(Publisher { next, ..microphone });
    world.run_ms(9_000);
    stop(&mut world);
    let read = read(&world.room.data(0));
    check_frames(&read, 2);
    check_sound(&read, 2);
    check_segments(&world);
    let gaps = &world.room.session.manifest().gaps;
    assert!(gaps.iter().any(|gap| gap.reason == GapReason::Disconnected), "{gaps:?}");
    assert_eq!(scenes(&world, &[40.0])[0], [shows(10)]);
}

/// A camera that was switched off long ago is no reason to keep everything since.
#[test]
fn the_journal_is_forgotten_while_a_camera_is_off() {
    let mut world = world();
    join(&mut world, 1, "ann", 0);
    join(&mut world, 2, "bob", 0);
    world.run_ms(5_000);
    world.room.input(Input::Muted { track: TrackKey(10) });
    world.stop_sending(10);
    world.run_ms(90_000);
    let reaches = world.room.now.since(world.room.session.needed_from(world.room.now)) / 1_000_000;
    assert!(reaches < 45, "{reaches} s");
    stop(&mut world);
    check_frames(&read(&world.room.data(0)), 1);
}

/// Whatever people and network do: frames and sound keep their steps, decoders get what they can decode.
#[test]
fn rooms_with_everything_going_wrong() {
    for seed in 0..60 {
        let mut rng = Lcg(seed * 77 + 5);
        let mut world = world();
        world.network =
            Network { jitter_us: rng.below(60_000) + 1, late: rng.below(4), lost: rng.below(3), rng: Lcg(seed), ..Network::clean() };
        let mut there: BTreeMap<u32, (ParticipantKey, u32)> = BTreeMap::new();
        let mut stays = 0;
        for _ in 0..30 {
            let n = rng.below(4) as u32 + 1;
            match (rng.below(4), there.get(&n).copied()) {
                (_, None) => {
                    stays += 1;
                    there.insert(n, (join(&mut world, n, &format!("p{n}"), stays), 10 * n + 100 * stays));
                }
                (0, Some((who, track))) => {
                    world.room.input(Input::Left { participant: who });
                    for track in [track, track + 1] {
                        world.stop_sending(track);
                    }
                    there.remove(&n);
                }
                (1, Some((_, track))) => world.room.input(Input::Muted { track: TrackKey(track) }),
                (2, Some((_, track))) => world.room.input(Input::Unmuted { track: TrackKey(track) }),
                (_, Some(_)) => {
                    let layouts = [Layout::Floating, Layout::BestFit, Layout::Vertical { large: Some("p1".into()) }];
                    let layout = layouts[rng.below(3) as usize].clone();
                    world.room.input(Input::Order(Order::Compose(composition(layout))));
                }
            }
            world.run_ms(rng.below(3_000));
        }
        world.run_ms(1_000);
        stop(&mut world);
        let read = read(&world.room.data(0));
        let steps = read.pictures().windows(2).filter(|pair| pair[1].0 - pair[0].0 < FRAME).count();
        assert_eq!(steps, 0, "seed {seed}: frames are never closer");
        let sounds = read.sounds();
        assert!(sounds.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 1920), "seed {seed}");
        check_books(world.room.session.manifest(), 4);
    }
}

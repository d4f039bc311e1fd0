//! A process that dies: what it had received is in the recording, once, and the manifest says what is missing.

#[allow(unreachable_pub, missing_debug_implementations, dead_code)] // shared: every test file uses its own part
mod support;

use recorder_media::*;
use support::reader::read;
use support::*;

const AV: &str = "rec_room__uid_s_ann__uid_e_av.m3u8";

fn join(world: &mut World, tracks: (u32, u32), rotation: u16) {
    join_with(world, tracks, |camera| Publisher { rotation, ..camera });
}

fn join_with(world: &mut World, tracks: (u32, u32), camera: impl Fn(Publisher) -> Publisher) {
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let start = world.room.now;
    let frame = tracks.0 * 10_000;
    let camera = camera(Publisher { frame, ..Publisher::camera(tracks.0, start) });
    let microphone = Publisher::microphone(tracks.1, start);
    world.room.publish(&camera, ann, Codec::H264);
    world.room.publish(&microphone, ann, Codec::Opus);
    world.add(camera);
    world.add(microphone);
}

fn kill(world: World, away_us: u64) -> World {
    let World { room, network, .. } = world;
    let mut world = World::new(room.die_and_return(config(), away_us));
    world.network = network;
    world
}

fn stop(world: &mut World) {
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    world.run_ms(5_000);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
}

/// Pictures of the camera with this track, by their numbers.
fn of_camera(world: &World, track: u32) -> Vec<u32> {
    let read = read(&world.room.data(0));
    let numbers = read.pictures().into_iter().filter_map(|p| p.1);
    numbers.filter(|n| n / 10_000 == track).map(|n| n % 10_000).collect()
}

/// Sound is one frame behind the other, but for so many holes.
fn check_sound(world: &World, holes: usize) {
    let sounds = read(&world.room.data(0)).sounds();
    let steps = sounds.windows(2).map(|pair| pair[1].0 - pair[0].0);
    let leaps: Vec<i64> = steps.filter(|step| *step != 1920).collect();
    assert!(leaps.len() == holes && leaps.iter().all(|step| *step > 1920), "{leaps:?}");
}

fn check_one_death(lived_ms: u64, camera: impl Fn(Publisher) -> Publisher) {
    let mut world = World::new(Room::new(config()).journalled());
    join_with(&mut world, (1, 2), &camera);
    world.run_ms(lived_ms);
    let sender = camera(Publisher::camera(1, Tick(0)));
    let received = (lived_ms.saturating_sub(30) * 1000 / sender.interval_us + 1) as u32 - sender.b_frames;
    let mut world = kill(world, 2_500_000);
    join_with(&mut world, (3, 4), &camera);
    world.run_ms(9_000);
    stop(&mut world);

    let first = of_camera(&world, 1);
    assert_eq!(first, (0..first.len() as u32).collect::<Vec<_>>(), "died after {lived_ms} ms: each picture once, in order");
    // The last picture's end was not seen: its packets may be the last that came.
    assert!(first.len() as u32 >= received - 1, "died after {lived_ms} ms: {} of {received}", first.len());
    let second = of_camera(&world, 3);
    assert_eq!(second, (0..second.len() as u32).collect::<Vec<_>>());
    let manifest = world.room.session.manifest();
    let gaps: Vec<_> = manifest.gaps.iter().map(|g| g.reason).collect();
    assert_eq!(gaps, [GapReason::RecorderRestarted], "died after {lived_ms} ms");
    let hole = manifest.gaps[0].duration90k as f64 / 90_000.0;
    assert!((2.4..3.0).contains(&hole), "died after {lived_ms} ms: a hole of {hole} s");
    assert_eq!(manifest.tracks.len(), 4, "nobody is entered twice");
    assert_eq!(manifest.participants[0].stays.len(), 2);
    for (track, pictures) in [(0, first.len()), (2, second.len())] {
        let record = &manifest.tracks[track];
        assert_eq!((record.received_units, record.written_units), (pictures as u64, pictures as u64), "died after {lived_ms} ms");
    }
    check_sound(&world, 1);
    let (files, ledger) = (world.room.data(0), manifest.ledger.kept());
    for run in ledger.chunk_by(|_, next| !next.discontinuity) {
        // Clock references go on where the other process left them.
        read(&files[run[0].n as usize..][..run.len()]);
    }
    let text = &world.room.playlists[AV];
    assert_eq!(text.matches("#EXT-X-DISCONTINUITY").count(), 1, "where she came back, after {lived_ms} ms: {text}");
    assert!(text.ends_with("#EXT-X-ENDLIST\n"));
    assert_eq!(text.lines().filter(|l| l.ends_with(".ts")).count(), manifest.ledger.len(), "all is named");
    assert!(manifest.ledger.kept().windows(2).all(|w| w[1].start.0 >= w[0].start.0 + w[0].duration90k && w[1].n == w[0].n + 1));
}

#[test]
fn everything_that_was_received_before_a_death_is_in_the_file_once() {
    for lived_ms in [500, 2_900, 3_300, 5_000, 7_130, 9_999, 12_020, 16_660, 31_415] {
        check_one_death(lived_ms, |camera| camera);
    }
}

/// At 13 pictures a second clock references do not fall on segments' ends.
/// Nobody has published again before the end.
#[test]
fn a_death_without_media_behind_it_is_a_gap_too() {
    let mut world = World::new(Room::new(config()).journalled());
    join(&mut world, (1, 2), 0);
    world.run_ms(8_000);
    let mut world = kill(world, 2_500_000);
    world.run_ms(500);
    world.room.input(Input::Connected);
    world.run_ms(3_000);
    stop(&mut world);
    let gaps = &world.room.session.manifest().gaps;
    assert_eq!(gaps.iter().map(|gap| gap.reason).collect::<Vec<_>>(), [GapReason::RecorderRestarted]);
    assert!((2.9..3.1).contains(&(gaps[0].duration90k as f64 / 90_000.0)), "from the death to the return: {gaps:?}");
}

/// It was to end what there was: it has not been in the room.
#[test]
fn what_is_ended_behind_a_death_has_no_gap_at_its_end() {
    let mut world = World::new(Room::new(config()).journalled());
    join(&mut world, (1, 2), 0);
    world.run_ms(8_000);
    let mut world = kill(world, 60_000_000);
    stop(&mut world);
    assert_eq!(world.room.session.manifest().gaps, vec![]);
}

#[test]
fn the_clock_goes_on_where_a_death_left_it() {
    for lived_ms in [7_130, 12_020, 16_660, 31_415] {
        check_one_death(lived_ms, |camera| Publisher { interval_us: 77_000, key_every: 13, ..camera });
    }
}

#[test]
fn what_is_transcoded_survives_a_death_too() {
    for lived_ms in [3_300, 7_130, 12_020, 31_415] {
        check_one_death(lived_ms, |camera| Publisher { rotation: 90, ..camera });
    }
}

/// Of two cameras at once the first is withdrawn, long before the death.
#[test]
fn a_second_camera_goes_on_in_its_own_playlist() {
    let mut world = World::new(Room::new(config()).journalled());
    join(&mut world, (1, 2), 0);
    world.run_ms(1_000);
    let second = Publisher { frame: 30_000, ..Publisher::camera(3, world.room.now) };
    world.room.publish(&second, ParticipantKey(1), Codec::H264);
    world.add(second);
    world.run_ms(3_000);
    world.room.input(Input::Unpublished { track: TrackKey(1) });
    world.stop_sending(1);
    world.run_ms(14_000);
    assert!(world.room.journal.as_ref().is_some_and(|journal| journal.forgotten > 3), "the journal begins behind the first camera");
    let mut world = kill(world, 500_000);
    stop(&mut world);
    let numbers = |playlist| read(&world.room.data(playlist)).pictures().into_iter().filter_map(|p| p.1).collect::<Vec<_>>();
    assert!(numbers(0).iter().all(|n| n / 10_000 == 1), "the first camera's playlist");
    let theirs = numbers(1);
    assert_eq!(theirs, (30_000..30_000 + theirs.len() as u32).collect::<Vec<_>>(), "each picture once, in order");
    assert!(theirs.len() >= 17 * 25 - 2, "until the death: {}", theirs.len());
}

/// SIGTERM, and storage does not take the rest; the process is killed and another one goes on in its place.
#[test]
fn what_was_not_recorded_before_a_death_is_a_gap() {
    let mut world = World::new(Room::new(config()).journalled());
    join(&mut world, (1, 2), 0);
    world.run_ms(5_000);
    world.room.storage.failing = 100;
    world.room.input(Input::Order(Order::Stop(StopReason::Interrupted)));
    world.run_ms(4_000);
    let bob = world.room.join(2, "bob");
    let late = Publisher::microphone(5, world.room.now);
    world.room.publish(&late, bob, Codec::Opus);
    world.add(late);
    world.run_ms(4_000);
    assert_eq!(world.room.finished, None, "storage has not taken everything");
    world.room.storage.failing = 0;
    let mut world = kill(world, 500_000);
    join(&mut world, (3, 4), 0);
    world.run_ms(6_000);
    stop(&mut world);
    let manifest = world.room.session.manifest();
    let [hole] = &manifest.gaps[..] else { panic!("one hole: {:?}", manifest.gaps) };
    let (begins, ends) = (hole.start.0 as f64 / 9e4, (hole.start.0 + hole.duration90k) as f64 / 9e4);
    assert_eq!(hole.reason, GapReason::RecorderRestarted);
    assert!((4.8..5.1).contains(&begins) && (13.3..13.8).contains(&ends), "from the order until there was media again: {begins} to {ends}");
    assert!(manifest.participants.iter().all(|person| person.identity != "bob"), "who came when it had been closed");
}

/// Every time before the first media is 0, and the first unit's is too: a death before it ends nothing of what comes.
#[test]
fn a_death_before_the_first_media_does_not_interrupt_it() {
    let mut world = World::new(Room::new(config()).journalled());
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    world.room.publish(&Publisher::microphone(1, world.room.now), ann, Codec::Opus);
    world.run_ms(1_000);
    let mut world = kill(world, 500_000);
    join(&mut world, (3, 4), 90);
    world.run_ms(9_000);
    stop(&mut world);
    let pictures = of_camera(&world, 3);
    assert_eq!(pictures, (0..pictures.len() as u32).collect::<Vec<_>>(), "each picture once, in order");
    let manifest = world.room.session.manifest();
    assert!(manifest.ledger[0].duration90k > 3 * 90_000, "not cut short: {:?}", manifest.ledger[0]);
    assert_eq!(world.room.playlists[AV].matches("#EXT-X-DISCONTINUITY").count(), 0, "{}", world.room.playlists[AV]);
}

/// The wall clock was set by a second while no process was there: it is all that ties the ticks of two processes together.
#[test]
fn clocks_are_learned_anew_behind_a_death() {
    for set_us in [-1_000_000, 1_000_000] {
        let mut world = World::new(Room::new(config()).journalled());
        join(&mut world, (1, 2), 0);
        world.run_ms(7_000);
        let mut world = kill(world, 500_000);
        world.room.input(Input::Connected);
        let (ann, start) = (world.room.join(1, "ann"), world.room.now);
        let ntp_offset_us = Publisher::camera(3, start).ntp_offset_us - set_us;
        let camera = Publisher { frame: 30_000, ntp_offset_us, ..Publisher::camera(3, start) };
        let microphone = Publisher { ntp_offset_us, ..Publisher::microphone(4, start) };
        world.room.publish(&camera, ann, Codec::H264);
        world.room.publish(&microphone, ann, Codec::Opus);
        world.add(camera);
        world.add(microphone);
        world.run_ms(9_000);
        stop(&mut world);
        assert_eq!(of_camera(&world, 1).len(), 175, "set by {set_us} us: until her death");
        let manifest = world.room.session.manifest();
        let (died, came) = (manifest.tracks[0].end.expect("it is over").0, manifest.tracks[2].start.0);
        let read = read(&world.room.data(0));
        let places = read.pictures().into_iter().filter_map(|p| Some((p.1?, p.0)));
        let (first, second): (Vec<_>, Vec<_>) = places.partition(|(number, _)| *number < 30_000);
        let between = second[0].1 - first[first.len() - 1].1;
        assert!((between - (came - died)).abs() < 9_000, "set by {set_us} us: {between} ticks between, {} in truth", came - died);
        assert_eq!(second.len(), 225, "set by {set_us} us: until the end");
    }
}

/// A camera whose encoder takes a second, and whose reports tell so only when the line has stopped waiting for them.
#[test]
fn what_is_transcoded_again_keeps_its_order_where_a_clock_was_set_back() {
    let slow = |camera: Publisher| Publisher {
        rotation: 90,
        key_every: u32::MAX,
        sent_after_us: 1_000_000,
        next_report: camera.next.after(10_000_000),
        ..camera
    };
    let mut world = World::new(Room::new(config()).journalled());
    join_with(&mut world, (1, 2), slow);
    world.run_ms(20_000);
    let mut world = kill(world, 2_500_000);
    join(&mut world, (3, 4), 0);
    world.run_ms(9_000);
    stop(&mut world);
    let pictures = of_camera(&world, 1);
    assert_eq!(pictures, (0..pictures.len() as u32).collect::<Vec<_>>());
    assert!(pictures.len() >= 470, "{} of 475", pictures.len());
}

/// Clocks that learn from the journal alone put the same picture a little elsewhere; what the playlist says of the segment before it stands.
#[test]
fn a_segment_is_as_long_as_was_said_before_a_death() {
    for (lived_ms, seed) in [(7_130, 1), (9_999, 2), (12_020, 3), (16_660, 4), (31_415, 5), (33_000, 6)] {
        let mut world = World::new(Room::new(config()).journalled());
        world.network = Network { jitter_us: 25_000, rng: Lcg(seed), ..Network::clean() };
        join_with(&mut world, (1, 2), |camera| Publisher { reports: Reports::livekit(12_000, 5_000_000, seed), ..camera });
        world.run_ms(lived_ms);
        let mut world = kill(world, 2_500_000);
        join(&mut world, (3, 4), 0);
        world.run_ms(9_000);
        stop(&mut world);
        let pictures = read(&world.room.data(0)).pictures();
        let first = |segment: usize| pictures.iter().find(|picture| picture.3 == segment).map(|picture| picture.0);
        let ledger = world.room.session.manifest().ledger.kept();
        for (n, pair) in ledger.windows(2).enumerate().filter(|(n, pair)| *n > 0 && pair.iter().all(|entry| !entry.discontinuity)) {
            let decoded = first(n + 1).zip(first(n)).map(|(next, this)| next - this);
            assert_eq!(decoded, Some(pair[0].duration90k), "segment {n}, died after {lived_ms} ms");
        }
    }
}

#[test]
fn pictures_that_are_out_of_order_survive_a_death_too() {
    for lived_ms in [3_300, 7_130, 12_020, 31_415] {
        check_one_death(lived_ms, |camera| Publisher { b_frames: 2, key_every: 40, ..camera });
    }
}

#[test]
fn what_the_lists_left_out_before_a_death_stays_out() {
    let mut world = World::new(Room::new(config()).journalled());
    join(&mut world, (1, 2), 0);
    world.run_ms(5_000);
    let nobody = Selection::Only(std::collections::BTreeSet::new());
    world.room.input(Input::Order(Order::Subscription(Subscription { video: nobody, ..Subscription::default() })));
    world.run_ms(2_000);
    world.room.input(Input::Order(Order::Subscription(Subscription::default())));
    world.run_ms(2_000);
    let before = world.room.session.manifest().tracks[0].unsubscribed.clone();
    let mut world = kill(world, 1_000_000);
    join(&mut world, (3, 4), 0);
    world.run_ms(6_000);
    stop(&mut world);
    let pictures = of_camera(&world, 1);
    assert!(pictures.windows(2).all(|pair| pair[0] < pair[1]), "each once, in order");
    assert!(pictures.iter().all(|n| !(127..173).contains(n)), "{pictures:?}");
    assert!([0, 120, 180, 220].iter().all(|n| pictures.contains(n)), "{pictures:?}");
    let tracks = &world.room.session.manifest().tracks;
    assert_eq!((before.len(), &tracks[0].unsubscribed), (1, &before));
    check_books(world.room.session.manifest(), 4);
}

#[test]
fn what_a_journal_that_was_cut_short_lacks_is_a_hole_in_the_books() {
    let mut world = World::new(Room::new(config()).journalled());
    join(&mut world, (1, 2), 0);
    world.run_ms(16_000);
    let saved = world.room.session.manifest().ledger.kept().last().map(|e| e.start.0 + e.duration90k).expect("segments");
    world.room.journal.as_mut().expect("a journal").keep_newest(1);
    let mut world = kill(world, 1_000_000);
    join(&mut world, (3, 4), 0);
    world.run_ms(6_000);
    stop(&mut world);
    let manifest = world.room.session.manifest();
    let hole = manifest.gaps.iter().find(|gap| gap.playlist.as_deref() == Some(AV)).expect("a hole");
    assert_eq!((hole.reason, hole.start.0), (GapReason::RecorderRestarted, saved));
    // Where it goes on again, where a key frame ends what stood in for pictures, where she came back.
    assert!((2..=3).contains(&world.room.playlists[AV].matches("#EXT-X-DISCONTINUITY").count()), "{}", world.room.playlists[AV]);
    check_sound(&world, 2);
    check_books(manifest, 4);
}

#[test]
fn the_journal_of_what_is_transcoded_reaches_back_half_a_minute() {
    let mut world = World::new(Room::new(config()).journalled());
    join_with(&mut world, (1, 2), |camera| Publisher { rotation: 90, key_every: u32::MAX, ..camera });
    world.run_ms(100_000);
    let asked = world.room.log.matches("RequestKeyframe").count();
    assert!((3..=5).contains(&asked), "asked {asked} times in 100 s");
    let forgotten = world.room.journal.as_ref().map_or(0, |journal| journal.forgotten);
    assert!(forgotten >= 27, "{forgotten} of 50 files of 2 s");
}

#[test]
fn a_journal_is_forgotten_as_segments_are_finished() {
    let mut world = World::new(Room::new(config()).journalled());
    join(&mut world, (1, 2), 0);
    world.run_ms(60_000);
    let forgotten = world.room.journal.as_ref().map_or(0, |journal| journal.forgotten);
    assert!(forgotten >= 22, "{forgotten} of 30 files: segments of 4 s, a line of 3 s and files of 2 s leave some 12 s");
}

/// A camera in the place of one that is withdrawn late: the process that comes back decides the same, wherever its journal begins.
#[test]
fn a_camera_that_was_handed_over_before_a_death_is_in_the_same_playlist() {
    for died_after_ms in [100, 2_500, 3_500, 9_000, 30_000] {
        let mut world = World::new(Room::new(config()).journalled());
        join(&mut world, (1, 2), 0);
        world.run_ms(6_000);
        world.stop_sending(1);
        let second = Publisher { frame: 30_000, ..Publisher::camera(3, world.room.now) };
        world.room.publish(&second, ParticipantKey(1), Codec::H264);
        world.add(second);
        world.run_ms(800);
        world.room.input(Input::Unpublished { track: TrackKey(1) });
        world.run_ms(died_after_ms);
        let mut world = kill(world, 1_000_000);
        join(&mut world, (5, 6), 0);
        world.run_ms(6_000);
        stop(&mut world);
        assert_eq!(world.room.playlists.keys().collect::<Vec<_>>(), [AV], "died after {died_after_ms} ms");
        for (track, least) in [(1, 149), (3, (800 + died_after_ms as u32 - 30) / 40)] {
            let pictures = of_camera(&world, track);
            assert_eq!(pictures, (0..pictures.len() as u32).collect::<Vec<_>>(), "died after {died_after_ms} ms");
            assert!(pictures.len() as u32 >= least, "died after {died_after_ms} ms: {} of {least}", pictures.len());
        }
        check_books(world.room.session.manifest(), 4);
    }
}

#[test]
fn dying_again_and_again_keeps_what_came_between() {
    let mut world = World::new(Room::new(config()).journalled());
    let mut cameras = Vec::new();
    for life in 0..5 {
        let track = life * 2 + 1;
        join(&mut world, (track, track + 1), 0);
        world.run_ms(1_700 + u64::from(life) * 1_100);
        world = kill(world, 400_000);
        cameras.push(track);
    }
    join(&mut world, (11, 12), 0);
    world.run_ms(6_000);
    stop(&mut world);
    let manifest = world.room.session.manifest();
    check_books(manifest, 4);
    assert_eq!((manifest.tracks.len(), manifest.participants[0].stays.len()), (12, 6));
    assert_eq!(world.room.playlists[AV].matches("#EXT-X-DISCONTINUITY").count(), 5);
    check_sound(&world, 5);
    for (life, track) in cameras.into_iter().enumerate() {
        let record = &manifest.tracks[life * 2];
        let pictures = of_camera(&world, track);
        let received = (1_700 + life as u32 * 1_100 - 30) / 40;
        assert_eq!(pictures, (0..pictures.len() as u32).collect::<Vec<_>>(), "life {life}");
        assert!(pictures.len() as u32 >= received, "life {life}: {} of {received}", pictures.len());
        assert_eq!((record.received_units, record.written_units), (pictures.len() as u64, pictures.len() as u64), "life {life}");
    }
    let gaps = &manifest.gaps;
    assert_eq!(gaps.iter().filter(|g| g.reason == GapReason::RecorderRestarted).count(), 5, "{gaps:?}");
    assert!(gaps.iter().all(|gap| gap.duration90k < 90_000), "{gaps:?}");
}

/// A process that died before the first media; the next one records, and dies too. Both had the microphone published when time began;
/// the first one's was there when the journal that is left begins, or was withdrawn.
fn check_before_the_first_media(withdrawn: bool) {
    let mut world = World::new(Room::new(config()).journalled());
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    world.room.publish(&Publisher::microphone(1, world.room.now), ann, Codec::Opus);
    if withdrawn {
        world.room.input(Input::Unpublished { track: TrackKey(1) });
    }
    world.run_ms(2_500);
    world.room.join(2, "bob"); // begins a file of the journal
    let mut world = kill(world, 100);
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let microphone = Publisher::microphone(2, world.room.now);
    world.room.publish(&microphone, ann, Codec::Opus);
    world.add(microphone);
    world.run_ms(7_500);
    assert_eq!(world.room.journal.as_ref().map(|journal| journal.forgotten), Some(1), "it begins before the first death");
    let mut world = kill(world, 100);
    stop(&mut world);
    let tracks = &world.room.session.manifest().tracks;
    let counts: Vec<_> = tracks.iter().map(|track| (track.packets > 0, track.packets == track.received_units, track.end)).collect();
    let ended = tracks[1].end.filter(|end| end.0 > 6 * 90_000);
    assert_eq!(counts, [(false, true, Some(MediaTime(0))), (true, true, ended)], "{tracks:?}");
}

#[test]
fn what_was_published_before_the_first_media_is_told_from_what_brought_it() {
    check_before_the_first_media(false);
    check_before_the_first_media(true);
}

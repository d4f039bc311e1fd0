//! Pictures that do not pass untouched: what a recording holds when some of it is transcoded, late, badly, or not at all.

#[allow(unreachable_pub, missing_debug_implementations, dead_code)] // shared: every test file uses its own part
mod support;

use recorder_media::*;
use support::reader::{self, read};
use support::*;

const AV: &str = "rec_room__uid_s_ann__uid_e_av.m3u8";

/// Ann with a camera (track 1) that lies on its side by `rotation`, and a microphone (track 2).
fn ann(rotation: u16) -> World {
    let mut world = World::new(Room::new(config()));
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let start = world.room.now;
    let (camera, microphone) = (Publisher { rotation, ..Publisher::camera(1, start) }, Publisher::microphone(2, start));
    world.room.publish(&camera, ann, Codec::H264);
    world.room.publish(&microphone, ann, Codec::Opus);
    world.add(camera);
    world.add(microphone);
    world
}

/// As [`ann`], with a camera in VP8.
fn ann_in_vp8() -> World {
    let mut world = World::new(Room::new(config()));
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let start = world.room.now;
    let (camera, microphone) = (Publisher { codec: Codec::Vp8, ..Publisher::camera(1, start) }, Publisher::microphone(2, start));
    world.room.publish(&camera, ann, Codec::Vp8);
    world.room.publish(&microphone, ann, Codec::Opus);
    world.add(camera);
    world.add(microphone);
    world
}

fn stop(world: &mut World) {
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    world.run_ms(5_000);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
}

fn turn(world: &mut World, rotation: u16) -> u32 {
    let camera = world.publishers.get_mut(&1).expect("it is sending");
    camera.rotation = rotation;
    camera.frame
}

fn numbers(read: &reader::Read) -> Vec<u32> {
    read.pictures().iter().filter_map(|p| p.1).collect()
}

/// Number of the first picture of each segment.
fn firsts(read: &reader::Read) -> Vec<u32> {
    let pictures = read.pictures();
    let begins = |n: &usize| *n == 0 || pictures[*n].3 > pictures[*n - 1].3;
    (0..pictures.len()).filter(begins).filter_map(|n| pictures[n].1).collect()
}

fn transcoded(world: &World) -> Vec<(bool, u16, bool)> {
    let ops = world.room.transcoder.ops.iter();
    ops.filter_map(|(_, op)| match op {
        VideoOp::Transcode { key, rotation, force_key, .. } => Some((*key, *rotation, *force_key)),
        VideoOp::Compose { .. } | VideoOp::Finish => None,
    })
    .collect()
}

#[test]
fn every_picture_that_is_transcoded_is_in_the_file_once_in_order_and_at_its_time() {
    let mut world = ann(90);
    world.run_ms(21_000);
    stop(&mut world);
    let read = read(&world.room.data(0));
    let numbers = numbers(&read);
    assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>());
    assert!(numbers.len() >= 524, "{} of 525", numbers.len());
    assert!(read.pictures().windows(2).all(|w| (w[1].0 - w[0].0 - 3600).abs() <= 2), "40 ms apart, as they were taken");
    assert!((read.pictures()[0].0 - read.sounds()[0].0).abs() <= 1800, "sound and picture were captured together");
    let track = &world.room.session.manifest().tracks[0];
    assert_eq!((track.received_units, track.written_units), (numbers.len() as u64, numbers.len() as u64));
    assert_eq!(track.transcoded, Some(TranscodeReason::Rotation));
    assert!(world.room.session.manifest().gaps.is_empty());
    assert!(world.room.session.report().degraded.is_empty(), "that is no fault");
}

#[test]
fn our_own_encoder_cuts_exactly_and_publishers_are_not_asked() {
    let mut world = ann(90);
    let camera = world.publishers.get_mut(&1).expect("it is sending");
    camera.key_every = u32::MAX;
    world.run_ms(20_500);
    let asked = world.room.log.matches("RequestKeyframe").count();
    stop(&mut world);
    assert_eq!(firsts(&read(&world.room.data(0))), vec![0, 100, 200, 300, 400, 500], "a segment every 4 s, each from its key frame");
    assert!(world.room.session.manifest().ledger.iter().all(|e| e.independent && !e.discontinuity));
    assert!(asked <= 1, "asked {asked} times: at most before the first key frame");
}

#[test]
fn what_is_turned_becomes_upright_at_the_next_key_frame_and_passes_again_from_another() {
    let mut world = ann(0);
    world.publishers.get_mut(&1).expect("it is sending").key_every = u32::MAX;
    world.run_ms(6_100);
    let turned = turn(&mut world, 270);
    world.run_ms(6_100);
    let upright = turn(&mut world, 0);
    world.run_ms(6_100);
    stop(&mut world);
    let read = read(&world.room.data(0));
    let numbers = numbers(&read);
    assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>(), "none is missing, none twice");
    let (ops, firsts) = (transcoded(&world), firsts(&read));
    // The publisher is asked for a key frame as soon as a turned picture arrives; until it comes pictures stay what they were.
    let begin = *firsts.iter().find(|n| **n >= turned).expect("a segment of turned pictures");
    let after: Vec<u32> = firsts.iter().copied().filter(|n| *n >= upright).collect();
    assert_eq!(after[0], upright, "another size at once");
    let end = after[1];
    assert!(begin - turned <= 10 && end - upright <= 10, "{turned} {begin} {upright} {end}");
    assert_eq!(ops.len() as u32, end - begin);
    assert_eq!(ops[0], (true, 270, true));
    assert_eq!(ops.last(), Some(&(false, 0, false)), "transcoded upright until the key frame came");
    assert_eq!(world.room.playlists[AV].matches("DISCONTINUITY").count(), 3);
    assert_eq!(world.room.transcoder.running(), 0, "decoder and encoder go when nothing needs them");
    assert!(world.room.session.manifest().gaps.is_empty());
}

#[test]
fn a_turn_within_what_is_transcoded_keeps_or_changes_the_size() {
    let mut world = ann(90);
    world.run_ms(3_000);
    turn(&mut world, 270);
    world.run_ms(2_500);
    let changed = turn(&mut world, 180);
    world.run_ms(4_000);
    stop(&mut world);
    let read = read(&world.room.data(0));
    assert_eq!(world.room.playlists[AV].matches("DISCONTINUITY").count(), 1, "only the change of size");
    let first = firsts(&read).into_iter().find(|n| *n >= changed).expect("a segment of the other size");
    assert_eq!(first, changed, "at once: the decoder goes on, the encoder is new");
}

#[test]
fn speech_goes_on_before_a_camera_that_is_slow_to_encode() {
    let mut world = ann(90);
    world.room.transcoder.least_us = 60_000; // 25 pictures a second take 1.5 s
    world.run_ms(12_000);
    stop_slowly(&mut world);
    let read = read(&world.room.data(0));
    let numbers = numbers(&read);
    assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>());
    assert!(numbers.len() >= 299, "all of 300, though the last came 6 s late: {}", numbers.len());
    assert!(read.sounds().windows(2).all(|w| w[1].0 - w[0].0 == 1920), "sound without a hole");
    assert!(world.room.session.manifest().gaps.is_empty());
}

fn stop_slowly(world: &mut World) {
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    world.run_ms(70_000);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
}

#[test]
fn an_encoder_that_is_far_too_slow_leaves_pictures_out_says_so_and_recovers() {
    let mut world = ann(90);
    world.room.transcoder.least_us = 120_000; // three times too slow
    world.run_ms(110_000);
    let degraded = world.room.session.report().degraded;
    assert_eq!(degraded, vec![Degradation::Overloaded]);
    world.room.transcoder.least_us = 5_000;
    world.run_ms(40_000);
    assert!(world.room.session.report().degraded.is_empty());
    stop(&mut world);
    let read = read(&world.room.data(0));
    let pictures = read.pictures();
    let ours: Vec<u32> = numbers(&read);
    assert!(ours.windows(2).all(|w| w[0] < w[1]), "none twice, none out of order");
    let manifest = world.room.session.manifest();
    let gaps: Vec<&Gap> = manifest.gaps.iter().filter(|g| g.reason == GapReason::Overloaded).collect();
    assert!(!gaps.is_empty());
    for gap in gaps {
        let first = pictures[0].0;
        let (from, to) = (gap.start.0 + first, gap.start.0 + gap.duration90k + first);
        let within = pictures.iter().filter(|p| p.1.is_some() && p.0 > from && p.0 < to).count();
        assert_eq!(within, 0, "a gap holds no picture");
        assert!(pictures.iter().any(|p| p.0 == to && p.2), "and ends with a key frame");
    }
    let track = &manifest.tracks[0];
    assert_eq!(track.written_units, ours.len() as u64);
    assert!(track.received_units > track.written_units, "received and left out");
    assert!(manifest.ledger.iter().all(|e| e.duration90k <= 18 * 90_000), "no segment over the hard limit");
    assert!(read.sounds().windows(2).all(|w| w[1].0 - w[0].0 == 1920), "sound is never left out");
}

#[test]
fn the_end_waits_for_the_encoder_but_not_for_ever() {
    let mut world = ann(90);
    world.run_ms(8_000);
    world.room.transcoder.least_us = 3_600_000_000;
    world.run_ms(2_000);
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    world.run_ms(29_000);
    assert_eq!(world.room.finished, None, "half of the drain time-out belongs to the encoder");
    world.run_ms(3_000);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
    let manifest = world.room.session.manifest();
    let gap = manifest.gaps.last().expect("what is missing is said");
    assert_eq!(gap.reason, GapReason::Overloaded);
    let end = manifest.ledger.iter().map(|e| e.start.0 + e.duration90k).max();
    assert_eq!(Some(gap.start.0 + gap.duration90k), end, "from the last picture to the end");
    let read = read(&world.room.data(0));
    let track = &manifest.tracks[0];
    assert_eq!(track.written_units, numbers(&read).len() as u64);
    assert!(world.room.playlists[AV].ends_with("#EXT-X-ENDLIST\n"));
    assert!(read.sounds().last().map(|s| s.0) > read.pictures().last().map(|p| p.0 + 90_000), "sound is there to the end");
}

#[test]
fn an_interrupted_recorder_waits_five_seconds_and_the_next_begins_with_a_key_frame() {
    let mut world = ann(90);
    world.run_ms(8_000);
    world.room.transcoder.least_us = 3_600_000_000;
    world.run_ms(2_000);
    world.room.input(Input::Order(Order::Stop(StopReason::Interrupted)));
    world.room.run_ms(6_000);
    assert_eq!(world.room.finished, Some(Outcome::Interrupted));
    let manifest = world.room.session.manifest().clone();
    let (old, before) = (world.room.data(0), world.room.playlists[AV].clone());
    let resume = Some(Resume { manifest, replay: None });
    let room = Room::at(Config { attempt: 2, resume, ..config() }, Tick(5), WallMicros(WALL.0 + 21_000_000));
    let mut world = World::new(room);
    world.room.playlists.insert(AV.into(), before);
    world.room.input(Input::Connected);
    let ann = world.room.join(7, "ann");
    let camera = Publisher { rotation: 90, ..Publisher::camera(1, world.room.now) };
    world.room.publish(&camera, ann, Codec::H264);
    world.add(camera);
    world.run_ms(9_000);
    stop(&mut world);
    let mut all = old.clone();
    all.extend(world.room.data(0));
    let resumed = read(&all).pictures().into_iter().find(|p| p.3 == old.len() && p.1.is_some()).expect("pictures after the restart");
    assert!(resumed.2, "a key frame first");
}

#[test]
fn answers_after_the_end_are_of_no_consequence() {
    let mut world = ann(90);
    world.run_ms(8_000);
    world.room.transcoder.least_us = 60_000_000;
    world.run_ms(1_000);
    world.room.input(Input::Order(Order::Cancel));
    world.run_ms(10_000);
    assert_eq!(world.room.finished, Some(Outcome::Cancelled));
    let manifest = world.room.session.manifest().clone();
    world.run_ms(300_000);
    assert_eq!(*world.room.session.manifest(), manifest);
}

#[test]
fn what_cannot_be_decoded_is_a_gap_until_the_publisher_sent_a_key_frame() {
    let mut world = ann(90);
    world.publishers.get_mut(&1).expect("it is sending").key_every = u32::MAX;
    world.run_ms(8_000);
    let asked = world.room.log.matches("RequestKeyframe").count();
    world.room.transcoder.undecodable = 100;
    world.run_ms(100);
    world.room.transcoder.undecodable = 0;
    world.run_ms(8_000);
    stop(&mut world);
    assert!(world.room.log.matches("RequestKeyframe").count() > asked, "the publisher was asked");
    let read = read(&world.room.data(0));
    let pictures = read.pictures();
    let jump = pictures.windows(2).find(|w| w[1].1 != w[0].1.map(|n| n + 1)).expect("a hole");
    let gap = &world.room.session.manifest().gaps[0];
    assert_eq!((gap.reason, gap.playlist.as_deref()), (GapReason::Undecodable, Some(AV)));
    assert_eq!(gap.duration90k, jump[1].0 - jump[0].0);
    let track = &world.room.session.manifest().tracks[0];
    assert_eq!(track.written_units, numbers(&read).len() as u64);
    assert!(track.written_units < track.received_units);
}

#[test]
fn a_leaver_who_comes_back_before_the_encoder_is_done_follows_himself() {
    let mut world = ann(90);
    world.run_ms(9_000);
    world.room.transcoder.least_us = 90_000;
    world.run_ms(9_000);
    world.stop_sending(1);
    world.stop_sending(2);
    world.room.input(Input::Left { participant: ParticipantKey(1) });
    world.run_ms(3_500);
    let ann = world.room.join(1, "ann");
    let camera = Publisher { rotation: 90, frame: 5_000, ..Publisher::camera(3, world.room.now) };
    world.room.publish(&camera, ann, Codec::H264);
    world.add(camera);
    world.run_ms(6_000);
    world.room.transcoder.least_us = 1_000;
    world.run_ms(4_000);
    stop(&mut world);
    let numbers = numbers(&read(&world.room.data(0)));
    let split = numbers.iter().position(|n| *n >= 5_000).expect("the second stay");
    assert!(numbers[..split].windows(2).all(|w| w[1] == w[0] + 1) && numbers[split..].windows(2).all(|w| w[1] == w[0] + 1));
    assert_eq!(numbers[split], 5_000);
    assert_eq!(world.room.playlists[AV].matches("DISCONTINUITY").count(), 1);
    let tracks = &world.room.session.manifest().tracks;
    assert_eq!(tracks.iter().map(|t| t.written_units).sum::<u64>() - tracks[1].written_units, numbers.len() as u64);
    assert!(world.room.session.manifest().gaps.is_empty(), "{:?}", world.room.session.manifest().gaps);
}

#[test]
fn vp8_is_transcoded_and_a_change_of_layer_begins_a_segment() {
    let mut world = ann_in_vp8();
    world.publishers.get_mut(&1).expect("it is sending").key_every = u32::MAX;
    world.run_ms(6_000);
    let mut camera = world.stop_sending(1);
    (camera.size, camera.force_key) = ((320, 180), true);
    let change = camera.frame;
    world.add(camera);
    world.run_ms(6_000);
    let asked = world.room.log.matches("RequestKeyframe").count();
    stop(&mut world);
    assert!(asked <= 1, "asked {asked} times: at most before the first key frame");
    let read = read(&world.room.data(0));
    let numbers = numbers(&read);
    assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>());
    assert!(firsts(&read).contains(&change), "{:?}", firsts(&read));
    assert_eq!(world.room.playlists[AV].matches("DISCONTINUITY").count(), 1);
    let track = &world.room.session.manifest().tracks[0];
    assert_eq!((track.codec, track.transcoded, track.recorded), (Codec::Vp8, Some(TranscodeReason::Codec), true));
    assert_eq!((track.received_units, track.written_units), (numbers.len() as u64, numbers.len() as u64));
    assert!(world.room.session.report().degraded.is_empty());
}

#[test]
fn a_loss_in_vp8_is_a_gap_until_the_key_frame_that_was_asked_for() {
    let mut world = ann_in_vp8();
    world.publishers.get_mut(&1).expect("it is sending").key_every = u32::MAX;
    world.run_ms(5_000);
    world.network.lost = 100;
    world.run_ms(40);
    world.network.lost = 0;
    world.run_ms(6_000);
    stop(&mut world);
    let pictures = read(&world.room.data(0)).pictures();
    let jump = pictures.windows(2).find(|w| w[1].1 != w[0].1.map(|n| n + 1)).expect("a hole");
    assert!(jump[1].2, "a key frame ends it");
    let gap = &world.room.session.manifest().gaps[0];
    assert_eq!((gap.reason, gap.duration90k), (GapReason::PacketLoss, jump[1].0 - jump[0].0));
}

#[test]
fn a_muted_vp8_camera_holds_then_black_then_comes_back() {
    let mut world = ann_in_vp8();
    world.run_ms(10_000);
    let camera = world.stop_sending(1);
    world.room.input(Input::Muted { track: TrackKey(1) });
    world.run_ms(10_000);
    world.room.input(Input::Unmuted { track: TrackKey(1) });
    world.add(Publisher { next: world.room.now, force_key: true, ..camera });
    world.run_ms(5_000);
    stop(&mut world);
    let pictures = read(&world.room.data(0)).pictures();
    let off = pictures.iter().position(|p| p.1.is_none()).expect("black came");
    let on = off + pictures[off..].iter().position(|p| p.1.is_some()).expect("the camera came back");
    assert!((pictures[off].0 - pictures[off - 1].0 - 315_000).abs() < 9000 && on - off == 7);
    assert!(pictures[on].2 && pictures[on].3 > pictures[on - 1].3, "with a key frame and a segment of its own");
    assert!(world.room.session.manifest().gaps.is_empty());
}

#[test]
fn a_screen_share_in_vp8_with_its_sound_is_a_playlist_of_its_own() {
    let mut world = ann_in_vp8();
    let screen = Publisher { codec: Codec::Vp8, source: Source::ScreenShare, ..Publisher::camera(3, world.room.now) };
    let sound = Publisher { source: Source::ScreenShareAudio, ..Publisher::microphone(4, world.room.now) };
    world.room.publish(&screen, ParticipantKey(1), Codec::Vp8);
    world.room.publish(&sound, ParticipantKey(1), Codec::Opus);
    world.add(screen);
    world.add(sound);
    world.run_ms(10_000);
    stop(&mut world);
    let names: Vec<&str> = world.room.playlists.keys().map(String::as_str).collect();
    assert_eq!(names, ["av", "screen"].map(|kind| format!("rec_room__uid_s_ann__uid_e_{kind}.m3u8")));
    for playlist in 0..2 {
        let read = read(&world.room.data(playlist));
        let numbers = numbers(&read);
        assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>());
        assert!(numbers.len() >= 249 && read.sounds().len() > 450, "{} {}", numbers.len(), read.sounds().len());
    }
}

#[test]
fn another_codec_by_the_same_person_begins_a_segment() {
    let mut world = ann_in_vp8();
    world.run_ms(5_000);
    world.stop_sending(1);
    world.room.input(Input::Unpublished { track: TrackKey(1) });
    let camera = Publisher { frame: 5_000, ..Publisher::camera(3, world.room.now) };
    world.room.publish(&camera, ParticipantKey(1), Codec::H264);
    world.add(camera);
    world.run_ms(5_000);
    stop(&mut world);
    let read = read(&world.room.data(0));
    assert!(firsts(&read).contains(&5_000));
    assert_eq!(world.room.playlists[AV].matches("DISCONTINUITY").count(), 1);
    assert_eq!(world.room.transcoder.running(), 0, "H.264 needs none");
    let tracks = &world.room.session.manifest().tracks;
    assert_eq!((tracks[0].transcoded, tracks[2].transcoded), (Some(TranscodeReason::Codec), None));
}

//! One fault, one test: what a recording holds is read back from the transport stream that came out.

#[allow(unreachable_pub, missing_debug_implementations, dead_code)] // shared: every test file uses its own part
mod support;

use recorder_media::*;
use support::reader::{self, read};
use support::*;

/// 6.5 ms: what was heard with a picture comes out of libopus that much later (RFC 6716 section 2).
const OPUS_DELAY_90K: i64 = 585;
const AV: &str = "rec_room__uid_s_ann__uid_e_av.m3u8";

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

fn stop(world: &mut World) {
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    world.run_ms(5_000);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
}

#[test]
fn every_picture_and_sound_is_in_the_file_once_and_in_order() {
    let mut world = ann(config());
    world.run_ms(21_000);
    stop(&mut world);
    let read = read(&world.room.data(0));
    let numbers: Vec<u32> = read.pictures().iter().filter_map(|p| p.1).collect();
    let want: Vec<u32> = (0..numbers.len() as u32).collect();
    assert_eq!(numbers, want);
    assert!(numbers.len() >= 524, "{} of 525", numbers.len());
    let decoded = world.room.audio_ops.iter().filter(|(_, op)| matches!(op, AudioOp::Decode { .. })).count();
    assert!(decoded >= 1048, "{decoded} of 1050 packets");
    assert_eq!(read.sounds()[0].0, 900_000, "first PTS 10 s");
    println!("{}", world.room.playlists[AV]);
    let offset = read.pictures()[0].0 - read.sounds()[0].0;
    assert_eq!(offset, OPUS_DELAY_90K, "sound and picture were captured together");
}

#[test]
fn pictures_out_of_order_keep_the_time_at_which_they_are_shown() {
    let mut world = ann(config());
    if let Some(camera) = world.publishers.get_mut(&1) {
        (camera.b_frames, camera.key_every) = (2, 61);
    }
    world.run_ms(21_000);
    stop(&mut world);
    let read = read(&world.room.data(0));
    let pictures = read.pictures();
    let numbers: Vec<u32> = pictures.iter().filter_map(|p| p.1).collect();
    assert_eq!(numbers, (0..numbers.len() as u32).collect::<Vec<_>>(), "in decoding order, as they came");
    assert!(numbers.len() >= 522, "{} of 525", numbers.len());
    // 25 pictures a second: two of three are shown an interval before their place, the third two intervals behind it.
    let places: Vec<i64> = (0..).map(|n| pictures[0].0 + n * 3600).take(pictures.len()).collect();
    for (n, (picture, place)) in pictures.iter().zip(&places).enumerate() {
        let after = match (n % 61, n % 61 % 3) {
            (0, _) => 0,
            (_, 1) => 2,
            _ => -1,
        };
        assert!((picture.0 - place - after * 3600).abs() <= 90, "picture {n} is shown at {}, place {place}", picture.0);
    }
    let decoded: Vec<i64> = read.of(reader::VIDEO).map(|pes| pes.dts).collect();
    let steps: Vec<i64> = decoded.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps[1..].iter().all(|step| (step - 3600).abs() <= 90), "a constant delay: {steps:?}");
    let keys: Vec<(u32, usize)> = pictures.iter().filter(|p| p.2).filter_map(|p| Some((p.1?, p.3))).collect();
    assert!(keys.len() == 9 && keys.iter().all(|(n, _)| n % 61 == 0), "{keys:?}");
    assert!(read.sounds().windows(2).all(|pair| pair[1].0 > pair[0].0));
}

fn blacks(read: &reader::Read) -> Vec<i64> {
    read.pictures().iter().filter(|p| p.1.is_none()).map(|p| p.0).collect()
}

#[test]
fn speech_before_the_camera_is_in_the_file_and_black_stands_in() {
    let mut world = World::new(Room::new(config()));
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let microphone = Publisher::microphone(2, world.room.now);
    world.room.publish(&microphone, ann, Codec::Opus);
    world.add(microphone);
    world.run_ms(7_900);
    let camera = Publisher::camera(1, world.room.now);
    world.room.publish(&camera, ann, Codec::H264);
    world.add(camera);
    world.run_ms(12_100);
    stop(&mut world);
    let read = read(&world.room.data(0));
    let black = blacks(&read);
    assert_eq!(black, (0..8).map(|n| 900_000 + n * 90_000).collect::<Vec<_>>());
    let first = read.pictures().iter().find(|p| p.1.is_some()).cloned().expect("the camera's first picture");
    assert_eq!(first.1, Some(0));
    assert!((first.0 - 900_000 - 711_000 - OPUS_DELAY_90K).abs() <= 1, "7.9 s after the first sound: {}", first.0);
    let lines: Vec<&str> = world.room.playlists[AV].lines().collect();
    assert_eq!(lines.iter().filter(|l| **l == "#EXT-X-DISCONTINUITY").count(), 1);
    let sounds = read.sounds();
    assert!(sounds.windows(2).all(|w| w[1].0 - w[0].0 == 1920), "sound without a hole");
    assert_eq!(sounds[0], (900_000, 1), "frame 0 is the encoder's priming");
}

#[test]
fn a_camera_that_is_muted_holds_then_black_then_comes_back_with_a_new_segment() {
    let mut world = ann(config());
    world.run_ms(10_000);
    let camera = world.stop_sending(1);
    world.room.input(Input::Muted { track: TrackKey(1) });
    world.run_ms(10_000);
    world.room.input(Input::Unmuted { track: TrackKey(1) });
    world.add(Publisher { next: world.room.now, force_key: true, ..camera });
    world.run_ms(5_000);
    stop(&mut world);
    let read = read(&world.room.data(0));
    let pictures = read.pictures();
    let off = pictures.iter().position(|p| p.1.is_none()).expect("black came");
    let held = pictures[off].0 - pictures[off - 1].0;
    assert!((held - 315_000).abs() < 9000, "the last picture held 3.5 s: {held}");
    assert!(pictures[off].3 > pictures[off - 1].3, "black begins a segment");
    assert_eq!(blacks(&read).len(), 7, "6.5 s of black");
    assert!(pictures[off + 7].3 > pictures[off + 6].3 && pictures[off + 7].2, "and ends with one");
    assert_eq!(world.room.playlists[AV].matches("DISCONTINUITY").count(), 2);
    assert!(world.room.session.manifest().gaps.is_empty(), "a mute is no gap");
}

#[test]
fn livekits_blank_frames_are_not_recorded() {
    let mut world = ann(config());
    world.run_ms(6_000);
    let mut camera = world.stop_sending(1);
    let blank = camera.frame;
    camera.size = (2, 2);
    camera.force_key = true;
    world.add(camera);
    world.run_ms(240);
    let camera = world.stop_sending(1);
    let after = camera.frame;
    world.room.input(Input::Muted { track: TrackKey(1) });
    world.run_ms(8_000);
    world.room.input(Input::Unmuted { track: TrackKey(1) });
    world.add(Publisher { size: (640, 360), force_key: true, next: world.room.now, ..camera });
    world.run_ms(4_000);
    stop(&mut world);
    let numbers: Vec<u32> = read(&world.room.data(0)).pictures().iter().filter_map(|p| p.1).collect();
    assert!(numbers.contains(&(blank - 1)) && numbers.contains(&after), "{numbers:?}");
    assert!((blank..after).all(|n| !numbers.contains(&n)), "{numbers:?}");
    let record = &world.room.session.manifest().tracks[0];
    assert_eq!(record.received_units, record.written_units);
}

#[test]
fn a_new_size_begins_a_segment_with_discontinuity() {
    let mut world = ann(config());
    world.run_ms(6_000);
    let mut camera = world.stop_sending(1);
    (camera.size, camera.force_key) = ((320, 180), true);
    let change = camera.frame;
    world.add(camera);
    world.run_ms(6_000);
    stop(&mut world);
    let pictures = read(&world.room.data(0)).pictures();
    let at = pictures.iter().position(|p| p.1 == Some(change)).expect("the first picture of the new size");
    assert_eq!(pictures[at].3, pictures[at - 1].3 + 1);
    assert_eq!(world.room.playlists[AV].matches("DISCONTINUITY").count(), 1);
}

#[test]
fn reordered_packets_give_the_same_recording() {
    let run = |jitter_us, late| {
        let mut world = ann(config());
        world.network = Network { jitter_us, late, ..Network::clean() };
        world.run_ms(12_000);
        stop(&mut world);
        read(&world.room.data(0)).pictures().iter().filter_map(|p| p.1).collect::<Vec<_>>()
    };
    let (calm, rough) = (run(0, 0), run(25_000, 5));
    // The stop falls between captures and arrivals: the last pictures may be on the wire.
    let both = calm.len().min(rough.len());
    assert!(both > 290);
    assert_eq!(calm[..both], rough[..both]);
}

#[test]
fn after_a_loss_nothing_is_written_until_the_next_key_frame_and_the_hole_is_recorded() {
    let mut world = ann(config());
    world.run_ms(5_000);
    world.network.lost = 100;
    world.run_ms(40);
    world.network.lost = 0;
    world.run_ms(12_000);
    stop(&mut world);
    let read = read(&world.room.data(0));
    let pictures = read.pictures();
    let jump = pictures.windows(2).find(|w| w[1].1 != w[0].1.map(|n| n + 1)).expect("a hole");
    assert!(jump[1].2, "an IDR ends it");
    let gap = &world.room.session.manifest().gaps[0];
    assert_eq!((gap.reason, gap.playlist.as_deref()), (GapReason::PacketLoss, Some(AV)));
    assert_eq!(gap.duration90k, jump[1].0 - jump[0].0);
    assert!(world.room.session.manifest().tracks[0].lost >= 3);
    let ops = &world.room.audio_ops;
    assert!(ops.iter().any(|(_, op)| matches!(op, AudioOp::Recover { .. })), "the sound was recovered from the next packet");
}

/// SFUs resend a packet a few times and then no more (LiveKit three times), and nothing says so.
#[test]
fn a_packet_that_is_not_resent_costs_less_than_a_second_and_one_key_frame() {
    let run = |lost: u64| {
        let mut world = ann(config());
        world.run_ms(5_000);
        world.network.lost = lost;
        world.run_ms(40);
        world.network.lost = 0;
        world.run_ms(4_000);
        let asked = world.room.log.matches("RequestKeyframe").count();
        stop(&mut world);
        (asked, read(&world.room.data(0)).pictures())
    };
    let ((calm, _), (rough, pictures)) = (run(0), run(100));
    let jump = pictures.windows(2).find(|w| w[1].1 != w[0].1.map(|n| n + 1)).expect("a hole");
    assert!(jump[1].2 && jump[1].0 - jump[0].0 < 90_000, "{jump:?}");
    assert_eq!(rough, calm + 1, "the key frame behind the hole is enough");
}

#[test]
fn what_is_resent_in_time_costs_no_key_frame() {
    let run = |late: u64| {
        let mut world = ann(config());
        world.network.late = late;
        world.run_ms(14_000);
        world.room.log.matches("RequestKeyframe").count()
    };
    assert_eq!(run(10), run(0));
}

#[test]
fn a_stop_drains_the_line_and_cuts_no_end_off() {
    let mut world = ann(config());
    world.run_ms(7_000);
    let sent = world.sent[&1].len() as u32;
    stop(&mut world);
    let numbers: Vec<u32> = read(&world.room.data(0)).pictures().iter().filter_map(|p| p.1).collect();
    // 30 ms of network: at most one picture was still on the wire.
    assert!(numbers.last().copied() >= Some(sent - 2), "{:?} of {sent}", numbers.last());
    assert!(world.room.playlists[AV].ends_with("#EXT-X-ENDLIST\n"));
    let record = &world.room.session.manifest().playlists[0];
    assert!(record.stored && record.ended);
}

#[test]
fn an_interrupted_recording_goes_on_in_the_same_playlist() {
    let mut world = ann(config());
    world.run_ms(9_000);
    world.room.input(Input::Order(Order::Stop(StopReason::Interrupted)));
    assert_eq!(world.room.session.report().state, State::Interrupted);
    world.room.run_ms(500);
    assert_eq!(world.room.finished, Some(Outcome::Interrupted));
    assert_eq!(world.room.session.report().state, State::Interrupted, "what goes on has not finished");
    let before = world.room.playlists[AV].clone();
    assert!(!before.contains("ENDLIST"));
    let manifest = world.room.session.manifest().clone();
    let old = world.room.data(0);
    let resume = Some(Resume { manifest, replay: None });
    let room = Room::at(Config { attempt: 2, resume, ..config() }, Tick(5), WallMicros(WALL.0 + 21_000_000));
    let mut world = World::new(room);
    world.room.playlists.insert(AV.into(), before);
    world.room.input(Input::Connected);
    let ann = world.room.join(7, "ann");
    let (camera, microphone) = (Publisher::camera(1, world.room.now), Publisher::microphone(2, world.room.now));
    world.room.publish(&camera, ann, Codec::H264);
    world.room.publish(&microphone, ann, Codec::Opus);
    world.add(camera);
    world.add(microphone);
    world.run_ms(9_000);
    stop(&mut world);
    let mut all = old.clone();
    all.extend(world.room.data(0));
    let read = read(&all); // continuity counters and timestamps run on
    let resumed = read.pictures().into_iter().find(|p| p.3 == old.len()).expect("pictures after the restart");
    assert!((resumed.0 - 900_000 - 21 * 90_000).abs() < 9000, "at its time by the wall clock: {}", resumed.0);
    assert_eq!(world.room.playlists.len(), 1, "the same playlist object");
    assert_eq!(world.room.playlists[AV].matches("DISCONTINUITY").count(), 1);
    let gaps = &world.room.session.manifest().gaps;
    assert_eq!(gaps.iter().map(|g| g.reason).collect::<Vec<_>>(), vec![GapReason::RecorderRestarted]);
    assert!((gaps[0].duration90k - 12 * 90_000).abs() < 9000, "{gaps:?}");
}

/// Her last seconds are in the line, and in a segment that is not finished, when she leaves; the process dies with its spool.
#[test]
fn what_was_over_but_not_finished_when_a_spool_was_lost_is_a_gap() {
    let mut world = ann(config());
    world.run_ms(9_000);
    world.publishers.clear();
    world.room.input(Input::Left { participant: ParticipantKey(1) });
    let manifest = world.room.session.manifest().clone();
    let left = manifest.tracks[0].end.expect("it is over");
    let finished = manifest.ledger.iter().map(|entry| MediaTime(entry.start.0 + entry.duration90k)).max().expect("segments");
    assert!(left.0 - finished.0 > 2 * 90_000, "{left:?} {finished:?}");
    let resume = Some(Resume { manifest, replay: None });
    let room = Room::at(Config { attempt: 2, resume, ..config() }, Tick(5), WallMicros(WALL.0 + 21_000_000));
    let gaps = &room.session.manifest().gaps;
    let expected = Gap {
        start: finished,
        duration90k: left.0 - finished.0,
        reason: GapReason::RecorderRestarted,
        playlist: Some(AV.into()),
        open: false,
    };
    assert_eq!(*gaps, vec![expected]);
    let resume = Some(Resume { manifest: room.session.manifest().clone(), replay: None });
    let room = Room::at(Config { attempt: 3, resume, ..config() }, Tick(5), WallMicros(WALL.0 + 31_000_000));
    assert_eq!(room.session.manifest().gaps.len(), 1, "said once");
}

/// Ann's camera before a second attempt, which begins at [`WALL`]; the first saw media at `epoch`, and stored none.
fn second_attempt(epoch: WallMicros, config: Config) -> World {
    let mut manifest = ann(support::config()).room.session.manifest().clone();
    manifest.epoch_time = Some(epoch);
    let mut world = World::new(Room::at(Config { attempt: 2, resume: Some(Resume { manifest, replay: None }), ..config }, Tick(0), WALL));
    world.room.input(Input::Connected);
    let ann = world.room.join(7, "ann");
    let camera = Publisher::camera(1, world.room.now);
    world.room.publish(&camera, ann, Codec::H264);
    world.add(camera);
    world
}

/// Timestamps begin at 10 s: nothing may lie further than that before the first media of the process that is gone.
#[test]
fn a_clock_behind_the_epoch_does_not_go_on_before_it() {
    let mut world = second_attempt(WallMicros(WALL.0 + 20_000_000), config());
    world.run_ms(9_000);
    stop(&mut world);
    let first = world.room.session.manifest().ledger.iter().map(|entry| entry.start.0).min();
    assert!(first.is_some_and(|start| (-9_000..9_000).contains(&start)), "{first:?}");
    let data = world.room.data(0);
    assert!(read(&data).pictures().iter().all(|picture| (890_000..1_800_000).contains(&picture.0)), "10 s and up");
}

#[test]
fn nobody_ever_came() {
    let mut room = Room::new(config());
    room.run_ms(60_000);
    assert_eq!(room.finished, None, "idle time runs from Connected");
    room.input(Input::Connected);
    room.run_ms(31_000);
    assert_eq!(room.finished, Some(Outcome::NoRecordedData));
    assert!(room.manifests > 0 && room.segments.is_empty());
}

#[test]
fn an_h265_publisher_alone_is_not_recorded_and_says_so() {
    let mut room = Room::new(config());
    room.input(Input::Connected);
    let participant = room.join(1, "ann");
    let camera = Publisher::camera(1, room.now);
    room.publish(&camera, participant, Codec::H265);
    assert_eq!(room.session.report().degraded, vec![Degradation::CodecNotSupported]);
    room.run_ms(2_000);
    room.input(Input::Left { participant });
    assert!(room.session.report().degraded.is_empty());
    room.run_ms(31_000);
    assert_eq!(room.finished, Some(Outcome::CodecNotSupported));
    assert!(!room.session.manifest().tracks[0].recorded);
}

#[test]
fn idle_ends_with_no_users_and_max_duration_to_the_sample() {
    let mut world = ann(config());
    world.run_ms(5_000);
    world.publishers.clear();
    world.room.input(Input::Left { participant: ParticipantKey(1) });
    world.run_ms(36_000);
    assert_eq!(world.room.finished, Some(Outcome::NoUsers));
    let mut world = ann(Config { max_duration_seconds: Some(9), ..config() });
    world.run_ms(16_000);
    assert_eq!(world.room.finished, Some(Outcome::MaxDurationReached));
    let ledger = &world.room.session.manifest().ledger;
    let end = ledger.kept().last().map_or(0, |e| e.start.0 + e.duration90k);
    assert!((end - 9 * 90_000).abs() <= 1920, "{end}");
}

#[test]
fn storage_that_is_down_delays_the_playlist_and_loses_nothing_when_it_returns() {
    let mut world = ann(config());
    world.room.storage.failing = 100;
    world.run_ms(20_000);
    assert!(world.room.playlists.is_empty());
    assert!(world.room.session.report().degraded.contains(&Degradation::StorageUnavailable));
    assert!(world.room.session.report().backlog90k > 10 * 90_000);
    world.room.storage.failing = 0;
    world.run_ms(32_000);
    stop(&mut world);
    assert!(world.room.segments.values().all(|s| s.stored));
}

#[test]
fn storage_that_stays_down_ends_the_recording_as_failed() {
    let mut world = ann(config());
    world.run_ms(9_000);
    world.room.storage.failing = 100;
    world.run_ms(6_000);
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    world.run_ms(80_000);
    assert_eq!(world.room.finished, Some(Outcome::UploaderFailed));
    let manifest = world.room.session.manifest();
    assert!(manifest.ledger.iter().any(|e| e.lost));
    assert!(manifest.gaps.iter().any(|g| g.reason == GapReason::SegmentLost));
}

#[test]
fn a_newer_attempt_ends_this_one_at_once() {
    let mut world = ann(config());
    world.run_ms(9_000);
    world.room.storage.superseded = true;
    world.run_ms(8_000);
    assert_eq!(world.room.finished, Some(Outcome::Superseded));
    assert_eq!(world.room.session.next_wake(), None);
    assert!(world.room.log.trim_end().ends_with("Finished(Superseded)"));
}

#[test]
fn the_first_segment_waits_for_sender_reports_but_not_for_ever() {
    let mut world = ann(config());
    for publisher in world.publishers.values_mut() {
        publisher.next_report = Tick(u64::MAX);
    }
    world.run_ms(7_500);
    assert!(world.room.segments.is_empty(), "held without a report");
    world.run_ms(1_000);
    assert!(!world.room.segments.is_empty(), "8 s are enough");
}

#[test]
fn sender_reports_and_not_arrival_decide_lip_sync() {
    // The camera's packets come 200 ms after capture, the sound's at once.
    let mut world = World::new(Room::new(config()));
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let start = world.room.now;
    let (mut camera, mut microphone) = (Publisher::camera(1, start), Publisher::microphone(2, start));
    world.room.publish(&camera, ann, Codec::H264);
    world.room.publish(&microphone, ann, Codec::Opus);
    for step in 0..1200u64 {
        let now = start.after(step * 10_000);
        world.room.run_until(now);
        if microphone.next <= now {
            for packet in microphone.produce() {
                world.room.input(Input::Packet { track: TrackKey(2), packet });
            }
        }
        if camera.next.after(200_000) <= now {
            for packet in camera.produce() {
                world.room.input(Input::Packet { track: TrackKey(1), packet });
            }
        }
        if step % 300 == 150 {
            world.room.input(Input::SenderReport { track: TrackKey(1), report: camera.report(now) });
            world.room.input(Input::SenderReport { track: TrackKey(2), report: microphone.report(now) });
        }
    }
    stop(&mut world);
    let read = read(&world.room.data(0));
    let picture = read.pictures().into_iter().find(|p| p.1 == Some(50)).expect("picture 50, captured at 2.000 s").0;
    // Sound 0 is sample 0 of the playlist: captured with picture 0.
    assert!((picture - 900_000 - 180_000 - OPUS_DELAY_90K).abs() <= 90, "{picture}");
}

#[test]
fn a_screen_share_is_its_own_playlist_and_a_second_camera_too() {
    let mut world = ann(config());
    let start = world.room.now;
    let mut screen = Publisher::camera(3, start);
    screen.source = Source::ScreenShare;
    let second = Publisher::camera(4, start);
    world.room.publish(&screen, ParticipantKey(1), Codec::H264);
    world.room.publish(&second, ParticipantKey(1), Codec::H264);
    world.add(screen);
    world.add(second);
    world.run_ms(10_000);
    stop(&mut world);
    let names: Vec<&str> = world.room.playlists.keys().map(String::as_str).collect();
    let base = "rec_room__uid_s_ann__uid_e_";
    assert_eq!(names, vec![format!("{base}av.m3u8"), format!("{base}screen.m3u8"), format!("{base}video2.m3u8")]);
}

/// Servers withdraw late what a publisher has replaced: for a moment there are two cameras.
#[test]
fn a_camera_that_is_there_before_the_last_one_is_withdrawn_goes_on_in_its_playlist() {
    for at_once in [false, true] {
        let mut world = ann(config());
        world.run_ms(6_000);
        if !at_once {
            world.stop_sending(1);
        }
        let second = Publisher::camera(3, world.room.now);
        world.room.publish(&second, ParticipantKey(1), Codec::H264);
        world.add(second);
        world.run_ms(800);
        world.publishers.remove(&1);
        world.room.input(Input::Unpublished { track: TrackKey(1) });
        world.run_ms(8_000);
        stop(&mut world);
        let names: Vec<&str> = world.room.playlists.keys().map(|name| name.rsplit('_').next().expect("a kind")).collect();
        let expected: &[&str] = if at_once { &["av.m3u8", "video2.m3u8"] } else { &["av.m3u8"] };
        assert_eq!(names, expected, "both sent: {at_once}");
        let tracks = &world.room.session.manifest().tracks;
        assert!(tracks.iter().all(|t| t.received_units > 10 && t.written_units == t.received_units), "{tracks:?}");
        check_books(world.room.session.manifest(), 6);
    }
}

#[test]
fn packet_table_golden() {
    let mut world = World::new(Room::new(config()));
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let camera = Publisher { interval_us: 500_000, ..Publisher::camera(1, world.room.now) };
    world.room.publish(&camera, ann, Codec::H264);
    world.add(camera);
    world.run_ms(900);
    stop(&mut world);
    let table = read(&world.room.data(0)).table;
    let golden = include_str!("golden/packets.txt");
    assert_eq!(table.join("\n"), golden.trim_end(), "\n{}", table.join("\n"));
}

#[test]
fn an_interrupted_recorder_does_not_wait_for_storage_that_is_down() {
    let mut world = ann(config());
    world.run_ms(9_000);
    world.room.storage.failing = 100;
    world.room.input(Input::Order(Order::Stop(StopReason::Interrupted)));
    world.room.run_ms(26_000);
    assert_eq!(world.room.finished, Some(Outcome::Interrupted));
    let ledger = &world.room.session.manifest().ledger;
    assert!(ledger.iter().any(|e| !e.stored && !e.lost), "the next attempt stores it");
}

#[test]
fn a_camera_that_sends_nothing_is_asked_then_black_with_a_gap() {
    let mut world = ann(config());
    world.run_ms(8_000);
    let camera = world.stop_sending(1);
    world.run_ms(20_000);
    world.add(Publisher { next: world.room.now, force_key: true, ..camera });
    world.run_ms(6_000);
    stop(&mut world);
    let pictures = read(&world.room.data(0)).pictures();
    let off = pictures.iter().position(|p| p.1.is_none()).expect("black came");
    assert_eq!(pictures[off].0 - pictures[off - 1].0, 900_000, "the last picture held 10 s");
    let gaps = &world.room.session.manifest().gaps;
    assert_eq!(gaps.iter().map(|g| g.reason).collect::<Vec<_>>(), vec![GapReason::NoPicture]);
    assert!(world.room.log.matches("RequestKeyframe").count() >= 16, "asked once a second");
}

#[test]
fn a_full_spool_pauses_and_is_a_gap() {
    let mut world = ann(config());
    world.run_ms(8_000);
    world.room.input(Input::SpoolFull(true));
    world.run_ms(6_000);
    world.room.input(Input::SpoolFull(false));
    world.run_ms(8_000);
    stop(&mut world);
    let read = read(&world.room.data(0));
    let jump = read.sounds().windows(2).map(|w| w[1].0 - w[0].0).max().expect("sounds");
    assert!((jump - 540_000).abs() < 18_000, "{jump}");
    let gaps = &world.room.session.manifest().gaps;
    assert_eq!(gaps.iter().map(|g| (g.reason, g.duration90k)).collect::<Vec<_>>(), vec![(GapReason::DiskFull, 540_000)]);
}

#[test]
fn lost_sound_is_a_gap_however_long_and_a_pause_is_none() {
    let mut world = World::new(Room::new(config()));
    world.room.input(Input::Connected);
    let bob = world.room.join(1, "bob");
    let microphone = Publisher::microphone(1, world.room.now);
    world.room.publish(&microphone, bob, Codec::Opus);
    world.add(microphone);
    world.run_ms(10_000);
    for lost_ms in [150, 900, 6_000] {
        let before = world.room.session.manifest().gaps.len();
        world.network.lost = 100;
        world.run_ms(lost_ms);
        world.network.lost = 0;
        world.run_ms(20_000);
        let gaps = &world.room.session.manifest().gaps[before..];
        assert_eq!(gaps.len(), 1, "{lost_ms} ms: {gaps:?}");
        // A packet is recovered from the next, 60 ms are concealed, and a packet may fall on either edge.
        let stated = gaps[0].duration90k / 90;
        assert!((lost_ms as i64 - 120..=lost_ms as i64 + 20).contains(&stated), "{lost_ms} ms lost, {stated} stated");
        assert_eq!(gaps[0].reason, GapReason::PacketLoss);
    }
    // Muted: the sender pauses, and its sequence numbers go on where they were.
    let before = world.room.session.manifest().gaps.len();
    let mut paused = world.stop_sending(1);
    world.run_ms(5_000);
    paused.next = world.room.now;
    world.add(paused);
    world.run_ms(10_000);
    assert_eq!(world.room.session.manifest().gaps.len(), before);
    stop(&mut world);
}

#[test]
fn a_segment_that_the_disk_lost_is_left_out_at_once() {
    let mut world = ann(config());
    world.room.storage.vanishing = Some((0, 1));
    world.run_ms(30_000);
    let manifest = world.room.session.manifest();
    let lost = manifest.ledger.iter().find(|e| e.lost).expect("a lost segment").clone();
    assert_eq!(lost.n, 1);
    let gap = &manifest.gaps[0];
    assert_eq!((gap.reason, gap.start, gap.duration90k), (GapReason::SegmentLost, lost.start, lost.duration90k));
    let playlist = &world.room.playlists[AV];
    assert!(!playlist.contains(&lost.name) && playlist.matches(".ts").count() >= 2, "it goes on without: {playlist}");
    assert!(playlist.contains("#EXT-X-DISCONTINUITY"), "{playlist}");
    stop(&mut world);
}

#[test]
fn a_microphone_that_is_published_again_at_once_loses_nothing() {
    let mut world = World::new(Room::new(config()));
    world.room.input(Input::Connected);
    let bob = world.room.join(1, "bob");
    for track in 1..=3 {
        let microphone = Publisher::microphone(track, world.room.now);
        world.room.publish(&microphone, bob, Codec::Opus);
        world.add(microphone);
        world.run_ms(1_500);
        world.stop_sending(track);
        world.run_ms(100);
        world.room.input(Input::Unpublished { track: TrackKey(track) });
        world.run_ms(400);
    }
    world.run_ms(20_000);
    for track in &world.room.session.manifest().tracks {
        assert!(track.received_units >= 74 && track.written_units == track.received_units, "{track:?}");
    }
    stop(&mut world);
    let playlist = world.room.playlists.values().next().expect("one playlist");
    assert_eq!(playlist.matches("#EXT-X-DISCONTINUITY").count(), 2, "each return begins a stretch: {playlist}");
}

#[test]
fn of_two_microphones_the_newer_is_heard_from_its_first_sound_on() {
    let mut world = ann(config());
    world.run_ms(5_000);
    let ann = ParticipantKey(1);
    let headset = Publisher::microphone(3, world.room.now);
    world.room.publish(&headset, ann, Codec::Opus);
    world.run_ms(2_000);
    let mut headset = headset;
    headset.next = world.room.now;
    world.add(headset);
    world.run_ms(3_000);
    world.stop_sending(3);
    world.room.input(Input::Unpublished { track: TrackKey(3) });
    world.run_ms(15_000);
    let tracks = &world.room.session.manifest().tracks;
    let (old, new) = (&tracks[1], &tracks[2]);
    assert_eq!(new.written_units, new.received_units, "{new:?}");
    let unheard = old.received_units - old.written_units;
    assert!((145..=155).contains(&unheard), "3 s of the old one were not heard, before and after it was: {old:?}");
    stop(&mut world);
}

/// Devices with a broken clock exist (NTP 0, or of a monotonic clock); one of them must not fill decades with black.
#[test]
fn a_track_whose_reports_are_of_another_age_is_placed_by_its_arrival() {
    for wrong in [0, 3_900_000_000_000_000 - 40_000_000, 3_900_000_000_000_000 + 3_600_000_000] {
        let mut world = ann(config());
        world.publishers.get_mut(&2).expect("the microphone").ntp_offset_us = wrong;
        world.run_ms(21_000);
        stop(&mut world);
        let manifest = world.room.session.manifest();
        check_books(manifest, config().segment_seconds);
        assert!(manifest.ledger.iter().all(|e| e.start.0 >= -45_000 && e.start.0 < 22 * 90_000), "{:?}", manifest.ledger);
        let read = read(&world.room.data(0));
        let (pictures, sounds) = (read.pictures(), read.sounds());
        assert!(pictures.iter().filter_map(|p| p.1).count() >= 500, "{} pictures", pictures.len());
        assert!(sounds.len() >= 900, "{} sounds", sounds.len());
        let offset = pictures[0].0 - sounds[0].0;
        assert!(offset.abs() <= 9000, "by arrival, {offset}");
    }
}

/// Whatever a sender says of its two clocks, what it sends is recorded: the line holds 3 s, and a track that is placed further back than that
/// would be cut away packet by packet, as too late.
#[test]
fn reports_that_put_one_track_behind_the_line_cost_nothing_of_it() {
    for (track, off_us) in [1, 2].into_iter().flat_map(|t| [1_000_000, 2_400_000, 2_900_000, 3_500_000, 9_500_000].map(|us| (t, us))) {
        for off_us in [off_us, -off_us] {
            let mut world = ann(config());
            world.publishers.get_mut(&track).expect("hers").ntp_offset_us += off_us;
            world.run_ms(30_000);
            stop(&mut world);
            let manifest = world.room.session.manifest();
            check_books(manifest, config().segment_seconds);
            for record in &manifest.tracks {
                let (received, written) = (record.received_units, record.written_units);
                assert_eq!(received, written, "track {track} off by {off_us} us: {record:?}");
            }
            assert_eq!(manifest.gaps, []);
            let faults: Vec<ClockFault> = manifest.clock_overrides.iter().map(|o| o.fault).collect();
            assert_eq!(faults, if off_us.abs() > 2_000_000 { vec![ClockFault::Apart] } else { vec![] }, "track {track} off by {off_us} us");
        }
    }
}

#[test]
fn without_sound_the_clock_runs_on_while_a_picture_holds() {
    let mut world = World::new(Room::new(Config { media: MediaKinds::Video, ..config() }));
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let camera = Publisher::camera(1, world.room.now);
    world.room.publish(&camera, ann, Codec::H264);
    world.add(camera);
    world.run_ms(1_500);
    let camera = world.stop_sending(1);
    world.run_ms(2_500);
    world.add(Publisher { next: world.room.now, ..camera });
    world.run_ms(2_000);
    stop(&mut world);
    let segments = world.room.data(0);
    let read = read(&segments); // PCR at most 100 ms apart
    let pause = read.pictures().windows(2).filter(|w| w[0].3 == w[1].3).map(|w| w[1].0 - w[0].0).max();
    assert!(pause.is_some_and(|pause| pause > 2 * 90_000), "the pause lies within a segment: {pause:?}");
}

/// A publisher whose reports suddenly say another time of its pictures: sound of that time is in the file already.
#[test]
fn a_clock_that_steps_back_puts_no_picture_behind_the_sound() {
    for back_us in [600_000, 2_000_000, 5_000_000] {
        let mut world = ann(config());
        world.run_ms(12_000);
        world.publishers.get_mut(&1).expect("the camera").ntp_offset_us -= back_us;
        world.run_ms(60_000);
        stop(&mut world);
        read(&world.room.data(0)); // PCR before every unit
    }
}

/// The limit of a resumed recording lies between two microseconds: at the earlier one it is not reached, and the timer would stand there.
#[test]
fn the_longest_duration_of_a_resumed_recording_ends_it_once() {
    let config = Config { max_duration_seconds: Some(17), ..config() };
    let mut world = second_attempt(WallMicros(WALL.0 - 5_954_955), config);
    world.run_ms(20_000);
    assert_eq!(world.room.finished, Some(Outcome::MaxDurationReached));
}

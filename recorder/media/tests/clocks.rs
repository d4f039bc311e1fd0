//! Clocks that go wrong: one fault, one test.

#[allow(unreachable_pub, missing_debug_implementations, dead_code)] // shared: every test file uses its own part
mod support;

use recorder_media::*;
use support::*;

const CAMERA: u32 = 1;
const MICROPHONE: u32 = 2;
/// One picture at 30 a second.
const FRAME_MS: f64 = 33.4;

fn ann(config: Config) -> World {
    let mut world = World::new(Room::new(config).watched());
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let start = world.room.now;
    let (mut camera, mut microphone) = (Publisher::camera(CAMERA, start), Publisher::microphone(MICROPHONE, start));
    camera.reports = Reports::livekit(2_000, 1_000_000, 11);
    microphone.reports = Reports::livekit(10_000, 5_000_000, 12);
    world.room.publish(&camera, ann, Codec::H264);
    world.room.publish(&microphone, ann, Codec::Opus);
    world.add(camera);
    world.add(microphone);
    world
}

fn change(world: &mut World, track: u32, change: impl Fn(&mut Publisher)) {
    change(world.publishers.get_mut(&track).expect("a publisher"));
}

fn stop(world: &mut World) {
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    world.run_ms(5_000);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
}

/// (Second, picture minus sound in ms).
fn offsets(world: &World) -> Vec<(f64, f64)> {
    let watch = &world.room.watch.as_ref().expect("watched")[&0];
    watch.offsets(&world.room.encoders[&PlaylistKey(0)], &world.captured[&CAMERA], &world.captured[&MICROPHONE])
}

fn worst(offsets: &[(f64, f64)], from: f64, to: f64) -> f64 {
    let within = offsets.iter().filter(|(at, _)| (from..to).contains(at));
    within.map(|(_, ms)| ms.abs()).reduce(f64::max).expect("pictures with sound")
}

fn faults(world: &World) -> Vec<(Source, ClockFault)> {
    world.room.session.manifest().clock_overrides.iter().map(|o| (o.source, o.fault)).collect()
}

/// Share of the sounds captured in these seconds that is in the file.
fn heard(world: &World, from: f64, to: f64) -> f64 {
    let within = |at: &Tick| (from..to).contains(&(at.0 as f64 / 1e6));
    let sounds = &world.captured[&MICROPHONE];
    let placed = world.room.encoders[&PlaylistKey(0)].placed.iter().filter(|(n, _)| within(&sounds[*n as usize])).count();
    placed as f64 / sounds.iter().filter(|at| within(at)).count() as f64
}

#[test]
fn two_seconds_of_bufferbloat_for_half_a_minute_override_nothing() {
    let mut world = ann(config());
    world.run_ms(70_000);
    world.network.delay_us += 2_000_000;
    world.run_ms(30_000);
    world.network.delay_us -= 2_000_000;
    world.run_ms(30_000);
    stop(&mut world);
    assert_eq!(faults(&world), []);
    let offsets = offsets(&world);
    assert!(worst(&offsets, 0.0, 200.0) <= FRAME_MS, "{}", worst(&offsets, 0.0, 200.0));
    assert!(heard(&world, 2.0, 130.0) > 0.999);
}

#[test]
fn rtp_that_leaps_while_packets_follow_each_other_is_overridden_at_once() {
    for leap_ms in [1_000i64, -1_000, 60_000, -60_000] {
        for track in [CAMERA, MICROPHONE] {
            let mut world = ann(config());
            world.run_ms(30_000);
            change(&mut world, track, |p| {
                p.rtp0 = p.rtp0.wrapping_add((leap_ms * p.rate as i64 / 1000) as u32);
                p.reports.forget();
            });
            world.run_ms(40_000);
            stop(&mut world);
            let source = if track == CAMERA { Source::Camera } else { Source::Microphone };
            assert_eq!(faults(&world), [(source, ClockFault::Jumped)], "{leap_ms} ms");
            let offsets = offsets(&world);
            let (before, soon, later) = (worst(&offsets, 2.0, 29.0), worst(&offsets, 34.0, 50.0), worst(&offsets, 50.0, 68.0));
            println!(
                "{source:?} leaps {leap_ms} ms: lip sync before {before:.1}, then {soon:.1}, then {later:.1} ms; heard {:.3}",
                heard(&world, 2.0, 68.0)
            );
            assert!(before <= FRAME_MS && soon <= 2.0 * FRAME_MS && later <= FRAME_MS, "{leap_ms} ms");
            assert!(heard(&world, 2.0, 68.0) > 0.99);
        }
    }
}

#[test]
fn a_sender_that_sets_its_wall_clock_stays_in_sync() {
    for step_us in [3_600_000_000i64, -3_600_000_000, 700_000, -700_000] {
        let mut world = ann(config());
        world.run_ms(30_000);
        for track in [CAMERA, MICROPHONE] {
            change(&mut world, track, |p| p.ntp_offset_us += step_us);
        }
        world.run_ms(60_000);
        stop(&mut world);
        assert_eq!(faults(&world), [], "{step_us} µs");
        let offsets = offsets(&world);
        println!("NTP set by {} ms: lip sync {:.1} ms", step_us / 1000, worst(&offsets, 2.0, 90.0));
        assert!(worst(&offsets, 2.0, 90.0) <= FRAME_MS, "{step_us} µs");
        assert!(heard(&world, 2.0, 88.0) > 0.999);
    }
}

/// A laptop that sleeps, a sound card that stops: nothing is captured for 6 s, RTP goes on where it was.
#[test]
fn media_that_stood_while_time_went_on_is_overridden_after_five_seconds() {
    let mut world = ann(config());
    world.run_ms(30_000);
    let mut stood = world.stop_sending(MICROPHONE);
    world.run_ms(6_000);
    stood.next = world.room.now;
    stood.rtp0 = stood.rtp0.wrapping_sub(6 * 48_000);
    stood.reports.forget();
    world.add(stood);
    world.run_ms(60_000);
    stop(&mut world);
    assert_eq!(faults(&world), [(Source::Microphone, ClockFault::Moved)]);
    let offsets = offsets(&world);
    println!("lip sync before {:.1}, from 15 s after on {:.1} ms", worst(&offsets, 2.0, 29.0), worst(&offsets, 51.0, 94.0));
    assert!(worst(&offsets, 2.0, 29.0) <= FRAME_MS && worst(&offsets, 51.0, 94.0) <= FRAME_MS);
}

#[test]
fn rtp_that_stands_still_is_replaced_by_arrival() {
    let mut world = ann(config());
    world.run_ms(30_000);
    for track in [CAMERA, MICROPHONE] {
        let at = world.room.now;
        change(&mut world, track, |p| p.stands_since = Some(at));
    }
    world.run_ms(10_000);
    stop(&mut world);
    let mut found = faults(&world);
    found.sort_by_key(|(source, _)| *source);
    assert_eq!(found, [(Source::Microphone, ClockFault::StoodStill), (Source::Camera, ClockFault::StoodStill)]);
    assert!(heard(&world, 31.6, 40.0) > 0.98, "half a second until it is noticed: {}", heard(&world, 31.6, 40.0));
    let offsets = offsets(&world);
    // Sound by arrival is late by its 20 ms of capture no more; the network has no jitter here.
    assert!(worst(&offsets, 32.0, 40.0) <= 2.0 * FRAME_MS, "{}", worst(&offsets, 32.0, 40.0));
}

/// Arrival tells, with the least delay of a minute: as far off as the tracks' ways differ. Here sound comes 40 ms earlier.
#[test]
fn a_sender_without_reports_is_off_by_what_its_tracks_differ_in_delay() {
    let mut world = ann(config());
    world.network.jitter_us = 10_000;
    for track in [CAMERA, MICROPHONE] {
        change(&mut world, track, |p| p.next_report = Tick(u64::MAX));
    }
    change(&mut world, CAMERA, |p| p.sent_after_us = 40_000);
    world.run_ms(120_000);
    stop(&mut world);
    assert_eq!(faults(&world), []);
    let offsets = offsets(&world);
    let late = offsets.iter().filter(|(at, _)| *at > 20.0).map(|(_, ms)| *ms);
    let (least, most) = late.fold((f64::MAX, f64::MIN), |(a, b), ms| (a.min(ms), b.max(ms)));
    println!("without reports: {least:.1} to {most:.1} ms");
    assert!(least > 40.0 - 5.0 && most < 40.0 + 5.0, "40 ms and what 10 ms of jitter leave: {least} to {most}");
}

/// Janus: the relay's own clock, RTP of what it last forwarded: never early, often late.
#[test]
fn reports_of_a_relay_are_read_by_their_envelope() {
    let mut world = ann(Config { report_quality: ReportQuality::Relay, ..config() });
    for track in [CAMERA, MICROPHONE] {
        change(&mut world, track, |p| {
            p.reports = Reports::livekit(0, 0, 3);
            p.reports.late_us = 30_000;
        });
    }
    world.run_ms(120_000);
    stop(&mut world);
    let offsets = offsets(&world);
    println!("relay: first minute {:.1} ms, second {:.1} ms", worst(&offsets, 0.0, 60.0), worst(&offsets, 60.0, 120.0));
    assert!(worst(&offsets, 0.0, 60.0) <= FRAME_MS && worst(&offsets, 60.0, 120.0) <= 10.0);
}

#[test]
fn another_ssrc_is_another_clock() {
    let mut world = ann(config());
    world.run_ms(30_000);
    change(&mut world, MICROPHONE, |p| {
        (p.ssrc, p.rtp0, p.sequence) = (77, 4_000_000_000, 12);
        p.reports.forget();
    });
    world.run_ms(30_000);
    stop(&mut world);
    assert_eq!(faults(&world), [], "nothing is wrong with it");
    let offsets = offsets(&world);
    assert!(worst(&offsets, 2.0, 58.0) <= FRAME_MS, "{}", worst(&offsets, 2.0, 58.0));
    assert!(heard(&world, 2.0, 58.0) > 0.99);
}

/// The first packets that come are not the first that were sent; what comes late behind them is of two hours before by its timestamp.
#[test]
fn a_late_packet_of_another_time_is_none_of_the_stream() {
    let mut world = World::new(Room::new(config()));
    world.room.input(Input::Connected);
    let bob = world.room.join(1, "bob");
    let mut microphone = Publisher::microphone(MICROPHONE, world.room.now);
    world.room.publish(&microphone, bob, Codec::Opus);
    let first = microphone.produce().pop().expect("a packet");
    for (back, seconds) in [(0, 0), (600, 7_200), (599, 7_200), (598, 7_200)] {
        let timestamp = first.timestamp.wrapping_sub(seconds * 48_000);
        let packet = RtpPacket { sequence: first.sequence.wrapping_sub(back), timestamp, ..first.clone() };
        world.room.input(Input::Packet { track: TrackKey(MICROPHONE), packet });
    }
    world.add(microphone);
    world.run_ms(15_000);
    stop(&mut world);
    let ledger = &world.room.session.manifest().ledger;
    assert!(ledger.len() < 5 && ledger.iter().all(|entry| entry.start >= MediaTime(-90_000)), "{ledger:?}");
}

//! Hours in seconds: what clocks that disagree do to lip sync, to timestamps and to the sound.

#[allow(unreachable_pub, missing_debug_implementations, dead_code)] // shared: every test file uses its own part
mod support;

use recorder_media::*;
use support::*;

/// One picture at 30 a second.
const FRAME_MS: f64 = 33.4;
const TWO_HOURS_MS: u64 = 7_200_000;

/// Ann, as libwebrtc behind LiveKit reports: the picture to 2 ms, the sound to 20 ms (slopes of two reports are off by up to
/// 14,000 ppm), on a tick of 3 s between her own reports.
fn ann(clock_ppm: i64, card_ppm: i64) -> World {
    let mut world = World::new(Room::new(config()).watched());
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let start = world.room.now;
    let mut camera = Publisher { clock_ppm, key_every: 50, fragments: 1, interval_us: 100_000, ..Publisher::camera(1, start) };
    let mut microphone = Publisher { clock_ppm, card_ppm, ..Publisher::microphone(2, start) };
    camera.reports = Reports::livekit(2_000, 1_000_000, 11);
    microphone.reports = Reports::livekit(20_000, 5_000_000, 12);
    world.room.publish(&camera, ann, Codec::H264);
    world.room.publish(&microphone, ann, Codec::Opus);
    world.add(camera);
    world.add(microphone);
    world.network.jitter_us = 8_000;
    world
}

/// Offsets of the whole run, (second, ms).
fn offsets(world: &World) -> Vec<(f64, f64)> {
    let watch = &world.room.watch.as_ref().expect("watched")[&0];
    watch.offsets(&world.room.encoders[&PlaylistKey(0)], &world.captured[&1], &world.captured[&2])
}

#[test]
fn two_hours_with_clocks_that_drift_stay_in_sync() {
    for (clock, card) in [(0, 200), (0, -200), (200, 0), (-200, 0)] {
        let mut world = ann(clock, card);
        world.run_ms(TWO_HOURS_MS);
        world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
        world.run_ms(5_000);
        let offsets = offsets(&world);
        let worst = offsets.iter().copied().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).expect("offsets");
        let tail: Vec<f64> = offsets.iter().rev().take(10 * 60).map(|o| o.1).collect();
        let last = tail.iter().copied().map(f64::abs).fold(0.0, f64::max);
        println!("clock {clock} ppm, card {card} ppm: {} offsets, worst {worst:.2?}, last minute {last:.2}", offsets.len());
        assert!(offsets.len() > 71_500, "{}", offsets.len());
        assert!(worst.1.abs() <= FRAME_MS, "worst {worst:?}");
        assert!(last <= FRAME_MS);
    }
}

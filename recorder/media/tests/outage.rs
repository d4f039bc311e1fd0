//! What a lost connection, a newer attempt and a storage that comes back late leave behind.

#[allow(unreachable_pub, missing_debug_implementations, dead_code)] // shared: every test file uses its own part
mod support;

use recorder_media::*;
use support::reader::{self, read};
use support::*;

/// First timestamp of a playlist: media time 0.
const PTS_START: i64 = 10 * 90_000;
const AV: &str = "rec_room__uid_s_ann__uid_e_av.m3u8";

/// Ann's camera and microphone, as tracks `first` and the next.
fn publish(world: &mut World, ann: ParticipantKey, first: u32) {
    let start = world.room.now;
    let (mut camera, microphone) = (Publisher::camera(first, start), Publisher::microphone(first + 1, start));
    // Her pictures are older than her sound when they arrive, so that one of both lies behind its arrival.
    camera.ntp_offset_us += 60_000;
    world.room.publish(&camera, ann, Codec::H264);
    world.room.publish(&microphone, ann, Codec::Opus);
    world.add(camera);
    world.add(microphone);
}

fn ann(config: Config) -> (World, ParticipantKey) {
    let mut world = World::new(Room::new(config));
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    publish(&mut world, ann, 1);
    (world, ann)
}

fn stop(world: &mut World) {
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    world.run_ms(12_000);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
}

fn gaps(world: &World) -> Vec<Gap> {
    world.room.session.manifest().gaps.clone()
}

/// 8 s of media, the server dies, that is noticed `late_ms` later, and another one takes over `away_ms` after that.
fn server_away(late_ms: u64, away_ms: u64) -> World {
    let (mut world, ann) = ann(config());
    world.run_ms(8_000);
    world.stop_sending(1);
    world.stop_sending(2);
    world.run_ms(late_ms);
    world.room.input(Input::Disconnected);
    world.run_ms(away_ms);
    world.room.input(Input::Connected);
    world.room.input(Input::Unpublished { track: TrackKey(1) });
    world.room.input(Input::Unpublished { track: TrackKey(2) });
    publish(&mut world, ann, 3);
    world.run_ms(9_000);
    stop(&mut world);
    world
}

#[test]
fn an_outage_is_a_hole_and_a_gap_from_the_last_packet_to_the_new_connection() {
    let world = server_away(4_000, 20_000);
    let gaps = gaps(&world);
    assert_eq!(gaps.iter().map(|g| g.reason).collect::<Vec<_>>(), [GapReason::Disconnected]);
    assert!((gaps[0].start.0 - 8 * 90_000).abs() < 9_000 && (gaps[0].duration90k - 24 * 90_000).abs() < 9_000, "{gaps:?}");
    let read = read(&world.room.data(0));
    let jumps: Vec<i64> = read.sounds().windows(2).map(|w| w[1].0 - w[0].0).filter(|jump| *jump > 9_000).collect();
    assert!(jumps.len() == 1 && (jumps[0] - 24 * 90_000).abs() < 18_000, "nothing stands in for the hole: {jumps:?}");
    let black = read.pictures().iter().filter(|picture| picture.1.is_none()).count();
    assert_eq!(black, 0, "nor black");
    assert_eq!(world.room.playlists[AV].matches("#EXT-X-DISCONTINUITY").count(), 1);
    let shortest = world.room.session.manifest().ledger.iter().map(|entry| entry.duration90k).min();
    assert!(shortest > Some(9_000), "no segment of a few leftovers: {shortest:?}");
}

/// Sound runs on as silence until the line has grown to its longest; the ledger says how long a segment really is.
#[test]
fn a_loss_that_is_noticed_late_ends_the_segment_where_its_content_ends() {
    let world = server_away(15_000, 20_000);
    let ledger = world.room.session.manifest().ledger.kept();
    let read = read(&world.room.data(0));
    // Inside a stretch sound reaches a little into the next segment.
    let lasts = ledger.iter().enumerate().filter(|(n, _)| ledger.get(n + 1).is_none_or(|next| next.discontinuity));
    for (n, entry) in lasts {
        let sounds = read.pes.iter().filter(|pes| pes.segment == n && pes.pid == reader::AUDIO);
        let last = sounds.map(|pes| pes.pts - PTS_START).max().expect("sound in every segment");
        let end = entry.start.0 + entry.duration90k;
        // Frames of AAC are 21 ms long and shifted by the encoder's delay; a wrong end is seconds away.
        assert!((end - last).abs() < 18_000, "segment {n} ends at {end}, its last sound begins at {last}");
    }
    let gap = &gaps(&world)[0];
    assert!((gap.start.0 - 8 * 90_000).abs() < 9_000, "{gap:?}");
}

#[test]
fn what_was_recorded_before_an_outage_is_stored_while_it_lasts() {
    let (mut world, _) = ann(config());
    world.run_ms(9_000);
    world.stop_sending(1);
    world.stop_sending(2);
    world.run_ms(4_000);
    world.room.input(Input::Disconnected);
    world.run_ms(12_000);
    let report = world.room.session.report();
    assert!(world.room.segments.values().all(|segment| segment.stored), "nothing waits for the connection");
    assert!((report.recorded90k - 9 * 90_000).abs() < 18_000, "{}", report.recorded90k);
}

#[test]
fn a_connection_that_is_called_lost_while_packets_arrive_makes_no_hole() {
    let (mut world, _) = ann(config());
    world.run_ms(8_000);
    world.room.input(Input::Disconnected);
    world.run_ms(15_000);
    world.room.input(Input::Connected);
    world.run_ms(5_000);
    stop(&mut world);
    let read = read(&world.room.data(0));
    assert!(read.sounds().windows(2).all(|w| w[1].0 - w[0].0 < 9_000));
    assert!(!world.room.playlists[AV].contains("#EXT-X-DISCONTINUITY"));
}

#[test]
fn an_attempt_that_hears_of_a_newer_one_writes_nothing_more() {
    let (mut world, _) = ann(config());
    world.run_ms(9_000);
    let (puts, log) = (world.room.puts.len(), world.room.log.len());
    world.room.input(Input::Order(Order::Stop(StopReason::Superseded)));
    assert_eq!(world.room.finished, Some(Outcome::Superseded));
    assert_eq!(world.room.puts.len(), puts);
    let after = &world.room.log[log..];
    assert!(!after.contains("Upload") && !after.contains("Put"), "{after}");
}

#[test]
fn the_end_is_a_reason_to_try_again_at_once() {
    let (mut world, _) = ann(Config { drain_timeout_seconds: 10, ..config() });
    world.run_ms(9_000);
    world.room.storage.failing = 100;
    // By now the pauses between two tries are longer than what is left after the end.
    world.run_ms(60_000);
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    world.run_ms(4_000);
    world.room.storage.failing = 0;
    world.run_ms(10_000);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
    assert!(world.room.session.manifest().ledger.iter().all(|entry| entry.stored));
}

//! What is written down and sealed need not be kept: a session that forgets it does the same as one that does not.

#[allow(unreachable_pub, missing_debug_implementations, dead_code)] // shared: every test file uses its own part
mod support;

use recorder_media::*;
use support::*;

const SECONDS: u64 = 800;

/// Ann, with camera and microphone. `storage` makes storage what it is in each second; `keeps`: the spool has every chunk that is full.
fn recording(config: Config, storage: fn(&mut Room, u64), keeps: bool) -> (World, usize) {
    let mut world = World::new(Room::new(config));
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    for publisher in [Publisher::camera(1, world.room.now), Publisher::microphone(2, world.room.now)] {
        world.room.publish(&publisher, ann, if publisher.source == Source::Camera { Codec::H264 } else { Codec::Opus });
        world.add(publisher);
    }
    let mut most = 0;
    for second in 0..SECONDS {
        storage(&mut world.room, second);
        world.run_ms(1000);
        if keeps {
            world.room.input(Input::LedgerKept { entries: usize::MAX });
        }
        most = most.max(world.room.session.manifest().ledger.kept().len());
    }
    world.room.storage.failing = 0;
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
    world.run_ms(30_000);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
    (world, most)
}

/// Returns the most entries that were kept at a time.
fn the_same_but_for_memory(config: &Config, storage: fn(&mut Room, u64)) -> usize {
    let (whole, all) = recording(config.clone(), storage, false);
    let (sealed, most) = recording(config.clone(), storage, true);
    assert_eq!(sealed.room.session.report(), whole.room.session.report());
    assert_eq!(sealed.room.puts, whole.room.puts, "every playlist at every time");
    assert_eq!(sealed.room.backup.told, whole.room.backup.told);
    let (sealed, whole) = (sealed.room.session.manifest(), whole.room.session.manifest());
    assert!(all >= 190 && sealed.ledger.len() == whole.ledger.len(), "{all} segments");
    assert_eq!(sealed.ledger.sealed() % LEDGER_CHUNK, 0);
    assert_eq!(sealed.ledger.kept(), whole.ledger.since(sealed.ledger.sealed()));
    let rest = |manifest: &Manifest| Manifest { ledger: Ledger::default(), ..manifest.clone() };
    assert_eq!(rest(sealed), rest(whole));
    most
}

#[test]
fn of_a_long_recording_a_chunk_is_kept() {
    let most = the_same_but_for_memory(&config(), |room, _| room.storage = Storage::well());
    assert!(most < LEDGER_CHUNK + 8, "{most}");
}

#[test]
fn what_storage_does_not_take_is_kept() {
    let away = |room: &mut Room, second| room.storage.failing = if (100..400).contains(&second) { 100 } else { 0 };
    let most = the_same_but_for_memory(&config(), away);
    assert!((80..LEDGER_CHUNK + 80).contains(&most), "300 s of segments of 4 s: {most}");
}

#[test]
fn what_may_still_leave_the_backup_is_kept() {
    let away = |room: &mut Room, second| room.storage.failing = if (100..400).contains(&second) { 100 } else { 0 };
    let most = the_same_but_for_memory(&Config { backup: true, drain_timeout_seconds: 600, ..config() }, away);
    assert!((80..LEDGER_CHUNK + 100).contains(&most), "{most}");
}

#[test]
fn a_participant_who_comes_back_goes_on_behind_what_is_sealed() {
    let (mut world, _) = recording_until_seal();
    let before = world.room.session.manifest().ledger.len();
    assert!(world.room.session.manifest().ledger.sealed() >= LEDGER_CHUNK);
    world.room.input(Input::Left { participant: ParticipantKey(1) });
    world.publishers.clear();
    world.run_ms(5_000);
    let ann = world.room.join(1, "ann");
    let camera = Publisher::camera(3, world.room.now);
    world.room.publish(&camera, ann, Codec::H264);
    world.add(camera);
    world.run_ms(20_000);
    let ledger = &world.room.session.manifest().ledger;
    let numbers: Vec<u32> = ledger.iter().map(|entry| entry.n).collect();
    assert!(ledger.len() > before + 3 && numbers.windows(2).all(|w| w[1] == w[0] + 1), "{numbers:?}");
    assert_eq!(world.room.session.manifest().playlists.len(), 1);
}

fn recording_until_seal() -> (World, ParticipantKey) {
    let mut world = World::new(Room::new(config()));
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let camera = Publisher::camera(1, world.room.now);
    world.room.publish(&camera, ann, Codec::H264);
    world.add(camera);
    for _ in 0..30 {
        world.run_ms(10_000);
        world.room.input(Input::LedgerKept { entries: usize::MAX });
    }
    (world, ann)
}

//! A backup storage: what goes there and when, what comes back, and that each playlist names only what its own storage has.

#[allow(unreachable_pub, missing_debug_implementations, dead_code)] // shared: every test file uses its own part
mod support;

use recorder_media::*;
use support::backup::names;
use support::*;

const AV: &str = "rec_room__uid_s_ann__uid_e_av.m3u8";

fn with_backup() -> Config {
    Config { backup: true, drain_timeout_seconds: 600, ..config() }
}

fn ann(config: Config) -> World {
    let mut world = World::new(Room::new(config));
    join(&mut world, 1, 2);
    world
}

fn join(world: &mut World, camera: u32, microphone: u32) {
    world.room.input(Input::Connected);
    let ann = world.room.join(1, "ann");
    let start = world.room.now;
    for publisher in [Publisher::camera(camera, start), Publisher::microphone(microphone, start)] {
        let codec = if publisher.source == Source::Camera { Codec::H264 } else { Codec::Opus };
        world.room.publish(&publisher, ann, codec);
        world.add(publisher);
    }
}

/// A second at a time, looking at both storages in between.
fn watch(world: &mut World, seconds: u64) {
    for _ in 0..seconds {
        world.run_ms(1000);
        world.room.check_places();
    }
}

fn stop(world: &mut World) {
    world.room.input(Input::Order(Order::Stop(StopReason::StopRequested)));
}

/// How many of the ledger are in the primary, in the backup alone, lost.
fn places(world: &World) -> (usize, usize, usize) {
    let ledger = &world.room.session.manifest().ledger;
    let count = |is: &dyn Fn(&LedgerEntry) -> bool| ledger.iter().filter(|entry| is(entry)).count();
    (count(&|e| e.stored), count(&|e| e.in_backup && !e.stored), count(&|e| e.lost))
}

fn named(body: Option<&String>) -> Vec<String> {
    body.map(|body| names(body).map(str::to_owned).collect()).unwrap_or_default()
}

fn ledger_names(world: &World) -> Vec<String> {
    world.room.session.manifest().ledger.iter().map(|entry| entry.name.clone()).collect()
}

#[test]
fn a_primary_that_refuses_for_good_leaves_a_whole_recording_in_the_backup() {
    let mut world = ann(Config { drain_timeout_seconds: 30, ..with_backup() });
    (world.room.storage.failing, world.room.storage.refuses) = (100, true);
    watch(&mut world, 12);
    assert!(places(&world).1 > 0, "three refusals are enough: it does not wait for a minute");
    let degraded = world.room.session.report().degraded;
    assert_eq!(degraded, [Degradation::StoredInBackup]);
    watch(&mut world, 10);
    stop(&mut world);
    watch(&mut world, 25);
    assert_eq!(world.room.finished, None, "until drainTimeoutSeconds it may still be moved");
    watch(&mut world, 20);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
    let all = ledger_names(&world);
    assert_eq!(places(&world), (0, all.len(), 0));
    let playlist = &world.room.backup.playlists[AV];
    assert_eq!(named(Some(playlist)), all);
    assert!(playlist.ends_with("#EXT-X-ENDLIST\n") && world.room.backup.manifest);
    assert!(world.room.playlists.is_empty(), "the primary has nothing, so it names nothing");
}

#[test]
fn a_primary_that_does_not_answer_is_waited_for_a_minute() {
    let mut world = ann(with_backup());
    watch(&mut world, 14);
    let before = places(&world).0;
    assert!(before > 0);
    world.room.storage.failing = 100;
    watch(&mut world, 50);
    assert_eq!(places(&world).1, 0);
    assert_eq!(world.room.session.report().degraded, [Degradation::StorageUnavailable]);
    watch(&mut world, 30);
    let (primary, backup, _) = places(&world);
    assert!(primary == before && backup >= 15, "{backup} in the backup");
    // What comes now goes there at once, and the primary's playlist stops before it.
    let backlog = world.room.session.report().backlog90k;
    assert!(backlog < 10 * 90_000, "{backlog}");
    assert_eq!(named(world.room.playlists.get(AV)), ledger_names(&world)[..before]);
    assert_eq!(named(world.room.backup.playlists.get(AV))[..backup - 1], ledger_names(&world)[before..before + backup - 1]);
}

/// The primary is away for so long; then back. Returns once the recording is over.
fn away_for(seconds: u64, live_after: u64) -> World {
    let mut world = ann(with_backup());
    watch(&mut world, 14);
    world.room.storage.failing = 100;
    watch(&mut world, seconds);
    world.room.storage.failing = 0;
    watch(&mut world, live_after);
    world
}

#[test]
fn what_lies_in_the_backup_is_moved_when_the_primary_is_back_and_one_put_completes_the_playlist() {
    let mut world = away_for(120, 0);
    let (primary, backup, _) = places(&world);
    assert!(backup > 20);
    let puts = world.room.puts.len();
    watch(&mut world, 70);
    assert_eq!(places(&world).1, 0, "all is moved");
    let lengths: Vec<usize> = world.room.puts[puts..].iter().map(|(_, body)| names(body).count()).collect();
    assert!(lengths.iter().all(|length| *length == primary || *length >= primary + backup), "one step over the gap: {lengths:?}");
    assert!(world.room.backup.is_empty(), "nothing is left: {:?}", world.room.backup);
    assert_eq!(world.room.session.report().degraded, []);
    assert!(world.room.session.manifest().ledger.iter().all(|entry| !entry.in_backup));
    stop(&mut world);
    watch(&mut world, 10);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
    assert_eq!(named(world.room.playlists.get(AV)), ledger_names(&world));
    assert!(!world.room.playlists[AV].contains("DISCONTINUITY") && world.room.playlists[AV].ends_with("#EXT-X-ENDLIST\n"));
}

#[test]
fn a_recording_that_is_over_is_moved_before_it_ends() {
    let mut world = away_for(100, 0);
    world.room.storage.failing = 100;
    stop(&mut world);
    watch(&mut world, 60);
    assert_eq!(world.room.finished, None);
    world.room.storage.failing = 0;
    watch(&mut world, 70);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
    assert_eq!(named(world.room.playlists.get(AV)), ledger_names(&world));
    assert!(world.room.backup.is_empty() && places(&world).0 == ledger_names(&world).len());
}

#[test]
fn the_backups_playlist_goes_before_its_segments_and_not_before_the_primary_has_all() {
    // Asserted at every removal (support/backup.rs); here that there was one.
    let world = away_for(120, 70);
    let told = &world.room.backup.told;
    let playlist = told.iter().position(|line| *line == format!("remove {AV}")).expect("removed");
    let segment = told.iter().position(|line| line.starts_with("remove") && line.ends_with(".ts")).expect("removed");
    assert!(playlist < segment);
}

#[test]
fn a_second_outage_begins_a_new_playlist_in_the_backup() {
    let mut world = away_for(100, 70);
    assert!(world.room.backup.is_empty());
    let before = places(&world).0;
    world.room.storage.failing = 100;
    watch(&mut world, 100);
    let backup = named(world.room.backup.playlists.get(AV));
    assert!(!backup.is_empty() && backup[0] == ledger_names(&world)[before], "only what it holds");
    assert!(!world.room.backup.playlists[AV].contains("DISCONTINUITY"));
    world.room.storage.failing = 0;
    watch(&mut world, 70);
    stop(&mut world);
    watch(&mut world, 15);
    assert_eq!((world.room.finished, world.room.backup.is_empty()), (Some(Outcome::StopRequested), true));
    assert_eq!(named(world.room.playlists.get(AV)), ledger_names(&world));
}

#[test]
fn when_both_refuse_the_spool_keeps_all_and_it_is_decided_once() {
    let mut world = ann(Config { drain_timeout_seconds: 30, ..with_backup() });
    watch(&mut world, 10);
    let before = places(&world).0;
    (world.room.storage.failing, world.room.storage.refuses, world.room.backup.failing) = (100, true, 100);
    watch(&mut world, 15);
    let report = world.room.session.report();
    assert!(report.degraded.contains(&Degradation::BackupUnavailable) && report.backlog90k > 0, "{report:?}");
    stop(&mut world);
    watch(&mut world, 28);
    assert_eq!((world.room.finished, places(&world).2), (None, 0), "nothing is lost before the time is over");
    watch(&mut world, 20);
    assert_eq!(world.room.finished, Some(Outcome::UploaderFailed));
    let all = ledger_names(&world).len();
    assert_eq!(places(&world), (before, 0, all - before));
}

#[test]
fn either_of_the_two_that_comes_back_in_time_is_enough() {
    for backup in [true, false] {
        let mut world = ann(Config { drain_timeout_seconds: 120, ..with_backup() });
        (world.room.storage.failing, world.room.backup.failing) = (100, 100);
        watch(&mut world, 30);
        stop(&mut world);
        watch(&mut world, 30);
        if backup {
            world.room.backup.failing = 0
        } else {
            world.room.storage.failing = 0
        }
        watch(&mut world, 130);
        assert_eq!(world.room.finished, Some(Outcome::StopRequested), "backup: {backup}");
        let all = ledger_names(&world).len();
        assert_eq!(places(&world), if backup { (0, all, 0) } else { (all, 0, 0) });
    }
}

#[test]
fn an_upload_whose_answer_was_lost_leaves_nothing_in_the_backup() {
    let mut world = ann(with_backup());
    (world.room.storage.failing, world.room.backup.failing, world.room.backup.arrives) = (100, 100, 100);
    watch(&mut world, 80);
    assert!(!world.room.backup.segments.is_empty() && places(&world).1 == 0, "they are there and nobody knows");
    (world.room.storage.failing, world.room.backup.failing) = (0, 0);
    watch(&mut world, 70);
    stop(&mut world);
    watch(&mut world, 30);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
    assert!(world.room.backup.is_empty(), "{:?}", world.room.backup.segments);
}

#[test]
fn a_backup_that_lets_nothing_go_does_not_hold_up_the_end_nor_the_next_outage() {
    let mut world = ann(with_backup());
    world.room.backup.refuses_removal = true;
    watch(&mut world, 14);
    for _ in 0..2 {
        world.room.storage.failing = 100;
        watch(&mut world, 100);
        let (ledger, playlist) = (ledger_names(&world), named(world.room.backup.playlists.get(AV)));
        let alone: Vec<&String> = world.room.session.manifest().ledger.iter().filter(|e| e.in_backup).map(|e| &e.name).collect();
        assert!(playlist.len() + 1 >= alone.len() && ledger.len() > alone.len(), "{} of {}", playlist.len(), alone.len());
        world.room.storage.failing = 0;
        watch(&mut world, 70);
    }
    stop(&mut world);
    watch(&mut world, 40);
    assert_eq!(world.room.finished, Some(Outcome::StopRequested));
    assert_eq!(places(&world).1, 0);
    assert!(world.room.session.manifest().ledger.iter().any(|entry| entry.in_backup), "the manifest says what stayed");
}

#[test]
fn an_interrupted_attempt_does_not_wait_for_the_move_and_the_next_one_moves() {
    let mut world = away_for(100, 0);
    world.room.storage.failing = 100;
    world.room.input(Input::Order(Order::Stop(StopReason::Interrupted)));
    watch(&mut world, 26);
    assert_eq!(world.room.finished, Some(Outcome::Interrupted));
    let manifest = world.room.session.manifest().clone();
    let (primary, backup) = (places(&world).0, places(&world).1);
    assert!(backup > 10);
    let resume = Some(Resume { manifest, replay: None });
    let mut next = World::new(Room::at(Config { attempt: 2, resume, ..with_backup() }, world.room.now, world.wall()));
    next.room.segments = std::mem::take(&mut world.room.segments);
    next.room.playlists = std::mem::take(&mut world.room.playlists);
    next.room.backup = std::mem::take(&mut world.room.backup);
    stop(&mut next);
    watch(&mut next, 60);
    assert_eq!(next.room.finished, Some(Outcome::StopRequested));
    assert_eq!(places(&next), (primary + backup, 0, 0));
    assert!(next.room.backup.is_empty());
    assert_eq!(named(next.room.playlists.get(AV)), ledger_names(&next));
}

#[test]
fn one_object_that_the_primary_does_not_take_goes_alone() {
    let mut world = ann(with_backup());
    world.room.storage.vanishing = None;
    world.room.refused = Some((0, 2));
    watch(&mut world, 40);
    let ledger = &world.room.session.manifest().ledger;
    let elsewhere: Vec<u32> = ledger.iter().filter(|entry| entry.in_backup && !entry.stored).map(|entry| entry.n).collect();
    assert_eq!(elsewhere, [2]);
    assert_eq!(named(world.room.playlists.get(AV)), ledger_names(&world)[..2], "the playlist stops before it");
    world.room.refused = None;
    watch(&mut world, 40);
    stop(&mut world);
    watch(&mut world, 20);
    assert_eq!(named(world.room.playlists.get(AV)), ledger_names(&world));
    assert!(world.room.backup.is_empty());
}

/// Both storages fail as they like, restarts of neither; in the end the primary works.
#[test]
fn whatever_the_two_do_all_is_in_the_primary_once_it_works() {
    for seed in 0..8 {
        println!("seed {seed}");
        let mut rng = Lcg(seed);
        let mut world = ann(with_backup());
        world.room.storage.rng = Lcg(seed ^ 77);
        world.room.backup.rng = Lcg(seed ^ 78);
        world.room.backup.arrives = 30;
        for _ in 0..8 {
            world.room.storage.failing = [0, 20, 100, 100][rng.below(4) as usize];
            world.room.storage.refuses = rng.chance(50);
            world.room.backup.failing = [0, 0, 30, 100][rng.below(4) as usize];
            let seconds = 5 + rng.below(60);
            watch(&mut world, seconds);
            check_books(world.room.session.manifest(), 4);
        }
        (world.room.storage.failing, world.room.backup.failing) = (0, 0);
        if rng.chance(50) {
            let seconds = rng.below(90);
            watch(&mut world, seconds);
        }
        stop(&mut world);
        watch(&mut world, 150);
        assert_eq!(world.room.finished, Some(Outcome::StopRequested));
        let all = ledger_names(&world);
        assert_eq!(places(&world), (all.len(), 0, 0));
        assert_eq!(named(world.room.playlists.get(AV)), all);
        assert!(world.room.backup.is_empty(), "{:?}", world.room.backup);
    }
}

/// And the recorder dies now and then: what it knew of both storages is as old as its last saved state.
#[test]
fn whatever_the_two_do_a_recorder_that_dies_loses_nothing() {
    for seed in 0..8 {
        println!("seed {seed}");
        let mut rng = Lcg(seed);
        let mut world = World::new(Room::new(with_backup()).journalled());
        join(&mut world, 1, 2);
        (world.room.storage.rng, world.room.backup.rng) = (Lcg(seed ^ 77), Lcg(seed ^ 78));
        for life in 1..6 {
            world.room.storage.failing = [0, 20, 100, 100][rng.below(4) as usize];
            world.room.storage.refuses = rng.chance(50);
            world.room.backup.failing = [0, 0, 30, 100][rng.below(4) as usize];
            let seconds = 5 + rng.below(60);
            watch(&mut world, seconds);
            check_books(world.room.session.manifest(), 4);
            world = World::new(world.room.die_and_return(with_backup(), 1_000_000));
            join(&mut world, 2 * life + 1, 2 * life + 2);
        }
        (world.room.storage.failing, world.room.backup.failing) = (0, 0);
        watch(&mut world, 20);
        stop(&mut world);
        watch(&mut world, 150);
        assert_eq!(world.room.finished, Some(Outcome::StopRequested));
        let all = ledger_names(&world);
        assert_eq!(places(&world), (all.len(), 0, 0));
        assert_eq!(named(world.room.playlists.get(AV)), all);
        assert!(world.room.backup.is_empty(), "{:?}", world.room.backup);
        let gaps = &world.room.session.manifest().gaps;
        assert!(gaps.len() == 5 && gaps.iter().all(|gap| gap.reason == GapReason::RecorderRestarted), "{gaps:?}");
    }
}

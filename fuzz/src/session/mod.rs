//! Sequences of operations on a session: what a room, a network, a storage and a controller may do in any order, in virtual time.
//!
//! The room in virtual time is the one of the simulation (recorder/media/tests/support): it answers like the driver and asserts at every
//! output. When the sequence is over the recording is ordered to stop and must end.

mod operation;
mod restart;

#[path = "../../../recorder/media/tests/support/mod.rs"]
#[allow(dead_code, unreachable_pub, missing_debug_implementations)] // the simulation's; each user has its own part
mod support;

use std::collections::BTreeMap;

use arbitrary::Unstructured;
use recorder_media::{
    Config, Input, MediaKinds, MediaTime, Order, Outcome, ParticipantKey, ReportQuality, Session, SnapshotPlan, StopReason, TrackKey,
};

use support::{Lcg, Network, Publisher, Room, World};

/// Virtual time in which operations are tried; media of up to eight publishers for so long is some 10 ms of work.
const LONGEST_MS: u64 = 90_000;
const MOST_OPERATIONS: u32 = 200;
/// Publications that send at the same time: more only make an input slow.
const MOST_PUBLISHERS: usize = 6;
const DRAIN_SECONDS: u32 = 60;
/// From the order to stop to the end: the delay line, the drain time-out, the last puts and their retries.
const END_WITHIN_MS: u64 = 3_000 + DRAIN_SECONDS as u64 * 1_000 + 45_000;
/// A publisher's clock may say so much more than ours, before it is taken for another clock.
const AHEAD_US: i64 = 2_100_000;

pub(crate) fn run(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    // Nothing but the end of the bytes makes an operation fail; what was begun is still brought to its end.
    if let Ok(mut play) = Play::new(&mut bytes) {
        let _ = play.operations(&mut bytes);
        play.end();
    }
}

/// A recording on its way, and what the room holds.
struct Play {
    world: World,
    /// Every track ever published, with its participant.
    tracks: BTreeMap<TrackKey, ParticipantKey>,
    /// Publishers that do not send at the moment.
    silent: Vec<Publisher>,
    elapsed_ms: u64,
    config: Config,
}

impl Play {
    fn new(bytes: &mut Unstructured) -> arbitrary::Result<Self> {
        let config = config(bytes)?;
        let mut world = World::new(Room::new(config.clone()));
        world.room.keep_log = false;
        world.network = Network { delay_us: 30_000, jitter_us: 20_000, late: 0, lost: 0, rng: Lcg(bytes.arbitrary()?) };
        world.room.input(Input::Connected);
        Ok(Self { world, tracks: BTreeMap::new(), silent: Vec::new(), elapsed_ms: 0, config })
    }

    fn operations(&mut self, bytes: &mut Unstructured) -> arbitrary::Result<()> {
        for _ in 0..MOST_OPERATIONS {
            if bytes.is_empty() || self.elapsed_ms > LONGEST_MS || self.world.room.finished.is_some() {
                break;
            }
            self.operation(bytes)?;
            self.check();
        }
        Ok(())
    }

    fn session(&self) -> &Session {
        &self.world.room.session
    }

    fn pass(&mut self, ms: u64) {
        self.elapsed_ms += ms;
        self.world.run_ms(ms);
    }

    fn check(&self) {
        support::check_books(self.session().manifest(), self.config.segment_seconds);
        let age = self.elapsed_ms as i64 * 1_000 + AHEAD_US;
        let longest = MediaTime::from_micros(age).0;
        for entry in &self.session().manifest().ledger {
            // The epoch is the arrival of the first packet; one that is late may be 15 s older (`MAX_BEHIND_US` in track.rs).
            assert!(entry.start.0 >= -15 * MediaTime::PER_SECOND, "before the recording: {entry:?}");
            assert!(entry.start.0 + entry.duration90k <= longest, "longer than it took: {entry:?}, {longest}");
        }
    }

    /// Storage works again, the recording is stopped: it ends, and its streams can be read.
    fn end(&mut self) {
        self.world.room.storage.failing = 0;
        self.world.room.input_unless_finished(Input::Order(Order::Stop(StopReason::StopRequested)));
        self.world.publishers.clear();
        self.pass(END_WITHIN_MS);
        assert!(self.world.room.finished.is_some(), "{END_WITHIN_MS} ms after the order to stop it has not ended");
        self.check();
        let manifest = self.session().manifest();
        let promised = !matches!(
            self.world.room.finished,
            Some(Outcome::UploaderFailed | Outcome::Superseded | Outcome::Interrupted | Outcome::Cancelled)
        );
        let missing = manifest.ledger.iter().find(|entry| !entry.stored && !entry.lost);
        assert!(!promised || missing.is_none(), "neither stored nor given up: {missing:?}");
        restart::read_back(&self.world.room);
    }
}

fn config(bytes: &mut Unstructured) -> arbitrary::Result<Config> {
    let media = *bytes.choose(&[MediaKinds::AudioVideo, MediaKinds::AudioVideo, MediaKinds::Audio, MediaKinds::Video])?;
    let segment_seconds = bytes.int_in_range(2..=20)?;
    Ok(Config {
        media,
        segment_seconds,
        // By what is there already: what was found before stays what it is.
        snapshots: segment_seconds.is_multiple_of(2).then_some(SnapshotPlan { interval_seconds: 5, per_participant: false }),
        idle_timeout_seconds: bytes.int_in_range(5..=60)?,
        max_duration_seconds: if bytes.ratio(1, 4)? { Some(bytes.int_in_range(1..=100)?) } else { None },
        drain_timeout_seconds: DRAIN_SECONDS,
        idle_counts_publishers: bytes.arbitrary()?,
        report_quality: *bytes.choose(&[ReportQuality::Sender, ReportQuality::Relay])?,
        ..support::config()
    })
}

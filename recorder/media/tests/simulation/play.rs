//! One seed's story: what people, networks, storages, disks and machines do, step by step, and how it ends.

use super::bucket::{Bucket, Mood};
use super::endings;
use super::invariants::{check_claims, check_playlist};
use super::support::{Lcg, Publisher, config};
use super::world::{Network, Start, World};
use recorder_media::*;

/// Orders to stop are carried out within the drain time-out, what a restart adds, and the last puts.
const END_WITHIN_MS: u64 = 200_000;
const SEGMENT_SECONDS: u32 = 2;
/// A segment's hard limit is this much more.
const HARD_EXTRA_SECONDS: u32 = 14;
const SOURCES: [Source; 4] = [Source::Microphone, Source::Camera, Source::ScreenShare, Source::ScreenShareAudio];
const MOST_TRACKS: usize = 5;

pub struct Play {
    pub world: World,
    pub rng: Lcg,
    next_track: u32,
    /// Something happened that costs media and is not a gap of the recorder's own.
    pub harmed: bool,
    pub kills: u32,
    pub takeovers: u32,
    /// Each step is printed before it is taken.
    pub trace: bool,
}

pub fn play_config(backup: bool) -> Config {
    Config { segment_seconds: SEGMENT_SECONDS, backup, ..config() }
}

impl Play {
    pub fn new(seed: u64) -> Self {
        let mut rng = Lcg(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed);
        (0..4).for_each(|_| _ = rng.next());
        let backup = rng.chance(40);
        let world = World::new(rng.next(), play_config(backup));
        let mut play = Self::of(world, rng);
        let now = play.world.now;
        play.world.start_at(now, Start { attempt: 1, disk: None });
        play.world.run_ms(10);
        play.come_or_go();
        play
    }

    pub fn of(world: World, rng: Lcg) -> Self {
        Self { world, rng, next_track: 1, harmed: false, kills: 0, takeovers: 0, trace: false }
    }

    pub fn step(&mut self) {
        let what = self.rng.below(32);
        if self.trace {
            self.show(what);
        }
        match what {
            0..=2 => self.come_or_go(),
            3..=7 => self.publish(),
            8 | 9 => self.unpublish(),
            10 | 11 => self.mute_or_unmute(),
            12 => self.change_publisher(),
            13 | 14 => self.change_network(),
            15..=18 => self.change_storage(),
            19 => self.change_spool(),
            20 => self.change_transcoder(),
            21 => self.lose_connection(),
            22 => self.subscribe(),
            23 => self.world.wall_error_us += self.rng.below(8_000_000) as i64 - 4_000_000,
            24..=26 => self.crash_on_spool(),
            27 => self.crash_without_spool(),
            28 => self.evict(),
            29 => self.lose_node(),
            _ => {}
        }
        let pause = 50 + self.rng.below(2_500);
        self.world.run_ms(pause);
        self.go_on_after_sigterm();
        self.check();
    }

    fn show(&self, what: u64) {
        println!("{:.3} s: step {what}", self.world.now as f64 / 1e6);
        for process in &self.world.processes {
            let manifest = process.session.manifest();
            println!("  life {} attempt {} finished {:?} gaps {:?}", process.life, process.attempt, process.finished, manifest.gaps);
            for track in &manifest.tracks {
                println!(
                    "    {} {:?} {:?} {}..{:?} packets {} received {} written {} muted {:?}",
                    track.identity,
                    track.source,
                    track.codec,
                    track.start.0,
                    track.end,
                    track.packets,
                    track.received_units,
                    track.written_units,
                    track.muted
                );
            }
            for entry in &manifest.ledger {
                let place = (entry.stored, entry.in_backup, entry.lost);
                println!("    {} #{} {}+{} {place:?}", entry.playlist, entry.n, entry.start.0, entry.duration90k);
            }
        }
    }

    pub fn check(&self) {
        let newest = self.world.watched.newest_attempt;
        for process in &self.world.processes {
            check_claims(
                process,
                process.attempt == newest,
                &self.world.primary,
                self.world.backup.as_ref(),
                self.world.config.segment_seconds,
            );
        }
    }

    fn come_or_go(&mut self) {
        let person = self.rng.below(3) as usize;
        if !self.world.people[person].present {
            self.world.join(person);
            self.publish_as(person, Source::Microphone);
            if self.rng.chance(70) {
                self.publish_as(person, Source::Camera);
            }
        } else if self.rng.chance(40) {
            self.world.leave(person);
        }
    }

    fn publish(&mut self) {
        let person = self.rng.below(3) as usize;
        let source = SOURCES[self.rng.below(4) as usize];
        if self.world.people[person].present {
            self.publish_as(person, source);
        }
    }

    pub fn publish_as(&mut self, person: usize, source: Source) {
        if self.world.tracks.len() >= MOST_TRACKS {
            return;
        }
        let number = self.next_track;
        self.next_track += 1;
        let now = Tick(self.world.now);
        let (codec, publisher) = match source {
            Source::Microphone | Source::ScreenShareAudio => {
                (Codec::Opus, Publisher { source, interval_us: 60_000, ..Publisher::microphone(number, now) })
            }
            _ => {
                let codec = if self.rng.chance(25) { Codec::Vp8 } else { Codec::H264 };
                let rotation = if self.rng.chance(10) { 90 } else { 0 };
                let camera = Publisher::camera(number, now);
                let camera = Publisher { source, codec, rotation, interval_us: 100_000, key_every: 30, fragments: 2, ..camera };
                (codec, camera)
            }
        };
        let publisher = Publisher { frame: number * 10_000, ..publisher };
        self.world.publish(person, codec, publisher);
    }

    /// A camera that passes untouched.
    pub fn publish_h264(&mut self, person: usize) {
        let number = self.next_track;
        self.next_track += 1;
        let camera = Publisher::camera(number, Tick(self.world.now));
        let camera = Publisher { frame: number * 10_000, interval_us: 100_000, key_every: 30, fragments: 2, ..camera };
        self.world.publish(person, Codec::H264, camera);
    }

    fn any_track(&mut self) -> Option<u32> {
        let tracks: Vec<u32> = self.world.tracks.keys().copied().collect();
        (!tracks.is_empty()).then(|| tracks[self.rng.below(tracks.len() as u64) as usize])
    }

    fn unpublish(&mut self) {
        if let Some(track) = self.any_track() {
            self.world.unpublish(track);
        }
    }

    fn mute_or_unmute(&mut self) {
        if let Some(track) = self.any_track() {
            let muted = self.world.tracks[&track].muted;
            self.world.mute(track, !muted);
        }
    }

    fn change_publisher(&mut self) {
        let (size, rotation) = (self.rng.chance(50), self.rng.below(4) as usize);
        let Some(publication) = self.any_track().and_then(|track| self.world.tracks.get_mut(&track)) else { return };
        let publisher = &mut publication.publisher;
        if size {
            publisher.size = if publisher.size == (640, 360) { (320, 240) } else { (640, 360) };
            publisher.force_key = true;
        } else {
            publisher.rotation = [0, 90, 180, 270][rotation];
        }
    }

    fn change_network(&mut self) {
        let pick = |rng: &mut Lcg, of: &[u64]| of[rng.below(of.len() as u64) as usize];
        let rng = &mut self.rng;
        self.world.network = Network {
            delay_us: pick(rng, &[1_000, 30_000, 200_000]),
            jitter_us: pick(rng, &[0, 20_000, 100_000]),
            late: pick(rng, &[0, 0, 3, 20]),
            lost: pick(rng, &[0, 0, 0, 2, 10]),
        };
        self.harmed |= self.world.network.lost > 0;
    }

    fn mood(&mut self) -> Mood {
        [Mood::WELL, Mood::WELL, Mood::AWAY, Mood::DENIES, Mood::SLOW, Mood::SHAKY][self.rng.below(6) as usize]
    }

    fn change_storage(&mut self) {
        let mood = self.mood();
        match &mut self.world.backup {
            Some(backup) if self.rng.chance(40) => backup.mood = mood,
            _ => self.world.primary.mood = mood,
        }
    }

    fn change_spool(&mut self) {
        let Some(newest) = self.world.newest() else { return };
        let now = self.world.now;
        let what = self.rng.below(8);
        let process = &mut self.world.processes[newest];
        match what {
            0..=2 => process.disk_lag_us = 1_000,
            3..=5 => process.disk_lag_us = 400_000,
            6 => {
                process.disk.fails = !process.disk.fails;
                self.harmed = true;
            }
            _ => {
                process.order(now, Input::SpoolFull(true));
                self.harmed = true;
                self.world.run_ms(500 + self.rng.below(2_000));
                if let Some(process) = self.world.processes.get_mut(newest) {
                    process.order(self.world.now, Input::SpoolFull(false));
                }
            }
        }
    }

    fn change_transcoder(&mut self) {
        let least_us = [2_000, 20_000, 90_000, 2_000_000][self.rng.below(4) as usize];
        let undecodable = if self.rng.chance(20) { 2 } else { 0 };
        self.harmed |= undecodable > 0 || least_us > 50_000;
        for process in &mut self.world.processes {
            (process.transcoder.least_us, process.transcoder.undecodable) = (least_us, undecodable);
        }
    }

    fn lose_connection(&mut self) {
        let Some(newest) = self.world.newest().filter(|i| self.world.is_connected(*i)) else { return };
        self.harmed = true;
        self.world.disconnect(newest);
        let away_ms = [200, 2_000, 12_000][self.rng.below(3) as usize];
        let life = self.world.processes[newest].life;
        self.world.run_ms(away_ms);
        if let Some(index) = self.world.processes.iter().position(|process| process.life == life) {
            self.world.connect(index);
        }
    }

    fn subscribe(&mut self) {
        let nobody = Selection::Only(["bob".to_owned()].into());
        let video = if self.rng.chance(40) { nobody } else { Selection::All };
        self.world.config.subscription = Subscription { video, ..Subscription::default() };
        self.world.order(Order::Subscription(self.world.config.subscription.clone()));
    }

    fn away_ms(&mut self) -> u64 {
        200 + self.rng.below(4_000)
    }

    /// The container is killed; another one begins on the same spool.
    fn crash_on_spool(&mut self) {
        let Some(newest) = self.world.newest().filter(|i| self.world.processes[*i].finished.is_none()) else { return };
        if !self.world.starts.is_empty() {
            return;
        }
        let attempt = self.world.processes[newest].attempt;
        let disk = self.world.kill(newest);
        self.kills += 1;
        let at = self.world.now + self.away_ms() * 1000;
        self.world.start_at(at, Start { attempt, disk: Some(disk) });
    }

    /// The pod is gone with its spool; the next attempt has storage alone.
    fn crash_without_spool(&mut self) {
        let Some(newest) = self.world.newest().filter(|i| self.world.processes[*i].finished.is_none()) else { return };
        if !self.world.starts.is_empty() {
            return;
        }
        let attempt = self.world.processes[newest].attempt;
        drop(self.world.kill(newest));
        (self.kills, self.harmed) = (self.kills + 1, true);
        let at = self.world.now + self.away_ms() * 1000;
        self.world.start_at(at, Start { attempt: attempt + 1, disk: None });
    }

    /// SIGTERM.
    fn evict(&mut self) {
        let Some(newest) = self.world.newest() else { return };
        let now = self.world.now;
        let process = &mut self.world.processes[newest];
        if process.finished.is_none() && process.interrupted.is_none() {
            process.interrupted = Some(now);
            process.order(now, Input::Order(Order::Stop(StopReason::Interrupted)));
            self.harmed = true;
        }
    }

    /// An interrupted attempt that has ended is gone on from by the next.
    fn go_on_after_sigterm(&mut self) {
        let Some(newest) = self.world.newest() else { return };
        let process = &self.world.processes[newest];
        if process.finished == Some(Outcome::Interrupted) && self.world.starts.is_empty() {
            let attempt = process.attempt + 1;
            drop(self.world.kill(newest));
            let at = self.world.now + self.away_ms() * 1000;
            self.world.start_at(at, Start { attempt, disk: None });
        }
    }

    /// The node is not heard of any more and still records; the next attempt begins elsewhere.
    fn lose_node(&mut self) {
        let Some(newest) = self.world.newest().filter(|i| self.world.processes[*i].finished.is_none()) else { return };
        if self.world.processes.len() > 1 || !self.world.starts.is_empty() {
            return;
        }
        (self.takeovers, self.harmed) = (self.takeovers + 1, true);
        if self.rng.chance(30) {
            self.world.disconnect(newest);
        }
        let attempt = self.world.processes[newest].attempt + 1;
        let at = self.world.now + self.away_ms() * 1000;
        self.world.start_at(at, Start { attempt, disk: None });
    }

    /// All is well from now on; the recording is stopped and comes to its end.
    pub fn end(&mut self) {
        self.world.primary.mood = Mood::WELL;
        if let Some(backup) = &mut self.world.backup {
            backup.mood = Mood::WELL;
        }
        for process in &mut self.world.processes {
            (process.transcoder.least_us, process.disk.fails) = (2_000, false);
        }
        self.world.stopped = true;
        self.world.order(Order::Stop(StopReason::StopRequested));
        let until = self.world.now + END_WITHIN_MS * 1000;
        while !self.world.processes.iter().all(|process| process.finished.is_some()) || !self.world.is_over() {
            assert!(self.world.now < until, "{END_WITHIN_MS} ms after the order to stop it has not ended");
            self.world.run_ms(2_000);
            self.go_on_after_sigterm();
            self.check();
        }
        self.check_end();
    }

    fn check_end(&self) {
        let newest = self.world.newest().expect("a recorder");
        let process = &self.world.processes[newest];
        let manifest = process.session.manifest();
        for other in self.world.processes.iter().filter(|other| self.world.overtaken.contains(&other.attempt)) {
            let ended = matches!(other.finished, Some(Outcome::Superseded | Outcome::Interrupted));
            assert!(ended, "attempt {} is fenced: {:?}", other.attempt, other.finished);
        }
        let outcome = process.finished.expect("it has ended");
        assert!(
            matches!(outcome, Outcome::StopRequested | Outcome::NoUsers | Outcome::UploaderFailed | Outcome::NoRecordedData),
            "{outcome:?}"
        );
        let open = manifest.ledger.iter().find(|entry| !entry.stored && !entry.in_backup && !entry.lost);
        assert!(open.is_none(), "neither stored nor given up: {open:?}");
        let buckets: Vec<&Bucket> = [Some(&self.world.primary), self.world.backup.as_ref()].into_iter().flatten().collect();
        for bucket in buckets {
            for (name, text) in bucket.playlists() {
                check_playlist(name, text, self.world.config.segment_seconds + HARD_EXTRA_SECONDS);
            }
        }
        endings::check(manifest, outcome, &self.world, self.harmed);
    }
}

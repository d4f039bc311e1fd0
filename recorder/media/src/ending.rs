//! When and how a recording ends: the last media, the last objects, the outcome.

use crate::stream::Stream;
use crate::{MediaTime, Mode, Order, Outcome, Output, Session, StopReason, Tick};

/// After the drain time-out playlists and manifest have this long for their last state.
const LAST_PUTS_US: u64 = 10_000_000;

/// SIGTERM: Kubernetes' default grace of 30 s holds this, the last puts and the exit. What is not stored stays in the spool or is adopted.
const INTERRUPTED_DRAIN_US: u64 = 15_000_000;

/// What still waits for the transcoder at the end has this long, and at most half of the drain time-out: storage needs the rest.
const PICTURES_DRAIN_US: u64 = 120_000_000;
/// After SIGTERM and Cancel.
const PICTURES_DRAIN_HURRIED_US: u64 = 5_000_000;

#[derive(Debug)]
pub(crate) struct Ending {
    pub outcome: Outcome,
    /// Media up to here belongs to the recording.
    pub stamp: MediaTime,
    pub since: Tick,
    /// The lines are not waited for.
    pub at_once: bool,
    /// All media is with its playlists.
    pub closed: bool,
    /// Nothing more is expected of storage but the last puts, until then.
    last_puts: Option<Tick>,
    /// Everything else is stored: snapshots are waited for until then.
    snapshots_until: Option<Tick>,
    manifest_asked: bool,
    finished: bool,
}

impl Session {
    pub(crate) fn is_finished(&self) -> bool {
        self.ending.as_ref().is_some_and(|e| e.finished)
    }

    pub(crate) fn order(&mut self, now: Tick, order: Order) {
        match order {
            Order::Stop(reason) => self.stop(now, reason),
            Order::Cancel => self.end(now, Outcome::Cancelled, self.media_at(now), true),
            Order::Limits { idle_timeout_seconds, max_duration_seconds, drain_timeout_seconds } => {
                self.config.idle_timeout_seconds = idle_timeout_seconds;
                self.config.drain_timeout_seconds = drain_timeout_seconds;
                self.set_max_duration(now, max_duration_seconds);
            }
            Order::Subscription(subscription) => self.subscribe(now, subscription),
            Order::Compose(composition) => self.compose(now, composition),
        }
    }

    /// A limit that is over already when it is ordered ends the recording now: what was recorded beyond it is kept.
    fn set_max_duration(&mut self, now: Tick, seconds: Option<u32>) {
        self.config.max_duration_seconds = seconds;
        if self.ending.is_none() && self.max_deadline().is_some_and(|(at, _)| at < now) {
            self.end(now, Outcome::MaxDurationReached, self.media_at(now), false);
        }
    }

    fn stop(&mut self, now: Tick, reason: StopReason) {
        let (outcome, at_once) = match reason {
            StopReason::Superseded => {
                self.store.superseded = true;
                return;
            }
            StopReason::StopRequested => (Outcome::StopRequested, false),
            StopReason::Deleted => (Outcome::Deleted, false),
            // No packet comes any more: nothing to wait for.
            StopReason::RemovedFromChannel => (Outcome::RemovedFromChannel, true),
            StopReason::Disconnected => (Outcome::Disconnected, true),
            StopReason::Interrupted => (Outcome::Interrupted, true),
        };
        self.end(now, outcome, self.media_at(now), at_once);
    }

    /// The first ending counts; only a more urgent order hurries it.
    fn end(&mut self, now: Tick, outcome: Outcome, stamp: MediaTime, at_once: bool) {
        match &mut self.ending {
            Some(ending) => {
                ending.at_once |= at_once;
                if matches!(outcome, Outcome::Cancelled | Outcome::Interrupted) {
                    ending.outcome = outcome;
                }
            }
            None => {
                self.store.hurry(now);
                self.snapshots.hurry(now);
                self.ending = Some(Ending {
                    outcome,
                    stamp,
                    since: now,
                    at_once,
                    closed: false,
                    last_puts: None,
                    snapshots_until: None,
                    manifest_asked: false,
                    finished: false,
                });
            }
        }
    }

    /// Nobody is there (or nobody publishes), while connected.
    pub(crate) fn update_idle(&mut self, now: Tick) {
        let occupied = if self.config.idle_counts_publishers {
            self.tracks.values().any(|t| t.published)
        } else {
            self.people.values().any(|p| p.present)
        };
        self.idle_since = match (self.connected && !occupied, self.idle_since) {
            (true, None) => Some(now),
            (true, since) => since,
            (false, _) => None,
        };
    }

    fn idle_deadline(&self) -> Option<Tick> {
        self.idle_since.map(|since| since.after(u64::from(self.config.idle_timeout_seconds) * 1_000_000))
    }

    /// The media time at which the recording is as long as it may be, and its moment.
    fn max_deadline(&self) -> Option<(Tick, MediaTime)> {
        let (time, seconds) = (self.time?, self.config.max_duration_seconds?);
        let stamp = MediaTime(i64::from(seconds) * MediaTime::PER_SECOND);
        // Rounded up: at that moment the stamp is reached.
        let left_us = ((stamp.0 - time.base.0).max(0) as u64 * 100).div_ceil(9);
        Some((time.at.after(left_us), stamp.max(time.base)))
    }

    pub(crate) fn next_deadline(&self) -> Option<Tick> {
        match &self.ending {
            None => self.idle_deadline().into_iter().chain(self.max_deadline().map(|(at, _)| at)).min(),
            Some(ending) if !ending.closed => Some(self.last_line_wake(ending)),
            Some(ending) if !self.is_drained() => Some(self.pictures_deadline(ending)),
            Some(ending) => {
                // Playlists go first.
                let waits = self.store.playlists_are_settled() && !self.snapshots.is_settled();
                let snapshots = ending.snapshots_until.filter(|_| waits);
                let puts = ending.last_puts.unwrap_or_else(|| self.drain_deadline(ending));
                Some(snapshots.map_or(puts, |until| until.min(puts)))
            }
        }
    }

    /// Every playlist has written what it was given.
    fn is_drained(&self) -> bool {
        self.lanes.values().all(|l| l.stream.as_ref().is_none_or(|s| s.is_drained()))
    }

    fn pictures_deadline(&self, ending: &Ending) -> Tick {
        let half = u64::from(self.config.drain_timeout_seconds) * 1_000_000 / 2;
        ending.since.after(match ending.outcome {
            Outcome::Interrupted | Outcome::Cancelled => PICTURES_DRAIN_HURRIED_US.min(half),
            _ => PICTURES_DRAIN_US.min(half),
        })
    }

    /// Transcoding takes too long: the recording ends without what is left, and says so.
    fn give_up_pictures(&mut self) {
        let keys: Vec<_> = self.lanes.keys().copied().collect();
        for key in keys {
            if let Some(stream) = self.lanes.get_mut(&key).and_then(|l| l.stream.as_mut()) {
                stream.give_up_pictures();
            }
            self.drain_effects(key);
        }
    }

    /// When the lines have run out.
    pub(crate) fn last_line_wake(&self, ending: &Ending) -> Tick {
        let line = ending.since.after(crate::session::LINE_US);
        if self.time.is_none() || ending.at_once { ending.since } else { line }
    }

    fn drain_deadline(&self, ending: &Ending) -> Tick {
        let timeout = u64::from(self.config.drain_timeout_seconds) * 1_000_000;
        ending.since.after(match ending.outcome {
            Outcome::Cancelled => 0, // what is not stored by now is not wanted
            Outcome::Interrupted => INTERRUPTED_DRAIN_US.min(timeout),
            _ => timeout,
        })
    }

    pub(crate) fn check_ending(&mut self, now: Tick) {
        if self.store.superseded {
            self.end(now, Outcome::Superseded, self.media_at(now), true);
            self.finish(Outcome::Superseded);
            return;
        }
        if self.ending.is_none() {
            self.check_limits(now);
        }
        if self.close_media(now) {
            self.close_store(now);
        }
    }

    fn check_limits(&mut self, now: Tick) {
        if let Some((_, stamp)) = self.max_deadline().filter(|(at, _)| now >= *at) {
            self.end(now, Outcome::MaxDurationReached, stamp, false);
        } else if self.idle_deadline().is_some_and(|at| now >= at) {
            self.end(now, self.idle_outcome(), self.media_at(now), false);
        }
    }

    fn idle_outcome(&self) -> Outcome {
        let recorded = !self.manifest.ledger.is_empty() || self.lanes.values().any(|l| l.stream.is_some());
        match (recorded, self.saw_unsupported) {
            (true, _) => Outcome::NoUsers,
            (false, true) => Outcome::CodecNotSupported,
            (false, false) => Outcome::NoRecordedData,
        }
    }

    /// Ends every playlist once its lines are empty up to the stamp. True: all media was handed out.
    fn close_media(&mut self, now: Tick) -> bool {
        let Some(ending) = &self.ending else { return false };
        if ending.closed {
            if !self.is_drained() && now >= self.pictures_deadline(ending) {
                self.give_up_pictures();
            }
            return self.is_drained();
        }
        let (stamp, at_once) = (ending.stamp, ending.at_once);
        let reached = |lane: &crate::lane::Lane| {
            let horizon = match (&self.config.mode, lane.participant.and_then(|participant| self.people.get(&participant))) {
                (Mode::Composite(_), _) => lane.horizon,
                (Mode::Individual, Some(person)) => person.horizon,
                // Of an earlier process; nobody has come back to it.
                (Mode::Individual, None) => return true,
            };
            horizon.is_some_and(|horizon| horizon >= stamp)
        };
        let waits = self.lanes.values().filter(|l| l.stream.is_some() || l.has_work(&self.tracks));
        if self.time.is_some() && !at_once && !waits.into_iter().all(reached) {
            return false;
        }
        self.close_lanes(stamp);
        false
    }

    fn close_lanes(&mut self, stamp: MediaTime) {
        if let Some(ending) = &mut self.ending {
            ending.closed = true;
        }
        self.close_gap(stamp, "connection");
        self.close_gap(stamp, "spool");
        let keys: Vec<_> = self.lanes.keys().copied().collect();
        for key in keys {
            if let Some(lane) = self.lanes.get_mut(&key) {
                lane.end(stamp);
                lane.stream.iter_mut().for_each(Stream::finish);
            }
            self.drain_effects(key);
        }
        self.end_restarts_without_media();
        self.store.manifest_changed();
        self.end_stays(stamp);
    }

    fn end_stays(&mut self, stamp: MediaTime) {
        let interrupted = self.ending.as_ref().is_some_and(|e| e.outcome == Outcome::Interrupted);
        if interrupted {
            return;
        }
        let stays = self.manifest.participants.iter_mut().flat_map(|p| p.stays.iter_mut());
        stays.filter(|(_, end)| end.is_none()).for_each(|(start, end)| *end = Some(stamp.max(*start)));
        self.manifest.tracks.iter_mut().for_each(|track| track.close(stamp));
    }

    /// Storage takes the rest: segments, then playlists, then the manifest with the outcome.
    fn close_store(&mut self, now: Tick) {
        let Some(ending) = &self.ending else { return };
        let outcome = ending.outcome;
        let timed_out = now >= self.drain_deadline(ending);
        let (last_puts, snapshots_until) = (ending.last_puts, ending.snapshots_until);
        let Some(until) = last_puts else {
            let interrupted = outcome == Outcome::Interrupted;
            let settled = if interrupted { self.store.media_is_stored() } else { self.store.media_is_settled() };
            if settled || timed_out {
                self.begin_last_puts(now, outcome);
                self.close_store(now);
            }
            return;
        };
        let hurry = now >= until;
        if !self.store.playlists_are_settled() && !hurry {
            return;
        }
        if !self.store.playlists_are_stored() {
            self.fail_to_store();
        }
        if !(self.snapshots.is_settled() || hurry || snapshots_until.is_none_or(|until| now >= until)) {
            return;
        }
        self.snapshots.give_up(&mut self.manifest.snapshots);
        let asked = self.ending.as_mut().is_some_and(|e| std::mem::replace(&mut e.manifest_asked, true));
        if !asked {
            self.manifest.outcome = self.ending.as_ref().map(|e| e.outcome);
            self.store.manifest_changed();
        } else if (self.store.manifest_is_settled() && (outcome == Outcome::Interrupted || self.store.backup_is_clear())) || hurry {
            let outcome = self.ending.as_ref().map_or(outcome, |e| e.outcome);
            self.finish(outcome);
        }
    }

    fn begin_last_puts(&mut self, now: Tick, outcome: Outcome) {
        let interrupted = outcome == Outcome::Interrupted;
        let failed = !self.store.media_is_stored();
        if !interrupted && !self.store.media_is_settled() {
            let lost = self.store.give_up(&mut self.manifest);
            lost.into_iter().for_each(|entry| self.segment_lost(entry));
        }
        if failed && !interrupted {
            self.fail_to_store();
        }
        self.store.end_playlists(now, !interrupted);
        let timeout = u64::from(self.config.drain_timeout_seconds) * 1_000_000;
        if let Some(ending) = &mut self.ending {
            // In good time the puts may use what is left of it; always at least the last ones' due.
            let whole = ending.since.after(timeout);
            let late = failed || self.store.is_backed_up();
            ending.last_puts = Some(if late { now.after(LAST_PUTS_US) } else { whole.max(now.after(LAST_PUTS_US)) });
            ending.snapshots_until = Some(if ending.outcome == Outcome::Cancelled { now } else { now.after(LAST_PUTS_US) });
        }
    }

    /// Something that should be in storage is not. An interrupted or cancelled recording makes no such promise.
    fn fail_to_store(&mut self) {
        let promised = |e: &&mut Ending| !matches!(e.outcome, Outcome::Interrupted | Outcome::Cancelled);
        if let Some(ending) = self.ending.as_mut().filter(promised) {
            ending.outcome = Outcome::UploaderFailed;
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        if let Some(ending) = &mut self.ending {
            ending.finished = true;
            ending.outcome = outcome;
        }
        self.manifest.outcome = Some(outcome);
        self.outputs.push_back(Output::ReportChanged);
        self.outputs.push_back(Output::Finished(outcome));
    }
}

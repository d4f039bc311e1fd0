//! What a session shows of itself.

use crate::lane::Lane;
use crate::stream::Stream;
use crate::{Degradation, Outcome, Output, Report, Session, State, names};
use std::collections::BTreeMap;

/// The part of a report whose change is told at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    state: State,
    connected: bool,
    participants: u32,
    playlists_stored: u32,
    uploaded_files: u64,
    backup_files: u64,
    gaps: u32,
    degraded: Vec<Degradation>,
}

impl Session {
    pub fn report(&self) -> Report {
        let ledger = &self.manifest.ledger;
        let totals = ledger.totals();
        let waiting = ledger.iter().filter(|e| !e.stored && !e.in_backup && !e.lost).map(|e| e.start.0).min();
        let gaps = &self.manifest.gaps;
        let streams = || self.lanes.values().filter_map(|lane| lane.stream.as_ref());
        Report {
            state: self.state(),
            connected: self.connected,
            participants: self.people.values().filter(|p| p.present).count() as u32,
            first_media: self.manifest.epoch_time,
            recorded_files: totals.entries as u64,
            uploaded_files: totals.stored,
            uploaded_bytes: totals.stored_bytes,
            backup_files: totals.backed_up,
            recorded90k: self.longest_playlist(),
            backlog90k: waiting.zip(ledger.end()).map_or(0, |(from, end)| end.0 - from),
            transcoding90k: streams().map(Stream::waiting90k).max().unwrap_or(0),
            overload_step: self.lanes.values().map(Lane::overload_step).max().unwrap_or(0),
            playlists_stored: self.manifest.playlists.iter().filter(|p| p.stored).count() as u32,
            gaps: gaps.len() as u32,
            gap90k: gaps.iter().map(|g| g.duration90k).sum(),
            last_gap: gaps.last().cloned(),
            packets: self.manifest.tracks.iter().map(|t| t.packets).sum(),
            packets_lost: self.manifest.tracks.iter().map(|t| t.lost).sum(),
            snapshots: self.manifest.snapshots.stored,
            snapshots_lost: self.manifest.snapshots.lost,
            degraded: self.degraded(),
        }
    }

    /// Media of the longest playlist, all volumes, without what is missing in between.
    fn longest_playlist(&self) -> i64 {
        let mut lengths = BTreeMap::<&str, i64>::new();
        for (playlist, recorded90k) in self.manifest.ledger.recorded() {
            *lengths.entry(names::volume_of(playlist).0).or_default() += recorded90k;
        }
        lengths.into_values().max().unwrap_or(0)
    }

    fn state(&self) -> State {
        match &self.ending {
            Some(ending) if ending.outcome == Outcome::Interrupted => State::Interrupted,
            Some(_) if self.is_finished() => State::Finished,
            Some(_) => State::Draining,
            None if self.lanes.values().any(|l| l.stream.is_some()) => State::Recording,
            None if self.ever_connected => State::Waiting,
            None => State::Connecting,
        }
    }

    fn degraded(&self) -> Vec<Degradation> {
        let unsupported = self.misses_a_codec();
        let overloaded = self.lanes.values().filter_map(|l| l.stream.as_ref()).any(|s| s.is_overloaded());
        let all = [
            (unsupported, Degradation::CodecNotSupported),
            (self.spool_full, Degradation::DiskFull),
            (self.store.both_fail(), Degradation::BackupUnavailable),
            (self.store.uses_backup(), Degradation::StoredInBackup),
            (self.store.is_failing() && !self.store.uses_backup(), Degradation::StorageUnavailable),
            (overloaded, Degradation::Overloaded),
        ];
        all.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect()
    }

    pub(crate) fn show_report(&mut self) {
        let totals = self.manifest.ledger.totals();
        let shown = Shown {
            state: self.state(),
            connected: self.connected,
            participants: self.people.values().filter(|p| p.present).count() as u32,
            playlists_stored: self.manifest.playlists.iter().filter(|p| p.stored).count() as u32,
            uploaded_files: totals.stored,
            backup_files: totals.backed_up,
            gaps: self.manifest.gaps.len() as u32,
            degraded: self.degraded(),
        };
        if self.shown.as_ref() != Some(&shown) {
            self.shown = Some(shown);
            self.outputs.push_back(Output::ReportChanged);
        }
    }
}

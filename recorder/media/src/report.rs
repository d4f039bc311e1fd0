//! What a session shows of itself.

use crate::{Degradation, Output, Report, Session, State};

/// The part of a report whose change is told at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    state: State,
    connected: bool,
    participants: u32,
    playlists_stored: u32,
    uploaded_files: u64,
    gaps: u32,
    degraded: Vec<Degradation>,
}

impl Session {
    pub fn report(&self) -> Report {
        let ledger = &self.manifest.ledger;
        let stored = ledger.iter().filter(|e| e.stored);
        let first = ledger.iter().map(|e| e.start.0).min();
        let end = ledger.iter().map(|e| e.start.0 + e.duration90k).max();
        let waiting = ledger.iter().filter(|e| !e.stored && !e.lost).map(|e| e.start.0).min();
        let gaps = &self.manifest.gaps;
        Report {
            state: self.state(),
            connected: self.connected,
            participants: self.people.values().filter(|p| p.present).count() as u32,
            first_media: self.manifest.epoch_time,
            recorded_files: ledger.len() as u64,
            uploaded_files: stored.clone().count() as u64,
            uploaded_bytes: stored.map(|e| e.bytes).sum(),
            recorded90k: end.unwrap_or(0) - first.unwrap_or(0),
            backlog90k: waiting.zip(end).map_or(0, |(from, end)| end - from),
            playlists_stored: self.manifest.playlists.iter().filter(|p| p.stored).count() as u32,
            gaps: gaps.len() as u32,
            gap90k: gaps.iter().map(|g| g.duration90k).sum(),
            last_gap: gaps.last().cloned(),
            packets: self.manifest.tracks.iter().map(|t| t.packets).sum(),
            packets_lost: self.manifest.tracks.iter().map(|t| t.lost).sum(),
            degraded: self.degraded(),
        }
    }

    fn state(&self) -> State {
        match &self.ending {
            Some(_) if self.is_finished() => State::Finished,
            Some(_) => State::Draining,
            None if self.lanes.values().any(|l| l.stream.is_some()) => State::Recording,
            None if self.ever_connected => State::Waiting,
            None => State::Connecting,
        }
    }

    fn degraded(&self) -> Vec<Degradation> {
        let unsupported = self.tracks.values().any(|t| t.published && t.playlist.is_none() && self.is_wanted(t.source));
        let all = [
            (unsupported, Degradation::CodecNotSupported),
            (self.spool_full, Degradation::DiskFull),
            (self.store.failing, Degradation::StorageUnavailable),
        ];
        all.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect()
    }

    pub(crate) fn show_report(&mut self) {
        let shown = Shown {
            state: self.state(),
            connected: self.connected,
            participants: self.people.values().filter(|p| p.present).count() as u32,
            playlists_stored: self.manifest.playlists.iter().filter(|p| p.stored).count() as u32,
            uploaded_files: self.manifest.ledger.iter().filter(|e| e.stored).count() as u64,
            gaps: self.manifest.gaps.len() as u32,
            degraded: self.degraded(),
        };
        if self.shown.as_ref() != Some(&shown) {
            self.shown = Some(shown);
            self.outputs.push_back(Output::ReportChanged);
        }
    }
}

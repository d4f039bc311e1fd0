//! The holes of a recording.

use crate::{Codec, Gap, GapReason, MediaTime, PlaylistRecord, Session, Source, TrackRecord, names};

/// Gaps of one reason closer than this are one gap.
const SAME_GAP_90K: i64 = MediaTime::PER_SECOND;

impl Gap {
    pub(crate) fn end(&self) -> MediaTime {
        MediaTime(self.start.0 + self.duration90k)
    }
}

impl Session {
    pub(crate) fn segment_lost(&mut self, entry: usize) {
        let entry = &self.manifest.ledger[entry];
        let (start, end, name) = (entry.start, entry.end(), entry.playlist.clone());
        self.gap(start, end, GapReason::SegmentLost, Some(name));
    }

    /// What an earlier process had not finished of a playlist when it had finished newer media of another (`end`), or when a track was over
    /// already: its last seconds are finished after that.
    pub(crate) fn book_unfinished(&mut self, end: MediaTime) {
        let unfinished = |playlist| self.unfinished(playlist, end).map(|(from, until)| (from, until, playlist.name.clone()));
        let holes: Vec<_> = self.manifest.playlists.iter().filter_map(unfinished).collect();
        holes.into_iter().for_each(|(from, until, name)| self.gap(from, until, GapReason::RecorderRestarted, Some(name)));
    }

    fn unfinished(&self, playlist: &PlaylistRecord, end: MediaTime) -> Option<(MediaTime, MediaTime)> {
        let is_share = |playlist: &PlaylistRecord| playlist.name.contains("__uid_e_screen");
        let of_share = |source| matches!(source, Source::ScreenShare | Source::ScreenShareAudio);
        let playlists = || self.manifest.playlists.iter();
        let volumes = || playlists().filter(|other| names::volume_of(&other.name).0 == names::volume_of(&playlist.name).0);
        if volumes().next_back() != Some(playlist) {
            return None;
        }
        // Of several cameras it is not known which is where.
        let alone =
            playlists().filter(|p| p.identity == playlist.identity && is_share(p) == is_share(playlist)).count() == volumes().count();
        let is_here = |t: &TrackRecord| alone || playlist.has_audio && t.codec == Codec::Opus;
        let of_everybody = !playlist.name.contains("__uid_e_");
        let of_one = |t: &TrackRecord| t.identity == playlist.identity && of_share(t.source) == is_share(playlist);
        let of_it = |t: &&TrackRecord| t.recorded && (of_everybody || of_one(t));
        let spans = self.manifest.tracks.iter().filter(of_it).filter_map(|t| match t.end {
            None => Some((t.start, end)),
            Some(over) => (t.packets > 0 && is_here(t)).then(|| (t.start, t.wanted_until(over))),
        });
        let (begin, until) = spans.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1)))?;
        let ends = volumes().filter_map(|volume| self.manifest.ledger.bounds(&volume.name)).map(|bounds| bounds.end);
        let finished = ends.max().unwrap_or(begin);
        let stated = |gap: &&Gap| gap.playlist.as_ref().is_none_or(|name| *name == playlist.name) && gap.start <= finished;
        let from = self.manifest.gaps.iter().filter(stated).map(Gap::end).fold(finished, MediaTime::max);
        (from < until).then_some((from, until))
    }

    /// Books a hole; one that follows closely on another of its kind makes it longer.
    pub(crate) fn gap(&mut self, start: MediaTime, end: MediaTime, reason: GapReason, playlist: Option<String>) {
        let same = |g: &&mut Gap| g.reason == reason && g.playlist == playlist && !g.open;
        let reaches = |g: &&mut Gap| start.0 <= g.end().0 + SAME_GAP_90K;
        // What a replay comes across again may lie behind newer ones, and its clocks differ by a little.
        let known = match self.replayed {
            true => self.manifest.gaps.iter_mut().rev().filter(same).find(|g| reaches(g) && end >= g.start),
            false => self.manifest.gaps.iter_mut().rev().find(same).filter(|g| reaches(g) && start >= g.start),
        };
        match known {
            Some(gap) => gap.duration90k = gap.duration90k.max(end.0 - gap.start.0),
            None => self.manifest.gaps.push(Gap { start, duration90k: end.0 - start.0, reason, playlist, open: false }),
        }
        self.store.manifest_changed();
    }
}

//! Who is there and what they publish.

use crate::clock::ParticipantClock;
use crate::lane::{Lane, LaneEvent};
use crate::track::{Track, is_recordable, is_video};
use crate::{
    Codec, Gap, GapReason, Input, MediaKinds, MediaTime, ParticipantKey, ParticipantRecord, PlaylistKey, Session, Source, Tick, TrackKey,
    TrackRecord, names,
};

#[derive(Debug)]
pub(crate) struct Person {
    pub identity: String,
    pub escaped: String,
    pub present: bool,
    pub clock: ParticipantClock,
    /// Media up to here has left the lines.
    pub horizon: Option<MediaTime>,
}

impl Session {
    pub(crate) fn roster(&mut self, now: Tick, input: Input) {
        match input {
            Input::Connected => self.set_connected(now, true),
            Input::Disconnected => self.set_connected(now, false),
            Input::Joined { participant, identity, escaped } => self.joined(now, participant, identity, escaped),
            Input::Left { participant } => self.left(now, participant),
            Input::Published { track, participant, source, codec, muted } => {
                self.published(now, track, participant, source, codec, muted);
            }
            Input::Unpublished { track } => self.unpublished(now, track),
            Input::Muted { track } => self.set_muted(now, track, true),
            Input::Unmuted { track } => self.set_muted(now, track, false),
            _ => {}
        }
        self.store.manifest_changed();
    }

    fn set_connected(&mut self, now: Tick, connected: bool) {
        if self.connected == connected {
            return;
        }
        self.connected = connected;
        if !connected {
            self.open_gap(now, "connection", GapReason::Disconnected);
        } else {
            self.ever_connected = true;
            self.close_gap(now, "connection");
        }
        self.update_idle(now);
    }

    /// A hole for everybody that lasts until [`Self::close_gap`].
    fn open_gap(&mut self, now: Tick, kind: &'static str, reason: GapReason) {
        if self.time.is_none() || self.open_gaps.contains_key(kind) {
            return;
        }
        self.open_gaps.insert(kind, self.manifest.gaps.len());
        let start = self.media_at(now);
        self.manifest.gaps.push(Gap { start, duration90k: 0, reason, playlist: None, open: true });
    }

    pub(crate) fn close_gap(&mut self, now: Tick, kind: &'static str) {
        let end = self.media_at(now);
        if let Some(gap) = self.open_gaps.remove(kind).and_then(|index| self.manifest.gaps.get_mut(index)) {
            gap.duration90k = end.0 - gap.start.0;
            gap.open = false;
        }
    }

    pub(crate) fn set_spool_full(&mut self, now: Tick, full: bool) {
        if self.spool_full == full {
            return;
        }
        self.spool_full = full;
        if !full {
            // What comes now does not continue what was there: key frames first, and no loss is counted.
            self.tracks.values_mut().for_each(|track| track.clear());
            return self.close_gap(now, "spool");
        }
        self.open_gap(now, "spool", GapReason::DiskFull);
        let at = self.media_at(now);
        self.lanes.values_mut().for_each(|lane| lane.events.push_back((at, LaneEvent::Pause)));
    }

    fn joined(&mut self, now: Tick, key: ParticipantKey, identity: String, escaped: String) {
        let at = self.media_at(now);
        let person = self.people.entry(key).or_insert_with(|| Person {
            identity: identity.clone(),
            escaped,
            present: false,
            clock: ParticipantClock::default(),
            horizon: None,
        });
        if !std::mem::replace(&mut person.present, true) {
            let known = self.manifest.participants.iter_mut().find(|p| p.identity == identity);
            match known {
                Some(record) => record.stays.push((at, None)),
                None => self.manifest.participants.push(ParticipantRecord { identity, stays: vec![(at, None)] }),
            }
        }
        self.update_idle(now);
    }

    fn left(&mut self, now: Tick, key: ParticipantKey) {
        let at = self.media_at(now);
        let tracks: Vec<TrackKey> = self.tracks.iter().filter(|(_, t)| t.participant == key).map(|(k, _)| *k).collect();
        tracks.into_iter().for_each(|track| self.unpublished(now, track));
        let Some(person) = self.people.get_mut(&key).filter(|p| p.present) else { return };
        person.present = false;
        let record = self.manifest.participants.iter_mut().find(|p| p.identity == person.identity);
        if let Some((_, end @ None)) = record.and_then(|r| r.stays.last_mut()) {
            *end = Some(at);
        }
        self.update_idle(now);
    }

    /// Whoever was there when an earlier process ended: their stays end with what it recorded.
    pub(crate) fn close_stays(&mut self) {
        let Some(end) = self.restarted_at else { return };
        let stays = self.manifest.participants.iter_mut().flat_map(|p| p.stays.iter_mut());
        stays.filter(|(_, e)| e.is_none()).for_each(|(start, e)| *e = Some(end.max(*start)));
        let tracks = self.manifest.tracks.iter_mut().filter(|t| t.end.is_none());
        tracks.for_each(|track| track.end = Some(end.max(track.start)));
    }

    fn published(&mut self, now: Tick, key: TrackKey, participant: ParticipantKey, source: Source, codec: Codec, muted: bool) {
        let Some(person) = self.people.get(&participant).filter(|_| !self.tracks.contains_key(&key)) else { return };
        let at = self.media_at(now);
        let record = self.manifest.tracks.len();
        self.manifest.tracks.push(TrackRecord {
            identity: person.identity.clone(),
            source,
            codec,
            start: at,
            end: None,
            packets: 0,
            lost: 0,
            received_units: 0,
            written_units: 0,
            muted: if muted { vec![(at, None)] } else { Vec::new() },
            recorded: false,
        });
        let mut track = Track::new(participant, source, codec, muted, record);
        let unsupported = self.is_wanted(source) && !is_recordable(source, codec);
        self.saw_unsupported |= unsupported;
        if self.is_wanted(source) && !unsupported {
            let playlist = self.lane_for(participant, source);
            track.playlist = Some(playlist);
            self.manifest.tracks[record].recorded = true;
            if let Some(lane) = self.lanes.get_mut(&playlist) {
                lane.tracks.push(key);
                if !muted {
                    lane.events.push_back((at, LaneEvent::Wanted(key)));
                }
            }
        }
        self.tracks.insert(key, track);
        self.update_idle(now);
    }

    pub(crate) fn is_wanted(&self, source: Source) -> bool {
        match self.config.media {
            MediaKinds::AudioVideo => true,
            MediaKinds::Audio => !is_video(source),
            MediaKinds::Video => is_video(source),
        }
    }

    /// The playlist of a publication: the person's own, the share's own, one more for every further camera at the same time.
    fn lane_for(&mut self, participant: ParticipantKey, source: Source) -> PlaylistKey {
        let alone = self.config.media != MediaKinds::AudioVideo;
        let mut ordinal = 1;
        loop {
            let escaped = self.people.get(&participant).map_or("", |p| p.escaped.as_str());
            let kind = names::kind_suffix(source, alone, ordinal);
            let base = names::individual_base(&self.config.stem, escaped, &kind);
            let found = self.lanes.iter().find(|(_, l)| l.base == base).map(|(key, _)| *key);
            let key = found.unwrap_or(PlaylistKey(self.lanes.len() as u32));
            let lane = self.lanes.entry(key).or_insert_with(|| Lane::new(participant, base));
            lane.participant = participant;
            let taken =
                is_video(source) && lane.tracks.iter().any(|k| self.tracks.get(k).is_some_and(|t| t.published && t.source == source));
            if !taken {
                return key;
            }
            ordinal += 1;
        }
    }

    fn unpublished(&mut self, now: Tick, key: TrackKey) {
        let at = self.media_at(now);
        let Some(track) = self.tracks.get_mut(&key).filter(|t| t.published) else { return };
        track.published = false;
        let record = &mut self.manifest.tracks[track.record];
        record.end = Some(at);
        if let Some((_, end @ None)) = record.muted.last_mut() {
            *end = Some(at);
        }
        match track.playlist.and_then(|p| self.lanes.get_mut(&p)) {
            Some(lane) => lane.events.push_back((at, LaneEvent::Unpublished(key))),
            None => drop(self.tracks.remove(&key)),
        }
        self.update_idle(now);
    }

    fn set_muted(&mut self, now: Tick, key: TrackKey, muted: bool) {
        let at = self.media_at(now);
        let Some(track) = self.tracks.get_mut(&key).filter(|t| t.published && t.muted != muted) else { return };
        track.muted = muted;
        let spans = &mut self.manifest.tracks[track.record].muted;
        match spans.last_mut() {
            Some((_, end @ None)) if !muted => *end = Some(at),
            _ if muted => spans.push((at, None)),
            _ => {}
        }
        if let Some(lane) = track.playlist.and_then(|p| self.lanes.get_mut(&p)) {
            let event = if muted { LaneEvent::Unwanted(key) } else { LaneEvent::Wanted(key) };
            lane.events.push_back((at, event));
        }
    }
}

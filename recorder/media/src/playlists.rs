//! The playlists of a recording: how each comes into being, goes on after a restart, and continues in its next volume.

use crate::lane::clock_of;
use crate::segmenter::Beginning;
use crate::track::Track;
use crate::ts::Streams;
use crate::{Continuation, MediaKinds, MediaTime, Mode, PlaylistKey, PlaylistRecord, Session, names};

impl PlaylistRecord {
    /// A playlist without segments. `name`: its kind says which streams it has, as far as `media` wants them.
    pub fn begin(name: String, identity: String, media: MediaKinds) -> Self {
        // A composite has no kind, and everything.
        let kind = names::volume_of(&name).0.rsplit_once("__uid_e_").map(|(_, kind)| kind);
        let sound_too = kind.is_none_or(|kind| kind == "av" || kind == "screen");
        Self {
            has_video: media != MediaKinds::Audio,
            has_audio: match media {
                MediaKinds::AudioVideo => sound_too,
                MediaKinds::Audio => true,
                MediaKinds::Video => false,
            },
            name,
            identity,
            stored: false,
            ended: false,
            continuation: Continuation::default(),
        }
    }
}

impl Session {
    /// Every playlist that an earlier process had, in its newest volume; the older ones are complete.
    pub(crate) fn resume_playlists(&mut self) {
        for record in 0..self.manifest.playlists.len() {
            let base = names::volume_of(&self.manifest.playlists[record].name).0.to_owned();
            let key = self.lane(None, base);
            let Some(lane) = self.lanes.get_mut(&key) else { continue };
            (lane.record, lane.written) = (Some(record), true);
            self.manifest.playlists[record].ended = false;
            self.store.add_playlist(key, record, &self.manifest);
        }
    }

    /// A playlist comes into being when its first packet leaves the line: until then it is not known whether its camera is a second one.
    pub(crate) fn start_lane(&mut self, key: PlaylistKey, horizon: MediaTime) {
        let Some(lane) = self.lanes.get(&key).filter(|l| l.stream.is_none()) else { return };
        let (Some(epoch), Some(time)) = (self.manifest.epoch_time, self.time) else { return };
        let people = &self.people;
        let is_due = |track: &mut Track| {
            let head = clock_of(people, track).and_then(|clock| track.head_time(clock));
            head.is_some_and(|us| time.media(us) <= horizon || track.is_over_full())
        };
        if !lane.tracks.iter().any(|key| self.tracks.get_mut(key).is_some_and(is_due)) {
            return;
        }
        let record = lane.record.unwrap_or_else(|| self.add_playlist(key));
        let known = &self.manifest.playlists[record];
        let earlier = self.manifest.ledger.bounds(&known.name);
        let beginning = Beginning {
            base: self.lanes[&key].base.clone(),
            streams: Streams { video: known.has_video, audio: known.has_audio },
            segment_seconds: self.config.segment_seconds,
            exact: self.config.mode != Mode::Individual,
            epoch,
            continuation: Continuation {
                next_n: earlier.map_or(0, |bounds| bounds.next_n).max(known.continuation.next_n),
                seam: known.continuation.seam.filter(|_| self.replayed),
                ..known.continuation.clone()
            },
            earlier: earlier.map(|bounds| (bounds.start, bounds.end)),
        };
        if let Some(lane) = self.lanes.get_mut(&key) {
            (lane.record, lane.written) = (Some(record), true);
            lane.start(beginning);
        }
    }

    fn add_playlist(&mut self, key: PlaylistKey) -> usize {
        let lane = &self.lanes[&key];
        let person = lane.participant.and_then(|participant| self.people.get(&participant));
        let identity = person.map(|p| p.identity.clone()).unwrap_or_default();
        let record = self.manifest.playlists.len();
        self.manifest.playlists.push(PlaylistRecord::begin(names::playlist_name(&lane.base), identity, self.config.media));
        self.store.add_playlist(key, record, &self.manifest);
        record
    }

    /// A day is over: the playlist ends, the next volume goes on with timestamps from the start.
    pub(crate) fn next_volume(&mut self, key: PlaylistKey) {
        let Some(record) = self.store.playlist_record(key) else { return };
        let (base, volume) = names::volume_of(&self.manifest.playlists[record].name);
        let name = names::volume_name(base, volume + 1);
        let next = PlaylistRecord { name, stored: false, ended: false, ..self.manifest.playlists[record].clone() };
        let record = self.manifest.playlists.len();
        self.manifest.playlists.push(next);
        self.store.add_playlist(key, record, &self.manifest);
        self.store.manifest_changed();
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.record = Some(record);
        }
    }
}

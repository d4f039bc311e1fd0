//! Whose media is taken: the room's publications against the job's lists, again whenever one of the two changes.

use crate::lane::LaneEvent;
use crate::replay::{begin_span, end_span};
use crate::stage::{Composition, Outlook};
use crate::track::{is_recordable, is_video};
use crate::{
    MediaKinds, MediaTime, Mode, Output, ParticipantKey, Selection, Session, Source, Subscription, Tick, Track, TrackKey, Unrecorded,
};
use std::collections::BTreeSet;

impl Selection {
    pub fn takes(&self, identity: &str) -> bool {
        match self {
            Selection::All => true,
            Selection::Only(people) => people.contains(identity),
            Selection::Except(people) => !people.contains(identity),
        }
    }
}

impl Subscription {
    fn takes(&self, identity: &str, source: Source) -> bool {
        if is_video(source) { self.video.takes(identity) } else { self.audio.takes(identity) }
    }
}

impl Session {
    /// Another picture of the same people.
    pub(crate) fn compose(&mut self, now: Tick, composition: Composition) {
        let at = self.media_at(now);
        let Mode::Composite(known) = &mut self.config.mode else { return };
        if self.ending.is_some() || *known == composition {
            return;
        }
        let before = std::mem::replace(known, composition.clone());
        let gone = self.gone();
        self.foresee(Outlook { composition: &before, gone: &gone }, Outlook { composition: &composition, gone: &gone });
        self.lanes.values_mut().for_each(|lane| lane.events.push_back((at, LaneEvent::Compose(composition.clone()))));
    }

    /// Somebody left: their place is free, and their share's.
    pub(crate) fn make_room(&mut self, at: MediaTime, who: ParticipantKey) {
        self.foresee_without(&[(who, false), (who, true)]);
        if matches!(self.config.mode, Mode::Composite(_)) {
            self.lanes.values_mut().for_each(|lane| lane.events.push_back((at, LaneEvent::Left(who))));
        }
    }

    /// Who moves up now that these are gone, people (false) or shares (true).
    pub(crate) fn foresee_without(&mut self, gone_now: &[(ParticipantKey, bool)]) {
        let Mode::Composite(composition) = &self.config.mode else { return };
        let (composition, gone) = (composition.clone(), self.gone());
        let before = gone.iter().copied().filter(|whose| !gone_now.contains(whose)).collect();
        self.foresee(Outlook { composition: &composition, gone: &before }, Outlook { composition: &composition, gone: &gone });
    }

    fn gone(&self) -> BTreeSet<(ParticipantKey, bool)> {
        let shares = self.tracks.values().filter(|track| track.published && track.source == Source::ScreenShare);
        let sharing: BTreeSet<ParticipantKey> = shares.map(|track| track.participant).collect();
        let people = self.people.iter().filter(|(_, person)| !person.present).map(|(key, _)| (*key, false));
        people.chain(self.people.keys().filter(|key| !sharing.contains(key)).map(|key| (*key, true))).collect()
    }

    fn foresee(&mut self, before: Outlook<'_>, after: Outlook<'_>) {
        for lane in self.lanes.values_mut() {
            let shown = lane.foresee(before, after);
            self.tracks.iter_mut().filter(|(key, _)| shown.contains(key)).for_each(|(_, track)| track.need_new_key());
        }
    }

    /// New lists: they replace the old ones.
    pub(crate) fn subscribe(&mut self, now: Tick, subscription: Subscription) {
        if self.ending.is_some() || self.config.subscription == subscription {
            return;
        }
        self.config.subscription = subscription;
        let published: Vec<TrackKey> = self.tracks.iter().filter(|(_, t)| t.published).map(|(key, _)| *key).collect();
        let at = self.media_at(now);
        published.into_iter().for_each(|key| self.decide(at, key));
        self.store.manifest_changed();
    }

    /// Whether this publication is taken from now on.
    pub(crate) fn decide(&mut self, at: MediaTime, key: TrackKey) {
        let Some(track) = self.tracks.get(&key) else { return };
        let (source, codec, record) = (track.source, track.codec, track.record);
        if !self.is_wanted(source) {
            self.manifest.tracks[record].unrecorded = Some(Unrecorded::MediaNotWanted);
            return;
        }
        let takes = self.config.subscription.takes(&self.manifest.tracks[record].identity, source);
        let known = !self.manifest.tracks[record].unsubscribed.is_empty() || track.subscribed;
        if known && takes == track.subscribed {
            return;
        }
        self.note_subscription(record, at, takes);
        match (takes, is_recordable(source, codec)) {
            (true, true) => self.take(key, at),
            (true, false) => self.cannot_take(key),
            (false, _) => self.leave_out(key, at),
        }
    }

    fn note_subscription(&mut self, record: usize, at: MediaTime, takes: bool) {
        let record = &mut self.manifest.tracks[record];
        match takes {
            true => end_span(&mut record.unsubscribed, at),
            false => begin_span(&mut record.unsubscribed, at),
        }
        if !takes && !record.recorded {
            record.unrecorded = Some(Unrecorded::NotSubscribed);
        }
    }

    fn cannot_take(&mut self, key: TrackKey) {
        self.saw_unsupported = true;
        if let Some(track) = self.tracks.get_mut(&key) {
            track.subscribed = true;
            self.manifest.tracks[track.record].unrecorded = Some(Unrecorded::CodecNotSupported);
        }
    }

    fn take(&mut self, key: TrackKey, at: MediaTime) {
        let Some(track) = self.tracks.get(&key) else { return };
        let (participant, source, before, home) = (track.participant, track.source, track.playlist, track.home);
        let playlist = before.or(home).unwrap_or_else(|| self.lane_for(participant, source));
        let (Some(track), Some(lane)) = (self.tracks.get_mut(&key), self.lanes.get_mut(&playlist)) else { return };
        track.playlist = Some(playlist);
        track.subscribe();
        let record = &mut self.manifest.tracks[track.record];
        (record.recorded, record.unrecorded) = (true, None);
        match before {
            // A lane is told of its packets before any is there.
            None => lane.tracks.push(key),
            Some(_) => lane.events.push_back((at, LaneEvent::Subscribed(key))),
        }
        if track.composed {
            lane.events.push_back((at, LaneEvent::Enters(key)));
        }
        if !track.muted {
            lane.events.push_back((at, LaneEvent::Wanted(key)));
        }
        self.outputs.push_back(Output::Subscribe { track: key, wanted: true });
    }

    fn leave_out(&mut self, key: TrackKey, at: MediaTime) {
        let Some(track) = self.tracks.get_mut(&key).filter(|t| t.subscribed) else { return };
        let subscription = track.unsubscribe();
        let Some(lane) = track.playlist.and_then(|playlist| self.lanes.get_mut(&playlist)) else { return };
        lane.events.push_back((at, LaneEvent::Unsubscribed { track: key, subscription }));
        self.outputs.push_back(Output::Subscribe { track: key, wanted: false });
    }

    pub(crate) fn is_wanted(&self, source: Source) -> bool {
        match self.config.media {
            MediaKinds::AudioVideo => true,
            MediaKinds::Audio => !is_video(source),
            MediaKinds::Video => is_video(source),
        }
    }

    /// A codec that cannot be recorded, of somebody who should be.
    pub(crate) fn misses_a_codec(&self) -> bool {
        self.tracks.values().any(|t: &Track| t.published && t.subscribed && t.playlist.is_none())
    }
}

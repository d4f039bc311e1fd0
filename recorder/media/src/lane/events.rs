//! What happens in the room, at its place among a lane's media.

use super::{Lane, Surroundings};
use crate::composite::Composite;
use crate::stage::Composition;
use crate::{MediaTime, ParticipantKey, TrackKey};

/// Roster events take effect at the media time of their arrival.
#[derive(Clone, Debug)]
pub(crate) enum LaneEvent {
    /// Of a composite: its publisher is to be seen or heard, from now on.
    Enters(TrackKey),
    Wanted(TrackKey),
    Unwanted(TrackKey),
    Unpublished(TrackKey),
    /// Left out from now on; `subscription`: the number of the one that ends.
    Unsubscribed {
        track: TrackKey,
        subscription: u32,
    },
    /// Taken again.
    Subscribed(TrackKey),
    /// Of a composite.
    Left(ParticipantKey),
    Compose(Composition),
    Expect(Vec<(String, bool)>),
    /// Media is not accepted: the stay ends.
    Pause,
}

impl Lane {
    pub(super) fn apply(&mut self, around: &mut Surroundings, at: MediaTime, event: LaneEvent) {
        match self.composite.take() {
            Some(mut composite) => {
                self.apply_to_all(&mut composite, around, at, event);
                self.composite = Some(composite);
            }
            None => self.apply_to_one(around, at, event),
        }
    }

    fn apply_to_all(&mut self, composite: &mut Composite, around: &mut Surroundings, at: MediaTime, event: LaneEvent) {
        let ends = match event {
            LaneEvent::Enters(key) => {
                let Some(track) = around.tracks.get(&key) else { return };
                let Some(person) = around.people.get(&track.participant) else { return };
                composite.enters(at, (track.participant, person), track.source, key);
                false
            }
            LaneEvent::Wanted(key) | LaneEvent::Unwanted(key) => {
                composite.camera(at, key, matches!(event, LaneEvent::Wanted(_)));
                false
            }
            LaneEvent::Unpublished(key) => {
                around.tracks.remove(&key);
                self.tracks.retain(|k| *k != key);
                composite.withdrawn(at, key);
                false
            }
            LaneEvent::Unsubscribed { track: key, subscription } => {
                let Some(track) = around.tracks.get_mut(&key) else { return };
                track.forget(subscription);
                let participant = track.participant;
                self.tracks.retain(|k| *k != key);
                composite.withdrawn(at, key);
                let is_theirs = |key: &TrackKey| around.tracks.get(key).is_some_and(|track| track.participant == participant);
                if !self.tracks.iter().any(is_theirs) {
                    composite.left(at, participant);
                }
                composite.is_empty()
            }
            LaneEvent::Subscribed(key) => {
                self.tracks.push(key);
                false
            }
            LaneEvent::Left(participant) => {
                composite.left(at, participant);
                composite.is_empty()
            }
            LaneEvent::Compose(composition) => {
                composite.compose(at, composition);
                false
            }
            LaneEvent::Expect(order) => {
                composite.expect(at, order);
                false
            }
            LaneEvent::Pause => true,
        };
        if let (true, Some(stream)) = (ends, &mut self.stream) {
            composite.end(stream, at);
        }
    }

    fn apply_to_one(&mut self, around: &mut Surroundings, at: MediaTime, event: LaneEvent) {
        let is_camera = |key: &TrackKey| around.tracks.get(key).is_some_and(|t| t.is_video());
        let wanted = match event {
            LaneEvent::Wanted(key) if is_camera(&key) => Some(key),
            LaneEvent::Unwanted(key) | LaneEvent::Unpublished(key) | LaneEvent::Unsubscribed { track: key, .. }
                if self.wanted == Some(key) =>
            {
                None
            }
            _ => self.wanted,
        };
        if wanted != self.wanted {
            self.wanted = wanted;
            if let Some(stream) = &mut self.stream {
                stream.camera(at, wanted.is_some());
            }
        }
        let gone = match event {
            LaneEvent::Unpublished(key) => {
                let was_video = around.tracks.remove(&key).is_some_and(|track| track.is_video());
                if let (true, Some(stream)) = (was_video, &mut self.stream) {
                    stream.retire();
                }
                self.tracks.retain(|k| *k != key);
                self.is_empty_at(around, at)
            }
            LaneEvent::Unsubscribed { track: key, subscription } => {
                let was_video = around.tracks.get_mut(&key).is_some_and(|track| track.forget(subscription));
                if let (true, Some(stream)) = (was_video, &mut self.stream) {
                    stream.retire();
                }
                self.tracks.retain(|k| *k != key);
                self.tracks.is_empty()
            }
            LaneEvent::Subscribed(key) => {
                self.tracks.push(key);
                false
            }
            LaneEvent::Pause => true,
            LaneEvent::Wanted(_) | LaneEvent::Unwanted(_) => false,
            // Of a composite.
            LaneEvent::Enters(_) | LaneEvent::Left(_) | LaneEvent::Compose(_) | LaneEvent::Expect(_) => false,
        };
        if let (true, Some(stream)) = (gone, &mut self.stream) {
            stream.end(at);
        }
    }

    /// Nothing of what is known was published yet at this time: who comes back while the line still holds the end of the last stay.
    fn is_empty_at(&self, around: &Surroundings, at: MediaTime) -> bool {
        let known = self.tracks.iter().filter_map(|key| around.tracks.get(key));
        known.map(|track| around.manifest.tracks[track.record].start).all(|start| start > at)
    }
}

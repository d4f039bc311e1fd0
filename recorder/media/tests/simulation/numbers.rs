//! A connector numbers from 0 whenever a process begins; a recording goes on (recorder, `replay.rs`).

use recorder_media::*;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Numbers {
    by_identity: BTreeMap<String, ParticipantKey>,
    participants: BTreeMap<ParticipantKey, ParticipantKey>,
    next_participant: u32,
    first_track: u32,
}

impl Numbers {
    /// What the journal used is taken.
    pub fn learn(&mut self, input: &Input) {
        match input {
            Input::Joined { participant, identity, .. } => self.is_taken(*participant, identity),
            Input::Published { track, .. } => self.first_track = self.first_track.max(track.0 + 1),
            _ => {}
        }
    }

    pub fn learn_start(&mut self, start: &Replay) {
        start.participants.iter().for_each(|person| self.is_taken(person.participant, &person.identity));
        self.first_track = start.tracks.iter().map(|track| track.track.0 + 1).fold(self.first_track, u32::max);
    }

    fn is_taken(&mut self, participant: ParticipantKey, identity: &str) {
        self.by_identity.insert(identity.to_owned(), participant);
        self.next_participant = self.next_participant.max(participant.0 + 1);
    }

    fn participant(&self, connectors: ParticipantKey) -> ParticipantKey {
        self.participants.get(&connectors).copied().unwrap_or(connectors)
    }

    fn track(&self, connectors: TrackKey) -> TrackKey {
        TrackKey(connectors.0 + self.first_track)
    }

    pub fn to_connector(&self, track: TrackKey) -> Option<TrackKey> {
        track.0.checked_sub(self.first_track).map(TrackKey)
    }

    fn join(&mut self, connectors: ParticipantKey, identity: &str) -> ParticipantKey {
        let next = ParticipantKey(self.next_participant);
        let key = *self.by_identity.entry(identity.to_owned()).or_insert(next);
        self.next_participant = self.next_participant.max(key.0 + 1);
        self.participants.insert(connectors, key);
        key
    }

    pub fn translate(&mut self, input: Input) -> Input {
        match input {
            Input::Joined { participant, identity, escaped } => {
                Input::Joined { participant: self.join(participant, &identity), identity, escaped }
            }
            Input::Left { participant } => Input::Left { participant: self.participant(participant) },
            Input::Published { track, participant, source, codec, muted } => {
                Input::Published { track: self.track(track), participant: self.participant(participant), source, codec, muted }
            }
            Input::Unpublished { track } => Input::Unpublished { track: self.track(track) },
            Input::Muted { track } => Input::Muted { track: self.track(track) },
            Input::Unmuted { track } => Input::Unmuted { track: self.track(track) },
            Input::Packet { track, packet } => Input::Packet { track: self.track(track), packet },
            Input::SenderReport { track, report } => Input::SenderReport { track: self.track(track), report },
            other => other,
        }
    }
}

//! The journal from both sides: what the room sends is noted before the session sees it, and after a death the next process hands it in
//! again (recorder-media, `Replay`).

use std::collections::HashMap;
use std::io;
use std::time::Instant;

use recorder_media::{Input, ParticipantKey, Tick, TrackKey};

use crate::driver::Driver;
use crate::spool::journal::{Intake, Record, Start};

/// A connector numbers from 0 whenever a process begins; a recording goes on. (The same identity is the same participant for ever.)
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    by_identity: HashMap<String, ParticipantKey>,
    /// From the connector's number.
    participants: HashMap<ParticipantKey, ParticipantKey>,
    next_participant: u32,
    first_track: u32,
}

impl Numbers {
    /// What the journal used is taken.
    fn learn(&mut self, input: &Input) {
        match input {
            Input::Joined { participant, identity, .. } => self.is_taken(*participant, identity),
            Input::Published { track, .. } => self.first_track = self.first_track.max(track.0 + 1),
            _ => {}
        }
    }

    fn learn_start(&mut self, start: &Start) {
        start.replay.participants.iter().for_each(|person| self.is_taken(person.participant, &person.identity));
        let tracks = start.replay.tracks.iter().map(|track| track.track.0 + 1);
        self.first_track = tracks.fold(self.first_track, u32::max);
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

    /// The connector's number of a track; None: it is from before.
    pub(crate) fn to_connector(&self, track: TrackKey) -> Option<TrackKey> {
        track.0.checked_sub(self.first_track).map(TrackKey)
    }

    fn join(&mut self, connectors: ParticipantKey, identity: &str) -> ParticipantKey {
        let next = ParticipantKey(self.next_participant);
        let key = *self.by_identity.entry(identity.to_owned()).or_insert(next);
        self.next_participant = self.next_participant.max(key.0 + 1);
        self.participants.insert(connectors, key);
        key
    }

    /// What a connector tells, in the recording's numbers.
    pub(crate) fn translate(&mut self, input: Input) -> Input {
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

impl Driver {
    /// Hands in what an earlier process had received.
    pub(crate) fn replay(&mut self, intake: &Intake) {
        let since = Instant::now();
        let mut records = 0;
        self.numbers.learn_start(&intake.start);
        for record in intake.records() {
            match record {
                Ok((tick, record)) => self.again(tick, record),
                Err(error) => {
                    tracing::warn!(%error, "failed to read the journal to its end");
                    break;
                }
            }
            records += 1;
        }
        self.pass_time(intake.ended);
        self.note(intake.ended, &Input::Restarted);
        self.hand_in(intake.ended, Input::Restarted);
        self.hand_in(intake.ended, Input::Replayed);
        self.flush_journal();
        let seconds = since.elapsed().as_secs_f64();
        tracing::info!(records, seconds, "handed in what an earlier process had received");
    }

    fn again(&mut self, tick: Tick, record: Record) {
        self.pass_time(tick);
        match record {
            Record::Start(start) => self.numbers.learn_start(&start),
            Record::Input(input) => {
                self.numbers.learn(&input);
                self.hand_in(tick, input);
            }
        }
    }

    /// The session's timers up to a tick.
    fn pass_time(&mut self, until: Tick) {
        while let Some(wake) = self.session.next_wake().filter(|wake| *wake < until) {
            let stands = wake <= self.state.now;
            self.hand_in(wake, Input::Wake);
            if stands && self.session.next_wake() == Some(wake) {
                return; // it waits for an answer, which comes with the answers
            }
        }
    }

    /// Keeps what matters to a replay, before the session knows; not what the session does not take.
    pub(crate) fn note(&mut self, tick: Tick, input: &Input) {
        if !self.session.is_noted(input) {
            return;
        }
        if self.journal.wants_file(tick) {
            let noted = self.begin_journal_file(tick);
            self.give_up_journal_on(tick, noted);
        }
        self.journal.note(tick, input);
    }

    fn begin_journal_file(&mut self, tick: Tick) -> io::Result<()> {
        let start = Start::new(self.timeline.wall_at(tick), self.session.replay());
        self.journal.begin_file(tick, &start)
    }

    pub(crate) fn flush_journal(&mut self) {
        let flushed = self.journal.flush();
        self.give_up_journal_on(self.state.now, flushed);
        let shed = self.journal.shed();
        if !shed.is_empty() {
            tracing::warn!(files = shed.len(), "the journal has outgrown its share of the spool; a crash now would lose a little more");
            self.save_state();
        }
        shed.into_iter().for_each(|path| self.spool.remove(path));
    }

    /// A journal with holes is worse than none: without one, what is in open segments is kept as far as it was written.
    fn give_up_journal_on(&mut self, now: Tick, result: io::Result<()>) {
        if let Err(error) = result {
            tracing::warn!(%error, "failed to write the journal; a crash now would lose a little more");
            self.end_journal(now);
        }
    }

    /// The state says so first.
    pub(crate) fn end_journal(&mut self, now: Tick) {
        let files = self.journal.end(now);
        self.save_state();
        files.into_iter().for_each(|path| self.spool.remove(path));
    }

    /// A state was saved: what it makes superfluous goes behind it.
    pub(crate) fn forget_journal(&mut self) {
        let needed = self.session.needed_from(self.state.now);
        self.journal.forget(needed).into_iter().for_each(|path| self.spool.remove(path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(key: u32, identity: &str) -> Input {
        Input::Joined { participant: ParticipantKey(key), identity: identity.into(), escaped: identity.into() }
    }

    #[test]
    fn numbers_go_on_behind_the_journals_and_the_same_person_is_the_same() {
        let mut numbers = Numbers::default();
        numbers.learn(&joined(0, "ann"));
        numbers.learn(&joined(1, "bob"));
        let track = TrackKey(4);
        numbers.learn(&Input::Published {
            track,
            participant: ParticipantKey(1),
            source: recorder_media::Source::Camera,
            codec: recorder_media::Codec::H264,
            muted: false,
        });
        let key = |input: Input| match input {
            Input::Joined { participant, .. } | Input::Left { participant } => participant.0,
            other => panic!("{other:?}"),
        };
        assert_eq!(key(numbers.translate(joined(0, "carol"))), 2);
        assert_eq!(key(numbers.translate(joined(1, "ann"))), 0);
        assert_eq!(key(numbers.translate(Input::Left { participant: ParticipantKey(0) })), 2);
        let Input::Unpublished { track: first } = numbers.translate(Input::Unpublished { track: TrackKey(0) }) else { panic!() };
        assert_eq!(first, TrackKey(5));
        assert_eq!(numbers.to_connector(first), Some(TrackKey(0)));
        assert_eq!(numbers.to_connector(track), None);
    }
}

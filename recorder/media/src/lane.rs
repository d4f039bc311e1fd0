//! One playlist's way from the delay lines of its tracks into its stream, event by event in order of media time.

use crate::audio::Sound;
use crate::clock::ParticipantClock;
use crate::segmenter::Beginning;
use crate::stream::{PICTURE_SOON, Stream};
use crate::track::Track;
use crate::video::VideoEvent;
use crate::{Codec, Manifest, MediaTime, ParticipantKey, Tick, TrackKey};
use std::collections::{BTreeMap, VecDeque};

/// Ticks <-> media time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MediaClock {
    pub at: Tick,
    pub base: MediaTime,
}

impl MediaClock {
    pub(crate) fn media(&self, tick_us: i64) -> MediaTime {
        MediaTime(self.base.0 + MediaTime::from_micros(tick_us - self.at.0 as i64).0)
    }

    pub(crate) fn media_at(&self, now: Tick) -> MediaTime {
        self.media(now.0 as i64)
    }
}

/// Roster events take effect at the media time of their arrival.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LaneEvent {
    Wanted(TrackKey),
    Unwanted(TrackKey),
    Unpublished(TrackKey),
    /// Media is not accepted: the stay ends.
    Pause,
}

#[derive(Debug)]
pub(crate) struct Lane {
    pub participant: ParticipantKey,
    /// Index of its record in the manifest; None until the first media.
    pub record: Option<usize>,
    /// Name without extension.
    pub base: String,
    pub tracks: Vec<TrackKey>,
    pub events: VecDeque<(MediaTime, LaneEvent)>,
    pub stream: Option<Stream>,
    last_sound: Option<TrackKey>,
    /// Cameras that are published and not muted.
    wanted: Option<TrackKey>,
}

/// What a lane needs of its session while it is pumped.
pub(crate) struct Surroundings<'a> {
    pub tracks: &'a mut BTreeMap<TrackKey, Track>,
    pub clock: &'a ParticipantClock,
    pub time: MediaClock,
    pub manifest: &'a mut Manifest,
}

impl Lane {
    pub(crate) fn new(participant: ParticipantKey, base: String) -> Self {
        Self { participant, record: None, base, tracks: Vec::new(), events: VecDeque::new(), stream: None, last_sound: None, wanted: None }
    }

    pub(crate) fn start(&mut self, beginning: Beginning) {
        let mut stream = Stream::new(beginning);
        stream.camera(MediaTime(0), self.wanted.is_some());
        self.stream = Some(stream);
    }

    pub(crate) fn has_work(&self, tracks: &BTreeMap<TrackKey, Track>) -> bool {
        let live = self.stream.as_ref().is_some_and(|s| !s.is_drained());
        live || !self.events.is_empty() || self.tracks.iter().any(|k| tracks.get(k).is_some_and(|t| t.first_packet.is_some()))
    }

    /// Moves everything up to `horizon` from the lines into the stream.
    pub(crate) fn pump(&mut self, around: &mut Surroundings, horizon: MediaTime) {
        loop {
            let event = self.events.front().copied().filter(|(at, _)| *at <= horizon);
            let bound = event.map_or(horizon, |(at, _)| at);
            self.deliver(around, bound);
            let frontier = self.video_frontier(around, bound);
            if let Some(stream) = &mut self.stream {
                stream.advance(bound, frontier);
            }
            let Some((at, event)) = event else { break };
            self.events.pop_front();
            self.apply(around, at, event);
        }
    }

    fn deliver(&mut self, around: &mut Surroundings, bound: MediaTime) {
        loop {
            let mut first: Option<(MediaTime, i64, TrackKey)> = None;
            for key in &self.tracks {
                let Some(track) = around.tracks.get_mut(key) else { continue };
                let Some(us) = track.head_time(around.clock) else { continue };
                let at = around.time.media(us);
                let due = at <= bound || track.is_over_full();
                if due && first.is_none_or(|(earliest, ..)| at < earliest) {
                    first = Some((at, us, *key));
                }
            }
            let Some((at, us, key)) = first else { break };
            self.deliver_one(around, key, at, us);
        }
    }

    fn deliver_one(&mut self, around: &mut Surroundings, key: TrackKey, at: MediaTime, us: i64) {
        let soon = self.picture_soon(around, at);
        let Some(track) = around.tracks.get_mut(&key) else { return };
        let Some((missing, held, fresh)) = track.pop(us) else { return };
        around.manifest.tracks[track.record].lost += missing;
        if track.is_video() {
            let events = track.video.packet(missing, &held);
            if missing > 0 {
                self.lost(track);
            }
            for event in events {
                self.picture(around, key, event);
            }
        } else if !held.payload.is_empty() {
            self.sound(around, key, Sound { at, lost_before: missing, fresh, payload: held.payload }, soon);
        }
    }

    fn lost(&mut self, track: &mut Track) {
        track.need_key();
        if let Some(stream) = &mut self.stream {
            stream.lost();
        }
    }

    /// A camera's picture is in the line, not more than a second behind `at`.
    fn picture_soon(&self, around: &mut Surroundings, at: MediaTime) -> bool {
        self.tracks.iter().any(|key| {
            let video = around.tracks.get_mut(key).filter(|t| t.is_video());
            let head =
                video.and_then(|t| t.head_time(around.clock).or_else(|| t.video.open().and_then(|rtp| t.time_of(rtp, around.clock))));
            head.is_some_and(|us| around.time.media(us).0 - at.0 < PICTURE_SOON)
        })
    }

    fn sound(&mut self, around: &mut Surroundings, key: TrackKey, mut sound: Sound, soon: bool) {
        // Of two microphones of one person the one published last is heard: a change of device.
        let newest = self.tracks.iter().rev().find(|k| around.tracks.get(k).is_some_and(|t| !t.is_video()));
        let (Some(track), Some(stream)) = (around.tracks.get(&key), &mut self.stream) else { return };
        let record = &mut around.manifest.tracks[track.record];
        record.received_units += 1;
        if newest != Some(&key) {
            return;
        }
        sound.fresh |= self.last_sound.replace(key) != Some(key);
        record.written_units += u64::from(stream.sound(&sound, soon));
    }

    fn picture(&mut self, around: &mut Surroundings, key: TrackKey, event: VideoEvent) {
        let (Some(track), Some(stream)) = (around.tracks.get_mut(&key), &mut self.stream) else { return };
        let rtp = match &event {
            VideoEvent::Picture(p) => p.rtp,
            VideoEvent::Unusable { rtp } | VideoEvent::Blank { rtp } => *rtp,
        };
        let Some(at) = track.time_of(rtp, around.clock).map(|us| around.time.media(us)) else { return };
        let record = &mut around.manifest.tracks[track.record];
        record.received_units = track.video.received;
        match event {
            VideoEvent::Picture(picture) => {
                if std::mem::take(&mut track.blank) {
                    stream.camera(at, !track.muted);
                }
                record.written_units += 1;
                stream.picture(at, picture);
            }
            VideoEvent::Unusable { .. } => self.lost(track),
            VideoEvent::Blank { .. } => {
                if !std::mem::replace(&mut track.blank, true) {
                    stream.camera(at, false);
                }
            }
        }
    }

    /// No picture before this time will come any more.
    fn video_frontier(&self, around: &Surroundings, bound: MediaTime) -> MediaTime {
        let open = self.tracks.iter().filter_map(|key| {
            let track = around.tracks.get(key).filter(|t| t.is_video())?;
            let us = track.time_of(track.video.open()?, around.clock)?;
            Some(around.time.media(us))
        });
        open.fold(bound, MediaTime::min)
    }

    fn apply(&mut self, around: &mut Surroundings, at: MediaTime, event: LaneEvent) {
        let is_camera = |key: &TrackKey| around.tracks.get(key).is_some_and(|t| t.is_video() && t.codec == Codec::H264);
        let wanted = match event {
            LaneEvent::Wanted(key) if is_camera(&key) => Some(key),
            LaneEvent::Unwanted(key) | LaneEvent::Unpublished(key) if self.wanted == Some(key) => None,
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
                around.tracks.remove(&key);
                self.tracks.retain(|k| *k != key);
                self.tracks.is_empty()
            }
            LaneEvent::Pause => true,
            LaneEvent::Wanted(_) | LaneEvent::Unwanted(_) => false,
        };
        if let (true, Some(stream)) = (gone, &mut self.stream) {
            stream.end(at);
        }
    }
}

//! Who is in the room and what they publish, from LiveKit's lists of participants: a pure function from lists to changes.

use std::collections::{BTreeMap, HashMap};

use livekit_protocol as proto;
use proto::participant_info::{Kind, State};
use proto::{TrackInfo, TrackSource, TrackType};
use recorder_media::{Codec, ParticipantKey, Source, TrackKey};

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Joined { participant: ParticipantKey, identity: String },
    Left { participant: ParticipantKey },
    Published(Publication),
    Unpublished { track: TrackKey, sid: String },
    Muted { track: TrackKey },
    Unmuted { track: TrackKey },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publication {
    pub(crate) track: TrackKey,
    pub(crate) participant: ParticipantKey,
    /// LiveKit's name of the publication, `TR_…`: also the track's name in the session description.
    pub(crate) sid: String,
    pub(crate) source: Source,
    pub(crate) codec: Codec,
    pub(crate) muted: bool,
    pub(crate) encrypted: bool,
    /// Width and height as the publisher said them at first; 0 where it did not.
    pub(crate) shape: (u32, u32),
}

impl Publication {
    pub(crate) const fn is_picture(&self) -> bool {
        matches!(self.source, Source::Camera | Source::ScreenShare)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// Every identity ever seen: it keeps its key.
    keys: HashMap<String, ParticipantKey>,
    tracks_numbered: u32,
    present: BTreeMap<String, Present>,
}

#[derive(Debug)]
struct Present {
    key: ParticipantKey,
    /// LiveKit's name of this stay, `PA_…`.
    sid: String,
    version: u32,
    tracks: BTreeMap<String, Publication>,
}

impl Roster {
    /// A complete list: whoever is not on it has left. (After a new join every stay has a new name; the same people stay joined.)
    pub(crate) fn replace(&mut self, people: &[proto::ParticipantInfo]) -> Vec<Change> {
        let mut changes = vec![];
        let here = |identity: &String| people.iter().any(|info| info.identity == *identity && counts(info));
        let gone: Vec<String> = self.present.keys().filter(|identity| !here(identity)).cloned().collect();
        for identity in gone {
            self.leave(&identity, &mut changes);
        }
        for info in people.iter().filter(|info| counts(info)) {
            if let Some(present) = self.present.get_mut(&info.identity) {
                present.sid.clone_from(&info.sid);
                present.version = 0;
            }
        }
        changes.extend(self.update(people));
        changes
    }

    /// News of some participants.
    pub(crate) fn update(&mut self, people: &[proto::ParticipantInfo]) -> Vec<Change> {
        let mut changes = vec![];
        for info in people {
            let known = self.present.get(&info.identity).map(|present| (present.sid.clone(), present.version));
            match known {
                _ if info.state() == State::Disconnected || !counts(info) => {
                    // An earlier stay of somebody who is back already ends late.
                    if known.is_some_and(|(sid, _)| sid == info.sid) {
                        self.leave(&info.identity, &mut changes);
                    }
                }
                Some((sid, version)) if sid == info.sid => {
                    if info.version == 0 || info.version >= version {
                        self.tracks(info, &mut changes);
                    }
                }
                _ => {
                    self.leave(&info.identity, &mut changes);
                    self.join(info, &mut changes);
                    self.tracks(info, &mut changes);
                }
            }
        }
        changes
    }

    /// Everything that is published.
    pub(crate) fn published(&self) -> impl Iterator<Item = &Publication> {
        self.present.values().flat_map(|present| present.tracks.values())
    }

    /// What should be sending: LiveKit's name, our key.
    pub(crate) fn unmuted(&self) -> impl Iterator<Item = (&str, TrackKey)> {
        let tracks = self.present.values().flat_map(|present| present.tracks.values());
        tracks.filter(|p| !p.muted).map(|p| (p.sid.as_str(), p.track))
    }

    fn join(&mut self, info: &proto::ParticipantInfo, changes: &mut Vec<Change>) {
        let next = ParticipantKey(self.keys.len() as u32);
        let key = *self.keys.entry(info.identity.clone()).or_insert(next);
        let present = Present { key, sid: info.sid.clone(), version: info.version, tracks: BTreeMap::new() };
        self.present.insert(info.identity.clone(), present);
        changes.push(Change::Joined { participant: key, identity: info.identity.clone() });
    }

    fn leave(&mut self, identity: &str, changes: &mut Vec<Change>) {
        let Some(present) = self.present.remove(identity) else { return };
        changes.extend(present.tracks.into_values().map(unpublished));
        changes.push(Change::Left { participant: present.key });
    }

    fn tracks(&mut self, info: &proto::ParticipantInfo, changes: &mut Vec<Change>) {
        let Some(present) = self.present.get_mut(&info.identity) else { return };
        present.version = info.version;
        let kept = |sid: &str, codec: Codec| info.tracks.iter().any(|track| track.sid == *sid && codec_of(track) == Some(codec));
        let over: Vec<String> = present.tracks.iter().filter(|(sid, known)| !kept(sid, known.codec)).map(|(sid, _)| sid.clone()).collect();
        changes.extend(over.iter().filter_map(|sid| present.tracks.remove(sid)).map(unpublished));
        for track in &info.tracks {
            let Some(codec) = codec_of(track) else { continue };
            match present.tracks.get_mut(&track.sid) {
                Some(known) if known.muted != track.muted => {
                    known.muted = track.muted;
                    let track_key = known.track;
                    changes.push(if track.muted { Change::Muted { track: track_key } } else { Change::Unmuted { track: track_key } });
                }
                Some(_) => {}
                None if track.r#type() != TrackType::Data => {
                    let publication = Publication {
                        track: TrackKey(self.tracks_numbered),
                        participant: present.key,
                        sid: track.sid.clone(),
                        source: source_of(track),
                        codec,
                        muted: track.muted,
                        encrypted: is_encrypted(track),
                        shape: (track.width, track.height),
                    };
                    self.tracks_numbered += 1;
                    present.tracks.insert(track.sid.clone(), publication.clone());
                    changes.push(Change::Published(publication));
                }
                None => {}
            }
        }
    }
}

fn unpublished(publication: Publication) -> Change {
    Change::Unpublished { track: publication.track, sid: publication.sid }
}

/// Hidden participants, recorders, egress and agents are nobody: they neither keep a room alive nor are recorded.
fn counts(info: &proto::ParticipantInfo) -> bool {
    // Older servers say it in the permission, newer ones in the kind.
    #[allow(deprecated)]
    let machine = info.permission.as_ref().is_some_and(|permission| permission.hidden || permission.recorder || permission.agent);
    !machine && !matches!(info.kind(), Kind::Egress | Kind::Agent)
}

fn is_encrypted(track: &TrackInfo) -> bool {
    track.encryption != proto::encryption::Type::None as i32
}

/// None until the server knows.
fn codec_of(track: &TrackInfo) -> Option<Codec> {
    if is_encrypted(track) {
        return Some(Codec::Other);
    }
    let first = track.codecs.first().map(|codec| codec.mime_type.as_str());
    let mime_type = Some(track.mime_type.as_str()).filter(|mime| !mime.is_empty()).or(first)?;
    Some(match mime_type.to_ascii_lowercase().as_str() {
        "" => return None,
        "audio/opus" | "audio/red" => Codec::Opus,
        "video/h264" => Codec::H264,
        "video/vp8" => Codec::Vp8,
        "video/vp9" => Codec::Vp9,
        "video/av1" => Codec::Av1,
        "video/h265" => Codec::H265,
        _ => Codec::Other,
    })
}

fn source_of(track: &TrackInfo) -> Source {
    match track.source() {
        TrackSource::Camera => Source::Camera,
        TrackSource::Microphone => Source::Microphone,
        TrackSource::ScreenShare => Source::ScreenShare,
        TrackSource::ScreenShareAudio => Source::ScreenShareAudio,
        TrackSource::Unknown if track.r#type() == TrackType::Audio => Source::Microphone,
        TrackSource::Unknown => Source::Camera,
    }
}

#[cfg(test)]
mod tests;

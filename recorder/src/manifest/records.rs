//! Participants, tracks, gaps and playlists: between the session's types and the manifest's.

use recorder_media as media;
use recorder_media::MediaTime;

use super::{ClockOverride, Gap, Marks, Participant, PictureSize, Playlist, Snapshots, Stay, Track, Transcoded, Unrecorded};

fn to_stays(stays: &[(MediaTime, Option<MediaTime>)]) -> Vec<Stay> {
    stays.iter().map(|(from, to)| (from.0, to.map(|to| to.0))).collect()
}

fn from_stays(stays: Vec<Stay>) -> Vec<(MediaTime, Option<MediaTime>)> {
    stays.into_iter().map(|(from, to)| (MediaTime(from), to.map(MediaTime))).collect()
}

impl From<&media::ParticipantRecord> for Participant {
    fn from(record: &media::ParticipantRecord) -> Self {
        Self { identity: record.identity.clone(), stays90k: to_stays(&record.stays) }
    }
}

impl From<Participant> for media::ParticipantRecord {
    fn from(record: Participant) -> Self {
        Self { identity: record.identity, stays: from_stays(record.stays90k) }
    }
}

impl From<&media::TrackRecord> for Track {
    fn from(record: &media::TrackRecord) -> Self {
        Self {
            identity: record.identity.clone(),
            source: record.source,
            codec: record.codec,
            start90k: record.start.0,
            end90k: record.end.map(|end| end.0),
            packets: record.packets,
            lost: record.lost,
            received_units: record.received_units,
            written_units: record.written_units,
            muted90k: to_stays(&record.muted),
            unsubscribed90k: to_stays(&record.unsubscribed),
            recorded: record.recorded,
            transcoded: record.transcoded.map(|reason| Transcoded { from: record.codec, to: media::Codec::H264, reason }),
            reason: record.unrecorded.map(Unrecorded),
            sizes: record.sizes.iter().map(|size| PictureSize { at90k: size.at.0, width: size.width, height: size.height }).collect(),
        }
    }
}

impl From<Track> for media::TrackRecord {
    fn from(record: Track) -> Self {
        Self {
            identity: record.identity,
            source: record.source,
            codec: record.codec,
            start: MediaTime(record.start90k),
            end: record.end90k.map(MediaTime),
            packets: record.packets,
            lost: record.lost,
            received_units: record.received_units,
            written_units: record.written_units,
            muted: from_stays(record.muted90k),
            unsubscribed: from_stays(record.unsubscribed90k),
            recorded: record.recorded,
            transcoded: record.transcoded.map(|transcoded| transcoded.reason),
            unrecorded: record.reason.map(|reason| reason.0),
            sizes: record.sizes.into_iter().map(size).collect(),
            received: None,
            written: None,
        }
    }
}

fn size(size: PictureSize) -> media::PictureSize {
    media::PictureSize { at: MediaTime(size.at90k), width: size.width, height: size.height }
}

impl From<&media::Gap> for Gap {
    fn from(gap: &media::Gap) -> Self {
        let (start90k, duration90k) = (gap.start.0, gap.duration90k);
        Self { start90k, duration90k, reason: gap.reason, playlist: gap.playlist.clone(), open: gap.open }
    }
}

impl From<Gap> for media::Gap {
    fn from(gap: Gap) -> Self {
        let (start, duration90k) = (MediaTime(gap.start90k), gap.duration90k);
        Self { start, duration90k, reason: gap.reason, playlist: gap.playlist, open: gap.open }
    }
}

impl From<&media::ClockOverride> for ClockOverride {
    fn from(record: &media::ClockOverride) -> Self {
        Self { identity: record.identity.clone(), source: record.source, at90k: record.at.0, fault: record.fault }
    }
}

impl From<ClockOverride> for media::ClockOverride {
    fn from(record: ClockOverride) -> Self {
        Self { identity: record.identity, source: record.source, at: MediaTime(record.at90k), fault: record.fault }
    }
}

impl From<&media::PlaylistRecord> for Playlist {
    fn from(record: &media::PlaylistRecord) -> Self {
        Self {
            name: record.name.clone(),
            identity: record.identity.clone(),
            has_video: record.has_video,
            has_audio: record.has_audio,
            stored: record.stored,
            ended: record.ended,
            next_n: record.continuation.next_n,
            continuity_counters: record.continuation.continuity_counters.clone(),
        }
    }
}

impl From<Playlist> for media::PlaylistRecord {
    fn from(record: Playlist) -> Self {
        let continuation = media::Continuation { continuity_counters: record.continuity_counters, next_n: record.next_n, seam: None };
        Self {
            name: record.name,
            identity: record.identity,
            has_video: record.has_video,
            has_audio: record.has_audio,
            stored: record.stored,
            ended: record.ended,
            continuation,
        }
    }
}

impl Snapshots {
    /// None: none was taken.
    pub(super) fn of(record: &media::SnapshotRecord) -> Option<Self> {
        let &media::SnapshotRecord { taken, stored, lost, .. } = record;
        ((taken, stored, lost) != (0, 0, 0)).then_some(Self { taken, stored, lost })
    }
}

impl From<Snapshots> for media::SnapshotRecord {
    fn from(Snapshots { taken, stored, lost }: Snapshots) -> Self {
        Self { taken, stored, lost, ..Self::default() }
    }
}

impl Marks {
    pub(super) fn of(manifest: &media::Manifest, journalled: bool) -> Self {
        Self {
            journalled,
            as_of90k: manifest.as_of.0,
            tracks: manifest.tracks.iter().map(|track| (track.received, track.written)).collect(),
            playlists: manifest.playlists.iter().map(|playlist| playlist.continuation.seam).collect(),
            snapshots: manifest.snapshots.marks.clone(),
        }
    }

    pub(super) fn into_manifest(self, mut manifest: media::Manifest) -> media::Manifest {
        manifest.as_of = MediaTime(self.as_of90k);
        manifest.snapshots.marks = self.snapshots;
        for (track, marks) in manifest.tracks.iter_mut().zip(self.tracks) {
            (track.received, track.written) = marks;
        }
        for (playlist, seam) in manifest.playlists.iter_mut().zip(self.playlists) {
            playlist.continuation.seam = seam;
        }
        manifest
    }
}

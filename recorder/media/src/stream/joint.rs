//! Where the segments that an earlier process finished end: what its journal tells again is decoded once more and not written again.

use crate::audio::FRAME_90K;
use crate::{MediaTime, Seam, UnitMark};

/// Clocks that have learned from a journal alone tell another time than those of the process that kept it; not by more than a frame of slow video.
const CLOCKS_DIFFER: i64 = MediaTime::PER_SECOND / 10;

#[derive(Debug)]
pub(super) struct Joint {
    /// Frames of a composite before this are in finished segments.
    known_until: Option<MediaTime>,
    /// Their newest picture, until newer ones come ...
    picture: Option<UnitMark>,
    /// ... the end of their sound ...
    sound: Option<MediaTime>,
    /// ... and their own.
    end: Option<MediaTime>,
    /// Time of the newest picture that is transcoded again.
    last_again: Option<MediaTime>,
}

impl Joint {
    pub(super) fn new(seam: Option<Seam>) -> Self {
        Self {
            known_until: seam.map(|seam| seam.end),
            picture: seam.and_then(|seam| seam.picture),
            sound: seam.and_then(|seam| seam.sound),
            end: seam.filter(|seam| seam.continuous).map(|seam| seam.end),
            last_again: None,
        }
    }

    pub(super) fn has_frame(&self, at: MediaTime) -> bool {
        self.known_until.is_some_and(|end| at < end)
    }

    pub(super) fn has_picture(&mut self, unit: &UnitMark) -> bool {
        let known = self.picture.is_some_and(|newest| !unit.is_after(&newest));
        if !known {
            self.picture = None;
        }
        known
    }

    /// When a picture that is in finished segments is transcoded again: times increase.
    pub(super) fn again(&mut self, at: MediaTime) -> MediaTime {
        let at = self.last_again.map_or(at, |last| at.max(MediaTime(last.0 + 1)));
        self.last_again = Some(at);
        at
    }

    pub(super) const fn last_again(&self) -> Option<MediaTime> {
        self.last_again
    }

    /// Sound that is in finished segments goes through decoder and encoder again, in the same frames: what follows joins on. Where they begin.
    pub(super) fn sound_from(&self, at: MediaTime) -> Option<MediaTime> {
        let end = self.sound.filter(|end| at < *end)?;
        let frames = (end.0 - at.0 + FRAME_90K - 1) / FRAME_90K;
        Some(MediaTime(end.0 - frames * FRAME_90K))
    }

    pub(super) fn has_sound(&mut self, at: MediaTime) -> bool {
        let known = self.sound.is_some_and(|end| at < end);
        if !known {
            self.sound = None;
        }
        known
    }

    /// The first picture behind finished segments stands where they end: playlists say how long they are.
    pub(super) fn join(&mut self, at: MediaTime) -> MediaTime {
        self.end.take().filter(|end| (at.0 - end.0).abs() <= CLOCKS_DIFFER).unwrap_or(at)
    }
}

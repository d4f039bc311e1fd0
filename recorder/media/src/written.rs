//! What is handed to the segmenter in order: where its format changes, and what is missing in between.

use crate::pictures::{Format, Ready};
use crate::segmenter::{Effect, Segmenter};
use crate::{GapReason, MediaTime};

#[derive(Debug, Default)]
pub(crate) struct Written {
    /// Format and time of the stay's last picture.
    last: Option<(Format, MediaTime)>,
    /// Since when, and why, pictures are missing that had their place.
    missing: Option<(MediaTime, GapReason)>,
}

impl Written {
    pub(crate) fn unit(&mut self, at: MediaTime, ready: Ready, segments: &mut Segmenter) {
        match ready {
            Ready::Picture { again: true, .. } | Ready::Hidden { again: true, .. } | Ready::Known(_) => {}
            Ready::Picture { order, key, format, data, needs, of, .. } => {
                self.end_missing(at, segments);
                let fresh = self.last.replace((format, at)).is_none_or(|(before, _)| before != format);
                segments.picture(at, order, key, fresh, &data, needs);
                segments.effects.extend(of.into_iter().map(Effect::Written));
            }
            Ready::Hidden { of, .. } => segments.effects.push(Effect::Written(of)),
            Ready::Missing(reason) => {
                let since = self.last.map_or(at, |(_, last)| last);
                self.missing.get_or_insert((since, reason));
            }
            Ready::End => {
                self.end_missing(at, segments);
                self.last = None;
                segments.end(at);
            }
        }
    }

    fn end_missing(&mut self, at: MediaTime, segments: &mut Segmenter) {
        if let Some((start, reason)) = self.missing.take().filter(|(start, _)| *start < at) {
            segments.effects.push(Effect::Gap { start, end: at, reason });
        }
    }
}

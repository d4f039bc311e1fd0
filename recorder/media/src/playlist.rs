//! The text of one media playlist, HLS version 3 (RFC 8216), type EVENT: it only ever grows.

use crate::names::Civil;
use crate::{LedgerEntry, MediaTime};

#[derive(Debug)]
pub(crate) struct PlaylistText {
    body: String,
    /// Sum of the durations named so far; EXTINF is the difference of its rounded values, so that rounding never adds up.
    sum90k: i64,
    discontinuity: bool,
    named: u32,
}

impl PlaylistText {
    /// `target_seconds`: the hard limit of a segment. A constant, because EXT-X-TARGETDURATION must not change (section 4.3.3.1).
    pub(crate) fn new(target_seconds: u32) -> Self {
        let body = format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-TARGETDURATION:{target_seconds}\n#EXT-X-MEDIA-SEQUENCE:0\n"
        );
        Self { body, sum90k: 0, discontinuity: false, named: 0 }
    }

    pub(crate) fn push(&mut self, entry: &LedgerEntry) {
        assert!(entry.stored, "a playlist names only stored segments");
        if (entry.discontinuity || self.discontinuity) && self.named > 0 {
            self.body.push_str("#EXT-X-DISCONTINUITY\n");
        }
        self.discontinuity = false;
        let before = millis(self.sum90k);
        self.sum90k += entry.duration90k;
        let length = millis(self.sum90k) - before;
        self.body.push_str(&format!(
            "#EXT-X-PROGRAM-DATE-TIME:{}\n#EXTINF:{}.{:03},\n{}\n",
            Civil::from_wall(entry.wall).iso(),
            length / 1000,
            length % 1000,
            entry.name
        ));
        self.named += 1;
    }

    /// A segment was lost: it is left out, and what follows says so.
    pub(crate) fn skip(&mut self) {
        self.discontinuity = true;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.named == 0
    }

    pub(crate) fn len(&self) -> u64 {
        self.body.len() as u64
    }

    pub(crate) fn render(&self, ended: bool) -> String {
        let end = if ended { "#EXT-X-ENDLIST\n" } else { "" };
        format!("{}{end}", self.body)
    }
}

fn millis(t90k: i64) -> i64 {
    (t90k * 1000 + MediaTime::PER_SECOND / 2) / MediaTime::PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::WallMicros;

    fn entry(n: u32, start: i64, duration90k: i64, discontinuity: bool) -> LedgerEntry {
        LedgerEntry {
            playlist: "p.m3u8".into(),
            n,
            name: format!("p_{n}.ts"),
            start: MediaTime(start),
            duration90k,
            wall: WallMicros(1_700_000_000_000_000 + (start * 100 / 9) as u64),
            bytes: 1,
            sha256: String::new(),
            etag: String::new(),
            stored: true,
            lost: false,
            discontinuity,
            independent: true,
            epoch: 1,
        }
    }

    #[test]
    fn text_golden() {
        let mut text = PlaylistText::new(29);
        text.push(&entry(0, 0, 1_350_030, false));
        text.push(&entry(1, 1_350_030, 1_350_030, true));
        text.skip();
        text.push(&entry(3, 4_050_090, 90_000, false));
        let want = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-TARGETDURATION:29\n#EXT-X-MEDIA-SEQUENCE:0\n\
            #EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:20.000Z\n#EXTINF:15.000,\np_0.ts\n\
            #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:13:35.000Z\n#EXTINF:15.001,\np_1.ts\n\
            #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2023-11-14T22:14:05.001Z\n#EXTINF:1.000,\np_3.ts\n";
        assert_eq!(text.render(false), want);
        assert_eq!(text.render(true), format!("{want}#EXT-X-ENDLIST\n"));
    }
}

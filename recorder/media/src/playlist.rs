//! The text of one media playlist, HLS version 3 (RFC 8216), type EVENT: it only ever grows.

use crate::names::Civil;
use crate::{LedgerEntry, MediaTime};

/// The text of a day has a megabyte: it lies in blocks, since one that doubles would leave as much again to the allocator.
const BLOCK_BYTES: usize = 32 << 10;

/// Grows by [`Self::push`] and [`Self::skip`], in the ledger's order.
#[derive(Debug)]
pub struct PlaylistText {
    blocks: Vec<String>,
    /// Sum of the durations named so far; EXTINF is the difference of its rounded values, so that rounding never adds up.
    sum90k: i64,
    discontinuity: bool,
    named: u32,
    /// Whose text this is, and who wrote what is named last.
    attempt: u32,
    last: u32,
}

const ATTEMPT: &str = "# attempt ";

/// A comment to players (section 4.1). Texts of two attempts are never the same, even when they name the same: storage that tells versions
/// by their content would let an older attempt replace the text of a newer one.
pub fn attempt_line(attempt: u32) -> String {
    format!("{ATTEMPT}{attempt}\n")
}

/// What such a line tells; None: it is another one.
pub fn attempt_of_line(line: &str) -> Option<u32> {
    line.strip_prefix(ATTEMPT)?.parse().ok()
}

impl PlaylistText {
    /// `target_seconds`: the hard limit of a segment. A constant, because EXT-X-TARGETDURATION must not change (section 4.3.3.1).
    pub fn new(target_seconds: u32, attempt: u32) -> Self {
        let body = format!(
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-TARGETDURATION:{target_seconds}\n#EXT-X-MEDIA-SEQUENCE:0\n"
        );
        Self { blocks: vec![body], sum90k: 0, discontinuity: false, named: 0, attempt, last: 1 }
    }

    /// # Panics
    /// When no storage has the segment.
    pub fn push(&mut self, entry: &LedgerEntry) {
        assert!(entry.stored || entry.in_backup, "a playlist names only stored segments");
        let breaks = (entry.discontinuity || self.discontinuity) && self.named > 0;
        let discontinuity = if breaks { "#EXT-X-DISCONTINUITY\n" } else { "" };
        self.discontinuity = false;
        if self.last != entry.epoch {
            self.last = entry.epoch;
            self.append(&attempt_line(entry.epoch));
        }
        let before = millis(self.sum90k);
        self.sum90k += entry.duration90k;
        let length = millis(self.sum90k) - before;
        self.append(&format!(
            "{discontinuity}#EXT-X-PROGRAM-DATE-TIME:{}\n#EXTINF:{}.{:03},\n{}\n",
            Civil::from_wall(entry.wall).iso(),
            length / 1000,
            length % 1000,
            entry.name
        ));
        self.named += 1;
    }

    /// A segment was lost: it is left out, and what follows says so.
    pub fn skip(&mut self) {
        self.discontinuity = true;
    }

    /// It will not be asked for again.
    pub(crate) fn forget(&mut self) {
        self.blocks = Vec::new();
    }

    pub fn is_empty(&self) -> bool {
        self.named == 0
    }

    pub(crate) fn len(&self) -> u64 {
        self.blocks.iter().map(String::len).sum::<usize>() as u64
    }

    /// `ended`: with EXT-X-ENDLIST.
    pub fn render(&self, ended: bool) -> String {
        let ours = if self.last == self.attempt { String::new() } else { attempt_line(self.attempt) };
        let end = if ended { "#EXT-X-ENDLIST\n" } else { "" };
        let mut text = String::with_capacity(self.len() as usize + ours.len() + end.len());
        text.extend(self.blocks.iter().map(String::as_str).chain([ours.as_str(), end]));
        text
    }

    fn append(&mut self, text: &str) {
        match self.blocks.last_mut().filter(|block| block.len() + text.len() <= block.capacity()) {
            Some(block) => block.push_str(text),
            None => {
                let mut block = String::with_capacity(BLOCK_BYTES.max(text.len()));
                block.push_str(text);
                self.blocks.push(block);
            }
        }
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
            in_backup: false,
            lost: false,
            discontinuity,
            independent: true,
            epoch: 1,
        }
    }

    #[test]
    fn text_golden() {
        let mut text = PlaylistText::new(29, 1);
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

    #[test]
    fn texts_of_two_attempts_differ_and_yet_only_grow() {
        let text = |attempt: u32, epochs: &[u32]| {
            let mut text = PlaylistText::new(29, attempt);
            for (n, epoch) in epochs.iter().enumerate() {
                text.push(&LedgerEntry { epoch: *epoch, ..entry(n as u32, n as i64 * 90_000, 90_000, false) });
            }
            text.render(false)
        };
        let grown = [text(1, &[1]), text(2, &[1]), text(2, &[1, 2]), text(3, &[1, 2]), text(3, &[1, 2, 3]), text(3, &[1, 2, 3, 3])];
        for pair in grown.windows(2) {
            assert!(pair[1].starts_with(&pair[0]) && pair[1] != pair[0], "{pair:#?}");
        }
        assert_eq!(text(3, &[1]).lines().filter(|line| line.starts_with("# ")).collect::<Vec<_>>(), ["# attempt 3"]);
    }
}

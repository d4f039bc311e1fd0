//! Which track of the SFU a stream carries, as its offers say.
//!
//! The webrtc crate keeps what it made for a track id until the connection closes (a queue of 31 kB, measured), and an SFU names every
//! publication anew. So the crate is shown one id for each m-line, which SFUs use again when a track has gone (RFC 8829 section 5.2.2),
//! and the SFU's names are looked up here.

use std::collections::HashMap;

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TrackNames {
    by_ssrc: HashMap<u32, String>,
    /// For a line whose SSRC the offer does not tell.
    by_line: HashMap<String, String>,
}

/// An m-line while it is read.
#[derive(Debug, Default)]
struct Line {
    id: String,
    name: Option<String>,
    ssrcs: Vec<u32>,
}

impl TrackNames {
    /// Learns what an offer says (all of it: what it does not name is over) and returns the offer as the crate shall see it.
    pub(crate) fn learn(&mut self, offer: &str) -> String {
        *self = Self::default();
        let (mut shown, mut lines, mut line) = (String::with_capacity(offer.len()), 0, Line::default());
        for text in offer.split_inclusive('\n') {
            if text.starts_with("m=") {
                lines += 1;
                let next = Line { id: format!("line-{lines}"), ..Line::default() };
                self.add(std::mem::replace(&mut line, next));
            }
            match line.read(text) {
                Some(ours) => shown += &(ours + "\r\n"),
                None => shown += text,
            }
        }
        self.add(line);
        shown
    }

    fn add(&mut self, line: Line) {
        let Some(name) = line.name else { return };
        self.by_ssrc.extend(line.ssrcs.into_iter().map(|ssrc| (ssrc, name.clone())));
        self.by_line.insert(line.id, name);
    }

    /// The SFU's name of what a stream of a line carries.
    pub(crate) fn of(&self, ssrc: u32, line: &str) -> Option<&str> {
        self.by_ssrc.get(&ssrc).or_else(|| self.by_line.get(line)).map(String::as_str)
    }
}

impl Line {
    /// What the crate shall see instead of a text that names a track (RFC 8830 section 2, RFC 5576 section 4.1).
    fn read(&mut self, text: &str) -> Option<String> {
        let text = text.trim_end();
        let (attribute, names) = match text.strip_prefix("a=ssrc:") {
            Some(source) => {
                let (ssrc, attribute) = source.split_once(' ').unwrap_or((source, ""));
                self.ssrcs.extend(ssrc.parse::<u32>().ok());
                (format!("a=ssrc:{ssrc} msid:"), attribute.strip_prefix("msid:")?)
            }
            None => ("a=msid:".to_owned(), text.strip_prefix("a=msid:")?),
        };
        self.name = Some(names.split_once(' ')?.1.to_owned());
        Some(format!("{attribute}{id} {id}", id = self.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 63\r\na=mid:1\r\na=msid:PA_a|TR_one TR_one\r\na=ssrc:7 cname:PA_a|TR_one\r\na=ssrc:7 msid:PA_a|TR_one TR_one\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:2\r\na=ssrc:9 cname:x\r\na=ssrc:10 cname:x\r\na=ssrc-group:FID 9 10\r\na=msid:PA_a|TR_two TR_two\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:3\r\na=recvonly\r\n";

    #[test]
    fn the_crate_sees_lines_and_we_know_names() {
        let mut names = TrackNames::default();
        let shown = names.learn(OFFER);
        assert!(!shown.contains("TR_") || shown.matches("TR_").count() == 1, "only the cname, which nobody reads: {shown}");
        assert_eq!(shown.matches("msid:line-2 line-2\r\n").count(), 2);
        assert_eq!(shown.matches("a=msid:line-3 line-3\r\n").count(), 1);
        assert_eq!(shown.lines().count(), OFFER.lines().count());
        assert_eq!(
            (names.of(7, "line-2"), names.of(9, "line-3"), names.of(10, "line-3")),
            (Some("TR_one"), Some("TR_two"), Some("TR_two"))
        );
        assert_eq!((names.of(99, "line-2"), names.of(99, "line-4")), (Some("TR_one"), None));
    }

    #[test]
    fn a_line_is_used_again_under_the_same_id_and_old_names_are_forgotten() {
        let mut names = TrackNames::default();
        names.learn(OFFER);
        let shown = names.learn(&OFFER.replace("TR_one", "TR_three").replace("a=ssrc:7", "a=ssrc:8"));
        assert!(shown.contains("a=msid:line-2 line-2"));
        assert_eq!((names.of(8, "line-2"), names.of(7, "line-1")), (Some("TR_three"), None));
    }

    #[test]
    fn what_names_no_track_stays_as_it_is() {
        for odd in ["", "m=audio", "a=msid:alone\r\n", "a=ssrc:\r\na=ssrc:x msid:\r\n", "m=video 9\na=ssrc:5 msid:x\n"] {
            assert_eq!(TrackNames::default().learn(odd), odd);
        }
    }
}

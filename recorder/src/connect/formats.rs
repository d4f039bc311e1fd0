//! What a session description says about payload types and header extensions.

/// URI of the video-orientation extension (3GPP TS 26.114).
pub(crate) const VIDEO_ORIENTATION: &str = "urn:3gpp:video-orientation";

/// The numbers that a receiver of RTP packets needs. All media of a connection is bundled, so they mean the same everywhere
/// (RFC 8843 section 9.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Formats {
    pub(crate) red: Option<u8>,
    pub(crate) orientation: Option<u8>,
}

impl Formats {
    /// Adds what `sdp` says; earlier offers stay valid, later ones list only a track's own codec.
    pub(crate) fn learn(&mut self, sdp: &str) {
        for line in sdp.lines() {
            if let Some(map) = line.strip_prefix("a=rtpmap:") {
                let Some((number, encoding)) = map.split_once(' ') else { continue };
                if encoding.to_ascii_lowercase().starts_with("red/48000") {
                    self.red = number.parse().ok().or(self.red);
                }
            } else if let Some(map) = line.strip_prefix("a=extmap:") {
                let mut words = map.split_whitespace();
                let number = words.next().and_then(|word| word.split('/').next());
                if words.next() == Some(VIDEO_ORIENTATION) {
                    self.orientation = number.and_then(|number| number.parse().ok()).or(self.orientation);
                }
            }
        }
    }
}

/// Degrees clockwise from the one byte of the video-orientation extension.
pub(crate) fn rotation(extension: &[u8]) -> u16 {
    extension.first().map_or(0, |byte| u16::from(byte & 3) * 90)
}

/// `address:port` of the UDP candidates in a session description or a candidate line.
pub(crate) fn udp_candidates(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("a=").unwrap_or(line).strip_prefix("candidate:"));
    let udp = lines.filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [_, _, transport, _, address, port, ..] if transport.eq_ignore_ascii_case("udp") => Some(format!("{address}:{port}")),
        _ => None,
    });
    udp.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFER: &str = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:63 red/48000/2\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=extmap:4/recvonly urn:3gpp:video-orientation\r\na=rtpmap:96 VP8/90000\r\n\
        a=candidate:1 1 udp 2130706431 192.0.2.7 7882 typ host\r\na=candidate:2 1 tcp 1 192.0.2.7 7881 typ host tcptype passive\r\n";

    #[test]
    fn numbers_of_an_offer_survive_a_later_shorter_one() {
        let mut formats = Formats::default();
        formats.learn(OFFER);
        assert_eq!(formats, Formats { red: Some(63), orientation: Some(4) });
        formats.learn("a=rtpmap:96 VP8/90000\r\na=rtpmap:x red/48000\r\na=extmap: \r\n");
        assert_eq!(formats, Formats { red: Some(63), orientation: Some(4) });
    }

    #[test]
    fn rotations_and_candidates() {
        assert_eq!([rotation(&[]), rotation(&[0]), rotation(&[0b0101]), rotation(&[3])], [0, 0, 90, 270]);
        assert_eq!(udp_candidates(OFFER), ["192.0.2.7:7882"]);
        assert_eq!(udp_candidates("candidate:1 1 UDP 1 192.0.2.8 9 typ host"), ["192.0.2.8:9"]);
    }
}

//! What a recorder says it can receive: everything. What it cannot record it must still accept, or an SFU sends nothing and says nothing.

use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::rtp_transceiver::rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind};
use rtc::shared::error::Error;

use super::formats::VIDEO_ORIENTATION;

pub(crate) const OPUS: u8 = 111;
const RED: u8 = 63;
/// The payload type of H.264 packetization mode 1, constrained baseline; also what the test pattern sends.
pub(crate) const H264: u8 = 108;

/// Payload type, MIME type, fmtp; each has RTX at the next payload type. The payload types are LiveKit's where it has one (an answer takes
/// those of the offer). H.264 is listed with every profile that SFUs and browsers offer, in both packetization modes: it matches by profile
/// and mode only. AV1 is listed once and without parameters, as SFUs offer it: of two profiles the crate would take both for one.
const VIDEO: [(u8, &str, &str); 17] = [
    (96, "video/VP8", ""),
    (98, "video/VP9", "profile-id=0"),
    (100, "video/VP9", "profile-id=1"),
    (125, "video/H264", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f"),
    (H264, "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    (104, "video/H264", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f"),
    (102, "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"),
    (123, "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640032"),
    (39, "video/H264", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=4d001f"),
    (106, "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f"),
    (41, "video/H264", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=640032"),
    (43, "video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f"),
    (45, "video/H264", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=640c1f"),
    (35, "video/AV1", ""),
    (47, "video/VP9", "profile-id=2"),
    (49, "video/VP9", "profile-id=3"),
    (116, "video/H265", ""),
];
const VIDEO_FEEDBACK: [(&str, &str); 5] = [("goog-remb", ""), ("transport-cc", ""), ("ccm", "fir"), ("nack", ""), ("nack", "pli")];
const DEPENDENCY_DESCRIPTOR: &str = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
const ABS_CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";

fn feedback(list: &[(&str, &str)]) -> Vec<RTCPFeedback> {
    list.iter().map(|&(typ, parameter)| RTCPFeedback { typ: typ.into(), parameter: parameter.into() }).collect()
}

pub(crate) fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: "audio/opus".into(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".into(),
        rtcp_feedback: feedback(&[("nack", "")]),
    }
}

pub(crate) fn video(mime_type: &str, fmtp: &str) -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: mime_type.into(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: fmtp.into(),
        rtcp_feedback: feedback(&VIDEO_FEEDBACK),
    }
}

/// Codec of a test pattern's picture.
pub(crate) fn h264() -> RTCRtpCodec {
    let (_, mime_type, fmtp) = VIDEO[4];
    video(mime_type, fmtp)
}

fn rtx(repairs: u8) -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: "video/rtx".into(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: format!("apt={repairs}"),
        rtcp_feedback: vec![],
    }
}

/// For a connection that receives.
pub(crate) fn receiving() -> Result<MediaEngine, Error> {
    let mut engine = MediaEngine::default();
    for (payload_type, mime_type, fmtp) in VIDEO {
        register(&mut engine, payload_type, video(mime_type, fmtp), RtpCodecKind::Video)?;
        register(&mut engine, payload_type + 1, rtx(payload_type), RtpCodecKind::Video)?;
    }
    register(&mut engine, OPUS, opus(), RtpCodecKind::Audio)?;
    let red = RTCRtpCodec { mime_type: "audio/red".into(), sdp_fmtp_line: format!("{OPUS}/{OPUS}"), rtcp_feedback: vec![], ..opus() };
    register(&mut engine, RED, red, RtpCodecKind::Audio)?;
    for (uri, kind) in [
        (ABS_CAPTURE_TIME, RtpCodecKind::Audio),
        (ABS_CAPTURE_TIME, RtpCodecKind::Video),
        (DEPENDENCY_DESCRIPTOR, RtpCodecKind::Video),
        (ABS_SEND_TIME, RtpCodecKind::Video),
        (VIDEO_ORIENTATION, RtpCodecKind::Video),
    ] {
        engine.register_header_extension(RTCRtpHeaderExtensionCapability { uri: uri.into() }, kind, None)?;
    }
    Ok(engine)
}

/// For the test pattern's sending side: H.264 with RTX, and Opus.
pub(crate) fn sending() -> Result<MediaEngine, Error> {
    let mut engine = MediaEngine::default();
    register(&mut engine, H264, h264(), RtpCodecKind::Video)?;
    register(&mut engine, H264 + 1, rtx(H264), RtpCodecKind::Video)?;
    register(&mut engine, OPUS, opus(), RtpCodecKind::Audio)?;
    Ok(engine)
}

fn register(engine: &mut MediaEngine, payload_type: u8, rtp_codec: RTCRtpCodec, kind: RtpCodecKind) -> Result<(), Error> {
    engine.register_codec(RTCRtpCodecParameters { rtp_codec, payload_type }, kind)
}

#[cfg(test)]
mod tests {
    use super::super::intake::Intake;
    use super::super::peer::{Peer, PeerConfig};
    use super::*;
    use std::collections::BTreeMap;

    /// What SFUs and browsers offer: payload type, encoding, fmtp.
    const OFFERED: [(u8, &str, &str); 16] = [
        (96, "VP8", ""),
        (98, "VP9", "profile-id=0"),
        (100, "VP9", "profile-id=1"),
        (58, "VP9", "profile-id=2"),
        (125, "H264", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f"),
        (108, "H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
        (104, "H264", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42001f"),
        (102, "H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"),
        (123, "H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640032"),
        (39, "H264", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=64001f"),
        (112, "H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f"),
        (114, "H264", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=640c1f"),
        (118, "H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=4d001f"),
        (120, "H264", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=4d001f"),
        (35, "AV1", ""),
        (116, "H265", "level-id=186;profile-id=1;tier-flag=0;tx-mode=SRST"),
    ];
    const SESSION: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=msid-semantic: WMS\r\n\
        a=fingerprint:sha-256 0F:74:31:25:CB:A2:13:EC:28:6F:6D:2C:61:FF:5D:C2:BC:B9:DB:3D:98:14:8D:1A:BB:EA:33:0C:A4:60:A8:8E\r\n\
        a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=setup:actpass\r\n";

    fn section(kind: &str, mid: u8, formats: &[u8]) -> String {
        let formats: Vec<String> = formats.iter().map(u8::to_string).collect();
        let address = "c=IN IP4 0.0.0.0\r\na=rtcp-mux\r\na=sendonly\r\na=msid:PA_1 TR_1\r\n";
        format!("m={kind} 9 UDP/TLS/RTP/SAVPF {}\r\na=mid:{mid}\r\n{address}", formats.join(" "))
    }

    fn offer() -> String {
        let numbers: Vec<u8> = OFFERED.iter().flat_map(|(number, ..)| [*number, number + 1]).collect();
        let mut sdp = format!("{SESSION}{}", section("video", 0, &numbers));
        for (number, encoding, fmtp) in OFFERED {
            sdp += &format!("a=rtpmap:{number} {encoding}/90000\r\n");
            if !fmtp.is_empty() {
                sdp += &format!("a=fmtp:{number} {fmtp}\r\n");
            }
            for (typ, parameter) in VIDEO_FEEDBACK {
                sdp += &format!("a=rtcp-fb:{number} {}\r\n", format!("{typ} {parameter}").trim());
            }
            let repair = number + 1;
            sdp += &format!("a=rtpmap:{repair} rtx/90000\r\na=fmtp:{repair} apt={number}\r\n");
        }
        sdp += "a=ssrc-group:FID 1001 1002\r\na=ssrc:1001 cname:PA_1\r\na=ssrc:1002 cname:PA_1\r\n";
        sdp += &section("audio", 1, &[111, 63]);
        sdp + "a=ssrc:1003 cname:PA_1\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\na=rtcp-fb:111 nack\r\n\
            a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n"
    }

    /// Lines `a=<name>:<number> <value>` by number.
    fn attributes(sdp: &str, name: &str) -> BTreeMap<u8, Vec<String>> {
        let mut found = BTreeMap::<u8, Vec<String>>::new();
        let prefix = format!("a={name}:");
        for (number, value) in sdp.lines().filter_map(|line| line.strip_prefix(&prefix)?.split_once(' ')) {
            found.entry(number.parse().expect("a number")).or_default().push(value.to_owned());
        }
        found
    }

    #[tokio::test]
    async fn everything_that_is_offered_is_accepted_with_retransmission_and_feedback() {
        let (events, _queue) = tokio::sync::mpsc::channel(8);
        let config = PeerConfig { loopback: true, loopback_only: true, ..PeerConfig::default() };
        let (mut peer, _events) = Peer::new(config, &Intake::new(events)).await.expect("a socket on loopback");
        let answer = peer.answer(&offer()).await.expect("an answer");
        let (maps, fmtps, feedback) = (attributes(&answer, "rtpmap"), attributes(&answer, "fmtp"), attributes(&answer, "rtcp-fb"));
        for (number, encoding, _) in OFFERED {
            assert_eq!(maps.get(&number), Some(&vec![format!("{encoding}/90000")]), "payload type {number} of\n{answer}");
            assert_eq!(fmtps.get(&(number + 1)), Some(&vec![format!("apt={number}")]), "RTX of {number} ({encoding}) in\n{answer}");
            for wanted in ["nack", "nack pli", "ccm fir"] {
                assert!(feedback.get(&number).is_some_and(|list| list.iter().any(|f| f == wanted)), "{wanted} of {number} in\n{answer}");
            }
        }
        assert_eq!(maps.get(&111), Some(&vec!["opus/48000/2".to_owned()]));
        assert_eq!((maps.get(&63), fmtps.get(&63)), (Some(&vec!["red/48000/2".to_owned()]), Some(&vec!["111/111".to_owned()])));
        assert!(feedback.get(&111).is_some_and(|list| list.iter().any(|f| f == "nack")), "lost Opus is asked for");
        peer.close().await;
    }
}

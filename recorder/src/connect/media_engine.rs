//! What a recorder says it can receive: everything. What it cannot record it must still accept, or an SFU sends nothing and says nothing.

use rtc::peer_connection::configuration::media_engine::MediaEngine;
use rtc::rtp_transceiver::rtp_sender::{RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind};
use rtc::shared::error::Error;

use super::formats::VIDEO_ORIENTATION;

pub(crate) const OPUS: u8 = 111;
const RED: u8 = 63;
/// The payload type of H.264 packetization mode 1, constrained baseline; also what the test pattern sends.
pub(crate) const H264: u8 = 108;

/// Payload type, MIME type, fmtp; each has RTX at the next payload type. H.264 is listed with every profile that SFUs offer.
const VIDEO: [(u8, &str, &str); 12] = [
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
    (35, "video/AV1", ""),
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

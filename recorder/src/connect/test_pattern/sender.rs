//! The sending side of the test pattern: a real peer connection that offers every participant's tracks.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::interceptor::{Interceptor, NackResponderBuilder, Packet, Registry, Slot, StreamInfo, TaggedPacket};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::setting_engine::SettingEngineBuilder;
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::RTCIceCandidateInit;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind};
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use tokio::sync::mpsc;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::peer_connection::{
    PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCPeerConnectionIceEvent, RTCPeerConnectionState,
    SrtpProtectionProfile,
};

use super::source::{Kind, Sent};
use crate::connect::media_engine;
use crate::connect::peer::PeerEvent;

/// Seconds from 1900 (NTP) to 1970 (Unix).
const NTP_UNIX_SECONDS: u64 = 2_208_988_800;
/// Like a real sender's: not 0, and soon to wrap.
const FIRST_SEQUENCE: u16 = 65_400;
pub(crate) const FIRST_TIMESTAMP: u32 = u32::MAX - 200_000;

pub(crate) struct Sender {
    connection: Arc<dyn PeerConnection>,
}

/// One participant's way onto the wire.
pub(crate) struct Outlet {
    video: Option<Line>,
    audio: Option<Line>,
}

struct Line {
    track: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
    payload_type: u8,
    clock_rate: u64,
    sequence: u16,
    packets: u32,
    octets: u32,
    /// Nobody wants it at the moment.
    closed: Arc<AtomicBool>,
}

/// SSRC -> somebody wants a key frame of it.
pub(crate) type KeyframeFlags = HashMap<u32, Arc<AtomicBool>>;

pub(crate) fn ssrc(participant: u8, kind: Kind) -> u32 {
    0x7e57_0000 | u32::from(participant) << 1 | u32::from(kind == Kind::Audio)
}

pub(crate) fn track_name(participant: u8, kind: Kind) -> String {
    format!("{}-{participant}", if kind == Kind::Video { "video" } else { "audio" })
}

impl Sender {
    pub(crate) async fn new(events: mpsc::Sender<PeerEvent>, flags: KeyframeFlags) -> Result<Self, Error> {
        let registry = Registry::new()
            .with(Slot::NackResponder, NackResponderBuilder::new().build())
            .with(Slot::IntervalPli, KeyframeWatch { flags, to_application: VecDeque::new(), to_wire: VecDeque::new() });
        let settings = SettingEngineBuilder::new()
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            .with_include_loopback_candidate(true);
        let connection = PeerConnectionBuilder::new()
            .with_media_engine(media_engine::sending()?)
            .with_interceptor_registry(registry)
            .with_setting_engine(settings.build())
            .with_handler(Arc::new(Handler { events }))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await?;
        Ok(Self { connection: Arc::new(connection) })
    }

    pub(crate) async fn add(&self, participant: u8, video: bool, audio: bool) -> Result<Outlet, Error> {
        let video = if video { Some(self.line(participant, Kind::Video).await?) } else { None };
        let audio = if audio { Some(self.line(participant, Kind::Audio).await?) } else { None };
        Ok(Outlet { video, audio })
    }

    async fn line(&self, participant: u8, kind: Kind) -> Result<Line, Error> {
        let (codec, payload_type, codec_kind) = match kind {
            Kind::Video => (media_engine::h264(), media_engine::H264, RtpCodecKind::Video),
            Kind::Audio => (media_engine::opus(), media_engine::OPUS, RtpCodecKind::Audio),
        };
        let clock_rate = u64::from(codec.clock_rate);
        let (ssrc, name) = (ssrc(participant, kind), track_name(participant, kind));
        let rtp_coding_parameters = RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() };
        let encoding = RTCRtpEncodingParameters { rtp_coding_parameters, codec, ..Default::default() };
        let stream = MediaStreamTrack::new(format!("participant-{participant}"), name.clone(), name, codec_kind, vec![encoding]);
        let track = Arc::new(TrackLocalStaticRTP::new(stream));
        self.connection.add_track(track.clone()).await?;
        Ok(Line { track, ssrc, payload_type, clock_rate, sequence: FIRST_SEQUENCE, packets: 0, octets: 0, closed: Arc::default() })
    }

    pub(crate) async fn offer(&self) -> Result<String, Error> {
        let offer = self.connection.create_offer(None).await?;
        let sdp = offer.sdp.clone();
        self.connection.set_local_description(offer).await?;
        Ok(sdp)
    }

    pub(crate) async fn answered(&self, answer: String) -> Result<(), Error> {
        self.connection.set_remote_description(RTCSessionDescription::answer(answer)?).await
    }

    pub(crate) async fn add_candidate(&self, json: &str) {
        if let Ok(candidate) = serde_json::from_str::<RTCIceCandidateInit>(json) {
            let _ = self.connection.add_ice_candidate(candidate).await;
        }
    }

    pub(crate) async fn close(&self) {
        let _ = self.connection.close().await;
    }
}

impl Outlet {
    /// The flag that keeps a track's packets back.
    pub(crate) fn closed(&self, kind: Kind) -> Arc<AtomicBool> {
        let line = if kind == Kind::Video { &self.video } else { &self.audio };
        line.as_ref().map(|line| line.closed.clone()).unwrap_or_default()
    }

    /// Errors end a test pattern no more than packet loss ends a call: they are logged.
    pub(crate) async fn send(&mut self, sent: Sent) {
        let result = match sent {
            Sent::Media { kind, timestamp, payloads } => {
                let line = if kind == Kind::Video { &mut self.video } else { &mut self.audio };
                match line {
                    Some(line) => line.media(timestamp, payloads, kind == Kind::Video).await,
                    None => Ok(()),
                }
            }
            Sent::Report { media, epoch } => {
                let mut result = Ok(());
                for line in [&self.video, &self.audio].into_iter().flatten() {
                    result = result.and(line.report(media, epoch).await);
                }
                result
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "the test pattern failed to send");
        }
    }
}

impl Line {
    async fn media(&mut self, timestamp: u64, payloads: Vec<Bytes>, marked: bool) -> Result<(), Error> {
        if self.closed.load(Ordering::Relaxed) {
            return Ok(());
        }
        let last = payloads.len();
        for (index, payload) in payloads.into_iter().enumerate() {
            self.packets = self.packets.wrapping_add(1);
            self.octets = self.octets.wrapping_add(payload.len() as u32);
            let header = rtp::header::Header {
                version: 2,
                marker: marked && index + 1 == last,
                payload_type: self.payload_type,
                sequence_number: self.sequence,
                timestamp: FIRST_TIMESTAMP.wrapping_add(timestamp as u32),
                ssrc: self.ssrc,
                ..Default::default()
            };
            self.sequence = self.sequence.wrapping_add(1);
            self.track.write_rtp(rtp::Packet { header, payload }).await?;
        }
        Ok(())
    }

    /// Both tracks of a participant tell of the same clock, exactly.
    async fn report(&self, media: Duration, epoch: Duration) -> Result<(), Error> {
        let ticks = media.as_micros() as u64 * self.clock_rate / 1_000_000;
        let report = SenderReport {
            ssrc: self.ssrc,
            ntp_time: ntp(epoch + media),
            rtp_time: FIRST_TIMESTAMP.wrapping_add(ticks as u32),
            packet_count: self.packets,
            octet_count: self.octets,
            ..Default::default()
        };
        self.track.write_rtcp(vec![Box::new(report)]).await
    }
}

/// Unix time as 32.32 fixed point since 1900.
fn ntp(unix: Duration) -> u64 {
    let fraction = (u64::from(unix.subsec_nanos()) << 32) / 1_000_000_000;
    (unix.as_secs() + NTP_UNIX_SECONDS) << 32 | fraction
}

struct Handler {
    events: mpsc::Sender<PeerEvent>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        let json = event.candidate.to_json().ok().and_then(|init| serde_json::to_string(&init).ok());
        if let Some(json) = json {
            let _ = self.events.try_send(PeerEvent::Candidate(json));
        }
    }
    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            let _ = self.events.try_send(PeerEvent::Up);
        }
    }
}

/// Hears requests for key frames: the crate keeps RTCP from its senders.
struct KeyframeWatch {
    flags: KeyframeFlags,
    to_application: VecDeque<TaggedPacket>,
    to_wire: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for KeyframeWatch {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &packet.message.packet {
            for request in packets.iter().filter_map(|p| p.as_any().downcast_ref::<PictureLossIndication>()) {
                if let Some(flag) = self.flags.get(&request.media_ssrc) {
                    flag.store(true, Ordering::Relaxed);
                }
            }
        }
        self.to_application.push_back(packet);
        Ok(())
    }
    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.to_application.pop_front()
    }
    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.to_wire.push_back(packet);
        Ok(())
    }
    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.to_wire.pop_front()
    }
}

impl Interceptor for KeyframeWatch {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

//! Reads one remote track: packets in, packets of a numbered track out. It never waits for anything but the next packet.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use recorder_media::RtpPacket;
use rtc::rtp;
use tokio_util::sync::CancellationToken;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};

use super::Stamped;
use super::counters::Counters;
use super::formats::{Formats, rotation};
use super::intake::{Intake, Route};
use super::red::{self, Delivered};

/// Packets kept for a stream until signalling names its track (some 200 ms); the oldest are dropped beyond this.
const UNCLAIMED_MAX: usize = 1024;
/// At most one key frame is asked for per overflow in this time.
const OVERFLOW_REQUEST_EVERY: Duration = Duration::from_secs(1);

/// What one SSRC has sent.
struct Stream {
    ssrc: u32,
    /// The SFU's name of the track at the time the stream began.
    name: String,
    route: Option<Route>,
    unclaimed: VecDeque<Stamped<RtpPacket>>,
    delivered: Delivered,
}

/// Runs until the connection is closed or the track is retired.
pub(crate) async fn run(track: Arc<dyn TrackRemote>, intake: Arc<Intake>, formats: Arc<Mutex<Formats>>, closed: CancellationToken) {
    let mut pump = Pump { track, intake, formats, stream: None, asked: None };
    loop {
        let retired = pump.stream.as_ref().and_then(|stream| stream.route.as_ref()).map(|route| route.retired.clone());
        let event = tokio::select! {
            biased;
            () = closed.cancelled() => return,
            () = cancelled(retired.as_ref()) => return,
            event = pump.track.poll() => event,
        };
        match event {
            Some(TrackRemoteEvent::OnRtpPacket(packet)) => pump.packet(packet).await,
            // Fired again for every live track at each renegotiation; only a new SSRC is news, and its first packet tells.
            Some(_) => {}
            None => return,
        }
    }
}

async fn cancelled(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

struct Pump {
    track: Arc<dyn TrackRemote>,
    intake: Arc<Intake>,
    formats: Arc<Mutex<Formats>>,
    stream: Option<Stream>,
    asked: Option<Instant>,
}

impl Pump {
    async fn packet(&mut self, packet: rtp::Packet) {
        let at = Instant::now();
        let formats = *self.formats.lock().unwrap_or_else(PoisonError::into_inner);
        let header = &packet.header;
        if self.stream.as_ref().is_none_or(|stream| stream.ssrc != header.ssrc) {
            self.stream = Some(Stream {
                ssrc: header.ssrc,
                name: self.track.track_id().await,
                route: None,
                unclaimed: VecDeque::new(),
                delivered: Delivered::new(header.sequence_number),
            });
        }
        let Some(stream) = &mut self.stream else { return };
        let orientation = formats.orientation.and_then(|id| header.get_extension(id));
        let is_red = formats.red == Some(header.payload_type);
        let packet = RtpPacket {
            ssrc: header.ssrc,
            sequence: header.sequence_number,
            timestamp: header.timestamp,
            marker: header.marker,
            payload: packet.payload,
            rotation: orientation.map_or(0, |bytes| rotation(&bytes)),
        };
        for packet in unwrapped(packet, is_red, &mut stream.delivered, &self.intake.counters) {
            stream.unclaimed.push_back(Stamped { at, value: packet });
        }
        self.pass_on();
    }

    /// Hands over what is waiting, once the roster knows the track.
    fn pass_on(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        if stream.route.is_none() {
            let Some(route) = self.intake.route(&stream.name) else {
                while stream.unclaimed.len() > UNCLAIMED_MAX {
                    stream.unclaimed.pop_front();
                    Counters::add(&self.intake.counters.unclaimed, 1);
                }
                return;
            };
            if route.forward {
                self.intake.carries(stream.ssrc, route.key, &self.track);
            }
            stream.route = Some(route);
        }
        let Some(route) = stream.route.as_ref() else { return };
        let mut overflowed = false;
        for Stamped { at, value: packet } in stream.unclaimed.drain(..).filter(|_| route.forward) {
            overflowed |= !self.intake.packet(at, route.key, packet);
        }
        if overflowed && self.asked.is_none_or(|asked| asked.elapsed() >= OVERFLOW_REQUEST_EVERY) {
            self.asked = Some(Instant::now());
            tracing::warn!(track = route.key.0, "the driver's queue is full, packets are lost");
            self.intake.request_keyframe(route.key);
        }
    }
}

/// Undoes RED and drops duplicates.
fn unwrapped(packet: RtpPacket, is_red: bool, delivered: &mut Delivered, counters: &Counters) -> Vec<RtpPacket> {
    if !is_red {
        let fresh = delivered.insert(packet.sequence);
        Counters::add(&counters.duplicates, u64::from(!fresh));
        return if fresh { vec![packet] } else { vec![] };
    }
    let Some(packets) = red::undo(&packet, delivered) else {
        tracing::debug!(ssrc = packet.ssrc, "damaged RED packet");
        return vec![];
    };
    match packets.len() {
        0 => Counters::add(&counters.duplicates, 1),
        n => Counters::add(&counters.rebuilt, n as u64 - 1),
    }
    packets
}

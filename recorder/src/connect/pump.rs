//! Reads one m-line: packets in, packets of a numbered track out. It never waits for anything but the next packet. The line may carry
//! one publication after another.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt;
use recorder_media::RtpPacket;
use rtc::rtp;
use tokio_util::sync::CancellationToken;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};

use super::Stamped;
use super::counters::Counters;
use super::formats::rotation;
use super::intake::{Intake, Route};
use super::peer::Told;
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
    /// Its publication has ended once: what comes is dropped, unless it is published again.
    retired: bool,
    unclaimed: VecDeque<Stamped<RtpPacket>>,
    delivered: Delivered,
}

/// Runs until the connection is closed.
pub(crate) async fn run(track: Arc<dyn TrackRemote>, intake: Arc<Intake>, told: Arc<Mutex<Told>>, closed: CancellationToken) {
    let mut pump = Pump { track, intake, told, stream: None, asked: None };
    loop {
        let retired = pump.stream.as_ref().and_then(|stream| stream.route.as_ref()).map(|route| route.retired.clone());
        let event = tokio::select! {
            biased;
            () = closed.cancelled() => return,
            () = cancelled(retired.as_ref()) => {
                pump.retire();
                continue;
            }
            event = pump.track.poll() => event,
        };
        // Packets come in batches: what else is there is taken without another look at the tokens.
        let mut next = Some(event);
        while let Some(event) = next {
            match event {
                Some(TrackRemoteEvent::OnRtpPacket(packet)) => pump.packet(packet).await,
                // Fired again for every live track at each renegotiation; only a new SSRC is news, and its first packet tells.
                Some(_) => {}
                None => return,
            }
            next = pump.track.poll().now_or_never();
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
    told: Arc<Mutex<Told>>,
    stream: Option<Stream>,
    asked: Option<Instant>,
}

impl Pump {
    async fn packet(&mut self, packet: rtp::Packet) {
        let at = Instant::now();
        let header = &packet.header;
        if self.stream.as_ref().is_none_or(|stream| stream.ssrc != header.ssrc) {
            let name = self.name(header.ssrc).await;
            tracing::debug!(ssrc = header.ssrc, payload_type = header.payload_type, name, "a stream begins");
            self.stream = Some(Stream {
                ssrc: header.ssrc,
                name,
                route: None,
                retired: false,
                unclaimed: VecDeque::new(),
                delivered: Delivered::new(header.sequence_number),
            });
        }
        let formats = self.told.lock().unwrap_or_else(PoisonError::into_inner).formats;
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

    async fn name(&self, ssrc: u32) -> String {
        let line = self.track.track_id().await;
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.names.of(ssrc, &line).map_or(line.clone(), str::to_owned)
    }

    fn retire(&mut self) {
        if let Some(stream) = &mut self.stream {
            (stream.route, stream.retired) = (None, true);
            stream.unclaimed.clear();
        }
    }

    /// Hands over what is waiting, once the roster knows the track.
    fn pass_on(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        if stream.route.is_none() {
            let Some(route) = self.intake.route(&stream.name) else {
                if stream.retired {
                    return stream.unclaimed.clear();
                }
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
pub(super) fn unwrapped(packet: RtpPacket, is_red: bool, delivered: &mut Delivered, counters: &Counters) -> Vec<RtpPacket> {
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

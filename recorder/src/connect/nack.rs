//! Asks for lost packets.
//!
//! rtc 0.21.1's own generator does not see that a packet came back by RTX and asks for it for ever (three times the traffic at 3 % loss).
//! This one takes its place in the chain: it credits a retransmission on the RTX stream to the packet it repeats, and gives up in time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc::interceptor::{AttributedPacket, Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::error::Error;

use super::counters::Counters;

/// Reordered packets get this long before they are called lost.
const FIRST_ASK: Duration = Duration::from_millis(10);
/// Between two requests for the same packet; SFUs ignore faster ones.
const ASK_AGAIN: Duration = Duration::from_millis(60);
/// After this the packet is given up: later, the delay line would not take it (media.md section 1; it grows to 10 s).
const GIVE_UP: Duration = Duration::from_secs(10);
/// The first requests follow each other at `ASK_AGAIN`; after so many the interval doubles each time, up to a second.
const QUICK_ASKS: u32 = 6;
const ASK_AGAIN_MAX: Duration = Duration::from_secs(1);
/// A jump of more than this is a new beginning of the sender, not loss.
const GAP_MAX: i64 = 1000;
/// Packets of a stream that are waited for at most; the oldest are given up beyond it. Two outages of `GAP_MAX` and what goes with them;
/// without it a sender that leaves a gap before every packet would fill the memory.
const MISSING_MAX: usize = 4096;

/// Sequence numbers of one stream: the highest, and the missing ones below it.
#[derive(Debug, Default)]
struct Losses {
    highest: Option<i64>,
    missing: BTreeMap<i64, Missing>,
}

#[derive(Debug)]
struct Missing {
    since: Instant,
    asked: Option<Instant>,
    asks: u32,
}

impl Missing {
    fn due(&self, now: Instant) -> bool {
        let (since, wait) = match self.asked {
            None => (self.since, FIRST_ASK),
            Some(asked) => {
                let doublings = self.asks.saturating_sub(QUICK_ASKS).min(8);
                (asked, (ASK_AGAIN * (1 << doublings)).min(ASK_AGAIN_MAX))
            }
        };
        now.duration_since(since) >= wait
    }
}

impl Losses {
    fn unwrap(&self, sequence: u16) -> i64 {
        match self.highest {
            None => i64::from(sequence),
            Some(highest) => highest + i64::from(sequence.wrapping_sub(highest as u16) as i16),
        }
    }

    fn received(&mut self, sequence: u16, now: Instant) {
        let number = self.unwrap(sequence);
        match self.highest {
            Some(highest) if number <= highest => {
                self.missing.remove(&number);
                return;
            }
            Some(highest) if number - highest <= GAP_MAX => {
                for lost in highest + 1..number {
                    self.missing.insert(lost, Missing { since: now, asked: None, asks: 0 });
                }
                while self.missing.len() > MISSING_MAX {
                    self.missing.pop_first();
                }
            }
            Some(_) => self.missing.clear(),
            None => {}
        }
        self.highest = Some(number);
    }

    /// True when the packet had been missing.
    fn recovered(&mut self, sequence: u16) -> bool {
        let number = self.unwrap(sequence);
        self.missing.remove(&number).is_some()
    }

    /// What to ask for now.
    fn ask(&mut self, now: Instant) -> Vec<u16> {
        self.missing.retain(|_, missing| now.duration_since(missing.since) < GIVE_UP);
        let due = self.missing.iter_mut().filter(|(_, missing)| missing.due(now));
        due.map(|(&number, missing)| {
            missing.asked = Some(now);
            missing.asks += 1;
            number as u16
        })
        .collect()
    }
}

/// An interceptor for `Slot::NackGenerator`.
pub(crate) struct NackGenerator {
    to_application: VecDeque<TaggedPacket>,
    to_wire: VecDeque<TaggedPacket>,
    streams: HashMap<u32, Losses>,
    /// RTX stream -> the stream it repeats.
    repairs: HashMap<u32, u32>,
    wake: Option<Instant>,
    counters: Arc<Counters>,
}

impl std::fmt::Debug for NackGenerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NackGenerator").field("streams", &self.streams.len()).finish_non_exhaustive()
    }
}

impl NackGenerator {
    pub(crate) fn new(counters: Arc<Counters>) -> Self {
        Self {
            to_application: VecDeque::new(),
            to_wire: VecDeque::new(),
            streams: HashMap::new(),
            repairs: HashMap::new(),
            wake: None,
            counters,
        }
    }

    fn saw(&mut self, ssrc: u32, sequence: u16, payload: &[u8], now: Instant) {
        if let Some(repaired) = self.repairs.get(&ssrc) {
            // RFC 4588 section 4: the original sequence number leads the payload of a retransmission.
            if let (Some(&[high, low]), Some(losses)) = (payload.first_chunk::<2>(), self.streams.get_mut(repaired))
                && losses.recovered(u16::from_be_bytes([high, low]))
            {
                Counters::add(&self.counters.recovered, 1);
            }
            return;
        }
        let Some(losses) = self.streams.get_mut(&ssrc) else { return };
        losses.received(sequence, now);
        if !losses.missing.is_empty() && self.wake.is_none() {
            self.wake = Some(now + FIRST_ASK);
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for NackGenerator {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtp(rtp) = &packet.message.packet {
            self.saw(rtp.header.ssrc, rtp.header.sequence_number, &rtp.payload, packet.now);
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

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if self.wake.is_none_or(|wake| now < wake) {
            return Ok(());
        }
        for (&media_ssrc, losses) in &mut self.streams {
            let wanted = losses.ask(now);
            if wanted.is_empty() {
                continue;
            }
            Counters::add(&self.counters.nacks, wanted.len() as u64);
            // The sender SSRC of feedback means nothing to an SFU; 0 would be taken for "unset" by some.
            let nack = TransportLayerNack { sender_ssrc: 1, media_ssrc, nacks: nack_pairs_from_sequence_numbers(&wanted) };
            let message = AttributedPacket::new(Packet::Rtcp(vec![Box::new(nack)]));
            self.to_wire.push_back(TaggedPacket { now, transport: TransportContext::default(), message });
        }
        let pending = self.streams.values().any(|losses| !losses.missing.is_empty());
        self.wake = pending.then(|| now + FIRST_ASK);
        Ok(())
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        self.wake
    }
}

impl Interceptor for NackGenerator {
    fn bind_remote_stream(&mut self, info: &StreamInfo) {
        let negotiated = info.rtcp_feedback.iter().any(|feedback| feedback.typ == "nack" && feedback.parameter.is_empty());
        // An RTX stream may be bound as a stream of its own too: it is never asked for.
        if !negotiated || self.repairs.contains_key(&info.ssrc) {
            return;
        }
        self.streams.entry(info.ssrc).or_default();
        if let Some(repair) = info.ssrc_rtx {
            self.repairs.insert(repair, info.ssrc);
            self.streams.remove(&repair);
        }
    }
    fn unbind_remote_stream(&mut self, info: &StreamInfo) {
        self.streams.remove(&info.ssrc);
        if let Some(repair) = info.ssrc_rtx {
            self.repairs.remove(&repair);
        }
    }
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::interceptor::RTCPFeedback;
    use rtc::rtp;

    const MEDIA: u32 = 10;
    const RTX: u32 = 11;

    fn generator() -> (NackGenerator, Arc<Counters>) {
        let counters = Arc::<Counters>::default();
        let mut generator = NackGenerator::new(counters.clone());
        generator.bind_remote_stream(&StreamInfo {
            ssrc: MEDIA,
            ssrc_rtx: Some(RTX),
            rtcp_feedback: vec![RTCPFeedback { typ: "nack".into(), parameter: String::new() }],
            ..Default::default()
        });
        (generator, counters)
    }

    fn arrive(generator: &mut NackGenerator, ssrc: u32, sequence_number: u16, payload: &[u8], now: Instant) {
        let header = rtp::header::Header { ssrc, sequence_number, ..Default::default() };
        let packet = rtp::Packet { header, payload: payload.to_vec().into() };
        let message = AttributedPacket::new(Packet::Rtp(packet));
        generator.handle_read(TaggedPacket { now, transport: TransportContext::default(), message }).expect("never fails");
        assert!(generator.poll_read().is_some(), "packets pass through");
    }

    /// The sequence numbers asked for at `now`.
    fn asked(generator: &mut NackGenerator, now: Instant) -> Vec<u16> {
        generator.handle_timeout(now).expect("never fails");
        let mut wanted = vec![];
        while let Some(packet) = generator.poll_write() {
            let Packet::Rtcp(packets) = packet.message.packet else { continue };
            for nack in packets.iter().filter_map(|p| p.as_any().downcast_ref::<TransportLayerNack>()) {
                assert_eq!(nack.media_ssrc, MEDIA);
                wanted.extend(nack.nacks.iter().flat_map(|pair| pair.packet_list()));
            }
        }
        wanted
    }

    #[test]
    fn a_gap_is_asked_for_after_the_reorder_time_and_across_the_wrap() {
        let (mut generator, counters) = generator();
        let start = Instant::now();
        arrive(&mut generator, MEDIA, 65534, &[1], start);
        arrive(&mut generator, MEDIA, 1, &[1], start);
        assert_eq!(asked(&mut generator, start + Duration::from_millis(5)), Vec::<u16>::new());
        assert_eq!(asked(&mut generator, start + Duration::from_millis(10)), [65535, 0]);
        assert_eq!(Counters::get(&counters.nacks), 2);
        assert_eq!(asked(&mut generator, start + Duration::from_millis(40)), Vec::<u16>::new());
        assert_eq!(asked(&mut generator, start + Duration::from_millis(80)), [65535, 0]);
    }

    #[test]
    fn a_retransmission_on_rtx_ends_the_asking() {
        let (mut generator, counters) = generator();
        let start = Instant::now();
        arrive(&mut generator, MEDIA, 5, &[1], start);
        arrive(&mut generator, MEDIA, 7, &[1], start);
        assert_eq!(asked(&mut generator, start + Duration::from_millis(20)), [6]);
        arrive(&mut generator, RTX, 900, &[0, 6, 1], start + Duration::from_millis(50));
        assert_eq!(asked(&mut generator, start + Duration::from_millis(100)), Vec::<u16>::new());
        assert_eq!(Counters::get(&counters.recovered), 1);
        assert_eq!(generator.poll_timeout(), None, "nothing left to wait for");
    }

    #[test]
    fn a_late_original_ends_the_asking_and_damage_on_rtx_is_ignored() {
        let (mut generator, _) = generator();
        let start = Instant::now();
        arrive(&mut generator, MEDIA, 5, &[1], start);
        arrive(&mut generator, MEDIA, 8, &[1], start);
        arrive(&mut generator, RTX, 1, &[], start);
        arrive(&mut generator, RTX, 2, &[9], start);
        arrive(&mut generator, MEDIA, 6, &[1], start);
        assert_eq!(asked(&mut generator, start + Duration::from_millis(20)), [7]);
    }

    #[test]
    fn a_sender_of_nothing_but_gaps_does_not_fill_the_memory() {
        let (mut generator, _) = generator();
        let start = Instant::now();
        for packet in 0..1000u32 {
            let sequence = (packet * GAP_MAX as u32) as u16;
            arrive(&mut generator, MEDIA, sequence, &[1], start + packet * Duration::from_millis(2));
        }
        assert_eq!(generator.streams[&MEDIA].missing.len(), MISSING_MAX);
        let wanted = asked(&mut generator, start + Duration::from_secs(3));
        assert_eq!(wanted.len(), MISSING_MAX);
        assert_eq!(*wanted.last().expect("some"), (999 * GAP_MAX - 1) as u16, "the newest are asked for");
    }

    #[test]
    fn it_gives_up_and_a_restart_of_the_sender_is_not_loss() {
        let (mut generator, _) = generator();
        let start = Instant::now();
        arrive(&mut generator, MEDIA, 1, &[1], start);
        arrive(&mut generator, MEDIA, 3, &[1], start);
        let mut asks = 0;
        for step in 1..1200 {
            asks += asked(&mut generator, start + step * FIRST_ASK).len();
        }
        assert!((8..30).contains(&asks), "{asks} requests in 10 s");
        assert_eq!(generator.poll_timeout(), None);
        arrive(&mut generator, MEDIA, 20_000, &[1], start + GIVE_UP * 2);
        assert_eq!(asked(&mut generator, start + GIVE_UP * 3), Vec::<u16>::new());
    }
}

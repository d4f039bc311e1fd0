//! What comes from a room: packets, reports, signalling, descriptions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol as proto;
use prost::Message;
use recorder_media::{ParticipantKey, RtpPacket, TrackKey};
use rtc::interceptor::{AttributedPacket, Interceptor, Packet, RTCPFeedback, StreamInfo, TaggedPacket};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;
use rtc::sansio::Protocol;
use rtc::shared::TransportContext;
use rtc::shared::marshal::Unmarshal;

use super::counters::Counters;
use super::formats::{self, Formats};
use super::livekit::Address;
use super::livekit::roster::{Change, Roster};
use super::nack::NackGenerator;
use super::pump::unwrapped;
use super::red::Delivered;
use super::redact::redact;
use super::{sender_reports, token};

/// The stream that is asked for again, and the one that repeats it.
const MEDIA: u32 = 10;
const RTX: u32 = 11;
const RED: u8 = 63;
const ORIENTATION: u8 = 4;
/// A sender that is asked for so many packets at once would have a right to be angry.
const MOST_ASKED_AT_ONCE: usize = 8192;

/// Pieces of `data`, each behind its length in two bytes.
fn pieces(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = data.split_first_chunk::<2>()?;
        let (piece, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        data = rest;
        Some(piece)
    })
}

/// RTP packets as they come off the wire, 5 ms apart, through NACK generator, header extensions and RED.
pub fn rtp(data: &[u8]) {
    let counters = Arc::<Counters>::default();
    let mut nack = nack_generator(&counters);
    let mut delivered: BTreeMap<u32, Delivered> = BTreeMap::new();
    let mut now = Instant::now();
    for mut piece in pieces(data) {
        now += Duration::from_millis(5);
        let Ok(packet) = rtc::rtp::Packet::unmarshal(&mut piece) else { continue };
        let message = AttributedPacket::new(Packet::Rtp(packet.clone()));
        nack.handle_read(TaggedPacket { now, transport: TransportContext::default(), message }).expect("packets pass");
        assert!(nack.poll_read().is_some(), "packets pass");
        ask(&mut nack, now);
        let header = packet.header;
        let rotation = header.get_extension(ORIENTATION).map_or(0, |bytes| formats::rotation(&bytes));
        assert!([0, 90, 180, 270].contains(&rotation));
        let known = delivered.entry(header.ssrc).or_insert_with(|| Delivered::new(header.sequence_number));
        let taken = RtpPacket {
            ssrc: header.ssrc,
            sequence: header.sequence_number,
            timestamp: header.timestamp,
            marker: header.marker,
            payload: packet.payload,
            rotation,
        };
        let out = unwrapped(taken, header.payload_type == RED, known, &counters);
        let sequences: BTreeSet<u16> = out.iter().map(|packet| packet.sequence).collect();
        assert_eq!(sequences.len(), out.len(), "a sequence number twice");
        assert!(sequences.iter().all(|sequence| !known.is_hole(*sequence)), "delivered and still missing");
    }
}

fn nack_generator(counters: &Arc<Counters>) -> NackGenerator {
    let mut generator = NackGenerator::new(counters.clone());
    generator.bind_remote_stream(&StreamInfo {
        ssrc: MEDIA,
        ssrc_rtx: Some(RTX),
        rtcp_feedback: vec![RTCPFeedback { typ: "nack".into(), parameter: String::new() }],
        ..Default::default()
    });
    generator
}

fn ask(nack: &mut NackGenerator, now: Instant) {
    nack.handle_timeout(now).expect("never fails");
    assert!(nack.poll_timeout().is_none_or(|wake| wake > now), "the timer does not come to rest");
    while let Some(packet) = nack.poll_write() {
        let Packet::Rtcp(packets) = packet.message.packet else { continue };
        let requests = packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<TransportLayerNack>());
        let asked: usize = requests.flat_map(|nack| &nack.nacks).map(|pair| pair.packet_list().len()).sum();
        assert!(asked <= MOST_ASKED_AT_ONCE, "{asked} packets asked for");
    }
}

/// A compound RTCP packet just after decryption.
pub fn rtcp(data: &[u8]) {
    let mut packet = data.to_vec();
    let mut reports = Vec::new();
    sender_reports::walk(&mut packet, &mut |report| reports.push(report));
    assert_eq!(packet.len(), data.len());
    assert!(reports.len() <= data.len() / 20, "a report is 20 bytes at least");
    let mut again = packet.clone();
    let mut same = Vec::new();
    sender_reports::walk(&mut again, &mut |report| same.push(report));
    assert_eq!((again, same), (packet.clone(), reports), "renaming once is enough");
    // What the connection makes of it next.
    let _ = rtc::rtcp::packet::unmarshal(&mut &packet[..]);
}

/// Signalling messages, and what the roster makes of their lists of participants.
pub fn signalling(data: &[u8]) {
    let mut roster = Roster::default();
    let mut seen = Seen::default();
    for piece in pieces(data) {
        let Ok(message) = proto::SignalResponse::decode(piece) else { continue };
        let changes = match message.message {
            Some(proto::signal_response::Message::Join(join)) => roster.replace(&join.other_participants),
            Some(proto::signal_response::Message::Update(update)) => roster.update(&update.participants),
            Some(proto::signal_response::Message::Leave(leave)) => {
                let _ = super::livekit::policy::after_leave(leave.reason(), leave.action());
                continue;
            }
            Some(proto::signal_response::Message::Offer(offer)) => {
                Formats::default().learn(&offer.sdp);
                continue;
            }
            _ => continue,
        };
        changes.into_iter().for_each(|change| seen.take(change));
    }
}

/// The room as the changes tell it: what the session relies on.
#[derive(Default)]
struct Seen {
    present: BTreeSet<ParticipantKey>,
    tracks: BTreeMap<TrackKey, (ParticipantKey, bool)>,
    ever: BTreeSet<TrackKey>,
    names: BTreeMap<ParticipantKey, String>,
}

impl Seen {
    fn take(&mut self, change: Change) {
        match change {
            Change::Joined { participant, identity } => {
                assert!(self.present.insert(participant), "{participant:?} joined twice");
                let known = self.names.entry(participant).or_insert_with(|| identity.clone());
                assert_eq!(*known, identity, "one key, one identity");
            }
            Change::Left { participant } => {
                assert!(self.present.remove(&participant), "{participant:?} was not there");
                assert!(self.tracks.values().all(|(owner, _)| *owner != participant), "left with something published");
            }
            Change::Published(publication) => {
                assert!(self.present.contains(&publication.participant), "published by nobody");
                assert!(self.ever.insert(publication.track), "a publication has a new key");
                self.tracks.insert(publication.track, (publication.participant, publication.muted));
            }
            Change::Unpublished { track, .. } => assert!(self.tracks.remove(&track).is_some(), "{track:?} was not published"),
            Change::Muted { track } => self.mute(track, true),
            Change::Unmuted { track } => self.mute(track, false),
        }
    }

    fn mute(&mut self, track: TrackKey, now: bool) {
        let (_, muted) = self.tracks.get_mut(&track).expect("published");
        assert_ne!(std::mem::replace(muted, now), now, "no change");
    }
}

/// One of the small texts of others: the first byte says which.
pub fn texts(data: &[u8]) {
    let Some((kind, text)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    match kind % 6 {
        0 => Formats::default().learn(text),
        1 => drop(formats::udp_candidates(text)),
        2 => {
            token::expiry(text);
        }
        3 => redacted(text),
        4 => drop(Address::parse(text)),
        _ => crate::fuzzing::time(text),
    }
}

fn redacted(text: &str) {
    let clean = redact(text);
    assert!(clean.len() <= 304 && !clean.contains("eyJ") && !clean.chars().any(char::is_control), "{clean:?}");
}

//! What may happen to a recording.

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use recorder_media::{
    Codec, Input, OpId, Order, ParticipantKey, PlaylistKey, RtpPacket, SegmentFacts, SenderReport, Source, StopReason, StoreError, Stored,
    TrackKey,
};

use super::support::Publisher;
use super::{MOST_PUBLISHERS, Play, restart};

const PEOPLE: u32 = 3;
const SOURCES: [Source; 4] = [Source::Microphone, Source::Camera, Source::ScreenShare, Source::ScreenShareAudio];
const CODECS: [Codec; 7] = [Codec::Opus, Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H265, Codec::Other];
/// The longest step of time; the delay line's longest is 10 s, a camera that is silent is filled after 10 s.
const LONGEST_STEP_MS: u64 = 15_000;

impl Play {
    pub(super) fn operation(&mut self, bytes: &mut Unstructured) -> Result<()> {
        match bytes.int_in_range(0..=31)? {
            0..=2 => self.join(bytes),
            3 => self.leave(bytes),
            4..=7 => self.publish(bytes),
            8 => self.with_track(bytes, |track| Input::Unpublished { track }),
            9 => self.with_track(bytes, |track| Input::Muted { track }),
            10 => self.with_track(bytes, |track| Input::Unmuted { track }),
            11..=15 => self.let_time_pass(bytes),
            16 => self.change_network(bytes),
            17 => self.change_storage(bytes),
            18 => self.fall_silent(bytes),
            19 => self.speak_again(bytes),
            20 => self.change_publisher(bytes),
            21..=23 => self.packets(bytes),
            24 => self.report(bytes),
            25 => self.input(Input::SpoolFull(bytes.arbitrary()?)),
            26 => self.order(bytes),
            27 => self.input(if bytes.arbitrary()? { Input::Connected } else { Input::Disconnected }),
            28 => self.stray_answer(bytes),
            29 => restart::restart(self, bytes),
            30 if bytes.arbitrary()? => self.disk(bytes),
            30 => self.change_transcoder(bytes),
            _ => self.input(Input::Wake),
        }
    }

    fn input(&mut self, input: Input) -> Result<()> {
        self.world.room.input_unless_finished(input);
        Ok(())
    }

    fn person(bytes: &mut Unstructured) -> Result<ParticipantKey> {
        Ok(ParticipantKey(bytes.int_in_range(0..=PEOPLE - 1)?))
    }

    /// One that was published, mostly.
    fn track(&self, bytes: &mut Unstructured) -> Result<TrackKey> {
        let n = bytes.int_in_range(0..=self.tracks.len())?;
        Ok(TrackKey(n as u32))
    }

    fn with_track(&mut self, bytes: &mut Unstructured, input: fn(TrackKey) -> Input) -> Result<()> {
        let track = self.track(bytes)?;
        self.input(input(track))
    }

    fn join(&mut self, bytes: &mut Unstructured) -> Result<()> {
        let participant = Self::person(bytes)?;
        let identity = ["ann", "bob", "!C3!A4"][participant.0 as usize];
        self.input(Input::Joined { participant, identity: identity.into(), escaped: identity.into() })
    }

    fn leave(&mut self, bytes: &mut Unstructured) -> Result<()> {
        let participant = Self::person(bytes)?;
        if bytes.arbitrary()? {
            let tracks = &self.tracks;
            self.world.publishers.retain(|key, _| tracks.get(&TrackKey(*key)) != Some(&participant));
        }
        self.input(Input::Left { participant })
    }

    fn publish(&mut self, bytes: &mut Unstructured) -> Result<()> {
        let participant = Self::person(bytes)?;
        let source = *bytes.choose(&SOURCES)?;
        let video = matches!(source, Source::Camera | Source::ScreenShare);
        let codec = if bytes.ratio(7, 8)? { if video { Codec::H264 } else { Codec::Opus } } else { *bytes.choose(&CODECS)? };
        // Published again under a known key: not what a connector does, and no reason to fall over.
        let number = if bytes.ratio(1, 32)? { self.track(bytes)?.0 } else { self.tracks.len() as u32 };
        let now = self.world.room.now;
        let publisher = if video { Publisher::camera(number, now) } else { Publisher::microphone(number, now) };
        let publisher = Publisher { source, ..publisher };
        self.tracks.insert(publisher.track, participant);
        let muted = bytes.ratio(1, 8)?;
        self.input(Input::Published { track: publisher.track, participant, source, codec, muted })?;
        if self.world.publishers.len() < MOST_PUBLISHERS {
            self.world.add(publisher);
        }
        Ok(())
    }

    fn let_time_pass(&mut self, bytes: &mut Unstructured) -> Result<()> {
        let ms = match bytes.int_in_range(0..=3)? {
            0 => bytes.int_in_range(0..=200)?,
            1 | 2 => bytes.int_in_range(200..=5_000)?,
            _ => bytes.int_in_range(1_000..=LONGEST_STEP_MS)?,
        };
        self.pass(ms);
        Ok(())
    }

    fn change_network(&mut self, bytes: &mut Unstructured) -> Result<()> {
        let network = &mut self.world.network;
        network.lost = *bytes.choose(&[0, 0, 1, 5, 30, 95])?;
        network.late = *bytes.choose(&[0, 0, 3, 20])?;
        network.jitter_us = *bytes.choose(&[0, 10_000, 200_000])?;
        network.delay_us = *bytes.choose(&[1_000, 30_000, 800_000])?;
        Ok(())
    }

    fn change_storage(&mut self, bytes: &mut Unstructured) -> Result<()> {
        let storage = &mut self.world.room.storage;
        storage.failing = *bytes.choose(&[0, 10, 50, 100])?;
        storage.delay_us = *bytes.choose(&[0, 20_000, 500_000, 8_000_000])?;
        storage.superseded = bytes.ratio(1, 64)?;
        Ok(())
    }

    fn fall_silent(&mut self, bytes: &mut Unstructured) -> Result<()> {
        let track = self.track(bytes)?;
        self.silent.extend(self.world.publishers.remove(&track.0));
        Ok(())
    }

    /// In the middle of its clock, or as if nothing had been.
    fn speak_again(&mut self, bytes: &mut Unstructured) -> Result<()> {
        let Some(publisher) = self.silent.pop() else { return Ok(()) };
        let now = self.world.room.now;
        let behind = bytes.int_in_range(0..=3_000_000u64)?;
        let next = if bytes.arbitrary()? { now } else { publisher.next.max(recorder_media::Tick(now.0.saturating_sub(behind))) };
        if self.world.publishers.len() < MOST_PUBLISHERS {
            self.world.add(Publisher { next, ..publisher });
        }
        Ok(())
    }

    fn change_publisher(&mut self, bytes: &mut Unstructured) -> Result<()> {
        let track = self.track(bytes)?;
        let Some(publisher) = self.world.publishers.get_mut(&track.0) else { return Ok(()) };
        match bytes.int_in_range(0..=7)? {
            0 => publisher.size = *bytes.choose(&[(640, 360), (320, 240), (8, 8), (16, 16), (1920, 1080)])?,
            1 => publisher.key_every = bytes.int_in_range(1..=1_000)?,
            2 => publisher.force_key = true,
            3 => publisher.ssrc = bytes.int_in_range(0..=9)?,
            4 => publisher.rtp0 = publisher.rtp0.wrapping_add(bytes.arbitrary()?),
            5 => publisher.sequence = bytes.arbitrary()?,
            6 if bytes.arbitrary()? => publisher.rotation = *bytes.choose(&[0, 90, 180, 270])?,
            6 => publisher.ntp_offset_us = bytes.int_in_range(0..=4_000_000_000_000_000)?,
            _ => publisher.fragments = bytes.int_in_range(1..=9)?,
        }
        Ok(())
    }

    /// Packets that no publisher of ours would send.
    fn packets(&mut self, bytes: &mut Unstructured) -> Result<()> {
        let track = self.track(bytes)?;
        let mut packet = self.likely_packet(bytes, track)?;
        for _ in 0..bytes.int_in_range(1..=8)? {
            let length = bytes.int_in_range(0..=40)?.min(bytes.len());
            packet.payload = Bytes::copy_from_slice(bytes.bytes(length)?);
            packet.marker = bytes.arbitrary()?;
            packet.rotation = *bytes.choose(&[0, 0, 90, 180, 270])?;
            self.input(Input::Packet { track, packet: packet.clone() })?;
            packet.sequence = packet.sequence.wrapping_add(bytes.int_in_range(0..=3)?);
            packet.timestamp = packet.timestamp.wrapping_add(*bytes.choose(&[0, 0, 960, 3_600, 90_000, u32::MAX])?);
        }
        Ok(())
    }

    /// Near what the track's publisher sends, or anywhere.
    fn likely_packet(&self, bytes: &mut Unstructured, track: TrackKey) -> Result<RtpPacket> {
        let known = self.world.publishers.get(&track.0).filter(|_| bytes.ratio(3, 4).unwrap_or(true));
        let (ssrc, sequence, timestamp) = match known {
            Some(publisher) => (publisher.ssrc, publisher.sequence.wrapping_add(1), publisher.rtp_at(self.world.room.now)),
            None => (bytes.int_in_range(0..=3)?, bytes.arbitrary()?, bytes.arbitrary()?),
        };
        Ok(RtpPacket { ssrc, sequence, timestamp, marker: false, payload: Bytes::new(), rotation: 0 })
    }

    fn report(&mut self, bytes: &mut Unstructured) -> Result<()> {
        let track = self.track(bytes)?;
        let packet = self.likely_packet(bytes, track)?;
        let report = SenderReport { ssrc: packet.ssrc, ntp: bytes.arbitrary()?, rtp: packet.timestamp.wrapping_add(bytes.arbitrary()?) };
        self.input(Input::SenderReport { track, report })
    }

    fn order(&mut self, bytes: &mut Unstructured) -> Result<()> {
        let order = match bytes.int_in_range(0..=9)? {
            0 => Order::Stop(StopReason::StopRequested),
            1 => Order::Stop(StopReason::Deleted),
            2 => Order::Stop(StopReason::RemovedFromChannel),
            3 => Order::Stop(StopReason::Interrupted),
            4 => Order::Stop(StopReason::Disconnected),
            5 => Order::Cancel,
            _ => Order::Limits {
                idle_timeout_seconds: bytes.int_in_range(5..=60)?,
                drain_timeout_seconds: crate::session::DRAIN_SECONDS,
                max_duration_seconds: if bytes.arbitrary()? { Some(bytes.int_in_range(1..=100)?) } else { None },
            },
        };
        self.input(Input::Order(order))
    }

    /// An answer to something nobody asked, or asked long ago.
    fn stray_answer(&mut self, bytes: &mut Unstructured) -> Result<()> {
        let op = OpId(if bytes.arbitrary()? { 0 } else { u64::MAX });
        self.input(match bytes.int_in_range(0..=3)? {
            0 => Input::SegmentClosed { op, result: Ok(SegmentFacts { bytes: 0, sha256: String::new() }) },
            1 => Input::Uploaded { op, result: Ok(Stored { etag: String::new() }) },
            2 => Input::Put { op, result: Err(StoreError::Refused(String::new())) },
            _ => Input::AudioEncoded { playlist: PlaylistKey(bytes.int_in_range(50..=60)?), frames: vec![Bytes::from_static(b"?")] },
        })
    }

    /// Quick, too slow, or stuck; now and then it cannot decode.
    fn change_transcoder(&mut self, bytes: &mut Unstructured) -> Result<()> {
        let transcoder = &mut self.world.room.transcoder;
        transcoder.least_us = *bytes.choose(&[2_000, 30_000, 70_000, 4_000_000])?;
        transcoder.undecodable = *bytes.choose(&[0, 0, 2])?;
        Ok(())
    }

    /// Segments that are closed from now on are lost by the disk, or not.
    fn disk(&mut self, bytes: &mut Unstructured) -> Result<()> {
        self.world.room.disk_fails = bytes.ratio(1, 3)?;
        Ok(())
    }
}

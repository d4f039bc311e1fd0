//! MPEG transport stream (ISO/IEC 13818-1) by the mpeg2ts crate: tables, PES packets, PCR, continuity.

use bytes::Bytes;
use mpeg2ts::es::{StreamId, StreamType};
use mpeg2ts::pes::PesHeader;
use mpeg2ts::time::{ClockReference, Timestamp};
use mpeg2ts::ts::payload::{Bytes as Chunk, Pat, Pes, Pmt};
use mpeg2ts::ts::{
    AdaptationField, ContinuityCounter, EsInfo, Pid, ProgramAssociation, TransportScramblingControl, TsHeader, TsPacket, TsPacketWriter,
    TsPayload, VersionNumber, WriteTsPacket,
};
use std::collections::BTreeMap;

pub(crate) const PMT_PID: u16 = 0x1000;
pub(crate) const VIDEO_PID: u16 = 0x100;
pub(crate) const AUDIO_PID: u16 = 0x101;

/// PCR runs this far before the units' timestamps, 90 kHz: a PES of 8 AAC frames is written up to 150 ms after its first timestamp, a
/// picture that is out of order is decoded 500 ms before it is shown (`DELAY_MAX`), and both must still be 100 ms ahead.
const PCR_LEAD: i64 = 63_000;
/// At most 100 ms between two PCRs (section 2.7.2); 90 leaves room for rounding.
const PCR_INTERVAL: i64 = 8_100;
/// A longer pause than this between two segments is a hole, not to be filled with clock packets.
const PCR_JUMP: i64 = 90_000;
/// 90 kHz timestamps wrap here.
const WRAP: i64 = 1 << 33;
/// AAC frames in one PES packet: fewer headers; 8 frames are 171 ms.
pub(crate) const FRAMES_PER_PES: usize = 8;

const PACKET_BODY: usize = TsPacket::SIZE - 4;
/// PES header with a PTS only; a DTS adds 5 bytes (section 2.4.3.6).
const PES_HEADER: usize = 14;
const DTS_BYTES: usize = 5;

/// Which elementary streams a playlist has, from its first to its last segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Streams {
    pub video: bool,
    pub audio: bool,
}

#[derive(Debug)]
pub(crate) struct TsMuxer {
    streams: Streams,
    counters: BTreeMap<u16, u8>,
    pcr: Option<i64>,
    /// No PCR in this segment yet.
    fresh: bool,
    last_dts: Option<i64>,
    frames: Vec<Bytes>,
    frames_pts: i64,
    out: Vec<u8>,
}

fn pid(value: u16) -> Pid {
    Pid::new(value).expect("our PIDs have 13 bits")
}

impl TsMuxer {
    /// `counters`, `last_dts` and `clock`: where an earlier process left off.
    pub(crate) fn new(streams: Streams, counters: &[(u16, u8)], last_dts: Option<i64>, clock: Option<i64>) -> Self {
        let counters = counters.iter().map(|(pid, n)| (*pid, n & ContinuityCounter::MAX)).collect();
        Self { streams, counters, pcr: clock, fresh: true, last_dts, frames: Vec::new(), frames_pts: 0, out: Vec::new() }
    }

    /// Timestamps begin anew: the next clock reference and decoding time have nothing to do with the last.
    pub(crate) fn restart_clock(&mut self) {
        (self.pcr, self.last_dts) = (None, None);
    }

    /// Decoding time of the last access unit, not wrapped.
    pub(crate) fn last_decoded(&self) -> Option<i64> {
        self.last_dts
    }

    /// The last clock reference, not wrapped.
    pub(crate) fn clock(&self) -> Option<i64> {
        self.pcr
    }

    /// The next counter of each PID.
    pub(crate) fn counters(&self) -> Vec<(u16, u8)> {
        self.counters.iter().map(|(pid, n)| (*pid, *n)).collect()
    }

    /// What was written since the last call.
    pub(crate) fn take(&mut self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.out))
    }

    pub(crate) fn begin_segment(&mut self) {
        self.fresh = true;
        let pat = Pat {
            transport_stream_id: 1,
            version_number: VersionNumber::default(),
            table: vec![ProgramAssociation { program_num: 1, program_map_pid: pid(PMT_PID) }],
        };
        self.packet(Pid::PAT, None, Some(TsPayload::Pat(pat)));
        let pmt = Pmt {
            program_num: 1,
            pcr_pid: Some(pid(self.pcr_pid())),
            version_number: VersionNumber::default(),
            program_info: Vec::new(),
            es_info: self.elementary_streams(),
        };
        self.packet(PMT_PID, None, Some(TsPayload::Pmt(pmt)));
    }

    fn elementary_streams(&self) -> Vec<EsInfo> {
        let wanted = [(self.streams.video, StreamType::H264, VIDEO_PID), (self.streams.audio, StreamType::AdtsAac, AUDIO_PID)];
        let present = wanted.into_iter().filter(|(present, ..)| *present);
        present.map(|(_, stream_type, id)| EsInfo { stream_type, elementary_pid: pid(id), descriptors: Vec::new() }).collect()
    }

    fn pcr_pid(&self) -> u16 {
        if self.streams.audio { AUDIO_PID } else { VIDEO_PID }
    }

    /// One access unit. 90 kHz, not yet wrapped; decoding times that do not strictly increase, or a PTS before its DTS, are moved up.
    pub(crate) fn video(&mut self, pts: i64, dts: i64, key: bool, data: &[u8]) {
        let dts = self.last_dts.map_or(dts, |last| dts.max(last + 1));
        let pts = pts.max(dts);
        self.last_dts = Some(dts);
        self.advance_clock(dts);
        let times = PesTimes { pts, dts: Some(dts).filter(|dts| *dts != pts) };
        // 0 = unbounded, allowed for video only and needed from 64 kB on (section 2.4.3.7).
        let length = u16::try_from(data.len() + times.header() - 6).unwrap_or(0);
        self.pes(VIDEO_PID, StreamId::new(StreamId::VIDEO_MIN), times, length, key, data);
    }

    /// One ADTS frame; gathered into PES packets of up to 8.
    pub(crate) fn audio(&mut self, pts: i64, frame: Bytes) {
        self.advance_clock(pts);
        if self.frames.is_empty() {
            self.frames_pts = pts;
        }
        self.frames.push(frame);
        if self.frames.len() == FRAMES_PER_PES {
            self.flush_audio();
        }
    }

    /// Writes the frames gathered so far: at a cut they belong to the segment that ends.
    pub(crate) fn flush_audio(&mut self) {
        let frames = std::mem::take(&mut self.frames);
        if frames.is_empty() {
            return;
        }
        let data = frames.concat();
        let times = PesTimes { pts: self.frames_pts, dts: None };
        let length = u16::try_from(data.len() + times.header() - 6).expect("8 ADTS frames of at most 8191 bytes fit");
        self.pes(AUDIO_PID, StreamId::new(StreamId::AUDIO_MIN), times, length, true, &data);
    }

    /// PCR-only packets up to the lead before `pts`.
    fn advance_clock(&mut self, pts: i64) {
        let target = pts - PCR_LEAD;
        let mut next = self.next_pcr(target);
        while next <= target || self.fresh {
            let field = AdaptationField { pcr: Some(reference(next)), ..plain_field() };
            self.packet(self.pcr_pid(), Some(field), None);
            self.pcr = Some(next);
            self.fresh = false;
            next += PCR_INTERVAL;
        }
    }

    /// A segment begins with a PCR, no more than the interval after the last one of the segment before; after a pause the clock jumps.
    fn next_pcr(&self, target: i64) -> i64 {
        match self.pcr {
            None => target,
            Some(last) if self.fresh && target - last > PCR_JUMP => target,
            Some(last) if self.fresh => target.min(last + PCR_INTERVAL).max(last + 1),
            Some(last) => last + PCR_INTERVAL,
        }
    }

    fn pes(&mut self, to: u16, stream_id: StreamId, times: PesTimes, length: u16, random_access: bool, data: &[u8]) {
        let header = PesHeader {
            stream_id,
            priority: false,
            data_alignment_indicator: true,
            copyright: false,
            original_or_copy: false,
            pts: Some(timestamp(times.pts)),
            // Only where it differs from the PTS (section 2.7.5).
            dts: times.dts.map(timestamp),
            escr: None,
        };
        let field = random_access.then(|| AdaptationField { random_access_indicator: true, ..plain_field() });
        let room = PACKET_BODY - times.header() - if random_access { 2 } else { 0 };
        let (first, rest) = data.split_at(room.min(data.len()));
        let start = Pes { header, pes_packet_len: length, data: chunk(first) };
        self.packet(to, field, Some(TsPayload::PesStart(start)));
        for part in rest.chunks(PACKET_BODY) {
            self.packet(to, None, Some(TsPayload::PesContinuation(chunk(part))));
        }
    }

    fn packet(&mut self, to: u16, adaptation_field: Option<AdaptationField>, payload: Option<TsPayload>) {
        let counter = self.counters.entry(to).or_insert(0);
        // A packet without payload repeats the last counter (section 2.4.3.3).
        let value = if payload.is_some() { *counter } else { (*counter).wrapping_sub(1) & ContinuityCounter::MAX };
        if payload.is_some() {
            *counter = (*counter + 1) & ContinuityCounter::MAX;
        }
        let header = TsHeader {
            transport_error_indicator: false,
            transport_priority: false,
            pid: pid(to),
            transport_scrambling_control: TransportScramblingControl::NotScrambled,
            continuity_counter: ContinuityCounter::from_u8(value).expect("masked to 4 bits"),
        };
        let packet = TsPacket { header, adaptation_field, payload };
        TsPacketWriter::new(&mut self.out).write_ts_packet(&packet).expect("sizes are computed to fit, a Vec takes all");
    }
}

fn plain_field() -> AdaptationField {
    AdaptationField {
        discontinuity_indicator: false,
        random_access_indicator: false,
        es_priority_indicator: false,
        pcr: None,
        opcr: None,
        splice_countdown: None,
        transport_private_data: Vec::new(),
        extension: None,
    }
}

/// When a PES packet's first unit is shown, and decoded if not then.
#[derive(Clone, Copy, Debug)]
struct PesTimes {
    pts: i64,
    dts: Option<i64>,
}

impl PesTimes {
    /// Bytes of the PES header.
    fn header(self) -> usize {
        PES_HEADER + if self.dts.is_some() { DTS_BYTES } else { 0 }
    }
}

fn timestamp(t90k: i64) -> Timestamp {
    Timestamp::new(t90k.rem_euclid(WRAP) as u64).expect("masked to 33 bits")
}

fn reference(t90k: i64) -> ClockReference {
    ClockReference::new(t90k.rem_euclid(WRAP) as u64 * 300).expect("masked to 33 bits")
}

fn chunk(part: &[u8]) -> Chunk {
    Chunk::new(part).expect("at most 184 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The last reference of a segment may lie 90 ms before its last unit; the next unit comes some time after that.
    #[test]
    fn the_clock_goes_on_where_an_earlier_process_left_it() {
        let streams = Streams { video: true, audio: true };
        let mut first = TsMuxer::new(streams, &[], None, None);
        first.begin_segment();
        (0..5).for_each(|n| first.audio(900_000 + n * 1920, Bytes::from_static(&[0; 9])));
        let before = first.clock().expect("a reference");
        let mut second = TsMuxer::new(streams, &first.counters(), first.last_decoded(), first.clock());
        second.begin_segment();
        second.video(909_600, 909_600, true, &[0; 9]);
        let step = second.clock().expect("a reference") - before;
        assert!((1..=9_000).contains(&step), "{step} ticks of 90 kHz");
    }
}

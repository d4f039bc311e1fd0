//! Reads transport streams back with mpeg2ts' reader, and checks what every stream must hold.

use mpeg2ts::ts::{ReadTsPacket, TsPacket, TsPacketReader, TsPayload};
use std::collections::BTreeMap;

pub const VIDEO: u16 = 0x100;
pub const AUDIO: u16 = 0x101;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pes {
    pub pid: u16,
    pub pts: i64,
    /// The PTS where none is written.
    pub dts: i64,
    pub data: Vec<u8>,
    pub segment: usize,
}

#[derive(Debug, Default)]
pub struct Read {
    pub pes: Vec<Pes>,
    /// A line per packet: the golden's form.
    pub table: Vec<String>,
}

/// Reads segments as one stream. Asserts: tables first, continuity across segments, PCR at most 100 ms apart and 100 ms ahead,
/// decoding timestamps that strictly increase.
#[derive(Debug, Default)]
pub struct Reader {
    counters: BTreeMap<u16, u8>,
    last_dts: BTreeMap<u16, i64>,
    segments: usize,
    table: Option<Vec<String>>,
}

impl Reader {
    pub fn segment(&mut self, segment: &[u8]) -> Vec<Pes> {
        assert_eq!(segment.len() % 188, 0);
        let index = self.segments;
        self.segments += 1;
        let mut found: Vec<Pes> = Vec::new();
        let mut reader = TsPacketReader::new(segment);
        let mut n = 0;
        let mut pcr: Option<i64> = None;
        let mut open: BTreeMap<u16, usize> = BTreeMap::new();
        while let Some(packet) = reader.read_ts_packet().expect("well-formed packets") {
            let pid = packet.header.pid.as_u16();
            self.count(index, pid, packet.header.continuity_counter.as_u8(), packet.payload.is_some());
            let now = packet.adaptation_field.as_ref().and_then(|f| f.pcr).map(|p| (p.as_u64() / 300) as i64);
            if let Some(now) = now {
                assert!(pcr.is_none_or(|last| now > last && now - last <= 9000), "PCR {pcr:?} -> {now}");
                pcr = Some(now);
            }
            match n {
                0 => assert!(matches!(packet.payload, Some(TsPayload::Pat(_))), "PAT first"),
                1 => assert!(matches!(packet.payload, Some(TsPayload::Pmt(_))), "then PMT"),
                _ => {}
            }
            n += 1;
            self.note(&packet);
            match packet.payload {
                Some(TsPayload::PesStart(start)) => {
                    let pts = start.header.pts.expect("every PES has a PTS").as_u64() as i64;
                    let dts = start.header.dts.map_or(pts, |dts| dts.as_u64() as i64);
                    assert!(pcr.is_some_and(|p| dts - p >= 9000), "PCR {pcr:?} is 100 ms ahead of {dts}");
                    let last = self.last_dts.insert(pid, dts);
                    assert!(last.is_none_or(|last| last < dts) && dts <= pts, "timestamps of {pid:#x} increase: {last:?}, {dts}, {pts}");
                    open.insert(pid, found.len());
                    found.push(Pes { pid, pts, dts, data: start.data.to_vec(), segment: index });
                }
                Some(TsPayload::PesContinuation(bytes)) => found[open[&pid]].data.extend_from_slice(&bytes),
                Some(TsPayload::Pat(_) | TsPayload::Pmt(_)) | None => {}
                other => panic!("unexpected {other:?}"),
            }
        }
        found
    }

    fn count(&mut self, segment: usize, pid: u16, cc: u8, payload: bool) {
        if payload {
            let last = self.counters.insert(pid, cc);
            assert!(last.is_none_or(|l| (l + 1) & 15 == cc), "continuity of {pid:#x} in segment {segment}");
        } else {
            assert!(self.counters.get(&pid).is_none_or(|l| *l == cc), "a packet without payload repeats the counter");
        }
    }

    fn note(&mut self, packet: &TsPacket) {
        let Some(table) = &mut self.table else { return };
        let (pid, cc) = (packet.header.pid.as_u16(), packet.header.continuity_counter.as_u8());
        let field = packet.adaptation_field.as_ref();
        let what = match &packet.payload {
            Some(TsPayload::Pat(_)) => "PAT".to_string(),
            Some(TsPayload::Pmt(pmt)) => format!(
                "PMT pcr={:#x} {:?}",
                pmt.pcr_pid.map_or(0, |p| p.as_u16()),
                pmt.es_info.iter().map(|e| (e.stream_type as u8, e.elementary_pid.as_u16())).collect::<Vec<_>>()
            ),
            Some(TsPayload::PesStart(start)) => {
                let pts = start.header.pts.map_or(0, |pts| pts.as_u64());
                let key = if field.is_some_and(|f| f.random_access_indicator) { " key" } else { "" };
                format!("PES pts={pts} len={}{key}", start.pes_packet_len)
            }
            None => format!("pcr={}", field.and_then(|f| f.pcr).expect("nothing but PCR comes without payload").as_u64() / 300),
            _ => "...".to_string(),
        };
        table.push(format!("{pid:#06x} cc={cc:<2} {what}"));
    }
}

pub fn read(segments: &[Vec<u8>]) -> Read {
    let mut reader = Reader { table: Some(Vec::new()), ..Reader::default() };
    let pes = segments.iter().flat_map(|segment| reader.segment(segment)).collect();
    Read { pes, table: reader.table.unwrap_or_default() }
}

impl Read {
    pub fn of(&self, pid: u16) -> impl Iterator<Item = &Pes> {
        self.pes.iter().filter(move |p| p.pid == pid)
    }

    /// Pictures as (PTS, number; None = black, key, segment).
    pub fn pictures(&self) -> Vec<(i64, Option<u32>, bool, usize)> {
        self.pes.iter().filter_map(Pes::picture).collect()
    }

    /// ADTS frames of the fake encoder as (PTS, number).
    pub fn sounds(&self) -> Vec<(i64, u32)> {
        self.pes.iter().flat_map(Pes::sounds).collect()
    }
}

impl Pes {
    /// PTS, number (None: black), key, segment.
    pub fn picture(&self) -> Option<(i64, Option<u32>, bool, usize)> {
        if self.pid != VIDEO {
            return None;
        }
        assert_eq!(&self.data[..6], &[0, 0, 0, 1, 9, 0xf0], "an AUD first");
        let nals = nals(&self.data[6..]);
        let slice = nals.last().expect("a slice");
        let kind = slice[0] & 31;
        if kind == 5 {
            let kinds: Vec<u8> = nals.iter().map(|n| n[0] & 31).collect();
            assert_eq!(kinds, vec![7, 8, 5], "SPS and PPS once before IDR");
        }
        Some((self.pts, super::number(slice), kind == 5, self.segment))
    }

    /// PTS and number of each ADTS frame inside.
    pub fn sounds(&self) -> Vec<(i64, u32)> {
        if self.pid != AUDIO {
            return Vec::new();
        }
        let frames = self.data.chunks(10).enumerate();
        frames.map(|(i, f)| (self.pts + i as i64 * 1920, String::from_utf8_lossy(f).parse().expect("a frame's number"))).collect()
    }
}

pub fn nals(data: &[u8]) -> Vec<Vec<u8>> {
    let mut starts: Vec<usize> = data.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(i, _)| i + 3).collect();
    starts.push(data.len() + 4);
    let units = starts.windows(2).map(|w| data[w[0]..(w[1] - 4).min(data.len()).max(w[0])].to_vec());
    units.filter(|unit| !unit.is_empty()).collect()
}

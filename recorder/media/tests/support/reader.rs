//! Reads transport streams back with mpeg2ts' reader, and checks what every stream must hold.

use mpeg2ts::ts::{ReadTsPacket, TsPacketReader, TsPayload};
use std::collections::BTreeMap;

pub const VIDEO: u16 = 0x100;
pub const AUDIO: u16 = 0x101;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pes {
    pub pid: u16,
    pub pts: i64,
    pub data: Vec<u8>,
    pub segment: usize,
}

#[derive(Debug, Default)]
pub struct Read {
    pub pes: Vec<Pes>,
    /// A line per packet: the golden's form.
    pub table: Vec<String>,
}

/// Reads segments as one stream. Asserts: tables first, continuity across segments, PCR at most 100 ms apart and 100 ms ahead.
pub fn read(segments: &[Vec<u8>]) -> Read {
    let mut out = Read::default();
    let mut counters: BTreeMap<u16, u8> = BTreeMap::new();
    for (index, segment) in segments.iter().enumerate() {
        assert_eq!(segment.len() % 188, 0);
        let mut reader = TsPacketReader::new(&segment[..]);
        let mut n = 0;
        let mut pcr: Option<i64> = None;
        let mut open: BTreeMap<u16, usize> = BTreeMap::new();
        while let Some(packet) = reader.read_ts_packet().expect("well-formed packets") {
            let (pid, cc) = (packet.header.pid.as_u16(), packet.header.continuity_counter.as_u8());
            if packet.payload.is_some() {
                let last = counters.insert(pid, cc);
                assert!(last.is_none_or(|l| (l + 1) & 15 == cc), "continuity of {pid:#x} in segment {index}");
            } else {
                assert!(counters.get(&pid).is_none_or(|l| *l == cc), "a packet without payload repeats the counter");
            }
            let now = packet.adaptation_field.as_ref().and_then(|f| f.pcr).map(|p| (p.as_u64() / 300) as i64);
            if let Some(now) = now {
                assert!(pcr.is_none_or(|last| now > last && now - last <= 9000), "PCR {pcr:?} -> {now}");
                pcr = Some(now);
            }
            let key = packet.adaptation_field.as_ref().is_some_and(|f| f.random_access_indicator);
            let what = match &packet.payload {
                Some(TsPayload::Pat(_)) => "PAT".to_string(),
                Some(TsPayload::Pmt(pmt)) => format!(
                    "PMT pcr={:#x} {:?}",
                    pmt.pcr_pid.map_or(0, |p| p.as_u16()),
                    pmt.es_info.iter().map(|e| (e.stream_type as u8, e.elementary_pid.as_u16())).collect::<Vec<_>>()
                ),
                Some(TsPayload::PesStart(start)) => {
                    let pts = start.header.pts.expect("every PES has a PTS").as_u64() as i64;
                    assert!(pcr.is_some_and(|p| pts - p >= 9000), "PCR {pcr:?} is 100 ms ahead of {pts}");
                    open.insert(pid, out.pes.len());
                    out.pes.push(Pes { pid, pts, data: start.data.to_vec(), segment: index });
                    format!("PES pts={pts} len={}{}", start.pes_packet_len, if key { " key" } else { "" })
                }
                Some(TsPayload::PesContinuation(bytes)) => {
                    let at = open[&pid];
                    out.pes[at].data.extend_from_slice(bytes);
                    "...".to_string()
                }
                None => format!("pcr={}", now.expect("nothing but PCR comes without payload")),
                other => panic!("unexpected {other:?}"),
            };
            assert!(n != 0 || what == "PAT", "PAT first");
            assert!(n != 1 || what.starts_with("PMT"), "then PMT");
            out.table.push(format!("{pid:#06x} cc={cc:<2} {what}"));
            n += 1;
        }
    }
    for pid in [VIDEO, AUDIO] {
        let pts: Vec<i64> = out.of(pid).map(|p| p.pts).collect();
        assert!(pts.windows(2).all(|w| w[0] < w[1]), "timestamps of {pid:#x} strictly increase: {pts:?}");
    }
    out
}

impl Read {
    pub fn of(&self, pid: u16) -> impl Iterator<Item = &Pes> {
        self.pes.iter().filter(move |p| p.pid == pid)
    }

    /// Pictures as (PTS, number; None = black, key, segment).
    pub fn pictures(&self) -> Vec<(i64, Option<u32>, bool, usize)> {
        let pictures = self.of(VIDEO);
        pictures
            .map(|p| {
                assert_eq!(&p.data[..6], &[0, 0, 0, 1, 9, 0xf0], "an AUD first");
                let nals = nals(&p.data[6..]);
                let slice = nals.last().expect("a slice");
                let kind = slice[0] & 31;
                if kind == 5 {
                    let kinds: Vec<u8> = nals.iter().map(|n| n[0] & 31).collect();
                    assert_eq!(kinds, vec![7, 8, 5], "SPS and PPS once before IDR");
                }
                let number = (slice[1..3] == [0x88, 0x10])
                    .then(|| slice[2..10].chunks(2).fold(0, |v, c| v << 8 | u32::from(c[0] & 15) << 4 | u32::from(c[1] & 15)));
                (p.pts, number, kind == 5, p.segment)
            })
            .collect()
    }

    /// ADTS frames of the fake encoder as (PTS, number).
    pub fn sounds(&self) -> Vec<(i64, u32)> {
        let all = self.of(AUDIO).flat_map(|p| {
            let frames = p.data.chunks(10).enumerate();
            frames.map(move |(i, f)| (p.pts + i as i64 * 1920, String::from_utf8_lossy(f).parse().expect("a frame's number")))
        });
        all.collect()
    }
}

fn nals(data: &[u8]) -> Vec<Vec<u8>> {
    let mut starts: Vec<usize> = data.windows(3).enumerate().filter(|(_, w)| *w == [0, 0, 1]).map(|(i, _)| i + 3).collect();
    starts.push(data.len() + 4);
    starts.windows(2).map(|w| data[w[0]..(w[1] - 4).min(data.len())].to_vec()).collect()
}

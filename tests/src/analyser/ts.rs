//! A walker over MPEG-TS bytes of its own, that shares no code with the recorder's writer.
//!
//! Times are 90 kHz, unwrapped from 33 bits. Times may jump between segments only at a discontinuity of the playlist;
//! continuity counters may not, unless a segment is missing.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const PACKET: usize = 188;
/// ISO/IEC 13818-1 2.7.2: a PCR at least every 100 ms.
pub const MAX_PCR_INTERVAL_90K: i64 = 9_000;
pub const STREAM_H264: u8 = 0x1B;
pub const STREAM_AAC: u8 = 0x0F;
const MODULUS: i64 = 1 << 33;
/// How many messages are kept; a broken file would give one per packet.
const MAX_FAULTS: usize = 50;

/// What was found; `faults` is empty for a good recording.
#[derive(Debug, Default, serde::Serialize)]
pub struct TsReport {
    pub segments: usize,
    pub packets: u64,
    /// PID -> stream type, of the first PMT.
    pub streams: BTreeMap<u16, u8>,
    pub pcr_pid: Option<u16>,
    pub max_pcr_interval_90k: i64,
    /// Smallest DTS - PCR in force when the PES began: the time a decoder has to receive it. Negative is a fault.
    pub min_dts_lead_90k: Option<i64>,
    pub first_pts: BTreeMap<u16, i64>,
    pub last_pts: BTreeMap<u16, i64>,
    pub pes: BTreeMap<u16, u64>,
    /// Per segment and PID: first and last PTS.
    pub spans: Vec<BTreeMap<u16, (i64, i64)>>,
    pub pes_per_segment: Vec<BTreeMap<u16, u64>>,
    pub access_units: u64,
    pub key_frames: u64,
    /// Per segment with video: does it begin with an IDR that has SPS and PPS in front? Not a fault by itself: the
    /// recorder may have to cut without a key frame (`independent: false`).
    pub key_frame_at_start: Vec<bool>,
    pub faults: Vec<String>,
    /// Also in `faults`.
    pub continuity_errors: u64,
}

/// Walks the files as one stream. Times may jump where `discontinuity[i]` is true (empty = nowhere).
pub fn inspect(files: &[PathBuf], discontinuity: &[bool]) -> Result<TsReport> {
    let mut walker = Walker::default();
    for (i, file) in files.iter().enumerate() {
        walker.segment(i, file, discontinuity.get(i).copied().unwrap_or(false))?;
    }
    Ok(walker.report)
}

impl TsReport {
    /// PID of the first stream of a type.
    #[must_use]
    pub fn pid(&self, stream_type: u8) -> Option<u16> {
        self.streams.iter().find(|s| *s.1 == stream_type).map(|s| *s.0)
    }
}

/// `inspect` of the segments of a playlist.
pub fn inspect_playlist(playlist: &super::playlist::Playlist) -> Result<TsReport> {
    let discontinuity: Vec<bool> = playlist.segments.iter().map(|s| s.discontinuity).collect();
    inspect(&playlist.files(), &discontinuity)
}

/// The same of a playlist from which segments are missing: behind a discontinuity counters may jump, too.
pub fn inspect_holed_playlist(playlist: &super::playlist::Playlist) -> Result<TsReport> {
    let mut walker = Walker { counters_may_jump: true, ..Walker::default() };
    for (i, segment) in playlist.segments.iter().enumerate() {
        walker.segment(i, &segment.path, segment.discontinuity)?;
    }
    Ok(walker.report)
}

#[derive(Debug, Default)]
struct Stream {
    continuity: Option<u8>,
    last_dts: Option<i64>,
    pes: Vec<u8>,
    /// PCR in force when the open PES began.
    pes_pcr: Option<i64>,
}

#[derive(Debug, Default)]
struct Walker {
    report: TsReport,
    streams: BTreeMap<u16, Stream>,
    pmt_pid: Option<u16>,
    last_pcr: Option<i64>,
    reference: Option<i64>,
    segment: String,
    /// Video of this segment has begun.
    video_started: bool,
    counters_may_jump: bool,
}

impl Walker {
    fn fault(&mut self, text: impl std::fmt::Display) {
        if self.report.faults.len() < MAX_FAULTS {
            let line = format!("{}: {text}", self.segment);
            self.report.faults.push(line);
        }
    }

    fn segment(&mut self, index: usize, file: &Path, discontinuity: bool) -> Result<()> {
        let data = std::fs::read(file).with_context(|| format!("failed to read {}", file.display()))?;
        self.segment = file.file_name().map_or_else(|| index.to_string(), |n| n.to_string_lossy().into_owned());
        if !data.len().is_multiple_of(PACKET) || data.is_empty() {
            self.fault(format_args!("{} bytes are not a whole number of packets", data.len()));
        }
        self.report.segments += 1;
        self.report.spans.push(BTreeMap::new());
        self.report.pes_per_segment.push(BTreeMap::new());
        self.video_started = false;
        if discontinuity {
            self.last_pcr = None;
            self.reference = None;
            self.streams.values_mut().for_each(|s| s.last_dts = None);
            if self.counters_may_jump {
                self.streams.values_mut().for_each(|s| s.continuity = None);
            }
        }
        let mut head = data.chunks_exact(PACKET).map(|p| u16::from_be_bytes([p[1], p[2]]) & 0x1FFF);
        let (first, second) = (head.next(), head.next());
        for packet in data.chunks_exact(PACKET) {
            if let Err(error) = self.packet(packet) {
                self.fault(format_args!("{error:#}"));
            }
        }
        if first != Some(0) || second != self.pmt_pid {
            self.fault("does not begin with PAT and PMT");
        }
        self.flush_all();
        Ok(())
    }

    /// A PES ends with its segment.
    fn flush_all(&mut self) {
        let pids: Vec<u16> = self.streams.keys().copied().collect();
        for pid in pids {
            self.end_pes(pid);
        }
    }

    fn packet(&mut self, p: &[u8]) -> Result<()> {
        ensure!(p[0] == 0x47, "no sync byte");
        self.report.packets += 1;
        let pid = u16::from_be_bytes([p[1], p[2]]) & 0x1FFF;
        if pid == 0x1FFF {
            return Ok(());
        }
        ensure!(p[1] & 0x80 == 0, "transport error indicator on PID {pid}");
        ensure!(p[3] & 0xC0 == 0, "scrambled");
        let (adaptation, payload) = (p[3] & 0x20 != 0, p[3] & 0x10 != 0);
        let mut at = 4;
        if adaptation {
            at = 5 + usize::from(p[4]);
            ensure!(at <= PACKET, "adaptation field too long on PID {pid}");
            if p[4] > 0 {
                self.adaptation(pid, &p[5..at])?;
            }
        }
        self.continuity(pid, p[3] & 0x0F, payload);
        if !payload {
            return Ok(());
        }
        let start = p[1] & 0x40 != 0;
        match pid {
            0 => self.pat(section(&p[at..], start)?)?,
            _ if Some(pid) == self.pmt_pid => self.pmt(section(&p[at..], start)?)?,
            _ if self.report.streams.contains_key(&pid) => self.payload(pid, &p[at..], start)?,
            17 => {} // SDT: FFmpeg writes one; nothing in it concerns a player.
            _ => bail!("PID {pid} is not in the PMT"),
        }
        Ok(())
    }

    fn continuity(&mut self, pid: u16, counter: u8, payload: bool) {
        let stream = self.streams.entry(pid).or_default();
        let expected = match stream.continuity {
            Some(last) if payload => (last + 1) & 0x0F,
            Some(last) => last,
            None => counter,
        };
        stream.continuity = Some(counter);
        if expected != counter {
            self.report.continuity_errors += 1;
            self.fault(format_args!("continuity counter of PID {pid} is {counter}, expected {expected}"));
        }
    }

    fn adaptation(&mut self, pid: u16, field: &[u8]) -> Result<()> {
        if field[0] & 0x10 == 0 {
            return Ok(());
        }
        ensure!(field.len() >= 7, "PCR cut off");
        ensure!(self.report.pcr_pid.is_none_or(|p| p == pid), "PCR on PID {pid} which is not the PCR PID");
        let base = u32::from_be_bytes([field[1], field[2], field[3], field[4]]);
        let pcr = self.unwrap(i64::from(base) << 1 | i64::from(field[5] >> 7));
        if let Some(last) = self.last_pcr {
            let step = pcr - last;
            self.report.max_pcr_interval_90k = self.report.max_pcr_interval_90k.max(step);
            if step < 0 {
                self.fault(format_args!("PCR runs back by {} ticks", -step));
            } else if step > MAX_PCR_INTERVAL_90K {
                self.fault(format_args!("PCR interval of {} ms", step / 90));
            }
        }
        self.last_pcr = Some(pcr);
        Ok(())
    }

    /// The 64-bit time nearest to the last one.
    fn unwrap(&mut self, t: i64) -> i64 {
        let near = self.reference.unwrap_or(t);
        let turns = (near - t + MODULUS / 2).div_euclid(MODULUS);
        let t = t + turns * MODULUS;
        self.reference = Some(t);
        t
    }

    fn pat(&mut self, s: &[u8]) -> Result<()> {
        ensure!(s[0] == 0 && s.len() == 16, "the PAT does not hold exactly one programme");
        let pid = u16::from_be_bytes([s[10], s[11]]) & 0x1FFF;
        ensure!(self.pmt_pid.is_none_or(|p| p == pid), "PMT moved to PID {pid}");
        self.pmt_pid = Some(pid);
        Ok(())
    }

    fn pmt(&mut self, s: &[u8]) -> Result<()> {
        ensure!(s[0] == 2 && s.len() >= 16, "not a PMT");
        let pcr_pid = u16::from_be_bytes([s[8], s[9]]) & 0x1FFF;
        let mut at = 12 + usize::from(u16::from_be_bytes([s[10], s[11]]) & 0xFFF);
        let mut streams = BTreeMap::new();
        while at + 5 <= s.len() - 4 {
            streams.insert(u16::from_be_bytes([s[at + 1], s[at + 2]]) & 0x1FFF, s[at]);
            at += 5 + usize::from(u16::from_be_bytes([s[at + 3], s[at + 4]]) & 0xFFF);
        }
        ensure!(!streams.is_empty(), "the PMT names no stream");
        if self.report.streams.is_empty() {
            self.report.streams = streams;
            self.report.pcr_pid = Some(pcr_pid);
        } else {
            ensure!(self.report.streams == streams, "streams changed to {streams:?}");
            ensure!(self.report.pcr_pid == Some(pcr_pid), "PCR PID changed to {pcr_pid}");
        }
        Ok(())
    }

    fn payload(&mut self, pid: u16, data: &[u8], start: bool) -> Result<()> {
        if start {
            self.end_pes(pid);
        }
        let pcr = self.last_pcr;
        let stream = self.streams.entry(pid).or_default();
        if start {
            stream.pes_pcr = pcr;
        }
        ensure!(start || !stream.pes.is_empty(), "payload of PID {pid} does not begin with a PES");
        stream.pes.extend_from_slice(data);
        Ok(())
    }

    fn end_pes(&mut self, pid: u16) {
        let stream = self.streams.entry(pid).or_default();
        let (pes, pcr) = (std::mem::take(&mut stream.pes), stream.pes_pcr.take());
        if pes.is_empty() {
            return;
        }
        if let Err(error) = self.pes(pid, &pes, pcr) {
            self.fault(format_args!("PID {pid}: {error:#}"));
        }
    }

    fn pes(&mut self, pid: u16, pes: &[u8], pcr: Option<i64>) -> Result<()> {
        ensure!(pes.len() > 9 && pes[..3] == [0, 0, 1], "not a PES");
        let length = usize::from(u16::from_be_bytes([pes[4], pes[5]]));
        ensure!(length == 0 || length + 6 == pes.len(), "PES says {length} bytes and has {}", pes.len() - 6);
        let body = 9 + usize::from(pes[8]);
        ensure!(pes[7] & 0x80 != 0 && pes.len() > body && body >= 14, "PES without PTS");
        let pts = timestamp(&pes[9..14])?;
        let pts = self.unwrap(pts);
        let dts = if pes[7] & 0x40 != 0 { timestamp(&pes[14..19])? } else { pts.rem_euclid(MODULUS) };
        let dts = self.unwrap(dts);
        self.times(pid, pts, dts, pcr);
        match self.report.streams.get(&pid) {
            Some(&STREAM_H264) => self.access_unit(&pes[body..]),
            Some(&STREAM_AAC) => ensure!(pes[body] == 0xFF && pes[body + 1] & 0xF6 == 0xF0, "audio does not begin with ADTS"),
            _ => {}
        }
        Ok(())
    }

    fn times(&mut self, pid: u16, pts: i64, dts: i64, pcr: Option<i64>) {
        let report = &mut self.report;
        *report.pes.entry(pid).or_default() += 1;
        report.first_pts.entry(pid).or_insert(pts);
        report.last_pts.insert(pid, pts);
        if let Some(counts) = report.pes_per_segment.last_mut() {
            *counts.entry(pid).or_default() += 1;
        }
        if let Some(spans) = report.spans.last_mut() {
            let span = spans.entry(pid).or_insert((pts, pts));
            *span = (span.0.min(pts), span.1.max(pts));
        }
        let last = self.streams.entry(pid).or_default().last_dts.replace(dts);
        if let Some(pcr) = pcr {
            let lead = self.report.min_dts_lead_90k.get_or_insert(i64::MAX);
            *lead = (*lead).min(dts - pcr);
            if dts < pcr {
                self.fault(format_args!("PID {pid}: DTS {dts} is {} ticks before the PCR", pcr - dts));
            }
        }
        if pts < dts {
            self.fault(format_args!("PID {pid}: PTS {pts} before DTS {dts}"));
        }
        if let Some(last) = last.filter(|last| dts <= *last) {
            self.fault(format_args!("PID {pid}: DTS {dts} after {last}"));
        }
    }

    fn access_unit(&mut self, data: &[u8]) {
        let types: Vec<u8> = nal_types(data);
        self.report.access_units += 1;
        if types.first() != Some(&9) || types.iter().filter(|t| **t == 9).count() != 1 {
            self.fault(format_args!("an access unit does not begin with its one AUD: {types:?}"));
        }
        let key = types.contains(&5);
        self.report.key_frames += u64::from(key);
        if !self.video_started {
            self.video_started = true;
            let slice = types.iter().position(|t| *t == 5);
            let ready = slice.is_some_and(|at| types[..at].contains(&7) && types[..at].contains(&8));
            self.report.key_frame_at_start.push(ready);
        }
    }
}

/// The section in a packet that holds it whole (PAT and PMT of two streams always do), CRC checked.
fn section(payload: &[u8], start: bool) -> Result<&[u8]> {
    ensure!(start, "a table that spans packets");
    let at = 1 + usize::from(payload[0]);
    let s = payload.get(at..).filter(|s| s.len() > 3).context("a table cut off")?;
    let length = 3 + usize::from(u16::from_be_bytes([s[1], s[2]]) & 0xFFF);
    let s = s.get(..length).context("a table that spans packets")?;
    ensure!(crc32(s) == 0, "CRC of a table is wrong");
    Ok(s)
}

/// CRC-32/MPEG-2; 0 over a section with its CRC.
fn crc32(data: &[u8]) -> u32 {
    data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |c, _| if c >> 31 == 1 { c << 1 ^ 0x04C1_1DB7 } else { c << 1 })
    })
}

fn timestamp(b: &[u8]) -> Result<i64> {
    ensure!(b.len() == 5 && b[0] & 1 == 1 && b[2] & 1 == 1 && b[4] & 1 == 1, "marker bits of a timestamp");
    let b: Vec<i64> = b.iter().map(|x| i64::from(*x)).collect();
    Ok((b[0] >> 1 & 7) << 30 | b[1] << 22 | (b[2] >> 1) << 15 | b[3] << 7 | b[4] >> 1)
}

fn nal_types(data: &[u8]) -> Vec<u8> {
    data.windows(4).filter(|w| w[..3] == [0, 0, 1]).map(|w| w[3] & 0x1F).collect()
}

//! RTP time -> our time: by the sender's reports within a participant, by the least delay between the participant and us (media.md section 2).

use crate::delay_line::unwrap;
use crate::{ClockFault, ReportQuality, SenderReport, Tick};
use std::collections::VecDeque;

/// Reports kept: 5 minutes of LiveKit's 3 s tick.
const MAX_REPORTS: usize = 100;
/// Reports that the median of the offset looks at.
const MEDIAN_REPORTS: usize = 31;
/// Below this baseline the slope of reports is noise (measured: off by up to 14,000 ppm over 3 s).
const SLOPE_BASELINE_US: i64 = 60_000_000;
/// No crystal is worse.
const MAX_SLOPE_PPM: i64 = 500;
/// Later knowledge moves a clock by at most this much per second of media, so that nobody hears or sees it.
const SLEW_PER_MILLE: i64 = 5;
/// A clock that is off by more was wrong, not imprecise.
const JUMP_US: i64 = 500_000;
/// Tracks of one participant may be so far apart on their way (an encoder's delay, a network's queue); reports that say more are of
/// clocks that have nothing to do with each other (NTP 0, a monotonic clock, a sender that stood still), and arrival tells better. What is
/// placed further back than the line is long would come too late for its place, all of it: a second of it is for retransmissions.
const MOST_APART_US: i64 = 2_000_000;
/// Reports that were not believed are again when they say less than this.
const AGREED_US: i64 = 1_000_000;
/// Least delay: buckets of 5 s, one minute.
const BUCKET_US: u64 = 5_000_000;
const BUCKETS: usize = 12;

/// Timestamps that repeat for so long while packets come stand still.
const STILL_US: u64 = 500_000;
/// ... when so many units had it: one may come twice where a sender pauses.
const STILL_UNITS: u32 = 5;
/// After an override an SFU that extrapolates (LiveKit, every 3 s) may tell of the old clock until the publisher's next own report.
const DOUBTED_REPORTS: u32 = 4;

/// The least value seen in the last minute.
#[derive(Debug, Default)]
pub(crate) struct WindowedMin {
    buckets: VecDeque<(u64, i64)>,
}

impl WindowedMin {
    pub(crate) fn observe(&mut self, now: Tick, value: i64) {
        let bucket = now.0 / BUCKET_US;
        match self.buckets.back_mut() {
            Some((last, least)) if *last >= bucket => *least = value.min(*least),
            _ => self.buckets.push_back((bucket, value)),
        }
        while self.buckets.front().is_some_and(|(first, _)| first + (BUCKETS as u64) <= bucket) {
            self.buckets.pop_front();
        }
    }

    pub(crate) fn get(&self) -> Option<i64> {
        self.buckets.iter().map(|(_, least)| *least).min()
    }

    /// The least value of the last whole 5 s and what is behind them, against the least before; None: not seen for long enough.
    fn moved(&self) -> Option<i64> {
        let recent = self.buckets.len().checked_sub(2)?;
        let least = |range: std::ops::Range<usize>| self.buckets.range(range).map(|(_, least)| *least).min();
        Some(least(recent..self.buckets.len())? - least(0..recent)?)
    }
}

/// A participant's NTP time -> our ticks, in microseconds. Shared by the participant's tracks: that is lip sync.
#[derive(Debug, Default)]
pub(crate) struct ParticipantClock {
    pub(crate) delay: WindowedMin,
}

#[derive(Clone, Copy, Debug)]
struct Report {
    rtp_us: i64,
    ntp_us: i64,
    /// The publisher's own: not on one line with the report before it.
    own: bool,
}

/// Clock of one SSRC.
#[derive(Debug)]
pub(crate) struct TrackClock {
    rate: i64,
    quality: ReportQuality,
    last_rtp: Option<i64>,
    reports: VecDeque<Report>,
    arrival: WindowedMin,
    /// Our time minus RTP time as last used, and the RTP time in microseconds where it was.
    applied: Option<(i64, i64)>,
    /// Arrival of the newest packet, and its RTP time in microseconds.
    newest: Option<(Tick, i64)>,
    /// The sender's NTP clock was set by so much: its reports are read as if it had not been.
    ntp_step_us: i64,
    /// A report that says that RTP does not run on as before, as arrivals do.
    contradiction: Option<Report>,
    /// Reports that may yet be of the clock before.
    doubted: u32,
    /// [`Self::is_apart`] at the newest packet.
    apart: bool,
    still: Option<Still>,
}

/// An RTP timestamp that repeats.
#[derive(Clone, Copy, Debug)]
struct Still {
    timestamp: u32,
    since: Tick,
    begun: i64,
    /// What its newest unit is given.
    rtp: i64,
    in_unit: bool,
    units: u32,
}

impl TrackClock {
    pub(crate) fn new(rate: u32, quality: ReportQuality) -> Self {
        Self {
            rate: i64::from(rate),
            quality,
            last_rtp: None,
            reports: VecDeque::new(),
            arrival: WindowedMin::default(),
            applied: None,
            newest: None,
            ntp_step_us: 0,
            contradiction: None,
            doubted: 0,
            apart: false,
            still: None,
        }
    }

    /// The clock of a stream whose clock was overridden: what contradicted the old one is all that is known.
    pub(crate) fn after(old: &Self) -> Self {
        let mut clock = Self::new(old.rate as u32, old.quality);
        clock.ntp_step_us = old.ntp_step_us;
        clock.reports.extend(old.contradiction);
        clock.doubted = DOUBTED_REPORTS;
        clock
    }

    /// RTP time of the newest packet in sequence, and whether its timestamps stand still: then arrival counts instead, unit by unit.
    pub(crate) fn advancing(&mut self, now: Tick, timestamp: u32, ends_unit: bool) -> (i64, bool) {
        let known = self.still.filter(|still| still.timestamp == timestamp);
        let mut still = known.unwrap_or_else(|| {
            let rtp = self.unwrapped(timestamp);
            Still { timestamp, since: now, begun: rtp, rtp, in_unit: true, units: 0 }
        });
        let stands = still.units >= STILL_UNITS && now.since(still.since) >= STILL_US;
        if stands && !still.in_unit {
            still.rtp = still.begun + (now.since(still.since) as i64) * self.rate / 1_000_000;
        }
        still.in_unit = !ends_unit;
        still.units += u32::from(ends_unit);
        self.still = Some(still);
        (still.rtp, still.rtp != still.begun)
    }

    /// The newest timestamp once more: its time is counted by [`Self::advancing`].
    pub(crate) fn repeats(&self, timestamp: u32) -> bool {
        self.still.is_some_and(|still| still.timestamp == timestamp)
    }

    /// Whether a packet that comes next in sequence belongs to another clock: RTP leapt, or went on after it had stood.
    pub(crate) fn departs(&self, now: Tick, rtp: i64) -> Option<ClockFault> {
        let (last, last_us) = self.newest?;
        let (step, elapsed) = (self.micros(rtp) - last_us, now.since(last) as i64);
        let earliest = self.arrival.get()?;
        let too_early = now.0 as i64 - self.micros(rtp) < earliest - JUMP_US;
        if step < -JUMP_US || (step > elapsed + JUMP_US && too_early) {
            return Some(ClockFault::Jumped);
        }
        let unconfirmed = self.reports.is_empty() || self.contradiction.is_some();
        let moved = self.arrival.moved().is_some_and(|moved| moved > JUMP_US);
        (moved && unconfirmed).then_some(ClockFault::Moved)
    }

    /// Unwraps near the newest timestamp.
    pub(crate) fn unwrapped(&self, timestamp: u32) -> i64 {
        // One cycle up, so that nothing before the first packet is negative.
        let near = self.last_rtp.unwrap_or(i64::from(timestamp) + (1 << 32));
        unwrap(near, u64::from(timestamp), 32)
    }

    /// Microseconds from an RTP time to the newest in sequence.
    pub(crate) fn behind_newest(&self, rtp: i64) -> i64 {
        self.newest.map_or(0, |(_, newest)| newest - self.micros(rtp))
    }

    fn micros(&self, rtp: i64) -> i64 {
        (i128::from(rtp) * 1_000_000 / i128::from(self.rate)) as i64
    }

    /// The newest packet; whether it is the first at which reports are not believed ([`ClockFault::Apart`]).
    pub(crate) fn observe(&mut self, now: Tick, rtp: i64, participant: &mut ParticipantClock) -> bool {
        self.last_rtp = Some(self.last_rtp.map_or(rtp, |last| last.max(rtp)));
        let rtp_us = self.micros(rtp);
        self.newest = Some((now, rtp_us));
        self.arrival.observe(now, now.0 as i64 - rtp_us);
        let Some(offset) = self.ntp_offset(rtp_us) else { return false };
        participant.delay.observe(now, now.0 as i64 - (rtp_us + offset));
        let reports = participant.delay.get().map(|delay| offset + delay);
        let apart = reports.zip(self.arrival.get()).is_some_and(|(reports, arrival)| self.is_apart(reports, arrival));
        !std::mem::replace(&mut self.apart, apart) && apart
    }

    /// Whether reports put this track too far from where it arrives. Once they do it takes more to believe them again.
    fn is_apart(&self, by_reports: i64, by_arrival: i64) -> bool {
        let most = if self.apart { AGREED_US } else { MOST_APART_US };
        (by_reports - by_arrival).abs() > most
    }

    pub(crate) fn report(&mut self, now: Tick, report: &SenderReport, participant: &mut ParticipantClock) {
        if self.last_rtp.is_none() {
            return; // no packet yet: the cycle of its timestamp is unknown
        }
        let (rtp_us, ntp_us) = (self.micros(self.unwrapped(report.rtp)), ntp_micros(report.ntp) - self.ntp_step_us);
        let Some(ntp_us) = self.judged(rtp_us, ntp_us, participant) else { return };
        let own = self.reports.back().is_none_or(|last| {
            let bend = (ntp_us - last.ntp_us) - (rtp_us - last.rtp_us);
            bend.abs() > 1_000_000 / self.rate + 1
        });
        let first = self.reports.is_empty();
        self.reports.push_back(Report { rtp_us, ntp_us, own });
        if self.reports.len() > MAX_REPORTS {
            self.reports.pop_front();
        }
        // Packets that came before the first report count for the least delay as well.
        if let (true, Some(offset), Some(arrival)) = (first, self.ntp_offset(rtp_us), self.arrival.get()) {
            participant.delay.observe(now, arrival - offset);
        }
    }

    /// The report's NTP time as it counts; None: it does not.
    fn judged(&mut self, rtp_us: i64, ntp_us: i64, participant: &ParticipantClock) -> Option<i64> {
        let Some(known) = self.ntp_offset(rtp_us) else {
            let expected = participant.delay.get().zip(self.arrival.get()).map(|(delay, arrival)| arrival - delay);
            let strange = expected.is_some_and(|expected| (ntp_us - rtp_us - expected).abs() > JUMP_US);
            self.doubted = self.doubted.saturating_sub(1);
            return (!strange || self.doubted == 0).then_some(ntp_us);
        };
        let off = ntp_us - rtp_us - known;
        if off.abs() <= JUMP_US {
            self.contradiction = None;
            return Some(ntp_us);
        }
        let late = self.newest.zip(self.arrival.get()).map_or(0, |((at, rtp), least)| at.0 as i64 - rtp - least);
        if late > JUMP_US && off > 0 {
            // NTP went on while RTP stood, and packets come as late as that: they agree.
            self.contradiction = Some(Report { rtp_us, ntp_us, own: true });
            return None;
        }
        // Packets come as ever: the sender set its clock. What it said before still ties its tracks together.
        self.ntp_step_us += off;
        Some(ntp_us - off)
    }

    pub(crate) fn has_report(&self) -> bool {
        !self.reports.is_empty()
    }

    /// NTP minus RTP time, at an RTP time.
    fn ntp_offset(&self, rtp_us: i64) -> Option<i64> {
        let (first, last) = (self.reports.front()?, self.reports.back()?);
        if self.quality == ReportQuality::Relay {
            // A relay's report may be late for its RTP time, never early: the least difference is the true one.
            return self.reports.iter().map(|r| r.ntp_us - r.rtp_us).min();
        }
        if last.rtp_us - first.rtp_us >= SLOPE_BASELINE_US
            && let Some(offset) = self.regression(rtp_us)
        {
            return Some(offset);
        }
        let mut offsets: Vec<i64> = self.reports.iter().rev().take(MEDIAN_REPORTS).map(|r| r.ntp_us - r.rtp_us).collect();
        offsets.sort_unstable();
        Some(offsets[offsets.len() / 2])
    }

    /// Least squares over the publisher's own reports, slope within what a crystal can do.
    fn regression(&self, at_us: i64) -> Option<i64> {
        let own: Vec<(f64, f64)> = {
            let base = *self.reports.front()?;
            let points = self.reports.iter().filter(|r| r.own);
            points.map(|r| ((r.rtp_us - base.rtp_us) as f64, ((r.ntp_us - r.rtp_us) - (base.ntp_us - base.rtp_us)) as f64)).collect()
        };
        if own.len() < 8 || own.last()?.0 - own.first()?.0 < SLOPE_BASELINE_US as f64 {
            return None;
        }
        let n = own.len() as f64;
        let (mean_x, mean_y) = (own.iter().map(|p| p.0).sum::<f64>() / n, own.iter().map(|p| p.1).sum::<f64>() / n);
        let covariance: f64 = own.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
        let variance: f64 = own.iter().map(|p| (p.0 - mean_x) * (p.0 - mean_x)).sum();
        let limit = MAX_SLOPE_PPM as f64 / 1e6;
        let slope = (covariance / variance).clamp(-limit, limit);
        let base = self.reports.front()?;
        let from_base = mean_y + slope * ((at_us - base.rtp_us) as f64 - mean_x);
        Some(base.ntp_us - base.rtp_us + from_base.round() as i64)
    }

    /// Our time minus RTP time as it should be, knowing what is known now.
    fn target(&self, rtp_us: i64, participant: &ParticipantClock) -> Option<i64> {
        let by_arrival = self.arrival.get();
        let by_reports = self.ntp_offset(rtp_us).zip(participant.delay.get()).map(|(offset, delay)| offset + delay);
        match (by_reports, by_arrival) {
            (Some(reports), Some(arrival)) if self.is_apart(reports, arrival) => by_arrival,
            (Some(_), _) => by_reports,
            (None, _) => by_arrival,
        }
    }

    /// Our time (microseconds of the tick) of an RTP time. Pure: [`Self::commit`] makes it stick.
    pub(crate) fn estimate(&self, rtp: i64, participant: &ParticipantClock) -> Option<i64> {
        let rtp_us = self.micros(rtp);
        let target = self.target(rtp_us, participant)?;
        let offset = match self.applied {
            Some((applied, at)) if (target - applied).abs() <= JUMP_US => {
                let most = (rtp_us - at).max(0) * SLEW_PER_MILLE / 1000;
                applied + (target - applied).clamp(-most, most)
            }
            _ => target,
        };
        Some(rtp_us + offset)
    }

    /// The time was used: from here on it only slews.
    pub(crate) fn commit(&mut self, rtp: i64, time_us: i64) {
        let rtp_us = self.micros(rtp);
        if self.applied.is_none_or(|(_, at)| rtp_us > at) {
            self.applied = Some((time_us - rtp_us, rtp_us));
        }
    }
}

/// 32.32 fixed point seconds -> microseconds.
fn ntp_micros(ntp: u64) -> i64 {
    ((u128::from(ntp) * 1_000_000) >> 32) as i64
}

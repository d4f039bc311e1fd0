//! RTP time -> our time: by the sender's reports within a participant, by the least delay between the participant and us (media.md section 2).

use crate::delay_line::unwrap;
use crate::{ReportQuality, SenderReport, Tick};
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
/// Least delay: buckets of 5 s, one minute.
const BUCKET_US: u64 = 5_000_000;
const BUCKETS: usize = 12;

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
}

impl TrackClock {
    pub(crate) fn new(rate: u32, quality: ReportQuality) -> Self {
        Self { rate: i64::from(rate), quality, last_rtp: None, reports: VecDeque::new(), arrival: WindowedMin::default(), applied: None }
    }

    /// Unwraps near the newest timestamp.
    pub(crate) fn unwrapped(&self, timestamp: u32) -> i64 {
        // One cycle up, so that nothing before the first packet is negative.
        let near = self.last_rtp.unwrap_or(i64::from(timestamp) + (1 << 32));
        unwrap(near, u64::from(timestamp), 32)
    }

    fn micros(&self, rtp: i64) -> i64 {
        (i128::from(rtp) * 1_000_000 / i128::from(self.rate)) as i64
    }

    pub(crate) fn observe(&mut self, now: Tick, rtp: i64, participant: &mut ParticipantClock) {
        self.last_rtp = Some(self.last_rtp.map_or(rtp, |last| last.max(rtp)));
        let rtp_us = self.micros(rtp);
        self.arrival.observe(now, now.0 as i64 - rtp_us);
        if let Some(offset) = self.ntp_offset(rtp_us) {
            participant.delay.observe(now, now.0 as i64 - (rtp_us + offset));
        }
    }

    pub(crate) fn report(&mut self, now: Tick, report: &SenderReport, participant: &mut ParticipantClock) {
        if self.last_rtp.is_none() {
            return; // no packet yet: the cycle of its timestamp is unknown
        }
        let (rtp_us, ntp_us) = (self.micros(self.unwrapped(report.rtp)), ntp_micros(report.ntp));
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
        match (self.ntp_offset(rtp_us), participant.delay.get()) {
            (Some(offset), Some(delay)) => Some(offset + delay),
            _ => self.arrival.get(),
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

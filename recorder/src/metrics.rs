//! Prometheus metrics of one recorder (api.md). Labels are bounded; identities are never labels.

use std::time::Duration;

use prometheus::{CounterVec, Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

use crate::connect::ConnectStats;
use crate::outcome::gap_reason;

#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    packets: IntCounterVec,
    packets_lost: IntCounter,
    packets_recovered: IntCounter,
    nacks: IntCounter,
    keyframe_requests: IntCounter,
    segments: IntCounterVec,
    gap_seconds: CounterVec,
    upload_bytes: IntCounter,
    upload_duration: Histogram,
    spool_bytes: IntGauge,
    transcoding: Gauge,
    overload_step: IntGauge,
    snapshots: IntCounterVec,
}

impl Metrics {
    /// # Errors
    /// Never at run time: only if two metrics had one name.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let metrics = Self {
            registry: Registry::new(),
            packets: IntCounterVec::new(Opts::new("recorder_packets_total", "RTP packets from the room"), &["kind"])?,
            packets_lost: IntCounter::new("recorder_packets_lost_total", "RTP packets that never came")?,
            packets_recovered: IntCounter::new("recorder_packets_recovered_total", "Lost packets that came back by RTX or RED")?,
            nacks: IntCounter::new("recorder_nacks_sent_total", "Sequence numbers asked for again")?,
            keyframe_requests: IntCounter::new("recorder_keyframe_requests_total", "Key frames asked for")?,
            segments: IntCounterVec::new(Opts::new("recorder_segments_total", "Segments finished and stored"), &["state"])?,
            gap_seconds: CounterVec::new(Opts::new("recorder_gap_seconds_total", "Media that is missing"), &["reason"])?,
            upload_bytes: IntCounter::new("recorder_upload_bytes_total", "Bytes of media confirmed by storage")?,
            upload_duration: Histogram::with_opts(
                HistogramOpts::new("recorder_segment_upload_duration_seconds", "From the order to storage's answer")
                    .buckets(vec![0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0]),
            )?,
            spool_bytes: IntGauge::new("recorder_spool_bytes", "Media waiting on disk")?,
            transcoding: Gauge::new("recorder_transcode_backlog_seconds", "Pictures waiting to be decoded and encoded")?,
            overload_step: IntGauge::new("recorder_overload_step", "How much less is composed than asked for, 0 to 4")?,
            snapshots: IntCounterVec::new(
                Opts::new("recorder_snapshots_total", "Snapshots stored, and those that will not be"),
                &["result"],
            )?,
        };
        let all: [Box<dyn prometheus::core::Collector>; 14] = [
            Box::new(metrics.packets.clone()),
            Box::new(metrics.packets_lost.clone()),
            Box::new(metrics.packets_recovered.clone()),
            Box::new(metrics.nacks.clone()),
            Box::new(metrics.keyframe_requests.clone()),
            Box::new(metrics.segments.clone()),
            Box::new(metrics.gap_seconds.clone()),
            Box::new(metrics.upload_bytes.clone()),
            Box::new(metrics.upload_duration.clone()),
            Box::new(metrics.spool_bytes.clone()),
            Box::new(metrics.transcoding.clone()),
            Box::new(metrics.overload_step.clone()),
            Box::new(metrics.snapshots.clone()),
            Box::new(IntGauge::with_opts(
                Opts::new("recorder_build_info", "Always 0; the version is in the label").const_label("version", env!("CARGO_PKG_VERSION")),
            )?),
        ];
        all.into_iter().try_for_each(|metric| metrics.registry.register(metric))?;
        Ok(metrics)
    }

    pub(crate) fn connector(&self, stats: &ConnectStats) {
        raise(&self.packets.with_label_values(&["received"]), stats.packets);
        raise(&self.packets.with_label_values(&["duplicate"]), stats.duplicates);
        raise(&self.packets.with_label_values(&["overflowed"]), stats.overflowed);
        raise(&self.packets_recovered, stats.recovered + stats.rebuilt);
        raise(&self.nacks, stats.nacks);
        raise(&self.keyframe_requests, stats.keyframe_requests);
    }

    pub(crate) fn session(&self, report: &recorder_media::Report, manifest: &recorder_media::Manifest, spool_bytes: u64) {
        raise(&self.packets_lost, report.packets_lost);
        raise(&self.segments.with_label_values(&["finished"]), report.recorded_files);
        raise(&self.segments.with_label_values(&["stored"]), report.uploaded_files);
        raise(&self.upload_bytes, report.uploaded_bytes);
        raise(&self.snapshots.with_label_values(&["stored"]), report.snapshots);
        raise(&self.snapshots.with_label_values(&["lost"]), report.snapshots_lost);
        self.spool_bytes.set(i64::try_from(spool_bytes).unwrap_or(i64::MAX));
        self.transcoding.set(report.transcoding90k as f64 / 90_000.0);
        self.overload_step.set(report.overload_step.into());
        let mut gaps = std::collections::BTreeMap::new();
        for gap in &manifest.gaps {
            *gaps.entry(gap_reason(gap.reason)).or_insert(0.0) += gap.duration90k as f64 / 90_000.0;
        }
        for (reason, seconds) in gaps {
            let counter = self.gap_seconds.with_label_values(&[reason]);
            counter.inc_by((seconds - counter.get()).max(0.0));
        }
    }

    pub(crate) fn uploaded(&self, took: Duration) {
        self.upload_duration.observe(took.as_secs_f64());
    }

    pub(crate) fn text(&self) -> String {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8(text).unwrap_or_default(),
            Err(error) => format!("# {error}\n"),
        }
    }
}

/// Counters of other parts are totals.
fn raise(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

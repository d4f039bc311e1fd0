//! Where everything that a room sends meets: which stream belongs to which track, and the queue to the driver.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use recorder_media::{Input, RtpPacket, SenderReport, TrackKey};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use webrtc::media_stream::track_remote::TrackRemote;

use super::counters::Counters;
use super::{Event, Stamped};

/// Sender reports kept for streams of which no packet has come yet. Streams that have ended are among them, so the oldest gives way.
const EARLY_REPORTS_MAX: usize = 256;

/// A published track, as the packets of its stream see it.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) key: TrackKey,
    /// False: its codec cannot be recorded, packets are dropped here.
    pub(crate) forward: bool,
    /// The publication is over.
    pub(crate) retired: CancellationToken,
}

#[derive(Default)]
struct Streams {
    /// By the SFU's name of a track.
    routes: HashMap<String, Route>,
    by_ssrc: HashMap<u32, TrackKey>,
    early_reports: EarlyReports,
    /// What carries a track at the moment: for requests of key frames.
    carriers: HashMap<TrackKey, (Weak<dyn TrackRemote>, u32)>,
}

/// The newest report of each stream that nobody claims yet.
#[derive(Default)]
struct EarlyReports(HashMap<u32, Stamped<SenderReport>>);

impl EarlyReports {
    fn insert(&mut self, report: Stamped<SenderReport>) {
        let ssrc = report.value.ssrc;
        if self.0.len() >= EARLY_REPORTS_MAX && !self.0.contains_key(&ssrc) {
            let oldest = self.0.values().min_by_key(|early| early.at).map(|early| early.value.ssrc);
            oldest.and_then(|ssrc| self.0.remove(&ssrc));
        }
        self.0.insert(ssrc, report);
    }

    fn take(&mut self, ssrc: u32) -> Option<Stamped<SenderReport>> {
        self.0.remove(&ssrc)
    }
}

/// Shared by a connector, its peer connection's tasks and the sender-report tap.
pub(crate) struct Intake {
    events: mpsc::Sender<Stamped<Event>>,
    pub(crate) counters: Arc<Counters>,
    streams: Mutex<Streams>,
}

impl std::fmt::Debug for Intake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Intake {
    pub(crate) fn new(events: mpsc::Sender<Stamped<Event>>) -> Arc<Self> {
        Arc::new(Self { events, counters: Arc::default(), streams: Mutex::default() })
    }

    /// A panic elsewhere leaves the maps usable: each change is one insert or remove.
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what must not get lost: waits for room. Never called by a task that reads a track. A driver that has gone is no error.
    pub(crate) async fn tell(&self, event: Event) {
        let _ = self.events.send(Stamped { at: Instant::now(), value: event }).await;
    }

    pub(crate) async fn tell_media(&self, input: Input) {
        self.tell(Event::Media(input)).await;
    }

    /// For what may get lost.
    fn offer(&self, at: Instant, event: Event) -> bool {
        !matches!(self.events.try_send(Stamped { at, value: event }), Err(mpsc::error::TrySendError::Full(_)))
    }

    pub(crate) fn offer_stats(&self) {
        self.offer(Instant::now(), Event::Stats(self.counters.stats()));
    }

    /// From now on packets of the SFU's track `name` are packets of `key`. Tell `Published` first.
    pub(crate) fn claim(&self, name: &str, key: TrackKey, forward: bool) {
        self.streams().routes.insert(name.to_owned(), Route { key, forward, retired: CancellationToken::new() });
    }

    /// The publication is over: packets of its stream are nobody's until it is claimed again.
    pub(crate) fn retire(&self, name: &str) {
        let mut streams = self.streams();
        let Some(route) = streams.routes.remove(name) else { return };
        route.retired.cancel();
        streams.by_ssrc.retain(|_, key| *key != route.key);
        streams.carriers.remove(&route.key);
    }

    /// A new peer connection: its streams have new numbers.
    pub(crate) fn forget_streams(&self) {
        let mut streams = self.streams();
        streams.by_ssrc.clear();
        streams.carriers.clear();
        streams.early_reports = EarlyReports::default();
    }

    pub(crate) fn route(&self, name: &str) -> Option<Route> {
        self.streams().routes.get(name).cloned()
    }

    /// The first packet of a stream came: its reports and requests find their way from here on.
    pub(crate) fn carries(&self, ssrc: u32, key: TrackKey, carrier: &Arc<dyn TrackRemote>) {
        let early = {
            let mut streams = self.streams();
            streams.by_ssrc.insert(ssrc, key);
            streams.carriers.insert(key, (Arc::downgrade(carrier), ssrc));
            streams.early_reports.take(ssrc)
        };
        if let Some(Stamped { at, value: report }) = early {
            self.offer(at, Event::Media(Input::SenderReport { track: key, report }));
        }
    }

    /// Whether a packet of the track has come by this connection.
    pub(crate) fn has_come(&self, track: TrackKey) -> bool {
        self.streams().carriers.contains_key(&track)
    }

    /// False when the driver's queue is full.
    pub(crate) fn packet(&self, at: Instant, track: TrackKey, packet: RtpPacket) -> bool {
        let accepted = self.offer(at, Event::Media(Input::Packet { track, packet }));
        Counters::add(if accepted { &self.counters.packets } else { &self.counters.overflowed }, 1);
        accepted
    }

    /// Called by the tap, on the connection's own task.
    pub(crate) fn sender_report(&self, report: SenderReport) {
        let at = Instant::now();
        Counters::add(&self.counters.sender_reports, 1);
        let track = {
            let mut streams = self.streams();
            let track = streams.by_ssrc.get(&report.ssrc).copied();
            if track.is_none() {
                streams.early_reports.insert(Stamped { at, value: report });
            }
            track
        };
        if let Some(track) = track {
            self.offer(at, Event::Media(Input::SenderReport { track, report }));
        }
    }

    /// Asks the publisher for a key frame (PLI). A track that nothing carries at the moment begins with one anyway.
    pub(crate) fn request_keyframe(&self, track: TrackKey) {
        let Some((carrier, ssrc)) = self.streams().carriers.get(&track).cloned() else { return };
        let Some(carrier) = carrier.upgrade() else { return };
        Counters::add(&self.counters.keyframe_requests, 1);
        tokio::spawn(async move {
            let request = PictureLossIndication { sender_ssrc: 0, media_ssrc: ssrc };
            if let Err(error) = carrier.write_rtcp(vec![Box::new(request)]).await {
                tracing::debug!(%error, ssrc, "a key-frame request was not sent");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn reports_of_streams_that_ended_make_room_for_new_ones() {
        let start = Instant::now();
        let report = |ssrc| SenderReport { ssrc, ntp: 1, rtp: 2 };
        let mut early = EarlyReports::default();
        let count = EARLY_REPORTS_MAX as u32 + 50;
        for ssrc in 0..count {
            early.insert(Stamped { at: start + Duration::from_millis(u64::from(ssrc)), value: report(ssrc) });
        }
        assert_eq!(early.0.len(), EARLY_REPORTS_MAX);
        assert_eq!(early.take(count - 1).map(|newest| newest.value), Some(report(count - 1)));
        assert!(early.take(0).is_none(), "the oldest has gone");
    }
}

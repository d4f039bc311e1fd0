//! The bodies of fuzz targets: each takes any bytes, reads them as this program reads what others write, and panics on what must not be.
//! Nothing here is for programs.

use bytes::Bytes;
use recorder_media::{Config, Input, Manifest, MediaKinds, Order, Output, ReportQuality, Resume, Session, StopReason, Tick, WallMicros};
use recording_crds::job::Job;

pub use crate::connect::fuzzing::{rtcp, rtp, signalling, texts};
use crate::manifest::{self, Identity};
use crate::spool::ts_tail;
use crate::{job, wall};

/// A job file, of this version or any.
pub fn job(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(read) = Job::parse(text) else { return };
    assert_eq!(Job::parse(&read.to_text()).as_ref(), Ok(&read), "a job survives being written");
    assert!(!job::orders(&read).is_empty(), "a job says at least its limits");
}

/// A manifest's head, and behind a blank line its chunk: what an earlier attempt left in storage. A session goes on from it, or it is refused.
pub fn manifest(data: &[u8]) {
    let (head, chunk) = match data.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&data[..at], &data[at + 2..]),
        None => (data, &[][..]),
    };
    let Ok(head) = manifest::parse(head) else { return };
    let Ok(read) = head.into_manifest(&[Bytes::copy_from_slice(chunk)]) else { return };
    assert_eq!(written_and_read(&read), read, "a manifest survives being written");
    go_on(read);
}

/// Bytes of the manifest object, and of each full chunk of its ledger that the session still keeps.
pub fn manifest_bytes(manifest: &Manifest) -> (usize, Vec<usize>) {
    let rendered = manifest::render(&identity(), manifest);
    (rendered.head.len(), rendered.chunks.iter().map(|(_, text)| text.len()).collect())
}

fn identity() -> Identity {
    Identity { stem: "0f8c_demo".into(), recording_id: "0f8c".into(), channel: "demo".into(), app_id: None }
}

fn written_and_read(manifest: &Manifest) -> Manifest {
    let rendered = manifest::render_state(&identity(), manifest, true);
    let chunks: Vec<Bytes> = rendered.chunks.into_iter().map(|(_, text)| text).collect();
    let head = manifest::parse(&rendered.head).expect("we read what we write");
    head.into_manifest(&chunks).expect("and our chunks")
}

/// Starts a session with it and stops it; storage never answers.
fn go_on(manifest: Manifest) {
    let config = Config {
        stem: "0f8c_demo".into(),
        attempt: 2,
        media: MediaKinds::AudioVideo,
        mode: recorder_media::Mode::Individual,
        subscription: recorder_media::Subscription::default(),
        segment_seconds: 6,
        idle_timeout_seconds: 30,
        max_duration_seconds: Some(3600),
        drain_timeout_seconds: 60,
        idle_counts_publishers: false,
        backup: false,
        report_quality: ReportQuality::Sender,
        snapshots: None,
        resume: Some(Resume { manifest, replay: None }),
    };
    let mut session = Session::new(config, Tick(0), WallMicros(1_767_225_599_000_000));
    let mut now = Tick(0);
    let mut input = Input::Order(Order::Stop(StopReason::StopRequested));
    for _ in 0..1000 {
        session.handle(now, input);
        while let Some(output) = session.poll_output() {
            if matches!(output, Output::Finished(_)) {
                return;
            }
        }
        session.report();
        now = session.next_wake().expect("it waits for something until it is finished").max(now);
        input = Input::Wake;
    }
    panic!("it does not end");
}

/// The end of a segment that a killed process was writing.
pub fn ts_tail(data: &[u8]) {
    let Some(tail) = ts_tail::scan(data) else { return };
    assert!(tail.keep <= data.len() && tail.keep % 188 == 0 && tail.keep > 0);
    assert!(tail.duration90k > 0);
    assert!(tail.continuity_counters.iter().all(|(_, counter)| *counter < 16));
    let again = ts_tail::scan(&data[..tail.keep]);
    assert!(again.is_none_or(|again| again.keep <= tail.keep), "what was kept is not more than it was");
}

/// A time as names and manifests write it.
pub(crate) fn time(text: &str) {
    if let Some(at) = wall::parse(text) {
        assert_eq!(wall::parse(&wall::to_text(at)), Some(at), "{text}");
    }
    wall::parse_compact(text);
}

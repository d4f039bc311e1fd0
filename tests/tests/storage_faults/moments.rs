//! A recorder that is killed at a moment that its storage sees, and the one that goes on: in its spool, or with nothing but storage.

use crate::aftermath::Aftermath;
use crate::death::{Death, Moment, growing, now};
use crate::fence::manifest_of;
use crate::recording::Kind;
use anyhow::{Result, ensure};
use recording_crds::job::{JobState, StopReason};
use recording_tests::attempt::{Attempt, AttemptEnded};
use recording_tests::harness::s3::S3;
use recording_tests::harness::s3_proxy::S3Proxy;
use recording_tests::watch::while_watching;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);
/// So many segments that were recorded after the death are named before the recording is ordered to stop.
const SEGMENTS_SINCE: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Spool,
    /// The node is gone.
    StorageAlone,
}

/// Of a recording of each kind; names are those of the bucket too.
pub const DEATHS: [(&str, &str, Moment, Left); 12] = [
    ("killed-writing", "composed-killed-writing", Moment::Writing, Left::Spool),
    ("killed-uploading", "composed-killed-uploading", Moment::Uploading, Left::Spool),
    ("killed-uploaded", "composed-killed-uploaded", Moment::Uploaded, Left::Spool),
    ("killed-naming", "composed-killed-naming", Moment::Naming, Left::Spool),
    ("killed-ending", "composed-killed-ending", Moment::Ending, Left::Spool),
    ("killed-ended", "composed-killed-ended", Moment::Ended, Left::Spool),
    ("lost-writing", "composed-lost-writing", Moment::Writing, Left::StorageAlone),
    ("lost-uploading", "composed-lost-uploading", Moment::Uploading, Left::StorageAlone),
    ("lost-uploaded", "composed-lost-uploaded", Moment::Uploaded, Left::StorageAlone),
    ("lost-naming", "composed-lost-naming", Moment::Naming, Left::StorageAlone),
    ("lost-ending", "composed-lost-ending", Moment::Ending, Left::StorageAlone),
    ("lost-ended", "composed-lost-ended", Moment::Ended, Left::StorageAlone),
];

/// What came after a death.
pub struct Successor {
    /// Seconds since 1970: when it was started, and when the order to stop was given, to this one or to the one before.
    pub began: f64,
    pub ordered: f64,
    pub ended: AttemptEnded,
}

/// One playlist goes on, names nothing at any time that is not there, and what is missing is bounded and in the manifest.
pub fn dies(name: &str, kind: Kind, moment: Moment, left: Left, s3: &S3) -> Result<()> {
    s3.create_bucket(name)?;
    let way = S3Proxy::to(s3)?;
    let text = manifest_of(s3, &way.endpoint(), name, kind);
    let ((death, successor), looks) = while_watching(s3, name, || {
        let mut first = Attempt::start(&text, 1)?;
        let death = Death::bring(&mut first, &way, moment, s3, name)?;
        let began = now();
        let next = follow(first, &text, moment, left)?;
        let (ordered, ended) = goes_on(next, death.ordered, s3, name)?;
        Ok((death, Successor { began, ordered, ended }))
    })?;
    ensure!(looks > 10, "the reader looked {looks} times");
    Aftermath::read(s3, name, kind, death, successor, left)?.is_one_recording(moment)
}

fn follow(mut first: Attempt, text: &str, moment: Moment, left: Left) -> Result<Attempt> {
    match (left, moment) {
        (Left::Spool, _) => {
            first.process.restart()?;
            Ok(first)
        }
        (Left::StorageAlone, moment) if moment.is_of_the_end() => Attempt::start_closing(text, 2),
        (Left::StorageAlone, _) => Attempt::start(text, 2),
    }
}

/// To its end; when it was ordered.
fn goes_on(mut recorder: Attempt, ordered: Option<f64>, s3: &S3, bucket: &str) -> Result<(f64, AttemptEnded)> {
    if let Some(ordered) = ordered {
        return Ok((ordered, recorder.wait(LIMIT)?));
    }
    let since =
        || growing(s3, bucket).ok().filter(|now| now.runs().len() > 1 && now.runs().pop().is_some_and(|run| run.len() >= SEGMENTS_SINCE));
    recorder.process.wait_until("segments behind the break", LIMIT, since)?;
    let ordered = now();
    recorder.order(JobState::Stopped, Some(StopReason::StopRequested))?;
    Ok((ordered, recorder.wait(LIMIT)?))
}

//! A recorder's death: brought about at a moment that storage sees, and what was where just then.

use crate::fence::segments;
use crate::successor::manifest_object;
use anyhow::{Context, Result, ensure};
use k8s_openapi::jiff::Timestamp;
use recording_crds::job::{JobState, StopReason};
use recording_crds::report::ReportState;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::attempt::Attempt;
use recording_tests::harness::process::wait_until;
use recording_tests::harness::s3::S3;
use recording_tests::harness::s3_proxy::{self as proxy, Call, Hold, Point, S3Proxy, Seen};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// All that storage has is named; the next segment is being written.
    Writing,
    /// Storage has half of a segment.
    Uploading,
    /// Storage has a segment, and the recorder does not know.
    Uploaded,
    /// Storage has half of a playlist, the first that names a segment that is stored.
    Naming,
    /// The recording is ordered to stop, all media is in closed segments, and storage has half of the last ones.
    Ending,
    /// Storage has the playlist with its end, and the recorder does not know.
    Ended,
}

impl Moment {
    /// The recording is ordered to stop: the next one has nothing to record.
    pub fn is_of_the_end(self) -> bool {
        matches!(self, Self::Ending | Self::Ended)
    }
}

/// Segments by their names.
#[derive(Debug)]
pub struct Death {
    /// Seconds since 1970.
    pub at: f64,
    /// When the order to stop was given, if it was.
    pub ordered: Option<f64>,
    pub stored: BTreeSet<String>,
    /// By the playlist in storage; and whether that has its end.
    pub named: Vec<String>,
    ended: bool,
    /// Closed ones; those that were being written.
    pub spooled: BTreeSet<String>,
    pub parts: BTreeSet<String>,
    /// Stored, as far as the recorder had saved.
    confirmed: BTreeSet<String>,
    /// What storage was asked for and had not answered.
    asked: Vec<Call>,
}

impl Death {
    /// By SIGKILL. What it has sent goes no further than it was, as when its machine goes dark.
    pub fn bring(recorder: &mut Attempt, way: &S3Proxy, moment: Moment, s3: &S3, bucket: &str) -> Result<Self> {
        let stored = |seen: &Seen| seen.call.method == "PUT" && proxy::playlists(&seen.call) && seen.status == Some(200);
        way.wait_for("a playlist stored", 2, LIMIT, stored)?;
        let (mut ordered, mut held) = (None, None);
        match moment {
            Moment::Writing => way.wait_for("another playlist stored", 1, LIMIT, stored)?,
            Moment::Uploading => held = Some(hold(way, Point::Part, proxy::segments)?),
            Moment::Uploaded => held = Some(hold(way, Point::Answer, proxy::segments)?),
            Moment::Naming => held = Some(hold(way, Point::Part, proxy::playlists)?),
            Moment::Ending => {
                ordered = Some(now());
                held = Some(drains(recorder, way, s3, bucket)?);
            }
            Moment::Ended => {
                ordered = Some(now());
                held = Some(ends(recorder, way, s3, bucket)?);
            }
        }
        let at = now();
        recorder.process.kill();
        let asked = held.as_ref().map(Hold::stopped).unwrap_or_default();
        if let Some(held) = held {
            held.cut_off();
        }
        let death = Self { at, ordered, asked, ..Self::seen(&recorder.spool(), s3, bucket)? };
        ensure!(death.is_at(moment), "this is not {moment:?}: {death:?}");
        Ok(death)
    }

    fn seen(spool: &Path, s3: &S3, bucket: &str) -> Result<Self> {
        let files = std::fs::read_dir(spool.join("segments"))?.flatten().map(|file| file.file_name().to_string_lossy().into_owned());
        let (parts, spooled) = files.partition(|file| file.ends_with(".part"));
        let state: Value = serde_json::from_slice(&std::fs::read(spool.join("state.json"))?)?;
        let entries = state["tail"].as_array().context("a ledger")?.iter();
        let confirmed = entries.filter(|entry| entry["at"] == "Primary").filter_map(|entry| entry["name"].as_str());
        let playlist = growing(s3, bucket)?;
        Ok(Self {
            at: 0.0,
            ordered: None,
            stored: segments(s3, bucket)?.iter().map(|key| name(key)).collect(),
            named: playlist.segments.iter().map(|segment| segment.uri.clone()).collect(),
            ended: playlist.endlist,
            spooled,
            parts,
            confirmed: confirmed.map(str::to_owned).collect(),
            asked: Vec::new(),
        })
    }

    fn is_at(&self, moment: Moment) -> bool {
        let asked: BTreeSet<String> = self.asked.iter().map(|call| name(&call.key)).collect();
        let unnamed: BTreeSet<String> = self.stored.iter().filter(|name| !self.named.contains(name)).cloned().collect();
        match moment {
            Moment::Writing => asked.is_empty() && unnamed.is_empty() && self.spooled.is_subset(&self.stored) && !self.parts.is_empty(),
            Moment::Uploading => {
                !asked.is_empty() && asked.is_disjoint(&self.stored) && asked.is_subset(&self.spooled) && !self.parts.is_empty()
            }
            Moment::Uploaded => {
                !asked.is_empty() && asked == unnamed && asked.is_subset(&self.spooled) && asked.is_disjoint(&self.confirmed)
            }
            Moment::Naming => self.asked.len() == 1 && proxy::playlists(&self.asked[0]) && !unnamed.is_empty(),
            Moment::Ending => !asked.is_empty() && asked.is_disjoint(&self.stored) && asked == self.spooled && self.parts.is_empty(),
            Moment::Ended => self.ended && unnamed.is_empty() && self.parts.is_empty() && asked.iter().all(|name| name.ends_with(".m3u8")),
        }
    }
}

fn start_to_hold(way: &S3Proxy, point: Point, kind: fn(&Call) -> bool) -> Hold {
    way.hold(point, move |call| call.method == "PUT" && kind(call))
}

/// Until something is held.
fn hold(way: &S3Proxy, point: Point, kind: fn(&Call) -> bool) -> Result<Hold> {
    let held = start_to_hold(way, point, kind);
    held.wait(LIMIT)?;
    Ok(held)
}

/// Until the recording ends.
fn stops(recorder: &mut Attempt) -> Result<()> {
    recorder.order(JobState::Stopped, Some(StopReason::StopRequested))?;
    let drains = || recorder.report().ok().filter(|report| report.state == ReportState::Draining);
    wait_until("an end that has begun", LIMIT, drains).map(drop)
}

/// Until every segment is closed and half in storage, and the manifest says when it ended.
fn drains(recorder: &mut Attempt, way: &S3Proxy, s3: &S3, bucket: &str) -> Result<Hold> {
    stops(recorder)?;
    let held = hold(way, Point::Part, proxy::segments)?;
    let folder = recorder.spool().join("segments");
    let closed = || {
        let files: Vec<_> = std::fs::read_dir(&folder).ok()?.flatten().map(|file| file.file_name()).collect();
        (files.len() == held.stopped().len() && files.iter().all(|file| file.to_string_lossy().ends_with(".ts"))).then_some(())
    };
    wait_until("closed segments, and no others", LIMIT, closed)?;
    let is_over = || manifest_object(s3, bucket).ok()?["tracks"].as_array()?.iter().all(|track| !track["end90k"].is_null()).then_some(());
    wait_until("a manifest with an end", LIMIT, is_over)?;
    Ok(held)
}

/// Until the playlist has its end.
fn ends(recorder: &mut Attempt, way: &S3Proxy, s3: &S3, bucket: &str) -> Result<Hold> {
    stops(recorder)?;
    let mut held = hold(way, Point::Answer, proxy::playlists)?;
    while !growing(s3, bucket)?.endlist {
        // Nothing passes between the two.
        let next = start_to_hold(way, Point::Answer, proxy::playlists);
        held.release();
        next.wait(LIMIT)?;
        held = next;
    }
    Ok(held)
}

/// The playlist in storage, as it grows.
pub fn growing(s3: &S3, bucket: &str) -> Result<Playlist> {
    let key = s3.list(bucket)?.into_iter().find(|key| key.ends_with(".m3u8")).context("a playlist")?;
    Playlist::parse(Path::new(&key), &String::from_utf8(s3.get(bucket, &key)?)?)
}

/// Seconds since 1970.
pub fn now() -> f64 {
    Timestamp::now().as_duration().as_secs_f64()
}

fn name(key: &str) -> String {
    key.rsplit('/').next().unwrap_or_default().to_owned()
}

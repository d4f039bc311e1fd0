//! What must hold of a recording whose recorder died on the way, and of what is said of it.

use crate::death::{Death, Moment};
use crate::moments::{Left, Successor};
use crate::recording::Kind;
use anyhow::{Context, Result, bail, ensure};
use recording_crds::codes::Code;
use recording_crds::exit;
use recording_crds::status::Phase;
use recording_tests::analyser::content;
use recording_tests::analyser::playlist::Playlist;
use recording_tests::attempt::AttemptEnded;
use recording_tests::harness::s3::S3;
use recording_tests::stored::{Gap, Stored};
use serde_json::Value;
use std::ops::Range;

const IDENTITY: &str = "participant-1";
const SEGMENT_SECONDS: f64 = 2.0;
/// What is received is decided about so much later (media.md).
const LINE_SECONDS: f64 = 3.0;
/// The next one's start, and the room's first key frame (contracts.md).
const START_SECONDS: f64 = 6.0;
/// What was received last before a death is on its way to the spool: two turns of the event loop, a picture, and a machine that stands still for
/// a moment. Less than the delay line, which a restart without the journal loses.
const UNNOTED_SECONDS: f64 = 2.0;
/// A stop ends the recording at its moment: an order is seen within a quarter of a second.
const ORDER_SECONDS: f64 = 1.0;
/// Dates have milliseconds, as EXTINF has.
const DATES_AGREE_SECONDS: f64 = 0.01;
/// A gap begins where the newest input was, the hole where media ends.
const GAPS_AGREE_SECONDS: f64 = 0.5;

pub struct Aftermath {
    kind: Kind,
    death: Death,
    successor: Successor,
    left: Left,
    stored: Stored,
    playlist: Playlist,
    /// Of the playlist's segments, seconds since 1970.
    dates: Vec<Range<f64>>,
}

impl Aftermath {
    pub fn read(s3: &S3, bucket: &str, kind: Kind, death: Death, successor: Successor, left: Left) -> Result<Self> {
        let (code, verdict) = recording_tests::verify::in_bucket(s3, bucket, &[])?;
        ensure!(code == 0 && verdict["whole"] == Value::Bool(true), "{verdict:#}");
        let stored = Stored::download(s3, bucket, "acme")?;
        stored.manifest_is_true()?;
        let playlist = stored.only_playlist()?;
        let dates = playlist.dates()?;
        Ok(Self { kind, death, successor, left, stored, playlist, dates })
    }

    pub fn is_one_recording(&self, moment: Moment) -> Result<()> {
        self.confirmed_is_named()?;
        let hole = self.hole_is_told(moment)?;
        self.ends_when_ordered(moment)?;
        self.stays_are_true(moment)?;
        let pictures = self.pictures_follow(moment)?;
        self.status_is_true()?;
        let gaps: Vec<_> = self.stored.manifest.gaps.iter().map(|gap| (gap.reason.as_str(), gap.duration90k / 90)).collect();
        println!("{moment:?}, {:?}: {hole:?}, {pictures:?} pictures in {} segments, {gaps:?}", self.left, self.playlist.segments.len());
        Ok(())
    }

    /// What storage had is in the playlist, in the order in which it was; and what the spool had, if that was left.
    fn confirmed_is_named(&self) -> Result<()> {
        let names: Vec<&String> = self.playlist.segments.iter().map(|segment| &segment.uri).collect();
        ensure!(names.iter().zip(&self.death.named).all(|(now, then)| *now == then), "{:?} became {names:?}", self.death.named);
        let spooled = self.death.spooled.iter().filter(|_| self.left == Left::Spool);
        let missing: Vec<_> = self.death.stored.iter().chain(spooled).filter(|name| !names.contains(name)).collect();
        ensure!(missing.is_empty(), "not named: {missing:?}");
        Ok(())
    }

    /// Where media is missing the playlist says so, and the manifest says how much and why. Where the hole is, seconds before the death and
    /// after the next one's start; none when the recording was to end.
    fn hole_is_told(&self, moment: Moment) -> Result<Option<(f64, f64)>> {
        let breaks: Vec<usize> = (1..self.dates.len()).filter(|i| self.playlist.segments[*i].discontinuity).collect();
        let missing: Vec<usize> = (1..self.dates.len()).filter(|i| self.missing_before(*i).abs() > DATES_AGREE_SECONDS).collect();
        ensure!(breaks == missing, "breaks before {breaks:?}: {:?}", self.dates);
        if moment.is_of_the_end() {
            ensure!(breaks.is_empty(), "{breaks:?}");
            return self.tail_is_told(moment).map(|()| None);
        }
        let [at] = breaks[..] else { bail!("one break, found {breaks:?}") };
        // A segment that the manifest knew, and that the spool alone had, has a gap of its own.
        let told = self.told(|gap| gap.reason == "RecorderRestarted" || self.is_lost_segment(gap))?;
        let restarts = self.stored.manifest.gaps.iter().filter(|gap| gap.reason == "RecorderRestarted").count();
        ensure!(restarts == 1, "{:?}", self.stored.manifest.gaps);
        let hole = self.missing_before(at);
        ensure!((told - hole).abs() <= GAPS_AGREE_SECONDS, "{hole} s are missing, {told} s are told");
        let (before, after) = (self.death.at - self.dates[at - 1].end, self.dates[at].start - self.successor.began);
        ensure!(before <= self.reach(moment) && after <= START_SECONDS, "{before} s before the death, {after} s after the start");
        Ok(Some((before, after)))
    }

    /// Nobody records behind the death: without the spool the end is missing, if storage did not have it.
    fn tail_is_told(&self, moment: Moment) -> Result<()> {
        let told = self.told(|gap| self.is_lost_segment(gap) || self.left == Left::StorageAlone && gap.reason == "RecorderRestarted")?;
        let missing = self.successor.ordered - self.dates.last().context("segments")?.end;
        match (self.left, moment) {
            (Left::StorageAlone, Moment::Ending) => {
                ensure!((missing..=missing + ORDER_SECONDS).contains(&told), "{missing} s are missing, {told} s are told");
            }
            _ => ensure!(told == 0.0, "{told} s are told"),
        }
        Ok(())
    }

    fn missing_before(&self, segment: usize) -> f64 {
        self.dates[segment].start - self.dates[segment - 1].end
    }

    fn is_lost_segment(&self, gap: &Gap) -> bool {
        self.left == Left::StorageAlone && gap.reason == "SegmentLost"
    }

    /// Seconds of all gaps, which are closed, and of such causes.
    fn told(&self, cause: impl Fn(&Gap) -> bool) -> Result<f64> {
        let gaps = &self.stored.manifest.gaps;
        ensure!(gaps.iter().all(|gap| !gap.open && cause(gap)), "{gaps:?}");
        Ok(seconds(gaps))
    }

    /// How long before the death the newest media is that is left. In storage is what had left the delay line when a segment was closed, just
    /// before these moments, unless that one was on its way.
    fn reach(&self, moment: Moment) -> f64 {
        match (self.left, moment) {
            (Left::Spool, _) | (_, Moment::Ended) => UNNOTED_SECONDS,
            (Left::StorageAlone, Moment::Writing | Moment::Uploaded | Moment::Naming) => LINE_SECONDS + UNNOTED_SECONDS,
            (Left::StorageAlone, Moment::Uploading | Moment::Ending) => LINE_SECONDS + SEGMENT_SECONDS + UNNOTED_SECONDS,
        }
    }

    fn ends_when_ordered(&self, moment: Moment) -> Result<()> {
        let end = self.dates.last().context("segments")?.end - self.successor.ordered;
        let may_lack = if moment.is_of_the_end() { self.reach(moment) } else { UNNOTED_SECONDS };
        ensure!((-may_lack..=ORDER_SECONDS).contains(&end), "it ends {end} s after the order");
        Ok(())
    }

    /// Somebody was there until the death, as far as is known, and from when the next recorder joined to the end. One that is to end joins no room.
    fn stays_are_true(&self, moment: Moment) -> Result<()> {
        let stays = self.stored.stays(IDENTITY).iter().map(|(start, end)| Some(self.date(*start)?..self.date((*end)?)?));
        let stays: Vec<Range<f64>> = stays.collect::<Option<_>>().context("an open stay")?;
        ensure!(stays.len() == rooms(moment), "{stays:?}");
        for source in ["Camera", "Microphone"] {
            let tracks = self.stored.tracks(IDENTITY, source);
            ensure!(tracks.len() == rooms(moment), "{tracks:?}");
        }
        let end = stays[stays.len() - 1].end - self.successor.ordered;
        ensure!((-UNNOTED_SECONDS..=ORDER_SECONDS).contains(&end), "the last stay ends {end} s after the order");
        if let [first, second] = &stays[..] {
            let (before, after) = (self.death.at - first.end, second.start - self.successor.began);
            ensure!((0.0..=self.reach(moment)).contains(&before), "it was there until {before} s before the death");
            ensure!((0.0..=START_SECONDS).contains(&after), "it is there {after} s after the start");
        }
        Ok(())
    }

    /// Seconds since 1970.
    fn date(&self, media90k: i64) -> Option<f64> {
        let first = self.stored.manifest.tail.iter().find(|entry| entry.name == self.playlist.segments[0].uri)?;
        Some(self.dates[0].start + (media90k - first.start90k) as f64 / 90_000.0)
    }

    /// Pictures of the first room, then of the second (another process numbers from 0 again), none twice, and as many as came: the room leaves
    /// out what is late, as it is on a starved machine. How many came before a death storage does not know.
    fn pictures_follow(&self, moment: Moment) -> Result<Vec<usize>> {
        let video = content::video(&self.playlist)?;
        ensure!(video.undecodable == 0 && video.backwards == 0, "{} without a code", video.undecodable);
        let mut numbers: Vec<u32> = video.frames.iter().filter_map(|frame| frame.code).map(|code| code.frame).collect();
        // The clock of a composite shows a picture again, may have the second nearer to its first tick, and what came behind its last is not shown.
        let beside = u32::from(self.kind == Kind::Composite);
        if beside == 1 {
            numbers.dedup();
        }
        let shown = shown(&numbers);
        ensure!(shown.len() == rooms(moment) && shown.iter().all(|room| room[0] <= beside), "{shown:?}");
        let unknown = usize::from(self.left == Left::StorageAlone);
        for (room, track) in shown.iter().zip(self.stored.tracks(IDENTITY, "Camera")).skip(unknown) {
            let (written, late) = (room.len() as u64 + u64::from(room[0]), track.received_units - track.written_units);
            ensure!(late <= u64::from(beside) && track.written_units == written, "{track:?}: {room:?}");
        }
        Ok(shown.iter().map(Vec::len).collect())
    }

    fn status_is_true(&self) -> Result<()> {
        let AttemptEnded { exit_code, report, status, log, .. } = &self.successor.ended;
        let result = status.result.as_ref().map(|result| result.reason);
        ensure!(*exit_code == exit::RESULT && status.phase == Some(Phase::Completed), "{status:?}\n{log}");
        ensure!(result == Some(Code::StopRequested), "{result:?}");
        let (gaps, files) = (&self.stored.manifest.gaps, self.playlist.segments.len() as u64);
        let lost = self.stored.manifest.tail.iter().filter(|entry| entry.at.as_deref() == Some("Lost")).count() as u64;
        let counters = &report.counters;
        ensure!(counters.uploaded_files == files && counters.recorded_files == files + lost, "{files} files, {lost} lost: {counters:?}");
        ensure!(counters.recorded_seconds == self.playlist.duration() as u64, "{} s: {counters:?}", self.playlist.duration());
        ensure!(
            report.gaps.count == gaps.len() as u64 && (report.gaps.seconds - seconds(gaps)).abs() < 0.001,
            "{gaps:?}: {:?}",
            report.gaps
        );
        ensure!(report.backlog_seconds == 0 && report.degraded.is_empty(), "{report:?}");
        Ok(())
    }
}

/// Each process opens the built-in room once.
fn rooms(moment: Moment) -> usize {
    if moment.is_of_the_end() { 1 } else { 2 }
}

fn seconds(gaps: &[Gap]) -> f64 {
    gaps.iter().map(|gap| gap.duration90k).sum::<i64>() as f64 / 90_000.0
}

/// Numbers of pictures of each room: they rise.
fn shown(numbers: &[u32]) -> Vec<Vec<u32>> {
    let mut rooms: Vec<Vec<u32>> = Vec::new();
    for &number in numbers {
        match rooms.last_mut().filter(|room| room.last() < Some(&number)) {
            Some(room) => room.push(number),
            None => rooms.push(vec![number]),
        }
    }
    rooms
}

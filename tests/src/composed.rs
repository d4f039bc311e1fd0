//! A LiveKit room that is recorded as one picture into a folder, while what its layout says changes.

use crate::analyser::playlist::Playlist;
use crate::harness::livekit::LiveKit;
use crate::harness::process::wait_until;
use crate::local::{Local, livekit_to_folder, recorder_log};
use crate::stored::{Stored, sound};
use anyhow::{Context, Result, ensure};
use recording_crds::status::Phase;
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);
/// The least there is: tests wait for segments.
const SEGMENT_SECONDS: u32 = 2;
/// After the last one has left.
const IDLE_SECONDS: u32 = 5;

pub struct Composed<'a> {
    livekit: &'a LiveKit,
    room: String,
    pub recording: Local,
    generation: i64,
    folder: TempDir,
}

/// What is stored of it.
pub struct Taken {
    pub playlist: Playlist,
    pub stored: Stored,
    /// Removed with this.
    _folder: TempDir,
}

impl<'a> Composed<'a> {
    /// `layout`: the field's value, in YAML's flow style.
    pub fn start(livekit: &'a LiveKit, room: &str, layout: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let flags = ["--output", &folder.path().display().to_string(), "--follow"];
        let recording = Local::start(&manifest(livekit, room, layout), &flags)?;
        Ok(Self { livekit, room: room.to_owned(), recording, generation: 1, folder })
    }

    /// Another layout; returns when it is in force.
    pub fn order(&mut self, layout: &str) -> Result<()> {
        self.generation += 1;
        self.recording.save(&manifest(self.livekit, &self.room, layout))?;
        self.recording.wait_for_generation(self.generation, SOON)
    }

    pub fn wait_for_people(&self, people: u32) -> Result<()> {
        let counted = || self.recording.report().ok().filter(|report| report.participants == people);
        wait_until(&format!("{people} people in the room"), SOON, counted).map(drop)
    }

    /// Until so many more seconds are in finished segments; these end some seconds before now.
    pub fn wait_for_media(&self, seconds: u64) -> Result<()> {
        let recorded = || Some(self.recording.report().ok()?.counters.recorded_seconds);
        let before = wait_until("the recorder's report", SOON, recorded)?;
        let more = wait_until(&format!("{seconds} s more"), SOON, || recorded().filter(|now| *now >= before + seconds));
        more.map(drop).with_context(|| format!("{:?}\n{}", self.recording.report(), recorder_log(&self.recording.state())))
    }

    /// After everybody has left: complete, without a gap, and sound as [`sound`] says.
    pub fn finish(self) -> Result<Taken> {
        let ended = self.recording.wait(SOON * 2)?;
        let status = ended.status()?;
        ensure!(status.phase == Some(Phase::Completed), "{}\n{}", ended.said, ended.recorder_log());
        ensure!(status.gap_count.unwrap_or(0) == 0, "{status:?}");
        let playlist = sound(&self.folder.path().join(status.playlist.clone().context("a playlist's name")?))?;
        let stored = Stored::open(self.folder.path())?;
        stored.manifest_is_true()?;
        Ok(Taken { playlist, stored, _folder: self.folder })
    }
}

fn manifest(livekit: &LiveKit, room: &str, layout: &str) -> String {
    let composite = format!("mode: Composite\n  output: {{hls: {{segmentSeconds: {SEGMENT_SECONDS}}}}}\n  layout: {layout}\n");
    livekit_to_folder(livekit, room, IDLE_SECONDS).replace("mode: Individual\n", &composite)
}

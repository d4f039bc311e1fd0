//! Where an act plays: shared servers, a room and a bucket of its own, the people in it, and the recording.

use anyhow::{Context, Result, ensure};
use recording_crds::RecordingStatus;
use recording_crds::codes::Code;
use recording_crds::conditions::{DEGRADED, find};
use recording_tests::attempt::Attempt;
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::{Process, wait_until};
use recording_tests::harness::s3::S3;
use recording_tests::local::{self, Ended, Local};
use recording_tests::sweep::{Forbidden, Watcher};
use std::time::Duration;

/// Nothing here takes longer.
pub const LIMIT: Duration = Duration::from_secs(150);
/// The least the API allows: seconds until a room is called empty.
const IDLE_SECONDS: u32 = 5;
/// The least the API allows.
const SEGMENT_SECONDS: u32 = 2;
/// The person whom no log may name; the `@` is escaped in object names.
pub const ZOE: &str = "zoe@private.example";
const PRIVATE: &str = "private.example";
/// A small picture: endings are not about pictures.
const LIGHT: [&str; 6] = ["--size", "320x180", "--fps", "10", "--seconds", "150"];

/// What all cases share.
pub struct World {
    pub livekit: LiveKit,
    pub s3: S3,
}

impl World {
    pub fn start() -> Result<Self> {
        Ok(Self { livekit: LiveKit::start()?, s3: S3::start()? })
    }
}

pub struct Scene<'a> {
    pub world: &'a World,
    /// Of the case, its room, its recording and its bucket.
    pub name: &'static str,
    pub forbidden: Forbidden,
}

/// A recording that is over.
pub struct Over {
    pub exit_code: i32,
    pub status: Option<RecordingStatus>,
    /// Everything that was said, logs too.
    pub said: String,
    pub termination_message: Option<String>,
}

/// `local` at work, watched.
pub struct Running {
    pub local: Local,
    watcher: Watcher,
}

impl<'a> Scene<'a> {
    pub fn new(world: &'a World, name: &'static str) -> Result<Self> {
        world.s3.create_bucket(name)?;
        let mut forbidden = Forbidden::default();
        for secret in [world.livekit.api_key(), world.livekit.api_secret(), world.s3.access_key(), world.s3.secret_key()] {
            forbidden.secret(secret);
        }
        forbidden.person(PRIVATE);
        Ok(Self { world, name, forbidden })
    }

    /// The Recording of this scene with its Secrets; `more`: further lines of its spec.
    pub fn manifest(&self, more: &str) -> String {
        self.manifest_for(&self.world.livekit, more)
    }

    /// The same in a room of another server.
    pub fn manifest_for(&self, livekit: &LiveKit, more: &str) -> String {
        let text = local::livekit_to_s3(livekit, &self.world.s3, self.name, self.name, IDLE_SECONDS, SEGMENT_SECONDS);
        more.lines().fold(text, |text, line| with(text, line.trim()))
    }

    pub fn record(&self, manifest: &str, flags: &[&str]) -> Result<Running> {
        Ok(self.watch(Local::start(manifest, flags)?))
    }

    pub fn watch(&self, local: Local) -> Running {
        let watcher = Watcher::start(local.process.pid(), local.state(), self.forbidden.clone());
        Running { local, watcher }
    }

    pub fn watch_attempt(&self, attempt: &Attempt) -> Watcher {
        Watcher::start(attempt.process.pid(), attempt.folder().to_owned(), self.forbidden.clone())
    }

    /// Zoe, with camera and microphone, until she is told to leave ([`leave`]).
    pub fn zoe(&self) -> Result<Process> {
        self.zoe_at(&self.world.livekit)
    }

    pub fn zoe_at(&self, livekit: &LiveKit) -> Result<Process> {
        self.person(livekit, ZOE, &[])
    }

    pub fn person(&self, livekit: &LiveKit, identity: &str, flags: &[&str]) -> Result<Process> {
        local::publisher(livekit, self.name, identity, 1, &[&LIGHT[..], flags].concat())
    }

    /// Until so many more segments are in storage than there are now.
    pub fn wait_for_segments(&self, more: usize) -> Result<()> {
        let count = self.segments()?.len() + more;
        let stored = || self.segments().ok().filter(|segments| segments.len() >= count);
        wait_until(&format!("{count} segments in storage"), LIMIT, stored).map(drop)
    }

    pub fn segments(&self) -> Result<Vec<String>> {
        let mut keys = self.world.s3.list(self.name)?;
        keys.retain(|key| key.ends_with(".ts"));
        Ok(keys)
    }

    /// The recorder's identity in the room, as the room service tells it.
    pub fn recorder_identity(&self) -> Result<String> {
        let list = || {
            let answer = self.world.livekit.room_service("ListParticipants", serde_json::json!({"room": self.name})).ok()?;
            let people = answer["participants"].as_array()?.clone();
            let mut active = people.iter().filter(|person| person["state"] == "ACTIVE");
            active.find_map(|person| person["identity"].as_str().filter(|name| name.starts_with("recorder-")).map(str::to_owned))
        };
        wait_until("the recorder in the room", LIMIT, list)
    }
}

/// A line of the spec in place of the one with its key, or in addition.
fn with(manifest: String, line: &str) -> String {
    let key = line.split(':').next().unwrap_or_default().to_owned() + ":";
    let kept: Vec<&str> = manifest.lines().filter(|old| !(old.starts_with("  ") && old.trim_start().starts_with(&key))).collect();
    kept.join("\n").replace("\nspec:\n", &format!("\nspec:\n  {line}\n")) + "\n"
}

/// Tells somebody to leave, and waits until they are gone.
pub fn leave(mut person: Process) -> Result<()> {
    person.write_line("quit")?;
    ensure!(person.wait(LIMIT)?.success(), "{}", person.log());
    Ok(())
}

impl Running {
    /// Until the status says so, while it lasts; needs `--follow`.
    pub fn wait_to_be_degraded(&mut self, code: Code) -> Result<()> {
        let log = self.local.process.log_path().to_owned();
        let told = |line: &str| {
            let status: RecordingStatus = serde_json::from_str(line).unwrap_or_default();
            let degraded = find(&status.conditions, DEGRADED);
            degraded.is_some_and(|degraded| degraded.status == "True" && degraded.reason == code.as_str())
        };
        self.local
            .process
            .wait_until(&format!("Degraded by {code}"), LIMIT, || std::fs::read_to_string(&log).ok()?.lines().any(told).then_some(()))
    }

    pub fn wait_to_be_watched(&self) -> Result<()> {
        self.watcher.wait_for_a_report(LIMIT)
    }

    pub fn wait(self) -> Result<Over> {
        Ok(Over::from(self.end()?))
    }

    /// To its end, and nothing that must not be seen was seen on the way.
    pub fn end(self) -> Result<Ended> {
        let ended = self.local.wait(LIMIT)?;
        self.watcher.finish().with_context(|| ended.said.clone())?;
        Ok(ended)
    }
}

impl From<Ended> for Over {
    fn from(ended: Ended) -> Self {
        let said = format!("{}\n{}", ended.said, ended.recorder_log());
        Self { exit_code: ended.exit_code, termination_message: ended.termination_message(), status: ended.status, said }
    }
}

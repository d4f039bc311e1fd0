//! Many participants at once, from pre-encoded files: tests/tools/load, and the files that it sends.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::harness::livekit::LiveKit;
use crate::harness::process::{Process, Spec, run};
use crate::harness::{python, tool, workspace};

/// What tests/stimulus/preencode.py is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stimulus {
    /// Id in the block code.
    pub participant: u8,
    pub width: u32,
    pub height: u32,
    pub frames_per_second: u32,
    /// The files are repeated after this, and with them the numbers in the picture.
    pub seconds: u32,
    /// Video; None: what the flat picture needs.
    pub kbps: Option<u32>,
}

/// A pair of files, `<prefix>.h264` and `<prefix>.ogg`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Media {
    pub prefix: PathBuf,
    pub frames_per_second: u32,
}

impl Stimulus {
    /// 720p30 at 1.8 Mbit/s: what the benchmarks send.
    pub const CAMERA_720P30: Self = Self { participant: 0, width: 1280, height: 720, frames_per_second: 30, seconds: 20, kbps: Some(1800) };

    /// Made once and kept under `target/stimulus`, as long as the scripts that draw it stay the same.
    pub fn media(&self) -> Result<Media> {
        let scripts = workspace().join("tests/stimulus");
        let mut version = DefaultHasher::new();
        for script in ["preencode.py", "block_code.py"] {
            std::fs::read(scripts.join(script))?.hash(&mut version);
        }
        self.hash(&mut version);
        let folder = workspace().join("target/stimulus").join(format!("{:016x}", version.finish()));
        let media = Media { prefix: folder.join("media"), frames_per_second: self.frames_per_second };
        if !folder.exists() {
            self.encode(&scripts.join("preencode.py"), &folder)?;
        }
        Ok(media)
    }

    /// In a folder beside, so that what was interrupted is never taken for whole.
    fn encode(&self, script: &Path, folder: &Path) -> Result<()> {
        let parent = folder.parent().context("the folder has a parent")?;
        std::fs::create_dir_all(parent)?;
        let unfinished = tempfile::tempdir_in(parent)?;
        let mut args = vec![script.display().to_string(), unfinished.path().join("media").display().to_string()];
        args.extend(["--participant".into(), self.participant.to_string()]);
        args.extend(["--size".into(), format!("{}x{}", self.width, self.height)]);
        args.extend(["--fps".into(), self.frames_per_second.to_string(), "--seconds".into(), self.seconds.to_string()]);
        args.extend(self.kbps.into_iter().flat_map(|kbps| ["--kbps".into(), kbps.to_string()]));
        run(python()?, args)?;
        match std::fs::rename(unfinished.path(), folder) {
            // Somebody else was quicker with the same.
            Err(_) if folder.exists() => Ok(()),
            renamed => renamed.context("failed to keep the stimulus"),
        }
    }
}

/// Where the load publisher sends to.
#[derive(Clone, Debug)]
pub enum Target<'a> {
    LiveKit {
        server: &'a LiveKit,
        room: &'a str,
    },
    /// An endpoint that takes WHIP offers; `%d` becomes the participant's number.
    Whip(String),
    /// Janus' HTTP API and a room of its videoroom plugin.
    Janus {
        api: String,
        room: u32,
    },
    /// SRTP under the publisher's fixed key, participant n to port + n.
    Srtp(String),
}

impl Target<'_> {
    fn args(&self) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match self {
            Self::LiveKit { server, room } => {
                let (key, secret) = (server.api_key(), server.api_secret());
                words(&["-livekit", &server.url(), "-room", room, "-api-key", key, "-api-secret", secret])
            }
            Self::Whip(url) => words(&["-whip", url]),
            Self::Janus { api, room } => words(&["-janus", api, "-janus-room", &room.to_string()]),
            Self::Srtp(address) => words(&["-srtp", address]),
        }
    }
}

/// Identities are `load-0`, `load-1` and so on; `flags` as `load-publisher -h` lists them. It ends by itself after `seconds`.
pub fn publish(target: &Target<'_>, media: &Media, participants: u32, seconds: f64, flags: &[&str]) -> Result<Process> {
    Spec::new("load", tool("load-publisher")?)?
        .args(target.args())
        .arg("-media")
        .arg(&media.prefix)
        .args(["-fps", &media.frames_per_second.to_string(), "-participants", &participants.to_string()])
        .args(["-seconds", &seconds.to_string()])
        .args(flags)
        .spawn()
}

/// What one track was given to the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// Access units or Opus packets.
    pub units: u64,
    pub packets: u64,
    /// Payload.
    pub bytes: u64,
    pub key_frames: u64,
    pub key_frame_requests: u64,
    pub nacks: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SentByOne {
    pub identity: String,
    pub video: Option<Sent>,
    pub audio: Option<Sent>,
}

/// By identity, from the log of a publisher that has ended well.
pub fn sent(log: &str) -> Result<BTreeMap<String, SentByOne>> {
    let lines = log.lines().filter(|line| line.contains(r#""event":"sent""#));
    let people = lines.map(|line| serde_json::from_str::<SentByOne>(line).with_context(|| line.to_owned()));
    let people: BTreeMap<String, SentByOne> = people.map(|person| person.map(|p| (p.identity.clone(), p))).collect::<Result<_>>()?;
    ensure!(!people.is_empty(), "the load publisher did not say what it sent: {log}");
    Ok(people)
}

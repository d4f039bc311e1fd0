//! Plays a recording in a real player: hls.js in headless Chromium, driven by `tests/player/player.mjs`.

use super::playlist::Playlist;
use anyhow::{Context, Result, anyhow, ensure};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A viewer takes a hitch of half a second for a fault; hls.js itself nudges over smaller holes.
pub const MAX_STALL_MS: f64 = 500.0;

#[derive(Debug, Clone, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlayerReport {
    /// hls.js gave up, or the media element failed.
    pub fatal_errors: Vec<String>,
    /// hls.js helped itself.
    pub errors: Vec<String>,
    pub stalls: u32,
    pub longest_stall_ms: f64,
    /// Seconds, as the player sees it.
    pub duration: f64,
    pub played_to: f64,
    pub ended: bool,
    /// Sizes of the picture, in the order in which they came.
    pub sizes: Vec<(u32, u32)>,
    pub start_up_ms: f64,
    pub dropped_frames: u64,
}

impl PlayerReport {
    /// What a viewer asks for: to the end, without a fatal error or a visible stall.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.ended && self.fatal_errors.is_empty() && self.longest_stall_ms <= MAX_STALL_MS
    }
}

/// Players that run at once without disturbing each other on two cores, at a tenth of a core each.
const AT_ONCE: usize = 3;

/// Plays several recordings with the default player; reports in their order.
pub fn play_all(playlists: &[Playlist]) -> Result<Vec<PlayerReport>> {
    let mut reports = vec![];
    for some in playlists.chunks(AT_ONCE) {
        let played: Vec<Result<PlayerReport>> = std::thread::scope(|scope| {
            let players: Vec<_> = some.iter().map(|playlist| scope.spawn(|| play(playlist))).collect();
            players.into_iter().map(|player| player.join().unwrap_or_else(|_| Err(anyhow!("a player panicked")))).collect()
        });
        reports.extend(played.into_iter().collect::<Result<Vec<_>>>()?);
    }
    Ok(reports)
}

/// Where the script and the node modules are.
#[derive(Debug, Clone)]
pub struct Player {
    pub script: PathBuf,
    pub node_modules: PathBuf,
    pub chromium: PathBuf,
    /// Faster than life where a test can afford it; stalls are measured in wall time.
    pub rate: f64,
}

impl Default for Player {
    fn default() -> Self {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let workspace = tests.parent().unwrap_or(tests);
        Self {
            script: tests.join("player/player.mjs"),
            node_modules: workspace.join("target/player/node_modules"),
            chromium: "/usr/bin/chromium".into(),
            rate: 1.0,
        }
    }
}

/// A stall of the recording is there each time; one of a busy machine is not.
const TRIES: usize = 3;

/// Plays to the end with the default player; again where it only stalled.
pub fn play(playlist: &Playlist) -> Result<PlayerReport> {
    let mut report = Player::default().play(playlist)?;
    for _ in 1..TRIES {
        if report.longest_stall_ms <= MAX_STALL_MS || !report.ended || !report.fatal_errors.is_empty() {
            break;
        }
        report = Player::default().play(playlist)?;
    }
    Ok(report)
}

impl Player {
    pub fn play(&self, playlist: &Playlist) -> Result<PlayerReport> {
        ensure!(self.node_modules.join("hls.js").is_dir(), "no hls.js in {}: make tools", self.node_modules.display());
        let out = Command::new("node")
            .arg(&self.script)
            .arg("--modules")
            .arg(&self.node_modules)
            .arg("--chromium")
            .arg(&self.chromium)
            .args(["--rate", &self.rate.to_string()])
            .arg(&playlist.path)
            .stdin(Stdio::null())
            .output()
            .context("failed to start node")?;
        let stderr = String::from_utf8_lossy(&out.stderr);
        ensure!(out.status.success(), "the player failed: {}", stderr.trim());
        serde_json::from_slice(&out.stdout).with_context(|| format!("no report from the player: {}", stderr.trim()))
    }
}

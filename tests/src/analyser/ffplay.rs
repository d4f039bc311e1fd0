//! Plays a recording in FFmpeg's own player, without a window and a loudspeaker, as fast as life.

use super::playlist::Playlist;
use anyhow::{Context, Result, anyhow, ensure};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Opening the input and the devices.
const START_UP: Duration = Duration::from_secs(4);

/// A stall of the recording is there each time; one of a busy machine is not.
const TRIES: usize = 3;

/// How a playing went.
#[derive(Debug, Clone, PartialEq)]
pub struct Played {
    /// Lines of level error.
    pub complaints: Vec<String>,
    pub took: Duration,
}

impl Played {
    /// Without a complaint, in the time that it lasts: a stall would take longer, a part that is left out less.
    pub fn check(&self, playlist: &Playlist) -> Result<()> {
        let lasts = lasts(playlist);
        ensure!(self.complaints.is_empty(), "{}: {:?}", playlist.path.display(), self.complaints);
        let on_time = self.took + Duration::from_secs(1) >= lasts && !self.is_late(playlist);
        ensure!(on_time, "{}: lasts {lasts:?}, took {:?}", playlist.path.display(), self.took);
        Ok(())
    }

    fn is_late(&self, playlist: &Playlist) -> bool {
        self.took > lasts(playlist) + START_UP
    }
}

fn lasts(playlist: &Playlist) -> Duration {
    Duration::from_secs_f64(playlist.duration())
}

/// All of them at once; in their order. What was late plays again, alone.
pub fn play_all(playlists: &[Playlist]) -> Result<Vec<Played>> {
    let mut all: Vec<Played> = std::thread::scope(|scope| {
        let players: Vec<_> = playlists.iter().map(|playlist| scope.spawn(|| play(playlist))).collect();
        players.into_iter().map(|player| player.join().unwrap_or_else(|_| Err(anyhow!("a player panicked")))).collect::<Result<_>>()
    })?;
    for (playlist, played) in playlists.iter().zip(&mut all) {
        for _ in 1..TRIES {
            if played.is_late(playlist) {
                *played = play(playlist)?;
            }
        }
    }
    Ok(all)
}

pub fn play(playlist: &Playlist) -> Result<Played> {
    let start = Instant::now();
    let out = Command::new("ffplay")
        .args(["-hide_banner", "-nostats", "-autoexit", "-loglevel", "error"])
        .arg(&playlist.path)
        .env("SDL_VIDEODRIVER", "dummy")
        .env("SDL_AUDIODRIVER", "dummy")
        .stdin(Stdio::null())
        .output()
        .context("failed to start ffplay")?;
    let complaints: Vec<String> = String::from_utf8_lossy(&out.stderr).lines().map(str::to_owned).collect();
    ensure!(out.status.success(), "ffplay failed: {complaints:?}");
    Ok(Played { complaints, took: start.elapsed() })
}

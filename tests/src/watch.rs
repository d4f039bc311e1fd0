//! Somebody who reads the playlists while they grow.

use crate::analyser::playlist::{Playlist, is_comment};
use crate::harness::s3::Objects;
use anyhow::{Result, anyhow, ensure};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// A store that was killed answers again within this time.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// Runs `work` while a reader looks at a bucket; how often it looked. Whatever it found wrong is an error.
pub fn while_watching<T>(store: &Objects, bucket: &str, work: impl FnOnce() -> Result<T>) -> Result<(T, u32)> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| Reader::default().read(store, bucket, &over));
        let result = work();
        over.store(true, Ordering::Relaxed);
        let looks = reader.join().map_err(|_| anyhow!("the reader panicked"))?;
        match (result, looks) {
            (Ok(result), Ok(looks)) => Ok((result, looks)),
            (Err(error), Err(found)) => Err(error.context(format!("the reader found: {found:#}"))),
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    })
}

/// The last text of every playlist.
#[derive(Default)]
struct Reader(BTreeMap<String, String>);

/// What has changed, and what was there afterwards.
struct Look {
    changed: Vec<(String, String)>,
    there: HashSet<String>,
}

impl Reader {
    fn read(mut self, store: &Objects, bucket: &str, over: &AtomicBool) -> Result<u32> {
        let (mut looks, mut answered) = (0, Instant::now());
        while !over.load(Ordering::Relaxed) {
            match self.look(store, bucket) {
                Ok(look) => {
                    self.judge(look)?;
                    (looks, answered) = (looks + 1, Instant::now());
                }
                Err(error) => ensure!(answered.elapsed() < AWAY_MAX, "the store does not answer: {error:#}"),
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        Ok(looks)
    }

    fn look(&self, store: &Objects, bucket: &str) -> Result<Look> {
        let mut changed = Vec::new();
        for key in store.list(bucket)?.into_iter().filter(|key| key.ends_with(".m3u8")) {
            let text = without_comments(&String::from_utf8(store.get(bucket, &key)?)?);
            if self.0.get(&key) != Some(&text) {
                changed.push((key, text));
            }
        }
        let there = if changed.is_empty() { Vec::new() } else { store.list(bucket)? };
        Ok(Look { changed, there: there.into_iter().collect() })
    }

    /// But for comments (they say which attempt wrote it) an EVENT playlist only grows at its end, keeps its target duration, and names only what is
    /// there.
    fn judge(&mut self, look: Look) -> Result<()> {
        for (key, text) in look.changed {
            let before = self.0.get(&key).map_or("", String::as_str);
            ensure!(text.starts_with(before), "{key} was rewritten:\n{before}\nis now\n{text}");
            let grown = Playlist::parse(Path::new(&key), &text)?;
            let known = if before.is_empty() { 0 } else { Playlist::parse(Path::new(&key), before)?.segments.len() };
            for segment in &grown.segments[known..] {
                let object = Path::new(&key).with_file_name(&segment.uri).to_string_lossy().into_owned();
                ensure!(look.there.contains(&object), "{key} names {object}, which is not there");
            }
            self.0.insert(key, text);
        }
        Ok(())
    }
}

fn without_comments(playlist: &str) -> String {
    playlist.lines().filter(|line| !is_comment(line)).flat_map(|line| [line, "\n"]).collect()
}

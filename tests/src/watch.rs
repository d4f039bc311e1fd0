//! Somebody who reads the playlists while they grow.

use crate::analyser::playlist::{Playlist, is_comment};
use crate::harness::s3::S3;
use anyhow::{Context, Result, anyhow, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Runs `work` while a reader looks at a bucket; how often it looked. Whatever it found wrong is an error.
pub fn while_watching<T>(s3: &S3, bucket: &str, work: impl FnOnce() -> Result<T>) -> Result<(T, u32)> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| Reader::default().read(s3, bucket, &over));
        let result = work();
        over.store(true, Ordering::Relaxed);
        let looks = reader.join().map_err(|_| anyhow!("the reader panicked"))?;
        Ok((result?, looks?))
    })
}

/// The last text of every playlist.
#[derive(Default)]
struct Reader(BTreeMap<String, String>);

impl Reader {
    fn read(mut self, s3: &S3, bucket: &str, over: &AtomicBool) -> Result<u32> {
        let mut looks = 0;
        while !over.load(Ordering::Relaxed) {
            for key in s3.list(bucket)?.into_iter().filter(|k| k.ends_with(".m3u8")) {
                let text = String::from_utf8(s3.get(bucket, &key)?)?;
                self.look(s3, bucket, key, text)?;
            }
            looks += 1;
            std::thread::sleep(BETWEEN_LOOKS);
        }
        Ok(looks)
    }

    /// But for comments (they say which attempt wrote it) an EVENT playlist only grows at its end, keeps its target duration, and names only what is there.
    fn look(&mut self, s3: &S3, bucket: &str, key: String, text: String) -> Result<()> {
        let before = self.0.get(&key).map_or("", String::as_str);
        let text = without_comments(&text);
        if text == before {
            return Ok(());
        }
        ensure!(text.starts_with(before), "{key} was rewritten:\n{before}\nis now\n{text}");
        let grown = Playlist::parse(Path::new(&key), &text)?;
        let known = if before.is_empty() { 0 } else { Playlist::parse(Path::new(&key), before)?.segments.len() };
        for segment in &grown.segments[known..] {
            let object = Path::new(&key).with_file_name(&segment.uri).to_string_lossy().into_owned();
            s3.head(bucket, &object).with_context(|| format!("{key} names {object}, which is not there"))?;
        }
        self.0.insert(key, text);
        Ok(())
    }
}

fn without_comments(playlist: &str) -> String {
    playlist.lines().filter(|line| !is_comment(line)).flat_map(|line| [line, "\n"]).collect()
}

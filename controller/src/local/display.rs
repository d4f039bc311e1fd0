//! What a person sees while a recording runs, and at its end. The status itself goes to standard output, everything else to standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use recording_crds::recording::RecordingSpec;
use recording_crds::status::{Phase, RecordingStatus};
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

/// How the final status is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    Yaml,
    Json,
}

/// A bar on a terminal, plain lines elsewhere.
#[derive(Debug)]
pub(super) struct Display {
    bar: Option<ProgressBar>,
    follow: bool,
    last: Option<RecordingStatus>,
}

impl Display {
    /// `follow`: every change of the status as one JSON line on standard output.
    pub(super) fn new(spec: &RecordingSpec, follow: bool) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(spec));
        Self { bar, follow, last: None }
    }

    /// A sentence of its own, above the bar.
    pub(super) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    pub(super) fn show(&mut self, status: &RecordingStatus) {
        if self.last.as_ref() == Some(status) {
            return;
        }
        if self.follow {
            println!("{}", serde_json::to_string(status).unwrap_or_default());
        }
        let recorded = status.progress.as_ref().map_or(0, |p| p.recorded_seconds);
        match &self.bar {
            Some(bar) => {
                bar.set_position(u64::try_from(recorded).unwrap_or(0));
                bar.set_message(sentence(status));
            }
            None if self.is_news(status) => eprintln!("{}", sentence(status)),
            None => {}
        }
        self.last = Some(status.clone());
    }

    /// Without a terminal: a line when the phase changes or another file is stored, not every second.
    fn is_news(&self, status: &RecordingStatus) -> bool {
        let stored = |s: &RecordingStatus| s.progress.as_ref().map(|p| p.uploaded_files);
        self.last.as_ref().is_none_or(|last| last.phase != status.phase || stored(last) != stored(status))
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(spec: &RecordingSpec) -> ProgressBar {
    let (bar, template) = match &spec.channel.test_pattern {
        Some(pattern) => {
            let seconds = u64::try_from(pattern.duration_seconds).unwrap_or(0);
            (ProgressBar::new(seconds), "{bar:30} {pos}/{len} s  {msg}")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {pos} s  {msg}"),
    };
    bar.set_draw_target(ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

/// The status in one line.
pub(super) fn sentence(status: &RecordingStatus) -> String {
    let mut text = status.phase.unwrap_or(Phase::Pending).as_str().to_owned();
    if let Some(count) = status.participant_count {
        text += &format!(", {count} participant{}", if count == 1 { "" } else { "s" });
    }
    if let Some(progress) = &status.progress {
        text +=
            &format!(", {} s recorded, {} of {} files stored", progress.recorded_seconds, progress.uploaded_files, progress.recorded_files);
    }
    if let Some(gaps) = status.gap_count.filter(|&n| n > 0) {
        text += &format!(", {gaps} gap{}", if gaps == 1 { "" } else { "s" });
    }
    if let Some(failure) = &status.failure {
        text += &format!(": {}", failure.code);
    }
    text
}

pub(super) fn print(status: &RecordingStatus, format: Format) {
    let text = match format {
        Format::Yaml => serde_yaml::to_string(status).unwrap_or_default(),
        Format::Json => serde_json::to_string_pretty(status).unwrap_or_default() + "\n",
    };
    print!("{text}");
}

/// How to play what was stored, and what to do about a failure.
pub(super) fn farewell(status: &RecordingStatus, media: Option<&Path>) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(failure) = &status.failure {
        let number = failure.number.map(|n| format!(" ({n})")).unwrap_or_default();
        lines.push(format!("Failed: {}{number}, {}: {}", failure.code, failure.component, failure.message.as_deref().unwrap_or("")));
        lines.push(format!("What to do: {}", failure.remedy.as_deref().unwrap_or("read the recorder's log")));
    }
    let playlists = media.map(playlists_of).unwrap_or_default();
    for playlist in &playlists {
        lines.push(format!("Play it:  ffplay '{}'", playlist.display()));
    }
    match &status.manifest_url {
        Some(url) if playlists.is_empty() && status.playlist_count.unwrap_or(0) > 0 => {
            lines.push(format!("Stored; what belongs to it is listed in {url}"))
        }
        _ => {}
    }
    lines
}

fn playlists_of(folder: &Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "m3u8")).collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use recording_crds::status::Progress;

    #[test]
    fn a_status_is_one_sentence() {
        let status = RecordingStatus {
            phase: Some(Phase::Recording),
            participant_count: Some(1),
            gap_count: Some(2),
            progress: Some(Progress { recorded_seconds: 12, uploaded_files: 3, recorded_files: 4, ..Progress::default() }),
            ..RecordingStatus::default()
        };
        assert_eq!(sentence(&status), "Recording, 1 participant, 12 s recorded, 3 of 4 files stored, 2 gaps");
    }
}

//! Medians of all runs, as a table.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Measured, Subject};

/// The middle value; the mean of the two in the middle of an even number.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        n if n % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// Markdown. Each figure is `min / median / max` over the runs; the last column compares medians with GStreamer's, at one participant.
#[must_use]
pub fn markdown(runs: &[Measured]) -> String {
    let mut groups: BTreeMap<(Subject, u32), Vec<&Measured>> = BTreeMap::new();
    for run in runs {
        groups.entry((run.subject, run.participants)).or_default().push(run);
    }
    let cpu = |subject, participants| {
        let group = groups.get(&(subject, participants))?;
        median(&group.iter().map(|run| run.cpu_per_media_second).collect::<Vec<_>>())
    };
    let gstreamer = cpu(Subject::Gstreamer, 1);
    let mut table = String::from(
        "| what | streams | runs | CPU s per media s and stream | RSS MiB | RssAnon MiB | apply to first packet, s | of GStreamer's CPU | load |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for (&(subject, participants), group) in &groups {
        let column =
            |value: fn(&Measured) -> Option<f64>, digits| spread(&group.iter().filter_map(|run| value(run)).collect::<Vec<_>>(), digits);
        let ratio = cpu(subject, participants).zip(gstreamer).filter(|_| participants == 1).map(|(ours, theirs)| ours / theirs);
        // Writing to a String does not fail.
        let _ = writeln!(
            table,
            "| {} | {participants} | {} | {} | {} | {} | {} | {} | {} |",
            subject.title(),
            group.len(),
            column(|run| Some(run.cpu_per_media_second), 4),
            column(|run| Some(run.peak_rss_mib), 0),
            column(|run| Some(run.peak_rss_anon_mib), 0),
            column(|run| run.first_packet_seconds, 2),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
            column(|run| Some(run.load_average), 1),
        );
    }
    table
}

fn spread(values: &[f64], digits: usize) -> String {
    let least = values.iter().copied().reduce(f64::min);
    let most = values.iter().copied().reduce(f64::max);
    match (least, median(values), most) {
        (Some(least), Some(middle), Some(most)) => format!("{least:.digits$} / {middle:.digits$} / {most:.digits$}"),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(subject: Subject, participants: u32, cpu: f64) -> Measured {
        Measured {
            subject,
            participants,
            cpu_per_media_second: cpu,
            peak_rss_mib: 40.0,
            peak_rss_anon_mib: 9.0,
            first_packet_seconds: (subject == Subject::Recorder).then_some(0.3),
            load_average: 1.0,
        }
    }

    #[test]
    fn figures_are_medians_and_the_ratio_is_of_medians() {
        let runs = [0.03, 0.01, 0.02].map(|cpu| run(Subject::Recorder, 1, cpu));
        let others = [0.04, 0.05].map(|cpu| run(Subject::Gstreamer, 1, cpu));
        let table = markdown(&[runs.as_slice(), &others, &[run(Subject::Recorder, 10, 0.01)]].concat());
        let line = |start: &str| table.lines().find(|line| line.starts_with(start)).expect(start).to_owned();
        assert!(line("| recorder (TS, AAC) | 1 | 3 |").contains("0.0100 / 0.0200 / 0.0300"), "{table}");
        assert!(line("| recorder (TS, AAC) | 1 |").contains("| 0.44 |"), "{table}");
        assert!(line("| recorder (TS, AAC) | 10 | 1 |").contains("| - | 1.0"), "no ratio between different numbers of streams: {table}");
        assert!(line("| GStreamer").contains("| - | 1.00 |"), "{table}");
    }

    #[test]
    fn a_median_of_nothing_is_nothing() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[2.0, 1.0]), Some(1.5));
    }
}

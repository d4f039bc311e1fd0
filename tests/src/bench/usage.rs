//! What a running process has used so far, threads included, as /proc tells.

use std::time::Instant;

use anyhow::{Context, Result};

/// proc(5): `stat` counts in ticks, and Linux has had 100 a second for its user space on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;
/// proc(5): fields 14 and 15 of `stat`, counted behind the name in brackets, which may hold spaces.
const UTIME_BEHIND_NAME: usize = 11;

#[derive(Clone, Copy, Debug)]
pub struct Usage {
    pub at: Instant,
    /// User and system time of all threads, those that ended too.
    pub cpu_seconds: f64,
    /// Highest resident set so far, bytes.
    pub peak_rss: u64,
    /// What of the resident set is not backed by files, now, bytes.
    pub rss_anon: u64,
}

impl Usage {
    /// # Errors
    /// When the process is gone.
    pub fn of(pid: u32) -> Result<Self> {
        let read =
            |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("failed to read {file} of {pid}"));
        let (stat, status) = (read("stat")?, read("status")?);
        Ok(Self {
            at: Instant::now(),
            cpu_seconds: cpu_ticks(&stat).context("times in stat")? as f64 / TICKS_PER_SECOND,
            peak_rss: kib(&status, "VmHWM:").context("VmHWM in status")? * 1024,
            rss_anon: kib(&status, "RssAnon:").context("RssAnon in status")? * 1024,
        })
    }
}

fn cpu_ticks(stat: &str) -> Option<u64> {
    let behind_name = &stat[stat.rfind(')')? + 1..];
    let mut times = behind_name.split_whitespace().skip(UTIME_BEHIND_NAME);
    Some(times.next()?.parse::<u64>().ok()? + times.next()?.parse::<u64>().ok()?)
}

fn kib(status: &str, field: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix(field))?.split_whitespace().next()?.parse().ok()
}

/// The one child of a process.
///
/// # Errors
/// When it has none.
pub fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// Load of the machine over the last minute.
pub fn load_average() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_a_name_with_spaces_and_brackets() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194304 100 0 0 0 123 45 7 8 20 0 3 0";
        assert_eq!(cpu_ticks(stat), Some(168));
        assert_eq!(kib("Name:\tx\nVmHWM:\t   1234 kB\n", "VmHWM:"), Some(1234));
    }

    #[test]
    fn a_busy_thread_shows_in_the_usage_of_this_process() {
        let before = Usage::of(std::process::id()).expect("this process");
        let busy = std::thread::spawn(|| {
            let since = Instant::now();
            let mut n = 0u64;
            while since.elapsed().as_millis() < 200 {
                n = std::hint::black_box(n + 1);
            }
        });
        busy.join().expect("it counted");
        let after = Usage::of(std::process::id()).expect("this process");
        assert!(after.cpu_seconds > before.cpu_seconds && after.peak_rss >= after.rss_anon && after.rss_anon > 0, "{before:?} {after:?}");
    }
}

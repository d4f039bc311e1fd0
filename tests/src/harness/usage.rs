//! What a process holds, as the kernel counts it.

use std::path::Path;

use anyhow::{Context, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub descriptors: usize,
    pub threads: usize,
    /// Resident memory that no file stands behind.
    pub anonymous_kb: u64,
}

impl Usage {
    pub fn of(pid: u32) -> Result<Self> {
        let process = Path::new("/proc").join(pid.to_string());
        let status = std::fs::read_to_string(process.join("status"))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            Ok(line.split_whitespace().next().unwrap_or_default().parse()?)
        };
        let descriptors = std::fs::read_dir(process.join("fd"))?.count();
        Ok(Self { descriptors, threads: field("Threads:")? as usize, anonymous_kb: field("RssAnon:")? })
    }
}

/// What its descriptors are open on, for the message when there are too many.
pub fn descriptors(pid: u32) -> Vec<String> {
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    links.filter_map(|link| Some(std::fs::read_link(link.path()).ok()?.display().to_string())).collect()
}

/// The process of this name that `parent` has started.
pub fn child(parent: u32, name: &str) -> Option<u32> {
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|pid| is_child(*pid, parent, name).unwrap_or(false))
}

fn is_child(pid: u32, parent: u32, name: &str) -> Option<bool> {
    // pid (comm) state ppid …; see proc(5). Ours have no blank in their names.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.split_whitespace().skip(1);
    let named = words.next()? == format!("({name})");
    Some(named && words.nth(1)?.parse() == Ok(parent))
}

//! A process that gets less CPU than it wants, as a container with a limit does: a cgroup of its own, of version 1 or 2.

use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

const PERIOD_US: u32 = 100_000;
/// Where the controller `cpu` is: in a hierarchy of its own, or in the only one.
const ROOTS: [(&str, &str); 2] = [("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us"), ("/sys/fs/cgroup", "cpu.max")];

/// Lifted when it is dropped.
#[derive(Debug)]
pub struct Starved {
    folder: PathBuf,
    root: &'static Path,
}

impl Starved {
    /// At most this share of one core, from now on.
    ///
    /// # Errors
    /// Without root's rights, or without cgroups.
    pub fn new(pid: u32, share: f64) -> Result<Self> {
        let &(root, file) =
            ROOTS.iter().find(|(root, _)| Path::new(root).join("cgroup.procs").exists()).context("no cgroups with the controller cpu")?;
        let quota = (f64::from(PERIOD_US) * share) as u32;
        let limit = if file == "cpu.max" { format!("{quota} {PERIOD_US}") } else { quota.to_string() };
        let starved = Self { folder: Path::new(root).join(format!("recording-operator-starved-{pid}")), root: Path::new(root) };
        if file == "cpu.max" {
            fs::write(starved.root.join("cgroup.subtree_control"), "+cpu").context("failed to hand on the controller cpu")?;
        }
        fs::create_dir(&starved.folder).with_context(|| format!("failed to make {}", starved.folder.display()))?;
        fs::write(starved.folder.join(file), limit).context("failed to set the limit")?;
        fs::write(starved.folder.join("cgroup.procs"), pid.to_string()).context("failed to move the process")?;
        Ok(starved)
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        for pid in fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(self.root.join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

//! Removes whatever a cluster left on the machine, knowing nothing but the fixed names it uses: so it serves after an orderly stop, on Ctrl-C,
//! and at the next start after a crash.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::super::process::{run, wait_until};
use super::{BRIDGE, CGROUP, STATE};

/// The programs of a cluster; only these are ever killed, and only when their command line names [`STATE`].
const PROGRAMS: [&str; 9] = [
    "kube-proxy",
    "kubelet",
    "containerd-shim-runc-v2",
    "containerd",
    "kube-scheduler",
    "kube-controller-manager",
    "kube-apiserver",
    "etcd",
    "runc",
];
const GONE_TIMEOUT: Duration = Duration::from_secs(20);

/// In an order in which nothing can bring back what has been removed before it.
pub(super) fn sweep() -> Result<()> {
    kill_all("the cluster's programs", || programs(STATE))?;
    kill_all("the containers' processes", || processes_in(&cgroups(CGROUP)))?;
    unmount_below(Path::new(STATE))?;
    remove_cgroups()?;
    remove_network()?;
    remove_files()
}

/// One node and everything that runs on it, as when its power goes; its state too.
pub(super) fn node(state: &str, cgroup: &str) -> Result<()> {
    kill_all("the node's programs and containers", || [programs(state), processes_in(&cgroups(cgroup))].concat())?;
    unmount_below(Path::new(state))
}

fn kill_all(what: &str, pids: impl Fn() -> Vec<i32>) -> Result<()> {
    wait_until(&format!("the end of {what}"), GONE_TIMEOUT, || {
        let living = pids();
        for pid in &living {
            // SAFETY: kill takes two integers and touches no memory of ours.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
        living.is_empty().then_some(())
    })
}

fn programs(state: &str) -> Vec<i32> {
    let all = entries(Path::new("/proc")).into_iter();
    all.filter(|process| is_ours(process, state)).filter_map(|process| process.file_name()?.to_str()?.parse().ok()).collect()
}

fn is_ours(process: &Path, state: &str) -> bool {
    let Ok(command) = std::fs::read(process.join("cmdline")) else { return false };
    let command = String::from_utf8_lossy(&command);
    let program = command.split('\0').next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    PROGRAMS.contains(&program) && command.contains(&format!("{state}/"))
}

/// The folders of our group in every hierarchy: one per controller under cgroup v1, one under v2.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let base = Path::new("/sys/fs/cgroup");
    let unified = [base.join(name)];
    entries(base).into_iter().map(|controller| controller.join(name)).chain(unified).filter(|path| path.is_dir()).collect()
}

fn processes_in(groups: &[PathBuf]) -> Vec<i32> {
    let procs =
        groups.iter().flat_map(|group| folders_below(group)).filter_map(|group| std::fs::read_to_string(group.join("cgroup.procs")).ok());
    procs.flat_map(|list| list.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// A folder and all folders in it, the innermost first.
fn folders_below(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        entries(folder).iter().filter(|entry| entry.is_dir() && !entry.is_symlink()).flat_map(|entry| folders_below(entry)).collect();
    found.push(folder.to_owned());
    found
}

fn remove_cgroups() -> Result<()> {
    for group in cgroups(CGROUP) {
        // A group stays busy for a moment after its last process has ended.
        wait_until(&format!("the removal of {}", group.display()), GONE_TIMEOUT, || {
            for folder in folders_below(&group) {
                // What is still busy is tried again.
                let _ = std::fs::remove_dir(folder);
            }
            (!group.exists()).then_some(())
        })?;
    }
    Ok(())
}

/// Mounts under a folder, the latest first.
pub(super) fn mounts_below(folder: &Path) -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(folder)).collect();
    below.reverse();
    below
}

fn unmount_below(folder: &Path) -> Result<()> {
    for point in mounts_below(folder) {
        let path = CString::new(point.as_os_str().as_bytes())?;
        // SAFETY: the path is a valid C string for the duration of the call.
        let result = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        let error = io::Error::last_os_error();
        // EINVAL: it went together with the mount it was in.
        if result != 0 && error.raw_os_error() != Some(libc::EINVAL) {
            return Err(error).with_context(|| format!("failed to unmount {}", point.display()));
        }
    }
    Ok(())
}

fn remove_network() -> Result<()> {
    // kube-proxy's rules; absent when it never started.
    for family in ["ip", "ip6"] {
        let _ = run("nft", ["delete", "table", family, "kube-proxy"]);
    }
    let link = Path::new("/sys/class/net").join(BRIDGE);
    for port in entries(&link.join("brif")) {
        // The other end may take it away first, with its network namespace.
        let _ = run("ip", ["link", "delete", &port.file_name().unwrap_or_default().to_string_lossy()]);
    }
    if link.exists() {
        run("ip", ["link", "delete", BRIDGE])?;
    }
    Ok(())
}

fn remove_files() -> Result<()> {
    // What the network plugins remember of each pod, containerd's own loopback network included: each names its network namespace.
    for result in entries(Path::new("/var/lib/cni/results")) {
        if std::fs::read_to_string(&result).is_ok_and(|content| content.contains(STATE)) {
            std::fs::remove_file(result)?;
        }
    }
    // The kubelet's links to logs that are gone with the state.
    for link in entries(Path::new("/var/log/containers")) {
        if std::fs::read_link(&link).is_ok_and(|target| target.starts_with(STATE)) {
            std::fs::remove_file(link)?;
        }
    }
    match std::fs::remove_dir_all(STATE) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).with_context(|| format!("failed to remove {STATE}")),
        _ => Ok(()),
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
}

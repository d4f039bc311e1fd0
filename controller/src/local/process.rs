//! The recorder as a child process: what a kubelet does for a pod, as far as one recording needs it.

use recording_crds::exit;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};

/// As the kubelet's first back-off; a second crash within ten minutes waits longer.
pub(super) const RESTART_BACKOFF: Duration = Duration::from_secs(1);
/// Consecutive crashes without new media before the recording is given up: the budget of architecture.md.
pub(super) const MAX_CRASHES: u32 = 3;

/// Where one recording keeps its files: the job, secrets, spool and the final report.
#[derive(Clone, Debug)]
pub(super) struct StateFolder(PathBuf);

impl StateFolder {
    /// `$XDG_STATE_HOME/recording-operator/<recordingID>`, readable by its owner only.
    pub(super) fn create(recording_id: &str) -> std::io::Result<Self> {
        let folder = state_home().join("recording-operator").join(recording_id);
        std::fs::create_dir_all(&folder)?;
        private(&folder)?;
        Ok(Self(folder))
    }

    #[cfg(test)]
    pub(super) fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    pub(super) fn exists(recording_id: &str) -> bool {
        state_home().join("recording-operator").join(recording_id).is_dir()
    }

    pub(super) fn job(&self) -> PathBuf {
        self.0.join("job")
    }
    pub(super) fn spool(&self) -> PathBuf {
        self.0.join("spool")
    }
    pub(super) fn termination(&self) -> PathBuf {
        self.0.join("termination")
    }
    pub(super) fn log(&self) -> PathBuf {
        self.0.join("recorder.log")
    }
    pub(super) fn role(&self, role: &str) -> PathBuf {
        self.0.join("secrets").join(role)
    }

    /// Writes a file so that a reader sees the old or the new content, never a part.
    pub(super) fn replace(&self, path: &Path, content: &[u8]) -> std::io::Result<()> {
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, content)?;
        std::fs::rename(&temporary, path)
    }

    /// The same for a file that only its owner may read.
    pub(super) fn replace_private(&self, path: &Path, content: &[u8]) -> std::io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let temporary = path.with_extension("new");
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        std::io::Write::write_all(&mut file, content)?;
        std::fs::rename(&temporary, path)
    }

    /// Secrets are needed only while the recorder runs.
    pub(super) fn forget_secrets(&self) {
        // A folder that was never made is as good as one that is gone.
        let _ = std::fs::remove_dir_all(self.0.join("secrets"));
    }

    pub(super) fn remove(self) -> std::io::Result<()> {
        std::fs::remove_dir_all(self.0)
    }
}

fn state_home() -> PathBuf {
    let named = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    named.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"))).unwrap_or_else(std::env::temp_dir)
}

fn private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

/// How one run of the recorder ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// A result is written, good or bad.
    Result,
    Interrupted,
    Crashed(ExitStatus),
}

impl From<ExitStatus> for Ended {
    fn from(status: ExitStatus) -> Self {
        match status.code() {
            Some(exit::RESULT) => Ended::Result,
            Some(exit::INTERRUPTED) => Ended::Interrupted,
            _ => Ended::Crashed(status),
        }
    }
}

/// `recorder` beside this executable, or where `--recorder` says.
pub(super) fn find_recorder(named: Option<&Path>) -> Result<PathBuf, String> {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("recorder")));
    match (named, beside) {
        (Some(path), _) if path.is_file() => Ok(path.to_owned()),
        (Some(path), _) => Err(format!("--recorder {} is not a file", path.display())),
        (None, Some(path)) if path.is_file() => Ok(path),
        _ => {
            Err("there is no `recorder` beside this executable; build it (cargo build --release -p recorder) or name it with --recorder"
                .into())
        }
    }
}

/// Starts the recorder with its output in the state folder's log; it dies with us only if we tell it to.
pub(super) fn start(recorder: &Path, state: &StateFolder, listen: std::net::SocketAddr) -> std::io::Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(state.log())?;
    Command::new(recorder)
        .arg("--job")
        .arg(state.job())
        .arg("--spool")
        .arg(state.spool())
        .arg("--termination-log")
        .arg(state.termination())
        .arg("--listen")
        .arg(listen.to_string())
        // The network is that of whoever wrote the manifest.
        .arg("--allow-private-images")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A terminal's Ctrl-C goes to the whole foreground group: the recorder takes its orders from the job file instead.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// A free loopback port for the recorder's report.
pub(super) fn free_address() -> std::io::Result<std::net::SocketAddr> {
    std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn exit_codes_are_told_apart() {
        assert_eq!(Ended::from(ExitStatus::from_raw(0)), Ended::Result);
        assert_eq!(Ended::from(ExitStatus::from_raw(143 << 8)), Ended::Interrupted);
        assert!(matches!(Ended::from(ExitStatus::from_raw(9)), Ended::Crashed(_)), "killed by a signal is a crash");
        assert!(matches!(Ended::from(ExitStatus::from_raw(70 << 8)), Ended::Crashed(_)));
    }

    #[test]
    fn a_missing_recorder_says_how_to_get_one() {
        let error = find_recorder(Some(Path::new("/nowhere/recorder"))).expect_err("not there");
        assert!(error.contains("/nowhere/recorder"));
    }
}

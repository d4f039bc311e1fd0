//! Child processes that never outlive the test, and waiting for what they do.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// How often a condition is looked at: below what a person notices in a test's run time, above what costs CPU.
pub(crate) const POLL: Duration = Duration::from_millis(25);
/// What a process may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// Lines of log that an error carries.
const TAIL_LINES: usize = 30;

/// What to start; kept, so that the same process can be started again.
#[derive(Clone, Debug)]
pub struct Spec {
    name: String,
    program: PathBuf,
    args: Vec<OsString>,
    envs: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
    log: PathBuf,
    stdin: bool,
}

impl Spec {
    /// Logs to `<name>.log` in the test's folder of logs ([`super::logs`]).
    pub fn new(name: &str, program: impl Into<PathBuf>) -> Result<Self> {
        Ok(Self::logging_to(&super::logs()?, name, program))
    }

    /// Logs to `<name>.log`, or `<name>-2.log` when another process has that, in `folder`.
    pub fn logging_to(folder: &Path, name: &str, program: impl Into<PathBuf>) -> Self {
        let log = (1..)
            .map(|n| folder.join(if n == 1 { format!("{name}.log") } else { format!("{name}-{n}.log") }))
            .find(|path| !path.exists())
            .unwrap_or_default();
        Self { name: name.to_owned(), program: program.into(), args: vec![], envs: vec![], folder: None, log, stdin: false }
    }

    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Opens a pipe to the process' standard input ([`Process::write_line`]); without this it is empty.
    pub fn with_stdin(mut self) -> Self {
        self.stdin = true;
        self
    }

    pub fn spawn(self) -> Result<Process> {
        let child = self.start()?;
        Ok(Process { spec: self, child })
    }

    fn start(&self) -> Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("failed to open {}", self.log.display()))?;
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.envs.iter().map(|(key, value)| (key, value)));
        command.stdin(if self.stdin { Stdio::piped() } else { Stdio::null() });
        command.stdout(log.try_clone()?).stderr(log).process_group(0);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        die_with_parent(&mut command);
        spawn_from_lasting_thread(command).with_context(|| format!("failed to start {}: {}", self.name, self.program.display()))
    }
}

/// Has the kernel kill the child when this process is gone, however it goes.
fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl, getppid and _exit are such, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the request was in force.
            if libc::getppid() as u32 != parent {
                libc::_exit(1);
            }
            Ok(())
        });
    }
}

/// The kernel sends the death signal when the *thread* that forked ends, and a test's thread ends with the test: shared servers must survive it.
fn spawn_from_lasting_thread(command: Command) -> Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in inbox {
                // The asker waits for the reply, so it is there to take it.
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let (reply, result) = mpsc::channel();
    spawner.send((command, reply)).map_err(|_| anyhow!("the spawning thread is gone"))?;
    Ok(result.recv().context("the spawning thread is gone")??)
}

/// A running child in a process group of its own. Dropped, it is stopped and waited for.
#[derive(Debug)]
pub struct Process {
    spec: Spec,
    child: Child,
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn name(&self) -> &str {
        &self.spec.name
    }

    pub fn log_path(&self) -> &Path {
        &self.spec.log
    }

    /// All that it has written so far, of earlier starts too.
    pub fn log(&self) -> String {
        read_lossy(&self.spec.log)
    }

    /// None while it runs.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let name = self.spec.name.clone();
        let status = wait_until(&format!("{name} to end"), timeout, || self.exit_status());
        status.with_context(|| self.tail())
    }

    /// Waits for something that this process brings about; fails at once when it ends instead.
    pub fn wait_until<T>(&mut self, what: &str, timeout: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
        let name = self.spec.name.clone();
        let outcome = wait_until(&format!("{name}: {what}"), timeout, || match condition() {
            Some(value) => Some(Ok(value)),
            None => self.exit_status().map(Err),
        });
        match outcome.with_context(|| self.tail())? {
            Ok(value) => Ok(value),
            Err(status) => bail!("{name} ended ({status}) while waiting for: {what}\n{}", self.tail()),
        }
    }

    /// Waits for a line with this text in its log and returns the line.
    pub fn wait_for_line(&mut self, text: &str, timeout: Duration) -> Result<String> {
        let log = self.spec.log.clone();
        self.wait_until(&format!("a line with {text:?}"), timeout, || {
            read_lossy(&log).lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }

    /// Sends a signal to the process alone, not to its group.
    pub fn signal(&self, signal: i32) -> Result<()> {
        send_signal(self.pid() as i32, signal).with_context(|| format!("failed to signal {}", self.spec.name))
    }

    pub fn write_line(&mut self, line: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().context("started without a standard input")?;
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).with_context(|| format!("failed to write to {}", self.spec.name))
    }

    /// SIGTERM, then SIGKILL to the whole group when it has not ended in time.
    pub fn stop(&mut self, grace: Duration) -> Option<ExitStatus> {
        if self.exit_status().is_none() {
            let _ = self.signal(libc::SIGTERM);
            let _ = wait_until("a process to end", grace, || self.exit_status());
        }
        self.kill()
    }

    /// SIGKILL to the whole group, and waits.
    pub fn kill(&mut self) -> Option<ExitStatus> {
        let _ = send_signal(-(self.pid() as i32), libc::SIGKILL);
        self.child.wait().ok()
    }

    /// Kills what still runs and starts the same again; the log goes on.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.child = self.spec.start()?;
        Ok(())
    }

    /// The end of the log, for an error.
    pub fn tail(&self) -> String {
        tail(&self.spec.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop(GRACE);
    }
}

/// To a process, or with a negative number to its group.
pub fn send_signal(target: i32, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes two integers and touches no memory of ours.
    if unsafe { libc::kill(target, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn read_lossy(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn tail(path: &Path) -> String {
    let text = read_lossy(path);
    let mut lines = VecDeque::with_capacity(TAIL_LINES);
    for line in text.lines() {
        if lines.len() == TAIL_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
    format!("the end of {}:\n  {}", path.display(), Vec::from(lines).join("\n  "))
}

/// Looks at a condition until it gives a value; the error says what was waited for, and how long.
pub fn wait_until<T>(what: &str, timeout: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {timeout:?} in vain for {what}");
        }
        std::thread::sleep(POLL);
    }
}

/// The same for a condition that has to be awaited.
pub async fn eventually<T, F>(what: &str, timeout: Duration, mut condition: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Option<T>>,
{
    let poll = async {
        loop {
            if let Some(value) = condition().await {
                return value;
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(timeout, poll).await.map_err(|_| anyhow!("waited {timeout:?} in vain for {what}"))
}

/// Runs a program to its end and returns what it printed; a failure carries its error output.
pub fn run<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: impl IntoIterator<Item = A>) -> Result<String> {
    run_with_input(Command::new(program).args(args), None)
}

pub(super) fn run_with_input(command: &mut Command, input: Option<&str>) -> Result<String> {
    let described = format!("{command:?}");
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("failed to start {described}"))?;
    // What is fed to a program here (a manifest) fits its pipe or is read before it prints much.
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).with_context(|| format!("failed to write to {described}"))?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{described} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An exclusive lock on a file, held until dropped or until the process ends.
pub(super) fn lock_file(path: &Path, timeout: Duration) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    wait_until(&format!("the lock {}", path.display()), timeout, || file.try_lock().ok())?;
    Ok(file)
}

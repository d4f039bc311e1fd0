//! One local recording from start to end: keep the recorder running, fold its reports into the status, carry orders to it.

use super::display::{self, Display, Format};
use super::process::{self, Ended, MAX_CRASHES, RESTART_BACKOFF};
use super::{Prepared, Refused};
use crate::validate::Order;
use crate::{job, reports, status};
use k8s_openapi::jiff::Timestamp;
use recording_crds::RecordingStatus;
use recording_crds::codes::Code;
use recording_crds::exit;
use recording_crds::job::{JobKind, JobState, StopReason, roles};
use recording_crds::report::{Report, ReportOutcome};
use recording_crds::status::Phase;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;
use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long one question to the recorder waits for news.
const REPORT_WAIT: Duration = Duration::from_secs(5);
/// Between questions while the recorder does not listen yet.
const REPORT_RETRY: Duration = Duration::from_millis(100);
/// How late a saved manifest may be noticed.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// What ends a run of the recorder, or interrupts the waiting for it.
enum Event {
    Report(Box<Report>),
    Exited(std::io::Result<std::process::ExitStatus>),
    Interrupt,
    /// Time to read the manifest's files again.
    Look,
}

struct Session {
    prepared: Prepared,
    display: Display,
    status: RecordingStatus,
    interrupts: Signal,
    terminations: Signal,
    /// Recorded seconds when the recorder last crashed: crashes count only while nothing new is recorded.
    recorded_at_crash: i64,
    crashes: u32,
    stopping: bool,
}

/// Runs to the end; the process's exit code.
pub(super) async fn run(prepared: Prepared, follow: bool, format: Format) -> i32 {
    let signals = signal(SignalKind::interrupt()).and_then(|i| Ok((i, signal(SignalKind::terminate())?)));
    let (interrupts, terminations) = match signals {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("error: failed to listen for signals: {error}");
            return exit::LOCAL_FAILED;
        }
    };
    let display = Display::new(&prepared.recording.spec, follow);
    let mut session = Session {
        prepared,
        display,
        status: RecordingStatus::default(),
        interrupts,
        terminations,
        recorded_at_crash: 0,
        crashes: 0,
        stopping: false,
    };
    match session.run().await {
        Ok(()) => session.close(format),
        Err(Aborted::Interrupted) => session.aborted(),
        Err(Aborted::Failed(message)) => {
            session.display.finish();
            session.prepared.state.forget_secrets();
            eprintln!("error: {message}");
            exit::LOCAL_FAILED
        }
    }
}

enum Aborted {
    Interrupted,
    Failed(String),
}

impl From<std::io::Error> for Aborted {
    fn from(error: std::io::Error) -> Self {
        Aborted::Failed(format!("failed to run the recorder: {error}"))
    }
}

impl Session {
    /// Starts the recorder until it has written a result, as a kubelet does under `restartPolicy: OnFailure`.
    async fn run(&mut self) -> Result<(), Aborted> {
        self.write_job()?;
        self.fold(None);
        loop {
            let address = process::free_address()?;
            let child = process::start(&self.prepared.recorder, &self.prepared.state, address)?;
            match self.watch(child, address).await? {
                Ended::Result => return self.read_result(),
                Ended::Interrupted if !self.stopping => return Err(Aborted::Interrupted),
                ended if self.out_of_attempts(ended) => return Ok(()),
                _ => tokio::time::sleep(RESTART_BACKOFF).await,
            }
        }
    }

    /// Until the recorder exits: its reports and our signals.
    async fn watch(&mut self, mut child: Child, address: SocketAddr) -> Result<Ended, Aborted> {
        let mut version = 0;
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        // Asked once and waited for through everything else that happens.
        let mut report = Box::pin(next_report(address, version));
        loop {
            let event = tokio::select! {
                exited = child.wait() => Event::Exited(exited),
                report = &mut report => Event::Report(Box::new(report)),
                _ = self.interrupts.recv() => Event::Interrupt,
                _ = self.terminations.recv() => Event::Interrupt,
                _ = look.tick() => Event::Look,
            };
            match event {
                Event::Exited(status) => return Ok(Ended::from(status?)),
                Event::Report(news) => {
                    version = news.version;
                    self.fold(Some(&news));
                    report.set(next_report(address, version));
                }
                Event::Look => self.look()?,
                Event::Interrupt if self.stopping => {
                    child.kill().await?;
                    return Err(Aborted::Interrupted);
                }
                Event::Interrupt => {
                    self.stopping = true;
                    self.display.say("Stopping in good order: the last segments are being stored. Ctrl-C again to abort.");
                    self.write_job()?;
                }
            }
        }
    }

    /// What was saved since is in force from now on, or is refused and said so.
    fn look(&mut self) -> std::io::Result<()> {
        let Prepared { recording, validated, state, watched, .. } = &mut self.prepared;
        match watched.look(recording, validated, state) {
            None => Ok(()),
            Some(Ok((new, valid))) => {
                (*recording, *validated) = (new, valid);
                self.display.say("The manifest has changed; what it says now is in force.");
                self.write_job()
            }
            Some(Err(Refused(messages))) => {
                self.display.say(&format!("The manifest has changed and is refused, the former stays in force: {}", messages.join("; ")));
                Ok(())
            }
        }
    }

    fn write_job(&mut self) -> std::io::Result<()> {
        if self.stopping {
            let validated = &mut self.prepared.validated;
            validated.order = Order { state: JobState::Stopped, reason: Some(StopReason::StopRequested) };
            validated.generation += 1;
            self.prepared.recording.metadata.generation = Some(validated.generation);
        }
        let job = job::build(&self.prepared.validated, 1, JobKind::Record, self.prepared.files.clone());
        self.prepared.state.replace(&self.prepared.state.job(), job.to_text().as_bytes())
    }

    fn fold(&mut self, report: Option<&Report>) {
        self.status = status::fold(&self.prepared.validated, &self.status, report, Timestamp::now());
        self.display.show(&self.status);
    }

    /// The final report, by the road of the termination message.
    fn read_result(&mut self) -> Result<(), Aborted> {
        let path = self.prepared.state.termination();
        let text = std::fs::read_to_string(&path)
            .map_err(|e| Aborted::Failed(format!("the recorder left no result in {}: {e}", path.display())))?;
        let report: Report =
            serde_json::from_str(&text).map_err(|e| Aborted::Failed(format!("the recorder's result is not readable: {e}")))?;
        self.fold(Some(&report));
        Ok(())
    }

    /// Counts a crash; true when the budget is used up, which ends the recording.
    fn out_of_attempts(&mut self, ended: Ended) -> bool {
        let recorded = self.status.progress.as_ref().map_or(0, |p| p.recorded_seconds);
        self.crashes = if recorded > self.recorded_at_crash { 1 } else { self.crashes + 1 };
        self.recorded_at_crash = recorded;
        if self.crashes < MAX_CRASHES {
            self.display
                .say(&format!("The recorder ended without a result ({ended:?}); it is started again and goes on in the same playlist."));
            return false;
        }
        let message = format!("{} runs in a row recorded nothing; the log is {}", self.crashes, self.prepared.state.log().display());
        let outcome = ReportOutcome::new(Code::RecorderExit, message, recorded > 0, false);
        self.status = status::end(&self.prepared.validated, &self.status, &outcome, Timestamp::now());
        self.display.show(&self.status);
        true
    }

    fn media_folder(&self) -> Option<&Path> {
        self.prepared.files.get(roles::STORAGE).map(std::path::PathBuf::as_path)
    }

    /// The end: the status, how to play it, and nothing left behind of a recording that is whole.
    fn close(self, format: Format) -> i32 {
        self.display.finish();
        display::print(&self.status, format);
        for line in display::farewell(&self.status, self.media_folder()) {
            eprintln!("{line}");
        }
        if self.status.phase != Some(Phase::Completed) {
            if self.status.progress.as_ref().is_some_and(|p| p.uploaded_files + p.backup_files < p.recorded_files) {
                eprintln!("What could not be stored is kept in {}", self.prepared.state.spool().display());
            }
            eprintln!("Log of the recorder: {}", self.prepared.state.log().display());
            self.prepared.state.forget_secrets();
            return exit::LOCAL_FAILED;
        }
        if let Err(error) = self.prepared.state.remove() {
            eprintln!("warning: failed to remove the state folder: {error}");
        }
        exit::LOCAL_COMPLETED
    }

    fn aborted(self) -> i32 {
        self.display.finish();
        self.prepared.state.forget_secrets();
        eprintln!("Aborted. What is not stored yet is kept in {}", self.prepared.state.spool().display());
        eprintln!("Go on with:  recording-operator local -f … --resume {}", self.prepared.validated.recording_id);
        exit::LOCAL_ABORTED
    }
}

/// Waits for the next report; a recorder that does not answer is asked again, its exit is noticed elsewhere.
async fn next_report(address: SocketAddr, after: u64) -> Report {
    loop {
        match reports::fetch(address, after, REPORT_WAIT).await {
            Ok(report) if report.version > after => return report,
            Ok(_) => {}
            Err(_) => tokio::time::sleep(REPORT_RETRY).await,
        }
    }
}

//! Looks for what must not be seen in everything that a recording lets be seen, while it runs and afterwards.

use crate::harness::process::{POLL, wait_until};
use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two looks at a running recording.
const BETWEEN_LOOKS: Duration = Duration::from_millis(400);
/// Parts of a token shorter than this are found by chance.
const PART_MIN: usize = 12;
/// Every JSON Web Token begins so: `{"` in base64url.
const ANY_TOKEN: &str = "eyJ";
/// So much of what follows is read: a name in plain letters. Three characters alone a server's request IDs have by chance.
const TOKEN_HEAD: usize = 12;
/// The folder of what is mounted: there secrets belong.
const MOUNTED: &str = "secrets";
/// The folder of media and its ledger, which name people as the manifest does.
const SPOOL: &str = "spool";

/// How much a place may tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Logs, reports, metrics, status, process list: no secrets, no people.
    Public,
    /// Manifest, ledger, playlists and the spool's state: no secrets.
    AboutPeople,
}

/// What nobody may read.
#[derive(Clone, Debug, Default)]
pub struct Forbidden {
    secrets: BTreeSet<String>,
    people: BTreeSet<String>,
}

impl Forbidden {
    pub fn secret(&mut self, text: &str) {
        self.secrets.insert(text.to_owned());
    }

    /// A JSON Web Token: none of its three parts.
    pub fn token(&mut self, token: &str) {
        self.secrets.extend(token.split('.').filter(|part| part.len() >= PART_MIN).map(str::to_owned));
    }

    /// A piece of an identity that stands in its escaped form, too.
    pub fn person(&mut self, text: &str) {
        self.people.insert(text.to_owned());
    }

    /// What of it stands in `text`, by its kind only: a test's output is read by many.
    pub fn look(&self, place: Place, what: &str, text: &str) -> Vec<String> {
        let mut found = vec![];
        if self.secrets.iter().any(|secret| text.contains(secret)) {
            found.push(format!("a secret in {what}"));
        }
        if has_a_token(text) {
            found.push(format!("a token in {what}"));
        }
        if place == Place::Public && self.people.iter().any(|person| text.contains(person)) {
            found.push(format!("an identity in {what}"));
        }
        found
    }
}

/// JSON that begins with a name, in base64url.
fn has_a_token(text: &str) -> bool {
    text.match_indices(ANY_TOKEN).any(|(at, _)| {
        let head = text.get(at..at + TOKEN_HEAD).and_then(|head| URL_SAFE_NO_PAD.decode(head).ok());
        head.is_some_and(|head| head.iter().all(|byte| byte.is_ascii_graphic()))
    })
}

/// Somebody who looks while processes run: at their command lines and environments, their reports and metrics, and their files.
pub struct Watcher {
    over: Arc<AtomicBool>,
    has_read: Arc<AtomicBool>,
    looking: JoinHandle<Findings>,
}

/// What a [`Watcher`] saw.
#[derive(Debug, Default)]
struct Findings {
    found: BTreeSet<String>,
    processes: u32,
    reports: u32,
}

impl Watcher {
    /// Of a process and its children; `folder`: where they keep their files.
    pub fn start(pid: u32, folder: PathBuf, forbidden: Forbidden) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let has_read = Arc::new(AtomicBool::new(false));
        let look = Look { pid, folder, forbidden, over: over.clone(), has_read: has_read.clone() };
        Self { over, has_read, looking: std::thread::spawn(move || look.run()) }
    }

    /// Of what may be over before anybody looked.
    pub fn wait_for_a_report(&self, limit: Duration) -> Result<()> {
        wait_until("a report to look at", limit, || self.has_read.load(Ordering::Relaxed).then_some(()))
    }

    /// # Errors
    /// For whatever was seen that must not be, or when nothing was looked at.
    pub fn finish(self) -> Result<()> {
        self.over.store(true, Ordering::Relaxed);
        let seen = self.looking.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))?;
        ensure!(seen.found.is_empty(), "seen while it ran: {:?}", seen.found);
        ensure!(seen.processes > 0 && seen.reports > 0, "the watcher saw next to nothing: {seen:?}");
        Ok(())
    }
}

struct Look {
    pid: u32,
    folder: PathBuf,
    forbidden: Forbidden,
    over: Arc<AtomicBool>,
    has_read: Arc<AtomicBool>,
}

impl Look {
    fn run(self) -> Findings {
        let mut findings = Findings::default();
        while !self.over.load(Ordering::Relaxed) {
            for pid in std::iter::once(self.pid).chain(children(self.pid)) {
                self.process(pid, &mut findings);
            }
            self.files(&self.folder, Place::Public, &mut findings);
            // In steps, so that the end of a test is not waited for.
            let steps = BETWEEN_LOOKS.as_millis() / POLL.as_millis();
            (0..steps).take_while(|_| !self.over.load(Ordering::Relaxed)).for_each(|_| std::thread::sleep(POLL));
        }
        findings
    }

    fn process(&self, pid: u32, findings: &mut Findings) {
        for what in ["cmdline", "environ"] {
            // It may have ended since.
            let Ok(text) = fs::read(format!("/proc/{pid}/{what}")) else { return };
            let text = String::from_utf8_lossy(&text);
            findings.processes += 1;
            findings.found.extend(self.forbidden.look(Place::Public, &format!("the process list ({what})"), &text));
            if let Some(address) = listen_address(&text) {
                self.served(address, findings);
            }
        }
    }

    fn served(&self, address: &str, findings: &mut Findings) {
        for path in ["/v1/report", "/metrics"] {
            let Ok(mut answer) = ureq::get(format!("http://{address}{path}")).call() else { return };
            let Ok(text) = answer.body_mut().read_to_string() else { return };
            findings.reports += 1;
            self.has_read.store(true, Ordering::Relaxed);
            findings.found.extend(self.forbidden.look(Place::Public, path, &text));
        }
    }

    /// All but media and what is mounted.
    fn files(&self, folder: &Path, place: Place, findings: &mut Findings) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() {
                let place = if name == SPOOL { Place::AboutPeople } else { place };
                if name != MOUNTED {
                    self.files(&path, place, findings);
                }
                continue;
            }
            if name.contains(".ts") {
                continue;
            }
            let Ok(text) = fs::read_to_string(&path) else { continue };
            findings.found.extend(self.forbidden.look(place, &name, &text));
        }
    }
}

/// `--listen ADDRESS` of a command line as the kernel shows it.
fn listen_address(cmdline: &str) -> Option<&str> {
    let mut arguments = cmdline.split('\0');
    arguments.find(|argument| *argument == "--listen")?;
    arguments.next()
}

/// Processes whose parent this is.
pub fn children(parent: u32) -> Vec<u32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| parent_of(*pid) == Some(parent)).collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything; state and parent follow it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forbidden_is_found_and_not_repeated() {
        let mut forbidden = Forbidden::default();
        forbidden.secret("s3cr3t-of-the-bucket");
        forbidden.token("aaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbb.cccccccccccccccc");
        forbidden.person("zoe");
        let look = |place, text: &str| forbidden.look(place, "a log", text);
        assert_eq!(look(Place::Public, "key=s3cr3t-of-the-bucket"), ["a secret in a log"]);
        assert_eq!(look(Place::AboutPeople, "x.cccccccccccccccc"), ["a secret in a log"]);
        assert_eq!(look(Place::Public, "token=eyJhbGciOiJIUzI1NiJ9"), ["a token in a log"]);
        assert!(look(Place::Public, "x-amz-id-2: Fz1eyJ9qW0xY7mPt").is_empty(), "by chance");
        assert_eq!(look(Place::Public, "zoe!40example"), ["an identity in a log"]);
        assert!(look(Place::AboutPeople, "zoe@example").is_empty());
        assert!(look(Place::Public, "nothing of that").is_empty());
    }

    #[test]
    fn a_child_of_this_process_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        assert!(children(std::process::id()).contains(&child.id()));
        child.kill().and_then(|()| child.wait()).expect("ended");
        assert_eq!(listen_address("recorder\0--listen\x00127.0.0.1:1\0"), Some("127.0.0.1:1"));
    }
}

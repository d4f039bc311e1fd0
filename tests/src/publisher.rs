//! A person in a LiveKit room: `tests/stimulus/publisher.py`, real libwebrtc, told what to do and asked what it sent.

use crate::harness::livekit::LiveKit;
use crate::harness::process::Process;
use crate::local;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;

/// Joining, publishing and leaving take under a second each; the machine may be busy.
const ORDER_TIMEOUT: Duration = Duration::from_secs(20);

pub struct Publisher {
    pub identity: String,
    process: Process,
    orders: usize,
}

/// What the outbound RTP streams of one publication sent.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sent {
    /// `v`, `a`, `s` or `t`.
    pub kind: String,
    /// Numbers of the frames (10 ms chunks of sound) that were captured: first and last of each stretch.
    pub captured: Vec<(u32, u32)>,
    /// Of the largest simulcast layer.
    pub frames_sent: u64,
    pub packets_sent: u64,
    pub layers: Vec<Value>,
}

impl Publisher {
    /// `id`: in the block code; `flags`: of the script.
    pub fn start(livekit: &LiveKit, room: &str, identity: &str, id: u8, flags: &[&str]) -> Result<Self> {
        let process = local::publisher(livekit, room, identity, id, flags)?;
        Ok(Self { identity: identity.to_owned(), process, orders: 0 })
    }

    /// Until its media time has begun; that moment in unix milliseconds.
    pub fn started(&mut self) -> Result<u64> {
        let line = self.process.wait_for_line("\"event\": \"started\"", ORDER_TIMEOUT)?;
        serde_json::from_str::<Value>(&line)?["t0_unix_ms"].as_u64().context("t0_unix_ms")
    }

    /// One of the script's commands; returns when it is carried out.
    pub fn order(&mut self, command: &str) -> Result<()> {
        self.process.write_line(command)?;
        self.orders += 1;
        let (log, orders) = (self.process.log_path().to_owned(), self.orders);
        let answer = self.process.wait_until(command, ORDER_TIMEOUT, || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.lines().filter(|line| line.contains("\"event\": \"command")).nth(orders - 1).map(str::to_owned)
        })?;
        ensure!(!answer.contains("command_failed"), "{}: {command}: {answer}", self.identity);
        Ok(())
    }

    /// Waits until a command has been carried out so many times.
    pub fn carried_out(&mut self, command: &str, times: usize, timeout: Duration) -> Result<()> {
        let (log, done) = (self.process.log_path().to_owned(), format!("\"words\": [\"{command}\""));
        self.process.wait_until(&format!("{command}, {times} times"), timeout, || {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            (text.lines().filter(|line| line.contains(&done)).count() >= times).then_some(())
        })
    }

    /// Waits for its end in good order; what it sent, in the order of publication.
    pub fn finish(&mut self, timeout: Duration) -> Result<Vec<Sent>> {
        let status = self.process.wait(timeout)?;
        let log = self.process.log();
        ensure!(status.success() && !log.contains("command_failed"), "{}: {status}\n{log}", self.identity);
        let line = log.lines().find(|line| line.contains("\"event\": \"frames_sent\"")).context("frames_sent")?;
        Ok(serde_json::from_value(serde_json::from_str::<Value>(line)?["publications"].take())?)
    }
}

//! Endings of one attempt among several, and others who use its identity.

use crate::orders::{continued, wait_for_epoch, with_uid};
use crate::scene::{LIMIT, Over, Scene, leave};
use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_crds::exit;
use recording_tests::attempt::Attempt;
use recording_tests::harness::process::{Process, wait_until};
use recording_tests::local::{Local, recorder_log};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;

/// Two attempts at once, as after a lost node that is not lost: the older one yields and writes nothing more.
pub fn superseded(scene: &mut Scene) -> Result<Over> {
    let older = Attempt::start(&with_uid(scene), 1)?;
    let watcher = scene.watch_attempt(&older);
    let zoe = scene.zoe()?;
    scene.wait_for_segments(1)?;
    let newer = Attempt::start(&with_uid(scene), 2)?;
    wait_for_epoch(scene, 2)?;
    let yielded = older.wait(LIMIT)?;
    watcher.finish()?;
    let outcome = yielded.report.outcome.as_ref().context("an outcome")?;
    ensure!(yielded.exit_code == exit::RESULT && outcome.code == Code::Superseded, "{outcome:?}");
    ensure!(yielded.status.phase.is_none_or(|phase| !phase.is_final()), "this attempt has no say in the end: {:?}", yielded.status);
    to_the_end(scene, newer, zoe)
}

/// SIGTERM, as on a drain: closed, stored, 143 and no outcome. The next attempt goes on without the spool.
pub fn interrupted_and_elsewhere(scene: &mut Scene) -> Result<Over> {
    let drained = Attempt::start(&with_uid(scene), 1)?;
    let watcher = scene.watch_attempt(&drained);
    let zoe = scene.zoe()?;
    scene.wait_for_segments(1)?;
    drained.process.signal(libc::SIGTERM)?;
    let interrupted = drained.wait(LIMIT)?;
    watcher.finish()?;
    ensure!(interrupted.exit_code == exit::INTERRUPTED && interrupted.report.outcome.is_none(), "{}", interrupted.said);
    let counters = &interrupted.report.counters;
    ensure!(counters.recorded_files == counters.uploaded_files && counters.recorded_files > 0, "{counters:?}");
    to_the_end(scene, Attempt::start(&with_uid(scene), 2)?, zoe)
}

/// The last attempt records on until Zoe has left.
fn to_the_end(scene: &Scene, last: Attempt, zoe: Process) -> Result<Over> {
    let watcher = scene.watch_attempt(&last);
    scene.wait_for_segments(1)?;
    leave(zoe)?;
    let ended = last.wait(LIMIT)?;
    watcher.finish()?;
    continued(scene, ended.into())
}

/// Somebody joins under the recorder's identity, once: the recorder comes back and goes on.
pub fn identity_taken_once(scene: &mut Scene) -> Result<Over> {
    let running = scene.record(&scene.manifest(""), &[])?;
    let zoe = scene.zoe()?;
    scene.wait_for_segments(1)?;
    let identity = scene.recorder_identity()?;
    Stranger::join(scene, &running.local, &identity)?.wait_to_be_thrown_out(&running.local)?;
    scene.wait_for_segments(1)?;
    leave(zoe)?;
    running.wait()
}

/// Again and again: it yields, and says who it is that others claim to be.
pub fn identity_taken_three_times(scene: &mut Scene) -> Result<Over> {
    let running = scene.record(&scene.manifest(""), &[])?;
    let _zoe = scene.zoe()?;
    scene.wait_for_segments(1)?;
    let identity = scene.recorder_identity()?;
    for _ in 0..2 {
        Stranger::join(scene, &running.local, &identity)?.wait_to_be_thrown_out(&running.local)?;
        // Whoever comes while it is still entering would be thrown out without being noticed.
        scene.recorder_identity()?;
    }
    let _last = Stranger::join(scene, &running.local, &identity)?;
    let over = running.wait()?;
    ensure!(over.said.contains(&identity), "the message names the identity: {}", over.said);
    Ok(over)
}

/// A signalling connection and nothing else. (An SDK would come back by itself, again and again.)
struct Stranger {
    stream: TcpStream,
    /// [`joins`] before it came.
    before: usize,
}

/// How often the recorder has come into the room so far.
fn joins(local: &Local) -> usize {
    recorder_log(&local.state()).matches("\"joined\"").count()
}

impl Stranger {
    fn join(scene: &Scene, local: &Local, identity: &str) -> Result<Self> {
        let before = joins(local);
        let livekit = &scene.world.livekit;
        let token = livekit.token(scene.name, identity, json!({"hidden": true}));
        let address = livekit.http_url().trim_start_matches("http://").to_owned();
        let mut stream = TcpStream::connect(&address)?;
        // RFC 6455 section 4.1; the key is any 16 bytes.
        write!(
            stream,
            "GET /rtc?protocol=16&access_token={token} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        ensure!(answer == *b"HTTP/1.1 101", "{}", String::from_utf8_lossy(&answer));
        Ok(Self { stream, before })
    }

    /// By the recorder, which has joined again then.
    fn wait_to_be_thrown_out(mut self, local: &Local) -> Result<()> {
        self.stream.set_read_timeout(Some(LIMIT))?;
        std::io::copy(&mut self.stream, &mut std::io::sink()).context("the recorder takes its identity back")?;
        wait_until("the recorder in the room again", LIMIT, || (joins(local) > self.before).then_some(()))
    }
}

//! Snapshots of cameras that pass untouched: a key frame is decoded by itself, and nothing else of the stream. One thread, begun with the first one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use bytes::Bytes;
use recorder_codec::jpeg;
use recorder_codec::video::VideoDecoder;
use recorder_media::{Codec, Input, Snapshot};
use tokio::sync::mpsc::UnboundedSender;

use crate::transcode::{TranscodeError, video_codec};

/// Key frames that wait, of everybody's cameras at one moment; what comes beyond is no snapshot.
const WAITING_MAX: usize = 64;

type Work = (Snapshot, Codec, Bytes);

#[derive(Debug)]
pub(crate) struct Stills {
    thread: Option<SyncSender<Work>>,
    results: UnboundedSender<Input>,
}

impl Stills {
    /// `results`: where answers go.
    pub(crate) fn new(results: UnboundedSender<Input>) -> Self {
        Self { thread: None, results }
    }

    /// Never waits.
    pub(crate) fn make(&mut self, snapshot: Snapshot, codec: Codec, key_frame: Bytes) {
        if self.thread.is_none() {
            self.thread = self.spawn().inspect_err(|error| tracing::error!(%error, "failed to start a thread for snapshots")).ok();
        }
        let lost = Input::SnapshotTaken { snapshot: snapshot.clone(), picture: None };
        let sent = self.thread.as_ref().is_some_and(|thread| thread.try_send((snapshot, codec, key_frame)).is_ok());
        if !sent {
            let _ = self.results.send(lost);
        }
    }

    fn spawn(&self) -> std::io::Result<SyncSender<Work>> {
        let (sender, work) = sync_channel(WAITING_MAX);
        let results = self.results.clone();
        thread::Builder::new().name("snapshots".into()).spawn(move || answer_all(&work, &results))?;
        Ok(sender)
    }
}

/// Until the sender is gone and the queue is empty.
fn answer_all(work: &Receiver<Work>, results: &UnboundedSender<Input>) {
    for (snapshot, codec, data) in work {
        let made = catch_unwind(AssertUnwindSafe(|| still(codec, &data))).ok();
        let picture = made.and_then(|made| made.inspect_err(|error| tracing::warn!(%error, "a snapshot cannot be made")).ok());
        if results.send(Input::SnapshotTaken { snapshot, picture }).is_err() {
            return; // the recording is over
        }
    }
}

/// A decoder of its own each time: some 10 ms in all, and nothing of the stream has to be kept.
fn still(codec: Codec, data: &[u8]) -> Result<Bytes, TranscodeError> {
    let mut decoder = VideoDecoder::new(video_codec(codec)?)?;
    let mut pictures = Vec::with_capacity(1);
    decoder.decode(data, 0, &mut pictures)?;
    // It may hold the picture back, for others that are shown before it.
    decoder.finish(&mut pictures)?;
    let picture = pictures.pop().ok_or(TranscodeError::Nothing)?.picture();
    Ok(jpeg(&picture.i420(), picture.colour)?.into())
}

#[cfg(test)]
mod tests;

//! The built-in room: real WebRTC over loopback, from a sender in this process to the same peer connection that SFUs talk to.

mod packetizer;
mod pattern;
mod sender;
mod source;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use recorder_media::{Codec, Input, ParticipantKey, Source, TrackKey};
use recording_crds::names;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::sender::{Sender, ssrc, track_name};
use self::source::{Kind, Script};
use super::intake::Intake;
use super::peer::{Peer, PeerConfig, PeerEvent};
use super::{ConnectOrder, Connector, EndReason, Event, Stage, Stamped};

/// Both sides have to see the connection up within this.
const UP_TIMEOUT: Duration = Duration::from_secs(15);
/// Encoded media between a source's thread and the network, messages.
const SOURCE_QUEUE: usize = 32;
/// After the last picture, for what is still on its way.
const TAIL: Duration = Duration::from_millis(300);
const STATS_EVERY: Duration = Duration::from_secs(1);
const CONNECTION_EVENTS: usize = 64;

/// What the room shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TestPattern {
    /// 1..=255, numbered from 1.
    pub(crate) participants: u8,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frames_per_second: u32,
    pub(crate) duration: Duration,
    pub(crate) video: bool,
    pub(crate) audio: bool,
}

/// A room that is up.
struct Room {
    peer: Peer,
    sender: Sender,
    outlets: Vec<(u8, sender::Outlet, Arc<AtomicBool>)>,
    peer_events: mpsc::Receiver<PeerEvent>,
}

#[async_trait::async_trait]
impl Connector for TestPattern {
    async fn run(self: Box<Self>, events: mpsc::Sender<Stamped<Event>>, orders: mpsc::Receiver<ConnectOrder>, cancel: CancellationToken) {
        let intake = Intake::new(events);
        let opened = tokio::select! {
            () = cancel.cancelled() => return,
            opened = tokio::time::timeout(UP_TIMEOUT, self.open(&intake)) => opened,
        };
        let failed = |message: String| Event::Ended(EndReason::ConnectError { stage: Stage::Media, message });
        let mut room = match opened {
            Ok(Ok(room)) => room,
            Ok(Err(message)) => return intake.tell(failed(format!("the test pattern failed to connect: {message}"))).await,
            Err(_) => return intake.tell(failed("the test pattern failed to connect over loopback".into())).await,
        };
        let outcome = self.play(&mut room, &intake, orders, &cancel).await;
        room.sender.close().await;
        room.peer.close().await;
        match outcome {
            Play::Over => intake.tell(Event::Ended(EndReason::SourceFinished)).await,
            Play::Failed(message) => intake.tell(failed(format!("the test pattern failed: {message}"))).await,
            Play::Left => {}
        }
    }
}

/// Keeps back the track of somebody who is not recorded at the moment. The pattern plays on behind it.
struct Gate {
    closed: Arc<AtomicBool>,
    keyframe: Arc<AtomicBool>,
}

impl Gate {
    fn set(&self, wanted: bool) {
        let was_closed = self.closed.swap(!wanted, Ordering::Relaxed);
        if wanted && was_closed {
            self.keyframe.store(true, Ordering::Relaxed);
        }
    }
}

/// How a play ended.
enum Play {
    Over,
    Left,
    Failed(String),
}

impl TestPattern {
    fn kinds(self) -> impl Iterator<Item = Kind> {
        [(Kind::Video, self.video), (Kind::Audio, self.audio)].into_iter().filter(|(_, wanted)| *wanted).map(|(kind, _)| kind)
    }

    /// Connects the two sides.
    async fn open(&self, intake: &Arc<Intake>) -> Result<Room, String> {
        let flags: Vec<(u8, Arc<AtomicBool>)> = (1..=self.participants).map(|id| (id, Arc::default())).collect();
        let by_ssrc = flags.iter().map(|(id, flag)| (ssrc(*id, Kind::Video), flag.clone())).collect();
        let (sender_events, mut from_sender) = mpsc::channel(CONNECTION_EVENTS);
        let config = PeerConfig { loopback: true, loopback_only: true, ..PeerConfig::default() };
        let (mut peer, mut from_peer) = Peer::new(config, intake).await.map_err(|error| error.to_string())?;
        let text = |error: rtc::shared::error::Error| error.to_string();
        let sender = Sender::new(sender_events, by_ssrc).await.map_err(text)?;
        let mut outlets = vec![];
        for (id, flag) in flags {
            outlets.push((id, sender.add(id, self.video, self.audio).await.map_err(text)?, flag));
        }
        let offer = sender.offer().await.map_err(text)?;
        let answer = peer.answer(&offer).await.map_err(|error| error.to_string())?;
        sender.answered(answer).await.map_err(text)?;
        let (mut sender_up, mut peer_up) = (false, false);
        while !(sender_up && peer_up) {
            tokio::select! {
                Some(event) = from_sender.recv() => match event {
                    PeerEvent::Candidate(json) => peer.add_candidate(&json).await,
                    PeerEvent::Up => sender_up = true,
                    PeerEvent::Down | PeerEvent::Failed => {}
                },
                Some(event) = from_peer.recv() => match event {
                    PeerEvent::Candidate(json) => sender.add_candidate(&json).await,
                    PeerEvent::Up => peer_up = true,
                    PeerEvent::Down => {}
                    PeerEvent::Failed => return Err("no path over loopback".into()),
                },
                else => return Err("the connection went away".into()),
            }
        }
        Ok(Room { peer, sender, outlets, peer_events: from_peer })
    }

    /// Everybody joins, plays to the end, and leaves.
    async fn play(
        &self,
        room: &mut Room,
        intake: &Arc<Intake>,
        mut orders: mpsc::Receiver<ConnectOrder>,
        cancel: &CancellationToken,
    ) -> Play {
        self.join(intake).await;
        let gates = self.gates(room);
        let stop = cancel.child_token();
        let mut sources: tokio::task::JoinSet<Result<(), String>> = tokio::task::JoinSet::new();
        for (id, outlet, flag) in std::mem::take(&mut room.outlets) {
            let script = Script {
                id,
                width: self.width,
                height: self.height,
                frames_per_second: self.frames_per_second,
                duration: self.duration,
                video: self.video,
                audio: self.audio,
            };
            sources.spawn(perform(script, outlet, flag, stop.clone()));
        }
        let mut ticks = tokio::time::interval(STATS_EVERY);
        let play = loop {
            tokio::select! {
                () = cancel.cancelled() => break Play::Left,
                order = orders.recv() => match order {
                    Some(ConnectOrder::RequestKeyframe(track)) => intake.request_keyframe(track),
                    Some(ConnectOrder::Subscribe { track, wanted }) => gates.get(&track).into_iter().for_each(|gate| gate.set(wanted)),
                    Some(ConnectOrder::Size { .. } | ConnectOrder::SecretChanged(_) | ConnectOrder::Return) => {}
                    Some(ConnectOrder::Leave) | None => break Play::Left,
                },
                _ = ticks.tick() => intake.offer_stats(),
                Some(event) = room.peer_events.recv() => if event == PeerEvent::Failed {
                    break Play::Failed("the loopback connection failed".into());
                },
                ended = sources.join_next() => match ended {
                    None => break Play::Over,
                    Some(Ok(Ok(()))) => {}
                    Some(Ok(Err(message))) => break Play::Failed(message),
                    Some(Err(error)) => break Play::Failed(error.to_string()),
                },
            }
        };
        stop.cancel();
        if matches!(play, Play::Over) {
            tokio::time::sleep(TAIL).await;
            intake.offer_stats();
            self.leave(intake).await;
        }
        play
    }

    /// Keys: participants and tracks are numbered in the order of the room, from 0.
    fn roster(self) -> impl Iterator<Item = (u8, ParticipantKey, Vec<(Kind, TrackKey)>)> {
        let per_person = self.kinds().count() as u32;
        (1..=self.participants).map(move |id| {
            let participant = ParticipantKey(u32::from(id) - 1);
            let first = participant.0 * per_person;
            (id, participant, (first..).zip(self.kinds()).map(|(key, kind)| (kind, TrackKey(key))).collect())
        })
    }

    fn gates(self, room: &Room) -> HashMap<TrackKey, Gate> {
        let mut gates = HashMap::new();
        for ((_, _, tracks), (_, outlet, keyframe)) in self.roster().zip(&room.outlets) {
            for (kind, track) in tracks {
                gates.insert(track, Gate { closed: outlet.closed(kind), keyframe: keyframe.clone() });
            }
        }
        gates
    }

    async fn join(&self, intake: &Arc<Intake>) {
        intake.tell_media(Input::Connected).await;
        for (id, participant, tracks) in self.roster() {
            let identity = format!("participant-{id}");
            let escaped = names::escape(&identity);
            intake.tell_media(Input::Joined { participant, identity, escaped }).await;
            for (kind, track) in tracks {
                let (source, codec) = if kind == Kind::Video { (Source::Camera, Codec::H264) } else { (Source::Microphone, Codec::Opus) };
                intake.tell_media(Input::Published { track, participant, source, codec, muted: false }).await;
                intake.claim(&track_name(id, kind), track, true);
            }
        }
    }

    async fn leave(&self, intake: &Arc<Intake>) {
        for (id, participant, tracks) in self.roster() {
            for (kind, track) in tracks {
                intake.tell_media(Input::Unpublished { track }).await;
                intake.retire(&track_name(id, kind));
            }
            intake.tell_media(Input::Left { participant }).await;
        }
    }
}

/// One participant: a thread that encodes, and a task that sends what it made.
async fn perform(script: Script, mut outlet: sender::Outlet, flag: Arc<AtomicBool>, stop: CancellationToken) -> Result<(), String> {
    let (sent, mut made) = mpsc::channel(SOURCE_QUEUE);
    let thread = tokio::task::spawn_blocking(move || source::run(script, &flag, &sent, &stop));
    let started = Instant::now();
    while let Some(message) = made.recv().await {
        outlet.send(message).await;
    }
    let ended = thread.await.map_err(|error| error.to_string())?;
    tracing::debug!(participant = script.id, seconds = started.elapsed().as_secs(), "left the test pattern");
    ended.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;

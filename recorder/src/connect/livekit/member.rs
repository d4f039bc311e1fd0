//! One recorder's stay in a LiveKit room, through reconnects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol as proto;
use recorder_media::Input;
use rtc::peer_connection::transport::RTCIceServer;
use tokio::sync::mpsc;

use super::LiveKit;
use super::policy::{self, Next};
use super::roster::Roster;
use super::signal::{Request, Response, Signal};
use super::silent::Silent;
use super::wishes::Told;
use crate::connect::intake::Intake;
use crate::connect::peer::{Peer, PeerConfig, PeerEvent};
use crate::connect::{EndReason, Event, Stage};

/// Signalling is up, and no pair of candidates works (architecture.md section 3).
const MEDIA_UP_TIMEOUT: Duration = Duration::from_secs(15);
/// ICE was up and is not: the server tells us to resume after 16 s; this is for one that does not.
const MEDIA_BACK_TIMEOUT: Duration = Duration::from_secs(25);
pub(super) const PING_EVERY_DEFAULT: Duration = Duration::from_secs(5);
/// Nothing heard for so long: the connection is dead.
pub(super) const SILENCE_DEFAULT: Duration = Duration::from_secs(15);
const TICK: Duration = Duration::from_secs(1);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that is over, and how to go on.
pub(super) struct Lost {
    pub(super) next: Next,
    stage: Stage,
    why: String,
}

impl Lost {
    pub(super) fn signalling(next: Next, why: impl Into<String>) -> Self {
        Self { next, stage: Stage::Signalling, why: why.into() }
    }
}

pub(crate) struct Member {
    pub(super) config: Arc<LiveKit>,
    pub(super) intake: Arc<Intake>,
    pub(super) roster: Roster,
    /// LiveKit's names of the tracks that the server was asked for in this membership.
    pub(super) told: Told,
    pub(super) silent: Silent,
    pub(super) link: Option<Signal>,
    pub(super) peer: Option<(Peer, mpsc::Receiver<PeerEvent>)>,
    pub(super) ice_servers: Vec<RTCIceServer>,
    /// The room, `RM_…`, and the one that was closed under us: a server that is still clearing it away lets us in once more, and nobody ever
    /// comes there.
    pub(super) room: String,
    pub(super) closed_room: Option<String>,
    /// Our own `PA_…`.
    pub(super) sid: String,
    pub(super) identity: String,
    pub(super) joined_at: Instant,
    /// How often in a row another connection came under our identity.
    contests: u32,
    /// The last offer and our answer to it: a resumed server wants to see them.
    pub(super) offer: Option<proto::SessionDescription>,
    pub(super) answer: Option<proto::SessionDescription>,
    pub(super) ping_every: Duration,
    pub(super) silence: Duration,
    pub(super) told_connected: bool,
    pub(super) media_up: bool,
    /// Since when media is expected and not there.
    pub(super) media_awaited: Option<Instant>,
    /// Since when there is no working connection.
    pub(super) trouble: Option<Instant>,
    pub(super) ever_connected: bool,
    /// The room was closed because it was empty; there is nothing to miss.
    pub(super) quiet: bool,
}

impl Member {
    pub(crate) fn new(config: Arc<LiveKit>, intake: Arc<Intake>) -> Self {
        Self {
            config,
            intake,
            roster: Roster::default(),
            told: Told::new(),
            silent: Silent::default(),
            link: None,
            peer: None,
            ice_servers: vec![],
            room: String::new(),
            closed_room: None,
            sid: String::new(),
            identity: String::new(),
            joined_at: Instant::now(),
            contests: 0,
            offer: None,
            answer: None,
            ping_every: PING_EVERY_DEFAULT,
            silence: SILENCE_DEFAULT,
            told_connected: false,
            media_up: false,
            media_awaited: None,
            trouble: Some(Instant::now()),
            ever_connected: false,
            quiet: false,
        }
    }

    /// Until it cannot go on.
    pub(crate) async fn stay(&mut self) -> EndReason {
        let mut next = Next::Rejoin;
        let mut failures = 0;
        loop {
            let lost = self.connected(&next).await;
            self.link = None;
            // Once, not at every try.
            if failures == 0 {
                tracing::info!(stage = ?lost.stage, why = lost.why, next = ?lost.next, "not connected to LiveKit");
            } else {
                tracing::debug!(stage = ?lost.stage, why = lost.why, next = ?lost.next, failures, "still not connected to LiveKit");
            }
            match lost.next {
                Next::End(reason) => return reason,
                Next::Renew(reason) if !self.renewed().await => return reason,
                _ => {}
            }
            if lost.next == Next::Contested
                && let Some(reason) = self.contested().await
            {
                return reason;
            }
            failures = if self.trouble.is_none() { 0 } else { failures + 1 };
            let trouble = self.trouble.get_or_insert_with(Instant::now).elapsed();
            if let Some(reason) = policy::out_of_time(self.ever_connected, self.quiet, trouble, lost.stage, &lost.why) {
                return reason;
            }
            if lost.next == Next::RejoinQuietly {
                (self.quiet, self.closed_room) = (true, Some(self.room.clone()));
            }
            let resumable = trouble < policy::RESUME_WINDOW && self.ever_connected;
            let resumed = next == Next::Resume;
            next = if lost.next == Next::Resume && resumable { Next::Resume } else { Next::Rejoin };
            // A server that knows nothing of us (it was restarted) takes a new join at once.
            if resumed && next == Next::Rejoin {
                failures = 0;
            }
            if next == Next::Rejoin {
                self.hang_up().await;
            }
            // The first try follows at once.
            if failures > 0 {
                tokio::time::sleep(policy::backoff(failures - 1)).await;
            }
            self.hear_peer().await;
        }
    }

    /// Media lives on without signalling, or it does not: what became of it while nobody listened.
    async fn hear_peer(&mut self) {
        while let Some(event) = self.peer.as_mut().and_then(|(_, events)| events.try_recv().ok()) {
            let known = match event {
                // There is no way to send it.
                PeerEvent::Candidate(_) => continue,
                PeerEvent::Failed => PeerEvent::Down,
                up_or_down => up_or_down,
            };
            // Neither of them ends anything.
            let _ = self.peer_event(Some(known)).await;
        }
    }

    /// Another connection has our identity. A newer attempt's may keep it: the driver finds out, and ends this attempt or lets us return.
    async fn contested(&mut self) -> Option<EndReason> {
        self.hang_up().await;
        self.contests = if self.joined_at.elapsed() >= policy::RECONNECT_WINDOW { 1 } else { self.contests + 1 };
        tracing::warn!(self.contests, "another connection uses the recorder's identity");
        self.intake.tell(Event::IdentityTaken).await;
        let answered = tokio::time::timeout(policy::RECONNECT_WINDOW, self.config.may_return.notified()).await;
        match answered {
            Ok(()) => policy::after_contest(self.contests, &self.identity),
            Err(_) => Some(EndReason::Disconnected(format!("another connection came as {}, perhaps a newer attempt's", self.identity))),
        }
    }

    /// The SFU takes none of our tokens any more: a changed Secret within the reconnect window brings the recorder back in.
    async fn renewed(&mut self) -> bool {
        self.hang_up().await;
        let trouble = self.trouble.get_or_insert_with(Instant::now).elapsed();
        let left = policy::RECONNECT_WINDOW.saturating_sub(trouble);
        tracing::warn!(seconds = left.as_secs(), "the SFU refuses the token: waiting for another one in the Secret");
        tokio::time::timeout(left, self.config.credentials.changed()).await.is_ok()
    }

    /// Ends the membership in good order.
    pub(crate) async fn leave(mut self) {
        if let Some(mut link) = self.link.take() {
            let reason = proto::DisconnectReason::ClientInitiated as i32;
            let goodbye = Request::Leave(proto::LeaveRequest { reason, ..Default::default() });
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, link.send(goodbye)).await;
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, link.close()).await;
        }
        if let Some((peer, _)) = self.peer.take() {
            peer.close().await;
        }
    }

    /// The peer connection is of no more use. When there was something to miss, the driver hears of it.
    async fn hang_up(&mut self) {
        if let Some((peer, _)) = self.peer.take() {
            peer.close().await;
        }
        self.media_up = false;
        self.media_awaited = None;
        if self.told_connected && !self.quiet {
            self.told_connected = false;
            self.intake.tell_media(Input::Disconnected).await;
        }
    }

    /// Opens a WebSocket and stays on it.
    async fn connected(&mut self, how: &Next) -> Lost {
        let resuming = *how == Next::Resume;
        if let Err(lost) = self.open(resuming).await {
            return lost;
        }
        match self.greeting(resuming).await {
            Ok(()) => self.listen().await,
            Err(lost) => lost,
        }
    }

    /// Until the WebSocket or the media is lost.
    async fn listen(&mut self) -> Lost {
        let config = self.config.clone();
        if let Err(lost) = self.subscribe().await {
            return lost;
        }
        let mut ping = tokio::time::interval(self.ping_every);
        let mut tick = tokio::time::interval(TICK);
        let mut heard = Instant::now();
        loop {
            let Some(link) = &mut self.link else { return Lost::signalling(Next::Rejoin, "no connection") };
            let peer_event = async {
                match &mut self.peer {
                    Some((_, events)) => events.recv().await,
                    None => std::future::pending().await,
                }
            };
            let step = tokio::select! {
                message = link.next() => match message {
                    Ok(message) => {
                        heard = Instant::now();
                        self.message(message).await
                    }
                    Err(why) => Err(Lost::signalling(Next::Resume, why)),
                },
                event = peer_event => self.peer_event(event).await,
                () = config.wishes.changed() => self.subscribe().await,
                _ = ping.tick() => {
                    let timestamp = unix_millis();
                    self.send(Request::PingReq(proto::Ping { timestamp, rtt: 0 })).await
                }
                _ = tick.tick() => match self.overdue(heard) {
                    Ok(()) => self.subscribe_again().await,
                    lost => lost,
                },
            };
            if let Err(lost) = step {
                return lost;
            }
        }
    }

    pub(super) async fn send(&mut self, message: Request) -> Result<(), Lost> {
        match &mut self.link {
            Some(link) => link.send(message).await.map_err(|why| Lost::signalling(Next::Resume, why)),
            None => Err(Lost::signalling(Next::Resume, "no connection")),
        }
    }

    fn overdue(&self, heard: Instant) -> Result<(), Lost> {
        self.intake.offer_stats();
        if heard.elapsed() >= self.silence {
            return Err(Lost::signalling(Next::Resume, format!("nothing heard for {} s", self.silence.as_secs())));
        }
        let limit = if self.told_connected { MEDIA_BACK_TIMEOUT } else { MEDIA_UP_TIMEOUT };
        match (&self.peer, self.media_awaited) {
            (Some((peer, _)), Some(since)) if since.elapsed() >= limit => {
                Err(Lost { next: Next::Rejoin, stage: Stage::Media, why: peer.remedy() })
            }
            _ => Ok(()),
        }
    }

    async fn message(&mut self, message: Response) -> Result<(), Lost> {
        match message {
            Response::Offer(offer) => self.offered(offer).await,
            Response::Trickle(trickle) if trickle.target == proto::SignalTarget::Subscriber as i32 => {
                self.peer().await?.add_candidate(&trickle.candidate_init).await;
                Ok(())
            }
            Response::Update(update) => {
                let others: Vec<_> = update.participants.into_iter().filter(|info| info.sid != self.sid).collect();
                let changes = self.roster.update(&others);
                self.announce(changes).await;
                Ok(())
            }
            Response::RefreshToken(token) => {
                self.config.credentials.refresh(token);
                Ok(())
            }
            Response::Leave(leave) => Err(self.told_to_leave(&leave)),
            _ => Ok(()),
        }
    }

    /// The server, too, gives up on a recorder that no media reaches, at about the same time as we do.
    fn told_to_leave(&self, leave: &proto::LeaveRequest) -> Lost {
        let lost = left(leave);
        match &self.peer {
            Some((peer, _)) if leave.reason() == proto::DisconnectReason::ConnectionTimeout && !self.media_up => {
                Lost { stage: Stage::Media, why: peer.remedy(), ..lost }
            }
            _ => lost,
        }
    }

    /// The peer connection of this membership, made when first needed.
    async fn peer(&mut self) -> Result<&mut Peer, Lost> {
        let media = |error: crate::connect::peer::PeerError| Lost { next: Next::Rejoin, stage: Stage::Media, why: error.to_string() };
        if self.peer.is_none() {
            let loopback = self.config.address.loopback;
            let config = PeerConfig { loopback, ice_servers: self.ice_servers.clone(), ..Default::default() };
            self.peer = Some(Peer::new(config, &self.intake).await.map_err(media)?);
            self.media_awaited = Some(Instant::now());
        }
        match &mut self.peer {
            Some((peer, _)) => Ok(peer),
            None => Err(Lost { next: Next::Rejoin, stage: Stage::Media, why: "no peer connection".into() }),
        }
    }

    async fn offered(&mut self, offer: proto::SessionDescription) -> Result<(), Lost> {
        let answered = self.peer().await?.answer(&offer.sdp).await;
        let sdp = answered.map_err(|error| Lost { next: Next::Rejoin, stage: Stage::Media, why: error.to_string() })?;
        let answer = proto::SessionDescription { r#type: "answer".into(), sdp, id: offer.id, ..Default::default() };
        self.offer = Some(offer);
        self.answer = Some(answer.clone());
        self.send(Request::Answer(answer)).await
    }

    async fn peer_event(&mut self, event: Option<PeerEvent>) -> Result<(), Lost> {
        match event {
            Some(PeerEvent::Candidate(candidate_init)) => {
                let target = proto::SignalTarget::Subscriber as i32;
                self.send(Request::Trickle(proto::TrickleRequest { candidate_init, target, r#final: false })).await
            }
            Some(PeerEvent::Up) => {
                self.media_up = true;
                self.ever_connected = true;
                (self.media_awaited, self.trouble, self.quiet) = (None, None, false);
                self.tell_connected().await;
                Ok(())
            }
            Some(PeerEvent::Down) => {
                self.media_up = false;
                self.media_awaited = Some(Instant::now());
                self.trouble.get_or_insert_with(Instant::now);
                if std::mem::replace(&mut self.told_connected, false) {
                    self.intake.tell_media(Input::Disconnected).await;
                }
                Ok(())
            }
            Some(PeerEvent::Failed) | None => {
                let why = self.peer.as_ref().map_or_else(String::new, |(peer, _)| peer.remedy());
                Err(Lost { next: Next::Rejoin, stage: Stage::Media, why })
            }
        }
    }
}

pub(super) fn left(leave: &proto::LeaveRequest) -> Lost {
    let (reason, action) = (leave.reason(), leave.action());
    Lost::signalling(policy::after_leave(reason, action), format!("the server says leave: {}", reason.as_str_name()))
}

fn unix_millis() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_millis() as i64
}

//! Getting in: the WebSocket, and the first message on it.

use std::time::Duration;

use livekit_protocol as proto;
use rtc::peer_connection::transport::RTCIceServer;

use super::member::{Lost, Member, PING_EVERY_DEFAULT, SILENCE_DEFAULT, left};
use super::policy::{self, Next};
use super::signal::{Refused, Request, Response, Signal};
use crate::connect::token::is_expired;

/// The first message after the WebSocket is open.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

impl Member {
    pub(super) async fn open(&mut self, resuming: bool) -> Result<(), Lost> {
        let config = self.config.clone();
        let auto = u8::from(config.wanted.everything());
        let mut query = format!("&auto_subscribe={auto}");
        if resuming {
            query += &format!("&reconnect=1&reconnect_reason=1&sid={}", self.sid);
        }
        loop {
            let token = if resuming { config.credentials.for_resume() } else { config.credentials.for_join() };
            match Signal::connect(&config.address, &config.tls, &token, &query).await {
                Ok(link) => {
                    self.link = Some(link);
                    return Ok(());
                }
                // A refreshed token may have died while the original lives.
                Err(Refused::Http { status: 401, .. }) if config.credentials.forget_refreshed() => {}
                Err(Refused::Http { status, body }) => {
                    let end = policy::after_refusal(status, &body, is_expired(&token), self.ever_connected);
                    // A resume that is refused says nothing about a new join.
                    let next = end.filter(|_| !resuming).map_or(Next::Rejoin, Next::End);
                    return Err(Lost::signalling(next, format!("HTTP {status}")));
                }
                Err(Refused::Network(why)) if resuming => return Err(Lost::signalling(Next::Resume, why)),
                Err(Refused::Network(why)) => return Err(Lost::signalling(Next::Rejoin, why)),
            }
        }
    }

    /// What the server says first: that we are in, or that we are not.
    pub(super) async fn greeting(&mut self, resuming: bool) -> Result<(), Lost> {
        let Some(link) = &mut self.link else { return Err(Lost::signalling(Next::Rejoin, "no connection")) };
        let message = match tokio::time::timeout(GREETING_TIMEOUT, link.next()).await {
            Ok(Ok(message)) => message,
            Ok(Err(why)) => return Err(Lost::signalling(if resuming { Next::Resume } else { Next::Rejoin }, why)),
            Err(_) => return Err(Lost::signalling(Next::Rejoin, "the server does not greet")),
        };
        match message {
            Response::Join(join) if !resuming => self.joined(join).await,
            Response::Reconnect(_) if resuming => {
                // The tracks that differ from what happens by itself.
                let chosen = !self.config.wanted.everything();
                let track_sids = if chosen { self.roster.sids() } else { vec![] };
                let subscription = proto::UpdateSubscription { track_sids, subscribe: chosen, ..Default::default() };
                let state = proto::SyncState {
                    answer: self.answer.clone(),
                    offer: self.offer.clone(),
                    subscription: Some(subscription),
                    ..Default::default()
                };
                self.send(Request::SyncState(state)).await?;
                // Media was never away; when it is, the peer connection says so.
                if self.media_up {
                    self.trouble = None;
                }
                tracing::info!("resumed");
                Ok(())
            }
            Response::Leave(leave) => Err(left(&leave)),
            _ => Err(Lost::signalling(Next::Rejoin, "the server greets with something else")),
        }
    }

    async fn joined(&mut self, join: proto::JoinResponse) -> Result<(), Lost> {
        self.sid = join.participant.map(|own| own.sid).unwrap_or_default();
        let seconds = |value: i32, default: Duration| u64::try_from(value).ok().filter(|&s| s > 0).map_or(default, Duration::from_secs);
        self.ping_every = seconds(join.ping_interval, PING_EVERY_DEFAULT);
        self.silence = seconds(join.ping_timeout, SILENCE_DEFAULT);
        self.ice_servers = join.ice_servers.into_iter().filter_map(ice_server).collect();
        let room = join.room.unwrap_or_default();
        tracing::info!(room = room.sid, others = join.other_participants.len(), "joined");
        let changes = self.roster.replace(&join.other_participants);
        self.announce(changes).await
    }
}

/// TURN over UDP; the crate knows no other. STUN is of no use: the SFU sees our address by itself, and the servers it names by default are
/// those of third parties.
fn ice_server(server: proto::IceServer) -> Option<RTCIceServer> {
    let known = |url: &String| url.starts_with("turn:") && !url.contains("transport=tcp");
    let urls: Vec<String> = server.urls.into_iter().filter(known).collect();
    (!urls.is_empty()).then_some(RTCIceServer { urls, username: server.username, credential: server.credential })
}

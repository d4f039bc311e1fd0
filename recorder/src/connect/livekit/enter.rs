//! Getting in: the WebSocket, and the first message on it.

use std::time::{Duration, Instant};

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
        // Nothing is sent that nobody asked for.
        let mut query = String::from("&auto_subscribe=0");
        if resuming {
            query += &format!("&reconnect=1&reconnect_reason=1&sid={}", self.sid);
        }
        let mut refused = None;
        for token in config.credentials.candidates(resuming) {
            match Signal::connect(&config.address, &config.tls, &token, &query).await {
                Ok(link) => {
                    self.link = Some(link);
                    return Ok(());
                }
                Err(Refused::Http { status, body }) => {
                    refused = Some((status, body, is_expired(&token)));
                    // One token may be dead while another lives; everything else has nothing to do with tokens.
                    if status != 401 {
                        break;
                    }
                }
                Err(Refused::Network(why)) if resuming => return Err(Lost::signalling(Next::Resume, why)),
                Err(Refused::Network(why)) => return Err(Lost::signalling(Next::Rejoin, why)),
            }
        }
        let (status, body, expired) = refused.unwrap_or_default();
        // A resume that is refused says nothing about a new join.
        let next = if resuming { Next::Rejoin } else { policy::after_refusal(status, &body, expired, self.ever_connected) };
        Err(Lost::signalling(next, format!("HTTP {status}")))
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
                let track_sids = self.told.keys().cloned().collect();
                let subscription = proto::UpdateSubscription { track_sids, subscribe: true, ..Default::default() };
                let state = proto::SyncState {
                    answer: self.answer.clone(),
                    offer: self.offer.clone(),
                    subscription: Some(subscription),
                    ..Default::default()
                };
                self.send(Request::SyncState(state)).await?;
                // What was sent last may have gone nowhere.
                self.told.values_mut().for_each(|size| *size = None);
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
        let room = join.room.unwrap_or_default();
        if !room.sid.is_empty() && self.closed_room.as_ref() == Some(&room.sid) {
            return Err(Lost::signalling(Next::RejoinQuietly, "the room that was closed is not cleared away yet"));
        }
        self.room = room.sid;
        let own = join.participant.unwrap_or_default();
        (self.sid, self.identity, self.joined_at) = (own.sid, own.identity, Instant::now());
        let seconds = |value: i32, default: Duration| u64::try_from(value).ok().filter(|&s| s > 0).map_or(default, Duration::from_secs);
        self.ping_every = seconds(join.ping_interval, PING_EVERY_DEFAULT);
        self.silence = seconds(join.ping_timeout, SILENCE_DEFAULT);
        self.ice_servers = join.ice_servers.into_iter().filter_map(ice_server).collect();
        tracing::info!(room = self.room, others = join.other_participants.len(), "joined");
        self.told.clear();
        let changes = self.roster.replace(&join.other_participants);
        self.announce(changes).await;
        Ok(())
    }
}

/// TURN over UDP; the crate knows no other. STUN is of no use: the SFU sees our address by itself, and the servers it names by default are
/// those of third parties.
fn ice_server(server: proto::IceServer) -> Option<RTCIceServer> {
    let known = |url: &String| url.starts_with("turn:") && !url.contains("transport=tcp");
    let urls: Vec<String> = server.urls.into_iter().filter(known).collect();
    (!urls.is_empty()).then_some(RTCIceServer { urls, username: server.username, credential: server.credential })
}

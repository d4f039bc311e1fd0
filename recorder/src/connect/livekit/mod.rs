//! LiveKit: a hidden recorder that subscribes to everything.
//!
//! `Member` is one stay in the room, with all its WebSockets and peer connections: it resumes after a lost WebSocket, joins anew when the
//! server has forgotten it, and gives up only when a policy of [`policy`] says so.

mod announce;
mod enter;
mod member;
mod policy;
mod roster;
mod signal;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::member::Member;
pub(crate) use self::roster::Wanted;
pub(crate) use self::signal::{Address, AddressError, tls};
use super::intake::Intake;
use super::token::Credentials;
use super::{ConnectOrder, Connector, Event, Stamped};

/// Which room, and how to get in.
#[derive(Debug)]
pub(crate) struct LiveKit {
    pub(crate) address: Address,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) credentials: Credentials,
    pub(crate) wanted: Wanted,
}

#[async_trait::async_trait]
impl Connector for LiveKit {
    async fn run(
        self: Box<Self>,
        events: mpsc::Sender<Stamped<Event>>,
        mut orders: mpsc::Receiver<ConnectOrder>,
        cancel: CancellationToken,
    ) {
        let intake = Intake::new(events);
        let config = Arc::new(*self);
        let mut member = Member::new(config.clone(), intake.clone());
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            () = obey(&mut orders, &config, &intake) => None,
            reason = member.stay() => Some(reason),
        };
        member.leave().await;
        intake.offer_stats();
        if let Some(reason) = ended {
            intake.tell(Event::Ended(reason)).await;
        }
    }
}

/// Returns when told to leave, or when nobody gives orders any more.
async fn obey(orders: &mut mpsc::Receiver<ConnectOrder>, config: &LiveKit, intake: &Intake) {
    while let Some(order) = orders.recv().await {
        match order {
            ConnectOrder::RequestKeyframe(track) => intake.request_keyframe(track),
            ConnectOrder::TokenChanged(token) => config.credentials.replace(token),
            ConnectOrder::Leave => return,
        }
    }
}

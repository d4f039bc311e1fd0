//! LiveKit: a hidden recorder that subscribes to what it is told to.
//!
//! `Member` is one stay in the room, with all its WebSockets and peer connections: it resumes after a lost WebSocket, joins anew when the
//! server has forgotten it, and gives up only when a policy of [`policy`] says so.

mod announce;
mod enter;
mod member;
pub(super) mod policy;
pub(super) mod roster;
pub(super) mod signal;
mod silent;
mod wishes;

use std::sync::Arc;

use recording_crds::recording::VideoStream;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use self::member::Member;
pub(crate) use self::signal::{Address, AddressError, tls};
use self::wishes::Wishes;
use super::intake::Intake;
use super::token::Credentials;
use super::{ConnectOrder, Connector, Event, Stamped};

/// Which room, and how to get in.
#[derive(Debug)]
pub(crate) struct LiveKit {
    pub(crate) address: Address,
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) credentials: Credentials,
    pub(crate) video_stream: VideoStream,
    wishes: Wishes,
    /// Told when our identity is ours although another connection came under it.
    pub(crate) may_return: Notify,
}

impl LiveKit {
    pub(crate) fn new(address: Address, tls: Arc<rustls::ClientConfig>, credentials: Credentials, video_stream: VideoStream) -> Self {
        Self { address, tls, credentials, video_stream, wishes: Wishes::default(), may_return: Notify::new() }
    }
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
            ConnectOrder::Subscribe { track, wanted } => config.wishes.set(track, wanted),
            ConnectOrder::Size { track, wanted } => config.wishes.set_size(track, wanted),
            ConnectOrder::SecretChanged(secret) => config.credentials.replace(secret),
            ConnectOrder::Return => config.may_return.notify_one(),
            ConnectOrder::Leave => return,
        }
    }
}

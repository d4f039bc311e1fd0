//! Connectors: how a recorder gets into a room.
//!
//! A connector joins one room, stays in it through every disturbance it can survive, and tells the driver what happens there: who comes
//! and goes, and every RTP packet and sender report, stamped with its arrival. It numbers participants (the same identity is the same
//! participant for ever) and tracks (each publication is a new one). `Published` always precedes the first `Packet` of a track.

mod batching;
mod build;
mod counters;
mod formats;
pub(crate) mod fuzzing;
mod intake;
mod livekit;
mod media_engine;
mod nack;
mod peer;
mod pump;
mod red;
mod redact;
mod sender_reports;
mod test_pattern;
mod token;
mod track_names;

use std::time::Instant;

use recorder_media::layout::Wanted;
use recorder_media::{Input, TrackKey};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub(crate) use build::{BuildError, Secrets, build};
pub(crate) use counters::ConnectStats;
pub(crate) use token::ChannelSecret;

/// Room of the queue to the driver, events. 17 people at 4 Mbit/s send about 8,000 packets a second: half a second of them.
/// When it is full, packets are dropped, counted, and answered with a request for a key frame; nothing else is ever dropped.
pub(crate) const EVENT_QUEUE: usize = 4096;

/// Something, and when it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Stamped<T> {
    pub(crate) at: Instant,
    pub(crate) value: T,
}

/// What a connector tells the driver.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Connected, Disconnected, Joined, Left, Published, Unpublished, Muted, Unmuted, Packet, SenderReport.
    Media(Input),
    /// This track, published as [`recorder_media::Codec::Other`], is end-to-end encrypted: `DecryptionFailed`.
    Encrypted(TrackKey),
    /// Another connection came under our identity and we are out; the connector waits for [`ConnectOrder::Return`].
    IdentityTaken,
    /// Once a second.
    Stats(ConnectStats),
    /// The last event: the connector will not come back.
    Ended(EndReason),
}

/// Why a connector gave up. Texts are for people and never hold a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// The connection was lost and did not return within the reconnect window.
    Disconnected(String),
    /// Removed by the SFU, or the room was deleted.
    RemovedFromChannel(String),
    TokenInvalid(String),
    TokenExpired(String),
    /// The room was never reached.
    ConnectError {
        stage: Stage,
        message: String,
    },
    /// The SFU does not take what the spec says: no such room.
    InvalidParameter(String),
    /// The test pattern is over; its participants have left.
    SourceFinished,
}

/// How far a connection got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Signalling,
    Media,
}

/// What the driver tells a connector.
#[derive(Clone, Debug)]
pub(crate) enum ConnectOrder {
    RequestKeyframe(TrackKey),
    /// Whether the SFU shall send a track. None is sent before it is wanted.
    Subscribe {
        track: TrackKey,
        wanted: bool,
    },
    /// Pictures for this place are large enough, where a publisher sends several sizes.
    Size {
        track: TrackKey,
        wanted: Wanted,
    },
    /// The Secret with the ready-made token or the API key has changed.
    SecretChanged(ChannelSecret),
    /// The identity is ours: come back.
    Return,
    /// Leave the room in good order; `run` returns.
    Leave,
}

/// One way into a room.
#[async_trait::async_trait]
pub(crate) trait Connector: Send {
    /// Runs until ordered to leave, cancelled, or ended (then the last event says why).
    async fn run(self: Box<Self>, events: mpsc::Sender<Stamped<Event>>, orders: mpsc::Receiver<ConnectOrder>, cancel: CancellationToken);
}

//! What goes wrong: one row each.

use recording_crds::codes::Code;
use recording_tests::harness::s3_proxy::{self as proxy, Call};
use std::time::Duration;

/// More anonymous memory than before a fault: answers in the SDK's hands, four requests under way, and what the allocator keeps of them. What
/// waits lies on disk: a minute of media is not in here.
pub const GROWTH_KB: u64 = 12 << 10;

const LASTS: Duration = Duration::from_secs(15);

pub enum Fault {
    /// Nobody listens.
    Away,
    Of(proxy::Fault),
}

pub struct Trouble {
    pub name: &'static str,
    pub fault: Fault,
    pub on: fn(&Call) -> bool,
    pub lasts: Duration,
    /// How it is told while it lasts.
    pub degraded: Option<Code>,
    /// Segments wait, more than the one that is always on its way, and the report says how much.
    pub backlog: bool,
}

const fn refused(name: &'static str, fault: proxy::Fault, on: fn(&Call) -> bool, backlog: bool) -> Trouble {
    Trouble { name, fault: Fault::Of(fault), on, lasts: LASTS, degraded: Some(Code::UploaderFailed), backlog }
}

/// The longest first: it is what the whole takes.
pub const TROUBLES: &[Trouble] = &[
    Trouble {
        name: "away-for-60-seconds",
        fault: Fault::Away,
        on: proxy::everything,
        lasts: Duration::from_secs(60),
        degraded: Some(Code::UploaderFailed),
        backlog: true,
    },
    // Less than is recorded, but every upload gets through: late is not refused.
    Trouble { degraded: None, ..refused("slow", proxy::Fault::Slow(5_000), proxy::everything, true) },
    refused("internal-error", proxy::Fault::InternalError, proxy::everything, true),
    refused("slow-down", proxy::Fault::SlowDown, proxy::everything, true),
    refused("access-denied", proxy::Fault::AccessDenied, proxy::everything, true),
    refused("wrong-clock", proxy::Fault::WrongClock(5), proxy::everything, true),
    refused("disconnected", proxy::Fault::Disconnect, proxy::everything, true),
    refused("requests-cut", proxy::Fault::CutRequest, proxy::everything, true),
    refused("answers-cut", proxy::Fault::CutAnswer, proxy::everything, true),
    refused("segments-denied", proxy::Fault::AccessDenied, proxy::segments, true),
    refused("playlists-refused", proxy::Fault::InternalError, proxy::playlists, false),
    refused("manifests-refused", proxy::Fault::SlowDown, proxy::manifests, false),
];

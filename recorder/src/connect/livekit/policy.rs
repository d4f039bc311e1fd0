//! What to do when LiveKit says no, or says nothing: pure decisions.

use std::time::Duration;

use livekit_protocol::DisconnectReason;
use livekit_protocol::leave_request::Action;

use crate::connect::redact::redact;
use crate::connect::{EndReason, Stage};

/// Tries before the first connection.
pub(crate) const CONNECT_WINDOW: Duration = Duration::from_secs(90);
/// Tries after a lost one.
pub(crate) const RECONNECT_WINDOW: Duration = Duration::from_secs(60);
/// Our identity is taken back so often, less one.
const CONTESTS_MAX: u32 = 3;
/// A lost signalling connection is resumed within this, or the server has forgotten us.
pub(crate) const RESUME_WINDOW: Duration = Duration::from_secs(15);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(3);

/// How to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Same membership, new WebSocket.
    Resume,
    /// New membership, new peer connection.
    Rejoin,
    /// As `Rejoin`, but nothing was missed: the room was closed because it was empty.
    RejoinQuietly,
    /// As `Rejoin`, if nobody else has a right to our identity.
    Contested,
    /// No token that we have is taken any more; for this reason, unless the Secret changes in time.
    Renew(EndReason),
    End(EndReason),
}

/// The server has sent LeaveRequest.
pub(crate) fn after_leave(reason: DisconnectReason, action: Action) -> Next {
    use DisconnectReason as R;
    match reason {
        R::ParticipantRemoved | R::UserRejected | R::UserUnavailable => {
            Next::End(EndReason::RemovedFromChannel("the SFU removed the recorder from the room".into()))
        }
        R::RoomDeleted => Next::End(EndReason::RemovedFromChannel("the room was deleted".into())),
        R::DuplicateIdentity => Next::Contested,
        R::RoomClosed => Next::RejoinQuietly,
        _ if action == Action::Resume => Next::Resume,
        // ServerShutdown says "disconnect": but there may be another server, or the same one in a moment.
        _ => Next::Rejoin,
    }
}

/// The server has refused the WebSocket of a new join.
pub(crate) fn after_refusal(status: u16, body: &str, token_is_expired: bool, was_in_room: bool) -> Next {
    let says = redact(body.trim());
    // Who was in the room may be given another token; who never was has been given a wrong one.
    let unless_renewed = |reason| if was_in_room { Next::Renew(reason) } else { Next::End(reason) };
    match status {
        401 if token_is_expired || body.contains("expired") => {
            unless_renewed(EndReason::TokenExpired(format!("LiveKit refused the token: {says}")))
        }
        401 | 403 => unless_renewed(EndReason::TokenInvalid(format!("LiveKit refused the token: {says}"))),
        // The room is gone and may not be made by joining: after a closed room that is no reason to end, idle time decides.
        404 if was_in_room => Next::Rejoin,
        400 | 404 => Next::End(EndReason::InvalidParameter(format!("LiveKit does not let the recorder into the room: {status} {says}"))),
        _ => Next::Rejoin,
    }
}

/// No connection for too long.
pub(crate) fn out_of_time(ever_connected: bool, quiet: bool, trouble: Duration, stage: Stage, message: &str) -> Option<EndReason> {
    if !ever_connected {
        let message = format!("no connection within {} s: {message}", CONNECT_WINDOW.as_secs());
        return (trouble >= CONNECT_WINDOW).then_some(EndReason::ConnectError { stage, message });
    }
    let message = format!("no connection again within {} s: {message}", RECONNECT_WINDOW.as_secs());
    (!quiet && trouble >= RECONNECT_WINDOW).then_some(EndReason::Disconnected(message))
}

/// Another connection came under our identity, for the `contests`th time in a row, and it is no newer attempt's.
pub(crate) fn after_contest(contests: u32, identity: &str) -> Option<EndReason> {
    let message = format!("other connections come into the room as {identity} again and again; give each recording a uid of its own");
    (contests >= CONTESTS_MAX).then_some(EndReason::Disconnected(message))
}

/// Doubles from 0.1 to 3 s.
pub(crate) fn backoff(failures: u32) -> Duration {
    (BACKOFF_FIRST * (1 << failures.min(5))).min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_to_leave_has_its_answer() {
        let removed = |next| matches!(next, Next::End(EndReason::RemovedFromChannel(_)));
        assert!(removed(after_leave(DisconnectReason::ParticipantRemoved, Action::Disconnect)));
        assert!(removed(after_leave(DisconnectReason::RoomDeleted, Action::Disconnect)));
        assert_eq!(after_leave(DisconnectReason::DuplicateIdentity, Action::Disconnect), Next::Contested);
        assert_eq!(after_leave(DisconnectReason::RoomClosed, Action::Disconnect), Next::RejoinQuietly);
        assert_eq!(after_leave(DisconnectReason::ServerShutdown, Action::Disconnect), Next::Rejoin);
        assert_eq!(after_leave(DisconnectReason::StateMismatch, Action::Reconnect), Next::Rejoin);
        assert_eq!(after_leave(DisconnectReason::ConnectionTimeout, Action::Resume), Next::Resume);
        assert_eq!(after_leave(DisconnectReason::UnknownReason, Action::Disconnect), Next::Rejoin);
    }

    #[test]
    fn no_refusal_tells_the_token() {
        let token = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJrZXkifQ.c2lnbmF0dXJlLW9mLWl0";
        let bodies = [format!("invalid token: {token}, error: token is expired (exp)"), token.to_owned(), format!("x={token}&y")];
        for status in [400, 401, 403, 404] {
            for body in &bodies {
                let reason = after_refusal(status, body, false, false);
                let text = format!("{reason:?}");
                assert!(token.split('.').all(|part| !text.contains(part)), "{text}");
            }
        }
        assert!(matches!(after_refusal(401, &bodies[0], false, false), Next::End(EndReason::TokenExpired(_))));
        assert!(matches!(after_refusal(401, "bad signature", true, false), Next::End(EndReason::TokenExpired(_))));
        assert!(matches!(after_refusal(401, "bad signature", false, false), Next::End(EndReason::TokenInvalid(_))));
        assert!(matches!(after_refusal(401, "bad signature", true, true), Next::Renew(EndReason::TokenExpired(_))));
        assert!(matches!(after_refusal(401, "bad signature", false, true), Next::Renew(EndReason::TokenInvalid(_))));
    }

    #[test]
    fn what_may_get_better_is_tried_again() {
        assert_eq!([429, 500, 502, 503].map(|status| after_refusal(status, "", false, false)), [const { Next::Rejoin }; 4]);
        assert!(matches!(after_refusal(404, "no room", false, false), Next::End(EndReason::InvalidParameter(_))));
        assert_eq!(after_refusal(404, "no room", false, true), Next::Rejoin);
    }

    #[test]
    fn windows_and_backoff() {
        let end = |ever, quiet, seconds| out_of_time(ever, quiet, Duration::from_secs(seconds), Stage::Signalling, "refused");
        assert_eq!(end(false, false, 89), None);
        assert!(matches!(end(false, false, 90), Some(EndReason::ConnectError { stage: Stage::Signalling, .. })));
        assert_eq!((end(true, false, 59), end(true, true, 3600)), (None, None));
        assert!(matches!(end(true, false, 60), Some(EndReason::Disconnected(_))));
        assert_eq!(after_contest(2, "recorder-1"), None);
        assert!(matches!(after_contest(3, "recorder-1"), Some(EndReason::Disconnected(why)) if why.contains("recorder-1")));
        assert_eq!((backoff(0), backoff(3), backoff(40)), (BACKOFF_FIRST, Duration::from_millis(800), BACKOFF_MAX));
    }
}

use super::*;

#[test]
fn every_ending_has_its_code() {
    let why = || "why".to_owned();
    let connect = |stage| EndReason::ConnectError { stage, message: why() };
    let table = [
        (Outcome::NoUsers, None, Some(Code::NoUsers)),
        (Outcome::NoUsers, Some(EndReason::SourceFinished), Some(Code::NoUsers)),
        (Outcome::StopRequested, None, Some(Code::StopRequested)),
        (Outcome::Deleted, None, Some(Code::Deleted)),
        (Outcome::Cancelled, None, Some(Code::Deleted)),
        (Outcome::MaxDurationReached, None, Some(Code::MaxDurationReached)),
        (Outcome::CodecNotSupported, None, Some(Code::CodecNotSupported)),
        (Outcome::NoRecordedData, None, Some(Code::NoRecordedData)),
        (Outcome::UploaderFailed, None, Some(Code::UploaderFailed)),
        (Outcome::Superseded, None, Some(Code::Superseded)),
        (Outcome::Interrupted, None, None),
        (Outcome::Interrupted, Some(EndReason::Disconnected(why())), None),
        (Outcome::RemovedFromChannel, Some(EndReason::RemovedFromChannel(why())), Some(Code::RemovedFromChannel)),
        (Outcome::Disconnected, None, Some(Code::Disconnected)),
        (Outcome::Disconnected, Some(EndReason::Disconnected(why())), Some(Code::Disconnected)),
        (Outcome::Disconnected, Some(EndReason::TokenInvalid(why())), Some(Code::TokenInvalid)),
        (Outcome::Disconnected, Some(EndReason::TokenExpired(why())), Some(Code::TokenExpired)),
        (Outcome::Disconnected, Some(connect(Stage::Signalling)), Some(Code::ConnectError)),
        (Outcome::Disconnected, Some(connect(Stage::Media)), Some(Code::ConnectError)),
        (Outcome::Disconnected, Some(EndReason::InvalidParameter(why())), Some(Code::InvalidParameter)),
        (Outcome::Disconnected, Some(EndReason::Superseded(why())), Some(Code::Superseded)),
        // Stored media that did not make it counts more than why the room ended.
        (Outcome::UploaderFailed, Some(EndReason::Disconnected(why())), Some(Code::UploaderFailed)),
    ];
    for (outcome, reason, expected) in table {
        let found = code(outcome, reason.as_ref());
        assert_eq!(found.as_ref().map(|(code, _)| *code), expected, "{outcome:?} {reason:?}");
        assert!(found.is_none_or(|(_, message)| !message.is_empty()));
    }
}

#[test]
fn storage_that_is_wrong_from_the_start_says_who_must_act() {
    let of = |failure: StoreFailure| InitFailure::from(failure).code;
    assert_eq!(of(StoreFailure::Invalid("NoSuchBucket".into())), Code::InvalidParameter);
    assert_eq!(of(StoreFailure::Denied("AccessDenied".into())), Code::UploaderInit);
    assert_eq!(of(StoreFailure::Retryable("refused".into())), Code::UploaderInit);
    assert_eq!(of(StoreFailure::Conflict), Code::Superseded);
}

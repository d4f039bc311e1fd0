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

fn session_report(recorded: u64, uploaded: u64, backup: u64) -> recorder_media::Report {
    recorder_media::Report {
        state: recorder_media::State::Finished,
        connected: false,
        participants: 0,
        first_media: None,
        recorded_files: recorded,
        uploaded_files: uploaded,
        uploaded_bytes: 0,
        backup_files: backup,
        recorded90k: 0,
        backlog90k: 0,
        transcoding90k: 0,
        overload_step: 0,
        playlists_stored: 0,
        gaps: 0,
        gap90k: 0,
        last_gap: None,
        packets: 0,
        packets_lost: 0,
        snapshots: 0,
        snapshots_lost: 0,
        degraded: Vec::new(),
    }
}

#[test]
fn the_last_word_says_what_is_where() {
    let of = |code, recorded, uploaded, backup| {
        let outcome = report(code, code.meaning(), &session_report(recorded, uploaded, backup));
        (outcome.media, outcome.all_stored, outcome.backed_up)
    };
    assert_eq!(of(Code::NoUsers, 3, 3, 0), (true, true, false));
    assert_eq!(of(Code::NoUsers, 3, 1, 2), (true, false, true));
    assert_eq!(of(Code::NoUsers, 3, 0, 3), (true, false, true));
    assert_eq!(of(Code::UploaderFailed, 3, 1, 1), (true, false, false));
    assert_eq!(of(Code::NoRecordedData, 0, 0, 0), (false, true, false));
    let message = report(Code::UploaderFailed, "not stored", &session_report(7, 3, 2)).message;
    assert_eq!(message, "not stored: of 7 files 3 are in the storage, 2 in the backup storage, 2 in neither");
}

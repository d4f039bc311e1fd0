//! What each ending must give: one row each.

use crate::scene::{Over, Scene};
use crate::{attempts, connection, orders, room, storage, token};
use anyhow::Result;
use recording_crds::codes::Code;
use recording_crds::codes::Component::{Recorder, Service, Uploader};
use recording_crds::status::Phase;
use recording_crds::status::Phase::{Completed, Failed};

/// What lies in storage at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// All that was recorded; every playlist can be played and is ended.
    Whole,
    /// The same, of a later attempt that knows of its predecessor only what storage does: counters do not run on.
    Adopted,
    /// The same, but for segments that the manifest calls lost.
    Lossy,
    /// Storage took nothing any more: playlists can be played as far as they go.
    Unfinished,
    Nothing,
    /// Not even the bucket.
    Gone,
}

pub struct Ending {
    pub name: &'static str,
    /// Brings it about.
    pub act: fn(&mut Scene) -> Result<Over>,
    pub result: Code,
    pub number: Option<i64>,
    pub component: recording_crds::codes::Component,
    pub phase: Phase,
    /// Of `local`: 0 Completed, 1 Failed (contracts.md). Of a recorder that a test runs by itself: 0, the result is written.
    pub exit: i32,
    pub failure: Option<(Code, Option<i64>)>,
    pub media: Media,
}

type Act = fn(&mut Scene) -> Result<Over>;
type Said = (Code, Option<i64>, recording_crds::codes::Component);

const fn completed(name: &'static str, act: Act, said: Said) -> Ending {
    let (result, number, component) = said;
    Ending { name, act, result, number, component, phase: Completed, exit: 0, failure: None, media: Media::Whole }
}

const fn failed(name: &'static str, act: Act, said: Said, media: Media) -> Ending {
    let (result, number, component) = said;
    Ending { name, act, result, number, component, phase: Failed, exit: 1, failure: Some((result, number)), media }
}

/// An end in good order, but there is nothing to show for it.
const fn fruitless(name: &'static str, act: Act, said: Said) -> Ending {
    let ending = failed(name, act, said, Media::Nothing);
    Ending { failure: Some((Code::NoRecordedData, Some(435))), ..ending }
}

/// A recorder without `local` around it has written its result.
const fn by_itself(ending: Ending) -> Ending {
    Ending { exit: 0, ..ending }
}

/// Storage does not hold everything.
const fn with(media: Media, ending: Ending) -> Ending {
    Ending { media, ..ending }
}

const NO_USERS: Said = (Code::NoUsers, Some(434), Recorder);
const NO_RECORDED_DATA: Said = (Code::NoRecordedData, Some(435), Recorder);
const STOP_REQUESTED: Said = (Code::StopRequested, None, Service);
const DELETED: Said = (Code::Deleted, None, Service);
const MAX_DURATION: Said = (Code::MaxDurationReached, None, Service);
const REMOVED: Said = (Code::RemovedFromChannel, Some(123), Recorder);
const DISCONNECTED: Said = (Code::Disconnected, Some(431), Recorder);
const TOKEN_EXPIRED: Said = (Code::TokenExpired, Some(109), Recorder);
const CODEC: Said = (Code::CodecNotSupported, None, Recorder);
const UPLOADER_FAILED: Said = (Code::UploaderFailed, Some(439), Uploader);
const RECORDER_EXIT: Said = (Code::RecorderExit, Some(441), Recorder);

/// The longest first: they are what the whole takes.
pub const ENDINGS: &[Ending] = &[
    failed("sfu-gone-for-good", connection::gone_for_good, DISCONNECTED, Media::Whole),
    completed("sfu-away-for-20-seconds", connection::away_for_a_while, NO_USERS),
    completed("room-closed-while-idle", room::closed_while_idle, NO_USERS),
    completed("credentials-replaced-in-time", storage::credentials_replaced, NO_USERS),
    completed("token-renewed", token::renewed, NO_USERS),
    failed("identity-taken-three-times", attempts::identity_taken_three_times, DISCONNECTED, Media::Whole),
    failed("token-expired-for-good", token::expired_for_good, TOKEN_EXPIRED, Media::Whole),
    failed("credentials-revoked", storage::credentials_revoked, UPLOADER_FAILED, Media::Unfinished),
    failed("bucket-deleted", storage::bucket_deleted, UPLOADER_FAILED, Media::Gone),
    with(Media::Lossy, completed("segment-lost", storage::segment_lost, NO_USERS)),
    with(Media::Adopted, by_itself(completed("superseded", attempts::superseded, NO_USERS))),
    by_itself(completed("interrupted-and-elsewhere", attempts::interrupted_and_elsewhere, NO_USERS)),
    completed("identity-taken-once", attempts::identity_taken_once, NO_USERS),
    completed("recorder-terminated-and-resumed", orders::recorder_terminated_and_resumed, NO_USERS),
    completed("ctrl-c-twice-and-resumed", orders::interrupted_twice_and_resumed, NO_USERS),
    completed("machines-are-nobody", room::machines_are_nobody, NO_USERS),
    completed("everybody-left", room::everybody_left, NO_USERS),
    failed("nobody-published", room::nobody_published, NO_RECORDED_DATA, Media::Nothing),
    failed("only-encrypted", room::only_encrypted, CODEC, Media::Nothing),
    completed("max-duration", room::max_duration, MAX_DURATION),
    completed("room-deleted", room::deleted, REMOVED),
    completed("recorder-removed", room::recorder_removed, REMOVED),
    completed("ctrl-c", orders::interrupted, STOP_REQUESTED),
    fruitless("ctrl-c-before-anybody-came", orders::interrupted_before_anybody_came, STOP_REQUESTED),
    fruitless("stopped-from-the-start", orders::stopped_from_the_start, STOP_REQUESTED),
    by_itself(completed("stopped-by-the-job", orders::stopped_by_the_job, STOP_REQUESTED)),
    by_itself(completed("deleted", orders::deleted, DELETED)),
    failed("recorder-crashes", orders::recorder_crashes, RECORDER_EXIT, Media::Nothing),
];

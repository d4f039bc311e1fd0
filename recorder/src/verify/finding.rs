//! What can be wrong with a stored recording, and how it is said.

use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all_fields = "camelCase")]
pub(super) enum Finding {
    #[error("{object} is not there")]
    Missing { object: String },
    #[error("{object} cannot be read: {why}")]
    Unreadable { object: String, why: String },
    #[error("{object} has {found} bytes, the ledger says {expected}")]
    Size { object: String, expected: u64, found: u64 },
    #[error("{object} has another SHA-256 than the ledger says")]
    Checksum { object: String },
    #[error("{object} was never stored, and the recording is over")]
    NeverStored { object: String },
    #[error("{object} is in the backup storage and was not moved here")]
    InBackup { object: String },
    #[error("{playlist} is no playlist of a recorder: line {line}: {why}")]
    Syntax { playlist: String, line: usize, why: String },
    #[error("{playlist} names {segment}, which the ledger does not know")]
    Unknown { playlist: String, segment: String },
    #[error("{playlist} names {segment}, which the ledger does not call stored")]
    NotStored { playlist: String, segment: String },
    #[error("{playlist} does not name {segment}, which is stored")]
    NotNamed { playlist: String, segment: String },
    #[error("{playlist} names {segment} behind a later one, or twice")]
    Order { playlist: String, segment: String },
    #[error("{playlist}: EXTINF of {segment} is {found_ms} ms, the ledger says {expected_ms} ms")]
    Duration { playlist: String, segment: String, expected_ms: i64, found_ms: i64 },
    #[error("{playlist}: {segment} lasts {found_ms} ms, EXT-X-TARGETDURATION is {target_seconds} s")]
    TooLong { playlist: String, segment: String, found_ms: i64, target_seconds: u32 },
    #[error("{playlist}: no EXT-X-DISCONTINUITY before {segment}")]
    NoDiscontinuity { playlist: String, segment: String },
    #[error("{playlist} has no EXT-X-ENDLIST, and the recording is over")]
    NoEnd { playlist: String },
    /// None of the above, and yet not what the ledger gives.
    #[error("{playlist} is not what its ledger gives: line {line}")]
    Text { playlist: String, line: usize },
    #[error("{playlist} was not repaired: {why}")]
    NotRepaired { playlist: String, why: String },
}

impl Finding {
    /// The object cannot be relied on.
    pub(super) fn spoils(&self, name: &str) -> bool {
        match self {
            Self::Missing { object }
            | Self::Unreadable { object, .. }
            | Self::Size { object, .. }
            | Self::Checksum { object }
            | Self::NeverStored { object }
            | Self::InBackup { object } => object == name,
            _ => false,
        }
    }
}

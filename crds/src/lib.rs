//! The Recording API: types and rules, status and conditions, names, the job and report contracts, codes, exit codes.
//!
//! Controller and recorder meet only here. No clients, no runtime, no media.

pub mod codes;
pub mod conditions;
pub mod crd;
pub mod exit;
pub mod fixtures;
pub mod job;
pub mod labels;
pub mod names;
pub mod paths;
pub mod recording;
pub mod report;
pub mod status;

pub use recording::{Recording, RecordingSpec};
pub use status::RecordingStatus;

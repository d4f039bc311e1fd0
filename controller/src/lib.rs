//! The controller of Recordings, in one spine of named steps:
//!
//! ```text
//! observe (I/O)   Recording, its pods, the last report heard     -> Observed
//! validate        Recording                                      -> ValidatedRecording | Rejection
//! plan            (ValidatedRecording, Observed, now)            -> Plan
//! apply (I/O)     Plan                                           -> what was done
//! ```
//!
//! `plan` is the product: a pure function from what is seen to what to do. `validate`, `job`, `status` and `manifest` know
//! nothing of a cluster and carry local mode too.

mod apply;
pub mod cli;
pub mod controller;
pub mod events;
mod filled;
#[cfg(test)]
mod fixture;
#[doc(hidden)]
pub mod fuzzing;
pub mod job;
pub mod leader;
pub mod local;
pub mod logging;
pub mod manifest;
pub mod metrics;
mod observe;
pub mod plan;
pub mod pod;
pub mod pods;
pub mod refusals;
pub mod release;
pub mod report_store;
pub mod reports;
pub mod seen;
pub mod status;
pub mod validate;

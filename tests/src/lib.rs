//! Real servers to test against, and the tests' own measuring instruments.

pub mod analyser;
pub mod harness;
pub mod local;

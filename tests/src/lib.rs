//! Real servers to test against, and the tests' own measuring instruments.

pub mod analyser;
pub mod attempt;
pub mod bench;
pub mod cases;
pub mod composed;
pub mod frames;
pub mod harness;
pub mod layout_oracle;
pub mod load;
pub mod local;
pub mod publisher;
pub mod stored;
pub mod sweep;
pub mod verify;
pub mod watch;

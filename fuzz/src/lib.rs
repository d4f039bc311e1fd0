//! Fuzz targets: what reads foreign bytes, and sequences of operations on a [`recorder_media::Session`].
//!
//! A target's body takes any bytes and returns; what it finds wrong is a panic. The same bodies run in three ways: over the committed
//! corpus as ordinary tests (tests/corpus.rs), under libFuzzer for some seconds each in `make test`, and for long in `make fuzz`.

mod depacketizers;
mod session;

/// One thing to fuzz. Its corpus lies in `fuzz/corpus/<name>`.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub name: &'static str,
    pub body: fn(&[u8]),
}

pub const TARGETS: &[Target] = &[
    Target { name: "session", body: session::run },
    Target { name: "depacketizers", body: depacketizers::run },
    Target { name: "rtp", body: recorder::fuzzing::rtp },
    Target { name: "rtcp", body: recorder::fuzzing::rtcp },
    Target { name: "signalling", body: recorder::fuzzing::signalling },
    Target { name: "texts", body: recorder::fuzzing::texts },
    Target { name: "job", body: recorder::fuzzing::job },
    Target { name: "manifest", body: recorder::fuzzing::manifest },
    Target { name: "ts_tail", body: recorder::fuzzing::ts_tail },
    Target { name: "documents", body: recording_controller::fuzzing::documents },
    Target { name: "report", body: recording_controller::fuzzing::report },
];

pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|target| target.name == name).copied()
}

pub fn names() -> Vec<&'static str> {
    TARGETS.iter().map(|target| target.name).collect()
}

//! Everything that decides about media: delay line, clocks, access units, segments, playlists, the recording's book-keeping.
//!
//! No I/O, no clock, no threads, no async: a [`Session`] is told the time with every [`Input`] and answers with [`Output`]s.
//! The one loop that drives it:
//!
//! ```text
//! loop {
//!     session.handle(now, input);                       // what happened, and when
//!     while let Some(output) = session.poll_output() {  // what to do about it, drained fully
//!         carry_out(output);                            // results come back as inputs
//!     }
//!     arm_timer(session.next_wake());                   // the one timer: fires Input::Wake
//! }
//! ```
//!
//! Same inputs at the same times give byte-identical outputs.

mod assembler;
mod audio;
mod av1;
mod bits;
pub mod canvas;
mod chains;
mod clock;
mod composite;
mod decode_times;
mod delay_line;
mod depacketizer;
mod ending;
mod filler;
#[doc(hidden)]
pub mod fuzzing;
mod gaps;
mod h264;
pub mod input;
mod lane;
mod layers;
pub mod layout;
mod ledger;
pub mod mixer;
pub mod names;
pub mod output;
mod pictures;
mod playlist;
mod playlists;
mod replay;
mod report;
mod room;
mod segmenter;
mod session;
mod snapshots;
pub mod stage;
mod store;
mod stream;
mod subscription;
pub mod time;
mod track;
mod ts;
mod video;
mod vp8;
mod vp9;
mod written;

pub use chains::*;
pub use input::*;
pub use ledger::{LEDGER_CHUNK, Ledger, LedgerEntry};
pub use output::*;
pub use pictures::MAX_UNANSWERED_PICTURES;
pub use playlist::{PlaylistText, attempt_line, attempt_of_line};
pub use replay::{Replay, ReplayParticipant, ReplayTrack, UnitMark};
pub use segmenter::VOLUME_90K;
pub use session::Session;
pub use snapshots::{Snapshot, SnapshotPlan};
pub use time::*;
pub(crate) use track::Track;

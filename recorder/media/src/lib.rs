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

mod audio;
mod clock;
mod delay_line;
mod ending;
mod filler;
mod gaps;
mod h264;
pub mod input;
mod lane;
pub mod names;
pub mod output;
mod playlist;
mod report;
mod room;
mod segmenter;
mod session;
mod store;
mod stream;
pub mod time;
mod track;
mod ts;
mod video;

pub use input::*;
pub use output::*;
pub use session::Session;
pub use time::*;

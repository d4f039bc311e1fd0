//! What is in a recording: decoded by FFmpeg's command line tools, judged by what the publishers wrote into picture and sound.
//!
//! | module | answers |
//! |---|---|
//! | [`block_code`] | which frame of whom is this picture? (also draws it) |
//! | [`playlist`] | is the playlist exactly of the kind we write? |
//! | [`ts`] | are the bytes of the segments one correct transport stream? |
//! | [`probe`] | what does ffprobe say; does EXTINF agree with the media? |
//! | [`content`] | frames present, lost, repeated; beeps, tones, silence; A/V offset |
//! | [`player`] | does hls.js in Chromium play it to the end? |
//! | [`ffplay`] | does ffplay? |
//!
//! Everything works through processes and memory of its own, so any number of analyses run side by side.

pub mod block_code;
pub mod content;
pub mod decode;
pub mod ffplay;
pub mod player;
pub mod playlist;
pub mod probe;
pub mod still;
pub mod ts;
pub mod witness;

#[cfg(test)]
mod self_test;

pub use playlist::Playlist;

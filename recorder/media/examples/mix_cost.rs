//! What mixing costs: milliseconds of one core per second of sound. `cargo run --release -p recorder-media --example mix_cost`
//!
//! Single-threaded: the CPU time is the main thread's as Linux counts it, so a busy machine does not disturb.

use recorder_media::TrackKey;
use recorder_media::mixer::{Channels, Mixer};

const SECONDS: usize = 60;
/// 20 ms, and how far voices are ahead of the mix.
const PACKET: usize = 960;
const AHEAD: usize = 50 * PACKET;

fn main() {
    cost("17 mono voices under the ceiling", 17, Channels::Mono, Channels::Mono, 0.05);
    cost("17 mono voices over it, limited", 17, Channels::Mono, Channels::Mono, 0.5);
    cost("17 mono voices into stereo, limited", 17, Channels::Mono, Channels::Stereo, 0.5);
    cost("17 stereo voices into stereo, limited", 17, Channels::Stereo, Channels::Stereo, 0.5);
    cost("1 of 17 mono voices heard", 1, Channels::Mono, Channels::Mono, 0.5);
    cost("none of 17 mono voices heard", 0, Channels::Mono, Channels::Mono, 0.5);
}

/// All 17 have begun, so many give sound.
fn cost(what: &str, heard: u32, from: Channels, to: Channels, peak: f32) {
    let packet: Vec<f32> = (0..PACKET * from.count()).map(|n| peak * (n as f32 * 0.05).sin()).collect();
    let (mut mixer, mut out, mut samples) = (Mixer::new(to), Vec::new(), 0);
    (0..17).for_each(|key| mixer.begin(TrackKey(key), from, 0));
    let since = cpu_seconds();
    for n in 0..SECONDS * 48_000 / PACKET {
        (0..heard).for_each(|key| mixer.give(TrackKey(key), &packet));
        mixer.mix((n * PACKET) as i64 - AHEAD as i64, &mut out);
        samples += out.len();
        out.clear();
    }
    println!("{what}: {:.3} ms per second ({samples} values)", (cpu_seconds() - since) * 1e3 / SECONDS as f64);
}

/// CPU time of this thread since its start.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
    nanoseconds.expect("the first field of schedstat is the time on the CPU") / 1e9
}

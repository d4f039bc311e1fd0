//! The player and the Python publisher, measured with the analyser. Needs `make tools` (node modules, venv) and Chromium.

use recording_tests::analyser::{content, player, playlist::Playlist};
use recording_tests::harness;
use std::path::Path;
use std::process::Command;

const FPS: u32 = 15;
const SECONDS: u32 = 6;
const ID: u8 = 7;

fn run(program: impl AsRef<std::ffi::OsStr>, folder: &Path, args: &[&str]) {
    let out = Command::new(program).args(args).current_dir(folder).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A recording of what `publisher.py` draws and plays, made by FFmpeg.
fn record(folder: &Path) -> Playlist {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("stimulus/publisher.py");
    let script = script.to_str().unwrap();
    let (seconds, fps, id) = (SECONDS.to_string(), FPS.to_string(), ID.to_string());
    run(harness::python().unwrap(), folder, &[script, "--raw", "p", "--participant", &id, "--seconds", &seconds, "--fps", &fps]);
    run(
        "ffmpeg",
        folder,
        &[
            "-v",
            "error",
            "-nostdin",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "yuv420p",
            "-s",
            "640x360",
            "-r",
            &fps,
            "-i",
            "p.yuv",
            "-f",
            "s16le",
            "-ar",
            "48000",
            "-ac",
            "1",
            "-i",
            "p.s16",
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-bf",
            "0",
            "-g",
            "30",
            "-sc_threshold",
            "0",
            "-c:a",
            "aac",
            "-f",
            "hls",
            "-hls_time",
            "2",
            "-hls_list_size",
            "0",
            "-hls_playlist_type",
            "event",
            "-hls_segment_filename",
            "s%d.ts",
            "x.m3u8",
        ],
    );
    Playlist::read(folder).unwrap()
}

#[test]
fn the_publisher_draws_what_the_analyser_reads() {
    let folder = tempfile::tempdir().unwrap();
    let list = record(folder.path());
    let (video, audio) = (content::video(&list).unwrap(), content::audio(&list, &[ID]).unwrap());
    let counts = &video.participants[&ID];
    assert_eq!((counts.expected, counts.present, video.undecodable), (90, 90, 0));
    assert_eq!(video.wrong_flashes(FPS), Vec::<u32>::new());
    let offsets = content::av_offset(&video, &audio, ID, FPS);
    assert_eq!(offsets.each.len(), SECONDS as usize);
    assert!(offsets.max < content::EXACT_AV_OFFSET_MS, "{offsets:?}");
}

#[test]
fn hls_js_plays_a_good_recording_and_fails_on_garbage() {
    let folder = tempfile::tempdir().unwrap();
    let list = record(folder.path());
    let good = player::play(&list).unwrap();
    assert!(good.is_good(), "{good:?}");
    assert_eq!(good.sizes, [(640, 360)]);
    assert!((good.played_to - list.duration()).abs() < 0.2, "{good:?}");
    // Garbage rather than a missing file: for that hls.js tries again for half a minute.
    std::fs::write(&list.segments[0].path, [0x55; 18_800]).unwrap();
    let broken = player::play(&list).unwrap();
    assert!(!broken.is_good() && !broken.fatal_errors.is_empty(), "{broken:?}");
}

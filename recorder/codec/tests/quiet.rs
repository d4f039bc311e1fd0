//! FFmpeg must not write to stderr by itself: a line per damaged slice would fill logs. Its log goes to file descriptor 2, past Rust's own
//! capture, so the test runs itself again as a child and reads what came.

use recorder_codec::video::{VideoCodec, VideoDecoder};
use std::process::Command;

const CHILD: &str = "RECORDER_CODEC_QUIET_CHILD";

#[test]
fn damage_writes_nothing_to_stderr() {
    if std::env::var_os(CHILD).is_some() {
        return decode_damage();
    }
    let this = std::env::current_exe().expect("this test");
    let child = Command::new(this).args(["damage_writes_nothing_to_stderr", "--nocapture"]).env(CHILD, "1").output().expect("runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && stdout.contains("errors: "), "{stdout}{stderr}");
    assert_eq!(stderr, "");
}

fn decode_damage() {
    let file = include_bytes!("../../media/tests/streams/vp9.ivf");
    let mut errors = 0;
    for codec in [VideoCodec::H264, VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::Av1] {
        let (mut decoder, mut out) = (VideoDecoder::new(codec).expect("decoder"), Vec::new());
        for start in 0..200 {
            errors += u32::from(decoder.decode(&file[start..start + 300], 0, &mut out).is_err());
        }
        for junk in [&[0, 0, 0, 1, 0x67, 1, 2, 3, 0, 0, 1, 0x65, 0x88, 1][..], &[0x12, 0, 0x0a, 1, 0xff, 0x32, 2, 1, 1]] {
            errors += u32::from(decoder.decode(junk, 0, &mut out).is_err());
        }
    }
    assert!(errors > 500, "{errors} errors");
    println!("errors: {errors}");
}

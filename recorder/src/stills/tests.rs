use recorder_codec::h264::{H264Config, H264Encoder};
use recorder_codec::{Colour, I420, Still};
use recorder_media::MediaTime;
use tokio::sync::mpsc::unbounded_channel;

use super::*;

const SIZE: (u32, u32) = (96, 64);

/// A key frame of one colour: red of BT.601.
fn key_frame() -> Bytes {
    let (width, height) = SIZE;
    let luma = (width * height) as usize;
    let (y, u, v) = (vec![81; luma], vec![90; luma / 4], vec![240; luma / 4]);
    let mut encoder = H264Encoder::new(&H264Config::transcoding(width, height, Colour::BT601)).expect("an encoder");
    let mut frames = Vec::new();
    encoder.encode(&I420 { width, height, y: &y, u: &u, v: &v }, 0, true, &mut frames).expect("encoded");
    Bytes::from(frames.pop().expect("a frame").data)
}

#[test]
fn a_key_frame_is_enough_and_what_is_none_is_said_to_be_lost() {
    let (results, mut answers) = unbounded_channel();
    let mut stills = Stills::new(results);
    let of = |seconds: i64| Snapshot { camera: None, base: "p".into(), moment: MediaTime(seconds) };
    stills.make(of(0), Codec::H264, key_frame());
    stills.make(of(1), Codec::H264, Bytes::from_static(&[0, 0, 0, 1, 0x65, 1, 2, 3]));
    stills.make(of(2), Codec::Opus, key_frame());
    stills.make(of(3), Codec::H264, key_frame());
    let mut pictures = Vec::new();
    for n in 0..4 {
        let Some(Input::SnapshotTaken { snapshot, picture }) = answers.blocking_recv() else { panic!("each is answered") };
        assert_eq!(snapshot, of(n), "in order");
        pictures.push(picture);
    }
    assert_eq!(pictures.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, false, true]);
    let picture = Still::decode(pictures[0].as_ref().expect("a JPEG")).expect("ours").picture;
    assert_eq!((picture.width, picture.height), SIZE);
    let middle = (picture.y[3000], picture.u[700], picture.v[700]);
    assert!(middle.0.abs_diff(81) < 4 && middle.1.abs_diff(90) < 4 && middle.2.abs_diff(240) < 4, "{middle:?}");
}

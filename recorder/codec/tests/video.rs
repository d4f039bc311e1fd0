//! Every codec that a room may send comes back as the pictures that were sent.

use recorder_codec::h264::{H264Config, H264Encoder};
use recorder_codec::video::{VideoCodec, VideoDecoder};
use recorder_codec::{CodecError, Colour, Crop, Decoded, Picture, Scaler};

const WIDTH: usize = 160;
const HEIGHT: usize = 96;

struct Stream {
    codec: VideoCodec,
    file: &'static [u8],
    pictures: usize,
    /// Packets that are key frames.
    keys: &'static [usize],
}

/// Described in recorder/media/tests/streams/README.md.
const STREAMS: [Stream; 6] = [
    Stream { codec: VideoCodec::Vp8, file: include_bytes!("../../media/tests/streams/vp8.ivf"), pictures: 12, keys: &[0, 6] },
    Stream { codec: VideoCodec::Vp8, file: include_bytes!("../../media/tests/streams/vp8_altref.ivf"), pictures: 24, keys: &[0] },
    Stream { codec: VideoCodec::Vp9, file: include_bytes!("../../media/tests/streams/vp9.ivf"), pictures: 12, keys: &[0, 6] },
    Stream { codec: VideoCodec::Vp9, file: include_bytes!("../../media/tests/streams/vp9_altref.ivf"), pictures: 24, keys: &[0] },
    Stream { codec: VideoCodec::Av1, file: include_bytes!("../../media/tests/streams/av1.ivf"), pictures: 12, keys: &[0, 6] },
    Stream { codec: VideoCodec::Av1, file: include_bytes!("../../media/tests/streams/av1_altref.ivf"), pictures: 12, keys: &[0] },
];

impl Stream {
    fn packets(&self) -> Vec<&'static [u8]> {
        let mut rest = &self.file[32..];
        let mut packets = Vec::new();
        while let Some((header, body)) = rest.split_first_chunk::<12>() {
            let (packet, more) = body.split_at(u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize);
            packets.push(packet);
            rest = more;
        }
        packets
    }
}

/// Luma of picture n, from its formula.
fn psnr(n: usize, picture: &Picture) -> f64 {
    let square = |(i, y): (usize, &u8)| (f64::from(*y) - (32 + (i % WIDTH + i / WIDTH + 6 * n) % 128) as f64).powi(2);
    let error = picture.y.iter().enumerate().map(square).sum::<f64>() / picture.y.len() as f64;
    10.0 * (255.0f64.powi(2) / error.max(1e-9)).log10()
}

/// The picture in the stream that this one is: the formula repeats after 64.
fn recognised(picture: &Picture) -> (usize, f64) {
    assert_eq!((picture.width as usize, picture.height as usize), (WIDTH, HEIGHT));
    (0..24).map(|n| (n, psnr(n, picture))).max_by(|a, b| a.1.total_cmp(&b.1)).expect("24 candidates")
}

#[test]
fn pictures_come_back_one_for_each_visible_packet_with_their_timestamps() {
    for stream in STREAMS {
        let mut decoder = VideoDecoder::new(stream.codec).expect("decoder");
        let (mut pictures, mut times) = (Vec::new(), Vec::new());
        for (n, packet) in stream.packets().into_iter().enumerate() {
            let before = pictures.len();
            decoder.decode(packet, n as i64 * 3000, &mut pictures).expect("whole");
            times.extend(pictures[before..].iter().map(|_| n as i64 * 3000));
            assert!(pictures.len() <= before + 1, "at most one picture a packet");
        }
        assert_eq!(pictures.len(), stream.pictures, "{:?}: none is held back", stream.codec);
        let pictures: Vec<Picture> = pictures.iter().map(Decoded::picture).collect();
        assert_eq!(pictures.iter().map(|p| p.pts).collect::<Vec<_>>(), times, "{:?}", stream.codec);
        for (n, picture) in pictures.iter().enumerate() {
            let (which, psnr) = recognised(picture);
            assert!(which == n && psnr > 25.0, "{:?} {n}: looks like {which}, {psnr} dB", stream.codec);
        }
    }
}

#[test]
fn a_picture_is_scaled_from_the_decoders_memory_as_from_a_copy() {
    for stream in STREAMS {
        let (mut decoder, mut pictures) = (VideoDecoder::new(stream.codec).expect("decoder"), Vec::new());
        stream.packets().into_iter().for_each(|packet| decoder.decode(packet, 0, &mut pictures).expect("whole"));
        // The last first: what the decoder goes on from is what is shown.
        for decoded in pictures.iter().rev() {
            let copy = decoded.picture();
            let whole = Crop::whole(&copy);
            let (mut scaler, mut direct, mut indirect) = (Scaler::new(), Picture::default(), Picture::default());
            for (crop, to) in
                [(whole, (80, 44)), (whole, (480, 270)), (Crop { x: 2, y: 4, width: 100, height: 60 }, (50, 30)), (whole, decoded.size())]
            {
                scaler.scale(decoded, crop, to, &mut direct).expect("scales");
                Scaler::new().scale(&copy, crop, to, &mut indirect).expect("scales");
                assert!(direct == indirect, "{:?}: {crop:?} to {to:?}", stream.codec);
            }
        }
    }
}

#[test]
fn damage_is_an_error_and_the_next_key_frame_mends() {
    for stream in STREAMS.into_iter().filter(|stream| stream.keys.len() == 2) {
        let (mut decoder, mut pictures) = (VideoDecoder::new(stream.codec).expect("decoder"), Vec::new());
        let packets = stream.packets();
        for junk in [&[][..], &[0xff; 50], &[0x30, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0, 0, 0, 0]] {
            let result = decoder.decode(junk, 0, &mut pictures);
            assert!(matches!(result, Err(CodecError::Damaged { .. })), "{:?}: {result:?}", stream.codec);
        }
        decoder.decode(packets[0], 0, &mut pictures).expect("key frame");
        // Torn, then as if nothing had happened: whatever comes of it, nothing breaks.
        let _ = decoder.decode(&packets[1][..packets[1].len() / 3], 1, &mut pictures);
        for packet in &packets[2..6] {
            let _ = decoder.decode(packet, 2, &mut pictures);
        }
        pictures.clear();
        for (n, packet) in packets.iter().enumerate().skip(6) {
            decoder.decode(packet, n as i64, &mut pictures).expect("whole");
        }
        assert_eq!(pictures.len(), 6, "{:?}", stream.codec);
        assert!(pictures.iter().enumerate().all(|(n, picture)| recognised(&picture.picture()).0 == n + 6), "{:?}", stream.codec);
    }
}

#[test]
fn a_size_may_change_with_any_key_frame() {
    // Two encoders stand for two simulcast layers of one camera.
    let (mut decoder, mut pictures) = (VideoDecoder::new(VideoCodec::H264).expect("decoder"), Vec::new());
    for (n, (width, height)) in [(320, 180), (640, 360), (180, 320)].into_iter().enumerate() {
        let planes = |samples: u32| vec![60 + 40 * n as u8; samples as usize];
        let (y, u, v) = (planes(width * height), planes(width * height / 4), planes(width * height / 4));
        let picture = Picture { width, height, y, u, v, pts: n as i64, colour: Colour::default() };
        let mut encoder = H264Encoder::new(&H264Config::transcoding(width, height, Colour::default())).expect("encoder");
        let mut encoded = Vec::new();
        encoder.encode(&picture.i420(), n as i64, true, &mut encoded).expect("frame");
        decoder.decode(&encoded[0].data, n as i64, &mut pictures).expect("whole");
        let seen = pictures.last().expect("a picture at once").picture();
        assert_eq!((seen.width, seen.height, seen.pts), (width, height, n as i64));
        assert!(seen.y.iter().zip(&picture.y).all(|(a, b)| a.abs_diff(*b) < 4), "grey stays grey");
    }
}

#[test]
fn the_highest_spatial_layer_of_a_superframe_is_taken() {
    // Two key frames in one superframe stand for two layers; the second is the first one's later key frame.
    let packets = STREAMS[2].packets();
    let layers = [packets[0], packets[6]];
    let mut superframe = layers.concat();
    superframe.push(0xd9);
    layers.iter().for_each(|layer| superframe.extend((layer.len() as u32).to_le_bytes()));
    superframe.push(0xd9);
    let (mut decoder, mut pictures) = (VideoDecoder::new(VideoCodec::Vp9).expect("decoder"), Vec::new());
    decoder.decode(&superframe, 5, &mut pictures).expect("whole");
    let highest = pictures[0].picture();
    assert_eq!((pictures.len(), recognised(&highest).0, highest.pts), (1, 6, 5));
}

#[test]
fn a_picture_of_absurd_size_is_refused() {
    // A VP8 key frame header that announces 16383x16383.
    let huge = [&[0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0xff, 0x3f, 0xff, 0x3f][..], &[0; 200]].concat();
    let (mut decoder, mut pictures) = (VideoDecoder::new(VideoCodec::Vp8).expect("decoder"), Vec::new());
    assert!(matches!(decoder.decode(&huge, 0, &mut pictures), Err(CodecError::Damaged { .. })));
    assert!(pictures.is_empty());
}

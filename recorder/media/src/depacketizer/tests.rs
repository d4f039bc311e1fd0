//! What is packetised by the books must come out again.

mod packetizers;

use super::*;
use crate::bits::packed;
use crate::delay_line::Held;
use crate::video::{VideoEvent, VideoInput};
use packetizers::{av1, h264, vp8, vp9};
use proptest::prelude::*;
use proptest::sample::Index;

const VIDEO: [Codec; 4] = [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1];

/// Frames of an IVF file.
fn ivf(file: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &file[usize::from(u16::from_le_bytes([file[6], file[7]]))..];
    let mut frames = Vec::new();
    while let Some((header, body)) = rest.split_first_chunk::<12>() {
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        frames.push(body[..length].to_vec());
        rest = &body[length..];
    }
    frames
}

/// Frames of a committed stream, and which are key frames.
fn stream(codec: Codec, altref: bool) -> Vec<(bool, Vec<u8>)> {
    let file: &[u8] = match (codec, altref) {
        (Codec::Vp8, false) => include_bytes!("../../tests/streams/vp8.ivf"),
        (Codec::Vp8, true) => include_bytes!("../../tests/streams/vp8_altref.ivf"),
        (Codec::Vp9, false) => include_bytes!("../../tests/streams/vp9.ivf"),
        (Codec::Vp9, true) => include_bytes!("../../tests/streams/vp9_altref.ivf"),
        (_, false) => include_bytes!("../../tests/streams/av1.ivf"),
        (_, true) => include_bytes!("../../tests/streams/av1_altref.ivf"),
    };
    ivf(file).into_iter().enumerate().map(|(n, frame)| (n == 0 || n == 6 && !altref, frame)).collect()
}

fn packetized(codec: Codec, key: bool, n: u16, frame: &[u8], cuts: &[Index]) -> Vec<Bytes> {
    match codec {
        Codec::Vp8 => vp8(frame, n, cuts),
        Codec::Vp9 => vp9(&[frame.to_vec()], key, n, cuts),
        _ => av1(frame, key, n.is_multiple_of(2), cuts),
    }
}

fn send(input: &mut VideoInput, rtp: i64, payloads: Vec<Bytes>) -> Vec<VideoEvent> {
    let last = payloads.len() - 1;
    let packets = payloads.into_iter().enumerate().map(|(n, payload)| Held { rtp, marker: n == last, rotation: 0, payload });
    packets.flat_map(|packet| input.packet(0, &packet, None)).collect()
}

fn cuts() -> impl Strategy<Value = Vec<Index>> {
    prop::collection::vec(any::<Index>(), 0..6)
}

proptest! {
    #[test]
    fn any_packetisation_of_a_real_stream_gives_its_frames_back(cuts in prop::collection::vec(cuts(), 25)) {
        for (codec, altref) in [Codec::Vp8, Codec::Vp9, Codec::Av1].into_iter().flat_map(|codec| [(codec, false), (codec, true)]) {
            let mut input = VideoInput::new(codec);
            for (n, (key, frame)) in stream(codec, altref).into_iter().enumerate() {
                let packets = packetized(codec, key, n as u16, &frame, &cuts[n]);
                for (i, payload) in packets.iter().enumerate() {
                    prop_assert_eq!(payload_is_key(codec, payload), key && i == 0, "packet {} of frame {} of {:?}", i, n, codec);
                }
                let events = send(&mut input, n as i64 * 9000, packets);
                let [VideoEvent::Picture(picture)] = &events[..] else { panic!("{codec:?} frame {n}: {events:?}") };
                prop_assert_eq!((picture.key, picture.size), (key, (160, 96)), "frame {} of {:?}", n, codec);
                prop_assert_eq!(&picture.data[..], &frame[..], "frame {} of {:?}", n, codec);
            }
            prop_assert_eq!(input.received, stream(codec, altref).len() as u64);
        }
    }

    #[test]
    fn spatial_layers_become_a_superframe(base in prop::collection::vec(any::<u8>(), 1..300), upper in prop::collection::vec(any::<u8>(), 1..300), cuts in cuts()) {
        let key = stream(Codec::Vp9, false)[0].1.clone();
        let layers = [[key, base].concat(), upper];
        let unit = vp9::Depacketizer::default().unit(&vp9(&layers, true, 1, &cuts)).expect("a picture");
        prop_assert_eq!((unit.reference, unit.size), (Reference::Key, Some((160, 96))));
        let index = &unit.data[unit.data.len() - 10..];
        let sizes = layers.iter().flat_map(|layer| (layer.len() as u32).to_le_bytes()).collect::<Vec<u8>>();
        prop_assert_eq!((index[0], &index[1..9], index[9]), (0xd9, &sizes[..], 0xd9));
        prop_assert_eq!(&unit.data[..unit.data.len() - 10], &layers.concat()[..]);
        // The upper layer is dropped on the way: the picture is as large as the lower one.
        let lower = vp9::Depacketizer::default().unit(&vp9(&layers, true, 1, &cuts).into_iter().filter(|p| p[2] >> 1 & 7 == 0).collect::<Vec<_>>());
        prop_assert_eq!(lower.and_then(|unit| unit.size), Some((80, 48)));
    }

    #[test]
    fn nal_units_survive_any_fragmentation(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..5), cuts in cuts()) {
        let nals: Vec<Vec<u8>> = bodies.into_iter().map(|body| [vec![0x61], body].concat()).collect();
        let back = h264::nals(&h264(&nals, &cuts));
        prop_assert_eq!(back.map(|nals| nals.iter().map(|nal| nal.to_vec()).collect::<Vec<_>>()), Some(nals));
    }

    #[test]
    fn any_bytes_are_taken(packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..40), any::<bool>(), 0i64..3, 0u64..2), 1..40)) {
        for codec in VIDEO {
            let mut input = VideoInput::new(codec);
            for (payload, marker, rtp, missing) in &packets {
                let payload = Bytes::copy_from_slice(payload);
                payload_is_key(codec, &payload);
                input.packet(*missing, &Held { rtp: *rtp, marker: *marker, rotation: 0, payload }, None);
            }
        }
    }

    #[test]
    fn after_a_lost_packet_nothing_is_shown_until_the_next_key_frame(lost in 0usize..1000, cuts in cuts()) {
        for codec in [Codec::Vp8, Codec::Vp9, Codec::Av1] {
            let frames = stream(codec, false);
            let packets: Vec<(usize, Vec<Bytes>)> =
                frames.iter().enumerate().map(|(n, (key, frame))| (n, packetized(codec, *key, n as u16, frame, &cuts))).collect();
            let lost = lost % packets.iter().map(|(_, packets)| packets.len()).sum::<usize>();
            let (mut input, mut n, mut shown, mut hit) = (VideoInput::new(codec), 0, Vec::new(), 0);
            for (frame, payloads) in &packets {
                for (i, payload) in payloads.iter().enumerate() {
                    let held = Held { rtp: *frame as i64, marker: i + 1 == payloads.len(), rotation: 0, payload: payload.clone() };
                    if n == lost {
                        hit = *frame;
                    } else {
                        let events = input.packet(u64::from(n == lost + 1), &held, None);
                        shown.extend(events.into_iter().filter_map(|event| if let VideoEvent::Picture(p) = event { Some(p.rtp as usize) } else { None }));
                    }
                    n += 1;
                }
            }
            let next_key = if hit < 6 { 6 } else { 12 };
            let expected: Vec<usize> = (0..12).filter(|frame| !(hit..next_key).contains(frame)).collect();
            prop_assert_eq!(shown, expected, "{:?}, lost packet {} of frame {}", codec, lost, hit);
        }
    }
}

/// An H.264 stream as OpenH264 sends two temporal layers: every second picture is no reference. frame_num counts the references.
fn two_layers(pictures: u32) -> Vec<Vec<u8>> {
    let picture = |n: u32| {
        let nal = if n == 0 { 0x65 } else { 0x01 | u8::from(n.is_multiple_of(2)) << 5 };
        // first_mb_in_slice 0, slice_type 7 (I) or 5 (P), pic_parameter_set_id 0, frame_num.
        let slice_type = if n == 0 { "0001000" } else { "00110" };
        let header = packed(&format!("1 {slice_type} 1 {:04b} 1", n.div_ceil(2) % 16));
        [&[nal], &header[..], &[n as u8]].concat()
    };
    (0..pictures).map(picture).collect()
}

fn sps_and_pps() -> Bytes {
    // Constrained Baseline, 20 x 12 macroblocks cropped to 320x180, frame_num of four bits, pic_order_cnt_type 2.
    let sps = packed("01100111 01000010 11000000 00001101 1 1 011 010 0 000010100 0001100 1 1 1 1 1 1 00111 0 1");
    let pps = [0x68, 0xce, 0x3c, 0x80];
    let mut stap = vec![24];
    for nal in [&sps[..], &pps[..]] {
        stap.extend((nal.len() as u16).to_be_bytes());
        stap.extend(nal);
    }
    stap.into()
}

fn shown_of_two_layers(lost: &[usize]) -> Vec<i64> {
    let (mut input, mut missing, mut shown) = (VideoInput::new(Codec::H264), 0, Vec::new());
    for (n, nal) in two_layers(48).into_iter().enumerate() {
        if n == 0 {
            input.packet(0, &Held { rtp: 0, marker: false, rotation: 0, payload: sps_and_pps() }, None);
        }
        if lost.contains(&n) {
            missing += 1;
            continue;
        }
        let held = Held { rtp: n as i64 * 3000, marker: true, rotation: 0, payload: nal.into() };
        let events = input.packet(std::mem::take(&mut missing), &held, None);
        shown.extend(events.into_iter().filter_map(|event| if let VideoEvent::Picture(p) = event { Some(p.rtp / 3000) } else { None }));
    }
    shown
}

#[test]
fn a_lost_picture_that_is_no_reference_costs_only_itself() {
    let without = |lost: &[usize]| (0..48).filter(|n| !lost.contains(&(*n as usize))).collect::<Vec<i64>>();
    assert_eq!(shown_of_two_layers(&[]), without(&[]));
    assert_eq!(shown_of_two_layers(&[5, 9, 31]), without(&[5, 9, 31]), "frame_num goes on, across its wrap too");
    assert_eq!(shown_of_two_layers(&[8]), (0..8).collect::<Vec<i64>>(), "a reference is missing");
    assert_eq!(shown_of_two_layers(&[7, 8, 9]), (0..7).collect::<Vec<i64>>());
    let cycle: Vec<usize> = (6..38).collect();
    assert_eq!(shown_of_two_layers(&cycle), (0..6).collect::<Vec<i64>>(), "a whole cycle of frame_num lost proves nothing");
}

#[test]
fn of_two_key_frames_a_tick_apart_the_second_is_shown() {
    let keys: Vec<Vec<u8>> = stream(Codec::Vp8, false).into_iter().filter(|(key, _)| *key).map(|(_, frame)| frame).collect();
    let packets =
        [0i64, 1].map(|n| Held { rtp: 90_000 + n, marker: true, rotation: 0, payload: vp8(&keys[n as usize], n as u16, &[])[0].clone() });
    let mut input = VideoInput::new(Codec::Vp8);
    assert_eq!(input.packet(0, &packets[0], Some(&packets[1])), []);
    let events = input.packet(0, &packets[1], None);
    assert!(matches!(&events[..], [VideoEvent::Picture(picture)] if picture.key && picture.rtp == 90_001), "{events:?}");
    assert_eq!(input.received, 1);
    // An ordinary distance.
    let mut input = VideoInput::new(Codec::Vp8);
    let later = Held { rtp: 93_000, ..packets[1].clone() };
    assert_eq!(input.packet(0, &packets[0], Some(&later)).len(), 1);
    assert_eq!(input.packet(0, &later, None).len(), 1);
}

/// LiveKit's blank picture, as its server sends it: one packet with an SPS of its own id, which the camera's does not go away by.
#[test]
fn livekits_blank_h264_picture_is_told_apart_from_the_camera_it_follows() {
    const BLANK: [&[u8]; 3] = [
        &[0x67, 0x42, 0xc0, 0x1f, 0x0f, 0xd9, 0x1f, 0x88, 0x88, 0x84, 0, 0, 3, 0, 4, 0, 0, 3, 0, 0xc8, 0x3c, 0x60, 0xc9, 0x20],
        &[0x68, 0x87, 0xcb, 0x83, 0xcb, 0x20],
        &[0x65, 0x88, 0x84, 0x0a, 0xf2, 0x62, 0x80, 0, 0xa7, 0xbe],
    ];
    let mut packet = vec![24];
    for nal in BLANK {
        packet.extend((nal.len() as u16).to_be_bytes());
        packet.extend(nal);
    }
    let mut input = VideoInput::new(Codec::H264);
    let camera = Held { rtp: 0, marker: false, rotation: 0, payload: sps_and_pps() };
    assert_eq!(input.packet(0, &camera, None), []);
    let key = Held { rtp: 0, marker: true, rotation: 0, payload: Bytes::from_static(&[0x65, 0x88, 0x80, 0xaa, 0xaa]) };
    assert!(matches!(&input.packet(0, &key, None)[..], [VideoEvent::Picture(_)]));
    let blank = Held { rtp: 3000, marker: true, rotation: 0, payload: packet.into() };
    assert_eq!(input.packet(0, &blank, None), [VideoEvent::Blank { rtp: 3000 }]);
    assert_eq!(input.received, 1);
}

/// NAL units of each access unit of a byte stream that has delimiters, without them.
fn access_units(stream: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let starts: Vec<usize> = (0..stream.len() - 3).filter(|at| stream[*at..].starts_with(&[0, 0, 1])).collect();
    let ends = starts[1..].iter().map(|next| next - usize::from(stream[next - 1] == 0)).chain([stream.len()]);
    let nals = starts.iter().zip(ends).map(|(start, end)| stream[start + 3..end].to_vec());
    nals.fold(Vec::new(), |mut units, nal| {
        if nal[0] & 31 == 9 {
            units.push(Vec::new());
        } else {
            units.last_mut().expect("begins with a delimiter").push(nal);
        }
        units
    })
}

#[test]
fn x264s_b_frames_are_shown_when_they_should_and_decoded_before() {
    let units = access_units(include_bytes!("../../tests/streams/h264_bframes.h264"));
    let shown = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8];
    assert_eq!(units.len(), shown.len());
    let mut input = VideoInput::new(Codec::H264);
    let mut times = Vec::new();
    for (nals, shown) in units.iter().zip(shown) {
        for event in send(&mut input, 900_000 + shown * 9000, h264(nals, &[])) {
            let VideoEvent::Picture(picture) = event else { panic!("{event:?}") };
            assert_eq!(picture.size, (160, 96));
            times.push((picture.rtp + picture.order.shown_after, picture.rtp - picture.order.decoded_before));
        }
    }
    assert_eq!(times.iter().map(|t| t.0).collect::<Vec<_>>(), shown.map(|n| 900_000 + n * 9000), "its SPS says so in time");
    let decoded: Vec<i64> = times.iter().map(|t| t.1).collect();
    assert_eq!(decoded[1..], (0..9).map(|n| 900_000 + n * 9000).collect::<Vec<_>>());
    assert!(decoded[0] < decoded[1]);
}

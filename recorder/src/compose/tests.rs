use recorder_codec::video::{VideoCodec, VideoDecoder};
use recorder_media::canvas::Yuv;
use recorder_media::layout::{self, Layout};
use recorder_media::stage::{Change, Composition, ImageKey, Images as Named, Mark, Stage, Watermark};
use recorder_media::{Codec, ParticipantKey};

use super::*;

const ENCODING: Encoding = Encoding { frames_per_second: 10, kbps: 4000 };

const BACKGROUND: u8 = 41;

/// Somebody's camera: pictures of one brightness each.
struct Sender {
    encoder: H264Encoder,
    size: (u32, u32),
    pts: i64,
}

impl Sender {
    fn new(width: u32, height: u32) -> Self {
        let encoder = H264Encoder::new(&H264Config::transcoding(width, height, Colour::BT601)).expect("an encoder");
        Self { encoder, size: (width, height), pts: 0 }
    }

    /// `left` and `right`: luma of the halves.
    fn halves(&mut self, left: u8, right: u8, rotation: u16) -> SourceUnit {
        let (width, height) = self.size;
        let row = |left: u8, right: u8| {
            let half = width as usize / 2;
            [vec![left; half], vec![right; half]].concat()
        };
        let y = row(left, right).repeat(height as usize);
        let chroma = vec![128; (width * height / 4) as usize];
        let mut frames = Vec::new();
        let picture = I420 { width, height, y: &y, u: &chroma, v: &chroma };
        self.encoder.encode(&picture, self.pts, false, &mut frames).expect("encoded");
        self.pts += 3000;
        let frame = frames.pop().expect("no delay");
        SourceUnit { codec: Codec::H264, data: access_unit(&frame), key: frame.keyframe, rotation }
    }

    fn plain(&mut self, luma: u8) -> SourceUnit {
        self.halves(luma, luma, 0)
    }
}

/// A stage with a composer behind it and a decoder behind that.
struct Room {
    stage: Stage<SourceUnit>,
    composer: Composer,
    decoder: VideoDecoder,
    shown: Vec<(MediaTime, bool, Picture)>,
    undecodable: Vec<TrackKey>,
}

fn composition(width: u32, height: u32, layout: Layout) -> Composition {
    let background = Yuv::from_rgb("#0000FF").expect("blue");
    Composition { layout, canvas: layout::Canvas { width, height }, background, images: Named::default(), encoding: ENCODING }
}

fn key(n: u32) -> TrackKey {
    TrackKey(n)
}

impl Room {
    fn new(composition: Composition, people: u32) -> Self {
        let mut stage = Stage::new(composition);
        for n in 0..people {
            let (participant, uid) = (ParticipantKey(n), format!("person-{n}"));
            stage.change(MediaTime(0), Change::Published { participant, uid, screen: false, video: Some(key(n)) });
        }
        let decoder = VideoDecoder::new(VideoCodec::H264).expect("a decoder");
        Self { stage, composer: Composer::new(Arc::default()), decoder, shown: Vec::new(), undecodable: Vec::new() }
    }

    fn send(&mut self, ms: i64, n: u32, unit: SourceUnit) {
        self.stage.unit(MediaTime(ms * 90), key(n), unit.key, unit);
    }

    /// What is recorded up to here.
    fn run(&mut self, ms: i64) {
        for frame in self.stage.frames(MediaTime(ms * 90)) {
            let composed = self.composer.frame(frame.at, frame.scene, frame.units, Some(frame.encoding), false).expect("composed");
            let (picture, undecodable) = composed;
            let composed = picture.expect("a picture");
            self.undecodable.extend(&undecodable);
            for track in undecodable {
                self.stage.lost(track);
            }
            let mut pictures = Vec::new();
            self.decoder.decode(&composed.data, frame.at.0, &mut pictures).expect("it can be decoded");
            self.shown.push((frame.at, composed.key, pictures.pop().expect("no delay").picture()));
        }
    }

    fn last(&self) -> &Picture {
        &self.shown.last().expect("a frame").2
    }

    fn luma(&self, x: u32, y: u32) -> u8 {
        let picture = self.last();
        picture.y[(y * picture.width + x) as usize]
    }
}

fn near(seen: u8, expected: u8) -> bool {
    seen.abs_diff(expected) <= 4
}

#[test]
fn everybody_is_in_their_tile_with_their_newest_picture() {
    let mut room = Room::new(composition(640, 360, Layout::BestFit), 4);
    let mut senders: Vec<Sender> = [(640, 360), (320, 180), (1280, 720), (480, 360)].map(|(w, h)| Sender::new(w, h)).into();
    for (n, sender) in (0..).zip(&mut senders) {
        room.send(0, n, sender.plain(60 + 40 * n as u8));
    }
    room.run(100);
    let centres = [(160, 90), (480, 90), (160, 270), (480, 270)];
    for (n, (x, y)) in (0..).zip(centres) {
        assert!(near(room.luma(x, y), 60 + 40 * n), "{n}: {}", room.luma(x, y));
    }
    // Edges within two pixels.
    assert!(near(room.luma(317, 90), 60) && near(room.luma(322, 90), 100));
    assert!(near(room.luma(160, 177), 60) && near(room.luma(160, 182), 140));
    room.send(100, 2, senders[2].plain(220));
    room.run(200);
    assert!(near(room.luma(160, 270), 220) && near(room.luma(480, 270), 180), "one changes, the others stay");
}

#[test]
fn a_turned_camera_stands_upright_and_fills_its_place_from_the_centre() {
    let mut room = Room::new(composition(640, 360, Layout::BestFit), 1);
    let mut phone = Sender::new(360, 640);
    // Its left half is the upper one when it is turned clockwise.
    room.send(0, 0, phone.halves(50, 200, 90));
    room.run(100);
    assert!(near(room.luma(320, 90), 50) && near(room.luma(320, 270), 200), "{} {}", room.luma(320, 90), room.luma(320, 270));
}

#[test]
fn whose_pictures_cannot_be_decoded_is_background_until_a_key_frame() {
    let mut room = Room::new(composition(640, 360, Layout::BestFit), 2);
    let (mut ann, mut bob) = (Sender::new(320, 180), Sender::new(320, 180));
    room.send(0, 0, ann.plain(200));
    drop(bob.plain(100));
    // Told to be a key frame, and none.
    room.send(0, 1, SourceUnit { key: true, ..bob.plain(100) });
    room.run(100);
    assert_eq!(room.undecodable, [key(1)]);
    assert!(near(room.luma(160, 180), 200) && near(room.luma(480, 180), BACKGROUND));
    room.send(100, 1, Sender::new(320, 180).plain(120));
    room.run(200);
    assert!(near(room.luma(480, 180), 120) && room.undecodable.len() == 1);
}

/// An SFU that changes between layers may leave a picture unfinished, and the other layer's key frame is there a millisecond later.
#[test]
fn a_damaged_picture_that_a_key_frame_follows_in_the_same_frame_costs_nothing() {
    let mut room = Room::new(composition(640, 360, Layout::BestFit), 1);
    let (mut large, mut small) = (Sender::new(320, 180), Sender::new(160, 90));
    room.send(0, 0, large.plain(200));
    let torn = large.plain(200);
    room.send(90, 0, SourceUnit { data: torn.data.slice(..torn.data.len() / 2), key: true, ..torn });
    room.send(91, 0, small.plain(60));
    room.send(200, 0, small.plain(90));
    room.run(500);
    assert!(room.undecodable.is_empty() && near(room.luma(320, 180), 90), "{:?} {}", room.undecodable, room.luma(320, 180));
}

#[test]
fn who_is_switched_off_is_background_and_comes_back_without_a_key_frame() {
    let mut room = Room::new(composition(640, 360, Layout::BestFit), 1);
    let mut ann = Sender::new(320, 180);
    room.send(0, 0, ann.plain(200));
    room.run(500);
    room.stage.change(MediaTime(500 * 90), Change::Off(key(0)));
    room.run(4_500);
    assert!(near(room.luma(320, 180), BACKGROUND));
    room.stage.change(MediaTime(4_300 * 90), Change::On(key(0)));
    room.send(4_500, 0, ann.plain(90));
    room.run(4_700);
    assert!(near(room.luma(320, 180), 90) && room.undecodable.is_empty());
}

#[test]
fn another_canvas_begins_with_a_key_frame_and_another_layout_with_none() {
    let mut room = Room::new(composition(640, 360, Layout::BestFit), 2);
    for n in 0..2 {
        room.send(0, n, Sender::new(320, 180).plain(100 + 50 * n as u8));
    }
    room.run(200);
    room.stage.change(MediaTime(200 * 90), Change::Compose(composition(640, 360, Layout::Floating)));
    room.run(300);
    assert!(near(room.luma(320, 20), 100) && near(room.luma(80, 310), 150), "{} {}", room.luma(320, 20), room.luma(80, 310));
    room.stage.change(MediaTime(300 * 90), Change::Compose(composition(320, 180, Layout::Floating)));
    room.run(400);
    let keys: Vec<(bool, u32)> = room.shown.iter().map(|(_, key, picture)| (*key, picture.width)).collect();
    assert_eq!(keys, [(true, 640), (false, 640), (false, 640), (true, 320)]);
}

#[test]
fn a_key_frame_is_made_where_it_is_ordered() {
    let mut composer = Composer::new(Arc::default());
    assert_eq!(composer.frame(MediaTime(0), None, vec![], Some(ENCODING), true), Ok((None, vec![])), "there is no canvas yet");
    let scene = Scene {
        size: layout::Canvas { width: 64, height: 64 },
        background: Yuv::from_rgb("#000000").expect("black"),
        tiles: vec![],
        texts: vec![],
    };
    let mut keys = Vec::new();
    for n in 0..6 {
        let scene = (n == 0).then(|| scene.clone());
        let (picture, _) = composer.frame(MediaTime(n * 9_000), scene, vec![], Some(ENCODING), n == 3).expect("composed");
        keys.push(picture.expect("a picture").key);
    }
    assert_eq!(keys, [true, false, false, true, false, false]);
}

/// Beneath everybody and in place of a camera; what can be seen through shows what is beneath; one that comes late is painted then.
#[test]
fn images_are_painted_when_they_come() {
    let album = Arc::new(Album::default());
    let (wall, face) = (ImageKey(1), ImageKey(2));
    album.put(wall, still(320, 180, 200, None));
    let images = Named { background: Some(wall), default_user: Some(face), ..Named::default() };
    let mut room = Room::new(Composition { images, ..composition(640, 360, Layout::BestFit) }, 2);
    room.composer = Composer::new(album.clone());
    room.send(0, 0, Sender::new(320, 360).plain(100));
    room.run(300);
    // The second half: nobody's picture, so what is beneath.
    assert!(near(room.luma(160, 180), 100) && near(room.luma(480, 180), 200), "{} {}", room.luma(160, 180), room.luma(480, 180));
    // Half of white on the wall.
    album.put(face, still(64, 64, 235, Some(128)));
    room.run(500);
    assert!(near(room.luma(480, 180), 217), "{}", room.luma(480, 180));
    album.remove(face);
    room.run(700);
    assert!(near(room.luma(480, 180), 200), "{}", room.luma(480, 180));
}

fn still(width: u32, height: u32, luma: u8, alpha: Option<u8>) -> recorder_codec::Still {
    let pixels = (width * height) as usize;
    let (y, u, v) = (vec![luma; pixels], vec![128; pixels / 4], vec![128; pixels / 4]);
    let picture = Picture { width, height, y, u, v, ..Picture::default() };
    recorder_codec::Still { picture, alpha: alpha.map(|alpha| vec![alpha; pixels]) }
}

/// Above a camera, half of it clear, the other half at half its strength.
#[test]
fn a_watermark_is_blended_over_what_is_there() {
    let (album, mark) = (Arc::new(Album::default()), ImageKey(1));
    let mut image = still(64, 64, 235, Some(255));
    image.alpha.iter_mut().flatten().enumerate().filter(|(n, _)| n % 64 < 32).for_each(|(_, alpha)| *alpha = 0);
    album.put(mark, image);
    let rect = layout::Rect { x: 200, y: 100, width: 64, height: 64 };
    let images = Named { watermarks: vec![Watermark { mark: Mark::Image(mark), rect, opacity_percent: 50 }], ..Named::default() };
    let mut room = Room::new(Composition { images, ..composition(640, 360, Layout::BestFit) }, 1);
    room.composer = Composer::new(album);
    room.send(0, 0, Sender::new(640, 360).plain(100));
    room.run(300);
    assert!(near(room.luma(210, 132), 100) && near(room.luma(250, 132), 168), "{} {}", room.luma(210, 132), room.luma(250, 132));
    assert!(near(room.luma(270, 132), 100) && near(room.luma(250, 170), 100));
}

/// Names at the bottom of each place; what somebody shows is seen around them.
#[test]
fn names_are_written_over_the_pictures() {
    let images = Named { caption_percent: Some(10), ..Named::default() };
    let mut room = Room::new(Composition { images, ..composition(640, 360, Layout::BestFit) }, 2);
    for n in 0..2 {
        room.send(0, n, Sender::new(320, 360).plain(120));
    }
    room.run(300);
    for left in [0, 320] {
        let strip: Vec<u8> = (left..left + 160).flat_map(|x| (324..360).map(move |y| (x, y))).map(|(x, y)| room.luma(x, y)).collect();
        let (white, dark) = (strip.iter().filter(|luma| **luma > 200).count(), strip.iter().filter(|luma| **luma < 60).count());
        assert!(white > 300 && dark > 300, "{white} white and {dark} dark samples at {left}");
        assert!(near(room.luma(left + 310, 340), 120) && near(room.luma(left + 20, 310), 120));
    }
}

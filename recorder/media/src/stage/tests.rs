use super::*;
use crate::canvas::Text;
use crate::layout::{Empty, Fit, Place, Rect, Wanted};
use proptest::prelude::*;

const ANN: ParticipantKey = ParticipantKey(1);
const BOB: ParticipantKey = ParticipantKey(2);
const CAMERA: TrackKey = TrackKey(10);
const OTHER: TrackKey = TrackKey(20);

fn composition(frames_per_second: u32) -> Composition {
    let background = Yuv::from_rgb("#000000").expect("a colour");
    Composition {
        layout: Layout::BestFit,
        canvas: Canvas { width: 640, height: 360 },
        background,
        images: Images::default(),
        encoding: Encoding { frames_per_second, kbps: 500 },
    }
}

fn ms(ms: i64) -> MediaTime {
    MediaTime(ms * 90)
}

/// A stage at 10 frames a second on which Ann's camera begins at 0 and sends `per_second` numbered pictures for a second.
fn ann(per_second: i64) -> Stage<i64> {
    let mut stage = Stage::new(composition(10));
    stage.published(ANN, "ann".into(), false, Some(CAMERA));
    (0..per_second).for_each(|n| stage.unit(MediaTime(n * 90_000 / per_second), CAMERA, n == 0, n));
    stage
}

fn shown(frame: &Frame<i64>) -> Vec<i64> {
    frame.units.iter().map(|(_, unit)| *unit).collect()
}

/// The last scene of these frames.
fn scene(frames: &[Frame<i64>]) -> Scene<Visual> {
    frames.iter().rev().find_map(|frame| frame.scene.clone()).expect("a scene")
}

fn contents(frames: &[Frame<i64>]) -> Vec<Content<Visual>> {
    scene(frames).tiles.iter().map(|tile| tile.content).collect()
}

fn fills(width: u32, height: u32) -> Wanted {
    Wanted { width, height, fit: Fit::Crop }
}

/// The first order came while nobody had sent anything.
#[test]
fn what_is_foreseen_before_the_first_frame_is_no_reason_to_ask_for_less_at_once() {
    let mut stage: Stage<i64> = Stage::new(composition(10));
    stage.published(ANN, "ann".into(), false, Some(CAMERA));
    stage.end();
    let small = Composition { canvas: Canvas { width: 320, height: 180 }, ..composition(10) };
    for composition in [composition(10), small.clone()] {
        let outlook = Outlook { composition: &composition, gone: &BTreeSet::new() };
        stage.foresee(outlook, outlook);
    }
    assert_eq!(stage.take_sizes(), BTreeMap::from([(CAMERA, fills(640, 360))]));
    stage.change(ms(0), Change::Compose(small));
    stage.unit(ms(100), CAMERA, true, 0);
    stage.frames(ms(1_000));
    assert_eq!(stage.take_sizes(), BTreeMap::new());
    stage.frames(ms(6_500));
    assert_eq!(stage.take_sizes(), BTreeMap::from([(CAMERA, fills(320, 180))]));
}

#[test]
fn a_camera_of_the_same_rate_is_shown_picture_by_picture() {
    let mut stage = ann(10);
    let frames = stage.frames(ms(1_100));
    assert_eq!(frames.iter().map(|frame| frame.at).collect::<Vec<_>>(), (0..=10).map(|n| ms(n * 100)).collect::<Vec<_>>());
    assert_eq!(frames[..10].iter().map(shown).collect::<Vec<_>>(), (0..10).map(|n| vec![n]).collect::<Vec<_>>());
    assert_eq!(frames.iter().filter(|frame| frame.scene.is_some()).count(), 1, "nothing changes");
}

#[test]
fn of_a_faster_camera_everything_is_decoded_and_the_nearest_shown() {
    let frames = ann(30).frames(ms(600));
    assert_eq!(shown(&frames[0]), [0]);
    // Pictures at 33, 67, 100 ms: the third is at the tick.
    assert_eq!(shown(&frames[1]), [1, 2, 3]);
}

#[test]
fn a_picture_just_behind_the_tick_is_nearer_than_one_long_before() {
    let mut stage = Stage::new(composition(10));
    stage.published(ANN, "ann".into(), false, Some(CAMERA));
    for (n, at) in [0, 120, 290, 330].into_iter().enumerate() {
        stage.unit(ms(at), CAMERA, n == 0, n as i64);
    }
    let frames = stage.frames(ms(400));
    assert_eq!(frames.iter().map(shown).collect::<Vec<_>>(), [vec![0], vec![1], vec![], vec![2]]);
}

/// Half a frame beside the clock, and not quite regular: neither twice nor left out.
#[test]
fn a_camera_between_two_ticks_does_not_jump_from_one_to_the_other() {
    for (rate, each_ms) in [(10, 100), (50, 20)] {
        let mut stage = Stage::new(composition(rate));
        stage.published(ANN, "ann".into(), false, Some(CAMERA));
        for n in 0..60 {
            let jitter = [0, 2, -1, -2, 1][n as usize % 5];
            stage.unit(ms(n * each_ms + each_ms / 2 + jitter), CAMERA, n == 0, n);
        }
        let frames = stage.frames(ms(50 * each_ms));
        assert!(
            frames.len() > 40 && frames[1..].iter().all(|frame| shown(frame).len() == 1),
            "{:?}",
            frames.iter().map(shown).collect::<Vec<_>>()
        );
    }
}

#[test]
fn nothing_is_decided_before_all_that_could_be_nearer_is_known() {
    let mut stage = ann(10);
    assert_eq!(stage.frames(ms(99)).len(), 0);
    assert_eq!(stage.frames(ms(100)).len(), 1);
    assert_eq!(stage.frames(ms(100)).len(), 0, "once");
}

#[test]
fn frames_begin_with_the_first_tick_behind_the_first_key_frame_or_with_sound() {
    let mut stage = Stage::new(composition(10));
    stage.published(ANN, "ann".into(), false, Some(CAMERA));
    assert_eq!(stage.frames(ms(5_000)).len(), 0, "nobody was seen or heard");
    stage.unit(ms(5_030), CAMERA, true, 0);
    let frames = stage.frames(ms(5_200));
    assert_eq!((frames[0].at, shown(&frames[0])), (ms(5_100), vec![0]));
    let mut heard = Stage::<i64>::new(composition(10));
    heard.published(ANN, "ann".into(), false, None);
    heard.begin_by(ms(40));
    let frames = heard.frames(ms(200));
    assert_eq!((frames[0].at, contents(&frames)), (ms(100), vec![Content::Empty]));
}

#[test]
fn what_is_switched_off_holds_for_three_and_a_half_seconds_and_comes_back_with_its_next_picture() {
    let mut stage = ann(10);
    let before = stage.frames(ms(1_000));
    assert_eq!(contents(&before), [Content::Source(Visual::Camera(CAMERA))]);
    stage.off(ms(1_000), CAMERA);
    assert!(stage.frames(ms(4_500)).iter().all(|frame| frame.scene.is_none()), "held");
    let held = stage.frames(ms(4_700));
    assert_eq!((held[0].at, contents(&held)), (ms(4_500), vec![Content::Empty]));
    stage.on(CAMERA);
    assert!(stage.frames(ms(5_200)).iter().all(|frame| frame.scene.is_none()), "its last picture is an old one");
    stage.unit(ms(5_200), CAMERA, true, 99);
    let back = stage.frames(ms(5_400));
    assert_eq!(
        (contents(&back), back.iter().flat_map(shown).collect::<Vec<_>>()),
        (vec![Content::Source(Visual::Camera(CAMERA))], vec![99])
    );
}

#[test]
fn a_camera_that_should_send_and_does_not_is_shown_for_ten_seconds() {
    let mut stage = ann(10);
    let frames = stage.frames(ms(12_000));
    let gone = frames.iter().rev().find(|frame| frame.scene.is_some()).expect("a change");
    assert_eq!((gone.at, contents(&frames)), (ms(10_900), vec![Content::Empty]));
}

#[test]
fn who_leaves_is_followed_up_and_a_share_is_an_entry_of_its_own() {
    let mut stage = ann(10);
    stage.published(BOB, "bob".into(), false, None);
    stage.published(ANN, "ann".into(), true, Some(OTHER));
    stage.unit(ms(0), OTHER, true, 50);
    let frames = stage.frames(ms(300));
    assert_eq!(contents(&frames), [Content::Source(Visual::Camera(CAMERA)), Content::Empty, Content::Source(Visual::Camera(OTHER))]);
    assert_eq!(scene(&frames).tiles[2].place.fit, crate::layout::Fit::Fit);
    stage.unpublished(ms(300), OTHER);
    assert_eq!(stage.feeds.keys().collect::<Vec<_>>(), [&CAMERA]);
    stage.left(BOB);
    let frames = stage.frames(ms(500));
    assert_eq!(scene(&frames).tiles.len(), 1);
    assert_eq!(scene(&frames).tiles[0].place.rect, Rect { x: 0, y: 0, width: 640, height: 360 });
    stage.left(ANN);
    assert!(scene(&stage.frames(ms(700))).tiles.is_empty());
}

#[test]
fn what_has_no_place_is_not_decoded_and_asks_for_a_key_frame_when_it_gets_one() {
    let mut stage = ann(10);
    let region = |uid: &str| crate::layout::Region {
        uid: Some(uid.into()),
        rect: Rect { x: 0, y: 0, width: 64, height: 36 },
        fit: crate::layout::Fit::Crop,
        opacity_percent: 100,
        z_order: 0,
    };
    stage.composition = Composition { layout: Layout::Custom(vec![region("bob")]), ..composition(10) };
    let frames = stage.frames(ms(600));
    assert!(frames.iter().all(|frame| frame.units.is_empty()) && stage.take_needs_key().is_empty());
    stage.composition = composition(10);
    assert!(stage.frames(ms(800)).iter().all(|frame| frame.units.is_empty()), "its key frame was left out");
    assert_eq!((stage.take_needs_key(), stage.take_needs_key()), (vec![CAMERA], vec![]));
    stage.unit(ms(1_000), CAMERA, true, 77);
    assert_eq!(stage.frames(ms(1_200)).iter().flat_map(shown).collect::<Vec<_>>(), [77]);
}

#[test]
fn a_loss_is_shown_from_the_next_key_frame_on() {
    let mut stage = ann(10);
    stage.unit(ms(1_000), CAMERA, true, 10);
    stage.frames(ms(500));
    stage.lost(CAMERA);
    assert_eq!(stage.frames(ms(1_150)).iter().flat_map(shown).collect::<Vec<_>>(), [10]);
    assert!(stage.take_needs_key().is_empty(), "it is there already");
    stage.lost(CAMERA);
    stage.frames(ms(1_300));
    assert_eq!(stage.take_needs_key(), [CAMERA]);
}

#[test]
fn what_could_not_be_decoded_before_a_key_frame_that_was_handed_on_costs_nothing_behind_it() {
    let mut stage = ann(10);
    stage.unit(ms(1_000), CAMERA, true, 10);
    stage.unit(ms(1_100), CAMERA, false, 11);
    stage.frames(ms(1_150));
    assert_eq!(stage.stuck(CAMERA, ms(500)), Some(ms(1_000)));
    assert_eq!(stage.frames(ms(1_250)).iter().flat_map(shown).collect::<Vec<_>>(), [11]);
    assert_eq!(stage.stuck(CAMERA, ms(1_000)), None, "the key frame itself");
    stage.frames(ms(1_400));
    assert_eq!(stage.take_needs_key(), [CAMERA]);
}

#[test]
fn a_new_rate_goes_on_behind_the_last_frame() {
    let mut stage = ann(10);
    let last = stage.frames(ms(400)).last().map(|frame| frame.at);
    assert_eq!(last, Some(ms(300)));
    stage.composition = composition(30);
    let frames = stage.frames(ms(500));
    assert_eq!(frames.iter().map(|frame| frame.at.0).collect::<Vec<_>>(), [30_000, 33_000, 36_000]);
}

proptest! {
    /// Whatever the rates and the jitter: frames lie on the clock, none is missing, and no unit is shown twice, out of order or left out.
    #[test]
    fn every_unit_is_decoded_once_in_order(fps in 1u32..=60, steps in prop::collection::vec(1i64..20_000, 1..200), looks in 1i64..9_000) {
        let mut stage = Stage::new(composition(fps));
        stage.published(ANN, "ann".into(), false, Some(CAMERA));
        let mut at = 0;
        for (n, step) in steps.iter().enumerate() {
            stage.unit(MediaTime(at), CAMERA, n == 0, n as i64);
            at += step;
        }
        let (mut frames, mut known) = (Vec::new(), 0);
        while known < at + 200_000 {
            known += looks;
            frames.extend(stage.frames(MediaTime(known)));
        }
        let ticks: Vec<i64> = frames.iter().map(|frame| frame.at.0).collect();
        let expected: Vec<i64> = (0..ticks.len() as i64).map(|n| n * 90_000 / i64::from(fps)).collect();
        prop_assert_eq!(ticks, expected);
        let units: Vec<i64> = frames.iter().flat_map(shown).collect();
        prop_assert_eq!(units, (0..steps.len() as i64).collect::<Vec<_>>());
    }
}

/// Four of one size: of the later half, key frames only; and everything again from their next key frames on, which are asked for.
#[test]
fn who_is_missed_least_is_shown_by_key_frames_alone() {
    let mut stage = Stage::new(composition(10));
    let tracks: Vec<TrackKey> = (1..=4).map(TrackKey).collect();
    for track in &tracks {
        stage.published(ParticipantKey(track.0), track.0.to_string(), false, Some(*track));
    }
    let mut sent = 0;
    let mut second = |stage: &mut Stage<i64>, key: bool| {
        for n in sent..sent + 10 {
            tracks.iter().for_each(|track| stage.unit(ms(n * 100), *track, key && n % 10 == 5, n));
        }
        sent += 10;
        let frames = stage.frames(ms(sent * 100));
        let of = |track: TrackKey| {
            frames.iter().flat_map(|f| &f.units).filter(|(of, _)| *of == track).map(|(_, unit)| *unit).collect::<Vec<_>>()
        };
        [of(TrackKey(2)), of(TrackKey(3))]
    };
    assert_eq!(second(&mut stage, true), [vec![5, 6, 7, 8, 9], vec![5, 6, 7, 8, 9]]);
    stage.economise(Economy::Tiles);
    let [first, later] = second(&mut stage, true);
    // Half the rate: a frame is made of two pictures.
    assert!(first.len() >= 8 && later == [15], "{first:?} {later:?}");
    assert_eq!(second(&mut stage, false)[1], []);
    let shown = stage.last.as_ref().expect("a scene");
    assert!(shown.tiles.iter().all(|tile| tile.content != Content::Empty), "an old picture is better than none");
    stage.economise(Economy::Nothing);
    assert_eq!(second(&mut stage, false)[1], [], "what follows cannot be decoded");
    assert_eq!(stage.take_needs_key(), [TrackKey(3), TrackKey(4)]);
    assert_eq!(second(&mut stage, true)[1], [45, 46, 47, 48, 49]);
}

#[test]
fn whoever_has_no_picture_has_an_image_and_a_camera_goes_before_it() {
    let mut stage = ann(10);
    stage.published(BOB, "bob".into(), false, None);
    stage.published(ParticipantKey(3), "cem".into(), false, None);
    stage.published(ANN, "ann".into(), true, Some(OTHER));
    let user = |uid: &str, image, fit| UserImage { uid: uid.into(), image: ImageKey(image), fit };
    let users = vec![user("bob", 7, Fit::Fit), user("ann", 8, Fit::Crop)];
    stage.composition.images = Images { default_user: Some(ImageKey(9)), users, ..Images::default() };
    let frames = stage.frames(ms(1_000));
    let image = |key| Content::Source(Visual::Image(ImageKey(key)));
    // The share sends nothing yet: it has no image.
    assert_eq!(contents(&frames), [Content::Source(Visual::Camera(CAMERA)), image(7), image(9), Content::Empty]);
    assert_eq!(scene(&frames).tiles.iter().map(|tile| tile.place.fit).collect::<Vec<_>>(), [Fit::Crop, Fit::Fit, Fit::Crop, Fit::Fit]);
    stage.off(ms(1_000), CAMERA);
    assert_eq!(contents(&stage.frames(ms(6_000)))[0], image(8), "3.5 s after the camera was switched off");
}

#[test]
fn a_background_image_lies_beneath_and_is_seen_where_nobody_is() {
    for layout in [Layout::BestFit, Layout::Vertical { large: None }] {
        let mut stage = ann(10);
        stage.published(BOB, "bob".into(), false, None);
        stage.composition.layout = layout;
        stage.composition.images.background = Some(ImageKey(1));
        let tiles = scene(&stage.frames(ms(1_000))).tiles;
        assert_eq!(tiles[0].content, Content::Source(Visual::Image(ImageKey(1))));
        assert_eq!(tiles[0].place.rect, Rect { x: 0, y: 0, width: 640, height: 360 });
        assert!(tiles[1..].iter().all(|tile| tile.place.z_order > tiles[0].place.z_order));
        assert_eq!((tiles[2].content, tiles[2].place.empty), (Content::Empty, Empty::Transparent));
    }
}

#[test]
fn watermarks_are_above_everything_and_whole() {
    let mut stage = ann(10);
    let rect = Rect { x: 500, y: 20, width: 120, height: 40 };
    stage.composition.images.watermarks = vec![Watermark { mark: Mark::Image(ImageKey(5)), rect, opacity_percent: 40 }];
    let tiles = scene(&stage.frames(ms(1_000))).tiles;
    let place = Place { rect, fit: Fit::Fit, empty: Empty::Transparent, opacity_percent: 40, z_order: i32::MAX };
    assert_eq!(tiles[1..], [Tile { place, content: Content::Source(Visual::Image(ImageKey(5))) }]);
}

#[test]
fn names_are_at_the_bottom_of_each_place_and_the_time_is_that_of_the_picture() {
    let mut stage = ann(10);
    stage.published(BOB, "bob".into(), false, None);
    stage.composition.images.caption_percent = Some(10);
    let rect = Rect { x: 20, y: 20, width: 200, height: 24 };
    stage.composition.images.watermarks = vec![
        Watermark { mark: Mark::Text("Draft".into()), rect, opacity_percent: 100 },
        Watermark { mark: Mark::Time, rect: Rect { y: 60, ..rect }, opacity_percent: 100 },
    ];
    // Without an epoch nobody knows the time.
    assert_eq!(scene(&stage.frames(ms(300))).tiles.len(), 5);
    stage.set_epoch(Some(WallMicros(1_763_700_000_400_000)));
    let frames = stage.frames(ms(1_000));
    let clocks: Vec<_> = frames.iter().filter_map(|frame| Some((frame.at, frame.scene.as_ref()?.texts.last()?.line.clone()))).collect();
    assert_eq!(clocks, [(ms(300), "2025-11-21 04:40:00Z".to_owned()), (ms(600), "2025-11-21 04:40:01Z".to_owned())]);
    let seen = scene(&frames);
    let text = |line: &str, width, height| Text { line: line.into(), width, height };
    assert_eq!(seen.texts[..3], [text("ann", 320, 36), text("bob", 320, 36), text("Draft", 200, 24)]);
    let captions: Vec<_> = seen.tiles.iter().filter(|tile| matches!(tile.content, Content::Source(Visual::Text(0 | 1)))).collect();
    let rects = [0, 320].map(|x| Rect { x, y: 324, width: 320, height: 36 });
    assert!(captions.iter().map(|tile| tile.place.rect).eq(rects), "{captions:?}");
    assert_eq!(seen.tiles[1].content, Content::Source(Visual::Text(0)), "above its place, beneath the next one");
}

#[test]
fn who_fills_the_canvas_has_the_name_at_the_top_where_nobody_stands_on_it() {
    let mut stage = ann(10);
    stage.published(BOB, "bob".into(), false, None);
    stage.composition.layout = Layout::Floating;
    stage.composition.images = Images { caption_percent: Some(10), default_user: Some(ImageKey(1)), ..Images::default() };
    let tiles = scene(&stage.frames(ms(1_000))).tiles;
    let names = tiles.iter().filter(|tile| matches!(tile.content, Content::Source(Visual::Text(_)))).map(|tile| tile.place.rect);
    assert_eq!(names.map(|rect| (rect.y, rect.height)).collect::<Vec<_>>(), [(0, 36), (320, 36)]);
}

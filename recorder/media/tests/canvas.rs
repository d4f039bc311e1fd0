//! What is seen on the canvas, sample by sample, and that nothing is painted that need not be.

use std::collections::BTreeMap;

use proptest::prelude::*;
use recorder_media::canvas::{Canvas, Content, Fill, Pictures, Planes, Scene, Tile, Yuv, fill};
use recorder_media::layout::{Canvas as Size, Empty, Fit, Place, Rect};

const GROUND: Yuv = Yuv { y: 50, u: 60, v: 70 };
const SIZE: Size = Size { width: 32, height: 24 };

#[derive(Clone, Copy, Debug)]
struct Shown {
    size: (u32, u32),
    seed: u8,
    /// A gradient, if it can be seen through.
    through: bool,
}

/// Who has a picture, and what the canvas asked for.
#[derive(Default)]
struct Room {
    pictures: BTreeMap<u8, Shown>,
    asked: Vec<u8>,
    /// Y, U, V of the last answer.
    answer: [Vec<u8>; 3],
    alpha: Vec<u8>,
    /// Answers are too small.
    broken: bool,
}

impl Room {
    fn of(pictures: &[(u8, (u32, u32), u8)]) -> Self {
        let pictures = pictures.iter().map(|(source, size, seed)| (*source, Shown { size: *size, seed: *seed, through: false })).collect();
        Self { pictures, ..Self::default() }
    }
}

impl Pictures<u8> for Room {
    fn size(&self, source: u8) -> Option<(u32, u32)> {
        self.pictures.get(&source).map(|shown| shown.size)
    }

    fn scaled(&mut self, source: u8, fill: Fill) -> Option<Planes<'_>> {
        self.asked.push(source);
        let Shown { seed, through, .. } = *self.pictures.get(&source)?;
        let Rect { width, mut height, .. } = fill.inner;
        height -= 2 * u32::from(self.broken);
        for (index, plane) in self.answer.iter_mut().enumerate() {
            let (across, down) = (width >> u32::from(index > 0), height >> u32::from(index > 0));
            *plane = (0..down).flat_map(|y| (0..across).map(move |x| (x, y))).map(|(x, y)| sample(seed, fill.crop, index, x, y)).collect();
        }
        self.alpha = (0..height).flat_map(|y| (0..width).map(move |x| alpha(seed, x, y))).collect();
        let [y, u, v] = &self.answer;
        Some(Planes { width, height, y, u, v, alpha: through.then_some(&self.alpha) })
    }

    fn is_see_through(&self, source: u8) -> bool {
        self.pictures.get(&source).is_some_and(|shown| shown.through)
    }
}

/// Of a scaled picture: a seed below 100 is one colour, above every sample differs from its neighbours.
fn sample(seed: u8, crop: Rect, plane: usize, x: u32, y: u32) -> u8 {
    let differs = 31 * x + 17 * y + 3 * crop.x + 5 * crop.y + 7 * crop.width + 11 * crop.height;
    let differs = if seed < 100 { 0 } else { differs as u8 };
    seed.wrapping_add(differs).wrapping_add(10 * plane as u8)
}

/// Of a scaled picture, at a sample of luma.
fn alpha(seed: u8, x: u32, y: u32) -> u8 {
    (37 * x + 11 * y + u32::from(seed)) as u8
}

/// The same at a sample of a plane.
fn alpha_of(seed: u8, plane: usize, x: u32, y: u32) -> u32 {
    let at = |x, y| u32::from(alpha(seed, x, y));
    if plane == 0 { at(x, y) } else { (at(2 * x, 2 * y) + at(2 * x + 1, 2 * y) + at(2 * x, 2 * y + 1) + at(2 * x + 1, 2 * y + 1) + 2) / 4 }
}

fn rect(x: u32, y: u32, width: u32, height: u32) -> Rect {
    Rect { x, y, width, height }
}

/// Opaque, at the bottom; the picture is cut to fit.
fn place(rect: Rect) -> Place {
    Place { rect, fit: Fit::Crop, empty: Empty::Background, opacity_percent: 100, z_order: 0 }
}

fn tile(place: Place, source: u8) -> Tile<u8> {
    Tile { place, content: Content::Source(source) }
}

fn scene(tiles: Vec<Tile<u8>>) -> Scene<u8> {
    Scene { size: SIZE, background: GROUND, tiles, texts: Vec::new() }
}

/// Y, U, V of what a scene must look like: every sample by itself, from the ground upwards.
fn expected(scene: &Scene<u8>, room: &Room) -> [Vec<u8>; 3] {
    let mut tiles = scene.tiles.clone();
    tiles.sort_by_key(|tile| tile.place.z_order);
    [0, 1, 2].map(|plane| {
        let step = if plane == 0 { 1 } else { 2 };
        let at = |x: u32, y: u32| tiles.iter().fold(ground(scene, plane), |under, tile| over(tile, scene, room, plane, (x, y), under));
        (0..scene.size.height)
            .step_by(step)
            .flat_map(|y| (0..scene.size.width).step_by(step).map(move |x| (x, y)))
            .map(|(x, y)| at(x, y))
            .collect()
    })
}

fn ground(scene: &Scene<u8>, plane: usize) -> u8 {
    [scene.background.y, scene.background.u, scene.background.v][plane]
}

fn over(tile: &Tile<u8>, scene: &Scene<u8>, room: &Room, plane: usize, (x, y): (u32, u32), under: u8) -> u8 {
    let inside = |rect: Rect| (rect.x..rect.x + rect.width).contains(&x) && (rect.y..rect.y + rect.height).contains(&y);
    let Place { rect, fit, empty, opacity_percent, .. } = tile.place;
    let shown = match tile.content {
        Content::Source(source) => room.pictures.get(&source),
        Content::Empty => None,
    };
    let step = if plane == 0 { 1 } else { 2 };
    let opacity = u32::from(opacity_percent);
    let blend = |over: u8, under: u8| ((u32::from(over) * opacity + u32::from(under) * (100 - opacity) + 50) / 100) as u8;
    let over = match shown.map(|shown| (shown.seed, fill(shown.size, rect, fit))) {
        _ if !inside(rect) => return under,
        None if empty == Empty::Transparent => return under,
        // The ground first, if there is one, and what can be seen through on it.
        Some((seed, fill)) if shown.is_some_and(|shown| shown.through) => {
            let under = if empty == Empty::Background { blend(ground(scene, plane), under) } else { under };
            if !inside(fill.inner) {
                return under;
            }
            let (x, y) = ((x - fill.inner.x) / step, (y - fill.inner.y) / step);
            let weight = (alpha_of(seed, plane, x, y) * opacity + 50) / 100;
            let over = u32::from(sample(seed, fill.crop, plane, x, y));
            return ((over * weight + u32::from(under) * (255 - weight) + 127) / 255) as u8;
        }
        Some((seed, fill)) if inside(fill.inner) => sample(seed, fill.crop, plane, (x - fill.inner.x) / step, (y - fill.inner.y) / step),
        _ => ground(scene, plane),
    };
    blend(over, under)
}

fn seen(canvas: &Canvas<u8>) -> [Vec<u8>; 3] {
    let planes = canvas.planes();
    [planes.y.to_vec(), planes.u.to_vec(), planes.v.to_vec()]
}

/// Luma at a pixel.
fn luma(canvas: &Canvas<u8>, x: u32, y: u32) -> u8 {
    canvas.planes().y[(y * canvas.planes().width + x) as usize]
}

fn assert_shows(canvas: &Canvas<u8>, scene: &Scene<u8>, room: &Room) {
    assert!(seen(canvas) == expected(scene, room), "{scene:?} with {:?}", room.pictures);
}

#[test]
fn colours_are_bt601_in_limited_range() {
    for (text, y, u, v) in [
        ("#000000", 16, 128, 128),
        ("#ffffff", 235, 128, 128),
        ("#FF0000", 81, 90, 240),
        ("#00FF00", 145, 54, 34),
        ("#0000FF", 41, 240, 110),
        ("#808080", 126, 128, 128),
    ] {
        assert_eq!(Yuv::from_rgb(text), Some(Yuv { y, u, v }), "{text}");
    }
    for text in ["", "#", "000000", "#fff", "#12345g", "#1234567", "#+12345", "#ff 000", "#fffffé"] {
        assert_eq!(Yuv::from_rgb(text), None, "{text}");
    }
}

#[test]
fn a_picture_is_cut_or_gets_bars() {
    let hd = (1280, 720);
    for (size, at, fit, crop, inner) in [
        (hd, rect(0, 0, 640, 360), Fit::Crop, rect(0, 0, 1280, 720), rect(0, 0, 640, 360)),
        (hd, rect(0, 0, 640, 360), Fit::Fit, rect(0, 0, 1280, 720), rect(0, 0, 640, 360)),
        (hd, rect(640, 0, 640, 720), Fit::Crop, rect(320, 0, 640, 720), rect(640, 0, 640, 720)),
        (hd, rect(640, 0, 640, 720), Fit::Fit, rect(0, 0, 1280, 720), rect(640, 180, 640, 360)),
        ((720, 1280), rect(0, 0, 1280, 720), Fit::Crop, rect(0, 436, 720, 406), rect(0, 0, 1280, 720)),
        ((720, 1280), rect(0, 0, 1280, 720), Fit::Fit, rect(0, 0, 720, 1280), rect(436, 0, 406, 720)),
    ] {
        assert_eq!(fill(size, at, fit), Fill { crop, inner }, "{size:?} in {at:?}, {fit:?}");
    }
}

#[test]
fn every_tile_is_where_it_belongs() {
    let fitted = Place { fit: Fit::Fit, ..place(rect(16, 0, 16, 24)) };
    let scene = scene(vec![tile(place(rect(0, 0, 16, 24)), 1), tile(fitted, 2)]);
    let mut room = Room::of(&[(1, (64, 64), 30), (2, (64, 32), 90)]);
    let mut canvas = Canvas::new(scene.clone());
    canvas.paint(&[], &mut room);
    // 64x32 in 16x24: a picture of 16x8 in the middle.
    let rows = [(0, 50), (7, 50), (8, 90), (15, 90), (16, 50), (23, 50)];
    for (y, expected) in rows {
        assert_eq!([0, 15, 16, 31].map(|x| luma(&canvas, x, y)), [30, 30, expected, expected], "row {y}");
    }
    assert_eq!((canvas.planes().u[8 + 16 * 4], canvas.planes().v[8 + 16 * 4], canvas.planes().u[8 + 16 * 3]), (100, 110, 60));
    assert_shows(&canvas, &scene, &room);
}

#[test]
fn what_is_higher_is_painted_later_and_opacity_blends() {
    let above = |z_order, opacity_percent| Place { z_order, opacity_percent, ..place(rect(8, 8, 8, 8)) };
    // The order of the list counts only among equals.
    let scene = scene(vec![tile(above(2, 25), 3), tile(above(1, 100), 2), tile(place(rect(0, 0, 32, 24)), 1), tile(above(1, 0), 4)]);
    let mut room = Room::of(&[(1, (32, 24), 10), (2, (8, 8), 40), (3, (8, 8), 80), (4, (8, 8), 99)]);
    let mut canvas = Canvas::new(scene.clone());
    canvas.paint(&[], &mut room);
    assert_eq!((luma(&canvas, 7, 7), luma(&canvas, 8, 8), luma(&canvas, 15, 15), luma(&canvas, 16, 16)), (10, 50, 50, 10));
    assert!(!room.asked.contains(&4), "what is not seen is not asked for");
    assert_shows(&canvas, &scene, &room);
}

#[test]
fn who_has_no_picture_is_background_or_nothing() {
    let small = |x, empty| Place { empty, z_order: 1, ..place(rect(x, 4, 4, 4)) };
    let (hidden, open) = (small(0, Empty::Background), small(8, Empty::Transparent));
    let nobody = |place| Tile { place, content: Content::Empty };
    let scene = scene(vec![
        tile(place(rect(0, 0, 32, 24)), 1),
        tile(hidden, 2),
        tile(open, 3),
        nobody(small(16, Empty::Background)),
        nobody(small(24, Empty::Transparent)),
    ]);
    let mut room = Room::of(&[(1, (32, 24), 10)]);
    let mut canvas = Canvas::new(scene.clone());
    canvas.paint(&[], &mut room);
    assert_eq!([0, 8, 16, 24].map(|x| luma(&canvas, x, 4)), [50, 10, 50, 10]);
    // They come, and go.
    for (seed, expected) in [(Some(90), [90, 90, 50, 10]), (None, [50, 10, 50, 10])] {
        for source in [2, 3] {
            match seed {
                Some(seed) => room.pictures.insert(source, Shown { size: (4, 4), seed, through: false }),
                None => room.pictures.remove(&source),
            };
        }
        canvas.paint(&[2, 3], &mut room);
        assert_eq!([0, 8, 16, 24].map(|x| luma(&canvas, x, 4)), expected);
    }
    assert_shows(&canvas, &scene, &room);
}

#[test]
fn what_did_not_change_is_not_painted() {
    let quarters = [rect(0, 0, 16, 12), rect(16, 0, 16, 12), rect(0, 12, 16, 12), rect(16, 12, 16, 12)];
    let scene = scene(quarters.into_iter().zip(1..).map(|(rect, source)| tile(place(rect), source)).collect());
    let mut room = Room::of(&[(1, (16, 12), 101), (2, (16, 12), 102), (3, (16, 12), 103), (4, (16, 12), 104)]);
    let mut canvas = Canvas::new(scene.clone());
    assert_eq!(canvas.paint(&[], &mut room), 32 * 24 + 32 * 24, "ground and tiles");
    for (changed, pixels, asked) in
        [(&[][..], 0, &[][..]), (&[9], 0, &[]), (&[3], 192, &[3]), (&[4, 1], 384, &[1, 4]), (&[2, 2], 192, &[2])]
    {
        room.asked.clear();
        assert_eq!(canvas.paint(changed, &mut room), pixels, "{changed:?}");
        assert_eq!(room.asked, asked, "{changed:?}");
    }
    canvas.set_scene(scene.clone());
    assert_eq!(canvas.paint(&[], &mut room), 0, "the same scene");
    assert_shows(&canvas, &scene, &room);
}

#[test]
fn what_overlaps_is_painted_together_where_it_does() {
    let above = |x, z_order| Place { z_order, ..place(rect(x, 4, 8, 8)) };
    let scene =
        scene(vec![tile(place(rect(0, 0, 32, 24)), 1), tile(above(4, 1), 2), tile(Place { opacity_percent: 50, ..above(20, 1) }, 3)]);
    let mut room = Room::of(&[(1, (32, 24), 101), (2, (8, 8), 102), (3, (8, 8), 103)]);
    let mut canvas = Canvas::new(scene.clone());
    canvas.paint(&[], &mut room);
    for (changed, pixels, asked) in [
        (&[2][..], 64, &[2][..]),
        // What shines through.
        (&[3], 128, &[1, 3]),
        // Both lie on it.
        (&[1], 32 * 24 + 128, &[1, 2, 3]),
        (&[1, 2, 3], 32 * 24 + 128, &[1, 2, 3]),
    ] {
        room.asked.clear();
        changed.iter().for_each(|source| room.pictures.get_mut(source).expect("shown").seed += 10);
        assert_eq!(canvas.paint(changed, &mut room), pixels, "{changed:?}");
        assert_eq!(room.asked, asked, "{changed:?}");
        assert_shows(&canvas, &scene, &room);
    }
}

#[test]
fn what_is_hidden_is_not_painted() {
    let cover = Place { z_order: 1, ..place(rect(0, 0, 20, 24)) };
    let outside = place(rect(40, 0, 8, 8));
    let scene = scene(vec![tile(place(rect(4, 4, 8, 8)), 1), tile(cover, 2), tile(outside, 3)]);
    let mut room = Room::of(&[(1, (8, 8), 20), (2, (20, 24), 30), (3, (8, 8), 40)]);
    let mut canvas = Canvas::new(scene.clone());
    canvas.paint(&[], &mut room);
    assert_eq!((canvas.paint(&[1], &mut room), canvas.paint(&[3], &mut room)), (0, 0));
    assert_shows(&canvas, &scene, &room);
}

#[test]
fn a_picture_of_a_wrong_size_is_background() {
    let scene = scene(vec![tile(Place { empty: Empty::Transparent, ..place(rect(0, 0, 32, 24)) }, 1)]);
    let mut room = Room { broken: true, ..Room::of(&[(1, (32, 24), 90)]) };
    let mut canvas = Canvas::new(scene);
    canvas.paint(&[], &mut room);
    assert!(canvas.planes().y.iter().all(|y| *y == 50));
}

#[test]
fn another_scene_may_have_another_size() {
    let mut room = Room::of(&[(1, (32, 24), 90)]);
    let mut canvas = Canvas::new(scene(vec![tile(place(rect(0, 0, 32, 24)), 1)]));
    canvas.paint(&[], &mut room);
    for size in [Size { width: 64, height: 2 }, Size { width: 0, height: 0 }, SIZE] {
        let scene = Scene { size, ..scene(vec![tile(place(rect(0, 0, 16, 24)), 1)]) };
        canvas.set_scene(scene.clone());
        canvas.paint(&[], &mut room);
        assert_eq!((canvas.planes().width, canvas.planes().height), (size.width, size.height));
        assert_shows(&canvas, &scene, &room);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Picture(u8, Option<((u32, u32), u8, bool)>),
    Scene(Scene<u8>),
    Paint,
}

fn even(from: u32, to: u32) -> impl Strategy<Value = u32> {
    (from / 2..=to / 2).prop_map(|half| 2 * half)
}

fn any_tile() -> impl Strategy<Value = Tile<u8>> {
    let rect = (even(0, 36), even(0, 28), even(0, 32), even(0, 24)).prop_map(|(x, y, width, height)| rect(x, y, width, height));
    let fit = prop_oneof![Just(Fit::Crop), Just(Fit::Fit)];
    let empty = prop_oneof![Just(Empty::Background), Just(Empty::Transparent)];
    let opacity = prop_oneof![3 => Just(100u8), 1 => 0u8..=100];
    let content = prop_oneof![5 => (0u8..5).prop_map(Content::Source), 1 => Just(Content::Empty)];
    (rect, fit, empty, opacity, -1i32..2, content).prop_map(|(rect, fit, empty, opacity_percent, z_order, content)| Tile {
        place: Place { rect, fit, empty, opacity_percent, z_order },
        content,
    })
}

fn any_scene() -> impl Strategy<Value = Scene<u8>> {
    let size = prop_oneof![4 => Just(SIZE), 1 => (even(2, 40), even(2, 40)).prop_map(|(width, height)| Size { width, height })];
    let tiles = prop::collection::vec(any_tile(), 0..6);
    (size, any::<[u8; 3]>(), tiles).prop_map(|(size, [y, u, v], tiles)| Scene {
        size,
        background: Yuv { y, u, v },
        tiles,
        texts: Vec::new(),
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let shown = prop::option::weighted(0.8, ((even(2, 40), even(2, 40)), 100u8..=255, prop::bool::weighted(0.3)));
    prop_oneof![
        6 => (0u8..5, shown).prop_map(|(source, shown)| Step::Picture(source, shown)),
        1 => any_scene().prop_map(Step::Scene),
        4 => Just(Step::Paint),
    ]
}

proptest! {
    #[test]
    fn painting_what_changed_is_painting_everything(first in any_scene(), steps in prop::collection::vec(any_step(), 1..40)) {
        let (mut scene, mut room, mut changed) = (first.clone(), Room::default(), Vec::new());
        let mut canvas = Canvas::new(first);
        for step in steps.into_iter().chain([Step::Paint]) {
            match step {
                Step::Picture(source, shown) => {
                    changed.push(source);
                    match shown {
                        Some((size, seed, through)) => room.pictures.insert(source, Shown { size, seed, through }),
                        None => room.pictures.remove(&source),
                    };
                }
                Step::Scene(next) => {
                    scene = next.clone();
                    canvas.set_scene(next);
                }
                Step::Paint => {
                    let before = seen(&canvas);
                    let written = canvas.paint(&changed, &mut room);
                    changed.clear();
                    prop_assert!(seen(&canvas) == expected(&scene, &room), "{scene:?} with {:?}", room.pictures);
                    prop_assert!(written > 0 || seen(&canvas) == before);
                    prop_assert_eq!(canvas.paint(&[], &mut room), 0);
                }
            }
        }
    }

    #[test]
    fn edges_are_even_and_near(size in (even(2, 4096), even(2, 4096)), (x, y) in (even(0, 2000), even(0, 2000)),
                               (width, height) in (even(2, 2000), even(2, 2000)), crops in any::<bool>()) {
        let at = rect(x, y, width, height);
        let (whole, fill) = (rect(0, 0, size.0, size.1), fill(size, at, if crops { Fit::Crop } else { Fit::Fit }));
        // What is cut or made smaller, by what, and the result.
        let (outer, shape, inner) = if crops { (whole, (width, height), fill.crop) } else { (at, size, fill.inner) };
        prop_assert_eq!(if crops { fill.inner } else { fill.crop }, if crops { at } else { whole });
        prop_assert!([inner.x, inner.y, inner.width, inner.height].iter().all(|number| number.is_multiple_of(2)), "{:?}", inner);
        prop_assert!(inner.width > 0 && inner.height > 0);
        let scale = (f64::from(outer.width) / f64::from(shape.0)).min(f64::from(outer.height) / f64::from(shape.1));
        for (start, length, side, outer_start, outer_length) in [
            (inner.x, inner.width, shape.0, outer.x, outer.width),
            (inner.y, inner.height, shape.1, outer.y, outer.height),
        ] {
            prop_assert!(start >= outer_start && start + length <= outer_start + outer_length, "{:?} is not in {:?}", inner, outer);
            let free = f64::from(outer_length) - f64::from(side) * scale;
            let (left, right) = (f64::from(outer_start) + free / 2.0, f64::from(outer_start + outer_length) - free / 2.0);
            prop_assert!((f64::from(start) - left).abs() <= 2.0 && (f64::from(start + length) - right).abs() <= 2.0, "{:?} in {:?}", inner, outer);
        }
    }
}

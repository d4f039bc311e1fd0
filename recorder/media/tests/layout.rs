//! The layouts, checked against their tables: where each place lies, who gets it, and how a picture is put into it.
//!
//! The tables are written out here as whole parts of the canvas, so that the checks share no arithmetic with the code they check.

use std::collections::BTreeMap;

use recorder_media::layout::{Canvas, Empty, Entry, Fit, Layout, PLACES_MAX, Rect, Region, places};

const CANVASES: [Canvas; 5] = [
    Canvas { width: 1280, height: 720 },
    Canvas { width: 640, height: 360 },
    Canvas { width: 360, height: 640 },
    Canvas { width: 1920, height: 1080 },
    Canvas { width: 426, height: 240 },
];
const HD: Canvas = CANVASES[0];
const FULL_HD: Canvas = CANVASES[3];

/// The last three find no place.
const NAMES: [&str; 20] = [
    "u01", "u02", "u03", "u04", "u05", "u06", "u07", "u08", "u09", "u10", "u11", "u12", "u13", "u14", "u15", "u16", "u17", "u18", "u19",
    "u20",
];
const NOBODY: &str = "nobody";

/// How far an edge may be from its exact position, in pixels.
const TOLERANCE: u32 = 2;

/// Left and right, in thousandths of the width.
const FLOATING_COLUMNS: [(u32, u32); 4] = [(12, 247), (259, 494), (506, 741), (753, 988)];
/// Top and bottom, in thousandths of the height; the first row is the lowest.
const FLOATING_ROWS: [(u32, u32); 4] = [(753, 988), (506, 741), (259, 494), (12, 247)];

/// What a table says: the canvas is `across` parts wide and `down` parts high.
struct Table {
    across: u32,
    down: u32,
    /// Left, top, right and bottom, in parts; in roster order.
    boxes: Vec<[u32; 4]>,
}

fn floating(people: usize) -> Table {
    let mut boxes = vec![[0, 0, 1000, 1000]];
    for (top, bottom) in FLOATING_ROWS {
        for (left, right) in FLOATING_COLUMNS {
            boxes.push([left, top, right, bottom]);
        }
    }
    boxes.truncate(people);
    Table { across: 1000, down: 1000, boxes }
}

fn best_fit(people: usize) -> Table {
    let (across, down) = match people {
        1 => (1, 1),
        2 => (2, 1),
        3..=4 => (2, 2),
        5..=9 => (3, 3),
        10..=16 => (4, 4),
        _ => return best_fit_of_seventeen(),
    };
    let mut boxes = Vec::new();
    for top in 0..down {
        for left in 0..across {
            boxes.push([left, top, left + 1, top + 1]);
        }
    }
    boxes.truncate(people);
    Table { across, down, boxes }
}

fn best_fit_of_seventeen() -> Table {
    let mut boxes = Vec::new();
    for top in [0, 2, 4, 6] {
        for left in [1, 3, 5, 7] {
            boxes.push([left, top, left + 2, top + 2]);
        }
    }
    boxes.push([4, 8, 6, 10]);
    Table { across: 10, down: 10, boxes }
}

/// `large_at` is the index of the entry in the large place; None: the place stays empty, but counts.
fn vertical(people: usize, large_at: Option<usize>) -> Table {
    let total = if large_at.is_some() { people } else { people + 1 };
    let (across, down, large_width, small_columns) = match total {
        1..=5 => (5, 4, 4, vec![4]),
        6..=7 => (7, 6, 6, vec![6]),
        8..=9 => (9, 8, 8, vec![8]),
        _ => (10, 8, 8, vec![9, 8]),
    };
    let mut boxes = Vec::new();
    for left in small_columns {
        for top in 0..down {
            boxes.push([left, top, left + 1, top + 1]);
        }
    }
    boxes.truncate(total - 1);
    if let Some(at) = large_at {
        boxes.insert(at, [0, 0, large_width, down]);
    }
    Table { across, down, boxes }
}

fn person(uid: &str) -> Entry<'_> {
    Entry { uid, screen: false }
}

fn screen(uid: &str) -> Entry<'_> {
    Entry { uid, screen: true }
}

fn people(count: usize) -> Vec<Entry<'static>> {
    NAMES.into_iter().take(count).map(person).collect()
}

fn people_without(count: usize, leaver: &str) -> Vec<Entry<'static>> {
    NAMES.into_iter().take(count).filter(|uid| *uid != leaver).map(person).collect()
}

/// Every size up to the most that are shown, and two beyond.
fn counts() -> impl Iterator<Item = usize> {
    (1..=18).chain([20])
}

fn vertical_layout(large: Option<&str>) -> Layout {
    Layout::Vertical { large: large.map(str::to_owned) }
}

fn predefined() -> [Layout; 4] {
    [Layout::Floating, Layout::BestFit, vertical_layout(None), vertical_layout(Some(NAMES[0]))]
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    rect: Rect,
    fit: Fit,
    transparent: bool,
    opacity_percent: u8,
    z_order: i32,
}

fn show(roster: &[Entry<'_>], layout: &Layout, canvas: Canvas) -> Vec<Option<Shown>> {
    let places = places(roster, layout, canvas);
    assert_eq!(places.len(), roster.len(), "one answer for each entry");
    let mut shown = Vec::new();
    for place in places {
        shown.push(place.map(|place| Shown {
            rect: place.rect,
            fit: place.fit,
            transparent: matches!(place.empty, Empty::Transparent),
            opacity_percent: place.opacity_percent,
            z_order: place.z_order,
        }));
    }
    shown
}

fn rects(shown: &[Option<Shown>]) -> Vec<Rect> {
    shown.iter().flatten().map(|place| place.rect).collect()
}

/// Left, top, right and bottom.
fn edges(rect: Rect) -> [u32; 4] {
    [rect.x, rect.y, rect.x + rect.width, rect.y + rect.height]
}

fn is_near(pixel: u32, part: u32, parts: u32, length: u32) -> bool {
    (pixel * parts).abs_diff(part * length) <= TOLERANCE * parts
}

fn is_even(rect: Rect) -> bool {
    [rect.x, rect.y, rect.width, rect.height].into_iter().all(|number| number.is_multiple_of(2))
}

fn overlap(one: Rect, other: Rect) -> bool {
    let ([left, top, right, bottom], [other_left, other_top, other_right, other_bottom]) = (edges(one), edges(other));
    left < other_right && other_left < right && top < other_bottom && other_top < bottom
}

/// The table's places are taken, by the first entries of the roster, and nobody else is shown.
fn assert_follows(shown: &[Option<Shown>], table: &Table, canvas: Canvas) {
    let count = shown.len();
    for (index, place) in shown.iter().enumerate() {
        assert_eq!(place.is_some(), index < table.boxes.len(), "entry {index} of {count}, {canvas:?}");
    }
    let rects = rects(shown);
    for (index, (&rect, &parts)) in rects.iter().zip(&table.boxes).enumerate() {
        assert_position(rect, parts, table, canvas, &format!("entry {index} of {count}"));
    }
    assert_lines(&rects, table, canvas);
}

fn assert_position(rect: Rect, parts: [u32; 4], table: &Table, canvas: Canvas, case: &str) {
    let &Table { across, down, .. } = table;
    let [left, top, right, bottom] = edges(rect);
    let near = is_near(left, parts[0], across, canvas.width)
        && is_near(top, parts[1], down, canvas.height)
        && is_near(right, parts[2], across, canvas.width)
        && is_near(bottom, parts[3], down, canvas.height);
    assert!(near, "{case}: {rect:?} is not {parts:?} of {across} x {down} parts, {canvas:?}");
    assert!(is_even(rect), "{case}: {rect:?} has an odd number, {canvas:?}");
    assert!(right <= canvas.width && bottom <= canvas.height, "{case}: {rect:?} is not inside {canvas:?}");
}

/// Edges at one position of the table are at one pixel: no seam between neighbours, no step along a row.
fn assert_lines(rects: &[Rect], table: &Table, canvas: Canvas) {
    let (mut columns, mut rows) = (BTreeMap::new(), BTreeMap::new());
    for (&rect, parts) in rects.iter().zip(&table.boxes) {
        let [left, top, right, bottom] = edges(rect);
        for (part, pixel) in [(parts[0], left), (parts[2], right)] {
            assert_eq!(*columns.entry(part).or_insert(pixel), pixel, "x at {part} of {}, {canvas:?}", table.across);
        }
        for (part, pixel) in [(parts[1], top), (parts[3], bottom)] {
            assert_eq!(*rows.entry(part).or_insert(pixel), pixel, "y at {part} of {}, {canvas:?}", table.down);
        }
    }
}

fn assert_apart(shown: &[Option<Shown>], canvas: Canvas) {
    let rects = rects(shown);
    for (index, &one) in rects.iter().enumerate() {
        for &other in &rects[..index] {
            assert!(!overlap(one, other), "{one:?} and {other:?} overlap, {} places, {canvas:?}", rects.len());
        }
    }
}

/// The pictures of the entries at `fitted` are shown whole, all others fill their places; nobody shines through.
fn assert_fitted(shown: &[Option<Shown>], fitted: &[usize]) {
    for (index, place) in shown.iter().enumerate() {
        let Some(place) = place else { continue };
        let fit = if fitted.contains(&index) { Fit::Fit } else { Fit::Crop };
        assert_eq!(place.fit, fit, "entry {index} of {}", shown.len());
        assert_eq!(place.opacity_percent, 100, "entry {index} of {}", shown.len());
    }
}

#[test]
fn seventeen_are_shown() {
    assert_eq!(PLACES_MAX, 17);
    for layout in [Layout::Floating, Layout::BestFit, vertical_layout(Some(NAMES[0]))] {
        for count in counts() {
            let shown = show(&people(count), &layout, HD);
            assert_eq!(shown.iter().flatten().count(), count.min(17));
        }
    }
}

#[test]
fn an_empty_room_has_no_places() {
    for layout in predefined() {
        assert!(show(&[], &layout, HD).is_empty());
    }
}

/// Worked out by hand, to hold the tables above to something.
#[test]
fn some_places_in_pixels() {
    let ann = || vertical_layout(Some(NAMES[0]));
    let cases = [
        (Layout::Floating, FULL_HD, 17, 0, [0, 0, 1920, 1080]),
        (Layout::Floating, FULL_HD, 17, 1, [24, 814, 474, 1068]),
        (Layout::Floating, FULL_HD, 17, 16, [1446, 12, 1896, 266]),
        (Layout::BestFit, HD, 2, 1, [640, 0, 1280, 720]),
        (Layout::BestFit, HD, 3, 2, [0, 360, 640, 720]),
        (Layout::BestFit, HD, 10, 5, [320, 180, 640, 360]),
        (Layout::BestFit, HD, 17, 0, [128, 0, 384, 144]),
        (Layout::BestFit, HD, 17, 15, [896, 432, 1152, 576]),
        (Layout::BestFit, HD, 17, 16, [512, 576, 768, 720]),
        (ann(), HD, 5, 0, [0, 0, 1024, 720]),
        (ann(), HD, 5, 4, [1024, 540, 1280, 720]),
        (ann(), HD, 10, 0, [0, 0, 1024, 720]),
        (ann(), HD, 10, 1, [1152, 0, 1280, 90]),
        (ann(), HD, 10, 8, [1152, 630, 1280, 720]),
        (ann(), HD, 10, 9, [1024, 0, 1152, 90]),
        (vertical_layout(None), HD, 4, 0, [1024, 0, 1280, 180]),
        (vertical_layout(None), HD, 16, 15, [1024, 630, 1152, 720]),
    ];
    for (case, (layout, canvas, count, index, expected)) in cases.iter().enumerate() {
        let rects = rects(&show(&people(*count), layout, *canvas));
        let near = edges(rects[*index]).into_iter().zip(*expected).all(|(pixel, exact)| pixel.abs_diff(exact) <= TOLERANCE);
        assert!(near, "case {case}: {:?} is not {expected:?}", rects[*index]);
    }
}

#[test]
fn floating_follows_its_table() {
    for canvas in CANVASES {
        for count in counts() {
            let shown = show(&people(count), &Layout::Floating, canvas);
            assert_follows(&shown, &floating(count), canvas);
            assert_eq!(rects(&shown)[0], Rect { x: 0, y: 0, width: canvas.width, height: canvas.height });
            assert_fitted(&shown, &[]);
        }
    }
}

#[test]
fn floating_has_the_small_above_the_large() {
    for count in counts() {
        let shown: Vec<Shown> = show(&people(count), &Layout::Floating, HD).into_iter().flatten().collect();
        let (large, small) = shown.split_first().expect("somebody is shown");
        assert!(!large.transparent, "the large place has nothing behind it");
        for place in small {
            assert!(place.z_order > large.z_order, "{place:?} is not above {large:?}");
            assert!(place.transparent, "{place:?} hides what is behind somebody without a picture");
        }
    }
}

#[test]
fn best_fit_follows_its_table() {
    for canvas in CANVASES {
        for count in counts() {
            let shown = show(&people(count), &Layout::BestFit, canvas);
            assert_follows(&shown, &best_fit(count), canvas);
            assert_apart(&shown, canvas);
            assert_fitted(&shown, &[]);
            assert!(shown.iter().flatten().all(|place| !place.transparent), "{count} people: no background");
        }
    }
}

#[test]
fn vertical_follows_its_table_whoever_is_large() {
    for canvas in CANVASES {
        for count in counts() {
            for (at, name) in NAMES.into_iter().enumerate().take(count.min(17)) {
                let shown = show(&people(count), &vertical_layout(Some(name)), canvas);
                assert_follows(&shown, &vertical(count, Some(at)), canvas);
                assert_apart(&shown, canvas);
                assert_fitted(&shown, &[at]);
            }
        }
    }
}

#[test]
fn vertical_keeps_the_large_place_empty_for_nobody() {
    for canvas in CANVASES {
        for count in counts() {
            for large in [None, Some(NOBODY)] {
                let shown = show(&people(count), &vertical_layout(large), canvas);
                assert_follows(&shown, &vertical(count, None), canvas);
                assert_apart(&shown, canvas);
                assert_fitted(&shown, &[]);
            }
        }
    }
}

#[test]
fn vertical_shows_the_first_screen_large() {
    for canvas in CANVASES {
        for count in 1..=17 {
            let last = count - 1;
            for first in 0..count {
                let mut roster = people(count);
                roster[first].screen = true;
                roster[last].screen = true;
                let shown = show(&roster, &vertical_layout(None), canvas);
                assert_follows(&shown, &vertical(count, Some(first)), canvas);
                assert_apart(&shown, canvas);
                assert_fitted(&shown, &[first, last]);
            }
        }
    }
}

#[test]
fn vertical_shows_a_screen_small_beside_somebody_named() {
    for canvas in CANVASES {
        let mut roster = people(6);
        roster[2].screen = true;
        let shown = show(&roster, &vertical_layout(Some(NAMES[4])), canvas);
        assert_follows(&shown, &vertical(6, Some(4)), canvas);
        assert_fitted(&shown, &[2, 4]);

        let own = [screen("ann"), person("bob"), person("ann")];
        let shown = show(&own, &vertical_layout(Some("ann")), canvas);
        assert_follows(&shown, &vertical(3, Some(2)), canvas);
        assert_fitted(&shown, &[0, 2]);
    }
}

#[test]
fn vertical_shows_a_screen_small_when_the_one_named_is_not_there() {
    for canvas in CANVASES {
        for count in 1..=16 {
            let mut roster = people(count);
            roster[count / 2].screen = true;
            let shown = show(&roster, &vertical_layout(Some(NOBODY)), canvas);
            assert_follows(&shown, &vertical(count, None), canvas);
            assert_fitted(&shown, &[count / 2]);
        }
    }
}

#[test]
fn a_screen_is_shown_whole_where_a_person_would_be() {
    for canvas in CANVASES {
        for count in 1..=17 {
            for at in 0..count {
                let mut roster = people(count);
                roster[at].screen = true;
                for (layout, table) in [(Layout::Floating, floating(count)), (Layout::BestFit, best_fit(count))] {
                    let shown = show(&roster, &layout, canvas);
                    assert_follows(&shown, &table, canvas);
                    assert_fitted(&shown, &[at]);
                }
            }
        }
    }
}

#[test]
fn a_leavers_place_is_filled_by_shifting() {
    for canvas in CANVASES {
        for count in 2..=20 {
            for leaver in NAMES.into_iter().take(count) {
                let left = people_without(count, leaver);
                for layout in [Layout::Floating, Layout::BestFit, vertical_layout(None)] {
                    let fewer = show(&people(count - 1), &layout, canvas);
                    assert_eq!(show(&left, &layout, canvas), fewer, "{leaver} of {count} left, {canvas:?}");
                }
            }
        }
    }
}

#[test]
fn vertical_after_somebody_left() {
    for canvas in CANVASES {
        for count in 2..=17 {
            let first_is_large = vertical_layout(Some(NAMES[0]));
            for leaver in NAMES.into_iter().take(count).skip(1) {
                let shown = show(&people_without(count, leaver), &first_is_large, canvas);
                assert_eq!(shown, show(&people(count - 1), &first_is_large, canvas), "{leaver} of {count} left, {canvas:?}");
            }
            let shown = show(&people_without(count, NAMES[0]), &first_is_large, canvas);
            assert_follows(&shown, &vertical(count - 1, None), canvas);
            assert_fitted(&shown, &[]);
        }
    }
}

/// From low to high: second free, first free, of nobody, named.
const FIRST_FREE: Shown = custom(0, 0, Fit::Crop, 100, 1);
const NAMED: Shown = custom(40, 20, Fit::Fit, 40, 3);
const SECOND_FREE: Shown = custom(100, 60, Fit::Fit, 0, 0);
const OF_NOBODY: Shown = custom(200, 100, Fit::Crop, 70, 2);
/// What the layout says, for the same order.
const FIRST_FREE_Z: i32 = 0;
const NAMED_Z: i32 = 7;
const SECOND_FREE_Z: i32 = -3;
const OF_NOBODY_Z: i32 = 1;

const fn custom(x: u32, y: u32, fit: Fit, opacity_percent: u8, z_order: i32) -> Shown {
    Shown { rect: Rect { x, y, width: 120, height: 80 }, fit, transparent: false, opacity_percent, z_order }
}

fn region(uid: Option<&str>, shown: Shown, z_order: i32) -> Region {
    let Shown { rect, fit, opacity_percent, .. } = shown;
    Region { uid: uid.map(str::to_owned), rect, fit, opacity_percent, z_order }
}

fn custom_layout() -> Layout {
    let named = [region(Some("u03"), NAMED, NAMED_Z), region(Some(NOBODY), OF_NOBODY, OF_NOBODY_Z)];
    let [first, second] = [region(None, FIRST_FREE, FIRST_FREE_Z), region(None, SECOND_FREE, SECOND_FREE_Z)];
    Layout::Custom([vec![first], named.into(), vec![second]].concat())
}

#[test]
fn custom_gives_named_regions_to_the_named_and_free_ones_in_join_order() {
    for canvas in CANVASES {
        let shown = show(&people(4), &custom_layout(), canvas);
        assert_eq!(shown, [Some(FIRST_FREE), Some(SECOND_FREE), Some(NAMED), None]);

        let named_first = [person("u03"), person("u01"), person(NOBODY), person("u02"), person("u04")];
        let shown = show(&named_first, &custom_layout(), canvas);
        assert_eq!(shown, [Some(NAMED), Some(FIRST_FREE), Some(OF_NOBODY), Some(SECOND_FREE), None]);
    }
}

#[test]
fn custom_keeps_a_named_region_for_the_one_it_names() {
    let shown = show(&[person("u01"), person("u02"), person("u04")], &custom_layout(), HD);
    assert_eq!(shown, [Some(FIRST_FREE), Some(SECOND_FREE), None]);
    assert_eq!(show(&people(2), &Layout::Custom(vec![region(Some(NOBODY), OF_NOBODY, OF_NOBODY_Z)]), HD), [None, None]);
}

#[test]
fn custom_fills_a_leavers_free_region_by_shifting() {
    let shown = show(&people_without(4, "u01"), &custom_layout(), HD);
    assert_eq!(shown, [Some(FIRST_FREE), Some(NAMED), Some(SECOND_FREE)]);
}

#[test]
fn custom_has_as_many_free_regions_as_it_is_given() {
    let free: Vec<Shown> = (0..17).map(|index| custom(index * 10, index * 4, Fit::Crop, 90, index as i32)).collect();
    for count in 1..=17 {
        let layout = Layout::Custom(free.iter().map(|shown| region(None, *shown, 5)).collect());
        let expected: Vec<Option<Shown>> = free.iter().take(count).copied().map(Some).collect();
        assert_eq!(show(&people(count), &layout, HD), expected);
    }
    assert_eq!(show(&people(2), &Layout::Custom(Vec::new()), HD), [None, None]);
}

#[test]
fn custom_puts_the_later_of_two_regions_above_whoever_came_first() {
    let named = |uid, z_order| region(Some(uid), FIRST_FREE, z_order);
    let heights = |regions: Vec<Region>| {
        let shown = show(&people(3), &Layout::Custom(regions), HD);
        shown.into_iter().flatten().map(|place| place.z_order).collect::<Vec<_>>()
    };
    assert_eq!(heights(vec![named("u01", 0), named("u02", 0), named("u03", 0)]), [0, 1, 2]);
    assert_eq!(heights(vec![named("u03", 0), named("u02", 0), named("u01", 0)]), [2, 1, 0]);
    assert_eq!(heights(vec![named("u03", 4), named("u02", -4), named("u01", 4)]), [2, 0, 1]);
}

//! Where each person stands on the canvas: a pure function of roster, layout and canvas.
//!
//! The predefined layouts are the tables of the Agora Cloud Recording layout guide, for 1 to 17 people in the order in which they joined; whoever
//! leaves is followed up by those behind. Where that guide's table and its sample code differ, its table and pictures hold:
//!
//! * Floating: small places are as high as wide in fractions of the canvas (the sample computes a square).
//! * Vertical, 10 to 17 people: the outer column is filled first (the sample begins with the inner one).

use serde::{Deserialize, Serialize};

/// More people are not shown.
pub const PLACES_MAX: usize = 17;

/// Floating: a small place, and from one to the next; what is left of a quarter is the gap.
const FLOATING_SIDE: f64 = 0.235;
const FLOATING_STEP: f64 = 0.247;
const FLOATING_GAP: f64 = 0.012;
/// Floating: small places in a row, from the bottom.
const FLOATING_COLUMNS: usize = 4;

/// Of the canvas, in pixels; both even.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canvas {
    pub width: u32,
    pub height: u32,
}

/// In pixels of the canvas from its upper left corner; all even, because a chroma sample covers two by two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rect {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// How a picture of another shape fills its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fit {
    /// Whole place, from the centre of the picture.
    Crop,
    /// Whole picture, with bars.
    Fit,
}

/// What is wanted of a camera that is sent in several sizes: as much as this place shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub width: u32,
    pub height: u32,
    pub fit: Fit,
}

impl Wanted {
    /// Width and height of the smallest picture of this `shape` (its sides, in any unit; one that is 0: not known) that is nowhere enlarged.
    #[must_use]
    pub fn size_of(self, shape: (u32, u32)) -> (u32, u32) {
        // What is not known is taken for a common camera's.
        let shape = if shape.0 == 0 || shape.1 == 0 { (16, 9) } else { shape };
        let [width, height, across, down] = [self.width, self.height, shape.0, shape.1].map(u64::from);
        let by_width = (width, (width * down).div_ceil(across));
        let by_height = ((height * across).div_ceil(down), height);
        let is_wider = width * down >= height * across;
        let (width, height) = if is_wider == (self.fit == Fit::Crop) { by_width } else { by_height };
        let side = |side: u64| u32::try_from(side).unwrap_or(u32::MAX);
        (side(width), side(height))
    }
}

/// What a place shows of somebody who has no picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Empty {
    Background,
    Transparent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub rect: Rect,
    pub fit: Fit,
    pub empty: Empty,
    /// 0..=100.
    pub opacity_percent: u8,
    /// What is higher is painted later; of the same, in the order of the roster.
    pub z_order: i32,
}

/// Somebody who may be shown. A screen share is an entry of its own, with the uid of who shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub uid: &'a str,
    pub screen: bool,
}

impl Entry<'_> {
    /// A share is called `<uid>#screen`.
    fn is(&self, name: &str) -> bool {
        match name.strip_suffix("#screen") {
            Some(uid) => self.screen && self.uid == uid,
            None => !self.screen && self.uid == name,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layout {
    Floating,
    BestFit,
    /// Who is large; absent: the first screen share, or nobody.
    Vertical {
        large: Option<String>,
    },
    Custom(Vec<Region>),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Absent: whoever joined first of those that no region names.
    pub uid: Option<String>,
    pub rect: Rect,
    pub fit: Fit,
    pub opacity_percent: u8,
    /// What is higher covers what is lower; of the same, the later region covers.
    pub z_order: i32,
}

/// For each entry of the roster its place; None: it is not shown.
#[must_use]
pub fn places(roster: &[Entry<'_>], layout: &Layout, canvas: Canvas) -> Vec<Option<Place>> {
    match layout {
        Layout::Floating => predefined(roster, canvas, |n, _| floating(n)),
        Layout::BestFit => predefined(roster, canvas, best_fit),
        Layout::Vertical { large } => vertical(roster, large.as_deref(), canvas),
        Layout::Custom(regions) => custom(roster, regions),
    }
}

/// In fractions of the canvas.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Part {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    fit: Fit,
    empty: Empty,
    z_order: i32,
}

impl Part {
    fn crop(x: f64, y: f64, width: f64, height: f64) -> Self {
        Self { x, y, width, height, fit: Fit::Crop, empty: Empty::Background, z_order: 0 }
    }

    /// Parts that touch in fractions touch in pixels: edges are rounded, not sizes.
    fn on(self, canvas: Canvas) -> Place {
        let edge = |fraction: f64, whole: u32| ((fraction * f64::from(whole) / 2.0).round() as u32 * 2).min(whole);
        let (left, top) = (edge(self.x, canvas.width), edge(self.y, canvas.height));
        let (right, bottom) = (edge(self.x + self.width, canvas.width), edge(self.y + self.height, canvas.height));
        let rect = Rect { x: left, y: top, width: right - left, height: bottom - top };
        Place { rect, fit: self.fit, empty: self.empty, opacity_percent: 100, z_order: self.z_order }
    }
}

/// The part of the n-th of so many, in the order of joining.
fn predefined(roster: &[Entry<'_>], canvas: Canvas, part: impl Fn(usize, usize) -> Part) -> Vec<Option<Place>> {
    let total = roster.len().min(PLACES_MAX);
    let of = |(n, entry): (usize, &Entry<'_>)| {
        let mut part = part(n, total);
        if entry.screen {
            part.fit = Fit::Fit;
        }
        (n < total).then(|| part.on(canvas))
    };
    roster.iter().enumerate().map(of).collect()
}

/// The first fills the canvas, the others lie on it from the lower left corner.
fn floating(n: usize) -> Part {
    let Some(small) = n.checked_sub(1) else { return Part::crop(0.0, 0.0, 1.0, 1.0) };
    let (column, row) = ((small % FLOATING_COLUMNS) as f64, (small / FLOATING_COLUMNS) as f64);
    let (x, y) = (FLOATING_GAP + FLOATING_STEP * column, 1.0 - FLOATING_STEP * (row + 1.0));
    Part { empty: Empty::Transparent, z_order: 1, ..Part::crop(x, y, FLOATING_SIDE, FLOATING_SIDE) }
}

/// Rows and columns of the same size; 17 are four rows of four and one below, all a fifth of the canvas.
fn best_fit(n: usize, total: usize) -> Part {
    let (columns, rows) = match total {
        0 | 1 => (1, 1),
        2 => (2, 1),
        3..=4 => (2, 2),
        5..=9 => (3, 3),
        10..=16 => (4, 4),
        _ => return seventeen(n),
    };
    let (width, height) = (1.0 / f64::from(columns), 1.0 / f64::from(rows));
    let (column, row) = ((n % columns as usize) as f64, (n / columns as usize) as f64);
    Part::crop(column * width, row * height, width, height)
}

fn seventeen(n: usize) -> Part {
    const SIDE: f64 = 0.2;
    let (column, row) = ((n % 4) as f64, (n / 4) as f64);
    let x = if n < 16 { 0.1 + SIDE * column } else { 0.4 };
    Part::crop(x, SIDE * row, SIDE, SIDE)
}

/// One large at the left, the others at the right from top to bottom. The place of a large one who is not there stays empty.
fn vertical(roster: &[Entry<'_>], large: Option<&str>, canvas: Canvas) -> Vec<Option<Place>> {
    let large = match large {
        Some(uid) => roster.iter().position(|entry| entry.is(uid)),
        None => roster.iter().position(|entry| entry.screen),
    };
    let smalls = (roster.len() - usize::from(large.is_some())).min(PLACES_MAX - 1);
    let mut next = 0;
    let of = |(n, entry): (usize, &Entry<'_>)| {
        if Some(n) == large {
            return Some(Part { fit: Fit::Fit, ..Part::crop(0.0, 0.0, large_width(smalls + 1), 1.0) }.on(canvas));
        }
        next += 1;
        let mut part = small(next - 1, smalls + 1);
        if entry.screen {
            part.fit = Fit::Fit;
        }
        (next <= smalls).then(|| part.on(canvas))
    };
    roster.iter().enumerate().map(of).collect()
}

/// Width and height of a small place, in fractions of the canvas.
fn small_size(total: usize) -> (f64, f64) {
    match total {
        ..=5 => (1.0 / 5.0, 1.0 / 4.0),
        6..=7 => (1.0 / 7.0, 1.0 / 6.0),
        8..=9 => (1.0 / 9.0, 1.0 / 8.0),
        _ => (1.0 / 10.0, 1.0 / 8.0),
    }
}

fn large_width(total: usize) -> f64 {
    let columns = if total < 10 { 1.0 } else { 2.0 };
    1.0 - columns * small_size(total).0
}

fn small(n: usize, total: usize) -> Part {
    let (width, height) = small_size(total);
    let rows = (1.0 / height).round() as usize;
    let (column, row) = ((n / rows) as f64, (n % rows) as f64);
    Part::crop(1.0 - (column + 1.0) * width, row * height, width, height)
}

fn custom(roster: &[Entry<'_>], regions: &[Region]) -> Vec<Option<Place>> {
    let named = |entry: &Entry<'_>| regions.iter().find(|region| region.uid.as_deref().is_some_and(|name| entry.is(name)));
    let mut free = regions.iter().filter(|region| region.uid.is_none());
    // From the lowest. The sort keeps the later of two regions above the earlier, whoever is in them.
    let mut heights: Vec<&Region> = regions.iter().collect();
    heights.sort_by_key(|region| region.z_order);
    let height = |region: &Region| heights.iter().position(|other| std::ptr::eq(*other, region)).unwrap_or(0);
    let place = |region: &Region| Place {
        rect: region.rect,
        fit: region.fit,
        empty: Empty::Background,
        opacity_percent: region.opacity_percent,
        z_order: height(region) as i32,
    };
    roster.iter().map(|entry| named(entry).or_else(|| free.next()).map(place)).collect()
}

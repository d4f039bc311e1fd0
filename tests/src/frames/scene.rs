//! What a composite must look like, computed from the specification: people's block-coded pictures of any shape, turned, cut or with bars, one over the
//! other with opacity. It shares nothing with the recorder.
//!
//! Colours are told everywhere but near edges: within [`OFF`] pixels of a place's edge, and, inside a picture, of its blocks' edges (more where it is
//! enlarged, which blurs them). So whatever lies further off is seen.

use super::{BACKGROUND_YUV, CLOSE, Expected, Fault, Frame, OFF, colour};
use crate::analyser::block_code::{BLACK, CODE_ROWS, COLUMNS, FLASH_ROW, NEUTRAL, ROWS, Rect, SYNC, WHITE, column_x, row_y};

/// What encoding leaves of a picture that stands, in each component; of black and white luma rings around its edges. A tenth more or less opacity of white
/// on black is seen.
const FLAT_CLOSE: [i32; 3] = [CLOSE / 2; 3];
const CODE_CLOSE: [i32; 3] = [15, CLOSE / 2, CLOSE / 2];
/// So many times as much right behind a change.
const COARSE: i32 = 4;
/// Lines of pixels that are looked at: so far apart, and so far from the edge.
const LINE_STEP: usize = 12;
const FIRST_LINE: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// Fills the place, from the picture's centre.
    Crop,
    /// All of it, between bars of the background.
    Fit,
}

/// Who sends the block-coded picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Person {
    pub id: u8,
    /// Before it is turned.
    pub size: (usize, usize),
    /// Clockwise: 0, 90, 180 or 270.
    pub degrees: usize,
    pub fit: Fit,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shows {
    Person(Person),
    Flat([i32; 3]),
}

/// A place, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer {
    pub rect: Rect,
    pub shows: Shows,
    pub opacity_percent: u8,
}

/// Part of a layer of one colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Flat([i32; 3]),
    Sync {
        column: usize,
    },
    /// Black or white.
    Payload {
        row: usize,
        column: usize,
    },
    Colour(u8),
    /// Black or white.
    Flash,
}

/// A pixel with the colours it may have.
#[derive(Clone, Debug)]
struct Point {
    at: (usize, usize),
    colours: Vec<[i32; 3]>,
    close: [i32; 3],
}

/// A canvas and its layers, from the lowest.
pub struct Scene {
    pub name: String,
    points: Vec<Point>,
    size: (usize, usize),
}

impl std::fmt::Debug for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}, {} points of {:?}", self.name, self.points.len(), self.size)
    }
}

/// Where the pixel `at` of a picture of `size` is when that is turned clockwise.
#[must_use]
pub fn turned((x, y): (usize, usize), (width, height): (usize, usize), degrees: usize) -> (usize, usize) {
    match degrees {
        90 => (height - 1 - y, x),
        180 => (width - 1 - x, height - 1 - y),
        270 => (y, width - 1 - x),
        _ => (x, y),
    }
}

impl Person {
    #[must_use]
    pub const fn new(id: u8, size: (usize, usize), fit: Fit) -> Self {
        Self { id, size, degrees: 0, fit }
    }

    /// As it is seen.
    fn shape(&self) -> (f64, f64) {
        let (width, height) = (self.size.0 as f64, self.size.1 as f64);
        if self.degrees.is_multiple_of(180) { (width, height) } else { (height, width) }
    }

    /// Pixels of the canvas for one of the picture.
    fn scale(&self, rect: Rect) -> f64 {
        let (width, height) = self.shape();
        let (across, down) = (rect.width as f64 / width, rect.height as f64 / height);
        match self.fit {
            Fit::Crop => across.max(down),
            Fit::Fit => across.min(down),
        }
    }

    /// Where the whole picture is, to the nearest pixel; None: some of it is cut away.
    #[must_use]
    pub fn whole(&self, rect: Rect) -> Option<Rect> {
        let ((width, height), scale) = (self.shape(), self.scale(rect));
        let (width, height) = ((width * scale).round() as usize, (height * scale).round() as usize);
        let inner = |room: usize, length: usize| room.checked_sub(length).map(|free| free / 2);
        Some(Rect { x: rect.x + inner(rect.width, width)?, y: rect.y + inner(rect.height, height)?, width, height })
    }

    /// What is seen of it at a point of the canvas within `rect`.
    fn cell(&self, rect: Rect, (x, y): (f64, f64)) -> Cell {
        let ((across, down), scale) = (self.shape(), self.scale(rect));
        let seen_x = (x - (rect.x as f64 + rect.width as f64 / 2.0)) / scale + across / 2.0;
        let seen_y = (y - (rect.y as f64 + rect.height as f64 / 2.0)) / scale + down / 2.0;
        if !(0.0..across).contains(&seen_x) || !(0.0..down).contains(&seen_y) {
            return Cell::Flat(BACKGROUND_YUV);
        }
        let (x, y) = match self.degrees {
            90 => (seen_y, across - seen_x),
            180 => (across - seen_x, down - seen_y),
            270 => (down - seen_y, seen_x),
            _ => (seen_x, seen_y),
        };
        let column = (1..COLUMNS).take_while(|c| x >= column_x(*c, self.size.0) as f64).count();
        match (1..ROWS).take_while(|r| y >= row_y(*r, self.size.1) as f64).count() {
            0 => Cell::Sync { column },
            row @ 1..CODE_ROWS => Cell::Payload { row, column },
            CODE_ROWS..FLASH_ROW => Cell::Colour(self.id),
            _ => Cell::Flash,
        }
    }
}

impl Layer {
    #[must_use]
    pub const fn person(person: Person, rect: Rect) -> Self {
        Self { rect, shows: Shows::Person(person), opacity_percent: 100 }
    }

    #[must_use]
    pub const fn flat(colour: [i32; 3], rect: Rect) -> Self {
        Self { rect, shows: Shows::Flat(colour), opacity_percent: 100 }
    }

    #[must_use]
    pub const fn opacity(self, opacity_percent: u8) -> Self {
        Self { opacity_percent, ..self }
    }

    /// At `at`, or so many steps of tolerance beside it.
    fn cell(&self, at: (usize, usize), (across, down): (i32, i32)) -> Option<Cell> {
        let Rect { x, y, width, height } = self.rect;
        let off = |at: usize, steps: i32| at as f64 + 0.5 + f64::from(steps) * OFF as f64;
        let (edge_x, edge_y) = (off(at.0, across) - x as f64, off(at.1, down) - y as f64);
        let inside = (0.0..width as f64).contains(&edge_x) && (0.0..height as f64).contains(&edge_y);
        match self.shows {
            _ if !inside || self.opacity_percent == 0 => None,
            Shows::Flat(colour) => Some(Cell::Flat(colour)),
            Shows::Person(person) => {
                let blur = (OFF as f64 * person.scale(self.rect).max(1.0)).ceil() - OFF as f64;
                let further = |edge: f64, steps: i32, most: usize| (edge + blur * f64::from(steps)).clamp(0.0, most as f64 - 0.5);
                let (x, y) = (x as f64 + further(edge_x, across, width), y as f64 + further(edge_y, down, height));
                Some(person.cell(self.rect, (x, y)))
            }
        }
    }
}

impl Cell {
    fn colours(self) -> Vec<[i32; 3]> {
        let [white, black] = [WHITE, BLACK].map(|luma| [luma, NEUTRAL, NEUTRAL].map(i32::from));
        match self {
            Self::Flat(colour) => vec![colour],
            Self::Colour(id) => vec![colour(id)],
            Self::Sync { column } => vec![if SYNC >> (COLUMNS - 1 - column) & 1 == 1 { white } else { black }],
            Self::Payload { .. } | Self::Flash => vec![white, black],
        }
    }

    const fn close(self) -> [i32; 3] {
        match self {
            Self::Flat(_) | Self::Colour(_) => FLAT_CLOSE,
            _ => CODE_CLOSE,
        }
    }
}

impl Scene {
    /// Whatever the layers leave free is [`BACKGROUND_YUV`].
    #[must_use]
    pub fn new(name: impl Into<String>, size: (usize, usize), layers: &[Layer]) -> Self {
        let rows = (FIRST_LINE..size.1).step_by(LINE_STEP).flat_map(|y| (0..size.0).map(move |x| (x, y)));
        let columns = (FIRST_LINE..size.0).step_by(LINE_STEP).flat_map(|x| (0..size.1).map(move |y| (x, y)));
        let points = rows.chain(columns).filter_map(|at| point(layers, at)).collect();
        Self { name: name.into(), points, size }
    }

    /// To judge pictures right behind a change too, which encoders make coarse: more tolerance (colours of people and of the background are
    /// further apart), and what changes all the time is grey, of any shade.
    #[must_use]
    pub fn coarse(mut self) -> Self {
        for Point { colours, close, .. } in &mut self.points {
            let [luma, chroma, _] = close.map(|close| COARSE * close);
            *close = [if colours.len() > 1 { i32::from(WHITE) } else { luma }, chroma, chroma];
        }
        self
    }

    /// Within this part of the canvas alone.
    #[must_use]
    pub fn only(mut self, rect: Rect) -> Self {
        let inside = |at: usize, from: usize, length: usize| (from..from + length).contains(&at);
        self.points.retain(|Point { at: (x, y), .. }| inside(*x, rect.x, rect.width) && inside(*y, rect.y, rect.height));
        self
    }
}

/// None: it is too near to an edge.
fn point(layers: &[Layer], at: (usize, usize)) -> Option<Point> {
    let cells = |beside: (i32, i32)| layers.iter().map(move |layer| layer.cell(at, beside));
    let around = (-1..=1).flat_map(|x| (-1..=1).map(move |y| (x, y)));
    if around.into_iter().any(|beside| !cells(beside).eq(cells((0, 0)))) {
        return None;
    }
    let (mut colours, mut close) = (vec![BACKGROUND_YUV.map(f64::from)], FLAT_CLOSE);
    for (layer, cell) in layers.iter().zip(cells((0, 0))) {
        let Some(cell) = cell else { continue };
        let opacity = f64::from(layer.opacity_percent) / 100.0;
        let above = cell.colours();
        close = if layer.opacity_percent == 100 { cell.close() } else { std::array::from_fn(|n| close[n].max(cell.close()[n])) };
        colours = colours.iter().flat_map(|beneath| above.iter().map(|above| blended(*beneath, *above, opacity))).collect();
    }
    Some(Point { at, colours: colours.into_iter().map(|colour| colour.map(|c| c.round() as i32)).collect(), close })
}

fn blended(beneath: [f64; 3], above: [i32; 3], opacity: f64) -> [f64; 3] {
    std::array::from_fn(|n| beneath[n] * (1.0 - opacity) + f64::from(above[n]) * opacity)
}

impl Point {
    fn is(&self, found: [i32; 3]) -> bool {
        self.colours.iter().any(|colour| (0..3).all(|n| (found[n] - colour[n]).abs() <= self.close[n]))
    }
}

impl Expected for Scene {
    fn differs(&self, frame: &Frame<'_>) -> Option<Fault> {
        if (frame.0.width, frame.0.height) != self.size {
            return Some(Fault { wrong: self.points.len(), what: format!("is {} x {}", frame.0.width, frame.0.height) });
        }
        let wrong: Vec<&Point> = self.points.iter().filter(|point| !point.is(frame.yuv(point.at))).collect();
        let first = wrong.first()?;
        let what = format!("at {:?} is {:?}, not {:?}", first.at, frame.yuv(first.at), first.colours);
        Some(Fault { wrong: wrong.len(), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyser::block_code::{Code, draw};
    use crate::analyser::decode::Picture;

    const CANVAS: (usize, usize) = (640, 360);

    /// A canvas of the background.
    fn canvas() -> Vec<u8> {
        let (pixels, [y, u, v]) = (CANVAS.0 * CANVAS.1, BACKGROUND_YUV.map(|c| c as u8));
        [vec![y; pixels], vec![u; pixels / 4], vec![v; pixels / 4]].concat()
    }

    /// Draws `person` where `part` of the picture, as it is seen, fills `rect`: pixel by pixel, each the nearest of the picture.
    fn paint(canvas: &mut [u8], person: &Person, part: Rect, rect: Rect, opacity: f64) {
        let (width, height) = person.size;
        let mut picture = vec![0; width * height * 3 / 2];
        draw(&mut picture, width, height, 10, Code { participant: person.id, frame: 77, sent_ms: 7_700 });
        let seen: std::collections::HashMap<_, _> = (0..width * height)
            .map(|n| (n % width, n / width))
            .map(|at| (turned(at, person.size, person.degrees), Frame(&of(&picture, person.size)).yuv(at)))
            .collect();
        for (y, x) in (0..rect.height).flat_map(|y| (0..rect.width).map(move |x| (y, x))) {
            let from = (part.x + x * part.width / rect.width, part.y + y * part.height / rect.height);
            let (x, y) = (rect.x + x, rect.y + y);
            let pixels = CANVAS.0 * CANVAS.1;
            let quarter = |plane: usize| pixels * (4 + plane) / 4 + y / 2 * (CANVAS.0 / 2) + x / 2;
            let places = [y * CANVAS.0 + x, quarter(0), quarter(1)];
            // A chroma sample is written by the first of its four pixels.
            let planes = if x % 2 == 0 && y % 2 == 0 { 3 } else { 1 };
            for (place, colour) in places.into_iter().zip(seen[&from]).take(planes) {
                canvas[place] = (f64::from(canvas[place]) * (1.0 - opacity) + f64::from(colour) * opacity).round() as u8;
            }
        }
    }

    fn of(data: &[u8], (width, height): (usize, usize)) -> Picture<'_> {
        Picture { pts_90k: 0, width, height, data }
    }

    const fn rect(x: usize, y: usize, width: usize, height: usize) -> Rect {
        Rect { x, y, width, height }
    }

    fn fault(layers: &[Layer], canvas: &[u8]) -> Option<Fault> {
        Scene::new("test", CANVAS, layers).differs(&Frame(&of(canvas, CANVAS)))
    }

    #[test]
    fn a_cut_picture_and_one_that_is_four_pixels_beside_it() {
        let (place, person) = (rect(160, 90, 320, 180), Person::new(4, (320, 240), Fit::Crop));
        let mut right = canvas();
        paint(&mut right, &person, rect(0, 30, 320, 180), place, 1.0);
        assert_eq!(fault(&[Layer::person(person, place)], &right), None);
        for wrong in [rect(164, 90, 320, 180), rect(160, 94, 320, 180), rect(160, 90, 316, 180), rect(160, 90, 320, 184)] {
            assert!(fault(&[Layer::person(person, wrong)], &right).is_some(), "{wrong:?}");
        }
        for wrong in [Person::new(5, (320, 240), Fit::Crop), Person::new(4, (320, 180), Fit::Crop), Person::new(4, (320, 240), Fit::Fit)] {
            assert!(fault(&[Layer::person(wrong, place)], &right).is_some(), "{wrong:?}");
        }
        let mut low = canvas();
        paint(&mut low, &person, rect(0, 34, 320, 180), place, 1.0);
        assert!(fault(&[Layer::person(person, place)], &low).is_some(), "cut four lines too low");
    }

    #[test]
    fn a_turned_picture_between_bars() {
        let place = rect(0, 0, 640, 360);
        for degrees in [90, 270] {
            let person = Person { degrees, ..Person::new(9, (640, 360), Fit::Fit) };
            let mut right = canvas();
            paint(&mut right, &person, rect(0, 0, 360, 640), rect(218, 0, 202, 360), 1.0);
            assert_eq!(fault(&[Layer::person(person, place)], &right), None);
            let code = |degrees| Frame(&of(&right, CANVAS)).code(person.whole(place).unwrap(), degrees).map(|code| code.frame);
            assert_eq!((code(degrees), code(360 - degrees)), (Some(77), None));
            let otherwise = Person { degrees: 360 - degrees, ..person };
            assert!(fault(&[Layer::person(otherwise, place)], &right).is_some(), "turned the other way");
        }
    }

    #[test]
    fn half_of_one_above_another() {
        let (low, high) = (rect(0, 0, 640, 360), rect(320, 180, 320, 180));
        let (below, above) = (Person::new(1, (640, 360), Fit::Crop), Person::new(15, (320, 180), Fit::Crop));
        let mut right = canvas();
        paint(&mut right, &below, rect(0, 0, 640, 360), low, 1.0);
        paint(&mut right, &above, rect(0, 0, 320, 180), high, 0.5);
        let layers = |percent| [Layer::person(below, low), Layer::person(above, high).opacity(percent)];
        assert_eq!(fault(&layers(50), &right), None);
        for wrong in [0, 25, 40, 60, 75, 100] {
            assert!(fault(&layers(wrong), &right).is_some(), "{wrong} %");
        }
        let [below, above] = layers(50);
        assert!(fault(&[above, below], &right).is_some(), "the other one on top");
    }
}

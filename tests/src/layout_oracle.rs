//! Where every person stands in a composite, from the product's tables alone (seed-products.md section 1.10).
//!
//! It shares nothing with the recorder: a slip in either shows as a difference. All numbers are exact fractions of the
//! canvas; each edge is rounded to the nearest pixel, so places that share an edge neither overlap nor leave a gap.

use crate::analyser::block_code::Rect;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    Floating,
    BestFit,
    Vertical,
}

/// Section 1.10, "max 17": whoever comes later has no place.
const MOST_PEOPLE: usize = 17;

/// Section 1.10, Floating, in thousandths: w = h = 0.235; x by column; y by row, counted from the bottom.
/// The height is a fraction of the canvas' height: the documentation, not the on-premise sample (design/media.md section 6).
const FLOATING_UNITS: usize = 1000;
const FLOATING_SIDE: usize = 235;
const FLOATING_X: [usize; 4] = [12, 259, 506, 753];
const FLOATING_Y: [usize; 4] = [753, 506, 259, 12];

/// Section 1.10, Best fit: up to so many people, so many columns and rows. 17 people are below.
const BEST_FIT: [(usize, usize, usize); 5] = [(1, 1, 1), (2, 2, 1), (4, 2, 2), (9, 3, 3), (16, 4, 4)];

/// Section 1.10, Best fit of 17, in tenths: 4 x 4 cells of 0.2 between bands of 0.1, the last one alone at (0.4, 0.8).
const BEST_FIT_17_UNITS: usize = 10;
const BEST_FIT_17_SIDE: usize = 2;
const BEST_FIT_17_X: [usize; 4] = [1, 3, 5, 7];
const BEST_FIT_17_Y: [usize; 4] = [0, 2, 4, 6];
const BEST_FIT_17_LAST: (usize, usize) = (4, 8);

/// Section 1.10, Vertical: up to so many users *with* the large one, rows of 1/rows, and columns of 1/units at x/units.
/// The last line fills x = 0.9 first: the documentation's picture, not the on-premise sample (design/media.md section 6).
const VERTICAL: [(usize, usize, usize, &[usize]); 4] = [(5, 4, 5, &[4]), (7, 6, 7, &[6]), (9, 8, 9, &[8]), (17, 8, 10, &[9, 8])];

/// A place: numerators over `units` of the canvas' width and height.
struct Cell {
    units: (usize, usize),
    at: (usize, usize),
    size: (usize, usize),
}

impl Cell {
    fn on(&self, canvas: (usize, usize)) -> Rect {
        let (x, right) = edges(self.at.0, self.size.0, self.units.0, canvas.0);
        let (y, bottom) = edges(self.at.1, self.size.1, self.units.1, canvas.1);
        Rect { x, y, width: right - x, height: bottom - y }
    }
}

/// First pixel, and first pixel behind.
fn edges(at: usize, size: usize, units: usize, pixels: usize) -> (usize, usize) {
    let nearest = |n: usize| (2 * n * pixels + units) / (2 * units);
    (nearest(at), nearest(at + size))
}

/// Where people stand who came in this order (nobody is named as the large one), on a canvas of `(width, height)` pixels;
/// later ones are painted over earlier ones. `None`: has no place.
#[must_use]
pub fn rects(layout: Layout, people: usize, canvas: (usize, usize)) -> Vec<Option<Rect>> {
    let shown = people.min(MOST_PEOPLE);
    let cell = |n: usize| match layout {
        _ if n >= shown => None,
        Layout::Floating => floating(n),
        Layout::BestFit => best_fit(n, shown),
        Layout::Vertical => vertical(n, shown),
    };
    (0..people).map(|n| cell(n).map(|cell| cell.on(canvas))).collect()
}

fn floating(n: usize) -> Option<Cell> {
    let Some(small) = n.checked_sub(1) else {
        return Some(Cell { units: (1, 1), at: (0, 0), size: (1, 1) });
    };
    let at = (FLOATING_X[small % 4], *FLOATING_Y.get(small / 4)?);
    Some(Cell { units: (FLOATING_UNITS, FLOATING_UNITS), at, size: (FLOATING_SIDE, FLOATING_SIDE) })
}

fn best_fit(n: usize, people: usize) -> Option<Cell> {
    if let Some((_, columns, rows)) = BEST_FIT.iter().find(|(most, ..)| people <= *most) {
        return Some(Cell { units: (*columns, *rows), at: (n % columns, n / columns), size: (1, 1) });
    }
    let at = BEST_FIT_17_Y.get(n / 4).map_or(BEST_FIT_17_LAST, |y| (BEST_FIT_17_X[n % 4], *y));
    Some(Cell { units: (BEST_FIT_17_UNITS, BEST_FIT_17_UNITS), at, size: (BEST_FIT_17_SIDE, BEST_FIT_17_SIDE) })
}

/// The large place stays empty (section 1.10: large user unset, background there) and counts as a user, or the 5th,
/// 7th and 9th would have no place while the next line of the table has one; the smalls number 16, so the 17th has none.
fn vertical(n: usize, people: usize) -> Option<Cell> {
    let users = (people + 1).min(MOST_PEOPLE);
    let (_, rows, units, columns) = VERTICAL.iter().find(|(most, ..)| users <= *most)?;
    Some(Cell { units: (*units, *rows), at: (*columns.get(n / rows)?, n % rows), size: (1, 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HD: (usize, usize) = (1280, 720);

    fn at(layout: Layout, people: usize, n: usize) -> Option<(usize, usize, usize, usize)> {
        rects(layout, people, (1000, 1000))[n].map(|r| (r.x, r.y, r.width, r.height))
    }

    fn overlap(a: &Rect, b: &Rect) -> bool {
        a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height
    }

    #[test]
    fn places_are_those_of_the_tables() {
        assert_eq!(at(Layout::Floating, 17, 0), Some((0, 0, 1000, 1000)));
        assert_eq!(at(Layout::Floating, 2, 1), Some((12, 753, 235, 235)));
        assert_eq!(at(Layout::Floating, 17, 16), Some((753, 12, 235, 235)));
        assert_eq!(at(Layout::BestFit, 2, 1), Some((500, 0, 500, 1000)));
        assert_eq!(at(Layout::BestFit, 3, 2), Some((0, 500, 500, 500)));
        assert_eq!(at(Layout::BestFit, 5, 4), Some((333, 333, 334, 334)));
        assert_eq!(at(Layout::BestFit, 17, 15), Some((700, 600, 200, 200)));
        assert_eq!(at(Layout::BestFit, 17, 16), Some((400, 800, 200, 200)));
        assert_eq!(at(Layout::Vertical, 4, 3), Some((800, 750, 200, 250)));
        assert_eq!(at(Layout::Vertical, 9, 7), Some((900, 875, 100, 125)));
        assert_eq!(at(Layout::Vertical, 9, 8), Some((800, 0, 100, 125)));
    }

    #[test]
    fn only_the_17th_of_vertical_has_no_place() {
        for (layout, placed) in [(Layout::Floating, 17), (Layout::BestFit, 17), (Layout::Vertical, 16)] {
            for people in 1..=MOST_PEOPLE + 1 {
                let has_place: Vec<_> = rects(layout, people, HD).iter().map(Option::is_some).collect();
                assert_eq!(has_place, (0..people).map(|n| n < placed).collect::<Vec<_>>(), "{layout:?} of {people}");
            }
        }
    }

    #[test]
    fn places_are_inside_and_only_the_first_of_floating_is_painted_over() {
        for (layout, canvas) in [Layout::Floating, Layout::BestFit, Layout::Vertical].into_iter().flat_map(|l| [(l, HD), (l, (358, 642))]) {
            for people in 1..=MOST_PEOPLE {
                let all: Vec<Rect> = rects(layout, people, canvas).into_iter().flatten().collect();
                let inside = |r: &Rect| r.width > 0 && r.height > 0 && r.x + r.width <= canvas.0 && r.y + r.height <= canvas.1;
                assert!(all.iter().all(inside), "{layout:?} of {people}: {all:?}");
                let apart = &all[usize::from(layout == Layout::Floating)..];
                let clash = apart.iter().enumerate().any(|(n, a)| apart[..n].iter().any(|b| overlap(a, b)));
                assert!(!clash, "{layout:?} of {people}: {all:?}");
            }
        }
    }
}

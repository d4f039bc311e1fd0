//! Text as an image: white with a dark edge, so that it can be read on anything.

use ab_glyph::{Font, FontRef, InvalidFont, PxScale, ScaleFont, point};
use recorder_codec::{Picture, Still};
use recorder_media::canvas::Text;

/// Of the place's height: a line with what hangs below it.
const LINE: f32 = 0.85;
/// Of the place's height: the dark edge.
const EDGE: f32 = 0.05;
/// No more pixels, however high the place is: each costs.
const EDGE_MAX: usize = 6;
/// Of full cover: what is beneath the edge can be guessed at.
const EDGE_COVER: f32 = 0.75;
/// BT.601, limited range.
const WHITE: f32 = 235.0;
const BLACK: f32 = 16.0;

/// One line, from the left, as high as its place, or smaller if it is too long for it. 1 ms for 480x48 pixels.
///
/// # Errors
/// Never: the font is part of the program.
pub(super) fn draw(text: &Text) -> Result<Still, InvalidFont> {
    let &Text { ref line, width, height } = text;
    let font = FontRef::try_from_slice(dejavu::sans::regular())?;
    let edge = ((height as f32 * EDGE).ceil() as usize).min(EDGE_MAX);
    let room = (width as f32 - 2.0 * edge as f32).max(1.0);
    let full = PxScale::from(height as f32 * LINE);
    let scale = PxScale::from(full.y * (room / line_width(&font, line, full)).min(1.0));
    let scaled = font.as_scaled(scale);
    let baseline = (height as f32 + scaled.ascent() + scaled.descent()) / 2.0;
    let (across, down) = (width as usize, height as usize);
    let mut cover = vec![0f32; across * down];
    let (mut x, mut before) = (edge as f32, None);
    for id in line.chars().map(|c| font.glyph_id(c)) {
        x += before.map_or(0.0, |before| scaled.kern(before, id));
        before = Some(id);
        if let Some(outline) = font.outline_glyph(id.with_scale_and_position(scale, point(x, baseline))) {
            let bounds = outline.px_bounds();
            outline.draw(|dx, dy, share| {
                let (x, y) = (bounds.min.x as i64 + i64::from(dx), bounds.min.y as i64 + i64::from(dy));
                let inside = usize::try_from(x).ok().filter(|x| *x < across).zip(usize::try_from(y).ok().filter(|y| *y < down));
                inside.into_iter().for_each(|(x, y)| cover[y * across + x] = (cover[y * across + x] + share).min(1.0));
            });
        }
        x += scaled.h_advance(id);
    }
    let (y, alpha) = edged(&cover, across, edge);
    let grey = vec![128; across * down / 4];
    let picture = Picture { width, height, y, u: grey.clone(), v: grey, ..Picture::default() };
    Ok(Still { picture, alpha: Some(alpha) })
}

fn line_width(font: &FontRef<'_>, line: &str, scale: PxScale) -> f32 {
    let scaled = font.as_scaled(scale);
    let ids: Vec<_> = line.chars().map(|c| font.glyph_id(c)).collect();
    let kerned: f32 = ids.windows(2).map(|pair| scaled.kern(pair[0], pair[1])).sum();
    ids.iter().map(|id| scaled.h_advance(*id)).sum::<f32>() + kerned
}

/// White where the text is, black around it: luma and alpha.
fn edged(cover: &[f32], width: usize, edge: usize) -> (Vec<u8>, Vec<u8>) {
    let spread = |line: &[f32]| -> Vec<f32> {
        (0..line.len()).map(|n| line[n.saturating_sub(edge)..(n + edge + 1).min(line.len())].iter().copied().fold(0.0, f32::max)).collect()
    };
    let mut around: Vec<f32> = cover.chunks_exact(width).flat_map(spread).collect();
    for column in 0..width {
        let line: Vec<f32> = around.iter().skip(column).step_by(width).copied().collect();
        around.iter_mut().skip(column).step_by(width).zip(spread(&line)).for_each(|(sample, spread)| *sample = spread);
    }
    let pixel = |(cover, around): (&f32, &f32)| {
        let alpha = cover.max(around * EDGE_COVER);
        let luma = if alpha > 0.0 { BLACK + (WHITE - BLACK) * cover / alpha } else { BLACK };
        (luma.round() as u8, (alpha * 255.0).round() as u8)
    };
    cover.iter().zip(&around).map(pixel).unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns in which something white is, first and last.
    fn extent(line: &str, width: u32) -> (usize, usize) {
        let still = draw(&Text { line: line.into(), width, height: 40 }).expect("a font");
        let (y, alpha) = (&still.picture.y, still.alpha.as_ref().expect("an alpha"));
        assert_eq!((y.len(), alpha.len()), ((width * 40) as usize, (width * 40) as usize));
        let white =
            |column: &usize| (0..40).any(|row| y[row * width as usize + column] > 200 && alpha[row * width as usize + column] > 200);
        let seen: Vec<usize> = (0..width as usize).filter(white).collect();
        (seen[0], seen[seen.len() - 1])
    }

    #[test]
    fn a_line_begins_at_the_left_and_is_made_smaller_where_it_is_too_long() {
        let (first, last) = extent("Hello", 400);
        assert!(first < 8 && (60..140).contains(&last), "{first} to {last}");
        let (_, longer) = extent("Hello, Hello", 400);
        assert!(longer > 2 * last, "{longer}");
        let (_, fitted) = extent(&"Hello ".repeat(20), 400);
        assert!((360..400).contains(&fitted), "{fitted}");
    }

    #[test]
    fn whatever_is_not_in_the_font_and_nothing_at_all_can_be_drawn() {
        for line in ["", " ", "\u{4e2d}\u{6587}", "\u{1f600}", "a\nb", "\u{202e}x"] {
            for (width, height) in [(2, 2), (16, 16), (320, 4)] {
                assert!(draw(&Text { line: line.into(), width, height }).is_ok(), "{line:?} {width}x{height}");
            }
        }
    }
}

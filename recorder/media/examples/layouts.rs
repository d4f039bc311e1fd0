//! Draws the layouts for the documentation, from the same function that places people in a recording:
//! `cargo run -p recorder-media --example layouts -- docs/images`. A test (`cargo test`) says when the pictures there are old.

use recorder_media::layout::{Canvas, Entry, Fit, Layout, PLACES_MAX, Rect, Region, places};
use std::fmt::Write;
use std::path::Path;

const CANVAS: Canvas = Canvas { width: 1280, height: 720 };
/// Canvases stand side by side, this much smaller.
const SCALE: u32 = 8;
const GAP: u32 = 12;
const PEOPLE: [usize; 5] = [1, 2, 4, 9, PLACES_MAX];

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "docs/images".into());
    std::fs::create_dir_all(&folder)?;
    pictures().into_iter().try_for_each(|(name, picture)| std::fs::write(Path::new(&folder).join(name), picture))
}

fn pictures() -> Vec<(&'static str, String)> {
    let region = |uid: Option<&str>, x, y, width, height, z_order| Region {
        uid: uid.map(str::to_owned),
        rect: Rect { x, y, width, height },
        fit: Fit::Crop,
        opacity_percent: 100,
        z_order,
    };
    let custom = vec![region(None, 0, 0, 1280, 720, 0), region(Some("2"), 880, 60, 340, 192, 1), region(None, 880, 280, 340, 192, 1)];
    let layouts = [
        ("layout-floating.svg", Layout::Floating),
        ("layout-bestfit.svg", Layout::BestFit),
        ("layout-vertical.svg", Layout::Vertical { large: Some("1".into()) }),
        ("layout-custom.svg", Layout::Custom(custom)),
    ];
    layouts.into_iter().map(|(name, layout)| (name, picture(&layout))).collect()
}

fn picture(layout: &Layout) -> String {
    let (width, height) = (CANVAS.width / SCALE, CANVAS.height / SCALE);
    let whole = PEOPLE.len() as u32 * (width + GAP) - GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {whole} {height}\" width=\"{whole}\" font-family=\"sans-serif\">\n"
    );
    for (n, people) in (0..).zip(PEOPLE) {
        let _ = writeln!(
            svg,
            "<g transform=\"translate({}, 0)\"><rect width=\"{width}\" height=\"{height}\" fill=\"#202020\"/>",
            n * (width + GAP)
        );
        tiles(&mut svg, layout, people);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// In the order in which they are painted, each with its place in the order of joining.
fn tiles(svg: &mut String, layout: &Layout, people: usize) {
    let names: Vec<String> = (1..=people).map(|n| n.to_string()).collect();
    let roster: Vec<Entry<'_>> = names.iter().map(|uid| Entry { uid, screen: false }).collect();
    let shown = places(&roster, layout, CANVAS).into_iter().zip(&names);
    let mut shown: Vec<_> = shown.filter_map(|(place, name)| Some((place?, name))).collect();
    shown.sort_by_key(|(place, _)| place.z_order);
    for (place, name) in shown {
        let [x, y, width, height] =
            [place.rect.x, place.rect.y, place.rect.width, place.rect.height].map(|n| f64::from(n) / f64::from(SCALE));
        let size = (height * 0.5).min(28.0);
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"#3b6ea5\" stroke=\"#202020\"/>\
             <text x=\"{}\" y=\"{}\" font-size=\"{size:.1}\" fill=\"#fff\" text-anchor=\"middle\" dominant-baseline=\"central\">{name}</text>",
            x + width / 2.0,
            y + height / 2.0
        );
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_documentation_shows_the_layouts_as_they_are() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/images");
        for (name, picture) in super::pictures() {
            let there = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
            assert!(there == picture, "{name} is old: cargo run -p recorder-media --example layouts -- docs/images");
        }
    }
}

//! Snapshots: what a viewer sees of a JPEG is what the picture was.

use recorder_codec::{Colour, I420, Still, jpeg};

const WIDTH: u32 = 64;
const HEIGHT: u32 = 48;

fn flat(y: u8, u: u8, v: u8) -> [Vec<u8>; 3] {
    let luma = (WIDTH * HEIGHT) as usize;
    [vec![y; luma], vec![u; luma / 4], vec![v; luma / 4]]
}

fn encoded([y, u, v]: &[Vec<u8>; 3], colour: Colour) -> Vec<u8> {
    jpeg(&I420 { width: WIDTH, height: HEIGHT, y, u, v }, colour).expect("a JPEG")
}

/// Black, white and the three colours of BT.601, limited range.
const COLOURS: [(u8, u8, u8); 5] = [(16, 128, 128), (235, 128, 128), (81, 90, 240), (145, 54, 34), (41, 240, 110)];

#[test]
fn what_was_put_in_comes_out_at_its_size_and_in_its_colours() {
    for (y, u, v) in COLOURS {
        let still = Still::decode(&encoded(&flat(y, u, v), Colour::BT601)).expect("our own decoder takes it");
        let picture = still.picture;
        assert_eq!((picture.width, picture.height, still.alpha), (WIDTH, HEIGHT, None));
        for (plane, sample) in [(&picture.y, y), (&picture.u, u), (&picture.v, v)] {
            let off = plane.iter().map(|there| there.abs_diff(sample)).max();
            assert!(off <= Some(2), "{sample} became {:?}", plane.first());
        }
    }
}

/// What viewers make of it: JFIF has full range, as FFmpeg sees it too.
#[test]
fn black_is_0_and_white_is_255_in_the_file() {
    let folder = std::env::temp_dir().join(format!("recorder-jpeg-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let wanted = [[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]];
    for (n, ((y, u, v), rgb)) in COLOURS.into_iter().zip(wanted).enumerate() {
        let file = folder.join(format!("{n}.jpg"));
        std::fs::write(&file, encoded(&flat(y, u, v), Colour::default())).expect("written");
        let decoded = std::process::Command::new("ffmpeg")
            .args(["-v", "error", "-i"])
            .arg(&file)
            .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
            .output()
            .expect("ffmpeg");
        assert!(decoded.status.success() && decoded.stderr.is_empty(), "{}", String::from_utf8_lossy(&decoded.stderr));
        assert_eq!(decoded.stdout.len(), (WIDTH * HEIGHT * 3) as usize);
        let off =
            decoded.stdout.chunks_exact(3).flat_map(|pixel| pixel.iter().zip(rgb).map(|(there, wanted)| there.abs_diff(wanted))).max();
        assert!(off <= Some(4), "{rgb:?} became {:?}", &decoded.stdout[..3]);
    }
    std::fs::remove_dir_all(&folder).expect("removed");
}

/// Soft waves with an edge: what quality 90 is about.
#[test]
fn little_is_lost_of_a_picture() {
    let wave = |n: usize, period: f64| (f64::from(n as u32) / period).sin() * 60.0 + 120.0;
    let (width, height) = (WIDTH as usize, HEIGHT as usize);
    let y: Vec<u8> = (0..width * height)
        .map(|n| wave(n % width, 5.0).midpoint(wave(n / width, 7.0)) as u8 + if n % width > width / 2 { 40 } else { 0 })
        .collect();
    let planes = [y, vec![100; width * height / 4], vec![150; width * height / 4]];
    let file = encoded(&planes, Colour::BT601);
    let found = Still::decode(&file).expect("decoded").picture;
    let squares: f64 = found.y.iter().zip(&planes[0]).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2)).sum();
    let psnr = 10.0 * (255.0f64.powi(2) / (squares / (width * height) as f64)).log10();
    println!("{} bytes, {psnr:.1} dB", file.len());
    assert!(psnr > 40.0, "{psnr:.1} dB");
    assert_eq!(encoded(&planes, Colour::BT601), file, "the same every time");
}

#[test]
fn a_picture_that_is_none_is_refused() {
    let [y, u, v] = flat(16, 128, 128);
    assert!(jpeg(&I420 { width: WIDTH + 2, height: HEIGHT, y: &y, u: &u, v: &v }, Colour::BT601).is_err());
}

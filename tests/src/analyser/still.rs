//! FFmpeg as the reader of a JPEG: I420 in limited range, as block codes are drawn.

use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

pub struct Still {
    pub width: usize,
    pub height: usize,
    pub luma: Vec<u8>,
    chroma: Vec<u8>,
}

impl Still {
    /// Y, U and V of a pixel.
    #[must_use]
    pub fn colour(&self, x: usize, y: usize) -> (u8, u8, u8) {
        let at = y / 2 * (self.width / 2) + x / 2;
        (self.luma[y * self.width + x], self.chroma[at], self.chroma[self.chroma.len() / 2 + at])
    }
}

/// A whole picture without a complaint, or an error.
pub fn read(file: &Path) -> Result<Still> {
    let said = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "stream=codec_name,width,height,pix_fmt,color_range", "-of", "csv=p=0:nk=0"])
        .arg(file)
        .output()?;
    let said = String::from_utf8(said.stdout)?;
    let field = |name: &str| said.trim().split(',').find_map(|field| field.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned);
    ensure!(field("codec_name").as_deref() == Some("mjpeg") && field("pix_fmt").as_deref() == Some("yuvj420p"), "{said}");
    let (width, height): (usize, usize) = (field("width").context("a width")?.parse()?, field("height").context("a height")?.parse()?);
    let decoded = Command::new("ffmpeg")
        .args(["-v", "error", "-xerror", "-i"])
        .arg(file)
        .args(["-vf", "scale=in_range=full:out_range=limited,format=yuv420p", "-f", "rawvideo", "-"])
        .output()?;
    ensure!(decoded.status.success() && decoded.stderr.is_empty(), "{}", String::from_utf8_lossy(&decoded.stderr));
    let (mut luma, pixels): (Vec<u8>, usize) = (decoded.stdout, width * height);
    ensure!(luma.len() == pixels + 2 * width.div_ceil(2) * height.div_ceil(2), "{} bytes of {width}x{height}", luma.len());
    let chroma = luma.split_off(pixels);
    Ok(Still { width, height, luma, chroma })
}

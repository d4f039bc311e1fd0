//! FFmpeg as the decoder: transport stream bytes in on its stdin, raw pictures or samples out on its stdout,
//! their timestamps on its stderr (filters showinfo and ashowinfo).

use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

/// A decoded picture, I420, planes one after the other without padding.
#[derive(Debug)]
pub struct Picture<'a> {
    /// 90 kHz, as in the transport stream.
    pub pts_90k: i64,
    pub width: usize,
    pub height: usize,
    pub data: &'a [u8],
}

/// Calls `each` for every picture of the files, read as one stream. Nothing is dropped, repeated or scaled.
pub fn pictures(files: &[PathBuf], mut each: impl FnMut(Picture<'_>) -> Result<()>) -> Result<()> {
    let args = ["-map", "0:v:0", "-vf", "format=yuv420p,showinfo=checksum=0", "-fps_mode", "passthrough", "-f", "rawvideo"];
    let mut decoder = Decoder::start(files, &args)?;
    let mut data = Vec::new();
    while let Some(line) = decoder.info(" pts:") {
        let (width, height) = word(&line, " s:")?.split_once('x').context("no size in showinfo")?;
        let (width, height): (usize, usize) = (width.parse()?, height.parse()?);
        // PTS in the time base of MPEG-TS, 1/90000; a picture without one is a fault.
        let pts_90k = word(&line, " pts:")?.parse().context("a picture without PTS")?;
        data.resize(width * height + 2 * width.div_ceil(2) * height.div_ceil(2), 0);
        decoder.out.read_exact(&mut data).context("the decoder ended inside a picture")?;
        each(Picture { pts_90k, width, height, data: &data })?;
    }
    decoder.finish()
}

/// A stretch of decoded sound.
#[derive(Debug)]
pub struct Samples<'a> {
    /// In samples of 48 kHz, from PTS 0.
    pub start: i64,
    pub samples: &'a [i16],
}

/// Calls `each` for every stretch of sound, 48 kHz mono.
pub fn samples(files: &[PathBuf], mut each: impl FnMut(Samples<'_>)) -> Result<()> {
    let filter = "aresample=48000,aformat=sample_fmts=s16:channel_layouts=mono,ashowinfo";
    let mut decoder = Decoder::start(files, &["-map", "0:a:0", "-af", filter, "-f", "s16le"])?;
    let (mut bytes, mut pcm) = (Vec::new(), Vec::new());
    while let Some(line) = decoder.info(" pts:") {
        let start = word(&line, " pts:")?.parse().context("sound without PTS")?;
        let count: usize = word(&line, " nb_samples:")?.parse()?;
        bytes.resize(count * 2, 0);
        decoder.out.read_exact(&mut bytes).context("the decoder ended inside a frame of sound")?;
        pcm.clear();
        pcm.extend(bytes.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])));
        each(Samples { start, samples: &pcm });
    }
    decoder.finish()
}

struct Decoder {
    child: Child,
    out: ChildStdout,
    lines: Receiver<String>,
    complaints: Vec<String>,
}

impl Decoder {
    fn start(files: &[PathBuf], args: &[&str]) -> Result<Self> {
        ensure!(!files.is_empty(), "nothing to decode");
        let mut child = Command::new("ffmpeg")
            .args(["-nostats", "-hide_banner", "-loglevel", "info", "-threads", "1", "-copyts", "-f", "mpegts", "-i", "pipe:0"])
            .args(args)
            .arg("pipe:1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("failed to start ffmpeg")?;
        let (mut stdin, stderr) = (child.stdin.take().context("stdin")?, child.stderr.take().context("stderr")?);
        let files = files.to_vec();
        // Ends by itself: at the last file, or when FFmpeg closes its end.
        std::thread::spawn(move || {
            for file in files {
                let Ok(data) = std::fs::read(&file) else { return };
                if stdin.write_all(&data).is_err() {
                    return;
                }
            }
        });
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let _ = send.send(String::from_utf8_lossy(&line).into_owned());
            }
        });
        let out = child.stdout.take().context("stdout")?;
        Ok(Self { child, out, lines, complaints: vec![] })
    }

    /// The next line that describes a frame; `None` at the end.
    fn info(&mut self, mark: &str) -> Option<String> {
        while let Ok(line) = self.lines.recv() {
            if line.contains("showinfo") && line.contains(" n:") && line.contains(mark) {
                return Some(line);
            }
            self.complaints.push(line);
        }
        None
    }

    fn finish(mut self) -> Result<()> {
        let mut rest = Vec::new();
        self.out.read_to_end(&mut rest)?;
        let status = self.child.wait()?;
        let tail = self.complaints.len().saturating_sub(5);
        if !status.success() {
            bail!("ffmpeg failed: {}", self.complaints[tail..].join(" | "));
        }
        ensure!(rest.is_empty(), "{} bytes of media without a timestamp", rest.len());
        Ok(())
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        // After `finish` both do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The word behind `key` ("pts:   123" and "pts:123" both occur).
fn word<'a>(line: &'a str, key: &str) -> Result<&'a str> {
    let at = line.find(key).with_context(|| format!("no{key} in {line}"))?;
    line[at + key.len()..].split_whitespace().next().with_context(|| format!("nothing behind{key}"))
}

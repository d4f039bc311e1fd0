//! A strict reader of the playlists we write: whatever it does not know is an error, because a tag that
//! nobody decided to write is a fault.

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::jiff::Timestamp;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Segment {
    pub uri: String,
    pub path: PathBuf,
    /// Seconds, of EXTINF.
    pub duration: f64,
    /// As written, RFC 3339.
    pub program_date_time: Option<String>,
    /// EXT-X-DISCONTINUITY stands before it.
    pub discontinuity: bool,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Playlist {
    pub path: PathBuf,
    pub version: u32,
    /// EVENT or VOD.
    pub kind: Option<String>,
    pub target_duration: u32,
    pub media_sequence: u64,
    pub independent_segments: bool,
    pub segments: Vec<Segment>,
    pub endlist: bool,
}

impl Playlist {
    /// `path`: a playlist, or a folder that holds exactly one.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = find(path.as_ref())?;
        let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))?;
        Self::parse(&path, &text).with_context(|| format!("bad playlist {}", path.display()))
    }

    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut list = Self {
            path: path.to_owned(),
            version: 0,
            kind: None,
            target_duration: 0,
            media_sequence: 0,
            independent_segments: false,
            segments: vec![],
            endlist: false,
        };
        let mut next = Pending::default();
        let mut lines = text.lines().enumerate();
        ensure!(lines.next().map(|l| l.1) == Some("#EXTM3U"), "the first line is not #EXTM3U");
        for (i, line) in lines {
            list.line(&mut next, line).with_context(|| format!("line {}: {line:?}", i + 1))?;
        }
        ensure!(next == Pending::default(), "tags after the last segment belong to none");
        ensure!(list.target_duration > 0, "no EXT-X-TARGETDURATION");
        ensure!(list.version > 0, "no EXT-X-VERSION");
        // RFC 8216 4.3.3.1: EXTINF rounded to the nearest integer must not exceed the target duration.
        for s in &list.segments {
            ensure!(s.duration.round() <= f64::from(list.target_duration), "{} is longer than the target duration", s.uri);
        }
        Ok(list)
    }

    fn line(&mut self, next: &mut Pending, line: &str) -> Result<()> {
        if is_comment(line) {
            return Ok(());
        }
        ensure!(!self.endlist, "text after EXT-X-ENDLIST");
        if !line.starts_with('#') {
            ensure!(!line.is_empty(), "an empty line");
            return self.segment(std::mem::take(next), line);
        }
        let (tag, value) = line.split_once(':').map_or((line, None), |(t, v)| (t, Some(v)));
        let value = || value.context("the tag needs a value");
        match tag {
            "#EXT-X-VERSION" => once(&mut self.version, 0, value()?.parse()?)?,
            "#EXT-X-TARGETDURATION" => once(&mut self.target_duration, 0, value()?.parse()?)?,
            "#EXT-X-MEDIA-SEQUENCE" => self.media_sequence = value()?.parse()?,
            "#EXT-X-INDEPENDENT-SEGMENTS" => once(&mut self.independent_segments, false, true)?,
            "#EXT-X-PLAYLIST-TYPE" => {
                ensure!(matches!(value()?, "EVENT" | "VOD"), "unknown type");
                once(&mut self.kind, None, Some(value()?.to_owned()))?;
            }
            "#EXTINF" => {
                let seconds = value()?.split_once(',').context("EXTINF without its comma")?.0;
                let seconds: f64 = seconds.parse()?;
                ensure!(seconds.is_finite() && seconds > 0.0, "a duration is > 0");
                once(&mut next.duration, None, Some(seconds))?;
            }
            "#EXT-X-PROGRAM-DATE-TIME" => once(&mut next.program_date_time, None, Some(value()?.to_owned()))?,
            "#EXT-X-DISCONTINUITY" => once(&mut next.discontinuity, false, true)?,
            "#EXT-X-ENDLIST" => self.endlist = true,
            _ => bail!("unknown tag"),
        }
        Ok(())
    }

    fn segment(&mut self, next: Pending, uri: &str) -> Result<()> {
        ensure!(!uri.contains("://") && !uri.contains(".."), "a segment is named relative to its playlist");
        self.segments.push(Segment {
            uri: uri.to_owned(),
            path: self.path.with_file_name(uri),
            duration: next.duration.context("a segment without EXTINF")?,
            program_date_time: next.program_date_time,
            discontinuity: next.discontinuity,
        });
        Ok(())
    }

    /// Seconds, the sum of EXTINF.
    #[must_use]
    pub fn duration(&self) -> f64 {
        self.segments.iter().map(|s| s.duration).sum()
    }

    /// From when to when each segment is, by its date: seconds since 1970.
    ///
    /// # Errors
    /// When one has no date.
    pub fn dates(&self) -> Result<Vec<std::ops::Range<f64>>> {
        let dated = |segment: &Segment| {
            let date: Timestamp = segment.program_date_time.as_deref().with_context(|| format!("{} has no date", segment.uri))?.parse()?;
            let start = date.as_duration().as_secs_f64();
            Ok(start..start + segment.duration)
        };
        self.segments.iter().map(dated).collect()
    }

    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        self.segments.iter().map(|s| s.path.clone()).collect()
    }

    /// Start, in `self.segments`, of each stretch between discontinuities; with its end.
    #[must_use]
    pub fn runs(&self) -> Vec<std::ops::Range<usize>> {
        let mut starts: Vec<usize> = (0..self.segments.len()).filter(|i| *i == 0 || self.segments[*i].discontinuity).collect();
        starts.push(self.segments.len());
        starts.windows(2).map(|w| w[0]..w[1]).collect()
    }
}

#[derive(Debug, Default, PartialEq)]
struct Pending {
    duration: Option<f64>,
    program_date_time: Option<String>,
    discontinuity: bool,
}

fn once<T: PartialEq>(slot: &mut T, unset: T, value: T) -> Result<()> {
    ensure!(*slot == unset, "the tag stands twice");
    *slot = value;
    Ok(())
}

fn find(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(path)?.filter_map(|e| Some(e.ok()?.path())).collect();
    found.retain(|p| p.extension().is_some_and(|e| e == "m3u8"));
    ensure!(found.len() == 1, "{} holds {} playlists, name one", path.display(), found.len());
    Ok(found.remove(0))
}

/// RFC 8216 section 4.1: a line that begins with # and is no tag; readers ignore it.
pub fn is_comment(line: &str) -> bool {
    line.starts_with('#') && !line.starts_with("#EXT")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-TARGETDURATION:7\n\
        #EXT-X-PROGRAM-DATE-TIME:2026-11-21T04:50:02.000Z\n#EXTINF:6.000,\na.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:2.5,\nb.ts\n#EXT-X-ENDLIST\n";

    #[test]
    fn reads_every_field() {
        let p = Playlist::parse(Path::new("/r/x.m3u8"), GOOD).unwrap();
        assert_eq!((p.version, p.kind.as_deref(), p.target_duration, p.endlist), (3, Some("EVENT"), 7, true));
        assert_eq!((p.segments[0].duration, p.segments[1].discontinuity), (6.0, true));
        assert_eq!((p.segments[1].path.as_path(), p.duration()), (Path::new("/r/b.ts"), 8.5));
        assert_eq!(p.runs(), vec![0..1, 1..2]);
        assert!(p.dates().is_err(), "b.ts has none");
        let dated = GOOD.replace("#EXTINF:2.5", "#EXT-X-PROGRAM-DATE-TIME:2026-11-21T04:50:09.500Z\n#EXTINF:2.5");
        let dates = Playlist::parse(Path::new("x"), &dated).unwrap().dates().unwrap();
        let since = |at: f64| at - 1_795_236_602.0;
        assert_eq!((since(dates[0].start), since(dates[0].end), since(dates[1].start)), (0.0, 6.0, 7.5));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let bad = |from: &str, to: &str| Playlist::parse(Path::new("x"), &GOOD.replace(from, to)).is_err();
        assert!(bad("#EXT-X-DISCONTINUITY", "#EXT-X-GAP"));
        assert!(bad("6.000,", "6.000"));
        assert!(bad("6.000,", "8.000,"));
        assert!(bad("a.ts", "../a.ts"));
        assert!(bad("#EXT-X-ENDLIST", "#EXT-X-ENDLIST\n#EXT-X-ENDLIST"));
        assert!(bad("#EXT-X-VERSION:3", "#EXT-X-VERSION:3\n#EXT-X-VERSION:3"));
        assert!(bad("#EXT-X-ENDLIST", "#EXTINF:1.0,"));
    }
}

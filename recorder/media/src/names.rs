//! Object names (media.md section 5) and the one calendar function they need.

use crate::{MediaTime, Source, WallMicros};

/// Civil date and time of day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Civil {
    pub year: i64,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub milli: u32,
}

impl Civil {
    /// Gregorian date from days since 1970-01-01, counted in 400-year eras that begin on 1 March, so that the leap day comes last.
    pub fn from_wall(wall: WallMicros) -> Self {
        let millis = wall.0 / 1000;
        let of_day = (millis % 86_400_000) as u32;
        let days = (millis / 86_400_000) as i64 + 719_468;
        let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * day_of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u32,
            day: (day_of_year - (153 * march_month + 2) / 5 + 1) as u32,
            hour: of_day / 3_600_000,
            minute: of_day / 60_000 % 60,
            second: of_day / 1000 % 60,
            milli: of_day % 1000,
        }
    }

    /// `yyyyMMddHHmmssSSS`
    pub fn compact(&self) -> String {
        format!("{:04}{:02}{:02}{:02}{:02}{:02}{:03}", self.year, self.month, self.day, self.hour, self.minute, self.second, self.milli)
    }

    /// ISO 8601 with milliseconds, as EXT-X-PROGRAM-DATE-TIME wants it.
    pub fn iso(&self) -> String {
        format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            self.year, self.month, self.day, self.hour, self.minute, self.second, self.milli
        )
    }
}

/// Wall clock of a media time.
pub fn wall_at(epoch: WallMicros, at: MediaTime) -> WallMicros {
    WallMicros(epoch.0.saturating_add_signed(at.as_micros()))
}

/// What stands behind `__uid_e_`. `ordinal` counts from 1: a second camera of the same person is `video2`.
pub fn kind_suffix(source: Source, alone: bool, ordinal: u32) -> String {
    match (source, alone, ordinal) {
        (Source::Camera, false, 1) | (Source::Microphone, false, _) => "av".into(),
        (Source::Camera, _, 1) => "video".into(),
        (Source::Camera, _, n) => format!("video{n}"),
        (Source::Microphone, true, _) => "audio".into(),
        (Source::ScreenShareAudio, true, _) => "screenaudio".into(),
        (Source::ScreenShare, _, n) if n > 1 => format!("screen{n}"),
        (Source::ScreenShare | Source::ScreenShareAudio, _, _) => "screen".into(),
    }
}

/// A playlist's object name. `volume` counts from 1; the first has no number.
pub fn volume_name(base: &str, volume: u32) -> String {
    if volume > 1 { format!("{base}_{volume}.m3u8") } else { playlist_name(base) }
}

/// Base and volume of a playlist's object name. Unambiguous: no kind ends with an underscore and digits, and a composite's base has one underscore,
/// before the channel, which may be a number.
pub fn volume_of(name: &str) -> (&str, u32) {
    let stem = name.strip_suffix(".m3u8").unwrap_or(name);
    let numbered = stem.rsplit_once('_').and_then(|(base, n)| Some((base, n.parse().ok().filter(|n| *n > 1 && base.contains('_'))?)));
    numbered.unwrap_or((stem, 1))
}

/// A playlist's name without `.m3u8`: what its segments' names begin with.
pub fn individual_base(stem: &str, escaped_identity: &str, kind: &str) -> String {
    format!("{stem}__uid_s_{escaped_identity}__uid_e_{kind}")
}

pub fn playlist_name(base: &str) -> String {
    format!("{base}.m3u8")
}

/// A person's pictures are called by what is seen, whatever else their playlist holds: `video` where that is `av`.
pub fn snapshot_base(playlist_base: &str) -> String {
    playlist_base.strip_suffix("__uid_e_av").map_or_else(|| playlist_base.to_owned(), |person| format!("{person}__uid_e_video"))
}

pub fn snapshot_name(base: &str, moment: WallMicros) -> String {
    format!("{base}_{}.jpg", Civil::from_wall(moment).compact())
}

pub fn segment_name(base: &str, start: WallMicros) -> String {
    format!("{base}_{}.ts", Civil::from_wall(start).compact())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants() {
        let at = |s: u64| Civil::from_wall(WallMicros(s * 1_000_000 + 7_000)).iso();
        assert_eq!(at(0), "1970-01-01T00:00:00.007Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.007Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59.007Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.007Z");
    }

    #[test]
    fn volumes_of_a_playlist() {
        let base = "0f8c_stand!5Fup__uid_s_ann__uid_e_video2";
        let names = [1, 2, 10].map(|volume| volume_name(base, volume));
        assert_eq!(names, [format!("{base}.m3u8"), format!("{base}_2.m3u8"), format!("{base}_10.m3u8")]);
        assert_eq!([volume_of("0f8c_42.m3u8"), volume_of("0f8c_42_2.m3u8")], [("0f8c_42", 1), ("0f8c_42", 2)], "a composite of channel 42");
        assert_eq!(names.each_ref().map(|name| volume_of(name)), [(base, 1), (base, 2), (base, 10)]);
        assert!(names[0] < names[1], "the first sorts first");
    }

    #[test]
    fn names_golden() {
        let base = individual_base("rec_room", "al!40ce", &kind_suffix(Source::Camera, false, 1));
        assert_eq!(playlist_name(&base), "rec_room__uid_s_al!40ce__uid_e_av.m3u8");
        assert_eq!(segment_name(&base, WallMicros(1_700_000_000_123_456)), "rec_room__uid_s_al!40ce__uid_e_av_20231114221320123.ts");
        let kinds = [
            (Source::Camera, true, 1, "video"),
            (Source::Camera, false, 2, "video2"),
            (Source::Microphone, false, 1, "av"),
            (Source::Microphone, true, 1, "audio"),
            (Source::ScreenShare, false, 1, "screen"),
            (Source::ScreenShareAudio, false, 1, "screen"),
            (Source::ScreenShareAudio, true, 1, "screenaudio"),
        ];
        for (source, alone, n, want) in kinds {
            assert_eq!(kind_suffix(source, alone, n), want);
        }
    }

    #[test]
    fn snapshots_lie_beside_their_playlists() {
        let at = WallMicros(1_700_000_000_123_456);
        let of = |source, ordinal| snapshot_base(&individual_base("rec_room", "ann", &kind_suffix(source, false, ordinal)));
        assert_eq!(snapshot_name(&of(Source::Camera, 1), at), "rec_room__uid_s_ann__uid_e_video_20231114221320123.jpg");
        assert_eq!(snapshot_name(&of(Source::Camera, 2), at), "rec_room__uid_s_ann__uid_e_video2_20231114221320123.jpg");
        assert_eq!(snapshot_name(&of(Source::ScreenShare, 1), at), "rec_room__uid_s_ann__uid_e_screen_20231114221320123.jpg");
        assert_eq!(snapshot_name("rec_room", at), "rec_room_20231114221320123.jpg", "of the canvas");
    }

    proptest! {
        #[test]
        fn names_sort_like_time(a in 0u64..4_000_000_000_000, b in 0u64..4_000_000_000_000) {
            let name = |ms: u64| segment_name("x", WallMicros(ms * 1000));
            prop_assert_eq!(a.cmp(&b), name(a).cmp(&name(b)));
        }
    }
}

//! The instruments measured: recordings made by FFmpeg from generated frames, with known faults, must give exactly these numbers.

use super::block_code::{self, Code, SAMPLE_RATE, sample};
use super::playlist::Playlist;
use super::{content, decode, probe, ts};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const FPS: u32 = 15;
const SECONDS: u32 = 12;
/// Of whom; its tone and beep lie in the middle of their ladders.
const ID: u8 = 5;

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("analyser-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What is recorded: frame numbers in the order in which they are shown, and how late the sound is.
struct Stimulus {
    size: (usize, usize),
    numbers: Vec<u32>,
    audio_shift_ms: i64,
    /// What was sent so early was not received.
    unheard_ms: i64,
    /// Parts per million by which the sound is slow.
    drift_ppm: f64,
}

impl Default for Stimulus {
    fn default() -> Self {
        Self { size: (640, 360), numbers: (0..FPS * SECONDS).collect(), audio_shift_ms: 0, unheard_ms: 0, drift_ppm: 0.0 }
    }
}

impl Stimulus {
    fn record(&self, folder: &Path) -> Playlist {
        let (w, h) = self.size;
        let (yuv, pcm) = (folder.join("v.yuv"), folder.join("a.s16"));
        let mut out = std::io::BufWriter::new(std::fs::File::create(&yuv).unwrap());
        let mut frame = vec![0; w * h * 3 / 2];
        for n in &self.numbers {
            let sent_ms = 1_000_000 + u64::from(*n) * 1000 / u64::from(FPS);
            block_code::draw(&mut frame, w, h, FPS, Code { participant: ID, frame: *n, sent_ms });
            out.write_all(&frame).unwrap();
        }
        drop(out);
        let shift = self.audio_shift_ms * i64::from(SAMPLE_RATE) / 1000;
        let unheard = self.unheard_ms * i64::from(SAMPLE_RATE) / 1000;
        let sound: Vec<u8> = (0..i64::from(SAMPLE_RATE * SECONDS))
            .flat_map(|i| {
                let source = ((i as f64) * (1.0 - self.drift_ppm / 1e6)) as i64 - shift;
                u64::try_from(source).ok().filter(|_| source >= unheard).map_or(0, |s| sample(ID, s)).to_le_bytes()
            })
            .collect();
        std::fs::write(&pcm, sound).unwrap();
        let size = format!("{w}x{h}");
        ffmpeg(
            folder,
            &[
                "-f",
                "rawvideo",
                "-pix_fmt",
                "yuv420p",
                "-s",
                &size,
                "-r",
                &FPS.to_string(),
                "-i",
                "v.yuv",
                "-f",
                "s16le",
                "-ar",
                "48000",
                "-ac",
                "1",
                "-i",
                "a.s16",
                "-map",
                "0:v",
                "-map",
                "1:a",
                "-c:v",
                "libx264",
                "-preset",
                "veryfast",
                "-bf",
                "0",
                "-b:v",
                "500k",
                "-g",
                &(FPS * 4).to_string(),
                "-sc_threshold",
                "0",
                "-threads",
                "1",
                "-c:a",
                "aac",
                "-b:a",
                "64k",
                "-f",
                "hls",
                "-hls_time",
                "4",
                "-hls_list_size",
                "0",
                "-hls_playlist_type",
                "event",
                "-hls_segment_filename",
                "s%03d.ts",
                "x.m3u8",
            ],
        );
        Playlist::read(folder).unwrap()
    }

    fn without(mut self, n: u32) -> Self {
        // The frame before it is shown twice as long in its PTS only: the numbers jump, the frame count shrinks.
        self.numbers.retain(|m| *m != n);
        self
    }
}

fn ffmpeg(folder: &Path, args: &[&str]) {
    let run = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

fn measure(list: &Playlist) -> (content::VideoReport, content::AudioReport, content::Offsets) {
    let (video, audio) = (content::video(list).unwrap(), content::audio(list, &[ID]).unwrap());
    let offsets = content::av_offset(&video, &audio, ID, FPS);
    (video, audio, offsets)
}

/// 40 ms of the first beep are missing: that is no offset of 40 ms.
#[test]
fn a_beep_whose_beginning_was_not_received_is_no_offset() {
    let folder = Folder::new("unheard");
    let (_, audio, offsets) = measure(&Stimulus { unheard_ms: 40, ..Stimulus::default() }.record(&folder.0));
    assert!(audio.voices[&ID].beeps[0].duration_ms < 65.0, "{:?}", audio.voices[&ID].beeps);
    assert_eq!(offsets.each.iter().map(|(k, _)| *k).collect::<Vec<_>>(), (1..12).collect::<Vec<_>>());
    assert!(offsets.max < content::EXACT_AV_OFFSET_MS, "{offsets:?}");
}

#[test]
fn a_perfect_recording_measures_as_perfect() {
    let folder = Folder::new("perfect");
    let list = Stimulus::default().record(&folder.0);
    let (video, audio, offsets) = measure(&list);
    let counts = &video.participants[&ID];
    assert_eq!((counts.expected, counts.present, counts.duplicated, counts.out_of_order), (180, 180, 0, 0));
    assert_eq!((video.undecodable, video.filler, video.backwards, &video.sizes[..]), (0, 0, 0, &[(640, 360)][..]));
    assert_eq!(video.frames[7].code.unwrap().sent_ms, 1_000_466);
    assert!((video.longest_gap_ms - 1000.0 / 15.0).abs() < 0.1);
    assert_eq!(video.wrong_flashes(FPS), Vec::<u32>::new());

    let voice = &audio.voices[&ID];
    assert_eq!((voice.beeps.len(), voice.holes.len(), audio.gaps.len(), audio.overlaps), (12, 0, 0, 0), "{audio:?}");
    assert!(voice.beeps.iter().all(|b| (b.duration_ms - 100.0).abs() < 2.0), "{:?}", voice.beeps);
    assert!(voice.tone.iter().all(|t| *t > 0.9), "{:?}", voice.tone);
    assert_eq!((offsets.each.len(), offsets.beeps_without_picture), (12, 0));
    assert!(offsets.max < content::EXACT_AV_OFFSET_MS && offsets.drift_ppm.abs() < 100.0, "{offsets:?}");

    let stream = ts::inspect_playlist(&list).unwrap();
    // FFmpeg's own muxer repeats the PCR with the frames only when it is told to; everything else must be clean.
    let other: Vec<_> = stream.faults.iter().filter(|f| !f.contains("does not begin with PAT") && !f.contains("PCR interval")).collect();
    assert!(other.is_empty(), "{other:?}");
    assert_eq!((stream.segments, stream.access_units, stream.key_frames, stream.continuity_errors), (3, 180, 3, 0));
    assert_eq!(stream.key_frame_at_start, [true; 3]);

    let probed = probe::ffprobe(&list).unwrap();
    let (v, a) = (probed.stream("video").unwrap(), probed.stream("audio").unwrap());
    assert_eq!((v.codec.as_str(), v.width, v.height, v.packets), ("h264", 640, 360, 180));
    assert_eq!((a.codec.as_str(), a.sample_rate, a.channels), ("aac", 48_000, 1));
    assert!((probed.duration - list.duration()).abs() < 0.1 && probed.complaints.is_empty(), "{probed:?}");
    let checks = probe::extinf_matches_decoded(&list).unwrap();
    assert!(checks.len() == 3 && checks.iter().all(probe::ExtinfCheck::agrees), "{checks:?}");
}

#[test]
fn a_lost_a_repeated_and_a_late_frame_are_told_apart() {
    let folder = Folder::new("frames");
    let mut stimulus = Stimulus { size: (320, 180), ..Stimulus::default() }.without(40);
    stimulus.numbers.insert(71, 71); // 72 is at index 71 since 40 is gone: 71 is shown again behind itself
    stimulus.numbers.swap(99, 100); // one frame comes after its successor
    let video = content::video(&stimulus.record(&folder.0)).unwrap();
    let counts = &video.participants[&ID];
    assert_eq!((counts.expected, counts.present), (180, 179));
    assert_eq!((counts.duplicated, counts.out_of_order, &counts.missing[..]), (1, 1, &[40][..]));
}

#[test]
fn late_sound_is_measured_to_the_millisecond() {
    for shift in [40, -40] {
        let folder = Folder::new(&format!("late{shift}"));
        let list = Stimulus { audio_shift_ms: shift, ..Stimulus::default() }.record(&folder.0);
        let (_, _, offsets) = measure(&list);
        assert!((offsets.median + shift as f64).abs() < 1.0, "{shift}: {offsets:?}");
        assert!(offsets.max < 40.0 + content::EXACT_AV_OFFSET_MS, "{offsets:?}");
    }
}

#[test]
fn drift_is_measured() {
    let folder = Folder::new("drift");
    let list = Stimulus { drift_ppm: 1000.0, ..Stimulus::default() }.record(&folder.0);
    let (_, _, offsets) = measure(&list);
    // Sound that runs slow comes ever later: the offset falls by 1 ms a second.
    assert!((offsets.drift_ppm + 1000.0).abs() < 60.0, "{offsets:?}");
}

/// What a real publisher's sound goes through: Opus at a speech bit rate. The lowest and the highest beep.
#[test]
fn opus_on_the_way_keeps_beeps_and_tone() {
    for id in [0, block_code::IDENTITIES - 1] {
        let folder = Folder::new(&format!("opus{id}"));
        let sound: Vec<u8> = (0..u64::from(SAMPLE_RATE * SECONDS)).flat_map(|i| sample(id, i).to_le_bytes()).collect();
        std::fs::write(folder.0.join("a.s16"), sound).unwrap();
        ffmpeg(
            &folder.0,
            &["-f", "s16le", "-ar", "48000", "-ac", "1", "-i", "a.s16", "-c:a", "libopus", "-b:a", "32k", "-application", "voip", "a.ogg"],
        );
        ffmpeg(
            &folder.0,
            &[
                "-i",
                "a.ogg",
                "-c:a",
                "aac",
                "-b:a",
                "64k",
                "-f",
                "hls",
                "-hls_playlist_type",
                "vod",
                "-hls_segment_filename",
                "o%d.ts",
                "x.m3u8",
            ],
        );
        let audio = content::audio(&Playlist::read(&folder.0).unwrap(), &[id]).unwrap();
        let voice = &audio.voices[&id];
        assert_eq!((voice.beeps.len(), voice.holes.len()), (SECONDS as usize, 0), "{id}: {voice:?}");
        // The muxer chose the first PTS; the beeps must keep their distance of one second.
        for (k, beep) in voice.beeps.iter().enumerate().skip(1) {
            assert!((beep.at - voice.beeps[1].at - (k as f64 - 1.0)).abs() < 0.001, "{id}: {voice:?}");
        }
    }
}

#[test]
fn silence_and_a_missing_tone_are_found() {
    let folder = Folder::new("silence");
    let list = Stimulus::default().record(&folder.0);
    ffmpeg(
        &folder.0,
        &[
            "-i",
            "x.m3u8",
            "-c:v",
            "copy",
            "-af",
            "volume=0:enable='between(t,5.5,5.8)'",
            "-c:a",
            "aac",
            "-b:a",
            "64k",
            "-f",
            "hls",
            "-hls_time",
            "4",
            "-hls_list_size",
            "0",
            "-hls_playlist_type",
            "event",
            "-hls_segment_filename",
            "q%03d.ts",
            "quiet.m3u8",
        ],
    );
    let audio = content::audio(&Playlist::read(list.path.with_file_name("quiet.m3u8")).unwrap(), &[ID, ID + 1]).unwrap();
    let holes = &audio.voices[&ID].holes;
    assert!(holes.len() == 1 && (holes[0].end - holes[0].start - 0.3).abs() <= 0.06, "{holes:?}");
    assert!(audio.silences.iter().any(|s| s.end - s.start > 0.2), "{:?}", audio.silences);
    let other = &audio.voices[&(ID + 1)];
    assert!(other.beeps.is_empty() && other.tone.iter().all(|t| *t < 0.2), "somebody else is not heard: {other:?}");
}

#[test]
fn a_change_of_size_and_filler_are_counted_apart() {
    let (a, b) = (Folder::new("size"), Folder::new("size-small"));
    let big = Stimulus { numbers: (0..60).collect(), ..Stimulus::default() }.record(&a.0);
    let small = Stimulus { size: (320, 180), numbers: (60..120).collect(), ..Stimulus::default() }.record(&b.0);
    ffmpeg(
        &a.0,
        &["-f", "lavfi", "-i", "color=black:s=320x180:r=1:d=3", "-c:v", "libx264", "-output_ts_offset", "20", "-f", "mpegts", "f.ts"],
    );
    std::fs::copy(&small.segments[0].path, a.0.join("small.ts")).unwrap();
    let first = &big.segments[0].uri;
    let text = format!(
        "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXTINF:4.0,\n{first}\n#EXT-X-DISCONTINUITY\n#EXTINF:3.0,\nf.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:4.0,\nsmall.ts\n"
    );
    std::fs::write(a.0.join("mixed.m3u8"), text).unwrap();
    let list = Playlist::read(a.0.join("mixed.m3u8")).unwrap();
    let video = content::video(&list).unwrap();
    assert_eq!((video.filler, video.undecodable, &video.sizes[..]), (3, 0, &[(640, 360), (320, 180)][..]));
    assert_eq!(video.participants[&ID].present, 120);
}

#[test]
fn a_lost_packet_and_a_moved_clock_are_faults_of_the_stream() {
    let folder = Folder::new("ts");
    let list = Stimulus { size: (320, 180), ..Stimulus::default() }.record(&folder.0);
    let clean = ts::inspect_playlist(&list).unwrap();
    let second = list.segments[1].path.clone();
    let whole = std::fs::read(&second).unwrap();
    let video = clean.pid(ts::STREAM_H264).unwrap();
    let lost = (3..).find(|i| u16::from_be_bytes([whole[i * 188 + 1], whole[i * 188 + 2]]) & 0x1FFF == video).unwrap();
    let mut broken = whole.clone();
    broken.drain(lost * 188..(lost + 1) * 188);
    std::fs::write(&second, broken).unwrap();
    assert_eq!(ts::inspect_playlist(&list).unwrap().continuity_errors, 1);
    std::fs::write(&second, &whole).unwrap();
    let reversed: Vec<PathBuf> = list.files().into_iter().rev().collect();
    let faults = ts::inspect(&reversed, &[]).unwrap().faults;
    assert!(faults.iter().any(|f| f.contains("DTS")) && faults.iter().any(|f| f.contains("PCR runs back")), "{faults:?}");
}

#[test]
fn a_tile_is_read_out_of_a_composite() {
    let folder = Folder::new("tile");
    let list = Stimulus { numbers: (0..30).collect(), ..Stimulus::default() }.record(&folder.0);
    ffmpeg(
        &folder.0,
        &[
            "-i",
            "x.m3u8",
            "-an",
            "-vf",
            "scale=214:120,pad=640:360:100:50:gray",
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-f",
            "hls",
            "-hls_playlist_type",
            "vod",
            "-hls_segment_filename",
            "t%03d.ts",
            "tile.m3u8",
        ],
    );
    let list = Playlist::read(list.path.with_file_name("tile.m3u8")).unwrap();
    let place = block_code::Rect { x: 100, y: 50, width: 214, height: 120 };
    let tiles = content::tiles(&list, &[Some(place), None]).unwrap();
    assert_eq!((tiles[0].participants[&ID].present, tiles[0].undecodable), (30, 0));
    assert_eq!((tiles[1].participants.len(), tiles[1].undecodable), (0, 30));
}

#[test]
fn garbage_is_an_error_and_not_a_report() {
    let folder = Folder::new("garbage");
    let file = folder.0.join("g.ts");
    std::fs::write(&file, vec![0x55; 188 * 20]).unwrap();
    assert!(decode::pictures(std::slice::from_ref(&file), |_| Ok(())).is_err());
    assert!(!ts::inspect(&[file], &[]).unwrap().faults.is_empty());
}

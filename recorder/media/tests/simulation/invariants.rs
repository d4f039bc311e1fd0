//! What must be true at any time: of storage at every write, of every recorder after each step, and of the recording at its end.

use super::bucket::{Body, Bucket, MANIFEST, Object, Request};
use super::recorder::Process;
use super::support::{backup::names, check_books, tags_and_names};
use recorder_media::*;
use std::collections::{BTreeMap, BTreeSet};

/// Work that waits in a recorder: uploads at once, one put for each document, removals.
const MOST_UNDER_WAY: usize = 64;

/// What was seen of storage.
#[derive(Debug, Default)]
pub struct Watched {
    /// The highest attempt that wrote an object.
    writers: BTreeMap<(Place, String), u32>,
    /// Attempts that went on by storage alone: their first playlist may lack what the manifest did not know yet.
    may_lack: BTreeSet<(u32, Place, String)>,
    /// Playlists that an older attempt wrote behind a newer one's claim, where that had not written any other text yet.
    overtaken: BTreeSet<(Place, String)>,
    /// Segments that a playlist named once and that a takeover by storage alone took out of it again.
    pub forgotten: usize,
    /// Playlists of an older attempt that came between a newer one's claim and the first change that it made.
    pub between: usize,
    /// The highest attempt that has begun.
    pub newest_attempt: u32,
    /// Names under which two recorders at work at the same time wrote: the newer one's segment was refused.
    pub collided: BTreeSet<String>,
}

impl Watched {
    pub fn takes_over(&mut self, attempt: u32, primary: &Bucket, backup: Option<&Bucket>) {
        let places = [(Place::Primary, Some(primary)), (Place::Backup, backup)];
        for (place, bucket) in places.into_iter().filter_map(|(place, bucket)| Some((place, bucket?))) {
            self.may_lack.extend(bucket.playlists().map(|(name, _)| (attempt, place, name.to_owned())));
        }
    }

    pub fn changed(&mut self, attempt: u32, place: Place, request: &Request, before: Option<&Object>, bucket: &Bucket) {
        let key = match request {
            Request::Put { key, .. } | Request::Remove { key } | Request::Get { key } => key,
        };
        match request {
            Request::Put { body: Body::Playlist(body), .. } => {
                self.fenced(attempt, place, key, bucket);
                self.playlist(attempt, place, key, body, before, bucket);
            }
            Request::Put { body: Body::Manifest(manifest), .. } => {
                assert_eq!(manifest.epoch, attempt, "an attempt writes under its own epoch");
                self.fenced(attempt, place, key, bucket);
            }
            Request::Put { body: Body::Segment(_), .. } => assert!(before.is_none(), "{key} is written once"),
            Request::Remove { .. } => {
                assert_eq!(place, Place::Backup, "nothing is removed from the primary");
                for (name, text) in bucket.playlists() {
                    assert!(names(text).all(|segment| segment != key), "{key} is removed while {name} names it");
                }
            }
            Request::Get { .. } => {}
        }
    }

    /// Once a newer attempt has written an object, an older one does not.
    fn fenced(&mut self, attempt: u32, place: Place, key: &str, bucket: &Bucket) {
        let writer = self.writers.entry((place, key.to_owned())).or_insert(attempt);
        assert!(attempt >= *writer, "attempt {attempt} writes {key} over attempt {writer} at {place:?}");
        *writer = attempt;
        let epoch = bucket.manifest().map_or(0, |(manifest, _)| manifest.epoch);
        assert!(key != MANIFEST || attempt >= epoch, "attempt {attempt} writes the manifest of {epoch}");
        if attempt < self.newest_attempt {
            self.between += 1;
            self.overtaken.insert((place, key.to_owned()));
        }
    }

    fn playlist(&mut self, attempt: u32, place: Place, key: &str, body: &str, before: Option<&Object>, bucket: &Bucket) {
        for segment in names(body) {
            assert!(bucket.has_segment(segment), "{key} at {place:?} names {segment}, which is not there");
        }
        let Some(Object { body: Body::Playlist(before), .. }) = before else { return };
        let (before, body) = (tags_and_names(before.trim_end_matches("#EXT-X-ENDLIST\n")), tags_and_names(body));
        let place_and_key = (place, key.to_owned());
        let taken_over = self.may_lack.remove(&(attempt, place, key.to_owned()));
        if body.starts_with(&before) {
            return;
        }
        let taken_over = taken_over | self.overtaken.remove(&place_and_key);
        assert!(taken_over, "{key} at {place:?} does not only grow:\n{before}\n{body}");
        let now: BTreeSet<&str> = names(&body).collect();
        self.forgotten += names(&before).filter(|segment| !now.contains(segment)).count();
    }
}

/// What one recorder claims, after a step.
pub fn check_claims(process: &Process, newest: bool, primary: &Bucket, backup: Option<&Bucket>, segment_seconds: u32) {
    let manifest = process.session.manifest();
    check_books(manifest, segment_seconds);
    for entry in &manifest.ledger {
        assert!(!entry.stored || primary.has_segment(&entry.name), "{} is not in the primary", entry.name);
        let alone = entry.in_backup && !entry.stored;
        // What an older attempt has there a newer one may have moved.
        assert!(!alone || !newest || backup.is_some_and(|backup| backup.has_segment(&entry.name)), "{} is not in the backup", entry.name);
        assert!(!entry.lost || !(entry.stored || entry.in_backup), "{entry:?}");
    }
    for playlist in manifest.playlists.iter().filter(|playlist| playlist.stored) {
        assert!(primary.objects.contains_key(&playlist.name), "{} is claimed to be stored", playlist.name);
    }
    assert!(process.under_way() <= MOST_UNDER_WAY, "{} pieces of work", process.under_way());
    if let Some(report) = &process.claims {
        let stored = manifest.ledger.iter().filter(|entry| entry.stored).count() as u64;
        assert!(report.uploaded_files <= stored, "{} are claimed, {stored} are stored", report.uploaded_files);
    }
}

/// What a player relies on: constant header, every segment within the target duration, times that only go forward.
pub fn check_playlist(name: &str, text: &str, target: u32) {
    let header =
        format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-PLAYLIST-TYPE:EVENT\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:0\n");
    let body = text.strip_prefix(&header).unwrap_or_else(|| panic!("{name} begins otherwise: {text}"));
    assert!(!body.starts_with("#EXT-X-DISCONTINUITY"), "{name} begins with a discontinuity");
    let lengths = body.lines().filter_map(|line| line.strip_prefix("#EXTINF:"));
    for length in lengths {
        let seconds: f64 = length.trim_end_matches(',').parse().expect("a number");
        assert!(seconds > 0.0 && seconds.round() <= f64::from(target), "{name}: EXTINF {seconds}");
    }
    let times: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("#EXT-X-PROGRAM-DATE-TIME:")).collect();
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "{name}: time goes back");
    let all: Vec<&str> = names(body).collect();
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "{name}: names are not in order");
}

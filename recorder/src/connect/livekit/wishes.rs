//! Which tracks the recorder wants. The driver orders at any time; what the server was told is brought in line by whoever is connected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use livekit_protocol as proto;
use proto::{UpdateSubscription, UpdateTrackSettings, VideoQuality};
use recorder_media::TrackKey;
use recorder_media::layout::Wanted;
use recording_crds::recording::VideoStream;
use tokio::sync::Notify;

use super::member::{Lost, Member};
use super::roster::Publication;
use super::signal::Request;
use super::silent::Silent;

/// Width and height that are large enough.
type Size = (u32, u32);

#[derive(Debug, Default)]
pub(super) struct Wishes {
    tracks: Mutex<Tracks>,
    changed: Notify,
}

#[derive(Clone, Debug, Default)]
struct Tracks {
    wanted: BTreeSet<TrackKey>,
    sizes: BTreeMap<TrackKey, Wanted>,
}

/// What the server knows of our wishes, by its names of tracks: what was asked for, and in which size if that was said.
pub(super) type Told = BTreeMap<String, Option<Size>>;

impl Wishes {
    fn tracks(&self) -> MutexGuard<'_, Tracks> {
        self.tracks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, track: TrackKey, wanted: bool) {
        let changed = if wanted { self.tracks().wanted.insert(track) } else { self.tracks().wanted.remove(&track) };
        if changed {
            self.changed.notify_one();
        }
    }

    pub(super) fn set_size(&self, track: TrackKey, wanted: Wanted) {
        if self.tracks().sizes.insert(track, wanted) != Some(wanted) {
            self.changed.notify_one();
        }
    }

    /// Also at once when something has changed since the last call. Cancel-safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// What the server is to be told, by its names of tracks.
#[derive(Debug, Default, PartialEq, Eq)]
struct News {
    subscribe: Vec<String>,
    /// Of these, the pictures.
    pictures: Vec<String>,
    unsubscribe: Vec<String>,
    sizes: Vec<(String, Size)>,
}

fn news<'a>(published: impl Iterator<Item = &'a Publication>, wishes: &Tracks, told: &mut Told) -> News {
    let (mut news, mut now) = (News::default(), Told::new());
    for publication in published {
        let Publication { track, sid, shape, .. } = publication;
        let known = told.get(sid);
        if wishes.wanted.contains(track) {
            let size = wishes.sizes.get(track).map(|wanted| wanted.size_of(*shape));
            now.insert(sid.clone(), size);
            if known.is_none() {
                news.subscribe.push(sid.clone());
                news.pictures.extend(publication.is_picture().then(|| sid.clone()));
            }
            news.sizes.extend(size.filter(|_| known.copied().flatten() != size).map(|size| (sid.clone(), size)));
        } else if known.is_some() {
            news.unsubscribe.push(sid.clone());
        }
    }
    *told = now;
    news
}

impl Member {
    /// Tells the server of wishes that it does not know yet.
    pub(super) async fn subscribe(&mut self) -> Result<(), Lost> {
        let wishes = self.config.wishes.tracks().clone();
        let news = news(self.roster.published(), &wishes, &mut self.told);
        for (track_sids, subscribe) in [(news.subscribe, true), (news.unsubscribe, false)] {
            if !track_sids.is_empty() {
                self.send(Request::Subscription(UpdateSubscription { track_sids, subscribe, ..Default::default() })).await?;
            }
        }
        match quality(self.config.video_stream) {
            Some(quality) if !news.pictures.is_empty() => {
                let settings = UpdateTrackSettings { track_sids: news.pictures, quality: quality as i32, ..Default::default() };
                self.send(Request::TrackSetting(settings)).await
            }
            Some(_) => Ok(()),
            None => self.ask_for(news.sizes).await,
        }
    }

    /// The server takes the smallest layer that is as large.
    async fn ask_for(&mut self, sizes: Vec<(String, Size)>) -> Result<(), Lost> {
        for (sid, (width, height)) in sizes {
            let settings = UpdateTrackSettings { track_sids: vec![sid], width, height, ..Default::default() };
            self.send(Request::TrackSetting(settings)).await?;
        }
        Ok(())
    }

    /// Takes back what was asked for in vain. At the next call it is asked for anew: of two words at once a server may see the last only.
    pub(super) async fn subscribe_again(&mut self) -> Result<(), Lost> {
        if !self.media_up {
            self.silent = Silent::default();
            return Ok(());
        }
        self.subscribe().await?;
        let expected = self.roster.unmuted().filter(|(sid, track)| self.told.contains_key(*sid) && !self.intake.has_come(*track));
        let track_sids = self.silent.overdue(Instant::now(), expected.map(|(sid, _)| sid));
        if track_sids.is_empty() {
            return Ok(());
        }
        tracing::warn!(tracks = ?track_sids, "nothing has come of tracks that were asked for: asking again");
        self.told.retain(|sid, _| !track_sids.contains(sid));
        self.send(Request::Subscription(UpdateSubscription { track_sids, subscribe: false, ..Default::default() })).await
    }
}

/// None: the server's own choice.
fn quality(video_stream: VideoStream) -> Option<VideoQuality> {
    match video_stream {
        VideoStream::Auto => None,
        VideoStream::High => Some(VideoQuality::High),
        VideoStream::Low => Some(VideoQuality::Low),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use recorder_media::layout::Fit;
    use recorder_media::{Codec, ParticipantKey, Source};

    fn published(sid: &str, track: u32, source: Source) -> Publication {
        let (track, participant, codec) = (TrackKey(track), ParticipantKey(0), Codec::Vp8);
        Publication { track, participant, sid: sid.into(), source, codec, muted: false, encrypted: false, shape: (0, 0) }
    }

    #[test]
    fn the_server_is_told_of_what_has_changed_and_nothing_else() {
        let wanted = |keys: &[u32]| Tracks { wanted: keys.iter().map(|key| TrackKey(*key)).collect(), sizes: BTreeMap::new() };
        let texts = |sids: &[&str]| sids.iter().map(ToString::to_string).collect::<Vec<_>>();
        let room = [published("TR_a", 0, Source::Camera), published("TR_b", 1, Source::Microphone)];
        let mut told = Told::new();
        assert_eq!(news(room.iter(), &wanted(&[]), &mut told), News::default(), "nothing is subscribed by itself");
        let first = news(room.iter(), &wanted(&[0, 1, 7]), &mut told);
        assert_eq!((first.subscribe, first.pictures, first.unsubscribe), (texts(&["TR_a", "TR_b"]), texts(&["TR_a"]), vec![]));
        assert_eq!(news(room.iter(), &wanted(&[0, 1]), &mut told), News::default());
        let less = news(room.iter(), &wanted(&[1]), &mut told);
        assert_eq!((less.subscribe, less.unsubscribe), (vec![], texts(&["TR_a"])));
        assert_eq!(news(room[..1].iter(), &wanted(&[1]), &mut told), News::default(), "what is gone needs no word");
        assert!(told.is_empty());
    }

    #[test]
    fn a_size_is_told_once_and_again_to_another_server() {
        let room = [published("TR_a", 0, Source::Camera)];
        let mut wishes = Tracks { wanted: [TrackKey(0)].into(), sizes: BTreeMap::new() };
        let mut told = Told::new();
        assert_eq!(news(room.iter(), &wishes, &mut told).sizes, []);
        wishes.sizes.insert(TrackKey(0), Wanted { width: 640, height: 360, fit: Fit::Crop });
        let of_it = [("TR_a".to_owned(), (640, 360))];
        assert_eq!(news(room.iter(), &wishes, &mut told).sizes, of_it);
        assert_eq!(news(room.iter(), &wishes, &mut told).sizes, []);
        assert_eq!(news(room.iter(), &wishes, &mut Told::new()).sizes, of_it);
        wishes.sizes.insert(TrackKey(0), Wanted { width: 320, height: 180, fit: Fit::Crop });
        assert_eq!(news(room.iter(), &wishes, &mut told).sizes, [("TR_a".to_owned(), (320, 180))]);
    }

    /// The server compares one side with those of the layers: an upright camera's needs to be as wide as its place, one of 4:3 higher than it.
    #[test]
    fn of_a_camera_of_another_shape_as_much_as_fills_its_place() {
        let mut wishes = Tracks { wanted: [TrackKey(0)].into(), sizes: BTreeMap::new() };
        for (fit, shape, size) in [
            (Fit::Crop, (1280, 720), (640, 360)),
            (Fit::Crop, (640, 480), (640, 480)),
            (Fit::Crop, (720, 1280), (640, 1138)),
            (Fit::Fit, (640, 480), (480, 360)),
            (Fit::Fit, (720, 1280), (203, 360)),
            (Fit::Crop, (0, 0), (640, 360)),
        ] {
            wishes.sizes.insert(TrackKey(0), Wanted { width: 640, height: 360, fit });
            let room = [Publication { shape, ..published("TR_a", 0, Source::Camera) }];
            assert_eq!(news(room.iter(), &wishes, &mut Told::new()).sizes, [("TR_a".to_owned(), size)], "{fit:?} {shape:?}");
        }
    }

    #[tokio::test]
    async fn a_wish_wakes_also_who_waits_later() {
        let wishes = Wishes::default();
        wishes.set(TrackKey(3), true);
        tokio::time::timeout(std::time::Duration::from_secs(5), wishes.changed()).await.expect("woken");
        wishes.set(TrackKey(3), true);
        let nothing = tokio::time::timeout(std::time::Duration::from_millis(20), wishes.changed()).await;
        assert!(nothing.is_err(), "no change, no wake");
    }
}

//! The job file. The downwardAPI volume replaces it by swapping a symlink, local mode by a rename: so it is read anew and compared,
//! four times a second, which costs nothing and misses nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use recorder_media::canvas::Yuv;
use recorder_media::layout::{Canvas, Fit, Layout, Rect, Region};
use recorder_media::stage::{Composition, Images, Mark, UserImage, Watermark};
use recorder_media::{Encoding, Mode, Order, Selection, SnapshotPlan, Subscription};
use recording_crds::job::{Job, JobState, StopReason};
use recording_crds::recording::{self, LayoutType, WatermarkType};
use tokio::sync::mpsc;

use crate::images::{self, Wanted};

/// How late an order may be noticed.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

const BLACK: Yuv = Yuv { y: 16, u: 128, v: 128 };

#[derive(Debug, thiserror::Error)]
pub(crate) enum JobFileError {
    #[error("failed to read the job file {path}: {error}")]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{0}")]
    Parse(recording_crds::job::JobError),
}

/// # Errors
/// When there is no such file or it is no job.
pub(crate) fn read(path: &Path) -> Result<Job, JobFileError> {
    let text = std::fs::read_to_string(path).map_err(|error| JobFileError::Read { path: path.to_owned(), error })?;
    Job::parse(&text).map_err(JobFileError::Parse)
}

/// Remembers what was read last.
#[derive(Debug)]
pub(crate) struct JobFile {
    path: PathBuf,
    text: String,
    generation: i64,
}

impl JobFile {
    /// `first` was read at the start; only what is newer is reported.
    pub(crate) fn new(path: PathBuf, first: &Job) -> Self {
        Self { path, text: String::new(), generation: first.generation }
    }

    /// The job, if another one is there than last time. A file that cannot be read or parsed right now changes nothing: the orders
    /// in force stay, and the log says why.
    pub(crate) fn poll(&mut self) -> Option<Job> {
        let text = std::fs::read_to_string(&self.path).ok()?;
        if text == self.text {
            return None;
        }
        self.text = text;
        match Job::parse(&self.text) {
            Ok(job) if job.generation >= self.generation => {
                self.generation = job.generation;
                Some(job)
            }
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%error, "the new job is ignored");
                None
            }
        }
    }

    /// Until the receiver is gone.
    pub(crate) async fn watch(mut self, jobs: mpsc::Sender<Job>) {
        let mut interval = tokio::time::interval(POLL_INTERVAL);
        while !jobs.is_closed() {
            interval.tick().await;
            if let Some(job) = self.poll()
                && jobs.send(job).await.is_err()
            {
                return;
            }
        }
    }
}

/// What a job orders of a session; repeating an order is harmless.
pub(crate) fn orders(job: &Job) -> Vec<Order> {
    let limits = Order::Limits {
        idle_timeout_seconds: job.spec.idle_timeout_seconds,
        max_duration_seconds: Some(job.spec.max_duration_seconds),
        drain_timeout_seconds: job.spec.drain_timeout_seconds,
    };
    let subscription = Order::Subscription(subscription(&job.spec.subscription));
    match job.desired_state {
        JobState::Recording => [limits, subscription].into_iter().chain(composition(job).map(Order::Compose)).collect(),
        JobState::Cancelled => vec![limits, Order::Cancel],
        JobState::Stopped => {
            let reason = match job.stop_reason {
                None | Some(StopReason::StopRequested) => recorder_media::StopReason::StopRequested,
                Some(StopReason::Deleted) => recorder_media::StopReason::Deleted,
            };
            vec![limits, Order::Stop(reason)]
        }
    }
}

/// What comes of the room.
pub(crate) fn mode(job: &Job) -> Mode {
    composition(job).map_or(Mode::Individual, Mode::Composite)
}

/// Pictures besides.
pub(crate) fn snapshots(job: &Job) -> Option<SnapshotPlan> {
    let recording::Snapshots { interval_seconds, per_participant } = job.spec.snapshots?;
    Some(SnapshotPlan { interval_seconds: interval_seconds.unsigned_abs(), per_participant })
}

fn composition(job: &Job) -> Option<Composition> {
    if job.spec.mode != recording::Mode::Composite {
        return None;
    }
    let recording::Layout { kind, canvas, max_resolution_uid, regions, user_images, watermarks, captions } =
        job.spec.layout.clone().unwrap_or_default();
    let images = Images {
        background: canvas.background_image_url.as_deref().map(images::key),
        default_user: canvas.default_user_image_url.as_deref().map(images::key),
        users: user_images.into_iter().map(|user| UserImage { image: images::key(&user.url), uid: user.uid, fit: fit(user.fit) }).collect(),
        watermarks: watermarks.iter().map(watermark).collect(),
        caption_percent: captions.filter(|captions| captions.enabled).and_then(|captions| u8::try_from(captions.size_percent).ok()),
    };
    // What the schema has let through.
    let pixels = |n: i32| n.unsigned_abs();
    let layout = match kind {
        LayoutType::Floating => Layout::Floating,
        LayoutType::BestFit => Layout::BestFit,
        LayoutType::Vertical => Layout::Vertical { large: max_resolution_uid },
        LayoutType::Custom => Layout::Custom(regions.unwrap_or_default().into_iter().map(region).collect()),
    };
    Some(Composition {
        layout,
        canvas: Canvas { width: pixels(canvas.width), height: pixels(canvas.height) },
        background: Yuv::from_rgb(&canvas.background_color).unwrap_or(BLACK),
        images,
        encoding: Encoding { frames_per_second: pixels(canvas.frames_per_second), kbps: pixels(canvas.video_kbps) },
    })
}

fn region(region: recording::Region) -> Region {
    let recording::Region { uid, left, top, width, height, opacity_percent, fit, z_order } = region;
    let [x, y, width, height] = [left, top, width, height].map(i32::unsigned_abs);
    let opacity_percent = u8::try_from(opacity_percent).unwrap_or(100);
    Region { uid, rect: Rect { x, y, width, height }, fit: self::fit(fit), opacity_percent, z_order }
}

fn watermark(watermark: &recording::Watermark) -> Watermark {
    let recording::Watermark { kind, ref url, ref text, left, top, width, height, opacity_percent } = *watermark;
    let mark = match kind {
        WatermarkType::Image => Mark::Image(images::key(url.as_deref().unwrap_or_default())),
        WatermarkType::Text => Mark::Text(text.clone().unwrap_or_default()),
        WatermarkType::Timestamp => Mark::Time,
    };
    let [x, y, width, height] = [left, top, width, height].map(i32::unsigned_abs);
    let opacity_percent = u8::try_from(opacity_percent).unwrap_or(100);
    Watermark { mark, rect: Rect { x, y, width, height }, opacity_percent }
}

const fn fit(fit: recording::Fit) -> Fit {
    match fit {
        recording::Fit::Crop => Fit::Crop,
        recording::Fit::Fit => Fit::Fit,
    }
}

/// The images that a job's layout names. None: the layout is not put in force.
pub(crate) fn images(job: &Job) -> Option<Vec<Wanted>> {
    if job.spec.mode != recording::Mode::Composite || job.desired_state != JobState::Recording {
        return None;
    }
    let recording::Layout { canvas, user_images, watermarks, .. } = job.spec.layout.clone().unwrap_or_default();
    let of = |field: &'static str| move |url: String| Wanted { url, field };
    let ground = canvas.background_image_url.map(of("canvas.backgroundImageURL"));
    let everybody = canvas.default_user_image_url.map(of("canvas.defaultUserImageURL"));
    let users = user_images.into_iter().map(|user| of("userImages")(user.url));
    let marks = watermarks.into_iter().filter_map(|watermark| watermark.url.map(of("watermarks")));
    Some(ground.into_iter().chain(everybody).chain(users).chain(marks).collect())
}

/// The job's lists as the session takes them.
pub(crate) fn subscription(job: &recording::Subscription) -> Subscription {
    Subscription { audio: selection(job.audio.as_ref()), video: selection(job.video.as_ref()) }
}

fn selection(of_a_kind: Option<&recording::Selection>) -> Selection {
    match of_a_kind.map(|lists| (&lists.allow, &lists.deny)) {
        Some((Some(people), _)) => Selection::Only(people.clone()),
        Some((None, Some(people))) => Selection::Except(people.clone()),
        Some((None, None)) | None => Selection::All,
    }
}

#[cfg(test)]
mod tests;

use std::os::unix::fs::symlink;

use super::*;

const JOB: &str = include_str!("../../../crds/tests/golden/job-v1.json");

fn job(generation: i64) -> String {
    JOB.replace("\"generation\": 3", &format!("\"generation\": {generation}"))
}

/// As the kubelet does it: a new folder, then `..data` is swapped by a rename.
fn project(root: &Path, revision: &str, text: &str) {
    std::fs::create_dir(root.join(revision)).expect("a new folder");
    std::fs::write(root.join(revision).join("job"), text).expect("written");
    symlink(revision, root.join("..data_tmp")).expect("linked");
    std::fs::rename(root.join("..data_tmp"), root.join("..data")).expect("swapped");
}

#[test]
fn a_swapped_symlink_brings_the_newer_job_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    project(root, "..1", &job(3));
    symlink("..data/job", root.join("job")).expect("linked");
    let first = read(&root.join("job")).expect("a job");
    let mut file = JobFile::new(root.join("job"), &first);
    assert_eq!(file.poll().map(|job| job.generation), Some(3), "what is there is in force");
    assert_eq!(file.poll(), None);
    project(root, "..2", &job(4));
    assert_eq!(file.poll().map(|job| job.generation), Some(4));
    project(root, "..3", "{ not a job");
    assert_eq!(file.poll(), None, "the orders in force stay");
    project(root, "..4", &job(3));
    assert_eq!(file.poll(), None, "an older generation is no news");
    std::fs::remove_file(root.join("..data")).expect("removed");
    assert_eq!(file.poll(), None, "a file that is away for a moment changes nothing");
}

#[test]
fn desired_state_becomes_orders() {
    let mut job = Job::parse(JOB).expect("the golden job");
    let limits = Order::Limits { idle_timeout_seconds: 30, max_duration_seconds: Some(86400), drain_timeout_seconds: 3600 };
    assert_eq!(orders(&job), [limits.clone(), Order::Stop(recorder_media::StopReason::Deleted)]);
    job.stop_reason = None;
    assert_eq!(orders(&job)[1], Order::Stop(recorder_media::StopReason::StopRequested));
    job.desired_state = JobState::Cancelled;
    assert_eq!(orders(&job)[1], Order::Cancel);
    job.desired_state = JobState::Recording;
    let layout = job.spec.layout.as_mut().expect("a layout");
    layout.canvas.background_image_url = Some("https://cdn.example.com/wall.png".into());
    layout.user_images =
        vec![recording::UserImage { uid: "bob".into(), url: "https://cdn.example.com/bob.jpg".into(), fit: recording::Fit::Fit }];
    let logo = r#"{"url": "https://cdn.example.com/logo.png", "left": 600, "top": 10, "width": 32, "height": 16, "opacityPercent": 60}"#;
    layout.watermarks = vec![serde_json::from_str(logo).expect("a watermark")];
    let fields: Vec<_> = super::images(&job).expect("a layout").into_iter().map(|image| (image.field, image.url)).collect();
    let expected = [("canvas.backgroundImageURL", "https://cdn.example.com/wall.png"), ("userImages", "https://cdn.example.com/bob.jpg")];
    let expected = [&expected[..], &[("watermarks", "https://cdn.example.com/logo.png")]].concat();
    assert!(fields.iter().map(|(field, url)| (*field, url.as_str())).eq(expected), "{fields:?}");
    let people = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let lists = Subscription { audio: Selection::Only(people(&["4242", "alice"])), video: Selection::Except(people(&["robot"])) };
    let region = Region {
        uid: Some("alice".into()),
        rect: Rect { x: 0, y: 0, width: 320, height: 180 },
        fit: Fit::Fit,
        opacity_percent: 50,
        z_order: 2,
    };
    let picture = Composition {
        layout: Layout::Custom(vec![region]),
        canvas: Canvas { width: 640, height: 360 },
        background: Yuv::from_rgb("#102030").expect("a colour"),
        images: Images {
            background: Some(images::key("https://cdn.example.com/wall.png")),
            default_user: None,
            users: vec![UserImage { uid: "bob".into(), image: images::key("https://cdn.example.com/bob.jpg"), fit: Fit::Fit }],
            watermarks: vec![Watermark {
                mark: Mark::Image(images::key("https://cdn.example.com/logo.png")),
                rect: Rect { x: 600, y: 10, width: 32, height: 16 },
                opacity_percent: 60,
            }],
            caption_percent: None,
        },
        encoding: Encoding { frames_per_second: 15, kbps: 500 },
    };
    assert_eq!(orders(&job), [limits.clone(), Order::Subscription(lists), Order::Compose(picture)]);
    job.spec.mode = recording::Mode::Individual;
    job.spec.subscription = recording::Subscription::default();
    job.spec.drain_timeout_seconds = 60;
    let limits = Order::Limits { idle_timeout_seconds: 30, max_duration_seconds: Some(86400), drain_timeout_seconds: 60 };
    assert_eq!(orders(&job), [limits, Order::Subscription(Subscription::default())]);
}

#[test]
fn a_missing_or_unreadable_job_is_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(matches!(read(&folder.path().join("job")), Err(JobFileError::Read { .. })));
    std::fs::write(folder.path().join("job"), "{").expect("written");
    assert!(matches!(read(&folder.path().join("job")), Err(JobFileError::Parse(_))));
}

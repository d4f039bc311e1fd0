//! Images in a composite, on decoded frames of what is stored: behind everybody, in place of cameras, late, and told of while one is missing.

use anyhow::{Context, Result, ensure};
use recording_crds::codes::Code;
use recording_crds::report::ReportState;
use recording_crds::status::Phase;
use recording_tests::analyser::decode;
use recording_tests::harness::process::{run, send_signal, wait_until};
use recording_tests::harness::web::serve;
use recording_tests::local::Local;
use recording_tests::stored::sound;
use std::net::SocketAddr;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(30);
const GROUND_IMAGE: &str = "ground.png";
const WIDTH: usize = 640;
const HEIGHT: usize = 360;
/// Where the second and the third person would be, who are heard and not seen, and where nobody is: middles.
const OWN: (usize, usize) = (480, 90);
const ANY: (usize, usize) = (480, 270);
const GROUND: (usize, usize) = (40, 300);
/// In the middle of a watermark there, half of whose strength is seen.
const MARK: (usize, usize) = (160, 300);
/// BT.601, limited range: `#202020`, and FFmpeg's red, green (`#008000`) and blue.
const COLOUR: [i32; 3] = [44, 128, 128];
const RED: [i32; 3] = [81, 90, 240];
const GREEN: [i32; 3] = [81, 91, 81];
const BLUE: [i32; 3] = [41, 240, 110];
const RED_ON_BLUE: [i32; 3] = [61, 165, 175];
/// What encoding leaves of it.
const CLOSE: i32 = 10;

#[test]
fn images_are_seen_behind_everybody_and_in_place_of_cameras() -> Result<()> {
    let (folder, media) = (tempfile::tempdir()?, tempfile::tempdir()?);
    for (name, colour, size) in [("own.png", "red", "320x180"), ("any.jpg", "green", "640x640"), (GROUND_IMAGE, "blue", "64x36")] {
        let drawn = format!("color={colour}:s={size}");
        run("ffmpeg", ["-v", "error", "-f", "lavfi", "-i", &drawn, "-frames:v", "1", &folder.path().join(name).display().to_string()])?;
    }
    let (ground, later) = (folder.path().join(GROUND_IMAGE), folder.path().join("later.png"));
    std::fs::rename(&ground, &later)?;
    let server = serve(folder.path())?;
    let mut recording = Local::start(&manifest(server), &["--output", &media.path().display().to_string(), "--follow"])?;
    recording.process.wait_for_line(Code::LayoutImageUnavailable.as_str(), SOON)?;
    let said = recording.report()?.degraded;
    let [degraded] = &said[..] else { anyhow::bail!("one image is missing: {said:?}") };
    let (field, path) = ("spec.layout.canvas.backgroundImageURL: ", GROUND_IMAGE);
    ensure!(degraded.message.starts_with(field) && !degraded.message.contains(path), "{degraded:?}");
    wait_until("a segment without it", SOON, || recording.report().ok().filter(|report| report.counters.recorded_seconds >= 2))?;
    std::fs::rename(&later, &ground)?;
    wait_until("the last image to be there", SOON, || recording.report().ok()?.degraded.is_empty().then_some(()))?;
    let seconds = |more: u64| {
        let now = recording.report().map_or(0, |report| report.counters.recorded_seconds);
        wait_until("more media", SOON, || recording.report().ok().filter(|report| report.counters.recorded_seconds >= now + more))
    };
    seconds(4)?;
    // Another process goes on; what it shows has all images.
    send_signal(recording.recorder()?.0 as i32, libc::SIGKILL)?;
    wait_until("another recorder", SOON, || recording.report().ok().filter(|report| report.state == ReportState::Recording))?;
    seconds(4)?;
    let ended = recording.wait(LIMIT)?;
    ensure!(ended.status()?.phase == Some(Phase::Completed), "{}\n{}", ended.said, ended.recorder_log());
    let playlist = sound(&media.path().join(ended.status()?.playlist.clone().context("a playlist's name")?))?;
    let mut grounds = Vec::new();
    let mut last = [[0; 3]; 4];
    decode::pictures(&playlist.files(), |picture| {
        let at = |(x, y): (usize, usize)| {
            let chroma = |plane: usize| picture.data[WIDTH * HEIGHT * (4 + plane) / 4 + y / 2 * (WIDTH / 2) + x / 2];
            [picture.data[y * WIDTH + x], chroma(0), chroma(1)].map(i32::from)
        };
        last = [OWN, ANY, GROUND, MARK].map(at);
        grounds.push(last[2]);
        Ok(())
    })?;
    let expected = [RED, GREEN, BLUE, RED_ON_BLUE];
    ensure!(last.iter().zip(expected).all(|(seen, expected)| close(*seen, expected)), "at the end {last:?}");
    let changes = grounds.windows(2).filter(|two| !close(two[0], two[1])).count();
    ensure!(close(grounds[0], COLOUR) && changes == 1, "from {:?}, {changes} changes", grounds[0]);
    Ok(())
}

fn close(seen: [i32; 3], expected: [i32; 3]) -> bool {
    seen.iter().zip(expected).all(|(seen, expected)| (seen - expected).abs() <= CLOSE)
}

/// Three people, two of whom are only heard, on quarters of the canvas; the fourth quarter is free.
fn manifest(server: SocketAddr) -> String {
    format!(
        "apiVersion: recording-operator.io/v1alpha1
kind: Recording
metadata: {{name: images}}
spec:
  channel: {{name: images, testPattern: {{participants: 3, width: 320, height: 180, framesPerSecond: 15, durationSeconds: 40}}}}
  mode: Composite
  subscription: {{video: {{allow: [participant-1]}}}}
  layout:
    type: Custom
    canvas: {{width: {WIDTH}, height: {HEIGHT}, framesPerSecond: 15, backgroundColor: '#202020',
      backgroundImageURL: 'http://{server}/ground.png?signature=secret', defaultUserImageURL: 'http://{server}/any.jpg'}}
    regions:
      - {{uid: participant-1, left: 0, top: 0, width: 320, height: 180}}
      - {{uid: participant-2, left: 320, top: 0, width: 320, height: 180}}
      - {{uid: participant-3, left: 320, top: 180, width: 320, height: 180}}
    watermarks: [{{url: 'http://{server}/own.png', left: 80, top: 280, width: 160, height: 40, opacityPercent: 50}}]
    userImages: [{{uid: participant-2, url: 'http://{server}/own.png'}}]
  idleTimeoutSeconds: 5
  output: {{hls: {{segmentSeconds: 2}}}}
  storage: {{volume: {{claimName: recordings}}}}
"
    )
}

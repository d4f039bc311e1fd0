//! Who shows no picture, for a while or at all, and who leaves: what is seen in their place, measured in stored frames.

use anyhow::{Context, Result, ensure};
use recording_tests::analyser::block_code::Rect;
use recording_tests::analyser::content::{self, VideoReport};
use recording_tests::composed::Composed;
use recording_tests::frames::scene::{Fit, Layer, Person, Scene};
use recording_tests::frames::{BACKGROUND, BACKGROUND_YUV, all_are_seen};
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::run;
use recording_tests::harness::web::serve;
use recording_tests::layout_oracle::{Layout, rects};
use recording_tests::publisher::Publisher;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const CANVAS: (usize, usize) = (1280, 720);
const SIZE: (usize, usize) = (640, 360);
/// A muted camera's last picture holds this long (seed-products.md section 1.9).
const HOLD_SECONDS: f64 = 3.5;
/// Signalling and media take different ways to the recorder.
const SLACK_SECONDS: f64 = 0.5;
/// Of each layout; and after a mute, until its picture is gone and what comes then is stored.
const SECONDS: u64 = 2;
const MUTED_SECONDS: u64 = 8;
const ALICE: u8 = 1;
const CAROL: u8 = 3;
/// BT.601, limited range: FFmpeg's red.
const RED: [i32; 3] = [81, 90, 240];

/// In somebody's place.
#[derive(Clone, Copy)]
enum Sight {
    Person(u8),
    Colour([i32; 3]),
    /// What is beneath.
    Nothing,
}

use Sight::{Colour, Nothing, Person as Camera};

const GROUND: Sight = Colour(BACKGROUND_YUV);

fn scene(name: &str, layout: Layout, people: &[Sight]) -> Scene {
    let layer = |(place, sight): (Option<Rect>, &Sight)| match sight {
        Camera(id) => Some(Layer::person(Person::new(*id, SIZE, Fit::Crop), place?)),
        Colour(colour) => Some(Layer::flat(*colour, place?)),
        Nothing => None,
    };
    let layers: Vec<Layer> = rects(layout, people.len(), CANVAS).into_iter().zip(people).filter_map(layer).collect();
    Scene::new(name, CANVAS, &layers)
}

/// Alice's and Carol's cameras, and Bob's voice between them.
fn scenes() -> Vec<Scene> {
    let all = [Camera(ALICE), GROUND, Camera(CAROL)];
    vec![
        scene("a voice alone has a place", Layout::BestFit, &all),
        scene("in the column as well", Layout::Vertical, &all),
        scene("and on another an invisible one", Layout::Floating, &[Camera(ALICE), Nothing, Camera(CAROL)]),
        scene("Carol is muted: what is beneath", Layout::Floating, &[Camera(ALICE), Nothing, Nothing]),
        scene("she keeps her place", Layout::BestFit, &[Camera(ALICE), GROUND, GROUND]),
        scene("she is back", Layout::BestFit, &all),
        scene("Alice is muted: her image", Layout::BestFit, &[Colour(RED), GROUND, Camera(CAROL)]),
        scene("she is back", Layout::BestFit, &all),
        scene("Bob has left, Carol moves up", Layout::BestFit, &[Camera(ALICE), Camera(CAROL)]),
    ]
}

#[test]
fn places_of_those_who_are_muted_heard_only_or_gone() -> Result<()> {
    let (livekit, pictures) = (LiveKit::start()?, tempfile::tempdir()?);
    let image = pictures.path().join("alice.png").display().to_string();
    run("ffmpeg", ["-v", "error", "-f", "lavfi", "-i", "color=red:s=320x180", "-frames:v", "1", &image])?;
    let server = serve(pictures.path())?;
    let canvas = format!("{{width: 1280, height: 720, framesPerSecond: 15, videoKbps: 4000, backgroundColor: '{BACKGROUND}'}}");
    let layout = |name: &str| format!("{{type: {name}, canvas: {canvas}, userImages: [{{uid: alice, url: 'http://{server}/alice.png'}}]}}");
    let mut room = Composed::start(&livekit, "presence", &layout("BestFit"))?;
    let join = |name: &str, id: u8, kinds: &str| {
        let person = Publisher::start(&livekit, "presence", name, id, &["--seconds", "120", "--size", "640x360", "--kinds", kinds])?;
        room.wait_for_people(u32::from(id)).map(|()| person)
    };
    let [mut alice, mut bob, mut carol] = [join("alice", ALICE, "av")?, join("bob", 2, "a")?, join("carol", CAROL, "av")?];
    carol.started()?;
    room.wait_for_media(SECONDS)?;
    for name in ["Vertical", "Floating"] {
        room.order(&layout(name))?;
        room.wait_for_media(SECONDS)?;
    }
    carol.order("mute v")?;
    room.wait_for_media(MUTED_SECONDS)?;
    room.order(&layout("BestFit"))?;
    room.wait_for_media(SECONDS)?;
    carol.order("unmute v")?;
    room.wait_for_media(SECONDS)?;
    alice.order("mute v")?;
    room.wait_for_media(MUTED_SECONDS)?;
    alice.order("unmute v")?;
    room.wait_for_media(SECONDS)?;
    leave(&mut bob)?;
    room.wait_for_media(SECONDS)?;
    leave(&mut alice)?;
    leave(&mut carol)?;
    let taken = room.finish()?;
    all_are_seen(&taken.playlist.files(), &scenes())?;
    let (small, quarter) = (rects(Layout::Floating, 3, CANVAS)[2], rects(Layout::BestFit, 3, CANVAS)[0]);
    let tiles = content::tiles(&taken.playlist, &[small, quarter])?;
    holds(&tiles[0], CAROL).context("Carol, in Floating")?;
    holds(&tiles[1], ALICE).context("Alice, in BestFit")
}

fn leave(person: &mut Publisher) -> Result<()> {
    person.order("quit")?;
    person.finish(SOON).map(drop)
}

/// The last picture of a muted camera is shown on for as long as it should be, then nothing of hers, and later ones again.
fn holds(tile: &VideoReport, id: u8) -> Result<()> {
    let frames: Vec<(f64, Option<u32>)> = tile
        .frames
        .iter()
        .map(|f| (f.pts_90k as f64 / 90_000.0, f.code.filter(|code| code.participant == id).map(|code| code.frame)))
        .collect();
    let stretches = frames.chunk_by(|a, b| a.1 == b.1).filter(|same| same[0].1.is_some());
    let held = stretches.max_by_key(|same| same.len()).context("nothing of hers")?;
    let next = frames.iter().find(|(pts, _)| *pts > held[held.len() - 1].0).context("nothing behind it")?;
    let seconds = next.0 - held[0].0;
    println!("{id}: frame {:?} for {seconds:.2} s", held[0].1);
    ensure!(next.1.is_none(), "frame {:?} follows at once: {next:?}", held[0].1);
    ensure!((seconds - HOLD_SECONDS).abs() <= SLACK_SECONDS, "it holds for {seconds} s");
    Ok(())
}

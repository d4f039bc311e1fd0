//! Regions of people whose pictures have other shapes: cut, whole between bars, one above another, seen through; on decoded frames of what is stored.

use anyhow::Result;
use recording_tests::analyser::block_code::Rect;
use recording_tests::composed::Composed;
use recording_tests::frames::scene::{Fit, Layer, Person, Scene};
use recording_tests::frames::{BACKGROUND, all_are_seen};
use recording_tests::harness::livekit::LiveKit;
use recording_tests::load::{Stimulus, Target, publish};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);
const SOON: Duration = Duration::from_secs(30);
const CANVAS: (usize, usize) = (1280, 720);
const FPS: u32 = 10;
/// Of person 1, 2 and so on: 16:9, 4:3, 9:16, 16:9.
const SIZES: [(usize, usize); 4] = [(640, 360), (640, 480), (360, 640), (640, 360)];
/// Of each layout.
const SECONDS: u64 = 2;

#[derive(Clone, Copy)]
struct Region {
    id: u8,
    rect: Rect,
    fit: Fit,
    opacity_percent: u8,
    /// None: left out.
    z_order: Option<i32>,
}

/// Left, top, width, height.
const fn region(id: u8, rect: [usize; 4], fit: Fit) -> Region {
    let [x, y, width, height] = rect;
    Region { id, rect: Rect { x, y, width, height }, fit, opacity_percent: 100, z_order: None }
}

impl Region {
    const fn opacity(self, opacity_percent: u8) -> Self {
        Self { opacity_percent, ..self }
    }

    const fn z_order(self, z_order: i32) -> Self {
        Self { z_order: Some(z_order), ..self }
    }

    fn yaml(&self) -> String {
        let Rect { x, y, width, height } = self.rect;
        let z_order = self.z_order.map_or(String::new(), |z_order| format!(", zOrder: {z_order}"));
        let (id, fit, opacity) = (self.id, self.fit, self.opacity_percent);
        format!(
            "{{uid: load-{id}, left: {x}, top: {y}, width: {width}, height: {height}, fit: {fit:?}, opacityPercent: {opacity}{z_order}}}"
        )
    }

    fn layer(&self) -> Layer {
        Layer::person(Person::new(self.id, SIZES[usize::from(self.id) - 1], self.fit), self.rect).opacity(self.opacity_percent)
    }
}

/// Of shapes that are nobody's own; the third lies on the first.
const SHAPES: [[usize; 4]; 4] = [[0, 0, 480, 360], [480, 0, 640, 360], [0, 260, 640, 360], [1000, 400, 202, 320]];

fn layouts() -> Vec<(&'static str, Vec<Region>)> {
    let shaped = |fit| (1..).zip(SHAPES).map(|(id, rect)| region(id, rect, fit)).collect();
    let overlapping = [[0, 0, 640, 360], [200, 100, 640, 480], [500, 60, 360, 640], [300, 200, 640, 360]];
    let on_another = |id: u8| region(id, overlapping[usize::from(id) - 1], Fit::Crop);
    // The fourth is half above the second and half above nobody, the third is there and not seen.
    let through = [
        region(1, [0, 0, 640, 360], Fit::Crop),
        region(2, [320, 180, 640, 480], Fit::Crop).opacity(50),
        region(3, [20, 20, 360, 640], Fit::Crop).opacity(0),
        region(4, [640, 300, 640, 360], Fit::Crop).opacity(25),
    ];
    let bars_through = [region(1, [0, 0, 640, 360], Fit::Crop), region(3, [0, 0, 640, 360], Fit::Fit).opacity(50)];
    let ordered = [on_another(3).z_order(3), on_another(1).z_order(2), on_another(4).z_order(-1), on_another(2)];
    vec![
        ("whole, with bars", shaped(Fit::Fit)),
        ("cut", shaped(Fit::Crop)),
        ("seen through", through.to_vec()),
        ("bars are seen through as well", bars_through.to_vec()),
        ("by zOrder", ordered.to_vec()),
        ("later regions above earlier", [1, 2, 3, 4].map(on_another).to_vec()),
        ("later regions above earlier, whoever came first", [4, 3, 2, 1].map(on_another).to_vec()),
    ]
}

fn yaml(regions: &[Region]) -> String {
    let regions: Vec<String> = regions.iter().map(Region::yaml).collect();
    let canvas = format!("{{width: 1280, height: 720, framesPerSecond: {FPS}, videoKbps: 4000, backgroundColor: '{BACKGROUND}'}}");
    format!("{{type: Custom, canvas: {canvas}, regions: [{}]}}", regions.join(", "))
}

/// What is higher is painted later; of the same, the later region.
fn scene(name: &str, regions: &[Region]) -> Scene {
    let mut regions = regions.to_vec();
    regions.sort_by_key(|region| region.z_order.unwrap_or(0));
    Scene::new(name, CANVAS, &regions.iter().map(Region::layer).collect::<Vec<_>>())
}

#[test]
fn regions_cut_cover_and_let_through_as_they_say() -> Result<()> {
    let livekit = LiveKit::start()?;
    let stimulus = |participant: u8, (width, height): (usize, usize)| Stimulus {
        participant,
        width: width as u32,
        height: height as u32,
        frames_per_second: FPS,
        seconds: 10,
        kbps: None,
    };
    let media = (1..).zip(SIZES).map(|(id, size)| stimulus(id, size).media()).collect::<Result<Vec<_>>>()?;
    let layouts = layouts();
    let mut room = Composed::start(&livekit, "regions", &yaml(&layouts[0].1))?;
    let (target, mut publishers) = (Target::LiveKit { server: &livekit, room: "regions" }, Vec::new());
    for (id, media) in (1..).zip(&media) {
        publishers.push(publish(&target, media, 1, LIMIT.as_secs_f64(), &["-jump", "-first", &id.to_string()])?);
        room.wait_for_people(id)?;
    }
    room.wait_for_media(SECONDS)?;
    for (_, regions) in &layouts[1..] {
        room.order(&yaml(regions))?;
        room.wait_for_media(SECONDS)?;
    }
    publishers.iter_mut().for_each(|publisher| _ = publisher.stop(SOON));
    let taken = room.finish()?;
    let scenes: Vec<Scene> = layouts.iter().map(|(name, regions)| scene(name, regions)).collect();
    all_are_seen(&taken.playlist.files(), &scenes)
}

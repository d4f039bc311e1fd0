//! Where everybody stands, on decoded frames of what is stored: every layout for 1 to 17 people, measured to two pixels by an oracle of its own.

use anyhow::{Context, Result, ensure};
use recording_crds::status::Phase;
use recording_tests::analyser::block_code::Rect;
use recording_tests::analyser::decode;
use recording_tests::frames::Shade::{Black, White};
use recording_tests::frames::{BACKGROUND, BACKGROUND_YUV, Expected, Fault, Frame, OFF, all_are_seen, colour};
use recording_tests::harness::livekit::LiveKit;
use recording_tests::harness::process::wait_until;
use recording_tests::layout_oracle::{Layout, rects};
use recording_tests::load::{Stimulus, Target, publish};
use recording_tests::local::{Local, livekit_to_folder, recorder_log};
use recording_tests::stored::sound;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(30);
const PEOPLE: u8 = 17;
const CANVAS: (usize, usize) = (1280, 720);
const LAYOUTS: [(Layout, &str); 3] = [(Layout::Floating, "Floating"), (Layout::BestFit, "BestFit"), (Layout::Vertical, "Vertical")];
/// Each layout is ordered so often for each number of people: two orders may fall between two pictures of a busy machine.
const ROUNDS: usize = 2;

/// So many people in this layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Case {
    people: usize,
    layout: Layout,
}

#[test]
fn everybody_stands_where_the_tables_say() -> Result<()> {
    let livekit = LiveKit::start()?;
    let folder = tempfile::tempdir()?;
    let stimulus = |participant| Stimulus { participant, width: 320, height: 180, frames_per_second: 10, seconds: 10, kbps: None };
    let media = (1..=PEOPLE).map(|participant| stimulus(participant).media()).collect::<Result<Vec<_>>>()?;
    let canvas = format!("canvas: {{width: 1280, height: 720, framesPerSecond: 10, videoKbps: 3000, backgroundColor: '{BACKGROUND}'}}");
    let manifest = |layout: &str| {
        let composite = format!("mode: Composite\n  layout: {{type: {layout}, {canvas}}}\n");
        livekit_to_folder(&livekit, "layouts", 5).replace("mode: Individual\n", &composite)
    };
    let mut recording = Local::start(&manifest(LAYOUTS[1].1), &["--output", &folder.path().display().to_string(), "--follow"])?;
    let target = Target::LiveKit { server: &livekit, room: "layouts" };
    let (mut publishers, mut generation) = (Vec::new(), 1);
    let mut order = |recording: &mut Local, name: &str| {
        generation += 1;
        recording.save(&manifest(name))?;
        recording.wait_for_generation(generation, SOON)
    };
    let there = |recording: &Local, people: u8| {
        let counted = || recording.report().ok().filter(|report| report.participants == u32::from(people));
        wait_until(&format!("{people} people in the room"), SOON, counted)
    };
    for (participant, media) in (1..).zip(&media) {
        publishers.push(publish(&target, media, 1, LIMIT.as_secs_f64(), &["-jump", "-first", &participant.to_string()])?);
        there(&recording, participant)?;
    }
    // The last one has no place in Vertical and has to be asked for a picture after it.
    for (layout, name) in LAYOUTS {
        order(&mut recording, name)?;
        let case = Case { people: usize::from(PEOPLE), layout };
        let shown = case.ends_a_segment(folder.path());
        shown.with_context(|| format!("{case:?} {:?}\n{}", recording.report(), recorder_log(&recording.state())))?;
    }
    // Whoever stays is seen all the time, so that nobody's picture has to be waited for.
    for people in (1..PEOPLE).rev() {
        publishers.pop().into_iter().for_each(|mut last| _ = last.stop(SOON));
        there(&recording, people)?;
        LAYOUTS.iter().cycle().take(ROUNDS * LAYOUTS.len()).try_for_each(|(_, name)| order(&mut recording, name))?;
    }
    publishers.pop().into_iter().for_each(|mut last| _ = last.stop(SOON));
    let ended = recording.wait(SOON)?;
    ensure!(ended.status()?.phase == Some(Phase::Completed), "{}\n{}", ended.said, ended.recorder_log());
    let playlist = sound(&folder.path().join(ended.status()?.playlist.clone().context("a playlist's name")?))?;
    let cases = (1..=usize::from(PEOPLE)).rev().flat_map(|people| LAYOUTS.map(|(layout, _)| Case { people, layout }));
    all_are_seen(&playlist.files(), &cases.collect::<Vec<_>>())
}

/// Of the only playlist.
fn newest_segment(folder: &Path) -> Option<PathBuf> {
    let names = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    names.filter(|path| path.extension().is_some_and(|extension| extension == "ts")).max()
}

impl Case {
    /// Waits for a segment whose last picture is as it should be.
    fn ends_a_segment(&self, folder: &Path) -> Result<()> {
        let (mut seen, mut fault) = (None, None);
        let shown = wait_until("a stored segment with everybody", SOON * 2, || {
            let newest = newest_segment(folder).filter(|newest| seen.as_ref() != Some(newest))?;
            fault = Some(self.fault_at_the_end(&newest));
            seen = Some(newest);
            matches!(fault, Some(Ok(None))).then_some(())
        });
        shown.with_context(|| format!("{seen:?} ends with {fault:?}"))
    }

    fn fault_at_the_end(&self, file: &Path) -> Result<Option<Fault>> {
        let mut fault = None;
        decode::pictures(&[file.to_owned()], |picture| {
            fault = self.differs(&Frame(&picture));
            Ok(())
        })?;
        Ok(fault)
    }
}

impl Expected for Case {
    /// By tiles.
    fn differs(&self, frame: &Frame<'_>) -> Option<Fault> {
        let places = rects(self.layout, self.people, CANVAS);
        let tiles: Vec<(u8, Rect)> = (1..).zip(&places).filter_map(|(id, place)| Some((id, (*place)?))).collect();
        for (n, (id, rect)) in tiles.iter().enumerate() {
            // The large one of Floating has the others on it; where it can be seen its colour is.
            let large = self.layout == Layout::Floating && n == 0;
            let fault =
                if large { lies_below(frame, *id, &tiles[1..]) } else { stands(frame, *id, *rect, self.layout == Layout::Floating) };
            if let Some(fault) = fault {
                return Some(Fault { wrong: tiles.len() - n, what: format!("{id} at {rect:?}: {fault}") });
            }
        }
        uncovered(frame, &tiles).map(|what| Fault { wrong: 0, what })
    }
}

/// A person's picture is exactly in `rect`: by its edges' pixels on both sides, and by where its middle begins and ends, which is flat (rows 7 to 15 of
/// 18, the whole width, of which the sides may be cut). `on_another`: what is beneath has black and white of its own.
fn stands(frame: &Frame<'_>, id: u8, rect: Rect, on_another: bool) -> Option<String> {
    let colour = colour(id);
    let row = |n: usize| rect.y + n * rect.height / 18;
    let middle = rect.x + rect.width / 2;
    let flat = row(12);
    let inside = [(rect.x + OFF, flat), (rect.x + rect.width - 1 - OFF, flat), (middle, row(7) + OFF), (middle, row(16) - 1 - OFF)];
    if let Some(at) = inside.iter().find(|at| !frame.is(**at, colour)) {
        return Some(format!("at {at:?} is {:?}, not {colour:?}", frame.yuv(*at)));
    }
    let (left, right) = (rect.x.checked_sub(1 + OFF), Some(rect.x + rect.width + OFF).filter(|x| *x < CANVAS.0));
    let beside = left.into_iter().chain(right).map(|x| (x, flat));
    let outside: Vec<_> = beside.chain([(middle, row(7) - 1 - OFF), (middle, row(16) + OFF)]).collect();
    if let Some(at) = outside.iter().find(|at| frame.is(**at, colour)) {
        return Some(format!("at {at:?} is still {colour:?}"));
    }
    // Of 16 columns the ninth begins white and the twelfth black; all end black, or white in a flash: of 17 people somebody's is always on.
    let columns = [middle + rect.height / 18, middle + 7 * rect.height / 18];
    let shades = |y: usize| columns.map(|x| frame.shade((x, y)));
    let (top, bottom) = (shades(rect.y + OFF), shades(rect.y + rect.height - 1 - OFF));
    if top != [Some(White), Some(Black)] || bottom[0].is_none() || bottom[0] != bottom[1] {
        return Some(format!("its top is {top:?}, its bottom {bottom:?}"));
    }
    let above = rect.y.checked_sub(1 + OFF).map(shades);
    let below = Some(rect.y + rect.height + OFF).filter(|y| *y < CANVAS.1).map(shades);
    let goes_on = above == Some(top) || below == Some(bottom);
    (goes_on && !on_another).then(|| format!("behind its edges are {above:?} and {below:?}"))
}

fn lies_below(frame: &Frame<'_>, id: u8, tiles: &[(u8, Rect)]) -> Option<String> {
    let flat = [8, 10, 12, 15].map(|row| CANVAS.1 * row / 18 + OFF);
    let points = flat.into_iter().flat_map(|y| (4..CANVAS.0).step_by(40).map(move |x| (x, y)));
    let mut seen = points.filter(|at| is_free(*at, tiles));
    seen.find(|at| !frame.is(*at, colour(id))).map(|at| format!("at {at:?} is {:?}", frame.yuv(at)))
}

/// Where nobody stands is the background.
fn uncovered(frame: &Frame<'_>, tiles: &[(u8, Rect)]) -> Option<String> {
    let points = (4..CANVAS.1).step_by(24).flat_map(|y| (4..CANVAS.0).step_by(40).map(move |x| (x, y)));
    let mut free = points.filter(|at| is_free(*at, tiles));
    free.find(|at| !frame.is(*at, BACKGROUND_YUV)).map(|at| format!("at {at:?} is {:?}, not the background", frame.yuv(at)))
}

/// Of everybody, with some room.
fn is_free((x, y): (usize, usize), tiles: &[(u8, Rect)]) -> bool {
    let near = |at: usize, from: usize, length: usize| at + OFF + 1 >= from && at <= from + length + OFF;
    !tiles.iter().any(|(_, rect)| near(x, rect.x, rect.width) && near(y, rect.y, rect.height))
}

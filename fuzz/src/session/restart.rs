//! A recorder that is gone and its successor: what it finds, and what the recording still promises.

use arbitrary::{Result, Unstructured};
use recorder_media::{Config, Input, Resume, Tick, WallMicros};

use super::Play;
use super::support::reader::read;
use super::support::{Room, WALL, World};

/// Every stream of a room is one that a player can follow.
pub(super) fn read_back(room: &Room) {
    let playlists = room.segments.keys().map(|(playlist, _)| *playlist).max().map_or(0, |last| last + 1);
    for playlist in 0..playlists {
        read(&room.data(playlist));
    }
}

/// The process is killed; another one goes on from what storage or the spool holds. Nobody is in its room yet.
pub(super) fn restart(play: &mut Play, bytes: &mut Unstructured) -> Result<()> {
    if play.world.room.finished.is_some() {
        return Ok(());
    }
    read_back(&play.world.room);
    let mut manifest = play.session().manifest().clone();
    let spool_is_gone: bool = bytes.arbitrary()?;
    if spool_is_gone {
        manifest.ledger.iter_mut().filter(|entry| !entry.stored).for_each(|entry| entry.lost = true);
    }
    let away_ms: u64 = bytes.int_in_range(0..=20_000)?;
    let wall = if bytes.ratio(1, 16)? { WALL } else { WallMicros(play.world.wall().0 + away_ms * 1_000) };
    let config = Config { attempt: play.config.attempt + 1, resume: Some(Resume { manifest, replay: None }), ..play.config.clone() };
    play.config = Config { resume: None, ..config.clone() };

    let mut room = Room::at(config, Tick(bytes.int_in_range(0..=1_000_000)?), wall);
    room.keep_log = false;
    // A successor goes on, also when the end was written already.
    let open = |text: &String| text.trim_end_matches("#EXT-X-ENDLIST\n").to_owned();
    room.playlists = play.world.room.playlists.iter().map(|(name, text)| (name.clone(), open(text))).collect();
    room.storage = play.world.room.storage.clone();
    let network = play.world.network.clone();
    play.world = World::new(room);
    play.world.network = network;
    play.silent.clear();
    play.tracks.clear();
    play.elapsed_ms += away_ms;
    if bytes.ratio(7, 8)? {
        play.world.room.input(Input::Connected);
    }
    Ok(())
}

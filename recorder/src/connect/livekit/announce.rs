//! What the driver hears of the room, and the server of our wishes.

use livekit_protocol as proto;
use recorder_media::{Codec, Input};
use recording_crds::names;

use super::member::{Lost, Member};
use super::roster::{Change, Publication};
use super::signal::Request;
use crate::connect::Event;
use crate::connect::intake::Intake;

impl Member {
    pub(super) async fn tell_connected(&mut self) {
        if !std::mem::replace(&mut self.told_connected, true) {
            self.intake.tell_media(Input::Connected).await;
        }
        for change in std::mem::take(&mut self.held_back) {
            tell(&self.intake, change).await;
        }
    }

    /// Tells the driver, and the server which tracks we want of those that are new.
    pub(super) async fn announce(&mut self, changes: Vec<Change>) -> Result<(), Lost> {
        let published = changes.iter().filter_map(|change| match change {
            Change::Published(publication) => Some(publication.sid.clone()),
            _ => None,
        });
        let track_sids: Vec<String> = published.collect();
        if self.told_connected {
            for change in changes {
                tell(&self.intake, change).await;
            }
        } else {
            self.held_back.extend(changes);
        }
        if track_sids.is_empty() || self.config.wanted.everything() {
            return Ok(());
        }
        self.send(Request::Subscription(proto::UpdateSubscription { track_sids, subscribe: true, ..Default::default() })).await
    }
}

/// The driver hears of a publication before packets may name it.
async fn tell(intake: &Intake, change: Change) {
    let input = match change {
        Change::Joined { participant, identity } => {
            let escaped = names::escape(&identity);
            Input::Joined { participant, identity, escaped }
        }
        Change::Left { participant } => Input::Left { participant },
        Change::Published(publication) => {
            let Publication { track, participant, sid, source, codec, muted, encrypted } = publication;
            intake.tell_media(Input::Published { track, participant, source, codec, muted }).await;
            if encrypted {
                intake.tell(Event::Encrypted(track)).await;
            }
            return intake.claim(&sid, track, codec != Codec::Other);
        }
        Change::Unpublished { track, sid } => {
            intake.retire(&sid);
            Input::Unpublished { track }
        }
        Change::Muted { track } => Input::Muted { track },
        Change::Unmuted { track } => Input::Unmuted { track },
    };
    intake.tell_media(input).await;
}

//! What the driver hears of the room.

use recorder_media::{Codec, Input};
use recording_crds::names;

use super::member::Member;
use super::roster::{Change, Publication};
use crate::connect::Event;
use crate::connect::intake::Intake;

impl Member {
    pub(super) async fn tell_connected(&mut self) {
        if !std::mem::replace(&mut self.told_connected, true) {
            self.intake.tell_media(Input::Connected).await;
        }
    }

    /// At once, also before media flows: the driver's answer says which of the new tracks the server shall send.
    pub(super) async fn announce(&mut self, changes: Vec<Change>) {
        for change in changes {
            tell(&self.intake, change).await;
        }
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
            let Publication { track, participant, sid, source, codec, muted, encrypted, .. } = publication;
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

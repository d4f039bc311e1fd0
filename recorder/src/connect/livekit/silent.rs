//! Tracks that were subscribed to and of which nothing ever came: the server is asked once more.
//!
//! A server may lose a subscription on the way (it races with the publication, or a worker of it gives up), and then says nothing: only the
//! packets that do not come tell. A publisher that has nothing to send looks the same; asking again costs it nothing.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A subscription that works brings its first packet within a second or two.
const FIRST_PATIENCE: Duration = Duration::from_secs(4);
/// It doubles with every try, up to this: each costs two offers and answers.
const LONGEST_PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Waiting {
    since: Instant,
    tries: u32,
}

impl Waiting {
    fn patience(&self) -> Duration {
        FIRST_PATIENCE.saturating_mul(1 << self.tries.min(8)).min(LONGEST_PATIENCE)
    }
}

/// By the server's names of tracks.
#[derive(Debug, Default)]
pub(super) struct Silent(HashMap<String, Waiting>);

impl Silent {
    /// `expected`: every track that is subscribed to, not muted, and of which no packet has come in this membership. Returns those that have
    /// been waited for in vain, each once for each time.
    pub(super) fn overdue<'a>(&mut self, now: Instant, expected: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut before = std::mem::take(&mut self.0);
        let mut overdue = vec![];
        for sid in expected {
            let mut waiting = before.remove(sid).unwrap_or(Waiting { since: now, tries: 0 });
            if now.duration_since(waiting.since) >= waiting.patience() {
                waiting = Waiting { since: now, tries: waiting.tries + 1 };
                overdue.push(sid.to_owned());
            }
            self.0.insert(sid.to_owned(), waiting);
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_come_is_asked_for_less_and_less_often() {
        let (mut silent, start) = (Silent::default(), Instant::now());
        let asked: Vec<u64> =
            (0..200).filter(|s| !silent.overdue(start + Duration::from_secs(*s), ["TR_a"].into_iter()).is_empty()).collect();
        assert_eq!(asked, [4, 12, 28, 60, 120, 180]);
    }

    #[test]
    fn what_came_or_was_muted_meanwhile_is_waited_for_from_the_beginning() {
        let (mut silent, start) = (Silent::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(silent.overdue(at(0), ["TR_a", "TR_b"].into_iter()).is_empty());
        assert!(silent.overdue(at(3), ["TR_b"].into_iter()).is_empty());
        assert_eq!(silent.overdue(at(5), ["TR_a", "TR_b"].into_iter()), ["TR_b"]);
        assert_eq!(silent.overdue(at(9), ["TR_a", "TR_b"].into_iter()), ["TR_a"]);
    }
}

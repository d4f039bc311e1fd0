//! Packets of one SSRC wait here, in order of sequence, until retransmissions had their chance.

use bytes::Bytes;
use std::collections::BTreeMap;

use crate::time::Tick;

/// Beyond this much the oldest packets leave early: 10 s at 25 Mbit/s.
pub(crate) const MAX_BYTES: usize = 32 << 20;

/// The value congruent to `value` modulo 2^bits that is nearest to `near` (RFC 3550 appendix A.1's idea, for any width).
pub(crate) fn unwrap(near: i64, value: u64, bits: u32) -> i64 {
    let span = 1i64 << bits;
    let ahead = (value as i64 - near).rem_euclid(span);
    near + if ahead > span / 2 { ahead - span } else { ahead }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Unwrapped RTP timestamp.
    pub rtp: i64,
    pub marker: bool,
    /// Degrees clockwise.
    pub rotation: u16,
    pub payload: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    New,
    Duplicate,
    /// Its place has left the line already.
    TooLate,
}

/// Sequence numbers up to `end` (exclusive) that have not come.
#[derive(Clone, Copy, Debug)]
struct Hole {
    end: i64,
    /// When the packet behind it came.
    since: Tick,
}

#[derive(Debug, Default)]
pub(crate) struct DelayLine {
    held: BTreeMap<i64, Held>,
    /// What is missing between held packets, by the first number of each stretch.
    holes: BTreeMap<i64, Hole>,
    /// The sequence number that leaves next; None before the first left.
    next: Option<i64>,
    highest: Option<i64>,
    bytes: usize,
}

impl DelayLine {
    /// The unwrapped sequence number, near the highest one seen.
    pub(crate) fn sequence(&self, sequence: u16) -> i64 {
        match self.highest {
            // One cycle up, so that what is reordered before the first packet stays positive.
            None => i64::from(sequence) + 0x1_0000,
            Some(highest) => unwrap(highest, u64::from(sequence), 16),
        }
    }

    pub(crate) fn highest(&self) -> Option<i64> {
        self.highest
    }

    pub(crate) fn insert(&mut self, now: Tick, sequence: i64, packet: Held) -> Taken {
        if self.next.is_some_and(|next| sequence < next) {
            return Taken::TooLate;
        }
        if self.held.contains_key(&sequence) {
            return Taken::Duplicate;
        }
        self.misses(now, sequence);
        self.highest = Some(self.highest.map_or(sequence, |h| h.max(sequence)));
        self.bytes += packet.payload.len();
        self.held.insert(sequence, packet);
        Taken::New
    }

    /// Keeps the holes, for a packet that is new.
    fn misses(&mut self, now: Tick, sequence: i64) {
        match self.highest {
            Some(highest) if sequence > highest + 1 => drop(self.holes.insert(highest + 1, Hole { end: sequence, since: now })),
            Some(highest) if sequence < highest => {
                let Some((&start, &hole)) = self.holes.range(..=sequence).next_back().filter(|(_, hole)| sequence < hole.end) else {
                    return;
                };
                self.holes.remove(&start);
                if start < sequence {
                    self.holes.insert(start, Hole { end: sequence, ..hole });
                }
                if sequence + 1 < hole.end {
                    self.holes.insert(sequence + 1, hole);
                }
            }
            _ => {}
        }
    }

    /// The last number of the newest hole that has stood open since before `then`.
    pub(crate) fn open_since(&self, then: Tick) -> Option<i64> {
        self.holes.values().rev().find(|hole| hole.since <= then).map(|hole| hole.end - 1)
    }

    pub(crate) fn head(&self) -> Option<&Held> {
        self.held.values().next()
    }

    pub(crate) fn is_over_full(&self) -> bool {
        self.bytes > MAX_BYTES
    }

    /// The first packet and how many are missing before it: only now are they lost.
    pub(crate) fn pop(&mut self) -> Option<(u64, Held)> {
        let (sequence, packet) = self.held.pop_first()?;
        let missing = self.next.map_or(0, |next| sequence - next);
        assert!(missing >= 0, "packets leave in order");
        self.next = Some(sequence + 1);
        while self.holes.first_entry().is_some_and(|hole| *hole.key() < sequence) {
            self.holes.pop_first();
        }
        self.bytes -= packet.payload.len();
        Some((missing as u64, packet))
    }

    /// Whether there is such a packet behind this number; None: anywhere.
    pub(crate) fn any_behind(&self, sequence: Option<i64>, wanted: impl Fn(&Held) -> bool) -> bool {
        self.held.range(sequence.map_or(i64::MIN, |n| n + 1)..).any(|(_, held)| wanted(held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn held(n: i64) -> Held {
        Held { rtp: n, marker: true, rotation: 0, payload: Bytes::new() }
    }

    fn drain(line: &mut DelayLine) -> Vec<(u64, i64)> {
        std::iter::from_fn(|| line.pop()).map(|(missing, p)| (missing, p.rtp)).collect()
    }

    proptest! {
        #[test]
        fn unwrapping_follows_any_steps_below_half_a_cycle(start in 0i64..1 << 40, steps in prop::collection::vec(-32_000i64..32_000, 1..100)) {
            let mut at = start;
            for step in steps {
                let next = at + step;
                prop_assert_eq!(unwrap(at, (next & 0xffff) as u64, 16), next);
                at = next;
            }
        }

        #[test]
        fn any_permutation_within_the_line_leaves_in_order(order in Just((0..200i64).collect::<Vec<_>>()).prop_shuffle(), first in 0u16..=u16::MAX) {
            let mut line = DelayLine::default();
            for n in &order {
                let sequence = line.sequence(first.wrapping_add(*n as u16));
                prop_assert_eq!(line.insert(Tick(0), sequence, held(*n)), Taken::New);
            }
            prop_assert_eq!(drain(&mut line), (0..200).map(|n| (0, n)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn loss_is_counted_when_the_packet_behind_it_leaves_and_a_straggler_is_refused() {
        let mut line = DelayLine::default();
        for n in [10, 11, 15] {
            line.insert(Tick(0), n, held(n));
        }
        assert_eq!(line.insert(Tick(0), 11, held(11)), Taken::Duplicate);
        assert_eq!(drain(&mut line), vec![(0, 10), (0, 11), (3, 15)]);
        assert_eq!(line.insert(Tick(0), 13, held(13)), Taken::TooLate);
    }
}

//! When each picture must be decoded: pictures come in decoding order with the time at which they are shown.

use std::collections::VecDeque;

/// A stream that begins, or goes on after a pause, decodes its first pictures this much apart: 1/30 s, RTP ticks.
const FIRST_STEP: i64 = 3_000;
/// A key frame this much after all before it follows a pause: its decoding does not begin back then. RTP ticks.
const PAUSE: i64 = 18_000;
/// A decoder keeps at most 16 pictures, so no more can be out of order (ISO/IEC 14496-10 section A.3.1).
const REORDERED_MAX: usize = 16;

/// Pictures are decoded at most this much before their place; clock references run ahead of them by more. RTP ticks, 1/2 s: as deep as a
/// decoder's memory at 30 pictures a second.
pub(crate) const DELAY_MAX: i64 = 45_000;

/// A picture's times, RTP ticks: that of its place in decoding order, and what is shown and decoded around it.
///
/// Places follow each other like pictures on the screen; a key frame's is when it is shown. Without reordering all three are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// Strictly increases.
    pub place: i64,
    pub order: Order,
}

/// Where a picture is shown and decoded, seen from its place; ticks of 1/90000 s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    /// Negative for B-frames.
    pub shown_after: i64,
    pub decoded_before: i64,
}

/// A window over the times at which pictures are shown. As many wait in it as may be out of order; the earliest of them and the new one is
/// the time at which the new one is decoded. So the delay is constant, and nothing is delayed where nothing is reordered.
#[derive(Debug, Default)]
pub(crate) struct DecodeTimes {
    depth: usize,
    waiting: Vec<i64>,
    /// When the last pictures are shown, newest last.
    recent: VecDeque<i64>,
    last_decoded: Option<i64>,
    last_place: Option<i64>,
    /// Of the last key frame, from decoding to showing.
    delay: i64,
    /// How far a picture was shown behind its place.
    pub(crate) furthest: i64,
}

impl DecodeTimes {
    /// The next picture in decoding order, shown at this time. `reordered`: as its headers say; else the depth is learned from what comes,
    /// which costs the first pictures that are out of order their exact time.
    pub(crate) fn next(&mut self, shown: i64, key: bool, reordered: Option<u8>) -> Times {
        let newest = self.recent.iter().max().copied();
        if key {
            self.recent.clear();
        }
        let out_of_order = self.recent.iter().filter(|earlier| **earlier > shown).count();
        self.depth = self.depth.max(out_of_order).max(reordered.map_or(0, usize::from)).min(REORDERED_MAX);
        if key && newest.is_none_or(|newest| shown - newest > PAUSE) {
            self.waiting = (1..=self.depth as i64).map(|n| shown - n * FIRST_STEP).collect();
        }
        self.remember(shown);
        let mut decoded = after(self.last_decoded, self.exchange(shown));
        if key {
            decoded = decoded.max(shown - DELAY_MAX);
            self.delay = (shown - decoded).max(0);
        }
        let place = after(self.last_place, decoded + self.delay);
        let decoded = decoded.max(place - DELAY_MAX);
        let shown = shown.max(decoded);
        (self.last_decoded, self.last_place) = (Some(decoded), Some(place));
        self.furthest = self.furthest.max(shown - place);
        Times { place, order: Order { shown_after: shown - place, decoded_before: place - decoded } }
    }

    fn remember(&mut self, shown: i64) {
        self.recent.push_back(shown);
        if self.recent.len() > REORDERED_MAX {
            self.recent.pop_front();
        }
    }

    /// Puts a time into the window and takes the earliest out, unless the window has to grow.
    fn exchange(&mut self, shown: i64) -> i64 {
        self.waiting.push(shown);
        let (at, earliest) = self.waiting.iter().copied().enumerate().min_by_key(|(_, time)| *time).unwrap_or((0, shown));
        if self.waiting.len() > self.depth {
            self.waiting.swap_remove(at);
        }
        earliest
    }
}

/// Strictly behind the last one.
fn after(last: Option<i64>, time: i64) -> i64 {
    last.map_or(time, |last| time.max(last + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown_and_decoded(times: Times) -> (i64, i64) {
        (times.place + times.order.shown_after, times.place - times.order.decoded_before)
    }

    /// Pictures in decoding order by the number at which they are shown; the first is a key frame. When they are shown and decoded.
    fn run(order: &[i64], reordered: Option<u8>) -> Vec<(i64, i64)> {
        let mut times = DecodeTimes::default();
        let next = |(n, shown): (usize, &i64)| times.next(shown * 3000, n == 0, reordered.filter(|_| n == 0));
        order.iter().enumerate().map(next).map(shown_and_decoded).collect()
    }

    #[test]
    fn without_reordering_nothing_changes() {
        let expected: Vec<(i64, i64)> = (0..20).map(|n| (n * 3000, n * 3000)).collect();
        assert_eq!(run(&(0..20).collect::<Vec<_>>(), None), expected);
        assert_eq!(run(&(0..20).collect::<Vec<_>>(), Some(0)), expected);
    }

    #[test]
    fn announced_reordering_keeps_every_time_and_decodes_one_interval_apart() {
        // Two B-frames between P-frames, then a pyramid of three.
        for (order, depth) in [([0, 3, 1, 2, 6, 4, 5, 9, 7, 8], 1), ([0, 4, 2, 1, 3, 8, 6, 5, 7, 9], 2)] {
            let times = run(&order, Some(depth));
            assert_eq!(times.iter().map(|t| t.0).collect::<Vec<_>>(), order.map(|n| n * 3000));
            let decoded = times.iter().map(|t| t.1).collect::<Vec<_>>();
            assert_eq!(decoded, (0..10).map(|n| (n - i64::from(depth)) * 3000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn unannounced_reordering_costs_the_first_of_them_their_time_and_no_more() {
        let times = run(&[0, 3, 1, 2, 6, 4, 5, 9, 7, 8], None);
        assert_eq!(times[2..4], [(9001, 9001), (9002, 9002)], "too late for these");
        assert_eq!(times[4..].iter().map(|t| t.0).collect::<Vec<_>>(), [6, 4, 5, 9, 7, 8].map(|n| n * 3000));
        assert_eq!(times[7..].iter().map(|t| t.1).collect::<Vec<_>>(), [6, 7, 8].map(|n| n * 3000), "from then on a constant delay");
    }

    #[test]
    fn after_a_pause_decoding_does_not_begin_before_it() {
        let mut times = DecodeTimes::default();
        for (n, shown) in [0, 3, 1, 2].into_iter().enumerate() {
            times.next(shown * 3000, n == 0, Some(1));
        }
        assert_eq!(shown_and_decoded(times.next(900_000, true, Some(1))), (900_000, 897_000));
        assert_eq!(shown_and_decoded(times.next(909_000, false, None)), (909_000, 900_000));
    }

    #[test]
    fn places_are_in_order_and_a_key_frame_has_its_own() {
        let mut times = DecodeTimes::default();
        let order = [0, 3, 1, 2, 6, 4, 5, 7, 10, 8, 9];
        let places = order.iter().map(|shown| times.next(shown * 3000, [0, 7].contains(shown), Some(1)).place / 3000);
        assert_eq!(places.collect::<Vec<_>>(), (0..11).collect::<Vec<_>>());
        assert_eq!(times.furthest, 6000, "a P-frame comes two places before it is shown");
        let mut plain = DecodeTimes::default();
        let plain = (0..9).map(|n| plain.next(n * 3000, n == 0, None)).collect::<Vec<_>>();
        assert!(plain.iter().enumerate().all(|(n, times)| *times == Times { place: n as i64 * 3000, order: Order::default() }));
    }

    proptest! {
        #[test]
        fn whatever_comes_decoding_is_in_order_and_never_after_showing(steps in prop::collection::vec((-20i64..40, any::<bool>(), prop::option::of(0u8..20)), 1..100)) {
            let (mut times, mut at, mut last) = (DecodeTimes::default(), 0, (i64::MIN, i64::MIN));
            for (step, key, reordered) in steps {
                at += step * 3000;
                let next = times.next(at, key, reordered);
                let (shown, decoded) = shown_and_decoded(next);
                prop_assert!(decoded > last.0 && next.place > last.1 && decoded <= shown && shown >= at);
                prop_assert!((0..=DELAY_MAX).contains(&next.order.decoded_before));
                last = (decoded, next.place);
            }
        }
    }
}

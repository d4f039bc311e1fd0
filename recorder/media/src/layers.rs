//! After a loss: which pictures of a stream with temporal layers can still be decoded (VP8 and VP9).
//!
//! A picture refers to its own layer and those below, and TL0PICIDX counts the pictures of the base layer (RFC 7741 section 4.2, RFC 9628
//! section 4.2): this is how SFUs thin streams out, and it proves what a loss did not touch.

use crate::depacketizer::Reference;

/// What a payload descriptor says of its picture's place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// 7 or 15 bits, and how many.
    pub picture_id: Option<(u16, u32)>,
    /// TL0PICIDX.
    pub base: Option<u8>,
    /// 0 = base layer.
    pub temporal: Option<u8>,
    /// This picture and those after it refer, above the base layer, to nothing before it.
    pub switches_up: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Layers {
    /// Something may be missing before the next picture.
    suspect: bool,
    /// From this layer on upwards references are missing; 0: everything is.
    broken_from: Option<u8>,
    last_id: Option<u16>,
    last_base: Option<u8>,
}

impl Layers {
    pub(crate) fn loss(&mut self) {
        self.suspect = true;
    }

    /// A picture was damaged that nothing refers to.
    pub(crate) fn discardable_lost(&mut self, place: Place) {
        if self.follows(place) {
            self.last_id = place.picture_id.map(|(id, _)| id);
        }
    }

    /// The picture IDs say that none is missing in between.
    fn follows(&self, place: Place) -> bool {
        let (Some(last), Some((id, bits))) = (self.last_id, place.picture_id) else { return false };
        id == last.wrapping_add(1) & ((1 << bits) - 1) as u16
    }

    /// The next whole picture.
    pub(crate) fn next(&mut self, key: bool, place: Place) -> Reference {
        let suspect = std::mem::take(&mut self.suspect);
        if key {
            self.broken_from = None;
        } else if suspect && !self.follows(place) {
            self.broken_from = Some(self.broken_from.unwrap_or(u8::MAX).min(self.first_broken(place)));
        }
        let reference = if key { Reference::Key } else { self.reference(place) };
        self.last_id = place.picture_id.map(|(id, _)| id);
        if key || place.temporal == Some(0) {
            self.last_base = place.base;
        }
        reference
    }

    /// The lowest layer of which something may have been lost.
    fn first_broken(&self, place: Place) -> u8 {
        let (Some(last), Some(base), Some(temporal)) = (self.last_base, place.base, place.temporal) else { return 0 };
        let expected = if temporal == 0 { last.wrapping_add(1) } else { last };
        u8::from(base == expected)
    }

    fn reference(&mut self, place: Place) -> Reference {
        let temporal = place.temporal.unwrap_or(0);
        match self.broken_from {
            None => Reference::Intact,
            Some(0) => Reference::Lost,
            Some(broken) if temporal < broken => Reference::Intact,
            Some(broken) if place.switches_up && place.base == self.last_base => {
                if temporal == broken {
                    self.broken_from = Some(broken + 1);
                }
                Reference::Intact
            }
            Some(_) => Reference::Skipped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Reference::*;

    /// The pattern 0 2 1 2: picture `n` of an endless stream.
    fn place(n: u16) -> Place {
        let temporal = [0, 2, 1, 2][usize::from(n % 4)];
        let base = Some((n / 4) as u8);
        Place { picture_id: Some((n & 0x7fff, 15)), base, temporal: Some(temporal), switches_up: n % 4 == 1 || n % 4 == 2 }
    }

    fn run(lost: &[u16], pictures: std::ops::Range<u16>) -> Vec<Reference> {
        let mut layers = Layers::default();
        let mut seen = Vec::new();
        for n in pictures.clone() {
            if lost.contains(&n) {
                layers.loss();
            } else {
                seen.push(layers.next(n == pictures.start, place(n)));
            }
        }
        seen
    }

    #[test]
    fn a_lost_picture_of_an_upper_layer_costs_only_what_may_refer_to_it() {
        // 5 is of layer 2: 6 (layer 1) refers to the base alone, 7 (layer 2) might refer to 5, 9 begins layer 2 anew.
        assert_eq!(run(&[5], 0..12), [Key, Intact, Intact, Intact, Intact, Intact, Skipped, Intact, Intact, Intact, Intact]);
    }

    #[test]
    fn a_lost_picture_of_the_base_layer_costs_everything() {
        assert_eq!(run(&[4], 0..8), [Key, Intact, Intact, Intact, Lost, Lost, Lost]);
        assert_eq!(run(&[3, 4, 5], 0..8), [Key, Intact, Intact, Lost, Lost], "together with its neighbours too");
    }

    #[test]
    fn lost_padding_costs_nothing_and_no_numbers_prove_nothing() {
        let mut layers = Layers::default();
        let numbered = |n: u16| Place { picture_id: Some((n, 7)), ..Place::default() };
        assert_eq!(layers.next(true, numbered(127)), Key);
        layers.loss();
        assert_eq!(layers.next(false, numbered(0)), Intact, "7 bits wrap");
        layers.discardable_lost(numbered(1));
        layers.loss();
        assert_eq!(layers.next(false, numbered(2)), Intact);
        layers.loss();
        assert_eq!(layers.next(false, numbered(4)), Lost);
        let mut silent = Layers::default();
        assert_eq!(silent.next(true, Place::default()), Key);
        assert_eq!(silent.next(false, Place::default()), Intact);
        silent.loss();
        assert_eq!(silent.next(false, Place::default()), Lost);
    }

    #[test]
    fn a_stream_that_begins_without_a_key_frame_after_a_loss_is_lost() {
        let mut layers = Layers::default();
        layers.loss();
        assert_eq!(layers.next(false, place(3)), Lost);
    }
}

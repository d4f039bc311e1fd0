//! The payload descriptor (RFC 9628 section 4.2).

use crate::layers::Place;

/// A picture refers to at most so many earlier ones.
const REFERENCES_MAX: usize = 3;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// Bytes.
    pub length: usize,
    /// First and last packet of a layer frame.
    pub begins: bool,
    pub ends: bool,
    /// Refers to earlier pictures.
    pub predicted: bool,
    pub flexible: bool,
    pub place: Place,
    pub spatial: u8,
    /// Refers to the next lower spatial layer of the same picture.
    pub depends_on_lower: bool,
    /// Flexible mode: how many pictures back each reference is.
    pub references: Vec<u8>,
    /// Of each spatial layer, from the scalability structure.
    pub sizes: Option<Vec<(u32, u32)>>,
}

impl Descriptor {
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let mut bytes = payload.iter().copied();
        let first = bytes.next()?;
        let flag = |bit: u8| first & bit != 0;
        let mut this = Self { predicted: flag(0x40), flexible: flag(0x10), begins: flag(0x08), ends: flag(0x04), ..Self::default() };
        if flag(0x80) {
            let id = bytes.next()?;
            this.place.picture_id = Some(match id & 0x80 {
                0 => (u16::from(id), 7),
                _ => (u16::from_be_bytes([id & 0x7f, bytes.next()?]), 15),
            });
        }
        if flag(0x20) {
            this.layer_indices(&mut bytes)?;
        }
        if this.flexible && this.predicted {
            this.references(&mut bytes)?;
        }
        if flag(0x02) {
            this.structure(&mut bytes)?;
        }
        this.length = payload.len() - bytes.len();
        Some(this)
    }

    fn layer_indices(&mut self, bytes: &mut impl Iterator<Item = u8>) -> Option<()> {
        let indices = bytes.next()?;
        self.place.temporal = Some(indices >> 5);
        self.place.switches_up = indices & 0x10 != 0;
        self.spatial = indices >> 1 & 7;
        self.depends_on_lower = indices & 1 != 0;
        if !self.flexible {
            self.place.base = Some(bytes.next()?);
        }
        Some(())
    }

    fn references(&mut self, bytes: &mut impl Iterator<Item = u8>) -> Option<()> {
        loop {
            let reference = bytes.next()?;
            self.references.push(reference >> 1);
            if reference & 1 == 0 {
                return Some(());
            }
            if self.references.len() == REFERENCES_MAX {
                return None;
            }
        }
    }

    fn structure(&mut self, bytes: &mut impl Iterator<Item = u8>) -> Option<()> {
        let header = bytes.next()?;
        let layers = usize::from(header >> 5) + 1;
        if header & 0x10 != 0 {
            let mut side = || Some(u32::from(u16::from_be_bytes([bytes.next()?, bytes.next()?])));
            self.sizes = Some((0..layers).map(|_| Some((side()?, side()?))).collect::<Option<_>>()?);
        }
        if header & 0x08 != 0 {
            for _ in 0..bytes.next()? {
                let references = bytes.next()? >> 2 & 3;
                for _ in 0..references {
                    bytes.next()?;
                }
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_and_the_longest() {
        assert_eq!(Descriptor::parse(&[]), None);
        let least = Descriptor::parse(&[0x0c, 1]).expect("a descriptor");
        assert_eq!((least.length, least.begins, least.ends, least.predicted), (1, true, true, false));
        // I L B E V, 15 bit picture ID, layer 0 of 2 with switching up, TL0PICIDX, structure with two sizes and a group of two pictures.
        let head = [0xae, 0x81, 0x02, 0x10, 9];
        let structure = [0x38, 1, 64, 0, 180, 2, 128, 1, 104, 2, 0x00, 0x24, 1];
        let whole = [&head[..], &structure, &[0x82]].concat();
        let parsed = Descriptor::parse(&whole).expect("a descriptor");
        assert_eq!(parsed.length, whole.len() - 1);
        assert_eq!(parsed.sizes, Some(vec![(320, 180), (640, 360)]));
        assert_eq!(parsed.place, Place { picture_id: Some((0x102, 15)), base: Some(9), temporal: Some(0), switches_up: true });
        for cut in 0..whole.len() - 1 {
            assert_eq!(Descriptor::parse(&whole[..cut]), None, "cut to {cut}");
        }
    }

    #[test]
    fn flexible_mode_has_references_instead_of_a_base_index() {
        // I P L F B, 7 bit picture ID, temporal 1 spatial 2 depending on the lower, references 1 and 3 back.
        let parsed = Descriptor::parse(&[0xf8, 5, 0x25, 0x03, 0x06, 0xaa]).expect("a descriptor");
        assert_eq!((parsed.length, parsed.references.as_slice()), (5, [1, 3].as_slice()));
        assert_eq!((parsed.place.base, parsed.place.temporal, parsed.spatial, parsed.depends_on_lower), (None, Some(1), 2, true));
        assert_eq!(Descriptor::parse(&[0xd8, 5, 3, 3, 3, 2]), None, "four references");
    }
}

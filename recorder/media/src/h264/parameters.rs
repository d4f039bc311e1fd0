//! Parameter sets: which are in force.

use super::{PPS, SPS, Sps, nal_type};
use crate::bits::Bits;
use bytes::Bytes;
use std::collections::BTreeMap;

/// The parameter sets in force, by id.
#[derive(Debug, Default)]
pub(crate) struct ParameterSets {
    sps: BTreeMap<u32, Bytes>,
    pps: BTreeMap<u32, Bytes>,
}

impl ParameterSets {
    /// Remembers the sets of a unit and returns those that are new: these must be written even outside an IDR picture.
    pub(crate) fn learn(&mut self, nals: &[Bytes]) -> Vec<Bytes> {
        let mut new = Vec::new();
        for nal in nals {
            let (store, skip) = match nal_type(nal) {
                SPS => (&mut self.sps, 4),
                PPS => (&mut self.pps, 1),
                _ => continue,
            };
            let id = Bits::rbsp(nal.get(skip..).unwrap_or_default()).ue();
            let Some(id) = id.filter(|id| *id < 256) else { continue };
            if store.insert(id, nal.clone()).as_ref() != Some(nal) {
                new.push(nal.clone());
            }
        }
        new
    }

    /// The sequence's, of the first one there is; None while no SPS came.
    pub(super) fn sequence(&self) -> Option<Sps> {
        self.sps.values().next().and_then(|sps| Sps::parse(sps))
    }

    /// The sequence that a picture parameter set belongs to.
    pub(super) fn sequence_of(&self, pps: u32) -> Option<Sps> {
        let mut bits = Bits::rbsp(self.pps.get(&pps)?.get(1..)?);
        bits.ue()?; // pic_parameter_set_id
        Sps::parse(self.sps.get(&bits.ue()?)?)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Bytes> {
        self.sps.values().chain(self.pps.values())
    }
}

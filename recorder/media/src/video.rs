//! From a track's packets to pictures that may be written: nothing between a loss and the next IDR picture, nothing of the SFU's own filler.

use crate::delay_line::Held;
use crate::h264::{self, Assembled, Assembler, ParameterSets};
use bytes::Bytes;

/// LiveKit's blank pictures are 2x2 or 8x8; no camera sends less than a macroblock.
const LEAST_SIDE: u32 = 16;

#[derive(Debug)]
pub(crate) struct Picture {
    pub rtp: i64,
    pub key: bool,
    pub size: (u32, u32),
    /// Byte stream with AUD, parameter sets before an IDR.
    pub data: Bytes,
}

#[derive(Debug)]
pub(crate) enum VideoEvent {
    Picture(Picture),
    /// A picture at this RTP time cannot be written: damaged, or it refers to one that is.
    Unusable {
        rtp: i64,
    },
    /// The SFU's filler: as if muted.
    Blank {
        rtp: i64,
    },
}

#[derive(Debug, Default)]
pub(crate) struct VideoInput {
    assembler: Assembler,
    sets: ParameterSets,
    size: Option<(u32, u32)>,
    /// Pictures can be decoded: an IDR came and nothing was lost since.
    pub(crate) in_sync: bool,
    blank: bool,
    /// Whole access units from the first IDR picture on.
    pub(crate) received: u64,
}

impl VideoInput {
    pub(crate) fn open(&self) -> Option<i64> {
        self.assembler.open()
    }

    /// The next packet of the line, `missing` of them lost before it.
    pub(crate) fn packet(&mut self, missing: u64, packet: &Held) -> Vec<VideoEvent> {
        if missing > 0 {
            self.assembler.loss();
            self.in_sync = false;
        }
        let assembled = self.assembler.push(packet.rtp, packet.marker, &packet.payload);
        assembled.into_iter().map(|unit| self.unit(unit)).collect()
    }

    /// The stream ended: what is open will not be completed by a later packet.
    pub(crate) fn resync(&mut self) {
        self.assembler = Assembler::default();
        self.in_sync = false;
    }

    fn unit(&mut self, unit: Assembled) -> VideoEvent {
        let (rtp, nals) = match unit {
            Assembled::Whole { rtp, nals } => (rtp, nals),
            Assembled::Damaged { rtp } => {
                self.in_sync = false;
                return VideoEvent::Unusable { rtp };
            }
        };
        let new_sets = self.sets.learn(&nals);
        let key = nals.iter().any(|nal| h264::nal_type(nal) == h264::IDR);
        if key {
            self.size = self.sets.size();
            self.blank = self.size.is_some_and(|(w, h)| w < LEAST_SIDE || h < LEAST_SIDE);
            self.in_sync = self.size.is_some();
        }
        if self.blank {
            return VideoEvent::Blank { rtp };
        }
        self.received += u64::from(self.size.is_some());
        match self.size.filter(|_| self.in_sync) {
            None => VideoEvent::Unusable { rtp },
            Some(size) => {
                let data = h264::annex_b(&nals, key, &self.sets, &new_sets);
                VideoEvent::Picture(Picture { rtp, key, size, data })
            }
        }
    }
}

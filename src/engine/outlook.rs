//! How soon the servers could bring more than they are asked for: what a pass weighs each block's peers against.
//!
//! Invariant: found once for the many blocks of a pass, it holds until something is asked of a server, granted or brought.

use crate::units::BLOCK_LEN;

/// How soon one origin would bring more than is asked of it already.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// Seconds that it is left alone for yet.
    pub rest: f64,
    /// Seconds.
    pub round_trip: f64,
    /// Bytes that it is to bring before.
    pub queued: f64,
    /// Bits that may be asked for without another bid; no bound where none has to be made.
    pub free: f64,
    /// Bytes per second.
    pub rate: f64,
}

impl Way {
    /// Seconds until so many bytes more would be here, without margin.
    fn time_for(&self, bytes: f64) -> f64 {
        // Without a grant there is a bid to be answered first.
        let trips = if self.free < bytes * 8.0 { 2.0 } else { 1.0 };
        self.rest + trips * self.round_trip + (self.queued + bytes) / self.rate
    }
}

/// What all origins could bring from one moment on.
#[derive(Debug, Clone, Default)]
pub(super) struct Outlook {
    pub ways: Vec<Way>,
    /// Seconds.
    pub margin: f64,
    /// Blocks more that may be asked for now.
    pub blocks: usize,
}

impl Outlook {
    /// Seconds until `blocks` more blocks would be here, from the origin that is first, with margin.
    pub fn time_for(&self, blocks: usize) -> f64 {
        let bytes = blocks as f64 * f64::from(BLOCK_LEN);
        let of = |w: &Way| w.time_for(bytes) + self.margin;
        self.ways.iter().map(of).min_by(f64::total_cmp).unwrap_or(f64::INFINITY)
    }

    /// Whether there is an origin to count on.
    pub fn usable(&self) -> bool {
        !self.ways.is_empty()
    }

    /// Whether `blocks` more blocks may be asked for now: granted, or of a server that grants each bid to itself.
    pub fn affords(&self, blocks: usize) -> bool {
        blocks <= self.blocks
    }
}

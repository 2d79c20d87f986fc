//! What an origin is told and what it tells.

use std::time::Duration;

use bytes::Bytes;

use crate::units::{ByteRange, FetchId, OriginId};

/// Which URL holds which bytes of torrent space. One part for a single file; one per file for a folder (BEP 19).
/// Parts are sorted and do not overlap; padding is in none and is never asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginMap {
    pub parts: Vec<OriginPart>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginPart {
    pub range: ByteRange,
    pub url: String,
}

/// From an origin to the driver, over a bounded channel.
#[derive(Debug)]
pub enum OriginEvent {
    /// The probe came back: it serves ranges and the length is what the torrent says. `bidding`: whether it takes bids, where
    /// one was answered before.
    Up { origin: OriginId, bidding: Option<bool>, rtt: Option<Duration> },
    /// Left alone from now on, in words for the user that read on after the server's name ("ignores Range", "has a
    /// file of 3 bytes, not 734003200"). An `Up` follows only where it could not be reached, or was busy and asked us
    /// to wait: it is tried again by itself.
    Down { origin: OriginId, reason: String },
    /// The answer to a bid: so many bits within `life`, under this name.
    Granted { origin: OriginId, name: String, bits: u64, life: Duration },
    /// A bid came to nothing; `plain`: the server knows nothing of bids.
    BidFailed { origin: OriginId, plain: bool },
    /// Bytes in order within a fetch; any length.
    Bytes { fetch: FetchId, offset: u64, data: Bytes },
    /// The whole range was delivered.
    Done { fetch: FetchId },
    /// It broke and resuming failed too. What was delivered stays.
    Failed { fetch: FetchId, reason: String },
}

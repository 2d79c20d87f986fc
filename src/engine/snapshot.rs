//! What the engine shows of itself: one plain value, made on demand, for the window and for reports.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::units::{Instant, LinkId, OriginId, PieceIndex};

/// Where a piece's bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Origin {
    #[default]
    None,
    Peers,
    Server,
    /// Blocks of both.
    Both,
    /// On disk from an earlier run.
    Disk,
}

/// How far a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PieceState {
    #[default]
    Missing,
    /// Some blocks are here or asked for.
    Begun,
    /// All blocks are here, the hash is not checked yet.
    Checking,
    /// Verified.
    Here,
}

/// One piece, as the map and the strip draw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PieceCell {
    pub state: PieceState,
    pub origin: Origin,
    /// A block of it is on its way from a peer or the server now.
    pub on_its_way: bool,
    /// Connected peers that have it.
    pub availability: u16,
    pub blocks_here: u16,
}

/// What play-out waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub piece: PieceIndex,
    pub blocks_here: u32,
    pub blocks: u32,
    /// Connected peers that have the piece.
    pub peers_with_it: u32,
    /// Blocks of it that are on their way.
    pub on_its_way: u32,
    /// A server range covers it now.
    pub from_server: bool,
}

/// Payload bytes since the start of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Totals {
    pub swarm: u64,
    pub server: u64,
    /// Received although already here; counted in `swarm` or `server` too.
    pub duplicate: u64,
    /// In pieces whose hash failed; counted in `swarm` or `server` too.
    pub corrupt: u64,
    pub uploaded: u64,
}

/// One bid and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BidRecord {
    pub at: Instant,
    pub max_bits: u64,
    pub grant_bits: u64,
    pub used_bits: u64,
}

/// One link, as far as the engine knows it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LinkView {
    pub link: LinkId,
    /// Pieces the peer has.
    pub pieces: u32,
    /// It chokes us.
    pub choked: bool,
    /// We are interested in it.
    pub interested: bool,
    /// We choke it.
    pub choking: bool,
    /// It is interested in us.
    pub peer_interested: bool,
    /// Bytes per second, smoothed.
    pub down: f64,
    pub up: f64,
    pub received: u64,
    pub sent: u64,
    pub in_flight: u32,
    pub rtt: Option<Duration>,
}

/// One server, as far as the engine knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerView {
    pub origin: OriginId,
    /// Whether it takes bids; `None` while that is not known.
    pub takes_bids: Option<bool>,
    /// Measured while it sent, bytes per second.
    pub rate: Option<f64>,
    /// Bits granted and not yet asked for.
    pub unspent_bits: u64,
    /// Bytes asked for and not here yet.
    pub on_its_way: u64,
    /// It failed and is left alone for a while.
    pub resting: bool,
}

/// The engine at one moment.
#[derive(Debug, Clone, Default)]
pub struct EngineSnapshot {
    pub at: Instant,
    pub pieces: Arc<[PieceCell]>,
    pub pieces_here: u32,
    /// Pieces of the chosen file, as indices.
    pub file_pieces: std::ops::Range<u32>,
    /// Media ahead of the playhead that is here without a gap, seconds.
    pub ahead_s: f64,
    /// Bounds of the zones, seconds.
    pub urgent_s: f64,
    pub window_s: f64,
    /// Set while the reader or the clock waits.
    pub waiting: Option<Waiting>,
    /// Whether the clock may run.
    pub gate_open: bool,
    pub totals: Totals,
    /// Smoothed over a second, bytes per second.
    pub swarm_rate: f64,
    pub server_rate: f64,
    pub upload_rate: f64,
    /// The last bids, oldest first, at most [`BIDS_KEPT`].
    pub bids: VecDeque<BidRecord>,
    /// Bytes per second the peers are held to for the server's sake.
    pub peer_budget: Option<u64>,
    /// Bytes per second of the access link that this leaves the server.
    pub server_share: u64,
    /// Servers in use.
    pub origins: u32,
    pub servers: Vec<ServerView>,
    pub links: Vec<LinkView>,
}

/// Enough for a two-minute graph at a bid a second.
pub const BIDS_KEPT: usize = 120;

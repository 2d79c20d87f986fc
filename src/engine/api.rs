//! What goes into the engine and what comes out: events, actions.
//!
//! Invariant: everything here is plain data. No payload bytes, sockets, channels or clocks pass this border.

use std::sync::Arc;
use std::time::Duration;

use crate::units::{BlockRef, ByteRange, FetchId, GrantId, Instant, LinkId, MediaTime, OriginId, PieceIndex, PieceSet};

/// What the world tells the engine. Offsets are in torrent space.
#[derive(Debug, Clone)]
pub enum Event {
    /// A peer finished its handshake. It has nothing and chokes us until it says otherwise.
    LinkUp {
        link: LinkId,
        /// Round trip measured while connecting, where known.
        rtt: Option<Duration>,
    },
    /// The peer is gone; whatever was asked of it will not come.
    LinkDown {
        link: LinkId,
    },
    /// All the peer has, replacing what was known.
    Bitfield {
        link: LinkId,
        pieces: PieceSet,
    },
    /// The peer got one more piece.
    Have {
        link: LinkId,
        piece: PieceIndex,
    },
    /// The peer will not answer requests; without the fast extension all outstanding ones are dropped.
    Choked {
        link: LinkId,
    },
    Unchoked {
        link: LinkId,
    },
    /// The peer wants, or no longer wants, something we have.
    Interested {
        link: LinkId,
        interested: bool,
    },
    /// A block we asked for, or did not, was received and is in the store.
    BlockArrived {
        link: LinkId,
        block: BlockRef,
    },
    /// A block was received that is here, or being written, already: its bytes were thrown away.
    BlockDuplicate {
        link: LinkId,
        block: BlockRef,
    },
    /// The peer refused a request (BEP 6).
    BlockRejected {
        link: LinkId,
        block: BlockRef,
    },
    /// The peer gave a piece up again (lt_donthave).
    DontHave {
        link: LinkId,
        piece: PieceIndex,
    },
    /// The peer answers requests for this piece even while it chokes us (BEP 6).
    AllowedFast {
        link: LinkId,
        piece: PieceIndex,
    },
    /// The peer would like us to ask for this piece (BEP 6): it has it in memory, or few have it.
    Suggested {
        link: LinkId,
        piece: PieceIndex,
    },
    /// We told the peer that it may ask for this piece while we choke it (BEP 6).
    FastGranted {
        link: LinkId,
        piece: PieceIndex,
    },
    /// The peer asks for bytes of ours.
    BlockRequested {
        link: LinkId,
        piece: PieceIndex,
        begin: u32,
        len: u32,
    },
    /// The peer withdraws a request.
    BlockUnrequested {
        link: LinkId,
        piece: PieceIndex,
        begin: u32,
        len: u32,
    },
    /// A block was handed to the peer's socket.
    BlockSent {
        link: LinkId,
        len: u32,
    },
    /// The store says that the piece's hash checks.
    PieceVerified {
        piece: PieceIndex,
    },
    /// The store says that the hash of the piece does not check; its bytes are void.
    PieceCorrupt {
        piece: PieceIndex,
    },
    /// A keyed sum of each block of the piece as it lies in the store: told before `PieceCorrupt`, and after [`Action::Sum`].
    Sums {
        piece: PieceIndex,
        sums: Vec<u64>,
    },
    /// What the user allows, bytes per second; `None` is unlimited.
    Limits {
        up: Option<u64>,
        down: Option<u64>,
    },
    /// A server answered its probe and serves ranges.
    OriginUp {
        origin: OriginId,
        /// Whether it takes bids; otherwise each bid is granted by ourselves. `None`: not known yet. Then it is bid to, and
        /// asked without waiting for what it says.
        bidding: Option<bool>,
        rtt: Option<Duration>,
    },
    /// The server is given up: it lied, broke or went away.
    OriginDown {
        origin: OriginId,
    },
    /// All bytes of the fetch before `upto` are in the store.
    ServerBytes {
        fetch: FetchId,
        upto: u64,
    },
    /// The fetch delivered its whole range.
    ServerDone {
        fetch: FetchId,
    },
    /// The fetch ended early; what it delivered stays.
    ServerFailed {
        fetch: FetchId,
    },
    /// The server's answer to a bid.
    Granted {
        origin: OriginId,
        grant: GrantId,
        bits: u64,
        expires: Instant,
    },
    /// A bid came to nothing.
    BidFailed {
        origin: OriginId,
        /// The server knows nothing of bids.
        plain: bool,
    },
    /// The user chose what to play: the bytes of one file.
    FileChosen {
        range: ByteRange,
    },
    /// Where the demuxer reads. Never a deadline by itself.
    ReaderAt {
        offset: u64,
    },
    /// The demuxer waits for these bytes.
    ReaderBlocked {
        range: ByteRange,
    },
    /// The demuxer got what it waited for, or gave up.
    ReaderResumed,
    /// Where the clock is and what the player does.
    Playhead {
        at: MediaTime,
        phase: Phase,
    },
    /// Which bytes are needed when, by the demuxer's own index.
    Timeline(Arc<Timeline>),
    /// Nothing but the passing of time.
    Tick,
}

/// What the player does, as far as deadlines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Reading head and index, or waiting for the start rule; the clock stands.
    #[default]
    Opening,
    /// The clock runs.
    Playing,
    /// The user paused: deadlines stand still.
    Paused,
    /// A seek: the clock stands until the start rule holds at the new place.
    Seeking,
    /// The clock stands for want of bytes; it goes on when the rebuffer rule holds.
    Stalled,
    /// Played to the end.
    Ended,
}

/// What the engine wants done. Carried out in order; none of them fails into the engine but by an [`Event`].
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    Request {
        link: LinkId,
        block: BlockRef,
    },
    Cancel {
        link: LinkId,
        block: BlockRef,
    },
    /// Tell the peer whether we want something it has.
    Interest {
        link: LinkId,
        interested: bool,
    },
    Choke {
        link: LinkId,
        choke: bool,
    },
    /// Read the bytes from the store and send them.
    SendBlock {
        link: LinkId,
        piece: PieceIndex,
        begin: u32,
        len: u32,
    },
    /// Tell the peer that its request will not be answered (BEP 6; a link without the fast extension says nothing).
    RejectBlock {
        link: LinkId,
        piece: PieceIndex,
        begin: u32,
        len: u32,
    },
    /// Hash the piece; answered by `PieceVerified` or `PieceCorrupt`.
    Verify {
        piece: PieceIndex,
    },
    /// Sum each block of a verified piece; answered by `Sums`. To learn which of several givers lied before.
    Sum {
        piece: PieceIndex,
    },
    /// The reader may have these bytes now: checked, or from a server that is trusted so far.
    Playable {
        range: ByteRange,
    },
    /// The piece's bytes are void: the reader may no longer have what was playable of it.
    Void {
        piece: PieceIndex,
    },
    /// Treat this server as gone: it sent bytes whose hash failed.
    DropOrigin {
        origin: OriginId,
    },
    /// Tell every peer that we have the piece now.
    Announce {
        piece: PieceIndex,
    },
    /// Ranged GET, within what was granted.
    Fetch {
        fetch: FetchId,
        origin: OriginId,
        range: ByteRange,
        /// What it is to be counted against, in this order; none at a server that takes no bids.
        grants: Vec<GrantId>,
    },
    AbortFetch {
        fetch: FetchId,
    },
    /// What servers are asked for from here on goes over connections of its own making, not over those that are kept.
    RenewOrigins,
    /// Submit a bid; answered by `Granted` or `BidFailed`.
    Bid {
        origin: OriginId,
        bid: Bid,
    },
    /// How fast all peers together may be read, bytes per second; `None` is unlimited.
    PeerReceiveBudget {
        bytes_per_s: Option<u64>,
    },
    /// More links would help, up to this many in all.
    WantPeers {
        count: u32,
    },
    /// Close the link and take none from this peer again.
    Ban {
        link: LinkId,
    },
    /// Whether the player's clock may run (the start and rebuffer rule).
    Gate {
        open: bool,
    },
}

/// The bid: the maximum number of bits to receive from the server over the horizon.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bid {
    pub max_bits: u64,
    /// Bits that fall due in each second of the horizon.
    pub due_bits: Vec<u64>,
}

/// Which bytes are needed when. Points are sorted by offset and their times never fall.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Timeline {
    /// `(offset within the file, media time at which that byte is first needed)`.
    points: Vec<(u64, MediaTime)>,
    duration: MediaTime,
    file_len: u64,
}

impl Timeline {
    /// Builds a timeline from a demuxer's index, in any order: each entry says that the bytes at `offset` are needed
    /// at `time`. A byte stored before another can be needed later (interleaving), so each point's time is the
    /// earliest of all entries from its offset on. Media whose times start above 0 must be shifted by the caller.
    pub fn new(mut entries: Vec<(u64, MediaTime)>, duration: MediaTime, file_len: u64) -> Self {
        entries.retain(|e| e.0 < file_len);
        entries.sort_unstable();
        let mut least = MediaTime(i64::MAX);
        for e in entries.iter_mut().rev() {
            least = least.min(e.1);
            e.1 = least.max(MediaTime::ZERO);
        }
        entries.dedup_by_key(|e| e.0);
        Self { points: entries, duration, file_len }
    }

    /// Linear in bytes, for a file whose index is not known yet.
    pub fn linear(duration: MediaTime, file_len: u64) -> Self {
        Self { points: Vec::new(), duration, file_len }
    }

    pub fn duration(&self) -> MediaTime {
        self.duration
    }

    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Whether it comes from an index.
    pub fn is_indexed(&self) -> bool {
        !self.points.is_empty()
    }

    /// When the byte at `offset` within the file is needed.
    pub fn time_of(&self, offset: u64) -> MediaTime {
        let (a, b) = match self.points.partition_point(|p| p.0 <= offset) {
            _ if self.points.is_empty() => ((0, MediaTime::ZERO), (self.file_len, self.duration)),
            0 => ((0, MediaTime::ZERO), self.points[0]),
            n if n == self.points.len() => (self.points[n - 1], (self.file_len, self.duration)),
            n => (self.points[n - 1], self.points[n]),
        };
        // Interpolating between points only spreads a sample's bytes over its own time: never later than the next.
        let span = (b.0.max(a.0 + 1) - a.0) as f64;
        let part = (offset.saturating_sub(a.0) as f64 / span).clamp(0.0, 1.0);
        MediaTime(a.1.0 + ((b.1.0 - a.1.0).max(0) as f64 * part) as i64)
    }

    /// The first byte within the file that is needed at or after `time`.
    pub fn offset_of(&self, time: MediaTime) -> u64 {
        if self.points.is_empty() {
            let part = time.as_secs_f64() / self.duration.as_secs_f64().max(1e-6);
            return (self.file_len as f64 * part.clamp(0.0, 1.0)) as u64;
        }
        match self.points.partition_point(|p| p.1 < time) {
            n if n == self.points.len() => self.file_len,
            n => self.points[n].0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_stored_early_but_needed_late_does_not_hide_what_follows() {
        let s = MediaTime::from_secs_f64;
        let t = Timeline::new(vec![(1000, s(0.0)), (2000, s(5.0)), (3000, s(1.0)), (4000, s(2.0))], s(3.0), 5000);
        assert_eq!(t.time_of(2000), s(1.0));
        assert_eq!(t.time_of(3000), s(1.0));
        assert_eq!(t.time_of(4500), s(2.5));
        assert_eq!(t.offset_of(s(1.5)), 4000);
    }

    #[test]
    fn without_an_index_time_is_linear_in_bytes() {
        let s = MediaTime::from_secs_f64;
        let t = Timeline::linear(s(10.0), 1000);
        assert_eq!(t.time_of(500), s(5.0));
        assert_eq!(t.offset_of(s(5.0)), 500);
    }
}

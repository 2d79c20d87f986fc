//! What can happen to a node, and what nodes say to each other.
//!
//! Invariant: a step is about one node and touches nothing else; what concerns another is a letter, and takes the path's delay.

use std::sync::Arc;

use crate::engine::Bid;
use crate::units::{BlockRef, ByteRange, FetchId, Instant, LinkId, PieceIndex, PieceSet};

/// One of many happenings at a node, small enough to have millions of. Links are named as the node names them.
#[derive(Debug)]
pub(super) enum Step {
    /// It comes.
    Join,
    /// It goes, and says so.
    Leave,
    /// It looks whether it wants more links.
    Dial,
    /// It has learnt of the server.
    Find,
    /// Somebody dials it.
    Call(Call),
    /// Who was dialled answers, and says what it calls the link.
    Answer { link: LinkId, call: Call },
    /// Both sides have shaken hands.
    Meet(LinkId),
    /// The other side closed the link, or never took it.
    Gone(LinkId),
    /// A link that the node closed itself is gone.
    Down(LinkId),
    /// A message.
    Mail(LinkId, Message),
    /// It tells its peers of the pieces it has got.
    Announce,
    /// A flow of its uplink may be done.
    Uplink,
    /// A parcel reaches its access link.
    Arrive(LinkId, Parcel),
    /// A parcel has come through its line; under a budget it waits there to be read.
    Take(LinkId, Parcel, Waits),
    /// It holds its peers to a budget, and reads on.
    Read,
    /// The far side has read what was sent.
    Ack(LinkId, Ack),
    /// Its store has hashed a piece.
    Hashed(PieceIndex),
    /// Its engine asked to be woken.
    Wake,
    /// Its player moves on.
    Play,
    /// It does what its script says.
    Script,
}

/// Who dials, and what the link is called there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    pub node: u32,
    pub link: LinkId,
    /// A viewer's link to the origin: no peer's.
    pub server: bool,
}

/// What nodes tell each other besides payload.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    Bitfield(Box<PieceSet>),
    Have(PieceIndex),
    /// What was gathered over a while, the same for all links.
    Haves(Arc<Vec<PieceIndex>>),
    Interested(bool),
    Request {
        piece: PieceIndex,
        begin: u32,
        len: u32,
    },
    Cancel {
        piece: PieceIndex,
        begin: u32,
        len: u32,
    },
    Reject(BlockRef),
    /// The piece is answered although choked (BEP 6).
    Allowed(PieceIndex),
    Fetch(FetchId, Box<ByteRange>),
    Abort(FetchId),
    Bid(Box<Bid>),
    Granted(Box<Granted>),
}

/// A server's answer to a bid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Granted {
    pub bits: u64,
    pub expires: Instant,
}

/// What a parcel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cargo {
    /// A block of a peer's; `lie` is 0 for the true bytes, else who falsified them.
    Block { block: BlockRef, lie: u32 },
    /// Bytes of a fetch up to here.
    Range { fetch: FetchId, upto: u64, lie: u32 },
    /// The sender chokes, or no longer: what it put into its socket before comes before.
    Choke(bool),
}

/// How a parcel that came is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waits {
    /// It is held to the budget: not acknowledged until it is read.
    pub held: bool,
    /// Packets were lost when it came.
    pub lost: bool,
}

/// Payload that is sent as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parcel {
    pub cargo: Cargo,
    pub len: u32,
}

/// An acknowledgement: it leaves when the parcel is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ack {
    pub len: u32,
    /// The receiver's queue was past its buffer: packets were lost.
    pub lost: bool,
    /// The receiver holds its peers back: its sockets' buffers are small.
    pub held: bool,
}

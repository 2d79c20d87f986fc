//! What can happen in a world, and how links are named.

use crate::units::{LinkId, PieceIndex};

/// One of many happenings, small enough to have millions of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A node comes.
    Join(u32),
    /// A node goes, and says so.
    Leave(u32),
    /// A node looks whether it wants more links.
    Dial(u32),
    /// Both sides have shaken hands.
    Meet(LaneKey),
    /// A link that was closed is gone for this node.
    Gone(u32, LinkId),
    /// A message is due at the far end of the lane.
    Mail(LaneKey),
    /// A flow of the node's uplink may be done.
    Uplink(u32),
    /// A parcel reaches the receiver's access link.
    Arrive(LaneKey),
    /// A parcel has come through the receiver's line.
    Take(LaneKey),
    /// A node that holds its peers to a budget reads on.
    Read(u32),
    /// The lane's window may have opened.
    Refill(LaneKey),
    /// The node's store has hashed a piece.
    Hashed(u32, PieceIndex),
    /// The node's engine asked to be woken.
    Wake(u32),
    /// The node's player moves on.
    Play(u32),
    /// A scripted peer does what its script says.
    Script(u32),
}

/// One direction of one link: lane `2 * slot` leads from the first end to the second, the other back. Slots are used again,
/// link numbers never: a step for a link that is gone finds another number, or none, and does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneKey {
    pub lane: u32,
    pub link: u32,
}

impl LaneKey {
    pub fn slot(self) -> u32 {
        self.lane / 2
    }

    /// Which end sends on it.
    pub fn end(self) -> usize {
        (self.lane % 2) as usize
    }

    /// The other direction.
    pub fn back(self) -> Self {
        Self { lane: self.lane ^ 1, link: self.link }
    }

    pub fn id(self) -> LinkId {
        LinkId(self.link)
    }
}

//! Who may take how much of the server: max-min fair shares of its capacity, granted against bids.
//!
//! Sans-IO like the engine: time comes in with each call, and there is no clock, socket, task, log or chance in here, so
//! that the simulator runs exactly this. Water-filling as in Bertsekas and Gallager, *Data Networks* (2nd ed.), 6.5.2:
//! each gets what it asks for or the level, and the level is where the shares add up to the capacity. To ask for more
//! than one needs then gains nothing.

use std::time::Duration;

use crate::units::{BLOCK_LEN, Instant};

mod ledger;
mod level;

#[cfg(test)]
mod tests;

pub use ledger::{Ledger, Standing};
pub use level::{Level, Need};

/// Bits below which a grant is of no use: viewers ask for whole blocks (BEP 3's 2^14 bytes). A share that is smaller is
/// granted a block at a time, less often.
pub const QUANTUM: u64 = BLOCK_LEN as u64 * 8;

/// Seconds of a horizon that a bid may break down; the player's is 15.
pub const DUE_MOST: usize = 60;

/// A viewer, by whatever the caller tells viewers apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ViewerKey(pub u128);

/// Where a viewer asks from: what costs something to have many of, where a viewer's id costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressKey(pub u128);

/// Who bids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bidder {
    pub viewer: ViewerKey,
    pub address: AddressKey,
}

/// Names a grant among all servers that honour each other's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId {
    /// The server that granted it.
    pub instance: u64,
    pub serial: u64,
}

/// The answer to a bid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    pub id: GrantId,
    /// May be zero while the server is over capacity; then each viewer has its turn, a block at a time.
    pub bits: u64,
    /// What is not asked for by then lapses.
    pub expires: Instant,
}

/// Why a bid is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("this viewer bids too often: wait {} ms", wait.as_millis())]
    TooSoon { wait: Duration },
    #[error("due_bits has more than {DUE_MOST} seconds")]
    Horizon,
    #[error("more viewers bid than this server keeps track of")]
    Crowded,
    #[error("more viewers bid from this address than this server keeps track of")]
    AddressCrowded,
}

/// What the allocation keeps to.
#[derive(Debug, Clone)]
pub struct Allocation {
    /// Bits per second; `None` grants every bid in full.
    pub capacity: Option<u64>,
    /// Shares that one address has at most, however many viewers bid from it; they divide them evenly. `None` counts
    /// viewers alone, and then whoever makes up viewers takes what it likes.
    pub viewers_per_address: Option<u32>,
    /// Unused grants lapse after this (design: 2 s).
    pub grant_life: Duration,
    /// One bid per viewer in this time, on average.
    pub bid_every: Duration,
    /// Bids are cut to this many bits.
    pub bid_most: u64,
    /// Viewers remembered, of all and of one address.
    pub viewers_most: usize,
    pub address_most: u32,
    /// Marks this server's grants among those of others. Drawn by the caller.
    pub instance: u64,
}

impl Default for Allocation {
    fn default() -> Self {
        Self {
            capacity: None,
            // A home has a few screens. Behind one address of a carrier sit thousands, who are then held to eight shares,
            // but only while there is not enough for all.
            viewers_per_address: Some(8),
            grant_life: Duration::from_secs(2),
            bid_every: Duration::from_millis(200),
            // 15 s of film at 500 Mbit/s; no film has that.
            bid_most: 7_500_000_000,
            // About 300 bytes each.
            viewers_most: 100_000,
            address_most: 4_096,
            instance: 0,
        }
    }
}

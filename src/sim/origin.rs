//! The origin's answers to bids: the real allocation, one ledger for all viewers.
//!
//! Invariant: a bidding origin grants what [`crate::serve::allocate`] grants, and what a range takes of it is spent there.
//! Nothing of the allocation is sketched here.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::scenario::OriginSpec;
use crate::engine::Bid;
use crate::serve::allocate::{AddressKey, Allocation, Bidder, Grant, Ledger, ViewerKey};
use crate::units::Instant;

/// Grants of one viewer that are kept: they live two seconds and come once a second.
const HELD_MOST: usize = 8;

/// The desk at which a bidding origin takes bids.
#[derive(Debug)]
pub(super) struct Desk {
    ledger: Ledger,
    /// What each viewer was granted and may ask for, soonest lapsing first.
    held: BTreeMap<u32, VecDeque<Grant>>,
    share: f64,
}

impl Desk {
    /// `None` for a plain web server, which takes no bids.
    pub fn new(o: &OriginSpec, mbit: f64) -> Option<Self> {
        // Each node has an address of its own, so that addresses say nothing here.
        let allocation = Allocation {
            capacity: Some((o.up * mbit * 8.0) as u64),
            viewers_per_address: None,
            viewers_most: 4_000_000,
            ..Allocation::default()
        };
        o.bidding.then(|| Self { ledger: Ledger::new(allocation), held: BTreeMap::new(), share: o.grants })
    }

    /// Bits granted to a viewer's bid, and how long they live from now on; `None` for a bid that is refused: it comes too
    /// soon after the last, or asks for what cannot be.
    pub fn bid(&mut self, now: Instant, viewer: u32, bid: &Bid) -> Option<(u64, Duration)> {
        let key = u128::from(viewer);
        let who = Bidder { viewer: ViewerKey(key), address: AddressKey(key) };
        let grant = self.ledger.bid(now, who, bid).ok()?;
        let held = self.held.entry(viewer).or_default();
        held.retain(|g| g.expires > now);
        if held.len() >= HELD_MOST {
            held.pop_front();
        }
        held.push_back(grant);
        Some(((grant.bits as f64 * self.share) as u64, grant.expires.since(now)))
    }

    /// A range was asked for: it uses up the grants that lapse first.
    pub fn spend(&mut self, now: Instant, viewer: u32, mut bits: u64) {
        let Some(held) = self.held.get_mut(&viewer) else { return };
        let who = ViewerKey(u128::from(viewer));
        for g in held.iter() {
            bits -= self.ledger.spend(now, g.id, g.bits, g.expires, who, bits).min(bits);
        }
        if bits > 0 {
            held.clear();
        }
    }

    /// The viewer is gone.
    pub fn forget(&mut self, viewer: u32) {
        self.held.remove(&viewer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_capacity_equal_bids_get_equal_shares_and_nobody_nothing() {
        let o = OriginSpec { up: 8.0, bidding: true, ..OriginSpec::default() };
        let mut desk = Desk::new(&o, 125_000.0).unwrap();
        let mut got = [0u64; 20];
        for second in 0..60u64 {
            for viewer in 0..20u32 {
                let now = Instant(second * 1_000_000_000 + u64::from(viewer) * 50_000_000);
                let greed = if viewer == 0 { 10 } else { 1 };
                let bid = Bid { max_bits: greed * 4_000_000, due_bits: vec![greed * 4_000_000] };
                let (bits, life) = desk.bid(now, viewer, &bid).unwrap();
                assert!(life <= Duration::from_secs(2));
                desk.spend(now, viewer, bits);
                // Who comes first finds the desk empty.
                got[viewer as usize] += if second < 5 { 0 } else { bits };
            }
        }
        let mean = got.iter().sum::<u64>() / 20;
        assert!((mean * 20) as f64 <= 8e6 * 57.0, "no more than there is: {mean}");
        assert!(got.iter().all(|g| *g > mean / 2 && *g < mean * 3 / 2), "{got:?}");
        assert!(got[0] < mean * 11 / 10, "greed gains nothing: {got:?}");
    }
}

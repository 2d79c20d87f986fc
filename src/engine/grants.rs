//! What one origin granted: bits that may be asked for, each lot until it lapses.
//!
//! Invariant: lots are sorted by when they lapse, and those that lapse first are spent first. What was asked for under a
//! bidding origin's grant is spent for good: a range that breaks has to be bid for again, since what of it is on the way
//! nobody knows.

use std::collections::VecDeque;

use crate::units::{GrantId, Instant};

/// Lots remembered of one origin: they live two seconds and come once a second, or five times when something presses.
const LOTS_MOST: usize = 16;

#[derive(Debug, Clone, Copy)]
struct Lot {
    /// `None`: granted by ourselves.
    id: Option<GrantId>,
    bits: u64,
    until: Instant,
}

/// Lots not asked for yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Grants {
    lots: VecDeque<Lot>,
}

impl Grants {
    /// Bits granted, not lapsed and not yet asked for.
    pub fn unspent(&self, now: Instant) -> u64 {
        self.lots.iter().filter(|g| g.until >= now).fold(0, |sum, g| sum.saturating_add(g.bits))
    }

    /// So many bits more may be asked for until then.
    pub fn add(&mut self, now: Instant, id: Option<GrantId>, bits: u64, until: Instant) {
        self.lots.retain(|g| g.bits > 0 && g.until >= now);
        if self.lots.len() >= LOTS_MOST {
            self.lots.pop_front();
        }
        let at = self.lots.partition_point(|g| g.until <= until);
        self.lots.insert(at, Lot { id, bits, until });
    }

    /// So many bits are asked for: the lots they come out of, in order.
    pub fn spend(&mut self, now: Instant, mut bits: u64) -> Vec<GrantId> {
        let mut of = Vec::new();
        for g in self.lots.iter_mut().filter(|g| g.until >= now) {
            let take = bits.min(g.bits);
            g.bits -= take;
            bits -= take;
            of.extend(g.id.filter(|_| take > 0));
        }
        of
    }

    /// Bits that were asked for and will not come may be asked for again, where we granted them ourselves.
    pub fn give_back(&mut self, bits: u64) {
        if let Some(g) = self.lots.back_mut().filter(|g| g.id.is_none()) {
            g.bits = g.bits.saturating_add(bits);
        }
    }

    /// All is void: the origin is left alone, or was found to take bids after all.
    pub fn clear(&mut self) {
        self.lots.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lapses_first_is_spent_first_and_what_lapsed_not_at_all() {
        let at = Instant::from_secs_f64;
        let mut g = Grants::default();
        g.add(at(0.0), Some(GrantId(1)), 100, at(3.0));
        g.add(at(0.0), Some(GrantId(0)), 50, at(2.0));
        g.add(at(0.0), Some(GrantId(2)), 10, at(1.0));
        assert_eq!(g.unspent(at(0.5)), 160);
        assert_eq!(g.unspent(at(1.5)), 150);
        assert_eq!(g.spend(at(1.5), 70), [GrantId(0), GrantId(1)]);
        g.give_back(70);
        assert_eq!(g.unspent(at(1.5)), 80, "an origin's own grant does not come back");
        assert_eq!(g.spend(at(1.5), 80), [GrantId(1)]);
        assert!(g.spend(at(1.5), 1).is_empty());
    }
}

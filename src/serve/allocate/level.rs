//! The water level λ: Σ min(need_i, weight_i · λ) = capacity.
//!
//! Invariant: needs whose ratio (bits per weight, rounded up) is at most `low` are met in full and counted in `met_bits`;
//! the weights of all others are counted in `open_weight`, and λ is what is left for one unit of them. The boundary moves
//! with each change by as many distinct ratios as λ passes, mostly none: O(log n) each, where sorting anew is O(n log n).

use std::collections::BTreeMap;

/// What one asks for, and how many even shares it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    pub bits: u64,
    /// At least one.
    pub weight: u64,
}

impl Need {
    /// Of one share.
    pub fn of(bits: u64) -> Self {
        Self { bits, weight: 1 }
    }

    fn ratio(self) -> u64 {
        self.bits.div_ceil(self.weight.max(1))
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Tier {
    bits: u64,
    weight: u64,
}

/// Needs, and where the level stands among them.
#[derive(Debug, Clone)]
pub struct Level {
    capacity: u64,
    /// By ratio. Needs of the same ratio are one tier: those who ask the same never cost more than one.
    tiers: BTreeMap<u64, Tier>,
    low: u64,
    met_bits: u64,
    open_weight: u64,
}

impl Level {
    /// Over `capacity` bits, without any needs yet.
    pub fn new(capacity: u64) -> Self {
        Self { capacity, tiers: BTreeMap::new(), low: 0, met_bits: 0, open_weight: 0 }
    }

    pub fn set_capacity(&mut self, capacity: u64) {
        if self.capacity != capacity {
            self.capacity = capacity;
            self.settle();
        }
    }

    pub fn insert(&mut self, need: Need) {
        let ratio = need.ratio();
        let tier = self.tiers.entry(ratio).or_default();
        tier.bits += need.bits;
        tier.weight += need.weight.max(1);
        if ratio <= self.low {
            self.met_bits += need.bits;
        } else {
            self.open_weight += need.weight.max(1);
        }
        self.settle();
    }

    /// Takes out a need that was put in; one that never was is ignored.
    pub fn remove(&mut self, need: Need) {
        let (ratio, weight) = (need.ratio(), need.weight.max(1));
        let Some(tier) = self.tiers.get_mut(&ratio) else { return };
        if tier.weight < weight || tier.bits < need.bits {
            return;
        }
        tier.bits -= need.bits;
        tier.weight -= weight;
        if tier.weight == 0 {
            self.tiers.remove(&ratio);
        }
        if ratio <= self.low {
            self.met_bits -= need.bits;
        } else {
            self.open_weight -= weight;
        }
        self.settle();
    }

    /// λ, in bits per unit of weight; `None` while there is enough for all.
    pub fn height(&self) -> Option<u64> {
        self.capacity.saturating_sub(self.met_bits).checked_div(self.open_weight)
    }

    /// What of `need`, which is in here, is met.
    pub fn share(&self, need: Need) -> u64 {
        self.height().map_or(need.bits, |h| need.bits.min(h.saturating_mul(need.weight.max(1))))
    }

    /// Moves the boundary to where the invariant holds. To unmeet a tier above λ raises λ, though not up to that tier, and to
    /// meet one below λ raises it too: each loop ends, and the second cannot undo the first.
    fn settle(&mut self) {
        while self.low > 0
            && let Some((&ratio, &tier)) = self.tiers.range(1..=self.low).next_back()
        {
            if self.met_bits <= self.capacity && self.height().is_none_or(|h| ratio <= h) {
                break;
            }
            self.met_bits -= tier.bits;
            self.open_weight += tier.weight;
            self.low = ratio - 1;
        }
        while let Some((&ratio, &tier)) = self.tiers.range(self.low.saturating_add(1)..).next() {
            if self.height().is_none_or(|h| ratio > h) {
                break;
            }
            self.met_bits += tier.bits;
            self.open_weight -= tier.weight;
            self.low = ratio;
        }
    }

    /// Checks the invariant.
    #[cfg(test)]
    pub(super) fn check(&self) -> Result<(), String> {
        let met: u64 = self.tiers.range(..=self.low).map(|t| t.1.bits).sum();
        let open: u64 = self.tiers.range(self.low + 1..).map(|t| t.1.weight).sum();
        if (met, open) != (self.met_bits, self.open_weight) {
            return Err(format!("counted {met} {open}: {self:?}"));
        }
        let height = self.height().unwrap_or(u64::MAX);
        let wrong = |r: &u64| (*r <= self.low) != (*r <= height);
        if met > self.capacity || self.tiers.keys().any(wrong) {
            return Err(format!("not level: {self:?}"));
        }
        Ok(())
    }
}

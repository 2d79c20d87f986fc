//! How many connected peers have each piece, and which wanted piece is the rarest.
//!
//! Invariant: `order` holds each indexed piece once, sorted by availability; `slot[p]` is its place in it; `start[a]` is
//! where the pieces of availability `a` begin. A Have therefore costs one swap, whatever the number of pieces.

use super::rng::Rng;
use crate::units::{PieceIndex, PieceSet};

const ABSENT: u32 = u32::MAX;

/// Availability of all pieces, and the order of those still worth beginning.
#[derive(Debug, Clone)]
pub struct Availability {
    count: Vec<u16>,
    order: Vec<PieceIndex>,
    slot: Vec<u32>,
    /// `start[a]..start[a + 1]` of `order` has availability `a`; the last entry is `order.len()`.
    start: Vec<u32>,
    /// The pieces in `order`, as a set: what one peer has of them is found by words, not by pieces.
    indexed: PieceSet,
}

impl Availability {
    pub fn new(pieces: u32) -> Self {
        Self {
            count: vec![0; pieces as usize],
            order: Vec::new(),
            slot: vec![ABSENT; pieces as usize],
            start: vec![0, 0],
            indexed: PieceSet::new(pieces),
        }
    }

    /// Connected peers that have the piece.
    pub fn of(&self, p: PieceIndex) -> u16 {
        self.count.get(p.get()).copied().unwrap_or(0)
    }

    /// Makes the index hold just these pieces, ties in random order.
    pub fn index(&mut self, pieces: impl Iterator<Item = PieceIndex>, rng: &mut Rng) {
        self.slot.fill(ABSENT);
        self.indexed = PieceSet::new(self.count.len() as u32);
        let mut all: Vec<PieceIndex> = pieces.collect();
        for i in (1..all.len()).rev() {
            all.swap(i, rng.below(i + 1));
        }
        all.sort_by_key(|p| self.count[p.get()]);
        let most = all.last().map_or(0, |p| self.count[p.get()]) as usize;
        self.start =
            (0..=most + 1).map(|a| all.partition_point(|p| (self.count[p.get()] as usize) < a) as u32).collect();
        for (i, p) in all.iter().enumerate() {
            self.slot[p.get()] = i as u32;
            self.indexed.insert(*p);
        }
        self.order = all;
    }

    /// One more peer has the piece.
    pub fn inc(&mut self, p: PieceIndex) {
        let Some(a) = self.count.get(p.get()).map(|c| *c as usize) else { return };
        if a == u16::MAX as usize {
            return;
        }
        self.count[p.get()] += 1;
        if self.slot[p.get()] == ABSENT {
            return;
        }
        // The last of its bucket changes places with it, and the border moves before it.
        let last = self.start[a + 1] - 1;
        self.swap(self.slot[p.get()], last);
        self.start[a + 1] = last;
        if self.start.len() == a + 2 {
            self.start.push(self.order.len() as u32);
        }
    }

    /// One peer fewer has the piece.
    pub fn dec(&mut self, p: PieceIndex) {
        let Some(a) = self.count.get(p.get()).map(|c| *c as usize).filter(|a| *a > 0) else { return };
        self.count[p.get()] -= 1;
        if self.slot[p.get()] == ABSENT {
            return;
        }
        let first = self.start[a];
        self.swap(self.slot[p.get()], first);
        self.start[a] = first + 1;
    }

    /// A link came: all it has counts.
    pub fn add_all(&mut self, has: &PieceSet) {
        has.iter().for_each(|p| self.inc(p));
    }

    /// A link went.
    pub fn remove_all(&mut self, has: &PieceSet) {
        has.iter().for_each(|p| self.dec(p));
    }

    /// Takes a piece out of the index: it was begun, is here, or is not wanted.
    pub fn take(&mut self, p: PieceIndex) {
        if self.slot.get(p.get()).is_none_or(|s| *s == ABSENT) {
            return;
        }
        // Down through the buckets above it, so that each stays in one run.
        let mut at = self.slot[p.get()];
        for a in self.count[p.get()] as usize..self.start.len() - 1 {
            let last = self.start[a + 1] - 1;
            self.swap(at, last);
            self.start[a + 1] = last;
            at = last;
        }
        self.order.pop();
        self.slot[p.get()] = ABSENT;
        self.indexed.remove(p);
    }

    /// Puts a piece back into the index.
    pub fn put(&mut self, p: PieceIndex) {
        if self.slot.get(p.get()).is_none_or(|s| *s != ABSENT) {
            return;
        }
        let a = self.count[p.get()] as usize;
        while self.start.len() < a + 2 {
            self.start.push(self.order.len() as u32);
        }
        self.order.push(p);
        self.indexed.insert(p);
        let mut at = self.order.len() as u32 - 1;
        self.slot[p.get()] = at;
        let top = self.start.len() - 1;
        self.start[top] += 1;
        for b in (a + 1..top).rev() {
            let first = self.start[b];
            self.swap(at, first);
            self.start[b] = first + 1;
            at = first;
        }
    }

    /// Indexed pieces, rarest first; those nobody has are left out.
    pub fn rarest(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        let from = self.start.get(1).copied().unwrap_or(0) as usize;
        self.order[from.min(self.order.len())..].iter().copied()
    }

    /// Whether the piece is in the index.
    pub fn indexed(&self, p: PieceIndex) -> bool {
        self.indexed.contains(p)
    }

    /// The indexed pieces of a set.
    pub fn indexed_of<'a>(&'a self, has: &'a PieceSet) -> impl Iterator<Item = PieceIndex> + 'a {
        has.both(&self.indexed)
    }

    fn swap(&mut self, a: u32, b: u32) {
        self.order.swap(a as usize, b as usize);
        self.slot[self.order[a as usize].get()] = a;
        self.slot[self.order[b as usize].get()] = b;
    }

    /// Checks the module's invariant; what is wrong with it, if anything.
    pub fn check(&self) -> Result<(), String> {
        if self.start.first() != Some(&0) || self.start.last().copied() != Some(self.order.len() as u32) {
            return Err(format!("borders {:?} for {} pieces", self.start, self.order.len()));
        }
        for (i, p) in self.order.iter().enumerate() {
            let a = self.count[p.get()] as usize;
            let inside = a + 1 < self.start.len() && self.start[a] as usize <= i && i < self.start[a + 1] as usize;
            if self.slot[p.get()] as usize != i || !inside {
                return Err(format!("piece {p} of availability {a} at {i}, borders {:?}", self.start));
            }
        }
        let indexed = self.slot.iter().filter(|s| **s != ABSENT).count();
        if indexed == self.order.len() && self.indexed.count() as usize == indexed {
            Ok(())
        } else {
            Err(format!("{indexed} slots, {} in order", self.order.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Availability, Rng};
    use crate::units::PieceIndex;
    use proptest::prelude::{prop, prop_assert_eq, proptest};

    #[test]
    fn rarest_comes_first_and_what_nobody_has_not_at_all() {
        let mut a = Availability::new(4);
        a.index((0..4).map(PieceIndex), &mut Rng::new(1));
        for (piece, times) in [(0, 3), (1, 1), (3, 2)] {
            (0..times).for_each(|_| a.inc(PieceIndex(piece)));
        }
        assert_eq!(a.rarest().map(|p| p.0).collect::<Vec<_>>(), [1, 3, 0]);
        a.take(PieceIndex(1));
        a.dec(PieceIndex(0));
        a.dec(PieceIndex(0));
        assert_eq!(a.rarest().map(|p| p.0).collect::<Vec<_>>(), [0, 3]);
    }

    proptest! {
        #[test]
        fn the_invariant_holds_after_every_step(steps in prop::collection::vec((0u8..5, 0u32..24), 0..400)) {
            let mut a = Availability::new(24);
            let mut rng = Rng::new(7);
            a.index((0..24).map(PieceIndex), &mut rng);
            for (what, p) in steps {
                let p = PieceIndex(p);
                match what {
                    0 | 4 => a.inc(p),
                    1 => a.dec(p),
                    2 => a.take(p),
                    _ => a.put(p),
                }
                prop_assert_eq!(a.check(), Ok(()));
            }
        }
    }
}

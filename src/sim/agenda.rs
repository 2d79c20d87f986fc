//! What happens next: steps in the order of their time, and of their making where times are equal.
//!
//! Invariant: two runs that schedule the same steps in the same order take them in the same order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::units::Instant;

#[derive(Debug, Clone, Copy)]
struct Entry<T> {
    at: Instant,
    seq: u64,
    step: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    /// The soonest is the greatest: a [`BinaryHeap`] gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.seq).cmp(&(self.at, self.seq))
    }
}

/// The event heap of the world.
#[derive(Debug, Clone)]
pub(super) struct Agenda<T> {
    heap: BinaryHeap<Entry<T>>,
    seq: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), seq: 0 }
    }
}

impl<T> Agenda<T> {
    pub fn push(&mut self, at: Instant, step: T) {
        self.seq += 1;
        self.heap.push(Entry { at, seq: self.seq, step });
    }

    /// When the next step is due.
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|e| e.at)
    }

    pub fn pop(&mut self) -> Option<(Instant, T)> {
        self.heap.pop().map(|e| (e.at, e.step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_by_time_and_then_in_the_order_they_were_made() {
        let mut a = Agenda::default();
        for (at, step) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')] {
            a.push(Instant(at), step);
        }
        let order: String = std::iter::from_fn(|| a.pop().map(|e| e.1)).collect();
        assert_eq!(order, "abcd");
    }
}

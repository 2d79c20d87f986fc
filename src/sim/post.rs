//! What a node still has before it, and what it sends to others.
//!
//! Invariant: steps are taken by time, at one time by who made them and in the order in which that one did: an order that is the
//! same whichever way, and on however many threads, they came together.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::step::Step;
use crate::units::Instant;

#[derive(Debug)]
struct Entry {
    at: Instant,
    from: u32,
    seq: u64,
    step: Step,
}

impl Entry {
    fn key(&self) -> (Instant, u32, u64) {
        (self.at, self.from, self.seq)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The soonest is the greatest: a [`BinaryHeap`] gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

/// A step at another node.
#[derive(Debug)]
pub(super) struct Letter {
    pub to: u32,
    entry: Entry,
}

impl Letter {
    /// When it comes.
    pub fn at(&self) -> Instant {
        self.entry.at
    }
}

/// One node's clock, steps and letters.
#[derive(Debug)]
pub(super) struct Post {
    pub node: u32,
    pub now: Instant,
    seq: u64,
    heap: BinaryHeap<Entry>,
    /// Letters that were not taken along yet.
    pub out: Vec<Letter>,
}

impl Post {
    pub fn new(node: u32) -> Self {
        Self { node, now: Instant::ZERO, seq: 0, heap: BinaryHeap::new(), out: Vec::new() }
    }

    fn entry(&mut self, at: Instant, step: Step) -> Entry {
        self.seq += 1;
        Entry { at, from: self.node, seq: self.seq, step }
    }

    /// A step of the node's own.
    pub fn later(&mut self, at: Instant, step: Step) {
        let entry = self.entry(at, step);
        self.heap.push(entry);
    }

    /// A step at another node, not sooner than the path to it takes.
    pub fn send(&mut self, at: Instant, to: u32, step: Step) {
        let entry = self.entry(at, step);
        self.out.push(Letter { to, entry });
    }

    pub fn receive(&mut self, letter: Letter) {
        self.heap.push(letter.entry);
    }

    /// When the next step is due.
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|e| e.at)
    }

    /// Whether the next step is a message of the same moment.
    pub fn more_mail(&self) -> bool {
        self.heap.peek().is_some_and(|e| e.at == self.now && matches!(e.step, Step::Mail(..)))
    }

    /// The next step before `until`; time moves on to it.
    pub fn pop(&mut self, until: Instant) -> Option<Step> {
        self.heap.peek().filter(|e| e.at < until)?;
        let entry = self.heap.pop()?;
        self.now = entry.at;
        Some(entry.step)
    }

    /// Nothing of what the node had before it will happen: it went. Letters still come: who writes them is to be told.
    pub fn clear(&mut self) {
        let node = self.node;
        self.heap.retain(|e| e.from != node);
        self.heap.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_by_time_then_by_who_made_them_and_in_their_order() {
        let (mut a, mut b) = (Post::new(1), Post::new(2));
        for (at, step) in [(5, Step::Wake), (1, Step::Join), (5, Step::Play)] {
            b.later(Instant(at), step);
        }
        a.send(Instant(5), 2, Step::Leave);
        a.send(Instant(5), 2, Step::Dial);
        // In whichever order letters are brought.
        a.out.drain(..).rev().for_each(|l| b.receive(l));
        let order: Vec<String> = std::iter::from_fn(|| b.pop(Instant(6))).map(|s| format!("{s:?}")).collect();
        assert_eq!(order, ["Join", "Leave", "Dial", "Wake", "Play"]);
        assert!(b.next_at().is_none() && b.now == Instant(5));
    }
}

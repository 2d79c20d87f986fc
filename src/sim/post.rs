//! What a node still has before it, and what it sends to others.
//!
//! Invariant: steps are taken by time, at one time by who made them and in the order in which that one did: an order that is the
//! same whichever way, and on however many threads, they came together.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::step::Step;
use crate::units::Instant;

/// When a step is due, who made it, as how many-th of its steps.
type Key = (Instant, u32, u32);

/// A step's place in line: small, since a heap moves its entries about.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    key: Key,
    /// Where the step itself lies meanwhile.
    slot: u32,
}

/// A step at another node.
#[derive(Debug)]
pub(super) struct Letter {
    pub to: u32,
    key: Key,
    step: Step,
}

impl Letter {
    /// When it comes.
    pub fn at(&self) -> Instant {
        self.key.0
    }
}

/// One node's clock, steps and letters.
#[derive(Debug)]
pub(super) struct Post {
    pub node: u32,
    pub now: Instant,
    seq: u32,
    /// The soonest first.
    heap: BinaryHeap<Reverse<Entry>>,
    steps: Vec<Option<Step>>,
    /// Slots that are empty.
    free: Vec<u32>,
    /// Letters that were not taken along yet.
    pub out: Vec<Letter>,
}

impl Post {
    pub fn new(node: u32) -> Self {
        let (heap, steps) = (BinaryHeap::new(), Vec::new());
        Self { node, now: Instant::ZERO, seq: 0, heap, steps, free: Vec::new(), out: Vec::new() }
    }

    /// The next step's key. A node takes some fifty steps a second: four thousand million last for years.
    fn key(&mut self, at: Instant) -> Key {
        self.seq += 1;
        (at, self.node, self.seq)
    }

    fn put(&mut self, key: Key, step: Step) {
        let slot = self.free.pop().unwrap_or(self.steps.len() as u32);
        match self.steps.get_mut(slot as usize) {
            Some(empty) => *empty = Some(step),
            None => self.steps.push(Some(step)),
        }
        self.heap.push(Reverse(Entry { key, slot }));
    }

    /// A step of the node's own.
    pub fn later(&mut self, at: Instant, step: Step) {
        let key = self.key(at);
        self.put(key, step);
    }

    /// A step at another node, not sooner than the path to it takes.
    pub fn send(&mut self, at: Instant, to: u32, step: Step) {
        let key = self.key(at);
        self.out.push(Letter { to, key, step });
    }

    pub fn receive(&mut self, letter: Letter) {
        self.put(letter.key, letter.step);
    }

    /// When the next step is due.
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|e| e.0.key.0)
    }

    /// Whether the next step is a message of the same moment.
    pub fn more_mail(&self) -> bool {
        let step = |slot: u32| self.steps.get(slot as usize).and_then(Option::as_ref);
        self.heap.peek().is_some_and(|e| e.0.key.0 == self.now && matches!(step(e.0.slot), Some(Step::Mail(..))))
    }

    /// The next step before `until`; time moves on to it.
    pub fn pop(&mut self, until: Instant) -> Option<Step> {
        self.heap.peek().filter(|e| e.0.key.0 < until)?;
        let Reverse(Entry { key, slot }) = self.heap.pop()?;
        self.now = key.0;
        self.free.push(slot);
        self.steps.get_mut(slot as usize)?.take()
    }

    /// Nothing of what the node had before it will happen: it went. Letters still come: who writes them is to be told.
    pub fn clear(&mut self) {
        let (node, mut before) = (self.node, std::mem::take(&mut self.steps));
        self.free = Vec::new();
        for Reverse(Entry { key, slot }) in std::mem::take(&mut self.heap) {
            let step = before.get_mut(slot as usize).and_then(Option::take);
            if let Some(step) = step.filter(|_| key.1 != node) {
                self.put(key, step);
            }
        }
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

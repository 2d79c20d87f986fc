//! Many nodes and the windows of time in which they take their turns, on as many threads as wanted.
//!
//! Time goes by windows as long as the least path between two nodes (conservative synchronisation: Chandy and Misra 1979, here
//! with one lookahead for all). What a node does within a window reaches others after its end at the soonest, so that nodes may be
//! taken in any order, and one after the other with all its steps of the window: its engine is in the cache then.
//!
//! Invariant: windows lie on a grid from zero on, and letters are ordered by who sent them: what happens does not depend on how
//! many shards or threads there are, nor on where a run was interrupted.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::node::{Ctx, Log, Node, Turn};
use super::post::Letter;
use crate::units::Instant;

/// Never: later than any step.
pub(super) const NEVER: Instant = Instant(u64::MAX);
/// Shards for each thread: one that is behind does not hold up the others for long.
const PER_THREAD: usize = 8;
/// With fewer steps than this in the last window another thread is not worth waking.
const WORTH: u64 = 256;

/// Some of the nodes: every so many-th.
pub(super) struct Shard {
    pub nodes: Vec<Node>,
    /// When the next step of each node is due.
    next: Vec<Instant>,
    /// Letters by the shard they go to.
    out: Vec<Vec<Letter>>,
    /// What the node whose turn it is writes: the same memory for all of them.
    desk: Vec<Letter>,
    pub log: Log,
    /// The soonest of all that is before its nodes, and of what they sent in the last window.
    soonest: Instant,
}

/// All shards, and the letters between them.
pub(super) struct Shards {
    shards: Vec<Mutex<Shard>>,
    /// Letters from one shard to another, by `from * shards + to`, of this window and of the one before.
    letters: [Vec<Mutex<Vec<Letter>>>; 2],
    threads: usize,
    window: usize,
    /// Steps taken so far, and in the last window.
    taken: u64,
    steps: u64,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    // Who holds a lock and panics takes the whole run down when its thread is joined.
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    fn new(shards: usize) -> Self {
        let out = std::iter::repeat_with(Vec::new).take(shards).collect();
        Self { nodes: Vec::new(), next: Vec::new(), out, desk: Vec::new(), log: Log::default(), soonest: NEVER }
    }

    fn receive(&mut self, letter: Letter, shards: usize) {
        let i = letter.to as usize / shards;
        if let (Some(n), Some(next)) = (self.nodes.get_mut(i), self.next.get_mut(i)) {
            *next = letter.at().min(*next);
            n.post.receive(letter);
        }
    }

    /// Lets each node take its steps before `until`.
    fn work(&mut self, ctx: &Ctx, until: Instant) {
        let shards = self.out.len();
        self.soonest = NEVER;
        for (n, next) in self.nodes.iter_mut().zip(&mut self.next) {
            if *next < until {
                std::mem::swap(&mut n.post.out, &mut self.desk);
                let mut turn = Turn { n, ctx, log: &mut self.log };
                turn.take_all(until);
                *next = n.post.next_at().unwrap_or(NEVER);
                std::mem::swap(&mut n.post.out, &mut self.desk);
                for letter in self.desk.drain(..) {
                    self.soonest = self.soonest.min(letter.at());
                    if let Some(out) = self.out.get_mut(letter.to as usize % shards) {
                        out.push(letter);
                    }
                }
            }
            self.soonest = self.soonest.min(*next);
        }
    }
}

impl Shards {
    /// Shares the nodes, which are in the order of their numbers, out for so many threads.
    pub fn new(nodes: Vec<Node>, threads: usize) -> Self {
        let threads = threads.max(1);
        let count = if threads > 1 { threads * PER_THREAD } else { 1 };
        let mut shards: Vec<Shard> = (0..count).map(|_| Shard::new(count)).collect();
        for (i, n) in nodes.into_iter().enumerate() {
            let at = n.post.next_at().unwrap_or(NEVER);
            if let Some(s) = shards.get_mut(i % count) {
                s.soonest = s.soonest.min(at);
                s.next.push(at);
                s.nodes.push(n);
            }
        }
        let letters = [(); 2].map(|()| std::iter::repeat_with(Mutex::default).take(count * count).collect());
        Self { shards: shards.into_iter().map(Mutex::new).collect(), letters, threads, window: 0, taken: 0, steps: 0 }
    }

    /// When the next step of all is due.
    pub fn soonest(&self) -> Instant {
        self.shards.iter().map(|s| lock(s).soonest).min().unwrap_or(NEVER)
    }

    /// Takes all steps before `until`: none of them reaches another node sooner.
    pub fn work(&mut self, ctx: &Ctx, until: Instant) {
        self.window += 1;
        let count = self.shards.len();
        let [even, odd] = &self.letters;
        let (before, now) = if self.window.is_multiple_of(2) { (odd, even) } else { (even, odd) };
        let (shards, turn) = (&self.shards, AtomicUsize::new(0));
        let some = || {
            loop {
                let to = turn.fetch_add(1, Ordering::Relaxed);
                let Some(shard) = shards.get(to) else { return };
                let mut shard = lock(shard);
                for from in 0..count {
                    let Some(letters) = before.get(from * count + to) else { continue };
                    for letter in lock(letters).drain(..) {
                        shard.receive(letter, count);
                    }
                }
                shard.work(ctx, until);
                for (next, out) in shard.out.iter_mut().enumerate() {
                    if let Some(letters) = now.get(to * count + next) {
                        std::mem::swap(&mut *lock(letters), out);
                    }
                }
            }
        };
        if self.threads > 1 && self.steps >= WORTH {
            std::thread::scope(|s| {
                (1..self.threads).for_each(|_| drop(s.spawn(some)));
                some();
            });
        } else {
            some();
        }
        let steps: u64 = self.shards.iter().map(|s| lock(s).log.steps).sum();
        self.steps = steps - std::mem::replace(&mut self.taken, steps);
    }

    /// Steps taken, and events handled by engines.
    pub fn work_done(&self) -> (u64, u64) {
        self.shards.iter().map(|s| lock(s)).fold((0, 0), |(s, h), l| (s + l.log.steps, h + l.log.handled))
    }

    /// Each shard in turn.
    pub fn each(&mut self) -> impl Iterator<Item = &mut Shard> {
        self.shards.iter_mut().map(|s| s.get_mut().unwrap_or_else(PoisonError::into_inner))
    }
}

//! Who sends next: two classes, in each the flows in turn, and one bucket that all bytes come out of.
//!
//! Sans-IO; time comes in with each call. Invariants: over any stretch of time t at most `rate · t + burst` bytes are served;
//! nothing of the second class is served while the first waits; within a class, flows that wait are served alike to within
//! [`LAG`] and a chunk. That is start-time fair queueing (Goyal, Vin, Chen, 1996), O(log flows) per chunk: a flow's tag is
//! the bytes it was served since it began to wait, and the lowest tag is next.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use crate::units::Instant;

/// What fairness is between: a viewer, or the address of those who do not say who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Flow {
    Viewer(u128),
    Address(u128),
}

/// Which bytes go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Granted = 0,
    Leftover = 1,
}

/// One chunk that waits, or was served and not fetched yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket(u64);

/// What an idle server may send at once, in seconds of its rate: as long as its task may be kept from running on a machine that
/// is busy without a loss of rate, and short to everybody else.
const BURST_S: f64 = 0.05;
/// At least this much, or a slow rate would be cut into crumbs.
const BURST_LEAST: f64 = 16.0 * 1024.0;
/// A chunk is this much of the rate, within bounds: so long a flow waits for each of those before it.
const CHUNK_S: f64 = 0.004;
const CHUNK_LEAST: f64 = 1024.0;
/// The size when many wait. Small, so that thousands share the rate evenly in short stretches, and hold little.
const CHUNK_MANY: f64 = 16.0 * 1024.0;
const CHUNK_MOST: f64 = 128.0 * 1024.0;
/// A flow that did not wait when its turn came is owed so many bytes at most. One connection is asked for its next chunk only
/// once the last is sent, and would lose to a flow of many without this; and what is short goes first.
pub(super) const LAG: u64 = 128 * 1024;
/// But no more than it would have been served in this time: whoever is ahead waits as long.
const LAG_S: f64 = 0.1;
const LAG_LEAST: f64 = 16.0 * 1024.0;
/// Flows that wait for nothing and are remembered.
const IDLE_MOST: usize = 65_536;

#[derive(Debug)]
struct Waiting<W> {
    flow: Flow,
    class: Class,
    bytes: usize,
    /// `None` once served.
    waker: Option<W>,
}

#[derive(Debug, Default)]
struct Turns {
    tag: u64,
    tickets: VecDeque<Ticket>,
    /// Tickets in there that were given up.
    dead: usize,
}

#[derive(Debug, Default)]
struct Ring {
    /// The tag that was served last.
    clock: u64,
    flows: HashMap<Flow, Turns>,
    waiting: BTreeSet<(u64, Flow)>,
    idle: BTreeSet<(u64, Flow)>,
}

/// `W` is what wakes whoever waits.
#[derive(Debug)]
pub(super) struct Queue<W> {
    bytes_per_s: f64,
    tokens: f64,
    at: Instant,
    rings: [Ring; 2],
    tickets: HashMap<Ticket, Waiting<W>>,
    next: u64,
}

/// What became of a ticket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    Served(usize),
    Waits,
}

impl<W> Queue<W> {
    pub fn new(bytes_per_s: f64, now: Instant) -> Self {
        let bytes_per_s = bytes_per_s.max(1.0);
        let mut queue = Self {
            bytes_per_s,
            tokens: 0.0,
            at: now,
            rings: [Ring::default(), Ring::default()],
            tickets: HashMap::new(),
            next: 0,
        };
        queue.tokens = queue.burst();
        queue
    }

    fn burst(&self) -> f64 {
        (self.bytes_per_s * BURST_S).max(BURST_LEAST)
    }

    /// Bytes of one chunk as things are.
    fn chunk(&self) -> usize {
        let least = (self.bytes_per_s * 5.0 * CHUNK_S).clamp(CHUNK_LEAST, CHUNK_MANY);
        let flows = self.rings.iter().map(|r| r.waiting.len()).sum::<usize>() + 1;
        (self.bytes_per_s * CHUNK_S / flows as f64).clamp(least, CHUNK_MOST) as usize
    }

    /// Bytes that one flow may be behind as things are.
    fn lag(&self) -> u64 {
        let flows = self.rings.iter().map(|r| r.waiting.len()).sum::<usize>() + 1;
        (self.bytes_per_s * LAG_S / flows as f64).clamp(LAG_LEAST, LAG as f64) as u64
    }

    /// Asks to send up to `most` bytes. Served at once, or waits; then `waker` comes back from [`Self::pump`].
    pub fn ask(
        &mut self,
        now: Instant,
        (class, flow): (Class, Flow),
        most: usize,
        waker: impl FnOnce() -> W,
        woken: &mut Vec<W>,
    ) -> Result<usize, Ticket> {
        let bytes = most.min(self.chunk());
        // The common case of a server that is not busy, without a ticket.
        self.pump(now, woken);
        if self.rings.iter().take(class as usize + 1).all(|r| r.waiting.is_empty()) && self.tokens >= bytes as f64 {
            self.tokens -= bytes as f64;
            let lag = self.lag();
            self.ring(class).pass(flow, bytes as u64, lag);
            return Ok(bytes);
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.tickets.insert(ticket, Waiting { flow, class, bytes, waker: Some(waker()) });
        let lag = self.lag();
        self.ring(class).join(flow, ticket, lag);
        Err(ticket)
    }

    /// Fetches what was served. A ticket that still waits is waked by `waker` from now on.
    pub fn claim(&mut self, ticket: Ticket, waker: impl FnOnce() -> W) -> Claim {
        match self.tickets.get_mut(&ticket) {
            Some(Waiting { waker: Some(old), .. }) => {
                *old = waker();
                Claim::Waits
            }
            Some(Waiting { bytes, .. }) => {
                let bytes = *bytes;
                self.tickets.remove(&ticket);
                Claim::Served(bytes)
            }
            // Never: tickets are removed by their holders alone.
            None => Claim::Served(0),
        }
    }

    /// Gives a ticket up; what it was served and did not fetch goes to others.
    pub fn leave(&mut self, ticket: Ticket) {
        let Some(gone) = self.tickets.remove(&ticket) else { return };
        if gone.waker.is_none() {
            self.tokens += gone.bytes as f64;
            return;
        }
        let tickets = &self.tickets;
        let ring = &mut self.rings[gone.class as usize];
        let Some(turns) = ring.flows.get_mut(&gone.flow) else { return };
        turns.dead += 1;
        // Sorted out now and then, not each time: whoever opens and leaves a thousand connections pays for them itself.
        if turns.dead * 2 > turns.tickets.len() {
            turns.tickets.retain(|t| tickets.contains_key(t));
            turns.dead = 0;
            if turns.tickets.is_empty() {
                let entry = (turns.tag, gone.flow);
                ring.waiting.remove(&entry);
                ring.idle.insert(entry);
            }
        }
    }

    /// Serves what the rate allows by `now`, and gives the wakers of those served.
    pub fn pump(&mut self, now: Instant, woken: &mut Vec<W>) {
        let earned = now.since(self.at).as_secs_f64() * self.bytes_per_s;
        self.tokens = (self.tokens + earned).min(self.burst());
        self.at = self.at.max(now);
        for ring in &mut self.rings {
            while let Some((tag, flow)) = ring.waiting.first().copied() {
                let Some(turns) = ring.flows.get_mut(&flow) else {
                    ring.waiting.pop_first();
                    continue;
                };
                let Some(ticket) = turns.tickets.front().copied() else {
                    ring.waiting.pop_first();
                    ring.idle.insert((tag, flow));
                    continue;
                };
                let Some(head) = self.tickets.get_mut(&ticket) else {
                    turns.tickets.pop_front();
                    turns.dead = turns.dead.saturating_sub(1);
                    continue;
                };
                if self.tokens < head.bytes as f64 {
                    return;
                }
                self.tokens -= head.bytes as f64;
                woken.extend(head.waker.take());
                turns.tickets.pop_front();
                turns.tag = tag + head.bytes as u64;
                let entry = (turns.tag, flow);
                let more = !turns.tickets.is_empty();
                ring.waiting.pop_first();
                if more {
                    ring.waiting.insert(entry)
                } else {
                    ring.idle.insert(entry)
                };
                ring.tell(tag);
            }
        }
    }

    /// When the next chunk can be served, if any waits: call [`Self::pump`] then.
    pub fn due(&self) -> Option<Instant> {
        let ring = self.rings.iter().find(|r| !r.waiting.is_empty())?;
        let (_, flow) = ring.waiting.first()?;
        let head = ring.flows.get(flow).and_then(|t| t.tickets.front()).and_then(|t| self.tickets.get(t));
        let lacks = head.map_or(0.0, |h| (h.bytes as f64 - self.tokens).max(0.0));
        Some(self.at + Duration::from_secs_f64(lacks / self.bytes_per_s))
    }

    /// All who wait, to be told that it is over.
    pub fn close(&mut self, woken: &mut Vec<W>) {
        woken.extend(self.tickets.values_mut().filter_map(|t| t.waker.take()));
    }

    fn ring(&mut self, class: Class) -> &mut Ring {
        let [granted, leftover] = &mut self.rings;
        match class {
            Class::Granted => granted,
            Class::Leftover => leftover,
        }
    }
}

impl Ring {
    /// A chunk that need not wait.
    fn pass(&mut self, flow: Flow, bytes: u64, lag: u64) {
        let start = self.begin(flow, lag);
        if let Some(turns) = self.flows.get_mut(&flow) {
            turns.tag = start + bytes;
        }
        self.idle.insert((start + bytes, flow));
        self.tell(start);
    }

    fn join(&mut self, flow: Flow, ticket: Ticket, lag: u64) {
        let waits = self.flows.get(&flow).is_some_and(|t| self.waiting.contains(&(t.tag, flow)));
        if !waits {
            let start = self.begin(flow, lag);
            self.waiting.insert((start, flow));
        }
        if let Some(turns) = self.flows.get_mut(&flow) {
            turns.tickets.push_back(ticket);
        }
    }

    /// The tag of a flow that comes back, or is new: where it was, unless that is too long ago.
    fn begin(&mut self, flow: Flow, lag: u64) -> u64 {
        let turns = self.flows.entry(flow).or_default();
        self.idle.remove(&(turns.tag, flow));
        turns.tag = turns.tag.max(self.clock.saturating_sub(lag));
        turns.tag
    }

    /// Time passes as tags are served. Forgets flows that a new one would not differ from, whatever the lag then is: who was
    /// forgotten sooner would come back with what it already had.
    fn tell(&mut self, tag: u64) {
        self.clock = self.clock.max(tag);
        while let Some((tag, flow)) = self.idle.first().copied() {
            if tag.saturating_add(LAG) > self.clock && self.idle.len() <= IDLE_MOST {
                break;
            }
            self.idle.pop_first();
            self.flows.remove(&flow);
        }
    }
}

#[cfg(test)]
impl<W> Queue<W> {
    pub fn sizes(&self) -> (usize, usize) {
        (self.rings.iter().map(|r| r.flows.len()).sum(), self.tickets.len())
    }

    /// Checks that each flow waits or is idle, as its tickets say.
    pub fn check(&self) -> Result<(), String> {
        for (class, ring) in self.rings.iter().enumerate() {
            for (flow, turns) in &ring.flows {
                let entry = (turns.tag, *flow);
                let (waits, idle) = (ring.waiting.contains(&entry), ring.idle.contains(&entry));
                if waits == turns.tickets.is_empty() || waits == idle {
                    return Err(format!("{flow:?} {turns:?}: waits {waits}, idle {idle}"));
                }
            }
            if ring.waiting.len() + ring.idle.len() != ring.flows.len() {
                return Err("entries without a flow".into());
            }
            let queued: usize = ring.flows.values().map(|t| t.tickets.len() - t.dead).sum();
            let live = self.tickets.values().filter(|t| t.waker.is_some() && t.class as usize == class).count();
            if queued != live {
                return Err(format!("{queued} queued, {live} wait"));
            }
        }
        Ok(())
    }
}

//! The network between nodes: each has one access link up and one down, and the paths between them only delay.
//!
//! Granularity is the block; a block stands for the packets it is cut into. What is modelled, and of what:
//! - *uplink*: processor sharing among the flows with something to send, by virtual time (Demers, Keshav, Shenker 1989), as
//!   TCP flows of equal round trip share it;
//! - *downlink*: first come, first served, with cut-through: a block that comes slower than the link takes no time of its own;
//! - *TCP*: a window of bytes not acknowledged that begins with one block, grows by what is acknowledged (slow start) or by
//!   a block a round trip, and halves when the receiver's queue is past its buffer. Lost packets are not sent again: the loss
//!   costs window, not bytes;
//! - *receive budget*: what the application reads slower than it comes waits in the receiver's buffers and is acknowledged once
//!   it was read, and the window shrinks to one block; with the budget gone all that waits is read at once.
//!
//! Messages without payload take the path's delay and no bandwidth. Jitter delays, and never reorders, within a lane.
//!
//! Invariant: bytes of a lane are delivered whole, once and in order, unless its link closes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::agenda::Agenda;
use super::dice::Dice;
use super::step::{LaneKey, Step};
use crate::units::{BLOCK_LEN, BlockRef, FetchId, Instant};

/// A new connection's window: ten packets (RFC 6928), here one block.
const FIRST_WINDOW: f64 = BLOCK_LEN as f64;
/// The most a receiver lets be under way: what common systems grow their buffers to on access links of this kind.
const WINDOW_MOST: f64 = 2.0 * 1024.0 * 1024.0;
/// What losses leave of a window at least.
const WINDOW_LEAST: f64 = 2.0 * BLOCK_LEN as f64;
/// With the peers held back, their windows are small: a block, for nothing smaller moves here.
const WINDOW_HELD: f64 = BLOCK_LEN as f64;
/// What may be read in one go under a budget.
const BURST: Duration = Duration::from_millis(100);
/// Queue in front of a downlink before packets are dropped: what home routers hold.
const BUFFER: Duration = Duration::from_millis(200);

/// What a parcel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cargo {
    /// A block of a peer's; `lie` is 0 for the true bytes, else who falsified them.
    Block { block: BlockRef, lie: u32 },
    /// Bytes of a fetch up to here.
    Range { fetch: FetchId, upto: u64, lie: u32 },
}

/// Payload that is sent as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parcel {
    pub cargo: Cargo,
    pub len: u32,
}

/// One direction of a link.
#[derive(Debug, Clone, Default)]
struct Lane {
    /// Which link it is a lane of; none is 0.
    link: u32,
    from: u32,
    to: u32,
    delay: Duration,
    /// From a server: not held to the peers' budget.
    server: bool,
    queue: VecDeque<Parcel>,
    sending: Option<Parcel>,
    wire: VecDeque<(Instant, Parcel)>,
    /// What came through the receiver's line, when, and whether it is held to the budget: not acknowledged until it is read.
    read: VecDeque<(Instant, Parcel, bool)>,
    /// What waits in the receiver's buffers for the budget.
    kept: VecDeque<Parcel>,
    acks: VecDeque<(Instant, u32)>,
    unacked: u64,
    window: f64,
    threshold: f64,
    cut_at: Option<Instant>,
    /// Waits for its window, and no step is made to look again.
    stuck: bool,
    refill_at: Option<Instant>,
}

#[derive(Debug, Clone, Default)]
struct Access {
    up: f64,
    down: f64,
    delay: Duration,
    jitter: Duration,
    /// Virtual bytes that each active flow was given since the uplink was last idle.
    given: f64,
    told: Instant,
    active: u32,
    /// `(bits of the virtual finish, order, lane, link)`: positive doubles sort as their bits do.
    finish: BinaryHeap<Reverse<(u64, u64, u32, u32)>>,
    order: u64,
    look_at: Option<Instant>,
    down_free: Instant,
    budget: Option<f64>,
    read_free: Instant,
    /// Lanes with something kept, in the order it is read.
    kept: VecDeque<LaneKey>,
    read_at: Option<Instant>,
}

/// All access links and lanes.
#[derive(Debug, Default)]
pub(super) struct Net {
    access: Vec<Access>,
    lanes: Vec<Lane>,
}

fn time_for(len: u32, rate: f64) -> Duration {
    Duration::from_nanos((f64::from(len) / rate.max(1e-3) * 1e9).min(1e18).ceil() as u64)
}

impl Net {
    /// A node's access link, bytes per second each way; the delay is one way, between it and the middle of the network.
    pub fn add(&mut self, up: f64, down: f64, delay: Duration, jitter: Duration) {
        self.access.push(Access { up, down, delay, jitter, ..Access::default() });
    }

    /// One way from node to node.
    pub fn delay(&self, a: u32, b: u32) -> Duration {
        self.access[a as usize].delay + self.access[b as usize].delay
    }

    /// Makes the two lanes of a link in its slot.
    pub fn open(&mut self, slot: u32, link: u32, ends: [u32; 2], server: bool) {
        let lanes = (slot as usize + 1) * 2;
        if self.lanes.len() < lanes {
            self.lanes.resize_with(lanes, Lane::default);
        }
        let delay = self.delay(ends[0], ends[1]);
        for (i, [from, to]) in [ends, [ends[1], ends[0]]].into_iter().enumerate() {
            self.lanes[slot as usize * 2 + i] = Lane {
                link,
                from,
                to,
                delay,
                server,
                window: FIRST_WINDOW,
                threshold: f64::INFINITY,
                ..Lane::default()
            };
        }
    }

    /// Drops whatever is on the link's way.
    pub fn close(&mut self, now: Instant, slot: u32, agenda: &mut Agenda<Step>) {
        for i in [slot * 2, slot * 2 + 1] {
            let lane = std::mem::take(&mut self.lanes[i as usize]);
            if lane.sending.is_some() {
                self.advance(lane.from, now);
                self.access[lane.from as usize].active -= 1;
                self.look(lane.from, now, agenda);
            }
        }
    }

    fn lane(&mut self, key: LaneKey) -> Option<&mut Lane> {
        self.lanes.get_mut(key.lane as usize).filter(|l| l.link == key.link)
    }

    /// Hands payload to the lane's socket.
    pub fn send(&mut self, now: Instant, key: LaneKey, parcel: Parcel, agenda: &mut Agenda<Step>) {
        if let Some(l) = self.lane(key) {
            l.queue.push_back(parcel);
            self.pump(now, key, agenda);
        }
    }

    /// Bytes in the lane's socket that were not sent yet.
    pub fn unsent(&self, key: LaneKey) -> u64 {
        self.lanes.get(key.lane as usize).filter(|l| l.link == key.link).map_or(0, |l| {
            l.queue.iter().map(|p| u64::from(p.len)).sum::<u64>() + l.sending.map_or(0, |p| u64::from(p.len))
        })
    }

    /// Takes what was not sent yet out of the lane's socket again.
    pub fn unsend(&mut self, key: LaneKey, which: impl Fn(&Cargo) -> bool) {
        if let Some(l) = self.lane(key) {
            l.queue.retain(|p| !which(&p.cargo));
        }
    }

    /// How fast a node reads all its peers together; `None` is as fast as they come.
    pub fn set_budget(&mut self, now: Instant, node: u32, bytes_per_s: Option<u64>, agenda: &mut Agenda<Step>) {
        let a = &mut self.access[node as usize];
        a.budget = bytes_per_s.map(|b| b as f64);
        if a.budget.is_none() && !a.kept.is_empty() {
            a.read_at = Some(now);
            agenda.push(now, Step::Read(node));
        }
    }

    /// Starts the lane's next parcel if its window lets it.
    fn pump(&mut self, now: Instant, key: LaneKey, agenda: &mut Agenda<Step>) {
        let Some(to) = self.lane(key).map(|l| l.to) else { return };
        let held = self.access[to as usize].budget.is_some();
        let Some(l) = self.lane(key) else { return };
        while let Some((_, len)) = l.acks.front().copied().filter(|a| a.0 <= now) {
            l.acks.pop_front();
            l.unacked -= u64::from(len);
            let len = f64::from(len);
            l.window += if l.window < l.threshold { len } else { len * len / l.window };
            l.window = l.window.min(WINDOW_MOST);
        }
        if l.sending.is_some() {
            return;
        }
        let Some(next) = l.queue.front().copied() else { return };
        let window = if held && !l.server { l.window.min(WINDOW_HELD) } else { l.window };
        if l.unacked > 0 && l.unacked as f64 + f64::from(next.len) > window {
            match l.acks.front().map(|a| a.0) {
                Some(at) if l.refill_at != Some(at) => {
                    l.refill_at = Some(at);
                    agenda.push(at, Step::Refill(key));
                }
                Some(_) => {}
                None => l.stuck = true,
            }
            return;
        }
        l.queue.pop_front();
        l.sending = Some(next);
        l.unacked += u64::from(next.len);
        let from = l.from;
        self.advance(from, now);
        let a = &mut self.access[from as usize];
        a.active += 1;
        a.order += 1;
        a.finish.push(Reverse(((a.given + f64::from(next.len)).to_bits(), a.order, key.lane, key.link)));
        self.look(from, now, agenda);
    }

    /// Brings the uplink's virtual time up to now.
    fn advance(&mut self, node: u32, now: Instant) {
        let a = &mut self.access[node as usize];
        if a.active > 0 {
            a.given += now.since(a.told).as_secs_f64() * a.up / f64::from(a.active);
        } else {
            a.given = 0.0;
            a.finish.clear();
        }
        a.told = now;
    }

    /// Sees to it that the uplink is looked at when its first flow will be done. Looking too early does no harm.
    fn look(&mut self, node: u32, now: Instant, agenda: &mut Agenda<Step>) {
        let a = &mut self.access[node as usize];
        let Some(Reverse((bits, ..))) = a.finish.peek().copied().filter(|_| a.active > 0) else { return };
        let left = (f64::from_bits(bits) - a.given).max(0.0) * f64::from(a.active) / a.up.max(1e-3);
        let at = now + Duration::from_nanos((left * 1e9).min(1e18).ceil() as u64);
        if a.look_at.is_none_or(|t| t > at) {
            a.look_at = Some(at);
            agenda.push(at, Step::Uplink(node));
        }
    }

    /// Parcels that have left the node whole by now, into `sent`.
    pub fn uplink(
        &mut self,
        now: Instant,
        node: u32,
        agenda: &mut Agenda<Step>,
        dice: &mut Dice,
        sent: &mut Vec<(LaneKey, Parcel)>,
    ) {
        if self.access[node as usize].look_at != Some(now) {
            return;
        }
        self.access[node as usize].look_at = None;
        self.advance(node, now);
        let first = sent.len();
        while let Some(Reverse((bits, _, lane, link))) = self.access[node as usize].finish.peek().copied() {
            let live = self.lanes.get(lane as usize).is_some_and(|l| l.link == link && l.sending.is_some());
            // A hundredth of a byte covers what the rounding to nanoseconds leaves.
            if live && f64::from_bits(bits) > self.access[node as usize].given + 0.01 {
                break;
            }
            let a = &mut self.access[node as usize];
            a.finish.pop();
            let jitter = a.jitter;
            let key = LaneKey { lane, link };
            let Some(l) = self.lanes.get_mut(lane as usize).filter(|l| l.link == link) else { continue };
            let Some(parcel) = l.sending.take() else { continue };
            a.active -= 1;
            let at = now + l.delay + dice.up_to(jitter);
            let at = l.wire.back().map_or(at, |w| w.0.max(at));
            l.wire.push_back((at, parcel));
            agenda.push(at, Step::Arrive(key));
            sent.push((key, parcel));
        }
        for (key, _) in &sent[first..] {
            self.pump(now, *key, agenda);
        }
        self.look(node, now, agenda);
    }

    /// The next parcel of the lane has come to the receiver's access link; given back if it is read at once.
    pub fn arrive(&mut self, now: Instant, key: LaneKey, agenda: &mut Agenda<Step>) -> Option<Parcel> {
        let l = self.lane(key)?;
        let (_, parcel) = l.wire.pop_front()?;
        let (to, server, delay) = (l.to, l.server, l.delay);
        let a = &mut self.access[to as usize];
        let takes = time_for(parcel.len, a.down);
        a.down_free = a.down_free.max(now - takes) + takes;
        let done = a.down_free.max(now);
        let full = done.since(now) > BUFFER;
        let budget = a.budget.is_some();
        let l = self.lane(key)?;
        let held = !server && (budget || !l.kept.is_empty() || l.read.back().is_some_and(|r| r.2));
        let done = l.read.back().map_or(done, |r| r.0.max(done));
        if full && l.cut_at.is_none_or(|t| now.since(t) > delay * 2 + BUFFER) {
            l.cut_at = Some(now);
            l.window = (l.window / 2.0).max(WINDOW_LEAST);
            l.threshold = l.window;
        }
        if !held {
            self.acknowledge(key, done, parcel.len, agenda);
        }
        let l = self.lane(key)?;
        if held || done > now || !l.read.is_empty() {
            l.read.push_back((done, parcel, held));
            agenda.push(done, Step::Take(key));
            return None;
        }
        Some(parcel)
    }

    /// The sender learns a path later that so much was taken in.
    fn acknowledge(&mut self, key: LaneKey, at: Instant, len: u32, agenda: &mut Agenda<Step>) {
        let Some(l) = self.lane(key) else { return };
        let at = at + l.delay;
        l.acks.push_back((at, len));
        if std::mem::take(&mut l.stuck) {
            l.refill_at = Some(at);
            agenda.push(at, Step::Refill(key));
        }
    }

    /// The lane's next parcel has come through the receiver's line: the application reads it, or keeps it for the budget.
    pub fn take(&mut self, now: Instant, key: LaneKey, agenda: &mut Agenda<Step>) -> Option<Parcel> {
        let l = self.lane(key)?;
        let (_, parcel, held) = l.read.pop_front()?;
        if !held {
            return Some(parcel);
        }
        l.kept.push_back(parcel);
        let node = l.to;
        let a = &mut self.access[node as usize];
        a.kept.push_back(key);
        if a.read_at.is_none() {
            let at = if a.budget.is_some() { a.read_free.max(now) } else { now };
            a.read_at = Some(at);
            agenda.push(at, Step::Read(node));
        }
        None
    }

    /// The application reads what the budget lets it; given back with its lane.
    pub fn read(&mut self, now: Instant, node: u32, agenda: &mut Agenda<Step>) -> Option<(LaneKey, Parcel)> {
        let a = &mut self.access[node as usize];
        if a.read_at != Some(now) {
            return None;
        }
        a.read_at = None;
        let mut found = None;
        while found.is_none() {
            let key = self.access[node as usize].kept.pop_front()?;
            found = self.lane(key).and_then(|l| l.kept.pop_front()).map(|p| (key, p));
        }
        let (key, parcel) = found?;
        self.acknowledge(key, now, parcel.len, agenda);
        let a = &mut self.access[node as usize];
        // An idle reader saves up no more than a burst.
        a.read_free = a.read_free.max(now - BURST) + a.budget.map_or(Duration::ZERO, |b| time_for(parcel.len, b));
        if !a.kept.is_empty() {
            let at = if a.budget.is_some() { a.read_free.max(now) } else { now };
            a.read_at = Some(at);
            agenda.push(at, Step::Read(node));
        }
        Some((key, parcel))
    }

    /// Acknowledgements may let the lane go on.
    pub fn refill(&mut self, now: Instant, key: LaneKey, agenda: &mut Agenda<Step>) {
        if let Some(l) = self.lane(key) {
            if l.refill_at == Some(now) {
                l.refill_at = None;
            }
            self.pump(now, key, agenda);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 1_000_000.0;

    /// One sender with so many flows of `blocks` each to receivers of their own; when each flow's last block was read, seconds.
    fn race(flows: u32, blocks: u32, down: f64, delay: Duration) -> Vec<f64> {
        let (mut net, mut agenda, mut dice) = (Net::default(), Agenda::default(), Dice::new(1));
        net.add(RATE, RATE, delay, Duration::ZERO);
        for to in 1..=flows {
            net.add(RATE, down, delay, Duration::ZERO);
            net.open(to - 1, to, [0, to], false);
            for block in 0..blocks {
                let cargo = Cargo::Block { block: BlockRef { piece: crate::units::PieceIndex(0), block }, lie: 0 };
                let key = LaneKey { lane: (to - 1) * 2, link: to };
                net.send(Instant::ZERO, key, Parcel { cargo, len: BLOCK_LEN }, &mut agenda);
            }
        }
        let (mut read, mut last) = (vec![0; flows as usize], vec![0.0; flows as usize]);
        while let Some((now, step)) = agenda.pop() {
            let parcel = match step {
                Step::Uplink(n) => {
                    net.uplink(now, n, &mut agenda, &mut dice, &mut Vec::new());
                    None
                }
                Step::Arrive(key) => net.arrive(now, key, &mut agenda).map(|p| (key, p)),
                Step::Take(key) => net.take(now, key, &mut agenda).map(|p| (key, p)),
                Step::Read(n) => net.read(now, n, &mut agenda),
                Step::Refill(key) => {
                    net.refill(now, key, &mut agenda);
                    None
                }
                _ => None,
            };
            if let Some((key, Parcel { cargo: Cargo::Block { block, .. }, .. })) = parcel {
                let flow = key.link as usize - 1;
                assert_eq!(block.block, read[flow], "in order");
                read[flow] += 1;
                last[flow] = now.as_secs_f64();
            }
        }
        assert!(read.iter().all(|r| *r == blocks), "all of it: {read:?}");
        last
    }

    #[test]
    fn flows_share_an_uplink_evenly_and_use_all_of_it() {
        let alone = f64::from(BLOCK_LEN) * 100.0 / RATE;
        for (flows, delay) in [(1, 0), (4, 0), (7, 10), (3, 40)] {
            let last = race(flows, 100, 1e9, Duration::from_millis(delay));
            let whole = alone * f64::from(flows);
            // Slow start costs a few round trips; one flow alone over a long path the most.
            let slack = 0.02 * whole + 24.0 * delay as f64 / 1e3;
            assert!(
                last.iter().all(|t| *t >= 0.9 * whole && *t <= whole + slack),
                "{flows} flows: {last:?} for {whole}"
            );
        }
    }

    #[test]
    fn a_slow_receiver_holds_back_its_own_flow_only() {
        let (mut net, mut agenda) = (Net::default(), Agenda::<Step>::default());
        net.add(RATE, RATE, Duration::ZERO, Duration::ZERO);
        net.add(RATE, RATE / 10.0, Duration::ZERO, Duration::ZERO);
        net.open(0, 1, [0, 1], false);
        let key = LaneKey { lane: 0, link: 1 };
        let cargo = Cargo::Range { fetch: FetchId(0), upto: 0, lie: 0 };
        for _ in 0..200 {
            net.send(Instant::ZERO, key, Parcel { cargo, len: BLOCK_LEN }, &mut agenda);
        }
        let mut dice = Dice::new(1);
        let mut most = 0.0f64;
        while let Some((now, step)) = agenda.pop() {
            match step {
                Step::Uplink(n) => net.uplink(now, n, &mut agenda, &mut dice, &mut Vec::new()),
                Step::Arrive(key) => drop(net.arrive(now, key, &mut agenda)),
                Step::Take(key) => drop(net.take(now, key, &mut agenda)),
                Step::Refill(key) => net.refill(now, key, &mut agenda),
                _ => {}
            }
            most = most.max(net.access[1].down_free.as_secs_f64() - now.as_secs_f64());
            if now.as_secs_f64() > 20.0 {
                break;
            }
        }
        // The queue in front of its line stays near the buffer: the window gave way.
        assert!(most < 4.0 * BUFFER.as_secs_f64(), "a queue of {most} s");
    }
}

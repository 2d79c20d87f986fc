//! A node's access link, up and down; the paths between them only delay.
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
//! Messages without payload take the path's delay and no bandwidth, but for a choke: it comes after the blocks that its sender's
//! socket holds, as on any TCP connection. Jitter delays, and never reorders, within a link.
//!
//! Invariant: bytes of a link are delivered whole, once and in order, unless it closes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use super::dice::Dice;
use super::ends::{End, Ends};
use super::post::Post;
use super::step::{Ack, Cargo, Parcel, Step, Waits};
use crate::units::{BLOCK_LEN, Instant, LinkId};

/// The most a receiver lets be under way: what common systems grow their buffers to on access links of this kind.
const WINDOW_MOST: f64 = 2.0 * 1024.0 * 1024.0;
/// What losses leave of a window at least.
const WINDOW_LEAST: f64 = 2.0 * BLOCK_LEN as f64;
/// With the peers held back, their windows are small: a block, for nothing smaller moves here.
const WINDOW_HELD: f64 = BLOCK_LEN as f64;
/// What may be read in one go under a budget.
const BURST: Duration = Duration::from_millis(100);
/// Bytes of a choke message.
const CHOKE_LEN: u32 = 5;
/// Queue in front of a downlink before packets are dropped: what home routers hold.
const BUFFER: Duration = Duration::from_millis(200);

/// One node's access link.
#[derive(Debug, Default)]
pub(super) struct Access {
    /// Bytes per second.
    up: f64,
    down: f64,
    jitter: Duration,
    /// Virtual bytes that each active flow was given since the uplink was last idle.
    given: f64,
    told: Instant,
    active: u32,
    /// `(bits of the virtual finish, order, link)`: positive doubles sort as their bits do.
    finish: BinaryHeap<Reverse<(u64, u64, LinkId)>>,
    order: u64,
    look_at: Option<Instant>,
    down_free: Instant,
    budget: Option<f64>,
    read_free: Instant,
    /// Links with something kept, in the order it is read.
    kept: VecDeque<LinkId>,
    read_at: Option<Instant>,
}

fn time_for(len: u32, rate: f64) -> Duration {
    Duration::from_nanos((f64::from(len) / rate.max(1e-3) * 1e9).min(1e18).ceil() as u64)
}

impl Access {
    /// Bytes per second each way.
    pub fn new(up: f64, down: f64, jitter: Duration) -> Self {
        Self { up, down, jitter, ..Self::default() }
    }

    /// How fast the node reads all its peers together; `None` is as fast as they come.
    pub fn set_budget(&mut self, bytes_per_s: Option<u64>, post: &mut Post) {
        self.budget = bytes_per_s.map(|b| b as f64);
        if self.budget.is_none() && !self.kept.is_empty() {
            self.read_at = Some(post.now);
            post.later(post.now, Step::Read);
        }
    }

    /// Hands payload to the link's socket.
    pub fn send(&mut self, end: &mut End, parcel: Parcel, post: &mut Post) {
        end.out.queue.push_back(parcel);
        self.pump(end, post);
    }

    /// Starts the link's next parcel if its window lets it.
    fn pump(&mut self, end: &mut End, post: &mut Post) {
        let l = &mut end.out;
        if l.sending.is_some() {
            return;
        }
        let Some(next) = l.queue.front().copied() else { return };
        let window = if l.held { l.window.min(WINDOW_HELD) } else { l.window };
        if l.unacked > 0 && l.unacked as f64 + f64::from(next.len) > window {
            return;
        }
        l.queue.pop_front();
        l.sending = Some(next);
        l.unacked += u64::from(next.len);
        self.advance(post.now);
        self.active += 1;
        self.order += 1;
        self.finish.push(Reverse(((self.given + f64::from(next.len)).to_bits(), self.order, end.id)));
        self.look(post);
    }

    /// Brings the uplink's virtual time up to now.
    fn advance(&mut self, now: Instant) {
        if self.active > 0 {
            self.given += now.since(self.told).as_secs_f64() * self.up / f64::from(self.active);
        } else {
            self.given = 0.0;
            self.finish.clear();
        }
        self.told = now;
    }

    /// Sees to it that the uplink is looked at when its first flow will be done. Looking too early does no harm.
    fn look(&mut self, post: &mut Post) {
        let Some(Reverse((bits, ..))) = self.finish.peek().copied().filter(|_| self.active > 0) else { return };
        let left = (f64::from_bits(bits) - self.given).max(0.0) * f64::from(self.active) / self.up.max(1e-3);
        let at = post.now + Duration::from_nanos((left * 1e9).min(1e18).ceil() as u64);
        if self.look_at.is_none_or(|t| t > at) {
            self.look_at = Some(at);
            post.later(at, Step::Uplink);
        }
    }

    /// Sends off the parcels that have left the node whole by now; which, into `sent`.
    pub fn uplink(&mut self, ends: &mut Ends, dice: &mut Dice, post: &mut Post, sent: &mut Vec<(LinkId, Parcel)>) {
        let now = post.now;
        if self.look_at != Some(now) {
            return;
        }
        self.look_at = None;
        self.advance(now);
        while let Some(Reverse((bits, _, link))) = self.finish.peek().copied() {
            let live = ends.get_mut(link).filter(|e| e.out.sending.is_some());
            // A hundredth of a byte covers what the rounding to nanoseconds leaves.
            if live.is_some() && f64::from_bits(bits) > self.given + 0.01 {
                break;
            }
            self.finish.pop();
            let Some(end) = live else { continue };
            let Some(parcel) = end.out.sending.take() else { continue };
            self.active -= 1;
            end.sent = end.sent.max(now + end.delay + dice.up_to(self.jitter));
            if let Some(far) = end.far {
                post.send(end.sent, end.peer, Step::Arrive(far, parcel));
            }
            sent.push((link, parcel));
        }
        for (link, _) in sent {
            if let Some(end) = ends.get_mut(*link) {
                self.pump(end, post);
            }
        }
        self.look(post);
    }

    /// A parcel has come to the access link; given back if it is read at once.
    pub fn arrive(&mut self, end: &mut End, parcel: Parcel, post: &mut Post) -> Option<Parcel> {
        let now = post.now;
        let takes = time_for(parcel.len, self.down);
        self.down_free = self.down_free.max(now - takes) + takes;
        let done = self.down_free.max(now);
        let lost = done.since(now) > BUFFER;
        let held = !end.server && (self.budget.is_some() || !end.kept.is_empty() || end.reading > 0 && end.held);
        end.read = end.read.max(done);
        if !held {
            self.acknowledge(end, end.read, parcel.len, lost, post);
        }
        if held || end.reading > 0 || end.read > now {
            end.reading += 1;
            end.held = held;
            post.later(end.read, Step::Take(end.id, parcel, Waits { held, lost }));
            return None;
        }
        Some(parcel)
    }

    /// The sender learns a path later that so much was taken in.
    fn acknowledge(&self, end: &End, at: Instant, len: u32, lost: bool, post: &mut Post) {
        if let Some(far) = end.far {
            let held = self.budget.is_some() && !end.server;
            post.send(at + end.delay, end.peer, Step::Ack(far, Ack { len, lost, held }));
        }
    }

    /// A parcel has come through the line: the application reads it, or keeps it for the budget.
    pub fn take(&mut self, end: &mut End, parcel: Parcel, waits: Waits, post: &mut Post) -> Option<Parcel> {
        end.reading = end.reading.saturating_sub(1);
        if !waits.held {
            return Some(parcel);
        }
        end.kept.push_back((parcel, waits.lost));
        self.kept.push_back(end.id);
        if self.read_at.is_none() {
            self.read_on(post);
        }
        None
    }

    /// When the application reads next of what was kept.
    fn read_on(&mut self, post: &mut Post) {
        let at = if self.budget.is_some() { self.read_free.max(post.now) } else { post.now };
        self.read_at = Some(at);
        post.later(at, Step::Read);
    }

    /// The application reads what the budget lets it; given back with its link.
    pub fn read(&mut self, ends: &mut Ends, post: &mut Post) -> Option<(LinkId, Parcel)> {
        let now = post.now;
        if self.read_at != Some(now) {
            return None;
        }
        self.read_at = None;
        while let Some(link) = self.kept.pop_front() {
            // Links that closed meanwhile took along what they kept.
            let Some(end) = ends.get_mut(link) else { continue };
            let Some((parcel, lost)) = end.kept.pop_front() else { continue };
            self.acknowledge(end, now, parcel.len, lost, post);
            // An idle reader saves up no more than a burst.
            let takes = self.budget.map_or(Duration::ZERO, |b| time_for(parcel.len, b));
            self.read_free = self.read_free.max(now - BURST) + takes;
            if !self.kept.is_empty() {
                self.read_on(post);
            }
            return Some((link, parcel));
        }
        None
    }

    /// Says that the node chokes, or no longer: after the blocks that the socket holds. What waits before the socket is answered no
    /// more.
    pub fn choke(&mut self, end: &mut End, on: bool, post: &mut Post) {
        if on {
            end.unsend(|c| matches!(c, Cargo::Block { .. }));
        }
        self.send(end, Parcel { cargo: Cargo::Choke(on), len: CHOKE_LEN }, post);
    }

    /// What was sent has been read: the window moves on.
    pub fn acked(&mut self, end: &mut End, ack: Ack, post: &mut Post) {
        let (l, len) = (&mut end.out, f64::from(ack.len));
        l.unacked = l.unacked.saturating_sub(u64::from(ack.len));
        l.held = ack.held;
        l.window += if l.window < l.threshold { len } else { len * len / l.window };
        l.window = l.window.min(WINDOW_MOST);
        if ack.lost && l.cut_at.is_none_or(|t| post.now.since(t) > end.delay * 2 + BUFFER) {
            l.cut_at = Some(post.now);
            l.window = (l.window / 2.0).max(WINDOW_LEAST);
            l.threshold = l.window;
        }
        self.pump(end, post);
    }

    /// The link is gone, and with it what it was sending.
    pub fn close(&mut self, end: &End, post: &mut Post) {
        if end.out.sending.is_some() {
            self.advance(post.now);
            self.active -= 1;
            self.look(post);
        }
    }
}

impl End {
    /// Bytes in the link's socket that were not sent yet.
    pub fn unsent(&self) -> u64 {
        self.out.queue.iter().chain(&self.out.sending).map(|p| u64::from(p.len)).sum()
    }

    /// Takes what was not sent yet out of the link's socket again.
    pub fn unsend(&mut self, which: impl Fn(&Cargo) -> bool) {
        self.out.queue.retain(|p| !which(&p.cargo));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{BlockRef, PieceIndex};

    const RATE: f64 = 1_000_000.0;

    /// A node with nothing but its access link.
    struct Place {
        access: Access,
        ends: Ends,
        post: Post,
    }

    impl Place {
        fn new(id: u32, down: f64) -> Self {
            Self { access: Access::new(RATE, down, Duration::ZERO), ends: Ends::default(), post: Post::new(id) }
        }

        /// Takes its next step; the parcel that was read with it.
        fn step(&mut self, dice: &mut Dice) -> Option<(LinkId, Parcel)> {
            match self.post.pop(Instant(u64::MAX))? {
                Step::Uplink => {
                    self.access.uplink(&mut self.ends, dice, &mut self.post, &mut Vec::new());
                    None
                }
                Step::Arrive(link, parcel) => {
                    let end = self.ends.get_mut(link)?;
                    self.access.arrive(end, parcel, &mut self.post).map(|p| (link, p))
                }
                Step::Take(link, parcel, waits) => {
                    let end = self.ends.get_mut(link)?;
                    self.access.take(end, parcel, waits, &mut self.post).map(|p| (link, p))
                }
                Step::Read => self.access.read(&mut self.ends, &mut self.post),
                Step::Ack(link, ack) => {
                    self.access.acked(self.ends.get_mut(link)?, ack, &mut self.post);
                    None
                }
                step => unreachable!("{step:?}"),
            }
        }
    }

    /// Joins the first place to the others, so many blocks waiting on each link.
    fn join(places: &mut [Place], delay: Duration, blocks: u32) {
        for to in 1..places.len() {
            let near = places[0].ends.open(to as u32, None, delay, false);
            let far = places[to].ends.open(0, Some(near), delay, false);
            let Place { access, ends, post } = &mut places[0];
            let end = ends.get_mut(near).unwrap();
            end.far = Some(far);
            for block in 0..blocks {
                let cargo = Cargo::Block { block: BlockRef { piece: PieceIndex(0), block }, lie: 0 };
                access.send(end, Parcel { cargo, len: BLOCK_LEN }, post);
            }
        }
    }

    /// Takes the soonest step of all; at which place, and what was read.
    fn next(places: &mut [Place], dice: &mut Dice) -> Option<(usize, Option<Parcel>)> {
        for i in 0..places.len() {
            for letter in std::mem::take(&mut places[i].post.out) {
                places[letter.to as usize].post.receive(letter);
            }
        }
        let (_, i) = places.iter().enumerate().filter_map(|(i, p)| Some((p.post.next_at()?, i))).min()?;
        Some((i, places[i].step(dice).map(|p| p.1)))
    }

    /// One sender with so many flows of `blocks` each to receivers of their own; when each flow's last block was read, seconds.
    fn race(flows: usize, blocks: u32, down: f64, delay: Duration) -> Vec<f64> {
        let mut places: Vec<Place> =
            (0..=flows).map(|i| Place::new(i as u32, if i > 0 { down } else { RATE })).collect();
        join(&mut places, delay, blocks);
        let (mut read, mut last) = (vec![0; flows], vec![0.0; flows]);
        let mut dice = Dice::new(1);
        while let Some((i, parcel)) = next(&mut places, &mut dice) {
            if let Some(Parcel { cargo: Cargo::Block { block, .. }, .. }) = parcel {
                assert_eq!(block.block, read[i - 1], "in order");
                read[i - 1] += 1;
                last[i - 1] = places[i].post.now.as_secs_f64();
            }
        }
        assert!(read.iter().all(|r| *r == blocks), "all of it: {read:?}");
        last
    }

    #[test]
    fn flows_share_an_uplink_evenly_and_use_all_of_it() {
        let alone = f64::from(BLOCK_LEN) * 100.0 / RATE;
        for (flows, delay) in [(1, 0), (4, 0), (7, 20), (3, 80)] {
            let last = race(flows, 100, 1e9, Duration::from_millis(delay));
            let whole = alone * flows as f64;
            // Slow start costs a few round trips; one flow alone over a long path the most.
            let slack = 0.02 * whole + 12.0 * delay as f64 / 1e3;
            assert!(
                last.iter().all(|t| *t >= 0.9 * whole && *t <= whole + slack),
                "{flows} flows: {last:?} for {whole}"
            );
        }
    }

    #[test]
    fn a_slow_receiver_holds_back_its_own_flow_only() {
        let mut places = vec![Place::new(0, RATE), Place::new(1, RATE / 10.0)];
        join(&mut places, Duration::ZERO, 200);
        let (mut dice, mut most) = (Dice::new(1), 0.0f64);
        while let Some((i, _)) = next(&mut places, &mut dice) {
            let now = places[i].post.now.as_secs_f64();
            most = most.max(places[1].access.down_free.as_secs_f64() - now);
            if now > 20.0 {
                break;
            }
        }
        // The queue in front of its line stays near the buffer: the window gave way.
        assert!(most < 4.0 * BUFFER.as_secs_f64(), "a queue of {most} s");
    }

    #[test]
    fn a_link_that_closes_gives_its_share_of_the_uplink_back() {
        let mut places: Vec<Place> = (0..3).map(|i| Place::new(i, 1e9)).collect();
        join(&mut places, Duration::from_millis(5), 20);
        let Place { access, ends, post } = &mut places[0];
        let first = ends.ids()[0];
        let end = ends.remove(first).unwrap();
        access.close(&end, post);
        let (mut dice, mut last) = (Dice::new(1), 0.0);
        while let Some((i, parcel)) = next(&mut places, &mut dice) {
            if parcel.is_some() {
                assert_eq!(i, 2, "what was on a closed link is not read");
                last = places[i].post.now.as_secs_f64();
            }
        }
        assert!(last < 1.3 * 20.0 * f64::from(BLOCK_LEN) / RATE + 0.1, "{last}");
        assert!(places[0].ends.get(first).is_none());
    }
}

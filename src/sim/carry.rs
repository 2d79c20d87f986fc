//! Carries out what an engine says, as `stream` does with sockets and a disk.
//!
//! Invariant: nothing in here decides; what is not carried out at once becomes a step, a message or a parcel.

use std::time::Duration;

use super::node::{Actor, Turn};
use super::step::{Cargo, Message, Parcel, Step};
use crate::engine::{Action, Bid, Event, Phase};
use crate::units::{BLOCK_LEN, BlockRef, ByteRange, Instant};

/// Hashing a piece: a job's overhead, and SHA-1 at a gigabyte a second.
const HASH_FLAT: Duration = Duration::from_millis(1);
const HASH_RATE: f64 = 1e9;
/// An engine, its player and its store go back and forth at most so often in one moment.
const ROUNDS: u32 = 64;

impl Turn<'_> {
    /// Lets the node's engine handle what lies in its inbox, and all that follows from it at this moment.
    pub fn drive(&mut self) {
        let now = self.now();
        for round in 0.. {
            let Some(h) = self.n.host() else { return };
            if round > 0 && h.inbox.is_empty() {
                break;
            }
            if round > ROUNDS {
                self.fault("its engine and player never settle".into());
                break;
            }
            if !h.inbox.is_empty() {
                self.handle();
            }
            let Some(h) = self.n.host() else { return };
            if let Some(p) = &mut h.player {
                p.step(now, &mut h.store, &mut h.inbox);
            }
        }
        self.plan_wakeups();
    }

    /// When the engine and the player go on by themselves.
    fn plan_wakeups(&mut self) {
        let now = self.now();
        let Actor::Host(h) = &mut self.n.actor else { return };
        let mut wakeup = h.engine.next_wakeup();
        let mut spins = false;
        if h.ticked == Some(now) && wakeup.is_some_and(|t| t <= now) {
            // A driver would spin.
            spins = !std::mem::replace(&mut h.spun, true);
            wakeup = Some(now + Duration::from_millis(100));
        }
        if let Some(at) = wakeup.map(|t| t.max(now)).filter(|t| h.wake_at.is_none_or(|w| *t < w)) {
            h.wake_at = Some(at);
            self.n.post.later(at, Step::Wake);
        }
        let (mut ended, mut hops) = (false, false);
        if let Some(p) = &h.player {
            if let Some(at) = p.next(now, &mut h.store).filter(|t| h.play_at.is_none_or(|w| *t < w)) {
                h.play_at = Some(at);
                self.n.post.later(at, Step::Play);
            }
            ended = p.phase == Phase::Ended && !h.leaving;
            hops = p.seeks_left() == 0;
        }
        if spins {
            self.fault("asks to be woken in the past".into());
        }
        let Some((leaves, lingers, every)) =
            self.group().map(|g| (g.viewing.leaves, g.viewing.lingers, g.viewing.hops))
        else {
            return;
        };
        if ended && leaves {
            let stays = Duration::from_secs_f64(self.n.dice.exponential(lingers));
            self.n.post.later(now + stays, Step::Leave);
            if let Some(h) = self.n.host() {
                h.leaving = true;
            }
        }
        if hops && every > 0.0 {
            self.hop(every);
        }
    }

    fn handle(&mut self) {
        let (now, ctx) = (self.now(), self.ctx);
        let node = self.n.id;
        let Actor::Host(h) = &mut self.n.actor else { return };
        let events = std::mem::take(&mut h.inbox);
        let (count, ticked) = (events.len(), events.iter().any(|e| matches!(e, Event::Tick)));
        for e in &events {
            if ctx.tracing {
                self.log.lines.push((now, node, format!("{e:?}")));
            }
            if let Some(w) = &mut h.watch {
                w.told(now, e);
            }
            if let (Some(r), Event::Choked { link } | Event::LinkDown { link }) = (&mut h.recorder, e) {
                r.forget_all(*link);
            }
        }
        let (mut actions, before) = (Vec::new(), h.engine.totals().corrupt);
        h.engine.handle_all(now, events, &mut actions);
        h.handled += 1;
        if ticked {
            h.ticked = Some(now);
        }
        if h.engine.totals().corrupt != before {
            // Of a piece that failed, and of what a liar gave of others, the engine says what is void; the driver, too, goes by
            // what the engine has.
            let voided = h.store.void_where(|b| h.engine.has_block(b));
            if let Some(w) = &mut h.watch {
                w.voided(voided);
            }
        }
        for a in &actions {
            if ctx.tracing {
                self.log.lines.push((now, node, format!("{a:?}")));
            }
        }
        for a in actions {
            self.carry(a);
        }
        self.log.handled += count as u64;
        let every = ctx.options.check_every;
        let Actor::Host(h) = &mut self.n.actor else { return };
        if every > 0
            && h.handled.is_multiple_of(every)
            && let Err(e) = h.engine.check()
        {
            self.log.faults.push((now, node, e));
        }
        if let Some(w) = &mut h.watch {
            w.settled(now, h.engine.totals(), &h.store, h.player.as_ref(), ticked);
        }
    }

    fn carry(&mut self, action: Action) {
        let (now, layout) = (self.now(), self.ctx.film.layout);
        let (rides, greed) = self.group().map_or((false, 1.0), |g| (g.rides, g.viewing.greed));
        let Actor::Host(h) = &mut self.n.actor else { return };
        if let Some(w) = &mut h.watch {
            w.said(now, &action, &mut h.store, h.player.as_ref());
        }
        match action {
            Action::Request { link, block } | Action::Cancel { link, block } => {
                let asks = matches!(action, Action::Request { .. });
                if let Some(r) = &mut h.recorder {
                    if asks {
                        r.asked(now, link, block, h.engine.forecast(link, block));
                    } else {
                        r.forget(link, block);
                    }
                }
                let (piece, begin) = (block.piece, block.block * BLOCK_LEN);
                let len = layout.block_range(block).len() as u32;
                let message = match asks {
                    true => Message::Request { piece, begin, len },
                    false => Message::Cancel { piece, begin, len },
                };
                self.post(link, message);
            }
            Action::Interest { link, interested } => {
                self.post(link, Message::Interested(interested));
            }
            Action::Choke { link, choke } => {
                if choke || !rides {
                    self.choke(link, choke);
                }
            }
            Action::SendBlock { link, piece, begin, len } => {
                let block = BlockRef { piece, block: begin / BLOCK_LEN };
                self.send(link, Parcel { cargo: Cargo::Block { block, lie: 0 }, len });
            }
            Action::RejectBlock { link, piece, begin, .. } => {
                self.post(link, Message::Reject(BlockRef { piece, block: begin / BLOCK_LEN }));
            }
            Action::Verify { piece } => {
                let takes = Duration::from_secs_f64(layout.piece_range(piece).len() as f64 / HASH_RATE);
                h.store.checking.insert(piece);
                self.n.post.later(now + HASH_FLAT + takes, Step::Hashed(piece));
            }
            Action::Sum { piece } => {
                let sums = h.store.sums(piece);
                h.inbox.push(Event::Sums { piece, sums });
            }
            Action::Playable { range } => h.store.set_playable(range, true),
            Action::Void { piece } => h.store.void(piece),
            Action::Announce { piece } => self.announce(piece),
            Action::Fetch { fetch, range, .. } => {
                if let Some(link) = h.origin {
                    h.fetches.insert(fetch, range);
                    self.post(link, Message::Fetch(fetch, Box::new(range)));
                }
            }
            Action::AbortFetch { fetch } => {
                h.fetches.remove(&fetch);
                if let Some(link) = h.origin {
                    self.post(link, Message::Abort(fetch));
                }
            }
            Action::Bid { bid, .. } => {
                if let Some(link) = h.origin {
                    self.post(link, Message::Bid(Box::new(greedy(bid, greed))));
                }
            }
            Action::DropOrigin { .. } => {
                h.fetches.clear();
                if let Some(link) = h.origin {
                    self.close(link);
                }
            }
            Action::PeerReceiveBudget { bytes_per_s } => self.n.access.set_budget(bytes_per_s, &mut self.n.post),
            Action::Ban { link } => {
                h.banned.extend(self.n.ends.get(link).map(|e| e.peer));
                self.close(link);
            }
            Action::Gate { open } => {
                if let Some(p) = &mut h.player {
                    p.gate = open;
                }
            }
            // Its flows know nothing of what they were before.
            Action::WantPeers { .. } | Action::RenewOrigins => {}
        }
    }

    /// Holds each viewer's films against what a viewer may expect at the end, and books what it saw.
    pub fn close_player(&mut self, now: Instant) {
        let whole = self.ctx.film.whole();
        let Some(h) = self.n.host() else { return };
        let Some(p) = &mut h.player else { return };
        p.end_stall(now);
        let from = if p.phase == Phase::Ended { whole.end } else { p.offset() };
        // What was promised to the reader must be the film: peers' bytes always, a server's once hashed.
        let end = h.store.run_end(from);
        let lie = h.store.lie_in(ByteRange::new(from, end));
        if lie != 0 && lie != u32::MAX {
            self.fault(format!("false bytes of node {} are playable", lie - 1));
        }
    }
}

/// What a viewer says who wants more than it needs.
fn greedy(bid: Bid, by: f64) -> Bid {
    if by == 1.0 {
        return bid;
    }
    let more = |bits: u64| (bits as f64 * by) as u64;
    Bid { max_bits: more(bid.max_bits), due_bits: bid.due_bits.into_iter().map(more).collect() }
}

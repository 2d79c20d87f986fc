//! Carries out what an engine says, as `stream` does with sockets and a disk.
//!
//! Invariant: nothing in here decides; what is not carried out at once becomes a step, a message or a parcel.

use std::time::Duration;

use super::links::Message;
use super::net::{CHOKE_LEN, Cargo, Parcel};
use super::step::Step;
use super::world::{Actor, World};
use crate::engine::{Action, Event, Phase};
use crate::units::{BLOCK_LEN, BlockRef, ByteRange, LinkId};

/// Hashing a piece: a job's overhead, and SHA-1 at a gigabyte a second.
const HASH_FLAT: Duration = Duration::from_millis(1);
const HASH_RATE: f64 = 1e9;
/// An engine, its player and its store go back and forth at most so often in one moment.
const ROUNDS: u32 = 64;

impl World {
    /// Lets the node's engine handle what lies in its inbox, and all that follows from it at this moment.
    pub(super) fn drive(&mut self, n: u32) {
        let now = self.now;
        for round in 0.. {
            let Some(h) = self.host(n) else { return };
            if round > 0 && h.inbox.is_empty() {
                break;
            }
            if round > ROUNDS {
                self.faults.push(format!("node {n} at {:.6} s: its engine and player never settle", now.as_secs_f64()));
                break;
            }
            if !h.inbox.is_empty() {
                self.handle(n);
            }
            let Some(h) = self.host(n) else { return };
            if let Some(p) = &mut h.player {
                p.step(now, &mut h.store, &mut h.inbox);
            }
        }
        let Actor::Host(h) = &mut self.nodes[n as usize].actor else { return };
        let mut wakeup = h.engine.next_wakeup();
        if h.ticked == Some(now) && wakeup.is_some_and(|t| t <= now) {
            // A driver would spin.
            if !std::mem::replace(&mut h.spun, true) {
                self.faults.push(format!("node {n} at {:.6} s: asks to be woken in the past", now.as_secs_f64()));
            }
            wakeup = Some(now + Duration::from_millis(100));
        }
        if let Some(at) = wakeup.map(|t| t.max(now)).filter(|t| h.wake_at.is_none_or(|w| *t < w)) {
            h.wake_at = Some(at);
            self.agenda.push(at, Step::Wake(n));
        }
        let Some(p) = &h.player else { return };
        if let Some(at) = p.next(now, &mut h.store).filter(|t| h.play_at.is_none_or(|w| *t < w)) {
            h.play_at = Some(at);
            self.agenda.push(at, Step::Play(n));
        }
        let hops = h.player.as_ref().is_some_and(|p| p.seeks_left() == 0);
        if hops
            && let Some(every) = self.nodes[n as usize].group.map(|g| self.groups[g].viewing.hops).filter(|h| *h > 0.0)
        {
            self.hop(n, every);
        }
    }

    fn handle(&mut self, n: u32) {
        let now = self.now;
        let Actor::Host(h) = &mut self.nodes[n as usize].actor else { return };
        let events = std::mem::take(&mut h.inbox);
        let (count, ticked) = (events.len(), events.iter().any(|e| matches!(e, Event::Tick)));
        for e in &events {
            if self.options.trace.is_on() {
                self.options.trace.line(now, n, e);
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
            if self.options.trace.is_on() {
                self.options.trace.line(now, n, a);
            }
        }
        for a in actions {
            self.carry(n, a);
        }
        self.count_handled(count);
        let every = self.options.check_every;
        let Actor::Host(h) = &mut self.nodes[n as usize].actor else { return };
        if every > 0
            && h.handled.is_multiple_of(every)
            && let Err(e) = h.engine.check()
        {
            self.faults.push(format!("node {n} at {:.6} s: {e}", now.as_secs_f64()));
        }
        if let Some(w) = &mut h.watch {
            w.settled(now, h.engine.totals(), &h.store, h.player.as_ref(), ticked);
        }
    }

    fn carry(&mut self, n: u32, action: Action) {
        let (now, layout) = (self.now, self.film.layout);
        let Actor::Host(h) = &mut self.nodes[n as usize].actor else { return };
        if let Some(w) = &mut h.watch {
            w.said(now, &action, &mut h.store, h.player.as_ref());
        }
        let lane = |link: LinkId| h.book.lane(link);
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
                if let Some(key) = h.book.lane(link) {
                    self.post(key, message);
                }
            }
            Action::Interest { link, interested } => {
                if let Some(key) = lane(link) {
                    self.post(key, Message::Interested(interested));
                }
            }
            Action::Choke { link, choke } => {
                if let Some(key) = lane(link) {
                    let parcel = Parcel { cargo: Cargo::Choke(choke), len: CHOKE_LEN };
                    self.net.send(now, key, parcel, &mut self.agenda);
                }
            }
            Action::SendBlock { link, piece, begin, len } => {
                let block = BlockRef { piece, block: begin / BLOCK_LEN };
                if let Some(key) = lane(link) {
                    self.net.send(now, key, Parcel { cargo: Cargo::Block { block, lie: 0 }, len }, &mut self.agenda);
                }
            }
            Action::RejectBlock { link, piece, begin, .. } => {
                if let Some(key) = lane(link) {
                    self.post(key, Message::Reject(BlockRef { piece, block: begin / BLOCK_LEN }));
                }
            }
            Action::Verify { piece } => {
                let takes = Duration::from_secs_f64(layout.piece_range(piece).len() as f64 / HASH_RATE);
                h.store.checking.insert(piece);
                self.agenda.push(now + HASH_FLAT + takes, Step::Hashed(n, piece));
            }
            Action::Sum { piece } => {
                let sums = h.store.sums(piece);
                h.inbox.push(Event::Sums { piece, sums });
            }
            Action::Playable { range } => h.store.set_playable(range, true),
            Action::Void { piece } => h.store.void(piece),
            Action::Announce { piece } => self.announce(n, piece),
            Action::Fetch { fetch, range, .. } => {
                if let Some(key) = h.origin {
                    h.fetches.insert(fetch, range);
                    self.post(key, Message::Fetch { fetch, range });
                }
            }
            Action::AbortFetch { fetch } => {
                h.fetches.remove(&fetch);
                if let Some(key) = h.origin {
                    self.post(key, Message::Abort(fetch));
                }
            }
            Action::Bid { bid, .. } => {
                if let Some(key) = h.origin {
                    self.post(key, Message::Bid(bid));
                }
            }
            Action::DropOrigin { .. } => {
                h.fetches.clear();
                if let Some(key) = h.origin {
                    self.close(key);
                }
            }
            Action::PeerReceiveBudget { bytes_per_s } => self.net.set_budget(n, bytes_per_s),
            Action::Ban { link } => {
                if let Some(key) = lane(link) {
                    h.banned.extend(self.links.to(key));
                    self.close(key);
                }
            }
            Action::Gate { open } => {
                if let Some(p) = &mut h.player {
                    p.gate = open;
                }
            }
            Action::WantPeers { .. } => {}
        }
    }

    /// Holds each viewer's films against what a viewer may expect at the end, and books what it saw.
    pub(super) fn close_player(&mut self, n: u32) {
        let now = self.now;
        let whole = self.film.whole();
        let Some(h) = self.host(n) else { return };
        let Some(p) = &mut h.player else { return };
        p.end_stall(now);
        let from = if p.phase == Phase::Ended { whole.end } else { p.offset() };
        // What was promised to the reader must be the film: peers' bytes always, a server's once hashed.
        let end = h.store.run_end(from);
        let lie = h.store.lie_in(ByteRange::new(from, end));
        if lie != 0 && lie != u32::MAX {
            self.faults.push(format!("node {n}: false bytes of node {} are playable", lie - 1));
        }
    }
}

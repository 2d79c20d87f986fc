//! A peer that is not our engine: it serves, or does not, as its habits say.
//!
//! Invariant: a script answers only what it was asked, at most once, and nothing while it chokes but what its socket holds.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::dice::Dice;
use super::scenario::Habits;
use crate::units::{BLOCK_LEN, BlockRef, Instant, Layout, LinkId, PieceIndex, PieceSet};

/// Requests of one link that are remembered, as libtorrent does.
const QUEUE_MOST: usize = 500;

/// What goes on with one link.
#[derive(Debug, Clone)]
pub(super) struct Desk {
    pub link: LinkId,
    pub queue: VecDeque<BlockRef>,
    pub interested: bool,
    /// When it is to be unchoked, and whether it is.
    pub opens_at: Option<Instant>,
    pub open: bool,
    pub sent: u64,
    /// With a rate of its own: when the block it is at is through.
    due: Option<Instant>,
    /// Bytes it may still send in this pulse.
    burst: f64,
    /// What the other side has, and what was asked of it.
    pub theirs: Option<PieceSet>,
    pub asked: u32,
}

/// The state of a scripted peer.
#[derive(Debug)]
pub(super) struct Script {
    pub habits: Habits,
    pub has: PieceSet,
    pub desks: BTreeMap<LinkId, Desk>,
    /// The uplink, bytes per second: a pulse's worth of it.
    up: f64,
    next_pulse: Instant,
    next_flip: Instant,
    next_growth: Instant,
    /// It chokes everybody now.
    shut: bool,
    /// Which step of its own it waits for.
    pub step_at: Option<Instant>,
}

/// What a script wants done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Deed {
    Choke(LinkId, bool),
    Send(LinkId, BlockRef, bool),
    Reject(LinkId, BlockRef),
    Have(PieceIndex),
    Ask(LinkId, BlockRef),
}

fn seconds(s: f64) -> Duration {
    Duration::from_secs_f64(s.clamp(0.0, 1e9))
}

impl Script {
    pub fn new(now: Instant, habits: Habits, has: PieceSet, up: f64, dice: &mut Dice) -> Self {
        let never = Instant(u64::MAX);
        let soon = |every: f64, x: f64| if every > 0.0 { now + seconds(every * x) } else { never };
        Self {
            next_pulse: soon(habits.pulse, dice.unit()),
            next_flip: soon(habits.flips, 2.0 * dice.unit()),
            next_growth: soon(habits.grows, dice.unit()),
            habits,
            has,
            desks: BTreeMap::new(),
            up,
            shut: false,
            step_at: None,
        }
    }

    pub fn meet(&mut self, link: LinkId) {
        let desk = Desk {
            link,
            queue: VecDeque::new(),
            interested: false,
            opens_at: None,
            open: false,
            sent: 0,
            due: None,
            burst: 0.0,
            theirs: None,
            asked: 0,
        };
        self.desks.insert(link, desk);
    }

    /// The other side is interested: it will be unchoked in a while.
    pub fn interest(&mut self, now: Instant, link: LinkId, interested: bool) {
        let after = seconds(self.habits.unchoke_after);
        if let Some(d) = self.desks.get_mut(&link) {
            d.interested = interested;
            if interested && !d.open {
                d.opens_at.get_or_insert(now + after);
            }
        }
    }

    pub fn request(&mut self, link: LinkId, block: BlockRef, dice: &mut Dice, deeds: &mut Vec<Deed>) {
        let rejects = self.habits.rejects;
        let Some(d) = self.desks.get_mut(&link).filter(|d| d.open) else { return };
        if !self.has.contains(block.piece) || dice.chance(rejects) {
            deeds.push(Deed::Reject(d.link, block));
        } else if d.queue.len() < QUEUE_MOST {
            d.queue.push_back(block);
        }
    }

    /// The other side got more pieces.
    pub fn note_have(&mut self, link: LinkId, pieces: &[PieceIndex]) {
        if let Some(theirs) = self.desks.get_mut(&link).and_then(|d| d.theirs.as_mut()) {
            for p in pieces {
                theirs.insert(*p);
            }
        }
    }

    pub fn cancel(&mut self, link: LinkId, block: BlockRef) {
        if let Some(d) = self.desks.get_mut(&link) {
            d.queue.retain(|b| *b != block);
        }
    }

    /// Puts into one link's socket what may go there now; `unsent` is what it holds.
    pub fn serve(
        &mut self,
        now: Instant,
        link: LinkId,
        layout: &Layout,
        mut unsent: u64,
        dice: &mut Dice,
        deeds: &mut Vec<Deed>,
    ) {
        let Habits { stops_after, lies, pulse, rate, socket, .. } = self.habits;
        let Some(d) = self.desks.get_mut(&link) else { return };
        while let Some(block) = d.queue.front().copied() {
            let len = layout.block_range(block).len();
            let silent = stops_after > 0 && d.sent >= stops_after;
            let full = unsent > 0 && unsent + len > socket;
            if silent || full || pulse > 0.0 && d.burst < len as f64 {
                return;
            }
            if rate > 0.0 && *d.due.get_or_insert(now + seconds(len as f64 / rate)) > now {
                return;
            }
            d.due = None;
            d.queue.pop_front();
            d.sent += len;
            d.burst -= len as f64;
            unsent += len;
            deeds.push(Deed::Send(d.link, block, dice.chance(lies)));
        }
    }

    /// Asks for random blocks of the other side's pieces.
    pub fn ask(&mut self, link: LinkId, layout: &Layout, dice: &mut Dice, deeds: &mut Vec<Deed>) {
        let takes = self.habits.takes;
        let Some(d) = self.desks.get_mut(&link) else { return };
        let Some(theirs) = d.theirs.as_ref().filter(|t| t.count() > 0) else { return };
        while d.asked < takes {
            let Some(piece) = theirs.iter().nth(dice.below(theirs.count() as usize)) else { return };
            let block = BlockRef { piece, block: dice.below(layout.block_count(piece) as usize) as u32 };
            d.asked += 1;
            deeds.push(Deed::Ask(d.link, block));
        }
    }

    /// What time alone does.
    pub fn step(&mut self, now: Instant, dice: &mut Dice, deeds: &mut Vec<Deed>) {
        let h = &self.habits;
        while self.next_pulse <= now {
            self.next_pulse = self.next_pulse + seconds(h.pulse);
            let active = self.desks.values().filter(|d| !d.queue.is_empty()).count().max(1);
            let each = self.up * h.pulse / active as f64;
            self.desks.values_mut().for_each(|d| d.burst = each.max(f64::from(BLOCK_LEN)));
        }
        while self.next_growth <= now {
            self.next_growth = self.next_growth + seconds(h.grows);
            let missing: Vec<u32> = (0..self.has.universe()).filter(|p| !self.has.contains(PieceIndex(*p))).collect();
            if let Some(p) = missing.get(dice.below(missing.len())) {
                self.has.insert(PieceIndex(*p));
                deeds.push(Deed::Have(PieceIndex(*p)));
            }
        }
        while self.next_flip <= now {
            self.next_flip = self.next_flip + seconds(dice.exponential(h.flips).max(0.05));
            self.shut = !self.shut;
            for d in self.desks.values_mut().filter(|d| d.interested && d.opens_at.is_none()) {
                if d.open == self.shut {
                    d.open = !self.shut;
                    d.queue.clear();
                    deeds.push(Deed::Choke(d.link, self.shut));
                }
            }
        }
        for d in self.desks.values_mut() {
            if d.opens_at.is_some_and(|t| t <= now) {
                d.opens_at = None;
                if !self.shut && !d.open {
                    d.open = true;
                    deeds.push(Deed::Choke(d.link, false));
                }
            }
        }
    }

    /// When time alone will do something next.
    pub fn next(&self) -> Option<Instant> {
        let opens = self.desks.values().filter_map(|d| d.opens_at).min();
        let paced = self.desks.values().filter(|d| !d.queue.is_empty()).filter_map(|d| d.due).min();
        let waits = self.desks.values().any(|d| !d.queue.is_empty());
        let pulse = Some(self.next_pulse).filter(|_| waits);
        [opens, paced, pulse, Some(self.next_flip), Some(self.next_growth)]
            .into_iter()
            .flatten()
            .min()
            .filter(|t| t.0 != u64::MAX)
    }
}

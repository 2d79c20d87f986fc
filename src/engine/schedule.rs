//! Which block is asked of which link: earliest deadline first, each block of the link that will be first with it.
//!
//! The pass walks the blocks that are due, soonest first, and keeps for each link the time until its queue is done. A block
//! goes to the link with the least finish time; if that link's queue is full the block is only *reserved* there, so that a
//! slow link with room does not take what a fast one will bring sooner. What no link brings in time is the server's
//! (claim 2: by forecast, not only when it is late).

use std::collections::BTreeSet;
use std::time::Duration;

use super::links::Ask;
use super::zones::Due;
use super::{Action, Engine};
use crate::units::{BLOCK_LEN, BlockRef, Instant, LinkId};

/// Blocks looked at in one pass: the window of an 80 Mbit/s film.
const DUE_MOST: usize = 10_000;

/// A link during one pass.
pub(super) struct Candidate {
    pub link: LinkId,
    /// Seconds until its queue, real and reserved, is done.
    pub eta: f64,
    /// Seconds for one block.
    pub block_s: f64,
    pub dev: f64,
    /// Seconds that it may well be later than its forecast: what ranks it behind a link that is known to be steady. A link
    /// that answered nothing yet, or that serves in pulses, does not get the block on which the picture waits.
    pub risk: f64,
    /// Requests it may still be sent.
    pub room: usize,
}

impl Candidate {
    /// What the next block is given away by: less is better.
    pub fn rank(&self) -> f64 {
        self.eta + self.block_s + self.risk
    }
}

/// What one pass found.
#[derive(Default)]
pub(super) struct Plan {
    /// Blocks that the swarm is forecast to miss, soonest first.
    pub miss: Vec<Due>,
    /// A block of the window is forecast to be late from peers and server alike.
    pub late: bool,
}

impl Engine {
    /// Spreads requests over links and server. With `full` the whole window is forecast, otherwise only as far as links
    /// have room.
    pub(super) fn schedule(&mut self, now: Instant, full: bool, actions: &mut Vec<Action>) {
        let layout = *self.board.layout();
        let due = self.position.due(now, &layout, &self.config, |b| self.board.block_here(b), DUE_MOST);
        let restarted = std::mem::take(&mut self.restart);
        if restarted {
            self.cancel_stale(&due, actions);
        }
        let urgent_s = self.config.urgent.as_secs_f64();
        let pressing = due.first().is_some_and(|d| d.in_s < urgent_s);
        let full = full || restarted || pressing && self.servers.usable();
        let typical = self.typical_rate(now);
        let mut links = self.candidates(now, pressing, typical);
        let mut plan = Plan::default();
        let mut room: usize = links.iter().map(|c| c.room).sum();
        let mut unasked_urgent = BTreeSet::new();
        for d in &due {
            if room == 0 && !full {
                break;
            }
            let urgent = d.in_s < urgent_s;
            if let Some(finish) = self.expected(now, d.block, typical) {
                if urgent && self.hedge(now, d, finish, &mut links, &mut room, typical, actions) {
                    continue;
                }
                // Late pieces are completed, not replaced: only what a peer will miss goes to the server as well, and only
                // where that saves enough, since what the peer has sent by then comes twice.
                let asked = self.board.cell(d.block).is_some_and(|c| c.fetch.is_none());
                let gain = finish - self.config.completing_gain.as_secs_f64();
                if asked && d.own_s < urgent_s && finish > d.in_s && self.server_first(now, gain, &plan) {
                    plan.miss.push(*d);
                }
                plan.late |= finish > d.in_s.max(self.grace());
                continue;
            }
            let best = self.best_link(&links, d.block);
            let finish = best.map_or(f64::INFINITY, |i| links[i].eta + links[i].block_s);
            let dev = best.map_or(0.0, |i| links[i].dev);
            let server_s = self.servers.time_for(now, plan.miss.len(), &self.config);
            let spare = server_s + self.config.comfort.as_secs_f64();
            let surely = finish + self.config.miss_deviations * dev;
            let misses = surely > d.in_s - spare;
            if misses && self.server_first(now, surely, &plan) {
                plan.miss.push(*d);
                // Urgent ones are the server's alone. Others a peer with room may begin all the same: no room is wasted.
                if d.own_s < urgent_s || best.is_none_or(|i| links[i].room == 0) {
                    plan.late |= server_s > d.own_s.max(self.grace());
                    continue;
                }
            }
            plan.late |= finish > d.in_s.max(self.grace());
            let Some(c) = best.and_then(|i| links.get_mut(i)) else { continue };
            c.eta += c.block_s;
            if c.room > 0 {
                c.room -= 1;
                room -= 1;
                let link = c.link;
                self.ask(now, link, d.block, typical, actions);
            } else if urgent {
                unasked_urgent.insert(c.link);
            }
        }
        self.playout.late = if full { plan.late } else { self.playout.late };
        self.serve_misses(now, &plan.miss, actions);
        for c in links {
            // Bulk waits on links that still have urgent blocks to be sent; where all urgent ones are under way, only a
            // short queue of bulk stands before the next.
            if c.room > 0 && !unasked_urgent.contains(&c.link) {
                self.ask_ahead(now, c.link, c.room, typical, actions);
            }
        }
    }

    /// Sends and books one request.
    pub(super) fn ask(&mut self, now: Instant, link: LinkId, block: BlockRef, typical: f64, actions: &mut Vec<Action>) {
        let Some(l) = self.links.get_mut(&link) else { return };
        if !l.answers(block.piece) || !self.board.ask(block, link) {
            return;
        }
        l.ask(now, block, typical, &self.config);
        self.availability.take(block.piece);
        actions.push(Action::Request { link, block });
    }

    /// The links that may be asked, with the room they have.
    fn candidates(&self, now: Instant, pressing: bool, typical: f64) -> Vec<Candidate> {
        let config = &self.config;
        let queue_time = if pressing { config.queue_time_urgent } else { config.queue_time };
        let young = config.young_deviation.as_secs_f64();
        self.links
            .values()
            .filter(|l| l.serves() && l.useful > 0)
            .map(|l| Candidate {
                link: l.id,
                eta: l.eta(now, typical, config) * if l.snubbed { 10.0 } else { 1.0 },
                block_s: f64::from(BLOCK_LEN) / l.rate(now, typical),
                dev: l.lateness.mean().map_or(young, |_| l.lateness.dev()),
                risk: l.lateness.mean().map_or(2.0 * young, |m| m.max(0.0) + 2.0 * l.lateness.dev()),
                room: l.depth(now, queue_time, config).saturating_sub(l.asks.len() + l.ghosts.len().min(l.asks.len())),
            })
            .collect()
    }

    /// The link that would finish the block first.
    fn best_link(&self, links: &[Candidate], block: BlockRef) -> Option<usize> {
        let able = |c: &Candidate| {
            self.links.get(&c.link).is_some_and(|l| l.answers(block.piece))
                && self.board.admits(block.piece, c.link)
        };
        links
            .iter()
            .enumerate()
            .filter(|(_, c)| able(c))
            .min_by(|(_, a), (_, b)| a.rank().total_cmp(&b.rank()))
            .map(|(i, _)| i)
    }

    /// Seconds until the block should be here from whom it was asked; `None` when it is on nobody's list.
    fn expected(&self, now: Instant, block: BlockRef, typical: f64) -> Option<f64> {
        let cell = self.board.cell(block)?;
        let by_links = cell.asked.iter().filter_map(|l| {
            let link = self.links.get(l)?;
            let index = link.asks.iter().position(|a| a.block == block)?;
            // What is overdue is expected as late again as it is already.
            Some(link.eta_at(now, index + 1, typical, &self.config) + self.overdue(now, &link.asks[index]))
        });
        let by_server = cell
            .fetch
            .and_then(|f| self.servers.expected(now, f, self.board.layout().block_range(block).end, &self.config));
        by_links.chain(by_server).min_by(f64::total_cmp)
    }

    pub(super) fn ask_of(&self, link: LinkId, block: BlockRef) -> Option<&Ask> {
        self.links.get(&link)?.asks.iter().find(|a| a.block == block)
    }

    /// How late a request is by the forecast it was sent with, seconds. What was forecast of a link that had answered
    /// nothing yet was a guess: it gets a second.
    pub(super) fn overdue(&self, now: Instant, ask: &Ask) -> f64 {
        let grace = if ask.guess { self.config.guess_grace } else { Duration::ZERO };
        now.since(ask.expected + grace).as_secs_f64()
    }

    /// Whether a server would have the block sooner than `finish`.
    fn server_first(&self, now: Instant, finish: f64, plan: &Plan) -> bool {
        self.servers.usable() && self.servers.time_for(now, plan.miss.len() + 1, &self.config) < finish
    }

    /// Lateness that the start rule overlooks while the clock stands: what is due "now" cannot be here now.
    fn grace(&self) -> f64 {
        self.config.start.as_secs_f64()
    }

    /// After a jump: requests for what is no longer due stand before those that are, so they are withdrawn first.
    fn cancel_stale(&mut self, due: &[Due], actions: &mut Vec<Action>) {
        let wanted: BTreeSet<BlockRef> = due.iter().map(|d| d.block).collect();
        let pieces: BTreeSet<_> = wanted.iter().map(|b| b.piece).collect();
        let mut stale = Vec::new();
        for l in self.links.values().filter(|l| pieces.iter().any(|p| l.has.contains(*p))) {
            stale.extend(l.asks.iter().map(|a| a.block).filter(|b| !wanted.contains(b)).map(|b| (l.id, b)));
        }
        for (link, block) in stale {
            self.cancel(link, block, false, actions);
        }
        self.abort_stale(&wanted, actions);
    }
}

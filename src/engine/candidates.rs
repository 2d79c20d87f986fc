//! Who could bring a block and how soon, and when what was asked for should be here: what a pass of the schedule decides by.
//!
//! Invariant: figures of one pass are of one moment; asking changes the candidates' own alone.

use std::time::Duration;

use super::Engine;
use super::links::{Ask, Link};
use crate::units::{BLOCK_LEN, BlockRef, Instant, LinkId, PieceIndex};

/// What a link whose bytes may have been false is ranked later by, seconds.
const SUSPECT_S: f64 = 1.0;

/// What a link that fell silent is ranked later by, seconds: it is tried with bulk. One that let us down, a second each time.
const SNUBBED_S: f64 = 5.0;

/// A link during one pass.
pub(super) struct Candidate {
    pub link: LinkId,
    /// Seconds until its queue, real and reserved, is done.
    pub eta: f64,
    /// Seconds for one block.
    pub block_s: f64,
    pub dev: f64,
    /// Whether its rate was measured.
    pub known: bool,
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

/// When a request should be answered, seconds from now: on average, and all but surely.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finish {
    pub finish: f64,
    pub surely: f64,
}

impl Engine {
    /// Seconds one block takes on the link.
    pub(super) fn block_s(&self, now: Instant, l: &Link, typical: f64) -> f64 {
        f64::from(BLOCK_LEN) / l.rate(now, typical)
    }

    pub(super) fn candidate(&self, now: Instant, l: &Link, pressing: bool, typical: f64) -> Candidate {
        let config = &self.config;
        let young = config.young_deviation.as_secs_f64();
        let depth = l.depth(now, l.queue_time(pressing, config), config);
        Candidate {
            link: l.id,
            eta: l.eta(now, typical, config),
            block_s: self.block_s(now, l, typical),
            dev: l.lateness().mean().map_or(young, |_| l.lateness().dev()),
            known: l.meter.rate().is_some(),
            risk: l.lateness().mean().map_or(2.0 * young, |m| m.max(0.0) + 2.0 * l.lateness().dev())
                + if l.suspect { SUSPECT_S } else { 0.0 }
                + if l.snubbed { SNUBBED_S } else { f64::from(l.let_down).min(SNUBBED_S) },
            room: depth.saturating_sub(l.asks.len() + l.ghosts.len().min(l.asks.len())),
        }
    }

    /// The links that may be asked, with the room they have.
    pub(super) fn candidates(&self, now: Instant, pressing: bool, typical: f64) -> Vec<Candidate> {
        let able = self.links.values().filter(|l| l.serves() && l.useful > 0);
        able.map(|l| self.candidate(now, l, pressing, typical)).collect()
    }

    /// When each outstanding request should be answered; sorted by block.
    pub(super) fn finishes(&self, now: Instant, typical: f64, all: &mut Vec<(BlockRef, Finish)>) {
        all.clear();
        // A guess about a young link is given time, but not the picture's where a server could bring it.
        let lenient = !(self.position.waits() && self.servers.usable());
        let late = |a: &Ask| if lenient { self.overdue(now, a) } else { now.since(a.expected).as_secs_f64() };
        for l in self.links.values().filter(|l| !l.asks.is_empty()) {
            let first = l.eta_at(now, 0, typical, &self.config);
            let block_s = self.block_s(now, l, typical);
            let young = self.config.young_deviation.as_secs_f64();
            let slack = self.config.miss_deviations * l.lateness().mean().map_or(young, |_| l.lateness().dev());
            // What is overdue is expected as late again as it is already.
            let finish = |i: usize, a: &Ask| first + (i + 1) as f64 * block_s + late(a);
            let both = |finish: f64| Finish { finish, surely: finish + slack };
            all.extend(l.asks.iter().enumerate().map(|(i, a)| (a.block, both(finish(i, a)))));
        }
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.finish.total_cmp(&b.1.finish)));
    }

    /// When the block should be here from whom it was asked; `None` when it is on nobody's list.
    pub(super) fn expected(&self, now: Instant, block: BlockRef, finishes: &[(BlockRef, Finish)]) -> Option<Finish> {
        let cell = self.board.cell(block).filter(|c| !c.free())?;
        let by_server = cell
            .fetch
            .and_then(|f| self.servers.expected(now, f, self.board.layout().block_range(block).end, &self.config))
            .map(|finish| Finish { finish, surely: finish });
        let first = finishes.partition_point(|f| f.0 < block);
        let by_links = finishes.get(first).filter(|f| f.0 == block).map(|f| f.1);
        by_links.into_iter().chain(by_server).min_by(|a, b| a.finish.total_cmp(&b.finish))
    }

    /// Which of the candidates answer for the piece. Both lists are in the order of the links.
    pub(super) fn able(&self, piece: PieceIndex, candidates: &[Candidate], able: &mut Vec<usize>) {
        if self.availability.of(piece) == 0 {
            return;
        }
        let mut links = self.links.values();
        for (i, c) in candidates.iter().enumerate() {
            if links.find(|l| l.id == c.link).is_some_and(|l| l.answers(piece)) {
                able.push(i);
            }
        }
    }

    /// How late a request is by the forecast it was sent with, seconds. What was forecast of a link that had answered
    /// nothing yet was a guess: it gets a second.
    pub(super) fn overdue(&self, now: Instant, ask: &Ask) -> f64 {
        let grace = if ask.guess { self.config.guess_grace } else { Duration::ZERO };
        now.since(ask.expected + grace).as_secs_f64()
    }
}

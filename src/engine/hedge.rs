//! An urgent block that is later than forecast is asked of a second link that never had it; the first answer wins and the
//! other request is cancelled. While the clock stands a block waiting deep in a slow queue moves to a link that has run
//! empty: the last block decides when the picture appears.

use super::agenda::Due;
use super::schedule::Candidate;
use super::{Action, Engine};
use crate::units::Instant;

impl Engine {
    /// Asks a second link for the block if that is worth it; true when it did.
    pub(super) fn hedge(
        &mut self,
        now: Instant,
        due: &Due,
        finish: f64,
        links: &mut [Candidate],
        typical: f64,
        actions: &mut Vec<Action>,
    ) -> bool {
        let Some(cell) = self.board.cell(due.block) else { return false };
        let &[first] = &*cell.asked else { return false };
        if cell.fetch.is_some() || !self.board.admits(due.block.piece, first) {
            return false;
        }
        let Some(ask) = self.ask_of(first, due.block).copied() else { return false };
        let Some(holder) = self.links.get(&first) else { return false };
        let slack = self.config.hedge_deviations * holder.lateness.dev();
        let over = self.overdue(now, &ask) > slack;
        let old = now.since(ask.at) > self.config.hedge_floor;
        let (tried, piece) = (cell.tried.clone(), due.block.piece);
        let best = links
            .iter_mut()
            .filter(|c| c.link != first && c.room > 0 && !tried.contains(&c.link) && self.board.admits(piece, c.link))
            .filter(|c| self.links.get(&c.link).is_some_and(|l| l.answers(piece)))
            .min_by(|a, b| a.rank().total_cmp(&b.rank()));
        let Some(c) = best else { return false };
        let other = c.eta + c.block_s;
        let late = over && old && other < finish && self.hedge_affordable();
        // A move costs nothing where the first request is still far from being answered: it is cancelled in time. The
        // block under way and the one behind it are not: they may be in the peer's socket.
        let deep = holder.asks.iter().position(|a| a.block == due.block).is_some_and(|i| i >= 2);
        let gains = finish > 2.0 * other + holder.rtt_s(&self.config);
        let moves = deep && gains && (self.position.waits() || due.in_s < finish);
        if !late && !moves {
            return false;
        }
        c.eta = other;
        c.room -= 1;
        let link = c.link;
        if moves {
            self.cancel(first, due.block, true, actions);
        }
        self.ask(now, link, due.block, typical, actions);
        true
    }

    /// Duplicates stay under their share of what is received; the first few are free, or nothing could be learnt.
    pub(super) fn hedge_affordable(&self) -> bool {
        let received = self.totals.swarm as f64;
        (self.totals.duplicate as f64) < self.config.hedge_share * received + 64.0 * 1024.0
    }
}

//! An urgent block that is later than forecast is asked of a second link that never had it; the first answer wins and the
//! other request is cancelled. What only a silent link was asked for is not on its way: that is taken from it before it is
//! urgent. While the clock stands a block waiting deep in a slow queue moves to a link that has run empty: the last
//! block decides when the picture appears.

use super::agenda::Due;
use super::candidates::Candidate;
use super::schedule::Pass;
use super::{Action, Engine};
use crate::units::{BlockRef, Instant};

impl Engine {
    /// Asks a second link for the block if that is worth it; answers in how many seconds that should have it.
    pub(super) fn hedge(
        &mut self,
        now: Instant,
        due: &Due,
        finish: f64,
        pass: &mut Pass,
        actions: &mut Vec<Action>,
    ) -> Option<f64> {
        self.drop_silent(now, due.block, actions);
        let cell = self.board.cell(due.block)?;
        let &[first] = &*cell.asked else { return None };
        if cell.fetch.is_some() || !self.board.admits(due.block, first) {
            return None;
        }
        let ask = self.ask_of(first, due.block).copied()?;
        let holder = self.links.get(&first)?;
        // Before it is urgent a block is only taken from who fell silent, by who did not.
        let urgent = due.in_s < self.config.urgent.as_secs_f64();
        if !urgent && !holder.snubbed {
            return None;
        }
        let slack = self.config.hedge_deviations * holder.lateness().dev();
        // The time that a guess is given ends where another would only just be in time. That is the server's to be, if there is one.
        let guess = !self.servers.usable() && now.since(ask.expected).as_secs_f64() > slack && ask.guess;
        let over = self.overdue(now, &ask) > slack;
        let old = now.since(ask.at) > self.config.hedge_floor;
        // A move costs nothing where the first request is still far from being answered: it is cancelled in time.
        let deep = holder.waits_deep(due.block);
        if !deep && !(old && (over || guess)) {
            return None;
        }
        let (tried, piece) = (&cell.tried, due.block.piece);
        let best = pass
            .links
            .iter_mut()
            .filter(|c| c.link != first && !tried.contains(&c.link) && self.board.admits(due.block, c.link))
            .filter(|c| self.links.get(&c.link).is_some_and(|l| l.answers(piece)))
            .min_by(|a, b| a.rank().total_cmp(&b.rank()));
        let lives = |c: &&mut Candidate| urgent || self.links.get(&c.link).is_some_and(|l| !l.snubbed);
        let c = best.filter(lives)?;
        let other = c.eta + c.block_s;
        let last_call = guess && due.in_s < other + self.config.comfort.as_secs_f64();
        let late = (over && other < finish || last_call) && old && self.hedge_affordable();
        // To a link that answered nothing yet only where even its risk is worth it: what is forecast of it is a guess.
        let gains = finish > 2.0 * (other + c.risk) + holder.rtt_s(&self.config);
        let moves = deep && gains && (self.position.waits() || due.in_s < finish);
        if !late && !moves {
            return None;
        }
        c.eta = other;
        let link = c.link;
        if c.room == 0 {
            // It gets the block as soon as there is room: nothing else may take that.
            pass.held.insert(link);
            return Some(other);
        }
        c.room -= 1;
        if moves || !urgent {
            // Who merely had too much to do did not let us down: should the other, it may be asked again.
            self.cancel(now, first, due.block, !moves, actions);
        }
        self.ask(now, link, due.block, pass.typical, actions);
        Some(other)
    }

    /// Where both links that were asked let it down, the one that was asked first is let off, so that a third can be.
    fn drop_silent(&mut self, now: Instant, block: BlockRef, actions: &mut Vec<Action>) {
        let Some(&[a, b]) = self.board.cell(block).map(|c| &*c.asked) else { return };
        let late = |link| {
            let (ask, l) = (self.ask_of(link, block)?, self.links.get(&link)?);
            let slack = self.config.hedge_deviations * l.lateness().dev() + self.config.hedge_floor.as_secs_f64();
            Some((ask.at, self.overdue(now, ask) > slack))
        };
        if let (Some((at_a, true)), Some((at_b, true))) = (late(a), late(b)) {
            let link = if at_a <= at_b { a } else { b };
            if let Some(l) = self.links.get_mut(&link) {
                l.let_down += 1;
            }
            self.cancel(now, link, block, true, actions);
        }
    }

    /// Duplicates stay under their share of what is received; the first few are free, or nothing could be learnt.
    pub(super) fn hedge_affordable(&self) -> bool {
        let received = self.totals.swarm as f64;
        (self.totals.duplicate as f64) < self.config.hedge_share * received + 64.0 * 1024.0
    }
}

//! What comes of requests: blocks, races won and lost, whole pieces.
//!
//! Invariant: each byte that a peer sent is counted once as kept, duplicate or corrupt.

use super::board::{self, Giver};
use super::{Action, Engine};
use crate::units::{BlockRef, Instant, LinkId, PieceIndex};

impl Engine {
    pub(super) fn block_arrived(&mut self, now: Instant, link: LinkId, block: BlockRef, actions: &mut Vec<Action>) {
        let len = self.board.layout().block_range(block).len();
        self.totals.swarm += len;
        self.swarm_gauge.add(len);
        if let Some(l) = self.links.get_mut(&link) {
            l.arrived(now, block, len, &self.config);
            self.passes.idle.insert(link);
        }
        let fetch = self.board.cell(block).and_then(|c| c.fetch);
        self.availability.take(block.piece);
        // What comes late of those who may have lied would only muddy the copy that is to show who did.
        if !self.takes(link, block) {
            self.totals.duplicate += len;
            self.withdraw(link, block, true);
            return;
        }
        match self.board.arrived(block, Giver::Link(link)) {
            None => self.totals.duplicate += len,
            Some(others) => {
                self.cancel_others(now, block, others.iter().copied().filter(|l| *l != link), actions);
                self.piece_progress(now, block.piece, actions);
                if let Some(fetch) = fetch {
                    self.abort_if_done(fetch, actions);
                }
            }
        }
    }

    pub(super) fn block_duplicate(&mut self, now: Instant, link: LinkId, block: BlockRef) {
        let len = self.board.layout().block_range(block).len();
        self.totals.swarm += len;
        self.totals.duplicate += len;
        self.swarm_gauge.add(len);
        if let Some(l) = self.links.get_mut(&link) {
            l.arrived(now, block, len, &self.config);
        }
        self.board.unask(block, link, true);
    }

    /// The race for a block is over: whoever else was asked need not send it.
    pub(super) fn cancel_others(
        &mut self,
        now: Instant,
        block: BlockRef,
        others: impl Iterator<Item = LinkId>,
        actions: &mut Vec<Action>,
    ) {
        for link in others {
            if let Some(l) = self.links.get_mut(&link) {
                l.let_down += 1;
                l.cancel(now, block, &self.config);
                self.passes.idle.insert(link);
            }
            actions.push(Action::Cancel { link, block });
        }
    }

    pub(super) fn piece_progress(&mut self, now: Instant, piece: PieceIndex, actions: &mut Vec<Action>) {
        if self.board.whole_piece(piece) && !self.hold(now, piece) && self.board.complete(piece) {
            actions.push(Action::Verify { piece });
        }
    }

    pub(super) fn piece_verified(&mut self, piece: PieceIndex, actions: &mut Vec<Action>) {
        let begun = self.board.verify(piece);
        if self.trust.failed.contains_key(&piece) {
            actions.push(Action::Sum { piece });
        }
        for giver in begun.iter().flat_map(|g| &g.cells).filter_map(|c| c.here) {
            if let Giver::Link(link) = giver
                && let Some(l) = self.links.get_mut(&link)
            {
                l.proven = l.proven.saturating_add(1);
            }
        }
        self.forget_asks(piece, begun.as_ref());
        self.availability.take(piece);
        actions.push(Action::Playable { range: self.board.layout().piece_range(piece) });
        actions.push(Action::Announce { piece });
        if self.wanted(piece) {
            let losers: Vec<LinkId> = self.links.values().filter(|l| l.has.contains(piece)).map(|l| l.id).collect();
            for link in losers {
                if let Some(l) = self.links.get_mut(&link) {
                    l.useful = l.useful.saturating_sub(1);
                }
                self.tell_interest(link, actions);
            }
        }
    }

    /// A piece's table is gone: what was still asked of it leaves the links' books as well.
    pub(super) fn forget_asks(&mut self, piece: PieceIndex, begun: Option<&board::Begun>) {
        for (i, c) in begun.iter().flat_map(|g| g.cells.iter().enumerate()) {
            for link in c.asked.iter() {
                if let Some(l) = self.links.get_mut(link) {
                    l.unask(BlockRef { piece, block: i as u32 });
                }
            }
        }
    }
}

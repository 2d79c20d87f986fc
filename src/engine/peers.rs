//! What peers have and whether they answer: links come and go, pieces are told of, requests are withdrawn.
//!
//! Invariant: a request stands in the link's queue and on the board, or in neither.

use super::{Action, Engine};
use crate::units::{BlockRef, Instant, LinkId, PieceIndex, PieceSet};

impl Engine {
    pub(super) fn link_down(&mut self, link: LinkId) {
        self.drop_asks(link, true);
        if let Some(l) = self.links.remove(&link) {
            self.availability.remove_all(&l.has);
        }
        self.board.end_parole(link);
    }

    pub(super) fn bitfield(&mut self, link: LinkId, pieces: PieceSet, actions: &mut Vec<Action>) {
        let Some(l) = self.links.get_mut(&link).filter(|l| l.has.universe() == pieces.universe()) else { return };
        self.availability.remove_all(&l.has);
        self.availability.add_all(&pieces);
        // A peer may say that it has less than before (lt_donthave): it will not answer for those.
        let lost: Vec<BlockRef> = l.asks.iter().map(|a| a.block).filter(|b| !pieces.contains(b.piece)).collect();
        l.has = pieces;
        for block in lost {
            self.withdraw(link, block, false);
        }
        self.recount_link(link, actions);
    }

    pub(super) fn have(&mut self, link: LinkId, piece: PieceIndex, actions: &mut Vec<Action>) {
        let Some(l) = self.links.get_mut(&link) else { return };
        if l.has.insert(piece) {
            self.availability.inc(piece);
            if !self.board.is_here(piece) && self.wanted(piece) {
                if let Some(l) = self.links.get_mut(&link) {
                    l.useful += 1;
                    if l.asks.is_empty() && l.answers(piece) {
                        self.passes.idle.insert(link);
                    }
                }
                self.tell_interest(link, actions);
            }
        }
    }

    /// Whether the piece holds bytes of the chosen file; before a choice every piece may.
    pub(super) fn wanted(&self, piece: PieceIndex) -> bool {
        self.position.file.is_none_or(|f| self.board.layout().pieces_in(f).contains(&piece.0))
    }

    /// Counts anew what the link could give us, and tells it.
    pub(super) fn recount_link(&mut self, link: LinkId, actions: &mut Vec<Action>) {
        let Some(l) = self.links.get(&link) else { return };
        let useful = l.has.iter().filter(|p| !self.board.is_here(*p) && self.wanted(*p)).count() as u32;
        if let Some(l) = self.links.get_mut(&link) {
            l.useful = useful;
        }
        self.tell_interest(link, actions);
    }

    pub(super) fn recount(&mut self, actions: &mut Vec<Action>) {
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.recount_link(link, actions);
        }
    }

    pub(super) fn tell_interest(&mut self, link: LinkId, actions: &mut Vec<Action>) {
        if let Some(l) = self.links.get_mut(&link).filter(|l| l.interested != (l.useful > 0)) {
            l.interested = l.useful > 0;
            actions.push(Action::Interest { link, interested: l.interested });
        }
    }

    /// Withdraws a request, here and at the peer.
    pub(super) fn cancel(
        &mut self,
        now: Instant,
        link: LinkId,
        block: BlockRef,
        tried: bool,
        actions: &mut Vec<Action>,
    ) {
        actions.push(Action::Cancel { link, block });
        if let Some(l) = self.links.get_mut(&link) {
            l.cancel(now, block, &self.config);
        }
        self.withdraw(link, block, tried);
    }

    /// Takes one request off the books on both sides: it will not be answered.
    pub(super) fn withdraw(&mut self, link: LinkId, block: BlockRef, tried: bool) {
        if let Some(l) = self.links.get_mut(&link) {
            l.unask(block);
            self.passes.idle.insert(link);
        }
        self.board.unask(block, link, tried);
        self.reindex_piece(block.piece);
    }

    /// What was asked of a link that chokes us now will not come, but for what it allows all the same.
    pub(super) fn choked(&mut self, link: LinkId) {
        let Some(l) = self.links.get(&link) else { return };
        let lost: Vec<BlockRef> = l.asks.iter().map(|a| a.block).filter(|b| !l.allowed.contains(&b.piece)).collect();
        for block in lost {
            self.withdraw(link, block, false);
        }
    }

    pub(super) fn drop_asks(&mut self, link: LinkId, tried: bool) {
        let asks =
            self.links.get(&link).map(|l| l.asks.iter().map(|a| a.block).collect::<Vec<_>>()).unwrap_or_default();
        for block in asks {
            self.withdraw(link, block, tried);
        }
    }

    /// Withdraws requests that nobody will answer, and stops counting on links that fell silent.
    pub(super) fn expire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let mut stale = Vec::new();
        let mut silent = Vec::new();
        for l in self.links.values_mut() {
            if !l.asks.is_empty() && !l.snubbed && now.since(l.last_arrival) > self.config.snub {
                l.snubbed = true;
                silent.push(l.id);
            }
            stale.extend(
                l.asks.iter().take_while(|a| now.since(a.at) > self.config.request_timeout).map(|a| (l.id, a.block)),
            );
        }
        for link in silent {
            // It is asked for one block of bulk at a time from now on, until it lives again.
            stale.extend(self.links.get(&link).iter().flat_map(|l| l.asks.iter().map(|a| (l.id, a.block))));
            self.board.end_parole(link);
        }
        for (link, block) in stale {
            self.cancel(now, link, block, true, actions);
        }
    }

    pub(super) fn want_peers(&mut self, actions: &mut Vec<Action>) {
        let want = self.config.links_wanted;
        if self.wanted_peers != want {
            self.wanted_peers = want;
            actions.push(Action::WantPeers { count: want });
        }
    }

    /// The rate to assume for a link too young to know: the swarm's average.
    pub(super) fn typical_rate(&self, now: Instant) -> f64 {
        let (sum, n) = self
            .links
            .values()
            .filter(|l| !l.choked)
            .filter_map(|l| l.meter.rate_at(now))
            .fold((0.0, 0.0), |(s, n), r| (s + r, n + 1.0));
        if n > 0.0 { sum / n } else { self.config.rate_unknown }
    }
}

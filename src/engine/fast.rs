//! The fast extension (BEP 6) as far as it changes decisions: pieces that are answered although choked, both ways, and
//! hints. Pieces given up again (lt_donthave, BEP 54).

use super::{Action, Engine};
use crate::units::{BlockRef, LinkId, PieceIndex};

/// Pieces remembered per link and kind. BEP 6 suggests ten allowed ones; a peer that sends thousands wins nothing.
const MOST: usize = 64;

impl Engine {
    /// The peer answers for this piece even while it chokes us.
    pub(super) fn allowed_fast(&mut self, link: LinkId, piece: PieceIndex) {
        let known = piece.0 < self.board.layout().piece_count();
        if let Some(l) = self.links.get_mut(&link).filter(|l| known && l.allowed.len() < MOST) {
            l.allowed.insert(piece);
        }
    }

    /// The peer would like us to take this piece: among equally rare ones it comes first. The newest hints count.
    pub(super) fn suggested(&mut self, link: LinkId, piece: PieceIndex) {
        let known = piece.0 < self.board.layout().piece_count() && !self.board.is_here(piece);
        if let Some(l) = self.links.get_mut(&link).filter(|l| known && !l.suggested.contains(&piece)) {
            if l.suggested.len() >= MOST {
                l.suggested.pop_front();
            }
            l.suggested.push_back(piece);
        }
    }

    /// The peer may ask us for this piece while we choke it.
    pub(super) fn fast_granted(&mut self, link: LinkId, piece: PieceIndex) {
        if let Some(l) = self.links.get_mut(&link).filter(|l| l.granted.len() < MOST) {
            l.granted.insert(piece);
        }
    }

    /// The peer has the piece no longer: what was asked of it there will not come.
    pub(super) fn dont_have(&mut self, link: LinkId, piece: PieceIndex, actions: &mut Vec<Action>) {
        let Some(l) = self.links.get_mut(&link) else { return };
        if !l.has.remove(piece) {
            return;
        }
        l.allowed.remove(&piece);
        let lost: Vec<BlockRef> = l.asks.iter().map(|a| a.block).filter(|b| b.piece == piece).collect();
        self.availability.dec(piece);
        for block in lost {
            self.withdraw(link, block, true);
        }
        if !self.board.is_here(piece) && self.wanted(piece) {
            if let Some(l) = self.links.get_mut(&link) {
                l.useful = l.useful.saturating_sub(1);
            }
            self.tell_interest(link, actions);
        }
    }
}

//! A piece that peers and a server bring together: the server its beginning, which plays as it comes, peers its end, none of which
//! plays before the piece is whole.
//!
//! So peers are asked from the end ([`Agenda::end_first`](super::agenda::Agenda::end_first)), and all that they bring of a piece
//! is due with the first of it: what they do not finish the server completes in the order in which it is due. From the beginning, it
//! would have to bring the end before the first block of the piece plays: a second early with pieces of 256 KiB, eight with 2 MiB.

use super::Engine;
use super::schedule::Pass;
use crate::units::{BlockRef, PieceIndex};

impl Pass {
    /// Seconds until these links together could have so many blocks.
    fn together(&self, able: &[usize], blocks: usize) -> f64 {
        let links = || able.iter().filter_map(|i| self.links.get(*i));
        let nearest = links().map(|c| c.eta).min_by(f64::total_cmp).unwrap_or(f64::INFINITY);
        nearest + blocks as f64 / links().map(|c| 1.0 / c.block_s).sum::<f64>()
    }
}

impl Engine {
    /// Whether a server may bring the beginnings of pieces whose ends come of peers.
    pub(super) fn shares_pieces(&self) -> bool {
        self.servers.usable() && self.servers.trusted()
    }

    /// A piece's blocks in the order in which peers are asked for them: from the end, where a server may bring the beginning.
    pub(super) fn in_turn(&self, piece: PieceIndex) -> impl Iterator<Item = BlockRef> + use<> {
        let (count, backwards) = (self.board.layout().block_count(piece), self.shares_pieces());
        (0..count).map(move |i| BlockRef { piece, block: if backwards { count - 1 - i } else { i } })
    }

    /// Seconds until a piece that the picture waits for could be of use from these links: once all that is missing is here. Never,
    /// where a server would bring what plays of it sooner and the links would be held back for that.
    pub(super) fn whole(&self, pass: &Pass, able: &[usize], missing: usize, of_server: usize) -> f64 {
        let together = pass.together(able, missing) + self.config.margin.as_secs_f64();
        let server_s = pass.servers.time_for(of_server);
        if server_s < together && self.priority.will_hold(&self.config) { f64::INFINITY } else { together }
    }
}

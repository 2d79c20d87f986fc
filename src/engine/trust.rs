//! Pieces whose hash fails: who sent them, and what follows. A peer that alone supplied one is banned; where several did,
//! the piece is fetched again from one link alone, so that the next failure has one cause. An origin that sent a bad piece
//! is treated like a peer from then on: nothing of it is played before its hash checks; a second one and it is dropped.

use std::collections::BTreeSet;

use super::board::Giver;
use super::{Action, Engine};
use crate::units::{LinkId, OriginId, PieceIndex};

/// What is held against whom.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust {
    /// Bad pieces that an origin alone supplied.
    bad_from_server: u32,
    /// Servers took part in a bad piece: what they send waits for its hash, also of one that went away and came back.
    pub suspect: bool,
    /// Servers that are not taken back, whatever they answer later.
    pub dropped: BTreeSet<OriginId>,
}

impl Engine {
    pub(super) fn piece_corrupt(&mut self, piece: PieceIndex, actions: &mut Vec<Action>) {
        let Some(begun) = self.board.void(piece) else { return };
        self.totals.corrupt += self.board.layout().piece_range(piece).len();
        actions.push(Action::Void { piece });
        let givers: BTreeSet<Option<LinkId>> = begun
            .cells
            .iter()
            .filter_map(|c| c.here)
            .map(|g| match g {
                Giver::Link(l) => Some(l),
                Giver::Server => None,
            })
            .collect();
        let mut alone = givers.iter();
        match (alone.next(), alone.next()) {
            (Some(Some(link)), None) => {
                actions.push(Action::Ban { link: *link });
            }
            (Some(None), None) => self.distrust_origins(true, actions),
            _ if givers.contains(&None) => self.distrust_origins(false, actions),
            _ => {}
        }
        self.forget_asks(piece, Some(&begun));
        self.reindex_piece(piece);
    }

    /// Block sums of a piece that failed, or that checks after it failed before.
    pub(super) fn note_sums(&mut self, _piece: PieceIndex, _sums: Vec<u64>, _actions: &mut Vec<Action>) {}

    /// Which of several origins sent it is not known: none is played unchecked any more.
    fn distrust_origins(&mut self, alone: bool, actions: &mut Vec<Action>) {
        self.trust.bad_from_server += u32::from(alone);
        self.trust.suspect = true;
        for o in self.servers.origins.values_mut() {
            o.distrusted = true;
        }
        if self.trust.bad_from_server >= 2 {
            let all: Vec<OriginId> = self.servers.origins.keys().copied().collect();
            for origin in all {
                self.origin_down(origin);
                self.trust.dropped.insert(origin);
                actions.push(Action::DropOrigin { origin });
            }
        }
    }
}

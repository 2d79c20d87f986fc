//! Beyond the window: begun pieces first, then the rarest, ties at random. This is what keeps a swarm of viewers alive
//! who all watch the same place.

use super::zones::Zone;
use super::{Action, Engine};
use crate::units::{BlockRef, Instant, LinkId, PieceIndex};

impl Engine {
    /// Fills the link's queue up to `room` more requests with blocks beyond the window.
    pub(super) fn ask_ahead(
        &mut self,
        now: Instant,
        link: LinkId,
        room: usize,
        typical: f64,
        actions: &mut Vec<Action>,
    ) {
        let mut picks: Vec<BlockRef> = Vec::with_capacity(room);
        let Some(l) = self.links.get(&link) else { return };
        let layout = *self.board.layout();
        for (p, g) in self.board.begun() {
            if picks.len() >= room {
                break;
            }
            let whole = g.checking || g.here as usize == g.cells.len();
            if whole || !l.answers(*p) || !self.board.admits(*p, link) || !self.is_ahead(now, *p) {
                continue;
            }
            let free = g.cells.iter().enumerate().filter(|(_, c)| c.free() && !c.tried.contains(&link));
            picks.extend(free.map(|(i, _)| BlockRef { piece: *p, block: i as u32 }).take(room - picks.len()));
        }
        let mut passed = Vec::new();
        for p in self.availability.rarest() {
            if picks.len() >= room {
                break;
            }
            if !l.answers(p) {
                continue;
            }
            if !self.is_ahead(now, p) {
                if self.zone_of(now, p) == Zone::Behind {
                    passed.push(p);
                }
                continue;
            }
            picks.extend((0..layout.block_count(p)).map(|block| BlockRef { piece: p, block }).take(room - picks.len()));
        }
        for p in passed {
            self.availability.take(p);
        }
        for block in picks {
            self.ask(now, link, block, typical, actions);
        }
    }

    fn zone_of(&self, now: Instant, p: PieceIndex) -> Zone {
        // By its last byte of the file: a piece the playhead is inside of is not behind.
        let piece = self.board.layout().piece_range(p);
        let last = self.position.file.map_or(piece.end, |f| piece.end.min(f.end)).saturating_sub(1);
        self.position.zone(last, now, &self.config)
    }

    fn is_ahead(&self, now: Instant, p: PieceIndex) -> bool {
        self.zone_of(now, p) == Zone::Ahead
    }

    /// Makes the rarest-first index anew: after a choice of file, a jump, or a better timeline.
    pub(super) fn reindex(&mut self, now: Instant) {
        let Some(file) = self.position.file else { return };
        let pieces: Vec<PieceIndex> = self
            .board
            .layout()
            .pieces_in(file)
            .map(PieceIndex)
            .filter(|p| {
                !self.board.is_here(*p) && self.board.get(*p).is_none() && self.zone_of(now, *p) != Zone::Behind
            })
            .collect();
        self.availability.index(pieces.into_iter(), &mut self.rng);
    }

    /// Puts a piece back into the index when nothing of it is here or asked for any more.
    pub(super) fn reindex_piece(&mut self, p: PieceIndex) {
        if !self.board.is_here(p) && self.board.get(p).is_none() && self.position.file.is_some() && self.wanted(p) {
            self.availability.put(p);
        }
    }
}

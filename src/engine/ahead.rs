//! Beyond the window: begun pieces first, then the rarest, ties at random. This is what keeps a swarm of viewers alive
//! who all watch the same place. At the very end, when all that is missing was asked of somebody, idle links are asked
//! for it a second time: the last block must not wait for the slowest peer (end game).

use super::links::Link;
use super::schedule::Pass;
use super::zones::{Zone, Zones};
use super::{Action, Engine, Phase};
use crate::units::{BlockRef, Instant, LinkId, PieceIndex};

/// Pieces looked at in rarest-first order for one link before its own few are looked at instead: with this many tries a
/// peer that has more than a tenth of the pieces gives one in all but a thousandth of the cases.
const RAREST_TRIES: usize = 64;

/// Pieces ahead with which a viewer has something to give: as many as BEP 6 lets a newcomer have for a start.
const EARN_MOST: usize = 10;

impl Engine {
    /// Fills the link's queue up to `room` more requests with blocks beyond the window; answers how many were asked for.
    pub(super) fn ask_ahead(
        &mut self,
        now: Instant,
        link: LinkId,
        room: usize,
        zones: &Zones,
        typical: f64,
        actions: &mut Vec<Action>,
    ) -> usize {
        let mut picks: Vec<BlockRef> = Vec::with_capacity(room);
        self.failed_ahead(link, room, zones, &mut picks);
        self.begun_ahead(link, room, zones, &mut picks);
        self.rarest_ahead(link, room, zones, &mut picks);
        if picks.is_empty() {
            self.end_game(now, link, room, typical, &mut picks);
        }
        let asked = picks.len();
        for block in picks {
            self.ask(now, link, block, typical, actions);
        }
        asked
    }

    /// A viewer of whom nobody wants anything, although not all have everything: it came last, and has only what the others have
    /// watched. Only with a server at hand, which brings what is put off, and only until it has enough: who wants nothing of
    /// that wants nothing.
    pub(super) fn gives_nothing(&self, zones: &Zones) -> bool {
        let lacks = |l: &Link| !l.has.is_full();
        let here = || self.board.verified().iter().filter(|p| self.is_ahead(zones, *p));
        let begun = || self.board.begun().keys().filter(|p| self.is_ahead(zones, **p)).count();
        self.position.phase == Phase::Playing
            && self.servers.usable()
            && self.links.values().all(|l| !l.peer_interested)
            && self.links.values().any(lacks)
            && here().take(EARN_MOST).count() + begun() < EARN_MOST
    }

    /// Before what is due, the rarest: something to give, so that the swarm has use of this viewer's upload and, choking as it
    /// does, a reason to serve it. It costs nothing: a byte is needed once, and whoever brings this one lets the server
    /// bring another. 5 % of a swarm's upload lay idle in viewers of the first tenth of a film of five minutes.
    pub(super) fn earn(&mut self, now: Instant, zones: &Zones, pass: &mut Pass, actions: &mut Vec<Action>) {
        for c in &mut pass.links {
            if !self.gives_nothing(zones) {
                break;
            }
            let room = std::mem::take(&mut c.room);
            self.ask_ahead(now, c.link, room, zones, pass.typical, actions);
        }
    }

    fn is_ahead(&self, zones: &Zones, p: PieceIndex) -> bool {
        zones.of_piece(self.board.layout().piece_range(p)) == Zone::Ahead
    }

    /// Pieces that failed come before all else that does not press, also those behind the clock: until their next copy is here,
    /// a liar goes on. Those in the window have their deadline.
    fn failed_ahead(&self, link: LinkId, room: usize, zones: &Zones, picks: &mut Vec<BlockRef>) {
        let Some(l) = self.links.get(&link) else { return };
        let zone = |p: PieceIndex| zones.of_piece(self.board.layout().piece_range(p));
        let due = |p: PieceIndex| matches!(zone(p), Zone::Urgent | Zone::Window);
        for (piece, _) in self.board.retries().iter().filter(|(p, _)| l.answers(*p) && self.wanted(*p) && !due(*p)) {
            let blocks = (0..self.board.layout().block_count(piece)).map(|block| BlockRef { piece, block });
            let free = blocks.filter(|b| self.board.is_free(*b) && self.board.admits(*b, link));
            picks.extend(free.take(room - picks.len()));
            if picks.len() >= room {
                return;
            }
        }
    }

    /// Free blocks of begun pieces: what is begun is finished first, since only whole pieces can be given on.
    fn begun_ahead(&self, link: LinkId, room: usize, zones: &Zones, picks: &mut Vec<BlockRef>) {
        let Some(l) = self.links.get(&link) else { return };
        for (piece, g) in self.board.open() {
            if picks.len() >= room {
                break;
            }
            if !l.answers(piece) || self.board.failed(piece) || !self.is_ahead(zones, piece) {
                continue;
            }
            let free =
                |b: &BlockRef| g.cells.get(b.block as usize).is_some_and(|c| c.free() && !c.tried.contains(&link));
            picks.extend(self.in_turn(piece).filter(free).take(room - picks.len()));
        }
    }

    /// Blocks of the rarest pieces that the link has and nobody began.
    fn rarest_ahead(&mut self, link: LinkId, room: usize, zones: &Zones, picks: &mut Vec<BlockRef>) {
        let Some(l) = self.links.get(&link) else { return };
        let layout = *self.board.layout();
        let mut passed = Vec::new();
        let failed = self.board.retries();
        let mut take = |p: PieceIndex, picks: &mut Vec<BlockRef>| match zones.of_piece(layout.piece_range(p)) {
            _ if failed.get(p).is_some() => {}
            Zone::Ahead => {
                picks.extend(self.in_turn(p).take(room.saturating_sub(picks.len())));
            }
            Zone::Behind => passed.push(p),
            // The clock's own: asked for by deadline.
            Zone::Urgent | Zone::Window => {}
        };
        let least = self.availability.rarest().next().map_or(0, |p| self.availability.of(p));
        let hinted = |p: &&PieceIndex| self.availability.indexed(**p) && self.availability.of(**p) <= least;
        for p in l.suggested.iter().rev().filter(|p| l.answers(**p)).filter(hinted) {
            if picks.len() < room {
                take(*p, picks);
            }
        }
        let mut tries = 0;
        for p in self.availability.rarest() {
            if picks.len() >= room {
                break;
            }
            if l.answers(p) {
                take(p, picks);
            } else {
                tries += 1;
            }
            if tries > RAREST_TRIES {
                break;
            }
        }
        if tries > RAREST_TRIES && picks.len() < room {
            // It has few of what is missing: those are counted out, the rarest of them first.
            let mut own: Vec<PieceIndex> =
                self.availability.indexed_of(&l.has).filter(|p| l.answers(*p)).take(4 * RAREST_TRIES).collect();
            own.sort_by_key(|p| self.availability.of(*p));
            for p in own {
                if picks.len() < room && picks.iter().all(|b| b.piece != p) {
                    take(p, picks);
                }
            }
        }
        for p in passed {
            self.availability.take(p);
        }
    }

    /// All that is missing was asked of somebody: an idle link is asked for what will come last.
    fn end_game(&self, now: Instant, link: LinkId, room: usize, typical: f64, picks: &mut Vec<BlockRef>) {
        let Some(l) = self.links.get(&link) else { return };
        let all_asked = self.board.open().next().is_none() && self.availability.rarest().next().is_none();
        if !all_asked || !l.asks.is_empty() || !self.hedge_affordable() {
            return;
        }
        let own = l.eta(now, typical, &self.config) + self.block_s(now, l, typical);
        let mut last: Vec<(f64, BlockRef)> = Vec::new();
        for (piece, g) in self.board.begun() {
            if g.checking || !l.answers(*piece) || self.board.failed(*piece) {
                continue;
            }
            for (i, c) in g.cells.iter().enumerate() {
                let &[first] = &*c.asked else { continue };
                let block = BlockRef { piece: *piece, block: i as u32 };
                let holder = self.links.get(&first).filter(|_| first != link && !c.tried.contains(&link));
                let Some(holder) = holder else { continue };
                let Some(place) = holder.asks.iter().position(|a| a.block == block) else { continue };
                let finish = holder.eta_at(now, place + 1, typical, &self.config);
                let finish = finish + self.overdue(now, &holder.asks[place]);
                // Twice as fast, or it would be a race that both lose bytes in.
                if finish > 2.0 * own {
                    last.push((finish, block));
                }
            }
        }
        last.sort_by(|a, b| b.0.total_cmp(&a.0));
        picks.extend(last.into_iter().map(|b| b.1).take(room.min(2)));
    }

    /// Makes the rarest-first index anew: after a choice of file, a jump, or a better timeline.
    pub(super) fn reindex(&mut self, now: Instant) {
        let Some(file) = self.position.file else { return };
        let zones = self.position.zones(now, &self.config);
        let layout = *self.board.layout();
        let pieces: Vec<PieceIndex> = layout
            .pieces_in(file)
            .map(PieceIndex)
            .filter(|p| {
                let begun = self.board.is_here(*p) || self.board.get(*p).is_some();
                !begun && zones.of_piece(layout.piece_range(*p)) != Zone::Behind
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

//! Pieces and blocks: what is here, what was asked of whom.
//!
//! Invariant: a piece is exactly one of *missing* (no table), *begun* (a table in which at least one block is asked for or
//! here), *checking* (all blocks here, hash not known) or *here* (verified, no table). A block that is here is asked of
//! nobody. `open` holds just the begun pieces that have a free block. [`Board::check`] verifies it, and tests call it after every step.

use std::collections::{BTreeMap, BTreeSet};

use super::retry::{Mode, Retries};
use super::snapshot::{Origin, PieceState};
use crate::units::{BlockRef, ByteRange, FetchId, Instant, Layout, LinkId, PieceIndex, PieceSet};

/// Who brought a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Giver {
    Link(LinkId),
    Server,
    /// Nobody: padding, which is zeros (BEP 47).
    Known,
}

/// Links that a block is not hedged to again: where so many let it down since, the first may be the best there is by now.
const TRIED_MOST: usize = 8;

/// One block of a begun piece.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    pub here: Option<Giver>,
    /// The first, and a hedge.
    pub asked: Askers,
    pub fetch: Option<FetchId>,
    /// Links that were asked for it and lost the request or the race, the latest last: not hedged to again until others were.
    pub tried: Vec<LinkId>,
}

impl Cell {
    /// Neither here nor on its way.
    pub fn free(&self) -> bool {
        self.here.is_none() && self.asked.is_empty() && self.fetch.is_none()
    }
}

/// Who was asked for a block: at most two, without a heap of their own since there are thousands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Askers {
    ids: [LinkId; 2],
    len: u8,
}

impl Askers {
    /// False when there are two already.
    fn push(&mut self, link: LinkId) -> bool {
        match self.ids.get_mut(self.len as usize) {
            Some(free) => *free = link,
            None => return false,
        }
        self.len += 1;
        true
    }

    fn remove(&mut self, link: LinkId) {
        if let Some(i) = self.iter().position(|l| *l == link) {
            self.ids.swap(i, 1);
            self.len -= 1;
        }
    }
}

impl std::ops::Deref for Askers {
    type Target = [LinkId];
    fn deref(&self) -> &[LinkId] {
        &self.ids[..self.len as usize]
    }
}

/// A piece that is not whole yet.
#[derive(Debug, Clone)]
pub struct Begun {
    pub cells: Vec<Cell>,
    pub here: u32,
    /// Blocks neither here nor on their way.
    pub free: u32,
    pub checking: bool,
}

impl Begun {
    /// Where its blocks came from so far.
    pub fn origin(&self) -> Origin {
        let peers = self.cells.iter().any(|c| matches!(c.here, Some(Giver::Link(_))));
        let server = self.cells.iter().any(|c| c.here == Some(Giver::Server));
        match (peers, server) {
            (true, true) => Origin::Both,
            (false, true) => Origin::Server,
            (true, false) => Origin::Peers,
            (false, false) => Origin::None,
        }
    }
}

/// All pieces of a torrent.
#[derive(Debug, Clone)]
pub struct Board {
    layout: Layout,
    /// Padding, sorted: blocks within it are here from the start.
    padding: Vec<ByteRange>,
    verified: PieceSet,
    missing: u32,
    begun: BTreeMap<PieceIndex, Begun>,
    /// Begun pieces with a free block.
    open: BTreeSet<PieceIndex>,
    /// Origin of each verified piece.
    origins: Vec<Origin>,
    /// Pieces that failed and are fetched anew.
    retries: Retries,
}

impl Board {
    /// `have` was verified in an earlier run.
    pub fn new(layout: Layout, have: PieceSet) -> Self {
        let origins = (0..layout.piece_count())
            .map(|p| if have.contains(PieceIndex(p)) { Origin::Disk } else { Origin::None })
            .collect();
        Self {
            layout,
            padding: Vec::new(),
            missing: layout.piece_count() - have.count(),
            verified: have,
            begun: BTreeMap::new(),
            open: BTreeSet::new(),
            origins,
            retries: Retries::default(),
        }
    }

    /// Bytes that are zeros by what the torrent says, in order; before anything is asked for.
    pub fn set_padding(&mut self, padding: Vec<ByteRange>) {
        self.padding = padding;
    }

    /// Whether all of the block is padding. Of a piece that is nothing else some block must be fetched, or it would never be
    /// checked: then none is.
    fn is_padding(&self, b: BlockRef) -> bool {
        if self.padding.is_empty() {
            return false;
        }
        let (block, piece) = (self.layout.block_range(b), self.layout.piece_range(b.piece));
        let at = self.padding.partition_point(|p| p.end <= block.start);
        let within = |r: &ByteRange, part: ByteRange| r.start <= part.start && part.end <= r.end;
        self.padding.get(at).is_some_and(|r| within(r, block) && !within(r, piece))
    }

    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    pub fn verified(&self) -> &PieceSet {
        &self.verified
    }

    pub fn is_here(&self, p: PieceIndex) -> bool {
        self.verified.contains(p)
    }

    pub fn begun(&self) -> &BTreeMap<PieceIndex, Begun> {
        &self.begun
    }

    pub fn get(&self, p: PieceIndex) -> Option<&Begun> {
        self.begun.get(&p)
    }

    /// Whether the block is neither here nor on its way.
    pub fn is_free(&self, b: BlockRef) -> bool {
        !self.is_here(b.piece) && self.cell(b).map_or_else(|| !self.is_padding(b), Cell::free)
    }

    /// The block's cell, where its piece is begun.
    pub fn cell(&self, b: BlockRef) -> Option<&Cell> {
        self.begun.get(&b.piece)?.cells.get(b.block as usize)
    }

    /// Whether the block's bytes are here, checked or not.
    pub fn block_here(&self, b: BlockRef) -> bool {
        self.is_here(b.piece) || self.cell(b).map_or_else(|| self.is_padding(b), |c| c.here.is_some())
    }

    /// Which blocks of a piece are not here: asked of its table once for all.
    pub fn absent(&self, p: PieceIndex) -> impl Fn(u32) -> bool + '_ {
        let (here, table) = (self.is_here(p), self.begun.get(&p));
        move |block| {
            !here
                && table
                    .and_then(|g| g.cells.get(block as usize))
                    .map_or_else(|| !self.is_padding(BlockRef { piece: p, block }), |c| c.here.is_none())
        }
    }

    /// Whether every piece is verified.
    pub fn whole(&self) -> bool {
        self.missing == 0
    }

    /// Begun pieces that have a free block, lowest first.
    pub fn open(&self) -> impl Iterator<Item = (PieceIndex, &Begun)> {
        self.open.iter().filter_map(|p| Some((*p, self.begun.get(p)?)))
    }

    /// Whether somebody could still be asked for a block of the piece for the first time.
    pub fn has_free(&self, p: PieceIndex) -> bool {
        !self.is_here(p) && self.begun.get(&p).is_none_or(|g| g.free > 0)
    }

    /// Changes a block's cell, beginning its piece if need be, and books whether it is free now. `None` for a block that
    /// does not exist or is verified.
    fn change<T>(&mut self, b: BlockRef, change: impl FnOnce(&mut Cell) -> T) -> Option<T> {
        let blocks = self.layout.block_count(b.piece);
        if self.is_here(b.piece) || b.block >= blocks {
            return None;
        }
        if !self.begun.contains_key(&b.piece) {
            let known = |block| self.is_padding(BlockRef { block, ..b }).then_some(Giver::Known);
            let cells: Vec<Cell> = (0..blocks).map(|i| Cell { here: known(i), ..Cell::default() }).collect();
            let here = cells.iter().filter(|c| c.here.is_some()).count() as u32;
            let begun = Begun { cells, here, free: blocks - here, checking: false };
            self.begun.insert(b.piece, begun);
        }
        let begun = self.begun.get_mut(&b.piece)?;
        let cell = begun.cells.get_mut(b.block as usize)?;
        let (before, out) = (cell.free(), change(cell));
        match (before, cell.free()) {
            (true, false) => begun.free -= 1,
            (false, true) => begun.free += 1,
            _ => {}
        }
        if begun.free > 0 && begun.free < blocks {
            self.open.insert(b.piece);
        } else {
            self.open.remove(&b.piece);
        }
        Some(out)
    }

    /// Changes a cell of a piece that is begun.
    fn change_begun(&mut self, b: BlockRef, change: impl FnOnce(&mut Cell)) {
        if self.begun.contains_key(&b.piece) {
            self.change(b, change);
            self.forget_if_untouched(b.piece);
        }
    }

    /// Books that `link` was asked for the block; false when it was asked already, may not give it, or the block is here.
    pub fn ask(&mut self, b: BlockRef, link: LinkId) -> bool {
        if !self.admits(b, link) {
            return false;
        }
        let asked = self.change(b, |c| c.here.is_none() && !c.asked.contains(&link) && c.asked.push(link));
        if asked != Some(true) {
            return false;
        }
        self.retries.asked(b.piece, link);
        true
    }

    /// Whether the link may be asked for the block: not where a copy that failed had it of this link.
    pub fn admits(&self, b: BlockRef, link: LinkId) -> bool {
        self.retries.admits(b, link)
    }

    /// Whether the block is taken from the link: what comes late of an earlier copy would muddy the next.
    pub fn takes(&self, b: BlockRef, link: LinkId) -> bool {
        self.retries.takes(b, link)
    }

    /// Whether the piece failed and was not verified since.
    pub fn failed(&self, p: PieceIndex) -> bool {
        self.retries.get(p).is_some()
    }

    /// Pieces that failed.
    pub fn retries(&self) -> &Retries {
        &self.retries
    }

    /// The link went silent or away: whoever is next may fill the pieces it was to fill alone.
    pub fn end_parole(&mut self, link: LinkId) {
        self.retries.release(link);
    }

    /// Nobody else can be asked for what is missing of the piece: one link gives it.
    pub fn retry_alone(&mut self, p: PieceIndex) {
        self.retries.alone(p);
    }

    /// Books that a server range covers the block.
    pub fn ask_server(&mut self, b: BlockRef, fetch: FetchId) {
        self.change(b, |c| {
            if c.here.is_none() {
                c.fetch = Some(fetch);
            }
        });
    }

    /// `link` will not bring the block.
    pub fn unask(&mut self, b: BlockRef, link: LinkId, tried: bool) {
        self.change_begun(b, |c| {
            c.asked.remove(link);
            if tried {
                c.tried.retain(|l| *l != link);
                if c.tried.len() >= TRIED_MOST {
                    c.tried.remove(0);
                }
                c.tried.push(link);
            }
        });
    }

    /// The fetch will not bring the block.
    pub fn unask_server(&mut self, b: BlockRef, fetch: FetchId) {
        self.change_begun(b, |c| {
            if c.fetch == Some(fetch) {
                c.fetch = None;
            }
        });
    }

    /// The block's bytes are in the store. Returns who else was asked, or `None` when it was here before.
    pub fn arrived(&mut self, b: BlockRef, from: Giver) -> Option<Askers> {
        let others = self.change(b, |c| {
            c.here.is_none().then(|| {
                c.here = Some(from);
                c.fetch = None;
                std::mem::take(&mut c.asked)
            })
        })??;
        if let Some(g) = self.begun.get_mut(&b.piece) {
            g.here += 1;
        }
        Some(others)
    }

    /// Whether all blocks of a piece that is not verified are here.
    pub fn whole_piece(&self, p: PieceIndex) -> bool {
        self.begun.get(&p).is_some_and(|g| g.here as usize == g.cells.len())
    }

    /// True once when all blocks have become here: the piece's hash is to be checked.
    pub fn complete(&mut self, p: PieceIndex) -> bool {
        match self.begun.get_mut(&p) {
            Some(g) if !g.checking && g.here as usize == g.cells.len() => {
                g.checking = true;
                true
            }
            _ => false,
        }
    }

    /// Blocks that the link gave of pieces that are not whole are void. Returns the pieces, and the bytes lost.
    pub fn forget_from(&mut self, link: LinkId) -> (Vec<PieceIndex>, u64) {
        let mut bytes = 0;
        let given = |g: &Begun| !g.checking && g.cells.iter().any(|c| c.here == Some(Giver::Link(link)));
        let pieces: Vec<PieceIndex> = self.begun.iter().filter(|(_, g)| given(g)).map(|(p, _)| *p).collect();
        for piece in &pieces {
            for block in 0..self.layout.block_count(*piece) {
                let b = BlockRef { piece: *piece, block };
                let was = self.change(b, |c| c.here.take_if(|g| *g == Giver::Link(link)).is_some());
                if was == Some(true)
                    && let Some(g) = self.begun.get_mut(piece)
                {
                    g.here -= 1;
                    bytes += self.layout.block_range(b).len();
                }
            }
            self.forget_if_untouched(*piece);
        }
        (pieces, bytes)
    }

    /// The piece's hash checks. Returns the table it had.
    pub fn verify(&mut self, p: PieceIndex) -> Option<Begun> {
        if !self.verified.insert(p) {
            return None;
        }
        self.missing -= 1;
        self.retries.verified(p);
        let begun = self.begun.remove(&p);
        self.open.remove(&p);
        self.origins[p.get()] = begun.as_ref().map_or(Origin::Disk, Begun::origin);
        begun
    }

    /// The piece's hash does not check: blocks that `keep` does not hold on to are void, and the next copy comes as `mode`
    /// says. Returns the table it had.
    pub fn void(&mut self, now: Instant, p: PieceIndex, mode: Mode, keep: impl Fn(u32) -> bool) -> Option<Begun> {
        let begun = self.begun.remove(&p)?;
        self.open.remove(&p);
        self.retries.failed(now, p, mode);
        for (i, giver) in begun.cells.iter().enumerate().filter_map(|(i, c)| Some((i as u32, c.here?))) {
            if keep(i) {
                self.arrived(BlockRef { piece: p, block: i }, giver);
            }
        }
        Some(begun)
    }

    pub fn state(&self, p: PieceIndex) -> PieceState {
        match self.begun.get(&p) {
            _ if self.is_here(p) => PieceState::Here,
            None => PieceState::Missing,
            Some(g) if g.checking => PieceState::Checking,
            Some(_) => PieceState::Begun,
        }
    }

    /// Where what is here of a piece came from.
    pub fn origin(&self, p: PieceIndex) -> Origin {
        self.origins.get(p.get()).copied().unwrap_or_default()
    }

    /// The first byte of the range that may not be played yet: neither verified nor, where servers are trusted, a server's.
    pub fn first_unplayable(&self, r: ByteRange, trust_servers: bool) -> u64 {
        let mut at = r.start;
        while at < r.end {
            let p = self.layout.piece_at(at);
            if self.is_here(p) {
                at = self.layout.piece_range(p).end;
                continue;
            }
            let b = self.layout.block_at(at);
            if !(trust_servers && self.cell(b).is_some_and(|c| c.here == Some(Giver::Server))) {
                return at;
            }
            at = self.layout.block_range(b).end;
        }
        r.end
    }

    fn forget_if_untouched(&mut self, p: PieceIndex) {
        if self.begun.get(&p).is_some_and(|g| g.here == 0 && g.free as usize == g.cells.len()) {
            self.begun.remove(&p);
            self.open.remove(&p);
            self.retries.untouched(p);
        }
    }

    /// The blocks of a begun piece that peers gave, or were asked for, in order: they play only once the piece's hash was checked.
    pub fn of_peers(&self, p: PieceIndex) -> impl Iterator<Item = BlockRef> {
        let of_peers = |c: &Cell| !c.asked.is_empty() || matches!(c.here, Some(Giver::Link(_)));
        let cells = self.get(p).map_or(&[][..], |g| &g.cells).iter().enumerate();
        cells.filter(move |(_, c)| of_peers(c)).map(move |(i, _)| BlockRef { piece: p, block: i as u32 })
    }

    /// Checks the module's invariant; what is wrong with it, if anything.
    pub fn check(&self) -> Result<(), String> {
        for (p, g) in &self.begun {
            if self.is_here(*p) {
                return Err(format!("piece {p} is verified and begun"));
            }
            let here = g.cells.iter().filter(|c| c.here.is_some()).count();
            if here != g.here as usize || g.cells.len() != self.layout.block_count(*p) as usize {
                return Err(format!("piece {p}: {here} blocks here, {} booked", g.here));
            }
            if g.here == 0 && g.cells.iter().all(Cell::free) {
                return Err(format!("piece {p} has a table but nothing in it"));
            }
            let free = g.cells.iter().filter(|c| c.free()).count();
            if free != g.free as usize || self.open.contains(p) != (0 < free && free < g.cells.len()) {
                return Err(format!(
                    "piece {p}: {free} blocks free, {} booked, open {}",
                    g.free,
                    self.open.contains(p)
                ));
            }
            if let Some(i) = g.cells.iter().position(|c| c.here.is_some() && !c.asked.is_empty()) {
                return Err(format!("block {i} of piece {p} is here and still asked for"));
            }
        }
        match self.open.iter().find(|p| !self.begun.contains_key(p)) {
            Some(p) => Err(format!("piece {p} is open and not begun")),
            None => Ok(()),
        }
    }
}

//! Pieces whose hash failed are fetched anew so that the new copy says who lied.
//!
//! The **second copy** keeps the blocks of the more trusted half of the givers, or none where enough others have the piece, and
//! has the rest of anybody but the other half: if it checks, the blocks that were replaced tell who lied. If it fails as well,
//! the blocks of which there are two copies accuse: where they differ one of two lied, and where all are alike it was a block
//! of the half that was kept. The **third copy** is without the accused. **From then on** only blocks are kept that two gave alike,
//! and the others are asked of who did not give them yet. What fails again and again, or finds nobody else to ask, comes from
//! **one link alone**: a copy that fails has one cause then.
//!
//! With one liar the third copy checks at the latest, and none takes the time of fetching a whole piece from one peer.
//!
//! Invariant: who is barred from a block of a copy did not give it.

use std::collections::BTreeMap;

use crate::units::{BlockRef, Instant, LinkId, PieceIndex};

/// Who gives the next copy of a piece that failed.
#[derive(Debug, Clone, PartialEq)]
pub enum Mode {
    /// Each block by anybody but these.
    Without(Vec<Vec<LinkId>>),
    /// All of one link: who is asked first.
    Alone(Option<LinkId>),
}

/// A piece that failed and was not verified since.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Times its hash failed.
    pub failures: u32,
    /// When it failed last.
    pub at: Instant,
    pub mode: Mode,
}

impl Retry {
    /// Whether the link may be asked for the block.
    pub fn admits(&self, block: u32, link: LinkId) -> bool {
        match &self.mode {
            Mode::Without(barred) => barred.get(block as usize).is_none_or(|b| !b.contains(&link)),
            Mode::Alone(one) => one.is_none_or(|l| l == link),
        }
    }

    /// Whether the block is taken from the link: what comes late of who is barred would muddy this copy.
    pub fn takes(&self, block: u32, link: LinkId) -> bool {
        match self.mode {
            Mode::Without(_) => self.admits(block, link),
            Mode::Alone(one) => one == Some(link),
        }
    }
}

/// All pieces that failed.
#[derive(Debug, Clone, Default)]
pub struct Retries {
    pieces: BTreeMap<PieceIndex, Retry>,
}

impl Retries {
    pub fn get(&self, p: PieceIndex) -> Option<&Retry> {
        self.pieces.get(&p)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.pieces.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (PieceIndex, &Retry)> {
        self.pieces.iter().map(|(p, r)| (*p, r))
    }

    /// The piece failed once more.
    pub fn failed(&mut self, now: Instant, p: PieceIndex, mode: Mode) {
        let r = self.pieces.entry(p).or_insert(Retry { failures: 0, at: now, mode: Mode::Alone(None) });
        (r.failures, r.at, r.mode) = (r.failures + 1, now, mode);
    }

    /// The link was asked: where one is to give all, it is the one.
    pub fn asked(&mut self, p: PieceIndex, link: LinkId) {
        if let Some(Mode::Alone(one @ None)) = self.pieces.get_mut(&p).map(|r| &mut r.mode) {
            *one = Some(link);
        }
    }

    /// Nothing of the piece is here or on its way any more: whoever is asked next may give it alone.
    pub fn untouched(&mut self, p: PieceIndex) {
        if let Some(Mode::Alone(one)) = self.pieces.get_mut(&p).map(|r| &mut r.mode) {
            *one = None;
        }
    }

    /// The link went silent or away: whoever is next may fill the pieces that it was to fill alone.
    pub fn release(&mut self, link: LinkId) {
        for r in self.pieces.values_mut().filter(|r| r.mode == Mode::Alone(Some(link))) {
            r.mode = Mode::Alone(None);
        }
    }

    /// Nobody else can be asked: one link gives the piece.
    pub fn alone(&mut self, p: PieceIndex) {
        if let Some(r) = self.pieces.get_mut(&p) {
            r.mode = Mode::Alone(None);
        }
    }

    pub fn verified(&mut self, p: PieceIndex) {
        self.pieces.remove(&p);
    }

    pub fn admits(&self, b: BlockRef, link: LinkId) -> bool {
        self.get(b.piece).is_none_or(|r| r.admits(b.block, link))
    }

    pub fn takes(&self, b: BlockRef, link: LinkId) -> bool {
        self.get(b.piece).is_none_or(|r| r.takes(b.block, link))
    }
}

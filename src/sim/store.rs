//! What a node has on its disk, and what of it is true: the world's own books, which the engine's are held against.

use std::collections::BTreeSet;

use crate::units::{BLOCK_LEN, BlockRef, ByteRange, Layout, PieceIndex, PieceSet};

/// One block on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Bytes {
    #[default]
    Missing,
    /// From a peer; falsified by whom, or 0.
    Peer(u32),
    /// From a server; falsified by whom, or 0.
    Server(u32),
    /// There from the start.
    Before,
}

impl Bytes {
    pub fn lie(self) -> u32 {
        match self {
            Self::Peer(lie) | Self::Server(lie) => lie,
            Self::Missing | Self::Before => 0,
        }
    }
}

/// The blocks of one node. All full pieces of a torrent have the same number of blocks, so a block's place is its number.
#[derive(Debug, Clone)]
pub(super) struct Store {
    layout: Layout,
    per_piece: u32,
    blocks: Vec<Bytes>,
    /// What the reader may have, as the engine said.
    playable: Vec<u64>,
    /// Whose hash checked, by the world's truth.
    pub verified: PieceSet,
    /// Being hashed.
    pub checking: BTreeSet<PieceIndex>,
    /// Bytes written and not voided since.
    pub kept: u64,
    /// Bytes in pieces that were voided.
    pub voided: u64,
    /// Where the run of playable bytes ends that was last looked for: `(start, end)`.
    run: (u64, u64),
}

impl Store {
    pub fn new(layout: Layout, have: PieceSet) -> Self {
        let per_piece = layout.piece_len().div_ceil(BLOCK_LEN);
        let n = per_piece as usize * layout.piece_count() as usize;
        let mut s = Self {
            layout,
            per_piece,
            blocks: vec![Bytes::Missing; n],
            playable: vec![0; n.div_ceil(64)],
            verified: PieceSet::new(layout.piece_count()),
            checking: BTreeSet::new(),
            kept: 0,
            voided: 0,
            run: (0, 0),
        };
        for p in have.iter() {
            for block in 0..layout.block_count(p) {
                let i = s.place(BlockRef { piece: p, block });
                s.blocks[i] = Bytes::Before;
            }
            s.set_playable(layout.piece_range(p), true);
        }
        s.verified = have;
        s
    }

    fn place(&self, b: BlockRef) -> usize {
        b.piece.get() * self.per_piece as usize + b.block as usize
    }

    pub fn get(&self, b: BlockRef) -> Bytes {
        self.blocks.get(self.place(b)).copied().unwrap_or_default()
    }

    pub fn here(&self, b: BlockRef) -> bool {
        self.get(b) != Bytes::Missing
    }

    /// Writes a block; false when it was here already.
    pub fn write(&mut self, b: BlockRef, bytes: Bytes) -> bool {
        let i = self.place(b);
        if self.blocks.get(i) != Some(&Bytes::Missing) {
            return false;
        }
        self.blocks[i] = bytes;
        self.kept += self.layout.block_range(b).len();
        true
    }

    pub fn blocks_of(&self, p: PieceIndex) -> impl Iterator<Item = BlockRef> + use<> {
        (0..self.layout.block_count(p)).map(move |block| BlockRef { piece: p, block })
    }

    /// Whether all of the piece is here and true.
    pub fn is_true(&self, p: PieceIndex) -> bool {
        self.blocks_of(p).all(|b| self.here(b) && self.get(b).lie() == 0)
    }

    /// A sum of each block: equal for equal bytes.
    pub fn sums(&self, p: PieceIndex) -> Vec<u64> {
        self.blocks_of(p).map(|b| self.place(b) as u64 | u64::from(self.get(b).lie()) << 40).collect()
    }

    /// Nothing of the piece may be played.
    pub fn void(&mut self, p: PieceIndex) {
        self.set_playable(self.layout.piece_range(p), false);
        self.run = (0, 0);
    }

    /// Blocks of pieces that are neither verified nor being hashed, and that `kept` does not hold on to, are void. Returns how
    /// many bytes that is.
    pub fn void_where(&mut self, kept: impl Fn(BlockRef) -> bool) -> u64 {
        let mut bytes = 0;
        for p in (0..self.layout.piece_count()).map(PieceIndex) {
            if self.verified.contains(p) || self.checking.contains(&p) {
                continue;
            }
            for b in self.blocks_of(p) {
                let i = self.place(b);
                if self.blocks[i] != Bytes::Missing && !kept(b) {
                    self.blocks[i] = Bytes::Missing;
                    bytes += self.layout.block_range(b).len();
                }
            }
        }
        self.kept -= bytes;
        self.voided += bytes;
        bytes
    }

    /// Blocks that lie whole in the range become playable, or no longer.
    pub fn set_playable(&mut self, range: ByteRange, on: bool) {
        for b in self.layout.blocks_in(range) {
            if self.layout.block_range(b).end <= range.end {
                let i = self.place(b);
                let bit = 1u64 << (i % 64);
                if on { self.playable[i / 64] |= bit } else { self.playable[i / 64] &= !bit }
            }
        }
    }

    fn is_playable(&self, b: BlockRef) -> bool {
        let i = self.place(b);
        self.playable.get(i / 64).is_some_and(|w| w >> (i % 64) & 1 == 1)
    }

    /// The first byte from `at` on that may not be played.
    pub fn run_end(&mut self, at: u64) -> u64 {
        if !(self.run.0 <= at && at <= self.run.1) {
            self.run = (at, at);
        }
        let mut end = self.run.1;
        while end < self.layout.total_len() {
            let b = self.layout.block_at(end);
            if !self.is_playable(b) {
                break;
            }
            end = self.layout.block_range(b).end;
        }
        self.run.1 = end;
        end
    }

    /// Who falsified any of these bytes; 0 when all are true.
    pub fn lie_in(&self, range: ByteRange) -> u32 {
        self.layout.blocks_in(range).map(|b| self.get(b).lie()).find(|l| *l != 0).unwrap_or(0)
    }
}

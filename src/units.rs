//! The words everything else is written in: indices, ranges, rates and times, each a type of its own.
//!
//! Offsets are in *torrent space*: the files of a torrent laid end to end, as BEP 3 hashes them.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Bytes in one block, the unit peers are asked for (BEP 3's customary 2^14).
pub const BLOCK_LEN: u32 = 16 * 1024;

/// Index of a piece, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(pub u32);

impl PieceIndex {
    /// As an index into per-piece tables.
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One block: a piece and the block's index within it, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRef {
    pub piece: PieceIndex,
    pub block: u32,
}

/// One connection to a peer, unique for the life of a stream; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LinkId(pub u32);

/// One server that serves ranges of the torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginId(pub u32);

/// One ranged GET, unique for the life of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(pub u32);

/// One grant of an origin, unique for the life of a stream. What the origin calls it is known to who speaks with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId(pub u32);

/// Half-open range of bytes, `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ByteRange {
    pub start: u64,
    pub end: u64,
}

impl ByteRange {
    /// `start..end`; an end before the start gives an empty range.
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, end: end.max(start) }
    }

    /// Length in bytes.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    pub fn contains(self, offset: u64) -> bool {
        self.start <= offset && offset < self.end
    }

    /// The bytes both ranges hold; empty when they do not meet.
    pub fn intersect(self, other: Self) -> Self {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }
}

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct BitRate(pub f64);

impl BitRate {
    pub fn from_bytes_per_s(bytes: f64) -> Self {
        Self(bytes * 8.0)
    }

    pub fn bytes_per_s(self) -> f64 {
        self.0 / 8.0
    }
}

/// A position in the media, in microseconds from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MediaTime(pub i64);

impl MediaTime {
    pub const ZERO: Self = Self(0);

    pub fn from_secs_f64(s: f64) -> Self {
        Self((s * 1e6).round() as i64)
    }

    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl Add<Duration> for MediaTime {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(d.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// Engine time: nanoseconds since a start that the caller chose. Passed in with each event, so that a simulator's clock
/// and the machine's are the same to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(pub u64);

impl Instant {
    pub const ZERO: Self = Self(0);

    pub fn from_secs_f64(s: f64) -> Self {
        Self((s.max(0.0) * 1e9) as u64)
    }

    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// Time from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, d: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A set of pieces.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PieceSet {
    words: Vec<u64>,
    len: u32,
}

impl PieceSet {
    /// An empty set over `len` pieces.
    pub fn new(len: u32) -> Self {
        Self { words: vec![0; (len as usize).div_ceil(64)], len }
    }

    /// The set of all `len` pieces.
    pub fn full(len: u32) -> Self {
        let mut s = Self::new(len);
        for i in 0..len {
            s.insert(PieceIndex(i));
        }
        s
    }

    /// Reads a BEP 3 bitfield: the first bit is the high bit of the first byte. `None` when its size does not fit
    /// `len` pieces or a spare bit is set.
    pub fn from_wire(bits: &[u8], len: u32) -> Option<Self> {
        if bits.len() != (len as usize).div_ceil(8) {
            return None;
        }
        let mut s = Self::new(len);
        for (i, byte) in bits.iter().enumerate() {
            for bit in 0..8 {
                if byte & (0x80 >> bit) != 0 {
                    let piece = (i * 8 + bit) as u32;
                    if piece >= len {
                        return None;
                    }
                    s.insert(PieceIndex(piece));
                }
            }
        }
        Some(s)
    }

    /// As a BEP 3 bitfield.
    pub fn to_wire(&self) -> Vec<u8> {
        let mut out = vec![0u8; (self.len as usize).div_ceil(8)];
        for p in self.iter() {
            out[p.get() / 8] |= 0x80 >> (p.get() % 8);
        }
        out
    }

    /// Pieces the set is over, held or not.
    pub fn universe(&self) -> u32 {
        self.len
    }

    pub fn contains(&self, p: PieceIndex) -> bool {
        p.0 < self.len && self.words[p.get() / 64] >> (p.get() % 64) & 1 == 1
    }

    /// Adds a piece; true when it was not there. A piece out of range is ignored.
    pub fn insert(&mut self, p: PieceIndex) -> bool {
        if p.0 >= self.len {
            return false;
        }
        let (word, bit) = (&mut self.words[p.get() / 64], 1u64 << (p.get() % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    /// Removes a piece; true when it was there.
    pub fn remove(&mut self, p: PieceIndex) -> bool {
        let had = self.contains(p);
        if had {
            self.words[p.get() / 64] &= !(1u64 << (p.get() % 64));
        }
        had
    }

    /// Pieces held.
    pub fn count(&self) -> u32 {
        self.words.iter().map(|w| w.count_ones()).sum()
    }

    pub fn is_full(&self) -> bool {
        self.count() == self.len
    }

    /// Pieces that both sets hold, lowest first.
    pub fn both<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = PieceIndex> + 'a {
        ones(self.words.iter().zip(&other.words).map(|(a, b)| a & b))
    }

    /// Pieces held, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        ones(self.words.iter().copied())
    }
}

/// The places of the set bits, lowest first.
fn ones(words: impl Iterator<Item = u64>) -> impl Iterator<Item = PieceIndex> {
    words.enumerate().flat_map(|(i, mut w)| {
        std::iter::from_fn(move || {
            (w != 0).then(|| {
                let bit = w.trailing_zeros();
                w &= w - 1;
                PieceIndex(i as u32 * 64 + bit)
            })
        })
    })
}

/// How a torrent's bytes are cut into pieces and blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    total_len: u64,
    piece_len: u32,
}

impl Layout {
    /// `None` when a length is zero or there would be more than `u32::MAX` pieces.
    pub fn new(total_len: u64, piece_len: u32) -> Option<Self> {
        let fits = total_len > 0 && piece_len > 0 && total_len.div_ceil(u64::from(piece_len)) <= u64::from(u32::MAX);
        fits.then_some(Self { total_len, piece_len })
    }

    pub fn total_len(&self) -> u64 {
        self.total_len
    }

    /// Nominal length of a piece; the last may be shorter.
    pub fn piece_len(&self) -> u32 {
        self.piece_len
    }

    pub fn piece_count(&self) -> u32 {
        self.total_len.div_ceil(u64::from(self.piece_len)) as u32
    }

    /// Bytes of one piece, in torrent space; empty past the end.
    pub fn piece_range(&self, p: PieceIndex) -> ByteRange {
        let start = u64::from(p.0) * u64::from(self.piece_len);
        ByteRange::new(start.min(self.total_len), (start + u64::from(self.piece_len)).min(self.total_len))
    }

    /// Blocks in one piece.
    pub fn block_count(&self, p: PieceIndex) -> u32 {
        self.piece_range(p).len().div_ceil(u64::from(BLOCK_LEN)) as u32
    }

    /// Bytes of one block, in torrent space; empty when there is no such block.
    pub fn block_range(&self, b: BlockRef) -> ByteRange {
        let piece = self.piece_range(b.piece);
        let start = piece.start + u64::from(b.block) * u64::from(BLOCK_LEN);
        ByteRange::new(start.min(piece.end), (start + u64::from(BLOCK_LEN)).min(piece.end))
    }

    /// The piece that holds a byte.
    pub fn piece_at(&self, offset: u64) -> PieceIndex {
        PieceIndex((offset.min(self.total_len - 1) / u64::from(self.piece_len)) as u32)
    }

    /// The block that holds a byte.
    pub fn block_at(&self, offset: u64) -> BlockRef {
        let offset = offset.min(self.total_len - 1);
        let piece = self.piece_at(offset);
        BlockRef { piece, block: ((offset - self.piece_range(piece).start) / u64::from(BLOCK_LEN)) as u32 }
    }

    /// The pieces that a range touches, as indices.
    pub fn pieces_in(&self, r: ByteRange) -> std::ops::Range<u32> {
        let r = r.intersect(ByteRange::new(0, self.total_len));
        if r.is_empty() {
            return 0..0;
        }
        self.piece_at(r.start).0..self.piece_at(r.end - 1).0 + 1
    }

    /// The blocks that a range touches, in order.
    pub fn blocks_in(&self, r: ByteRange) -> impl Iterator<Item = BlockRef> + use<> {
        let layout = *self;
        let r = r.intersect(ByteRange::new(0, self.total_len));
        let mut at = r.start;
        std::iter::from_fn(move || {
            (at < r.end).then(|| {
                let b = layout.block_at(at);
                at = layout.block_range(b).end;
                b
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_piece_and_block_are_short() {
        let l = Layout::new(100_000, 65_536).unwrap();
        assert_eq!(l.piece_count(), 2);
        assert_eq!(l.block_count(PieceIndex(1)), 3);
        assert_eq!(l.block_range(BlockRef { piece: PieceIndex(1), block: 2 }), ByteRange::new(98_304, 100_000));
        assert_eq!(l.blocks_in(ByteRange::new(0, 100_000)).map(|b| l.block_range(b).len()).sum::<u64>(), 100_000);
        assert_eq!(l.pieces_in(ByteRange::new(65_535, 65_537)), 0..2);
    }

    #[test]
    fn a_bitfield_survives_the_wire_and_spare_bits_are_refused() {
        let s = PieceSet::from_wire(&[0b1010_0000, 0b0100_0000], 10).unwrap();
        assert_eq!(s.iter().map(|p| p.0).collect::<Vec<_>>(), [0, 2, 9]);
        assert_eq!(s.to_wire(), [0b1010_0000, 0b0100_0000]);
        assert!(PieceSet::from_wire(&[0xff, 0xff], 10).is_none());
        assert!(PieceSet::from_wire(&[0xff], 10).is_none());
    }
}

//! What peers are to be sent, read from disk in as few calls as their requests allow.
//!
//! Invariant: each block is in one read, of its own link's and piece's blocks only, in the order they were to be sent.

use crate::units::{ByteRange, LinkId, PieceIndex};

/// Bytes read for a peer at once: what an unchoked one is sent ahead of its acknowledgements.
const READ_MOST: u64 = 256 * 1024;

/// Blocks that one peer asked for and that lie side by side.
#[derive(Debug, PartialEq)]
pub(super) struct Wanted {
    pub link: LinkId,
    pub piece: PieceIndex,
    /// Torrent space.
    pub bytes: ByteRange,
    /// Begin and length of each, in order.
    pub blocks: Vec<(u32, u32)>,
}

/// Adds a block that begins at `start` of torrent space.
pub(super) fn add(all: &mut Vec<Wanted>, link: LinkId, start: u64, piece: PieceIndex, block: (u32, u32)) {
    let bytes = ByteRange::new(start, start + u64::from(block.1));
    // The link's latest: one before it would change the order.
    let before = all.iter_mut().rev().find(|w| w.link == link);
    let fits = |w: &&mut Wanted| w.piece == piece && w.bytes.end == start && w.bytes.len() + bytes.len() <= READ_MOST;
    match before.filter(fits) {
        Some(w) => {
            w.bytes.end = bytes.end;
            w.blocks.push(block);
        }
        None => all.push(Wanted { link, piece, bytes, blocks: vec![block] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_of_one_peer_are_read_together() {
        let mut all = Vec::new();
        let add = |all: &mut Vec<Wanted>, link, i: u32| {
            let (piece, begin) = (PieceIndex(i / 32), i % 32 * 16_384);
            super::add(all, LinkId(link), u64::from(i) * 16_384, piece, (begin, 16_384));
        };
        for (link, i) in [(1, 0), (2, 1), (1, 1), (1, 3), (2, 2), (1, 2)] {
            add(&mut all, link, i);
        }
        let reads: Vec<_> = all.iter().map(|w| (w.link.0, w.bytes.start / 16_384, w.blocks.len())).collect();
        assert_eq!(reads, [(1, 0, 2), (2, 1, 2), (1, 3, 1), (1, 2, 1)]);
        all.clear();
        (0..36).for_each(|i| add(&mut all, 1, i));
        assert_eq!(all.iter().map(|w| (w.piece.0, w.blocks.len())).collect::<Vec<_>>(), [(0, 16), (0, 16), (1, 4)]);
    }
}

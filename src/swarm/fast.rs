//! The fast extension's allowed set (BEP 6): pieces that a peer with hardly any may have of us while we choke it.
//!
//! Invariant: which pieces these are follows from the peer's network and the torrent alone, so that nobody gets more of us
//! by coming back; and what a choked peer can make us send in all is bounded ([`MOST_BYTES`]).

use std::net::IpAddr;

use crate::torrent::InfoHash;
use crate::units::{Layout, PieceIndex};
use librqbit_sha1_wrapper::{ISha1, Sha1};

/// Pieces in the set, and pieces with which a peer no longer needs any: what BEP 6 recommends as k.
pub const SET: u32 = 10;

/// What the set may come to: ten pieces of 256 KiB start a trade, ten of 16 MiB would be a gift.
const MOST_BYTES: u64 = 4 << 20;

/// Hashes computed at most: of few pieces most are drawn again and again.
const MAX_ROUNDS: usize = 64;

/// The set for a peer at `ip`, by BEP 6's own algorithm. Of IPv6, for which it gives none, the part that names the
/// network.
pub fn allowed_set(ip: IpAddr, info_hash: InfoHash, layout: &Layout) -> Vec<PieceIndex> {
    let pieces = layout.piece_count();
    let fit = MOST_BYTES / u64::from(layout.piece_len());
    let count = SET.min(pieces).min(u32::try_from(fit).unwrap_or(SET).max(1)) as usize;
    let mut seed = match ip.to_canonical() {
        IpAddr::V4(ip) => (u32::from(ip) & 0xffff_ff00).to_be_bytes().to_vec(),
        IpAddr::V6(ip) => ip.octets().get(..8).unwrap_or_default().to_vec(),
    };
    seed.extend_from_slice(&info_hash.0);
    let mut out: Vec<PieceIndex> = Vec::with_capacity(count);
    for _ in 0..MAX_ROUNDS {
        let mut sha1 = Sha1::new();
        sha1.update(&seed);
        seed = sha1.finish().to_vec();
        for word in seed.as_chunks::<4>().0 {
            let piece = PieceIndex(u32::from_be_bytes(*word) % pieces);
            if !out.contains(&piece) {
                out.push(piece);
            }
            if out.len() >= count {
                return out;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ip: &str, pieces: u64, piece_len: u32) -> Vec<u32> {
        let layout = Layout::new(pieces * u64::from(piece_len), piece_len).unwrap();
        allowed_set(ip.parse().unwrap(), InfoHash([0xaa; 20]), &layout).iter().map(|p| p.0).collect()
    }

    #[test]
    fn it_is_the_set_of_bep_6() {
        // The specification's own example: 80.4.4.200, an info hash of 20 times 0xaa, 1,313 pieces.
        let ten = set("80.4.4.200", 1313, 16384);
        assert_eq!((&ten[..9], ten.len()), (&[1059, 431, 808, 1217, 287, 376, 1188, 353, 508][..], 10));
        assert_eq!(set("80.4.4.7", 1313, 16384), set("80.4.4.200", 1313, 16384), "one network, one set");
        assert_eq!(set("::ffff:80.4.4.200", 1313, 16384), set("80.4.4.200", 1313, 16384));
        assert_eq!(set("2001:db8::1", 1313, 16384), set("2001:db8::ffff:2", 1313, 16384));
    }

    #[test]
    fn few_or_large_pieces_make_it_small() {
        let mut all = set("10.0.0.1", 3, 16384);
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2]);
        assert_eq!(set("10.0.0.1", 500, 1 << 20).len(), 4);
        assert_eq!(set("10.0.0.1", 500, 16 << 20).len(), 1);
    }
}

//! What is known of the bytes on disk from the last run: which pieces were verified, and how each file looked then.
//!
//! Invariant: a file's pieces are believed only while its size and time of change are exactly what they were when the
//! record was written. The record itself ends in a SHA-1: half of one, or another torrent's, is as good as none.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::time::UNIX_EPOCH;

use super::parse::sha1;
use super::{InfoHash, Metainfo};
use crate::units::PieceSet;

const MAGIC: &[u8; 8] = b"sluice1\n";

/// Bytes of one file's stamp in the record.
const STAMP: usize = 24;

/// A file's size in bytes and the time of its last change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub size: u64,
    /// Seconds since 1970; 0 before it.
    pub secs: u64,
    pub nanos: u32,
}

impl Stamp {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        let since = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { size: meta.len(), secs: since.as_secs(), nanos: since.subsec_nanos() })
    }
}

/// The pieces of one earlier run, and the stamps of the files that hold any of them, by index.
pub(super) struct Record {
    pub verified: PieceSet,
    pub stamps: HashMap<usize, Stamp>,
}

/// Longest record of this torrent, in bytes.
pub(super) fn max_len(meta: &Metainfo) -> u64 {
    let pieces = u64::from(meta.layout.piece_count()).div_ceil(8);
    (MAGIC.len() + 20 + 8 + 20) as u64 + pieces + (meta.files.len() * STAMP) as u64
}

impl Record {
    pub(super) fn encode(&self, info_hash: InfoHash) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(info_hash.0);
        out.extend(self.verified.universe().to_le_bytes());
        out.extend((self.stamps.len() as u32).to_le_bytes());
        out.extend(self.verified.to_wire());
        let mut stamps: Vec<_> = self.stamps.iter().collect();
        stamps.sort_unstable_by_key(|(index, _)| **index);
        for (index, stamp) in stamps {
            out.extend((*index as u32).to_le_bytes());
            out.extend(stamp.size.to_le_bytes());
            out.extend(stamp.secs.to_le_bytes());
            out.extend(stamp.nanos.to_le_bytes());
        }
        out.extend(sha1(&out).0);
        out
    }

    /// `None` unless it is a whole record of this torrent.
    pub(super) fn decode(bytes: &[u8], meta: &Metainfo) -> Option<Self> {
        let (body, sum) = bytes.split_at_checked(bytes.len().checked_sub(20)?)?;
        if sha1(body).0 != *sum {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?.strip_prefix(meta.info_hash.0.as_slice())?;
        let pieces = u32::from_le_bytes(*take(&mut rest)?);
        let files = u32::from_le_bytes(*take(&mut rest)?) as usize;
        if pieces != meta.layout.piece_count() || files > meta.files.len() {
            return None;
        }
        let (bits, tail) = rest.split_at_checked((pieces as usize).div_ceil(8))?;
        rest = tail;
        let verified = PieceSet::from_wire(bits, pieces)?;
        let mut stamps = HashMap::with_capacity(files);
        for _ in 0..files {
            let index = u32::from_le_bytes(*take(&mut rest)?) as usize;
            let size = u64::from_le_bytes(*take(&mut rest)?);
            let secs = u64::from_le_bytes(*take(&mut rest)?);
            let nanos = u32::from_le_bytes(*take(&mut rest)?);
            if index >= meta.files.len() || stamps.insert(index, Stamp { size, secs, nanos }).is_some() {
                return None;
            }
        }
        rest.is_empty().then_some(Self { verified, stamps })
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrent::testing::{TestFile, torrent};
    use crate::units::PieceIndex;

    #[test]
    fn a_record_survives_and_any_flaw_voids_it() {
        let t = torrent("t", &[TestFile::new("a", 1000), TestFile::new("b", 300)], 64).meta();
        let mut verified = PieceSet::new(t.layout.piece_count());
        verified.insert(PieceIndex(3));
        verified.insert(PieceIndex(20));
        let stamps = HashMap::from([(1, Stamp { size: 7, secs: 1 << 40, nanos: 5 })]);
        let bytes = Record { verified: verified.clone(), stamps: stamps.clone() }.encode(t.info_hash);
        assert!(bytes.len() as u64 <= max_len(&t));
        let back = Record::decode(&bytes, &t).unwrap();
        assert_eq!((back.verified, back.stamps), (verified, stamps));
        for i in 0..bytes.len() {
            let mut flawed = bytes.clone();
            flawed[i] ^= 1;
            assert!(Record::decode(&flawed, &t).is_none(), "byte {i}");
            assert!(Record::decode(&bytes[..i], &t).is_none(), "cut at {i}");
        }
        let other = torrent("other", &[TestFile::new("a", 1300)], 64).meta();
        assert!(Record::decode(&bytes, &other).is_none());
    }
}

//! What a torrent is and where its bytes lie: metainfo, magnet, piece hashes, the store on disk, resume data.

pub mod meta;

pub use meta::{FileEntry, InfoHash, Magnet, Metainfo};

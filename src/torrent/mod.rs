//! What a torrent is and where its bytes lie: metainfo, magnet, piece hashes, the store on disk, resume data.

mod bencode;
pub mod create;
pub mod describe;
mod disk;
pub mod error;
mod files;
pub(crate) mod folder;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod magnet;
pub mod meta;
mod names;
mod parse;
mod plain_video;
mod resume;
mod running;
mod store;
// It panics where its own torrents are at fault: tests and fuzzers alone have it.
#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
pub(crate) mod testing;
mod urls;

pub use describe::{describe_magnet, is_video, video_files, web_seed_input};
pub use disk::DiskPool;
pub use error::{StoreError, TorrentError};
pub use meta::{FileEntry, InfoHash, Magnet, Metainfo};
pub use store::{InPlace, Store};

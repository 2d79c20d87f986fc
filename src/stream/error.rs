//! What can end a stream, as sentences for the user.

use crate::torrent::{StoreError, TorrentError};

#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    #[error("This torrent has no file number {0}.")]
    NoSuchFile(usize),
    #[error("The torrent's files are not known yet.")]
    NotKnownYet,
    #[error(transparent)]
    Torrent(#[from] TorrentError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Origin(String),
    #[error("Neither peers nor a server may be used, so there is nowhere to play this from.")]
    NoSource,
    #[error("A magnet link holds only a name: its contents must come from peers, and those are switched off.")]
    NeedsPeers,
    #[error("Cannot open a connection to peers: {0}")]
    Swarm(String),
}

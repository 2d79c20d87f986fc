//! What can be wrong with a torrent or with its bytes on disk. Every message is one sentence for the user.

use std::io;

/// Why a torrent, a magnet link or a peer's metadata is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TorrentError {
    #[error("This is not a torrent file.")]
    NotATorrent,
    #[error("The torrent file is larger than {} MiB, which no real torrent is.", .max >> 20)]
    TooLarge { max: usize },
    #[error("The torrent file ends too early; it was probably downloaded only in part.")]
    Truncated,
    #[error("The torrent file is damaged: {0}.")]
    Damaged(&'static str),
    #[error("The torrent file lacks \"{0}\".")]
    Missing(&'static str),
    #[error("The torrent's pieces of {0} bytes are not of a size that can be played.")]
    PieceLength(i64),
    #[error("The torrent file does not add up: its files need {needed} pieces, but it has hashes for {found}.")]
    HashCount { needed: u64, found: u64 },
    #[error("The torrent holds no data.")]
    Empty,
    #[error("The torrent lists more than {max} files.")]
    TooManyFiles { max: usize },
    #[error("This torrent is of version 2 only, which cannot be played yet.")]
    V2Only,
    #[error("The metadata from the swarm does not match the info hash.")]
    WrongMetadata,
    #[error("This is neither a magnet link nor an info hash.")]
    NotAMagnet,
    #[error("The magnet link has no BitTorrent info hash (xt=urn:btih:…).")]
    MagnetWithoutHash,
    #[error("The info hash in the magnet link is not 40 hexadecimal or 32 base32 characters.")]
    BadInfoHash,
}

/// Why bytes could not be kept or read back.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("The disk that holds the cache is full.")]
    DiskFull,
    #[error("The cache folder cannot be written to.")]
    ReadOnly,
    #[error("The cache folder's file system cannot hold a file this large.")]
    FileTooLarge,
    #[error("The cache folder holds a link or a foreign file where the torrent's own belongs.")]
    Foreign,
    #[error("Too many files are open on this system.")]
    TooManyOpen,
    /// The bytes were never written, or someone removed them.
    #[error("Part of the cached file is gone.")]
    Gone,
    /// A caller's mistake: the range is not inside the torrent.
    #[error("The bytes asked for lie outside of the torrent.")]
    OutOfRange,
    #[error("The cache was closed.")]
    Closed,
    #[error("The cache could not be used: {0}.")]
    Io(io::Error),
}

impl From<io::Error> for StoreError {
    fn from(e: io::Error) -> Self {
        use io::ErrorKind as K;
        #[cfg(unix)]
        match e.raw_os_error() {
            Some(libc::ELOOP | libc::EMLINK) => return Self::Foreign,
            Some(libc::EMFILE | libc::ENFILE) => return Self::TooManyOpen,
            _ => {}
        }
        match e.kind() {
            K::StorageFull | K::QuotaExceeded => Self::DiskFull,
            K::ReadOnlyFilesystem | K::PermissionDenied => Self::ReadOnly,
            K::FileTooLarge => Self::FileTooLarge,
            K::NotADirectory | K::IsADirectory | K::AlreadyExists => Self::Foreign,
            K::NotFound | K::UnexpectedEof => Self::Gone,
            _ => Self::Io(e),
        }
    }
}

impl StoreError {
    /// Nothing the player does will make this go away: the user has to.
    pub fn needs_user(&self) -> bool {
        matches!(self, Self::DiskFull | Self::ReadOnly | Self::FileTooLarge | Self::Foreign)
    }
}

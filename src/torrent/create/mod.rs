//! Making a torrent of a file or a folder.
//!
//! Invariant: the same files and options give the same bytes, on every machine and in every run; a file that changes
//! while it is hashed is an error, never a torrent that nobody can complete; and what is made here is what
//! [`Metainfo::parse`] takes.
//!
//! Ours and not `librqbit::create_torrent`: that one hashes on one core in 8 KiB reads, takes files in the order the
//! file system lists them, follows every link, cannot be cancelled, knows neither private torrents nor web seeds nor
//! padding, and makes pieces of 2 MiB, of which a player must have the whole before it shows a picture.

mod encode;
mod hash;
mod reuse;
mod scan;
mod write;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use self::hash::Extent;
pub use self::reuse::renew;
pub use self::write::write_whole;
use super::{Metainfo, TorrentError};
use crate::units::{ByteRange, Layout};

/// Sizes a piece may have. Below a block there is nothing to win; above 16 MiB clients refuse them.
pub const PIECE_LENS: std::ops::RangeInclusive<u32> = 16 << 10..=16 << 20;

/// Nothing of a piece is shown before all of it is there, so pieces are as small as their number allows: 4,000 hashes
/// are 80 kB of metadata, five messages of a peer.
const FEW_PIECES: u64 = 4000;

/// Up to this length of a piece. Beyond, longer metadata costs less than the wait for a whole piece at start and seek:
/// at 8 Mbit/s a second per MiB.
const SMALL_PIECE: u32 = 1 << 20;
const MANY_PIECES: u64 = 16_000;

/// 3 MiB of hashes, which is what libtorrent takes from peers by default (`max_metadata_size`).
const MAX_PIECES: u64 = (3 << 20) / 20;

/// What a torrent is to say, besides its files.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// The name of the file or folder by default.
    pub name: Option<String>,
    /// Bytes; a power of two within [`PIECE_LENS`]. Chosen by size by default.
    pub piece_len: Option<u32>,
    /// Tiers (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// BEP 19.
    pub web_seeds: Vec<String>,
    /// DHT nodes (BEP 5) to start from, where there is no tracker.
    pub nodes: Vec<(String, u16)>,
    /// BEP 27.
    pub private: bool,
    pub comment: Option<String>,
    /// Each file starts with a piece of its own (BEP 47).
    pub align: bool,
    /// Creation date, seconds since 1970. Without it the same files give the same bytes.
    pub date: Option<i64>,
    /// Not part of the torrent even where it lies in the folder: the torrent itself.
    pub except: Option<PathBuf>,
}

/// How far it is; shared with whoever shows or ends it.
#[derive(Debug, Default)]
pub struct Progress {
    total: AtomicU64,
    done: AtomicU64,
    cancelled: AtomicBool,
}

impl Progress {
    /// Bytes hashed, and bytes in all; 0 in all while the files are being listed.
    pub fn get(&self) -> (u64, u64) {
        (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// Ends it soon, with [`CreateError::Cancelled`].
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// A torrent that was made.
#[derive(Debug)]
pub struct Created {
    /// The `.torrent` file.
    pub torrent: Vec<u8>,
    /// As everybody will read it.
    pub meta: Metainfo,
    pub magnet: String,
    /// Links that lead out of the folder or to folders, sockets, devices.
    pub left_out: Vec<PathBuf>,
    /// Where each of its files lies, links resolved, in its order and without padding.
    pub disk: Vec<PathBuf>,
}

/// Why no torrent was made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    #[error("{} cannot be read: {source}.", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is neither a file nor a folder.", .path.display())]
    NotAFile { path: PathBuf },
    #[error("{} holds no bytes to share; hidden files are not counted.", .path.display())]
    Empty { path: PathBuf },
    #[error("The name of {} is not valid UTF-8, as torrents need it.", .path.display())]
    Name { path: PathBuf },
    #[error("The torrent needs a name: {0:?} is none.")]
    BadName(String),
    #[error("{} changed while it was read.", .path.display())]
    Changed { path: PathBuf },
    #[error("The folder holds more than {max} files.")]
    TooManyFiles { max: usize },
    #[error("A piece is a power of two between 16 KiB and 16 MiB, which {0} bytes are not.")]
    PieceLen(u32),
    #[error("In pieces of {piece_len} bytes there would be {pieces}, which is more than other clients take ({max}).")]
    TooManyPieces { piece_len: u32, pieces: u64, max: u64 },
    #[error("Nobody could ever find a private torrent without a tracker or a web seed.")]
    PrivateAlone,
    #[error("A private torrent must not name DHT nodes.")]
    PrivateNodes,
    #[error("Cancelled.")]
    Cancelled,
    /// A fault of ours: what was made cannot be read back.
    #[error("The torrent that was made does not hold: {0}")]
    Unreadable(TorrentError),
}

impl CreateError {
    /// The fault of what was handed to us, not of the machine.
    pub fn is_input(&self) -> bool {
        !matches!(self, Self::Unreadable(_) | Self::Cancelled)
    }
}

/// Makes a torrent of the file or folder at `path`. Blocks while it reads and hashes all of it, on all cores.
///
/// # Errors
/// Any [`CreateError`].
pub fn create(path: &Path, options: &CreateOptions, progress: &Progress) -> Result<Created, CreateError> {
    if options.private && !options.nodes.is_empty() {
        return Err(CreateError::PrivateNodes);
    }
    if options.private && options.trackers.iter().all(Vec::is_empty) && options.web_seeds.is_empty() {
        return Err(CreateError::PrivateAlone);
    }
    let name = name_of(path, options)?;
    let found = scan::scan(path, options.except.as_deref())?;
    let bytes: u64 = found.files.iter().map(|f| f.len).sum();
    if bytes == 0 {
        return Err(CreateError::Empty { path: path.to_owned() });
    }
    let piece_len = options.piece_len.unwrap_or_else(|| piece_len_for(bytes));
    if !PIECE_LENS.contains(&piece_len) || !piece_len.is_power_of_two() {
        return Err(CreateError::PieceLen(piece_len));
    }
    let extents = lay_out(found.files.iter().map(|f| f.len), piece_len, options.align && found.folder);
    let total = extents.last().map_or(0, |e| e.range.end);
    let pieces = total.div_ceil(piece_len.into());
    let too_many = CreateError::TooManyPieces { piece_len, pieces, max: MAX_PIECES };
    let layout = match Layout::new(total, piece_len) {
        Some(layout) if pieces <= MAX_PIECES => layout,
        _ => return Err(too_many),
    };
    progress.total.store(total, Ordering::Relaxed);
    let hashes = hash::hash(layout, &extents, &found.files, progress)?;
    for file in &found.files {
        let now = std::fs::metadata(&file.disk).ok();
        if now.is_none_or(|m| m.len() != file.len || m.modified().ok() != file.modified) {
            return Err(CreateError::Changed { path: file.disk.clone() });
        }
    }
    let info = encode::info(&name, found.folder, &found.files, &extents, (piece_len, &hashes), options.private);
    let torrent = encode::torrent(&info, found.folder, options);
    let meta = Metainfo::parse(&torrent).map_err(CreateError::Unreadable)?;
    let magnet = meta.magnet();
    let disk = found.files.into_iter().map(|f| f.disk).collect();
    Ok(Created { torrent, meta, magnet, left_out: found.left_out, disk })
}

/// What a torrent of this file or folder is called by default: its own name.
pub fn default_name(path: &Path) -> Option<String> {
    // "." and ".." have a name only once it is known where they lead.
    let named = path.file_name().map(|n| n.to_owned());
    let named = named.or_else(|| Some(path.canonicalize().ok()?.file_name()?.to_owned()))?;
    named.into_string().ok()
}

fn name_of(path: &Path, options: &CreateOptions) -> Result<String, CreateError> {
    let name = match &options.name {
        Some(name) => name.clone(),
        None => default_name(path).ok_or_else(|| CreateError::Name { path: path.to_owned() })?,
    };
    let bad = name.trim().is_empty() || name == "." || name == ".." || name.contains(['/', '\\', '\0']);
    if bad { Err(CreateError::BadName(name)) } else { Ok(name) }
}

/// The length of a piece for this many bytes: see [`FEW_PIECES`].
pub fn piece_len_for(bytes: u64) -> u32 {
    let fit = |most: u64| bytes.div_ceil(most).checked_next_power_of_two().unwrap_or(u64::MAX);
    let small = fit(FEW_PIECES).min(SMALL_PIECE.into());
    let len = small.max(fit(MANY_PIECES));
    u32::try_from(len).unwrap_or(u32::MAX).clamp(*PIECE_LENS.start(), *PIECE_LENS.end())
}

/// Files end to end; with `align` each that has bytes starts with a piece, by padding before it.
fn lay_out(lens: impl Iterator<Item = u64>, piece_len: u32, align: bool) -> Vec<Extent> {
    let (mut at, mut out) = (0u64, Vec::new());
    for (index, len) in lens.enumerate() {
        let gap = at.next_multiple_of(piece_len.into()) - at;
        if align && gap > 0 && len > 0 {
            out.push(Extent { range: ByteRange::new(at, at + gap), file: None });
            at += gap;
        }
        let end = at.saturating_add(len);
        out.push(Extent { range: ByteRange::new(at, end), file: Some(index) });
        at = end;
    }
    out
}

#[cfg(test)]
mod tests;

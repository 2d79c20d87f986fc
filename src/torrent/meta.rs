//! The plain types the rest of the player knows a torrent by.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::units::{ByteRange, Layout, PieceIndex};

/// SHA-1 of the info dictionary (BEP 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InfoHash(pub [u8; 20]);

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One file of a torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Safe relative path below the torrent's folder: no `..`, no absolute part, no name a file system refuses.
    pub path: PathBuf,
    /// As the torrent writes it, for people: components joined by `/`, control characters replaced.
    pub display: String,
    /// Its bytes in torrent space.
    pub range: ByteRange,
    /// BEP 47 padding: zeros, never on disk.
    pub padding: bool,
}

/// A torrent's metainfo, checked: every path is safe and the lengths agree with the hashes.
#[derive(Debug, Clone)]
pub struct Metainfo {
    pub info_hash: InfoHash,
    pub name: String,
    pub layout: Layout,
    pub files: Vec<FileEntry>,
    /// SHA-1 per piece, 20 bytes each. Empty for a plain video behind a URL: its bytes are taken as they come.
    pub piece_hashes: Bytes,
    /// BEP 27.
    pub private: bool,
    /// Tiers of tracker URLs, `http`, `https` or `udp`.
    pub trackers: Vec<Vec<String>>,
    /// BEP 19 web seeds, as written.
    pub web_seeds: Vec<String>,
    /// Where the DHT can be entered for this torrent (BEP 5 `nodes`), host and port; none of a private one.
    pub nodes: Vec<(String, u16)>,
    /// The raw info dictionary, to hand to peers (BEP 9).
    pub info_bytes: Bytes,
    /// The files form a folder (BEP 3 multi-file); decides how web seed URLs are built.
    pub multi_file: bool,
}

impl Metainfo {
    /// The SHA-1 a piece must have; `None` when the bytes carry no hashes.
    pub fn hash_of(&self, p: PieceIndex) -> Option<[u8; 20]> {
        self.piece_hashes.get(p.get() * 20..p.get() * 20 + 20)?.try_into().ok()
    }
}

/// A magnet link or a bare info hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Magnet {
    pub info_hash: InfoHash,
    /// `dn=`
    pub name: Option<String>,
    /// `tr=`, each its own tier.
    pub trackers: Vec<String>,
    /// `ws=`
    pub web_seeds: Vec<String>,
    /// `x.pe=`
    pub peers: Vec<SocketAddr>,
    /// `xs=` and `as=`: web addresses of the .torrent file itself.
    pub sources: Vec<String>,
    /// `so=` (BEP 53): indices of the files wanted.
    pub select_only: Vec<usize>,
}

/// Shared by everything that handles one torrent.
pub type SharedMetainfo = Arc<Metainfo>;

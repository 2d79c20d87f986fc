//! From the bytes of a `.torrent` file, or of an info dictionary that a peer sent, to a checked [`Metainfo`].
//!
//! Invariant: a `Metainfo` from here has at least one byte and one file, files lie end to end over exactly its layout,
//! there is one hash per piece, and every path is safe (see [`super::names`]).

use bytes::Bytes;
use librqbit_bencode::{BencodeValue, WithRawBytes, from_bytes};
use librqbit_buffers::ByteBuf;
use librqbit_core::torrent_metainfo::{TorrentMetaV1File, TorrentMetaV1Info};
use librqbit_sha1_wrapper::{ISha1, Sha1};
use serde::Deserialize;

use super::names::{Names, component, display_component};
use super::urls::{Value, WEB, collect_urls, nodes, trackers};
use super::{FileEntry, InfoHash, Magnet, Metainfo, TorrentError, bencode};
use crate::units::{ByteRange, Layout};

/// The largest torrents seen in the wild are near 20 MiB.
pub const MAX_TORRENT: usize = 64 << 20;

/// As large as any client makes them; more could not be played while it arrives.
const MAX_PIECE_LEN: i64 = 64 << 20;

/// Bounds memory: each costs some hundred bytes, here and in whatever lists them.
const MAX_FILES: usize = 300_000;

/// Fields whose shape varies in the wild are taken as any value, so that a slip in one does not cost the torrent.
#[derive(Deserialize)]
struct RawTorrent<'a> {
    announce: Option<Value>,
    #[serde(rename = "announce-list")]
    announce_list: Option<Value>,
    #[serde(rename = "url-list")]
    url_list: Option<Value>,
    nodes: Option<Value>,
    #[serde(borrow)]
    info: Option<WithRawBytes<RawInfo<'a>, ByteBuf<'a>>>,
}

#[derive(Deserialize)]
struct RawInfo<'a> {
    #[serde(borrow)]
    name: Option<ByteBuf<'a>>,
    #[serde(borrow, rename = "name.utf-8")]
    name_utf8: Option<ByteBuf<'a>>,
    #[serde(borrow)]
    pieces: Option<ByteBuf<'a>>,
    #[serde(rename = "piece length")]
    piece_length: Option<i64>,
    length: Option<i64>,
    #[serde(borrow)]
    files: Option<Vec<RawFile<'a>>>,
    private: Option<Value>,
    #[serde(rename = "meta version")]
    meta_version: Option<i64>,
}

#[derive(Deserialize)]
struct RawFile<'a> {
    length: Option<i64>,
    #[serde(borrow)]
    path: Option<Vec<ByteBuf<'a>>>,
    #[serde(borrow, rename = "path.utf-8")]
    path_utf8: Option<Vec<ByteBuf<'a>>>,
    #[serde(borrow)]
    attr: Option<ByteBuf<'a>>,
}

/// One file before its path is decoded and cleaned.
struct Listed<'a> {
    path: Vec<ByteBuf<'a>>,
    len: u64,
    padding: bool,
}

impl Metainfo {
    /// Reads a `.torrent` file. Hybrid torrents (BEP 52) are read by their version 1 side.
    ///
    /// # Errors
    /// Any [`TorrentError`] but those about magnets: whatever the bytes are, this neither panics nor takes memory out
    /// of proportion to them.
    pub fn parse(bytes: &[u8]) -> Result<Self, TorrentError> {
        if bytes.first() != Some(&b'd') {
            return Err(TorrentError::NotATorrent);
        }
        if bytes.len() > MAX_TORRENT {
            return Err(TorrentError::TooLarge { max: MAX_TORRENT });
        }
        // Some indexers append a line end; what follows the dictionary is of no interest.
        let end = bencode::check(bytes)?;
        let raw: RawTorrent<'_> = from_bytes(bytes.get(..end).unwrap_or(bytes)).map_err(|_| WRONG_KIND)?;
        let info = raw.info.ok_or(TorrentError::NotATorrent)?;
        let trackers = trackers(raw.announce.as_ref(), raw.announce_list.as_ref());
        let mut web_seeds = Vec::new();
        collect_urls(raw.url_list.as_ref(), WEB, &mut web_seeds);
        let nodes = nodes(raw.nodes.as_ref());
        let raw = info.raw_bytes.0;
        let mut meta = build(info.data, raw, Bytes::copy_from_slice(raw), None, trackers, web_seeds)?;
        // BEP 27: a private torrent has no business in the DHT, whatever else it says.
        meta.nodes = if meta.private { Vec::new() } else { nodes };
        Ok(meta)
    }

    /// Reads an info dictionary (BEP 9) for a magnet link, whose trackers and web seeds it gets.
    ///
    /// # Errors
    /// [`TorrentError::WrongMetadata`] when the SHA-1 is another, else as [`Metainfo::parse`].
    pub fn from_info(info_bytes: Bytes, magnet: &Magnet) -> Result<Self, TorrentError> {
        if info_bytes.len() > MAX_TORRENT {
            return Err(TorrentError::TooLarge { max: MAX_TORRENT });
        }
        if sha1(&info_bytes) != magnet.info_hash {
            return Err(TorrentError::WrongMetadata);
        }
        if bencode::check(&info_bytes)? != info_bytes.len() {
            return Err(WRONG_KIND);
        }
        let trackers = magnet.trackers.iter().map(|t| vec![t.clone()]).collect();
        let raw = info_bytes.clone();
        let info: RawInfo<'_> = from_bytes(&raw).map_err(|_| WRONG_KIND)?;
        build(info, &raw, info_bytes, magnet.name.as_deref(), trackers, magnet.web_seeds.clone())
    }
}

const WRONG_KIND: TorrentError = TorrentError::Damaged("a field in it is of the wrong kind");

/// `info` borrows from `raw`, of which `info_bytes` is an owned copy.
fn build(
    info: RawInfo<'_>,
    raw: &[u8],
    info_bytes: Bytes,
    fallback_name: Option<&str>,
    trackers: Vec<Vec<String>>,
    web_seeds: Vec<String>,
) -> Result<Metainfo, TorrentError> {
    let pieces = match info.pieces {
        Some(pieces) => pieces.0,
        None if info.meta_version.is_some_and(|v| v >= 2) => return Err(TorrentError::V2Only),
        None => return Err(TorrentError::Missing("pieces")),
    };
    let piece_len = info.piece_length.ok_or(TorrentError::Missing("piece length"))?;
    if !(1..=MAX_PIECE_LEN).contains(&piece_len) {
        return Err(TorrentError::PieceLength(piece_len));
    }
    let info_hash = sha1(&info_bytes);
    let decode = decoder(&info);
    let name = info.name_utf8.or(info.name).map(|n| decode(n.0)).filter(|n| !n.trim().is_empty());
    let name = name.or_else(|| fallback_name.map(str::to_owned)).unwrap_or_else(|| info_hash.to_string());
    let multi_file = info.files.is_some();
    let listed = match info.files {
        Some(files) => list_files(files)?,
        None => {
            let len = info.length.ok_or(TorrentError::Missing("length"))?;
            vec![Listed { path: vec![ByteBuf(name.as_bytes())], len: length(len)?, padding: false }]
        }
    };
    let total = listed.iter().try_fold(0u64, |sum, f| sum.checked_add(f.len));
    let total = total.filter(|&t| i64::try_from(t).is_ok()).ok_or(BAD_LENGTH)?;
    if total == 0 {
        return Err(TorrentError::Empty);
    }
    let needed = total.div_ceil(piece_len as u64);
    if pieces.len() % 20 != 0 {
        return Err(TorrentError::Damaged("its list of hashes is cut off"));
    }
    if needed != (pieces.len() / 20) as u64 {
        return Err(TorrentError::HashCount { needed, found: (pieces.len() / 20) as u64 });
    }
    let layout = Layout::new(total, piece_len as u32).ok_or(BAD_LENGTH)?;
    // A view of the dictionary that is kept anyway: hashes are most of it.
    let piece_hashes = match position(raw, pieces) {
        Some(at) if raw.len() == info_bytes.len() => info_bytes.slice(at),
        _ => Bytes::copy_from_slice(pieces),
    };
    let private = matches!(info.private, Some(BencodeValue::Integer(n)) if n != 0);
    let files = place(&listed, &decode);
    drop(listed);
    let name = display_component(&name);
    let nodes = Vec::new();
    Ok(Metainfo {
        info_hash,
        name,
        layout,
        files,
        piece_hashes,
        private,
        trackers,
        web_seeds,
        nodes,
        info_bytes,
        multi_file,
    })
}

const BAD_LENGTH: TorrentError = TorrentError::Damaged("a file's length in it is not possible");

fn length(len: i64) -> Result<u64, TorrentError> {
    u64::try_from(len).map_err(|_| BAD_LENGTH)
}

fn list_files(files: Vec<RawFile<'_>>) -> Result<Vec<Listed<'_>>, TorrentError> {
    if files.len() > MAX_FILES {
        return Err(TorrentError::TooManyFiles { max: MAX_FILES });
    }
    let list = files.into_iter().map(|f| {
        let attr = f.attr.map(|a| a.0).unwrap_or_default();
        // A symbolic link (BEP 47) has no bytes and often no length. It is listed, and never made.
        let len = match f.length {
            Some(len) => length(len)?,
            None if attr.contains(&b'l') => 0,
            None => return Err(TorrentError::Missing("length")),
        };
        let path = f.path_utf8.or(f.path).filter(|p| !p.is_empty()).ok_or(TorrentError::Missing("path"))?;
        // Padding that predates the attribute: BitComet's, and libtorrent's.
        let old = path.last().is_some_and(|n| n.0.starts_with(b"_____padding_file_"))
            || (path.len() > 1 && path.first().is_some_and(|n| n.0 == b".____padding_file"));
        let padding = old || attr.contains(&b'p');
        Ok(Listed { path, len, padding })
    });
    list.collect()
}

/// Lays the files end to end and gives each its path. Paths are cleaned twice rather than kept: a hostile torrent's
/// can take many times the room of the torrent.
fn place(listed: &[Listed<'_>], decode: &impl Fn(&[u8]) -> String) -> Vec<FileEntry> {
    let clean = |f: &Listed<'_>| f.path.iter().map(|c| component(&decode(c.0))).collect::<Vec<_>>();
    // Padding is never on disk and needs no name there.
    let mut names = Names::new(listed.iter().filter(|f| !f.padding).map(clean));
    let mut start = 0u64;
    let mut files = Vec::with_capacity(listed.len());
    for (index, file) in listed.iter().enumerate() {
        let range = ByteRange::new(start, start.saturating_add(file.len));
        start = range.end;
        let display = file.path.iter().map(|c| display_component(&decode(c.0))).collect::<Vec<_>>().join("/");
        let path = if file.padding { Default::default() } else { names.claim(index, &clean(file)) };
        files.push(FileEntry { path, display, range, padding: file.padding });
    }
    files
}

/// Names are UTF-8 by the standard; old torrents have them in whatever their maker's system used, told by the look
/// of all of them together.
fn decoder(info: &RawInfo<'_>) -> impl Fn(&[u8]) -> String + use<> {
    let mut all = info.files.iter().flatten().flat_map(|f| f.path.iter().flatten()).chain(&info.name);
    let encoding = all.any(|n| std::str::from_utf8(n.0).is_err()).then(|| {
        fn file<'a>(f: &RawFile<'a>) -> TorrentMetaV1File<&'a [u8]> {
            let path = f.path.iter().flatten().map(|c| c.0).collect();
            TorrentMetaV1File { length: 0, path, attr: None, sha1: None, symlink_path: None }
        }
        let names: TorrentMetaV1Info<&[u8]> = TorrentMetaV1Info {
            name: info.name.map(|n| n.0),
            files: info.files.as_ref().map(|files| files.iter().map(file).collect()),
            ..Default::default()
        };
        names.detect_encoding()
    });
    move |bytes| match (std::str::from_utf8(bytes), encoding) {
        (Ok(s), _) => s.to_owned(),
        (Err(_), Some(encoding)) => encoding.decode(bytes).0.into_owned(),
        (Err(_), None) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

pub(super) fn sha1(bytes: &[u8]) -> InfoHash {
    let mut sha1 = Sha1::new();
    sha1.update(bytes);
    InfoHash(sha1.finish())
}

/// Where `part` lies within `whole`, of which it is a slice.
fn position(whole: &[u8], part: &[u8]) -> Option<std::ops::Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(whole.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= whole.len()).then_some(start..end)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;

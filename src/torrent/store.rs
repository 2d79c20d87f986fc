//! A torrent's bytes on disk: one sparse file per file of the torrent, written and read at any offset of torrent space.
//!
//! `cache/<info hash>/files/…` holds the files, `cache/<info hash>/resume` what was verified, `cache/<info hash>/info`
//! the info dictionary, so that a magnet link opened again need not ask the swarm for it. A file grows as bytes come
//! in and is never preallocated. Invariant: nothing outside of that folder is read or written, and bytes are never
//! changed once the caller knows their piece to be verified, for it does not write them again.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use librqbit_sha1_wrapper::{ISha1, Sha1};
use parking_lot::Mutex;

use super::files::{OpenFiles, data_ranges, read_exact_at, write_all_at};
use super::folder::{Access, Folder};
use super::parse::MAX_TORRENT;
use super::resume::{self, Record, Stamp};
use super::running::Begun;
use super::{FileEntry, Magnet, Metainfo, StoreError};
use crate::units::{ByteRange, PieceIndex, PieceSet};

const FILES: &str = "files";
const RESUME: &str = "resume";
const INFO: &str = "info";

/// Bytes hashed at a time: fits a core's second-level cache.
const HASH_CHUNK: usize = 64 << 10;

/// A torrent made of the user's own files.
#[derive(Debug, Clone)]
pub struct InPlace {
    pub meta: Arc<Metainfo>,
    /// A folder that all its files lie in, links resolved.
    pub root: PathBuf,
    /// Where each file lies, links resolved, in the torrent's order and without padding.
    pub disk: Vec<PathBuf>,
}

/// One torrent in the cache. All calls are for any thread, and block on the disk.
pub struct Store {
    meta: Arc<Metainfo>,
    /// The torrent's own folder in the cache; `None` where the files are the user's own, and are only read.
    home: Option<Folder>,
    files: OpenFiles,
    unproven: PieceSet,
    /// Two writers of the resume record would mix.
    saving: Mutex<()>,
}

impl Store {
    /// Opens or makes the torrent's folder below `cache_dir`. Gives the pieces that are known to be right from an
    /// earlier run; nothing is hashed here (see [`Store::unproven`]).
    ///
    /// # Errors
    /// When the folder can neither be opened nor made, or is another user's.
    pub fn open(cache_dir: &Path, meta: Arc<Metainfo>) -> Result<(Self, PieceSet), StoreError> {
        let cache = Folder::open(cache_dir).map_err(not_gone)?;
        let (home, _) = cache.sub(&meta.info_hash.to_string()).map_err(not_gone)?;
        let (folder, made) = home.sub(FILES).map_err(not_gone)?;
        let none = PieceSet::new(meta.layout.piece_count());
        let mut store = Self {
            meta,
            home: Some(home),
            files: OpenFiles::new(folder),
            unproven: none.clone(),
            saving: Mutex::default(),
        };
        store.keep_info();
        if made {
            return Ok((store, none));
        }
        let verified = store.judge();
        Ok((store, verified))
    }

    /// The files a torrent was made of, where they lie: read, never written. All pieces count as right; whoever made the
    /// torrent just now hashed them.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when a file is missing or of another length, [`StoreError::Foreign`] when one lies outside of `root`.
    pub fn in_place(place: &InPlace) -> Result<(Self, PieceSet), StoreError> {
        let mut meta = Metainfo::clone(&place.meta);
        let mut disk = place.disk.iter();
        for file in meta.files.iter_mut().filter(|f| !f.padding) {
            let path = disk.next().ok_or(StoreError::Gone)?;
            file.path = path.strip_prefix(&place.root).map_err(|_| StoreError::Foreign)?.to_owned();
        }
        if !place.root.is_dir() {
            return Err(StoreError::Gone);
        }
        let folder = Folder::open(&place.root)?;
        for file in meta.files.iter().filter(|f| !f.padding) {
            if folder.file(&file.path, Access::Read)?.metadata()?.len() != file.range.len() {
                return Err(StoreError::Gone);
            }
        }
        let pieces = meta.layout.piece_count();
        let mut all = PieceSet::new(pieces);
        for p in 0..pieces {
            all.insert(PieceIndex(p));
        }
        let unproven = PieceSet::new(pieces);
        let files = OpenFiles::new(folder);
        Ok((Self { meta: Arc::new(meta), home: None, files, unproven, saving: Mutex::default() }, all))
    }

    pub fn meta(&self) -> &Arc<Metainfo> {
        &self.meta
    }

    /// Pieces that [`Store::open`] found on disk, whole by the look of it, but without proof: after a crash, or because
    /// a file was changed since. Worth a [`Store::verify`] before they are fetched again. Empty after a clean exit.
    pub fn unproven(&self) -> &PieceSet {
        &self.unproven
    }

    /// Writes at `offset` in torrent space, over as many files as it takes; padding goes nowhere.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] past the end; else what the disk says. Part of it may have been written.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), StoreError> {
        if self.home.is_none() {
            return Err(StoreError::ReadOnly);
        }
        for (index, file, part) in self.spans(self.checked(offset, data.len())?) {
            if file.padding {
                continue;
            }
            let from = (part.start - offset) as usize;
            let bytes = data.get(from..from + part.len() as usize).ok_or(StoreError::OutOfRange)?;
            let open = self.files.get(index, &file.path, Access::Write).map_err(not_gone)?;
            write_all_at(&open, bytes, part.start - file.range.start)?;
        }
        Ok(())
    }

    /// Fills `buf` from `offset` in torrent space. Bytes that were never written read as zeros where the file is
    /// longer, padding always.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] past the end, [`StoreError::Gone`] past the end of what is on disk; else what the
    /// disk says.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        for (index, file, part) in self.spans(self.checked(offset, buf.len())?) {
            let from = (part.start - offset) as usize;
            let bytes = buf.get_mut(from..from + part.len() as usize).ok_or(StoreError::OutOfRange)?;
            if file.padding {
                bytes.fill(0);
            } else {
                let open = self.files.get(index, &file.path, Access::Read)?;
                read_exact_at(&open, bytes, part.start - file.range.start)?;
            }
        }
        Ok(())
    }

    /// Whether the bytes on disk have the hash that the torrent gives for this piece. Bytes that are not there do not
    /// have it; those of a torrent without hashes always do.
    ///
    /// # Errors
    /// [`StoreError::OutOfRange`] for no piece of this torrent; else what the disk says.
    pub fn verify(&self, piece: PieceIndex) -> Result<bool, StoreError> {
        self.verify_on(piece, None)
    }

    /// The same, where the piece's first bytes were hashed as they were written.
    pub(super) fn verify_on(&self, piece: PieceIndex, begun: Option<Begun>) -> Result<bool, StoreError> {
        let range = self.meta.layout.piece_range(piece);
        if range.is_empty() {
            return Err(StoreError::OutOfRange);
        }
        if self.meta.piece_hashes.is_empty() {
            return Ok(true);
        }
        let Some(expected) = self.meta.hash_of(piece) else { return Err(StoreError::OutOfRange) };
        let Begun { mut sha1, upto } = begun.unwrap_or_else(|| Begun { sha1: Sha1::new(), upto: range.start });
        let mut at = upto;
        let mut buf = vec![0; HASH_CHUNK.min(range.end.saturating_sub(at) as usize)];
        while at < range.end {
            let len = (range.end - at).min(buf.len() as u64) as usize;
            let Some(chunk) = buf.get_mut(..len) else { break };
            match self.read(at, chunk) {
                Err(StoreError::Gone) => return Ok(false),
                read => read?,
            }
            sha1.update(chunk);
            at += len as u64;
        }
        Ok(sha1.finish() == expected)
    }

    /// Writes down which pieces are verified, so that the next [`Store::open`] need not hash them. Call it when no
    /// write is under way: a file written to afterwards is not believed.
    ///
    /// # Errors
    /// What the disk says; the record of before stays whole.
    pub fn save_resume(&self, verified: &PieceSet) -> Result<(), StoreError> {
        let Some(home) = &self.home else { return Ok(()) };
        let _one_at_a_time = self.saving.lock();
        let mut stamps = HashMap::new();
        for (index, file) in self.files_with(verified) {
            match self.files.folder().file(&file.path, Access::Read).and_then(|f| Stamp::of(&f)) {
                Ok(stamp) => drop(stamps.insert(index, stamp)),
                // Someone removed it; its pieces are not believed next time.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e.into()),
            }
        }
        let record = Record { verified: verified.clone(), stamps };
        Ok(home.replace(RESUME, &record.encode(self.meta.info_hash))?)
    }

    /// The pieces that the last record proves; what else may be whole goes to `unproven`.
    fn judge(&mut self) -> PieceSet {
        let record = self.record();
        let mut verified = match &record {
            Some(record) => record.verified.clone(),
            None => PieceSet::new(self.meta.layout.piece_count()),
        };
        let stamps = record.map(|r| r.stamps).unwrap_or_default();
        // After a clean exit each file is either proven or without a verified piece, and nothing more is looked at.
        let mut doubt = verified.count() == 0;
        for (index, file) in self.files_with(&verified.clone()) {
            let now = self.files.folder().file(&file.path, Access::Read).and_then(|f| Stamp::of(&f)).ok();
            if now.is_none() || now.as_ref() != stamps.get(&index) {
                doubt = true;
                for p in self.meta.layout.pieces_in(file.range) {
                    verified.remove(PieceIndex(p));
                }
            }
        }
        // Without hashes there is no proof to be had.
        if doubt && !self.meta.piece_hashes.is_empty() {
            self.unproven = self.whole_on_disk();
            for p in verified.iter() {
                self.unproven.remove(p);
            }
        }
        verified
    }

    fn record(&self) -> Option<Record> {
        Record::decode(&small(self.home.as_ref()?, RESUME, resume::max_len(&self.meta))?, &self.meta)
    }

    /// A convenience: where it fails, the next magnet link takes a little longer.
    fn keep_info(&self) {
        let (Some(home), info) = (&self.home, &self.meta.info_bytes) else { return };
        let there = home.file(Path::new(INFO), Access::Read).and_then(|f| f.metadata());
        if info.is_empty() || there.is_ok_and(|m| m.len() == info.len() as u64) {
            return;
        }
        if let Err(e) = home.replace(INFO, info) {
            tracing::warn!("the info dictionary was not kept: {e}");
        }
    }

    /// Pieces of which the disk holds every byte, right or wrong: holes in a sparse file were never written.
    fn whole_on_disk(&self) -> PieceSet {
        let layout = self.meta.layout;
        let mut missing = PieceSet::new(layout.piece_count());
        let mut gap = |from: u64, to: u64| {
            for p in layout.pieces_in(ByteRange::new(from, to)) {
                missing.insert(PieceIndex(p));
            }
        };
        for file in self.meta.files.iter().filter(|f| !f.padding && !f.range.is_empty()) {
            let mut at = file.range.start;
            let ranges = self.files.folder().file(&file.path, Access::Read).map(|f| data_ranges(&f, file.range.len()));
            for data in ranges.unwrap_or_default() {
                gap(at, file.range.start + data.start);
                at = file.range.start + data.end;
            }
            gap(at, file.range.end);
        }
        let mut whole = PieceSet::new(layout.piece_count());
        for p in (0..layout.piece_count()).map(PieceIndex).filter(|p| !missing.contains(*p)) {
            whole.insert(p);
        }
        whole
    }

    /// Files on disk that hold bytes of any of these pieces.
    fn files_with(&self, pieces: &PieceSet) -> impl Iterator<Item = (usize, &FileEntry)> {
        self.meta.files.iter().enumerate().filter(move |(_, f)| {
            !f.padding && self.meta.layout.pieces_in(f.range).any(|p| pieces.contains(PieceIndex(p)))
        })
    }

    fn checked(&self, offset: u64, len: usize) -> Result<ByteRange, StoreError> {
        let end = offset.checked_add(len as u64).filter(|&end| end <= self.meta.layout.total_len());
        end.map(|end| ByteRange::new(offset, end)).ok_or(StoreError::OutOfRange)
    }

    /// The files that a range touches, in order, each with the part of the range that is its.
    fn spans(&self, range: ByteRange) -> impl Iterator<Item = (usize, &FileEntry, ByteRange)> {
        let first = self.meta.files.partition_point(|f| f.range.end <= range.start);
        let files = self.meta.files.iter().enumerate().skip(first);
        files
            .take_while(move |(_, f)| f.range.start < range.end)
            .map(move |(i, f)| (i, f, f.range.intersect(range)))
            .filter(|(_, _, part)| !part.is_empty())
    }
}

impl Metainfo {
    /// The metadata of a magnet link, if this torrent was in the cache before. Checked against the info hash.
    pub fn cached(cache_dir: &Path, magnet: &Magnet) -> Option<Self> {
        let hash = magnet.info_hash.to_string();
        // Looking makes no folders.
        if !cache_dir.join(&hash).join(INFO).is_file() {
            return None;
        }
        let (home, _) = Folder::open(cache_dir).ok()?.sub(&hash).ok()?;
        Self::from_info(small(&home, INFO, MAX_TORRENT as u64)?.into(), magnet).ok()
    }
}

/// A small file of ours; `None` when it is not there, or larger than it can be.
fn small(home: &Folder, name: &str, max: u64) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    home.file(Path::new(name), Access::Read).ok()?.take(max + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= max).then_some(bytes)
}

/// What cannot be made because the folder around it vanished is no missing data: the cache as a whole is unusable.
fn not_gone(e: io::Error) -> StoreError {
    match e.kind() {
        io::ErrorKind::NotFound => StoreError::Io(e),
        _ => e.into(),
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;

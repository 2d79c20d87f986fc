//! The hashes of a new torrent's pieces, by all cores.
//!
//! Invariant: a worker holds one chunk of [`CHUNK`] bytes and one open file, however large the torrent; what it hashed
//! is of the file that was listed, or the whole is an error.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use librqbit_sha1_wrapper::{ISha1, Sha1};

use super::scan::Listed;
use super::{CreateError, Progress};
use crate::torrent::files::read_exact_at;
use crate::units::{ByteRange, Layout, PieceIndex};

/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

/// Bytes a worker takes on at a time: neighbours on the disk are read one after another.
const RUN: u32 = 8 << 20;

/// Hashing is bound by the disk long before this.
const MAX_WORKERS: usize = 16;

/// A stretch of torrent space: of a file, or of padding, which is zeros.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub range: ByteRange,
    /// Index of the file; `None` is padding.
    pub file: Option<usize>,
}

/// Reads the files of a torrent to be. Each worker has one of its own, and reads mostly in order.
pub trait ReadFiles {
    /// Fills `buf` from `offset` of the file `index`, counted without padding.
    ///
    /// # Errors
    /// [`CreateError::Read`] or [`CreateError::Changed`], which end the making.
    fn read(&mut self, index: usize, offset: u64, buf: &mut [u8]) -> Result<(), CreateError>;
}

/// SHA-1 of each piece, 20 bytes each. `extents` lie end to end over the layout.
pub(super) fn hash<'a>(
    layout: Layout,
    extents: &[Extent],
    open: &(dyn Fn() -> Box<dyn ReadFiles + 'a> + Sync),
    progress: &Progress,
) -> Result<Vec<u8>, CreateError> {
    let pieces = layout.piece_count();
    let run = (RUN / layout.piece_len()).max(1);
    let workers = std::thread::available_parallelism().map_or(2, usize::from).min(MAX_WORKERS);
    let workers = workers.min(pieces.div_ceil(run) as usize);
    let (next, failed) = (AtomicU32::new(0), AtomicBool::new(false));
    let work = || {
        let mut source = Source { extents, files: open() };
        let mut done = Vec::new();
        loop {
            let first = next.fetch_add(run, Ordering::Relaxed);
            // The counter cannot wrap: each worker goes past the end once, by a run at most.
            if first >= pieces || failed.load(Ordering::Relaxed) {
                return Ok(done);
            }
            let last = first.saturating_add(run).min(pieces);
            match source.hash(layout, first..last, progress) {
                Ok(hashes) => done.push((first, hashes)),
                Err(e) => {
                    failed.store(true, Ordering::Relaxed);
                    return Err(e);
                }
            }
        }
    };
    let results: Vec<_> = std::thread::scope(|s| {
        let others: Vec<_> = (1..workers).map(|_| s.spawn(work)).collect();
        let own = work();
        let others = others.into_iter().map(|t| t.join().unwrap_or(Err(CreateError::Cancelled)));
        std::iter::once(own).chain(others).collect()
    });
    let mut runs = Vec::new();
    for r in results {
        runs.extend(r?);
    }
    runs.sort_unstable_by_key(|(first, _)| *first);
    Ok(runs.into_iter().flat_map(|(_, hashes)| hashes).collect())
}

struct Source<'a, 'b> {
    extents: &'a [Extent],
    files: Box<dyn ReadFiles + 'b>,
}

impl Source<'_, '_> {
    fn hash(
        &mut self,
        layout: Layout,
        pieces: std::ops::Range<u32>,
        progress: &Progress,
    ) -> Result<Vec<u8>, CreateError> {
        let mut out = Vec::with_capacity(pieces.len() * 20);
        let mut buf = vec![0; CHUNK.min(layout.piece_len() as usize)];
        for piece in pieces {
            let range = layout.piece_range(PieceIndex(piece));
            let (mut sha1, mut at) = (Sha1::new(), range.start);
            while at < range.end {
                if progress.is_cancelled() {
                    return Err(CreateError::Cancelled);
                }
                let len = (range.end - at).min(buf.len() as u64);
                let chunk = buf.get_mut(..len as usize).unwrap_or_default();
                self.fill(at, chunk)?;
                sha1.update(chunk);
                at += len;
                progress.add(len);
            }
            out.extend_from_slice(&sha1.finish());
        }
        Ok(out)
    }

    /// Fills `buf` from `at` in torrent space.
    fn fill(&mut self, at: u64, buf: &mut [u8]) -> Result<(), CreateError> {
        let all = ByteRange::new(at, at + buf.len() as u64);
        let first = self.extents.partition_point(|e| e.range.end <= at);
        for extent in self.extents.iter().skip(first).take_while(|e| e.range.start < all.end) {
            let part = extent.range.intersect(all);
            let Some(bytes) = buf.get_mut((part.start - at) as usize..(part.end - at) as usize) else { continue };
            match extent.file {
                None => bytes.fill(0),
                Some(_) if bytes.is_empty() => {}
                Some(index) => self.files.read(index, part.start - extent.range.start, bytes)?,
            }
        }
        Ok(())
    }
}

/// Files on disk, one of them open.
pub(super) struct Disk<'a> {
    pub files: &'a [Listed],
    pub open: Option<(usize, File)>,
}

impl ReadFiles for Disk<'_> {
    fn read(&mut self, index: usize, offset: u64, buf: &mut [u8]) -> Result<(), CreateError> {
        let Some(listed) = self.files.get(index) else { return Ok(()) };
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof => CreateError::Changed { path: listed.disk.clone() },
            _ => CreateError::Read { path: listed.disk.clone(), source },
        };
        let file = match &self.open {
            Some((i, file)) if *i == index => file,
            _ => &self.open.insert((index, File::open(&listed.disk).map_err(failed)?)).1,
        };
        read_exact_at(file, buf, offset).map_err(failed)
    }
}

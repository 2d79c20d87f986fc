//! The open files of one torrent: at most [`MAX_OPEN`], least recently used closed first.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

use super::folder::{Access, Folder};
use crate::units::ByteRange;

/// Far below any system's limit (256 on macOS), and more than the files that a stream touches in turn.
pub(super) const MAX_OPEN: usize = 64;

struct Slot {
    index: usize,
    access: Access,
    file: Arc<File>,
    used: u64,
}

#[derive(Default)]
struct Slots {
    list: Vec<Slot>,
    clock: u64,
}

/// Opens files on first use. Safe from any thread; the lock is never held while the disk is waited for.
pub(super) struct OpenFiles {
    folder: Folder,
    slots: Mutex<Slots>,
}

impl OpenFiles {
    pub(super) fn new(folder: Folder) -> Self {
        Self { folder, slots: Mutex::default() }
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// File `index` at `path`, opened for at least this.
    pub(super) fn get(&self, index: usize, path: &Path, access: Access) -> io::Result<Arc<File>> {
        {
            let mut slots = self.slots.lock();
            slots.clock += 1;
            let now = slots.clock;
            let enough = |s: &&mut Slot| s.index == index && (s.access == Access::Write || access == Access::Read);
            if let Some(slot) = slots.list.iter_mut().find(enough) {
                slot.used = now;
                return Ok(slot.file.clone());
            }
        }
        let file = Arc::new(self.folder.file(path, access)?);
        // Closing happens where this drops, after the lock.
        let mut closed = None;
        let mut slots = self.slots.lock();
        let used = slots.clock;
        let slot = Slot { index, access, file: file.clone(), used };
        let oldest = |s: &Slots| s.list.iter().enumerate().min_by_key(|(_, s)| s.used).map(|(i, _)| i);
        let place = match slots.list.iter().position(|s| s.index == index) {
            // Another thread opened it meanwhile, and for no less.
            Some(i) if slots.list.get(i).is_some_and(|s| s.access == Access::Write) => return Ok(file),
            Some(i) => Some(i),
            None if slots.list.len() >= MAX_OPEN => oldest(&slots),
            None => None,
        };
        match place.and_then(|i| slots.list.get_mut(i)) {
            Some(old) => closed = Some(std::mem::replace(old, slot)),
            None => slots.list.push(slot),
        }
        drop(slots);
        drop(closed);
        Ok(file)
    }

    #[cfg(test)]
    pub(super) fn open_count(&self) -> usize {
        self.slots.lock().list.len()
    }
}

/// Reads all of `buf` at `offset`. A hole reads as zeros; the end of the file is an error.
pub(super) fn read_exact_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, buf, offset);
    #[cfg(windows)]
    {
        let (mut buf, mut offset) = (buf, offset);
        while !buf.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(file, buf, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    offset += n as u64;
                    buf = buf.get_mut(n..).unwrap_or_default();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Writes all of `data` at `offset`: one `pwrite` unless the system takes less.
pub(super) fn write_all_at(file: &File, data: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::write_all_at(file, data, offset);
    #[cfg(windows)]
    {
        let (mut data, mut offset) = (data, offset);
        while !data.is_empty() {
            match std::os::windows::fs::FileExt::seek_write(file, data, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    offset += n as u64;
                    data = data.get(n..).unwrap_or_default();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Where a file of at most `len` bytes holds data, in order and apart: all but the holes, as far as the file system
/// tells them.
pub(super) fn data_ranges(file: &File, len: u64) -> Vec<ByteRange> {
    let size = file.metadata().map_or(0, |m| m.len()).min(len);
    let mut ranges: Vec<ByteRange> = Vec::new();
    let mut at = 0;
    while at < size && ranges.len() < MAX_RANGES {
        let Some(data) = next_data(file, at, size) else { return ranges };
        at = data.end.max(at + 1);
        ranges.push(data);
    }
    if at < size {
        ranges.push(ByteRange::new(at, size));
    }
    ranges
}

/// Bounds the time spent on a file in very many parts; the rest of it counts as data.
const MAX_RANGES: usize = 100_000;

/// The first run of data at or after `at`; `None` where there is nothing but a hole up to `size`.
#[cfg(any(target_os = "linux", target_os = "macos", target_os = "freebsd"))]
fn next_data(file: &File, at: u64, size: u64) -> Option<ByteRange> {
    use std::os::fd::AsRawFd;

    let seek = |from: u64, whence| {
        let from = libc::off_t::try_from(from).ok()?;
        // SAFETY: the descriptor is open for as long as `file` is borrowed; only its position changes, which nothing
        // here reads from.
        let found = unsafe { libc::lseek(file.as_raw_fd(), from, whence) };
        u64::try_from(found).ok()
    };
    let no_more = || io::Error::last_os_error().raw_os_error() == Some(libc::ENXIO);
    let start = match seek(at, libc::SEEK_DATA) {
        Some(start) if start < size => start,
        Some(_) => return None,
        None if no_more() => return None,
        // A file system that does not know.
        None => at,
    };
    let end = seek(start, libc::SEEK_HOLE).filter(|&end| end > start).unwrap_or(size).min(size);
    Some(ByteRange::new(start, end))
}

#[cfg(not(any(target_os = "linux", target_os = "macos", target_os = "freebsd")))]
fn next_data(_file: &File, at: u64, size: u64) -> Option<ByteRange> {
    Some(ByteRange::new(at, size))
}

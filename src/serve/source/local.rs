//! Files on disk.
//!
//! Invariants: what is opened lies inside the root, whatever links lead where, also while somebody moves them about; bytes go
//! out only if the file still had, after they were read, the length and time of change that its ETag was made of.

use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;

use super::{Object, OpenError, Reader, SourceError, Version};
use crate::torrent::folder::{Access, Folder};

/// A folder, or one file.
pub(super) struct Root {
    /// With every link resolved: of the folder, or of the one the file lies in.
    path: PathBuf,
    folder: Arc<Folder>,
    /// The file's name in the folder, where the root is a file.
    file: Option<PathBuf>,
}

impl Root {
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let failed = |source| SourceError::Read { path: path.to_owned(), source };
        let real = path.canonicalize().map_err(failed)?;
        let meta = std::fs::metadata(&real).map_err(failed)?;
        let (folder, file) = match (meta.is_dir(), real.parent(), real.file_name()) {
            (true, ..) => (real.clone(), None),
            (false, Some(parent), Some(name)) if meta.is_file() => {
                // Once now, so that a file nobody may read is told of at once and not by each viewer.
                File::open(&real).map_err(failed)?;
                (parent.to_owned(), Some(PathBuf::from(name)))
            }
            _ => return Err(SourceError::Neither { path: path.to_owned() }),
        };
        let opened = Folder::open(&folder).map_err(failed)?;
        Ok(Self { path: folder, folder: Arc::new(opened), file })
    }

    /// The file at `names` below the root. Where the root is a file there is one only, at no names at all.
    pub async fn find(&self, names: &[String]) -> Result<Object, OpenError> {
        let (folder, root) = (self.folder.clone(), self.path.clone());
        let wanted: PathBuf = match (&self.file, names) {
            (Some(file), []) => file.clone(),
            (Some(_), _) | (None, []) => return Err(OpenError::NotFound),
            (None, names) => names.iter().collect(),
        };
        let name = wanted.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let opened = tokio::task::spawn_blocking(move || open_below(&folder, &root, &wanted)).await;
        let file = opened.unwrap_or(Err(OpenError::Failed))?;
        let version = Version { etag: file.stamp.etag(), modified: file.stamp.modified };
        Ok(Object { name, len: file.stamp.len, version, reader: Reader::Local(file) })
    }
}

/// Opens without following a link: those that lead somewhere inside are resolved first, and what that gives is walked
/// from the root's own descriptor.
fn open_below(folder: &Folder, root: &Path, wanted: &Path) -> Result<LocalFile, OpenError> {
    let real = root.join(wanted).canonicalize().map_err(|e| told(&e))?;
    let below = real.strip_prefix(root).map_err(|_| OpenError::NotFound)?;
    let file = folder.file(below, Access::Read).map_err(|e| told(&e))?;
    let stamp = file.metadata().map(|m| Stamp::of(&m)).map_err(|e| told(&e))?;
    Ok(LocalFile { file: Arc::new(file), stamp })
}

fn told(e: &io::Error) -> OpenError {
    match e.raw_os_error() {
        #[cfg(unix)]
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => OpenError::Busy,
        // Missing, forbidden, a folder, a link swapped in: nobody outside needs to know which.
        _ => OpenError::NotFound,
    }
}

/// What changes with the file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: Option<std::time::SystemTime>,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self { len: meta.len(), modified: meta.modified().ok() }
    }

    /// Gives the first `n` bytes of what was just read, if the file is still the same: a change during the read would be seen.
    fn vouch(self, file: &File, mut read: Vec<u8>, n: usize) -> io::Result<Bytes> {
        if n == 0 || Self::of(&file.metadata()?) != self {
            return Err(io::Error::other("the file changed while it was served"));
        }
        read.truncate(n);
        Ok(Bytes::from(read))
    }

    /// Time and length alone, so that copies on several servers (`rsync -a`) have the same.
    fn etag(self) -> String {
        let nanos = self.modified.and_then(|m| m.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_nanos());
        format!("\"{nanos:x}-{:x}\"", self.len)
    }
}

pub(super) struct LocalFile {
    file: Arc<File>,
    stamp: Stamp,
}

impl LocalFile {
    pub async fn read(&self, at: u64, max: usize) -> io::Result<Bytes> {
        // Mostly the pages are in memory: a thread's round trip for each chunk would cost more than the chunk.
        let mut buf = vec![0; max];
        if let Some(n) = read_cached(&self.file, &mut buf, at) {
            return self.stamp.vouch(&self.file, buf, n);
        }
        let (file, stamp) = (self.file.clone(), self.stamp);
        tokio::task::spawn_blocking(move || {
            let n = read_at(&file, &mut buf, at)?;
            stamp.vouch(&file, buf, n)
        })
        .await
        .map_err(io::Error::other)?
    }
}

/// Reads what the page cache has, without waiting for a disk; `None` where it has nothing, or where nobody can tell.
#[cfg(target_os = "linux")]
fn read_cached(file: &File, buf: &mut [u8], at: u64) -> Option<usize> {
    use std::os::fd::AsRawFd;
    let part = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    let at = libc::off_t::try_from(at).ok()?;
    // SAFETY: the one part points to a buffer of ours of that length, which outlives the call; the descriptor is open.
    let n = unsafe { libc::preadv2(file.as_raw_fd(), &part, 1, at, libc::RWF_NOWAIT) };
    usize::try_from(n).ok().filter(|n| *n > 0)
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_: &File, _: &mut [u8], _: u64) -> Option<usize> {
    None
}

#[cfg(unix)]
fn read_at(file: &File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buf, at)
}

#[cfg(windows)]
fn read_at(file: &File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buf, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(path: &str) -> Vec<String> {
        path.split('/').map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn a_file_that_changes_is_not_read_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, vec![1u8; 1000]).unwrap();
        let root = Root::open(dir.path()).unwrap();
        let mut object = root.find(&names("f")).await.unwrap();
        assert_eq!(object.read(0, 100).await.unwrap().len(), 100);
        assert_eq!(object.read(950, 100).await.unwrap().len(), 50);
        // Replaced by another: who reads the old one may finish it.
        std::fs::write(dir.path().join("new"), vec![2u8; 1000]).unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!(object.read(0, 1).await.unwrap(), [1u8][..]);
        let second = root.find(&names("f")).await.unwrap();
        assert_ne!(second.version.etag, object.version.etag);
        // Cut short, or written over, in place: nobody may.
        let mut second = second;
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(500).unwrap();
        assert!(second.read(0, 100).await.is_err());
        let mut third = root.find(&names("f")).await.unwrap();
        let later = third.version.modified.unwrap() + std::time::Duration::from_secs(2);
        std::fs::File::options().write(true).open(&path).unwrap().set_modified(later).unwrap();
        assert!(third.read(0, 100).await.is_err());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn links_lead_only_to_what_lies_inside() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(root.join("sub/f"), b"in").unwrap();
        std::fs::write(dir.path().join("secret"), b"out").unwrap();
        symlink("sub/f", root.join("near")).unwrap();
        symlink(root.join("sub"), root.join("far")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let served = Root::open(&root).unwrap();
        for good in ["sub/f", "near", "far/f"] {
            assert!(served.find(&names(good)).await.is_ok(), "{good}");
        }
        for bad in ["out", "up/secret", "up", "loop", "sub", "gone", "sub/f/x"] {
            assert_eq!(served.find(&names(bad)).await.err(), Some(OpenError::NotFound), "{bad}");
        }
        assert!(served.find(&[]).await.is_err());
        let one = Root::open(&root.join("sub/f")).unwrap();
        assert!(one.find(&[]).await.is_ok() && one.find(&names("f")).await.is_err());
        assert!(matches!(Root::open(Path::new("/dev/null")), Err(SourceError::Neither { .. })));
        assert!(matches!(Root::open(Path::new("/no/such")), Err(SourceError::Read { .. })));
    }
}

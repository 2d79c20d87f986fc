//! One instance per torrent and cache folder: two writers of the same pieces would spoil each other's resume data.
//!
//! Invariant: the lock lives as long as the stream's store, and is the kernel's: a crash releases it.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

/// Held until dropped. The file stays: removing it would let a third instance lock another file of the same name.
#[derive(Debug)]
pub struct CacheLock {
    _file: Option<File>,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("This is being played by another Sluicegate")]
    Taken,
    #[error("The cache folder {path} cannot be written: {source}")]
    Folder { path: String, source: std::io::Error },
}

impl CacheLock {
    /// Locks `name` (an info hash, or another word safe in file names) in the cache folder, making the folder if needed.
    ///
    /// [`LockError::Taken`] when another instance holds it. Where the file system knows no locks, it is not held.
    pub fn take(cache: &Path, name: &str) -> Result<Self, LockError> {
        let failed = |source| LockError::Folder { path: cache.display().to_string(), source };
        std::fs::create_dir_all(cache).map_err(failed)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(cache.join(format!("{name}.lock")))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: Some(file) }),
            Err(TryLockError::WouldBlock) => Err(LockError::Taken),
            Err(TryLockError::Error(_)) => Ok(Self { _file: None }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_one_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let cache = dir.path().join("c");
        let first = CacheLock::take(&cache, "ab").unwrap();
        assert!(matches!(CacheLock::take(&cache, "ab"), Err(LockError::Taken)));
        CacheLock::take(&cache, "cd").unwrap();
        drop(first);
        CacheLock::take(&cache, "ab").unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "x").unwrap();
        assert!(matches!(CacheLock::take(&file.join("c"), "ab"), Err(LockError::Folder { .. })));
    }
}

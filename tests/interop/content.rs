//! Something to exchange: bytes that no two runs share, in files that do not begin where pieces do.

use std::path::{Path, PathBuf};

use crate::support::torrent::Torrent;
use crate::support::{TempDir, temp_dir};

/// A folder of files, and its torrent.
pub struct Content {
    pub torrent: Torrent,
    /// Paths below the folder the content lies in, and what is in them.
    pub files: Vec<(PathBuf, Vec<u8>)>,
    _dir: TempDir,
}

impl Content {
    /// Some 3 MB: a large file amid small ones of odd lengths, many smaller than a block, one empty. Pieces span up to nine
    /// files.
    pub fn folder() -> Content {
        let sizes =
            [70_001, 5, 16_384, 1, 33_333, 0, 2_100_007, 12_345, 65_536, 99, 101, 777, 3, 25_000, 4_096, 31, 250_011];
        Content::of(&sizes, 32, Torrent::of)
    }

    /// Files of these lengths, in pieces of `piece_kib` KiB, with a torrent that `make` makes.
    pub fn of(sizes: &[usize], piece_kib: u32, make: impl Fn(&Path, &Path, u32) -> Torrent) -> Content {
        let dir = temp_dir();
        let name = "Some things";
        let mut files = Vec::new();
        for (i, size) in sizes.iter().enumerate() {
            let path = match i % 3 {
                0 => format!("{name}/{i:03} at the top.bin"),
                1 => format!("{name}/below/{i:03}.bin"),
                _ => format!("{name}/below/and below/{i:03} ü.bin"),
            };
            files.push((PathBuf::from(path), noise(*size, i as u64 + 1)));
        }
        for (path, bytes) in &files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let torrent = make(&dir.path().join(name), dir.path(), piece_kib);
        Content { torrent, files, _dir: dir }
    }

    /// One file, a film.
    pub fn film(film: &Path) -> Content {
        let dir = temp_dir();
        let name = film.file_name().unwrap();
        let bytes = std::fs::read(film).unwrap();
        std::fs::write(dir.path().join(name), &bytes).unwrap();
        let torrent = Torrent::of(&dir.path().join(name), dir.path(), 32);
        Content { torrent, files: vec![(name.into(), bytes)], _dir: dir }
    }

    /// Writes all of it below `folder`.
    pub fn lay(&self, folder: &Path) {
        for (path, bytes) in &self.files {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    /// Whether all of it, and right, is below `folder`; else what is not.
    pub fn is_in(&self, folder: &Path) -> Result<(), String> {
        for (path, bytes) in &self.files {
            // Not all make files without bytes.
            if bytes.is_empty() {
                continue;
            }
            let there = std::fs::read(folder.join(path)).map_err(|e| format!("{}: {e}", path.display()))?;
            if there != *bytes {
                return Err(format!("{} is not as it should be", path.display()));
            }
        }
        Ok(())
    }

    pub fn len(&self) -> u64 {
        self.files.iter().map(|f| f.1.len() as u64).sum()
    }
}

/// Bytes without a pattern (xorshift64).
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}

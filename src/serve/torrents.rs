//! Torrents of what is served, with the server itself as web seed.
//!
//! Invariant: a torrent in the folder is whole, of the files as they are, and bears the time before they were hashed: by that
//! the next start knows whether they have changed since.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::torrent::create::{CreateError, CreateOptions, Created, Progress, create, default_name, renew, write_whole};
use crate::torrent::{InPlace, Metainfo, TorrentError};

/// Larger ones are not read back: nobody takes them.
const MAX_TORRENT: u64 = 64 << 20;

/// Why there is no torrent of something.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error("{} lies in {}, which is served: torrents go elsewhere.", folder.display(), served.display())]
    Inside { folder: PathBuf, served: PathBuf },
    #[error("{} cannot be written: {source}.", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{} cannot be read: {source}.", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} is no torrent: {source}", path.display())]
    NotATorrent { path: PathBuf, source: TorrentError },
}

/// A torrent of something served.
#[derive(Debug)]
pub struct Made {
    /// The `.torrent` file.
    pub file: PathBuf,
    pub magnet: String,
    /// It was there already, and nothing was hashed.
    pub reused: bool,
    pub left_out: Vec<PathBuf>,
    /// For those who want to seed it from where it lies.
    pub place: InPlace,
}

/// Makes a torrent of the file or folder `path` in the folder `dir`, or takes the one that is there where the files are as they
/// were. Blocks for as long as hashing takes.
pub fn make(path: &Path, dir: &Path, options: &CreateOptions, progress: &Progress) -> Result<Made, MakeError> {
    let read = |path: &Path, source| MakeError::Read { path: path.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(|source| MakeError::Write { path: dir.to_owned(), source })?;
    let real = path.canonicalize().map_err(|e| read(path, e))?;
    let folder = dir.canonicalize().map_err(|e| read(dir, e))?;
    if folder.starts_with(&real) {
        return Err(MakeError::Inside { folder: dir.to_owned(), served: path.to_owned() });
    }
    let name = default_name(path).ok_or_else(|| CreateError::Name { path: path.to_owned() })?;
    let file = dir.join(format!("{name}.torrent"));
    let (created, reused) =
        match earlier(&file).and_then(|(old, hashed)| Some((renew(path, &old, hashed, options)?, old, hashed))) {
            Some((renewed, old, hashed)) => {
                // Another address or tracker: the same hashes, and so the same time.
                if renewed.torrent != old {
                    write(&file, &renewed, hashed)?;
                }
                (renewed, true)
            }
            None => {
                let began = SystemTime::now();
                let created = create(path, options, progress)?;
                write(&file, &created, began)?;
                (created, false)
            }
        };
    let root = if real.is_dir() { real } else { real.parent().map(Path::to_owned).unwrap_or_default() };
    let place = InPlace { meta: Arc::new(created.meta), root, disk: created.disk };
    Ok(Made { file, magnet: created.magnet, reused, left_out: created.left_out, place })
}

/// The torrent of an earlier run, and when its files began to be hashed.
fn earlier(file: &Path) -> Option<(Vec<u8>, SystemTime)> {
    let meta = std::fs::metadata(file).ok().filter(|m| m.is_file() && m.len() <= MAX_TORRENT)?;
    Some((std::fs::read(file).ok()?, meta.modified().ok()?))
}

fn write(file: &Path, created: &Created, hashed: SystemTime) -> Result<(), MakeError> {
    write_whole(file, &created.torrent, Some(hashed))
        .map_err(|source| MakeError::Write { path: file.to_owned(), source })
}

/// The info hash of a `.torrent` file that is served itself: bids may name it.
pub fn info_hash_of(path: &Path) -> Result<[u8; 20], MakeError> {
    let read = |source| MakeError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(read)?.len() > MAX_TORRENT {
        return Err(MakeError::NotATorrent {
            path: path.to_owned(),
            source: TorrentError::TooLarge { max: MAX_TORRENT as usize },
        });
    }
    let meta = Metainfo::parse(&std::fs::read(path).map_err(read)?);
    meta.map(|m| m.info_hash.0).map_err(|source| MakeError::NotATorrent { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torrent_is_made_once_and_again_when_the_files_change() {
        let dir = tempfile::tempdir().unwrap();
        let (film, out) = (dir.path().join("film.mkv"), dir.path().join("out"));
        std::fs::write(&film, vec![7; 100_000]).unwrap();
        let old = SystemTime::now() - std::time::Duration::from_secs(10);
        let options = |url: &str| CreateOptions { web_seeds: vec![url.into()], ..Default::default() };
        let make = |url: &str| make(&film, &out, &options(url), &Progress::default()).unwrap();
        let first = make("http://a/");
        assert!(!first.reused && first.magnet.contains("ws=http"));
        assert_eq!(first.file, out.join("film.mkv.torrent"));
        // The file may have changed in the very moment before it was hashed, as far as clocks of file systems tell.
        std::fs::File::options()
            .write(true)
            .open(&first.file)
            .unwrap()
            .set_modified(SystemTime::now() + std::time::Duration::from_secs(5))
            .unwrap();
        let second = make("http://a/");
        assert!(second.reused);
        let third = make("http://b/");
        assert!(third.reused && third.place.meta.web_seeds == ["http://b/"]);
        assert_eq!(third.place.meta.info_hash, first.place.meta.info_hash);
        std::fs::File::options().write(true).open(&first.file).unwrap().set_modified(old).unwrap();
        std::fs::write(&film, vec![8; 100_000]).unwrap();
        let fourth = make("http://b/");
        assert!(!fourth.reused && fourth.place.meta.info_hash != first.place.meta.info_hash);
        assert_eq!(info_hash_of(&fourth.file).unwrap(), fourth.place.meta.info_hash.0);
        assert!(info_hash_of(&film).is_err());
        let inside = super::make(dir.path(), &out, &options("http://a/"), &Progress::default());
        assert!(matches!(inside, Err(MakeError::Inside { .. })));
    }
}

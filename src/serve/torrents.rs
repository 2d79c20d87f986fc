//! Torrents of what is served, with the server itself as web seed.
//!
//! Invariant: a torrent in the folder is whole, of the files as they are, and bears the time before they were hashed: by that
//! the next start knows whether they have changed since.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::runtime::Handle;

use super::source::bucket::{Bucket, BucketObject, Listed, reason};
use super::source::{SourceError, SourceSpec};
use crate::torrent::create::{
    CreateError, CreateOptions, Created, Elsewhere, Progress, ReadFiles, create, create_elsewhere, default_name, renew,
    renew_elsewhere, write_whole,
};
use crate::torrent::{InPlace, Metainfo, TorrentError};

/// Larger ones are not read back: nobody takes them.
const MAX_TORRENT: u64 = 64 << 20;

/// As many objects as a torrent may have files.
const MAX_OBJECTS: usize = 300_000;

/// Why there is no torrent of something.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    #[error(transparent)]
    Create(#[from] CreateError),
    #[error(transparent)]
    Source(#[from] SourceError),
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
    pub meta: Arc<Metainfo>,
    pub magnet: String,
    /// It was there already, and nothing was hashed.
    pub reused: bool,
    pub left_out: Vec<PathBuf>,
    /// For those who want to seed it from where it lies; only of files on this machine.
    pub place: Option<InPlace>,
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
    let mut made = settle(
        dir.join(format!("{name}.torrent")),
        |old, hashed| renew(path, old, hashed, options),
        || create(path, options, progress),
    )?;
    if let Some(place) = &mut made.place {
        place.root = if real.is_dir() { real } else { real.parent().map(Path::to_owned).unwrap_or_default() };
    }
    Ok(made)
}

/// The same of a bucket, all of which is read for it once. Needs a tokio runtime around it.
pub async fn make_of_bucket(
    bucket: &str,
    prefix: &str,
    dir: &Path,
    options: CreateOptions,
    progress: Arc<Progress>,
) -> Result<Made, MakeError> {
    let opened = Bucket::open(bucket, prefix).await?;
    let spec = SourceSpec::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
    make_of(Arc::new(opened), spec.name()?, dir.to_owned(), options, progress).await
}

pub(super) async fn make_of(
    bucket: Arc<Bucket>,
    name: String,
    dir: PathBuf,
    options: CreateOptions,
    progress: Arc<Progress>,
) -> Result<Made, MakeError> {
    let unread = |e: &object_store::Error| SourceError::Bucket { bucket: name.clone(), reason: reason(e) };
    let mut objects = bucket.list(MAX_OBJECTS).await.map_err(|e| unread(&e))?;
    if objects.len() > MAX_OBJECTS {
        return Err(CreateError::TooManyFiles { max: MAX_OBJECTS }.into());
    }
    let files = objects.iter().map(|o| (o.names.clone(), o.meta.size)).collect();
    let what = Elsewhere::new(name.clone(), !bucket.is_single(), files);
    // In the torrent's order.
    let places: HashMap<&Vec<String>, usize> =
        what.files.iter().enumerate().map(|(i, (names, _))| (names, i)).collect();
    objects.sort_by_key(|o| places.get(&o.names).copied());
    let newest = objects.iter().map(|o| SystemTime::from(o.meta.last_modified)).max();
    let runtime = Handle::current();
    let hashing = tokio::task::spawn_blocking(move || {
        std::fs::create_dir_all(&dir).map_err(|source| MakeError::Write { path: dir.clone(), source })?;
        let open = || -> Box<dyn ReadFiles + '_> {
            Box::new(Objects { runtime: runtime.clone(), bucket: &bucket, objects: &objects, open: None })
        };
        settle(
            dir.join(format!("{name}.torrent")),
            |old, hashed| renew_elsewhere(&what, old, &options).filter(|_| newest.is_some_and(|n| n < hashed)),
            || create_elsewhere(&what, &open, &options, &progress),
        )
    });
    let mut made = hashing.await.unwrap_or(Err(CreateError::Cancelled.into()))?;
    made.place = None;
    Ok(made)
}

/// Reads objects for a worker that hashes; on a thread of its own, where it may wait.
struct Objects<'a> {
    runtime: Handle,
    bucket: &'a Bucket,
    objects: &'a [Listed],
    open: Option<(usize, BucketObject)>,
}

impl ReadFiles for Objects<'_> {
    fn read(&mut self, index: usize, offset: u64, buf: &mut [u8]) -> Result<(), CreateError> {
        let Some(listed) = self.objects.get(index) else { return Ok(()) };
        let object = match &mut self.open {
            Some((i, object)) if *i == index => object,
            _ => &mut self.open.insert((index, self.bucket.object(listed))).1,
        };
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|r| !r.is_empty()) {
            let read = self.runtime.block_on(object.read(offset + done as u64, rest.len(), listed.meta.size));
            let bytes = read.map_err(|source| CreateError::Read { path: listed.names.iter().collect(), source })?;
            for (to, from) in rest.iter_mut().zip(&bytes) {
                *to = *from;
            }
            done += bytes.len();
        }
        Ok(())
    }
}

/// Takes the torrent that is at `file` if it can be renewed, and else makes and writes one.
fn settle(
    file: PathBuf,
    renew: impl FnOnce(&[u8], SystemTime) -> Option<Created>,
    create: impl FnOnce() -> Result<Created, CreateError>,
) -> Result<Made, MakeError> {
    let earlier = earlier(&file).and_then(|(old, hashed)| Some((renew(&old, hashed)?, old, hashed)));
    let (created, reused) = match earlier {
        Some((renewed, old, hashed)) => {
            // Another address or tracker: the same hashes, and so the same time.
            if renewed.torrent != old {
                write(&file, &renewed, hashed)?;
            }
            (renewed, true)
        }
        None => {
            let began = SystemTime::now();
            let created = create()?;
            write(&file, &created, began)?;
            (created, false)
        }
    };
    let meta = Arc::new(created.meta);
    let place = InPlace { meta: meta.clone(), root: PathBuf::new(), disk: created.disk };
    Ok(Made { file, meta, magnet: created.magnet, reused, left_out: created.left_out, place: Some(place) })
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
        assert!(third.reused && third.meta.web_seeds == ["http://b/"]);
        assert_eq!(third.meta.info_hash, first.meta.info_hash);
        std::fs::File::options().write(true).open(&first.file).unwrap().set_modified(old).unwrap();
        std::fs::write(&film, vec![8; 100_000]).unwrap();
        let fourth = make("http://b/");
        assert!(!fourth.reused && fourth.meta.info_hash != first.meta.info_hash);
        assert_eq!(info_hash_of(&fourth.file).unwrap(), fourth.meta.info_hash.0);
        assert!(info_hash_of(&film).is_err());
        let inside = super::make(dir.path(), &out, &options("http://a/"), &Progress::default());
        assert!(matches!(inside, Err(MakeError::Inside { .. })));
    }
}

//! A torrent made earlier, of files that are still the same: new trackers and addresses around the old hashes.

use std::path::Path;
use std::time::SystemTime;

use super::{CreateOptions, Created, encode, lay_out, name_of, scan};
use crate::torrent::Metainfo;

/// What [`super::create`] would make of `path`, from what it made of it before, without reading the files. `old` is that
/// torrent and `hashed` a moment before its files were read. `None` where anything has changed since, or might have.
pub fn renew(path: &Path, old: &[u8], hashed: SystemTime, options: &CreateOptions) -> Option<Created> {
    let old = Metainfo::parse(old).ok()?;
    let found = scan::scan(path, options.except.as_deref()).ok()?;
    let piece_len = old.layout.piece_len();
    let same = name_of(path, options).ok()? == old.name
        && options.private == old.private
        && options.piece_len.is_none_or(|len| len == piece_len)
        && found.folder == old.multi_file;
    let extents = lay_out(found.files.iter().map(|f| f.len), piece_len, options.align && found.folder);
    if !same || extents.len() != old.files.len() {
        return None;
    }
    for (extent, file) in extents.iter().zip(&old.files) {
        let listed = extent.file.and_then(|i| found.files.get(i));
        let named = listed.is_none_or(|l| !found.folder || l.components.join("/") == file.display);
        if extent.range != file.range || listed.is_none() != file.padding || !named {
            return None;
        }
    }
    if !found.files.iter().all(|f| changed(&f.disk).is_some_and(|c| c < hashed)) {
        return None;
    }
    let torrent = encode::torrent(&old.info_bytes, found.folder, options);
    let meta = Metainfo::parse(&torrent).ok().filter(|m| m.info_hash == old.info_hash)?;
    let disk = found.files.into_iter().map(|f| f.disk).collect();
    Some(Created { torrent, magnet: meta.magnet(), meta, left_out: found.left_out, disk })
}

/// When a file last changed, also where somebody set its time back or put an older one in its place.
fn changed(path: &Path) -> Option<SystemTime> {
    let meta = std::fs::metadata(path).ok()?;
    let modified = meta.modified().ok()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let nanos = u32::try_from(meta.ctime_nsec()).ok()?;
        let since = std::time::Duration::new(u64::try_from(meta.ctime()).ok()?, nanos);
        Some(modified.max(SystemTime::UNIX_EPOCH.checked_add(since)?))
    }
    #[cfg(not(unix))]
    Some(modified)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Progress, create};
    use super::*;

    #[test]
    fn the_same_files_are_not_hashed_twice_and_others_are() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("Season 1");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("e1.mkv"), vec![1; 100_000]).unwrap();
        std::fs::write(folder.join("e2.mkv"), vec![2; 50_000]).unwrap();
        let options = CreateOptions { web_seeds: vec!["http://a/".into()], align: true, ..Default::default() };
        let made = create(&folder, &options, &Progress::default()).unwrap();
        let later = SystemTime::now() + Duration::from_secs(5);
        let renew = |options: &CreateOptions, hashed| renew(&folder, &made.torrent, hashed, options);
        let again = renew(&options, later).unwrap();
        assert_eq!(
            (again.torrent, again.magnet, again.disk),
            (made.torrent.clone(), made.magnet.clone(), made.disk.clone())
        );
        // Another address is another torrent file of the same torrent.
        let moved = CreateOptions { web_seeds: vec!["http://b/".into()], ..options.clone() };
        let renewed = renew(&moved, later).unwrap();
        assert_eq!(renewed.meta.info_hash, made.meta.info_hash);
        assert_eq!(renewed.meta.web_seeds, ["http://b/"]);
        for other in [
            CreateOptions { private: true, ..options.clone() },
            CreateOptions { align: false, ..options.clone() },
            CreateOptions { name: Some("x".into()), ..options.clone() },
            CreateOptions { piece_len: Some(1 << 20), ..options.clone() },
        ] {
            assert!(renew(&other, later).is_none(), "{other:?}");
        }
        // Made before the files changed last.
        assert!(renew(&options, SystemTime::now() - Duration::from_secs(60)).is_none());
        std::fs::rename(folder.join("e2.mkv"), folder.join("e3.mkv")).unwrap();
        assert!(renew(&options, later).is_none());
        std::fs::rename(folder.join("e3.mkv"), folder.join("e2.mkv")).unwrap();
        std::fs::write(folder.join("e3.mkv"), "x").unwrap();
        assert!(renew(&options, later).is_none());
    }
}

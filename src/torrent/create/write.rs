//! Putting a torrent in its place.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

/// Writes beside its place first, so that what is read there is never half of it. `modified` is the time the file is to bear.
pub fn write_whole(path: &Path, bytes: &[u8], modified: Option<SystemTime>) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temp = folder.join(format!(".{name}.{}.part", std::process::id()));
    let write = |mut f: File| {
        f.write_all(bytes)?;
        modified.map_or(Ok(()), |m| f.set_modified(m))?;
        f.sync_all()
    };
    let written = File::create_new(&temp).and_then(write).and_then(|()| std::fs::rename(&temp, path));
    if written.is_err() {
        // It may never have been made.
        let _ = std::fs::remove_file(&temp);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torrent_is_written_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.torrent");
        write_whole(&path, b"one", None).unwrap();
        let then = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        write_whole(&path, b"two", Some(then)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(path.metadata().unwrap().modified().unwrap(), then);
        assert!(write_whole(&dir.path().join("gone/a.torrent"), b"x", None).is_err());
        std::fs::create_dir(dir.path().join("folder")).unwrap();
        assert!(write_whole(&dir.path().join("folder"), b"x", None).is_err());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left behind");
    }
}

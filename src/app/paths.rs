//! Where things lie on this machine: settings, data and cache, each in the platform's own folder.

use std::path::{Path, PathBuf};

/// The three folders. Made when something is first written, not before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// `settings.toml`.
    pub config: PathBuf,
    /// `history.json`.
    pub data: PathBuf,
    /// Pieces and resume data, a folder per torrent.
    pub cache: PathBuf,
}

impl Paths {
    /// The platform's folders; on a machine without a home, folders below the system's temporary one.
    pub fn find() -> Self {
        match directories::ProjectDirs::from("", "", "sluicegate") {
            Some(d) => {
                Self { config: d.config_dir().into(), data: d.data_dir().into(), cache: d.cache_dir().join("streams") }
            }
            None => Self::below(&std::env::temp_dir().join("sluicegate")),
        }
    }

    /// All three below one folder.
    pub fn below(root: &Path) -> Self {
        Self { config: root.join("config"), data: root.join("data"), cache: root.join("cache") }
    }

    pub fn settings_file(&self) -> PathBuf {
        self.config.join("settings.toml")
    }

    pub fn history_file(&self) -> PathBuf {
        self.data.join("history.json")
    }
}

/// Replaces a file as a whole: a crash leaves the old one or the new one, never half. Only the user may read it, since
/// it says what was watched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    let dir = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let temp = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&temp).and_then(|mut f| {
        f.write_all(bytes)?;
        f.sync_all()
    });
    let placed = written.and_then(|()| std::fs::rename(&temp, path));
    if placed.is_err() {
        // Best effort: the error that matters is the one returned.
        let _ = std::fs::remove_file(&temp);
    }
    placed
}

/// Reads at most `max` bytes; a longer file is an error, so that a wrong one cannot fill the memory.
pub fn read_bounded(path: &Path, max: u64) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "larger than it can be"));
    }
    Ok(bytes)
}

//! Torrents made by Transmission's own tool, so that ours is not tested against itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::process::tool;
use super::text;

/// A .torrent on disk.
#[derive(Debug, Clone)]
pub struct Torrent {
    pub path: PathBuf,
    /// 40 hex digits.
    pub info_hash: String,
    /// The folder the named content lies in.
    pub content_dir: PathBuf,
    /// Name of the file or folder in there.
    pub name: String,
}

impl Torrent {
    /// Of one file or folder, in pieces of `piece_kib` KiB, written into `into`.
    pub fn of(content: &Path, into: &Path, piece_kib: u32) -> Torrent {
        let name = content.file_name().unwrap().to_str().unwrap().to_owned();
        let path = into.join(format!("{name}.torrent"));
        tool(Command::new("transmission-create").args([
            "-s",
            &piece_kib.to_string(),
            "-o",
            text(&path),
            text(content),
        ]));
        make_unique(&path);
        let shown = tool(Command::new("transmission-show").arg(&path)).stdout;
        let shown = String::from_utf8_lossy(&shown);
        let hash = shown.lines().find_map(|l| l.trim().strip_prefix("Hash: ").or(l.trim().strip_prefix("Hash v1: ")));
        let info_hash = hash.unwrap_or_else(|| panic!("no hash in {shown}")).trim().to_owned();
        Torrent { path, info_hash, content_dir: content.parent().unwrap().to_owned(), name }
    }

    /// The same with BEP 19 web seeds, beside the first.
    pub fn with_web_seeds(&self, urls: &[String]) -> Torrent {
        let mut bytes = std::fs::read(&self.path).unwrap();
        // Keys are sorted, and `url-list` comes after all that the tool writes.
        assert_eq!(bytes.pop(), Some(b'e'));
        let list: String = urls.iter().map(|u| format!("{}:{u}", u.len())).collect();
        bytes.extend_from_slice(format!("8:url-listl{list}ee").as_bytes());
        let path = self.path.with_extension("web.torrent");
        std::fs::write(&path, bytes).unwrap();
        Torrent { path, ..self.clone() }
    }

    /// The same with a tracker, beside the first.
    pub fn with_tracker(&self, url: &str) -> Torrent {
        let mut bytes = std::fs::read(&self.path).unwrap();
        // Keys are sorted, and none that the tools write comes before `announce`.
        bytes.splice(1..1, format!("8:announce{}:{url}", url.len()).into_bytes());
        let path = self.path.with_extension("tracker.torrent");
        std::fs::write(&path, bytes).unwrap();
        Torrent { path, ..self.clone() }
    }

    /// A magnet link without trackers.
    pub fn magnet(&self) -> String {
        format!("magnet:?xt=urn:btih:{}&dn={}", self.info_hash, self.name.replace(' ', "+"))
    }

    /// A magnet link with one.
    pub fn magnet_by(&self, tracker: &str) -> String {
        let quoted: String = url::form_urlencoded::byte_serialize(tracker.as_bytes()).collect();
        format!("{}&tr={quoted}", self.magnet())
    }
}

/// Gives the torrent an info hash of its own: players of tests that run beside each other find one another on the local
/// network, and would help each other out.
fn make_unique(path: &Path) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let mut bytes = std::fs::read(path).unwrap();
    // The info dictionary is the last value, and `source` comes after all that the tool writes into it.
    assert!(bytes.ends_with(b"ee"));
    bytes.truncate(bytes.len() - 2);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let source = format!("{}-{}-{now}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    bytes.extend_from_slice(format!("6:source{}:{source}ee", source.len()).as_bytes());
    std::fs::write(path, bytes).unwrap();
}

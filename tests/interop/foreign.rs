//! What every foreign peer can be asked.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::content::Content;

/// Longest wait for anything here: far more than a loaded machine needs, since Transmission alone may keep a new peer choked for
/// ten seconds and more.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// How fast a foreign peer fetches, bytes per second: slow enough that there is something to look at while it does, since some
/// hang up once they have all.
pub const FETCH_RATE: u32 = 1_000_000;

/// How the bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// TCP in the clear, and nothing else.
    Tcp,
    /// uTP in the clear. We try TCP too, and find no answer there.
    Utp,
    /// TCP, every byte of it encrypted (RC4), and nothing else.
    Mse,
    /// uTP, encrypted.
    UtpMse,
}

impl Via {
    pub fn is_utp(self) -> bool {
        matches!(self, Via::Utp | Via::UtpMse)
    }

    pub fn is_encrypted(self) -> bool {
        matches!(self, Via::Mse | Via::UtpMse)
    }
}

/// What a foreign peer is handed to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    Torrent,
    /// It has to ask us for the metadata.
    Magnet,
}

/// A program that is not ours, with one torrent.
pub trait Foreign {
    /// Where it takes peers.
    fn addr(&self) -> SocketAddr;

    /// The folder its content is in.
    fn folder(&self) -> &Path;

    /// Whether it says that it has all.
    fn is_complete(&mut self) -> bool;

    /// What it said, for a failed test.
    fn log(&mut self) -> String;

    /// Waits until it has all, and checks that what lies on its disk is the content.
    fn completes(&mut self, content: &Content) {
        let end = Instant::now() + PATIENCE;
        while !self.is_complete() {
            assert!(Instant::now() < end, "not complete after {PATIENCE:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        // Some say so a moment before the last bytes are on the disk.
        while let Err(why) = content.is_in(self.folder()) {
            assert!(Instant::now() < end, "it says that it is complete, but {why}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Whether a program is here. Where packaging/test can install it a test without it fails; elsewhere it says so and is left out.
pub fn is_here(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    missing(program, here)
}

/// The same for what is no program in the path.
pub fn missing(what: &str, here: bool) -> bool {
    assert!(here || !Path::new("/etc/debian_version").exists(), "{what} is not here; packaging/test installs it");
    if !here {
        eprintln!("{what} is not installed: nothing was tested");
    }
    here
}

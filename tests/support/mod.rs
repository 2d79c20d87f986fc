//! What the end-to-end tests stand on: the real binary, real seeds, a real web server, a real screen.
//!
//! Invariant: everything started here is ended by its process id when its guard is dropped, also after a failed test,
//! and lives in folders and on ports of its own, so that tests can run beside each other.

// Each test binary uses a part of it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod frames;
pub mod huge;
pub mod media;
pub mod nginx;
pub mod origin;
pub mod peer;
pub mod player;
pub mod process;
pub mod screen;
pub mod seed;
pub mod sync;
pub mod torrent;

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub use tempfile::TempDir;

/// A folder that goes away with its guard.
pub fn temp_dir() -> TempDir {
    tempfile::Builder::new().prefix("sluicegate-test-").tempdir().unwrap()
}

/// A port on loopback that is free for TCP and UDP, and that the system gives to nobody who does not ask for it by number: one of
/// its own choice could go to somebody else before its user binds it.
pub fn free_port() -> u16 {
    /// Below what Linux (32768), macOS and Windows (49152) give out; above what services have.
    const RANGE: std::ops::Range<u32> = 20_000..32_000;
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let count = RANGE.end - RANGE.start;
    for _ in 0..count {
        // Tests of several processes start in different places.
        let n = std::process::id().wrapping_mul(389).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = (RANGE.start + n % count) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port of {RANGE:?} is free");
}

/// Waits until `ready` gives a value, and fails naming `what` when it has not within `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(v) = ready() {
            return v;
        }
        assert!(Instant::now() < end, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A path as text.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

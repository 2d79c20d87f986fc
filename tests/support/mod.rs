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

/// A port on loopback that was free a moment ago, given to nobody else of this process. It lies below those the kernel
/// takes for outgoing connections (`ip_local_port_range`), of which other tests make many.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 12_000;
    const COUNT: u32 = 20_000;
    // Other test programs begin elsewhere.
    let begin = std::process::id().wrapping_mul(131);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(step < COUNT, "no free port on loopback");
        let port = (FIRST + begin.wrapping_add(step) % COUNT) as u16;
        let free = TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if free {
            return port;
        }
    }
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

//! libtorrent, by its Python wheel: speaks everything.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::content::Content;
use crate::foreign::{FETCH_RATE, Foreign, Given, PATIENCE, Via};
use crate::support::process::Guard;
use crate::support::{TempDir, free_port, temp_dir, text, wait_for};

pub struct Libtorrent {
    addr: SocketAddr,
    // Before its folder, which holds its log.
    guard: Guard,
    dir: TempDir,
}

/// The Python that has it: packaging/test makes one in the build folder; the system's own will do as well.
pub fn python() -> PathBuf {
    let made = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("python").join("bin/python");
    if made.is_file() { made } else { PathBuf::from("python3") }
}

/// Whether it is here; see [`crate::foreign::missing`].
pub fn is_here() -> bool {
    let out = Command::new(python()).args(["-c", "import libtorrent"]).output();
    crate::foreign::missing("libtorrent's Python module", out.is_ok_and(|o| o.status.success()))
}

impl Libtorrent {
    /// Has all of it.
    pub fn seed(content: &Content, via: Via) -> Libtorrent {
        let mut seed = Libtorrent::start(content, Given::Torrent, true, &[], "127.0.0.1", settings(via));
        wait_for("libtorrent to check its files", PATIENCE, || seed.is_complete().then_some(()));
        seed
    }

    /// Fetches it from us, whom it dials.
    pub fn fetch(content: &Content, given: Given, via: Via, from: SocketAddr) -> Libtorrent {
        Libtorrent::start(content, given, false, &[from], "127.0.0.1", settings(via))
    }

    /// The same with everything said: whether the content is on its disk, whom it dials, where it listens, libtorrent's own
    /// settings.
    pub fn start(
        content: &Content,
        given: Given,
        complete: bool,
        dial: &[SocketAddr],
        host: &str,
        settings: Value,
    ) -> Libtorrent {
        let (dir, port) = (temp_dir(), free_port());
        if complete {
            content.lay(dir.path());
        }
        let dial: Vec<Value> = dial.iter().map(|a| json!([a.ip().to_string(), a.port()])).collect();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        let addr = format!("{host}:{port}");
        let mut job = json!({"save": text(dir.path()), "listen": addr, "connect": dial, "settings": settings});
        match given {
            Given::Torrent => job["torrent"] = json!(text(&content.torrent.path)),
            Given::Magnet => job["magnet"] = json!(content.torrent.magnet()),
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/session.py");
        let mut command = Command::new(python());
        command.env("HOME", dir.path()).env("PYTHONDONTWRITEBYTECODE", "1").arg(script).arg(job.to_string());
        let guard = Guard::spawn(&mut command, Some(&dir.path().join("log of libtorrent.txt")));
        let mut peer = Libtorrent { addr: addr.parse().unwrap(), dir, guard };
        wait_for("libtorrent's port", PATIENCE, || (peer.now()["port"].as_u64()? == u64::from(port)).then_some(()));
        peer
    }

    /// How it stands; null while it has said nothing.
    pub fn now(&mut self) -> Value {
        assert!(self.guard.runs(), "libtorrent ended: {}", self.guard.log());
        let log = self.guard.log();
        let mut whole = log.split_inclusive('\n').filter(|l| l.starts_with('{') && l.ends_with('\n'));
        whole.next_back().map_or(Value::Null, |l| serde_json::from_str(l).unwrap())
    }

    /// Waits for something it says.
    pub fn wait<T>(&mut self, what: &str, mut look: impl FnMut(&Value) -> Option<T>) -> T {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            if let Some(v) = look(&self.now()) {
                return v;
            }
            assert!(std::time::Instant::now() < end, "waited in vain for {what}:\n{}", self.log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// libtorrent's settings for one way to travel, and no other.
pub fn settings(via: Via) -> Value {
    // enc_policy: 0 requires it, 2 refuses it. enc_level: 2 is RC4 for every byte.
    let policy = if via.is_encrypted() { 0 } else { 2 };
    json!({
        "enable_incoming_tcp": !via.is_utp(), "enable_outgoing_tcp": !via.is_utp(),
        "enable_incoming_utp": via.is_utp(), "enable_outgoing_utp": via.is_utp(),
        "in_enc_policy": policy, "out_enc_policy": policy, "allowed_enc_level": 2, "prefer_rc4": true, "rate": FETCH_RATE,
    })
}

impl Foreign for Libtorrent {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn folder(&self) -> &Path {
        self.dir.path()
    }

    fn is_complete(&mut self) -> bool {
        self.now()["seeding"] == true
    }

    fn log(&mut self) -> String {
        self.guard.log()
    }
}

//! aria2: TCP and MSE.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::content::Content;
use crate::foreign::{FETCH_RATE, Foreign, Given, PATIENCE, Via};
use crate::support::process::Guard;
use crate::support::torrent::Torrent;
use crate::support::{TempDir, free_port, temp_dir, text, wait_for};
use crate::tracker::Tracker;

pub struct Aria2 {
    addr: SocketAddr,
    // Before its folder, which holds its log.
    guard: Guard,
    dir: TempDir,
    _tracker: Option<Tracker>,
}

impl Aria2 {
    /// Has all of it.
    pub fn seed(content: &Content, via: Via) -> Aria2 {
        let dir = temp_dir();
        content.lay(dir.path());
        Aria2::start(dir, text(&content.torrent.path), via, None)
    }

    /// Fetches it from us, whom it dials.
    pub fn fetch(content: &Content, given: Given, via: Via, from: SocketAddr) -> Aria2 {
        let tracker = Tracker::start(&[from]);
        let dir = temp_dir();
        let Torrent { path, .. } = content.torrent.with_tracker(&tracker.url());
        let uri = match given {
            Given::Torrent => text(&path).to_owned(),
            Given::Magnet => content.torrent.magnet_by(&tracker.url()),
        };
        Aria2::start(dir, &uri, via, Some(tracker))
    }

    fn start(dir: TempDir, uri: &str, via: Via, tracker: Option<Tracker>) -> Aria2 {
        let port = free_port();
        let mut command = Command::new("aria2c");
        command.env("HOME", dir.path()).args([
            "--no-conf",
            "--no-netrc",
            "--console-log-level=debug",
            "--summary-interval=0",
        ]);
        command.args([
            "--enable-dht=false",
            "--enable-dht6=false",
            "--bt-enable-lpd=false",
            "--enable-peer-exchange=false",
        ]);
        command.args([
            "--check-integrity=true",
            "--bt-hash-check-seed=true",
            "--seed-ratio=0.0",
            "--file-allocation=none",
        ]);
        command.args(["--allow-overwrite=true", "--async-dns=false", "--follow-torrent=mem"]);
        assert!(!via.is_utp(), "aria2 speaks no uTP");
        match via.is_encrypted() {
            true => command.args(["--bt-force-encryption=true"]),
            false => command.args(["--bt-require-crypto=false", "--bt-min-crypto-level=plain"]),
        };
        command.arg(format!("--max-overall-download-limit={FETCH_RATE}"));
        command.args([format!("--listen-port={port}"), format!("--dir={}", text(dir.path()))]).arg(uri);
        let mut guard = Guard::spawn(&mut command, Some(&dir.path().join("log of aria2.txt")));
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        wait_for("aria2's port", PATIENCE, || {
            assert!(guard.runs(), "aria2c ended: {}", guard.log());
            TcpStream::connect(addr).ok()
        });
        Aria2 { addr, dir, guard, _tracker: tracker }
    }
}

impl Foreign for Aria2 {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn folder(&self) -> &Path {
        self.dir.path()
    }

    fn is_complete(&mut self) -> bool {
        assert!(self.guard.runs(), "aria2c ended: {}", self.guard.log());
        self.guard.log().contains("Seeding") || self.guard.log().contains("SEED(")
    }

    fn log(&mut self) -> String {
        self.guard.log()
    }
}

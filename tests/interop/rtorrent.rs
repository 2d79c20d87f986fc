//! rtorrent: TCP and MSE.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::content::Content;
use crate::foreign::{FETCH_RATE, Foreign, Given, PATIENCE, Via};
use crate::support::process::Guard;
use crate::support::{TempDir, free_port, temp_dir, text, wait_for};
use crate::tracker::Tracker;

pub struct Rtorrent {
    addr: SocketAddr,
    // Before its folder, which holds its log.
    guard: Guard,
    dir: TempDir,
    _tracker: Option<Tracker>,
}

impl Rtorrent {
    /// Has all of it.
    pub fn seed(content: &Content, via: Via) -> Rtorrent {
        let dir = temp_dir();
        content.lay(dir.path());
        // Without a tracker or the DHT it refuses a torrent.
        let tracker = Tracker::start(&[]);
        let path = content.torrent.with_tracker(&tracker.url()).path;
        let seed = Rtorrent::start(dir, text(&path), via, Some(tracker));
        wait_for("rtorrent to check its files", PATIENCE, || seed.dir.path().join("checked").exists().then_some(()));
        seed
    }

    /// Fetches it from us, whom it dials.
    pub fn fetch(content: &Content, given: Given, via: Via, from: SocketAddr) -> Rtorrent {
        let tracker = Tracker::start(&[from]);
        let uri = match given {
            Given::Torrent => text(&content.torrent.with_tracker(&tracker.url()).path).to_owned(),
            Given::Magnet => content.torrent.magnet_by(&tracker.url()),
        };
        Rtorrent::start(temp_dir(), &uri, via, Some(tracker))
    }

    fn start(dir: TempDir, uri: &str, via: Via, tracker: Option<Tracker>) -> Rtorrent {
        let (port, d) = (free_port(), text(dir.path()));
        std::fs::create_dir(dir.path().join("session")).unwrap();
        assert!(!via.is_utp(), "rtorrent speaks no uTP");
        let encryption = match via.is_encrypted() {
            true => "allow_incoming,try_outgoing,require,require_RC4",
            false => "none",
        };
        let kb = FETCH_RATE / 1000;
        let config = format!(
            "system.daemon.set = true\n\
             network.bind_address.set = 127.0.0.1\n\
             network.port_range.set = {port}-{port}\n\
             network.port_random.set = no\n\
             session.path.set = {d}/session\n\
             directory.default.set = {d}\n\
             throttle.global_down.max_rate.set_kb = {kb}\n\
             dht.mode.set = disable\n\
             protocol.pex.set = no\n\
             trackers.use_udp.set = no\n\
             protocol.encryption.set = {encryption}\n\
             method.set_key = event.download.finished, interop, \"execute.nothrow=touch,{d}/finished\"\n\
             method.set_key = event.download.hash_done, interop, \"execute.nothrow=touch,{d}/checked\"\n\
             log.open_file = \"all\", {d}/rtorrent.log\n\
             log.add_output = \"debug\", \"all\"\n\
             log.add_output = \"connection_debug\", \"all\"\n\
             schedule2 = load, 0, 0, ((load.start_verbose, \"{uri}\"))\n"
        );
        let file = dir.path().join("rtorrent.rc");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("rtorrent");
        command.current_dir(dir.path()).env("HOME", dir.path()).env("TERM", "dumb");
        command.args(["-n", "-o", &format!("import={}", text(&file))]);
        let mut guard = Guard::spawn(&mut command, Some(&dir.path().join("log of rtorrent.txt")));
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        wait_for("rtorrent's port", PATIENCE, || {
            assert!(guard.runs(), "rtorrent ended: {}", guard.log());
            TcpStream::connect(addr).ok()
        });
        Rtorrent { addr, dir, guard, _tracker: tracker }
    }
}

impl Foreign for Rtorrent {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn folder(&self) -> &Path {
        self.dir.path()
    }

    fn is_complete(&mut self) -> bool {
        assert!(self.guard.runs(), "rtorrent ended: {}", self.guard.log());
        self.dir.path().join("finished").exists()
    }

    fn log(&mut self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("rtorrent.log")).unwrap_or_default();
        format!("{}{log}", self.guard.log())
    }
}

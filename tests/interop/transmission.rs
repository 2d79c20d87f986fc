//! Transmission: TCP, uTP and MSE. It dials nobody on loopback, so there we dial it.

use std::net::SocketAddr;
use std::path::Path;

use crate::content::Content;
use crate::foreign::{FETCH_RATE, Foreign, Given, Via};
use crate::support::seed::{Daemon, Ways};
use crate::support::temp_dir;

pub struct Transmission {
    daemon: Daemon,
}

impl Transmission {
    /// Has all of it.
    pub fn seed(content: &Content, via: Via) -> Transmission {
        let dir = temp_dir();
        content.lay(dir.path());
        let daemon = Daemon::start(dir, &ways(via));
        daemon.add(crate::support::text(&content.torrent.path));
        daemon.seeds();
        Transmission { daemon }
    }

    /// Waits for us to dial it, and fetches it from us.
    pub fn fetch(content: &Content, given: Given, via: Via) -> Transmission {
        let daemon = Daemon::start(temp_dir(), &ways(via));
        match given {
            Given::Torrent => daemon.add(crate::support::text(&content.torrent.path)),
            Given::Magnet => daemon.add(&content.torrent.magnet()),
        }
        Transmission { daemon }
    }
}

fn ways(via: Via) -> Ways {
    let down_kb_per_s = Some(FETCH_RATE / 1000);
    Ways { down_kb_per_s, utp: via.is_utp(), encryption: if via.is_encrypted() { 2 } else { 0 }, ..Ways::default() }
}

impl Foreign for Transmission {
    fn addr(&self) -> SocketAddr {
        self.daemon.addr
    }

    fn folder(&self) -> &Path {
        self.daemon.folder()
    }

    fn is_complete(&mut self) -> bool {
        let t = self.daemon.torrent();
        assert_eq!(t["errorString"].as_str().unwrap_or(""), "");
        t["percentDone"] == 1.0 && t["metadataPercentComplete"] == 1.0 && t["status"] == 6
    }

    fn log(&mut self) -> String {
        format!("{:#}\n{}", self.daemon.torrent(), self.daemon.log())
    }
}

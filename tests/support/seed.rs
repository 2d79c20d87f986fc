//! A Transmission daemon as the foreign peer: it dials nobody on loopback, and is found only by whoever is given its address.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::process::Guard;
use super::torrent::Torrent;
use super::{TempDir, free_port, temp_dir, text, wait_for};

/// A daemon, and where it keeps what it has.
pub struct Daemon {
    pub addr: SocketAddr,
    rpc_port: u16,
    // Before its home, which holds its log.
    guard: Guard,
    _home: TempDir,
    folder: PathBuf,
}

/// What a daemon does besides plain TCP from whoever dials it.
#[derive(Debug, Clone)]
pub struct Ways {
    pub utp: bool,
    /// 0 prefers none, 2 requires it.
    pub encryption: u8,
    pub pex: bool,
    pub lpd: bool,
    /// Where it takes peers, of either family.
    pub host: IpAddr,
    /// Upload limit.
    pub kb_per_s: Option<u32>,
    pub down_kb_per_s: Option<u32>,
}

impl Default for Ways {
    fn default() -> Ways {
        Ways {
            utp: false,
            encryption: 0,
            pex: false,
            lpd: false,
            host: [127, 0, 0, 1].into(),
            kb_per_s: None,
            down_kb_per_s: None,
        }
    }
}

impl Daemon {
    /// Starts one that keeps its content in a folder of its own, and waits until it listens.
    pub fn start(folder: TempDir, ways: &Ways) -> Daemon {
        let path = folder.path().to_owned();
        Daemon::start_in(folder, path, ways)
    }

    /// The same with its content anywhere.
    fn start_in(home: TempDir, folder: PathBuf, ways: &Ways) -> Daemon {
        let (peer_port, rpc_port) = (free_port(), free_port());
        let (v4, v6) = match ways.host {
            IpAddr::V4(v4) => (v4.to_string(), "::1".to_owned()),
            IpAddr::V6(v6) => ("127.0.0.1".to_owned(), v6.to_string()),
        };
        let settings = json!({
            "rpc-enabled": true, "rpc-port": rpc_port, "rpc-bind-address": "127.0.0.1", "rpc-whitelist-enabled": false,
            "rpc-host-whitelist-enabled": false, "rpc-authentication-required": false,
            "peer-port": peer_port, "bind-address-ipv4": v4, "bind-address-ipv6": v6,
            "peer-port-random-on-start": false, "port-forwarding-enabled": false,
            "dht-enabled": false, "lpd-enabled": ways.lpd, "utp-enabled": ways.utp, "pex-enabled": ways.pex,
            "encryption": ways.encryption, "download-dir": text(&folder), "incomplete-dir-enabled": false,
            "watch-dir-enabled": false, "speed-limit-up-enabled": ways.kb_per_s.is_some(),
            "speed-limit-up": ways.kb_per_s.unwrap_or(0), "speed-limit-down-enabled": ways.down_kb_per_s.is_some(),
            "speed-limit-down": ways.down_kb_per_s.unwrap_or(0), "ratio-limit-enabled": false, "upload-slots-per-torrent": 14,
            "message-level": 3,
        });
        let config = home.path().join("transmission's own");
        std::fs::create_dir(&config).unwrap();
        std::fs::write(config.join("settings.json"), settings.to_string()).unwrap();
        let mut guard = Guard::spawn(
            Command::new("transmission-daemon")
                .args(["--foreground", "--config-dir", text(&config)])
                .env("HOME", &config)
                .env_remove("TRANSMISSION_WEB_HOME"),
            Some(&config.join("log")),
        );
        let addr = (ways.host, peer_port).into();
        wait_for("Transmission's RPC", Duration::from_secs(60), || {
            assert!(guard.runs(), "transmission-daemon ended: {}", guard.log());
            rpc(rpc_port, "session-get", json!({})).ok()
        });
        Daemon { addr, rpc_port, guard, _home: home, folder }
    }

    /// Adds its torrent: a path or a magnet link.
    pub fn add(&self, what: &str) {
        let added = self.rpc("torrent-add", json!({"filename": what, "paused": false}));
        assert!(added.as_ref().is_ok_and(|a| a["result"] == "success"), "torrent-add: {added:?}");
    }

    /// Waits until it has checked what lies there, and has all of it.
    pub fn seeds(&self) {
        wait_for("Transmission to seed", Duration::from_secs(90), || {
            let t = self.torrent();
            // Status 6 is "seeding".
            (t["status"] == 6 && t["percentDone"] == 1.0).then_some(())
        });
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it says of its torrent.
    pub fn torrent(&self) -> Value {
        let fields = ["status", "percentDone", "metadataPercentComplete", "uploadedEver", "peers", "errorString"];
        self.rpc("torrent-get", json!({ "fields": fields })).unwrap()["arguments"]["torrents"][0].clone()
    }

    pub fn log(&self) -> String {
        self.guard.log()
    }

    fn rpc(&self, method: &str, arguments: Value) -> std::io::Result<Value> {
        rpc(self.rpc_port, method, arguments)
    }
}

/// A daemon that seeds one torrent from where its content lies.
pub struct Seed {
    pub addr: SocketAddr,
    daemon: Daemon,
}

impl Seed {
    /// Seeds the torrent's content; returns once it has checked all of it. `kb_per_s` limits its upload.
    pub fn start(torrent: &Torrent, kb_per_s: Option<u32>) -> Seed {
        let ways = Ways { kb_per_s, ..Ways::default() };
        let daemon = Daemon::start_in(temp_dir(), torrent.content_dir.clone(), &ways);
        daemon.add(text(&torrent.path));
        daemon.seeds();
        Seed { addr: daemon.addr, daemon }
    }

    /// Bytes it has uploaded.
    pub fn uploaded(&self) -> u64 {
        self.daemon.torrent()["uploadedEver"].as_u64().unwrap()
    }

    /// Client names of the peers it sees.
    pub fn peers(&self) -> Vec<String> {
        let peers = self.daemon.torrent()["peers"].as_array().cloned().unwrap_or_default();
        peers.iter().filter_map(|p| p["clientName"].as_str().map(str::to_owned)).collect()
    }
}

fn rpc(port: u16, method: &str, arguments: Value) -> std::io::Result<Value> {
    let body = json!({"method": method, "arguments": arguments}).to_string();
    let mut session = String::new();
    // The first answer is a 409 that names the session id to come back with.
    for _ in 0..2 {
        let mut s = TcpStream::connect(("127.0.0.1", port))?;
        s.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            s,
            "POST /transmission/rpc HTTP/1.0\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
             X-Transmission-Session-Id: {session}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = Vec::new();
        s.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, rest) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        if head.contains(" 200 ") {
            return Ok(serde_json::from_str(rest)?);
        }
        let id = head.lines().find_map(|l| l.strip_prefix("X-Transmission-Session-Id: "));
        session = id.unwrap_or_default().to_owned();
    }
    Err(std::io::Error::other("Transmission refused the RPC"))
}

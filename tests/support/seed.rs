//! A Transmission daemon as the foreign peer: it seeds, and is found only by whoever is given its address.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::process::Guard;
use super::torrent::Torrent;
use super::{TempDir, free_port, temp_dir, text, wait_for};

/// A daemon with one torrent.
pub struct Seed {
    pub addr: SocketAddr,
    rpc_port: u16,
    _dir: TempDir,
    guard: Guard,
}

impl Seed {
    /// Seeds the torrent's content; returns once it has checked all of it. `kb_per_s` limits its upload.
    pub fn start(torrent: &Torrent, kb_per_s: Option<u32>) -> Seed {
        let (dir, peer_port, rpc_port) = (temp_dir(), free_port(), free_port());
        let settings = json!({
            "rpc-enabled": true, "rpc-port": rpc_port, "rpc-bind-address": "127.0.0.1", "rpc-whitelist-enabled": false,
            "rpc-host-whitelist-enabled": false, "rpc-authentication-required": false,
            "peer-port": peer_port, "bind-address-ipv4": "127.0.0.1", "bind-address-ipv6": "::1",
            "peer-port-random-on-start": false, "port-forwarding-enabled": false,
            "dht-enabled": false, "lpd-enabled": false, "utp-enabled": false, "pex-enabled": false, "encryption": 0,
            "download-dir": text(&torrent.content_dir), "incomplete-dir-enabled": false, "watch-dir-enabled": false,
            "speed-limit-up-enabled": kb_per_s.is_some(), "speed-limit-up": kb_per_s.unwrap_or(0),
            "ratio-limit-enabled": false, "upload-slots-per-torrent": 14, "message-level": 3,
        });
        std::fs::write(dir.path().join("settings.json"), settings.to_string()).unwrap();
        let guard = Guard::spawn(
            Command::new("transmission-daemon")
                .args(["--foreground", "--config-dir", text(dir.path())])
                .env("HOME", dir.path())
                .env_remove("TRANSMISSION_WEB_HOME"),
            Some(&dir.path().join("log")),
        );
        let mut seed = Seed { addr: ([127, 0, 0, 1], peer_port).into(), rpc_port, _dir: dir, guard };
        wait_for("Transmission's RPC", Duration::from_secs(60), || {
            assert!(seed.guard.runs(), "transmission-daemon ended: {}", seed.guard.log());
            seed.rpc("session-get", json!({})).ok()
        });
        let added = seed.rpc("torrent-add", json!({"filename": text(&torrent.path), "paused": false}));
        assert!(added.as_ref().is_ok_and(|a| a["result"] == "success"), "torrent-add: {added:?}");
        wait_for("Transmission to seed", Duration::from_secs(60), || {
            // Status 6 is "seeding", after it checked what lies there.
            (seed.torrent()["status"] == 6).then_some(())
        });
        seed
    }

    /// Bytes it has uploaded.
    pub fn uploaded(&self) -> u64 {
        self.torrent()["uploadedEver"].as_u64().unwrap()
    }

    /// Client names of the peers it sees.
    pub fn peers(&self) -> Vec<String> {
        let peers = self.torrent()["peers"].as_array().cloned().unwrap_or_default();
        peers.iter().filter_map(|p| p["clientName"].as_str().map(str::to_owned)).collect()
    }

    fn torrent(&self) -> Value {
        let fields = json!({"fields": ["status", "percentDone", "uploadedEver", "peers", "errorString"]});
        self.rpc("torrent-get", fields).unwrap()["arguments"]["torrents"][0].clone()
    }

    fn rpc(&self, method: &str, arguments: Value) -> std::io::Result<Value> {
        let body = json!({"method": method, "arguments": arguments}).to_string();
        let mut session = String::new();
        // The first answer is a 409 that names the session id to come back with.
        for _ in 0..2 {
            let mut s = TcpStream::connect(("127.0.0.1", self.rpc_port))?;
            s.set_read_timeout(Some(Duration::from_secs(60)))?;
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
}

//! Against a real Transmission, started here on loopback; skipped, loudly, where it is not installed.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use librqbit_sha1_wrapper::{ISha1, Sha1};

use super::book::Way;
use super::tests::{Side, config};
use super::*;
use crate::torrent::InfoHash;
use crate::units::{Layout, PieceSet};

const PIECE_LEN: u32 = 32 * 1024;

/// A daemon that seeds one file; ended with this value, by its process id.
struct Daemon {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut sha = Sha1::new();
    sha.update(bytes);
    sha.finish()
}

/// How the daemon may be reached.
#[derive(Clone, Copy, Default)]
struct Net {
    /// Required, not only allowed.
    encrypted: bool,
    utp: bool,
}

/// Makes the file and its torrent and starts the daemon on them. Gives the torrent's info dictionary.
fn seed(dir: &Path, data: &[u8], net: Net) -> Option<(Daemon, Bytes)> {
    let (file, torrent, cfg) = (dir.join("film.bin"), dir.join("film.torrent"), dir.join("config"));
    std::fs::write(&file, data).unwrap();
    std::fs::create_dir_all(cfg.join("torrents")).unwrap();
    let made = Command::new("transmission-create").args(["-s", "32", "-o"]).args([&torrent, &file]).output().ok()?;
    assert!(made.status.success(), "{made:?}");
    let bytes = std::fs::read(&torrent).unwrap();
    let at = bytes.windows(6).position(|w| w == b"4:info").unwrap() + 6;
    // The info dictionary is a value of its own; what follows it tells its length.
    let (_, rest) = super::benc::Value::read(&bytes[at..]).unwrap();
    let info = Bytes::copy_from_slice(&bytes[at..bytes.len() - rest.len()]);
    // By this name alone it finds the metadata again when a peer asks for it.
    std::fs::copy(&torrent, cfg.join(format!("torrents/{}.torrent", InfoHash(sha1(&info))))).unwrap();
    let (peers, rpc) = (free_port(), free_port());
    let settings = serde_json::json!({
        "bind-address-ipv4": "127.0.0.1", "bind-address-ipv6": "::1", "peer-port": peers, "rpc-port": rpc,
        "rpc-bind-address": "127.0.0.1", "dht-enabled": false, "lpd-enabled": false, "pex-enabled": false,
        "utp-enabled": net.utp, "port-forwarding-enabled": false, "download-dir": dir, "start-added-torrents": true,
        "encryption": if net.encrypted { 2 } else { 0 },
    });
    std::fs::write(cfg.join("settings.json"), settings.to_string()).unwrap();
    let mut command = Command::new("transmission-daemon");
    command.args(["--foreground", "--no-auth", "--config-dir"]).arg(&cfg).args(["--download-dir"]).arg(dir);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
    let daemon = Daemon { child, addr: SocketAddr::from(([127, 0, 0, 1], peers)) };
    // A file found on disk is not looked at unless asked, and who links before that hears of no piece, ever.
    let asked = std::time::Instant::now();
    let remote = |args: &[&str]| {
        let out = Command::new("transmission-remote").arg(rpc.to_string()).args(args).output();
        out.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
    };
    for turn in 0.. {
        // Asked too early it forgets.
        if turn % 40 == 0 {
            remote(&["-t", "1", "-v"]);
        }
        if remote(&["-t", "1", "-i"]).contains("Percent Done: 100%") {
            break;
        }
        assert!(asked.elapsed() < Duration::from_secs(90), "the daemon does not get ready");
        std::thread::sleep(Duration::from_millis(50));
    }
    Some((daemon, info))
}

/// Metadata, bitfield, unchoke (up to ten seconds on its side) and a block, from a magnet link's knowledge alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transmission_gives_metadata_bitfield_and_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let data: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let Some((daemon, info)) = seed(dir.path(), &data, Net::default()) else {
        eprintln!("transmission-daemon is not installed: nothing was tested");
        return;
    };
    let mut side = Side::start(config(sha1(&info), vec![daemon.addr]), None);
    let metadata = side
        .until("metadata", |e| match e {
            SwarmEvent::Metadata(b) => Some(b.clone()),
            _ => None,
        })
        .await;
    assert_eq!(metadata, info);
    let layout = Layout::new(data.len() as u64, PIECE_LEN).unwrap();
    let have = PieceSet::new(layout.piece_count());
    side.swarm.set_torrent(KnownTorrent { layout, info_bytes: metadata, private: false, have });
    assert!(side.bitfield().await.is_full());
    let client = |e: &SwarmEvent| match e {
        SwarmEvent::Client { client, .. } => Some(client.clone()),
        _ => None,
    };
    assert!(side.log.iter().find_map(client).unwrap().starts_with("Transmission"));
    let link = side.log.iter().rev().find_map(|e| match e {
        SwarmEvent::Bitfield { link, .. } => Some(*link),
        _ => None,
    });
    let link = link.unwrap();
    side.swarm.send(link, LinkCommand::Interested(true));
    side.until("unchoke", |e| matches!(e, SwarmEvent::Unchoked { .. }).then_some(())).await;
    let last = PieceIndex(layout.piece_count() - 1);
    let range = layout.piece_range(last);
    for (piece, begin, len) in [(PieceIndex(1), 16384, 16384), (last, 0, range.len() as u32)] {
        side.swarm.send(link, LinkCommand::Request { piece, begin, len });
        let got = side
            .until("block", |e| match e {
                SwarmEvent::Block { data, .. } => Some(data.clone()),
                _ => None,
            })
            .await;
        let at = layout.piece_range(piece).start as usize + begin as usize;
        assert_eq!(got, data[at..at + len as usize]);
    }
    drop(daemon);
    side.down().await;
}

/// Blocks of one that takes encrypted links only, over TCP and over uTP.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transmission_gives_blocks_encrypted_and_over_utp() {
    let data: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_246_822_519) >> 24) as u8).collect();
    let layout = Layout::new(data.len() as u64, PIECE_LEN).unwrap();
    for net in [Net { encrypted: true, utp: false }, Net { encrypted: true, utp: true }] {
        let dir = tempfile::tempdir().unwrap();
        let Some((daemon, info_bytes)) = seed(dir.path(), &data, net) else {
            eprintln!("transmission-daemon is not installed: nothing was tested");
            return;
        };
        let mut have = PieceSet::new(layout.piece_count());
        have.insert(PieceIndex(0));
        let hash = sha1(&info_bytes);
        let torrent = KnownTorrent { layout, info_bytes, private: false, have };
        let mut side = Side::start(SwarmConfig { utp: net.utp, ..config(hash, vec![]) }, Some(torrent));
        {
            let mut book = side.swarm.shared.book.lock();
            book.add(daemon.addr, LinkSource::User, Instant::now());
            book.went(daemon.addr, Way { utp_first: net.utp, ..Way::default() });
        }
        side.swarm.shared.dial.notify_one();
        let (link, info) = side.up().await;
        assert_eq!((info.encrypted, info.utp, info.addr), (net.encrypted, net.utp, daemon.addr));
        assert!(side.bitfield().await.is_full());
        side.swarm.send(link, LinkCommand::Interested(true));
        side.until("unchoke", |e| matches!(e, SwarmEvent::Unchoked { .. }).then_some(())).await;
        let spans: Vec<_> = (1..layout.piece_count()).flat_map(|p| [(p, 0u32), (p, 16384)]).collect();
        let range = |p, begin: u32| {
            let r = layout.piece_range(PieceIndex(p));
            let at = (r.start + u64::from(begin)) as usize;
            at..(at + 16384).min(r.end as usize)
        };
        let mut wanted: Vec<_> = spans.into_iter().filter(|(p, b)| !range(*p, *b).is_empty()).collect();
        for (p, begin) in &wanted {
            let len = range(*p, *begin).len() as u32;
            side.swarm.send(link, LinkCommand::Request { piece: PieceIndex(*p), begin: *begin, len });
        }
        while !wanted.is_empty() {
            let (p, begin, got) = side
                .until("block", |e| match e {
                    SwarmEvent::Block { piece, begin, data, .. } => Some((piece.0, *begin, data.clone())),
                    _ => None,
                })
                .await;
            assert_eq!(got, data[range(p, begin)]);
            wanted.retain(|w| *w != (p, begin));
        }
    }
}

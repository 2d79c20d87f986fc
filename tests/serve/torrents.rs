//! Torrents with the server as web seed, and the server as a peer.

use std::io::{Read, Write};
use std::net::TcpStream;

use sluicegate::torrent::Metainfo;

use super::support::origin::{LIMIT, Origin};
use super::support::{free_port, temp_dir, text, wait_for};

/// Bytes whose value tells their offset.
fn film(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

/// A plain handshake and a request for the first block of piece 0, which must come.
fn first_block(port: u16, info_hash: [u8; 20]) -> Vec<u8> {
    let mut tcp = wait_for("the peer", LIMIT, || TcpStream::connect(("127.0.0.1", port)).ok());
    tcp.set_read_timeout(Some(LIMIT)).unwrap();
    let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    hello.extend(info_hash);
    hello.extend(b"-TE0001-abcdefghijkl");
    tcp.write_all(&hello).unwrap();
    let mut answer = [0; 68];
    tcp.read_exact(&mut answer).unwrap();
    assert_eq!(answer[28..48], info_hash);
    // Interested.
    tcp.write_all(&[0, 0, 0, 1, 2]).unwrap();
    loop {
        let mut len = [0; 4];
        tcp.read_exact(&mut len).unwrap();
        let mut message = vec![0; u32::from_be_bytes(len) as usize];
        tcp.read_exact(&mut message).unwrap();
        match message.first() {
            // Unchoked: 16 KiB at the start of piece 0.
            Some(1) => tcp.write_all(&[0, 0, 0, 13, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x40, 0]).unwrap(),
            Some(7) => return message.split_off(9),
            _ => {}
        }
    }
}

#[test]
fn torrents_are_made_once_name_the_server_and_are_seeded_from_where_the_files_lie() {
    let dir = temp_dir();
    let (folder, out) = (dir.path().join("Season 1"), dir.path().join("torrents"));
    std::fs::create_dir(&folder).unwrap();
    let (one, two) = (film(150_000), film(70_000));
    std::fs::write(folder.join("e1.mkv"), &one).unwrap();
    std::fs::write(folder.join("e2.mkv"), &two).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("e2.mkv", folder.join("e3.mkv")).unwrap();
    let port = free_port();
    let seed = format!("127.0.0.1:{port}");
    let out = text(&out);
    let args = [text(&folder), "--torrent-out", out, "--tracker", "http://127.0.0.1:1/announce", "--seed", "--no-dht"];
    let args = [&args[..], &["--seed-listen", &seed]].concat();
    let mut server = Origin::start(&args);
    let made = std::fs::read(format!("{out}/Season 1.torrent")).unwrap();
    let meta = Metainfo::parse(&made).unwrap();
    assert_eq!(meta.web_seeds, [format!("http://127.0.0.1:{}/", server.port)]);
    assert_eq!(meta.trackers, [["http://127.0.0.1:1/announce"]]);
    let log = server.guard.log();
    assert!(log.contains("(made)") && log.contains("&ws=") && log.contains("magnet:?xt=urn:btih:"), "{log}");
    // The web seed is where BEP 19 puts it.
    assert_eq!(server.get("/Season%201/e2.mkv", &[]).body, two);
    assert_eq!(first_block(port, meta.info_hash.0), &one[..16 * 1024]);
    // Bids name it, and nothing else.
    assert!(std::fs::read_dir(&folder).unwrap().count() == 3, "nothing is written where the films are");
    server.guard.signal(libc::SIGINT);
    server.ends(0);

    let mut again = Origin::start(&args);
    assert!(again.guard.log().contains("(was there)"), "{}", again.guard.log());
    let moved = Metainfo::parse(&std::fs::read(format!("{out}/Season 1.torrent")).unwrap()).unwrap();
    assert_eq!(moved.info_hash, meta.info_hash);
    assert_eq!(moved.web_seeds, [format!("http://127.0.0.1:{}/", again.port)]);
    again.guard.signal(libc::SIGTERM);
    again.ends(0);
}

//! Torrents of odd shapes, made by libtorrent or with it on the other side.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::content::Content;
use crate::foreign::{Foreign, Given, Via};
use crate::libtorrent::{self, Libtorrent};
use crate::ours::Ours;
use crate::support::process::tool;
use crate::support::text;
use crate::support::torrent::Torrent;

/// A torrent that libtorrent makes: with padding files (BEP 47), of v1 alone or of v1 and v2 at once (BEP 52).
fn made_by_libtorrent(content: &Path, into: &Path, piece_kib: u32, hybrid: bool) -> Torrent {
    let name = content.file_name().unwrap().to_str().unwrap().to_owned();
    let path = into.join(format!("{name}.torrent"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/create.py");
    let job = json!({"content": text(content), "into": text(&path), "piece": piece_kib * 1024, "hybrid": hybrid});
    let out =
        tool(Command::new(libtorrent::python()).env("PYTHONDONTWRITEBYTECODE", "1").arg(script).arg(job.to_string()));
    let info_hash = String::from_utf8(out.stdout).unwrap().trim().to_owned();
    assert_eq!(info_hash.len(), 40, "{info_hash}");
    Torrent { path, info_hash, content_dir: content.parent().unwrap().to_owned(), name }
}

/// All of it from libtorrent, and all of it to libtorrent.
fn goes_both_ways(content: &Content, given: Given) {
    let mut seed = Libtorrent::seed(content, Via::Tcp);
    let ours = Ours::start(content, given, &[seed.addr()], false, |_| ());
    ours.fetches_all(content, &mut seed);
    drop(ours);
    let ours = Ours::seed(content, Via::Tcp);
    Libtorrent::fetch(content, given, Via::Tcp, ours.addr).completes(content);
}

/// Odd lengths, so that a padding file follows nearly each.
const SIZES: [usize; 9] = [40_000, 1, 32_768, 0, 16_385, 1_500_001, 77, 32_767, 100_000];

#[test]
fn pieces_of_four_mebibytes() {
    if libtorrent::is_here() {
        let content = Content::of(&[5_000_003, 17, 2_000_000], 4096, Torrent::of);
        goes_both_ways(&content, Given::Torrent);
    }
}

#[test]
fn a_hundred_files_within_a_few_pieces() {
    if libtorrent::is_here() {
        let sizes: Vec<usize> = (0..100).map(|i| i * i % 3001).collect();
        goes_both_ways(&Content::of(&sizes, 64, Torrent::of), Given::Magnet);
    }
}

#[test]
fn padding_files() {
    if libtorrent::is_here() {
        let content = Content::of(&SIZES, 32, |c, into, kib| made_by_libtorrent(c, into, kib, false));
        let bytes = std::fs::read(&content.torrent.path).unwrap();
        assert!(bytes.windows(4).any(|w| w == b".pad"), "no padding files: the test tests nothing");
        goes_both_ways(&content, Given::Torrent);
    }
}

#[test]
fn a_hybrid_of_v1_and_v2() {
    if libtorrent::is_here() {
        let content = Content::of(&SIZES, 32, |c, into, kib| made_by_libtorrent(c, into, kib, true));
        let bytes = std::fs::read(&content.torrent.path).unwrap();
        assert!(bytes.windows(9).any(|w| w == b"file tree"), "not of v2 as well: the test tests nothing");
        goes_both_ways(&content, Given::Torrent);
        goes_both_ways(&content, Given::Magnet);
    }
}

#[test]
fn over_ipv6() {
    if !libtorrent::is_here() || std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("no IPv6 on loopback, or no libtorrent: nothing was tested");
        return;
    }
    let content = Content::folder();
    let mut seed = Libtorrent::start(&content, Given::Torrent, true, &[], "::1", json!({}));
    seed.wait("its files to be checked", |now| (now["seeding"] == true).then_some(()));
    let on_v6 = |c: &mut sluicegate::stream::StreamConfig| {
        c.listen = Some(([0u16, 0, 0, 0, 0, 0, 0, 1], c.listen.unwrap().port()).into());
    };
    let ours = Ours::start(&content, Given::Magnet, &[seed.addr()], false, on_v6);
    ours.fetches(&content, &mut seed);
    drop(ours);
    let ours = Ours::start(&content, Given::Torrent, &[], true, on_v6);
    ours.is_whole();
    let mut it = Libtorrent::start(&content, Given::Magnet, false, &[ours.addr], "::1", json!({}));
    it.completes(&content);
}

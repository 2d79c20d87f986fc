//! Real, odd and hostile torrents.

use std::path::PathBuf;

use proptest::prelude::*;

use super::super::testing::{TestFile, info, string, torrent};
use super::*;

fn single(fields: &[(&str, Vec<u8>)], piece_len: i64, hashes: usize) -> Result<Metainfo, TorrentError> {
    let info = info(fields, piece_len, &vec![7; hashes * 20]);
    Metainfo::parse(&[b"d4:info", info.as_slice(), b"e"].concat())
}

fn with(top: &str) -> Metainfo {
    let info = info(&[("length", b"i5e".to_vec()), ("name", string(b"a.mkv"))], 16384, &[0; 20]);
    Metainfo::parse(&[b"d", top.as_bytes(), b"4:info", &info, b"e"].concat()).unwrap()
}

#[test]
fn a_single_file_torrent() {
    let m = single(&[("length", b"i40000e".to_vec()), ("name", string(b"f:ilm.mkv"))], 16384, 3).unwrap();
    assert!(!m.multi_file && !m.private);
    assert_eq!((m.files.len(), m.layout.piece_count()), (1, 3));
    assert_eq!(m.files[0].path, PathBuf::from("f_ilm.mkv"));
    assert_eq!(m.files[0].display, "f:ilm.mkv");
    assert_eq!(m.hash_of(crate::units::PieceIndex(2)), Some([7; 20]));
    assert_eq!(m.info_hash, sha1(&m.info_bytes));
}

#[test]
fn files_lie_end_to_end_with_padding_between() {
    let files = [TestFile::new("s/a.mkv", 100), TestFile::pad(28), TestFile::new("empty", 0), TestFile::new("b", 30)];
    let m = torrent("show", &files, 128).meta();
    let ranges: Vec<_> = m.files.iter().map(|f| (f.range.start, f.range.end, f.padding)).collect();
    assert_eq!(ranges, [(0, 100, false), (100, 128, true), (128, 128, false), (128, 158, false)]);
    assert_eq!(m.files[0].path, PathBuf::from("s/a.mkv"));
    assert!(m.multi_file);
}

#[test]
fn paths_cannot_leave_the_folder() {
    let mut up = TestFile::new("x", 1);
    up.path = vec![b"..".to_vec(), b"/etc".to_vec(), b"C:\\x".to_vec(), b"".to_vec()];
    let m = torrent("..", &[up], 64).meta();
    assert_eq!(m.files[0].path, PathBuf::from("_/_etc/C__x/_"));
}

#[test]
fn names_in_an_old_code_page_are_told_by_their_look() {
    // "Фильм про войну.avi" in Windows-1251.
    let name = [
        0xd4, 0xe8, 0xeb, 0xfc, 0xec, 0x20, 0xef, 0xf0, 0xee, 0x20, 0xe2, 0xee, 0xe9, 0xed, 0xf3, 0x2e, 0x61, 0x76,
        0x69,
    ];
    let m = single(&[("length", b"i5e".to_vec()), ("name", string(&name))], 16384, 1).unwrap();
    assert_eq!(m.name, "Фильм про войну.avi");
    let utf8 = ("name.utf-8", string("Фильм.avi".as_bytes()));
    let m = single(&[("length", b"i5e".to_vec()), ("name", string(&name)), utf8], 16384, 1).unwrap();
    assert_eq!(m.name, "Фильм.avi");
}

#[test]
fn trackers_come_in_tiers_and_the_list_replaces_announce() {
    let m = with(
        "8:announce17:http://a.example/13:announce-listll17:http://b.example/17:http://b.example/el16:udp://c.example:ee",
    );
    assert_eq!(m.trackers, [vec!["http://b.example/"], vec!["udp://c.example:"]]);
    assert_eq!(with("8:announce17:http://a.example/").trackers, [["http://a.example/"]]);
    assert_eq!(with("8:announce17:http://a.example/13:announce-listle").trackers, [["http://a.example/"]]);
    // A flat list, seen in the wild, and a scheme that nothing here speaks.
    assert_eq!(with("13:announce-listl17:http://a.example/e").trackers, [["http://a.example/"]]);
    assert_eq!(with("13:announce-listll15:wss://a.exampleee").trackers, Vec::<Vec<String>>::new());
    assert!(with("8:announcei5e13:announce-list3:abc").trackers.is_empty());
}

#[test]
fn web_seeds_come_as_a_string_or_a_list() {
    assert_eq!(with("8:url-list17:http://w.example/").web_seeds, ["http://w.example/"]);
    assert_eq!(
        with("8:url-listl17:http://w.example/17:http://w.example/0:18:https://x.example/i3e11:ftp://nope/e").web_seeds,
        ["http://w.example/", "https://x.example/"]
    );
    assert!(with("8:url-list0:").web_seeds.is_empty());
}

#[test]
fn dht_nodes_are_kept_but_of_a_private_torrent() {
    let m = with("5:nodesll14:router.examplei6881eel3:::1i5eel1:hi0eel1:hi70000eeli5ei6eel1:aei5el9:a b.exampi5eee");
    assert_eq!(m.nodes, [("router.example".to_owned(), 6881), ("::1".to_owned(), 5)]);
    assert!(with("5:nodes3:abc").nodes.is_empty());
    let many = format!("5:nodesl{}e", "l1:hi5ee".repeat(1000));
    assert_eq!(with(&many).nodes.len(), 32);
    let info =
        info(&[("length", b"i5e".to_vec()), ("name", string(b"a")), ("private", b"i1e".to_vec())], 16384, &[0; 20]);
    // Out of order, as in the wild: `private` before `piece length`.
    let private = Metainfo::parse(&[b"d5:nodesll1:hi5eee4:info", info.as_slice(), b"e"].concat());
    assert!(private.is_ok_and(|m| m.private && m.nodes.is_empty()));
}

#[test]
fn padding_of_every_age_is_known() {
    for path in [".pad/28", "_____padding_file_0_if you see this file, please update", ".____padding_file/0"] {
        let mut pad = TestFile::new(path, 28);
        pad.padding = path.starts_with(".pad");
        let m = torrent("show", &[TestFile::new("a", 100), pad, TestFile::new("b", 30)], 128).meta();
        assert_eq!(m.files.iter().map(|f| f.padding).collect::<Vec<_>>(), [false, true, false], "{path}");
    }
    assert!(torrent("x", &[TestFile::new(".____padding_file", 9)], 64).meta().files.iter().all(|f| !f.padding));
}

#[test]
fn links_and_flags_of_files_are_listed_and_never_made() {
    let files =
        b"ld4:attr1:l4:pathl4:linke12:symlink pathl2:..6:passwdeed4:attr2:xh6:lengthi5e4:pathl3:runeee".to_vec();
    let m = single(&[("files", files), ("name", string(b"a"))], 16384, 1).unwrap();
    let shown: Vec<_> = m.files.iter().map(|f| (f.display.as_str(), f.range.len(), f.padding)).collect();
    assert_eq!(shown, [("link", 0, false), ("run", 5, false)]);
}

#[test]
fn a_magnets_metadata_must_have_its_hash() {
    let t = torrent("show", &[TestFile::new("a.mkv", 100)], 64);
    let mut magnet = Magnet::parse(&sha1(&t.info).to_string()).unwrap();
    magnet.trackers = vec!["udp://t.example:1".into(), "udp://u.example:1".into()];
    magnet.web_seeds = vec!["http://w.example/".into()];
    let m = Metainfo::from_info(t.info.clone().into(), &magnet).unwrap();
    assert_eq!((m.trackers.len(), m.web_seeds.len(), m.files.len()), (2, 1, 1));
    assert_eq!(m.info_hash, t.meta().info_hash);
    let mut other = t.info.clone();
    *other.last_mut().unwrap() = b'f';
    assert_eq!(Metainfo::from_info(other.into(), &magnet).unwrap_err(), TorrentError::WrongMetadata);
}

#[test]
fn version_two_alone_is_said_and_a_hybrid_is_played() {
    let tree = [("file tree", b"d1:ad0:d6:lengthi5eeee".to_vec()), ("meta version", b"i2e".to_vec())];
    let v2 = b"d4:infod9:file treed1:ad0:d6:lengthi5eeee12:meta versioni2e4:name1:a12:piece lengthi16384eee";
    assert_eq!(Metainfo::parse(v2).unwrap_err(), TorrentError::V2Only);
    let [a, b] = tree;
    let m = single(&[a, ("length", b"i5e".to_vec()), b, ("name", string(b"a"))], 16384, 1).unwrap();
    assert_eq!(m.layout.total_len(), 5);
}

#[test]
fn each_lie_is_found() {
    use TorrentError as E;
    let name = || ("name", string(b"a"));
    let len = |n: &str| ("length", n.as_bytes().to_vec());
    let cases: [(Result<Metainfo, E>, E); 11] = [
        (single(&[len("i-5e"), name()], 16384, 1), BAD_LENGTH),
        (single(&[len("i0e"), name()], 16384, 0), E::Empty),
        (single(&[name()], 16384, 1), E::Missing("length")),
        (single(&[len("i5e"), name()], 0, 1), E::PieceLength(0)),
        (single(&[len("i5e"), name()], -1, 1), E::PieceLength(-1)),
        (single(&[len("i5e"), name()], (1 << 32) + 16384, 1), E::PieceLength((1 << 32) + 16384)),
        (single(&[len("i5e"), name()], 16384, 2), E::HashCount { needed: 1, found: 2 }),
        (
            single(&[len("i9223372036854775807e"), name()], 16384, 2),
            E::HashCount { needed: 562_949_953_421_312, found: 2 },
        ),
        (single(&[("files", b"le".to_vec()), name()], 16384, 0), E::Empty),
        (
            single(
                &[(
                    "files",
                    b"ld6:lengthi9223372036854775807e4:pathl1:aeed6:lengthi9223372036854775807e4:pathl1:beee".to_vec(),
                )],
                16384,
                1,
            ),
            BAD_LENGTH,
        ),
        (single(&[("files", b"ld6:lengthi5e4:pathleee".to_vec())], 16384, 1), E::Missing("path")),
    ];
    for (i, (got, want)) in cases.into_iter().enumerate() {
        assert_eq!(got.unwrap_err(), want, "case {i}");
    }
    assert_eq!(Metainfo::parse(b"<html>").unwrap_err(), E::NotATorrent);
    assert_eq!(Metainfo::parse(b"d3:fooi1ee").unwrap_err(), E::NotATorrent);
    assert_eq!(Metainfo::parse(b"").unwrap_err(), E::NotATorrent);
    assert_eq!(Metainfo::parse(b"d4:infoi5ee").unwrap_err(), WRONG_KIND);
    assert_eq!(Metainfo::parse(b"d4:infod6:lengthi5e").unwrap_err(), E::Truncated);
    assert!(matches!(Metainfo::parse(&[b"d1:a".as_slice(), &vec![b'l'; 1 << 20]].concat()), Err(E::Damaged(_))));
    assert!(matches!(Metainfo::parse(&b"d4:info".repeat(1 << 17)), Err(E::Damaged(_))));
}

#[test]
fn twenty_thousand_files_are_no_burden() {
    let files: Vec<_> = (0..20_000).map(|i| TestFile::new(&format!("d{}/f{i}.bin", i % 100), 3)).collect();
    let m = torrent("many", &files, 16384).meta();
    assert_eq!(m.files.len(), 20_000);
    assert_eq!(m.files[19_999].range.end, 60_000);
}

proptest! {
    #[test]
    fn no_bytes_panic(cut in 0usize..400, at in 0usize..400, byte: u8) {
        let mut bytes = torrent("show", &[TestFile::new("s/a.mkv", 100), TestFile::pad(28), TestFile::new("b", 30)], 64).bytes();
        if let Some(b) = bytes.get_mut(at) {
            *b = byte;
        }
        bytes.truncate(bytes.len() - cut.min(bytes.len()));
        if let Ok(m) = Metainfo::parse(&bytes) {
            prop_assert_eq!(m.files.last().unwrap().range.end, m.layout.total_len());
            prop_assert_eq!(m.piece_hashes.len(), m.layout.piece_count() as usize * 20);
        }
    }

    #[test]
    fn no_bencode_like_bytes_panic(s in "d([0-9]{1,2}:|i-?[0-9]{1,20}e|[dle]|4:info|6:pieces|4:name|5:files){0,40}") {
        let _ = Metainfo::parse(s.as_bytes());
    }
}

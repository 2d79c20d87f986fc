//! What must not be played: each gives a sentence and exit code 2, and nothing panics.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "hostile/disk.rs"]
mod disk;
#[path = "hostile/lies.rs"]
mod lies;
#[path = "hostile/poison.rs"]
mod poison;
#[path = "hostile/silence.rs"]
mod silence;
#[path = "hostile/trackers.rs"]
mod trackers;

use std::path::{Path, PathBuf};

use support::nginx::Nginx;
use support::player::{Home, Played};
use support::process::tool;
use support::torrent::Torrent;
use support::{TempDir, media, temp_dir, text};

/// Bad input is refused with exit code 2 and words that a user can read.
fn refused(uri: &str) -> Played {
    let home = Home::new();
    let played = home.play(uri, ["--for", "20"]);
    assert_eq!(played.code, Some(2), "{uri:?} was not refused as bad input: {:?}", played.said);
    assert!(readable(&played.said), "not a sentence for a user: {:?}", played.said);
    played
}

/// A line or two of plain words.
fn readable(said: &str) -> bool {
    let lines: Vec<&str> = said.lines().filter(|l| !l.trim().is_empty()).collect();
    let code = ["Err(", "Error {", "::", "unwrap", "Some(", "Os {"];
    (1..=3).contains(&lines.len())
        && lines.iter().all(|l| l.len() < 700 && !code.iter().any(|c| l.contains(c)))
        && lines.iter().any(|l| l.trim_end().ends_with('.'))
        && !said.chars().any(|c| c.is_control() && c != '\n')
}

struct Case {
    dir: TempDir,
}

impl Case {
    fn new() -> Case {
        Case { dir: temp_dir() }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn refused_bytes(bytes: &[u8]) -> Played {
    let case = Case::new();
    refused(text(&case.file("bad.torrent", bytes)))
}

/// A torrent whose info dictionary is the given bencode.
fn torrent(info: &str) -> Vec<u8> {
    format!("d4:info{info}e").into_bytes()
}

#[test]
fn what_is_not_a_torrent() {
    for bytes in [&b""[..], b"Hello.", b"<html><body>404</body></html>", b"\0\0\0\0", b"i5e", b"le", b"de", b"4:spam"] {
        refused_bytes(bytes);
    }
}

#[test]
fn a_torrent_cut_short() {
    let dir = temp_dir();
    let whole = std::fs::read(Torrent::of(&media::mp4(), dir.path(), 32).path).unwrap();
    for part in [1, whole.len() / 3, whole.len() - 1] {
        refused_bytes(&whole[..part]);
    }
}

#[test]
fn bencode_that_attacks_the_parser() {
    let deep = [b"d4:info".as_slice(), &b"l".repeat(1_000_000)].concat();
    let deep_dict = "d1:a".repeat(300_000).into_bytes();
    for bytes in [
        &deep[..],
        &deep_dict,
        &torrent(&format!("d1:a{}{}e", "l".repeat(100_000), "e".repeat(100_000))),
        b"d4:info99999999999999999999:x",
        b"d4:info18446744073709551615:x",
        b"d4:info-5:xe",
        b"di5e4:infoe",
        b"d4:infod6:lengthi--5eee",
        b"d4:infod6:lengthi99999999999999999999999eee",
    ] {
        refused_bytes(bytes);
    }
}

#[test]
fn sizes_that_cannot_be() {
    let hash = "A".repeat(20);
    for info in [
        format!("d6:lengthi-1e4:name1:a12:piece lengthi16384e6:pieces20:{hash}e"),
        format!("d6:lengthi0e4:name1:a12:piece lengthi16384e6:pieces20:{hash}e"),
        format!("d6:lengthi100e4:name1:a12:piece lengthi0e6:pieces20:{hash}e"),
        format!("d6:lengthi100e4:name1:a12:piece lengthi-16384e6:pieces20:{hash}e"),
        format!("d6:lengthi100e4:name1:a12:piece lengthi9223372036854775807e6:pieces20:{hash}e"),
        format!("d6:lengthi9223372036854775807e4:name1:a12:piece lengthi16384e6:pieces20:{hash}e"),
        format!("d6:lengthi100000e4:name1:a12:piece lengthi16384e6:pieces20:{hash}e"),
        "d6:lengthi100e4:name1:a12:piece lengthi16384e6:pieces19:AAAAAAAAAAAAAAAAAAAe".to_owned(),
        "d6:lengthi100e4:name1:a12:piece lengthi16384e6:pieces0:e".to_owned(),
        format!("d5:filesle4:name1:a12:piece lengthi16384e6:pieces20:{hash}e"),
        format!(
            "d5:filesld6:lengthi9223372036854775807e4:pathl1:aeed6:lengthi9223372036854775807e4:pathl1:beee4:name1:x\
             12:piece lengthi16384e6:pieces20:{hash}e"
        ),
    ] {
        refused_bytes(&torrent(&info));
    }
}

#[test]
fn a_torrent_of_version_2_alone_is_named_as_such() {
    let tree = "d9:file treed5:a.mp4d0:d6:lengthi100e11:pieces root32:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAeee\
                12:meta versioni2e4:name5:a.mp412:piece lengthi16384ee";
    let played = refused_bytes(&torrent(tree));
    assert!(played.said.contains("v2") || played.said.contains("version 2"), "{}", played.said);
    let magnet = format!("magnet:?xt=urn:btmh:1220{}", "ab".repeat(32));
    let played = refused(&magnet);
    assert!(played.said.contains("v2") || played.said.contains("version 2"), "{}", played.said);
}

#[test]
fn links_that_lead_nowhere() {
    for uri in [
        "magnet:?dn=nothing",
        "magnet:?xt=urn:btih:xyz",
        "magnet:?xt=urn:sha1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "magnet:",
        "magnet:?xt=urn:btih:0123456789012345678901234567890123456789ff",
        "0123456789abcdef",
        "/no/such/file.torrent",
        "ftp://127.0.0.1/x.torrent",
        "http://",
        "",
        "   ",
        "/",
        "\u{1b}[31mred",
    ] {
        refused(uri);
    }
}

#[test]
fn addresses_that_are_no_torrent_and_no_film() {
    let case = Case::new();
    case.file("page.torrent", b"<html>not found</html>");
    let web = Nginx::serve(case.dir.path(), None);
    for path in ["page.torrent", "missing.torrent", "html/film.mp4"] {
        refused(&web.url(path));
    }
    // Whose fault these are cannot be known; they end in a sentence all the same.
    for url in [web.url("circle/film.mp4"), web.url("broken/film.mp4"), "http://127.0.0.1:1/x.torrent".to_owned()] {
        let played = Home::new().play(url, ["--for", "20"]);
        assert!(matches!(played.code, Some(1 | 2)), "{:?}: {}", played.code, played.said);
        assert!(readable(&played.said), "{:?}", played.said);
    }
}

#[test]
fn a_torrent_without_a_video_says_what_it_holds() {
    let case = Case::new();
    let text_file = case.file("notes.txt", &b"Nothing to see.\n".repeat(5000));
    let t = Torrent::of(&text_file, case.dir.path(), 32);
    let played = refused(text(&t.path));
    assert!(played.said.contains("notes.txt") || played.said.to_lowercase().contains("no video"), "{}", played.said);
}

/// The names in a torrent are a stranger's: whatever they say, nothing is written outside the cache.
#[test]
fn names_that_climb_out_of_the_cache_stay_inside() {
    let film = media::mp4();
    for evil in ["../e.mp4", "/tmp.mp4", "a\\b\\.mp4", "..\\f.mp4"] {
        assert_eq!(evil.len(), "clip.mp4".len());
        let case = Case::new();
        let web = Nginx::serve(film.parent().unwrap(), None);
        let t = Torrent::of(&film, case.dir.path(), 32).with_web_seeds(&[web.url("clip.mp4")]);
        let bytes = std::fs::read(&t.path).unwrap();
        let at = find(&bytes, b"4:name8:clip.mp4").unwrap();
        let changed = [&bytes[..at], b"4:name8:", evil.as_bytes(), &bytes[at + 16..]].concat();
        let path = case.file("evil.torrent", &changed);
        let home = Home::new();
        let before = files_below(home.dir.path());
        let played = home.play(path, ["--no-swarm", "--no-clock", "--cache", "deep/cache"]);
        // The name is made harmless, and the film plays.
        let played = played.ok();
        assert!(played.number("/bytes/server") > 0.0, "{evil}: {:#}", played.report);
        for file in files_below(home.dir.path()) {
            let inside = file.starts_with(home.dir.path().join("deep/cache"));
            let film_sized = file.metadata().is_ok_and(|m| m.len() >= 100_000);
            assert!(inside || !film_sized || before.contains(&file), "{evil} was written to {}", file.display());
        }
        assert!(!Path::new("/tmp.mp4").exists());
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|w| w == needle)
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { out.extend(files_below(&path)) } else { out.push(path) }
    }
    out
}

#[test]
fn films_that_are_broken() {
    let case = Case::new();
    let whole = std::fs::read(media::mp4()).unwrap();
    // The index's size field says more than there is, or the index is noise.
    let moov = find(&whole, b"moov").unwrap();
    let mut noise = whole.clone();
    for (i, b) in noise[moov + 4..moov + 4000].iter_mut().enumerate() {
        *b = (i as u8).wrapping_mul(167) ^ 0x5c;
    }
    refused(text(&case.file("noise.mp4", &noise)));
    refused(text(&case.file("text.mp4", b"This is no film.\n")));
    refused(text(&case.file("empty.mp4", b"")));
    // Index at the end, and the end is missing.
    let tail = std::fs::read(media::mp4_index_at_end()).unwrap();
    refused(text(&case.file("cut.mp4", &tail[..tail.len() / 2])));
}

#[test]
fn a_film_that_is_cut_short_plays_as_far_as_it_goes() {
    let case = Case::new();
    let whole = std::fs::read(media::mkv()).unwrap();
    let path = case.file("short.mkv", &whole[..whole.len() / 2]);
    let played = Home::new().play(path, ["--no-clock"]).ok();
    assert!(played.number("/frames/decoded") > 100.0, "{:#}", played.report);
}

#[test]
fn a_film_in_a_codec_that_nobody_has() {
    let case = Case::new();
    let whole = std::fs::read(media::mp4()).unwrap();
    let mut renamed = whole.clone();
    while let Some(at) = find(&renamed, b"avc1") {
        renamed[at..at + 4].copy_from_slice(b"zzz9");
    }
    let path = case.file("strange.mp4", &renamed);
    let played = refused(text(&path));
    let said = played.said.to_lowercase();
    assert!(said.contains("codec") || said.contains("format") || said.contains("video"), "{said}");
}

#[test]
fn sound_without_a_picture_is_said_so() {
    let case = Case::new();
    let path = case.dir.path().join("sound.m4a");
    tool(media::ffmpeg().args(["-f", "lavfi", "-i", "sine=d=3", "-c:a", "aac", text(&path)]));
    let renamed = case.dir.path().join("sound.mp4");
    std::fs::rename(&path, &renamed).unwrap();
    let played = Home::new().play(renamed, ["--for", "10"]);
    assert!(matches!(played.code, Some(0 | 2)), "{}", played.said);
}

#[test]
fn arguments_that_make_no_sense() {
    for args in [
        &["play", "--headless"][..],
        &["play", "--headless", "x.torrent", "--seek", "soon"],
        &["play", "--headless", "x.torrent", "--seek", "50%@-3"],
        &["play", "--headless", "x.torrent", "--peer", "nowhere"],
        &["play", "--headless", "x.torrent", "--for", "-1"],
        &["nonsense", "more"],
    ] {
        let out = Home::new().run(args.iter().copied());
        assert_eq!(out.code, Some(2), "{args:?}: {}", out.said);
        assert!(!out.said.trim().is_empty(), "{args:?}");
    }
}

#[test]
fn neither_peers_nor_a_server_and_nothing_on_disk() {
    let case = Case::new();
    let t = Torrent::of(&media::mp4(), case.dir.path(), 32);
    let played = Home::new().play(t.path, ["--no-swarm", "--no-server"]);
    assert!(matches!(played.code, Some(1 | 2)), "{:?}: {}", played.code, played.said);
    assert!(readable(&played.said), "{:?}", played.said);
}

//! What must hold of whatever torrents, links and resume records say.

use std::collections::HashSet;
use std::path::{Component, Path};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;

use super::parse::sha1;
use super::resume::{Record, max_len};
use super::testing::{TestFile, torrent};
use super::urls::{MAX_URL, MAX_URLS, TRACKER, WEB, is_url};
use super::{InfoHash, Magnet, Metainfo, describe};
use crate::units::PieceIndex;

/// The bytes of a `.torrent` file, and of an info dictionary that peers sent.
pub fn metainfo(input: &[u8]) {
    if let Ok(meta) = Metainfo::parse(input) {
        check_metainfo(&meta);
        // What peers get of us is the same torrent.
        let magnet = bare(meta.info_hash);
        let again = Metainfo::from_info(meta.info_bytes.clone(), &magnet);
        assert!(again.is_ok_and(|a| a.layout == meta.layout && a.files == meta.files && a.name == meta.name));
    }
    let info = Bytes::copy_from_slice(input);
    if let Ok(meta) = Metainfo::from_info(info, &bare(sha1(input))) {
        check_metainfo(&meta);
    }
    assert!(Metainfo::from_info(Bytes::copy_from_slice(input), &bare(InfoHash([0; 20]))).is_err());
}

fn bare(info_hash: InfoHash) -> Magnet {
    let (trackers, web_seeds, sources) = Default::default();
    Magnet { info_hash, name: None, trackers, web_seeds, sources, peers: Vec::new(), select_only: Vec::new() }
}

fn check_metainfo(meta: &Metainfo) {
    assert_eq!(sha1(&meta.info_bytes), meta.info_hash);
    let pieces = meta.layout.piece_count();
    assert!(pieces > 0 && meta.piece_hashes.len() == pieces as usize * 20 && meta.layout.total_len() > 0);
    assert!(meta.hash_of(PieceIndex(pieces - 1)).is_some() && meta.hash_of(PieceIndex(pieces)).is_none());
    let (mut at, mut paths) = (0, HashSet::new());
    for f in &meta.files {
        assert!(f.range.start == at && f.range.end >= at, "the files do not lie end to end");
        at = f.range.end;
        assert!(!f.display.chars().any(char::is_control));
        if !f.padding {
            check_path(&f.path);
            // As the file systems see it that ignore case.
            assert!(paths.insert(f.path.to_string_lossy().to_lowercase()), "{} is there twice", f.path.display());
        }
    }
    assert!(at == meta.layout.total_len() && !meta.files.is_empty());
    check_urls(&meta.trackers.concat(), TRACKER);
    check_urls(&meta.web_seeds, WEB);
    let shown = describe::text(meta);
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n'));
    assert_eq!(describe::json(meta)["info_hash"], meta.info_hash.to_string());
}

fn check_path(path: &Path) {
    let shown = path.display();
    assert!(!path.as_os_str().is_empty() && path.as_os_str().len() <= 1024, "{shown}");
    for c in path.components() {
        let name = match c {
            Component::Normal(n) => n.to_string_lossy(),
            other => unreachable!("{shown} has {other:?}"),
        };
        assert!(name.len() <= 255 && !name.ends_with(['.', ' ']), "{shown}");
        assert!(!name.contains(['/', '\\', ':', '\0', '<', '>', '"', '|', '?', '*']), "{shown}");
    }
}

fn check_urls(urls: &[String], schemes: &[&str]) {
    assert!(urls.len() <= MAX_URLS && urls.iter().all(|u| u.len() <= MAX_URL && is_url(u, schemes)));
    assert_eq!(urls.iter().collect::<HashSet<_>>().len(), urls.len(), "one is there twice");
}

/// What somebody pasted as a magnet link.
pub fn magnet(input: &[u8]) {
    let Ok(m) = Magnet::parse(&String::from_utf8_lossy(input)) else { return };
    check_urls(&m.trackers, TRACKER);
    check_urls(&m.web_seeds, WEB);
    check_urls(&m.sources, WEB);
    assert!(m.peers.len() <= 256 && m.peers.iter().all(|p| p.port() != 0));
    assert!(m.select_only.is_sorted() && m.select_only.len() <= 10_000);
    let shown = |n: &String| n.chars().count() <= 600 && !n.chars().any(char::is_control);
    assert!(m.name.as_ref().is_none_or(shown));
    assert!(!describe::describe_magnet(&m).contains('\u{1b}'));
    assert_eq!(Magnet::parse(&link(&m)).as_ref(), Ok(&m), "not what was written");
}

/// The link that says just this.
fn link(m: &Magnet) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("xt", &format!("urn:btih:{}", m.info_hash));
    query.extend_pairs(m.name.iter().map(|n| ("dn", n)));
    query.extend_pairs(m.trackers.iter().map(|t| ("tr", t)));
    query.extend_pairs(m.web_seeds.iter().map(|w| ("ws", w)));
    query.extend_pairs(m.sources.iter().map(|s| ("xs", s)));
    query.extend_pairs(m.peers.iter().map(|p| ("x.pe", p.to_string())));
    let selected: Vec<String> = m.select_only.iter().map(usize::to_string).collect();
    query.append_pair("so", &selected.join(","));
    format!("magnet:?{}", query.finish())
}

/// A resume record, as it is and with its sum made right.
pub fn resume(input: &[u8]) {
    static TORRENT: LazyLock<Arc<Metainfo>> = LazyLock::new(|| {
        torrent("t", &[TestFile::new("a", 1000), TestFile::pad(24), TestFile::new("b", 300)], 64).meta()
    });
    let meta = &*TORRENT;
    for bytes in [input.to_vec(), [input, &sha1(input).0].concat()] {
        let Some(record) = Record::decode(&bytes, meta) else { continue };
        assert_eq!(record.verified.universe(), meta.layout.piece_count());
        assert!(record.stamps.keys().all(|i| *i < meta.files.len()), "a file that the torrent has not");
        let encoded = record.encode(meta.info_hash);
        assert!(encoded.len() as u64 <= max_len(meta) && encoded.len() <= bytes.len());
        let again = Record::decode(&encoded, meta);
        assert!(again.is_some_and(|a| a.verified == record.verified && a.stamps == record.stamps));
    }
}

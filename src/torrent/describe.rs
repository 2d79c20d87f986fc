//! A torrent or magnet link in words and as JSON, and which of its files are videos.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Magnet, Metainfo};
use crate::units::ByteRange;

/// Extensions of what the player may be able to play, lower-case.
const VIDEO: &[&str] = &[
    "3g2", "3gp", "asf", "avi", "divx", "f4v", "flv", "h264", "h265", "hevc", "ivf", "m1v", "m2t", "m2ts", "m2v",
    "m4v", "mk3d", "mkv", "mov", "mp4", "mpeg", "mpg", "mts", "mxf", "nut", "obu", "ogm", "ogv", "qt", "rm", "rmvb",
    "ts", "vob", "webm", "wmv", "y4m",
];

/// Whether a name is a video's, by its extension.
pub fn is_video(name: &str) -> bool {
    let extension = name.rsplit(['/', '\\']).next().and_then(|n| n.rsplit_once('.'));
    extension.is_some_and(|(_, e)| VIDEO.binary_search(&e.to_ascii_lowercase().as_str()).is_ok())
}

/// Indices of the videos, largest first; equal ones in the torrent's order.
pub fn video_files(meta: &Metainfo) -> Vec<usize> {
    let is_video = |(_, f): &(usize, &super::FileEntry)| !f.padding && !f.range.is_empty() && is_video(&f.display);
    let mut videos: Vec<usize> = meta.files.iter().enumerate().filter(is_video).map(|(i, _)| i).collect();
    videos.sort_by_key(|&i| std::cmp::Reverse(meta.files.get(i).map_or(0, |f| f.range.len())));
    videos
}

/// The files as the map of a web seed needs them: display path, bytes in torrent space, padding.
pub fn web_seed_input(meta: &Metainfo) -> Vec<(String, ByteRange, bool)> {
    meta.files.iter().map(|f| (f.display.clone(), f.range, f.padding)).collect()
}

/// Several lines for people, without a line end at the end.
pub fn text(meta: &Metainfo) -> String {
    let mut s = String::new();
    let line = |s: &mut String, label: &str, value: &dyn std::fmt::Display| {
        // Writing to a string does not fail.
        let _ = writeln!(s, "{label:<12}{value}");
    };
    line(&mut s, "Name", &meta.name);
    if !meta.piece_hashes.is_empty() {
        line(&mut s, "Info hash", &meta.info_hash);
    }
    line(&mut s, "Size", &size(meta.layout.total_len()));
    let pieces = format!("{} of {}", meta.layout.piece_count(), size(meta.layout.piece_len().into()));
    line(&mut s, "Pieces", &pieces);
    if meta.private {
        line(&mut s, "Private", &"yes");
    }
    for (i, tier) in meta.trackers.iter().enumerate() {
        line(&mut s, if i == 0 { "Trackers" } else { "" }, &tier.join(" or "));
    }
    for (i, url) in meta.web_seeds.iter().enumerate() {
        line(&mut s, if i == 0 { "Web seeds" } else { "" }, url);
    }
    let nodes: Vec<String> = meta.nodes.iter().map(|(host, port)| format!("{host} port {port}")).collect();
    if !nodes.is_empty() {
        line(&mut s, "DHT nodes", &nodes.join(", "));
    }
    let files: Vec<_> = meta.files.iter().enumerate().filter(|(_, f)| !f.padding).collect();
    line(&mut s, "Files", &files.len());
    // The index is what `play --file` takes.
    for (index, f) in files {
        let mark = if is_video(&f.display) { "video" } else { "" };
        let _ = writeln!(s, "{index:>6}  {:>10}  {mark:<5}  {}", size(f.range.len()), f.display);
    }
    if !meta.piece_hashes.is_empty() {
        let _ = write!(s, "\n{}", meta.magnet());
    }
    s.truncate(s.trim_end().len());
    s
}

/// The same for programs. Sizes are in bytes.
pub fn json(meta: &Metainfo) -> Value {
    let files = meta.files.iter().enumerate().filter(|(_, f)| !f.padding).map(
        |(index, f)| json!({ "index": index, "path": f.display, "size": f.range.len(), "video": is_video(&f.display) }),
    );
    json!({
        "name": meta.name,
        "info_hash": meta.info_hash.to_string(),
        "size": meta.layout.total_len(),
        "piece_length": meta.layout.piece_len(),
        "piece_count": meta.layout.piece_count(),
        "private": meta.private,
        "trackers": meta.trackers,
        "web_seeds": meta.web_seeds,
        "magnet": meta.magnet(),
        "files": files.collect::<Vec<_>>(),
    })
}

/// What a magnet link says by itself, before any peer was asked.
pub fn describe_magnet(magnet: &Magnet) -> String {
    let mut s = format!("{:<12}{}", "Name", magnet.name.as_deref().unwrap_or("not known yet"));
    let peers: Vec<String> = magnet.peers.iter().map(ToString::to_string).collect();
    let _ = write!(s, "\n{:<12}{}", "Info hash", magnet.info_hash);
    for (label, list) in [("Trackers", &magnet.trackers), ("Web seeds", &magnet.web_seeds), ("Peers", &peers)] {
        for (i, entry) in list.iter().enumerate() {
            let _ = write!(s, "\n{:<12}{entry}", if i == 0 { label } else { "" });
        }
    }
    s
}

/// As [`describe_magnet`], for programs.
pub fn magnet_json(magnet: &Magnet) -> Value {
    json!({
        "name": magnet.name,
        "info_hash": magnet.info_hash.to_string(),
        "trackers": magnet.trackers,
        "web_seeds": magnet.web_seeds,
        "sources": magnet.sources,
        "peers": magnet.peers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "select_only": magnet.select_only,
    })
}

/// "734 MiB", "1.4 GiB", "512 B".
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = "KiB";
    for next in UNITS.into_iter().skip(1) {
        if value < 1023.5 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    // Whole numbers stay whole: a piece is "256 KiB".
    if value >= 100.0 || value.fract() == 0.0 { format!("{value:.0} {unit}") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrent::testing::{TestFile, torrent};

    #[test]
    fn the_list_of_extensions_is_sorted_for_the_search() {
        assert!(VIDEO.is_sorted());
        assert!(is_video("a/b.MKV") && is_video("x.tar.mp4"));
        assert!(!is_video("mkv") && !is_video("a.mkv/readme") && !is_video("x.mkv.exe"));
    }

    #[test]
    fn videos_come_largest_first_and_padding_never() {
        let files = [
            TestFile::new("a.mkv", 10),
            TestFile::new("b.txt", 500),
            TestFile::new("c.mp4", 90),
            TestFile::pad(28),
            TestFile::new("d.avi", 0),
        ];
        let meta = torrent("dir", &files, 64).meta();
        assert_eq!(video_files(&meta), [2, 0]);
        assert_eq!(web_seed_input(&meta)[3], (".pad/28".to_owned(), ByteRange::new(600, 628), true));
    }

    #[test]
    fn text_and_json_hold_the_same() {
        let meta = torrent("dir", &[TestFile::new("a.mkv", 3 << 20), TestFile::new("b.txt", 5)], 256 << 10).meta();
        let (text, json) = (text(&meta), json(&meta));
        assert!(text.contains("Pieces      13 of 256 KiB"), "{text}");
        assert!(text.contains("     0       3 MiB  video  a.mkv"), "{text}");
        assert_eq!(json["files"][0]["video"], true);
        assert_eq!(json["files"][1]["size"], 5);
        assert_eq!(json["info_hash"], meta.info_hash.to_string());
        assert!(text.contains(&meta.info_hash.to_string()));
    }

    #[test]
    fn sizes_read_well() {
        for (bytes, want) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (16384, "16 KiB"),
            (769_654_784, "734 MiB"),
            (1_503_238_554, "1.4 GiB"),
            (1_048_575, "1.0 MiB"),
        ] {
            assert_eq!(size(bytes), want);
        }
    }
}

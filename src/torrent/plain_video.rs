//! A plain video behind a URL, as a torrent of one file without hashes.

use bytes::Bytes;

use super::names::{component, display_component};
use super::parse::sha1;
use super::{FileEntry, Metainfo};
use crate::units::{ByteRange, Layout};

/// 16 TiB. What a server claims must not size anybody's tables.
const MAX_PIECES: u32 = 1 << 20;

impl Metainfo {
    /// A plain video behind a URL: one file, no hashes, named after the URL's last part. `None` when `len` is 0 or
    /// more than a server can mean.
    /// The same URL and length always give the same info hash, by which its cache is found again.
    pub fn plain_video(url: &str, len: u64) -> Option<Self> {
        // About 4,000 pieces: small enough to forget little when one is lost, few enough to draw.
        let piece_len = (len / 4096).next_power_of_two().clamp(256 << 10, 16 << 20) as u32;
        let layout = Layout::new(len, piece_len).filter(|l| l.piece_count() <= MAX_PIECES)?;
        let parsed = url::Url::parse(url).ok();
        let last = parsed.as_ref().and_then(|u| u.path_segments()?.rfind(|s| !s.is_empty()));
        let name = last.map(percent_decoded).unwrap_or_else(|| "video".to_owned());
        let display = display_component(&name);
        let file = FileEntry {
            path: component(&name).into(),
            display: display.clone(),
            range: ByteRange::new(0, len),
            padding: false,
        };
        Some(Self {
            info_hash: sha1(format!("{len} {url}").as_bytes()),
            name: display,
            layout,
            files: vec![file],
            piece_hashes: Bytes::new(),
            private: false,
            trackers: Vec::new(),
            web_seeds: vec![url.to_owned()],
            info_bytes: Bytes::new(),
            nodes: Vec::new(),
            multi_file: false,
        })
    }
}

/// A URL's path segment as text.
fn percent_decoded(s: &str) -> String {
    let mut out = Vec::with_capacity(s.len());
    let mut rest = s.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let hex = |i: usize| tail.get(i).and_then(|&b| char::from(b).to_digit(16));
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                out.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn it_has_a_stable_identity_and_a_safe_name() {
        let url = "https://h.example/a/My%20film%2F..%zz%.mp4?x=1";
        let m = Metainfo::plain_video(url, 5 << 30).unwrap();
        assert_eq!(m.files[0].path, PathBuf::from("My film_..%zz%.mp4"));
        assert!(m.layout.piece_count() <= 8192 && m.piece_hashes.is_empty());
        assert_eq!(m.info_hash, Metainfo::plain_video(url, 5 << 30).unwrap().info_hash);
        assert_ne!(m.info_hash, Metainfo::plain_video(url, 6 << 30).unwrap().info_hash);
        assert!(Metainfo::plain_video("https://h.example/", 1).is_some_and(|m| m.name == "video"));
        assert!(Metainfo::plain_video("https://h.example/%2e%2e%2f", 1).is_some());
    }

    #[test]
    fn a_length_no_server_can_mean_is_refused() {
        for len in [0, 1 << 60, u64::MAX] {
            assert!(Metainfo::plain_video("https://h.example/a", len).is_none());
        }
    }
}

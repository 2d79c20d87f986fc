//! Small real torrents for tests: content, hashes and bencode made on the spot.

use std::sync::Arc;

use super::Metainfo;
use super::parse::sha1;

pub(crate) struct TestFile {
    pub path: Vec<Vec<u8>>,
    pub len: u64,
    pub padding: bool,
}

impl TestFile {
    pub fn new(path: &str, len: u64) -> Self {
        Self { path: path.split('/').map(|c| c.as_bytes().to_vec()).collect(), len, padding: false }
    }

    pub fn pad(len: u64) -> Self {
        Self { padding: true, ..Self::new(&format!(".pad/{len}"), len) }
    }
}

pub(crate) struct TestTorrent {
    // The fuzzers read the description alone.
    #[cfg_attr(not(test), allow(dead_code))]
    pub content: Vec<u8>,
    pub info: Vec<u8>,
}

impl TestTorrent {
    pub fn bytes(&self) -> Vec<u8> {
        [b"d4:info", self.info.as_slice(), b"e"].concat()
    }

    pub fn meta(&self) -> Arc<Metainfo> {
        Arc::new(Metainfo::parse(&self.bytes()).unwrap())
    }
}

pub(crate) fn string(s: &[u8]) -> Vec<u8> {
    [s.len().to_string().as_bytes(), b":", s].concat()
}

/// A multi-file torrent with deterministic content.
pub(crate) fn torrent(name: &str, files: &[TestFile], piece_len: usize) -> TestTorrent {
    let mut content = Vec::new();
    let mut list = Vec::new();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for f in files {
        for _ in 0..f.len {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            content.push(if f.padding { 0 } else { (state >> 56) as u8 });
        }
        let path: Vec<u8> = f.path.iter().flat_map(|c| string(c)).collect();
        let attr: &[u8] = if f.padding { b"4:attr1:p" } else { b"" };
        list.extend([b"d", attr, format!("6:lengthi{}e4:pathl", f.len).as_bytes(), &path, b"ee"].concat());
    }
    let hashes: Vec<u8> = content.chunks(piece_len).flat_map(|p| sha1(p).0).collect();
    let info = info(
        &[("files", [b"l", list.as_slice(), b"e"].concat()), ("name", string(name.as_bytes()))],
        piece_len as i64,
        &hashes,
    );
    TestTorrent { content, info }
}

/// An info dictionary of these fields, in order, and the pieces.
pub(crate) fn info(fields: &[(&str, Vec<u8>)], piece_len: i64, hashes: &[u8]) -> Vec<u8> {
    let mut out = vec![b'd'];
    for (k, v) in fields {
        out.extend(string(k.as_bytes()));
        out.extend(v);
    }
    out.extend(format!("12:piece lengthi{piece_len}e6:pieces").as_bytes());
    out.extend(string(hashes));
    out.push(b'e');
    out
}

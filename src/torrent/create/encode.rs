//! A new torrent as bencode: keys sorted (BEP 3), so that the same input gives the same bytes.

use super::CreateOptions;
use super::hash::Extent;
use super::scan::Listed;

/// Bencode, appended.
#[derive(Debug, Default)]
struct Out(Vec<u8>);

impl Out {
    fn string(&mut self, s: impl AsRef<[u8]>) -> &mut Self {
        let s = s.as_ref();
        self.0.extend_from_slice(s.len().to_string().as_bytes());
        self.0.push(b':');
        self.0.extend_from_slice(s);
        self
    }

    fn int(&mut self, n: i64) -> &mut Self {
        self.0.extend_from_slice(format!("i{n}e").as_bytes());
        self
    }

    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn strings<'a>(&mut self, list: impl Iterator<Item = &'a String>) -> &mut Self {
        self.raw(b"l");
        for s in list {
            self.string(s);
        }
        self.raw(b"e")
    }
}

/// The info dictionary.
pub(super) fn info(
    name: &str,
    folder: bool,
    files: &[Listed],
    extents: &[Extent],
    (piece_len, pieces): (u32, &[u8]),
    private: bool,
) -> Vec<u8> {
    let mut out = Out::default();
    out.raw(b"d");
    let length = |e: &Extent| i64::try_from(e.range.len()).unwrap_or(i64::MAX);
    if folder {
        out.string("files").raw(b"l");
        for extent in extents {
            out.raw(b"d");
            match extent.file.and_then(|i| files.get(i)) {
                Some(file) => {
                    out.string("length").int(length(extent)).string("path").strings(file.components.iter());
                }
                // BEP 47: nobody keeps it, so all of one length may share a name.
                None => {
                    out.string("attr").string("p").string("length").int(length(extent));
                    out.string("path").strings([".pad".to_owned(), extent.range.len().to_string()].iter());
                }
            }
            out.raw(b"e");
        }
        out.raw(b"e");
    } else {
        out.string("length").int(extents.first().map_or(0, length));
    }
    out.string("name").string(name).string("piece length").int(piece_len.into()).string("pieces").string(pieces);
    if private {
        out.string("private").int(1);
    }
    out.raw(b"e");
    out.0
}

/// The whole file around `info`.
pub(super) fn torrent(info: &[u8], folder: bool, o: &CreateOptions) -> Vec<u8> {
    let mut out = Out::default();
    out.raw(b"d");
    if let Some(first) = o.trackers.iter().flatten().next() {
        out.string("announce").string(first);
    }
    if o.trackers.iter().map(Vec::len).sum::<usize>() > 1 {
        out.string("announce-list").raw(b"l");
        for tier in o.trackers.iter().filter(|t| !t.is_empty()) {
            out.strings(tier.iter());
        }
        out.raw(b"e");
    }
    if let Some(comment) = &o.comment {
        out.string("comment").string(comment);
    }
    // Without the version: another release makes the same torrent of the same files.
    out.string("created by").string("Sluicegate");
    if let Some(date) = o.date {
        out.string("creation date").int(date);
    }
    out.string("info").raw(info);
    if !o.nodes.is_empty() {
        out.string("nodes").raw(b"l");
        for (host, port) in &o.nodes {
            out.raw(b"l").string(host).int((*port).into()).raw(b"e");
        }
        out.raw(b"e");
    }
    if !o.web_seeds.is_empty() {
        // BEP 19: of a folder the address of the folder that holds it; clients put name and path behind it.
        let slash = |u: &String| if folder && !u.ends_with('/') { format!("{u}/") } else { u.clone() };
        out.string("url-list").strings(o.web_seeds.iter().map(slash).collect::<Vec<_>>().iter());
    }
    out.raw(b"e");
    out.0
}

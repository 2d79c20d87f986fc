//! A torrent of 10 GB that costs no disk: a film in HD, and beside it a file of nothing but zeros.

use std::fs::File;
use std::path::Path;

use librqbit_sha1_wrapper::{ISha1, Sha1};

use super::torrent::Torrent;

const PIECE: usize = 1 << 20;
const ZEROS: u64 = 10_000_000_000;

/// Lays the folder out in `dir` and makes its torrent. All pieces of zeros share one hash, so that not 10 GB are hashed.
pub fn torrent(film: &Path, dir: &Path) -> Torrent {
    let name = "Ten gigabytes";
    let folder = dir.join(name);
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(film, folder.join("film.mp4")).unwrap();
    File::create(folder.join("zeros.bin")).unwrap().set_len(ZEROS).unwrap();
    let mut start = std::fs::read(film).unwrap();
    let (film_len, whole) = (start.len(), start.len() as u64 + ZEROS);
    start.resize(start.len().next_multiple_of(PIECE), 0);
    let mut hashes: Vec<[u8; 20]> = start.chunks(PIECE).map(hash).collect();
    let count = whole.div_ceil(PIECE as u64) as usize;
    hashes.resize(count - 1, hash(&vec![0; PIECE]));
    let last = (whole - (count as u64 - 1) * PIECE as u64) as usize;
    hashes.push(hash(&vec![0; last]));
    let mut bytes = format!(
        "d4:infod5:filesld6:lengthi{film_len}e4:pathl8:film.mp4eed6:lengthi{ZEROS}e4:pathl9:zeros.bineee\
         4:name{}:{name}12:piece lengthi{PIECE}e6:pieces{}:",
        name.len(),
        hashes.len() * 20
    )
    .into_bytes();
    bytes.extend(hashes.as_flattened());
    bytes.extend_from_slice(b"ee");
    let path = dir.join("huge.torrent");
    std::fs::write(&path, bytes).unwrap();
    Torrent { path, info_hash: String::new(), content_dir: dir.to_owned(), name: name.to_owned() }
}

fn hash(bytes: &[u8]) -> [u8; 20] {
    let mut h = Sha1::new();
    h.update(bytes);
    h.finish()
}

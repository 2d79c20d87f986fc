//! Torrents made of real files, read back and checked against them.

use std::sync::Arc;

use super::*;
use crate::torrent::Magnet;
use crate::torrent::parse::sha1;
use crate::units::PieceIndex;

/// A folder of files of these lengths, with content that differs everywhere.
fn folder(files: &[(&str, usize)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (i, (name, len)) in files.iter().enumerate() {
        let path = dir.path().join("show").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, (0..*len).map(|b| (b * 7 + b / 251 + i * 31) as u8).collect::<Vec<u8>>()).unwrap();
    }
    dir
}

fn make(path: &Path, options: &CreateOptions) -> Result<Created, CreateError> {
    create(path, options, &Progress::default())
}

fn small() -> CreateOptions {
    CreateOptions { piece_len: Some(16384), ..CreateOptions::default() }
}

#[test]
fn a_folder_becomes_a_torrent_whose_hashes_are_those_of_its_bytes() {
    let files = [("e10.mkv", 70_000), ("e2.mkv", 40_000), ("empty", 0), ("sub/x.srt", 100)];
    let dir = folder(&files);
    for align in [false, true] {
        let made = make(&dir.path().join("show"), &CreateOptions { align, ..small() }).unwrap();
        let m = &made.meta;
        let shown: Vec<_> =
            m.files.iter().filter(|f| !f.padding).map(|f| (f.display.as_str(), f.range.len())).collect();
        assert_eq!(shown, [("e2.mkv", 40_000), ("e10.mkv", 70_000), ("empty", 0), ("sub/x.srt", 100)]);
        assert_eq!((m.name.as_str(), m.multi_file), ("show", true));
        let mut content = Vec::new();
        for f in &m.files {
            assert_eq!(content.len() as u64, f.range.start);
            match f.padding {
                true => content.resize(f.range.end as usize, 0),
                false => content.extend(std::fs::read(dir.path().join("show").join(&f.path)).unwrap()),
            }
            let starts = f.range.start % 16384 == 0;
            assert!(!align || f.padding || f.range.is_empty() || starts, "{f:?}");
        }
        for (p, piece) in content.chunks(16384).enumerate() {
            assert_eq!(m.hash_of(PieceIndex(p as u32)), Some(sha1(piece).0), "piece {p}");
        }
        assert_eq!(m.files.iter().any(|f| f.padding), align);
    }
}

#[test]
fn the_same_files_give_the_same_bytes_and_every_option_shows() {
    let dir = folder(&[("a.mkv", 50_000)]);
    let file = dir.path().join("show/a.mkv");
    let options = CreateOptions {
        name: Some("A film & more".into()),
        trackers: vec![
            vec!["http://a.example/announce".into(), "udp://b.example:1".into()],
            vec!["udp://c.example:2".into()],
        ],
        web_seeds: vec!["https://w.example/a film.mkv".into()],
        nodes: vec![("router.example".into(), 6881)],
        comment: Some("Привет".into()),
        ..small()
    };
    let (one, two) = (make(&file, &options).unwrap(), make(&file, &options).unwrap());
    assert_eq!(one.torrent, two.torrent);
    assert_eq!(one.meta.trackers, options.trackers);
    assert_eq!(one.meta.web_seeds, options.web_seeds);
    assert!(!one.meta.private && !one.meta.multi_file);
    let text = String::from_utf8_lossy(&one.torrent).into_owned();
    assert!(text.contains("7:comment12:Привет") && text.contains("5:nodesll14:router.examplei6881eee"), "{text}");
    assert!(!text.contains("creation date"));
    let magnet = Magnet::parse(&one.magnet).unwrap();
    assert_eq!((magnet.info_hash, magnet.name.as_deref()), (one.meta.info_hash, Some("A film & more")));
    assert_eq!((magnet.trackers.len(), magnet.web_seeds.len()), (3, 1), "{}", one.magnet);
    let private = make(&file, &CreateOptions { private: true, nodes: Vec::new(), ..options.clone() }).unwrap();
    assert!(private.meta.private && private.meta.info_hash != one.meta.info_hash);
    let dated = make(&file, &CreateOptions { date: Some(5), ..options }).unwrap();
    assert!(String::from_utf8_lossy(&dated.torrent).contains("13:creation datei5e"));
    assert_eq!(dated.meta.info_hash, one.meta.info_hash);
}

#[test]
fn what_cannot_be_made_says_why() {
    let dir = folder(&[("a", 10), ("none/.hidden", 5)]);
    let show = dir.path().join("show");
    let error = |path: &Path, o: CreateOptions| make(path, &o).unwrap_err().to_string();
    assert!(error(&dir.path().join("gone"), small()).contains("cannot be read"));
    assert!(error(&show.join("none"), small()).contains("holds no bytes"));
    assert!(error(&show, CreateOptions { piece_len: Some(20_000), ..small() }).contains("power of two"));
    assert!(error(&show, CreateOptions { piece_len: Some(8192), ..small() }).contains("power of two"));
    assert!(error(&show, CreateOptions { private: true, ..small() }).contains("without a tracker"));
    assert!(error(&show, CreateOptions { name: Some("a/b".into()), ..small() }).contains("needs a name"));
    #[cfg(unix)]
    assert!(error(Path::new("/dev/null"), small()).contains("neither a file nor a folder"));
    let huge = std::fs::File::create(show.join("huge")).unwrap();
    huge.set_len(4 << 30).unwrap();
    assert!(error(&show, small()).contains("more than other clients take"));
}

#[test]
fn it_ends_when_cancelled_and_notices_a_file_that_shrinks() {
    let dir = folder(&[("a", 3_000_000)]);
    let progress = Arc::new(Progress::default());
    progress.cancel();
    assert!(matches!(create(&dir.path().join("show"), &small(), &progress), Err(CreateError::Cancelled)));
    let found = scan::scan(&dir.path().join("show"), None).unwrap();
    std::fs::write(dir.path().join("show/a"), "short").unwrap();
    let extents = lay_out(found.files.iter().map(|f| f.len), 16384, false);
    let layout = Layout::new(3_000_000, 16384).unwrap();
    let open = || -> Box<dyn ReadFiles + '_> { Box::new(Disk { files: &found.files, open: None }) };
    let hashed = hash::hash(layout, &extents, &open, &Progress::default());
    assert!(matches!(hashed, Err(CreateError::Changed { .. })));
}

#[test]
fn pieces_are_small_where_they_can_be() {
    let sizes = [
        (1, 16 << 10),
        (60 << 20, 16 << 10),
        (700 << 20, 256 << 10),
        (4 << 30, 1 << 20),
        (15 << 30, 1 << 20),
        (40 << 30, 4 << 20),
        (1 << 40, 16 << 20),
        (u64::MAX, 16 << 20),
    ];
    for (bytes, len) in sizes {
        assert_eq!(piece_len_for(bytes), len, "{bytes}");
    }
}

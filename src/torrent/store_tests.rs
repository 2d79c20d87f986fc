//! The store on a real disk.

use std::path::PathBuf;

use proptest::prelude::*;

use super::super::files::MAX_OPEN;
use super::super::testing::{TestFile, TestTorrent, torrent};
use super::*;
use crate::torrent::InfoHash;
use crate::units::Layout;

fn show() -> TestTorrent {
    let files = [
        TestFile::new("s/a.mkv", 70_000),
        TestFile::pad(1000),
        TestFile::new("empty", 0),
        TestFile::new("b.srt", 10),
        TestFile::new("c.mkv", 40_000),
    ];
    torrent("show", &files, 16384)
}

fn open(dir: &Path, t: &TestTorrent) -> (Store, PieceSet) {
    Store::open(dir, t.meta()).unwrap()
}

fn verified(store: &Store) -> PieceSet {
    let mut set = PieceSet::new(store.meta.layout.piece_count());
    for p in (0..set.universe()).map(PieceIndex).filter(|p| store.verify(*p).unwrap()) {
        set.insert(p);
    }
    set
}

fn path(dir: &Path, store: &Store, file: &str) -> PathBuf {
    dir.join(store.meta.info_hash.to_string()).join("files").join(file)
}

#[test]
fn blocks_across_files_and_padding_come_back_and_check() {
    let (dir, t) = (tempfile::tempdir().unwrap(), show());
    let (store, set) = open(dir.path(), &t);
    assert_eq!((set.count(), verified(&store).count()), (0, 0));
    for (i, block) in t.content.chunks(16384).enumerate().rev() {
        store.write(i as u64 * 16384, block).unwrap();
        assert!(store.verify(PieceIndex(i as u32)).unwrap());
    }
    let mut all = vec![1; t.content.len()];
    store.read(0, &mut all).unwrap();
    assert_eq!(all, t.content);
    assert_eq!(std::fs::read(path(dir.path(), &store, "s/a.mkv")).unwrap(), &t.content[..70_000]);
    assert!(!path(dir.path(), &store, ".pad").exists());

    store.write(20_000, b"x").unwrap();
    assert!(!store.verify(PieceIndex(1)).unwrap());
}

#[test]
fn what_lies_outside_is_refused() {
    let (dir, t) = (tempfile::tempdir().unwrap(), show());
    let (store, _) = open(dir.path(), &t);
    let end = t.content.len() as u64;
    for (offset, len) in [(end, 1), (end - 1, 2), (u64::MAX, 1), (u64::MAX - 1, 16384)] {
        assert!(matches!(store.write(offset, &vec![0; len]), Err(StoreError::OutOfRange)));
        assert!(matches!(store.read(offset, &mut vec![0; len]), Err(StoreError::OutOfRange)));
    }
    assert!(matches!(store.verify(PieceIndex(7)), Err(StoreError::OutOfRange)));
    assert!(matches!(store.read(0, &mut [0; 5]), Err(StoreError::Gone)));
    store.write(end, &[]).unwrap();
}

#[test]
fn a_clean_exit_is_believed_without_hashing() {
    let (dir, t) = (tempfile::tempdir().unwrap(), show());
    let (store, _) = open(dir.path(), &t);
    store.write(0, &t.content[..40_000]).unwrap();
    let set = verified(&store);
    assert_eq!(set.count(), 2);
    store.save_resume(&set).unwrap();
    drop(store);
    let (store, again) = open(dir.path(), &t);
    assert_eq!(again, set);
    assert_eq!(store.unproven().count(), 0);
}

#[test]
fn a_file_changed_since_is_not_believed_but_offered_for_a_check() {
    let (dir, t) = (tempfile::tempdir().unwrap(), show());
    let (store, _) = open(dir.path(), &t);
    store.write(0, &t.content).unwrap();
    store.save_resume(&PieceSet::full(7)).unwrap();
    let (a, c) = (path(dir.path(), &store, "s/a.mkv"), path(dir.path(), &store, "c.mkv"));
    drop(store);

    let old = std::fs::metadata(&a).unwrap().modified().unwrap();
    let file = std::fs::File::options().write(true).open(&a).unwrap();
    file.set_modified(old + std::time::Duration::from_nanos(1)).unwrap();
    let (store, set) = open(dir.path(), &t);
    // Piece 4 is shared: what is wrong with one of its files is wrong with it.
    assert_eq!(set.iter().map(|p| p.0).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(store.unproven().iter().map(|p| p.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert!(store.unproven().iter().all(|p| store.verify(p).unwrap()));
    drop(store);

    file.set_modified(old).unwrap();
    assert!(open(dir.path(), &t).1.is_full());
    file.set_len(60_000).unwrap();
    file.set_modified(old).unwrap();
    let (store, set) = open(dir.path(), &t);
    assert_eq!(set.iter().map(|p| p.0).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(store.unproven().iter().map(|p| p.0).collect::<Vec<_>>(), [0, 1, 2]);
    std::fs::remove_file(c).unwrap();
    assert_eq!(open(dir.path(), &t).1.count(), 0);
}

#[test]
fn after_a_crash_what_is_on_disk_is_offered_for_a_check_and_holes_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let t = torrent("big", &[TestFile::new("a.mkv", 40 << 16)], 1 << 16);
    let (store, _) = open(dir.path(), &t);
    for p in [3usize, 17, 18, 39] {
        store.write((p << 16) as u64, &t.content[p << 16..(p + 1) << 16]).unwrap();
    }
    drop(store);
    let (store, set) = open(dir.path(), &t);
    assert_eq!(set.count(), 0);
    let offered: Vec<u32> = store.unproven().iter().map(|p| p.0).collect();
    assert!([3, 17, 18, 39].iter().all(|p| offered.contains(p)), "{offered:?}");
    // A file system that does not tell its holes offers all 40.
    if offered.len() < 40 {
        assert_eq!(offered, [3, 17, 18, 39]);
    }
}

#[test]
fn a_record_of_nonsense_is_as_good_as_none() {
    let (dir, t) = (tempfile::tempdir().unwrap(), show());
    let (store, _) = open(dir.path(), &t);
    store.write(0, &t.content).unwrap();
    let resume = dir.path().join(store.meta.info_hash.to_string()).join("resume");
    for nonsense in [vec![], vec![0; 10], vec![255; 5000], vec![7; 10 << 20]] {
        std::fs::write(&resume, nonsense).unwrap();
        let (store, set) = open(dir.path(), &t);
        assert_eq!((set.count(), store.unproven().count()), (0, 7));
    }
}

#[test]
fn a_magnet_link_opened_again_has_its_metadata() {
    let (dir, t) = (tempfile::tempdir().unwrap(), show());
    let mut magnet = Magnet::parse(&t.meta().info_hash.to_string()).unwrap();
    magnet.trackers.push("udp://t.example:1".into());
    assert!(Metainfo::cached(&dir.path().join("none"), &magnet).is_none());
    assert!(!dir.path().join("none").exists());
    open(dir.path(), &t);
    let meta = Metainfo::cached(dir.path(), &magnet).unwrap();
    assert_eq!((meta.files, meta.trackers), (t.meta().files.clone(), vec![magnet.trackers.clone()]));
    let info = dir.path().join(t.meta().info_hash.to_string()).join("info");
    std::fs::write(&info, b"de").unwrap();
    assert!(Metainfo::cached(dir.path(), &magnet).is_none());
    open(dir.path(), &t);
    assert!(Metainfo::cached(dir.path(), &magnet).is_some());
}

#[test]
fn without_hashes_bytes_are_taken_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let meta = Arc::new(Metainfo::plain_video("http://h.example/v.mp4", 1 << 20).unwrap());
    let (store, _) = Store::open(dir.path(), meta.clone()).unwrap();
    store.write(0, &[5; 300_000]).unwrap();
    assert!(store.verify(PieceIndex(0)).unwrap());
    let mut set = PieceSet::new(4);
    set.insert(PieceIndex(0));
    store.save_resume(&set).unwrap();
    drop(store);
    assert_eq!(Store::open(dir.path(), meta.clone()).unwrap().1, set);
    // Changed since: there is nothing to check it against, so it is not offered.
    std::fs::write(dir.path().join(meta.info_hash.to_string()).join("files/v.mp4"), [6; 300_000]).unwrap();
    let (store, set) = Store::open(dir.path(), meta).unwrap();
    assert_eq!((set.count(), store.unproven().count()), (0, 0));
}

/// Metainfo of this shape with hashes that fit nothing, so that it can be large.
fn hollow(files: impl Iterator<Item = (String, u64)>, piece_len: u32) -> Arc<Metainfo> {
    let mut at = 0;
    let entry = |(name, len): (String, u64)| {
        let range = ByteRange::new(at, at + len);
        at = range.end;
        FileEntry { path: name.clone().into(), display: name, range, padding: false }
    };
    let files: Vec<FileEntry> = files.map(entry).collect();
    let layout = Layout::new(files.last().unwrap().range.end, piece_len).unwrap();
    Arc::new(Metainfo {
        info_hash: InfoHash([9; 20]),
        name: "hollow".into(),
        layout,
        piece_hashes: vec![1; layout.piece_count() as usize * 20].into(),
        files,
        private: false,
        trackers: Vec::new(),
        web_seeds: Vec::new(),
        info_bytes: Default::default(),
        nodes: Vec::new(),
        multi_file: true,
    })
}

#[test]
fn ten_gigabytes_cost_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let meta = hollow([("film.mkv".to_owned(), 10 << 30)].into_iter(), 1 << 20);
    let (store, _) = Store::open(dir.path(), meta.clone()).unwrap();
    let block = [3; 16384];
    for offset in [(10 << 30) - 16384, 5 << 30, 0] {
        store.write(offset, &block).unwrap();
        let mut back = [0; 16384];
        store.read(offset, &mut back).unwrap();
        assert_eq!(back, block);
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let file = std::fs::metadata(path(dir.path(), &store, "film.mkv")).unwrap();
        assert_eq!(file.len(), 10 << 30);
        assert!(file.blocks() * 512 < 4 << 20, "{} blocks", file.blocks());
    }
    store.save_resume(&PieceSet::full(10240)).unwrap();
    drop(store);
    assert!(Store::open(dir.path(), meta).unwrap().1.is_full());
}

#[test]
fn twenty_thousand_files_keep_few_open() {
    let dir = tempfile::tempdir().unwrap();
    let meta = hollow((0..20_000).map(|i| (format!("d{}/f{i}", i % 50), 700)), 1 << 18);
    let (store, _) = Store::open(dir.path(), meta.clone()).unwrap();
    let total = meta.layout.total_len();
    let block = vec![4; 16384];
    for offset in (0..total).step_by(16384) {
        store.write(offset, &block[..(total - offset).min(16384) as usize]).unwrap();
    }
    assert_eq!(store.files.open_count(), MAX_OPEN);
    let mut back = vec![0; 300_000];
    store.read(total - 300_000, &mut back).unwrap();
    assert!(back.iter().all(|&b| b == 4));
    store.save_resume(&PieceSet::full(meta.layout.piece_count())).unwrap();
    drop(store);
    let (store, set) = Store::open(dir.path(), meta).unwrap();
    assert!(set.is_full());
    assert_eq!(store.unproven().count(), 0);
}

#[test]
fn threads_share_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let files: Vec<_> = (0..100).map(|i| TestFile::new(&format!("f{i}"), 5000)).collect();
    let t = torrent("many", &files, 16384);
    let (store, _) = open(dir.path(), &t);
    std::thread::scope(|s| {
        for thread in 0..4 {
            let (store, t) = (&store, &t);
            s.spawn(move || {
                for (i, block) in t.content.chunks(1000).enumerate().filter(|(i, _)| i % 4 == thread) {
                    store.write(i as u64 * 1000, block).unwrap();
                    let mut back = vec![0; block.len()];
                    store.read(i as u64 * 1000, &mut back).unwrap();
                    assert_eq!(back, block);
                }
            });
        }
    });
    assert!(verified(&store).is_full());
    assert!(store.files.open_count() <= MAX_OPEN);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_said_to_be_full() {
    use std::os::unix::fs::symlink;
    // The store follows no links, so the device that is always full is written to directly.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let e = StoreError::from(write_all_at(&full, b"x", 0).unwrap_err());
    assert!(matches!(e, StoreError::DiskFull) && e.needs_user());
    let (dir, t) = (tempfile::tempdir().unwrap(), show());
    let (store, _) = open(dir.path(), &t);
    symlink("/dev/full", path(dir.path(), &store, "b.srt")).unwrap();
    assert!(matches!(store.write(71_000, b"x"), Err(StoreError::Foreign)));
}

#[test]
fn a_cache_that_cannot_be_used_says_so() {
    let (dir, t) = (tempfile::tempdir().unwrap(), show());
    let file = dir.path().join("file");
    std::fs::write(&file, b"x").unwrap();
    let e = Store::open(&file, t.meta()).map(|_| ()).unwrap_err();
    assert!(matches!(e, StoreError::Foreign), "{e:?}");
    assert!(matches!(StoreError::from(io::Error::from(io::ErrorKind::ReadOnlyFilesystem)), StoreError::ReadOnly));
    assert!(matches!(StoreError::from(io::Error::from(io::ErrorKind::PermissionDenied)), StoreError::ReadOnly));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_writes_read_back_like_memory(
        lens in prop::collection::vec((0u64..5000, any::<bool>()), 1..12),
        writes in prop::collection::vec((any::<u32>(), 1usize..6000, any::<u8>()), 1..20),
    ) {
        let files: Vec<_> = lens
            .iter()
            .enumerate()
            .map(|(i, &(len, pad))| if pad { TestFile::pad(len) } else { TestFile::new(&format!("f{i}"), len + 1) })
            .collect();
        let total: u64 = files.iter().map(|f| f.len).sum();
        prop_assume!(total > 0);
        let (dir, t) = (tempfile::tempdir().unwrap(), torrent("t", &files, 1024));
        let (store, _) = open(dir.path(), &t);
        store.write(0, &t.content).unwrap();
        let mut model = t.content.clone();
        for (at, len, byte) in writes {
            let at = at as usize % model.len();
            let len = len.min(model.len() - at);
            store.write(at as u64, &vec![byte; len]).unwrap();
            model[at..at + len].fill(byte);
        }
        for f in store.meta.files.iter().filter(|f| f.padding) {
            model[f.range.start as usize..f.range.end as usize].fill(0);
        }
        let mut back = vec![1; model.len()];
        store.read(0, &mut back).unwrap();
        prop_assert_eq!(back, model);
    }
}

//! Blocks to disk and pieces to their hash: on the file system of the temporary folder, or below `WORK`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::stream::{FuturesUnordered, StreamExt};
use librqbit_sha1_wrapper::{ISha1, Sha1};
use sluicegate::torrent::{DiskPool, Metainfo, Store};
use sluicegate::units::{BLOCK_LEN, PieceIndex};

const PIECES: u32 = 256;
const PIECE_LEN: u32 = 256 * 1024;
const LEN: u64 = PIECES as u64 * PIECE_LEN as u64;

fn sha1(data: &[u8]) -> [u8; 20] {
    let mut s = Sha1::new();
    s.update(data);
    s.finish()
}

/// One file of the same piece over and over, as a torrent.
fn torrent(piece: &[u8]) -> Arc<Metainfo> {
    let hashes = sha1(piece).repeat(PIECES as usize);
    let mut bytes = format!("d4:infod6:lengthi{LEN}e4:name8:film.bin12:piece lengthi{PIECE_LEN}e6:pieces").into_bytes();
    bytes.extend_from_slice(format!("{}:", hashes.len()).as_bytes());
    bytes.extend_from_slice(&hashes);
    bytes.extend_from_slice(b"ee");
    Arc::new(Metainfo::parse(&bytes).unwrap())
}

fn store(c: &mut Criterion) {
    let dir = match std::env::var_os("WORK") {
        Some(work) => tempfile::tempdir_in(PathBuf::from(work)).unwrap(),
        None => tempfile::tempdir().unwrap(),
    };
    let piece: Bytes = (0..PIECE_LEN).map(|i| (i * 31 >> 3) as u8).collect::<Vec<u8>>().into();
    let store = Arc::new(Store::open(dir.path(), torrent(&piece)).unwrap().0);

    let mut group = c.benchmark_group("store");
    group.throughput(Throughput::Bytes(u64::from(PIECE_LEN)));
    group.bench_function("sha1", |b| b.iter(|| black_box(sha1(&piece))));
    group.bench_function("write a piece block by block", |b| {
        b.iter(|| {
            for (i, block) in piece.chunks(BLOCK_LEN as usize).enumerate() {
                store.write(i as u64 * u64::from(BLOCK_LEN), block).unwrap();
            }
        });
    });
    group.bench_function("verify", |b| b.iter(|| assert!(store.verify(PieceIndex(0)).unwrap())));

    // As the driver does it: all blocks of some pieces handed over, then each piece hashed.
    let rt = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let pool = Arc::new(DiskPool::new(store, 2));
    group.bench_function("a piece through the pool", |b| {
        b.iter_custom(|n| {
            let (pool, piece) = (pool.clone(), piece.clone());
            let start = Instant::now();
            rt.block_on(async move {
                rt_pieces(&pool, &piece, n).await;
            });
            start.elapsed()
        });
    });
    group.finish();
}

/// `n` pieces, eight at a time.
async fn rt_pieces(pool: &Arc<DiskPool>, piece: &Bytes, n: u64) {
    let one = |i: u64| {
        let p = PieceIndex((i % u64::from(PIECES)) as u32);
        let start = u64::from(p.0) * u64::from(PIECE_LEN);
        async move {
            let blocks: FuturesUnordered<_> = (0..PIECE_LEN / BLOCK_LEN)
                .map(|b| {
                    let at = (b * BLOCK_LEN) as usize;
                    pool.write(start + at as u64, piece.slice(at..at + BLOCK_LEN as usize))
                })
                .collect();
            blocks.for_each(|written| async { written.unwrap() }).await;
            assert!(pool.verify(p).await.unwrap());
        }
    };
    futures::stream::iter(0..n).for_each_concurrent(8, one).await;
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = store
}
criterion_main!(benches);

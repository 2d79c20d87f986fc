//! Pieces hashed while their blocks go to disk, so that a complete one need not be read back.
//!
//! Invariant: what a run has hashed are the bytes that were last written there, all of them written without an error.
//! Bytes that come out of order wait in memory, within a bound; beyond it, and after anything out of the ordinary, the
//! disk is asked instead. So a run is never wrong, only short. Locks: a run's own before those of the tables.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use librqbit_sha1_wrapper::{ISha1, Sha1};
use parking_lot::Mutex;

use crate::units::{ByteRange, Layout, PieceIndex};

/// Bytes that may wait for those before them: what 30 peers have on the way, or two pieces of the largest usual size.
const WAITING_MOST: usize = 8 << 20;

/// Pieces hashed at once, each some hundred bytes.
const RUNS_MOST: usize = 4096;

/// How far one piece is.
struct Run {
    sha1: Sha1,
    /// All of the piece before this is hashed. Torrent space, as all offsets here.
    upto: u64,
    waiting: BTreeMap<u64, Bytes>,
    waiting_bytes: usize,
    /// Something was written over: only the disk knows.
    spoilt: bool,
}

/// A piece's hash so far.
pub(super) struct Begun {
    pub sha1: Sha1,
    /// Where to go on.
    pub upto: u64,
}

/// See the module.
pub(super) struct Running {
    layout: Layout,
    runs: Mutex<HashMap<PieceIndex, Arc<Mutex<Run>>>>,
    /// Bytes that wait, over all runs.
    waiting: AtomicUsize,
    /// Pieces by when bytes began to wait in them; some are long done.
    oldest: Mutex<VecDeque<PieceIndex>>,
}

impl Running {
    pub fn new(layout: Layout) -> Self {
        Self { layout, runs: Mutex::default(), waiting: AtomicUsize::new(0), oldest: Mutex::default() }
    }

    /// These bytes are on disk now.
    pub fn wrote(&self, offset: u64, data: &Bytes) {
        let all = ByteRange::new(offset, offset + data.len() as u64);
        for piece in self.layout.pieces_in(all).map(PieceIndex) {
            let range = self.layout.piece_range(piece);
            let part = range.intersect(all);
            let Some(run) = self.run(piece, range.start) else { continue };
            let data = data.slice((part.start - offset) as usize..(part.end - offset) as usize);
            self.add(piece, &mut run.lock(), part.start, data);
        }
    }

    /// What lies there is uncertain.
    pub fn spoil(&self, range: ByteRange) {
        for piece in self.layout.pieces_in(range).map(PieceIndex) {
            if let Some(run) = self.run(piece, range.start) {
                self.give_up(&mut run.lock());
            }
        }
    }

    /// The piece's hash so far; what is written to it from now on begins anew. `None` when the disk must be asked.
    pub fn take(&self, piece: PieceIndex) -> Option<Begun> {
        let run = self.runs.lock().remove(&piece)?;
        let mut run = run.lock();
        self.forget_waiting(&mut run);
        let sha1 = std::mem::replace(&mut run.sha1, Sha1::new());
        // A writer that still holds it must not add to what nobody will ask for.
        let spoilt = std::mem::replace(&mut run.spoilt, true);
        (!spoilt).then_some(Begun { sha1, upto: run.upto })
    }

    fn run(&self, piece: PieceIndex, start: u64) -> Option<Arc<Mutex<Run>>> {
        let mut runs = self.runs.lock();
        if runs.len() >= RUNS_MOST && !runs.contains_key(&piece) {
            return None;
        }
        let new = || Run { sha1: Sha1::new(), upto: start, waiting: BTreeMap::new(), waiting_bytes: 0, spoilt: false };
        Some(runs.entry(piece).or_insert_with(|| Arc::new(Mutex::new(new()))).clone())
    }

    fn add(&self, piece: PieceIndex, run: &mut Run, at: u64, data: Bytes) {
        if run.spoilt {
            return;
        }
        let end = at + data.len() as u64;
        let after = run.waiting.range(..end).next_back().is_some_and(|(s, d)| s + d.len() as u64 > at);
        if at < run.upto || after {
            return self.give_up(run);
        }
        if at > run.upto {
            self.wait(piece, run, at, data);
            return;
        }
        run.sha1.update(&data);
        run.upto = end;
        while let Some(next) = run.waiting.first_entry().filter(|e| *e.key() == run.upto) {
            let data = next.remove();
            run.sha1.update(&data);
            run.upto += data.len() as u64;
            run.waiting_bytes -= data.len();
            self.waiting.fetch_sub(data.len(), Ordering::Relaxed);
        }
    }

    /// Keeps what comes out of order. Where room runs out, the pieces that have waited longest are left to the disk.
    fn wait(&self, piece: PieceIndex, run: &mut Run, at: u64, data: Bytes) {
        while self.waiting.load(Ordering::Relaxed) + data.len() > WAITING_MOST {
            let Some(old) = self.oldest.lock().pop_front() else { return };
            let other = self.runs.lock().get(&old).cloned().filter(|_| old != piece);
            // Who holds it is about to hash some of it anyway.
            if let Some(mut other) = other.as_deref().and_then(Mutex::try_lock) {
                self.forget_waiting(&mut other);
            } else if old == piece {
                self.forget_waiting(run);
            }
        }
        if run.waiting.is_empty() {
            let mut oldest = self.oldest.lock();
            if oldest.len() >= RUNS_MOST {
                oldest.pop_front();
            }
            oldest.push_back(piece);
        }
        self.waiting.fetch_add(data.len(), Ordering::Relaxed);
        run.waiting_bytes += data.len();
        run.waiting.insert(at, data);
    }

    fn give_up(&self, run: &mut Run) {
        run.spoilt = true;
        self.forget_waiting(run);
    }

    fn forget_waiting(&self, run: &mut Run) {
        run.waiting.clear();
        self.waiting.fetch_sub(std::mem::take(&mut run.waiting_bytes), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PIECE: u32 = 65_536;

    fn film(len: usize) -> Bytes {
        (0..len).map(|i| (i * 7 >> 3) as u8).collect::<Vec<u8>>().into()
    }

    fn hash(data: &[u8]) -> [u8; 20] {
        let mut s = Sha1::new();
        s.update(data);
        s.finish()
    }

    /// The piece's hash, as a store would finish it from disk.
    fn finish(begun: Begun, film: &[u8], end: u64) -> [u8; 20] {
        let mut sha1 = begun.sha1;
        sha1.update(&film[begun.upto as usize..end as usize]);
        sha1.finish()
    }

    proptest! {
        #[test]
        fn any_order_of_any_parts_gives_the_hash_or_leaves_it_to_the_disk(
            cuts in prop::collection::btree_set(1usize..3 * PIECE as usize, 0..40),
            order in any::<prop::sample::Index>(),
            again in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let film = film(3 * PIECE as usize);
            let running = Running::new(Layout::new(film.len() as u64, PIECE).unwrap());
            let ends: Vec<usize> = cuts.iter().copied().chain([film.len()]).collect();
            let mut parts: Vec<(usize, usize)> = ends.iter().scan(0, |at, end| Some((std::mem::replace(at, *end), *end))).collect();
            let turn = order.index(parts.len());
            parts.rotate_left(turn);
            if let Some(again) = again {
                parts.push(parts[again.index(parts.len())]);
            }
            for (from, to) in parts {
                running.wrote(from as u64, &film.slice(from..to));
            }
            for p in 0..3u32 {
                let (from, to) = ((p * PIECE) as usize, ((p + 1) * PIECE) as usize);
                match running.take(PieceIndex(p)) {
                    Some(begun) => prop_assert_eq!(finish(begun, &film, to as u64), hash(&film[from..to])),
                    None => prop_assert!(again.is_some()),
                }
                prop_assert!(running.take(PieceIndex(p)).is_none());
            }
            prop_assert_eq!(running.waiting.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn blocks_in_any_order_leave_nothing_to_the_disk() {
        let film = film(PIECE as usize);
        let running = Running::new(Layout::new(film.len() as u64, PIECE).unwrap());
        for at in [16_384, 49_152, 32_768, 0] {
            running.wrote(at as u64, &film.slice(at..at + 16_384));
        }
        let begun = running.take(PieceIndex(0)).unwrap();
        assert_eq!((begun.upto, begun.sha1.finish()), (u64::from(PIECE), hash(&film)));
    }

    #[test]
    fn what_is_written_twice_is_asked_of_the_disk() {
        let film = film(PIECE as usize);
        let running = Running::new(Layout::new(film.len() as u64, PIECE).unwrap());
        running.wrote(0, &film.slice(..100));
        running.wrote(50, &film.slice(50..200));
        assert!(running.take(PieceIndex(0)).is_none());
        // And what comes after is new.
        running.wrote(0, &film);
        assert_eq!(running.take(PieceIndex(0)).map(|b| b.upto), Some(u64::from(PIECE)));
        running.wrote(0, &film.slice(..100));
        running.spoil(ByteRange::new(0, 1));
        assert!(running.take(PieceIndex(0)).is_none());
    }

    #[test]
    fn what_waits_is_bounded_and_the_newest_stays() {
        let (piece, pieces) = (4 << 20, 8);
        let film = film(piece * pieces);
        let running = Running::new(Layout::new(film.len() as u64, piece as u32).unwrap());
        for p in 0..pieces {
            running.wrote((p * piece + piece / 2) as u64, &film.slice(p * piece + piece / 2..(p + 1) * piece));
            assert!(running.waiting.load(Ordering::Relaxed) <= WAITING_MOST);
        }
        let upto = |p: usize| {
            running.wrote((p * piece) as u64, &film.slice(p * piece..p * piece + piece / 2));
            running.take(PieceIndex(p as u32)).unwrap().upto as usize
        };
        assert_eq!(upto(0), piece / 2);
        assert_eq!(upto(7), 8 * piece);
        (1..7).for_each(|p| drop(upto(p)));
        assert_eq!(running.waiting.load(Ordering::Relaxed), 0);
    }
}

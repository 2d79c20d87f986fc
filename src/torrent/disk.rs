//! The threads that wait for the disk, so that nobody else has to.
//!
//! Invariant: a write or a read never waits behind a piece's hash (one thread takes none), a hash never waits behind a
//! stream of writes (the others take hashes first), and what is queued is bounded in bytes: who asks for more waits.
//!
//! Blocks are hashed as they are written, while they are in the processor's cache; a complete piece mostly needs no
//! reading back. A thread is woken only when one sleeps.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::running::Running;
use super::{Store, StoreError};
use crate::units::{ByteRange, PieceIndex};

/// Bytes that may wait to be written: half a second of a gigabit link on a disk that stalls.
const WRITE_ROOM: usize = 64 << 20;

/// Bytes that may wait to be read, apart from the writes: what a peer or the player reads must not wait for room
/// behind what arrives.
const READ_ROOM: usize = 16 << 20;

/// Hashes that may wait, each a few bytes.
const HASH_ROOM: usize = 4096;

/// Semaphores count in these, for a `u32` of bytes would limit one request.
const UNIT: usize = 1024;

/// Reads taken in a row while a write waits. Reads go first, for someone waits for them; but uploads alone must not
/// keep a slow disk from taking what arrives.
const READS_PER_WRITE: u32 = 4;

/// The two kinds of threads, as indices: those that take hashes, and those that take none.
const HASHING: usize = 0;
const OTHER: usize = 1;

struct WriteJob {
    parts: Vec<(u64, Bytes)>,
    done: oneshot::Sender<Result<(), StoreError>>,
    _room: OwnedSemaphorePermit,
}

struct ReadJob {
    offset: u64,
    len: usize,
    done: oneshot::Sender<Result<Bytes, StoreError>>,
    _room: OwnedSemaphorePermit,
}

struct HashJob {
    piece: PieceIndex,
    done: oneshot::Sender<Result<bool, StoreError>>,
    _room: OwnedSemaphorePermit,
}

enum Job {
    Write(WriteJob),
    Read(ReadJob),
    Hash(HashJob),
}

#[derive(Default)]
struct Queue {
    writes: VecDeque<WriteJob>,
    reads: VecDeque<ReadJob>,
    hashes: VecDeque<HashJob>,
    reads_in_row: u32,
    /// Threads that sleep and that nobody has woken yet, by kind.
    idle: [usize; 2],
    closed: bool,
}

impl Queue {
    /// The next job for a thread that takes hashes first, or for one that takes none.
    fn next(&mut self, takes_hashes: bool) -> Option<Job> {
        if takes_hashes && let Some(job) = self.hashes.pop_front() {
            return Some(Job::Hash(job));
        }
        if self.writes.is_empty() || self.reads_in_row < READS_PER_WRITE {
            // Whoever asked may have gone: a peer that left, a seek.
            while let Some(job) = self.reads.pop_front() {
                if !job.done.is_closed() {
                    self.reads_in_row += 1;
                    return Some(Job::Read(job));
                }
            }
        }
        self.reads_in_row = 0;
        self.writes.pop_front().map(Job::Write)
    }
}

struct Shared {
    store: Arc<Store>,
    running: Running,
    queue: Mutex<Queue>,
    /// Where idle threads sleep, by kind.
    wake: [Condvar; 2],
}

/// A few threads that carry out what is asked of a [`Store`]. Dropping it finishes the writes that were accepted, gives
/// up the rest and joins the threads.
pub struct DiskPool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    write_room: Arc<Semaphore>,
    read_room: Arc<Semaphore>,
    hash_room: Arc<Semaphore>,
}

impl DiskPool {
    /// Starts `threads` threads, two at least: one of them for reads and writes only. If the system gives none, every
    /// call fails with [`StoreError::Closed`].
    pub fn new(store: Arc<Store>, threads: usize) -> Self {
        let running = Running::new(store.meta().layout);
        let shared = Arc::new(Shared { store, running, queue: Mutex::default(), wake: Default::default() });
        let mut started = Vec::new();
        for i in 0..threads.max(2) {
            // The last one, so that any that start at all include one that hashes.
            let takes_hashes = i + 1 < threads.max(2);
            let name = if takes_hashes { format!("disk+hash {i}") } else { format!("disk {i}") };
            let shared = shared.clone();
            match std::thread::Builder::new().name(name).spawn(move || shared.work(takes_hashes)) {
                Ok(thread) => started.push(thread),
                Err(e) => tracing::warn!("a disk thread did not start: {e}"),
            }
        }
        shared.queue.lock().closed = started.is_empty();
        let room = |bytes: usize| Arc::new(Semaphore::new(bytes / UNIT));
        Self {
            shared,
            threads: started,
            write_room: room(WRITE_ROOM),
            read_room: room(READ_ROOM),
            hash_room: Arc::new(Semaphore::new(HASH_ROOM)),
        }
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.shared.store
    }

    /// As [`Store::write`]. Waits for room while too much is queued; once queued it is carried out even when the
    /// caller no longer waits.
    ///
    /// # Errors
    /// As [`Store::write`]; [`StoreError::Closed`] when there are no threads.
    pub async fn write(&self, offset: u64, data: Bytes) -> Result<(), StoreError> {
        self.write_all(vec![(offset, data)]).await
    }

    /// Several of them at the price of one wakeup, in order. Ends at the first that fails.
    ///
    /// # Errors
    /// As [`DiskPool::write`].
    pub async fn write_all(&self, parts: Vec<(u64, Bytes)>) -> Result<(), StoreError> {
        let len = parts.iter().map(|(_, data)| data.len()).sum();
        let room = room(&self.write_room, len, WRITE_ROOM).await?;
        let (done, answer) = oneshot::channel();
        self.push(false, |q| q.writes.push_back(WriteJob { parts, done, _room: room }))?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// As [`Store::read`]. Not carried out when the caller no longer waits.
    ///
    /// # Errors
    /// As [`Store::read`]; [`StoreError::Closed`] when there are no threads.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        // Before memory is taken for it.
        let end = offset.checked_add(len as u64);
        if end.is_none_or(|end| end > self.shared.store.meta().layout.total_len()) {
            return Err(StoreError::OutOfRange);
        }
        let room = room(&self.read_room, len, READ_ROOM).await?;
        let (done, answer) = oneshot::channel();
        self.push(false, |q| q.reads.push_back(ReadJob { offset, len, done, _room: room }))?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// As [`Store::verify`]. It sees every write whose call returned before.
    ///
    /// # Errors
    /// As [`Store::verify`]; [`StoreError::Closed`] when there are no threads.
    pub async fn verify(&self, piece: PieceIndex) -> Result<bool, StoreError> {
        let room = room(&self.hash_room, UNIT, UNIT).await?;
        let (done, answer) = oneshot::channel();
        self.push(true, |q| q.hashes.push_back(HashJob { piece, done, _room: room }))?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    fn push(&self, hash: bool, add: impl FnOnce(&mut Queue)) -> Result<(), StoreError> {
        let mut queue = self.shared.queue.lock();
        if queue.closed {
            return Err(StoreError::Closed);
        }
        add(&mut queue);
        // Who is awake looks before it sleeps; who sleeps is woken once. The thread that takes no hashes comes first.
        let kind = if hash || queue.idle[OTHER] == 0 { HASHING } else { OTHER };
        let asleep = queue.idle[kind] > 0;
        queue.idle[kind] -= usize::from(asleep);
        drop(queue);
        if asleep {
            self.shared.wake[kind].notify_one();
        }
        Ok(())
    }
}

/// Waits for room for `bytes`. More than all the room there is waits for all of it.
async fn room(semaphore: &Arc<Semaphore>, bytes: usize, all: usize) -> Result<OwnedSemaphorePermit, StoreError> {
    let units = u32::try_from(bytes.min(all).div_ceil(UNIT)).unwrap_or(u32::MAX);
    semaphore.clone().acquire_many_owned(units).await.map_err(|_| StoreError::Closed)
}

impl Drop for DiskPool {
    fn drop(&mut self) {
        {
            let mut queue = self.shared.queue.lock();
            queue.closed = true;
            queue.reads.clear();
            queue.hashes.clear();
        }
        for wake in &self.shared.wake {
            wake.notify_all();
        }
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a disk thread had ended before its time");
            }
        }
    }
}

impl Shared {
    fn work(&self, takes_hashes: bool) {
        while let Some(job) = self.take(takes_hashes) {
            // Nobody may be waiting any more; that is no error.
            match job {
                Job::Write(job) => drop(job.done.send(self.write(&job.parts))),
                Job::Read(job) => {
                    let mut buf = vec![0; job.len];
                    let read = self.store.read(job.offset, &mut buf).map(|()| buf.into());
                    drop(job.done.send(read));
                }
                Job::Hash(job) if job.done.is_closed() => {}
                Job::Hash(job) => {
                    let begun = self.running.take(job.piece);
                    drop(job.done.send(self.store.verify_on(job.piece, begun)));
                }
            }
        }
    }

    fn write(&self, parts: &[(u64, Bytes)]) -> Result<(), StoreError> {
        for (offset, data) in parts {
            if let Err(e) = self.store.write(*offset, data) {
                self.running.spoil(ByteRange::new(*offset, offset.saturating_add(data.len() as u64)));
                return Err(e);
            }
            // Before the caller hears of it, and asks for the piece's hash.
            self.running.wrote(*offset, data);
        }
        Ok(())
    }

    /// Waits for a job; `None` once closed and nothing is left.
    fn take(&self, takes_hashes: bool) -> Option<Job> {
        let mut queue = self.queue.lock();
        loop {
            match queue.next(takes_hashes) {
                None if queue.closed => return None,
                None => {
                    let kind = if takes_hashes { HASHING } else { OTHER };
                    queue.idle[kind] += 1;
                    // Whoever wakes it takes it off the count.
                    self.wake[kind].wait(&mut queue);
                }
                job => return job,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrent::testing::{TestFile, TestTorrent, torrent};

    fn pool(dir: &std::path::Path) -> (TestTorrent, Arc<Store>, DiskPool) {
        let t = torrent("t", &[TestFile::new("a", 300_000), TestFile::new("b", 200_000)], 65_536);
        let store = Arc::new(Store::open(dir, t.meta()).unwrap().0);
        (t, store.clone(), DiskPool::new(store, 3))
    }

    #[tokio::test]
    async fn many_tasks_write_hash_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let (t, _, pool) = pool(dir.path());
        let content = Bytes::from(t.content);
        let piece = async |p: u32| {
            let start = p as usize * 65_536;
            let end = (start + 65_536).min(content.len());
            let blocks = (start..end).step_by(16_384).map(|at| {
                let block = content.slice(at..(at + 16_384).min(end));
                pool.write(at as u64, block)
            });
            futures::future::try_join_all(blocks).await.unwrap();
            assert!(pool.verify(PieceIndex(p)).await.unwrap());
            assert_eq!(pool.read(start as u64, end - start).await.unwrap(), content.slice(start..end));
        };
        futures::future::join_all((0..8).map(piece)).await;
        assert!(matches!(pool.verify(PieceIndex(8)).await, Err(StoreError::OutOfRange)));
        assert!(matches!(pool.read(0, usize::MAX).await, Err(StoreError::OutOfRange)));
        assert!(matches!(pool.write(u64::MAX, Bytes::from_static(b"x")).await, Err(StoreError::OutOfRange)));
    }

    #[tokio::test]
    async fn dropping_finishes_the_writes_that_were_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let (t, store, pool) = pool(dir.path());
        let content = Bytes::from(t.content);
        let mut writes: Vec<_> = (0..content.len())
            .step_by(16_384)
            .map(|at| Box::pin(pool.write(at as u64, content.slice(at..(at + 16_384).min(content.len())))))
            .collect();
        // Polled once each, so that all are queued, then abandoned.
        for write in &mut writes {
            let _ = futures::poll!(write);
        }
        drop(writes);
        drop(pool);
        assert!((0..8).all(|p| store.verify(PieceIndex(p)).unwrap()));
    }

    #[tokio::test]
    async fn more_than_the_room_waits_and_none_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let (_, _, pool) = pool(dir.path());
        let all = pool.write_room.clone().acquire_many_owned((WRITE_ROOM / UNIT) as u32).await.unwrap();
        let mut write = Box::pin(pool.write(0, Bytes::from_static(b"abc")));
        assert!(futures::poll!(&mut write).is_pending());
        // Reads and hashes have room of their own.
        assert!(matches!(pool.read(0, 3).await, Err(StoreError::Gone)));
        assert!(!pool.verify(PieceIndex(0)).await.unwrap());
        assert!(futures::poll!(&mut write).is_pending());
        drop(all);
        write.await.unwrap();
        assert_eq!(pool.read(0, 3).await.unwrap(), "abc");
    }

    async fn jobs(
        writes: usize,
        reads: usize,
        hashes: usize,
    ) -> (Queue, Vec<oneshot::Receiver<Result<Bytes, StoreError>>>) {
        let rooms = Arc::new(Semaphore::new(1000));
        let mut queue = Queue::default();
        for _ in 0..writes {
            let (done, _room) = (oneshot::channel().0, room(&rooms, 1, 1).await.unwrap());
            queue.writes.push_back(WriteJob { parts: Vec::new(), done, _room });
        }
        let mut waiting = Vec::new();
        for _ in 0..reads {
            let (done, answer) = oneshot::channel();
            waiting.push(answer);
            queue.reads.push_back(ReadJob { offset: 0, len: 0, done, _room: room(&rooms, 1, 1).await.unwrap() });
        }
        for _ in 0..hashes {
            let (done, _room) = (oneshot::channel().0, room(&rooms, 1, 1).await.unwrap());
            queue.hashes.push_back(HashJob { piece: PieceIndex(0), done, _room });
        }
        (queue, waiting)
    }

    /// The order of a queue as a picture: w, r and h.
    fn order(queue: &mut Queue, takes_hashes: bool) -> String {
        let letter = |job| match job {
            Job::Write(_) => 'w',
            Job::Read(_) => 'r',
            Job::Hash(_) => 'h',
        };
        std::iter::from_fn(|| queue.next(takes_hashes).map(letter)).collect()
    }

    #[tokio::test]
    async fn reads_go_first_but_leave_writes_a_share() {
        let (mut queue, _waiting) = jobs(3, 10, 2).await;
        assert_eq!(order(&mut queue, false), "rrrrwrrrrwrrw");
        assert_eq!(queue.hashes.len(), 2);
        let (mut queue, _waiting) = jobs(1, 1, 2).await;
        assert_eq!(order(&mut queue, true), "hhrw");
    }

    #[tokio::test]
    async fn a_read_that_nobody_waits_for_is_passed_over() {
        let (mut queue, mut waiting) = jobs(1, 3, 0).await;
        waiting.remove(1);
        assert_eq!(order(&mut queue, false), "rrw");
    }
}

//! The bytes of one file while they arrive: a [`ByteSource`] over the store, fed by what the engine says is playable.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::mpsc::UnboundedSender;

use super::ranges::RangeSet;
use super::reader::{ByteSource, Cancel};
use crate::engine::Event;
use crate::torrent::Store;
use crate::units::ByteRange;

/// A waiting reader looks at its cancel this often; being woken by data does not wait for it.
const LOOK: Duration = Duration::from_millis(50);

/// What driver and readers share.
pub struct Shelf {
    inner: Mutex<Inner>,
    change: Condvar,
}

#[derive(Default)]
struct Inner {
    playable: RangeSet,
    /// The stream cannot go on: what readers are told.
    failure: Option<String>,
    closed: bool,
}

impl Shelf {
    pub fn new() -> Self {
        Self { inner: Mutex::default(), change: Condvar::new() }
    }

    /// The reader may have these bytes.
    pub fn playable(&self, r: ByteRange) {
        self.inner.lock().playable.insert(r);
        self.change.notify_all();
    }

    /// The reader may no longer have them.
    pub fn void(&self, r: ByteRange) {
        self.inner.lock().playable.remove(r);
    }

    /// Ends all reads with this sentence.
    pub fn fail(&self, why: &str) {
        self.inner.lock().failure.get_or_insert_with(|| why.to_owned());
        self.change.notify_all();
    }

    /// Ends all reads: the stream is being closed.
    pub fn close(&self) {
        self.inner.lock().closed = true;
        self.change.notify_all();
    }
}

/// One file of a stream.
pub struct StreamFile {
    pub(super) shelf: Arc<Shelf>,
    pub(super) store: Arc<Store>,
    pub(super) file: ByteRange,
    pub(super) events: UnboundedSender<Event>,
}

impl StreamFile {
    /// Waits until the byte at `at` may be read; the end of the run that holds it.
    fn wait(&self, at: u64, want: ByteRange, cancel: &Cancel) -> io::Result<u64> {
        let mut told = false;
        let mut inner = self.shelf.inner.lock();
        let end = loop {
            if cancel.is_set() || inner.closed {
                break Err(io::ErrorKind::Interrupted.into());
            }
            let end = inner.playable.run_end(at);
            if end > at {
                break Ok(end);
            }
            if let Some(why) = &inner.failure {
                break Err(io::Error::other(why.clone()));
            }
            if !told {
                told = true;
                // Nobody listens any more only while the stream is being closed.
                let _ = self.events.send(Event::ReaderBlocked { range: want });
            }
            self.shelf.change.wait_for(&mut inner, LOOK);
        };
        drop(inner);
        if told {
            let _ = self.events.send(Event::ReaderResumed);
        }
        end
    }
}

impl ByteSource for StreamFile {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8], cancel: &Cancel) -> io::Result<usize> {
        let at = self.file.start + offset;
        if at >= self.file.end || buf.is_empty() {
            return Ok(0);
        }
        let want = ByteRange::new(at, (at + buf.len() as u64).min(self.file.end));
        let end = self.wait(at, want, cancel)?.min(want.end);
        let n = (end - at) as usize;
        let part = buf.get_mut(..n).ok_or_else(|| io::Error::other("a run longer than the buffer"))?;
        self.store.read(at, part).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(n)
    }
}

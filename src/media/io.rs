//! The bytes as FFmpeg reads them. Invariant: no panic and no error kind that would poison FFmpeg's context for good
//! leaves this file; what went wrong is kept as a sentence for the user.

use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::stream::reader::Reader;

/// A reader that several attempts to open the same bytes share.
#[derive(Clone)]
pub(super) struct SharedReader {
    reader: Arc<Mutex<Reader>>,
    fault: Arc<Mutex<Option<String>>>,
}

impl SharedReader {
    pub(super) fn new(reader: Reader) -> Self {
        Self { reader: Arc::new(Mutex::new(reader)), fault: Arc::default() }
    }

    /// The sentence of the last final error, once.
    pub(super) fn take_fault(&self) -> Option<String> {
        self.fault.lock().take()
    }

    fn guarded<T>(&self, work: impl FnOnce(&mut Reader) -> io::Result<T>) -> io::Result<T> {
        // The lock is never contended: FFmpeg calls from one thread at a time.
        let result = catch_unwind(AssertUnwindSafe(|| work(&mut self.reader.lock())))
            .unwrap_or_else(|_| Err(io::Error::other("Reading this video failed inside the player.")));
        match result {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => Err(e),
            Err(e) => {
                *self.fault.lock() = Some(e.to_string());
                // Kinds such as TimedOut have a meaning of their own to FFmpeg; a plain error ends the attempt.
                Err(io::Error::other(e))
            }
            ok => ok,
        }
    }
}

impl Read for SharedReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.guarded(|r| r.read(buf))
    }
}

impl Seek for SharedReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.guarded(|r| r.seek(to))
    }
}

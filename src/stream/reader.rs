//! The blocking reader that media plays from: a local file, or a stream that is still arriving, look the same.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that may still be arriving.
pub trait ByteSource: Send + Sync {
    /// Length in bytes; known before a reader is made.
    fn len(&self) -> u64;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads at `offset` into `buf`: at least one byte unless at the end. Blocks until a byte is there, and returns
    /// [`io::ErrorKind::Interrupted`] within about 100 ms once `cancel` is set. Any other error is final for
    /// these bytes and carries a sentence for the user.
    fn read_at(&self, offset: u64, buf: &mut [u8], cancel: &Cancel) -> io::Result<usize>;
}

/// Ends blocked reads from any thread. Sticky until [`Cancel::clear`].
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn clear(&self) {
        self.0.store(false, Ordering::Release);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// A position in a [`ByteSource`].
pub struct Reader {
    source: Arc<dyn ByteSource>,
    at: u64,
    cancel: Cancel,
}

impl Reader {
    pub fn new(source: Arc<dyn ByteSource>) -> Self {
        Self { source, at: 0, cancel: Cancel::default() }
    }

    /// Another reader of the same bytes, at their start, with a cancel of its own.
    pub fn reopen(&self) -> Self {
        Self::new(self.source.clone())
    }

    /// Handle that ends this reader's blocked reads.
    pub fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    /// Length of the whole, in bytes.
    pub fn len(&self) -> u64 {
        self.source.len()
    }

    pub fn is_empty(&self) -> bool {
        self.source.is_empty()
    }
}

impl Read for Reader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_set() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if buf.is_empty() || self.at >= self.source.len() {
            return Ok(0);
        }
        let n = self.source.read_at(self.at, buf, &self.cancel)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::End(d) => self.len().checked_add_signed(d),
            SeekFrom::Current(d) => self.at.checked_add_signed(d),
        };
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start"))?;
        Ok(self.at)
    }
}

/// A file on this machine.
pub struct LocalFile {
    file: std::fs::File,
    len: u64,
}

impl LocalFile {
    /// Fails as opening a file does, and on what is not a file.
    pub fn open(path: &std::path::Path) -> io::Result<Self> {
        let file = std::fs::File::open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
        }
        Ok(Self { file, len: meta.len() })
    }
}

impl ByteSource for LocalFile {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buf: &mut [u8], _cancel: &Cancel) -> io::Result<usize> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_at(&self.file, buf, offset);
        #[cfg(windows)]
        return std::os::windows::fs::FileExt::seek_read(&self.file, buf, offset);
    }
}

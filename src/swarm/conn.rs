//! A peer's connection, TCP or uTP, encrypted or not: what the handshakes and the link read and write.
//!
//! Invariant: a plain TCP link pays one branch per read and per write for all of this. Bytes are decrypted where they lie.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use librqbit_utp::{UtpStream, UtpStreamReadHalf, UtpStreamWriteHalf};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::budget;
use super::mse::Ciphers;
use super::mse_crypto::Rc4;

/// What a uTP stream gives us at a time, before the budget has a say: a few packets.
const UTP_AHEAD: usize = 16 * 1024;

/// A connection whose handshakes are not done.
pub enum Conn {
    Tcp(TcpStream),
    Utp(Box<UtpStream>),
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_utp() { "uTP" } else { "TCP" })
    }
}

impl Conn {
    pub fn is_utp(&self) -> bool {
        matches!(self, Self::Utp(_))
    }

    /// Reads what is there, at most as much as `buf` has room for; 0 at the end.
    pub async fn read(&mut self, buf: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Tcp(s) => s.read_buf(buf).await,
            Self::Utp(s) => s.read_buf(buf).await,
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(s) => s.write_all(bytes).await,
            Self::Utp(s) => s.write_all(bytes).await,
        }
    }

    /// For the link, whose reading and writing go on side by side.
    pub fn split(self, ciphers: Option<Ciphers>) -> (ReadHalf, WriteHalf) {
        let (read, write) = ciphers.map(|c| (Box::new(c.read), Box::new(c.write))).unzip();
        match self {
            Self::Tcp(s) => {
                let (rd, wr) = s.into_split();
                (ReadHalf { from: From::Tcp(rd), cipher: read }, WriteHalf { to: To::Tcp(wr), cipher: write })
            }
            Self::Utp(s) => {
                let (rd, wr) = s.split();
                let from = From::Utp { half: rd, ahead: BytesMut::new(), ended: false };
                (ReadHalf { from, cipher: read }, WriteHalf { to: To::Utp(wr), cipher: write })
            }
        }
    }
}

/// What a link reads from.
pub struct ReadHalf {
    from: From,
    cipher: Option<Box<Rc4>>,
}

enum From {
    Tcp(OwnedReadHalf),
    /// A uTP stream cannot be asked whether there is something to read but by reading it.
    Utp {
        half: UtpStreamReadHalf,
        ahead: BytesMut,
        ended: bool,
    },
}

impl ReadHalf {
    /// Resolves when there is something to read, or the end. Nothing is lost when this is dropped before.
    pub async fn readable(&mut self) -> io::Result<()> {
        match &mut self.from {
            From::Tcp(rd) => rd.readable().await,
            From::Utp { half, ahead, ended } => poll_fn(|cx| poll_ahead(half, ahead, ended, cx)).await,
        }
    }

    /// Reads at most `most` bytes behind those in `buf`, within its capacity, decrypted; 0 at the end.
    /// [`io::ErrorKind::WouldBlock`] when there was nothing after all.
    pub fn try_read(&mut self, buf: &mut BytesMut, most: usize) -> io::Result<usize> {
        let n = match &mut self.from {
            From::Tcp(rd) => rd.try_read_buf(&mut (&mut *buf).limit(most))?,
            From::Utp { ahead, ended, .. } => {
                if ahead.is_empty() && !*ended {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                let n = ahead.len().min(most).min(buf.capacity() - buf.len());
                buf.put_slice(&ahead[..n]);
                ahead.advance(n);
                n
            }
        };
        if let Some(cipher) = &mut self.cipher {
            let new = buf.len() - n;
            cipher.apply(buf.get_mut(new..).unwrap_or_default());
        }
        Ok(n)
    }

    /// Narrows what the peer may have under way towards us, or gives it back. A uTP link has a fixed window of its own, which what
    /// is not read fills.
    pub fn narrow(&self, window: Option<usize>) {
        if let From::Tcp(rd) = &self.from {
            budget::narrow(rd.as_ref(), window);
        }
    }
}

fn poll_ahead(
    half: &mut UtpStreamReadHalf,
    ahead: &mut BytesMut,
    ended: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    if !ahead.is_empty() || *ended {
        return Poll::Ready(Ok(()));
    }
    ahead.resize(UTP_AHEAD, 0);
    let mut space = ReadBuf::new(ahead);
    let polled = Pin::new(half).poll_read(cx, &mut space);
    let n = space.filled().len();
    ahead.truncate(n);
    ready!(polled)?;
    *ended = n == 0;
    Poll::Ready(Ok(()))
}

/// What a link writes to.
pub struct WriteHalf {
    to: To,
    cipher: Option<Box<Rc4>>,
}

enum To {
    Tcp(OwnedWriteHalf),
    Utp(UtpStreamWriteHalf),
}

impl WriteHalf {
    /// Writes `head`, then `block`; the head is left in any state.
    pub async fn write(&mut self, head: &mut BytesMut, block: Bytes) -> io::Result<()> {
        let Some(cipher) = &mut self.cipher else {
            // One vectored write, the block uncopied.
            return self.to.write(&mut Buf::chain(&head[..], block)).await;
        };
        // The block is the store's, or another link's too.
        head.extend_from_slice(&block);
        cipher.apply(head);
        self.to.write(&mut &head[..]).await
    }
}

impl To {
    async fn write(&mut self, bytes: &mut impl Buf) -> io::Result<()> {
        match self {
            Self::Tcp(wr) => wr.write_all_buf(bytes).await,
            Self::Utp(wr) => wr.write_all_buf(bytes).await,
        }
    }
}

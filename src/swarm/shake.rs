//! The handshake over a connection, from either side, plain or obfuscated.
//!
//! Invariant: a peer that has not shaken hands makes us hold a few kilobytes at most, and every wait in here is under its
//! caller's deadline.

use bytes::BytesMut;

use super::api::Encryption;
use super::conn::Conn;
use super::handshake::{self, Handshake, MAGIC};
use super::link::{self, LinkEnd};
use super::mse::{Ciphers, Done, Initiator, Pads, Responder};
use super::shared::Shared;
use super::wire::WireError;

/// Read at a time: all that a peer can usefully say before our answer.
const ROOM: usize = 4 * 1024;

/// How a peer is dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Plain,
    Obfuscated,
}

/// A handshake that went well.
#[derive(Debug)]
pub struct Shake {
    pub peer: Handshake,
    /// `None` on a plain stream.
    pub ciphers: Option<Ciphers>,
    /// It was obfuscated, whatever the stream is.
    pub obfuscated: bool,
    /// What came behind the handshake, decrypted.
    pub early: BytesMut,
}

/// A connection while its handshakes go on.
struct Shaking<'a> {
    shared: &'a Shared,
    conn: &'a mut Conn,
    /// Read and decrypted, not yet understood.
    buf: BytesMut,
    ciphers: Option<Ciphers>,
}

impl<'a> Shaking<'a> {
    fn new(shared: &'a Shared, conn: &'a mut Conn) -> Self {
        Self { shared, conn, buf: BytesMut::with_capacity(ROOM), ciphers: None }
    }

    /// Reads once more.
    async fn more(&mut self) -> Result<(), LinkEnd> {
        self.buf.reserve(ROOM);
        let before = self.buf.len();
        let n = self.conn.read(&mut self.buf).await?;
        if n == 0 {
            return Err(LinkEnd::Closed);
        }
        link::count(self.shared, n);
        if let Some(c) = &mut self.ciphers {
            c.read.apply(self.buf.get_mut(before..).unwrap_or_default());
        }
        Ok(())
    }

    async fn fill(&mut self, len: usize) -> Result<(), LinkEnd> {
        while self.buf.len() < len {
            self.more().await?;
        }
        Ok(())
    }

    /// Writes what is not encrypted yet. `sent` goes before it and is.
    async fn write(&mut self, mut sent: BytesMut, bytes: &[u8]) -> Result<(), LinkEnd> {
        let clear = sent.len();
        sent.extend_from_slice(bytes);
        if let Some(c) = &mut self.ciphers {
            c.write.apply(sent.get_mut(clear..).unwrap_or_default());
        }
        link::count(self.shared, sent.len());
        self.conn.write(&sent).await?;
        Ok(())
    }

    /// Goes through the obfuscated handshake; `said` is what must be sent first. Gives what must still be sent at its end.
    async fn obfuscated(
        &mut self,
        mut said: BytesMut,
        mut step: impl FnMut(&mut BytesMut, &mut BytesMut) -> Result<Option<Done>, super::mse::MseError>,
    ) -> Result<BytesMut, LinkEnd> {
        loop {
            if let Some(done) = step(&mut self.buf, &mut said)? {
                self.ciphers = done.ciphers;
                return Ok(said);
            }
            if !said.is_empty() {
                self.write(std::mem::take(&mut said), &[]).await?;
            }
            self.more().await?;
        }
    }

    /// The peer's handshake, which is whole.
    fn end(mut self, obfuscated: bool) -> Result<Shake, LinkEnd> {
        let bytes = self.buf.split_to(handshake::LEN.min(self.buf.len()));
        let bytes = bytes.first_chunk().ok_or(LinkEnd::Closed)?;
        let peer = Handshake::decode(bytes)?;
        if peer.info_hash != self.shared.config.info_hash {
            return Err(WireError::WrongInfoHash.into());
        }
        Ok(Shake { peer, ciphers: self.ciphers, obfuscated, early: self.buf })
    }
}

/// Shakes hands with a peer we dialled. `first` is our handshake and what follows it at once.
pub async fn dialled(shared: &Shared, conn: &mut Conn, first: &[u8], manner: Manner) -> Result<Shake, LinkEnd> {
    let mut s = Shaking::new(shared, conn);
    match manner {
        Manner::Plain => s.write(BytesMut::new(), first).await?,
        Manner::Obfuscated => {
            let (hash, mut said) = (shared.config.info_hash, BytesMut::new());
            let mut side = Initiator::new(hash, shared.config.encryption, Pads::random(), first, &mut said);
            s.obfuscated(said, |input, out| side.step(input, out)).await?;
        }
    }
    s.fill(handshake::LEN).await?;
    s.end(manner == Manner::Obfuscated)
}

/// Shakes hands with a peer that dialled us.
pub async fn accepted(shared: &Shared, conn: &mut Conn) -> Result<Shake, LinkEnd> {
    let (hash, policy) = (shared.config.info_hash, shared.config.encryption);
    let ours = Handshake::ours(hash, shared.peer_id).encode();
    let mut s = Shaking::new(shared, conn);
    s.fill(MAGIC.len()).await?;
    let plain = s.buf.starts_with(MAGIC);
    let mut said = BytesMut::new();
    match (plain, policy) {
        (true, Encryption::Require) => return Err(LinkEnd::Breach("it does not encrypt")),
        (false, Encryption::Off) => return Err(WireError::NotBitTorrent.into()),
        (true, _) => {}
        (false, _) => {
            let mut side = Responder::new(hash, policy, Pads::random());
            said = s.obfuscated(said, |input, out| side.step(input, out)).await?;
            if s.buf.len() < 48 {
                // It waits for our method before it says who it is.
                s.write(std::mem::take(&mut said), &[]).await?;
            }
        }
    }
    s.fill(48).await?;
    if s.buf.get(28..48) != Some(&hash.0[..]) {
        return Err(WireError::WrongInfoHash.into());
    }
    // Some wait for our half before they send their id.
    s.write(said, &ours).await?;
    s.fill(handshake::LEN).await?;
    s.end(!plain)
}

//! The obfuscated handshake, "Message Stream Encryption": both sides, without sockets. Bytes in, bytes out.
//!
//! ```text
//! dials ─► public key, pad ─────────────────────────────────────────────────────────────►
//!        ◄──────────────────────────────────────────────────────────── public key, pad
//!         ─► mark, torrent, [zeros, methods offered, pad, first bytes] ─────────────────►
//!        ◄─────────────────────────────────── [zeros, method chosen, pad] and the stream
//! ```
//!
//! In brackets: RC4. The stream is the method's: RC4 goes on, or plain.
//!
//! Invariant: memory and search are bounded whatever comes: a pad has at most [`MAX_PAD`] bytes, a mark is found within
//! that or the peer is refused, and no byte is looked for twice.

use bytes::{Buf, BufMut, BytesMut};

use super::api::Encryption;
use super::mse_crypto::{KEY_LEN, KeyPair, Rc4, Secret};
use crate::torrent::InfoHash;

/// The specification's.
const MAX_PAD: usize = 512;

/// The pads inside of the encrypted part; ours stay short, so that all of it leaves in one packet.
const MAX_OUR_INNER_PAD: usize = 96;

/// The most of a peer's first bytes that is taken before our answer: a handshake with a bitfield of 128,000 pieces.
const MAX_FIRST: usize = 16 * 1024;

/// Zeros that, encrypted, show where the other side's message starts.
const ZEROS: usize = 8;

const PLAIN: u32 = 1;
const RC4: u32 = 2;

/// Why an obfuscated handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MseError {
    #[error("it does not speak BitTorrent")]
    NoMark,
    #[error("its key is no key")]
    BadKey,
    #[error("it is in another torrent")]
    OtherTorrent,
    #[error("its obfuscated handshake breaks the rules")]
    Broken,
    #[error("it takes no encryption that we take")]
    NoMethod,
}

/// The ciphers of an encrypted link.
#[derive(Debug)]
pub struct Ciphers {
    pub read: Rc4,
    pub write: Rc4,
}

/// How long our pads are, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Pads {
    pub outer: usize,
    pub inner: usize,
}

impl Pads {
    pub fn random() -> Self {
        Self { outer: rand::random_range(0..=MAX_PAD), inner: rand::random_range(0..=MAX_OUR_INNER_PAD) }
    }

    fn put_outer(self, out: &mut BytesMut) {
        let at = out.len();
        out.put_bytes(0, self.outer.min(MAX_PAD));
        rand::fill(out.get_mut(at..).unwrap_or_default());
    }

    fn put_inner(self, out: &mut BytesMut) {
        let len = self.inner.min(MAX_PAD);
        out.put_u16(len as u16);
        out.put_bytes(0, len);
    }
}

/// What the handshake led to. All bytes that came after it are left in the input, decrypted.
#[derive(Debug)]
pub struct Done {
    /// `None`: only the handshake was obfuscated, the stream is plain.
    pub ciphers: Option<Ciphers>,
}

/// Takes a key off the input, once it is whole.
fn take_key(input: &mut BytesMut, ours: &KeyPair) -> Result<Option<Secret>, MseError> {
    let Some(key) = input.first_chunk::<KEY_LEN>() else { return Ok(None) };
    let secret = ours.secret(key).ok_or(MseError::BadKey)?;
    input.advance(KEY_LEN);
    Ok(Some(secret))
}

/// Drops all up to and with `mark`, which must come after a pad at most. False when more bytes are needed; `seen` says
/// how many of them were looked at before.
fn find<const N: usize>(input: &mut BytesMut, mark: &[u8; N], seen: &mut usize) -> Result<bool, MseError> {
    let window = &input[..input.len().min(MAX_PAD + N)];
    let found = window.get(*seen..).and_then(|w| w.windows(N).position(|w| w == mark));
    match found {
        Some(at) => {
            input.advance(*seen + at + N);
            Ok(true)
        }
        None if window.len() == MAX_PAD + N => Err(MseError::NoMark),
        None => {
            *seen = (window.len() + 1).saturating_sub(N);
            Ok(false)
        }
    }
}

/// Decrypts a fixed head once it is whole.
fn take<const N: usize>(input: &mut BytesMut, rc4: &mut Rc4) -> Option<[u8; N]> {
    let mut head = *input.first_chunk::<N>()?;
    input.advance(N);
    rc4.apply(&mut head);
    Some(head)
}

/// Decrypts and drops a pad once it is whole.
fn take_pad(input: &mut BytesMut, rc4: &mut Rc4, len: usize) -> bool {
    match input.get_mut(..len) {
        Some(pad) => {
            rc4.apply(pad);
            input.advance(len);
            true
        }
        None => false,
    }
}

/// A pad's length, checked.
fn pad_len(bytes: [u8; 2]) -> Result<usize, MseError> {
    Some(usize::from(u16::from_be_bytes(bytes))).filter(|n| *n <= MAX_PAD).ok_or(MseError::Broken)
}

/// The methods a policy takes.
fn methods(policy: Encryption) -> u32 {
    match policy {
        Encryption::Prefer => RC4 | PLAIN,
        Encryption::Require => RC4,
        Encryption::Off => 0,
    }
}

/// The side that dials.
#[derive(Debug)]
pub struct Initiator {
    info_hash: InfoHash,
    methods: u32,
    pads: Pads,
    /// Our first bytes to the peer: sent with the handshake, which saves a round trip.
    first: BytesMut,
    state: Dialling,
}

#[derive(Debug)]
enum Dialling {
    Key(KeyPair),
    Mark { mark: [u8; ZEROS], seen: usize, read: Rc4, write: Rc4 },
    Chosen { read: Rc4, write: Rc4 },
    Pad { len: usize, method: u32, read: Rc4, write: Rc4 },
    Over,
}

impl Initiator {
    /// Starts: puts our key into `out`. `first` are the first bytes of the stream; they go out with the handshake.
    pub fn new(info_hash: InfoHash, policy: Encryption, pads: Pads, first: &[u8], out: &mut BytesMut) -> Self {
        let keys = KeyPair::new();
        out.put_slice(&keys.public);
        pads.put_outer(out);
        Self { info_hash, methods: methods(policy), pads, first: first.into(), state: Dialling::Key(keys) }
    }

    /// Takes what came and puts what is to be sent; gives the end once it is reached. Not to be called after an error.
    pub fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Done>, MseError> {
        loop {
            match std::mem::replace(&mut self.state, Dialling::Over) {
                Dialling::Key(keys) => {
                    let Some(secret) = take_key(input, &keys)? else {
                        self.state = Dialling::Key(keys);
                        return Ok(None);
                    };
                    let (mut write, mut read) = secret.ciphers(&self.info_hash.0);
                    out.put_slice(&secret.mark());
                    out.put_slice(&secret.torrent(&self.info_hash.0));
                    let clear = out.len();
                    out.put_bytes(0, ZEROS);
                    out.put_u32(self.methods);
                    self.pads.put_inner(out);
                    // A length of two bytes; what is longer can wait for the answer.
                    self.first.truncate(usize::from(u16::MAX));
                    out.put_u16(self.first.len() as u16);
                    out.put_slice(&self.first);
                    write.apply(out.get_mut(clear..).unwrap_or_default());
                    let mut mark = [0; ZEROS];
                    read.apply(&mut mark);
                    self.state = Dialling::Mark { mark, seen: 0, read, write };
                }
                Dialling::Mark { mark, mut seen, read, write } => {
                    if !find(input, &mark, &mut seen)? {
                        self.state = Dialling::Mark { mark, seen, read, write };
                        return Ok(None);
                    }
                    self.state = Dialling::Chosen { read, write };
                }
                Dialling::Chosen { mut read, write } => {
                    let Some([a, b, c, d, pad @ ..]) = take::<6>(input, &mut read) else {
                        self.state = Dialling::Chosen { read, write };
                        return Ok(None);
                    };
                    let method = u32::from_be_bytes([a, b, c, d]);
                    if method & self.methods == 0 || !matches!(method, RC4 | PLAIN) {
                        return Err(MseError::NoMethod);
                    }
                    self.state = Dialling::Pad { len: pad_len(pad)?, method, read, write };
                }
                Dialling::Pad { len, method, mut read, write } => {
                    if !take_pad(input, &mut read, len) {
                        self.state = Dialling::Pad { len, method, read, write };
                        return Ok(None);
                    }
                    return Ok(Some(done(method, read, write, input)));
                }
                Dialling::Over => return Err(MseError::Broken),
            }
        }
    }
}

fn done(method: u32, mut read: Rc4, write: Rc4, input: &mut BytesMut) -> Done {
    if method == PLAIN {
        return Done { ciphers: None };
    }
    read.apply(input);
    Done { ciphers: Some(Ciphers { read, write }) }
}

/// The side that is dialled.
#[derive(Debug)]
pub struct Responder {
    info_hash: InfoHash,
    methods: u32,
    pads: Pads,
    state: Answering,
}

#[derive(Debug)]
enum Answering {
    Key,
    Mark { secret: Secret, seen: usize },
    Torrent { secret: Secret },
    Offer { read: Rc4, write: Rc4 },
    Pad { len: usize, method: u32, read: Rc4, write: Rc4 },
    First { method: u32, read: Rc4, write: Rc4 },
    FirstBytes { len: usize, method: u32, read: Rc4, write: Rc4 },
    Over,
}

impl Responder {
    pub fn new(info_hash: InfoHash, policy: Encryption, pads: Pads) -> Self {
        Self { info_hash, methods: methods(policy), pads, state: Answering::Key }
    }

    /// Like [`Initiator::step`]; at the end the input starts with the peer's first bytes.
    pub fn step(&mut self, input: &mut BytesMut, out: &mut BytesMut) -> Result<Option<Done>, MseError> {
        loop {
            match std::mem::replace(&mut self.state, Answering::Over) {
                Answering::Key => {
                    // Nothing is computed for who does not send a whole key.
                    if input.len() < KEY_LEN {
                        self.state = Answering::Key;
                        return Ok(None);
                    }
                    let keys = KeyPair::new();
                    let Some(secret) = take_key(input, &keys)? else { return Err(MseError::Broken) };
                    out.put_slice(&keys.public);
                    self.pads.put_outer(out);
                    self.state = Answering::Mark { secret, seen: 0 };
                }
                Answering::Mark { secret, mut seen } => {
                    if !find(input, &secret.mark(), &mut seen)? {
                        self.state = Answering::Mark { secret, seen };
                        return Ok(None);
                    }
                    self.state = Answering::Torrent { secret };
                }
                Answering::Torrent { secret } => {
                    let Some(torrent) = input.first_chunk::<20>() else {
                        self.state = Answering::Torrent { secret };
                        return Ok(None);
                    };
                    if *torrent != secret.torrent(&self.info_hash.0) {
                        return Err(MseError::OtherTorrent);
                    }
                    input.advance(20);
                    let (read, write) = secret.ciphers(&self.info_hash.0);
                    self.state = Answering::Offer { read, write };
                }
                Answering::Offer { mut read, write } => {
                    let Some(head) = take::<{ ZEROS + 6 }>(input, &mut read) else {
                        self.state = Answering::Offer { read, write };
                        return Ok(None);
                    };
                    let [0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d, pad @ ..] = head else {
                        return Err(MseError::Broken);
                    };
                    let both = u32::from_be_bytes([a, b, c, d]) & self.methods;
                    // Who offers RC4 to who prefers it gets it.
                    let method = [RC4, PLAIN].into_iter().find(|m| both & m != 0).ok_or(MseError::NoMethod)?;
                    self.state = Answering::Pad { len: pad_len(pad)?, method, read, write };
                }
                Answering::Pad { len, method, mut read, write } => {
                    if !take_pad(input, &mut read, len) {
                        self.state = Answering::Pad { len, method, read, write };
                        return Ok(None);
                    }
                    self.state = Answering::First { method, read, write };
                }
                Answering::First { method, mut read, write } => {
                    let Some(len) = take::<2>(input, &mut read) else {
                        self.state = Answering::First { method, read, write };
                        return Ok(None);
                    };
                    let len = usize::from(u16::from_be_bytes(len));
                    if len > MAX_FIRST {
                        return Err(MseError::Broken);
                    }
                    self.state = Answering::FirstBytes { len, method, read, write };
                }
                Answering::FirstBytes { len, method, mut read, mut write } => {
                    if input.len() < len {
                        self.state = Answering::FirstBytes { len, method, read, write };
                        return Ok(None);
                    }
                    let mut rest = input.split_off(len);
                    read.apply(input);
                    let clear = out.len();
                    out.put_bytes(0, ZEROS);
                    out.put_u32(method);
                    self.pads.put_inner(out);
                    write.apply(out.get_mut(clear..).unwrap_or_default());
                    let done = done(method, read, write, &mut rest);
                    input.unsplit(rest);
                    return Ok(Some(done));
                }
                Answering::Over => return Err(MseError::Broken),
            }
        }
    }
}

//! Messages between peers, as bytes (BEP 3, 6, 10).
//!
//! Invariant: whatever arrives, in whatever chunks, the decoder holds no more than one message of the size its kind may
//! have, gives the same messages for the same bytes, and never panics. Kinds nobody knows are skipped, not stored.
//!
//! The framing is ours rather than `librqbit-peer-protocol`'s because that one copies each block out of a ring, has no
//! fast extension and treats an unknown kind as an error; a test holds the two against each other.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::units::BLOCK_LEN;

/// The longest request that is answered; some clients ask for more than a block.
pub const MAX_REQUEST: u32 = 128 * 1024;

/// The longest message of a kind nobody knows that is still skipped.
const MAX_UNKNOWN: usize = 1024 * 1024;

/// Room for an extended message: a metadata piece of 16 KiB with its header, a PEX list, a talkative handshake.
const MAX_EXTENDED: usize = 64 * 1024;

/// Bitfield length that is taken before the number of pieces is known: more pieces than 32 MiB of metadata can hash.
pub const MAX_RAW_BITFIELD: usize = 256 * 1024;

/// A peer broke the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("it sent a message of kind {kind} that is {len} bytes long")]
    BadLength { kind: u8, len: usize },
    #[error("it does not speak BitTorrent")]
    NotBitTorrent,
    #[error("it is in another swarm")]
    WrongInfoHash,
}

/// A stretch of a piece, as requests name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Span {
    pub piece: u32,
    pub begin: u32,
    pub len: u32,
}

/// One message of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    KeepAlive,
    Choke,
    Unchoke,
    Interested,
    NotInterested,
    Have(u32),
    Bitfield(Bytes),
    Request(Span),
    Block { piece: u32, begin: u32, data: Bytes },
    Cancel(Span),
    Port(u16),
    Suggest(u32),
    HaveAll,
    HaveNone,
    Reject(Span),
    AllowedFast(u32),
    Extended { id: u8, payload: Bytes },
}

mod kind {
    pub const CHOKE: u8 = 0;
    pub const UNCHOKE: u8 = 1;
    pub const INTERESTED: u8 = 2;
    pub const NOT_INTERESTED: u8 = 3;
    pub const HAVE: u8 = 4;
    pub const BITFIELD: u8 = 5;
    pub const REQUEST: u8 = 6;
    pub const PIECE: u8 = 7;
    pub const CANCEL: u8 = 8;
    pub const PORT: u8 = 9;
    pub const SUGGEST: u8 = 13;
    pub const HAVE_ALL: u8 = 14;
    pub const HAVE_NONE: u8 = 15;
    pub const REJECT: u8 = 16;
    pub const ALLOWED_FAST: u8 = 17;
    pub const EXTENDED: u8 = 20;
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of an unknown message still to be dropped.
    skip: usize,
    /// The length a bitfield must have, once the number of pieces is known.
    bitfield_len: Option<usize>,
}

impl Decoder {
    /// From now on a bitfield must fit this many pieces.
    pub fn set_pieces(&mut self, pieces: u32) {
        self.bitfield_len = Some((pieces as usize).div_ceil(8));
    }

    /// The next message, taken off `buf`; `None` when more bytes are needed. Block and bitfield share `buf`'s memory.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Message>, WireError> {
        loop {
            let drop = self.skip.min(buf.len());
            buf.advance(drop);
            self.skip -= drop;
            let Some(len) = length_of(buf) else { return Ok(None) };
            if len == 0 {
                buf.advance(4);
                return Ok(Some(Message::KeepAlive));
            }
            let Some(&kind) = buf.get(4) else { return Ok(None) };
            match self.allowed(kind, len - 1) {
                Some(true) => {}
                Some(false) => {
                    buf.advance(5);
                    self.skip = len - 1;
                    continue;
                }
                None => return Err(WireError::BadLength { kind, len }),
            }
            if buf.len() < 4 + len {
                return Ok(None);
            }
            buf.advance(5);
            let body = buf.split_to(len - 1).freeze();
            return Ok(Some(decode(kind, body)));
        }
    }

    /// Bytes that are missing for the message at the front of `buf` to be whole, as far as that is known.
    pub fn missing(&self, buf: &BytesMut) -> usize {
        match length_of(buf) {
            Some(len) if self.skip == 0 => (4 + len.min(MAX_RAW_BITFIELD)).saturating_sub(buf.len()),
            _ => 0,
        }
    }

    /// Whether a body of this length is right for the kind: taken, skipped unread, or `None` for a breach.
    fn allowed(&self, kind: u8, len: usize) -> Option<bool> {
        let fits = match kind {
            kind::CHOKE
            | kind::UNCHOKE
            | kind::INTERESTED
            | kind::NOT_INTERESTED
            | kind::HAVE_ALL
            | kind::HAVE_NONE => len == 0,
            kind::HAVE | kind::SUGGEST | kind::ALLOWED_FAST => len == 4,
            kind::BITFIELD => self.bitfield_len.map_or(len <= MAX_RAW_BITFIELD, |n| len == n),
            kind::REQUEST | kind::CANCEL | kind::REJECT => len == 12,
            kind::PIECE => (8..=8 + BLOCK_LEN as usize).contains(&len),
            kind::PORT => len == 2,
            kind::EXTENDED => (1..=MAX_EXTENDED).contains(&len),
            _ => return (len <= MAX_UNKNOWN).then_some(false),
        };
        fits.then_some(true)
    }
}

fn length_of(buf: &BytesMut) -> Option<usize> {
    Some(u32::from_be_bytes(*buf.first_chunk::<4>()?) as usize)
}

/// `body` has the length [`Decoder::allowed`] asks of the kind.
fn decode(kind: u8, mut body: Bytes) -> Message {
    match kind {
        kind::CHOKE => Message::Choke,
        kind::UNCHOKE => Message::Unchoke,
        kind::INTERESTED => Message::Interested,
        kind::NOT_INTERESTED => Message::NotInterested,
        kind::HAVE => Message::Have(body.get_u32()),
        kind::BITFIELD => Message::Bitfield(body),
        kind::REQUEST => Message::Request(span(body)),
        kind::CANCEL => Message::Cancel(span(body)),
        kind::REJECT => Message::Reject(span(body)),
        kind::PIECE => Message::Block { piece: body.get_u32(), begin: body.get_u32(), data: body },
        kind::PORT => Message::Port(body.get_u16()),
        kind::SUGGEST => Message::Suggest(body.get_u32()),
        kind::HAVE_ALL => Message::HaveAll,
        kind::HAVE_NONE => Message::HaveNone,
        kind::ALLOWED_FAST => Message::AllowedFast(body.get_u32()),
        kind::EXTENDED => Message::Extended { id: body.get_u8(), payload: body },
        // Not reached: unknown kinds are skipped. A keep-alive says as little.
        _ => Message::KeepAlive,
    }
}

fn span(mut body: Bytes) -> Span {
    Span { piece: body.get_u32(), begin: body.get_u32(), len: body.get_u32() }
}

impl Message {
    /// Appends the message to `out`. For a block, [`put_block_head`] and the bytes behind it save the copy.
    pub fn put(&self, out: &mut BytesMut) {
        match self {
            Self::KeepAlive => out.put_u32(0),
            Self::Choke => head(out, kind::CHOKE, 0),
            Self::Unchoke => head(out, kind::UNCHOKE, 0),
            Self::Interested => head(out, kind::INTERESTED, 0),
            Self::NotInterested => head(out, kind::NOT_INTERESTED, 0),
            Self::Have(p) => put_u32(out, kind::HAVE, *p),
            Self::Bitfield(bits) => put_bytes(out, kind::BITFIELD, bits),
            Self::Request(s) => put_span(out, kind::REQUEST, *s),
            Self::Cancel(s) => put_span(out, kind::CANCEL, *s),
            Self::Reject(s) => put_span(out, kind::REJECT, *s),
            Self::Block { piece, begin, data } => {
                put_block_head(out, *piece, *begin, data.len());
                out.put_slice(data);
            }
            Self::Port(p) => {
                head(out, kind::PORT, 2);
                out.put_u16(*p);
            }
            Self::Suggest(p) => put_u32(out, kind::SUGGEST, *p),
            Self::HaveAll => head(out, kind::HAVE_ALL, 0),
            Self::HaveNone => head(out, kind::HAVE_NONE, 0),
            Self::AllowedFast(p) => put_u32(out, kind::ALLOWED_FAST, *p),
            Self::Extended { id, payload } => {
                head(out, kind::EXTENDED, 1 + payload.len());
                out.put_u8(*id);
                out.put_slice(payload);
            }
        }
    }
}

/// The part of a block message that comes before its bytes.
pub fn put_block_head(out: &mut BytesMut, piece: u32, begin: u32, len: usize) {
    head(out, kind::PIECE, 8 + len);
    out.put_u32(piece);
    out.put_u32(begin);
}

fn head(out: &mut BytesMut, kind: u8, len: usize) {
    out.put_u32(len as u32 + 1);
    out.put_u8(kind);
}

fn put_u32(out: &mut BytesMut, kind: u8, value: u32) {
    head(out, kind, 4);
    out.put_u32(value);
}

fn put_bytes(out: &mut BytesMut, kind: u8, bytes: &[u8]) {
    head(out, kind, bytes.len());
    out.put_slice(bytes);
}

fn put_span(out: &mut BytesMut, kind: u8, s: Span) {
    head(out, kind, 12);
    out.put_u32(s.piece);
    out.put_u32(s.begin);
    out.put_u32(s.len);
}

#[cfg(test)]
mod tests {
    use librqbit_peer_protocol as other;
    use proptest::prelude::*;

    use super::*;

    fn all_at_once(bytes: &[u8]) -> (Vec<Message>, Option<WireError>) {
        in_chunks(bytes, &[])
    }

    /// Feeds `bytes` cut at `cuts`, as a socket would deliver them.
    fn in_chunks(bytes: &[u8], cuts: &[usize]) -> (Vec<Message>, Option<WireError>) {
        let mut cuts: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).chain([bytes.len()]).collect();
        cuts.sort_unstable();
        let (mut d, mut buf, mut got, mut at) = (Decoder::default(), BytesMut::new(), Vec::new(), 0);
        for cut in cuts {
            buf.extend_from_slice(&bytes[at..cut]);
            at = cut;
            loop {
                match d.next(&mut buf) {
                    Ok(Some(m)) => got.push(m),
                    Ok(None) => break,
                    Err(e) => return (got, Some(e)),
                }
            }
            assert!(buf.len() <= 4 + 1 + MAX_RAW_BITFIELD, "held {} bytes", buf.len());
        }
        (got, None)
    }

    fn any_span() -> impl Strategy<Value = Span> {
        (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(piece, begin, len)| Span { piece, begin, len })
    }

    fn any_bytes(max: usize) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from)
    }

    fn any_message() -> impl Strategy<Value = Message> {
        prop_oneof![
            Just(Message::KeepAlive),
            Just(Message::Choke),
            Just(Message::Unchoke),
            Just(Message::Interested),
            Just(Message::NotInterested),
            Just(Message::HaveAll),
            Just(Message::HaveNone),
            any::<u32>().prop_map(Message::Have),
            any::<u32>().prop_map(Message::Suggest),
            any::<u32>().prop_map(Message::AllowedFast),
            any::<u16>().prop_map(Message::Port),
            any_bytes(40).prop_map(Message::Bitfield),
            any_span().prop_map(Message::Request),
            any_span().prop_map(Message::Cancel),
            any_span().prop_map(Message::Reject),
            (any::<u32>(), any::<u32>(), any_bytes(300)).prop_map(|(piece, begin, data)| Message::Block {
                piece,
                begin,
                data
            }),
            (any::<u8>(), any_bytes(100)).prop_map(|(id, payload)| Message::Extended { id, payload }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_in_any_chunks(
            messages in proptest::collection::vec(any_message(), 0..20),
            cuts in proptest::collection::vec(any::<usize>(), 0..30),
        ) {
            let mut out = BytesMut::new();
            messages.iter().for_each(|m| m.put(&mut out));
            prop_assert_eq!(in_chunks(&out, &cuts), (messages, None));
        }

        #[test]
        fn any_bytes_in_any_chunks_give_the_same(
            bytes in proptest::collection::vec(prop_oneof![3 => Just(0u8), 2 => 0u8..24, 1 => any::<u8>()], 0..400),
            cuts in proptest::collection::vec(any::<usize>(), 0..30),
        ) {
            prop_assert_eq!(in_chunks(&bytes, &cuts), all_at_once(&bytes));
        }
    }

    #[test]
    fn an_unknown_kind_is_skipped_and_an_absurd_length_refused() {
        let mut bytes = vec![0, 0, 0, 6, 99, 1, 2, 3, 4, 5, 0, 0, 0, 1, 1];
        assert_eq!(all_at_once(&bytes), (vec![Message::Unchoke], None));
        bytes[..4].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff]);
        assert!(matches!(all_at_once(&bytes), (m, Some(WireError::BadLength { kind: 99, .. })) if m.is_empty()));
        // A block longer than any we ask for is refused by its header, before its bytes are held.
        assert!(all_at_once(&[0, 0, 0x40, 0x0a, 7]).1.is_some());
        assert!(all_at_once(&[0, 0, 0x40, 0x09, 7]).1.is_none());
    }

    #[test]
    fn a_bitfield_must_fit_the_torrent_once_that_is_known() {
        let mut d = Decoder::default();
        d.set_pieces(17);
        assert!(d.next(&mut BytesMut::from(&[0, 0, 0, 3, 5, 1, 2][..])).is_err());
        assert!(d.next(&mut BytesMut::from(&[0, 0, 0, 4, 5, 1, 2, 3][..])).is_ok_and(|m| m.is_some()));
    }

    #[test]
    fn librqbit_reads_what_we_write() {
        let check = |m: Message, f: &dyn Fn(other::Message<'_>) -> bool| {
            let mut out = BytesMut::new();
            m.put(&mut out);
            let (read, len) = other::Message::deserialize(&out, &[]).unwrap();
            assert!(len == out.len() && f(read), "{m:?}");
        };
        let s = Span { piece: 7, begin: 16384, len: 9 };
        check(Message::Request(s), &|m| matches!(m, other::Message::Request(r) if r.index == 7 && r.length == 9));
        check(Message::Cancel(s), &|m| matches!(m, other::Message::Cancel(r) if r.begin == 16384));
        check(Message::Have(3), &|m| matches!(m, other::Message::Have(3)));
        check(
            Message::Bitfield(Bytes::from_static(b"ab")),
            &|m| matches!(m, other::Message::Bitfield(b) if b.0 == b"ab"),
        );
        let block = Message::Block { piece: 1, begin: 2, data: Bytes::from_static(b"xyz") };
        check(
            block,
            &|m| matches!(m, other::Message::Piece(p) if p.index == 1 && p.begin == 2 && p.data().0 == b"xyz"),
        );
    }
}

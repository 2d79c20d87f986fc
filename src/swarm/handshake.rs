//! The 68 bytes each link starts with, and the extended handshake (BEP 10) that follows them.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::benc::{Value, Writer};
use super::wire::WireError;
use crate::torrent::InfoHash;

/// Length of the handshake.
pub const LEN: usize = 68;

/// Time a peer has for it.
pub const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// What it starts with.
pub const MAGIC: &[u8; 20] = b"\x13BitTorrent protocol";

/// Ids under which we take extended messages.
pub const OUR_PEX: u8 = 1;
pub const OUR_METADATA: u8 = 3;
pub const OUR_DONT_HAVE: u8 = 7;

/// Requests we let a peer queue with us.
pub const OUR_QUEUE: u32 = 500;

/// The largest info dictionary that is taken from peers, in bytes.
pub const MAX_METADATA: u32 = 32 * 1024 * 1024;

const VERSION: &str = concat!("Sluicegate ", env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

/// What a peer said first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    pub info_hash: InfoHash,
    pub peer_id: [u8; 20],
    /// BEP 10.
    pub extended: bool,
    /// BEP 6.
    pub fast: bool,
}

impl Handshake {
    /// Ours: extended and fast messages.
    pub fn ours(info_hash: InfoHash, peer_id: [u8; 20]) -> Self {
        Self { info_hash, peer_id, extended: true, fast: true }
    }

    pub fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..20].copy_from_slice(MAGIC);
        out[25] = if self.extended { 0x10 } else { 0 };
        out[27] = if self.fast { 0x04 } else { 0 };
        out[28..48].copy_from_slice(&self.info_hash.0);
        out[48..].copy_from_slice(&self.peer_id);
        out
    }

    /// Fails on anything but BitTorrent's own first bytes.
    pub fn decode(b: &[u8; LEN]) -> Result<Self, WireError> {
        if !b.starts_with(MAGIC) {
            return Err(WireError::NotBitTorrent);
        }
        let take = |at: usize| {
            let mut out = [0; 20];
            out.copy_from_slice(&b[at..at + 20]);
            out
        };
        let (extended, fast) = (b[25] & 0x10 != 0, b[27] & 0x04 != 0);
        Ok(Self { info_hash: InfoHash(take(28)), peer_id: take(48), extended, fast })
    }
}

/// A fresh peer id.
pub fn new_peer_id() -> [u8; 20] {
    let mut id = *b"-SG0100-............";
    rand::fill(&mut id[8..]);
    id
}

/// What the extended handshake of a peer said. Ids are those under which it takes messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extended {
    pub metadata: Option<u8>,
    pub pex: Option<u8>,
    pub dont_have: Option<u8>,
    /// Bytes of its info dictionary; `None` when it has none or an absurd size.
    pub metadata_size: Option<u32>,
    pub client: Option<String>,
    /// Where it listens.
    pub port: Option<u16>,
}

impl Extended {
    /// `None` when it is not a dictionary; odd fields read as absent.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let (dict, _) = Value::read(payload)?;
        let Value::Dict(_) = dict else { return None };
        let id = |key: &str| {
            let id = u8::try_from(dict.get("m")?.int(key)?).ok()?;
            (id != 0).then_some(id)
        };
        let size = dict.int("metadata_size").and_then(|n| u32::try_from(n).ok());
        let port = dict.int("p").and_then(|p| u16::try_from(p).ok());
        Some(Self {
            metadata: id("ut_metadata"),
            pex: id("ut_pex"),
            dont_have: id("lt_donthave"),
            metadata_size: size.filter(|n| (1..=MAX_METADATA).contains(n)),
            client: dict.bytes("v").and_then(super::client::clean),
            port: port.filter(|p| *p != 0),
        })
    }
}

/// Our extended handshake, without its id.
pub fn our_extended(pex: bool, port: Option<u16>, metadata_size: Option<usize>, peer: SocketAddr) -> Bytes {
    let mut w = Writer::dict();
    w.open("m").int("lt_donthave", OUR_DONT_HAVE).int("ut_metadata", OUR_METADATA);
    if pex {
        w.int("ut_pex", OUR_PEX);
    }
    w.close();
    if let Some(n) = metadata_size.and_then(|n| u32::try_from(n).ok()) {
        w.int("metadata_size", n);
    }
    if let Some(port) = port {
        w.int("p", port);
    }
    w.int("reqq", OUR_QUEUE).bytes("v", VERSION.as_bytes());
    match peer.ip() {
        IpAddr::V4(ip) => w.bytes("yourip", &ip.octets()),
        IpAddr::V6(ip) => w.bytes("yourip", &ip.octets()),
    };
    Bytes::from(w.finish())
}

#[cfg(test)]
mod tests {
    use librqbit_peer_protocol as other;

    use super::*;

    #[test]
    fn the_handshake_survives_the_wire_and_librqbit_reads_it() {
        let ours = Handshake::ours(InfoHash([7; 20]), new_peer_id());
        assert_eq!(Handshake::decode(&ours.encode()), Ok(ours));
        let (h, len) = other::Handshake::deserialize(&ours.encode()).unwrap();
        assert!(len == LEN && h.supports_extended() && h.info_hash.0 == [7; 20] && h.peer_id.0 == ours.peer_id);
        assert!(ours.peer_id.starts_with(b"-SG0100-"));
        assert_eq!(Handshake::decode(&[b'G'; LEN]), Err(WireError::NotBitTorrent));
    }

    #[test]
    fn the_extended_handshake_is_read_by_us_and_by_librqbit() {
        let ours = our_extended(true, Some(6881), Some(1234), "10.0.0.1:5".parse().unwrap());
        let read = Extended::parse(&ours).unwrap();
        assert_eq!(
            (read.metadata, read.pex, read.metadata_size, read.port),
            (Some(3), Some(1), Some(1234), Some(6881))
        );
        assert_eq!(read.client.as_deref(), Some("Sluicegate 0.1"));
        let mut message = bytes::BytesMut::new();
        super::super::wire::Message::Extended { id: 0, payload: ours }.put(&mut message);
        let (m, _) = other::Message::deserialize(&message, &[]).unwrap();
        let other::Message::Extended(other::extended::ExtendedMessage::Handshake(h)) = m else { panic!("{m:?}") };
        assert_eq!((h.p, h.reqq, h.metadata_size), (Some(6881), Some(500), Some(1234)));
    }

    proptest::proptest! {
        #[test]
        fn any_extended_handshake_is_read_or_refused(
            id in i64::MIN.., size in i64::MIN.., port in i64::MIN.., name in proptest::collection::vec(proptest::num::u8::ANY, 0..80),
        ) {
            let mut w = Writer::dict();
            w.open("m").int("ut_metadata", id).close().int("metadata_size", size).int("p", port).bytes("v", &name);
            let read = Extended::parse(&w.finish()).unwrap();
            proptest::prop_assert!(read.metadata_size.is_none_or(|n| n <= MAX_METADATA));
            let _ = Extended::parse(&name);
        }
    }

    #[test]
    fn odd_fields_do_not_lose_the_rest() {
        let odd = b"d1:md11:ut_metadatai700e6:ut_pexi2ee13:metadata_sizei-4e1:pi99999e1:vi3e6:yourip3:abce";
        assert_eq!(Extended::parse(odd), Some(Extended { pex: Some(2), ..Extended::default() }));
        assert_eq!(Extended::parse(b"le"), None);
    }
}

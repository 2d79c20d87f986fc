//! Peers tell peers about peers (BEP 11), and the compact addresses that trackers use too.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;

use super::benc::{Value, Writer};

/// Time between two of our messages to one peer, and half of what we want between two of its.
pub const INTERVAL: Duration = Duration::from_secs(60);
pub const MIN_INTERVAL: Duration = Duration::from_secs(30);

/// Our first message follows the handshake by this: time for the first links to stand.
pub const FIRST: Duration = Duration::from_secs(2);

/// Addresses that are taken from one message, and that we put in one.
pub const MAX_TAKEN: usize = 100;
const MAX_TOLD: usize = 50;

/// Flags of a peer (BEP 11): prefers encryption, has everything, speaks uTP, can be dialled.
pub const ENCRYPTS: u8 = 0x01;
pub const SEED: u8 = 0x02;
pub const UTP: u8 = 0x04;
pub const REACHABLE: u8 = 0x10;

/// A peer, as peers tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    pub addr: SocketAddr,
    pub flags: u8,
}

/// Reads packed addresses, 6 bytes each, or 18 with `v6`; an incomplete one at the end is dropped.
pub fn compact(bytes: &[u8], v6: bool) -> impl Iterator<Item = SocketAddr> + '_ {
    bytes.chunks_exact(if v6 { 18 } else { 6 }).filter_map(move |c| {
        let (ip, port) = c.split_at_checked(if v6 { 16 } else { 4 })?;
        let port = u16::from_be_bytes(port.try_into().ok()?);
        let ip = match <[u8; 4]>::try_from(ip) {
            Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
            Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
        };
        Some(SocketAddr::new(ip, port))
    })
}

fn pack(addrs: &[SocketAddr], v6: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for a in addrs.iter().filter(|a| a.is_ipv6() == v6) {
        match a.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
        out.extend_from_slice(&a.port().to_be_bytes());
    }
    out
}

/// The peers a message adds, at most [`MAX_TAKEN`]. `None` when it is no PEX message.
pub fn added(payload: &[u8]) -> Option<Vec<Peer>> {
    let (dict, _) = Value::read(payload)?;
    let Value::Dict(_) = dict else { return None };
    let mut out = Vec::new();
    for (key, flags, v6) in [("added", "added.f", false), ("added6", "added6.f", true)] {
        let flags = dict.bytes(flags).unwrap_or_default();
        let addrs = compact(dict.bytes(key).unwrap_or_default(), v6).take(MAX_TAKEN - out.len());
        out.extend(addrs.enumerate().map(|(i, addr)| Peer { addr, flags: flags.get(i).copied().unwrap_or(0) }));
    }
    Some(out)
}

/// What one peer was told, so that it hears only of changes.
#[derive(Debug, Default)]
pub struct Told(HashMap<SocketAddr, u8>);

impl Told {
    /// The next message, given who is connected now; `None` when nothing changed. At most 50 come and 50 go (BEP 11),
    /// both families together; the rest follows with the next. One whose flags changed is told of again.
    pub fn next(&mut self, connected: impl Iterator<Item = Peer>) -> Option<Bytes> {
        let now: HashMap<SocketAddr, u8> = connected.map(|p| (p.addr, p.flags)).collect();
        let dropped: Vec<_> = self.0.keys().filter(|a| !now.contains_key(*a)).copied().take(MAX_TOLD).collect();
        let news = now.iter().filter(|(a, flags)| self.0.get(*a) != Some(*flags));
        let added: Vec<_> = news.map(|(addr, flags)| Peer { addr: *addr, flags: *flags }).take(MAX_TOLD).collect();
        if added.is_empty() && dropped.is_empty() {
            return None;
        }
        dropped.iter().for_each(|a| {
            self.0.remove(a);
        });
        self.0.extend(added.iter().map(|p| (p.addr, p.flags)));
        let family = |v6: bool| added.iter().filter(move |p| p.addr.is_ipv6() == v6);
        let addrs = |v6: bool| pack(&family(v6).map(|p| p.addr).collect::<Vec<_>>(), v6);
        let flags = |v6: bool| family(v6).map(|p| p.flags).collect::<Vec<_>>();
        let mut w = Writer::dict();
        w.bytes("added", &addrs(false)).bytes("added.f", &flags(false));
        w.bytes("added6", &addrs(true)).bytes("added6.f", &flags(true));
        w.bytes("dropped", &pack(&dropped, false)).bytes("dropped6", &pack(&dropped, true));
        Some(Bytes::from(w.finish()))
    }
}

#[cfg(test)]
mod tests {
    use librqbit_peer_protocol::extended::ut_pex::UtPex;
    use proptest::prelude::*;

    use super::*;

    fn addr(s: &str) -> SocketAddr {
        s.parse().unwrap()
    }

    fn peer(s: &str, flags: u8) -> Peer {
        Peer { addr: addr(s), flags }
    }

    #[test]
    fn a_peer_hears_only_of_changes_and_librqbit_reads_them() {
        let (a, b, c) = (peer("1.2.3.4:5", SEED | UTP), peer("[2001:db8::1]:6", REACHABLE), peer("9.9.9.9:9", 0));
        let mut told = Told::default();
        let first = told.next([a, b].into_iter()).unwrap();
        assert_eq!(added(&first), Some(vec![a, b]));
        assert_eq!(told.next([a, b].into_iter()), None);
        let second = told.next([b, c].into_iter()).unwrap();
        let read: UtPex<librqbit_buffers::ByteBuf<'_>> = librqbit_bencode::from_bytes(&second).unwrap();
        assert_eq!(read.added_peers().map(|p| p.addr).collect::<Vec<_>>(), [c.addr]);
        assert_eq!(read.dropped_peers().map(|p| p.addr).collect::<Vec<_>>(), [a.addr]);
        // One that became a seed meanwhile.
        let third = told.next([Peer { flags: SEED, ..b }, c].into_iter()).unwrap();
        assert_eq!(added(&third), Some(vec![Peer { flags: SEED, ..b }]));
    }

    #[test]
    fn a_long_list_is_cut_and_told_in_parts() {
        let many: Vec<_> = (0..130u16).map(|i| SocketAddr::from(([10, 0, 0, 1], 1000 + i))).collect();
        let mut told = Told::default();
        let peers = || many.iter().map(|a| Peer { addr: *a, flags: 0 });
        let parts: Vec<_> = std::iter::from_fn(|| told.next(peers())).collect();
        assert_eq!(parts.len(), 3);
        let mut w = Writer::dict();
        w.bytes("added", &pack(&many, false)).bytes("added.f", b"\x02");
        let read = added(&w.finish()).unwrap();
        assert_eq!((read.len(), read[0].flags, read[1].flags), (MAX_TAKEN, SEED, 0), "flags may be missing");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (added(&bytes), compact(&bytes, false).count(), compact(&bytes, true).count());
        }
    }
}

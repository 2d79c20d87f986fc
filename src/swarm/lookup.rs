//! Looking for peers in the DHT without being part of it (BEP 5, read-only by BEP 43): for behind a proxy, which relays our
//! datagrams but lets nobody come to us, and to which librqbit's node cannot be tied.
//!
//! Invariant: at most [`PARALLEL`] questions are out, at most [`MAX_ASKED`] are asked in a lookup, and at most
//! [`MAX_CANDIDATES`] nodes are remembered, whatever strangers tell; an answer counts only from whom it was asked of.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use librqbit_core::hash_id::Id20;
use tokio::time::{Instant, timeout_at};

use super::benc::{Value, Writer};
use super::pex::compact;
use crate::net::{Relay, Target};

/// Questions that may be out at once. Kademlia's 3 are for nodes that are near; half of a DHT's are not there any more.
const PARALLEL: usize = 8;
/// Nodes closest to the hash that must have answered, or be gone, before a lookup is over: those that hold its peers.
const CLOSEST: usize = 8;
const MAX_ASKED: usize = 150;
const MAX_CANDIDATES: usize = 500;
/// A node that takes longer has most likely gone.
const WAIT: Duration = Duration::from_secs(3);

type Node = (Id20, SocketAddr);

/// What a lookup brought.
#[derive(Debug, Default)]
pub struct Found {
    pub peers: Vec<SocketAddr>,
    /// Nodes that answered, the closest first.
    pub nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Asked,
    Answered,
    Gone,
}

#[derive(Debug)]
struct Candidate {
    node: Node,
    state: State,
}

/// One question that is out.
#[derive(Debug)]
struct Question {
    /// `None`: of a well-known node, asked by its name.
    of: Option<(Id20, SocketAddr)>,
    until: Instant,
}

/// The state of one lookup, without a socket.
#[derive(Debug)]
struct Lookup {
    hash: Id20,
    own: Id20,
    /// By distance to the hash.
    candidates: BTreeMap<Id20, Candidate>,
    out: HashMap<[u8; 4], Question>,
    asked: usize,
    peers: Vec<SocketAddr>,
}

/// Asks those nodes that are known and the well-known ones, then whom they name, ever closer to `hash`.
pub async fn run(relay: &mut Relay, hash: Id20, known: &[Node], entries: &[Target]) -> io::Result<Found> {
    let mut lookup = Lookup::new(hash, known);
    for entry in entries {
        let question = lookup.ask(None, Instant::now());
        relay.send_to(&question, entry).await?;
    }
    loop {
        while let Some((question, addr)) = lookup.next(Instant::now()) {
            relay.send_to(&question, &Target::Addr(addr)).await?;
        }
        let Some(until) = lookup.expires() else { return Ok(lookup.found()) };
        match timeout_at(until, relay.recv_from()).await {
            Ok(got) => {
                let (datagram, from) = got?;
                lookup.heard(datagram, from);
            }
            Err(_) => lookup.expire(Instant::now()),
        }
    }
}

impl Lookup {
    fn new(hash: Id20, known: &[Node]) -> Self {
        let mut lookup = Self {
            hash,
            own: Id20::new(rand::random()),
            candidates: BTreeMap::new(),
            out: HashMap::new(),
            asked: 0,
            peers: Vec::new(),
        };
        known.iter().for_each(|n| lookup.learn(*n));
        lookup
    }

    fn learn(&mut self, node: Node) {
        let (id, addr) = node;
        let asked = addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast();
        if !asked {
            return;
        }
        let distance = id.distance(&self.hash);
        self.candidates.entry(distance).or_insert(Candidate { node, state: State::New });
        if self.candidates.len() > MAX_CANDIDATES {
            self.candidates.pop_last();
        }
    }

    /// A question, noted as out.
    fn ask(&mut self, of: Option<Node>, now: Instant) -> Vec<u8> {
        let transaction: [u8; 4] = rand::random();
        self.asked += 1;
        self.out.insert(transaction, Question { of, until: now + WAIT });
        let mut about = Writer::dict();
        about.bytes("id", &self.own.0).bytes("info_hash", &self.hash.0);
        let about = about.finish();
        // a, q, ro, t, y: in the order of their names.
        let mut out = b"d1:a".to_vec();
        out.extend_from_slice(&about);
        out.extend_from_slice(b"1:q9:get_peers2:roi1e1:t4:");
        out.extend_from_slice(&transaction);
        out.extend_from_slice(b"1:y1:qe");
        out
    }

    /// The next question, where one is due: of the closest node that was not asked, unless enough that are closer answered.
    fn next(&mut self, now: Instant) -> Option<(Vec<u8>, SocketAddr)> {
        if self.out.len() >= PARALLEL || self.asked >= MAX_ASKED {
            return None;
        }
        let near = self.candidates.values_mut().filter(|c| c.state != State::Gone).take(CLOSEST);
        let candidate = near.into_iter().find(|c| c.state == State::New)?;
        candidate.state = State::Asked;
        let node = candidate.node;
        Some((self.ask(Some(node), now), node.1))
    }

    /// When the oldest question is given up; `None` when none is out.
    fn expires(&self) -> Option<Instant> {
        self.out.values().map(|q| q.until).min()
    }

    fn expire(&mut self, now: Instant) {
        let candidates = &mut self.candidates;
        self.out.retain(|_, q| {
            let late = q.until <= now;
            if late
                && let Some((id, _)) = q.of
                && let Some(c) = candidates.get_mut(&id.distance(&self.hash))
            {
                c.state = State::Gone;
            }
            !late
        });
    }

    /// Takes an answer; anything else is dropped.
    fn heard(&mut self, datagram: &[u8], from: Option<SocketAddr>) {
        let Some((message, _)) = Value::read(datagram) else { return };
        let transaction = message.bytes("t").and_then(|t| <[u8; 4]>::try_from(t).ok());
        let Some(transaction) = transaction else { return };
        let asked = self.out.get(&transaction).map(|q| q.of);
        let Some(of) = asked else { return };
        if of.is_some_and(|(_, addr)| from.is_some_and(|f| f != addr)) {
            return;
        }
        self.out.remove(&transaction);
        let answer = message.get("r").filter(|_| message.bytes("y") == Some(b"r"));
        if let Some(c) = of.and_then(|(id, _)| self.candidates.get_mut(&id.distance(&self.hash))) {
            c.state = if answer.is_some() { State::Answered } else { State::Gone };
        }
        let Some(answer) = answer else { return };
        if let Some(Value::List(values)) = answer.get("values") {
            for v in values {
                let Value::Bytes(b) = v else { continue };
                let new = compact(b, b.len() == 18).filter(|p| !self.peers.contains(p)).take(1).collect::<Vec<_>>();
                if self.peers.len() < MAX_CANDIDATES {
                    self.peers.extend(new);
                }
            }
        }
        for (key, len) in [("nodes", 26), ("nodes6", 38)] {
            let packed = answer.bytes(key).unwrap_or_default();
            for node in packed.chunks_exact(len).take(CLOSEST * 2) {
                let Some((id, addr)) = node.split_first_chunk::<20>() else { continue };
                if let Some(addr) = compact(addr, len == 38).next() {
                    self.learn((Id20::new(*id), addr));
                }
            }
        }
    }

    fn found(self) -> Found {
        let nodes = self.candidates.into_values().filter(|c| c.state == State::Answered).map(|c| c.node);
        Found { peers: self.peers, nodes: nodes.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A DHT of 300 nodes of which a third has gone, each knowing 40 others; those nearest to the hash hold the peer.
    fn answer(nodes: &[Node], hash: Id20, of: SocketAddr, question: &[u8]) -> Option<Vec<u8>> {
        let (q, _) = Value::read(question).unwrap();
        assert_eq!((q.bytes("q"), q.int("ro")), (Some(&b"get_peers"[..]), Some(1)));
        assert_eq!(q.get("a").unwrap().bytes("info_hash"), Some(&hash.0[..]));
        let me = nodes.iter().position(|n| n.1 == of)?;
        if me % 3 == 0 {
            return None;
        }
        let mut known: Vec<Node> = (0..40).map(|i| nodes[(me * 7 + i * i * 3) % nodes.len()]).collect();
        known.extend(nodes.iter().filter(|n| n.0.distance(&nodes[me].0).0[0] < 32));
        known.sort_by_key(|n| n.0.distance(&hash));
        let packed: Vec<u8> = known
            .iter()
            .take(8)
            .flat_map(|(id, addr)| {
                let SocketAddr::V4(a) = addr else { unreachable!() };
                [&id.0[..], &a.ip().octets(), &a.port().to_be_bytes()].concat()
            })
            .collect();
        let nearest = nodes.iter().map(|n| n.0.distance(&hash)).filter(|d| *d < nodes[me].0.distance(&hash)).count();
        let values = if nearest < 8 { &b"6:valuesl6:\x01\x02\x03\x04\x1a\xe1e"[..] } else { b"" };
        let head = format!("d1:rd2:id20:{}5:nodes{}:", "x".repeat(20), packed.len());
        let t = q.bytes("t").unwrap();
        Some([head.as_bytes(), &packed, values, b"e1:t4:", t, b"1:y1:re"].concat())
    }

    #[test]
    fn a_lookup_comes_to_the_nodes_that_hold_the_peers() {
        let hash = Id20::new([0x5a; 20]);
        let id = |i: u32| {
            Id20::new(std::array::from_fn(|k| (i.wrapping_mul(0x9e37_79b9).rotate_left(k as u32 * 5) >> 3) as u8))
        };
        let nodes: Vec<Node> =
            (0..300u32).map(|i| (id(i), SocketAddr::from(([10, 0, (i >> 8) as u8, i as u8], 6881)))).collect();
        let mut lookup = Lookup::new(hash, &nodes[1..3]);
        let mut now = Instant::now();
        let mut most = 0;
        loop {
            let asked: Vec<_> = std::iter::from_fn(|| lookup.next(now)).collect();
            let over = asked.is_empty();
            most = most.max(lookup.out.len());
            for (question, addr) in asked {
                if let Some(a) = answer(&nodes, hash, addr, &question) {
                    lookup.heard(&a, Some("9.9.9.9:9".parse().unwrap()));
                    assert!(!lookup.out.is_empty(), "a stranger was believed");
                    lookup.heard(&a, Some(addr));
                }
            }
            match lookup.expires() {
                Some(until) => now = until,
                None if over => break,
                None => {}
            }
            lookup.expire(now);
        }
        assert!(most <= PARALLEL && lookup.asked < 60, "{} asked", lookup.asked);
        let found = lookup.found();
        assert_eq!(found.peers, ["1.2.3.4:6881".parse().unwrap()]);
        assert!(found.nodes.len() >= CLOSEST);
    }

    proptest::proptest! {
        #[test]
        fn any_answer_is_taken_or_dropped(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..120), flood in 0usize..60) {
            let mut lookup = Lookup::new(Id20::new([1; 20]), &[]);
            let question = lookup.ask(None, Instant::now());
            let t = Value::read(&question).unwrap().0.bytes("t").unwrap().to_vec();
            let nodes: Vec<u8> = bytes.iter().copied().cycle().take(if bytes.is_empty() { 0 } else { flood * 26 }).collect();
            let head = format!("d1:rd5:nodes{}:", nodes.len());
            lookup.heard(&bytes, None);
            lookup.heard(&[head.as_bytes(), &nodes, b"6:values", &bytes, b"e1:t4:", &t, b"1:y1:re"].concat(), None);
            proptest::prop_assert!(lookup.candidates.len() <= MAX_CANDIDATES);
        }
    }
}

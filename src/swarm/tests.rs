//! Swarms on loopback, all the way through real sockets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use librqbit_sha1_wrapper::{ISha1, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::handshake::{self, Handshake};
use super::*;
use crate::torrent::InfoHash;
use crate::units::{Layout, PieceSet};

/// Generous: only a hang runs into it.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A swarm and what it said.
pub struct Side {
    pub swarm: Swarm,
    pub events: mpsc::Receiver<SwarmEvent>,
    /// What was said already.
    pub log: Vec<SwarmEvent>,
}

pub fn config(info_hash: [u8; 20], peers: Vec<SocketAddr>) -> SwarmConfig {
    SwarmConfig {
        info_hash: InfoHash(info_hash),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        peers,
        trackers: Vec::new(),
        dht: false,
        nodes: Vec::new(),
        lsd: false,
        pex: true,
        private: false,
        max_links: 20,
        encryption: Encryption::Prefer,
        utp: false,
        network: crate::swarm::Network::default(),
    }
}

impl Side {
    pub fn start(config: SwarmConfig, torrent: Option<KnownTorrent>) -> Self {
        let (tx, events) = mpsc::channel(4);
        let swarm = Swarm::start(&Handle::current(), config, torrent, tx).unwrap();
        Self { swarm, events, log: Vec::new() }
    }

    /// The first event from now on that `f` takes.
    pub async fn until<T>(&mut self, what: &str, f: impl Fn(&SwarmEvent) -> Option<T>) -> T {
        loop {
            let e = timeout(LIMIT, self.events.recv()).await;
            let e = e.unwrap_or_else(|_| panic!("no {what}; said so far: {:#?}", self.log)).expect("swarm ended");
            let got = f(&e);
            self.log.push(e);
            if let Some(t) = got {
                return t;
            }
        }
    }

    pub async fn up(&mut self) -> (LinkId, LinkInfo) {
        self.until("link", |e| match e {
            SwarmEvent::Up { link, info } => Some((*link, info.clone())),
            _ => None,
        })
        .await
    }

    pub async fn down(&mut self) -> String {
        self.until("end of link", |e| match e {
            SwarmEvent::Down { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await
    }

    pub async fn bitfield(&mut self) -> PieceSet {
        self.until("bitfield", |e| match e {
            SwarmEvent::Bitfield { pieces, .. } => Some(pieces.clone()),
            _ => None,
        })
        .await
    }

    pub fn addr(&self) -> SocketAddr {
        self.swarm.local_addr().unwrap()
    }
}

/// A torrent of `pieces` pieces of 32 KiB, of which `have` are here.
pub fn known(pieces: u32, have: impl IntoIterator<Item = u32>) -> (KnownTorrent, [u8; 20]) {
    let layout = Layout::new(u64::from(pieces) * 32768, 32768).unwrap();
    let mut set = PieceSet::new(pieces);
    have.into_iter().for_each(|p| {
        set.insert(PieceIndex(p));
    });
    // Three pieces of metadata, the last one short.
    let info_bytes = Bytes::from((0..40_000u32).map(|i| ((i * 31) >> 3) as u8).collect::<Vec<_>>());
    let mut sha = Sha1::new();
    sha.update(&info_bytes);
    (KnownTorrent { layout, info_bytes, private: false, have: set }, sha.finish())
}

const SPAN: (PieceIndex, u32, u32) = (PieceIndex(2), 16384, 16384);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_swarms_exchange_all_there_is() {
    let (full, hash) = known(40, 0..40);
    let mut seed = Side::start(config(hash, vec![]), Some(full));
    let mut leech = Side::start(config(hash, vec![seed.addr()]), Some(known(40, [0]).0));

    let (to_seed, info) = leech.up().await;
    assert!(info.outgoing && info.rtt.is_some() && info.source == LinkSource::User && info.client == "Sluicegate 0.1");
    let (to_leech, info) = seed.up().await;
    assert!(!info.outgoing && info.source == LinkSource::Incoming);
    assert!(leech.bitfield().await.is_full());
    assert_eq!(seed.bitfield().await.iter().map(|p| p.0).collect::<Vec<_>>(), [0]);
    leech
        .until("client", |e| matches!(e, SwarmEvent::Client { client, .. } if client == "Sluicegate 0.1").then_some(()))
        .await;

    leech.swarm.send(to_seed, LinkCommand::Interested(true));
    seed.until("interest", |e| matches!(e, SwarmEvent::Interested { interested: true, .. }).then_some(())).await;
    let (piece, begin, len) = SPAN;
    // Choked: the seed refuses by itself, but for what it granted.
    let layout = Layout::new(40 * 32768, 32768).unwrap();
    let granted = fast::allowed_set("127.0.0.1".parse().unwrap(), InfoHash(hash), &layout);
    let refused = (1..40).map(PieceIndex).find(|p| !granted.contains(p)).unwrap();
    leech.swarm.send(to_seed, LinkCommand::Request { piece: refused, begin, len });
    leech.until("reject", |e| matches!(e, SwarmEvent::Rejected { piece, .. } if *piece == refused).then_some(())).await;
    let free = *granted.iter().find(|p| p.0 != 0).unwrap();
    let told = |e: &SwarmEvent| matches!(e, SwarmEvent::AllowedFast { piece, .. } if *piece == free);
    assert!(leech.log.iter().any(told), "said before the reject");
    leech.swarm.send(to_seed, LinkCommand::Request { piece: free, begin, len });
    seed.until("request", |e| matches!(e, SwarmEvent::Requested { piece, .. } if *piece == free).then_some(())).await;
    assert!(seed.log.iter().any(|e| matches!(e, SwarmEvent::FastGranted { piece, .. } if *piece == free)));
    seed.swarm.send(to_leech, LinkCommand::Reject { piece: free, begin, len });
    leech
        .until("second reject", |e| matches!(e, SwarmEvent::Rejected { piece, .. } if *piece == free).then_some(()))
        .await;

    seed.swarm.send(to_leech, LinkCommand::Choke(false));
    leech.until("unchoke", |e| matches!(e, SwarmEvent::Unchoked { .. }).then_some(())).await;
    leech.swarm.send(to_seed, LinkCommand::Request { piece, begin, len });
    seed.until("request", |e| matches!(e, SwarmEvent::Requested { len: 16384, .. }).then_some(())).await;
    let data = Bytes::from(vec![7; 16384]);
    seed.swarm.send(to_leech, LinkCommand::Send { piece, begin, data: data.clone() });
    let got = leech
        .until("block", |e| match e {
            SwarmEvent::Block { piece: PieceIndex(2), begin: 16384, data, .. } => Some(data.clone()),
            _ => None,
        })
        .await;
    assert_eq!(got, data);
    seed.until("sent", |e| matches!(e, SwarmEvent::Sent { len: 16384, .. }).then_some(())).await;

    leech.swarm.announce(PieceIndex(2));
    seed.until("have", |e| matches!(e, SwarmEvent::Have { piece: PieceIndex(2), .. }).then_some(())).await;
    // The seed's disk lost a piece: it says so, and answers for it no more.
    seed.swarm.retract(PieceIndex(7));
    leech.until("don't have", |e| matches!(e, SwarmEvent::DontHave { piece: PieceIndex(7), .. }).then_some(())).await;
    leech.swarm.send(to_seed, LinkCommand::Request { piece: PieceIndex(7), begin, len });
    leech.until("third reject", |e| matches!(e, SwarmEvent::Rejected { piece: PieceIndex(7), .. }).then_some(())).await;
    let protocol = leech.swarm.status().protocol_bytes;
    assert!((200..2000).contains(&protocol), "{protocol}");
    seed.swarm.shutdown().await;
    leech.down().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metadata_comes_from_peers_and_the_links_carry_on() {
    let (full, hash) = known(5, 0..5);
    let seed = Side::start(config(hash, vec![]), Some(full.clone()));
    // This one lies about the metadata, with the size right: it is found out and the other's word taken.
    let mut lie = full.clone();
    lie.info_bytes = Bytes::from(vec![1; full.info_bytes.len()]);
    let liar = Side::start(config(hash, vec![]), Some(lie));
    let mut magnet = Side::start(config(hash, vec![liar.addr(), seed.addr()]), None);
    let drain = |side: Side| {
        tokio::spawn(async move {
            let Side { swarm: _swarm, mut events, .. } = side;
            while events.recv().await.is_some() {}
        })
    };
    let (_a, _b) = (drain(seed), drain(liar));
    let info = magnet
        .until("metadata", |e| match e {
            SwarmEvent::Metadata(b) => Some(b.clone()),
            _ => None,
        })
        .await;
    assert_eq!(info, full.info_bytes);
    assert!(!magnet.log.iter().any(|e| matches!(e, SwarmEvent::Bitfield { .. })), "not before the torrent is known");
    magnet.swarm.set_torrent(KnownTorrent { have: PieceSet::new(5), ..full });
    assert!(magnet.bitfield().await.is_full());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_dial_each_other_keep_one_link_and_nobody_links_to_itself() {
    let (t, hash) = known(3, [1]);
    let mut a = Side::start(config(hash, vec![]), Some(t.clone()));
    let mut b = Side::start(config(hash, vec![a.addr()]), Some(t));
    let (own, other) = (a.addr(), b.addr());
    a.swarm.shared.found([own, other], LinkSource::Tracker);
    let mut links: HashMap<LinkId, bool> = HashMap::new();
    // Both settle: every dial ended, one link each.
    let settled = async {
        loop {
            tokio::select! {
                e = a.events.recv() => match e {
                    Some(SwarmEvent::Up { link, .. }) => { links.insert(link, true); }
                    Some(SwarmEvent::Down { link, .. }) => { links.insert(link, false); }
                    _ => {}
                },
                _ = b.events.recv() => {}
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            let quiet = |s: &Side| s.swarm.status().connecting == 0 && s.swarm.shared.link_count() == 1;
            let own_gone = a.swarm.shared.book.lock().is_banned(own);
            if quiet(&a) && quiet(&b) && own_gone && links.values().filter(|up| **up).count() == 1 {
                return;
            }
        }
    };
    timeout(LIMIT, settled).await.expect("two links stay, or none");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_banned_peer_stays_away_and_one_the_user_named_is_dialled_again() {
    let (t, hash) = known(5, 0..5);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = server.local_addr().unwrap();
    let mut side = Side::start(config(hash, vec![addr]), Some(t));
    let shake = async |id: u8| {
        let (mut s, _) = timeout(LIMIT, server.accept()).await.expect("not dialled").unwrap();
        s.read_exact(&mut [0; handshake::LEN]).await.unwrap();
        s.write_all(&Handshake { fast: false, extended: false, ..Handshake::ours(InfoHash(hash), [id; 20]) }.encode())
            .await
            .unwrap();
        s
    };
    drop(shake(1).await);
    side.down().await;
    let mut again = shake(2).await;
    // Neither fast nor extended: what we have comes as a bitfield, and nothing else.
    let mut first = [0; 6];
    again.read_exact(&mut first).await.unwrap();
    assert_eq!(first, [0, 0, 0, 2, 5, 0b1111_1000]);
    let (link, _) = side
        .until("second link", |e| match e {
            SwarmEvent::Up { link, info } if info.peer_id == [2; 20] => Some((*link, ())),
            _ => None,
        })
        .await;
    side.swarm.send(link, LinkCommand::Close { ban: true });
    assert_eq!(side.down().await, "closed by us");
    assert!(side.swarm.shared.book.lock().is_banned(addr) && side.swarm.shared.book.lock().next_at().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_is_replaced_and_said() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (t, hash) = known(5, []);
    let listen = Some(taken.local_addr().unwrap());
    let side = Side::start(SwarmConfig { listen, ..config(hash, vec![]) }, Some(t));
    assert_ne!(side.addr(), taken.local_addr().unwrap());
    let said = side.swarm.status().sources.join("\n");
    assert!(said.contains(&format!("{} is taken", taken.local_addr().unwrap().port())), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_are_found_through_http_trackers_and_through_peers() {
    let (t, hash) = known(5, [0]);
    let mut seed = Side::start(config(hash, vec![]), Some(t.clone()));
    let tracker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/announce?auth=1", tracker.local_addr().unwrap());
    let port = seed.addr().port().to_be_bytes();
    let (asked, mut announces) = mpsc::channel(10);
    tokio::spawn(async move {
        while let Ok((mut s, _)) = tracker.accept().await {
            let mut request = vec![0; 4096];
            let n = s.read(&mut request).await.unwrap_or(0);
            let _ = asked.send(String::from_utf8_lossy(&request[..n]).into_owned()).await;
            let body =
                [&b"d8:completei1e10:incompletei0e8:intervali0e5:peers6:\x7f\x00\x00\x01"[..], &port, b"e"].concat();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = s.write_all(&[head.as_bytes(), &body].concat()).await;
        }
    });
    let trackers = vec![vec![url, "udp://127.0.0.1:9/".into(), "wss://x.example".into(), "rubbish".into()]];
    let mut side = Side::start(SwarmConfig { trackers, ..config(hash, vec![]) }, Some(t));
    let (_, info) = side.up().await;
    assert_eq!((info.source, info.addr), (LinkSource::Tracker, seed.addr()));
    seed.up().await;
    let first = announces.recv().await.unwrap();
    assert!(first.contains("auth=1&info_hash=") && first.contains("event=started"), "{first}");
    assert!(first.contains(&format!("port={}&", side.addr().port())) && first.contains("left=131072&"), "{first}");
    assert!(side.swarm.status().sources.iter().any(|s| s.ends_with("· 1 peer · 1 seed, 0 others")));
    side.swarm.shutdown().await;
    let last = announces.recv().await.unwrap();
    assert!(last.contains("event=stopped"), "an interval of 0 is not obeyed: {last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_tell_peers_about_peers_unless_the_torrent_is_private() {
    let (t, hash) = known(5, [0]);
    let hub = Side::start(config(hash, vec![]), Some(t.clone()));
    let a = Side::start(config(hash, vec![hub.addr()]), Some(t.clone()));
    let b = Side::start(config(hash, vec![hub.addr()]), Some(t.clone()));
    let private = Side::start(config(hash, vec![]), Some(KnownTorrent { private: true, ..t }));
    assert!(a.swarm.shared.uses_pex() && !private.swarm.shared.uses_pex());
    assert!(private.swarm.shared.public_discovery.is_cancelled() && !private.swarm.shared.cancel.is_cancelled());
    let (seen, there) = (a.swarm.shared.clone(), b.addr());
    let drain = |side: Side| {
        tokio::spawn(async move {
            let Side { swarm: _swarm, mut events, .. } = side;
            while events.recv().await.is_some() {}
        })
    };
    let _all = [drain(hub), drain(a), drain(b)];
    let met = async {
        while !seen.dialable(LinkId(0)).iter().any(|p| p.addr == there) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, met).await.expect("the two never heard of each other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receive_budget_slows_but_does_not_stop() {
    let (full, hash) = known(5, 0..5);
    let mut seed = Side::start(config(hash, vec![]), Some(full));
    let mut leech = Side::start(config(hash, vec![seed.addr()]), Some(known(5, []).0));
    leech.swarm.set_receive_budget(Some(100_000));
    let (to_seed, _) = leech.up().await;
    let (to_leech, _) = seed.up().await;
    seed.swarm.send(to_leech, LinkCommand::Choke(false));
    leech.until("unchoke", |e| matches!(e, SwarmEvent::Unchoked { .. }).then_some(())).await;
    for (round, budget) in [Some(100_000), None].into_iter().enumerate() {
        leech.swarm.set_receive_budget(budget);
        for piece in (0..5).map(PieceIndex) {
            leech.swarm.send(to_seed, LinkCommand::Request { piece, begin: 0, len: 16384 });
        }
        for _ in 0..5 {
            let piece = seed
                .until("request", |e| match e {
                    SwarmEvent::Requested { piece, .. } => Some(*piece),
                    _ => None,
                })
                .await;
            let data = Bytes::from(vec![round as u8; 16384]);
            seed.swarm.send(to_leech, LinkCommand::Send { piece, begin: 0, data });
        }
        for _ in 0..5 {
            leech.until("block", |e| matches!(e, SwarmEvent::Block { .. }).then_some(())).await;
        }
    }
}

/// Many blocks through a driver's channel of four: the order of requests, every byte, and little besides them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_blocks_arrive_whole_and_in_order() {
    const PIECES: u32 = 400;
    let (full, hash) = known(PIECES, 0..PIECES);
    let mut seed = Side::start(config(hash, vec![]), Some(full));
    let mut leech = Side::start(config(hash, vec![seed.addr()]), Some(known(PIECES, []).0));
    let content = |p: u32, begin: u32| Bytes::from(vec![(p * 2 + begin / 16384) as u8; 16384]);
    let (to_leech, _) = seed.up().await;
    seed.swarm.send(to_leech, LinkCommand::Choke(false));
    let serving = tokio::spawn(async move {
        while let Some(e) = seed.events.recv().await {
            if let SwarmEvent::Requested { link, piece, begin, .. } = e {
                seed.swarm.send(link, LinkCommand::Send { piece, begin, data: content(piece.0, begin) });
            }
        }
    });
    let (to_seed, _) = leech.up().await;
    leech.until("unchoke", |e| matches!(e, SwarmEvent::Unchoked { .. }).then_some(())).await;
    let mut asked = (0..PIECES).flat_map(|p| [(p, 0), (p, 16384)]);
    let expected = asked.clone();
    let mut ask = |n: usize| {
        for (p, begin) in asked.by_ref().take(n) {
            leech.swarm.send(to_seed, LinkCommand::Request { piece: PieceIndex(p), begin, len: 16384 });
        }
    };
    ask(100);
    for (p, b) in expected {
        let e = loop {
            let e = timeout(LIMIT, leech.events.recv()).await.expect("stuck").expect("ended");
            if let SwarmEvent::Block { piece, begin, data, .. } = e {
                break (piece.0, begin, data);
            }
        };
        assert_eq!(e, (p, b, content(p, b)));
        ask(1);
    }
    let (payload, protocol) = (u64::from(PIECES) * 32768, leech.swarm.status().protocol_bytes);
    assert!(protocol < payload / 200, "{protocol} bytes besides {payload}");
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_packet_tells_all_and_interest_without_cause_is_taken_back() {
    let (t, hash) = known(5, [0, 4]);
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let side = Side::start(config(hash, vec![server.local_addr().unwrap()]), Some(t));
    let (mut s, _) = timeout(LIMIT, server.accept()).await.expect("not dialled").unwrap();
    // Nothing is said by us yet: no round trip was waited for.
    let mut first = [0; handshake::LEN + 6 + 5];
    s.read_exact(&mut first).await.unwrap();
    assert_eq!(first[handshake::LEN..], [0, 0, 0, 2, 5, 0b1000_1000, 0, 0, 0, 1, 2]);
    side.swarm.announce(PieceIndex(3));
    let theirs = Handshake { extended: false, ..Handshake::ours(InfoHash(hash), [5; 20]) };
    s.write_all(&theirs.encode()).await.unwrap();
    // What came in the meantime is told now.
    let mut have = [0; 9];
    s.read_exact(&mut have).await.unwrap();
    assert_eq!(have, [0, 0, 0, 5, 4, 0, 0, 0, 3]);
    s.write_all(&[0, 0, 0, 2, 5, 0b1000_0000]).await.unwrap();
    let mut retreat = [0; 5];
    s.read_exact(&mut retreat).await.unwrap();
    assert_eq!(retreat, [0, 0, 0, 1, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whom_the_blocklist_names_is_neither_dialled_nor_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("list.p2p");
    std::fs::write(&file, "nobody at home:127.0.0.0-127.255.255.255\nnonsense\n").unwrap();
    let list = Arc::new(crate::swarm::blocklist::Blocklist::load(&file).unwrap());
    let (t, hash) = known(5, [0]);
    let mut seed = Side::start(config(hash, vec![]), Some(t.clone()));
    let network = crate::swarm::Network { blocklist: Some(list), ..Default::default() };
    let side = Side::start(SwarmConfig { network, ..config(hash, vec![seed.addr()]) }, Some(t.clone()));
    let status = side.swarm.status();
    assert_eq!(status.known, 0, "{status:?}");
    assert!(status.sources.contains(&"blocklist · 1 range · 1 line not understood".to_owned()), "{status:?}");
    // Hung up on, whatever it says.
    let mut stranger = TcpStream::connect(side.addr()).await.unwrap();
    let end = timeout(LIMIT, stranger.read(&mut [0; 1])).await.expect("still there");
    assert!(matches!(end, Ok(0) | Err(_)));
    // One without a list finds the seed, which shows that it could be found.
    let _free = Side::start(config(hash, vec![seed.addr()]), Some(t));
    seed.up().await;
}

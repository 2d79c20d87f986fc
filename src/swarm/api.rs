//! What the swarm is told and what it tells: one channel each way, plain values.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::blocklist::Blocklist;
use crate::net::NetRoute;
use crate::torrent::InfoHash;
use crate::units::{Layout, LinkId, PieceIndex, PieceSet};

/// How to reach a swarm.
#[derive(Debug, Clone)]
pub struct SwarmConfig {
    pub info_hash: InfoHash,
    /// Listen here; port 0 takes a free one. `None`: outgoing links only.
    pub listen: Option<SocketAddr>,
    /// Peers given by the user; dialled first and again after a loss.
    pub peers: Vec<SocketAddr>,
    /// Tiers of tracker URLs.
    pub trackers: Vec<Vec<String>>,
    pub dht: bool,
    /// Where the torrent says that the DHT can be entered, host and port; beside the usual nodes.
    pub nodes: Vec<(String, u16)>,
    pub lsd: bool,
    pub pex: bool,
    /// BEP 27: neither DHT nor PEX nor LSD, whatever is said above.
    pub private: bool,
    /// Links at most, both ways together.
    pub max_links: usize,
    pub encryption: Encryption,
    /// Links over uTP (BEP 29) beside those over TCP.
    pub utp: bool,
    pub network: Network,
}

/// Whether links are encrypted (MSE). What it is good for is to pass where the protocol is throttled or blocked, and to
/// reach peers that take nothing else; it keeps nothing secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encryption {
    /// Both ways are taken; a peer is dialled the way it is known to like, and at once the other way where it refuses.
    #[default]
    Prefer,
    /// Encrypted links only.
    Require,
    /// Plain links only.
    Off,
}

/// How this machine meets the network, whatever the torrent.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// Which way packets leave.
    pub route: NetRoute,
    /// Addresses that are neither dialled nor accepted.
    pub blocklist: Option<Arc<Blocklist>>,
    /// Ask the router to let peers in (UPnP, PCP, NAT-PMP).
    pub map_port: bool,
    /// Nodes of the DHT are remembered in this file.
    pub dht_nodes: Option<PathBuf>,
    /// Where the DHT is joined, `HOST:PORT`; empty: at the well-known nodes.
    pub dht_bootstrap: Vec<String>,
}

/// The torrent, once known: from a file at the start, or from a peer later.
#[derive(Debug, Clone)]
pub struct KnownTorrent {
    pub layout: Layout,
    /// The raw info dictionary; peers may ask for it (BEP 9).
    pub info_bytes: Bytes,
    pub private: bool,
    /// Announced to each new link before anything else.
    pub have: PieceSet,
}

/// How a link came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkSource {
    User,
    Tracker,
    Dht,
    Pex,
    Lsd,
    Incoming,
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub struct LinkInfo {
    pub addr: SocketAddr,
    pub peer_id: [u8; 20],
    /// "qBittorrent 5.1": from its extended handshake, else from its peer id.
    pub client: String,
    pub source: LinkSource,
    pub outgoing: bool,
    /// Time from SYN to SYN-ACK, where we dialled.
    pub rtt: Option<Duration>,
    /// Every byte is; a plain stream behind an obfuscated handshake is not.
    pub encrypted: bool,
    /// Over uTP, not TCP.
    pub utp: bool,
}

/// From the swarm to the driver, over a bounded channel: a slow driver slows the sockets, never memory.
#[derive(Debug)]
pub enum SwarmEvent {
    /// The info dictionary, its SHA-1 checked against the info hash. At most once.
    Metadata(Bytes),
    /// Handshake done. Sent for every link before the torrent is known as well.
    Up {
        link: LinkId,
        info: LinkInfo,
    },
    /// The extended handshake told the client's name.
    Client {
        link: LinkId,
        client: String,
    },
    Down {
        link: LinkId,
        reason: String,
    },
    /// Only once the torrent is known: what came before is kept and said then.
    Bitfield {
        link: LinkId,
        pieces: PieceSet,
    },
    Have {
        link: LinkId,
        piece: PieceIndex,
    },
    Choked {
        link: LinkId,
    },
    Unchoked {
        link: LinkId,
    },
    Interested {
        link: LinkId,
        interested: bool,
    },
    /// Checked: inside the piece, no longer than a block; not checked whether it was asked for.
    Block {
        link: LinkId,
        piece: PieceIndex,
        begin: u32,
        data: Bytes,
    },
    Rejected {
        link: LinkId,
        piece: PieceIndex,
        begin: u32,
        len: u32,
    },
    /// lt_donthave: the peer gave a piece up again.
    DontHave {
        link: LinkId,
        piece: PieceIndex,
    },
    /// BEP 6: the peer answers for this piece even while it chokes us.
    AllowedFast {
        link: LinkId,
        piece: PieceIndex,
    },
    /// BEP 6: the peer would like us to ask for this piece.
    Suggested {
        link: LinkId,
        piece: PieceIndex,
    },
    /// We sent AllowedFast for this piece: the peer may ask for it while choked.
    FastGranted {
        link: LinkId,
        piece: PieceIndex,
    },
    /// Checked: inside the piece, at most 128 KiB.
    Requested {
        link: LinkId,
        piece: PieceIndex,
        begin: u32,
        len: u32,
    },
    Unrequested {
        link: LinkId,
        piece: PieceIndex,
        begin: u32,
        len: u32,
    },
    /// A block that was handed over with [`LinkCommand::Send`] is in the socket.
    Sent {
        link: LinkId,
        len: u32,
    },
}

/// From the driver to one link. A link that is gone swallows it.
#[derive(Debug, Clone)]
pub enum LinkCommand {
    Request {
        piece: PieceIndex,
        begin: u32,
        len: u32,
    },
    Cancel {
        piece: PieceIndex,
        begin: u32,
        len: u32,
    },
    Interested(bool),
    Choke(bool),
    Have(PieceIndex),
    Send {
        piece: PieceIndex,
        begin: u32,
        data: Bytes,
    },
    /// A request of the peer's will not be answered (BEP 6). A link without the fast extension says nothing.
    Reject {
        piece: PieceIndex,
        begin: u32,
        len: u32,
    },
    /// Close; with `ban` the address is never dialled or accepted again.
    Close {
        ban: bool,
    },
}

/// Where peers are looked for, for the viewer.
#[derive(Debug, Clone, Default)]
pub struct DiscoveryStatus {
    /// One line each: "udp://tracker.example:6969 · 14 peers", "DHT · 61 nodes".
    pub sources: Vec<String>,
    /// Peers with everything, and all others, by the tracker that knows most of the swarm. `None` before one told.
    pub seeds: Option<u32>,
    pub others: Option<u32>,
    /// Addresses known, connected or not.
    pub known: usize,
    pub connecting: usize,
    /// Handshakes, keep-alives, metadata and all else that is not payload, bytes both ways.
    pub protocol_bytes: u64,
}

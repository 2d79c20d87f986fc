//! What the tasks of one swarm share.
//!
//! Invariant: no lock in here is held across an await, and none is taken while another is held.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api::{DiscoveryStatus, KnownTorrent, LinkSource, SwarmConfig, SwarmEvent};
use super::book::Book;
use super::budget::Budget;
use super::handshake;
use super::merit::Worth;
use super::metadata::Fetch;
use super::pex::{self, Peer};
use super::queue::Queue;
use super::shake::{Manner, Shake};
use super::tracker::Counts;
use super::utp::Utp;
use super::wire::Message;
use crate::units::{Layout, LinkId, PieceIndex, PieceSet};

/// Most links whatever the configuration says.
pub const MAX_LINKS: usize = 500;

/// Incoming links from one address: a household or a small office behind one router, not a crowd.
const MAX_PER_ADDRESS: usize = 8;

/// Most links that said nothing yet, besides.
const MAX_MUTE: usize = 150;

/// With fewer peers than this that give, those that keep us waiting make room sooner.
const FEW_GIVERS: usize = 4;

/// Of two links that grew towards each other, both sides keep the same one, as long as they are this young.
const TIE_BREAK_AGE: std::time::Duration = std::time::Duration::from_secs(10);

/// The torrent, as the links need it.
#[derive(Debug)]
pub struct Known {
    pub layout: Layout,
    pub info_bytes: Bytes,
}

/// Bytes so far.
#[derive(Debug, Default)]
pub struct Traffic {
    /// All that links read and wrote, and payload within it.
    pub total: AtomicU64,
    pub payload_in: AtomicU64,
    pub payload_out: AtomicU64,
    /// Trackers.
    pub other: AtomicU64,
}

/// One link, as others see it.
#[derive(Debug)]
struct LinkEntry {
    queue: Arc<Queue>,
    close: CancellationToken,
    peer_id: [u8; 20],
    addr: SocketAddr,
    /// Where it can be dialled.
    listens: Option<SocketAddr>,
    /// It shook hands obfuscated.
    obfuscated: bool,
    outgoing: bool,
    since: Instant,
    /// What others hear of it (BEP 11).
    flags: u8,
}

/// A link's place in the swarm.
#[derive(Debug)]
pub struct Place {
    pub link: LinkId,
    pub queue: Arc<Queue>,
    pub close: CancellationToken,
}

/// Why a peer that shook hands gets no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    Ourselves,
    Twice,
    Full,
    Banned,
}

fn incoming(links: &HashMap<LinkId, LinkEntry>) -> usize {
    links.values().filter(|l| !l.outgoing && !l.close.is_cancelled()).count()
}

/// See the module.
#[derive(Debug)]
pub struct Shared {
    pub config: SwarmConfig,
    pub peer_id: [u8; 20],
    pub local: Option<SocketAddr>,
    /// `None` where it is switched off or no UDP port can be had.
    pub utp: Option<Utp>,
    pub events: mpsc::Sender<SwarmEvent>,
    pub torrent: watch::Sender<Option<Arc<Known>>>,
    /// Pieces we have; told to each new link.
    have: Mutex<Option<PieceSet>>,
    links: Mutex<HashMap<LinkId, LinkEntry>>,
    next_link: AtomicU32,
    pub book: Mutex<Book>,
    /// The port a router opened for us, where it is not our own; 0 where there is none.
    pub public_port: AtomicU16,
    pub dial: Notify,
    pub want: AtomicUsize,
    pub metadata: Mutex<Fetch>,
    pub budget: Budget,
    pub traffic: Traffic,
    board: Mutex<BTreeMap<(u8, String), String>>,
    /// Seeds and others by tracker.
    counts: Mutex<HashMap<String, Counts>>,
    /// All pieces are here.
    pub done: watch::Sender<bool>,
    private: AtomicBool,
    /// Ends DHT and LSD, once the torrent turns out to be private.
    pub public_discovery: CancellationToken,
    pub cancel: CancellationToken,
    pub tasks: AtomicUsize,
    pub task_ended: Notify,
}

impl Shared {
    pub fn new(
        config: SwarmConfig,
        events: mpsc::Sender<SwarmEvent>,
        local: Option<SocketAddr>,
        utp: Option<Utp>,
    ) -> Self {
        let cancel = CancellationToken::new();
        Self {
            peer_id: handshake::new_peer_id(),
            local,
            utp,
            events,
            torrent: watch::Sender::new(None),
            have: Mutex::new(None),
            links: Mutex::default(),
            next_link: AtomicU32::new(1),
            book: Mutex::new(Book::new(config.network.blocklist.clone())),
            public_port: AtomicU16::new(0),
            dial: Notify::new(),
            want: AtomicUsize::new(config.max_links),
            metadata: Mutex::default(),
            budget: Budget::new(),
            traffic: Traffic::default(),
            board: Mutex::default(),
            counts: Mutex::default(),
            done: watch::Sender::new(false),
            private: AtomicBool::new(config.private),
            public_discovery: cancel.child_token(),
            cancel,
            tasks: AtomicUsize::new(0),
            task_ended: Notify::new(),
            config,
        }
    }

    /// Runs a task that [`super::Swarm::shutdown`] waits for; it must end when `cancel` says so.
    pub fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        struct Ended(Arc<Shared>);
        impl Drop for Ended {
            fn drop(&mut self) {
                self.0.tasks.fetch_sub(1, Ordering::AcqRel);
                self.0.task_ended.notify_one();
            }
        }
        self.tasks.fetch_add(1, Ordering::AcqRel);
        let ended = Ended(self.clone());
        tokio::spawn(async move {
            let _ended = ended;
            task.await;
        });
    }

    /// Tells the driver; waits while it is busy. `Err` when the swarm or the driver ended.
    pub async fn tell(&self, event: SwarmEvent) -> Result<(), ()> {
        // Nearly always there is room, and a look is all it takes.
        let event = match self.events.try_send(event) {
            Ok(()) => return Ok(()),
            Err(mpsc::error::TrySendError::Full(event)) => event,
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(()),
        };
        tokio::select! {
            sent = self.events.send(event) => sent.map_err(drop),
            () = self.cancel.cancelled() => Err(()),
        }
    }

    pub fn set_torrent(&self, t: KnownTorrent) {
        let mut fresh = t.have.clone();
        {
            let mut have = self.have.lock();
            if let Some(before) = have.as_ref() {
                before.iter().for_each(|p| {
                    fresh.remove(p);
                });
                let mut all = before.clone();
                t.have.iter().for_each(|p| {
                    all.insert(p);
                });
                *have = Some(all);
            } else {
                *have = Some(t.have);
            }
        }
        if t.private {
            self.go_private();
        }
        self.metadata.lock().finish();
        // Links that shook hands before could not be told what we have.
        for queue in self.queues() {
            for p in fresh.iter() {
                queue.push(Message::Have(p.0));
            }
        }
        self.torrent.send_replace(Some(Arc::new(Known { layout: t.layout, info_bytes: t.info_bytes })));
    }

    /// BEP 27: from now on trackers only; whoever was found another way, before that was known, is let go.
    fn go_private(&self) {
        self.private.store(true, Ordering::Relaxed);
        self.public_discovery.cancel();
        let strangers = self.book.lock().forget_public();
        for link in strangers {
            self.close(link, false);
        }
    }

    /// BEP 27: from the configuration or from the torrent itself.
    pub fn is_private(&self) -> bool {
        self.private.load(Ordering::Relaxed)
    }

    pub fn uses_pex(&self) -> bool {
        self.config.pex && !self.is_private()
    }

    /// We have a piece now.
    pub fn got(&self, piece: PieceIndex) {
        let all = self.have.lock().as_mut().is_some_and(|have| have.insert(piece) && have.is_full());
        if all {
            self.done.send_replace(true);
        }
    }

    /// We have a piece no longer. False when we had it not.
    pub fn lost(&self, piece: PieceIndex) -> bool {
        self.have.lock().as_mut().is_some_and(|have| have.remove(piece))
    }

    /// Whether we have this piece.
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.have.lock().as_ref().is_some_and(|have| have.contains(piece))
    }

    /// What we have; `None` before the torrent is known.
    pub fn have(&self) -> Option<PieceSet> {
        self.have.lock().clone()
    }

    /// Bytes still missing, for trackers; `None` before the torrent is known.
    pub fn left(&self) -> Option<u64> {
        let layout = self.torrent.borrow().as_ref()?.layout;
        let have = self.have.lock();
        let here: u64 = have.as_ref()?.iter().map(|p| layout.piece_range(p).len()).sum();
        Some(layout.total_len().saturating_sub(here))
    }

    /// New addresses of peers.
    pub fn found(&self, addrs: impl IntoIterator<Item = SocketAddr>, source: LinkSource) {
        let now = Instant::now();
        let mut new = false;
        {
            let mut book = self.book.lock();
            for addr in addrs {
                new |= book.add(addr, source, now);
            }
        }
        if new {
            self.dial.notify_one();
        }
    }

    /// Addresses that a peer told of, with what it says of them.
    pub fn found_by_pex(&self, peers: impl IntoIterator<Item = Peer>) {
        // Two that have everything have nothing to say to each other.
        let seeding = self.have.lock().as_ref().is_some_and(PieceSet::is_full);
        let now = Instant::now();
        let mut new = false;
        {
            let mut book = self.book.lock();
            for p in peers.into_iter().filter(|p| !(seeding && p.flags & pex::SEED != 0)) {
                new |= book.add(p.addr, LinkSource::Pex, now);
                book.hint(p.addr, p.flags);
            }
        }
        if new {
            self.dial.notify_one();
        }
    }

    /// Notes what others may hear of a peer.
    pub fn flag(&self, link: LinkId, flag: u8) {
        if let Some(l) = self.links.lock().get_mut(&link) {
            l.flags |= flag;
        }
    }

    pub fn unflag(&self, link: LinkId, flag: u8) {
        if let Some(l) = self.links.lock().get_mut(&link) {
            l.flags &= !flag;
        }
    }

    /// Where the world can dial us; `None` where it cannot.
    pub fn public_port(&self) -> Option<u16> {
        match self.public_port.load(Ordering::Relaxed) {
            0 => self.local.map(|l| l.port()),
            port => Some(port),
        }
    }

    /// Links that have a place: all but those that said nothing yet, or are being closed.
    pub fn link_count(&self) -> usize {
        let now = Instant::now();
        self.worths(now).iter().filter(|w| w.1 != Worth::Mute).count()
    }

    /// Links that are not being closed, whether they said anything or not.
    #[cfg(test)]
    pub fn open_links(&self) -> usize {
        self.links.lock().values().filter(|l| !l.close.is_cancelled()).count()
    }

    /// Whether there is room for links that may turn out to be mute.
    pub fn has_room_for_mute(&self) -> bool {
        self.queues().iter().filter(|q| q.merit.lock().is_mute()).count() < self.max_mute()
    }

    /// Links that said nothing yet, besides [`Shared::max_links`]: they cost a socket and a few kilobytes each, and were a
    /// place counted for them, a crowd of the mute could keep everybody else out.
    fn max_mute(&self) -> usize {
        (3 * self.max_links()).min(MAX_MUTE)
    }

    /// Each link that is not being closed, and what it is worth.
    fn worths(&self, now: Instant) -> Vec<(LinkId, Worth, CancellationToken)> {
        let links: Vec<_> = {
            let links = self.links.lock();
            let open = links.iter().filter(|(_, l)| !l.close.is_cancelled());
            open.map(|(id, l)| (*id, l.queue.clone(), l.close.clone())).collect()
        };
        let in_need = links.iter().filter(|l| l.1.merit.lock().gives(now)).count() < FEW_GIVERS;
        let worth = |q: &Queue| {
            let merit = q.merit.lock();
            // What is young and mute has no place yet either.
            if merit.is_mute() { Worth::Mute } else { merit.worth(now, in_need) }
        };
        links.into_iter().map(|(id, queue, close)| (id, worth(&queue), close)).collect()
    }

    /// Closes up to `most` links that others could make better use of, the least useful first.
    pub fn make_room(&self, most: usize) {
        let now = Instant::now();
        let mut worths = self.worths(now);
        worths.retain(|w| w.1 != Worth::Good && w.1 != Worth::Mute);
        worths.sort_unstable_by_key(|w| (w.1, w.0));
        worths.iter().take(most).for_each(|w| w.2.cancel());
    }

    /// Closes the mute that had their time, where others wait for their sockets.
    pub fn make_room_for_mute(&self) {
        let now = Instant::now();
        let links: Vec<_> = self.links.lock().values().map(|l| (l.queue.clone(), l.close.clone())).collect();
        let mute = |q: &Queue| {
            let merit = q.merit.lock();
            merit.is_mute() && merit.worth(now, true) == Worth::Mute
        };
        links.iter().filter(|l| mute(&l.0)).for_each(|l| l.1.cancel());
    }

    /// Whether another incoming link would find a place.
    pub fn has_room_for_strangers(&self) -> bool {
        self.link_count() < self.max_links() && incoming(&self.links.lock()) < self.max_incoming()
    }

    /// Incoming links at most: strangers who fill all the places there are must leave some for peers of our choice.
    fn max_incoming(&self) -> usize {
        self.max_links().div_ceil(4) * 3
    }

    /// Links, as far as they make dialling needless: incoming ones count for half of what is wanted at most, since nobody
    /// knows what they are good for.
    pub fn links_toward(&self, want: usize) -> usize {
        let incoming = incoming(&self.links.lock());
        let placed = self.link_count();
        placed.saturating_sub(incoming) + incoming.min(want / 2).min(placed)
    }

    /// Most links at once, as configured.
    pub fn max_links(&self) -> usize {
        self.config.max_links.min(MAX_LINKS)
    }

    /// A place for a peer that shook hands.
    pub fn place(&self, shake: &Shake, addr: SocketAddr, outgoing: bool) -> Result<Place, NoPlace> {
        let peer = &shake.peer;
        if peer.peer_id == self.peer_id {
            return Err(NoPlace::Ourselves);
        }
        if self.book.lock().is_banned(addr) {
            return Err(NoPlace::Banned);
        }
        if self.link_count() >= self.max_links() {
            self.make_room(1);
        }
        if !self.has_room_for_mute() || (!outgoing && !self.has_room_for_strangers()) {
            self.make_room_for_mute();
        }
        let (placed, mute_room) = (self.link_count(), self.has_room_for_mute());
        let mut links = self.links.lock();
        if let Some(twin) = links.values().find(|l| l.peer_id == peer.peer_id) {
            // Both dialled each other: the link of the one with the higher id stays, by either side's count.
            let ours_wins = self.peer_id > peer.peer_id;
            // Of one machine only: a peer id is no secret, and a stranger must not end another's link with it.
            let same = twin.addr.ip() == addr.ip();
            let crossed = same && twin.outgoing != outgoing && twin.since.elapsed() < TIE_BREAK_AGE;
            if !crossed || outgoing != ours_wins {
                return Err(NoPlace::Twice);
            }
            twin.close.cancel();
        }
        let same = |l: &&LinkEntry| !l.outgoing && l.addr.ip() == addr.ip();
        let crowded = !outgoing
            && (incoming(&links) >= self.max_incoming()
                || (!addr.ip().is_loopback() && links.values().filter(same).count() >= MAX_PER_ADDRESS));
        if crowded || placed >= self.max_links() || !mute_room {
            return Err(NoPlace::Full);
        }
        let link = LinkId(self.next_link.fetch_add(1, Ordering::Relaxed));
        let queue = Arc::new(Queue::new(peer.fast));
        let close = self.cancel.child_token();
        let entry = LinkEntry {
            queue: queue.clone(),
            close: close.clone(),
            peer_id: peer.peer_id,
            addr,
            listens: outgoing.then_some(addr),
            obfuscated: shake.obfuscated,
            outgoing,
            since: Instant::now(),
            flags: if outgoing { pex::REACHABLE } else { 0 } | if shake.obfuscated { pex::ENCRYPTS } else { 0 },
        };
        links.insert(link, entry);
        Ok(Place { link, queue, close })
    }

    /// An incoming link said where it listens. False when that peer has a link already.
    pub fn listens_at(&self, link: LinkId, port: u16) -> bool {
        let (addr, obfuscated) = {
            let mut links = self.links.lock();
            let Some(l) = links.get_mut(&link) else { return true };
            if l.outgoing || l.listens.is_some() {
                return true;
            }
            let addr = SocketAddr::new(l.addr.ip(), port);
            l.listens = Some(addr);
            (addr, l.obfuscated)
        };
        let mut book = self.book.lock();
        let new = book.linked(addr, link, LinkSource::Incoming, Instant::now());
        if obfuscated {
            book.likes(addr, Manner::Obfuscated);
        }
        new
    }

    /// The link ended.
    pub fn leave(&self, link: LinkId) {
        let Some(l) = self.links.lock().remove(&link) else { return };
        if let Some(addr) = l.listens {
            self.book.lock().unlinked(addr, link, l.since.elapsed(), Instant::now());
        }
        self.dial.notify_one();
    }

    /// Closes a link from our side; with `ban` for good.
    pub fn close(&self, link: LinkId, ban: bool) {
        let found = self.links.lock().get(&link).map(|l| (l.addr, l.listens, l.close.clone()));
        let Some((addr, listens, close)) = found else { return };
        if ban {
            let mut book = self.book.lock();
            book.ban(addr);
            if let Some(a) = listens {
                book.ban(a);
            }
        }
        close.cancel();
    }

    pub fn queue(&self, link: LinkId) -> Option<Arc<Queue>> {
        self.links.lock().get(&link).map(|l| l.queue.clone())
    }

    pub fn queues(&self) -> Vec<Arc<Queue>> {
        self.links.lock().values().map(|l| l.queue.clone()).collect()
    }

    /// Peers that others may be told of, but for the one behind `link`.
    pub fn dialable(&self, link: LinkId) -> Vec<Peer> {
        let links = self.links.lock();
        let others = links.iter().filter(|(id, _)| **id != link);
        others.filter_map(|(_, l)| Some(Peer { addr: l.listens?, flags: l.flags })).collect()
    }

    /// Sets one line of the status; `rank` orders them.
    pub fn post(&self, rank: u8, key: impl Into<String>, line: String) {
        self.board.lock().insert((rank, key.into()), line);
    }

    /// A tracker told how many are in the swarm.
    pub fn counted(&self, tracker: &str, counts: Counts) {
        self.counts.lock().insert(tracker.to_owned(), counts);
    }

    pub fn status(&self) -> DiscoveryStatus {
        let (known, connecting) = {
            let book = self.book.lock();
            (book.len(), book.dialling())
        };
        let t = &self.traffic;
        let load = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let protocol = load(&t.total).saturating_sub(load(&t.payload_in)).saturating_sub(load(&t.payload_out));
        // Each tracker knows a part of the swarm, and most know the same one.
        let most = self.counts.lock().values().copied().max_by_key(|c| c.seeds.saturating_add(c.others));
        DiscoveryStatus {
            seeds: most.map(|c| c.seeds),
            others: most.map(|c| c.others),
            sources: self.board.lock().values().cloned().collect(),
            known,
            connecting,
            protocol_bytes: protocol + load(&t.other),
        }
    }
}

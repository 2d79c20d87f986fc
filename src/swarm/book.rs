//! The address book: whom we could dial, when next, and whom never.
//!
//! Invariant: at most [`MAX_ENTRIES`] addresses, whatever strangers tell; each is in one state; sans-IO: time comes in.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::api::LinkSource;
use super::blocklist::Blocklist;
use super::pex;
use super::shake::Manner;
use crate::units::LinkId;

/// Enough for any swarm we could use.
pub const MAX_ENTRIES: usize = 2000;

/// Banned addresses remembered; the ban list is no place to make us grow either.
const MAX_BANS: usize = 10_000;

/// A link this long counts as one that went well.
const GOOD_LIFE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    Dialling,
    /// Connected; its handshake is awaited.
    Shaking,
    Linked(LinkId),
}

/// How a peer is best dialled, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Way {
    /// What it took the last time, or what another peer says that it likes.
    pub manner: Option<Manner>,
    /// It was reached over uTP, and not over TCP, or TCP led nowhere the last time.
    pub utp_first: bool,
    /// Nothing may come with our handshake: aria2 hangs up on that ("More than … MESSAGE_LENGTH bytes are buffered").
    pub bare: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    source: LinkSource,
    way: Way,
    state: State,
    failures: u32,
    not_before: Instant,
    /// Another peer says that it has everything. Hearsay: it orders, and decides nothing.
    seed: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Book {
    /// Whom the user never wants to meet.
    blocklist: Option<Arc<Blocklist>>,
    entries: HashMap<SocketAddr, Entry>,
    banned_ips: HashSet<IpAddr>,
    /// On this machine and behind it, where one address stands for many peers.
    banned_addrs: HashSet<SocketAddr>,
}

/// Users' peers and those a tracker names are likelier to be there than hearsay.
fn rank(source: LinkSource) -> u8 {
    match source {
        LinkSource::User => 0,
        LinkSource::Lsd => 1,
        LinkSource::Tracker => 2,
        LinkSource::Incoming => 3,
        LinkSource::Dht => 4,
        LinkSource::Pex => 5,
    }
}

/// An IPv4 address dressed as IPv6 is undressed, so that each peer has one address.
pub fn plain(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Whether an address can be a peer at all.
fn plausible(addr: SocketAddr) -> bool {
    let ip = addr.ip();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    addr.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast
}

impl Book {
    pub fn new(blocklist: Option<Arc<Blocklist>>) -> Self {
        Self { blocklist, ..Self::default() }
    }

    /// Adds an address; true when it is new and worth a dial.
    pub fn add(&mut self, addr: SocketAddr, source: LinkSource, now: Instant) -> bool {
        let addr = plain(addr);
        if !plausible(addr) || self.is_banned(addr) {
            return false;
        }
        if let Some(e) = self.entries.get_mut(&addr) {
            if rank(source) < rank(e.source) {
                e.source = source;
            }
            return false;
        }
        if self.entries.len() >= MAX_ENTRIES && !self.make_room() {
            return false;
        }
        let way = Way::default();
        self.entries.insert(addr, Entry { source, way, state: State::Idle, failures: 0, not_before: now, seed: false });
        true
    }

    /// What another peer said of an address: BEP 11's flags.
    pub fn hint(&mut self, addr: SocketAddr, flags: u8) {
        if let Some(e) = self.entries.get_mut(&plain(addr)) {
            e.seed = flags & pex::SEED != 0;
        }
        if flags & pex::ENCRYPTS != 0 {
            self.likes(addr, Manner::Obfuscated);
        }
    }

    /// Forgets whom a private torrent may not know: all that came another way than from a tracker or the user. Gives the
    /// links to them.
    pub fn forget_public(&mut self) -> Vec<LinkId> {
        let mut links = Vec::new();
        self.entries.retain(|_, e| {
            let public = matches!(e.source, LinkSource::Dht | LinkSource::Lsd | LinkSource::Pex);
            if let (true, State::Linked(link)) = (public, e.state) {
                links.push(link);
            }
            !public
        });
        links
    }

    /// Drops the idle address with the most failures; false when none ever failed.
    fn make_room(&mut self) -> bool {
        let idle = self.entries.iter().filter(|(_, e)| e.state == State::Idle && e.source != LinkSource::User);
        let worst = idle.filter(|(_, e)| e.failures > 0).max_by_key(|(_, e)| e.failures).map(|(a, _)| *a);
        worst.is_some_and(|a| self.entries.remove(&a).is_some())
    }

    /// The best address to dial now; it is marked as being dialled.
    pub fn next(&mut self, now: Instant) -> Option<(SocketAddr, LinkSource)> {
        let ready = self.entries.iter_mut().filter(|(_, e)| e.state == State::Idle && e.not_before <= now);
        let (addr, e) = ready.min_by_key(|(_, e)| (e.failures, rank(e.source), !e.seed, e.not_before))?;
        e.state = State::Dialling;
        Some((*addr, e.source))
    }

    /// When the next address becomes worth a dial.
    pub fn next_at(&self) -> Option<Instant> {
        self.entries.values().filter(|e| e.state == State::Idle).map(|e| e.not_before).min()
    }

    /// How to dial an address.
    pub fn way(&self, addr: SocketAddr) -> Way {
        self.entries.get(&plain(addr)).map(|e| e.way).unwrap_or_default()
    }

    /// A peer answered when dialled like this.
    pub fn went(&mut self, addr: SocketAddr, way: Way) {
        if let Some(e) = self.entries.get_mut(&plain(addr)) {
            e.way = way;
        }
    }

    /// A peer took the connection and hung up on the handshake. One that never shook hands may be there for the other
    /// transport only: a libtorrent that is told to speak uTP alone still accepts TCP. That is for the next dial to see;
    /// most that hang up are full.
    pub fn refused(&mut self, addr: SocketAddr, utp: bool) {
        if let Some(e) = self.entries.get_mut(&plain(addr)).filter(|e| e.way.manner.is_none()) {
            e.way.utp_first = !utp;
        }
    }

    /// A peer likes to be dialled like this, by its own doing or by hearsay; what worked goes before.
    pub fn likes(&mut self, addr: SocketAddr, manner: Manner) {
        if let Some(e) = self.entries.get_mut(&plain(addr)) {
            e.way.manner.get_or_insert(manner);
        }
    }

    /// The connection stands, and the peer's handshake is awaited.
    pub fn connected(&mut self, addr: SocketAddr) {
        if let Some(e) = self.entries.get_mut(&plain(addr))
            && e.state == State::Dialling
        {
            e.state = State::Shaking;
        }
    }

    /// The link that was dialled stands; it takes the place of any other to this address.
    pub fn dialled(&mut self, addr: SocketAddr, link: LinkId) {
        if let Some(e) = self.entries.get_mut(&plain(addr)) {
            e.state = State::Linked(link);
        }
    }

    /// A link that came in stands to this address. False when there was one already.
    pub fn linked(&mut self, addr: SocketAddr, link: LinkId, source: LinkSource, now: Instant) -> bool {
        self.add(addr, source, now);
        let Some(e) = self.entries.get_mut(&plain(addr)) else { return true };
        let free = !matches!(e.state, State::Linked(_));
        if free {
            e.state = State::Linked(link);
        }
        free
    }

    /// The link is gone after `lived`.
    pub fn unlinked(&mut self, addr: SocketAddr, link: LinkId, lived: Duration, now: Instant) {
        if let Some(e) = self.entries.get_mut(&plain(addr))
            && e.state == State::Linked(link)
        {
            e.failures = if lived >= GOOD_LIFE { 0 } else { e.failures.saturating_add(1) };
            e.state = State::Idle;
            e.not_before = now + pause(e.source, false, e.failures.max(1));
        }
    }

    /// It hung up without a word on what we sent together with our handshake: worth one more dial at once without.
    pub fn choked_on_early_bytes(&mut self, addr: SocketAddr, now: Instant) {
        if let Some(e) = self.entries.get_mut(&plain(addr)).filter(|e| !e.way.bare) {
            e.way.bare = true;
            if e.state == State::Idle {
                e.failures = e.failures.saturating_sub(1);
                e.not_before = now;
            }
        }
    }

    /// The dial led to nothing.
    pub fn failed(&mut self, addr: SocketAddr, now: Instant) {
        if let Some(e) = self.entries.get_mut(&plain(addr))
            && matches!(e.state, State::Dialling | State::Shaking)
        {
            e.failures = e.failures.saturating_add(1);
            e.not_before = now + pause(e.source, e.state == State::Shaking, e.failures);
            e.state = State::Idle;
        }
    }

    /// It answered, and there was no place for it any more: none of its doing, so it waits until `then` and no longer.
    pub fn turned_away(&mut self, addr: SocketAddr, then: Instant) {
        if let Some(e) = self.entries.get_mut(&plain(addr))
            && matches!(e.state, State::Dialling | State::Shaking)
        {
            e.state = State::Idle;
            e.not_before = then;
        }
    }

    /// Never dialled or accepted again. On loopback many peers share an address, so there only this port is banned.
    pub fn ban(&mut self, addr: SocketAddr) {
        let addr = plain(addr);
        if addr.ip().is_loopback() {
            if self.banned_addrs.len() < MAX_BANS {
                self.banned_addrs.insert(addr);
            }
            self.entries.remove(&addr);
        } else {
            if self.banned_ips.len() < MAX_BANS {
                self.banned_ips.insert(addr.ip());
            }
            self.entries.retain(|a, _| a.ip() != addr.ip());
        }
    }

    /// This address is ourselves: not a peer, whatever its IP.
    pub fn is_self(&mut self, addr: SocketAddr) {
        let addr = plain(addr);
        if self.banned_addrs.len() < MAX_BANS {
            self.banned_addrs.insert(addr);
        }
        self.entries.remove(&addr);
    }

    /// Banned by us, or by the user's blocklist.
    pub fn is_banned(&self, addr: SocketAddr) -> bool {
        let addr = plain(addr);
        self.banned_ips.contains(&addr.ip())
            || self.banned_addrs.contains(&addr)
            || self.blocklist.as_ref().is_some_and(|b| b.blocks(addr.ip()))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn dialling(&self) -> usize {
        self.entries.values().filter(|e| e.state == State::Dialling).count()
    }

    pub fn shaking(&self) -> usize {
        self.entries.values().filter(|e| e.state == State::Shaking).count()
    }
}

/// How long to leave an address alone after this many failures in a row: doubling, from 10 s to 20 min. Who `answered` the dial and
/// hung up is there: perhaps it still counts our link of a moment ago (Transmission does, until it looks again after half a second) or
/// has no place just now. With such a peer, and with one that the user named, it begins at a second. Not with one whose link
/// stood: it, or we, had enough of it, and others come first.
fn pause(source: LinkSource, answered: bool, failures: u32) -> Duration {
    let user = source == LinkSource::User;
    let base = if user || answered { 1 } else { 10 };
    let most = if user { 60 } else { 1200 };
    Duration::from_secs((base << failures.saturating_sub(1).min(10)).min(most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(n: u32) -> SocketAddr {
        SocketAddr::from(((0x0a00_0000 + n).to_be_bytes(), 6881))
    }

    #[test]
    fn who_found_no_place_comes_before_those_that_failed() {
        let (mut b, now) = (Book::default(), Instant::now());
        for n in 1..=2 {
            b.add(addr(n), LinkSource::User, now);
        }
        let (first, second) = (b.next(now).unwrap().0, b.next(now).unwrap().0);
        b.failed(first, now);
        b.turned_away(second, now + Duration::from_secs(1));
        assert_eq!(b.next(now), None);
        let later = now + Duration::from_secs(1);
        assert_eq!(b.next(later).unwrap().0, second);
        for _ in 0..5 {
            b.turned_away(second, later);
            assert_eq!(b.next(later).unwrap().0, second, "however often");
        }
        assert_eq!(b.next(later).unwrap().0, first);
    }

    #[test]
    fn users_peers_first_then_trackers_and_each_once() {
        let (mut b, now) = (Book::default(), Instant::now());
        b.add(addr(1), LinkSource::Pex, now);
        b.add(addr(2), LinkSource::Tracker, now);
        b.add(addr(3), LinkSource::User, now);
        assert!(!b.add(addr(3), LinkSource::Pex, now));
        let order: Vec<_> = std::iter::from_fn(|| b.next(now)).map(|(a, _)| a).collect();
        assert_eq!(order, [addr(3), addr(2), addr(1)]);
        assert_eq!(b.dialling(), 3);
    }

    #[test]
    fn seeds_first_and_a_private_torrent_forgets_strangers() {
        let (mut b, now) = (Book::default(), Instant::now());
        for (n, source) in [(1, LinkSource::Pex), (2, LinkSource::Pex), (3, LinkSource::Dht), (4, LinkSource::Tracker)]
        {
            b.add(addr(n), source, now);
        }
        b.hint(addr(2), pex::SEED | pex::ENCRYPTS);
        assert_eq!((b.way(addr(2)).manner, b.way(addr(1)).manner), (Some(Manner::Obfuscated), None));
        let order: Vec<_> = std::iter::from_fn(|| b.next(now)).map(|(a, _)| a).collect();
        assert_eq!(order, [addr(4), addr(3), addr(2), addr(1)]);
        b.dialled(addr(3), LinkId(3));
        b.dialled(addr(4), LinkId(4));
        assert_eq!((b.forget_public(), b.len()), (vec![LinkId(3)], 1));
    }

    #[test]
    fn failures_are_retried_later_and_later() {
        let (mut b, mut now) = (Book::default(), Instant::now());
        b.add(addr(1), LinkSource::User, now);
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(b.next(now), Some((addr(1), LinkSource::User)));
            b.failed(addr(1), now);
            assert_eq!(b.next(now), None);
            assert_eq!(b.next_at(), Some(now + Duration::from_secs(wait)));
            now += Duration::from_secs(wait);
        }
        assert!(b.next(now).is_some());
        b.linked(addr(1), LinkId(1), LinkSource::User, now);
        assert!(!b.linked(addr(1), LinkId(2), LinkSource::Incoming, now));
        b.unlinked(addr(1), LinkId(2), GOOD_LIFE, now);
        assert_eq!(b.next_at(), None, "only the link that holds the address lets go of it");
        b.unlinked(addr(1), LinkId(1), GOOD_LIFE, now);
        assert_eq!(b.next_at(), Some(now + Duration::from_secs(1)));
    }

    #[test]
    fn who_answered_is_tried_again_sooner() {
        let (mut b, mut now) = (Book::default(), Instant::now());
        b.add(addr(1), LinkSource::Tracker, now);
        let mut fail = |answers: bool| {
            assert!(b.next(now).is_some());
            if answers {
                b.connected(addr(1));
            }
            b.failed(addr(1), now);
            let wait = b.next_at().unwrap() - now;
            now += wait;
            wait.as_secs()
        };
        assert_eq!([true, true, false, true].map(&mut fail), [1, 2, 40, 8]);
    }

    #[test]
    fn what_worked_is_remembered_and_hearsay_does_not_change_it() {
        let (mut b, now) = (Book::default(), Instant::now());
        b.likes(addr(1), Manner::Obfuscated);
        assert_eq!(b.way(addr(1)), Way::default(), "nobody we know");
        b.add(addr(1), LinkSource::Pex, now);
        b.likes(addr(1), Manner::Obfuscated);
        assert_eq!(b.way(addr(1)).manner, Some(Manner::Obfuscated));
        let way = Way { manner: Some(Manner::Plain), utp_first: true, bare: false };
        b.add(addr(2), LinkSource::Pex, now);
        for utp in [false, true] {
            b.refused(addr(2), utp);
            assert_eq!(b.way(addr(2)).utp_first, !utp);
        }
        b.went(addr(1), way);
        b.refused(addr(1), false);
        b.likes(addr(1), Manner::Obfuscated);
        b.failed(addr(1), now);
        assert_eq!(b.way("[::ffff:10.0.0.1]:6881".parse().unwrap()), way);
    }

    #[test]
    fn who_hangs_up_on_early_bytes_is_dialled_once_more_at_once() {
        let (mut b, now) = (Book::default(), Instant::now());
        b.add(addr(1), LinkSource::Tracker, now);
        for (bare, again) in [(false, true), (true, false)] {
            assert_eq!(b.next(now).map(|(a, _)| b.way(a).bare), Some(bare));
            b.dialled(addr(1), LinkId(1));
            b.unlinked(addr(1), LinkId(1), Duration::ZERO, now);
            b.choked_on_early_bytes(addr(1), now);
            assert_eq!(b.next_at() == Some(now), again);
        }
    }

    #[test]
    fn strangers_cannot_fill_it_nor_name_what_is_no_peer() {
        let (mut b, now) = (Book::default(), Instant::now());
        for bad in ["0.0.0.0:1", "224.0.0.1:5", "1.2.3.4:0", "255.255.255.255:9", "[ff02::1]:6"] {
            assert!(!b.add(bad.parse().unwrap(), LinkSource::Pex, now), "{bad}");
        }
        for i in 0..MAX_ENTRIES as u32 + 100 {
            b.add(addr(i), LinkSource::Pex, now);
        }
        assert_eq!(b.len(), MAX_ENTRIES);
        b.next(now).map(|(a, _)| b.failed(a, now)).unwrap();
        assert!(b.add(addr(1_000_000), LinkSource::Tracker, now), "one that failed makes room");
        assert!(!b.add(addr(1_000_001), LinkSource::Tracker, now));
    }

    #[test]
    fn a_ban_holds_for_the_ip_but_on_loopback_for_the_port() {
        let (mut b, now) = (Book::default(), Instant::now());
        b.ban("[::ffff:10.0.0.1]:5".parse().unwrap());
        assert!(b.is_banned("10.0.0.1:6".parse().unwrap()) && !b.add(addr(1), LinkSource::Tracker, now));
        b.ban("127.0.0.1:5".parse().unwrap());
        assert!(b.is_banned("127.0.0.1:5".parse().unwrap()) && !b.is_banned("127.0.0.1:6".parse().unwrap()));
    }
}

//! Which connections are open, and which of them have to go.
//!
//! Invariants: never more connections than allowed, in all and of one address; a connection that nobody uses gives way to one
//! that somebody wants; one that sends no whole request for a while, or takes nothing of its answer, is closed.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// How many connections, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    pub total: usize,
    /// Of one address; of one /64 network, where addresses are IPv6.
    pub per_address: usize,
    /// Between two requests, and for sending the head of one. Longer than clients keep connections (reqwest: 90 s): a player that
    /// needs the server all of a sudden should have one. When it gets tight, the idle ones give way before.
    pub idle: Duration,
    /// An answer of which nothing was taken for so long is broken off.
    pub stall: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            total: 16 * 1024,
            // A school or a provider behind one address, or a proxy, has hundreds; all of them together must not fill the house.
            per_address: 4 * 1024,
            idle: Duration::from_secs(120),
            stall: Duration::from_secs(30),
        }
    }
}

/// A look at all connections is a millisecond for ten thousand of them.
const SWEEP_MOST: Duration = Duration::from_secs(5);

/// The open connections of one server.
pub struct Connections {
    limits: ConnectionLimits,
    started: Instant,
    /// Time that tests let pass at once, milliseconds.
    #[cfg(test)]
    ahead: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    all: HashMap<u64, Entry>,
    /// By the moment they became idle, counted.
    idle: BTreeMap<u64, u64>,
    addresses: HashMap<IpAddr, Address>,
}

#[derive(Default)]
struct Address {
    open: usize,
    idle: BTreeMap<u64, u64>,
}

struct Entry {
    address: IpAddr,
    close: CancellationToken,
    /// Where it stands among the idle ones, and since when (milliseconds).
    idle: Option<(u64, u64)>,
    answers: Vec<Arc<Answer>>,
}

/// One answer under way.
struct Answer {
    /// When the connection last asked for more of it, milliseconds.
    asked: AtomicU64,
    /// The next bytes are being made: it is not the reader who waits.
    making: AtomicBool,
}

impl Connections {
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            started: Instant::now(),
            #[cfg(test)]
            ahead: AtomicU64::default(),
            table: Mutex::default(),
        })
    }

    /// Between two sweeps.
    pub fn sweep_every(&self) -> Duration {
        (self.limits.idle.min(self.limits.stall) / 4).clamp(Duration::from_millis(10), SWEEP_MOST)
    }

    /// Takes a connection in, and if need be sends an idle one away for it: of the same address, where that has its fill. `None`
    /// when all are in use. A `proxy` stands for many, and has no limit of its own.
    pub fn admit(self: &Arc<Self>, from: IpAddr, proxy: bool) -> Option<Connection> {
        let (now, address) = (self.now(), network_of(from));
        let mut table = self.table.lock();
        if !proxy && table.addresses.get(&address).is_some_and(|a| a.open >= self.limits.per_address) {
            let oldest = table.addresses.get(&address).and_then(|a| a.idle.first_key_value()).map(|(_, id)| *id)?;
            table.close(oldest);
        }
        if table.all.len() >= self.limits.total {
            let oldest = table.idle.first_key_value().map(|(_, id)| *id)?;
            table.close(oldest);
        }
        let id = table.next;
        let close = CancellationToken::new();
        table.all.insert(id, Entry { address, close: close.clone(), idle: None, answers: Vec::new() });
        table.addresses.entry(address).or_default().open += 1;
        table.rest(id, now);
        Some(Connection { all: self.clone(), id, close })
    }

    #[cfg(test)]
    fn open(&self) -> usize {
        self.table.lock().all.len()
    }

    /// Sends the longest idle one away: the system has no descriptor left.
    pub fn make_room(&self) {
        let mut table = self.table.lock();
        if let Some(oldest) = table.idle.first_key_value().map(|(_, id)| *id) {
            table.close(oldest);
        }
    }

    /// Closes what was idle or stalled for too long; to be called every few seconds. Answers how many stalled.
    pub fn sweep(&self) -> usize {
        let now = self.now();
        let (idle, stall) = (millis(self.limits.idle), millis(self.limits.stall));
        let mut table = self.table.lock();
        while let Some(oldest) = table.idle.first_key_value().map(|(_, id)| *id) {
            let since = table.all.get(&oldest).and_then(|e| e.idle).map_or(0, |(_, since)| since);
            if now.saturating_sub(since) < idle {
                break;
            }
            table.close(oldest);
        }
        let stalled = |a: &Arc<Answer>| {
            !a.making.load(Ordering::Relaxed) && now.saturating_sub(a.asked.load(Ordering::Relaxed)) >= stall
        };
        let gone: Vec<u64> =
            table.all.iter().filter(|(_, e)| e.answers.iter().any(stalled)).map(|(id, _)| *id).collect();
        for id in &gone {
            table.close(*id);
        }
        gone.len()
    }

    fn now(&self) -> u64 {
        let now = millis(self.started.elapsed());
        #[cfg(test)]
        let now = now + self.ahead.load(Ordering::Relaxed);
        now
    }
}

impl Table {
    /// Marks as idle.
    fn rest(&mut self, id: u64, now: u64) {
        let turn = self.next;
        self.next += 1;
        if let Some(entry) = self.all.get_mut(&id) {
            entry.idle = Some((turn, now));
            self.idle.insert(turn, id);
            self.addresses.entry(entry.address).or_default().idle.insert(turn, id);
        }
    }

    /// No longer idle.
    fn wake(&mut self, id: u64) {
        let Some(entry) = self.all.get_mut(&id) else { return };
        if let Some((turn, _)) = entry.idle.take() {
            self.idle.remove(&turn);
            if let Some(address) = self.addresses.get_mut(&entry.address) {
                address.idle.remove(&turn);
            }
        }
    }

    /// Forgets it; its task ends soon.
    fn close(&mut self, id: u64) {
        self.wake(id);
        let Some(entry) = self.all.remove(&id) else { return };
        entry.close.cancel();
        if let Some(address) = self.addresses.get_mut(&entry.address) {
            address.open -= 1;
            if address.open == 0 {
                self.addresses.remove(&entry.address);
            }
        }
    }
}

/// An open connection; closed for the others when dropped.
pub struct Connection {
    all: Arc<Connections>,
    id: u64,
    close: CancellationToken,
}

impl Connection {
    /// Cancelled when it has to go.
    pub fn closing(&self) -> &CancellationToken {
        &self.close
    }

    /// A request came, and its answer is under way until this is dropped.
    pub fn answer(&self) -> InAnswer {
        let answer = Arc::new(Answer { asked: AtomicU64::new(self.all.now()), making: AtomicBool::new(true) });
        let mut table = self.all.table.lock();
        table.wake(self.id);
        if let Some(entry) = table.all.get_mut(&self.id) {
            entry.answers.push(answer.clone());
        }
        InAnswer { all: self.all.clone(), id: self.id, answer }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.table.lock().close(self.id);
    }
}

/// An answer under way.
pub struct InAnswer {
    all: Arc<Connections>,
    id: u64,
    answer: Arc<Answer>,
}

impl InAnswer {
    /// The connection asks for more: until `handed` the server is to blame for what is not sent.
    pub fn asked(&self) {
        self.answer.making.store(true, Ordering::Relaxed);
    }

    /// Bytes were handed over: until `asked` the reader is to blame.
    pub fn handed(&self) {
        self.answer.asked.store(self.all.now(), Ordering::Relaxed);
        self.answer.making.store(false, Ordering::Relaxed);
    }
}

impl Drop for InAnswer {
    fn drop(&mut self) {
        let now = self.all.now();
        let mut table = self.all.table.lock();
        let Some(entry) = table.all.get_mut(&self.id) else { return };
        entry.answers.retain(|a| !Arc::ptr_eq(a, &self.answer));
        if entry.answers.is_empty() {
            table.rest(self.id, now);
        }
    }
}

/// Whose addresses they are: one host's, as far as can be told.
pub fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn limits(total: usize, per_address: usize) -> ConnectionLimits {
        ConnectionLimits { total, per_address, ..ConnectionLimits::default() }
    }

    #[test]
    fn the_longest_idle_gives_way_and_the_busy_never() {
        let all = Connections::new(limits(3, 10));
        let [a, b, c] = [1, 2, 3].map(|n| all.admit(ip(n), false).unwrap());
        let (busy, used) = (a.answer(), b.answer());
        drop(used);
        // b is idle since later than c.
        let d = all.admit(ip(4), false).unwrap();
        assert!(c.closing().is_cancelled() && !b.closing().is_cancelled());
        let e = all.admit(ip(5), false).unwrap();
        assert!(b.closing().is_cancelled());
        let others = [d.answer(), e.answer()];
        assert!(all.admit(ip(6), false).is_none());
        assert_eq!(all.open(), 3);
        drop(others);
        drop(busy);
        all.make_room();
        assert!(d.closing().is_cancelled() && !a.closing().is_cancelled());
        drop((a, b, c, d, e));
        assert_eq!(all.open(), 0);
        let table = all.table.lock();
        assert!(table.addresses.is_empty() && table.idle.is_empty());
    }

    #[test]
    fn one_address_takes_only_its_share() {
        let all = Connections::new(limits(10, 2));
        let other = all.admit(ip(2), false).unwrap();
        let [a, b] = [(); 2].map(|()| all.admit(ip(1), false).unwrap());
        let c = all.admit(ip(1), false).unwrap();
        assert!(a.closing().is_cancelled() && !b.closing().is_cancelled() && !other.closing().is_cancelled());
        let (_in_b, _in_c) = (b.answer(), c.answer());
        assert!(all.admit(ip(1), false).is_none());
        assert!(all.admit(ip(3), false).is_some() && all.admit(ip(1), true).is_some());
        let v6 = |s: &str| network_of(s.parse().unwrap());
        assert_eq!(v6("2001:db8::1"), v6("2001:db8::ffff:0:1"));
        assert_ne!(v6("2001:db8::1"), v6("2001:db8:0:1::1"));
        assert_eq!(network_of("::ffff:10.0.0.1".parse().unwrap()), ip(1));
    }

    #[test]
    fn idle_and_stalled_ones_are_closed_and_slow_servers_are_not() {
        let all = Connections::new(ConnectionLimits::default());
        let [idle, stalled, waiting, reading] = [1, 2, 3, 4].map(|n| all.admit(ip(n), false).unwrap());
        let (s, w, r) = (stalled.answer(), waiting.answer(), reading.answer());
        let past = |c: &Connection, all: &Arc<Connections>, seconds: u64| {
            all.ahead.store(seconds * 1000, Ordering::Relaxed);
            w.asked();
            r.asked();
            r.handed();
            all.sweep();
            c.closing().is_cancelled()
        };
        s.handed();
        // A second or more of a slow machine's own time may pass between these lines.
        assert!(!past(&stalled, &all, 1));
        assert!(past(&stalled, &all, 30));
        assert!(!idle.closing().is_cancelled());
        assert!(past(&idle, &all, 120));
        assert!(!waiting.closing().is_cancelled() && !reading.closing().is_cancelled());
        drop(s);
    }
}

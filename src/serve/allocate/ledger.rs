//! Bids in, grants out: each answered at once, from the level that stands with it included.
//!
//! Invariants: what is promised and not yet carried never exceeds what the server carries within a grant's life
//! (`promised ≤ reach`), so every grant can be kept; over a time t at most `rate · t + reach` is granted, where the rate is the
//! capacity and as much again as lapsed unused; a viewer's grants over a second are at most its fair share and one block.
//!
//! The rolling second is kept as charges that leak: what a viewer was granted is charged to it and leaks away within a
//! second, and a bid may fill the charge up to the viewer's share. Who bids once a second finds it leaked and gets a whole
//! share; who bids five times gets a fifth each time.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::level::{Level, Need};
use super::{AddressKey, Allocation, Bidder, DUE_MOST, Grant, GrantId, QUANTUM, Refusal, ViewerKey};
use crate::engine::Bid;
use crate::units::Instant;

/// A bid counts in the level for this long: until the viewer's next, a second later, and what networks and timers jitter.
const BID_LIFE: Duration = Duration::from_millis(1_200);
/// A viewer that bids no more is remembered for this long, with what is charged to it.
const MEMORY: Duration = Duration::from_secs(10);
/// Bids meant for even steps may come so much early: networks and timers jitter.
const JITTER: Duration = Duration::from_millis(100);
/// What lapses unused is granted once more, up to so many times the capacity: viewers bid for what the swarm may miss, and
/// much of it comes from the swarm after all.
const OVERBOOK: u64 = 2;
/// Grants of other servers that are valid this much longer than one's own: their clocks differ.
const SKEW: Duration = Duration::from_secs(2);
/// Grants kept per viewer remembered: five bids a second, over a grant's life.
const GRANTS_EACH: usize = 10;

#[derive(Debug)]
struct Viewer {
    address: AddressKey,
    /// What it counts for in the level; `None` when its last bid is too old.
    need: Option<u64>,
    charge: Charge,
    /// The next bid is welcome then.
    next: Instant,
    /// What is due to happen to it: the entry of the agenda.
    wake: Instant,
}

/// Bits granted over the last second, as they stood at `at`.
#[derive(Debug, Clone, Copy, Default)]
struct Charge {
    bits: u64,
    at: Instant,
    /// Bits that leak of it per second: all of it, or where a block was granted to a share smaller than that, the share.
    leak: u64,
}

impl Charge {
    fn now(&self, now: Instant) -> u64 {
        let leaked = (self.leak as f64 * now.since(self.at).as_secs_f64()) as u64;
        self.bits.saturating_sub(leaked)
    }

    /// So many bits more, of a share of so many per second.
    fn add(&mut self, now: Instant, bits: u64, share: u64) {
        self.bits = self.now(now).saturating_add(bits);
        self.at = now;
        self.leak = self.bits.min(share.max(1));
    }

    fn take_back(&mut self, now: Instant, bits: u64) {
        self.bits = self.now(now).saturating_sub(bits);
        self.at = now;
        self.leak = self.leak.min(self.bits);
    }
}

/// The viewers of one address, who divide its shares.
#[derive(Debug)]
struct Group {
    level: Level,
    needs: u64,
    bidding: u64,
    remembered: u32,
    charge: Charge,
}

#[derive(Debug)]
struct Issued {
    viewer: ViewerKey,
    bits: u64,
    spent: u64,
    /// Of another server; its bits were never promised here.
    foreign: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wake {
    Grant(GrantId),
    Viewer(ViewerKey),
}

/// How things stand, for metrics and pictures. Sums are over all time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Viewers remembered, and those of them whose bid counts now.
    pub viewers: usize,
    pub bidding: usize,
    /// The share of one viewer in bits per second; `None` while there is enough for all.
    pub level: Option<u64>,
    /// Bits granted and not yet carried, if the server carries at its capacity.
    pub promised: u64,
    pub granted_bits: u64,
    pub spent_bits: u64,
    /// Of those spent, given back because they were not sent.
    pub returned_bits: u64,
    pub lapsed_bits: u64,
}

/// All bids and grants of one server.
#[derive(Debug)]
pub struct Ledger {
    config: Allocation,
    viewers: HashMap<ViewerKey, Viewer>,
    groups: HashMap<AddressKey, Group>,
    level: Level,
    grants: HashMap<GrantId, Issued>,
    agenda: BTreeSet<(Instant, Wake)>,
    bidding: usize,
    serial: u64,
    promised: u64,
    at: Instant,
    /// Bits that lapsed in the second that began at `second`, less what others' grants took; and in the one before.
    lapsing: u64,
    lapsed: u64,
    second: Instant,
    sums: Standing,
}

impl Ledger {
    pub fn new(config: Allocation) -> Self {
        Self {
            level: Level::new(config.capacity.unwrap_or(u64::MAX)),
            config,
            viewers: HashMap::new(),
            groups: HashMap::new(),
            grants: HashMap::new(),
            agenda: BTreeSet::new(),
            bidding: 0,
            serial: 0,
            promised: 0,
            at: Instant::ZERO,
            lapsing: 0,
            lapsed: 0,
            second: Instant::ZERO,
            sums: Standing::default(),
        }
    }

    /// Answers a bid. What is granted comes on top of what the viewer holds: a bid is for what is not granted yet.
    pub fn bid(&mut self, now: Instant, who: Bidder, bid: &Bid) -> Result<Grant, Refusal> {
        self.tick(now);
        if bid.due_bits.len() > DUE_MOST {
            return Err(Refusal::Horizon);
        }
        self.enter(now, who)?;
        let every = self.config.bid_every;
        if let Some(v) = self.viewers.get_mut(&who.viewer) {
            // The generic cell rate algorithm (ITU-T I.371): a mean rate, and one limit on how early.
            if now + JITTER < v.next {
                return Err(Refusal::TooSoon { wait: v.next.since(now + JITTER) });
            }
            v.next = v.next.max(now) + every;
        }
        // What never falls due is not needed; a block more, for those who round.
        let due = bid.due_bits.iter().fold(0u64, |sum, b| sum.saturating_add(*b));
        let due = if bid.due_bits.is_empty() { u64::MAX } else { due.saturating_add(QUANTUM) };
        let bits = self.allot(now, who, bid.max_bits.min(due));
        let id = GrantId { instance: self.config.instance, serial: self.serial };
        let expires = now + self.config.grant_life;
        self.serial += 1;
        if bits > 0 {
            self.grants.insert(id, Issued { viewer: who.viewer, bits, spent: 0, foreign: false });
            self.agenda.insert((expires, Wake::Grant(id)));
        }
        Ok(Grant { id, bits, expires })
    }

    /// A request that comes without a grant is a bid for what it asks, granted and spent at once: the bits that it may have.
    pub fn bid_and_spend(&mut self, now: Instant, who: Bidder, bits: u64) -> Result<u64, Refusal> {
        self.tick(now);
        self.enter(now, who)?;
        let granted = self.allot(now, who, bits);
        self.sums.spent_bits += granted;
        Ok(granted)
    }

    /// Takes up to `bits` from a grant and says how many it had: none once it has lapsed or is used up. `whole` and `expires`
    /// are what the grant says of itself, for one of another server; the caller has checked its signature.
    pub fn spend(&mut self, now: Instant, id: GrantId, whole: u64, expires: Instant, who: ViewerKey, bits: u64) -> u64 {
        self.tick(now);
        let foreign = id.instance != self.config.instance;
        let fresh = expires > now && expires <= now + self.config.grant_life + SKEW;
        let room = self.grants.len() < self.config.viewers_most.saturating_mul(GRANTS_EACH);
        if foreign && fresh && room && !self.grants.contains_key(&id) {
            let bits = whole.min(self.config.bid_most);
            self.grants.insert(id, Issued { viewer: who, bits, spent: 0, foreign: true });
            self.agenda.insert((expires, Wake::Grant(id)));
        }
        // Used up it stays until it lapses: another server's grant, shown again, would be taken for a new one.
        let Some(grant) = self.grants.get_mut(&id).filter(|g| g.viewer == who) else { return 0 };
        let taken = bits.min(grant.bits - grant.spent);
        grant.spent += taken;
        if grant.foreign {
            self.lapsing = self.lapsing.saturating_sub(taken);
        }
        self.sums.spent_bits += taken;
        taken
    }

    /// Gives back what was taken from a grant and not sent; it may be taken again until the grant lapses.
    pub fn give_back(&mut self, id: GrantId, bits: u64) {
        if let Some(grant) = self.grants.get_mut(&id) {
            let back = bits.min(grant.spent);
            grant.spent -= back;
            self.sums.returned_bits += back;
        }
    }

    /// Gives back what [`Self::bid_and_spend`] granted and was not sent.
    pub fn unbid(&mut self, now: Instant, who: ViewerKey, bits: u64) {
        self.tick(now);
        self.sums.returned_bits += bits;
        self.promised = self.promised.saturating_sub(bits);
        if let Some(v) = self.viewers.get_mut(&who) {
            v.charge.take_back(now, bits);
            if let Some(group) = self.groups.get_mut(&v.address) {
                group.charge.take_back(now, bits);
            }
        }
    }

    /// Lets lapse what is due to lapse. Every call does this first; to call it now and then keeps [`Self::standing`] fresh.
    pub fn tick(&mut self, now: Instant) {
        if let Some(capacity) = self.config.capacity {
            let rate = self.rate(capacity) as f64;
            let carried = (rate * now.since(self.at).as_secs_f64()) as u64;
            self.promised = self.promised.saturating_sub(carried);
            // Only by the time that whole bits took, or many small steps would lose much of the rate.
            self.at = if self.promised > 0 { self.at + Duration::from_secs_f64(carried as f64 / rate) } else { now };
        }
        while let Some((at, wake)) = self.agenda.first().copied().filter(|e| e.0 <= now) {
            self.agenda.remove(&(at, wake));
            match wake {
                Wake::Grant(id) => {
                    if let Some(g) = self.grants.remove(&id).filter(|g| !g.foreign) {
                        self.lapsing += g.bits - g.spent;
                        self.sums.lapsed_bits += g.bits - g.spent;
                    }
                }
                Wake::Viewer(key) => self.age(at, key),
            }
        }
        if now.since(self.second) >= Duration::from_secs(1) {
            // After a silence, what lapsed before it says nothing.
            let gap = now.since(self.second) >= Duration::from_secs(2);
            self.lapsed = if gap { 0 } else { self.lapsing };
            self.lapsing = 0;
            self.second = now;
            if let Some(capacity) = self.config.capacity {
                // A crowd that came at once was promised ahead; the shares are smaller until that is carried, or all would wait
                // for it from then on. Where shares are below a block, what may be promised is the limit anyway.
                let ahead = self.promised.saturating_sub(capacity / 2);
                let whole = self.level.height().is_some_and(|h| h >= QUANTUM);
                let rate = self.rate(capacity);
                let less = if whole { (ahead / 2).min(rate / 4) } else { 0 };
                self.level.set_capacity(rate - less);
            }
        }
    }

    /// How things stand after the last call.
    pub fn standing(&self) -> Standing {
        Standing {
            viewers: self.viewers.len(),
            bidding: self.bidding,
            level: self.level.height(),
            promised: self.promised,
            ..self.sums
        }
    }

    /// Bits granted per second: those that are carried, and those that lapse.
    fn rate(&self, capacity: u64) -> u64 {
        capacity.saturating_add(self.lapsed).min(capacity.saturating_mul(OVERBOOK)).max(1)
    }

    /// Finds the viewer or makes room for it.
    fn enter(&mut self, now: Instant, who: Bidder) -> Result<(), Refusal> {
        if self.viewers.contains_key(&who.viewer) {
            return Ok(());
        }
        if self.viewers.len() >= self.config.viewers_most {
            return Err(Refusal::Crowded);
        }
        let address = if self.config.viewers_per_address.is_some() { who.address } else { AddressKey(who.viewer.0) };
        let fresh = || Group { level: Level::new(0), needs: 0, bidding: 0, remembered: 0, charge: Charge::default() };
        let group = self.groups.entry(address).or_insert_with(fresh);
        if group.remembered >= self.config.address_most {
            return Err(Refusal::AddressCrowded);
        }
        group.remembered += 1;
        let wake = now + MEMORY;
        self.agenda.insert((wake, Wake::Viewer(who.viewer)));
        let viewer = Viewer { address, need: None, charge: Charge::default(), next: Instant::ZERO, wake };
        self.viewers.insert(who.viewer, viewer);
        Ok(())
    }

    /// The viewer's time has come: its bid is too old to count, or it is forgotten.
    fn age(&mut self, at: Instant, key: ViewerKey) {
        let Some(v) = self.viewers.get_mut(&key) else { return };
        let address = v.address;
        if let Some(need) = v.need.take() {
            v.wake = at + MEMORY;
            self.agenda.insert((v.wake, Wake::Viewer(key)));
            self.bidding -= 1;
            self.set_need(address, Some(need), None);
            return;
        }
        self.viewers.remove(&key);
        if let Some(group) = self.groups.get_mut(&address) {
            group.remembered = group.remembered.saturating_sub(1);
            if group.remembered == 0 {
                self.groups.remove(&address);
            }
        }
    }

    /// Puts one viewer's need in place of what it was, and gives what of the new one is met, and what of all needs of its
    /// address.
    fn set_need(&mut self, address: AddressKey, old: Option<u64>, new: Option<u64>) -> (u64, u64) {
        let Some(group) = self.groups.get_mut(&address) else { return (0, 0) };
        let shares = u64::from(self.config.viewers_per_address.unwrap_or(1).max(1));
        let need = |g: &Group| Need { bits: coarse(g.needs), weight: g.bidding.clamp(1, shares) };
        if group.bidding > 0 {
            self.level.remove(need(group));
        }
        if let Some(bits) = old {
            group.level.remove(Need::of(bits));
            group.needs -= bits;
            group.bidding -= 1;
        }
        if let Some(bits) = new {
            group.level.insert(Need::of(bits));
            group.needs += bits;
            group.bidding += 1;
        }
        if group.bidding == 0 {
            return (0, 0);
        }
        let whole = need(group);
        self.level.insert(whole);
        let share = self.level.share(whole);
        group.level.set_capacity(share);
        (group.level.share(Need::of(new.unwrap_or_default())), share)
    }

    /// What one viewer is granted now of the bits it needs.
    fn allot(&mut self, now: Instant, who: Bidder, bits: u64) -> u64 {
        let bits = bits.min(self.config.bid_most);
        let Some(v) = self.viewers.get_mut(&who.viewer) else { return 0 };
        let (charge, address, old) = (v.charge.now(now), v.address, v.need);
        let need = coarse(bits.saturating_add(charge));
        v.need = Some(need);
        self.agenda.remove(&(v.wake, Wake::Viewer(who.viewer)));
        v.wake = now + BID_LIFE;
        self.agenda.insert((v.wake, Wake::Viewer(who.viewer)));
        self.bidding += usize::from(old.is_none());
        let (share, whole) = self.set_need(address, old, Some(need));
        let Some(capacity) = self.config.capacity else {
            self.sums.granted_bits += bits;
            return bits;
        };
        let Some(group) = self.groups.get_mut(&address) else { return 0 };
        let least = bits.min(QUANTUM);
        let mut fair = bits.min(share.saturating_sub(charge));
        if fair < least {
            // A share smaller than a block is granted as a block, once most of the last one is paid for; and the address has to
            // afford it, or new viewers that it makes up would get a block each.
            let paid = charge <= QUANTUM / 2 && group.charge.now(now) <= whole.max(QUANTUM / 2);
            fair = if paid { least } else { 0 };
        }
        // While much is promised, of what may still be only as large a part as the share is of all: so that there is something
        // for whoever comes next. The first of a crowd would take all.
        let room = reach(capacity, &self.config).saturating_sub(self.promised);
        let part = (room as f64 * (share as f64 / capacity.max(1) as f64).min(1.0)) as u64;
        let granted = fair.min(part.max(least.min(room)));
        if granted < least || granted == 0 {
            return 0;
        }
        group.charge.add(now, granted, whole);
        if let Some(v) = self.viewers.get_mut(&who.viewer) {
            v.charge.add(now, granted, share);
        }
        self.promised = self.promised.saturating_add(granted);
        self.sums.granted_bits += granted;
        granted
    }
}

/// The bits that may be promised at once: what the server carries within a grant's life. More could lapse while it waits.
fn reach(capacity: u64, config: &Allocation) -> u64 {
    ((capacity as f64 * config.grant_life.as_secs_f64()) as u64).max(2 * QUANTUM)
}

/// Rounded up by less than a 256th, so that the needs of thousands are of a few hundred sizes: the level then passes few
/// of them when it moves, however they were chosen.
fn coarse(bits: u64) -> u64 {
    let step = 1u64 << (64 - bits.leading_zeros()).saturating_sub(9);
    bits.checked_next_multiple_of(step).unwrap_or(bits)
}

#[cfg(test)]
impl Ledger {
    /// Viewers, addresses, grants and entries of the agenda.
    pub(super) fn sizes(&self) -> [usize; 4] {
        [self.viewers.len(), self.groups.len(), self.grants.len(), self.agenda.len()]
    }

    /// Checks the invariants.
    pub(super) fn check(&self) -> Result<(), String> {
        self.level.check()?;
        let needs: u64 = self.viewers.values().filter_map(|v| v.need).sum();
        let grouped: u64 = self.groups.values().map(|g| g.needs).sum();
        let bidding = self.viewers.values().filter(|v| v.need.is_some()).count();
        let remembered: usize = self.groups.values().map(|g| g.remembered as usize).sum();
        if (needs, bidding, self.viewers.len()) != (grouped, self.bidding, remembered) {
            return Err(format!("miscounted: {self:?}"));
        }
        if self.agenda.len() != self.viewers.len() + self.grants.len() {
            return Err(format!("an agenda of {} entries: {self:?}", self.agenda.len()));
        }
        if self.config.capacity.is_some_and(|c| self.promised > reach(c, &self.config)) {
            return Err(format!("promised too much: {self:?}"));
        }
        if self.grants.values().any(|g| g.spent > g.bits) {
            return Err(format!("overspent: {self:?}"));
        }
        Ok(())
    }
}

//! The server connection's priority to bandwidth (claim 3): while server bytes are due, the server would bring them too late and
//! the access link is near what it was ever seen to carry, the peers as a class are held to what the server's deadlines
//! leave of it. The swarm reads them within that budget and shrinks their receive windows; here they are asked for no
//! more than the budget brings, the most urgent first, or what was asked for would fill the queue in front of the link.
//!
//! Invariants: no hold outlasts the last pressing server range by more than [`GRACE`]; a hold that brought the server nothing
//! ends after [`PROBE`], and the next is not tried soon unless the viewer jumps; what a link does while it is held teaches
//! nothing about it.

use std::collections::VecDeque;
use std::time::Duration;

use super::agenda::Due;
use super::config::Config;
use super::{Action, Engine};
use crate::units::{BLOCK_LEN, ByteRange, Instant};

/// Arrivals are averaged over this: below it a narrow link's blocks are too few to tell a rate.
const SPAN: Duration = Duration::from_secs(1);
/// The capacity estimate halves in this time while the link is not filled: access links change, and one burst of a shared
/// wire proves little. Shorter would take a steady film for a full link soon after the last burst.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// Arrivals that grew to a new peak within this time are still growing (a TCP ramp): the link is not shown to be full.
const PLATEAU: Duration = Duration::from_millis(400);
/// Growth below this share is noise of a few blocks.
const GROWTH: f64 = 1.03;
/// A hold goes on for so long over the gap between two ranges; with a round trip to open the windows again the peers are back
/// within the second.
const GRACE: Duration = Duration::from_millis(300);
/// After this time a hold must have brought the server something, unless its arrivals still grow. What the peers have under way
/// drains first, half a second of the line, and then the server's flow recovers from what it lost to them: with 1.2 s one
/// hold in two was given up on a bed of twenty seeds just before it bore fruit.
const PROBE: Duration = Duration::from_millis(2000);
/// What the server must have gained of what the peers gave up, or the access link is not what it waits for.
const GAIN: f64 = 0.25;
/// Rest after a hold that was of no use; twice as long after each further one.
const REST: Duration = Duration::from_secs(5);
const REST_MOST: Duration = Duration::from_secs(80);
/// What was read late arrives in a burst once a hold ends, and says nothing of the link: nor does an average that has it in it.
const AFTERMATH: Duration = Duration::from_millis(2200);
/// The server's arrivals may be this share of its need before the peers are held for it.
const ENOUGH: f64 = 0.9;
/// A budget above this share of the capacity is no hold.
const LOOSE: f64 = 0.9;
/// Arrivals are averaged over this to tell whether less asked for is less received: a busy machine reads in bursts.
const CALM_SPAN: Duration = Duration::from_secs(2);
/// After this time it shows.
const CALM_PROBE: Duration = Duration::from_secs(6);
/// What of the arrivals must go on. Below it what is counted is noise of a few blocks.
const CALM_KEEPS: f64 = 0.95;
/// Of links that take longer for a block on average nothing is held back: the pause between two blocks would show.
const CALM_BLOCK: Duration = Duration::from_millis(400);
/// Until it is tried again. What a try costs a swarm at its end is a tenth of its rate for as long as it takes.
const CALM_REST: Duration = Duration::from_secs(120);
/// A request held up for this long no longer counts against what may be asked under a hold: its peer may be gone.
const STUCK: Duration = Duration::from_secs(3);

/// What is known of the access link, and whether peers are held for the server.
#[derive(Debug, Clone, Default)]
pub(super) struct Priority {
    flow: Flow,
    /// Bytes per second that the link carried at its best, fading.
    capacity: f64,
    measured: Instant,
    /// The last peak that arrivals grew to, and when.
    peak: f64,
    grew: Instant,
    hold: Option<Hold>,
    released: Option<Instant>,
    rest: Option<Instant>,
    futile: u32,
    calm: Option<Calm>,
    /// Arrivals over [`CALM_SPAN`], and when that was brought up to date.
    smooth: f64,
    smoothed: Instant,
    /// No calm before.
    busy: Option<Instant>,
    /// What the server is to bring soon and was not asked for yet: seconds to its deadline, bytes. Sorted.
    owed: Vec<(f64, u64)>,
    /// As last told, with the user's limit.
    told: Option<u64>,
}

/// A hold under way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hold {
    since: Instant,
    /// When the server last needed it.
    needed: Instant,
    /// Arrivals before it, bytes per second.
    peers: f64,
    server: f64,
    /// The most the server brought meanwhile, and when it last grew.
    best: f64,
    grew: Instant,
    /// What the peers are held to, and what that leaves the server, bytes per second.
    pub budget: f64,
    pub left: f64,
}

/// While the line is full and a server may be needed, the peers are asked for no more than keeps it full: two blocks of each of
/// twenty greedy peers stand in front of a line of 10 Mbit/s for half a second, and so does every range and every seek behind
/// them. Whether it is the line that is full, and not the swarm that is at its end, shows in that nothing comes slower.
#[derive(Debug, Clone, Copy)]
struct Calm {
    since: Instant,
    /// Arrivals before it, bytes per second.
    before: f64,
}

/// Arrivals of the last second, per tick.
#[derive(Debug, Clone, Default)]
struct Flow {
    ticks: VecDeque<(f64, u64, u64)>,
    span: f64,
    last: Option<(Instant, u64, u64)>,
}

impl Flow {
    /// Takes the totals in; bytes per second of peers and of servers over the last [`SPAN`], or since there is anything to count.
    fn fold(&mut self, now: Instant, peers: u64, server: u64) -> (f64, f64) {
        let (at, p, s) = self.last.replace((now, peers, server)).unwrap_or((now, peers, server));
        let dt = now.since(at).as_secs_f64();
        if dt > 0.0 {
            self.ticks.push_back((dt, peers.saturating_sub(p), server.saturating_sub(s)));
            self.span += dt;
        }
        while let Some(first) = self.ticks.front().map(|t| t.0).filter(|t| self.span - t >= SPAN.as_secs_f64()) {
            self.span -= first;
            self.ticks.pop_front();
        }
        let (peers, server) = self.ticks.iter().fold((0, 0), |sum, t| (sum.0 + t.1, sum.1 + t.2));
        // A shorter span would make much of the first block.
        let span = self.span.max(SPAN.as_secs_f64());
        (peers as f64 / span, server as f64 / span)
    }
}

/// What the server has to bring, as one tick sees it.
#[derive(Debug, Clone, Copy)]
struct Demand {
    /// Bytes per second for the deadlines; 0 when nothing presses.
    need: f64,
    peers: f64,
    server: f64,
    /// Whether there is a server to need, and peers fast enough that one block less of each is nothing.
    served: bool,
}

impl Priority {
    pub fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    /// Whether the peers are taken to fill the access link: until a calm has shown that they do not.
    fn crowded(&self) -> bool {
        self.hold.is_some() || self.calm.is_some()
    }

    /// Whether peers are held, or will be as soon as the picture waits for a server.
    pub fn will_hold(&self, config: &Config) -> bool {
        self.hold.is_some() || config.priority && self.smooth > config.link_full_waiting * self.capacity
    }

    /// The viewer jumped: what a hold was of no use for is not what is waited for now, so one may be tried at once.
    pub fn jumped(&mut self) {
        self.rest = None;
    }

    /// Whether so many bytes per second are about all that the access link was ever seen to carry.
    pub fn is_full(&self, arriving: f64, config: &Config) -> bool {
        arriving > config.link_full * self.capacity
    }

    /// One tick: what the peers are to be held to for the server's sake.
    fn step(&mut self, now: Instant, d: Demand, config: &Config) {
        self.measure(now, d);
        let budget = (self.capacity - d.need).max(config.peer_share_min * self.capacity);
        let grown = now.since(self.grew) >= PLATEAU;
        let beyond = |share: f64| d.peers + d.server > share * self.capacity && grown;
        let full = beyond(config.link_full);
        // No bound: the picture stands.
        let full_enough = full || d.need.is_infinite() && beyond(config.link_full_waiting);
        self.calm_down(now, d, full);
        let Some(hold) = &mut self.hold else {
            let rested = self.rest.is_none_or(|t| t <= now);
            // A budget that the peers stay below already would give the server nothing.
            if rested && full_enough && d.need > ENOUGH * d.server && budget < d.peers {
                let left = self.capacity - budget;
                let (peers, server) = (d.peers, d.server);
                let (best, grew) = (server, now);
                self.hold = Some(Hold { since: now, needed: now, peers, server, best, grew, budget, left });
            }
            return;
        };
        if d.need > 0.0 {
            // A need that leaves the peers all but everything, and that is met, holds nobody.
            if budget < LOOSE * self.capacity || d.need > ENOUGH * d.server {
                hold.needed = now;
            }
            hold.budget = budget;
            hold.left = self.capacity - budget;
        }
        if d.server > hold.best * GROWTH {
            (hold.best, hold.grew) = (d.server, now);
        }
        // What it once gained shows what it is good for, whatever holds the server up since.
        let (lost, gained) = (hold.peers - d.peers, hold.best - hold.server);
        let judged = now.since(hold.since) >= PROBE && now.since(hold.grew) >= PLATEAU;
        let useless = judged && d.need > ENOUGH * d.server && gained < GAIN * lost;
        if judged && !useless {
            self.futile = 0;
        }
        if useless {
            self.rest = Some(now + (REST * 2u32.saturating_pow(self.futile.min(8))).min(REST_MOST));
            self.futile = self.futile.saturating_add(1);
        }
        if useless || now.since(hold.needed) >= GRACE {
            self.hold = None;
            self.released = Some(now);
        }
    }

    /// Whether the peers are asked for less than they would take.
    fn calm_down(&mut self, now: Instant, d: Demand, full: bool) {
        let dt = now.since(self.smoothed).as_secs_f64();
        self.smoothed = now;
        self.smooth += (1.0 - (-dt / CALM_SPAN.as_secs_f64()).exp()) * (d.peers + d.server - self.smooth);
        let settled = self.hold.is_none() && self.released.is_none_or(|t| now.since(t) >= AFTERMATH);
        match &self.calm {
            None if d.served && full && settled && self.busy.is_none_or(|t| t <= now) => {
                self.calm = Some(Calm { since: now, before: self.smooth });
            }
            Some(c) if settled && now.since(c.since) >= CALM_PROBE && self.smooth < CALM_KEEPS * c.before => {
                self.calm = None;
                self.busy = Some(now + CALM_REST);
            }
            Some(_) if !d.served => self.calm = None,
            _ => {}
        }
    }

    /// What the link can carry, by what it carried.
    fn measure(&mut self, now: Instant, d: Demand) {
        let arriving = d.peers + d.server;
        if let Some(hold) = &self.hold {
            // The server takes all it gets, less than it needs, and more than before: once it had the time to take it, what
            // arrives now is what the link carries.
            let proven = now.since(hold.since) >= PROBE * 2 && d.server > 1.5 * hold.server && d.need > d.server;
            if proven && arriving < self.capacity {
                self.capacity += 0.1 * (arriving - self.capacity);
            }
            return;
        }
        if self.released.is_some_and(|t| now.since(t) < AFTERMATH) {
            return;
        }
        if arriving > self.peak * GROWTH {
            (self.peak, self.grew) = (arriving, now);
        }
        let since = now.since(self.measured).as_secs_f64().min(1.0);
        self.measured = now;
        let fade = 0.5f64.powf(since / HALF_LIFE.as_secs_f64());
        self.capacity = (self.capacity * fade).max(arriving);
        self.peak = self.peak.min(self.capacity);
    }
}

impl Engine {
    pub(super) fn prioritise(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let (peers, server) = self.priority.flow.fold(now, self.totals.swarm, self.totals.server);
        let need = if self.config.priority { self.server_need(now) } else { 0.0 };
        // Of slow links each block counts: they are at their end, not the line.
        let links = self.links.values().filter(|l| l.serves()).count() as f64;
        let fast = peers > links * f64::from(BLOCK_LEN) / CALM_BLOCK.as_secs_f64();
        let served = self.config.priority && self.servers.usable() && fast;
        self.priority.step(now, Demand { need, peers, server, served }, &self.config);
        self.squeeze(now);
        // The user's limit is for all that comes in: peers have what the server leaves.
        let allowed = self.limits.down.map(|l| (l as f64 - server).max(l as f64 / 10.0) as u64);
        let budget = self.priority.hold.map(|h| h.budget as u64).into_iter().chain(allowed).min();
        let changed = match (budget, self.priority.told) {
            (Some(a), Some(b)) => a.abs_diff(b) > b / 8,
            (a, b) => a.is_some() != b.is_some(),
        };
        if changed {
            self.priority.told = budget;
            actions.push(Action::PeerReceiveBudget { bytes_per_s: budget });
        }
    }

    /// The viewer jumped while the peers filled the line. What a server's end of a kept connection knows of the path is what was left
    /// of it beside them, and it finds out only slowly that there is more now: BBR by a quarter in eight round trips. With twenty
    /// peers on 10 Mbit/s 2 MB took 3.1 s over kept connections and 2.2 s over new ones, their handshakes included.
    pub(super) fn renew_origins(&self, actions: &mut Vec<Action>) {
        if self.config.priority && self.servers.usable() && self.priority.crowded() {
            actions.push(Action::RenewOrigins);
        }
    }

    /// Links are forecast by their part of the budget while it lasts, and what they do meanwhile is not held against them.
    fn squeeze(&mut self, now: Instant) {
        let budget = self.priority.hold.map(|h| h.budget);
        let sum: f64 = match budget {
            Some(_) => self.links.values().filter(|l| l.serves()).filter_map(|l| l.meter.rate()).sum(),
            None => 0.0,
        };
        let squeeze = budget.map_or(1.0, |b| (b / sum.max(1.0)).min(1.0));
        for l in self.links.values_mut() {
            if squeeze < 1.0 || l.squeeze < 1.0 {
                l.excuse(now);
            }
            if l.squeeze != squeeze {
                l.squeeze = squeeze;
            }
        }
    }

    /// Requests that may be sent to peers now, on top of those under way: under a hold no more than the budget brings within a
    /// round trip and the queue's time, and the same of the whole line while it is full.
    pub(super) fn allowance(&self, now: Instant) -> usize {
        let queue = self.config.queue_time_urgent;
        let blocks = |rate: f64, ahead: Duration| (rate * ahead.as_secs_f64() / f64::from(BLOCK_LEN)).ceil() as usize;
        let most = match (&self.priority.hold, &self.priority.calm) {
            (Some(hold), _) if self.links.values().any(|l| l.squeeze < 1.0) => {
                blocks(hold.budget, self.config.rtt_unknown + queue).max(1)
            }
            // Of many links some then have nothing to do, and the line is full all the same. One block of each of twenty
            // would stand in front of a line of 10 Mbit/s for a quarter of a second, and the server's first bytes behind it.
            (None, Some(_)) => blocks(self.priority.capacity, self.nearest() + queue).max(2),
            _ => return usize::MAX,
        };
        let live = |at: Instant| now.since(at) < STUCK;
        let asked: usize = self.links.values().map(|l| l.asks.iter().filter(|a| live(a.at)).count()).sum();
        most.saturating_sub(asked)
    }

    /// The least round trip to a peer that serves: the access link's own delay is in it, a queue in front of it hardly.
    fn nearest(&self) -> Duration {
        let known = self.links.values().filter(|l| l.serves()).filter_map(|l| l.rtt);
        known.min().map_or(self.config.rtt_unknown, |r| r.min(self.config.rtt_unknown))
    }

    /// Bytes per second that the server has to bring for the deadlines of what is asked of it and, behind that, of what it still is
    /// to be asked for; 0 when no range in flight presses, and no bound while the clock stands and waits for one.
    fn server_need(&self, now: Instant) -> f64 {
        let Some(file) = self.position.file else { return 0.0 };
        let line = self.position.line(&self.config);
        let media = self.position.media_now(now).as_secs_f64();
        let urgent_s = self.config.urgent.as_secs_f64();
        let (mut need, mut before): (f64, f64) = (0.0, 0.0);
        let spare = |due: f64| (due - self.config.margin.as_secs_f64()).max(0.25);
        // Where nothing comes although peers were held for as long as may be needed, more of it would not help.
        for f in self.servers.fetches.values().filter(|f| now.since(f.progress) < PROBE) {
            let left = ByteRange::new(f.upto, f.range.end);
            before += left.len() as f64;
            let due = line.time_of(left.end.saturating_sub(1).saturating_sub(file.start)).as_secs_f64() - media;
            // What the reader waits for while the clock stands is due now; its reading ahead of a clock that runs makes no deadline.
            let blocked = self.position.blocked.filter(|_| self.position.waits());
            let blocked = blocked.is_some_and(|b| !left.intersect(b).is_empty());
            if due < urgent_s || blocked {
                need = need.max(before / spare(if blocked { 0.0 } else { due }));
            }
        }
        if need > 0.0 && self.position.waits() {
            return f64::INFINITY;
        }
        if need > 0.0 {
            for (due, bytes) in &self.priority.owed {
                before += *bytes as f64;
                need = need.max(before / spare(*due));
            }
        }
        need
    }

    /// A pass has asked the server for what it may, and found that it is to bring this: a hold begins before the peers are asked for
    /// more, since what they are asked for now stands in front of the line.
    pub(super) fn owe(&mut self, now: Instant, miss: &[Due], actions: &mut Vec<Action>) {
        self.priority.owed.clear();
        if !self.servers.busy() {
            return;
        }
        let (layout, urgent_s) = (*self.board.layout(), self.config.urgent.as_secs_f64());
        let free = |d: &&Due| self.board.cell(d.block).is_none_or(|c| c.fetch.is_none());
        let owed = miss.iter().filter(|d| d.own_s < urgent_s).filter(free);
        self.priority.owed.extend(owed.map(|d| (d.own_s, layout.block_range(d.block).len())));
        self.priority.owed.sort_by(|a, b| a.0.total_cmp(&b.0));
        let begun = self.servers.fetches.values().any(|f| f.at == now);
        if begun && self.priority.hold.is_none() {
            self.prioritise(now, actions);
        }
    }
}

#[cfg(test)]
#[path = "tests/priority.rs"]
mod tests;

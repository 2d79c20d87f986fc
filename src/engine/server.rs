//! When a server is asked, for what, and in ranges of what length: adjacent missed blocks in one range, never longer than can
//! be given back, never more than was granted.
//!
//! One rule: a block that the swarm is forecast to miss is asked of a server once what is left of the time to its deadline, after
//! what the server needs for it and for all it is to bring before it, falls below what is kept to spare. That is the *lead* for
//! a block that nobody was asked for, and `comfort` for one under way, whose bytes may well come twice.

use std::collections::BTreeSet;

use super::agenda::Due;
use super::origins::OriginState;
use super::outlook::Outlook;
use super::{Action, Engine, Phase};
use crate::units::{BLOCK_LEN, BlockRef, ByteRange, Instant, OriginId};

/// Seconds that a server's block is early by at least, by forecast: what others need to step in when the server dies in the middle
/// of it. With one second, where a swarm seemed too slow to do so, a hundred viewers with 1.4 times what they watch stood for
/// 10 to 20 s an hour after their origin's death instead of 2, and a play beside a swarm that had just woken for 0.6 s.
const LEAD_LEAST: f64 = 2.0;
/// Seconds of media beyond what presses that a range takes along: two GETs a second, not one a block.
const LEAD_MORE: f64 = 0.5;
/// What is asked of a server first comes over two connections, the second with its last quarter: each begins with ten packets a round
/// trip and doubles that, which leaves a line of 10 Mbit/s idle for most of the first two. A quarter is what fits in there: with
/// halves the beginning, which may be all of a small picture, would share the line with the end.
const FIRST_END: u64 = 4;

impl Engine {
    /// Asks servers for what the swarm will miss: urgent blocks at once, the window's within what the last bid granted.
    pub(super) fn serve_misses(&mut self, now: Instant, miss: &[Due], actions: &mut Vec<Action>) {
        if !self.servers.usable() {
            return;
        }
        self.bid(now, miss, actions);
        // A jump is told before the demuxer knows where its key frame lies. It does within milliseconds, and what was asked for
        // before would stand in front of it for a tenth of a second.
        if self.position.phase == Phase::Seeking && self.position.blocked.is_none() {
            return;
        }
        let window = self.config.window.as_secs_f64();
        let free = |d: &&Due| d.own_s < window && self.board.cell(d.block).is_none_or(|c| c.fetch.is_none());
        let mut miss: Vec<(f64, BlockRef)> = miss.iter().filter(free).map(|d| (d.in_s, d.block)).collect();
        miss.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        // The server waits until what it has to bring begins to press: what is forecast to miss now a peer may bring after
        // all, and while the swarm wakes a forecast is no more than a guess. Where grants fall short of bids, each is
        // used as it comes: what lapses is lost.
        if !self.servers.short {
            let lead = self.lead(now);
            let outlook = self.servers.outlook(now, &self.config);
            let slack = |k: usize, due: f64| due - outlook.time_for(k + 1);
            if !miss.iter().enumerate().any(|(k, d)| slack(k, d.0) < lead) {
                return;
            }
            let keep = miss.iter().enumerate().take_while(|(k, d)| slack(*k, d.0) < lead + LEAD_MORE).count();
            miss.truncate(keep.max(1));
        }
        let miss: Vec<BlockRef> = miss.into_iter().map(|d| d.1).collect();
        let wanted: BTreeSet<BlockRef> = miss.iter().copied().collect();
        for block in miss {
            // A range before took it along.
            let under_way = |f| self.servers.fetches.contains_key(&f);
            if self.board.cell(block).is_some_and(|c| c.fetch.is_some_and(under_way)) {
                continue;
            }
            let Some((origin, most)) = self.origin_with_room(now, block) else { break };
            let range = self.coalesce(block, &wanted, most);
            if range.is_empty() {
                continue;
            }
            self.fetch(now, origin, range, actions);
        }
    }

    /// Whether a block that a peer was asked for is a server's as well, behind `before` others: at the last moment that one could
    /// still bring it in time, if the peer will not surely do so and it saves enough. Links that were all guesses would hold
    /// a picture up for seconds, hedged among each other, with a server idle.
    pub(super) fn last_call(&self, d: &Due, surely: f64, servers: &Outlook, before: usize) -> bool {
        let c = &self.config;
        let [urgent_s, comfort_s, gain_s] = [c.urgent, c.comfort, c.completing_gain].map(|d| d.as_secs_f64());
        let of_peers = || self.board.cell(d.block).is_some_and(|c| c.fetch.is_none());
        if !servers.usable() || d.in_s >= urgent_s || !of_peers() {
            return false;
        }
        // While the clock stands, what it starts with is due as soon as anybody can have it.
        let due_s = if d.own_s < self.awaited_s() { 0.0 } else { d.in_s };
        let server_s = servers.time_for(before + 1);
        due_s < urgent_s && due_s - server_s < comfort_s && surely > due_s && surely - server_s > gain_s
    }

    /// Seconds before it is due that a block is asked of a server: enough for a hiccup of one that is much faster than the film,
    /// all that is urgent for one that is not. All that is asked for early is what a peer might have brought.
    fn lead(&self, now: Instant) -> f64 {
        let urgent = self.config.urgent.as_secs_f64();
        // What a server sent alone it will not send beside peers who fill the access link.
        if self.priority.is_full(self.swarm_gauge.get() + self.server_gauge.get(), &self.config) {
            return urgent;
        }
        let line = self.position.line(&self.config);
        let pace = line.file_len() as f64 / line.duration().as_secs_f64().max(1.0);
        let of = |o: &OriginState| {
            let rate = o.rate(now)?;
            Some(LEAD_LEAST + 2.0 * pace / rate.max(1.0) + 4.0 * o.round_trip().as_secs_f64())
        };
        self.servers.open(now).filter_map(|(_, o)| of(o)).min_by(f64::total_cmp).map_or(urgent, |l| l.min(urgent))
    }

    /// The origin to ask next and how many bytes at most. Two ranges at one origin at a time: one being sent and one asked for.
    fn origin_with_room(&self, now: Instant, block: BlockRef) -> Option<(OriginId, u64)> {
        let config = &self.config;
        let bytes = self.board.layout().block_range(block);
        // What the picture waits for is due before what was asked for earlier.
        let waited_for = |range: ByteRange| {
            self.position.waits() && self.position.blocked.is_some_and(|b| !range.intersect(b).is_empty())
        };
        let room = |id: &OriginId, o: &OriginState| {
            let mut running = self.servers.fetches.values().filter(|f| f.origin == *id);
            let (first, second) = (running.next(), running.next());
            let rate = o.rate(now).unwrap_or(0.0);
            let limit = ((rate * config.fetch_time.as_secs_f64()) as u64).max(config.fetch_first);
            // One that has failed shows first, with a block, that it is back: a second of film is not risked on it again.
            let limit = if o.doubtful() { u64::from(BLOCK_LEN) } else { limit };
            let free = limit.saturating_sub(self.servers.outstanding(*id));
            let granted = o.grants.unspent(now) / 8;
            // A second range only when the first is mostly here: short ranges cost a round trip each. At first, when the picture may
            // need all of it, only so that the line does not idle: what comes of the second sooner the first one lacks.
            let worth = if o.is_young(config) { self.nearly_here(*id, o, now) } else { free * 2 >= limit };
            let end = config.fetch_first / FIRST_END;
            let most = match (first, second) {
                (None, _) if o.is_new() => free.min(config.fetch_first - end),
                (None, _) => free,
                (Some(_), None) if o.is_new() => free.min(end),
                (Some(f), None) if waited_for(bytes) && !waited_for(f.range) => free,
                (Some(_), None) if worth => free,
                _ => 0,
            };
            Some(most.min(granted)).filter(|b| *b > 0)
        };
        self.servers
            .open(now)
            .filter(|(id, _)| !self.servers.is_silent(now, **id, config))
            .filter_map(|(id, o)| {
                room(id, o).map(|bytes| (*id, bytes, self.servers.outstanding(*id) as f64 / o.rate(now).unwrap_or(1e6)))
            })
            .min_by(|a, b| a.2.total_cmp(&b.2))
            .map(|(id, bytes, _)| (id, bytes))
    }

    /// Whether what an origin is to bring will be here by the time that something asked for now would begin to arrive.
    fn nearly_here(&self, id: OriginId, o: &OriginState, now: Instant) -> bool {
        // It may go over another connection, with a handshake of its own.
        let idle_s = (2 * o.round_trip() + self.config.pressing).as_secs_f64();
        self.servers.outstanding(id) as f64 <= o.rate_hoped(now, &self.config) * idle_s
    }

    /// The bytes of `first` and of the missed blocks right after it that are not here, up to `most`.
    fn coalesce(&self, first: BlockRef, wanted: &BTreeSet<BlockRef>, most: u64) -> ByteRange {
        let layout = self.board.layout();
        let mut range = layout.block_range(first);
        if range.len() > most {
            return ByteRange::default();
        }
        while range.end < layout.total_len() {
            let next = layout.block_at(range.end);
            let bytes = layout.block_range(next);
            if !wanted.contains(&next) || range.len() + bytes.len() > most {
                break;
            }
            range.end = bytes.end;
        }
        range
    }
}

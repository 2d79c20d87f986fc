//! What is known of each link: what the peer has, what was asked of it, how fast it answers.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use super::config::Config;
use super::forecast::{Deviation, Gauge, RateMeter};
use crate::units::{BLOCK_LEN, BlockRef, Instant, LinkId, PieceIndex, PieceSet};

/// Requests that a link may hold for each block it brought so far: twice as many each round trip, as in TCP's slow start.
const SHOWN: u64 = 2;
/// Requests at the front of a queue that may be in the peer's socket already: the one under way and the one behind it.
const UNDER_WAY: usize = 2;
/// What came this much later than the round trip and two blocks after it was withdrawn was not in the peer's socket by then, seconds.
const DEAF_S: f64 = 0.25;
/// Requests withdrawn last that are remembered for that.
const WITHDRAWN_MOST: usize = 16;

/// One outstanding request.
#[derive(Debug, Clone, Copy)]
pub struct Ask {
    pub block: BlockRef,
    pub at: Instant,
    /// When it should be here, by the forecast at the time it was sent.
    pub expected: Instant,
    /// The link had answered nothing yet, and there was time for it to: `expected` was a guess.
    pub guess: bool,
}

/// A request of the peer's that waits to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    pub piece: PieceIndex,
    pub begin: u32,
    pub len: u32,
}

/// A block on its way to the peer's socket.
#[derive(Debug, Clone, Copy)]
pub struct Handed {
    pub wish: Wish,
    pub at: Instant,
}

/// One link.
#[derive(Debug, Clone)]
pub struct Link {
    pub id: LinkId,
    pub has: PieceSet,
    /// It chokes us.
    pub choked: bool,
    /// We told it that we are interested.
    pub interested: bool,
    /// We choke it.
    pub choking: bool,
    pub peer_interested: bool,
    /// Outstanding requests, oldest first.
    pub asks: VecDeque<Ask>,
    /// Requests withdrawn lately: what a peer had put in its socket by then still comes, before what is asked now.
    pub ghosts: VecDeque<Ask>,
    /// The latest that were withdrawn, and when: who answers them long after does not listen.
    withdrawn: VecDeque<(BlockRef, Instant)>,
    /// What the peer asked of us and did not get yet.
    pub wishes: VecDeque<Wish>,
    pub meter: RateMeter,
    /// How much later than forecast its blocks come, seconds.
    measured: Deviation,
    /// The same of blocks that were asked for before its rate was known: it says little, and counts until there is better.
    guessed: Deviation,
    pub rtt: Option<Duration>,
    pub down: Gauge,
    pub up: Gauge,
    pub received: u64,
    pub sent: u64,
    /// Nothing came for [`Config::snub`] although something was asked.
    pub snubbed: bool,
    /// When something last came of what was asked.
    pub last_arrival: Instant,
    /// Wanted pieces that it has and we do not.
    pub useful: u32,
    /// When it came up.
    pub since: Instant,
    /// Requests it must hold at least: raised fourfold each time it answered all it was given, as a peer does that serves in
    /// pulses (Transmission, each half second) and would otherwise be measured by our own queue.
    pub floor: usize,
    /// The most requests it held since its queue last ran empty.
    peak: usize,
    /// Blocks handed over to be sent and not yet in the socket.
    pub handed: VecDeque<Handed>,
    /// When it last got a slot.
    pub unchoked_at: Option<Instant>,
    /// Requests in a row that another link, asked later, answered before it.
    pub let_down: u32,
    /// It answers what was withdrawn long before its turn, as clients do that take no notice of cancels: librqbit 9 is one.
    pub deaf: bool,
    /// It had a part in a piece whose hash failed, and it is not known yet who lied.
    pub suspect: bool,
    /// Blocks of it that were verified.
    pub proven: u32,
    /// It lied: it is being closed.
    pub banned: bool,
    /// What of its rate it is held to for the server's sake; 1 is all.
    pub squeeze: f64,
    /// Pieces it answers for even while it chokes us (BEP 6).
    pub allowed: BTreeSet<PieceIndex>,
    /// Pieces it would like us to ask for, newest last.
    pub suggested: VecDeque<PieceIndex>,
    /// Pieces we answer for even while we choke it.
    pub granted: BTreeSet<PieceIndex>,
}

impl Link {
    pub fn new(id: LinkId, pieces: u32, rtt: Option<Duration>, now: Instant) -> Self {
        Self {
            id,
            has: PieceSet::new(pieces),
            choked: true,
            interested: false,
            choking: true,
            peer_interested: false,
            asks: VecDeque::new(),
            ghosts: VecDeque::new(),
            withdrawn: VecDeque::new(),
            wishes: VecDeque::new(),
            meter: RateMeter::default(),
            measured: Deviation::default(),
            guessed: Deviation::default(),
            rtt,
            down: Gauge::default(),
            up: Gauge::default(),
            received: 0,
            sent: 0,
            snubbed: false,
            last_arrival: now,
            useful: 0,
            since: now,
            floor: 0,
            peak: 0,
            handed: VecDeque::new(),
            unchoked_at: None,
            let_down: 0,
            deaf: false,
            suspect: false,
            proven: 0,
            banned: false,
            squeeze: 1.0,
            allowed: BTreeSet::new(),
            suggested: VecDeque::new(),
            granted: BTreeSet::new(),
        }
    }

    pub fn rtt_s(&self, config: &Config) -> f64 {
        self.rtt.unwrap_or(config.rtt_unknown).as_secs_f64()
    }

    /// Bytes per second by its own measure, else `typical`.
    pub fn rate(&self, now: Instant, typical: f64) -> f64 {
        (self.meter.rate_at(now).unwrap_or(typical) * self.squeeze).max(1.0)
    }

    /// Requests it should hold: its rate over round trip and queue time, within bounds.
    pub fn depth(&self, now: Instant, queue_time: Duration, config: &Config) -> usize {
        if self.snubbed {
            return 1;
        }
        let Some(rate) = self.meter.rate_at(now) else { return config.queue_min };
        if self.squeeze < 1.0 {
            return 1;
        }
        let blocks = |queue_time: Duration| {
            (rate * (self.rtt_s(config) + queue_time.as_secs_f64()) / f64::from(BLOCK_LEN)).ceil() as usize
        };
        // A pulsing peer needs up to what it delivers in a second; more would only stand before a seek.
        let floor = self.floor.min(blocks(config.pulse));
        // Two blocks that came at once, from a socket's buffer or past a limit that is not felt yet, are no measure of a link.
        let shown = (self.received / u64::from(BLOCK_LEN)).saturating_mul(SHOWN) as usize;
        blocks(queue_time).max(floor).min(shown).clamp(config.queue_min, config.queue_max)
    }

    /// How deep its queue is to be, in time at its rate beyond the round trip.
    pub fn queue_time(&self, pressing: bool, config: &Config) -> Duration {
        if pressing {
            return config.queue_time_urgent;
        }
        // A link whose answers come unevenly runs empty sooner.
        let uneven = (4.0 * self.lateness().dev()).min(config.queue_uneven.as_secs_f64());
        config.queue_time + Duration::from_secs_f64(uneven)
    }

    /// Seconds until a block asked for now, behind all that is queued, should begin to arrive.
    pub fn eta(&self, now: Instant, typical: f64, config: &Config) -> f64 {
        let queued = self.asks.len() + self.ghosts.len();
        if queued == 0 {
            self.rtt_s(config)
        } else {
            self.eta_at(now, self.asks.len(), typical, config).max(self.rtt_s(config))
        }
    }

    /// Seconds until the first `count` outstanding requests should be answered, by what is known of the link now.
    pub fn eta_at(&self, now: Instant, count: usize, typical: f64, config: &Config) -> f64 {
        let first = self.ghosts.iter().chain(self.asks.front()).map(|a| a.at).min().unwrap_or(now);
        // What was asked longest ago is on its way already: only the part of the round trip still to come counts, and
        // of its sending what has not passed since the block before it came.
        let way = (self.rtt_s(config) - now.since(first).as_secs_f64()).max(0.0);
        let block_s = f64::from(BLOCK_LEN) / self.rate(now, typical);
        let sent = now.since(self.last_arrival.max(first)).as_secs_f64().min(block_s);
        way + (self.ghosts.len() + count) as f64 * block_s - if way > 0.0 { 0.0 } else { sent }
    }

    /// Books a request that was just sent.
    pub fn ask(&mut self, now: Instant, block: BlockRef, typical: f64, config: &Config) {
        let eta = self.eta(now, typical, config) + f64::from(BLOCK_LEN) / self.rate(now, typical);
        let expected = now + Duration::from_secs_f64(eta.min(3600.0));
        if self.asks.is_empty() {
            self.last_arrival = now;
            self.meter.busy_from(now + self.rtt.unwrap_or_default());
        }
        let guess = self.meter.rate().is_none() && !self.snubbed;
        self.withdrawn.retain(|w| w.0 != block);
        self.asks.push_back(Ask { block, at: now, expected, guess });
        self.peak = self.peak.max(self.asks.len());
    }

    /// Takes a request off the books; `None` when there was none.
    pub fn unask(&mut self, block: BlockRef) -> Option<Ask> {
        let i = self.asks.iter().position(|a| a.block == block)?;
        let ask = self.asks.remove(i);
        if self.asks.is_empty() {
            self.meter.idle();
        }
        ask
    }

    /// Withdraws a request: whether it still comes depends on what the peer has sent already. If it does, it comes in its turn.
    pub fn cancel(&mut self, now: Instant, block: BlockRef, config: &Config) {
        let Some(place) = self.asks.iter().position(|a| a.block == block) else { return };
        let turn =
            now + Duration::from_secs_f64(self.eta_at(now, place + 1, config.rate_unknown, config).clamp(0.0, 3600.0));
        if let Some(ask) = self.unask(block) {
            self.withdrawn.truncate(WITHDRAWN_MOST - 1);
            self.withdrawn.push_front((block, now));
            self.ghosts.push_back(Ask { expected: ask.expected.max(turn), ..ask });
        }
    }

    /// The peer said that it will not answer.
    pub fn refused(&mut self, block: BlockRef) {
        self.ghosts.retain(|g| g.block != block);
        self.withdrawn.retain(|w| w.0 != block);
        self.unask(block);
    }

    /// What time alone does: withdrawn requests are forgotten whose answers must have come by now, if they were to come.
    pub fn fade(&mut self, now: Instant, config: &Config) {
        // A floor that is not needed any more sinks, to half in about three seconds of ticks.
        // What does not change is not written: of thousands of links most are idle.
        if self.floor > 0 {
            self.floor = self.floor * 49 / 50;
        }
        if !self.ghosts.is_empty() {
            self.ghosts.retain(|g| now.since(g.expected) < config.rtt_unknown * 2);
        }
    }

    /// It is held back: what it does meanwhile is no measure of it, and no request of it is late.
    pub fn excuse(&mut self, now: Instant) {
        self.meter.excuse(now);
        self.last_arrival = now;
        for a in self.asks.iter_mut().chain(&mut self.ghosts) {
            a.expected = a.expected.max(now);
        }
    }

    /// A block came: learn from it.
    pub fn arrived(&mut self, now: Instant, block: BlockRef, len: u64, config: &Config) {
        if self.squeeze < 1.0 {
            self.meter.excuse(now);
        } else {
            self.meter.arrived(now, len, config);
        }
        self.last_arrival = now;
        self.snubbed = false;
        self.let_down = 0;
        self.received += len;
        self.down.add(len);
        self.note_answer_to_withdrawn(now, block, config);
        self.ghosts.retain(|g| g.block != block);
        if let Some(ask) = self.unask(block) {
            // Peers answer in order: what was withdrawn and asked for earlier will not come any more.
            self.ghosts.retain(|g| g.at > ask.at);
            if self.rtt.is_none() {
                // No connect time to go by (the peer dialled us): the first answer bounds the round trip.
                self.rtt = Some(now.since(ask.at).min(config.rtt_unknown * 4));
            }
            if self.asks.is_empty() {
                if self.peak >= self.depth(now, config.queue_time_urgent, config) {
                    self.floor = (self.peak * 4).min(config.queue_max);
                }
                self.peak = 0;
            }
            if self.squeeze >= 1.0 {
                let late = now.0 as f64 / 1e9 - ask.expected.0 as f64 / 1e9;
                if ask.guess { &mut self.guessed } else { &mut self.measured }.sample(late, config);
            }
        }
    }

    /// Whether what comes now was withdrawn so long ago that it cannot have been in the peer's socket by then.
    fn note_answer_to_withdrawn(&mut self, now: Instant, block: BlockRef, config: &Config) {
        let Some(i) = self.withdrawn.iter().position(|w| w.0 == block) else { return };
        let block_s = f64::from(BLOCK_LEN) / self.rate(now, config.rate_unknown);
        let under_way_s = self.rtt_s(config) + UNDER_WAY as f64 * block_s + DEAF_S;
        self.deaf |= self.withdrawn.remove(i).is_some_and(|w| now.since(w.1).as_secs_f64() > under_way_s);
    }

    /// Whether a request waits so far behind others that the peer will not send it if it is withdrawn.
    pub fn waits_deep(&self, block: BlockRef) -> bool {
        !self.deaf && self.asks.iter().position(|a| a.block == block).is_some_and(|i| i >= UNDER_WAY)
    }

    /// How much later than forecast its blocks come, seconds.
    pub fn lateness(&self) -> &Deviation {
        if self.measured.mean().is_some() { &self.measured } else { &self.guessed }
    }

    /// Whether it may be asked for blocks at all.
    pub fn serves(&self) -> bool {
        !self.banned && (!self.choked || !self.allowed.is_empty())
    }

    /// Whether it answers for the piece now.
    pub fn answers(&self, piece: PieceIndex) -> bool {
        self.has.contains(piece) && !self.banned && (!self.choked || self.allowed.contains(&piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_what_was_withdrawn_is_deaf() {
        let (c, at) = (Config::default(), |ms: u64| Instant(ms * 1_000_000));
        let block = |block| BlockRef { piece: PieceIndex(0), block };
        for (withdrawn, deaf) in [(3300, false), (500, true)] {
            let mut l = Link::new(LinkId(1), 1, Some(Duration::from_millis(50)), at(0));
            (0..5).for_each(|i| l.ask(at(0), block(i), 16_384.0, &c));
            assert!(l.waits_deep(block(4)) && !l.waits_deep(block(1)));
            // A block a second; the last is withdrawn long before its turn, or when it is next.
            for i in 0..5 {
                let now = 1000 * (u64::from(i) + 1);
                if withdrawn < now && l.asks.iter().any(|a| a.block == block(4)) {
                    l.cancel(at(withdrawn), block(4), &c);
                }
                l.arrived(at(now), block(i), u64::from(BLOCK_LEN), &c);
            }
            assert_eq!(l.deaf, deaf, "withdrawn at {withdrawn}");
        }
    }

    #[test]
    fn what_was_withdrawn_late_still_stands_before_what_is_asked_next() {
        let (c, at) = (Config::default(), |ms: u64| Instant(ms * 1_000_000));
        let block = |block| BlockRef { piece: PieceIndex(0), block };
        let mut l = Link::new(LinkId(1), 1, Some(Duration::from_millis(50)), at(0));
        // Taken for a fast one, it gives a block a second.
        let guess = 1e6;
        (0..4).for_each(|i| l.ask(at(0), block(i), guess, &c));
        l.arrived(at(1000), block(0), u64::from(BLOCK_LEN), &c);
        l.arrived(at(2000), block(1), u64::from(BLOCK_LEN), &c);
        l.cancel(at(2500), block(2), &c);
        l.fade(at(2600), &c);
        let eta = l.eta_at(at(2600), 1, guess, &c);
        assert!((1.2..1.6).contains(&eta), "block 3 comes at 4 s, behind block 2: {eta}");
        l.fade(at(3600), &c);
        assert!(l.ghosts.is_empty());
    }
}

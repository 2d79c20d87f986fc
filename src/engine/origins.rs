//! What is known of each origin: whether it takes bids, what it granted, how fast it answers, whether it is to be left alone.
//!
//! Invariant: an origin that failed has no grants until its rest is over: what it granted before is bid for anew.

use std::collections::BTreeMap;
use std::time::Duration;

use super::config::Config;
use super::forecast::RateMeter;
use super::grants::Grants;
use super::outlook::{Outlook, Way};
use super::ranges::Fetch;
use super::snapshot::ServerView;
use crate::units::{BLOCK_LEN, FetchId, Instant, OriginId};

/// What is known of an origin and bids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bidding {
    /// Nothing yet, but that so many bids came to nothing: it is bid to, and meanwhile asked like a plain one.
    Unknown(u32),
    /// It takes none: what is bid is granted by ourselves.
    Plain,
    /// Nothing is asked of it but within its grants.
    Takes,
}

#[derive(Debug, Clone)]
pub(super) struct OriginState {
    pub bidding: Bidding,
    rtt: Option<Duration>,
    /// The round trip assumed until one is measured.
    rtt_unknown: Duration,
    meter: RateMeter,
    /// Bytes received of it.
    brought: u64,
    pub grants: Grants,
    /// A bid that is not answered yet: since when, and how many bits it is counted for.
    pub asked: Option<(Instant, u64)>,
    /// A bid to it came to nothing: none before then.
    pub bid_after: Option<Instant>,
    failures: u32,
    retry_at: Option<Instant>,
    /// Its bytes are played only once hashed.
    pub distrusted: bool,
}

/// All origins and what was asked of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Servers {
    pub origins: BTreeMap<OriginId, OriginState>,
    pub fetches: BTreeMap<FetchId, Fetch>,
    /// The next range's number.
    next: u32,
    pub last_bid: Option<Instant>,
    /// The last bid to an origin that takes them was not granted whole.
    pub short: bool,
    /// An origin failed that was counted on: the next bid does not wait for its second.
    pub bid_again: bool,
}

impl OriginState {
    pub fn round_trip(&self) -> Duration {
        self.rtt.unwrap_or(self.rtt_unknown)
    }

    pub fn rate(&self, now: Instant) -> Option<f64> {
        self.meter.rate_at(now)
    }

    /// The rate to count on, bytes per second. TCP's slow start says little of what a server can send: until it has brought
    /// a first range it is taken to be no slower than one that nothing is known of.
    pub fn rate_hoped(&self, now: Instant, config: &Config) -> f64 {
        let unknown = 8.0 * config.rate_unknown;
        match self.rate(now) {
            Some(rate) if self.is_young(config) => rate.max(unknown),
            rate => rate.unwrap_or(unknown),
        }
    }

    /// A range was asked of it: from a round trip later on it is busy.
    pub fn asked_range(&mut self, now: Instant) {
        self.meter.busy_from(now + self.rtt.unwrap_or_default());
    }

    /// Bytes came of it.
    pub fn arrived(&mut self, now: Instant, len: u64, config: &Config) {
        self.meter.arrived(now, len, config);
        self.brought += len;
        self.failures = 0;
    }

    /// Nothing is asked of it any more.
    pub fn idle(&mut self) {
        self.meter.idle();
    }

    /// A range of it broke: it rests for a moment, longer each time.
    pub fn failed(&mut self, now: Instant) {
        self.failures += 1;
        self.rest(now + Duration::from_millis(500 << self.failures.min(6)));
    }

    /// Leaves it alone until then.
    pub fn rest(&mut self, until: Instant) {
        self.retry_at = self.retry_at.max(Some(until));
        self.grants.clear();
    }

    /// Whether it has not brought what it was asked for first yet.
    pub fn is_young(&self, config: &Config) -> bool {
        self.brought < config.fetch_first
    }

    /// Whether it never brought anything yet.
    pub fn is_new(&self) -> bool {
        self.brought == 0
    }

    /// Whether it failed, and brought nothing since.
    pub fn doubtful(&self) -> bool {
        self.failures > 0
    }

    fn rested(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|t| t <= now)
    }

    /// How soon it would bring more than the `queued` bytes that it is to bring already.
    fn way(&self, now: Instant, queued: u64, config: &Config) -> Way {
        Way {
            rest: self.retry_at.map_or(0.0, |t| t.since(now).as_secs_f64()),
            round_trip: self.round_trip().as_secs_f64(),
            queued: queued as f64,
            free: if self.bidding == Bidding::Takes { self.grants.unspent(now) as f64 } else { f64::INFINITY },
            rate: self.rate_hoped(now, config),
        }
    }
}

impl Servers {
    pub fn up(
        &mut self,
        origin: OriginId,
        bidding: Option<bool>,
        rtt: Option<Duration>,
        suspect: bool,
        config: &Config,
    ) {
        let o = self.origins.entry(origin).or_insert_with(|| OriginState {
            bidding: Bidding::Unknown(0),
            rtt: None,
            rtt_unknown: config.rtt_unknown,
            meter: RateMeter::default(),
            brought: 0,
            grants: Grants::default(),
            asked: None,
            bid_after: None,
            failures: 0,
            retry_at: None,
            distrusted: false,
        });
        match bidding {
            Some(true) if o.bidding != Bidding::Takes => {
                o.bidding = Bidding::Takes;
                o.grants.clear();
            }
            Some(false) if o.bidding != Bidding::Plain => {
                o.bidding = Bidding::Plain;
                o.grants.clear();
            }
            Some(_) | None => {}
        }
        o.distrusted |= suspect;
        o.rtt = rtt.or(o.rtt);
    }

    /// A number for a range.
    pub fn number(&mut self) -> FetchId {
        let fetch = FetchId(self.next);
        self.next += 1;
        fetch
    }

    /// Origins that may be asked and bid to now.
    pub fn open(&self, now: Instant) -> impl Iterator<Item = (&OriginId, &OriginState)> {
        self.origins.iter().filter(move |(_, o)| o.rested(now))
    }

    pub fn usable(&self) -> bool {
        !self.origins.is_empty()
    }

    /// No server ever sent a bad piece: their bytes are played as they arrive.
    pub fn trusted(&self) -> bool {
        self.origins.values().all(|o| !o.distrusted)
    }

    pub fn busy(&self) -> bool {
        !self.fetches.is_empty()
    }

    /// What they could bring from now on; it holds until something is asked of them, granted or brought. One that fell silent is
    /// not counted on: what was left to it would be late, with peers idle who have it.
    pub fn outlook(&self, now: Instant, config: &Config) -> Outlook {
        let granted: u64 = self.open(now).map(|(_, o)| o.grants.unspent(now)).sum();
        let plain = self.open(now).any(|(_, o)| o.bidding != Bidding::Takes);
        Outlook {
            ways: (self.origins.iter().filter(|(id, _)| !self.is_silent(now, **id, config)))
                .map(|(id, o)| o.way(now, self.outstanding(*id), config))
                .collect(),
            margin: config.margin.as_secs_f64(),
            blocks: if plain { usize::MAX } else { (granted / (u64::from(BLOCK_LEN) * 8)) as usize },
        }
    }

    /// What is shown of each.
    pub fn view(&self, now: Instant) -> Vec<ServerView> {
        let of = |(id, o): (&OriginId, &OriginState)| ServerView {
            origin: *id,
            takes_bids: match o.bidding {
                Bidding::Unknown(_) => None,
                Bidding::Plain => Some(false),
                Bidding::Takes => Some(true),
            },
            rate: o.rate(now),
            unspent_bits: o.grants.unspent(now),
            on_its_way: self.outstanding(*id),
            resting: !o.rested(now),
        };
        self.origins.iter().map(of).collect()
    }

    /// Checks that no fetch is past its range or of an origin that is gone.
    pub fn check(&self) -> Result<(), String> {
        match self.fetches.iter().find(|(_, f)| f.upto > f.range.end || !self.origins.contains_key(&f.origin)) {
            Some((id, f)) => Err(format!("fetch {id:?}: {f:?}")),
            None => Ok(()),
        }
    }
}

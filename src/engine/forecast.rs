//! How fast each source is, and when it will deliver: mean and mean deviation, never a promise.

use std::time::Duration;

use super::config::Config;
use crate::units::Instant;

/// Silence of a source is pardoned for so many times as long as it was seen to be busy.
const PATIENCE: f64 = 4.0;
/// Bounds of that, seconds: a round trip or two, and twice the pulse of a peer that serves each half second.
const PATIENCE_S: (f64, f64) = (0.1, 1.0);

/// The rate of one source while it is busy.
///
/// Bytes and *busy time* are summed with a fading memory, so a burst of blocks read in one go (no time between them) and
/// a pause because we asked for nothing (not busy) both leave the rate what it is.
#[derive(Debug, Clone, Default)]
pub struct RateMeter {
    bytes: f64,
    busy_s: f64,
    /// Busy since, or since the last arrival.
    since: Option<Instant>,
    samples: u32,
}

impl RateMeter {
    /// The source has something to deliver from `at` on (a request sent, plus its way there and back).
    pub fn busy_from(&mut self, at: Instant) {
        if self.since.is_none() {
            self.since = Some(at);
        }
    }

    /// Nothing is asked of the source any more.
    pub fn idle(&mut self) {
        self.since = None;
    }

    /// What was busy time so far is not counted: the source was held back by us.
    pub fn excuse(&mut self, now: Instant) {
        self.since = self.since.map(|s| s.max(now));
    }

    /// `len` bytes arrived.
    pub fn arrived(&mut self, now: Instant, len: u64, config: &Config) {
        let Some(since) = self.since else { return };
        let dt = now.since(since).as_secs_f64();
        let fade = (-dt / config.rate_memory.as_secs_f64()).exp();
        self.bytes = self.bytes * fade + len as f64;
        self.busy_s = self.busy_s * fade + dt;
        self.since = Some(since.max(now));
        self.samples += 1;
    }

    /// Bytes per second; `None` until two arrivals (one measures the round trip as much as the rate).
    pub fn rate(&self) -> Option<f64> {
        (self.samples >= 2).then(|| self.bytes / self.busy_s.max(1e-4))
    }

    /// The same, while a source that has fallen silent loses credit for every second of its silence: after a second, and sooner
    /// the shorter it was seen to send. What comes first often comes at once, and says little of what follows.
    pub fn rate_at(&self, now: Instant) -> Option<f64> {
        let silent = self.since.map_or(0.0, |s| now.since(s).as_secs_f64());
        let patience = (PATIENCE * self.busy_s).clamp(PATIENCE_S.0, PATIENCE_S.1);
        self.rate().map(|r| if silent > patience { r.min(self.bytes / (self.busy_s + silent)) } else { r })
    }
}

/// Smoothed mean and mean deviation of a delay, in seconds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deviation {
    mean: f64,
    dev: f64,
    samples: u32,
}

impl Deviation {
    pub fn sample(&mut self, x: f64, config: &Config) {
        if self.samples == 0 {
            self.mean = x;
            self.dev = x.abs() / 2.0;
        } else {
            let w = config.smoothing.max(1.0 / f64::from(self.samples + 1));
            self.dev += w * ((x - self.mean).abs() - self.dev);
            self.mean += w * (x - self.mean);
        }
        self.samples = self.samples.saturating_add(1);
    }

    pub fn dev(&self) -> f64 {
        self.dev
    }

    pub fn mean(&self) -> Option<f64> {
        (self.samples > 0).then_some(self.mean)
    }
}

/// Bytes per second over about a second, for people to look at and for the access link's capacity.
#[derive(Debug, Clone, Default)]
pub struct Gauge {
    rate: f64,
    pending: f64,
    last: Instant,
}

impl Gauge {
    const WINDOW: Duration = Duration::from_secs(1);

    pub fn add(&mut self, bytes: u64) {
        self.pending += bytes as f64;
    }

    /// Folds what was added since the last call; call a few times a second.
    pub fn fold(&mut self, now: Instant) {
        let dt = now.since(self.last).as_secs_f64();
        if dt < 0.05 {
            return;
        }
        if self.rate == 0.0 && self.pending == 0.0 {
            // Most links most of the time: nothing came and nothing fades.
            self.last = now;
            return;
        }
        let w = 1.0 - (-dt / Self::WINDOW.as_secs_f64()).exp();
        self.rate += w * (self.pending / dt - self.rate);
        if self.rate < 1.0 {
            self.rate = 0.0;
        }
        self.pending = 0.0;
        self.last = now;
    }

    /// Bytes per second.
    pub fn get(&self) -> f64 {
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant(ms * 1_000_000)
    }

    #[test]
    fn a_burst_and_a_pause_leave_the_rate_what_it_is() {
        let c = Config::default();
        let mut m = RateMeter::default();
        m.busy_from(at(0));
        for _ in 0..4 {
            m.arrived(at(400), 10_000, &c); // 40 kB in 0.4 s, read at once
        }
        m.idle();
        m.busy_from(at(9_000));
        m.arrived(at(9_100), 10_000, &c);
        let rate = m.rate().unwrap();
        assert!((rate - 100_000.0).abs() < 1_000.0, "{rate}");
    }

    #[test]
    fn silence_costs_credit() {
        let c = Config::default();
        let mut m = RateMeter::default();
        m.busy_from(at(0));
        m.arrived(at(100), 100_000, &c);
        m.arrived(at(200), 100_000, &c);
        assert!(m.rate_at(at(5_200)).unwrap() < m.rate().unwrap() / 10.0);
    }

    #[test]
    fn a_burst_at_first_is_believed_for_as_long_as_nothing_speaks_against_it() {
        let c = Config::default();
        let mut m = RateMeter::default();
        m.busy_from(at(0));
        m.arrived(at(1), 16_384, &c);
        m.arrived(at(1), 16_384, &c);
        assert_eq!(m.rate_at(at(90)), m.rate());
        assert!(m.rate_at(at(500)).unwrap() < 70_000.0);
    }
}

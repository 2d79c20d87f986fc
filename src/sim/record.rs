//! Recorded arrivals: what was forecast of each request when it was sent, and when the block came.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::view::Forecast;
use crate::units::{BlockRef, Instant, LinkId};

/// One request that was answered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrival {
    pub link: LinkId,
    /// Which node it was asked of.
    pub from: u32,
    pub asked: Instant,
    pub arrived: Instant,
    pub expected: Instant,
    /// The link's mean deviation when it was asked; `None` where it had answered nothing.
    pub deviation: Option<Duration>,
}

impl Arrival {
    /// Seconds that it came later than forecast; negative when sooner.
    pub fn late(&self) -> f64 {
        self.arrived.as_secs_f64() - self.expected.as_secs_f64()
    }

    /// Whether it came before its forecast plus so many deviations.
    pub fn within(&self, deviations: f64) -> bool {
        self.deviation.is_some_and(|d| self.late() <= deviations * d.as_secs_f64())
    }
}

/// Requests under way and those answered.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    open: BTreeMap<(LinkId, BlockRef), (Instant, Forecast)>,
    pub arrivals: Vec<Arrival>,
}

impl Recorder {
    pub fn asked(&mut self, now: Instant, link: LinkId, block: BlockRef, forecast: Option<Forecast>) {
        if let Some(f) = forecast {
            self.open.insert((link, block), (now, f));
        }
    }

    /// Nothing that was asked of the link will come.
    pub fn forget_all(&mut self, link: LinkId) {
        self.open.retain(|k, _| k.0 != link);
    }

    /// It was withdrawn.
    pub fn forget(&mut self, link: LinkId, block: BlockRef) {
        self.open.remove(&(link, block));
    }

    pub fn arrived(&mut self, now: Instant, link: LinkId, block: BlockRef, from: u32) {
        if let Some((asked, f)) = self.open.remove(&(link, block)) {
            let deviation = f.deviation.filter(|_| !f.guess);
            self.arrivals.push(Arrival { link, from, asked, arrived: now, expected: f.expected, deviation });
        }
    }
}

/// How good forecasts were.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Calibration {
    /// Answers of links that were known when they were asked.
    pub known: usize,
    /// Share of them that came before mean + 2 and mean + 4 deviations.
    pub within_2: f64,
    pub within_4: f64,
    /// Mean lateness, and mean of its size, seconds.
    pub bias: f64,
    pub error: f64,
}

impl Calibration {
    pub fn of<'a>(arrivals: impl Iterator<Item = &'a Arrival>) -> Self {
        let mut c = Self::default();
        for a in arrivals.filter(|a| a.deviation.is_some()) {
            c.known += 1;
            c.within_2 += f64::from(u8::from(a.within(2.0)));
            c.within_4 += f64::from(u8::from(a.within(4.0)));
            c.bias += a.late();
            c.error += a.late().abs();
        }
        let n = c.known.max(1) as f64;
        Self {
            known: c.known,
            within_2: c.within_2 / n,
            within_4: c.within_4 / n,
            bias: c.bias / n,
            error: c.error / n,
        }
    }
}

//! What came of a world: figures for each engine, and a table of them.

use std::fmt;

use super::node::{Log, Turn};
use super::player::Seen;
use super::record::{Arrival, Calibration};
use super::watch::Counts;
use super::world::World;
use crate::engine::snapshot::Totals;

/// What came of one engine.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    pub node: u32,
    pub group: String,
    pub totals: Totals,
    pub counts: Counts,
    /// Nodes it banned.
    pub banned: Vec<u32>,
    /// For viewers.
    pub seen: Option<Seen>,
    pub pieces: u32,
    /// Of the server's bytes those that came while the viewer started, in its first fifteen seconds.
    pub opening: u64,
    /// What it could send, bytes per second.
    pub up: f64,
    pub arrivals: Vec<Arrival>,
    /// What its watcher found wrong.
    pub faults: Vec<String>,
}

impl Turn<'_> {
    /// Books what came of a node that goes, or at the end.
    pub(super) fn book_outcome(&mut self) {
        let now = self.now();
        self.close_player(now);
        let group = self.group().map(|g| g.name.clone()).unwrap_or_default();
        let (node, up) = (self.n.id, self.n.up);
        let Some(h) = self.n.host() else { return };
        let opening = h.opening;
        let (counts, faults) = h.watch.as_mut().map(|w| (w.counts, std::mem::take(&mut w.faults))).unwrap_or_default();
        let arrivals = h.recorder.as_mut().map(|r| std::mem::take(&mut r.arrivals)).unwrap_or_default();
        let seen = h.player.as_ref().map(|p| p.seen.clone());
        let banned = h.banned.iter().copied().collect();
        let pieces = h.store.verified.count();
        let totals = h.engine.totals();
        self.log.outcomes.push(Outcome {
            node,
            group,
            totals,
            counts,
            banned,
            seen,
            pieces,
            opening,
            up,
            arrivals,
            faults,
        });
    }
}

impl World {
    /// Ends the world and says what came of it.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let seconds = self.now().as_secs_f64();
        let Log { steps, handled, mut outcomes, mut faults, .. } = self.close();
        // By node, and those of one node in the order in which they were booked.
        outcomes.sort_by_key(|o| o.node);
        faults.sort_by_key(|f| (f.0, f.1));
        let mut said: Vec<String> =
            faults.into_iter().map(|(at, n, what)| format!("node {n} at {:.6} s: {what}", at.as_secs_f64())).collect();
        for o in &outcomes {
            said.extend(o.faults.iter().map(|f| format!("node {} {f}", o.node)));
        }
        let (habits, film_len) = (self.habits(), self.film_len());
        Report { outcomes, faults: said, steps, handled, seconds, habits, film_len }
    }
}

/// What came of a world.
#[derive(Debug, Clone)]
pub struct Report {
    /// By node; a node that came several times has several.
    pub outcomes: Vec<Outcome>,
    /// Everything found wrong, a sentence each.
    pub faults: Vec<String>,
    pub steps: u64,
    /// Events handled by engines.
    pub handled: u64,
    /// Virtual time.
    pub seconds: f64,
    /// Habits of the scripted peers, by node.
    pub habits: Vec<Option<super::scenario::Habits>>,
    pub film_len: u64,
}

/// The value below which this share of a sorted list lies.
fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 - 1.0) * share).round().max(0.0) as usize).copied()
}

impl Report {
    pub fn viewers(&self) -> impl Iterator<Item = (&Outcome, &Seen)> {
        self.outcomes.iter().filter_map(|o| Some((o, o.seen.as_ref()?)))
    }

    /// Sums over all viewers.
    pub fn totals(&self) -> Totals {
        self.viewers().fold(Totals::default(), |s, (o, _)| Totals {
            swarm: s.swarm + o.totals.swarm,
            server: s.server + o.totals.server,
            duplicate: s.duplicate + o.totals.duplicate,
            corrupt: s.corrupt + o.totals.corrupt,
            uploaded: s.uploaded + o.totals.uploaded,
        })
    }

    /// Duplicate bytes as a share of all that viewers received.
    pub fn duplicate_share(&self) -> f64 {
        let t = self.totals();
        t.duplicate as f64 / (t.swarm + t.server).max(1) as f64
    }

    /// Bytes of the server as a share of all that viewers received.
    pub fn server_share(&self) -> f64 {
        let t = self.totals();
        t.server as f64 / (t.swarm + t.server).max(1) as f64
    }

    /// Seconds that viewers waited in stalls, all together.
    pub fn stalled(&self) -> f64 {
        self.viewers().map(|(_, s)| s.stalled).sum()
    }

    pub fn calibration(&self) -> Calibration {
        Calibration::of(self.outcomes.iter().flat_map(|o| &o.arrivals))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, mut values: Vec<f64>, unit: &str| {
            let n = values.len();
            let [low, mid, high] = [0.0, 0.5, 1.0].map(|q| quantile(&mut values, q).unwrap_or(f64::NAN));
            writeln!(f, "{name:<22} {mid:>9.3} {unit:<3} least {low:>9.3}  most {high:>9.3}  of {n}")
        };
        row("first picture", self.viewers().filter_map(|(_, s)| s.first).collect(), "s")?;
        row("clock runs", self.viewers().filter_map(|(_, s)| s.started).collect(), "s")?;
        row("seek to picture", self.viewers().flat_map(|(_, s)| s.seeks.iter().copied()).collect(), "s")?;
        row("stalls", self.viewers().map(|(_, s)| f64::from(s.stalls)).collect(), "")?;
        row("stalled", self.viewers().map(|(_, s)| s.stalled).collect(), "s")?;
        let t = self.totals();
        let counts = self.outcomes.iter().fold(Counts::default(), |s, o| Counts {
            requests: s.requests + o.counts.requests,
            cancels: s.cancels + o.counts.cancels,
            hedges: s.hedges + o.counts.hedges,
            end_game: s.end_game + o.counts.end_game,
            fetches: s.fetches + o.counts.fetches,
            idle: s.idle + o.counts.idle,
            bans: s.bans + o.counts.bans,
            failed: s.failed + o.counts.failed,
            faults: s.faults + o.counts.faults,
        });
        let ended = self.viewers().filter(|(_, s)| s.ended).count();
        let false_bytes: u64 = self.viewers().map(|(_, s)| s.false_bytes).sum();
        writeln!(
            f,
            "received {:.2} MB of peers, {:.2} of the server ({:.2} %), duplicate {:.3} %, corrupt {:.3} MB, sent {:.2} MB",
            t.swarm as f64 / 1e6,
            t.server as f64 / 1e6,
            100.0 * self.server_share(),
            100.0 * self.duplicate_share(),
            t.corrupt as f64 / 1e6,
            t.uploaded as f64 / 1e6
        )?;
        writeln!(
            f,
            "requests {} (cancelled {}, second ones {}, in the end game {}), ranges {}, pieces failed {}, bans {}, links idle {}, ended {ended}, false bytes shown {false_bytes}",
            counts.requests,
            counts.cancels,
            counts.hedges,
            counts.end_game,
            counts.fetches,
            counts.failed,
            counts.bans,
            counts.idle
        )?;
        let c = self.calibration();
        if c.known > 0 {
            writeln!(
                f,
                "forecasts: {} answers, before mean + 2 dev {:.2} %, + 4 dev {:.2} %, mean error {:+.1} ms, mean size of it {:.1} ms",
                c.known,
                100.0 * c.within_2,
                100.0 * c.within_4,
                1e3 * c.bias,
                1e3 * c.error
            )?;
        }
        writeln!(
            f,
            "{:.0} s of virtual time, {} steps, {} events handled, {} faults",
            self.seconds, self.steps, self.handled, counts.faults
        )?;
        for fault in self.faults.iter().take(20) {
            writeln!(f, "FAULT {fault}")?;
        }
        Ok(())
    }
}

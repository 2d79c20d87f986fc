//! A swarm in steady state: how it is made, and what is measured of it.

use super::{ExperimentError, Plan, play};
use crate::sim::census::Census;
use crate::sim::film::FilmSpec;
use crate::sim::fluid::Pool;
use crate::sim::report::Report;
use crate::sim::scenario::{Group, Kind, OriginSpec, Scenario, Viewing};

/// The film's rate: low, so that worlds of thousands of viewers can be run. All else is in proportion to it.
pub(super) const MBIT_S: f64 = 1.0;
/// The film's length: what a viewer stays.
pub(super) const FILM_S: f64 = 300.0;
/// A world begins with a swarm drawn from its steady state; so long it runs before it is measured.
pub(super) const WARM_S: f64 = 150.0;
/// Measured for so long.
pub(super) const MEASURED_S: f64 = 300.0;

/// A swarm wants more while less than this share of the film that is not played yet lies ahead of the clocks: past it, who is slow
/// to send is not missed.
const SATED: f64 = 0.6;

/// A swarm of viewers whose uplinks are 0.4 or 1.6 times the mean, evenly likely, who come at random and go at the end.
#[derive(Debug, Clone)]
pub(super) struct Swarm {
    pub viewers: u32,
    /// Of the film's rate.
    pub mean_upload: f64,
    /// Of the film's rate, in all; 0 is more than all viewers could take.
    pub origin: f64,
    pub warm: f64,
    pub measured: f64,
    /// See [`Viewing::ahead`] and [`Viewing::earned`].
    pub ahead: f64,
    pub earned: f64,
    /// See [`Group::mirrored`].
    pub mirrored: bool,
}

impl Default for Swarm {
    fn default() -> Self {
        Self {
            viewers: 100,
            mean_upload: 1.0,
            origin: 0.0,
            warm: WARM_S,
            measured: MEASURED_S,
            ahead: 15.0,
            earned: 0.0,
            mirrored: false,
        }
    }
}

/// The film of all experiments but `share`: five minutes at 1 Mbit/s in pieces of 128 KiB, about one a second.
pub(super) fn film() -> FilmSpec {
    FilmSpec {
        len: (FILM_S * MBIT_S * 125_000.0) as u64,
        piece: 128 * 1024,
        seconds: FILM_S,
        picture: 64 * 1024,
        probe: 32 * 1024,
        ..FilmSpec::default()
    }
}

impl Swarm {
    /// Its viewers.
    pub fn group(&self) -> Group {
        let mean = self.mean_upload * MBIT_S;
        Group {
            name: "viewers".into(),
            kind: Kind::Viewer,
            count: self.viewers,
            steady: true,
            up: 0.4 * mean,
            up_most: 1.6 * mean,
            either: true,
            mirrored: self.mirrored,
            down: 20.0 * MBIT_S,
            delay_ms: 15.0,
            delay_ms_most: 40.0,
            links: 25,
            viewing: Viewing { leaves: true, ahead: self.ahead, earned: self.earned, ..Viewing::default() },
            ..Group::default()
        }
    }

    /// The world around any groups of viewers.
    pub fn world(&self, groups: Vec<Group>) -> Scenario {
        let ample = 2.0 * f64::from(self.viewers) + 20.0;
        let origin = if self.origin > 0.0 { self.origin } else { ample } * MBIT_S;
        Scenario {
            seconds: self.warm + self.measured,
            film: film(),
            groups,
            origin: Some(OriginSpec { up: origin, bidding: true, ..OriginSpec::default() }),
            have_every: 0.5,
            tick: 0.25,
        }
    }

    /// Runs it.
    pub fn measure(&self, seed: u64, what: &str, plan: &mut Plan) -> Result<(Measured, Report), ExperimentError> {
        let (counts, report) = play(&self.world(vec![self.group()]), seed, what, plan)?;
        Ok((Measured::of(&counts, self.warm), report))
    }
}

/// What a swarm did from one moment on, by its census.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Measured {
    pub seconds: f64,
    /// Viewers that watched, on average.
    pub watching: f64,
    /// What they could send, and what they sent each other that was of use, of the film's rate.
    pub capacity: f64,
    pub used: f64,
    /// The same two, while the swarm wanted more.
    pub offered: f64,
    pub taken: f64,
    /// What the server sent past the viewers' first fifteen seconds, and in them, of the film's rate.
    pub server: f64,
    pub opening: f64,
    /// What the server would have sent past them to a fluid of the same viewers.
    pub fluid: f64,
    /// Bytes that came twice, as a share of what the swarm sent.
    pub duplicates: f64,
    /// Seconds stalled per hour watched.
    pub stalled: f64,
    /// Film ahead of the clock, seconds per viewer.
    pub ahead: f64,
}

impl Measured {
    /// Of the counts from `warm` seconds on.
    pub fn of(counts: &[Census], warm: f64) -> Self {
        let later: Vec<&Census> = counts.iter().filter(|c| c.at.as_secs_f64() >= warm).collect();
        let (Some(first), Some(last)) = (later.first(), later.last()) else { return Self::default() };
        let seconds = last.at.as_secs_f64() - first.at.as_secs_f64();
        let rate = |bytes: u64| bytes as f64 / (125_000.0 * MBIT_S) / seconds.max(1e-9);
        let mean = |of: &dyn Fn(&Census) -> f64| later.iter().map(|c| of(c)).sum::<f64>() / later.len() as f64;
        let (swarm, duplicate) = (last.swarm - first.swarm, last.duplicate - first.duplicate);
        let opening = last.opening - first.opening;
        let watching = mean(&|c| f64::from(c.watching));
        let useful = |a: &Census, b: &Census| ((b.swarm - a.swarm).saturating_sub(b.duplicate - a.duplicate)) as f64;
        let (mut offered, mut taken) = (0.0, 0.0);
        for pair in later.windows(2) {
            let &[a, b] = pair else { continue };
            if (b.ahead as f64) < SATED * b.left as f64 {
                offered += b.capacity * b.at.since(a.at).as_secs_f64();
                taken += useful(a, b);
            }
        }
        let mut out = Self {
            seconds,
            watching,
            capacity: mean(&|c| c.capacity / (125_000.0 * MBIT_S)),
            used: rate(swarm.saturating_sub(duplicate)),
            server: rate((last.server - first.server).saturating_sub(opening)),
            opening: rate(opening),
            duplicates: duplicate as f64 / swarm.max(1) as f64,
            stalled: (last.stood - first.stood) / (watching * seconds).max(1e-9) * 3600.0,
            ahead: mean(&|c| c.ahead as f64 / (125_000.0 * MBIT_S)) / watching.max(1e-9),
            offered: offered / (125_000.0 * MBIT_S) / seconds.max(1e-9),
            taken: taken / (125_000.0 * MBIT_S) / seconds.max(1e-9),
            fluid: 0.0,
        };
        out.fluid = out.along(counts, warm);
        out
    }

    /// What the server would have sent past the openings to a fluid of the same viewers with the same uplinks, of which the same
    /// share is put to use; from `warm` seconds on, and with nothing in reserve at first.
    fn along(&self, counts: &[Census], warm: f64) -> f64 {
        let (mut pool, mut sum, mut seconds) = (Pool::default(), 0.0, 0.0);
        // What a sated swarm leaves lying it could use.
        let share = self.wanting().unwrap_or(1.0);
        for pair in counts.windows(2) {
            let [a, b] = pair else { continue };
            let dt = b.at.since(a.at).as_secs_f64();
            let supply = share * b.capacity / (125_000.0 * MBIT_S);
            let lacks =
                pool.step(supply - f64::from(b.watching) * self.asked(), b.left as f64 / (125_000.0 * MBIT_S), dt);
            if a.at.as_secs_f64() >= warm {
                sum += lacks;
                seconds += dt;
            }
        }
        sum / seconds.max(1e-9)
    }

    /// The share of the upload that the swarm can put to use: what was of use of what was offered, while more was wanted. Of a swarm
    /// that wanted little more all along, what it used of what it had.
    pub fn utilisation(&self) -> f64 {
        self.wanting().unwrap_or(self.used / self.capacity.max(1e-9))
    }

    /// The same of a swarm that wanted more for a tenth of the time at least.
    fn wanting(&self) -> Option<f64> {
        (self.offered > 0.1 * self.capacity).then(|| self.taken / self.offered)
    }

    /// What is asked of the swarm, of the film's rate: all but what the server sends in openings.
    pub fn asked(&self) -> f64 {
        1.0 - self.opening / self.watching.max(1e-9)
    }

    /// Several of the same, each weighing as much as its viewers.
    pub fn mean(all: &[Self]) -> Self {
        let n = all.len().max(1) as f64;
        let of = |f: &dyn Fn(&Self) -> f64| all.iter().map(f).sum::<f64>() / n;
        Self {
            seconds: of(&|m| m.seconds),
            watching: of(&|m| m.watching),
            capacity: of(&|m| m.capacity),
            used: of(&|m| m.used),
            offered: of(&|m| m.offered),
            taken: of(&|m| m.taken),
            server: of(&|m| m.server),
            opening: of(&|m| m.opening),
            fluid: of(&|m| m.fluid),
            duplicates: of(&|m| m.duplicates),
            stalled: of(&|m| m.stalled),
            ahead: of(&|m| m.ahead),
        }
    }
}

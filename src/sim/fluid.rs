//! A swarm as a fluid, for viewer counts past what real engines fit in.
//!
//! Viewers come at random (Poisson), stay for the film and go; each brings an uplink of 0.4 or 1.6 times the mean. The swarm puts
//! a share of their upload to use (the utilisation, measured with real engines). What it has over what is played goes ahead of the
//! clocks, as far as there is film left to fetch; what it lacks comes out of that, and then out of the server. One number stands
//! for all that lies ahead: that it is shared by all alike is what makes this a model. The experiment `laws` runs both at the same
//! sizes, side by side.
//!
//! Units: the film's rate and seconds. Between two arrivals or departures all rates are constant, so nothing is stepped.

use std::collections::VecDeque;

use super::dice::Dice;

/// A fluid swarm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fluid {
    /// On average.
    pub viewers: f64,
    /// Of the film's rate.
    pub mean_upload: f64,
    /// The share of it that the swarm can put to use.
    pub utilisation: f64,
    /// The film, seconds.
    pub film: f64,
    /// Not measured, then measured, seconds.
    pub warm: f64,
    pub measured: f64,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Flow {
    /// Averages over the time measured, of the film's rate.
    pub watching: f64,
    pub capacity: f64,
    pub server: f64,
    /// Film ahead of the clock beyond the server's window, seconds per viewer, at the end.
    pub ahead: f64,
}

/// What lies ahead of all clocks, in seconds of all viewers together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pool(f64);

impl Pool {
    /// For `dt` seconds the swarm has `over` more than is played, or less; `left` is the film that is not played yet. What the
    /// server has to send of it.
    pub fn step(&mut self, over: f64, left: f64, dt: f64) -> f64 {
        let lacks = if over < 0.0 { (-over * dt - self.0).max(0.0) } else { 0.0 };
        self.0 = (self.0 + over * dt).clamp(0.0, left.max(0.0));
        lacks
    }
}

impl Fluid {
    /// Runs it once.
    pub fn run(&self, seed: u64) -> Flow {
        let mut dice = Dice::new(seed);
        let uplink = |dice: &mut Dice| self.mean_upload * if dice.chance(0.5) { 1.6 } else { 0.4 };
        // In steady state those present are a Poisson number, at places drawn evenly; each entry is when one goes and what it
        // brings. All stay equally long, so they go in the order in which they came.
        let every = self.film / self.viewers.max(1e-9);
        let mut here: VecDeque<(f64, f64)> = VecDeque::new();
        let mut at = dice.exponential(every);
        while at < self.film {
            let up = uplink(&mut dice);
            here.push_back((at, up));
            at += dice.exponential(every);
        }
        let mut upload: f64 = here.iter().map(|v| v.1).sum();
        // Film that those present have not played yet: what could lie ahead at most.
        let mut left: f64 = here.iter().map(|v| v.0).sum();
        let mut comes = dice.exponential(every);
        let end = self.warm + self.measured;
        let (mut now, mut ahead) = (0.0, Pool::default());
        let mut flow = Flow::default();
        while now < end {
            let goes = here.front().map_or(f64::INFINITY, |v| v.0);
            let next = goes.min(comes).min(end).min(if now < self.warm { self.warm } else { end });
            let (dt, n) = (next - now, here.len() as f64);
            let over = self.utilisation * upload - n;
            left = (left - n * dt).max(0.0);
            let lacks = ahead.step(over, left, dt);
            if now >= self.warm {
                flow.watching += n * dt;
                flow.capacity += upload * dt;
                flow.server += lacks;
            }
            now = next;
            if comes <= next {
                let up = uplink(&mut dice);
                here.push_back((next + self.film, up));
                upload += up;
                left += self.film;
                comes = next + dice.exponential(every);
            } else if goes <= next {
                upload -= here.pop_front().map_or(0.0, |v| v.1);
                if here.is_empty() {
                    // Sums of a million numbers keep a rest.
                    (upload, left) = (0.0, 0.0);
                }
            }
        }
        let t = self.measured.max(1e-9);
        let ahead = ahead.0 / (here.len() as f64).max(1.0);
        Flow { watching: flow.watching / t, capacity: flow.capacity / t, server: flow.server / t, ahead }
    }

    /// The average of so many runs.
    pub fn mean(&self, seed: u64, runs: u32) -> Flow {
        let mut dice = Dice::new(seed);
        let runs = runs.max(1);
        let mut sum = Flow::default();
        for _ in 0..runs {
            let f = self.run(dice.seed());
            sum.watching += f.watching;
            sum.capacity += f.capacity;
            sum.server += f.server;
            sum.ahead += f.ahead;
        }
        let n = f64::from(runs);
        Flow { watching: sum.watching / n, capacity: sum.capacity / n, server: sum.server / n, ahead: sum.ahead / n }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fluid(viewers: f64, mean_upload: f64) -> Fluid {
        Fluid { viewers, mean_upload, utilisation: 1.0, film: 300.0, warm: 150.0, measured: 300.0 }
    }

    #[test]
    fn what_the_swarm_lacks_is_the_servers() {
        let f = fluid(10_000.0, 0.7).mean(1, 4);
        assert!((f.server / f.watching - 0.3).abs() < 0.01, "{f:?}");
        assert!((f.watching / 10_000.0 - 1.0).abs() < 0.02 && (f.capacity / 7_000.0 - 1.0).abs() < 0.02, "{f:?}");
        let f = fluid(10_000.0, 1.4).mean(1, 4);
        assert!(f.server == 0.0 && f.ahead > 50.0, "{f:?}");
    }

    #[test]
    fn at_balance_the_load_grows_with_the_root_of_the_viewers() {
        let load = |n: f64, runs| fluid(n, 1.0).mean(7, runs).server;
        let slope = (load(40_000.0, 40) / load(400.0, 400)).log10() / 2.0;
        assert!((slope - 0.5).abs() < 0.12, "{slope}");
    }

    #[test]
    fn the_same_seed_gives_the_same_flow() {
        assert_eq!(fluid(100.0, 1.0).run(3), fluid(100.0, 1.0).run(3));
        assert_ne!(fluid(100.0, 1.0).run(3), fluid(100.0, 1.0).run(4));
    }
}

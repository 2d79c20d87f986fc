//! Experiments: questions put to the world, each answered with tables, a JSON file and pictures.
//!
//! Invariant: the same experiment, seed and size give the same findings to the byte. Nothing in here decides what a viewer or
//! an origin does; an experiment only makes worlds and counts what came of them.

mod bass;
mod dead;
mod greedy;
mod laws;
mod own;
mod riders;
mod share;
mod swarm;

#[cfg(test)]
mod tests;

use serde_json::Value;

use super::census::Census;
use super::output::{Plot, Table};
use super::report::Report;
use super::scenario::{Scenario, ScenarioError};
use super::world::{Options, World};
use crate::units::Instant;

pub use laws::{Law, Point};
pub use own::own;
pub use share::Share;

/// Why an experiment gave no findings.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error("The simulation was ended before it was over")]
    Stopped,
}

/// Who looks on, and may end it.
pub trait Monitor {
    /// What is being run, and how far it is: 0 to 1.
    fn progress(&mut self, what: &str, done: f64);
    /// Whether to end now.
    fn stopped(&self) -> bool;
}

/// Nobody looks on.
impl Monitor for () {
    fn progress(&mut self, _: &str, _: f64) {}
    fn stopped(&self) -> bool {
        false
    }
}

/// How an experiment is run.
pub struct Plan<'a> {
    pub seed: u64,
    /// Small worlds and few of them: for a first look, and for tests.
    pub quick: bool,
    /// Worlds of no more viewers than this run the real engine; 0 leaves it to the experiment.
    pub most: u32,
    pub monitor: &'a mut dyn Monitor,
}

/// What came of an experiment.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    pub name: String,
    /// Each is a CSV file, and printed.
    pub tables: Vec<Table>,
    pub json: Value,
    pub plots: Vec<Plot>,
    /// Sentences for whoever reads the tables.
    pub remarks: Vec<String>,
}

/// The experiments there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Experiment {
    Laws,
    Share,
    Bass,
    Greedy,
    Dead,
    Riders,
}

impl Experiment {
    pub const ALL: [Self; 6] = [Self::Laws, Self::Share, Self::Bass, Self::Greedy, Self::Dead, Self::Riders];

    pub fn name(self) -> &'static str {
        match self {
            Self::Laws => "laws",
            Self::Share => "share",
            Self::Bass => "bass",
            Self::Greedy => "greedy",
            Self::Dead => "dead",
            Self::Riders => "riders",
        }
    }

    /// The experiment of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|e| e.name() == name)
    }

    /// Runs it.
    ///
    /// # Errors
    /// When it was ended before it was over.
    pub fn run(self, plan: &mut Plan) -> Result<Findings, ExperimentError> {
        match self {
            Self::Laws => laws::run(plan),
            Self::Share => share::run(plan),
            Self::Bass => bass::run(plan),
            Self::Greedy => greedy::run(plan),
            Self::Dead => dead::run(plan),
            Self::Riders => riders::run(plan),
        }
    }
}

/// Runs one world to its end and counts it each second.
fn play(scenario: &Scenario, seed: u64, what: &str, plan: &mut Plan) -> Result<(Vec<Census>, Report), ExperimentError> {
    let mut world = World::new(scenario, Options { seed, threads: threads(scenario), ..Options::default() })?;
    let seconds = scenario.seconds.ceil() as u64;
    let mut counts = vec![world.census()];
    for second in 1..=seconds {
        world.run_until(Instant::from_secs_f64(second as f64));
        counts.push(world.census());
        plan.monitor.progress(what, second as f64 / seconds as f64);
        if plan.monitor.stopped() {
            return Err(ExperimentError::Stopped);
        }
    }
    Ok((counts, world.finish()))
}

/// Worlds of this many nodes are worth two threads; what happens in them is the same for any number.
const LARGE: u32 = 300;

fn threads(scenario: &Scenario) -> usize {
    let large = scenario.groups.iter().map(|g| g.count).sum::<u32>() >= LARGE;
    if large { std::thread::available_parallelism().map_or(1, usize::from) } else { 1 }
}

/// A seed for the `k`-th world of an experiment: far from those of its neighbours.
fn seed_of(plan: &Plan, k: u64) -> u64 {
    crate::engine::rng::Rng::new(plan.seed ^ k.wrapping_mul(0x9e37_79b9_7f4a_7c15)).next_u64()
}

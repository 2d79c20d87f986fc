//! The world: it is made of a scenario, runs for a while, and ends in a report.
//!
//! Invariant: everything that happens is a step of a node, all chance comes from one seed, and nothing is looked up by hash: the
//! same scenario and seed give the same trace to the byte, on one thread or many, in one run or in parts.

use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use super::ends::Ends;
use super::film::Film;
use super::net::Access;
use super::node::{Actor, Ctx, Log, Node, Turn};
use super::post::Post;
use super::scenario::{Group, Habits, Kind, Scenario, ScenarioError};
use super::shard::{NEVER, Shard, Shards};
use super::step::Step;
use super::trace::Trace;
use super::web::Web;
use crate::engine::Config;
use crate::units::{ByteRange, Instant};

/// Bits per second in bytes.
pub(super) const MBIT: f64 = 125_000.0;
/// No two nodes are nearer to each other than twice this: windows must not be empty.
const DELAY_LEAST: Duration = Duration::from_micros(250);

/// How a world is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub seed: u64,
    pub config: Arc<Config>,
    /// Hold every engine against the world's books after every step.
    pub watch: bool,
    /// Call [`crate::engine::Engine::check`] after each so many steps of an engine; 0 is never.
    pub check_every: u64,
    /// Keep what was forecast of each request, and what came of it.
    pub record: bool,
    pub trace: Trace,
    /// Threads to run on; 0 is one. What happens is the same for any number.
    pub threads: usize,
}

/// The world.
pub struct World {
    now: Instant,
    end: Instant,
    ctx: Ctx,
    shards: Shards,
    trace: Trace,
    /// Who came and went, not yet in the list of those that can be found.
    moves: Vec<(Instant, u32, bool)>,
    /// Where each node is in that list.
    places: Vec<Option<u32>>,
}

/// A world while it is made.
struct Maker {
    dice: Dice,
    end: f64,
    film_s: f64,
    nodes: Vec<Node>,
    delays: Vec<Duration>,
}

impl Maker {
    fn node(&mut self, actor: Actor, group: Option<usize>, access: Access, delay: Duration, up: f64) -> &mut Node {
        let id = self.nodes.len() as u32;
        let dice = Dice::new(self.dice.seed());
        self.delays.push(delay.max(DELAY_LEAST));
        let (post, ends) = (Post::new(id), Ends::default());
        self.nodes.push(Node { id, actor, group, up, place: 0.0, dice, post, ends, access });
        let last = self.nodes.len() - 1;
        &mut self.nodes[last]
    }

    /// When the group's nodes come, seconds: below zero for those who are there at the start.
    fn arrivals(&mut self, g: &Group) -> Vec<f64> {
        if g.steady {
            let mut at = -self.film_s;
            let mean = self.film_s / f64::from(g.count.max(1));
            let next = || {
                at += self.dice.exponential(mean);
                (g.count > 0 && at < self.end).then_some(at)
            };
            return std::iter::from_fn(next).collect();
        }
        let mut poisson = g.at;
        (0..g.count)
            .map(|k| {
                if g.poisson && g.over > 0.0 {
                    poisson += self.dice.exponential(g.over / f64::from(g.count));
                    poisson
                } else {
                    g.at + g.over * f64::from(k) / f64::from(g.count)
                }
            })
            .collect()
    }

    fn populate(&mut self, index: usize, g: &Group) {
        for at in self.arrivals(g) {
            let up = if g.either {
                if self.dice.chance(0.5) != g.mirrored { g.up_most } else { g.up }
            } else if g.up_most > g.up {
                self.dice.between(g.up, g.up_most)
            } else {
                g.up
            } * MBIT;
            let ms =
                if g.delay_ms_most > g.delay_ms { self.dice.between(g.delay_ms, g.delay_ms_most) } else { g.delay_ms };
            let [delay, jitter] = [ms, g.jitter_ms].map(|ms| Duration::from_secs_f64(ms / 1e3));
            let node = self.node(Actor::Away, Some(index), Access::new(up, g.down * MBIT, jitter), delay, up);
            node.place = (-at).max(0.0);
            node.post.later(Instant::from_secs_f64(at), Step::Join);
        }
    }
}

impl World {
    /// Makes the world of a scenario.
    ///
    /// # Errors
    /// When the scenario asks for the impossible.
    pub fn new(scenario: &Scenario, mut options: Options) -> Result<Self, ScenarioError> {
        scenario.check()?;
        let mut dice = Dice::new(options.seed);
        let film = Arc::new(scenario.film.make(&mut dice)?);
        let film_s = film.timeline.duration().as_secs_f64();
        let mut maker = Maker { dice, end: scenario.seconds, film_s, nodes: Vec::new(), delays: Vec::new() };
        for (i, g) in scenario.groups.iter().enumerate() {
            maker.populate(i, g);
        }
        let origin = scenario.origin.as_ref().map(|o| {
            let delay = Duration::from_secs_f64(o.delay_ms / 1e3);
            let access = Access::new(o.up * MBIT, 1e12, Duration::ZERO);
            let web = maker.node(Actor::Web(Box::new(Web::new(o.clone()))), None, access, delay, o.up * MBIT);
            if o.dies > 0.0 {
                web.post.later(Instant::from_secs_f64(o.dies), Step::Leave);
            }
            web.id
        });
        let Maker { nodes, delays, .. } = maker;
        if scenario.tick > 0.0 {
            let tick = Duration::from_secs_f64(scenario.tick);
            options.config = Arc::new(Config { tick, pressing: tick / 10, ..Config::clone(&options.config) });
        }
        let trace = std::mem::take(&mut options.trace);
        let mut nearest = delays.clone();
        nearest.sort_unstable();
        let least = nearest.iter().take(2).sum::<Duration>().max(DELAY_LEAST * 2);
        let scripted = |n: &Node| n.group.and_then(|g| scenario.groups.get(g)).is_some_and(|g| g.kind == Kind::Peer);
        let scripted = nodes.iter().map(scripted).collect();
        let places = vec![None; nodes.len()];
        let shards = Shards::new(nodes, options.threads);
        let ctx = Ctx {
            film,
            groups: scenario.groups.clone(),
            tracing: trace.is_on(),
            options,
            have_every: Duration::from_secs_f64(scenario.have_every.clamp(0.0, 60.0)).as_nanos() as u64,
            origin,
            origin_after: Duration::from_secs_f64(scenario.origin.as_ref().map_or(0.0, |o| o.after)),
            bidding: scenario.origin.as_ref().is_some_and(|o| o.bidding),
            delays,
            scripted,
            least,
            listed: Vec::new(),
        };
        let end = Instant::from_secs_f64(scenario.seconds);
        Ok(Self { now: Instant::ZERO, end, ctx, shards, trace, moves: Vec::new(), places })
    }

    /// Virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Steps taken, and events handled by engines.
    pub fn work(&self) -> (u64, u64) {
        self.shards.work_done()
    }

    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Runs to the scenario's end.
    pub fn run(&mut self) {
        self.run_until(self.end);
    }

    /// Runs until then, or until nothing more would ever happen.
    pub fn run_until(&mut self, end: Instant) {
        let least = self.ctx.least.as_nanos() as u64;
        loop {
            let soonest = self.shards.soonest();
            if soonest > end || soonest == NEVER {
                break;
            }
            let begins = Instant(soonest.0 / least * least);
            self.list(begins);
            let until = Instant(begins.0.saturating_add(least).min(end.0.saturating_add(1)));
            self.shards.work(&self.ctx, until);
            self.gather();
        }
        self.now = self.now.max(end);
    }

    /// What the last window left to be known by all, and its part of the trace.
    fn gather(&mut self) {
        let from = self.moves.len();
        let mut lines = Vec::new();
        for shard in self.shards.each() {
            self.moves.append(&mut shard.log.moves);
            lines.append(&mut shard.log.lines);
        }
        self.moves[from..].sort_by_key(|m| (m.0, m.1));
        // Those of one node stay in their order.
        lines.sort_by_key(|l| (l.0, l.1));
        for (at, node, what) in lines {
            self.trace.line(at, node, &what);
        }
    }

    /// Brings the list of those that can be found up to the window's beginning.
    fn list(&mut self, begins: Instant) {
        let known = self.moves.partition_point(|m| m.0 < begins);
        for (_, node, came) in self.moves.drain(..known) {
            let Some(place) = self.places.get_mut(node as usize) else { continue };
            if came {
                *place = Some(self.ctx.listed.len() as u32);
                self.ctx.listed.push(node);
            } else if let Some(at) = place.take() {
                self.ctx.listed.swap_remove(at as usize);
                if let Some(moved) = self.ctx.listed.get(at as usize) {
                    self.places[*moved as usize] = Some(at);
                }
            }
        }
    }

    /// Books what came of all that are still here, and gives all that was written down.
    pub(super) fn close(&mut self) -> Log {
        let (mut all, now) = (Log::default(), self.now);
        for shard in self.shards.each() {
            for n in &mut shard.nodes {
                n.post.now = now;
                Turn { n, ctx: &self.ctx, log: &mut shard.log }.book_outcome();
            }
            let log = std::mem::take(&mut shard.log);
            all.steps += log.steps;
            all.handled += log.handled;
            all.outcomes.extend(log.outcomes);
            all.faults.extend(log.faults);
        }
        all
    }

    /// The film, and all nodes with what is written down of those that went.
    pub(super) fn all(&mut self) -> (&Film, impl Iterator<Item = &mut Shard>) {
        (&self.ctx.film, self.shards.each())
    }

    /// Habits of the scripted peers, by node.
    pub(super) fn habits(&mut self) -> Vec<Option<Habits>> {
        let mut of: Vec<(u32, Option<usize>)> =
            self.shards.each().flat_map(|s| s.nodes.iter().map(|n| (n.id, n.group))).collect();
        of.sort_unstable();
        let groups = &self.ctx.groups;
        let habits = |g: usize| groups.get(g).filter(|g| g.kind == Kind::Peer).map(|g| g.habits.clone());
        of.into_iter().map(|(_, g)| g.and_then(habits)).collect()
    }

    /// The bytes of the film.
    pub fn film_len(&self) -> u64 {
        ByteRange::len(self.ctx.film.whole())
    }
}

//! What a world is made of, as a TOML file says it: a film, groups of nodes, perhaps a server.
//!
//! Rates are in Mbit/s, times in seconds, delays in milliseconds one way from a node to the middle of the network.

use serde::Deserialize;

use super::film::FilmSpec;

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("The scenario cannot be read: {0}")]
    Toml(#[from] toml::de::Error),
    #[error("The scenario's film has an impossible size, duration or swing")]
    Film,
    #[error("The group {0:?} has an impossible number, rate or time")]
    Group(String),
}

/// One world.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// How long it lasts.
    pub seconds: f64,
    pub film: FilmSpec,
    #[serde(rename = "group")]
    pub groups: Vec<Group>,
    pub origin: Option<OriginSpec>,
    /// Announcements of pieces are gathered for this long, as clients do; 0 sends each at once.
    pub have_every: f64,
    /// How often time alone moves an engine and its player; 0 is as often as in the application. For worlds of thousands.
    pub tick: f64,
}

/// Nodes of one kind.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Group {
    pub name: String,
    pub kind: Kind,
    pub count: u32,
    /// Mbit/s to the network; with `up_most` each node draws between the two.
    pub up: f64,
    pub up_most: f64,
    /// Each node has one of the two rates, evenly likely, and none between.
    pub either: bool,
    /// Whoever would draw the one has the other: beside the same world without, what the draw does cancels (antithetic variates).
    pub mirrored: bool,
    /// Mbit/s from the network.
    pub down: f64,
    pub delay_ms: f64,
    pub delay_ms_most: f64,
    pub jitter_ms: f64,
    /// When the first comes, and how long after it the last at most; with `poisson` the times are drawn, else even.
    pub at: f64,
    pub over: f64,
    pub poisson: bool,
    /// A population that is `count` on average: arrivals are Poisson and began as long before the start as the film lasts. Who came
    /// before it is there at the start, at its place in the film, with what was played behind it. For viewers that leave at the end.
    pub steady: bool,
    /// Mean stay; 0 is to the end. With `again` a node that left comes back after about as long.
    pub stay: f64,
    pub again: bool,
    /// Links a node seeks.
    pub links: u32,
    /// It takes and never gives: a client made to unchoke nobody.
    pub rides: bool,
    /// Share of the pieces it has at the start, drawn at random.
    pub has: f64,
    /// What it lacks beside, from and to in seconds of a film of even bitrate.
    pub lacks: (f64, f64),
    /// For `viewer`.
    pub viewing: Viewing,
    /// For `peer`.
    pub habits: Habits,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: Kind::Seed,
            count: 1,
            up: 4.0,
            up_most: 0.0,
            either: false,
            mirrored: false,
            down: 100.0,
            delay_ms: 10.0,
            delay_ms_most: 0.0,
            jitter_ms: 0.0,
            at: 0.0,
            over: 0.0,
            poisson: false,
            steady: false,
            stay: 0.0,
            again: false,
            links: 0,
            rides: false,
            has: 1.0,
            lacks: (0.0, 0.0),
            viewing: Viewing::default(),
            habits: Habits::default(),
        }
    }
}

/// What runs in a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The engine, with a player.
    Viewer,
    /// The engine, with all pieces and nothing to play.
    #[default]
    Seed,
    /// Another program, by its habits.
    Peer,
}

/// What a viewer does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Viewing {
    /// Seeks: `(seconds after it came, seconds of the film)`.
    pub seeks: Vec<(f64, f64)>,
    /// Seeks somewhere at random this often on average; 0 is never.
    pub hops: f64,
    /// Where play starts, at most; drawn between 0 and this.
    pub from: f64,
    /// Goes when it has seen the film's end, after seeding for `lingers` on average.
    pub leaves: bool,
    pub lingers: f64,
    /// Seconds of film ahead of its place that a viewer who is there at the start already has, on average.
    pub ahead: f64,
    /// Such a viewer has, besides, what its uplink earned it: where peers give to those who give (tit for tat), one that sends
    /// faster than the film plays was served at so many times the rate at which it sends. 0 is no more than others.
    pub earned: f64,
    /// What its bids are multiplied by: 1 says what it needs, more is greed.
    pub greed: f64,
}

impl Default for Viewing {
    fn default() -> Self {
        Self {
            seeks: Vec::new(),
            hops: 0.0,
            from: 0.0,
            leaves: false,
            lingers: 0.0,
            ahead: 0.0,
            earned: 0.0,
            greed: 1.0,
        }
    }
}

/// How a scripted peer behaves. The default is a plain seed that answers in order.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Habits {
    /// It unchokes us this long after we said that we are interested.
    pub unchoke_after: f64,
    /// It sends nothing more over a link after this many bytes, and says nothing; 0 is never.
    pub stops_after: u64,
    /// Share of its blocks that are falsified.
    pub lies: f64,
    /// It serves what was asked only each so many seconds, as Transmission does each half; 0 is at once.
    pub pulse: f64,
    /// It chokes and unchokes in turn, each this long on average; 0 is never.
    pub flips: f64,
    /// Share of requests that it rejects.
    pub rejects: f64,
    /// Bytes a second over one link; 0 is what its access link gives.
    pub rate: f64,
    /// Bytes it puts into its socket ahead of the network, from where no cancel takes them back.
    pub socket: u64,
    /// It asks for pieces of ours, this many requests at a time; 0 is never.
    pub takes: u32,
    /// It gets pieces elsewhere, one each so many seconds, and says so; 0 is never.
    pub grows: f64,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            unchoke_after: 0.0,
            stops_after: 0,
            lies: 0.0,
            pulse: 0.0,
            flips: 0.0,
            rejects: 0.0,
            rate: 0.0,
            // libtorrent begins with 50 KB and raises it with the rate.
            socket: 64 * 1024,
            takes: 0,
            grows: 0.0,
        }
    }
}

/// A server of the film.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OriginSpec {
    /// Mbit/s.
    pub up: f64,
    pub delay_ms: f64,
    /// It takes bids; otherwise it is a plain web server.
    pub bidding: bool,
    /// Share of each bid that it grants.
    pub grants: f64,
    /// Share of its blocks that are falsified.
    pub lies: f64,
    /// When viewers learn of it, after they came.
    pub after: f64,
    /// When it dies; 0 is never.
    pub dies: f64,
}

impl Default for OriginSpec {
    fn default() -> Self {
        Self { up: 100.0, delay_ms: 10.0, bidding: false, grants: 1.0, lies: 0.0, after: 0.0, dies: 0.0 }
    }
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// When it is no TOML, names what does not exist, or asks for the impossible.
    pub fn from_toml(text: &str) -> Result<Self, ScenarioError> {
        let s: Self = toml::from_str(text)?;
        s.check()?;
        Ok(s)
    }

    /// Whether it can be run.
    ///
    /// # Errors
    /// When it asks for the impossible.
    pub fn check(&self) -> Result<(), ScenarioError> {
        let sane = |x: f64| (0.0..1e9).contains(&x);
        for g in &self.groups {
            let h = &g.habits;
            let all = [g.up, g.up_most, g.down, g.delay_ms, g.delay_ms_most, g.jitter_ms, g.at, g.over, g.stay];
            let all = all.into_iter().chain([g.lacks.0, g.lacks.1]);
            let more = [h.unchoke_after, h.pulse, h.flips, h.rate, h.grows, g.viewing.hops, g.viewing.from];
            let more = more.into_iter().chain([g.viewing.lingers, g.viewing.ahead, g.viewing.earned, g.viewing.greed]);
            let shares = [g.has, h.lies, h.rejects];
            let fine = all.chain(more).all(sane)
                && shares.iter().all(|x| (0.0..=1.0).contains(x))
                && g.viewing.seeks.iter().all(|(at, to)| sane(*at) && sane(*to))
                && g.count <= 1_000_000
                && (!g.steady || f64::from(g.count) * (1.0 + self.seconds / self.film.seconds.max(1e-3)) < 2e6)
                && g.up > 0.0
                && g.down > 0.0;
            if !fine {
                return Err(ScenarioError::Group(g.name.clone()));
            }
        }
        if !sane(self.have_every) || !sane(self.tick) {
            return Err(ScenarioError::Group("scenario".into()));
        }
        match &self.origin {
            Some(o) if ![o.up, o.delay_ms, o.after, o.dies].into_iter().all(sane) || o.up <= 0.0 => {
                Err(ScenarioError::Group("origin".into()))
            }
            _ => Ok(()),
        }
    }

    /// Adds a group; for scenarios made in code.
    #[must_use]
    pub fn with(mut self, group: Group) -> Self {
        self.groups.push(group);
        self
    }
}

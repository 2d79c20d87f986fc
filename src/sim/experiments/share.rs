//! How much of a film one viewer takes of the server, where the swarm brings `u` times the film's rate.
//!
//! The bound is what nobody can be below: max(0, 1 − u). A viewer that fetches pieces in random order and leaves what is
//! late to the server takes 1 − u(1 − e^(−1/u)): a piece due at time t of the film's length has come of the swarm with
//! probability 1 − e^(−u…) only if drawn by then (the random-order assumption of the BitTorrent-assisted streaming literature).

use serde::Serialize;

use super::{ExperimentError, Findings, Plan, play, seed_of};
use crate::sim::film::FilmSpec;
use crate::sim::output::{Cell, Line, Plot, Scale, Table};
use crate::sim::scenario::{Group, Habits, Kind, OriginSpec, Scenario};

/// One row of `share.json`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// The swarm's rate, of the film's.
    pub u: f64,
    /// Bytes played that came of the server.
    pub server_share: f64,
    pub bound: f64,
    /// What random order would cost.
    pub random_order: f64,
    pub stalled_s: f64,
}

/// Ten seeds that bring `u` times a film of 2 Mbit/s together, and an origin that takes bids.
fn scenario(u: f64, seconds: f64) -> Scenario {
    let film = FilmSpec { len: (seconds * 250_000.0) as u64, seconds, ..FilmSpec::default() };
    let viewer = Group { name: "viewer".into(), kind: Kind::Viewer, up: 10.0, down: 50.0, ..Group::default() };
    let seeds = Group {
        name: "seeds".into(),
        kind: Kind::Peer,
        count: 10,
        up: u * 0.2,
        delay_ms: 5.0,
        delay_ms_most: 40.0,
        jitter_ms: 4.0,
        habits: Habits { unchoke_after: 0.1, ..Habits::default() },
        ..Group::default()
    };
    let origin = Some(OriginSpec { up: 20.0, bidding: true, ..OriginSpec::default() });
    Scenario { seconds: seconds * 1.2 + 20.0, film, origin, have_every: 0.1, ..Scenario::default() }
        .with(viewer)
        .with(seeds)
}

pub(super) fn random_order(u: f64) -> f64 {
    1.0 - u * (1.0 - (-1.0 / u).exp())
}

pub(super) fn shares(us: &[f64], seconds: f64, plan: &mut Plan) -> Result<Vec<Share>, ExperimentError> {
    let mut out = Vec::new();
    for (k, &u) in us.iter().enumerate() {
        let seed = seed_of(plan, k as u64);
        let (_, report) = play(&scenario(u, seconds), seed, &format!("share, u = {u}"), plan)?;
        let server: u64 = report.viewers().map(|(o, _)| o.totals.server).sum();
        out.push(Share {
            u,
            server_share: server as f64 / report.film_len as f64,
            bound: (1.0 - u).max(0.0),
            random_order: random_order(u),
            stalled_s: report.stalled(),
        });
    }
    Ok(out)
}

pub(super) fn run(plan: &mut Plan) -> Result<Findings, ExperimentError> {
    let us: &[f64] = if plan.quick { &[0.5, 1.0, 1.5, 2.0] } else { &[0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0] };
    let all = shares(us, if plan.quick { 300.0 } else { 600.0 }, plan)?;
    let mut table = Table::new("share", &["u", "server_share", "bound", "random_order", "stalled_s"]);
    for s in &all {
        let cells = [s.u, s.server_share, s.bound, s.random_order, s.stalled_s].map(|x| Cell::Number(x, 4));
        table.row(cells);
    }
    let curve = |f: &dyn Fn(f64) -> f64| (1..=100).map(|i| f64::from(i) * 0.02).map(|u| (u, f(u))).collect();
    let plot = Plot {
        name: "share".into(),
        title: "The server's part of one viewer's film".into(),
        x: ("swarm's rate ÷ film's rate".into(), Scale::Linear),
        y: ("share of bytes from the server".into(), Scale::Linear),
        lines: vec![
            Line::dots("measured", all.iter().map(|s| (s.u, s.server_share)).collect()),
            Line::solid("bound max(0, 1 − u)", curve(&|u| (1.0 - u).max(0.0))),
            Line::solid("random order", curve(&random_order)),
        ],
    };
    let json = serde_json::to_value(&all).unwrap_or_default();
    Ok(Findings { name: "share".into(), tables: vec![table], json, plots: vec![plot], remarks: Vec::new() })
}

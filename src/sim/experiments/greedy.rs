//! What it gains to bid ten times one's need: nothing, since a share is max-min fair and what is not needed is not fetched.
//!
//! A swarm that lacks upload, with an origin that has more than is lacking, and with one that has less, so that there is something
//! to fight over. Each world is run twice, with the same viewers: a tenth of them bids what it needs, then ten times that.

use serde_json::json;

use super::swarm::{MBIT_S, Swarm};
use super::{ExperimentError, Findings, Plan, play, seed_of};
use crate::sim::output::{Cell, Table};
use crate::sim::report::{Outcome, Report};
use crate::sim::scenario::{Group, Viewing};

/// What a viewer of a group got, on average.
struct Share {
    viewers: usize,
    /// Of the film's rate.
    server: f64,
    /// Seconds stalled per minute.
    stalled: f64,
}

fn share(r: &Report, of: impl Fn(&Outcome) -> bool) -> Share {
    let all: Vec<_> = r.viewers().filter(|(o, s)| of(o) && s.played + s.stalled > 0.0).collect();
    let bytes: u64 = all.iter().map(|(o, _)| o.totals.server).sum();
    let time: f64 = all.iter().map(|(_, s)| s.played + s.stalled).sum();
    let stalled: f64 = all.iter().map(|(_, s)| s.stalled).sum();
    Share {
        viewers: all.len(),
        server: bytes as f64 / (125_000.0 * MBIT_S) / time.max(1e-9),
        stalled: stalled / time.max(1e-9) * 60.0,
    }
}

pub(super) fn run(plan: &mut Plan) -> Result<Findings, ExperimentError> {
    let viewers = if plan.quick { 20 } else { 100 };
    let measured = if plan.quick { 90.0 } else { 300.0 };
    let columns = ["origin_streams", "a_tenth_bids_times", "who", "viewers", "server_share", "stalled_s_per_min"];
    let mut table = Table::new("greedy", &columns);
    let mut json = Vec::new();
    for (k, capacity) in [0.6, 0.2].into_iter().enumerate() {
        let origin = capacity * f64::from(viewers);
        let swarm = Swarm { viewers, mean_upload: 0.7, origin, warm: 0.0, measured, ..Swarm::default() };
        for greed in [1.0, 10.0] {
            let others = Group { count: viewers - viewers / 10, name: "others".into(), ..swarm.group() };
            let viewing = Viewing { greed, ..swarm.group().viewing };
            let tenth = Group { count: viewers / 10, name: "the tenth".into(), viewing, ..swarm.group() };
            let seed = seed_of(plan, k as u64);
            let what = format!("greedy, an origin of {origin} streams, bids times {greed}");
            let (_, report) = play(&swarm.world(vec![others, tenth]), seed, &what, plan)?;
            for name in ["others", "the tenth"] {
                let s = share(&report, |o| o.group == name);
                let n = |x, d| Cell::Number(x, d);
                let viewers = n(s.viewers as f64, 0);
                table.row([n(origin, 0), n(greed, 0), name.into(), viewers, n(s.server, 4), n(s.stalled, 3)]);
                json.push(json!({ "origin_streams": origin, "a_tenth_bids_times": greed, "who": name,
                                  "viewers": s.viewers, "server_share": s.server, "stalled_s_per_min": s.stalled }));
            }
        }
    }
    Ok(Findings { name: "greedy".into(), tables: vec![table], json: json.into(), ..Findings::default() })
}

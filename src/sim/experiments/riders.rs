//! What free riders cost: viewers who take and never give, 30 % of all.

use serde_json::json;

use super::swarm::{MBIT_S, Measured, Swarm};
use super::{ExperimentError, Findings, Plan, play, seed_of};
use crate::sim::output::{Cell, Table};
use crate::sim::report::Report;
use crate::sim::scenario::Group;

const RIDERS: f64 = 0.3;

/// The server's part of what a group watched, and its stalls in seconds per hour.
fn of(r: &Report, group: &str) -> (f64, f64) {
    let all: Vec<_> = r.viewers().filter(|(o, _)| o.group == group).collect();
    let played: f64 = all.iter().map(|(_, s)| s.played).sum();
    let stalled: f64 = all.iter().map(|(_, s)| s.stalled).sum();
    let server: u64 = all.iter().map(|(o, _)| o.totals.server).sum();
    (server as f64 / (125_000.0 * MBIT_S) / played.max(1e-9), stalled / (played + stalled).max(1e-9) * 3600.0)
}

pub(super) fn run(plan: &mut Plan) -> Result<Findings, ExperimentError> {
    let viewers = if plan.quick { 20 } else { 100 };
    let (warm, measured) = if plan.quick { (40.0, 60.0) } else { (150.0, 300.0) };
    let mut table = Table::new(
        "riders",
        &[
            "mean_upload",
            "riders",
            "server_streams",
            "givers_server_share",
            "riders_server_share",
            "givers_stalled_s_per_h",
            "riders_stalled_s_per_h",
        ],
    );
    let mut json = Vec::new();
    for (k, mean_upload) in [1.0, 1.4].into_iter().enumerate() {
        for share in [0.0, RIDERS] {
            let swarm = Swarm { viewers, mean_upload, warm, measured, ..Swarm::default() };
            let ride = (f64::from(viewers) * share).round() as u32;
            let givers = Group { count: viewers - ride, name: "givers".into(), ..swarm.group() };
            let riders = Group { count: ride, rides: true, name: "riders".into(), ..swarm.group() };
            let mut groups = vec![givers];
            groups.extend((ride > 0).then_some(riders));
            let what = format!("riders, {ride} of {viewers}, upload {mean_upload}");
            let (counts, report) = play(&swarm.world(groups), seed_of(plan, k as u64), &what, plan)?;
            let m = Measured::of(&counts, warm);
            let ([give, give_s], [takes, takes_s]) =
                (<[f64; 2]>::from(of(&report, "givers")), <[f64; 2]>::from(of(&report, "riders")));
            let n = Cell::Number;
            let some = |x, d| if ride > 0 { n(x, d) } else { Cell::Nothing };
            table.row([
                n(mean_upload, 1),
                n(share, 1),
                n(m.server + m.opening, 2),
                n(give, 4),
                some(takes, 4),
                n(give_s, 1),
                some(takes_s, 1),
            ]);
            json.push(json!({ "mean_upload": mean_upload, "riders": share, "server_streams": m.server + m.opening,
                              "givers_server_share": give, "riders_server_share": takes,
                              "givers_stalled_s_per_h": give_s, "riders_stalled_s_per_h": takes_s }));
        }
    }
    Ok(Findings { name: "riders".into(), tables: vec![table], json: json.into(), ..Findings::default() })
}

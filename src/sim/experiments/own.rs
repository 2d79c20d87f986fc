//! A scenario of the user's: what each viewer saw, and how the swarm fared over time.

use serde_json::json;

use super::{ExperimentError, Findings, Plan, play};
use crate::sim::output::{Cell, Line, Plot, Scale, Table};
use crate::sim::scenario::Scenario;

/// Runs a scenario.
///
/// # Errors
/// When it asks for the impossible, or was ended before it was over.
pub fn own(name: &str, scenario: &Scenario, plan: &mut Plan) -> Result<Findings, ExperimentError> {
    let seed = plan.seed;
    let (counts, report) = play(scenario, seed, name, plan)?;
    let mut viewers = Table::new(
        &format!("{name}-viewers"),
        &[
            "node",
            "group",
            "up_mbit",
            "first_s",
            "started_s",
            "seeks",
            "seek_mean_s",
            "stalls",
            "stalled_s",
            "played_s",
            "swarm_bytes",
            "server_bytes",
            "duplicate_bytes",
            "sent_bytes",
            "ended",
        ],
    );
    viewers.long = true;
    let n = Cell::Number;
    let maybe = |x: Option<f64>| x.map_or(Cell::Nothing, |x| n(x, 3));
    for (o, s) in report.viewers() {
        let seeks = s.seeks.len();
        viewers.row([
            u64::from(o.node).into(),
            o.group.as_str().into(),
            n(o.up / 125_000.0, 3),
            maybe(s.first),
            maybe(s.started),
            (seeks as u64).into(),
            maybe((seeks > 0).then(|| s.seeks.iter().sum::<f64>() / seeks as f64)),
            u64::from(s.stalls).into(),
            n(s.stalled, 3),
            n(s.played, 3),
            o.totals.swarm.into(),
            o.totals.server.into(),
            o.totals.duplicate.into(),
            o.totals.uploaded.into(),
            u64::from(s.ended).into(),
        ]);
    }
    let mut time = Table::new(
        &format!("{name}-time"),
        &["second", "present", "watching", "stalled", "capacity_mbit", "swarm_mbit", "server_mbit", "duplicate_mbit"],
    );
    time.long = true;
    let mbit = |bytes: u64| bytes as f64 / 125_000.0;
    let (mut swarm, mut server, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    let rate = report.film_len as f64 / 125_000.0 / scenario.film.seconds;
    for pair in counts.windows(2) {
        let [a, b] = pair else { continue };
        let at = b.at.as_secs_f64();
        swarm.push((at, mbit(b.swarm - a.swarm)));
        server.push((at, mbit(b.server - a.server)));
        wanted.push((at, f64::from(b.watching) * rate));
        let count = |x: u32| Cell::from(u64::from(x));
        time.row([
            n(at, 0),
            count(b.present),
            count(b.watching),
            count(b.stalled),
            n(b.capacity / 125_000.0, 3),
            n(mbit(b.swarm - a.swarm), 3),
            n(mbit(b.server - a.server), 3),
            n(mbit(b.duplicate - a.duplicate), 3),
        ]);
    }
    let t = report.totals();
    let ended = report.viewers().filter(|(_, s)| s.ended).count();
    let json = json!({
        "viewers": report.viewers().count(), "ended": ended, "seconds": report.seconds, "seed": seed,
        "swarm_bytes": t.swarm, "server_bytes": t.server, "duplicate_bytes": t.duplicate,
        "server_share": report.server_share(), "duplicate_share": report.duplicate_share(),
        "stalled_s": report.stalled(), "faults": report.faults,
    });
    let plot = Plot {
        name: name.to_owned(),
        title: format!("{name}: who carried it"),
        x: ("seconds".into(), Scale::Linear),
        y: ("Mbit/s".into(), Scale::Linear),
        lines: vec![
            Line::solid("played", wanted),
            Line::solid("from the swarm", swarm),
            Line::solid("from the server", server),
        ],
    };
    let remarks = report.to_string().lines().map(str::to_owned).collect();
    Ok(Findings { name: name.to_owned(), tables: vec![viewers, time], json, plots: vec![plot], remarks })
}

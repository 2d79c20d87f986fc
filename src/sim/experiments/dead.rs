//! What it costs when the origin dies: nothing where the swarm suffices, and where it does not, what the swarm lacks.
//!
//! The swarm has one seed, of the film's rate. Viewers go at the film's end, so that of its last pieces there are few copies and at times
//! none but the origin's; a piece that went with it would be missed by everybody for good, whatever the upload is.

use serde_json::json;

use super::swarm::{MBIT_S, Measured, Swarm};
use super::{ExperimentError, Findings, Plan, play, seed_of};
use crate::sim::output::{Cell, Line, Plot, Scale, Table};
use crate::sim::scenario::{Group, Kind};

pub(super) fn run(plan: &mut Plan) -> Result<Findings, ExperimentError> {
    let (viewers, warm, measured) = if plan.quick { (20, 60.0, 60.0) } else { (100, 150.0, 300.0) };
    let mut table =
        Table::new("dead", &["usable_upload", "stalled_s_per_h_before", "stalled_s_per_h_after", "served_before"]);
    let (mut json, mut lines) = (Vec::new(), Vec::new());
    for (k, usable) in [1.4, 1.0, 0.7].into_iter().enumerate() {
        let swarm = Swarm { viewers, mean_upload: usable / 0.97, warm, measured, ..Swarm::default() };
        let mut world = swarm.world(vec![swarm.group(), seed()]);
        if let Some(o) = &mut world.origin {
            o.dies = warm;
        }
        let (counts, _) = play(&world, seed_of(plan, k as u64), &format!("dead, usable upload {usable}"), plan)?;
        let alive: Vec<_> = counts.iter().filter(|c| c.at.as_secs_f64() <= warm).copied().collect();
        let (before, after) = (Measured::of(&alive, warm / 2.0), Measured::of(&counts, warm));
        let n = Cell::Number;
        table.row([n(usable, 1), n(before.stalled, 1), n(after.stalled, 1), n(before.server + before.opening, 2)]);
        json.push(json!({ "usable_upload": usable, "stalled_s_per_h_before": before.stalled,
                          "stalled_s_per_h_after": after.stalled, "server_streams_before": before.server + before.opening }));
        let points =
            counts.iter().map(|c| (c.at.as_secs_f64(), 100.0 * f64::from(c.stalled) / f64::from(c.present.max(1))));
        lines.push(Line::solid(&format!("usable upload {usable}"), points.collect()));
    }
    let plot = Plot {
        name: "dead".into(),
        title: format!("The origin dies after {warm} s"),
        x: ("seconds".into(), Scale::Linear),
        y: ("% of viewers stalled".into(), Scale::Linear),
        lines,
    };
    Ok(Findings {
        name: "dead".into(),
        tables: vec![table],
        json: json.into(),
        plots: vec![plot],
        ..Findings::default()
    })
}

/// It keeps each piece of the film in the swarm.
fn seed() -> Group {
    Group {
        name: "seed".into(),
        kind: Kind::Seed,
        count: 1,
        up: MBIT_S,
        down: 20.0 * MBIT_S,
        links: 25,
        ..Group::default()
    }
}

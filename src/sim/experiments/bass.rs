//! BASS's comparison (Dana, Li, Harrison, Chuah: "BASS: BitTorrent Assisted Streaming System for Video-on-Demand", MMSP 2005): a
//! server alone, BitTorrent alone, and the two together. Theirs needed 34 % less of the server than the server alone, and 27 %
//! less waiting; 10 % less waiting than BitTorrent alone.
//!
//! The paper gives its setting in words only. Assumed here: viewers come at random over one film's length, 60 at a time on
//! average, with the asymmetric lines of the time (uplinks a fifth to four fifths of the film's rate, half on average), and
//! go at the end; the server's line carries 40 of them. "BitTorrent alone" is the same server as a seed like any other.

use serde_json::json;

use super::swarm::{FILM_S, MBIT_S, Swarm};
use super::{ExperimentError, Findings, Plan, play, seed_of};
use crate::sim::output::{Cell, Table};
use crate::sim::report::Report;
use crate::sim::scenario::{Group, Kind, Scenario};

struct Row {
    name: &'static str,
    /// Bytes of the server for each byte watched.
    server: f64,
    /// Seconds a viewer waited: for the start, and in stalls, on average.
    start: f64,
    stalled: f64,
}

impl Row {
    fn of(name: &'static str, r: &Report) -> Self {
        let t = r.totals();
        // What a seed sent is the server's; the swarm's bytes came of it or of viewers.
        let seeds: u64 = r.outcomes.iter().filter(|o| o.seen.is_none()).map(|o| o.totals.uploaded).sum();
        let came: Vec<_> = r.viewers().filter_map(|(_, s)| Some((s.started?, s.stalled))).collect();
        let n = came.len().max(1) as f64;
        Self {
            name,
            server: (t.server + seeds) as f64 / (t.server + t.swarm - t.duplicate).max(1) as f64,
            start: came.iter().map(|c| c.0).sum::<f64>() / n,
            stalled: came.iter().map(|c| c.1).sum::<f64>() / n,
        }
    }

    fn wait(&self) -> f64 {
        self.start + self.stalled
    }
}

fn worlds(viewers: u32, quick: bool) -> [(&'static str, Scenario); 3] {
    let swarm = Swarm {
        viewers,
        mean_upload: 0.5,
        origin: f64::from(viewers) * 2.0 / 3.0,
        warm: 0.0,
        measured: if quick { 60.0 } else { 2.0 * FILM_S },
        ..Swarm::default()
    };
    let crowd = Group { steady: false, poisson: true, over: swarm.measured, ..swarm.group() };
    let count = (f64::from(viewers) * swarm.measured / FILM_S).ceil() as u32;
    let crowd = Group { count, ..crowd };
    let hybrid = swarm.world(vec![crowd.clone()]);
    let alone = swarm.world(vec![Group { rides: true, ..crowd.clone() }]);
    let seed = Group {
        name: "server".into(),
        kind: Kind::Seed,
        up: swarm.origin * MBIT_S,
        down: 100.0,
        delay_ms: 10.0,
        ..Group::default()
    };
    let mut torrent = swarm.world(vec![crowd, seed]);
    torrent.origin = None;
    [("server alone", alone), ("BitTorrent alone", torrent), ("sluicegate", hybrid)]
}

pub(super) fn run(plan: &mut Plan) -> Result<Findings, ExperimentError> {
    let viewers = if plan.quick { 12 } else { 60 };
    let seed = seed_of(plan, 0);
    let mut rows = Vec::new();
    for (name, scenario) in worlds(viewers, plan.quick) {
        let (_, report) = play(&scenario, seed, &format!("bass, {name}"), plan)?;
        rows.push(Row::of(name, &report));
    }
    let less = |x: f64, than: f64| 100.0 * (x / than.max(1e-9) - 1.0);
    let mut table =
        Table::new("bass", &["what", "server_share", "start_s", "stalled_s", "server_change_pct", "wait_change_pct"]);
    let (server, wait) = (rows[0].server, rows[0].wait());
    for r in &rows {
        let n = |x| Cell::Number(x, 3);
        let change = |x| Cell::Number(x, 1);
        table.row([
            r.name.into(),
            n(r.server),
            n(r.start),
            n(r.stalled),
            change(less(r.server, server)),
            change(less(r.wait(), wait)),
        ]);
    }
    let nothing = || Cell::Nothing;
    table.row([
        "BASS (as published)".into(),
        nothing(),
        nothing(),
        nothing(),
        Cell::Number(-34.0, 1),
        Cell::Number(-27.0, 1),
    ]);
    let json = rows
        .iter()
        .map(|r| {
            json!({ "what": r.name, "server_share": r.server, "start_s": r.start, "stalled_s": r.stalled,
                    "server_change": r.server / server.max(1e-9) - 1.0, "wait_change": r.wait() / wait.max(1e-9) - 1.0 })
        })
        .collect();
    Ok(Findings { name: "bass".into(), tables: vec![table], json, ..Findings::default() })
}

//! The two laws: what a server carries for N viewers whose usable upload is below, at, and above what they watch.
//!
//! *Usable* is mean upload × utilisation, in units of what is asked of the swarm. Utilisation is what was of use (bytes that did not
//! come twice) of the upload that viewers had while the swarm wanted more; what is asked is the film's rate less what the server
//! sends in openings (below). In a swarm that lasts, what lies ahead of the clocks neither grows nor shrinks on average, so that
//!
//! > server = N × asked − N × mean × utilisation
//!
//! whatever the engine does: of a thousand viewers an error of 2 % in either is twenty streams, where balance is to show six. So
//! both are measured in a world of the same size and about the same uplinks, and the worlds of the law given the mean upload that
//! makes theirs usable as told ([`Balance`]).
//!
//! A world must also begin as it goes on. Peers give to those who give, so that who has much upload has his film long before its
//! end, and only then sends all of it to those who have little: until then these lean on the server, however well the whole is
//! balanced. A swarm in which all begin with the same few seconds ahead grows this reserve (a minute for each viewer) over
//! several films, at the server's expense and in proportion to N: 20 streams of a thousand viewers still after two films. So
//! viewers who are there at the start have what their uplinks earned them ([`EARNED`]).
//!
//! Then the shortfall of N random uplinks grows as √N ("squares capacity": a server for n viewers serves about n²), and with
//! upload to spare there is none ("O(1) servers"). What the server sends a viewer in the first fifteen seconds after it came is
//! the price of a start that waits for nobody, as much for each, and stands beside the law in a column of its own.

use serde::Serialize;

use super::swarm::{FILM_S, MEASURED_S, Measured, Swarm, WARM_S};
use super::{ExperimentError, Findings, Plan, seed_of};
use crate::sim::fluid::Fluid;
use crate::sim::output::{Cell, Line, Plot, Scale, Table};

/// Loads below one stream count as one where a slope is fitted: there is no half a server, and no logarithm of none.
const LEAST: f64 = 1.0;
/// Usable uploads, and the slopes they should have.
const LAWS: [(f64, f64); 3] = [(0.7, 1.0), (1.0, 0.5), (1.4, 0.0)];
/// The law at which chance is all there is: it takes more worlds, in pairs with mirrored uplinks.
const BALANCED: usize = 1;
/// Viewers in worlds of real engines, how many worlds of each, and how many at balance; half a decade between them.
const REAL: [(u32, u32, u32); 7] =
    [(10, 12, 24), (32, 6, 16), (100, 3, 12), (316, 2, 6), (1_000, 1, 4), (3_162, 1, 2), (10_000, 1, 2)];
const QUICK: [(u32, u32, u32); 2] = [(10, 4, 4), (32, 2, 2)];
/// Who is there at the start has, by law, so many seconds of film ahead on average, and with more than the film's rate up what it was
/// served at so many times its uplink besides. In worlds that ran for five films of 300 s the reserve settled at 60 to 100 s for
/// each viewer at balance: who has 1.6 times the rate has his film after a fifth of it. With 0.7 usable a thousand viewers came from 57 s
/// to 25 in 450 s, and from 28 to 23.5 in 210.
const RESERVES: [(f64, f64); 3] = [(4.0, 1.44), (15.0, 3.0), (15.0, 3.0)];
/// Viewers in the fluid, and runs of each.
const FLUID: [(f64, u32); 6] =
    [(10.0, 400), (100.0, 400), (1_000.0, 200), (10_000.0, 60), (100_000.0, 24), (1_000_000.0, 8)];
/// Real worlds are no larger unless asked for: those of up to a thousand viewers take a quarter of an hour of two cores in all.
const MOST: u32 = 1_000;
/// Beyond, worlds run for so many seconds before they are measured, and are measured for so long: chance weighs less the more viewers
/// there are, and a second of ten thousand takes longer than it is. After 100 s all have found their peers: until then the server
/// stands in, for 60 of a thousand at first.
const LARGE_WARM_S: f64 = 120.0;
const LARGE_MEASURED_S: f64 = 90.0;

/// One law, of `laws.json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Law {
    pub usable_upload: f64,
    /// Of log(server streams) over log(viewers).
    pub slope: f64,
    pub points: Vec<Point>,
}

/// One number of viewers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    pub viewers: f64,
    pub mean_upload: f64,
    pub utilisation: f64,
    /// Past the viewers' first fifteen seconds.
    pub server_streams: f64,
    /// In them.
    pub opening_streams: f64,
    /// `real` or `fluid`.
    pub engine: &'static str,
    #[serde(skip)]
    stalled: f64,
    #[serde(skip)]
    duplicates: f64,
    #[serde(skip)]
    beside: f64,
}

/// What makes a mean upload usable as told: measured, and the next world made by it.
#[derive(Debug, Clone, Copy)]
struct Balance {
    utilisation: f64,
    /// What is asked of the swarm, of the film's rate.
    asked: f64,
}

impl Balance {
    /// Of a swarm of which nothing is known yet.
    const GUESS: Self = Self { utilisation: 0.975, asked: 0.97 };

    fn of(m: &Measured) -> Self {
        Self { utilisation: m.utilisation().clamp(0.5, 1.0), asked: m.asked().clamp(0.5, 1.0) }
    }

    /// The mean upload of which so much is usable.
    fn mean_upload(self, usable: f64) -> f64 {
        usable * self.asked / self.utilisation
    }
}

/// The slope of a line of least squares through the logarithms.
pub(super) fn slope(points: &[(f64, f64)]) -> f64 {
    let logs: Vec<(f64, f64)> =
        points.iter().filter(|p| p.0 > 0.0).map(|p| (p.0.log10(), p.1.max(LEAST).log10())).collect();
    let n = logs.len().max(1) as f64;
    let [x, y] = [logs.iter().map(|p| p.0).sum::<f64>() / n, logs.iter().map(|p| p.1).sum::<f64>() / n];
    let over: f64 = logs.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let under: f64 = logs.iter().map(|p| (p.0 - x) * (p.0 - x)).sum();
    if under > 0.0 { over / under } else { 0.0 }
}

/// So many worlds of one size and mean upload.
fn worlds(
    viewers: u32,
    law: usize,
    count: u32,
    mean_upload: f64,
    plan: &mut Plan,
) -> Result<Measured, ExperimentError> {
    let mut all = Vec::new();
    for world in 0..count {
        // Those of a pair have their seed in common.
        let (pair, mirrored) = if law == BALANCED { (world / 2, world % 2 == 1) } else { (world, false) };
        let (warm, measured) = if viewers > MOST { (LARGE_WARM_S, LARGE_MEASURED_S) } else { (WARM_S, MEASURED_S) };
        let (usable, (ahead, earned)) =
            LAWS.get(law).zip(RESERVES.get(law)).map_or((0.0, (0.0, 0.0)), |(l, r)| (l.0, *r));
        let swarm = Swarm { viewers, mean_upload, ahead, earned, mirrored, warm, measured, ..Swarm::default() };
        let what = format!("{viewers} viewers, usable upload {usable}, world {} of {count}", world + 1);
        let seed = seed_of(plan, u64::from(viewers) << 16 | u64::from(pair) << 4 | law as u64);
        all.push(swarm.measure(seed, &what, plan)?.0);
    }
    Ok(Measured::mean(&all))
}

/// The real engine: one row for each usable upload.
fn real(viewers: u32, counts: (u32, u32), plan: &mut Plan) -> Result<Vec<Point>, ExperimentError> {
    let mut balance = Balance::GUESS;
    let mut out = Vec::new();
    for (law, (usable, _)) in LAWS.into_iter().enumerate() {
        let mut count = counts.0;
        if law == BALANCED {
            // Openings, too, are others with enough upload: the first pair only tells what there is to balance.
            balance = Balance::of(&worlds(viewers, law, 2.min(counts.1), balance.mean_upload(usable), plan)?);
            count = counts.1;
        }
        let mean_upload = balance.mean_upload(usable);
        let m = worlds(viewers, law, count, mean_upload, plan)?;
        balance = if law == BALANCED { balance } else { Balance::of(&m) };
        out.push(Point {
            viewers: f64::from(viewers),
            mean_upload,
            utilisation: m.utilisation(),
            server_streams: m.server,
            opening_streams: m.opening,
            engine: "real",
            stalled: m.stalled,
            duplicates: m.duplicates,
            beside: m.fluid,
        });
    }
    Ok(out)
}

fn fluid(viewers: f64, runs: u32, usable: f64, plan: &Plan) -> Point {
    let model =
        Fluid { viewers, mean_upload: usable, utilisation: 1.0, film: FILM_S, warm: WARM_S, measured: MEASURED_S };
    let flow = model.mean(seed_of(plan, viewers.to_bits() ^ usable.to_bits()), runs);
    Point {
        viewers,
        mean_upload: usable,
        utilisation: 1.0,
        server_streams: flow.server,
        opening_streams: 0.0,
        engine: "fluid",
        stalled: 0.0,
        duplicates: 0.0,
        beside: 0.0,
    }
}

pub(super) fn laws(plan: &mut Plan) -> Result<Vec<Law>, ExperimentError> {
    let most = if plan.most > 0 { plan.most } else { MOST };
    let sizes: &[(u32, u32, u32)] = if plan.quick { &QUICK } else { &REAL };
    let mut laws: Vec<Law> = LAWS
        .iter()
        .map(|(usable_upload, _)| Law { usable_upload: *usable_upload, slope: 0.0, points: Vec::new() })
        .collect();
    for (viewers, few, many) in sizes.iter().copied().filter(|s| s.0 <= most) {
        let points = real(viewers, (few, many), plan)?;
        laws.iter_mut().zip(points).for_each(|(law, p)| law.points.push(p));
    }
    for (viewers, runs) in FLUID {
        plan.monitor.progress(&format!("a fluid of {viewers} viewers"), 0.0);
        for law in &mut laws {
            let runs = if plan.quick { runs.div_ceil(8) } else { runs };
            law.points.push(fluid(viewers, runs, law.usable_upload, plan));
        }
        if plan.monitor.stopped() {
            return Err(ExperimentError::Stopped);
        }
    }
    for law in &mut laws {
        // Where both were run the real engine counts.
        let largest = law.points.iter().filter(|p| p.engine == "real").map(|p| p.viewers).fold(0.0, f64::max);
        let counts = |p: &&Point| p.engine == "real" || p.viewers > largest;
        let points: Vec<(f64, f64)> = law.points.iter().filter(counts).map(|p| (p.viewers, p.server_streams)).collect();
        law.slope = slope(&points);
    }
    Ok(laws)
}

pub(super) fn run(plan: &mut Plan) -> Result<Findings, ExperimentError> {
    let laws = laws(plan)?;
    let mut table = Table::new(
        "laws",
        &[
            "usable_upload",
            "engine",
            "viewers",
            "mean_upload",
            "utilisation",
            "server_streams",
            "opening_streams",
            "fluid_beside",
            "duplicates",
            "stalled_s_per_h",
        ],
    );
    let mut slopes = Table::new("slopes", &["usable_upload", "slope", "law", "real_engine_alone"]);
    let mut lines = Vec::new();
    for (law, (_, says)) in laws.iter().zip(LAWS) {
        for p in &law.points {
            let number = |x, d| Cell::Number(x, d);
            let real = p.engine == "real";
            table.row([
                number(law.usable_upload, 1),
                p.engine.into(),
                number(p.viewers, 0),
                number(p.mean_upload, 4),
                number(p.utilisation, 4),
                number(p.server_streams, 3),
                if real { number(p.opening_streams, 3) } else { Cell::Nothing },
                if real { number(p.beside, 3) } else { Cell::Nothing },
                if real { number(p.duplicates, 4) } else { Cell::Nothing },
                if real { number(p.stalled, 2) } else { Cell::Nothing },
            ]);
        }
        let of = |engine: &str| -> Vec<(f64, f64)> {
            law.points.iter().filter(|p| p.engine == engine).map(|p| (p.viewers, p.server_streams.max(0.1))).collect()
        };
        let cells = [law.usable_upload, law.slope, says, slope(&of("real"))].map(|x| Cell::Number(x, 2));
        slopes.row(cells);
        lines.push(Line::dots(&format!("usable {}: real engines", law.usable_upload), of("real")));
        lines.push(Line::solid(&format!("usable {}: fluid, slope {:.2}", law.usable_upload, law.slope), of("fluid")));
    }
    let plot = Plot {
        name: "laws".into(),
        title: "What the server carries for N viewers (past their first 15 s)".into(),
        x: ("viewers".into(), Scale::Log),
        y: ("streams from the server".into(), Scale::Log),
        lines,
    };
    let remarks = vec![
        "Slopes are fitted over real worlds, and over the fluid beyond the largest of them; a load below one stream counts as one.".into(),
    ];
    let json = serde_json::to_value(&laws).unwrap_or_default();
    Ok(Findings { name: "laws".into(), tables: vec![table, slopes], json, plots: vec![plot], remarks })
}

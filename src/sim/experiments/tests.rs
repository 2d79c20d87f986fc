//! What experiments must find, at a size that tests can afford, and that they find the same each time.

use super::share::{random_order, shares};
use super::swarm::Swarm;
use super::{Experiment, Plan, own};
use crate::sim::fluid::Fluid;
use crate::sim::scenario::Scenario;

fn plan(monitor: &mut ()) -> Plan<'_> {
    Plan { seed: 1, quick: true, most: 0, monitor }
}

#[test]
fn one_viewer_takes_of_the_server_what_its_swarm_lacks() {
    for s in shares(&[0.25, 0.5, 1.0, 1.5, 2.0], 400.0, &mut plan(&mut ())).unwrap() {
        assert!(s.server_share <= s.bound + 0.05 && s.stalled_s == 0.0, "{s:?}");
        // With a quarter of the rate nearly all of what comes in random order is in time as well.
        assert!(s.server_share < s.random_order || s.u < 0.5, "{s:?}");
    }
}

#[test]
fn random_order_costs_what_the_literature_says() {
    assert!((random_order(1.0) - 0.368).abs() < 0.001 && (random_order(1.5) - 0.270).abs() < 0.001);
}

#[test]
fn a_swarm_short_of_upload_puts_nearly_all_of_it_to_use_as_the_fluid_says() {
    let swarm = Swarm { viewers: 30, mean_upload: 0.7, warm: 150.0, measured: 150.0, ..Swarm::default() };
    let (m, _) = swarm.measure(5, "", &mut plan(&mut ())).unwrap();
    assert!(m.utilisation() > 0.9 && m.duplicates < 0.03, "{m:?}");
    let fluid = Fluid {
        viewers: m.watching,
        mean_upload: m.capacity / m.watching,
        utilisation: m.utilisation(),
        film: super::swarm::FILM_S,
        warm: 150.0,
        measured: 300.0,
    };
    let flow = fluid.mean(1, 50);
    let (real, model) = ((m.server + m.opening) / m.watching, flow.server / flow.watching);
    assert!((real - model).abs() < 0.12, "{real} of the film's rate per viewer, {model} by the fluid: {m:?}");
}

#[test]
fn the_same_seed_gives_the_same_files() {
    let files = |seed| {
        let mut monitor = ();
        let mut plan = Plan { seed, quick: true, most: 0, monitor: &mut monitor };
        let f = Experiment::Share.run(&mut plan).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let paths = crate::sim::output::write(&f, dir.path()).unwrap();
        paths.iter().map(|p| std::fs::read(p).unwrap()).collect::<Vec<_>>()
    };
    let first = files(3);
    assert_eq!(first.len(), 3, "CSV, JSON, SVG");
    assert!(first == files(3), "two runs of one seed differ");
    assert!(first != files(4), "two seeds give the same");
}

#[test]
fn the_example_scenarios_run() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "toml") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut scenario = Scenario::from_toml(&std::fs::read_to_string(&path).unwrap()).unwrap();
        // As they are they take a while; the first seconds of a tenth of the viewers show that they run.
        scenario.seconds = 15.0;
        scenario.groups.iter_mut().for_each(|g| g.count = g.count.div_ceil(5));
        let f = own(&name, &scenario, &mut plan(&mut ())).unwrap();
        assert_eq!(f.json["faults"].as_array().map(Vec::len), Some(0), "{name}: {}", f.json);
        assert!(f.json["viewers"].as_u64() > Some(0), "{name}");
        names.push(name);
    }
    names.sort();
    assert_eq!(names, ["dead-origin", "flash-crowd", "free-riders", "steady-state"]);
}

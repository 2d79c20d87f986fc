//! The engine in worlds: named ones with what must come of them, made-up ones in which nothing may go wrong, and the world's own
//! laws.

mod chance;
mod forecasts;
mod laws;
mod worlds;

use super::{Options, Report, Scenario, Trace, World, catalogue};

/// Plays the world to its end with all watchers on, and with the engine's own check after each so many calls.
fn play(scenario: &Scenario, seed: u64, check_every: u64) -> Report {
    let options = Options { seed, watch: true, check_every, record: true, ..Options::default() };
    let mut world = World::new(scenario, options).unwrap();
    world.run();
    world.finish()
}

/// A named world; whatever was found wrong fails the test.
fn named(name: &str, seed: u64) -> Report {
    let r = play(&catalogue::named(name).unwrap(), seed, 8);
    println!("{name}, seed {seed}\n{r}");
    assert_eq!(r.faults, Vec::<String>::new(), "{name}, seed {seed}");
    assert!(r.viewers().all(|(_, s)| s.false_bytes == 0), "{name}, seed {seed}: false bytes were shown");
    r
}

fn traced(scenario: &Scenario, seed: u64, trace: Trace) -> World {
    let mut world = World::new(scenario, Options { seed, trace, ..Options::default() }).unwrap();
    world.run();
    world
}

//! Plays one world and prints what came of it: `cargo run --release --example world -- NAME|FILE.toml [SEED [RUNS]]`.
//!
//! The sum at the end of each run is that of its whole trace: the same scenario, seed and engine give the same sum everywhere.

use std::process::ExitCode;
use std::time::Instant;

use sluicegate::sim::{Options, Scenario, Trace, World, catalogue};

fn load(name: &str) -> Result<Scenario, String> {
    if let Some(s) = catalogue::named(name) {
        return Ok(s);
    }
    let text = std::fs::read_to_string(name)
        .map_err(|e| format!("{name} is neither a file ({e}) nor one of {}", catalogue::NAMES.join(", ")))?;
    Scenario::from_toml(&text).map_err(|e| e.to_string())
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(name) = args.next() else {
        println!("world NAME|FILE.toml|all [SEED [RUNS]]\nnames: {}", catalogue::NAMES.join(", "));
        return ExitCode::from(2);
    };
    let mut number = |or: u64| args.next().and_then(|a| a.parse().ok()).unwrap_or(or);
    let (seed, runs) = (number(1), number(1));
    let text = std::env::var_os("WORLD_TRACE").is_some();
    let names: Vec<&str> = if name == "all" { catalogue::NAMES.to_vec() } else { vec![name.as_str()] };
    for name in names {
        for seed in seed..seed + runs {
            let trace = if text { Trace::text() } else { Trace::sum() };
            let options = Options { seed, watch: true, check_every: 16, record: true, trace, ..Options::default() };
            let world = load(name).and_then(|s| World::new(&s, options).map_err(|e| e.to_string()));
            let mut world = match world {
                Ok(world) => world,
                Err(e) => {
                    eprintln!("{e}");
                    return ExitCode::from(2);
                }
            };
            let began = Instant::now();
            world.run();
            let sum = world.trace().total();
            if let Trace::Text(lines) = world.trace() {
                print!("{lines}");
            }
            println!("== {name}, seed {seed}\n{}", world.finish());
            let (sum, lines) = sum.unwrap_or_default();
            println!("trace of {lines} lines, sum {sum:016x}; took {:.2} s\n", began.elapsed().as_secs_f64());
        }
    }
    ExitCode::SUCCESS
}

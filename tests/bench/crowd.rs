//! A crowd in virtual time: a steady population of viewers, each with the real engine, and a bidding origin.
//!
//! `cargo bench --no-default-features --bench crowd -- [VIEWERS [SECONDS [THREADS [SEED]]]]`; 10,000 viewers for 600 s are held to ten
//! minutes on two cores and 8 GB. The sum at the end is that of the figures: the same on any number of threads.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Instant as Clock;

use sluicegate::sim::{FilmSpec, Group, Kind, Options, OriginSpec, Scenario, Viewing, World};
use sluicegate::units::Instant;

/// Half a megabit a second for five minutes: films are cut into 16 KiB blocks whatever their rate, so that a higher one makes
/// the world slower and no different.
const RATE: f64 = 0.5;
const FILM: f64 = 300.0;

fn scenario(viewers: u32, seconds: f64) -> Scenario {
    let film = FilmSpec {
        len: (RATE * 125_000.0 * FILM) as u64,
        seconds: FILM,
        piece: 128 * 1024,
        picture: 32 * 1024,
        probe: 16 * 1024,
        ..FilmSpec::default()
    };
    let origin = OriginSpec { up: f64::from(viewers) * RATE, delay_ms: 25.0, bidding: true, ..OriginSpec::default() };
    let group = Group {
        name: "viewers".into(),
        kind: Kind::Viewer,
        count: viewers,
        up: 0.4 * RATE,
        up_most: 1.6 * RATE,
        either: true,
        down: 20.0 * RATE,
        delay_ms: 25.0,
        delay_ms_most: 75.0,
        steady: true,
        links: 20,
        viewing: Viewing { leaves: true, ahead: 10.0, ..Viewing::default() },
        ..Group::default()
    };
    Scenario { seconds, film, have_every: 1.0, tick: 0.5, origin: Some(origin), ..Scenario::default() }.with(group)
}

/// Seconds of processor time of this process so far, and the most memory it held, MB; zeros where the system does not say.
fn used() -> (f64, f64) {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let stat = read("stat");
    let fields: Vec<f64> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().map(|f| f.parse().unwrap_or(0.0)).collect();
    // In ticks of a hundredth of a second, as Linux gives them on all machines.
    let cpu = fields.iter().skip(11).take(2).sum::<f64>() / 100.0;
    let status = read("status");
    let most = status.lines().find_map(|l| l.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse::<f64>().ok());
    (cpu, most.unwrap_or(0.0) / 1024.0)
}

fn main() {
    let numbers: Vec<f64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let number = |i: usize, or: f64| numbers.get(i).copied().unwrap_or(or);
    let (viewers, seconds) = (number(0, 1000.0) as u32, number(1, 60.0));
    let options = Options { threads: number(2, 2.0) as usize, seed: number(3, 1.0) as u64, ..Options::default() };
    let mut world = World::new(&scenario(viewers, seconds), options).unwrap();
    let (began, before) = (Clock::now(), used().0);
    for part in 1..=10 {
        world.run_until(Instant::from_secs_f64(seconds * f64::from(part) / 10.0));
        let (cpu, memory) = used();
        let (at, wall) = (world.now().as_secs_f64(), began.elapsed().as_secs_f64());
        println!("{at:.0} s of {viewers} viewers: {wall:.1} s, processor {:.1} s, {memory:.0} MB", cpu - before);
    }
    let cpu = used().0 - before;
    let each = cpu / seconds / f64::from(viewers) * 1e6;
    println!("{:.3} s of a processor for each second, {each:.0} µs for each viewer and second", cpu / seconds);
    println!("{}", world.finish());
}

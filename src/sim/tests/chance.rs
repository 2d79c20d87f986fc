//! Worlds made up at random: whatever they are, nothing is booked twice, asked in vain or shown that is not the film.
//!
//! The generator is seeded: a failure comes again, here and elsewhere.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::super::film::FilmSpec;
use super::super::scenario::{Group, Habits, Kind, OriginSpec, Viewing};
use super::{Scenario, catalogue, play};

/// Habits that make trouble, one or several at once.
fn habits() -> impl Strategy<Value = Habits> {
    let some = |p: f64, s: BoxedStrategy<f64>| prop::option::weighted(p, s).prop_map(|x| x.unwrap_or(0.0));
    (
        some(0.3, (0.0..5.0).boxed()),
        some(0.3, (20_000.0..3e6).boxed()),
        some(0.3, (0.01..1.0).boxed()),
        some(0.3, (0.2..1.0).boxed()),
        some(0.3, (0.5..8.0).boxed()),
        some(0.3, (0.05..1.0).boxed()),
        some(0.2, prop_oneof![Just(1.0), 1_000.0..50_000.0].boxed()),
        (prop_oneof![Just(16_384u64), Just(65_536), Just(1 << 20)], 0u32..3, some(0.3, (0.3..4.0).boxed())),
    )
        .prop_map(|(unchoke_after, stops, lies, pulse, flips, rejects, rate, (socket, takes, grows))| Habits {
            unchoke_after,
            stops_after: stops as u64,
            lies,
            pulse,
            flips,
            rejects,
            rate,
            socket,
            takes: takes * 4,
            grows,
        })
}

fn group() -> impl Strategy<Value = Group> {
    (
        habits(),
        1u32..4,
        0.05..4.0,
        1.0..200.0,
        0.0..60.0,
        prop_oneof![Just(1.0), 0.1..1.0],
        prop_oneof![Just(0.0), 3.0..30.0],
    )
        .prop_map(|(habits, count, up, delay_ms, jitter_ms, has, stay)| Group {
            name: "peers".into(),
            kind: Kind::Peer,
            count,
            up,
            delay_ms,
            jitter_ms,
            has,
            stay,
            again: true,
            over: 3.0,
            habits,
            ..Group::default()
        })
}

fn origin() -> impl Strategy<Value = Option<OriginSpec>> {
    let lies = prop_oneof![3 => Just(0.0), 1 => 0.001..0.2];
    let spec = (1.0..20.0, any::<bool>(), 0.3..1.0, lies, 0.0..5.0).prop_map(|(up, bidding, grants, lies, after)| {
        OriginSpec { up, bidding, grants, lies, after, ..OriginSpec::default() }
    });
    prop::option::weighted(0.4, spec)
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let film = (
        2_000_000u64..9_000_000,
        prop_oneof![Just(65_536u32), Just(262_144), Just(1 << 20), Just(40_000)],
        10.0..40.0,
        0.0..0.7,
    )
        .prop_map(|(len, piece, seconds, swing)| FilmSpec { len, piece, seconds, swing, ..FilmSpec::default() });
    let seeks = prop::collection::vec((1.0..40.0, 0.0..40.0), 0..3).prop_map(|mut seeks: Vec<(f64, f64)>| {
        seeks.sort_by(|a: &(f64, f64), b| a.0.total_cmp(&b.0));
        Viewing { seeks, ..Viewing::default() }
    });
    (film, seeks, prop::collection::vec(group(), 1..4), origin(), 1u32..4, 1.0..40.0).prop_map(
        |(film, viewing, groups, origin, viewers, down)| {
            let viewer = Group { viewing, down, count: viewers, over: 5.0, ..catalogue::viewer() };
            let seeds = catalogue::peers("seeds", 2, 0.3, 1.5, Habits::default());
            let base = Scenario { seconds: 60.0, film, origin, have_every: 0.1, ..Scenario::default() };
            groups.into_iter().fold(base.with(viewer).with(seeds), Scenario::with)
        },
    )
}

#[test]
fn nothing_goes_wrong_in_any_world() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(
        Config { failure_persistence: None, max_shrink_iters: 60, ..Config::with_cases(CASES) },
        rng,
    );
    let result = runner.run(&(scenario(), any::<u64>()), |(scenario, seed)| {
        let r = play(&scenario, seed, 16);
        prop_assert_eq!(&r.faults, &Vec::<String>::new());
        let servers_lie = scenario.origin.as_ref().is_some_and(|o| o.lies > 0.0);
        prop_assert!(servers_lie || r.viewers().all(|(_, s)| s.false_bytes == 0));
        let honest = |n: u32| r.habits[n as usize].as_ref().is_none_or(|h| h.lies == 0.0);
        let wronged: Vec<u32> = r.outcomes.iter().flat_map(|o| &o.banned).copied().filter(|n| honest(*n)).collect();
        prop_assert_eq!(wronged, Vec::<u32>::new(), "honest peers were banned");
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e}");
    }
}

/// As many as take a few seconds.
const CASES: u32 = 16;

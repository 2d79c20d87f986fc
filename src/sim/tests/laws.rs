//! What must hold of the world itself: it is deterministic, its network gives each flow its share and no more than there is.

use super::super::film::FilmSpec;
use super::super::scenario::{Group, Habits, Kind, OriginSpec, Viewing};
use super::{Options, Scenario, Trace, World, catalogue, play, traced};
use crate::units::Instant;

#[test]
fn the_same_seed_gives_the_same_trace_to_the_byte_and_another_does_not() {
    for name in ["churn", "liars", "narrow"] {
        let text = |seed| match traced(&catalogue::named(name).unwrap(), seed, Trace::text()).trace() {
            Trace::Text(t) => t.clone(),
            _ => String::new(),
        };
        let (a, b, other) = (text(7), text(7), text(8));
        assert!(a.lines().count() > 1000);
        assert!(a == b, "{name}: two runs of one seed differ");
        assert!(a != other, "{name}: two seeds give one trace");
    }
}

/// Watching changes nothing: the engine is only called by the world.
#[test]
fn a_watched_world_is_the_same_world() {
    let s = catalogue::named("flipping").unwrap();
    let bare = traced(&s, 3, Trace::sum()).finish();
    let watched = play(&s, 3, 4);
    assert_eq!((bare.steps, bare.handled, bare.totals()), (watched.steps, watched.handled, watched.totals()));
}

fn alone(viewer: Group, others: Group) -> Scenario {
    let film = FilmSpec { len: 10_000_000, seconds: 400.0, ..FilmSpec::default() };
    Scenario { seconds: 60.0, film, ..Scenario::default() }.with(viewer).with(others)
}

/// Bytes a second that the viewer received of peers.
fn speed(s: &Scenario) -> f64 {
    let mut w = World::new(s, Options::default()).unwrap();
    w.run_until(Instant::from_secs_f64(10.0));
    let r = w.finish();
    r.totals().swarm as f64 / 10.0
}

#[test]
fn an_uplink_gives_what_it_has_and_a_downlink_takes_no_more() {
    const MBIT: f64 = 125_000.0;
    let seeds = |count, up| catalogue::peers("seeds", count, up, up, Habits::default());
    let viewer = |down| Group { down, ..catalogue::viewer() };
    let by_up = speed(&alone(viewer(50.0), seeds(4, 1.0))) / MBIT;
    assert!((3.2..=4.0).contains(&by_up), "four uplinks of 1 Mbit/s gave {by_up}");
    let by_down = speed(&alone(viewer(2.0), seeds(4, 3.0))) / MBIT;
    assert!((1.6..=2.05).contains(&by_down), "a downlink of 2 Mbit/s took {by_down}");
}

#[test]
fn a_scenario_is_read_from_toml_and_nonsense_is_refused_in_a_sentence() {
    let text = r#"
        seconds = 30
        film = { len = 4000000, seconds = 16.0, piece = 65536 }
        origin = { up = 8.0, bidding = true }
        [[group]]
        name = "viewers"
        kind = "viewer"
        count = 2
        viewing = { seeks = [[5.0, 10.0]] }
        [[group]]
        kind = "peer"
        count = 3
        up = 2.0
        habits = { pulse = 0.5, lies = 0.01 }
    "#;
    let s = Scenario::from_toml(text).unwrap();
    assert_eq!((s.groups.len(), s.groups[0].kind, s.groups[1].habits.pulse), (2, Kind::Viewer, 0.5));
    assert_eq!(s.origin.as_ref().map(|o: &OriginSpec| o.bidding), Some(true));
    let wrong = [
        ("seconds = 'x'", "cannot be read"),
        ("speed = 3", "unknown field"),
        ("[[group]]\nname = 'a'\nup = -1.0", "impossible"),
        ("[[group]]\nname = 'a'\nhas = 7.0", "impossible"),
        ("[[group]]\nname = 'a'\nup = nan", "impossible"),
    ];
    for (text, said) in wrong {
        let e = Scenario::from_toml(text).unwrap_err().to_string();
        assert!(e.contains(said), "{text}: {e}");
    }
    let film = FilmSpec { len: 0, ..FilmSpec::default() };
    assert!(World::new(&Scenario { film, ..Scenario::default() }, Options::default()).is_err());
}

#[test]
fn every_name_has_a_world() {
    for name in catalogue::NAMES {
        assert!(catalogue::named(name).is_some_and(|s| s.check().is_ok()), "{name}");
    }
    assert!(catalogue::named("no such world").is_none());
}

/// Viewers of a steady population who leave at the film's end, with all that the world has: seeds, churn, jitter, a bidding server.
fn mixed() -> Scenario {
    let film = FilmSpec { len: 6_000_000, seconds: 60.0, piece: 64 * 1024, ..FilmSpec::default() };
    let origin = Some(OriginSpec { up: 20.0, bidding: true, ..OriginSpec::default() });
    let viewing = Viewing { leaves: true, ahead: 8.0, lingers: 5.0, ..Viewing::default() };
    let viewers =
        Group { kind: Kind::Viewer, count: 24, up: 0.3, up_most: 1.3, either: true, steady: true, ..Group::default() };
    Scenario { seconds: 40.0, film, origin, have_every: 0.5, tick: 0.2, ..Scenario::default() }
        .with(Group { delay_ms_most: 60.0, jitter_ms: 5.0, links: 10, down: 20.0, viewing, ..viewers })
        .with(Group {
            stay: 8.0,
            again: true,
            ..catalogue::peers("peers", 6, 0.5, 1.0, Habits { takes: 2, ..Habits::default() })
        })
}

#[test]
fn threads_and_interruptions_change_nothing_to_the_byte() {
    let scenario = mixed();
    let run = |threads, parts: u32| {
        let options = Options { seed: 5, trace: Trace::text(), threads, ..Options::default() };
        let mut world = World::new(&scenario, options).unwrap();
        for part in 1..=parts {
            world.run_until(Instant::from_secs_f64(scenario.seconds * f64::from(part) / f64::from(parts)));
        }
        let text = match world.trace() {
            Trace::Text(t) => t.clone(),
            _ => String::new(),
        };
        (text, format!("{:?}", world.finish()))
    };
    let alone = run(1, 1);
    assert!(alone.0.lines().count() > 20_000);
    for (threads, parts) in [(2, 1), (3, 7), (1, 13)] {
        let other = run(threads, parts);
        assert!(alone == other, "{threads} threads, {parts} parts: another trace");
    }
}

#[test]
fn a_steady_population_keeps_its_size_and_watches_on() {
    let mut world = World::new(&mixed(), Options { seed: 2, watch: true, ..Options::default() }).unwrap();
    world.run();
    let r = world.finish();
    assert_eq!(r.faults, Vec::<String>::new());
    let viewers: Vec<_> = r.viewers().collect();
    // 24 at the start and as many more in a film's length, by chance; two thirds of that here.
    assert!((24..70).contains(&viewers.len()), "{}", viewers.len());
    let ended = viewers.iter().filter(|(_, s)| s.ended).count();
    assert!(ended > 6, "{ended} saw the end");
    let (played, stalled) = viewers.iter().fold((0.0, 0.0), |(p, q), (_, s)| (p + s.played, q + s.stalled));
    assert!(played > 24.0 * 40.0 * 0.6 && stalled < 0.05 * played, "played {played} s, stalled {stalled} s");
}

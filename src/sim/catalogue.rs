//! Worlds with a name: those the tests hold the engine to, and those it is tuned against.
//!
//! The film is three minutes at 2 Mbit/s where nothing else is said, and the viewer's line takes 50 Mbit/s.

use super::film::FilmSpec;
use super::scenario::{Group, Habits, Kind, OriginSpec, Scenario, Viewing};

/// All names that [`named`] knows.
pub const NAMES: &[&str] = &[
    "ample",
    "bigpieces",
    "tail",
    "scarce",
    "waking",
    "server",
    "uneven",
    "churn",
    "stopper",
    "liar",
    "liars",
    "trickle",
    "flipping",
    "pulse",
    "rejects",
    "flash",
    "crowd",
    "bidding",
    "narrow",
    "greedy",
    "greedy-alone",
    "swing",
    "partial",
];

fn film() -> FilmSpec {
    FilmSpec::default()
}

/// One viewer on a line of 50 Mbit/s.
pub fn viewer() -> Group {
    Group { name: "viewer".into(), kind: Kind::Viewer, up: 10.0, down: 50.0, ..Group::default() }
}

/// A viewer who seeks to 60 % after 20 s.
fn seeker() -> Group {
    Group { viewing: Viewing { seeks: vec![(20.0, 108.0)], ..Viewing::default() }, ..viewer() }
}

/// Plain foreign seeds.
pub fn peers(name: &str, count: u32, up: f64, up_most: f64, habits: Habits) -> Group {
    let name = name.into();
    Group {
        name,
        kind: Kind::Peer,
        count,
        up,
        up_most,
        delay_ms: 5.0,
        delay_ms_most: 40.0,
        jitter_ms: 4.0,
        habits,
        ..Group::default()
    }
}

/// Foreign seeds that are what seeds are: some keep a new peer choked for seconds.
fn seeds(count: u32, up: f64, up_most: f64) -> Group {
    peers("seeds", count, up, up_most, Habits { unchoke_after: 0.1, ..Habits::default() })
}

/// The world of this name; `None` for a name that is not in [`NAMES`].
pub fn named(name: &str) -> Option<Scenario> {
    let base = Scenario { seconds: 200.0, film: film(), ..Scenario::default() };
    let h = Habits::default;
    Some(match name {
        // Eight seeds of 1 to 4 Mbit/s, half of which wait six seconds before they serve.
        "ample" | "bigpieces" | "tail" => {
            let late = Habits { unchoke_after: 6.0, ..h() };
            let piece = if name == "bigpieces" { 2 * 1024 * 1024 } else { 256 * 1024 };
            let tail = if name == "tail" { 96 * 1024 } else { 0 };
            Scenario { film: FilmSpec { piece, tail, ..film() }, ..base }
                .with(seeker())
                .with(peers("prompt", 4, 2.0, 4.0, Habits { unchoke_after: 0.1, ..h() }))
                .with(peers("late", 4, 1.0, 3.0, late))
        }
        // Less than the bitrate, and a server for the rest.
        "scarce" => Scenario { origin: Some(OriginSpec { up: 10.0, ..OriginSpec::default() }), ..base }
            .with(viewer())
            .with(seeds(8, 0.15, 0.15)),
        // The same while half of the seeds wake, as Transmission does: the first 21 s.
        "waking" => {
            let wakes = |name, count, after| {
                let habits = Habits { unchoke_after: after, pulse: if after > 1.0 { 0.5 } else { 0.0 }, ..h() };
                Group { delay_ms: 20.0, delay_ms_most: 0.0, ..peers(name, count, 0.15, 0.15, habits) }
            };
            Scenario { seconds: 21.0, origin: Some(OriginSpec { up: 10.0, ..OriginSpec::default() }), ..base }
                .with(Group { down: 20.0, ..viewer() })
                .with(wakes("prompt", 4, 0.1))
                .with(wakes("later", 2, 6.6))
                .with(wakes("latest", 2, 16.0))
        }
        "server" => Scenario { origin: Some(OriginSpec { up: 4.2, ..OriginSpec::default() }), ..base }.with(seeker()),
        "bidding" => Scenario {
            origin: Some(OriginSpec { up: 10.0, bidding: true, grants: 0.7, ..OriginSpec::default() }),
            ..base
        }
        .with(seeker())
        .with(seeds(8, 0.1, 0.3)),
        // One fast, many slow, some far away.
        "uneven" => base.with(seeker()).with(seeds(1, 3.0, 6.0)).with(seeds(10, 0.05, 0.3)).with(Group {
            delay_ms: 150.0,
            delay_ms_most: 300.0,
            jitter_ms: 60.0,
            ..seeds(3, 0.5, 1.5)
        }),
        "churn" => base
            .with(seeker())
            .with(Group { stay: 20.0, again: true, over: 20.0, ..seeds(16, 0.3, 1.0) })
            .with(seeds(2, 0.5, 1.0)),
        "stopper" => base.with(viewer()).with(seeds(5, 0.6, 0.8)).with(peers(
            "stoppers",
            3,
            2.0,
            4.0,
            Habits { stops_after: 300_000, ..h() },
        )),
        "liar" => {
            base.with(seeker()).with(seeds(5, 0.7, 1.0)).with(peers("liar", 1, 2.0, 4.0, Habits { lies: 1.0, ..h() }))
        }
        // Some blocks only, and several who do it.
        "liars" => {
            base.with(seeker()).with(seeds(6, 0.7, 1.0)).with(peers("liars", 3, 1.0, 2.0, Habits { lies: 0.1, ..h() }))
        }
        "trickle" => base.with(viewer()).with(seeds(6, 0.55, 0.7)).with(peers(
            "trickle",
            4,
            1.0,
            1.0,
            Habits { rate: 1.0, ..h() },
        )),
        "flipping" => base.with(seeker()).with(seeds(3, 0.5, 0.8)).with(peers(
            "flipping",
            6,
            0.5,
            1.0,
            Habits { flips: 4.0, ..h() },
        )),
        "pulse" => base.with(seeker()).with(peers("pulse", 6, 0.7, 1.5, Habits { pulse: 0.5, socket: 4 << 20, ..h() })),
        "rejects" => base.with(viewer()).with(seeds(5, 0.6, 0.8)).with(peers(
            "rejects",
            3,
            1.0,
            1.0,
            Habits { rejects: 0.3, ..h() },
        )),
        // Viewers come all at once; two seeds and what they give each other.
        "flash" => Scenario { seconds: 230.0, have_every: 0.2, ..base }
            .with(Group { count: 12, up: 4.0, down: 50.0, over: 6.0, poisson: true, ..viewer() })
            .with(Group { kind: Kind::Seed, name: "seeds".into(), count: 2, up: 10.0, ..Group::default() }),
        "crowd" => Scenario {
            seconds: 120.0,
            have_every: 0.5,
            film: FilmSpec { len: 15_000_000, seconds: 60.0, ..film() },
            ..base
        }
        .with(Group { count: 100, up: 3.0, down: 50.0, over: 40.0, poisson: true, links: 20, ..viewer() })
        .with(Group { kind: Kind::Seed, name: "seeds".into(), count: 3, up: 20.0, ..Group::default() }),
        // The viewer's own line is hardly more than the film needs, and a server helps: its part goes first.
        "narrow" => Scenario { origin: Some(OriginSpec { up: 20.0, ..OriginSpec::default() }), ..base }
            .with(Group { down: 2.6, ..viewer() })
            .with(seeds(12, 0.5, 1.0)),
        // Twenty seeds that fill the viewer's line, and a seek to 2 MB that only the server has; and the same without the seeds.
        "greedy" | "greedy-alone" => {
            let film = FilmSpec { len: 80 << 20, seconds: 160.0, picture: 2 << 20, ..film() };
            let viewer =
                Group { down: 10.0, viewing: Viewing { seeks: vec![(20.0, 100.0)], ..Viewing::default() }, ..viewer() };
            let base = Scenario { seconds: 40.0, film, origin: Some(OriginSpec::default()), ..base }.with(viewer);
            let lacks = if name == "greedy" { (100.0, 104.0) } else { (0.0, 160.0) };
            base.with(Group { lacks, ..seeds(20, 5.0, 5.0) })
        }
        "swing" => Scenario { film: FilmSpec { swing: 0.6, ..film() }, ..base }.with(seeker()).with(seeds(6, 0.5, 0.8)),
        // Nobody has all, and they get the rest as time goes by.
        "partial" => base
            .with(viewer())
            .with(Group { has: 0.6, ..peers("partial", 12, 0.4, 1.0, Habits { grows: 2.0, ..h() }) })
            .with(seeds(1, 1.0, 1.0)),
        _ => return None,
    })
}

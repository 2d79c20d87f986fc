//! A day of virtual time, playing, seeking and seeding while peers come and go by the thousand: memory does not grow.
//!
//! In a build without optimisation the day is four hours: the same hours, fewer of them.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use sluicegate::sim::{FilmSpec, Group, Habits, Kind, Options, OriginSpec, Scenario, Viewing, World};
use sluicegate::units::Instant;

/// Bytes allocated and not freed.
static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; only a number is kept besides.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`, and `at` is of `alloc` above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A film of two hours of which half the pieces are rare or not to be had, so that there is always something to ask for.
fn day(hours: f64) -> Scenario {
    let film = FilmSpec { len: 300_000_000, piece: 256 * 1024, seconds: 7200.0, ..FilmSpec::default() };
    let origin = Some(OriginSpec { up: 2.0, bidding: true, grants: 0.6, ..OriginSpec::default() });
    let peers = |name: &str, count, has, stay, habits| Group {
        name: name.into(),
        kind: Kind::Peer,
        count,
        up: 0.2,
        has,
        stay,
        again: true,
        over: stay,
        jitter_ms: 5.0,
        habits,
        ..Group::default()
    };
    let viewer = Group {
        kind: Kind::Viewer,
        up: 10.0,
        links: 12,
        viewing: Viewing { hops: 300.0, ..Viewing::default() },
        ..Group::default()
    };
    Scenario { seconds: hours * 3600.0, film, origin, have_every: 1.0, ..Scenario::default() }
        .with(viewer)
        .with(Group { kind: Kind::Seed, up: 0.5, ..Group::default() })
        .with(peers("some", 6, 0.3, 300.0, Habits { unchoke_after: 2.0, ..Habits::default() }))
        .with(peers("flipping", 3, 0.2, 600.0, Habits { flips: 20.0, rejects: 0.1, ..Habits::default() }))
        .with(peers("takers", 4, 0.1, 200.0, Habits { takes: 2, grows: 10.0, ..Habits::default() }))
        .with(peers("liars", 1, 0.2, 400.0, Habits { lies: 0.05, ..Habits::default() }))
}

#[test]
fn memory_does_not_grow_in_a_day() {
    let hours = if cfg!(debug_assertions) { 4 } else { 24 };
    let mut world = World::new(&day(f64::from(hours)), Options { seed: 5, ..Options::default() }).unwrap();
    let mut live = Vec::new();
    for hour in 1..=hours {
        world.run_until(Instant::from_secs_f64(f64::from(hour) * 3600.0));
        live.push(LIVE.load(Ordering::Relaxed));
    }
    let report = world.finish();
    println!("bytes after each hour: {live:?}\n{report}");
    let (_, seen) = report.viewers().next().unwrap();
    assert!(seen.played > 600.0 && !seen.seeks.is_empty(), "it played: {seen:?}");
    assert!(report.totals().uploaded > 1_000_000, "it gave: {:?}", report.totals());
    let (early, late) = (live[1], live[live.len() - 1]);
    assert!(late < early + early / 8 + 256 * 1024, "{early} bytes after two hours, {late} at the end");
}

//! Named worlds, each with what the engine owes its viewer there. Times are virtual: a slow machine changes none of them.

use super::super::{Habits, Outcome, Seen};
use super::{Options, Report, World, catalogue, named};

const MBIT: f64 = 125_000.0;

fn only(r: &Report) -> (&Outcome, &Seen) {
    let all: Vec<_> = r.viewers().collect();
    assert_eq!(all.len(), 1);
    all[0]
}

/// Played to the end without a stall, and without the same bytes coming twice.
fn smooth(r: &Report) {
    let (_, s) = only(r);
    assert!(s.ended, "{s:?}");
    assert_eq!((s.stalls, s.stalled), (0, 0.0));
    thrifty(r);
}

/// The design's bound on duplicates.
fn thrifty(r: &Report) {
    assert!(r.duplicate_share() < 0.03, "{}", r.duplicate_share());
}

#[test]
fn a_swarm_with_more_than_the_bitrate_never_stalls() {
    for seed in 1..3 {
        let r = named("ample", seed);
        smooth(&r);
        let (_, s) = only(&r);
        assert!(s.first.unwrap() < 1.2 && s.started.unwrap() < 2.0, "{s:?}");
        smooth(&named("swing", seed));
        smooth(&named("rejects", seed));
        smooth(&named("partial", seed));
    }
}

#[test]
fn a_seek_in_an_ample_swarm_takes_no_longer_than_the_bytes_of_its_picture() {
    // A piece of 256 KiB and the one after it, over about 16 Mbit/s, and two round trips.
    let r = named("ample", 2);
    assert!(only(&r).1.seeks.iter().all(|s| *s < 0.8), "{:?}", only(&r).1.seeks);
    // Pieces of 2 MiB: one or two of them.
    let r = named("bigpieces", 2);
    smooth(&r);
    assert!(only(&r).1.seeks.iter().all(|s| *s < 3.5), "{:?}", only(&r).1.seeks);
}

#[test]
fn an_index_at_the_end_costs_one_more_piece() {
    let r = named("tail", 1);
    smooth(&r);
    assert!(only(&r).1.first.unwrap() < 1.6);
}

#[test]
fn links_of_all_speeds_and_distances_carry_the_film_together() {
    for seed in 1..3 {
        let r = named("uneven", seed);
        thrifty(&r);
        assert!(only(&r).1.ended);
    }
    // Worlds that stood for one to three seconds while a block withdrawn late was forgotten although it was on its way.
    for seed in [15, 18, 21] {
        smooth(&named("uneven", seed));
    }
}

#[test]
fn peers_that_come_and_go_cost_no_stall() {
    for seed in 1..3 {
        smooth(&named("churn", seed));
    }
}

#[test]
fn a_peer_that_serves_in_pulses_is_as_good_as_its_rate() {
    smooth(&named("pulse", 1));
}

#[test]
fn peers_that_choke_and_unchoke_are_no_reason_to_stall() {
    for seed in 1..4 {
        let r = named("flipping", seed);
        let (_, s) = only(&r);
        assert_eq!(s.stalled, 0.0);
        thrifty(&r);
    }
}

#[test]
fn who_stops_or_trickles_holds_nothing_up_for_long() {
    for (name, seed) in [("stopper", 1), ("stopper", 2), ("trickle", 1), ("trickle", 2)] {
        let r = named(name, seed);
        thrifty(&r);
        let (_, s) = only(&r);
        assert!(s.ended && s.stalled < 2.0, "{name}, seed {seed}: {s:?}");
    }
}

#[test]
fn a_server_alone_carries_a_play_from_its_first_byte() {
    let r = named("server", 1);
    smooth(&r);
    let (_, s) = only(&r);
    assert!(s.first.unwrap() < 0.9 && s.seeks.iter().all(|s| *s < 0.8), "{s:?}");
}

#[test]
fn a_scarce_swarm_is_completed_by_the_server_and_hardly_more() {
    let r = named("scarce", 1);
    smooth(&r);
    let (o, _) = only(&r);
    let bound = r.film_len as f64 - 180.0 * 8.0 * 0.15 * MBIT;
    assert!((o.totals.server as f64) < 1.35 * bound + 2.0 * r.film_len as f64 / 180.0, "{:?} of {bound}", o.totals);
}

/// 21 s of a film of which the swarm brings 2.2 MB by then: the server gives the rest of what was played, and what lies ahead of the
/// clock, of both, is worth about three seconds: two that a server's blocks are early by, and a piece of one that is played once it
/// is whole. That is once in a play.
#[test]
fn while_seeds_wake_little_is_brought_before_its_time() {
    for seed in 1..4 {
        let r = named("waking", seed);
        let (o, s) = only(&r);
        assert_eq!(s.stalls, 0, "{s:?}");
        let rate = r.film_len as f64 / 180.0;
        let played = (21.0 - s.started.unwrap()) * rate;
        let t = &o.totals;
        let ahead = (t.server + t.swarm - t.duplicate) as f64 - played;
        assert!(ahead < 3.2 * rate && t.duplicate == 0, "{:.2} s ahead, {t:?}", ahead / rate);
    }
}

#[test]
fn the_server_comes_first_on_a_narrow_line() {
    for seed in 1..4 {
        let r = named("narrow", seed);
        let (_, s) = only(&r);
        assert!(s.stalled < 1.0 && s.ended, "{s:?}");
        thrifty(&r);
    }
}

/// 2 MB of a server's on a line of 10 Mbit/s that twenty peers fill: nearly as soon as alone, much sooner than without the peers being
/// held, and the peers are back within two seconds. The blocks that stand in front of the line when the range is asked for are
/// all the difference: here nothing smaller than a block moves.
#[test]
fn a_range_on_a_line_full_of_greedy_peers_comes_nearly_as_soon_as_alone() {
    use crate::engine::Config;
    use crate::units::Instant;
    let world = |name: &str, seed, priority| {
        let options = Options { seed, config: Config { priority, ..Config::default() }.into(), ..Options::default() };
        World::new(&catalogue::named(name).unwrap(), options).unwrap()
    };
    let seek = |mut w: World| {
        w.run();
        let r = w.finish();
        let (_, s) = only(&r);
        // Without priority it may not come at all before the world ends.
        s.seeks.first().copied().unwrap_or(f64::INFINITY)
    };
    for seed in 1..3 {
        let (alone, with) = (seek(world("greedy-alone", seed, true)), seek(world("greedy", seed, true)));
        let off = seek(world("greedy", seed, false));
        assert!(with < 1.35 * alone && off > 3.0 * with, "alone {alone}, with {with}, off {off}");
        // The peers before, and from two seconds after the range is here.
        let swarm = |until: f64| {
            let mut w = world("greedy", seed, true);
            w.run_until(Instant::from_secs_f64(until));
            w.finish().totals().swarm as f64
        };
        let rate = |from: f64| (swarm(from + 3.0) - swarm(from)) / 3.0;
        let (before, after) = (rate(15.0), rate(20.0 + with + 2.0));
        assert!(before > 0.9 * 10.0 * MBIT && after > 0.9 * before, "{before} before, {after} after");
    }
}

/// Whether those who lie were banned, all of them and nobody else.
fn banned(r: &Report, lies: impl Fn(&Habits) -> bool) -> bool {
    let (o, _) = only(r);
    r.habits.iter().enumerate().all(|(n, h)| h.as_ref().is_none_or(|h| !lies(h) || o.banned.contains(&(n as u32))))
        && o.banned.iter().all(|n| r.habits[*n as usize].as_ref().is_some_and(&lies))
}

#[test]
fn a_liar_is_banned_within_two_failed_pieces_and_nobody_else_is() {
    for seed in 1..9 {
        let r = named("liar", seed);
        let (o, s) = only(&r);
        assert!(banned(&r, |h| h.lies > 0.0), "banned {:?}", o.banned);
        assert!(s.ended && s.stalled == 0.0, "{s:?}");
        thrifty(&r);
        // The first tells who it was, or the second; beside it what it gave of others by then.
        assert!(o.counts.failed <= 2, "{:?}", o.counts);
        assert!(o.totals.corrupt <= 5 * 256 * 1024, "{:?}", o.totals);
    }
}

#[test]
fn those_who_lie_now_and_then_are_found_out_one_by_one() {
    for seed in 1..4 {
        let r = named("liars", seed);
        let (o, s) = only(&r);
        assert!(banned(&r, |h| h.lies > 0.0), "banned {:?}", o.banned);
        assert!(s.ended && s.stalled < 2.0, "{s:?}");
        // Three liars: one or two pieces each, and what they gave of others by then.
        assert!(o.totals.corrupt <= 13 * 256 * 1024, "{:?}", o.totals);
    }
}

#[test]
fn a_crowd_that_comes_at_once_feeds_itself() {
    let r = named("flash", 1);
    thrifty(&r);
    assert!(r.viewers().all(|(_, s)| s.ended && s.stalled == 0.0), "{r}");
    // Twelve viewers, and two seeds that could carry three: the rest they gave each other.
    assert!(r.totals().uploaded > r.totals().swarm / 2);
}

/// When those who have nothing yet kept what they had until they had more, one waited for half a minute.
#[test]
fn nobody_of_a_crowd_waits_for_the_others_to_be_served_first() {
    let r = named("flash", 4);
    assert!(r.viewers().all(|(_, s)| s.started.is_some_and(|s| s < 15.0)), "{r}");
}

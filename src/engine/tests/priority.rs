//! The rule alone, on a toy link whose flows share it as TCP's do: what one second shows, the next decides by.

use proptest::prelude::*;

use super::*;

/// A link, in MB/s: what it carries, what the peers would send, what the server can.
#[derive(Debug, Clone, Copy)]
struct Line {
    carries: f64,
    peers: f64,
    server: f64,
}

struct Toy {
    rule: Priority,
    now: Instant,
    /// Averages over about a second, as the rule sees them.
    peers: f64,
    server: f64,
    holds: u32,
    held: u32,
}

impl Toy {
    fn new() -> Self {
        let (rule, now) = (Priority::default(), Instant::ZERO);
        Self { rule, now, peers: 0.0, server: 0.0, holds: 0, held: 0 }
    }

    /// So many seconds in which the server needs so much; a picture of them, a letter a second: `.` free, `h` held, `H` held to the
    /// least.
    fn run(&mut self, line: Line, need: f64, seconds: u32) -> String {
        let mut picture = String::new();
        for tick in 1..=seconds * 10 {
            let budget = self.rule.hold().map_or(f64::INFINITY, |h| h.budget / 1e6);
            let (peers, server) = share(line, line.peers.min(budget), if need > 0.0 { line.server } else { 0.0 });
            self.peers += 0.1 * (peers - self.peers);
            self.server += 0.1 * (server - self.server);
            self.now = self.now + Duration::from_millis(100);
            let before = self.rule.hold.is_some();
            let d = Demand { need: need * 1e6, peers: self.peers * 1e6, server: self.server * 1e6, served: true };
            self.rule.step(self.now, d, &Config::default());
            self.held += u32::from(self.rule.hold.is_some());
            self.holds += u32::from(!before && self.rule.hold.is_some());
            if tick % 10 == 0 {
                let least = 0.11 * self.rule.capacity;
                picture.push(self.rule.hold().map_or('.', |h| if h.budget < least { 'H' } else { 'h' }));
            }
        }
        picture
    }
}

/// Twenty flows against one where the line is full: the server gets its part of 21, or what the peers leave.
fn share(line: Line, peers: f64, server: f64) -> (f64, f64) {
    if peers + server <= line.carries {
        return (peers, server);
    }
    let server = server.min((line.carries / 21.0).max(line.carries - peers));
    (peers.min(line.carries - server), server)
}

const FULL: Line = Line { carries: 1.25, peers: 5.0, server: 12.0 };

#[test]
fn peers_are_held_while_the_server_needs_the_line_and_back_within_a_second() {
    let mut t = Toy::new();
    assert_eq!(t.run(FULL, 0.0, 8), "........");
    assert_eq!(t.run(FULL, f64::INFINITY, 4), "HHHH");
    assert!(t.server > 0.9 * 0.9 * FULL.carries, "the server has {}", t.server);
    assert_eq!(t.run(FULL, 0.0, 3), "...");
    assert_eq!(t.holds, 1);
}

#[test]
fn the_server_gets_what_it_needs_and_the_peers_the_rest() {
    let mut t = Toy::new();
    t.run(FULL, 0.0, 8);
    assert_eq!(t.run(FULL, 0.5, 20), "h".repeat(20));
    assert!((0.5..0.55).contains(&t.server) && t.peers > 0.68, "{} and {}", t.server, t.peers);
    assert_eq!(t.holds, 1, "no swinging");
}

#[test]
fn a_slow_server_on_a_fat_line_is_no_reason_to_hold_anybody() {
    // It was full once: what arrives since is far from that.
    let mut t = Toy::new();
    t.run(Line { peers: 20.0, carries: 12.0, server: 0.1 }, 0.0, 5);
    assert_eq!(t.run(Line { peers: 3.0, carries: 12.0, server: 0.1 }, 0.5, 60), ".".repeat(60));
    // It was never full: two holds show that they are of no use, seconds apart, and then ever fewer.
    let mut t = Toy::new();
    let line = Line { peers: 3.0, carries: 12.0, server: 0.1 };
    t.run(line, 0.0, 5);
    t.run(line, 0.5, 120);
    assert!(t.holds <= 6 && t.held <= 26 * t.holds, "{} holds, {} ticks held", t.holds, t.held);
    assert!(t.held < 150, "{}", t.held);
}

#[test]
fn after_a_jump_a_hold_is_tried_whatever_the_last_was_good_for() {
    let mut t = Toy::new();
    let slow = Line { server: 0.02, ..FULL };
    t.run(slow, 0.0, 5);
    t.run(slow, 0.5, 4);
    // It was of no use, and rests; what is asked for now might come of another, faster origin.
    assert_eq!((t.holds, t.rule.hold().is_some()), (1, false));
    assert_eq!(t.run(FULL, f64::INFINITY, 1), ".");
    t.rule.jumped();
    assert_eq!(t.run(FULL, f64::INFINITY, 2), "HH");
}

#[test]
fn a_jump_on_a_full_line_holds_at_once_though_blocks_once_came_together() {
    let mut t = Toy::new();
    t.run(FULL, 0.0, 8);
    // One second saw the ends of more blocks than it saw beginnings.
    t.rule.capacity *= 1.2;
    t.rule.jumped();
    assert_eq!(t.run(FULL, f64::INFINITY, 2), "HH");
    assert!(t.held >= 19, "held for {} ticks", t.held);
}

#[test]
fn only_peers_that_fill_the_line_make_kept_connections_stale() {
    let mut t = Toy::new();
    t.run(FULL, 0.0, 8);
    assert!(t.rule.crowded());
    // The line was full once, and the swarm has little left to give.
    let mut t = Toy::new();
    t.run(Line { peers: 20.0, carries: 12.0, server: 0.1 }, 0.0, 2);
    t.run(Line { peers: 3.0, carries: 12.0, server: 0.1 }, 0.0, 20);
    assert!(!t.rule.crowded());
}

#[test]
fn arrivals_that_still_grow_are_no_full_line() {
    let mut t = Toy::new();
    // The first seconds of a stream: the server alone, and peers that come one after the other.
    for n in 1..7 {
        assert_eq!(
            t.run(Line { peers: 0.4 * f64::from(n), carries: 12.0, server: 1.0 }, f64::INFINITY, 1),
            ".",
            "at {n}"
        );
    }
}

proptest! {
    #[test]
    fn whatever_the_line_no_hold_starves_the_peers_or_outlasts_its_need(
        carries in 0.05f64..20.0, peers in 0.0f64..30.0, server in 0.01f64..30.0,
        needs in prop::collection::vec((0.0f64..3.0, 1u32..6), 1..12),
    ) {
        let (mut t, line) = (Toy::new(), Line { carries, peers, server });
        t.run(line, 0.0, 5);
        for (need, seconds) in needs {
            let need = if need < 1.0 { 0.0 } else { need - 1.0 };
            t.run(line, need * carries, seconds);
            if let Some(h) = t.rule.hold() {
                prop_assert!(h.budget >= 0.099 * t.rule.capacity && h.budget + h.left < 1.001 * t.rule.capacity.max(h.budget + h.left));
                prop_assert!(t.rule.capacity <= 1.01e6 * carries, "{} on a line of {carries}", t.rule.capacity);
            }
            // The peers keep their tenth, or what they have.
            prop_assert!(t.peers >= 0.5 * (0.1 * t.rule.capacity / 1e6).min(line.peers).min(0.04 * carries));
            t.run(line, 0.0, 1);
            prop_assert!(t.rule.hold().is_none());
        }
    }
}

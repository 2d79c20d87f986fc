//! The playback clock. Invariant: while it is not set anew it never goes back, whatever the sound card reports.

use std::time::{Duration, Instant};

use crate::units::MediaTime;

/// An error beyond this is a jump (a device that starts late, an underrun), not jitter to be smoothed away: from 40 ms on
/// people see that lips and sound differ (ITU-R BT.1359: 45 ms where the sound leads), so it is not left to a slow pull.
const JUMP_US: i64 = 40_000;
/// Share of the error taken out per second: fast enough for drift, too slow to be seen as jerks in motion.
const PULL_PER_S: f64 = 3.0;

/// Media time as a line over the machine's clock, bent towards the sound card where there is one.
#[derive(Debug)]
pub(super) struct Clock {
    running: bool,
    media: i64,
    anchor: Instant,
    /// The next estimate is taken as it is: the line starts anew.
    fresh: bool,
}

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        Self { running: false, media: 0, anchor: now, fresh: true }
    }

    pub(super) fn running(&self) -> bool {
        self.running
    }

    pub(super) fn set(&mut self, at: MediaTime, now: Instant) {
        (self.media, self.anchor, self.fresh) = (at.0, now, true);
    }

    pub(super) fn run(&mut self, run: bool, now: Instant) {
        if run != self.running {
            self.media = self.at(now).0;
            (self.anchor, self.running, self.fresh) = (now, run, true);
        }
    }

    pub(super) fn at(&self, now: Instant) -> MediaTime {
        let ran = if self.running { now.saturating_duration_since(self.anchor) } else { Duration::ZERO };
        MediaTime(self.media) + ran
    }

    /// No sound to follow: on at the machine's pace.
    pub(super) fn go_on(&mut self, now: Instant) {
        (self.media, self.anchor) = (self.at(now).0, now);
    }

    /// The clock stands where it was last read: the sound has not begun to move yet.
    pub(super) fn hold(&mut self, now: Instant) {
        self.anchor = now;
    }

    /// Bends the clock towards what the sound card says is audible now.
    pub(super) fn steer(&mut self, audible: MediaTime, now: Instant) {
        if !self.running {
            return;
        }
        let (last, predicted) = (self.media, self.at(now).0);
        let error = audible.0.saturating_sub(predicted);
        let next = if self.fresh || error.abs() > JUMP_US {
            audible.0
        } else {
            let dt = now.saturating_duration_since(self.anchor).as_secs_f64();
            predicted + (error as f64 * (dt * PULL_PER_S).min(1.0)) as i64
        };
        if audible.0 >= last {
            self.fresh = false;
        }
        (self.media, self.anchor) = (next.max(last), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn it_never_goes_back_and_follows_a_drifting_card() {
        let t0 = Instant::now();
        let mut c = Clock::new(t0);
        c.set(MediaTime(1_000_000), t0);
        c.run(true, t0);
        let mut last = c.at(t0);
        for i in 1..=2000u64 {
            let now = t0 + us(i * 5_000);
            // A card 1 % slow with 3 ms of jitter both ways.
            let audible = 1_000_000 + (i * 4_950) as i64 + if i % 2 == 0 { 3_000 } else { -3_000 };
            c.steer(MediaTime(audible), now);
            assert!(c.at(now) >= last, "went back at step {i}");
            last = c.at(now);
        }
        assert!((last.0 - (1_000_000 + 2000 * 4_950)).abs() < 20_000, "{last:?}");
    }

    #[test]
    fn it_stands_while_stopped_and_holds_through_an_underrun() {
        let t0 = Instant::now();
        let mut c = Clock::new(t0);
        c.set(MediaTime(0), t0);
        assert_eq!(c.at(t0 + us(500_000)), MediaTime(0));
        c.run(true, t0);
        c.steer(MediaTime(-50_000), t0 + us(1000));
        assert_eq!(c.at(t0 + us(1000)), MediaTime(0));
        c.go_on(t0 + us(11_000));
        c.hold(t0 + us(15_000));
        assert_eq!(c.at(t0 + us(15_000)), c.at(t0 + us(14_000)));
        assert!(c.at(t0 + us(15_000)) >= MediaTime(10_000), "holding went back");
        c.run(false, t0 + us(21_000));
        let stood = c.at(t0 + us(21_000));
        assert_eq!(c.at(t0 + us(900_000)), stood);
    }
}

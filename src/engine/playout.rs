//! When the clock may run: 2 s buffered at the start, 4 s after a stall, and no block forecast to be late.

use super::config::Config;
use super::{Action, Engine, Phase};
use crate::units::{ByteRange, Instant};

/// The gate in front of the clock.
#[derive(Debug, Clone, Default)]
pub(super) struct Playout {
    pub open: bool,
    /// The clock stood for want of bytes: the higher threshold holds.
    rebuffering: bool,
    /// The last forecast had a block of the window late.
    pub late: bool,
    /// The gate as last told.
    told: Option<bool>,
}

impl Playout {
    pub fn phase(&mut self, before: Phase, now: Phase, jumped: bool) {
        if now == Phase::Stalled && before != Phase::Stalled {
            self.open = false;
            self.rebuffering = true;
        }
        if matches!(now, Phase::Seeking | Phase::Opening) && (before != now || jumped) {
            self.open = false;
            self.rebuffering = false;
        }
    }
}

impl Playout {
    /// Seconds of media that must be here before the clock may run.
    fn need_s(&self, config: &Config) -> f64 {
        if self.rebuffering { config.rebuffer } else { config.start }.as_secs_f64()
    }

    /// The film's index is known now: what was judged by an assumed bitrate is judged again.
    pub fn measured_anew(&mut self, phase: Phase) {
        if phase == Phase::Opening {
            self.open = false;
        }
    }
}

impl Engine {
    /// Media from the playhead on that is here without a gap, seconds.
    pub(super) fn ahead_s(&self, now: Instant) -> f64 {
        let Some(file) = self.position.file else { return 0.0 };
        let line = self.position.line(&self.config);
        let from = self.position.playhead_offset(now, &line);
        let gap = self.board.first_unplayable(ByteRange::new(from, file.end), self.servers.trusted());
        if gap <= from {
            return 0.0;
        }
        let end = if gap >= file.end { line.duration() } else { line.time_of(gap - file.start) };
        (end.as_secs_f64() - self.position.media_now(now).as_secs_f64()).max(0.0)
    }

    /// Media that the clock waits for, seconds from where it stands; none while it does not wait.
    pub(super) fn awaited_s(&self) -> f64 {
        if self.position.waits() { self.playout.need_s(&self.config) } else { 0.0 }
    }

    pub(super) fn gate(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !self.playout.open && self.position.file.is_some() {
            let c = &self.config;
            let need = self.playout.need_s(c);
            let ahead = self.ahead_s(now);
            let line = self.position.line(c);
            let left = line.duration().as_secs_f64() - self.position.media_now(now).as_secs_f64();
            let whole = ahead >= left - 0.1;
            if whole || ahead >= need && !self.playout.late || ahead >= c.start_anyway.as_secs_f64() {
                self.playout.open = true;
                self.playout.rebuffering = false;
            }
        }
        if self.playout.told != Some(self.playout.open) {
            self.playout.told = Some(self.playout.open);
            actions.push(Action::Gate { open: self.playout.open });
        }
    }
}

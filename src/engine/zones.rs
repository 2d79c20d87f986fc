//! Which bytes are due when: the playhead's zones, and what the demuxer is waiting for.
//!
//! Read-ahead of the demuxer never makes a deadline while the clock runs: only the clock does. While it stands (opening,
//! seeking, stalled) the reader's own place is what the clock waits for, and is due now.

use std::sync::Arc;

use super::api::{Phase, Timeline};
use super::config::Config;
use crate::units::{ByteRange, Instant, MediaTime};

/// Where the player is.
#[derive(Debug, Clone)]
pub struct Position {
    /// The chosen file's bytes; `None` until the user chose.
    pub file: Option<ByteRange>,
    pub timeline: Option<Arc<Timeline>>,
    pub playhead: MediaTime,
    /// When the playhead was last told.
    pub told: Instant,
    pub phase: Phase,
    pub reader_at: u64,
    pub blocked: Option<ByteRange>,
}

impl Default for Position {
    fn default() -> Self {
        Self {
            file: None,
            timeline: None,
            playhead: MediaTime::ZERO,
            told: Instant::ZERO,
            phase: Phase::Opening,
            reader_at: 0,
            blocked: None,
        }
    }
}

/// One zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Zone {
    Urgent,
    Window,
    Ahead,
    Behind,
}

impl Position {
    /// Whether the clock stands for want of bytes, so that what the reader reads is due now.
    pub fn waits(&self) -> bool {
        matches!(self.phase, Phase::Opening | Phase::Seeking | Phase::Stalled)
    }

    /// Media time now: the playhead moves on between two tellings.
    pub fn media_now(&self, now: Instant) -> MediaTime {
        match self.phase {
            Phase::Playing => self.playhead + now.since(self.told).min(std::time::Duration::from_secs(1)),
            _ => self.playhead,
        }
    }

    /// The timeline, or a line at the bitrate assumed while nothing is known of the film.
    pub fn line(&self, config: &Config) -> Arc<Timeline> {
        let len = self.file.map_or(0, ByteRange::len);
        self.timeline.clone().unwrap_or_else(|| {
            let duration = MediaTime::from_secs_f64(len as f64 * 8.0 / config.assumed_bitrate);
            Arc::new(Timeline::linear(duration, len))
        })
    }

    /// The first byte the clock still needs, in torrent space.
    pub fn playhead_offset(&self, now: Instant, line: &Timeline) -> u64 {
        self.file.map_or(0, |f| (f.start + line.offset_of(self.media_now(now))).min(f.end))
    }

    /// How far deadlines reach. Nothing is known of the film's pace before its index: only what presses counts.
    pub fn reach(&self, config: &Config) -> std::time::Duration {
        if self.timeline.is_some() { config.window } else { config.urgent }
    }

    /// Bytes between the playhead and the end of the window.
    pub fn window(&self, now: Instant, config: &Config) -> ByteRange {
        let Some(file) = self.file else { return ByteRange::default() };
        let line = self.line(config);
        let end = file.start + line.offset_of(self.media_now(now) + self.reach(config));
        ByteRange::new(self.playhead_offset(now, &line), end.min(file.end))
    }

    /// Where the zones lie in the file now, by the clock alone.
    pub fn zones(&self, now: Instant, config: &Config) -> Zones {
        let Some(file) = self.file else { return Zones::default() };
        let line = self.line(config);
        let media = self.media_now(now);
        let at = |t| (file.start + line.offset_of(t)).min(file.end);
        Zones {
            playhead: at(media),
            window: at(media + config.urgent),
            // What is beyond the agenda, or it would be nobody's.
            ahead: at(media + self.reach(config)),
            end: file.end,
        }
    }
}

/// The zones' first bytes, in torrent space.
#[derive(Debug, Clone, Copy, Default)]
pub struct Zones {
    playhead: u64,
    window: u64,
    ahead: u64,
    end: u64,
}

impl Zones {
    /// The zone a byte is in.
    pub fn of(&self, offset: u64) -> Zone {
        match offset {
            o if o < self.playhead || o >= self.end => Zone::Behind,
            o if o < self.window => Zone::Urgent,
            o if o < self.ahead => Zone::Window,
            _ => Zone::Ahead,
        }
    }

    /// The zone of a piece's last byte of the file: a piece that the playhead is inside of is not behind.
    pub fn of_piece(&self, piece: ByteRange) -> Zone {
        self.of(piece.end.min(self.end).saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::super::agenda::Due;
    use super::*;
    use crate::units::Layout;

    fn due(p: &Position, l: &Layout, c: &Config) -> Vec<Due> {
        let agenda = p.agenda(Instant::ZERO, l, c, 10_000).unwrap();
        let mut all = Vec::new();
        for piece in agenda.pieces() {
            let mut blocks = Vec::new();
            agenda.blocks(*piece, |_| true, &mut blocks);
            all.extend(blocks);
        }
        all
    }

    fn film(phase: Phase, at_s: f64) -> (Position, Layout, Config) {
        // 100 s at 10 blocks a second, pieces of 4 blocks.
        let (len, config) = (1000 * 16_384, Config::default());
        let position = Position {
            file: Some(ByteRange::new(0, len)),
            timeline: Some(Arc::new(Timeline::linear(MediaTime::from_secs_f64(100.0), len))),
            playhead: MediaTime::from_secs_f64(at_s),
            phase,
            ..Position::default()
        };
        (position, Layout::new(len, 65_536).unwrap(), config)
    }

    #[test]
    fn while_it_plays_only_the_clock_makes_deadlines() {
        let (mut p, l, c) = film(Phase::Playing, 10.0);
        p.blocked = Some(ByteRange::new(900 * 16_384, 901 * 16_384));
        let due = due(&p, &l, &c);
        assert_eq!(due.len(), 152, "the window's 150 blocks, and the rest of its last piece");
        assert_eq!(due[0].block, l.block_at(100 * 16_384));
        assert!((due[30].own_s - 3.0).abs() < 0.01 && due[30].in_s < due[30].own_s);
    }

    #[test]
    fn bytes_behind_the_clock_are_due_if_the_reader_waits_for_them() {
        let (mut p, l, c) = film(Phase::Playing, 10.0);
        p.blocked = Some(ByteRange::new(97 * 16_384, 98 * 16_384));
        let due = due(&p, &l, &c);
        assert!(due[..4].iter().any(|d| d.block == l.block_at(97 * 16_384) && d.in_s == 0.0));
    }

    #[test]
    fn while_the_clock_stands_what_the_reader_waits_for_is_due_now() {
        let (mut p, l, c) = film(Phase::Opening, 0.0);
        p.blocked = Some(ByteRange::new(990 * 16_384, 991 * 16_384));
        let due = due(&p, &l, &c);
        assert!(due[..3].iter().any(|d| d.block == l.block_at(990 * 16_384)));
        assert_eq!(due.len(), 152 + 12);
    }

    #[test]
    fn zones_follow_the_clock() {
        let (p, _, c) = film(Phase::Playing, 10.0);
        let zone = |block: u64| p.zones(Instant::ZERO, &c).of(block * 16_384);
        assert_eq!(
            [zone(99), zone(101), zone(131), zone(260)],
            [Zone::Behind, Zone::Urgent, Zone::Window, Zone::Ahead]
        );
    }
}

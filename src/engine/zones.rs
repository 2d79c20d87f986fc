//! Which bytes are due when: the playhead's zones, and what the demuxer is waiting for.
//!
//! Read-ahead of the demuxer never makes a deadline while the clock runs: only the clock does. While it stands (opening,
//! seeking, stalled) the reader's own place is what the clock waits for, and is due now.

use std::sync::Arc;

use super::api::{Phase, Timeline};
use super::config::Config;
use crate::units::{BlockRef, ByteRange, Instant, Layout, MediaTime, PieceIndex};

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

/// Where in the window a block counts as due that nothing plays from and that only completes a begun piece.
const COMPLETING: f64 = 0.8;

/// One zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Zone {
    Urgent,
    Window,
    Ahead,
    Behind,
}

/// A block that is due within the window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Due {
    pub block: BlockRef,
    /// Seconds until it is due from peers: with the first needed byte of its piece, since none of a piece's bytes are
    /// played before its hash checks.
    pub in_s: f64,
    /// Seconds until its own first byte is due: what counts for a server, whose bytes are played as they arrive.
    pub own_s: f64,
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

    /// Bytes between the playhead and the end of the window.
    pub fn window(&self, now: Instant, config: &Config) -> ByteRange {
        let Some(file) = self.file else { return ByteRange::default() };
        let line = self.line(config);
        let reach = if self.timeline.is_some() { config.window } else { config.urgent };
        let end = file.start + line.offset_of(self.media_now(now) + reach);
        ByteRange::new(self.playhead_offset(now, &line), end.min(file.end))
    }

    /// What is due within the window, soonest first, whatever of it is here already left in. At most `most` blocks.
    pub fn due(
        &self,
        now: Instant,
        layout: &Layout,
        config: &Config,
        skip: impl Fn(BlockRef) -> bool,
        most: usize,
    ) -> Vec<Due> {
        let Some(file) = self.file else { return Vec::new() };
        let line = self.line(config);
        let media = self.media_now(now);
        // Nothing is known of the film's pace before its index: only what presses counts.
        let reach = if self.timeline.is_some() { config.window } else { config.urgent };
        let horizon = reach.as_secs_f64();
        let mut out = Vec::new();
        let mut run = |range: ByteRange, due: &dyn Fn(u64) -> f64| {
            let range = range.intersect(file);
            for p in layout.pieces_in(range) {
                let piece = layout.piece_range(PieceIndex(p));
                let in_s = due(piece.start.max(range.start));
                for block in layout.blocks_in(piece) {
                    if out.len() >= most {
                        return;
                    }
                    let bytes = layout.block_range(block);
                    let own_s = if bytes.end <= range.start || bytes.start >= file.end {
                        // It only completes the piece, so that its hash can be checked: after all that is played.
                        COMPLETING * horizon
                    } else {
                        due(bytes.start.max(range.start))
                    };
                    if !skip(block) {
                        out.push(Due { block, in_s, own_s });
                    }
                }
            }
        };
        let at_time = |offset: u64| line.time_of(offset.saturating_sub(file.start)).as_secs_f64();
        if self.waits() {
            // The reader's own place comes first, then what it will read next, at the film's pace from there.
            let from = self.blocked.map_or(self.reader_at, |b| b.start).clamp(file.start, file.end);
            let base = at_time(from);
            let end = file.start + line.offset_of(MediaTime::from_secs_f64(base) + reach);
            if let Some(b) = self.blocked {
                run(b, &|o| if o < b.end { 0.0 } else { horizon });
            }
            run(ByteRange::new(from, end.min(file.end)), &|o| (at_time(o) - base).clamp(0.0, horizon));
        }
        let window = self.window(now, config);
        // Bytes behind the clock that the reader still waits for (a sample stored late, a decoder that runs ahead of the
        // demuxer) would never be asked for by the clock, and nothing after them would be read.
        if let Some(b) = self.blocked.filter(|b| !self.waits() && b.start < window.start) {
            run(ByteRange::new(b.start, window.start), &|_| 0.0);
        }
        run(window, &|o| (at_time(o) - media.as_secs_f64()).clamp(0.0, horizon));
        out.sort_by(|a, b| a.in_s.total_cmp(&b.in_s).then(a.own_s.total_cmp(&b.own_s)).then(a.block.cmp(&b.block)));
        let mut seen = std::collections::BTreeSet::new();
        out.retain(|d| seen.insert(d.block));
        out
    }

    /// The zone a byte is in, by the clock alone.
    pub fn zone(&self, offset: u64, now: Instant, config: &Config) -> Zone {
        let line = self.line(config);
        let Some(file) = self.file.filter(|f| f.contains(offset)) else { return Zone::Behind };
        if offset < self.playhead_offset(now, &line) {
            return Zone::Behind;
        }
        let in_s = line.time_of(offset - file.start).as_secs_f64() - self.media_now(now).as_secs_f64();
        match in_s {
            s if s < config.urgent.as_secs_f64() => Zone::Urgent,
            s if s < config.window.as_secs_f64() => Zone::Window,
            _ => Zone::Ahead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let due = p.due(Instant::ZERO, &l, &c, |_| false, 10_000);
        assert_eq!(due.len(), 152, "the window's 150 blocks, and the rest of its last piece");
        assert_eq!(due[0].block, l.block_at(100 * 16_384));
        assert!((due[30].own_s - 3.0).abs() < 0.01 && due[30].in_s < due[30].own_s);
    }

    #[test]
    fn bytes_behind_the_clock_are_due_if_the_reader_waits_for_them() {
        let (mut p, l, c) = film(Phase::Playing, 10.0);
        p.blocked = Some(ByteRange::new(97 * 16_384, 98 * 16_384));
        let due = p.due(Instant::ZERO, &l, &c, |_| false, 10_000);
        assert!(due[..4].iter().any(|d| d.block == l.block_at(97 * 16_384) && d.in_s == 0.0));
    }

    #[test]
    fn while_the_clock_stands_what_the_reader_waits_for_is_due_now() {
        let (mut p, l, c) = film(Phase::Opening, 0.0);
        p.blocked = Some(ByteRange::new(990 * 16_384, 991 * 16_384));
        let due = p.due(Instant::ZERO, &l, &c, |_| false, 10_000);
        assert!(due[..3].iter().any(|d| d.block == l.block_at(990 * 16_384)));
        assert_eq!(due.len(), 152 + 12);
    }

    #[test]
    fn zones_follow_the_clock() {
        let (p, _, c) = film(Phase::Playing, 10.0);
        let zone = |block: u64| p.zone(block * 16_384, Instant::ZERO, &c);
        assert_eq!(
            [zone(99), zone(101), zone(131), zone(260)],
            [Zone::Behind, Zone::Urgent, Zone::Window, Zone::Ahead]
        );
    }
}

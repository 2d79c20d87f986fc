//! What is due within the window, piece by piece, soonest first.
//!
//! Invariant: each piece is listed once, and `in_s` never falls along the list. Blocks are worked out only for the pieces
//! that somebody looks into: in steady play nearly all of the window is here or asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::api::Timeline;
use super::config::Config;
use super::zones::Position;
use crate::units::{BlockRef, ByteRange, Instant, Layout, PieceIndex};

/// Where in the window a block counts as due that nothing plays from and that only completes a begun piece.
const COMPLETING: f64 = 0.8;

/// A piece of which something is due within the window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DuePiece {
    pub piece: PieceIndex,
    /// Seconds until its first needed byte is due: none of a piece's bytes from peers are played before its hash checks.
    pub in_s: f64,
}

/// A block that is due within the window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Due {
    pub block: BlockRef,
    /// Seconds until it must be here: with the first needed byte of its piece, or, where a server may bring the piece's beginning
    /// ([`Agenda::end_first`]), with the first that comes of peers.
    pub in_s: f64,
    /// Seconds until its own first byte is due.
    pub own_s: f64,
}

/// Bytes that are read one after the other.
#[derive(Debug, Clone, Copy)]
struct Run {
    range: ByteRange,
    /// Media seconds that are due at once; `None`: the whole range is.
    from_s: Option<f64>,
}

/// All that is due within the window at one moment.
#[derive(Debug, Clone)]
pub struct Agenda {
    pub at: Instant,
    pieces: Vec<DuePiece>,
    runs: Vec<Run>,
    line: Arc<Timeline>,
    layout: Layout,
    file: ByteRange,
    horizon: f64,
}

impl Position {
    /// What is due, of at most `most` blocks; `None` until a file is chosen.
    pub fn agenda(&self, now: Instant, layout: &Layout, config: &Config, most: usize) -> Option<Agenda> {
        let file = self.file?;
        let line = self.line(config);
        let media = self.media_now(now);
        let reach = self.reach(config);
        let mut runs = Vec::with_capacity(3);
        if self.waits() {
            // The reader's own place comes first, then what it will read next, at the film's pace from there.
            let from = self.blocked.map_or(self.reader_at, |b| b.start).clamp(file.start, file.end);
            let base = line.time_of(from - file.start);
            let end = file.start + line.offset_of(base + reach);
            runs.extend(self.blocked.map(|range| Run { range, from_s: None }));
            runs.push(Run { range: ByteRange::new(from, end), from_s: Some(base.as_secs_f64()) });
        }
        let window = self.window(now, config);
        // Bytes behind the clock that the reader still waits for (a sample stored late, a decoder that runs ahead of the
        // demuxer) would never be asked for by the clock, and nothing after them would be read.
        if let Some(b) = self.blocked.filter(|b| !self.waits() && b.start < window.start) {
            runs.push(Run { range: ByteRange::new(b.start, window.start), from_s: None });
        }
        runs.push(Run { range: window, from_s: Some(media.as_secs_f64()) });
        let mut agenda = Agenda {
            at: now,
            pieces: Vec::new(),
            runs: Vec::new(),
            line,
            layout: *layout,
            file,
            horizon: reach.as_secs_f64(),
        };
        for mut run in runs {
            run.range = run.range.intersect(file);
            agenda.list(run);
        }
        agenda.settle(most);
        Some(agenda)
    }
}

impl Agenda {
    fn list(&mut self, run: Run) {
        if run.range.is_empty() {
            return;
        }
        for p in self.layout.pieces_in(run.range) {
            let piece = PieceIndex(p);
            let in_s = self.due(&run, self.layout.piece_range(piece).start.max(run.range.start));
            self.pieces.push(DuePiece { piece, in_s });
        }
        self.runs.push(run);
    }

    /// Soonest first, each piece once, and no more than `most` blocks.
    fn settle(&mut self, most: usize) {
        // Equally soon: in the order of the runs, what the reader waits for first.
        self.pieces.sort_by(|a, b| a.in_s.total_cmp(&b.in_s));
        if self.runs.len() > 1 {
            let mut seen = BTreeSet::new();
            self.pieces.retain(|d| seen.insert(d.piece));
        }
        let mut blocks = 0;
        let layout = self.layout;
        let keep = self.pieces.iter().take_while(|d| {
            let before = blocks;
            blocks += layout.block_count(d.piece) as usize;
            before < most
        });
        self.pieces.truncate(keep.count());
    }

    /// Seconds until a byte of the run is due.
    fn due(&self, run: &Run, offset: u64) -> f64 {
        match run.from_s {
            None if offset < run.range.end => 0.0,
            None => self.horizon,
            Some(from) => {
                let at = self.line.time_of(offset.saturating_sub(self.file.start)).as_secs_f64();
                (at - from).clamp(0.0, self.horizon)
            }
        }
    }

    /// Drops the pieces that `wanted` does not keep.
    pub fn keep(&mut self, wanted: impl Fn(PieceIndex) -> bool) {
        self.pieces.retain(|d| wanted(d.piece));
    }

    /// The pieces, soonest first.
    pub fn pieces(&self) -> &[DuePiece] {
        &self.pieces
    }

    /// Seconds until the block's own first byte is due.
    fn own_s(&self, block: BlockRef) -> f64 {
        let bytes = self.layout.block_range(block);
        let piece = self.layout.piece_range(block.piece);
        let of_run = |run: &Run| {
            if piece.intersect(run.range).is_empty() {
                None
            } else if bytes.end <= run.range.start || bytes.start >= self.file.end {
                // It only completes the piece, so that its hash can be checked: after all that is played.
                Some(COMPLETING * self.horizon)
            } else {
                Some(self.due(run, bytes.start.max(run.range.start)))
            }
        };
        self.runs.iter().filter_map(of_run).min_by(f64::total_cmp).unwrap_or(self.horizon)
    }

    /// The piece's blocks that `wanted` keeps, into `out`, soonest first.
    pub fn blocks(&self, due: DuePiece, wanted: impl Fn(u32) -> bool, out: &mut Vec<Due>) {
        out.clear();
        for index in (0..self.layout.block_count(due.piece)).filter(|i| wanted(*i)) {
            let block = BlockRef { piece: due.piece, block: index };
            out.push(Due { block, in_s: due.in_s, own_s: self.own_s(block) });
        }
        out.sort_by(|a, b| a.own_s.total_cmp(&b.own_s));
    }

    /// A piece's blocks, as [`Agenda::blocks`] gives them, where a server's bytes are played as they come: it can bring the beginning
    /// while peers bring the end, none of which plays before the piece is whole. So all of peers is due when the first of it is,
    /// and peers are asked from the end: a piece that they do not finish then lacks what is due last of the server, not first.
    /// `of_peers` are the blocks that peers gave or were asked for, in order. Answers how many are more than completing.
    pub fn end_first(&self, of_peers: impl Iterator<Item = BlockRef>, blocks: &mut [Due]) -> usize {
        let completing = COMPLETING * self.horizon;
        let first = of_peers.map(|b| self.own_s(b)).find(|own_s| *own_s != completing).unwrap_or(f64::INFINITY);
        for d in blocks.iter_mut() {
            d.in_s = d.own_s.min(first).max(d.in_s);
        }
        blocks.reverse();
        // What only completes the piece stays last.
        blocks.sort_by_key(|d| d.own_s == completing);
        blocks.partition_point(|d| d.own_s != completing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::api::Phase;
    use crate::units::MediaTime;

    /// 100 s at 10 blocks a second, pieces of 4 blocks, playing at `at_s`.
    fn playing(at_s: f64) -> Agenda {
        let len = 1000 * 16_384;
        let position = Position {
            file: Some(ByteRange::new(0, len)),
            timeline: Some(Arc::new(Timeline::linear(MediaTime::from_secs_f64(100.0), len))),
            playhead: MediaTime::from_secs_f64(at_s),
            phase: Phase::Playing,
            ..Position::default()
        };
        position.agenda(Instant::ZERO, &Layout::new(len, 65_536).unwrap(), &Config::default(), 10_000).unwrap()
    }

    /// The blocks of a piece from the end, and the seconds until each must be here; and how many play.
    fn end_first(agenda: &Agenda, piece: u32, of_peers: &[u32]) -> (Vec<(u32, f64)>, usize) {
        let piece = *agenda.pieces().iter().find(|d| d.piece.0 == piece).unwrap();
        let mut blocks = Vec::new();
        agenda.blocks(piece, |_| true, &mut blocks);
        let of_peers = of_peers.iter().map(|block| BlockRef { piece: piece.piece, block: *block });
        let plays = agenda.end_first(of_peers, &mut blocks);
        (blocks.iter().map(|d| (d.block.block, (d.in_s * 10.0).round() / 10.0)).collect(), plays)
    }

    #[test]
    fn what_peers_bring_of_a_piece_is_due_with_the_first_of_it() {
        let a = playing(10.0);
        // Piece 30 begins at 12 s.
        assert_eq!(end_first(&a, 30, &[]), (vec![(3, 2.3), (2, 2.2), (1, 2.1), (0, 2.0)], 4));
        assert_eq!(end_first(&a, 30, &[2]), (vec![(3, 2.2), (2, 2.2), (1, 2.1), (0, 2.0)], 4));
        assert_eq!(end_first(&a, 30, &[0, 3]), (vec![(3, 2.0), (2, 2.0), (1, 2.0), (0, 2.0)], 4));
    }

    #[test]
    fn what_only_completes_a_piece_is_asked_for_last_and_makes_nothing_due() {
        // Block 2 of piece 25 is the first that plays.
        let a = playing(10.2);
        assert_eq!(end_first(&a, 25, &[0]), (vec![(3, 0.1), (2, 0.0), (1, 12.0), (0, 12.0)], 2));
    }
}

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
    /// Seconds until it is due from peers: with the first needed byte of its piece.
    pub in_s: f64,
    /// Seconds until its own first byte is due: what counts for a server, whose bytes are played as they arrive.
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
}

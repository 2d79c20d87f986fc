//! The engine as others see it.

use super::snapshot::{EngineSnapshot, LinkView, PieceCell, PieceState, Waiting};
use super::{Engine, Phase};
use crate::units::{ByteRange, Instant, PieceIndex};

impl Engine {
    pub(super) fn view(&self, now: Instant) -> EngineSnapshot {
        let layout = self.board.layout();
        let pieces = (0..layout.piece_count()).map(|p| self.piece_view(PieceIndex(p))).collect();
        EngineSnapshot {
            at: now,
            pieces,
            pieces_here: self.board.verified().count(),
            file_pieces: self.position.file.map_or(0..0, |f| layout.pieces_in(f)),
            ahead_s: self.ahead_s(now),
            urgent_s: self.config.urgent.as_secs_f64(),
            window_s: self.config.window.as_secs_f64(),
            waiting: self.waiting(now),
            gate_open: self.playout.open,
            totals: self.totals,
            swarm_rate: self.swarm_gauge.get(),
            server_rate: self.server_gauge.get(),
            upload_rate: self.upload_gauge.get(),
            bids: self.bids.clone(),
            peer_budget: self.priority.hold().map(|h| h.budget as u64),
            server_share: self.priority.hold().map_or(0, |h| h.left as u64),
            origins: self.servers.origins.len() as u32,
            servers: self.servers.view(now),
            links: self
                .links
                .values()
                .map(|l| LinkView {
                    link: l.id,
                    pieces: l.has.count(),
                    choked: l.choked,
                    interested: l.interested,
                    choking: l.choking,
                    peer_interested: l.peer_interested,
                    down: l.down.get(),
                    up: l.up.get(),
                    received: l.received,
                    sent: l.sent,
                    in_flight: l.asks.len() as u32,
                    rtt: l.rtt,
                })
                .collect(),
        }
    }

    fn piece_view(&self, p: PieceIndex) -> PieceCell {
        let begun = self.board.get(p);
        PieceCell {
            state: self.board.state(p),
            origin: match begun {
                None => self.board.origin(p),
                Some(g) => g.origin(),
            },
            on_its_way: begun.is_some_and(|g| g.cells.iter().any(|c| !c.asked.is_empty() || c.fetch.is_some())),
            availability: self.availability.of(p),
            blocks_here: match begun {
                _ if self.board.state(p) == PieceState::Here => self.board.layout().block_count(p) as u16,
                None => 0,
                Some(g) => g.here as u16,
            },
        }
    }

    /// What the clock or the reader waits for; `None` while play goes on.
    fn waiting(&self, now: Instant) -> Option<Waiting> {
        let file = self.position.file?;
        if !self.position.waits() {
            return None;
        }
        let line = self.position.line(&self.config);
        let from = match self.position.blocked {
            Some(b) => b.start,
            None => self.position.playhead_offset(now, &line),
        };
        let gap = self.board.first_unplayable(ByteRange::new(from, file.end), self.servers.trusted());
        if self.position.phase == Phase::Opening && self.position.blocked.is_none() && gap == from && self.playout.open
            || gap >= file.end
        {
            return None;
        }
        let piece = self.board.layout().piece_at(gap);
        let begun = self.board.get(piece);
        let cells = begun.map(|g| g.cells.as_slice()).unwrap_or_default();
        Some(Waiting {
            piece,
            blocks_here: begun.map_or(0, |g| g.here),
            blocks: self.board.layout().block_count(piece),
            peers_with_it: u32::from(self.availability.of(piece)),
            on_its_way: cells.iter().filter(|c| !c.asked.is_empty() || c.fetch.is_some()).count() as u32,
            from_server: cells.iter().any(|c| c.fetch.is_some()),
        })
    }
}

/// What is forecast of one outstanding request, as it was when the request was sent; the deviation is the link's by now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// When the block should be here.
    pub expected: Instant,
    /// Mean deviation of the link's blocks from their forecasts; `None` while it has answered nothing.
    pub deviation: Option<std::time::Duration>,
    /// The link had answered nothing yet: a guess.
    pub guess: bool,
}

impl Engine {
    /// The forecast of a request under way.
    pub fn forecast(&self, link: crate::units::LinkId, block: crate::units::BlockRef) -> Option<Forecast> {
        let l = self.links.get(&link)?;
        let ask = l.asks.iter().rev().find(|a| a.block == block)?;
        let deviation =
            l.lateness().mean().map(|_| std::time::Duration::from_secs_f64(l.lateness().dev().clamp(0.0, 1e6)));
        Some(Forecast { expected: ask.expected, deviation, guess: ask.guess })
    }

    /// Payload bytes so far.
    pub fn totals(&self) -> super::snapshot::Totals {
        self.totals
    }
}

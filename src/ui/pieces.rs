//! What a piece looks like and what is said of it: one rule for the strip, the map and every hover text.

use std::ops::Range;

use eframe::egui::Color32;

use super::fmt;
use super::theme::Tokens;
use crate::app::snapshot::{EngineSnapshot, Origin, PieceCell, PieceState};

/// Bytes a peer is asked for at a time; pieces are counted in these (BEP 3).
const BLOCK: u32 = 16 * 1024;

/// The one thing that is told of a piece by its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    FromPeers,
    FromServer,
    FromBoth,
    FromDisk,
    OnItsWay,
    /// Missing; this many connected peers have it.
    Available(u16),
    /// Missing; no peer has it and there is no server.
    Nobody,
}

impl Look {
    /// Of one piece. A server in use has every piece.
    pub fn of(cell: &PieceCell, servers: u32) -> Self {
        match (cell.state, cell.origin) {
            (PieceState::Here, Origin::Server) => Self::FromServer,
            (PieceState::Here, Origin::Both) => Self::FromBoth,
            (PieceState::Here, Origin::Disk) => Self::FromDisk,
            (PieceState::Here, Origin::Peers | Origin::None) => Self::FromPeers,
            (PieceState::Checking, _) => Self::OnItsWay,
            _ if cell.on_its_way => Self::OnItsWay,
            _ if cell.availability == 0 && servers == 0 => Self::Nobody,
            _ => Self::Available(cell.availability),
        }
    }

    /// Of several pieces that share one mark. What needs attention wins: nobody has one, then one on its way. Else the
    /// larger part tells; where that is here, the one in the middle stands for all, so that over many marks the shares
    /// of peers and server look as they are.
    pub fn of_all(cells: &[PieceCell], servers: u32) -> Option<Self> {
        if let [cell] = cells {
            return Some(Self::of(cell, servers));
        }
        let (mut here, mut rarest, mut on_its_way) = (0, u16::MAX, false);
        for cell in cells {
            match Self::of(cell, servers) {
                Self::Nobody => return Some(Self::Nobody),
                Self::OnItsWay => on_its_way = true,
                Self::Available(n) => rarest = rarest.min(n),
                _ => here += 1,
            }
        }
        match here {
            _ if cells.is_empty() => None,
            _ if on_its_way => Some(Self::OnItsWay),
            _ if here * 2 < cells.len() => Some(Self::Available(rarest)),
            _ => {
                let here_ones = cells.iter().filter(|c| c.state == PieceState::Here);
                here_ones.map(|c| Self::of(c, servers)).nth(here / 2)
            }
        }
    }

    pub fn color(self, t: &Tokens) -> Color32 {
        match self {
            Self::FromPeers => t.from_peers,
            Self::FromServer | Self::FromBoth => t.from_server,
            Self::FromDisk => t.from_disk,
            Self::OnItsWay => t.on_its_way,
            Self::Available(n) => t.available(n),
            Self::Nobody => t.nobody,
        }
    }
}

/// The cells of `range`, as far as they exist.
pub fn slice<'a>(engine: &'a EngineSnapshot, range: &Range<u32>) -> &'a [PieceCell] {
    let end = (range.end as usize).min(engine.pieces.len());
    engine.pieces.get((range.start as usize).min(end)..end).unwrap_or_default()
}

/// What is known of the pieces, in words: "piece 118 · on its way, 3 of 64 blocks · 2 peers have it".
pub fn describe(engine: &EngineSnapshot, range: &Range<u32>, piece_len: u32) -> Option<String> {
    match slice(engine, range) {
        [] => None,
        [cell] => Some(format!("piece {} · {}", range.start, one(cell, engine.origins, piece_len))),
        many => {
            let here = many.iter().filter(|c| c.state == PieceState::Here).count();
            let mut text = format!("pieces {}–{} · {here} of {} here", range.start, range.end - 1, many.len());
            if here < many.len() {
                let missing = many.iter().filter(|c| c.state != PieceState::Here);
                let rarest = missing.map(|c| c.availability).min().unwrap_or(0);
                text += &match rarest {
                    0 if engine.origins == 0 => " · nobody has all".to_owned(),
                    n => format!(" · {}", holders(n, engine.origins)),
                };
            }
            Some(text)
        }
    }
}

fn one(cell: &PieceCell, servers: u32, piece_len: u32) -> String {
    let blocks = piece_len.div_ceil(BLOCK).max(u32::from(cell.blocks_here));
    match Look::of(cell, servers) {
        Look::FromPeers => "here, from peers".to_owned(),
        Look::FromServer => "here, from the server".to_owned(),
        Look::FromBoth => "here, from peers and the server".to_owned(),
        Look::FromDisk => "here, from an earlier time".to_owned(),
        Look::OnItsWay if cell.state == PieceState::Checking => "being checked".to_owned(),
        Look::OnItsWay => {
            let share = format!("on its way, {} of {blocks} blocks", cell.blocks_here);
            format!("{share} · {}", holders(cell.availability, servers))
        }
        Look::Available(_) | Look::Nobody if cell.blocks_here > 0 => {
            format!("{} of {blocks} blocks here · {}", cell.blocks_here, holders(cell.availability, servers))
        }
        Look::Available(_) | Look::Nobody => holders(cell.availability, servers),
    }
}

fn holders(peers: u16, servers: u32) -> String {
    match (peers, servers) {
        (0, 0) => "nobody has it".to_owned(),
        (0, _) => "no peer has it, the server does".to_owned(),
        (1, _) => "1 peer has it".to_owned(),
        (n, _) => format!("{} peers have it", fmt::count(n.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of pieces: P peers, S server, D disk, > on its way, . missing with two peers, ! missing with none.
    fn picture(s: &str) -> Vec<PieceCell> {
        let here = |origin| PieceCell { state: PieceState::Here, origin, ..PieceCell::default() };
        s.chars()
            .map(|c| match c {
                'P' => here(Origin::Peers),
                'S' => here(Origin::Server),
                'D' => here(Origin::Disk),
                '>' => PieceCell {
                    state: PieceState::Begun,
                    on_its_way: true,
                    availability: 2,
                    blocks_here: 3,
                    ..PieceCell::default()
                },
                '.' => PieceCell { availability: 2, ..PieceCell::default() },
                _ => PieceCell::default(),
            })
            .collect()
    }

    #[test]
    fn what_needs_attention_wins_a_shared_mark() {
        let look = |s, servers| Look::of_all(&picture(s), servers);
        assert_eq!(look("PPP", 0), Some(Look::FromPeers));
        assert_eq!(look("PPSP", 0), Some(Look::FromServer));
        assert_eq!(look("SPPP", 0), Some(Look::FromPeers));
        assert_eq!(look("PPP>", 0), Some(Look::OnItsWay));
        assert_eq!(look("PP>!", 0), Some(Look::Nobody));
        assert_eq!(look("P..", 0), Some(Look::Available(2)));
        assert_eq!(look("PDP", 0), Some(Look::FromDisk));
        assert_eq!(look("!", 1), Some(Look::Available(0)));
        assert_eq!(look("", 0), None);
    }

    #[test]
    fn words_for_a_moment() {
        let engine = EngineSnapshot { pieces: picture("P>.!").into(), ..EngineSnapshot::default() };
        let say = |r| describe(&engine, &r, 1 << 20).unwrap_or_default();
        assert_eq!(say(0..1), "piece 0 · here, from peers");
        assert_eq!(say(1..2), "piece 1 · on its way, 3 of 64 blocks · 2 peers have it");
        assert_eq!(say(2..3), "piece 2 · 2 peers have it");
        assert_eq!(say(3..4), "piece 3 · nobody has it");
        assert_eq!(say(0..4), "pieces 0–3 · 1 of 4 here · nobody has all");
        assert_eq!(describe(&engine, &(9..12), 1), None);
    }
}

//! Pieces whose hash fails: who sent them, and what follows. A peer that alone supplied one is banned; where several did,
//! the piece is fetched again from one link alone, rather one that had no part in it: if it fails again that has one cause,
//! and if it checks its blocks tell by comparison whose were false before. What a liar gave of other pieces is void. An origin that sent a bad piece
//! is treated like a peer from then on: nothing of it is played before its hash checks; a second one and it is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::board::{Begun, Giver};
use super::{Action, Engine};
use crate::units::{Instant, LinkId, OriginId, PieceIndex};

/// What is held against whom.
#[derive(Debug, Clone, Default)]
pub(super) struct Trust {
    /// Bad pieces that an origin alone supplied.
    bad_from_server: u32,
    /// Servers took part in a bad piece: what they send waits for its hash, also of one that went away and came back.
    pub suspect: bool,
    /// Servers that are not taken back, whatever they answer later.
    pub dropped: BTreeSet<OriginId>,
    /// The failures of each piece not verified since.
    pub failed: BTreeMap<PieceIndex, Vec<Failure>>,
    /// Whole pieces that wait for their hash check until it is known who lied, and since when.
    held: BTreeMap<PieceIndex, Instant>,
    /// Told of a piece that is about to be called corrupt.
    sums: Option<(PieceIndex, Vec<u64>)>,
}

/// One failed copy of a piece: who gave each block, and its sum.
type Failure = Vec<(Option<Giver>, u64)>;

/// Failed pieces, and failures of one, whose givers are remembered: a swarm of liars must not fill memory.
const FAILED_MOST: usize = 64;
const FAILURES_MOST: usize = 4;
/// A piece waits no longer than this for a suspicion to be settled: the piece that settles it comes from one link.
const HOLD_MOST: Duration = Duration::from_secs(3);

impl Engine {
    pub(super) fn piece_corrupt(&mut self, piece: PieceIndex, actions: &mut Vec<Action>) {
        let Some(begun) = self.board.void(piece) else { return };
        self.totals.corrupt += self.board.layout().piece_range(piece).len();
        actions.push(Action::Void { piece });
        let givers: BTreeSet<Option<LinkId>> = begun
            .cells
            .iter()
            .filter_map(|c| c.here)
            .filter_map(|g| match g {
                Giver::Link(l) => Some(Some(l)),
                Giver::Server => Some(None),
                Giver::Known => None,
            })
            .collect();
        let mut alone = givers.iter();
        match (alone.next(), alone.next()) {
            (Some(Some(link)), None) => self.ban(*link, actions),
            (Some(None), None) => self.distrust_origins(true, actions),
            _ if givers.contains(&None) => self.distrust_origins(false, actions),
            _ => {}
        }
        self.keep_evidence(piece, &begun);
        for link in givers.iter().flatten() {
            if let Some(l) = self.links.get_mut(link) {
                l.suspect = true;
            }
        }
        self.forget_asks(piece, Some(&begun));
        self.reindex_piece(piece);
    }

    /// Whether the piece, whole now, waits until it is known who of its givers lied: what a liar gave of it is then asked for
    /// again, instead of the whole piece after one more failure.
    pub(super) fn hold(&mut self, now: Instant, piece: PieceIndex) -> bool {
        if self.trust.failed.is_empty() || self.trust.failed.contains_key(&piece) {
            return false;
        }
        let since = *self.trust.held.entry(piece).or_insert(now);
        let suspect = |g: &Giver| matches!(g, Giver::Link(l) if self.links.get(l).is_some_and(|l| l.suspect));
        let doubt = self.board.get(piece).is_some_and(|g| g.cells.iter().filter_map(|c| c.here).any(|g| suspect(&g)));
        let hold = doubt && now.since(since) < HOLD_MOST;
        if !hold {
            self.trust.held.remove(&piece);
        }
        hold
    }

    /// Looks again at the pieces that wait.
    pub(super) fn release(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for piece in self.trust.held.keys().copied().collect::<Vec<_>>() {
            if !self.board.whole_piece(piece) || self.trust.failed.is_empty() {
                self.trust.held.remove(&piece);
            }
            self.piece_progress(now, piece, actions);
        }
    }

    /// Keeps who gave which block of a piece that failed, to compare with a copy that checks.
    fn keep_evidence(&mut self, piece: PieceIndex, begun: &Begun) {
        let sums = self.trust.sums.take().filter(|s| s.0 == piece).map(|s| s.1).unwrap_or_default();
        let most = self.trust.failed.len() < FAILED_MOST;
        let known = self.trust.failed.get(&piece).map_or(0, Vec::len);
        if sums.len() != begun.cells.len() || known >= FAILURES_MOST || known == 0 && !most {
            return;
        }
        let blocks = begun.cells.iter().zip(sums).map(|(c, sum)| (c.here, sum)).collect();
        self.trust.failed.entry(piece).or_default().push(blocks);
    }

    /// Block sums: of a piece that is about to fail they are evidence, of one that checks they are the truth.
    pub(super) fn note_sums(&mut self, piece: PieceIndex, sums: Vec<u64>, actions: &mut Vec<Action>) {
        if !self.board.is_here(piece) {
            self.trust.sums = Some((piece, sums));
            return;
        }
        let Some(failures) = self.trust.failed.remove(&piece) else { return };
        let mut liars = BTreeSet::new();
        let mut honest = BTreeSet::new();
        let mut server_lied = false;
        for (giver, sum, truth) in
            failures.iter().flat_map(|blocks| blocks.iter().zip(&sums).map(|((g, s), truth)| (*g, *s, *truth)))
        {
            match giver {
                Some(Giver::Link(link)) if sum != truth => liars.insert(link),
                Some(Giver::Link(link)) => honest.insert(link),
                Some(Giver::Server) => {
                    server_lied |= sum != truth;
                    false
                }
                Some(Giver::Known) | None => false,
            };
        }
        for link in honest.difference(&liars) {
            if let Some(l) = self.links.get_mut(link) {
                l.suspect = false;
            }
        }
        for link in liars {
            self.ban(link, actions);
        }
        if server_lied {
            self.distrust_origins(true, actions);
        }
    }

    /// The peer lied: it goes, and what it gave of pieces that are not whole yet is asked for again.
    fn ban(&mut self, link: LinkId, actions: &mut Vec<Action>) {
        self.drop_asks(link, true);
        self.board.end_parole(link);
        if let Some(l) = self.links.get_mut(&link).filter(|l| !l.banned) {
            l.banned = true;
            actions.push(Action::Ban { link });
        }
        let (pieces, bytes) = self.board.forget_from(link);
        self.totals.corrupt += bytes;
        for piece in pieces {
            self.reindex_piece(piece);
        }
        self.stirred = true;
    }

    /// Which of several origins sent it is not known: none is played unchecked any more.
    fn distrust_origins(&mut self, alone: bool, actions: &mut Vec<Action>) {
        self.trust.bad_from_server += u32::from(alone);
        self.trust.suspect = true;
        for o in self.servers.origins.values_mut() {
            o.distrusted = true;
        }
        if self.trust.bad_from_server >= 2 {
            let all: Vec<OriginId> = self.servers.origins.keys().copied().collect();
            for origin in all {
                self.origin_down(origin);
                self.trust.dropped.insert(origin);
                actions.push(Action::DropOrigin { origin });
            }
        }
    }
}

//! Pieces whose hash fails: who sent them, and what follows. A peer that alone supplied one is banned; where several did, the
//! piece is fetched again so that the copies can be compared (`retry`): once one checks, its blocks tell whose were false before.
//! What a liar gave of other pieces is void. An origin that sent a bad piece is treated like a peer from then on: nothing of it
//! is played before its hash checks; a second one and it is dropped.
//!
//! Invariant: nobody is banned but for bytes of its own that are known to be false.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::board::{Begun, Giver};
use super::evidence::{self, Block, Copy, link_of};
use super::links::Link;
use super::retry::Mode;
use super::{Action, Engine};
use crate::units::{BlockRef, Instant, LinkId, OriginId, PieceIndex};

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
    pub failed: BTreeMap<PieceIndex, Vec<Copy>>,
    /// Whole pieces that wait for their hash check until it is known who lied, and since when.
    held: BTreeMap<PieceIndex, Instant>,
    /// Told of a piece that is about to be called corrupt.
    sums: Option<(PieceIndex, Vec<u64>)>,
}

/// Failed pieces, and failures of one, whose givers are remembered: a swarm of liars must not fill memory.
const FAILED_MOST: usize = 64;
const FAILURES_MOST: usize = 5;
/// A piece waits no longer than this for a suspicion to be settled.
const HOLD_MOST: Duration = Duration::from_secs(3);
/// A suspicion that was not settled by then holds nothing up any more: the piece in question may not be to be had.
const DOUBT_MOST: Duration = Duration::from_secs(20);
/// Where at least this share of the links had no part in a failed piece, it is fetched from them alone.
const CLEAN_ENOUGH: f64 = 0.5;
/// A copy for which others are to be found than before takes no longer than this: then one link gives it.
const OTHERS_MOST: Duration = Duration::from_secs(10);

impl Engine {
    pub(super) fn piece_corrupt(&mut self, now: Instant, piece: PieceIndex, actions: &mut Vec<Action>) {
        let Some(begun) = self.board.get(piece) else { return };
        let sums = self.trust.sums.take().filter(|s| s.0 == piece && s.1.len() == begun.cells.len()).map(|s| s.1);
        let copy: Option<Copy> = sums.map(|s| begun.cells.iter().map(|c| c.here).zip(s).collect());
        let (mode, keep) = self.next_copy(piece, begun, copy.as_ref());
        let kept = |block: u32| keep.get(block as usize).copied().unwrap_or(false);
        let Some(begun) = self.board.void(now, piece, mode, kept) else { return };
        let layout = *self.board.layout();
        let given = |g: Option<Giver>| matches!(g, Some(Giver::Link(_) | Giver::Server));
        let void = (0u32..).zip(&begun.cells).filter(|(i, c)| given(c.here) && !kept(*i));
        self.totals.corrupt += void.map(|(block, _)| layout.block_range(BlockRef { piece, block }).len()).sum::<u64>();
        actions.push(Action::Void { piece });
        let givers: BTreeSet<Giver> = begun.cells.iter().filter_map(|c| c.here).filter(|g| given(Some(*g))).collect();
        let mut alone = givers.iter();
        match (alone.next(), alone.next()) {
            (Some(Giver::Link(link)), None) => self.ban(*link, actions),
            (Some(Giver::Server), None) => self.distrust_origins(true, actions),
            _ if givers.contains(&Giver::Server) => self.distrust_origins(false, actions),
            _ => {}
        }
        self.keep_evidence(piece, copy);
        for giver in &givers {
            if let Giver::Link(link) = giver
                && let Some(l) = self.links.get_mut(link)
            {
                l.suspect = true;
            }
        }
        self.forget_asks(piece, Some(&begun));
        self.reindex_piece(piece);
        self.stirred = true;
    }

    /// Who gives the next copy of a piece that fails now, and which blocks of this one it keeps.
    fn next_copy(&self, piece: PieceIndex, begun: &Begun, copy: Option<&Copy>) -> (Mode, Vec<bool>) {
        let failures = self.board.retries().get(piece).map_or(0, |r| r.failures);
        let earlier = self.trust.failed.get(&piece).map_or(&[][..], |f| f);
        let plan = if failures == 0 && self.board.retries().iter().count() < FAILED_MOST {
            let givers: Vec<Option<Giver>> = begun.cells.iter().map(|c| c.here).collect();
            evidence::without(&givers, &self.less_trusted(piece, &givers))
        } else if let Some(copy) = copy.filter(|_| failures > 0 && earlier.len() == failures as usize) {
            evidence::weigh(&earlier.iter().chain([copy]).collect::<Vec<_>>())
        } else {
            return (Mode::Alone(None), Vec::new());
        };
        let able: Vec<LinkId> = self.links.values().filter(|l| l.answers(piece)).map(|l| l.id).collect();
        let somebody = |barred: &Vec<LinkId>| able.iter().any(|l| !barred.contains(l));
        let possible = plan.barred.iter().zip(&plan.keep).all(|(barred, kept)| *kept || somebody(barred));
        if !possible || plan.keep.iter().all(|k| *k) {
            return (Mode::Alone(None), Vec::new());
        }
        (Mode::Without(plan.barred), plan.keep)
    }

    /// The givers whose blocks are replaced first: all where enough others have the piece, else the half that has less to show
    /// for itself.
    fn less_trusted(&self, piece: PieceIndex, givers: &[Option<Giver>]) -> Vec<LinkId> {
        let givers: BTreeSet<LinkId> = givers.iter().filter_map(|g| link_of(*g)).collect();
        let able = || self.links.values().filter(|l| l.answers(piece));
        let clean = able().filter(|l| !l.suspect && !givers.contains(&l.id)).count();
        let keeps = if clean as f64 >= CLEAN_ENOUGH * able().count() as f64 { 0 } else { givers.len().div_ceil(2) };
        let mut order: Vec<&Link> = givers.iter().filter_map(|l| self.links.get(l)).collect();
        order.sort_by_key(|l| (l.suspect, std::cmp::Reverse(l.proven), l.received, l.id));
        let kept: BTreeSet<LinkId> =
            order.iter().take(keeps.min(givers.len().saturating_sub(1))).map(|l| l.id).collect();
        givers.difference(&kept).copied().collect()
    }

    /// Pieces that wait for somebody else than before, in vain, are given by one link.
    fn review_retries(&mut self, now: Instant) {
        let waits = self.board.retries().iter().filter(|(_, r)| matches!(r.mode, Mode::Without(_)));
        let stuck = waits.filter(|(p, r)| now.since(r.at) > OTHERS_MOST || self.nobody_else(*p));
        for piece in stuck.map(|(p, _)| p).collect::<Vec<_>>() {
            self.board.retry_alone(piece);
        }
    }

    /// Whether all that would answer for the piece are barred from a block that is missing.
    fn nobody_else(&self, piece: PieceIndex) -> bool {
        let able: Vec<LinkId> = self.links.values().filter(|l| l.answers(piece)).map(|l| l.id).collect();
        let blocks = (0..self.board.layout().block_count(piece)).map(|block| BlockRef { piece, block });
        let mut free = blocks.filter(|b| self.board.is_free(*b));
        free.any(|b| !able.iter().any(|l| self.board.admits(b, *l)))
    }

    /// Whether the piece, whole now, waits until it is known who of its givers lied: what a liar gave of it is then asked for
    /// again, instead of the whole piece after one more failure.
    pub(super) fn hold(&mut self, now: Instant, piece: PieceIndex) -> bool {
        let open = self.board.retries().iter().any(|(_, r)| now.since(r.at) < DOUBT_MOST);
        if !open || self.board.failed(piece) {
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
        self.review_retries(now);
        for piece in self.trust.held.keys().copied().collect::<Vec<_>>() {
            if !self.board.whole_piece(piece) || self.board.retries().is_empty() {
                self.trust.held.remove(&piece);
            }
            self.piece_progress(now, piece, actions);
        }
    }

    /// Keeps who gave which block of a piece that failed, to compare with a copy that checks.
    fn keep_evidence(&mut self, piece: PieceIndex, copy: Option<Copy>) {
        let most = self.trust.failed.len() < FAILED_MOST;
        let known = self.trust.failed.get(&piece).map_or(0, Vec::len);
        if known < FAILURES_MOST && (known > 0 || most) {
            self.trust.failed.entry(piece).or_default().extend(copy);
        }
    }

    /// Block sums: of a piece that is about to fail they are evidence, of one that checks they are the truth.
    pub(super) fn note_sums(&mut self, now: Instant, piece: PieceIndex, sums: Vec<u64>, actions: &mut Vec<Action>) {
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
        let gave = |link: &LinkId, b: &Block| b.0 == Some(Giver::Link(*link));
        let others: Vec<&Block> = self.trust.failed.values().flatten().flatten().collect();
        for link in honest.difference(&liars).filter(|l| !others.iter().any(|b| gave(l, b))) {
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
        self.release(now, actions);
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

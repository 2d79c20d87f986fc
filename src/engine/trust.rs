//! Pieces whose hash fails: who sent them, and what follows. A peer that alone supplied one is banned; where several did, the
//! piece is fetched again so that the copies can be compared (`retry`): once one checks, its blocks tell whose were false before.
//! What a liar gave of other pieces is void. An origin that sent a bad piece is treated like a peer from then on: nothing of it
//! is played before its hash checks; a second one and it is dropped.
//!
//! Invariant: nobody is banned but for bytes of its own that are known to be false.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::board::{Begun, Giver};
use super::links::Link;
use super::retry::{Mode, Retry};
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
    pub failed: BTreeMap<PieceIndex, Vec<Failure>>,
    /// Whole pieces that wait for their hash check until it is known who lied, and since when.
    held: BTreeMap<PieceIndex, Instant>,
    /// Told of a piece that is about to be called corrupt.
    sums: Option<(PieceIndex, Vec<u64>)>,
}

/// One failed copy of a piece: who gave each block, and its sum.
type Failure = Vec<Block>;
type Block = (Option<Giver>, u64);

/// Failed pieces, and failures of one, whose givers are remembered: a swarm of liars must not fill memory.
const FAILED_MOST: usize = 64;
const FAILURES_MOST: usize = 4;
/// A piece waits no longer than this for a suspicion to be settled.
const HOLD_MOST: Duration = Duration::from_secs(3);
/// So many links that had no part in a failed piece are enough to fetch it from them alone.
const CLEAN_ENOUGH: usize = 2;
/// A copy for which others are to be found than before takes no longer than this: then one link gives it.
const OTHERS_MOST: Duration = Duration::from_secs(10);

impl Engine {
    pub(super) fn piece_corrupt(&mut self, now: Instant, piece: PieceIndex, actions: &mut Vec<Action>) {
        let Some(begun) = self.board.get(piece) else { return };
        let sums = self.trust.sums.take().filter(|s| s.0 == piece && s.1.len() == begun.cells.len()).map(|s| s.1);
        let copy: Option<Failure> = sums.map(|s| begun.cells.iter().map(|c| c.here).zip(s).collect());
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
    fn next_copy(&self, piece: PieceIndex, begun: &Begun, copy: Option<&Failure>) -> (Mode, Vec<bool>) {
        let failures = self.board.retries().get(piece).map_or(0, |r| r.failures);
        let cells = || begun.cells.iter().map(|c| c.here);
        let (barred, keep): (BTreeSet<LinkId>, Vec<bool>) = if failures == 0 {
            let barred = self.less_trusted(piece, cells().flatten());
            let keep = cells().map(|g| !link_of(g).is_some_and(|l| barred.contains(&l))).collect();
            (barred, keep)
        } else {
            let first = self.trust.failed.get(&piece).and_then(|f| f.last()).filter(|_| failures == 1);
            let Some((first, second)) = first.zip(copy) else { return (Mode::Alone(None), Vec::new()) };
            accused(first, second)
        };
        let others = self.links.values().any(|l| l.answers(piece) && !barred.contains(&l.id));
        if others && !keep.iter().all(|k| *k) {
            (Mode::Without(barred.into_iter().collect()), keep)
        } else {
            (Mode::Alone(None), Vec::new())
        }
    }

    /// The givers whose blocks are replaced first: all where enough others have the piece, else the half that has less to show
    /// for itself.
    fn less_trusted(&self, piece: PieceIndex, givers: impl Iterator<Item = Giver>) -> BTreeSet<LinkId> {
        let givers: BTreeSet<LinkId> = givers.filter_map(|g| link_of(Some(g))).collect();
        let clean = |l: &&Link| l.answers(piece) && !l.suspect && !givers.contains(&l.id);
        let keeps = if self.links.values().filter(clean).count() >= CLEAN_ENOUGH { 0 } else { givers.len().div_ceil(2).min(givers.len().saturating_sub(1)) };
        let mut order: Vec<&Link> = givers.iter().filter_map(|l| self.links.get(l)).collect();
        order.sort_by_key(|l| (l.suspect, std::cmp::Reverse(l.proven), l.received, l.id));
        let kept: BTreeSet<LinkId> = order.iter().take(keeps).map(|l| l.id).collect();
        givers.difference(&kept).copied().collect()
    }

    /// Pieces that wait for somebody else than before, in vain, are given by one link.
    fn review_retries(&mut self, now: Instant) {
        let others = |p: PieceIndex, r: &Retry| self.links.values().any(|l| l.answers(p) && r.admits(l.id));
        let waits = self.board.retries().iter().filter(|(_, r)| matches!(r.mode, Mode::Without(_)));
        let stuck = waits.filter(|(p, r)| now.since(r.at) > OTHERS_MOST || !others(*p, r));
        for piece in stuck.map(|(p, _)| p).collect::<Vec<_>>() {
            self.board.retry_alone(piece);
        }
    }

    /// Whether the piece, whole now, waits until it is known who of its givers lied: what a liar gave of it is then asked for
    /// again, instead of the whole piece after one more failure.
    pub(super) fn hold(&mut self, now: Instant, piece: PieceIndex) -> bool {
        if self.board.retries().is_empty() || self.board.failed(piece) {
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
    fn keep_evidence(&mut self, piece: PieceIndex, copy: Option<Failure>) {
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

fn link_of(giver: Option<Giver>) -> Option<LinkId> {
    match giver {
        Some(Giver::Link(link)) => Some(link),
        _ => None,
    }
}

/// Who is to have no part in the third copy, and which blocks of the second it keeps.
fn accused(first: &Failure, second: &Failure) -> (BTreeSet<LinkId>, Vec<bool>) {
    let both = || first.iter().zip(second);
    let twice = |(a, b): &(&Block, &Block)| a.0 != b.0;
    let differ = both().filter(twice).filter(|(a, b)| a.1 != b.1);
    let mut pairs: Vec<[Option<LinkId>; 2]> = differ.map(|(a, b)| [link_of(a.0), link_of(b.0)]).collect();
    let mut out = BTreeSet::new();
    // The fewest that explain all differences: who differs from most goes first, and two who differ from nobody else both go.
    while !pairs.is_empty() {
        let mut counts: BTreeMap<LinkId, usize> = BTreeMap::new();
        pairs.iter().flatten().flatten().for_each(|l| *counts.entry(*l).or_default() += 1);
        let most = counts.values().copied().max();
        out.extend(counts.into_iter().filter(|c| Some(c.1) == most).map(|c| c.0));
        pairs.retain(|p| p.iter().flatten().next().is_some() && !p.iter().flatten().any(|l| out.contains(l)));
    }
    let alike = |p: &(&Block, &Block)| twice(p) && p.0.1 == p.1.1;
    let of_accused = |b: &Block, out: &BTreeSet<LinkId>| link_of(b.0).is_some_and(|l| out.contains(&l));
    if !both().any(|p| !alike(&p) && of_accused(p.1, &out)) {
        // They have no part in this copy: it was somebody else whose blocks nobody else gave.
        out.extend(both().filter(|p| !alike(p)).filter_map(|(_, b)| link_of(b.0)));
    }
    let keep = both().map(|p| alike(&p) || !of_accused(p.1, &out)).collect();
    (out, keep)
}

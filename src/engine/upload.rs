//! What peers get of us: four slots by what they give us (by what they take, once we have all), one more at random; rounds
//! of ten seconds. Who gives nothing for a minute although asked has no claim to a slot (anti-snub). Below 3 s of buffer
//! uploads step back, a block at a time; the user's limit holds for all together.
//!
//! Invariant: a request that will not be answered is rejected at once, so that the peer may ask another.

use std::collections::VecDeque;

use super::links::{Handed, Link, Wish};
use super::table::LinkSet;
use super::{Action, Engine, Phase};
use crate::units::{Instant, LinkId};

/// The choking rounds, and what of the user's limit is left.
#[derive(Debug, Clone, Default)]
pub(super) struct Upload {
    round_at: Option<Instant>,
    rounds: u32,
    optimistic: Option<LinkId>,
    /// Bytes that may be sent now; below zero after a block larger than what was left.
    tokens: f64,
    filled_at: Option<Instant>,
    /// Links that may have requests to be answered: the rest need not be looked at.
    waiting: LinkSet,
}

/// The longest request that is answered; longer ones are an attack or a fault (libtorrent refuses them as well).
const WISH_MOST: u32 = 128 * 1024;
/// Bytes handed to a link and not yet in its socket: enough to keep it busy, little enough to be forgotten on a choke.
const SENDING_MOST: u32 = 256 * 1024;
/// A newcomer is as likely as three others to get the optimistic slot: it has nothing to give yet (libtorrent and the
/// original client do the same).
const NEW_WEIGHT: usize = 3;

impl Engine {
    pub(super) fn note_interest(&mut self, now: Instant, link: LinkId, interested: bool, actions: &mut Vec<Action>) {
        let Some(l) = self.links.get_mut(&link) else { return };
        l.peer_interested = interested;
        let unchoked = self.links.values().filter(|l| !l.choking && l.peer_interested).count();
        // A free slot needs no round: waiting for it would cost the peer ten seconds for nothing.
        if interested && unchoked <= self.config.upload_slots {
            self.set_choke(now, link, false, actions);
            self.upload.round_at.get_or_insert(now);
        }
    }

    fn set_choke(&mut self, now: Instant, link: LinkId, choke: bool, actions: &mut Vec<Action>) {
        let Some(l) = self.links.get_mut(&link).filter(|l| l.choking != choke) else { return };
        l.choking = choke;
        actions.push(Action::Choke { link, choke });
        if choke {
            // What was handed over is dropped by the link's queue, and rejected there.
            l.handed.clear();
            let granted = &l.granted;
            let (keep, drop): (VecDeque<Wish>, _) = l.wishes.drain(..).partition(|w| granted.contains(&w.piece));
            l.wishes = keep;
            actions.extend(drop.into_iter().map(|w| reject(link, w)));
        } else {
            l.unchoked_at = Some(now);
        }
    }

    pub(super) fn choke_round(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.upload.round_at.is_some_and(|t| now.since(t) < self.config.choke_round) {
            return;
        }
        self.upload.round_at = Some(now);
        self.upload.rounds += 1;
        let complete = self.nothing_to_get();
        let snubs = |l: &Link| !l.asks.is_empty() && now.since(l.last_arrival) > self.config.anti_snub;
        // Equal claims (newcomers, peers that have nothing to give): who waits longest comes first.
        let mut wanting: Vec<(f64, Option<Instant>, LinkId)> = self
            .links
            .values()
            .filter(|l| l.peer_interested && (complete || !snubs(l)))
            .map(|l| (if complete { l.up.get() } else { l.down.get() }, l.unchoked_at, l.id))
            .collect();
        wanting.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
        let mut open: Vec<LinkId> = wanting.iter().take(self.config.upload_slots).map(|w| w.2).collect();
        self.optimistic(now, &open);
        open.extend(self.upload.optimistic);
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.set_choke(now, link, !open.contains(&link), actions);
        }
    }

    /// Nothing is missing of what the user wants: now those get most who take fastest.
    fn nothing_to_get(&self) -> bool {
        self.board.whole() || self.links.values().all(|l| l.useful == 0)
    }

    /// Moves the optimistic slot on, after its rounds or when its holder won a slot of its own or lost interest.
    fn optimistic(&mut self, now: Instant, open: &[LinkId]) {
        let rest: Vec<&Link> = self.links.values().filter(|l| l.peer_interested && !open.contains(&l.id)).collect();
        let stays = self.upload.optimistic.filter(|o| rest.iter().any(|l| l.id == *o));
        if stays.is_some() && !self.upload.rounds.is_multiple_of(self.config.optimistic_rounds) {
            return;
        }
        let young = |l: &Link| now.since(l.since) < self.config.choke_round * self.config.optimistic_rounds;
        let lots: Vec<LinkId> =
            rest.iter().flat_map(|l| std::iter::repeat_n(l.id, if young(l) { NEW_WEIGHT } else { 1 })).collect();
        self.upload.optimistic = lots.get(self.rng.below(lots.len())).copied();
    }

    pub(super) fn note_wish(&mut self, link: LinkId, wish: Wish, actions: &mut Vec<Action>) {
        let range = self.board.layout().piece_range(wish.piece);
        let fits = wish.len > 0
            && wish.len <= WISH_MOST
            && u64::from(wish.begin) + u64::from(wish.len) <= range.len()
            && self.board.is_here(wish.piece);
        let most = self.config.upload_queue;
        let Some(l) = self.links.get_mut(&link) else { return };
        let may = !l.choking || l.granted.contains(&wish.piece);
        if !fits || !may || l.wishes.len() >= most {
            actions.push(reject(link, wish));
        } else if !l.wishes.contains(&wish) {
            l.wishes.push_back(wish);
            self.upload.waiting.insert(link);
        }
    }

    pub(super) fn drop_wish(&mut self, link: LinkId, wish: Wish) {
        if let Some(l) = self.links.get_mut(&link) {
            l.wishes.retain(|w| *w != wish);
            l.handed.retain(|h| h.wish != wish);
        }
    }

    /// Hands out what may be sent now: a few blocks per link, more when they are in the socket. Links take turns.
    pub(super) fn serve_wishes(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.upload.waiting.is_empty() {
            return;
        }
        let links = &self.links;
        self.upload.waiting.retain(|l| links.get(l).is_some_and(|l| !l.wishes.is_empty()));
        if self.upload.waiting.is_empty() {
            return;
        }
        let plays = matches!(self.position.phase, Phase::Playing) || self.position.waits();
        // Who has little itself keeps its line free for what it asks for. It gives all the same: in a crowd that has just come, or has
        // lost its server, everybody has little, and were all to wait for better times nobody's would come. With a server at hand
        // what presses comes of it.
        let alone = !self.servers.usable() && self.position.file.is_some() && plays && !self.board.whole();
        let short = alone && self.ahead_s(now) < self.config.upload_floor.as_secs_f64();
        let most = if short { 1 } else { SENDING_MOST };
        self.refill(now);
        let limited = self.limits.up.is_some();
        loop {
            let mut sent = false;
            for link in self.upload.waiting.iter() {
                let Some(l) = self.links.get_mut(&link) else { continue };
                let sending: u32 = l.handed.iter().map(|h| h.wish.len).sum();
                if limited && self.upload.tokens <= 0.0 {
                    return;
                }
                if sending >= most {
                    continue;
                }
                let Some(wish) = l.wishes.pop_front() else { continue };
                l.handed.push_back(Handed { wish, at: now });
                self.upload.tokens -= f64::from(wish.len);
                actions.push(Action::SendBlock { link: l.id, piece: wish.piece, begin: wish.begin, len: wish.len });
                sent = true;
            }
            if !sent {
                return;
            }
        }
    }

    /// Time fills what the user's limit leaves, to a fifth of a second's worth at most.
    fn refill(&mut self, now: Instant) {
        let Some(limit) = self.limits.up.map(|l| l as f64) else {
            self.upload.tokens = 0.0;
            return;
        };
        let since = self.upload.filled_at.replace(now).map_or(0.0, |t| now.since(t).as_secs_f64());
        self.upload.tokens = (self.upload.tokens + limit * since).min((limit / 5.0).max(1.0));
    }

    pub(super) fn note_sent(&mut self, link: LinkId, len: u32) {
        self.totals.uploaded += u64::from(len);
        self.upload_gauge.add(u64::from(len));
        if let Some(l) = self.links.get_mut(&link) {
            if let Some(i) = l.handed.iter().position(|h| h.wish.len == len) {
                l.handed.remove(i);
            }
            l.sent += u64::from(len);
            l.up.add(u64::from(len));
        }
    }

    /// Blocks that were handed over and never heard of again (a queue that was full, a store that could not read) must not
    /// count for ever.
    pub(super) fn forget_handed(&mut self, now: Instant) {
        for l in self.links.values_mut() {
            // Those handed over first come first.
            let old = |h: &mut Handed| now.since(h.at) >= self.config.request_timeout * 2;
            while l.handed.pop_front_if(old).is_some() {}
        }
    }
}

fn reject(link: LinkId, w: Wish) -> Action {
    Action::RejectBlock { link, piece: w.piece, begin: w.begin, len: w.len }
}

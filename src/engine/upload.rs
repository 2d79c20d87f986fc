//! What peers get of us: four slots by what they give us (by what they take, once we have all), one more at random; rounds
//! of ten seconds. Below 3 s of buffer uploads pause.

use super::links::Wish;
use super::{Action, Engine, Phase};
use crate::units::{Instant, LinkId, PieceIndex};

/// The choking rounds.
#[derive(Debug, Clone, Default)]
pub(super) struct Upload {
    round_at: Option<Instant>,
    rounds: u32,
    optimistic: Option<LinkId>,
}

/// The longest request that is answered; longer ones are an attack or a fault (libtorrent refuses them as well).
const WISH_MOST: u32 = 128 * 1024;

impl Engine {
    pub(super) fn note_interest(&mut self, now: Instant, link: LinkId, interested: bool, actions: &mut Vec<Action>) {
        let Some(l) = self.links.get_mut(&link) else { return };
        l.peer_interested = interested;
        let unchoked = self.links.values().filter(|l| !l.choking && l.peer_interested).count();
        // A free slot needs no round: waiting for it would cost the peer ten seconds for nothing.
        if interested && unchoked <= self.config.upload_slots {
            self.set_choke(link, false, actions);
            self.upload.round_at.get_or_insert(now);
        }
    }

    fn set_choke(&mut self, link: LinkId, choke: bool, actions: &mut Vec<Action>) {
        if let Some(l) = self.links.get_mut(&link).filter(|l| l.choking != choke) {
            l.choking = choke;
            if choke {
                l.wishes.clear();
            }
            actions.push(Action::Choke { link, choke });
        }
    }

    pub(super) fn choke_round(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.upload.round_at.is_some_and(|t| now.since(t) < self.config.choke_round) {
            return;
        }
        self.upload.round_at = Some(now);
        self.upload.rounds += 1;
        let complete = self.board.verified().is_full();
        let mut wanting: Vec<(f64, LinkId)> = self
            .links
            .values()
            .filter(|l| l.peer_interested)
            .map(|l| (if complete { l.up.get() } else { l.down.get() }, l.id))
            .collect();
        wanting.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut open: Vec<LinkId> = wanting.iter().take(self.config.upload_slots).map(|w| w.1).collect();
        let rest: Vec<LinkId> = wanting.iter().skip(self.config.upload_slots).map(|w| w.1).collect();
        let stays = self.upload.optimistic.filter(|l| rest.contains(l));
        if stays.is_none() || self.upload.rounds.is_multiple_of(self.config.optimistic_rounds) {
            self.upload.optimistic = rest.get(self.rng.below(rest.len())).copied();
        }
        open.extend(self.upload.optimistic);
        for link in self.links.keys().copied().collect::<Vec<_>>() {
            self.set_choke(link, !open.contains(&link), actions);
        }
    }

    pub(super) fn note_wish(&mut self, link: LinkId, piece: PieceIndex, begin: u32, len: u32) {
        let range = self.board.layout().piece_range(piece);
        let fits = len > 0 && len <= WISH_MOST && u64::from(begin) + u64::from(len) <= range.len();
        let most = self.config.upload_queue;
        if !fits || !self.board.is_here(piece) {
            return;
        }
        if let Some(l) = self.links.get_mut(&link).filter(|l| !l.choking && l.wishes.len() < most) {
            let wish = Wish { piece, begin, len };
            if !l.wishes.contains(&wish) {
                l.wishes.push_back(wish);
            }
        }
    }

    pub(super) fn drop_wish(&mut self, link: LinkId, piece: PieceIndex, begin: u32, len: u32) {
        if let Some(l) = self.links.get_mut(&link) {
            l.wishes.retain(|w| *w != Wish { piece, begin, len });
        }
    }

    /// Hands out what may be sent now: a few blocks per link, more when they are in the socket.
    pub(super) fn serve_wishes(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.links.values().all(|l| l.wishes.is_empty()) {
            return;
        }
        let plays = matches!(self.position.phase, Phase::Playing) || self.position.waits();
        let short = self.position.file.is_some() && plays && !self.board.verified().is_full();
        if short && self.ahead_s(now) < self.config.upload_floor.as_secs_f64() {
            return;
        }
        for l in self.links.values_mut() {
            while l.sending < SENDING_MOST {
                let Some(w) = l.wishes.pop_front() else { break };
                l.sending += w.len;
                actions.push(Action::SendBlock { link: l.id, piece: w.piece, begin: w.begin, len: w.len });
            }
        }
    }

    pub(super) fn note_sent(&mut self, link: LinkId, len: u32) {
        self.totals.uploaded += u64::from(len);
        self.upload_gauge.add(u64::from(len));
        if let Some(l) = self.links.get_mut(&link) {
            l.sending = l.sending.saturating_sub(len);
            l.sent += u64::from(len);
            l.up.add(u64::from(len));
        }
    }
}

/// Bytes handed to a link and not yet in its socket: enough to keep it busy, little enough to be forgotten on a choke.
const SENDING_MOST: u32 = 256 * 1024;

//! The bid (claim 1): the maximum number of bits to receive from the server over the horizon. Once a second, and at once
//! when an urgent block is forecast to miss and nothing is granted: the bits of all blocks the swarm is forecast to miss,
//! less what is granted and not yet used. A plain web server grants each bid to itself.

use super::agenda::Due;
use super::snapshot::{BIDS_KEPT, BidRecord};
use super::{Action, Bid, Engine};
use crate::units::{Instant, OriginId};

impl Engine {
    pub(super) fn bid(&mut self, now: Instant, miss: &[Due], actions: &mut Vec<Action>) {
        let due_now = self.servers.last_bid.is_none_or(|t| now.since(t) >= self.config.bid_every);
        let urgent = miss.iter().any(|d| d.own_s < self.config.urgent.as_secs_f64());
        let granted: u64 = self.servers.origins.values().map(|o| o.unspent(now)).sum();
        if !(due_now || urgent && granted == 0) {
            return;
        }
        let seconds = self.config.horizon.as_secs() as usize;
        let mut due_bits = vec![0u64; seconds];
        let layout = *self.board.layout();
        for d in miss
            .iter()
            .filter(|d| d.own_s < seconds as f64 && self.board.cell(d.block).is_none_or(|c| c.fetch.is_none()))
        {
            due_bits[d.own_s as usize] += layout.block_range(d.block).len() * 8;
        }
        let max_bits = due_bits.iter().sum::<u64>().saturating_sub(granted);
        if due_now {
            self.servers.last_bid = Some(now);
        }
        if max_bits == 0 {
            return;
        }
        self.servers.last_bid = Some(now);
        if self.bids.len() >= BIDS_KEPT {
            self.bids.pop_front();
        }
        self.bids.push_back(BidRecord { at: now, max_bits, grant_bits: 0, used_bits: 0 });
        let n = self.servers.origins.len() as u64;
        let origins: Vec<(OriginId, bool)> = self.servers.origins.iter().map(|(id, o)| (*id, o.bidding)).collect();
        for (origin, bidding) in origins {
            let share = max_bits.div_ceil(n);
            if bidding {
                let due_bits = due_bits.iter().map(|b| b / n).collect();
                actions.push(Action::Bid { origin, bid: Bid { max_bits: share, due_bits } });
            } else {
                self.granted(now, origin, share, now + self.config.grant_life);
            }
        }
    }

    /// The server's answer: so many bits may be asked for until `expires`. A bid is for what is not granted yet, so that the
    /// answer comes on top: a share of less than a block would else be lost each time, and the block never be fetched.
    pub(super) fn granted(&mut self, now: Instant, origin: OriginId, bits: u64, expires: Instant) {
        let Some(o) = self.servers.origins.get_mut(&origin) else { return };
        o.grant(now, bits, expires);
        if let Some(b) = self.bids.back_mut() {
            b.grant_bits = b.grant_bits.saturating_add(bits);
        }
    }

    /// Counts received bits against the oldest bid that is not used up.
    pub(super) fn note_used(&mut self, mut bits: u64) {
        for b in self.bids.iter_mut() {
            let take = bits.min(b.grant_bits.saturating_sub(b.used_bits));
            b.used_bits += take;
            bits -= take;
        }
    }
}

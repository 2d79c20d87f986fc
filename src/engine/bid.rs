//! The bid (claim 1): the maximum number of bits to receive from the server over the horizon. Once a second, and at once
//! when an urgent block is forecast to miss and nothing is granted: the bits of all blocks the swarm is forecast to miss,
//! less what is granted and not yet used. A plain web server grants each bid to itself.
//!
//! Several origins share a bid by their measured rates. One that fails is left out for a while, and what it owed is bid for
//! again at once, not a second later.

use std::time::Duration;

use super::agenda::Due;
use super::origins::{Bidding, OriginState};
use super::snapshot::{BIDS_KEPT, BidRecord};
use super::{Action, Bid, Engine};
use crate::units::{BLOCK_LEN, GrantId, Instant, OriginId};

/// Bids to one origin are never closer together: what origins take without turning a viewer away.
const BID_LEAST: Duration = Duration::from_millis(200);
/// A share below this is nobody's: less than a block cannot be asked for.
const SHARE_LEAST: u64 = BLOCK_LEN as u64 * 8;
/// A bid without an answer for this long came to nothing.
const ANSWER: Duration = Duration::from_millis(1500);
/// How long an origin that did not answer a bid is not bid to.
const REST: Duration = Duration::from_secs(1);
/// Bids that may fail before a server of which it is not known counts as one that takes none.
const TRIES: u32 = 3;

impl Engine {
    pub(super) fn bid(&mut self, now: Instant, miss: &[Due], actions: &mut Vec<Action>) {
        let since = self.servers.last_bid.map(|t| now.since(t));
        let due = since.is_none_or(|s| s >= self.config.bid_every);
        let urgent = miss.iter().any(|d| d.own_s < self.config.urgent.as_secs_f64());
        let granted: u64 = self.servers.open(now).map(|(_, o)| o.grants.unspent(now)).sum();
        let takes = self.servers.open(now).any(|(_, o)| o.bidding == Bidding::Takes);
        let gap = !takes || since.is_none_or(|s| s >= BID_LEAST);
        let again = std::mem::take(&mut self.servers.bid_again);
        if !(due || again || gap && urgent && granted == 0) {
            return;
        }
        if due {
            self.servers.last_bid = Some(now);
        }
        let asked: u64 = self.servers.open(now).filter_map(|(_, o)| o.asked).map(|a| a.1).sum();
        let (max_bits, due_bits) = self.shortfall(miss, granted.saturating_add(asked));
        if max_bits == 0 {
            return;
        }
        let shares = self.shares(now, max_bits);
        if shares.is_empty() {
            self.servers.bid_again = again;
            return;
        }
        self.servers.last_bid = Some(now);
        if self.bids.len() >= BIDS_KEPT {
            self.bids.pop_front();
        }
        self.bids.push_back(BidRecord { at: now, max_bits, grant_bits: 0, used_bits: 0 });
        for (origin, share) in shares {
            self.bid_to(now, origin, share, &scaled(&due_bits, share, max_bits), actions);
        }
    }

    /// Bits of all blocks forecast to miss within the horizon, beyond the first `covered` that fall due; in all, and for each
    /// second of the horizon.
    fn shortfall(&self, miss: &[Due], mut covered: u64) -> (u64, Vec<u64>) {
        let seconds = self.config.horizon.as_secs() as usize;
        let mut due_bits = vec![0u64; seconds];
        let layout = *self.board.layout();
        for d in miss.iter().filter(|d| self.board.cell(d.block).is_none_or(|c| c.fetch.is_none())) {
            if let Some(second) = due_bits.get_mut(d.own_s.max(0.0) as usize) {
                *second += layout.block_range(d.block).len() * 8;
            }
        }
        for second in &mut due_bits {
            let take = covered.min(*second);
            *second -= take;
            covered -= take;
        }
        (due_bits.iter().sum(), due_bits)
    }

    /// Who is bid how much: by measured rates. An origin that was not heard of yet counts as fast as the others.
    fn shares(&self, now: Instant, max_bits: u64) -> Vec<(OriginId, u64)> {
        let may = |o: &OriginState| o.asked.is_none() && o.bid_after.is_none_or(|t| t <= now);
        let mut all: Vec<(OriginId, Option<f64>)> =
            self.servers.open(now).filter(|(_, o)| may(o)).map(|(id, o)| (*id, o.rate(now))).collect();
        // The fastest first: what is too little to be shared is its.
        all.sort_by(|a, b| b.1.unwrap_or(0.0).total_cmp(&a.1.unwrap_or(0.0)).then(a.0.cmp(&b.0)));
        all.truncate(((max_bits / SHARE_LEAST) as usize).max(1));
        let known: Vec<f64> = all.iter().filter_map(|o| o.1).collect();
        let mean = if known.is_empty() { 1.0 } else { known.iter().sum::<f64>() / known.len() as f64 };
        let whole: f64 = all.iter().map(|o| o.1.unwrap_or(mean)).sum();
        let mut left = max_bits;
        let mut shares: Vec<(OriginId, u64)> = Vec::with_capacity(all.len());
        for (origin, rate) in &all {
            let part = (max_bits as f64 * rate.unwrap_or(mean) / whole.max(1e-9)) as u64;
            let part = part.min(left);
            left -= part;
            shares.push((*origin, part));
        }
        if let Some(first) = shares.first_mut() {
            first.1 += left;
        }
        shares.retain(|s| s.1 > 0);
        shares
    }

    fn bid_to(&mut self, now: Instant, origin: OriginId, bits: u64, due_bits: &[u64], actions: &mut Vec<Action>) {
        let Some(o) = self.servers.origins.get_mut(&origin) else { return };
        if o.bidding != Bidding::Plain {
            o.asked = Some((now, if o.bidding == Bidding::Takes { bits } else { 0 }));
            actions.push(Action::Bid { origin, bid: Bid { max_bits: bits, due_bits: due_bits.to_vec() } });
        }
        if o.bidding != Bidding::Takes {
            o.grants.add(now, None, bits, now + self.config.grant_life);
            self.note_granted(bits);
        }
    }

    /// The server's answer: so many bits may be asked for until `expires`. A bid is for what is not granted yet, so that the
    /// answer comes on top: a share of less than a block would else be lost each time, and the block never be fetched.
    pub(super) fn granted(&mut self, now: Instant, origin: OriginId, grant: GrantId, bits: u64, expires: Instant) {
        let Some(o) = self.servers.origins.get_mut(&origin) else { return };
        if o.bidding != Bidding::Takes {
            // What we granted ourselves while we did not know better is void.
            o.bidding = Bidding::Takes;
            o.grants.clear();
            if let Some(b) = self.bids.back_mut() {
                b.grant_bits = b.used_bits;
            }
        }
        if let Some((_, asked)) = o.asked.take() {
            self.servers.short = bits < asked;
        }
        o.grants.add(now, Some(grant), bits, expires);
        self.note_granted(bits);
    }

    /// The server did not answer a bid, refused it, or knows nothing of bids.
    pub(super) fn bid_failed(&mut self, now: Instant, origin: OriginId, plain: bool) {
        let Some(o) = self.servers.origins.get_mut(&origin) else { return };
        o.asked = None;
        match o.bidding {
            Bidding::Plain => {}
            Bidding::Takes => {
                // What it granted before may still be asked for.
                o.bid_after = Some(now + REST);
                self.servers.bid_again = true;
            }
            Bidding::Unknown(n) => {
                let given_up = plain || n + 1 >= TRIES;
                o.bidding = if given_up { Bidding::Plain } else { Bidding::Unknown(n + 1) };
            }
        }
    }

    /// Bids that nobody answered.
    pub(super) fn expire_bids(&mut self, now: Instant) {
        let late = |o: &OriginState| o.asked.is_some_and(|a| now.since(a.0) > ANSWER + o.round_trip() * 2);
        let late: Vec<OriginId> = self.servers.origins.iter().filter(|(_, o)| late(o)).map(|(id, _)| *id).collect();
        for origin in late {
            self.bid_failed(now, origin, false);
        }
    }

    fn note_granted(&mut self, bits: u64) {
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

/// `due_bits` of a whole, for one origin's share of it; their sum is the share.
fn scaled(due_bits: &[u64], share: u64, whole: u64) -> Vec<u64> {
    let (mut before, mut told) = (0u128, 0u64);
    let part = |bits: &u64| {
        before += u128::from(*bits);
        let upto = (before * u128::from(share) / u128::from(whole.max(1))) as u64;
        let this = upto - told;
        told = upto;
        this
    };
    due_bits.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::scaled;

    #[test]
    fn shares_of_a_bid_add_up_second_by_second() {
        let due = [7, 0, 11, 1];
        let parts = [scaled(&due, 5, 19), scaled(&due, 14, 19)];
        assert_eq!(parts[0].iter().sum::<u64>(), 5);
        assert_eq!(parts[1].iter().sum::<u64>(), 14);
        assert_eq!(scaled(&due, 19, 19), due);
    }
}

//! What happened in a session so far, for reports: the engine shows only its last bids and the peers connected now, a
//! report wants all of them.
//!
//! Invariant: bounded, however long a session lasts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::app::view::{flags, has};
use crate::engine::snapshot::BidRecord;
use crate::media::api::PlayerStatus;
use crate::stream::StreamStatus;
use crate::units::LinkId;

/// Half a day at a bid a second.
const BIDS_MAX: usize = 43_200;
/// Peers ever met that a report lists.
const PEERS_MAX: usize = 2_000;

/// One peer, as it was when last seen.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerFacts {
    pub addr: String,
    pub client: String,
    pub flags: String,
    /// 0 to 1.
    pub has: f32,
    pub received: u64,
    pub sent: u64,
    pub connected: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// The torrent's description was there.
    pub metadata: Option<Instant>,
    /// The stream was started; engine time counts from here.
    pub stream_started: Option<Instant>,
    /// The first payload byte was there, from anyone.
    pub first_byte: Option<Instant>,
    /// The player was made; its durations count from here.
    pub player_opened: Option<Instant>,
    pub player: PlayerStatus,
    pub stream: Option<Arc<StreamStatus>>,
    /// What play waits for, in words.
    pub waiting: Option<String>,
    pub title: String,
    pub bids: Vec<BidRecord>,
    pub peers: BTreeMap<LinkId, PeerFacts>,
}

impl Facts {
    /// Takes in what the stream says. Its status comes four times a second: too coarse to tell when the first byte came.
    pub fn stream(&mut self, status: &Arc<StreamStatus>, first_byte: Option<Instant>) {
        self.first_byte = self.first_byte.or(first_byte);
        merge_bids(&mut self.bids, status.engine.bids.iter().copied());
        self.peers.values_mut().for_each(|p| p.connected = false);
        for p in status.peers.iter() {
            let facts = PeerFacts {
                addr: p.info.addr.to_string(),
                client: p.info.client.clone(),
                flags: flags(&p.info, &p.view),
                has: has(&p.view, &status.engine),
                received: p.view.received,
                sent: p.view.sent,
                connected: true,
            };
            if self.peers.len() < PEERS_MAX || self.peers.contains_key(&p.view.link) {
                self.peers.insert(p.view.link, facts);
            }
        }
        self.stream = Some(status.clone());
    }
}

/// Puts the last bids behind the earlier ones. What is used of a bid grows after it was made, so the ones known already
/// are replaced.
fn merge_bids(all: &mut Vec<BidRecord>, last: impl Iterator<Item = BidRecord>) {
    let mut last = last.peekable();
    let Some(first) = last.peek() else { return };
    let known = all.partition_point(|b| b.at < first.at);
    all.truncate(known);
    all.extend(last);
    if all.len() > BIDS_MAX {
        all.drain(..all.len() - BIDS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Instant as At;

    #[test]
    fn bids_are_kept_once_with_their_last_use() {
        let bid = |at: u64, used| BidRecord { at: At(at), max_bits: 10, grant_bits: 10, used_bits: used };
        let mut all = Vec::new();
        merge_bids(&mut all, [bid(1, 0), bid(2, 0)].into_iter());
        merge_bids(&mut all, [bid(2, 5), bid(3, 0)].into_iter());
        merge_bids(&mut all, std::iter::empty());
        assert_eq!(all, [bid(1, 0), bid(2, 5), bid(3, 0)]);
        merge_bids(&mut all, (10..100_000).map(|at| bid(at, 0)));
        assert_eq!(all.len(), BIDS_MAX);
        assert_eq!(all.last(), Some(&bid(99_999, 0)));
    }
}

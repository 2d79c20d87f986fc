//! The allowed set of the fast extension (BEP 6), as `swarm::fast` gives it: pieces that a newcomer may have of each of us while
//! we choke it.
//!
//! Invariant: the set depends on the newcomer alone, so that all whom it meets allow it the same pieces.

use super::dice::Dice;
use super::links::Message;
use super::step::LaneKey;
use super::world::{Actor, World};
use crate::engine::Event;
use crate::units::PieceIndex;

/// Pieces in the set, and pieces with which a peer no longer needs any: what BEP 6 recommends as k.
const SET: u32 = 10;
/// What the set may come to, bytes.
const MOST_BYTES: u64 = 4 << 20;

impl World {
    /// `from` allows `to` its set, over the lane that leads there; between engines only.
    pub(super) fn allow(&mut self, from: u32, to: u32, key: LaneKey) {
        let layout = self.film.layout;
        let [Actor::Host(giver), Actor::Host(taker)] = [from, to].map(|n| &self.nodes[n as usize].actor) else {
            return;
        };
        if taker.store.verified.count() >= SET || self.group(from).is_some_and(|g| g.rides) {
            return;
        }
        let fit = u32::try_from(MOST_BYTES / u64::from(layout.piece_len())).unwrap_or(SET).max(1);
        // The address decides, not the world's dice: here that is the node's number.
        let mut dice = Dice::new(u64::from(to));
        let set = (0..SET.min(fit)).map(|_| PieceIndex(dice.below(layout.piece_count() as usize) as u32));
        let has = |p: &PieceIndex| giver.store.verified.contains(*p) && !taker.store.verified.contains(*p);
        let mut allowed: Vec<PieceIndex> = set.filter(has).collect();
        allowed.sort_unstable();
        allowed.dedup();
        for piece in allowed {
            self.tell(from, Event::FastGranted { link: key.id(), piece });
            self.post(key, Message::Allowed(piece));
        }
    }
}

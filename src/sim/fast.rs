//! The allowed set of the fast extension (BEP 6), as `swarm::fast` gives it: pieces that a newcomer may have of each of us while
//! we choke it.
//!
//! Invariant: the set depends on the newcomer alone, so that all whom it meets allow it the same pieces.

use super::dice::Dice;
use super::node::{Actor, Turn};
use super::step::Message;
use crate::engine::Event;
use crate::units::{LinkId, PieceIndex, PieceSet};

/// Pieces in the set, and pieces with which a peer no longer needs any: what BEP 6 recommends as k.
const SET: u32 = 10;
/// What the set may come to, bytes.
const MOST_BYTES: u64 = 4 << 20;

impl Turn<'_> {
    /// Allows who has told what it has its set; what our own engine is to be told of that.
    pub(super) fn allow(&mut self, link: LinkId, theirs: &PieceSet) -> Vec<Event> {
        let layout = self.ctx.film.layout;
        let rides = self.group().is_some_and(|g| g.rides);
        let (Actor::Host(h), Some(end)) = (&self.n.actor, self.n.ends.get_mut(link)) else { return Vec::new() };
        let scripted = self.ctx.scripted.get(end.peer as usize).copied().unwrap_or(true);
        if rides || scripted || theirs.count() >= SET {
            return Vec::new();
        }
        let fit = u32::try_from(MOST_BYTES / u64::from(layout.piece_len())).unwrap_or(SET).max(1);
        // The address decides, not the world's dice: here that is the node's number.
        let mut dice = Dice::new(u64::from(end.peer));
        let set = (0..SET.min(fit)).map(|_| PieceIndex(dice.below(layout.piece_count() as usize) as u32));
        let mut allowed: Vec<PieceIndex> =
            set.filter(|p| h.store.verified.contains(*p) && !theirs.contains(*p)).collect();
        allowed.sort_unstable();
        allowed.dedup();
        for piece in &allowed {
            end.post(Message::Allowed(*piece), &mut self.n.post);
        }
        allowed.into_iter().map(|piece| Event::FastGranted { link, piece }).collect()
    }
}

//! A count of the whole swarm at one moment: who is there, what they could give, what was given so far.
//!
//! Differences of two counts are what happened between them: what went by since is summed over nodes that left as well.

use super::world::{Actor, World};
use crate::engine::Phase;
use crate::units::Instant;

/// One count.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Census {
    pub at: Instant,
    /// Viewers present, and those of them whose film is not over.
    pub present: u32,
    pub watching: u32,
    /// Those whose clock stands for want of bytes.
    pub stalled: u32,
    /// What viewers present could send, bytes per second.
    pub capacity: f64,
    /// Film that viewers have ahead of their clocks anywhere, bytes.
    pub ahead: u64,
    /// Bytes since the beginning, of all viewers that ever were.
    pub swarm: u64,
    pub server: u64,
    pub sent: u64,
    /// Of the server's bytes those that came while viewers started.
    pub opening: u64,
    pub duplicate: u64,
    /// Film played since the beginning, seconds, and seconds spent in stalls.
    pub played: f64,
    pub stood: f64,
}

impl World {
    /// Counts.
    pub fn census(&mut self) -> Census {
        let mut c = Census { at: self.now, ..Census::default() };
        for o in self.outcomes.iter() {
            if let Some(s) = &o.seen {
                c.add(&o.totals);
                c.opening += o.opening;
                c.played += s.played;
                c.stood += s.stalled;
            }
        }
        let now = self.now;
        let layout = self.film.layout;
        for node in &mut self.nodes {
            let Actor::Host(h) = &mut node.actor else { continue };
            let Some(p) = &h.player else { continue };
            c.add(&h.engine.totals());
            c.opening += h.opening;
            c.played += p.seen.played;
            c.stood += p.seen.stalled + p.stands(now);
            c.present += 1;
            c.capacity += node.up;
            c.watching += u32::from(p.phase != Phase::Ended);
            c.stalled += u32::from(p.phase == Phase::Stalled);
            let from = p.offset();
            let here = h.store.verified.iter().map(|i| layout.piece_range(i));
            c.ahead += here.filter(|r| r.end > from).map(|r| r.end - r.start.max(from)).sum::<u64>();
        }
        c
    }
}

impl Census {
    fn add(&mut self, t: &crate::engine::snapshot::Totals) {
        self.swarm += t.swarm;
        self.server += t.server;
        self.sent += t.uploaded;
        self.duplicate += t.duplicate;
    }
}

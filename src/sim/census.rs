//! A count of the whole swarm at one moment: who is there, what they could give, what was given so far.
//!
//! Differences of two counts are what happened between them: what went by since is summed over nodes that left as well.

use super::node::Actor;
use super::world::World;
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
    /// Film that they have not played yet, bytes: what could lie ahead at most.
    pub left: u64,
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
        let now = self.now();
        let mut c = Census { at: now, ..Census::default() };
        // Fractions are added in the order of the nodes, however these are shared out.
        let mut fractions: Vec<(u32, [f64; 3])> = Vec::new();
        let (film, shards) = self.all();
        let layout = film.layout;
        for shard in shards {
            for o in &shard.log.outcomes {
                let Some(s) = &o.seen else { continue };
                c.add(&o.totals);
                c.opening += o.opening;
                fractions.push((o.node, [0.0, s.played, s.stalled]));
            }
            for node in &mut shard.nodes {
                let Actor::Host(h) = &mut node.actor else { continue };
                let Some(p) = &h.player else { continue };
                c.add(&h.engine.totals());
                c.opening += h.opening;
                fractions.push((node.id, [node.up, p.seen.played, p.seen.stalled + p.stands(now)]));
                c.present += 1;
                c.watching += u32::from(p.phase != Phase::Ended);
                c.stalled += u32::from(p.phase == Phase::Stalled);
                let from = p.offset();
                c.left += layout.total_len() - from;
                let here = h.store.verified.iter().map(|i| layout.piece_range(i));
                c.ahead += here.filter(|r| r.end > from).map(|r| r.end - r.start.max(from)).sum::<u64>();
            }
        }
        fractions.sort_by_key(|f| f.0);
        for (_, [capacity, played, stood]) in fractions {
            c.capacity += capacity;
            c.played += played;
            c.stood += stood;
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

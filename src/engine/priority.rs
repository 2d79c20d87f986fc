//! The server connection's priority to bandwidth (claim 3): while a server range is in flight that its deadline presses,
//! and the access link is full, the peers as a class are read within a budget, and their receive windows shrink with it.
//! Given back within a second after.

use super::{Action, Engine};
use crate::units::{ByteRange, Instant};

/// What is known of the access link.
#[derive(Debug, Clone, Default)]
pub(super) struct Priority {
    /// The most that arrived in about a second, fading slowly: the link's capacity as far as it was ever used.
    capacity: f64,
    pub budget: Option<u64>,
}

/// The capacity estimate halves in about two minutes: access links change, and one burst of a shared wire proves little.
const FADE_PER_TICK: f64 = 0.9994;

impl Engine {
    pub(super) fn prioritise(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let (peers, server) = (self.swarm_gauge.get(), self.server_gauge.get());
        let arriving = peers + server;
        self.priority.capacity = (self.priority.capacity * FADE_PER_TICK).max(arriving);
        let capacity = self.priority.capacity;
        let need = self.server_need(now);
        let full = arriving > self.config.link_full * capacity && peers > 0.0;
        let held = self.priority.budget.is_some();
        // Held on while the range lasts: with the peers held back the link is not full any more, by design.
        let budget = (need > 0.0 && (full || held) && need > 0.9 * server)
            .then(|| (capacity - need).max(self.config.peer_share_min * capacity) as u64);
        // The user's limit is for all that comes in: peers have what the server leaves.
        let allowed = self.limits.down.map(|l| (l as f64 - server).max(l as f64 / 10.0) as u64);
        let budget = budget.into_iter().chain(allowed).min();
        let changed = match (budget, self.priority.budget) {
            (Some(a), Some(b)) => a.abs_diff(b) > b / 8,
            (a, b) => a.is_some() != b.is_some(),
        };
        if changed {
            self.priority.budget = budget;
            actions.push(Action::PeerReceiveBudget { bytes_per_s: budget });
        }
    }

    /// Bytes per second that the ranges in flight need to meet their deadlines; 0 when nothing presses.
    fn server_need(&self, now: Instant) -> f64 {
        let Some(file) = self.position.file else { return 0.0 };
        let line = self.position.line(&self.config);
        let media = self.position.media_now(now).as_secs_f64();
        let mut need: f64 = 0.0;
        let mut before = 0.0;
        for f in self.servers.fetches.values() {
            let left = ByteRange::new(f.upto, f.range.end);
            before += left.len() as f64;
            let due = line.time_of(left.end.saturating_sub(1).saturating_sub(file.start)).as_secs_f64() - media;
            let due = if self.position.waits() { due.min(1.0) } else { due };
            if due < self.config.urgent.as_secs_f64() {
                need = need.max(before / (due - self.config.margin.as_secs_f64()).max(0.25));
            }
        }
        need
    }
}

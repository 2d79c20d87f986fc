//! How fast all peers together may be read: one token bucket that every link's reads draw from.
//!
//! Invariant: with a budget, no more than `rate × t + burst` bytes are read in any time t; a link holds tokens only
//! while it has bytes to read, so an idle one starves nobody.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

/// Tokens pile up for this long: short enough that a server range feels the room at once.
const BURST: Duration = Duration::from_millis(100);

/// The least that a read is worth waking for.
const QUANTUM: f64 = 4096.0;

/// See the module.
#[derive(Debug)]
pub struct Budget {
    rate: watch::Sender<Option<u64>>,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl Budget {
    pub fn new() -> Self {
        let bucket = Mutex::new(Bucket { tokens: 0.0, filled: Instant::now() });
        Self { rate: watch::Sender::new(None), bucket }
    }

    /// Bytes per second; `None` is unlimited. Links learn at once.
    pub fn set(&self, rate: Option<u64>) {
        self.rate.send_if_modified(|r| std::mem::replace(r, rate) != rate);
    }

    /// To learn of changes.
    pub fn watch(&self) -> watch::Receiver<Option<u64>> {
        self.rate.subscribe()
    }

    /// Takes up to `want` tokens; `Err` says how long until it is worth asking again.
    pub fn take(&self, want: usize, now: Instant) -> Result<usize, Duration> {
        let Some(rate) = *self.rate.borrow() else { return Ok(want) };
        // A budget of nothing still lets a trickle through, or the links would die.
        let rate = rate.max(1024) as f64;
        let burst = (rate * BURST.as_secs_f64()).max(QUANTUM);
        let mut b = self.bucket.lock();
        b.tokens = (b.tokens + now.saturating_duration_since(b.filled).as_secs_f64() * rate).min(burst);
        b.filled = now;
        if b.tokens < QUANTUM {
            return Err(Duration::from_secs_f64((QUANTUM - b.tokens) / rate));
        }
        let take = (b.tokens as usize).min(want);
        b.tokens -= take as f64;
        Ok(take)
    }

    /// Returns what was not used.
    pub fn give_back(&self, tokens: usize) {
        if tokens > 0 && self.rate.borrow().is_some() {
            self.bucket.lock().tokens += tokens as f64;
        }
    }
}

/// Receive buffer for one of `links` under a budget, in bytes: half a second's share, so that what a sender has in
/// flight towards us shrinks with the budget (claim 3), within what a kernel takes.
pub fn receive_buffer(rate: u64, links: usize) -> usize {
    let share = rate / 2 / links.max(1) as u64;
    usize::try_from(share).unwrap_or(usize::MAX).clamp(4 * 1024, RESTORED)
}

/// Receive buffer once the budget is gone. The kernel's own tuning does not come back to a socket whose buffer was set,
/// so it is set to much; the kernel caps it.
pub const RESTORED: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_passes_whoever_asks() {
        let (b, start) = (Budget::new(), Instant::now());
        assert_eq!(b.take(1 << 20, start), Ok(1 << 20));
        b.set(Some(100_000));
        let (mut now, mut got, mut turns) = (start, 0, 0);
        while now < start + Duration::from_secs(10) {
            match b.take(16 * 1024, now) {
                // Every other reader finds less than it took for.
                Ok(n) => {
                    turns += 1;
                    b.give_back(n / 2 * (turns % 2));
                    got += n - n / 2 * (turns % 2);
                }
                Err(wait) => now += wait.max(Duration::from_micros(1)),
            }
        }
        assert!((980_000..=1_020_000).contains(&got), "{got}");
        b.set(None);
        assert_eq!(b.take(1 << 20, now), Ok(1 << 20));
    }

    #[test]
    fn the_receive_buffer_follows_the_budget() {
        assert_eq!(receive_buffer(1_000_000, 10), 50_000);
        assert_eq!(receive_buffer(1_000, 40), 4096);
        assert_eq!(receive_buffer(u64::MAX, 0), RESTORED);
    }
}

//! The whole server's rate: response bodies wait their turn at one bucket.
//!
//! Invariant: over any stretch of time t, at most `rate · t + BURST` file bytes are handed to the sockets.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::gate::Stopped;

/// What an idle server may send at once.
const BURST: f64 = 32.0 * 1024.0;

/// One per server, cloned into each response.
#[derive(Clone)]
pub(super) struct Pace {
    bucket: Option<Arc<Bucket>>,
    stop: CancellationToken,
}

struct Bucket {
    bytes_per_s: f64,
    /// The lock is fair and held while waiting: turns go round by chunk.
    level: Mutex<Level>,
}

struct Level {
    tokens: f64,
    at: Instant,
}

impl Pace {
    /// `stop` breaks off every body.
    pub fn new(bytes_per_s: Option<u64>, stop: CancellationToken) -> Self {
        let bucket = bytes_per_s.map(|rate| {
            let level = Mutex::new(Level { tokens: BURST, at: Instant::now() });
            Arc::new(Bucket { bytes_per_s: rate.max(1) as f64, level })
        });
        Self { bucket, stop }
    }

    /// Waits until `n` bytes may be sent.
    pub async fn turn(&self, n: usize) -> Result<(), Stopped> {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Stopped),
            () = self.wait(n) => Ok(()),
        }
    }

    async fn wait(&self, n: usize) {
        let Some(bucket) = &self.bucket else { return };
        let mut level = bucket.level.lock().await;
        // Cancelled in here, nothing was taken: the next in line computes anew.
        while let Err(wait) = level.take(n as f64, bucket.bytes_per_s, Instant::now()) {
            tokio::time::sleep(wait).await;
        }
    }
}

impl Level {
    /// Takes `n` bytes at `now`, or says how long until they are there.
    fn take(&mut self, n: f64, bytes_per_s: f64, now: Instant) -> Result<(), Duration> {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * bytes_per_s;
        // A waiter may need more than an idle server is let save up.
        self.tokens = (self.tokens + earned).min(BURST.max(n));
        self.at = now;
        if self.tokens < n {
            // Rounded up to what timers can do, or the wait would never quite be over.
            return Err(Duration::from_secs_f64((n - self.tokens) / bytes_per_s) + Duration::from_micros(1));
        }
        self.tokens -= n;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_and_idle_time_is_not_saved_up() {
        let start = Instant::now();
        let (mut now, mut level) = (start, Level { tokens: BURST, at: start });
        let mut send = |bytes: usize| {
            for _ in 0..bytes / 1000 {
                while let Err(wait) = level.take(1000.0, 100_000.0, now) {
                    now += wait;
                }
            }
            let at = now;
            now += Duration::from_secs(100);
            (at - start).as_secs_f64()
        };
        // (1 MB - burst) / 100 kB/s
        assert!((9.6..9.8).contains(&send(1_000_000)));
        let second = send(1_000_000) - 109.68;
        assert!((9.6..9.8).contains(&second), "{second}");
    }

    #[tokio::test]
    async fn a_body_comes_through_whole() {
        let data: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
        let pace = Pace::new(Some(1 << 30), CancellationToken::new());
        let parts: Vec<_> = pace.body(Body::from(data.clone())).into_data_stream().collect().await;
        let parts: Vec<Bytes> = parts.into_iter().map(Result::unwrap).collect();
        assert!(parts.iter().all(|p| p.len() <= CHUNK));
        assert_eq!(parts.concat(), data);
    }
}

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

/// One link's turn takes at most this long at the budget's rate, so that no link reads while the others wait: who waits comes back
/// when there is a quantum, in whatever order, and finds one.
const TURN: Duration = Duration::from_millis(20);

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
        let turn = (rate * TURN.as_secs_f64()).max(QUANTUM) as usize;
        let take = (b.tokens as usize).min(want).min(turn);
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

/// Receive window for one of `links` under a budget, in bytes: what its share of the budget brings in half a second, so that what
/// senders have under way towards us shrinks with the budget (claim 3).
pub fn receive_window(rate: u64, links: usize) -> usize {
    let share = rate / 2 / links.max(1) as u64;
    usize::try_from(share).unwrap_or(usize::MAX).clamp(WINDOW_LEAST, WINDOW_MOST)
}

/// Less is not worth a packet: silly windows (RFC 1122, 4.2.3.3) make the sender wait for its timer.
const WINDOW_LEAST: usize = 4 * 1024;

/// More is no hold.
const WINDOW_MOST: usize = 4 * 1024 * 1024;

/// Narrows the window that a TCP socket announces to its peer, or gives it back with `None`. A kernel that refuses only reacts
/// later: the paced reads hold the budget by themselves.
///
/// Linux takes a bound on the window itself (`TCP_WINDOW_CLAMP`, tcp(7)). A smaller receive buffer would be the wrong lever there:
/// what is under way by the old window no longer fits and is dropped, so that it crosses the narrow link twice and the sender
/// falls back to its retransmission timer; and autotuning stays off for good. With the clamp nothing is lost, no announced window
/// is taken back (RFC 9293, 3.8.6), and autotuning goes on from where it was.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub fn narrow(socket: &impl std::os::fd::AsRawFd, window: Option<usize>) {
    // The bound that no window reaches: 64 KiB shifted by 14 (RFC 7323).
    let most: libc::c_int = 1 << 30;
    let clamp: libc::c_int = window.and_then(|w| libc::c_int::try_from(w).ok()).unwrap_or(most);
    let len = std::mem::size_of_val(&clamp) as libc::socklen_t;
    // SAFETY: the descriptor is open while `socket` is borrowed; the option is an int, read from `clamp` during the call only.
    let refused = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_WINDOW_CLAMP,
            std::ptr::from_ref(&clamp).cast(),
            len,
        )
    };
    if refused != 0 {
        tracing::debug!("the receive window stays as it is: {}", std::io::Error::last_os_error());
    }
}

/// Narrows the window that a TCP socket announces to its peer, or gives it back with `None`.
///
/// Here by its receive buffer. BSD's TCP, macOS's and Windows's keep what they announced and take it in all the same. Their own
/// tuning does not come back to a socket whose buffer was set, so it is given back much; the system caps it.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub fn narrow<'s, S>(socket: &'s S, window: Option<usize>)
where
    socket2::SockRef<'s>: From<&'s S>,
{
    let _ = socket2::SockRef::from(socket).set_recv_buffer_size(window.unwrap_or(WINDOW_MOST));
}

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
    fn the_receive_window_follows_the_budget() {
        assert_eq!(receive_window(1_000_000, 10), 50_000);
        assert_eq!(receive_window(1_000, 40), WINDOW_LEAST);
        assert_eq!(receive_window(u64::MAX, 0), WINDOW_MOST);
    }

    #[test]
    fn nobody_takes_another_links_turn() {
        let (b, start) = (Budget::new(), Instant::now());
        b.set(Some(1_000_000));
        let full = start + Duration::from_secs(1);
        // A tenth of a second has piled up, and five links come one after the other.
        let got: Vec<_> = (0..6).map(|_| b.take(1 << 20, full)).collect();
        assert!(got[..5].iter().all(|g| *g == Ok(20_000)), "{got:?}");
        assert!(got[5].is_err());
    }

    /// The sender never learns of a window wider than the clamp, loses nothing, and is as fast as before afterwards.
    #[cfg(target_os = "linux")]
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_narrowed_window_stops_the_sender_and_opens_again() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        use tokio::net::{TcpListener, TcpStream};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialled = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut there, mut here) = (listener.accept().await.unwrap().0, dialled);
        socket2::SockRef::from(&there).set_send_buffer_size(16 * 1024).unwrap();
        // What the sender gets rid of while nothing is read: its own buffer and our window.
        let unread = |there: TcpStream| async move {
            let (mut there, mut sent) = (there, 0);
            while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_millis(200), there.write(&[7; 4096])).await {
                sent += n;
            }
            (there, sent)
        };
        narrow(&here, Some(4096));
        let (held, free);
        (there, held) = unread(there).await;
        here.read_exact(&mut vec![0; held]).await.unwrap();
        narrow(&here, None);
        // With reads the window grows again.
        let mut many = vec![7; 4 << 20];
        let reading = async { here.read_exact(&mut many).await.map(|_| ()) };
        let writing = async { there.write_all(&[7; 4 << 20]).await };
        tokio::try_join!(reading, writing).unwrap();
        assert!(many.iter().all(|b| *b == 7));
        (_, free) = unread(there).await;
        assert!(free > 2 * held, "{free} after {held}");
    }
}

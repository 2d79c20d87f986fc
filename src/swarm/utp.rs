//! uTP (BEP 29) by `librqbit-utp`, over UDP sockets of our own: one of each family, on the port that TCP listens on.
//!
//! Own sockets rather than the crate's, for three reasons: each family has its own here, as for TCP; an error of one packet
//! (Windows reports a neighbour's closed port on the next receive) would end the crate's dispatcher, and with it every
//! link; and its vectored send spins while the kernel's buffer is full.
//!
//! What the crate leaves to us: a SYN is sent once, so [`Utp::connect`] sends another; a link that hears nothing for ten
//! seconds is ended, though peers may be silent for two minutes, so that patience is set past the link's own.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use dontfrag::UdpSocketExt;
use librqbit_dualstack_sockets::PollSendToVectored;
use librqbit_utp::{SocketOpts, Transport, UtpSocket, UtpSocketUdp, UtpStream};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{Interest, ReadBuf};
use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::book::plain;
use super::reader;
use crate::net::NetRoute;

/// Waits for the answer to a SYN: RFC 6298 has one second for a round trip nobody knows; the second is the last.
const SYN_WAITS: [Duration; 2] = [Duration::from_millis(1500), Duration::from_millis(3500)];

/// What a peer may have on the way to one link: at a round trip of 100 ms this carries 5 MB/s. It is what a budget can
/// pile up per link before the peer is slowed, so not more.
const RECEIVE_WINDOW: usize = 512 * 1024;

/// Unsent and unacknowledged bytes towards one peer, at the start and at most.
const SEND_BUFFER: (usize, usize) = (32 * 1024, 512 * 1024);

/// Room in the kernel for packets of all links between two turns of ours: 30 ms at a gigabit.
const KERNEL_BUFFER: usize = 4 * 1024 * 1024;

/// Longer than the link's own patience with silent peers, which decides.
const PATIENCE: Duration = Duration::from_secs(reader::IDLE.as_secs() + 20);

/// For the last packet of each link to leave; nobody waits for its answer.
const GOODBYE: Duration = Duration::from_millis(20);

/// First byte of a SYN: type 4, version 1.
const SYN: u8 = 0x41;

/// The crate does not export the name of its environment (clock and random numbers), so it is taken from a type that has it.
trait HasEnv {
    type Env;
}

impl<T, E> HasEnv for UtpSocket<T, E> {
    type Env = E;
}

type Socket_ = UtpSocket<Sockets, <UtpSocketUdp as HasEnv>::Env>;

/// One swarm's uTP. Dropping it ends all its links.
pub struct Utp {
    /// Gone once it was closed.
    socket: Mutex<Option<Arc<Socket_>>>,
    /// Of each family.
    has: (bool, bool),
    listens: bool,
    end: CancellationToken,
}

impl std::fmt::Debug for Utp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Utp").field("has", &self.has).finish()
    }
}

/// UDP sockets bound for uTP.
#[derive(Debug)]
pub struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    /// Whether strangers may open links.
    listening: bool,
    /// Takes turns, so that a flood over one family leaves room for the other.
    turn: AtomicBool,
}

impl Sockets {
    /// On the port and addresses that TCP listens on. Fails when none can be had.
    pub fn bind(route: &NetRoute, tcp: &[SocketAddr]) -> io::Result<Self> {
        let of = |v6: bool| tcp.iter().find(|a| a.is_ipv6() == v6).map(|a| bind(route, *a));
        let (v4, v6) = (of(false), of(true));
        let error = [&v4, &v6].into_iter().find_map(|s| s.as_ref().and_then(|s| s.as_ref().err().map(io::Error::kind)));
        let (v4, v6) = (v4.and_then(Result::ok), v6.and_then(Result::ok));
        match (&v4, &v6) {
            (None, None) => Err(error.unwrap_or(io::ErrorKind::AddrNotAvailable).into()),
            _ => Ok(Self { v4, v6, listening: true, turn: AtomicBool::new(false) }),
        }
    }

    /// For dialling only: on free ports.
    pub fn outgoing(route: &NetRoute, from: Option<IpAddr>) -> io::Result<Self> {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        let addrs: Vec<SocketAddr> = match from.filter(|ip| !ip.is_unspecified()) {
            Some(ip) => vec![SocketAddr::new(ip, 0)],
            None => any.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect(),
        };
        Ok(Self { listening: false, ..Self::bind(route, &addrs)? })
    }

    fn of(&self, target: SocketAddr) -> io::Result<&UdpSocket> {
        let socket = if target.is_ipv6() { &self.v6 } else { &self.v4 };
        socket.as_ref().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// The next packet of either family. Errors of single packets are not ours to end for.
    fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<(usize, SocketAddr)> {
        let turn = self.turn.fetch_xor(true, Ordering::Relaxed);
        let pair = if turn { [&self.v6, &self.v4] } else { [&self.v4, &self.v6] };
        for socket in pair.into_iter().flatten() {
            let mut packet = ReadBuf::new(buf);
            while let Poll::Ready(got) = socket.poll_recv_from(cx, &mut packet) {
                let first = packet.filled().first().copied();
                match (got, first) {
                    (Ok(_), Some(SYN)) if !self.listening => {}
                    (Ok(from), Some(_)) => return Poll::Ready((packet.filled().len(), plain(from))),
                    _ => {}
                }
                packet.clear();
            }
        }
        Poll::Pending
    }
}

fn bind(route: &NetRoute, addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = route.udp_at(addr)?;
    // The kernel caps it; less only costs speed.
    let _ = SockRef::from(&socket).set_recv_buffer_size(KERNEL_BUFFER);
    let _ = if addr.is_ipv4() { socket.set_dontfrag_v4(true) } else { socket.set_dontfrag_v6(true) };
    Ok(socket)
}

impl PollSendToVectored for Sockets {
    fn poll_send_to_vectored(
        &self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
        target: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        let socket = self.of(target)?;
        let to = target.into();
        loop {
            ready!(socket.poll_send_ready(cx))?;
            let send = || SockRef::from(socket).send_to_vectored(bufs, &to);
            match socket.try_io(Interest::WRITABLE, send) {
                // Readiness was taken back: wait for it again.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl Transport for Sockets {
    fn recv_from<'a>(
        &'a self,
        buf: &'a mut [u8],
    ) -> impl Future<Output = io::Result<(usize, SocketAddr)>> + Send + Sync + 'a {
        poll_fn(move |cx| self.poll_recv(cx, buf).map(Ok))
    }

    async fn send_to<'a>(&'a self, buf: &'a [u8], target: SocketAddr) -> io::Result<usize> {
        self.of(target)?.send_to(buf, target).await
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        self.of(target)?.poll_send_to(cx, buf, target)
    }

    fn bind_addr(&self) -> SocketAddr {
        let local = |s: &Option<UdpSocket>| s.as_ref().and_then(|s| s.local_addr().ok());
        local(&self.v4).or_else(|| local(&self.v6)).unwrap_or_else(|| (Ipv4Addr::UNSPECIFIED, 0).into())
    }
}

impl Utp {
    /// Runs uTP over the sockets, for `most` links and handshakes at once. Must be called inside of a runtime.
    pub fn start(sockets: Sockets, most: usize) -> io::Result<Self> {
        let end = CancellationToken::new();
        let options = SocketOpts {
            vsock_rx_bufsize_bytes: NonZeroUsize::new(RECEIVE_WINDOW),
            vsock_tx_bufsize_bytes_initial: NonZeroUsize::new(SEND_BUFFER.0),
            vsock_tx_bufsize_bytes_max: NonZeroUsize::new(SEND_BUFFER.1),
            // Requests are gathered by the link already.
            disable_nagle: true,
            remote_inactivity_timeout: Some(PATIENCE),
            max_live_vsocks: NonZeroUsize::new(most),
            dont_wait_for_lastack: true,
            cancellation_token: end.clone(),
            ..SocketOpts::default()
        };
        let (has, listens) = ((sockets.v4.is_some(), sockets.v6.is_some()), sockets.listening);
        let socket = UtpSocket::new_with_opts(sockets, Default::default(), options).map_err(io::Error::other)?;
        Ok(Self { socket: Mutex::new(Some(socket)), has, listens, end })
    }

    /// Whether strangers can open links.
    pub fn listens(&self) -> bool {
        self.listens
    }

    /// Whether an address can be dialled at all.
    pub fn reaches(&self, addr: SocketAddr) -> bool {
        if addr.is_ipv6() { self.has.1 } else { self.has.0 }
    }

    /// Dials. [`io::ErrorKind::TimedOut`] after five seconds at most. The second value is the round trip.
    pub async fn connect(&self, addr: SocketAddr) -> io::Result<(UtpStream, Duration)> {
        for wait in SYN_WAITS {
            let started = tokio::time::Instant::now();
            let socket = self.socket.lock().clone().ok_or(io::ErrorKind::NotConnected)?;
            match timeout(wait, socket.connect(addr)).await {
                Ok(Ok(stream)) => return Ok((stream, started.elapsed())),
                Ok(Err(librqbit_utp::Error::ErrorSendingSyn(e))) => return Err(e),
                Ok(Err(e)) => return Err(io::Error::other(e)),
                Err(_) => {}
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// The next link that a stranger opens. `None` when uTP has ended.
    pub async fn accept(&self) -> Option<(UtpStream, SocketAddr)> {
        let socket = self.socket.lock().clone()?;
        let stream = socket.accept().await.ok()?;
        let addr = stream.remote_addr();
        Some((stream, addr))
    }

    /// Lets the links that were just dropped say goodbye, ends what does not, and waits until the port is free again.
    pub async fn close(&self) {
        let Some(socket) = self.socket.lock().take() else { return };
        let left = Arc::downgrade(&socket);
        drop(socket);
        sleep(GOODBYE).await;
        self.end.cancel();
        while left.strong_count() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Drop for Utp {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

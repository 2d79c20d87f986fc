//! Peers that dial us, over TCP and uTP.
//!
//! Invariant: strangers hold at most [`MAX_PENDING`] connections of each kind that have not shaken hands, each for ten
//! seconds. When there are more, the oldest makes room: who means it shakes hands within a round trip or two, so hundreds
//! that say nothing keep nobody out.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::api::LinkSource;
use super::book::plain;
use super::conn::Conn;
use super::handshake;
use super::link::{self, Shaken};
use super::shake;
use super::shared::Shared;
use super::utp::Sockets;
use crate::net::NetRoute;

/// Connections that have not shaken hands. One of them holds some kilobytes.
pub const MAX_PENDING: usize = 100;

/// Sockets bound for peers.
#[derive(Debug)]
pub struct Listening {
    sockets: Vec<TcpListener>,
    pub local: SocketAddr,
    /// For uTP, on the same port; `None` where it is not wanted or the port is taken.
    pub utp: Option<Sockets>,
    /// The port asked for was taken.
    busy: Option<u16>,
}

/// Ports tried for both TCP and UDP where any will do.
const PORTS_TRIED: usize = 8;

/// Binds `addr` for TCP and, with `utp`, for UDP. Fails only where TCP does.
pub fn bind(route: &NetRoute, addr: SocketAddr, utp: bool) -> io::Result<Listening> {
    let mut listening = bind_tcp(route, addr)?;
    let tries = if utp { PORTS_TRIED } else { 0 };
    for _ in 0..tries {
        let addrs: Vec<_> = listening.sockets.iter().filter_map(|s| s.local_addr().ok()).collect();
        match Sockets::bind(route, &addrs) {
            Ok(sockets) => {
                listening.utp = Some(sockets);
                break;
            }
            Err(_) if listening.local.port() != addr.port() => listening = bind_tcp(route, addr)?,
            Err(_) => break,
        }
    }
    Ok(listening)
}

/// Binds `addr`, or the same address with a free port when its port is taken. An unspecified address is joined by
/// that of the other family, where this machine has it.
fn bind_tcp(route: &NetRoute, addr: SocketAddr) -> io::Result<Listening> {
    let bind_one = |addr| route.listen(addr);
    let first = bind_one(addr).map(|s| (s, None)).or_else(|e| match addr.ip() {
        // A machine without IPv6.
        IpAddr::V6(ip) if ip.is_unspecified() && e.kind() != io::ErrorKind::AddrInUse => {
            bind_one((Ipv4Addr::UNSPECIFIED, addr.port()).into()).map(|s| (s, None))
        }
        _ => Err(e),
    });
    let (first, busy) = match first {
        Err(_) if addr.port() != 0 => (bind_one(SocketAddr::new(addr.ip(), 0))?, Some(addr.port())),
        other => other?,
    };
    let local = first.local_addr()?;
    let mut sockets = vec![first];
    let other: Option<IpAddr> = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Some(Ipv6Addr::UNSPECIFIED.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => Some(Ipv4Addr::UNSPECIFIED.into()),
        _ => None,
    };
    sockets.extend(other.and_then(|ip| bind_one(SocketAddr::new(ip, local.port())).ok()));
    Ok(Listening { sockets, local, utp: None, busy })
}

/// Strangers who have not shaken hands yet.
#[derive(Debug, Default)]
struct Pending(Mutex<VecDeque<Arc<CancellationToken>>>);

impl Pending {
    /// One more; the oldest goes where there are too many. Cancelled when its own time has come.
    fn enter(self: &Arc<Self>) -> Place {
        let token = Arc::new(CancellationToken::new());
        let mut all = self.0.lock();
        all.push_back(token.clone());
        let oldest = if all.len() > MAX_PENDING { all.pop_front() } else { None };
        drop(all);
        if let Some(oldest) = oldest {
            oldest.cancel();
        }
        Place { token, of: self.clone() }
    }
}

/// Given back when dropped.
struct Place {
    token: Arc<CancellationToken>,
    of: Arc<Pending>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.0.lock().retain(|t| !Arc::ptr_eq(t, &self.token));
    }
}

/// Accepts until the swarm ends.
pub fn run(shared: &Arc<Shared>, listening: Listening) {
    let port = listening.local.port();
    let utp = shared.utp.as_ref().is_some_and(|u| u.listens());
    let over = if utp { " · TCP and uTP" } else { "" };
    let line = match listening.busy {
        Some(busy) => format!("Port {busy} is taken · listening on {port}{over}"),
        None => format!("Listening on port {port}{over}"),
    };
    shared.post(9, "listen", line);
    let pending = Arc::new(Pending::default());
    for socket in listening.sockets {
        shared.spawn(accept_tcp(shared.clone(), socket, pending.clone()));
    }
    if utp {
        // Apart: addresses of UDP packets can be forged, those of TCP handshakes cannot.
        shared.spawn(accept_utp(shared.clone(), Arc::default()));
    }
}

async fn accept_tcp(shared: Arc<Shared>, socket: TcpListener, pending: Arc<Pending>) {
    loop {
        let accepted = tokio::select! {
            a = socket.accept() => a,
            () = shared.cancel.cancelled() => return,
        };
        let Ok((stream, addr)) = accepted else {
            // Out of file descriptors, most likely: let others end first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        link::tune(&stream);
        welcome(&shared, Conn::Tcp(stream), addr, &pending);
    }
}

async fn accept_utp(shared: Arc<Shared>, pending: Arc<Pending>) {
    let Some(utp) = &shared.utp else { return };
    loop {
        let accepted = tokio::select! {
            a = utp.accept() => a,
            () = shared.cancel.cancelled() => return,
        };
        let Some((stream, addr)) = accepted else { return };
        welcome(&shared, Conn::Utp(Box::new(stream)), addr, &pending);
    }
}

/// Shakes hands with a stranger and runs the link.
fn welcome(shared: &Arc<Shared>, mut conn: Conn, addr: SocketAddr, pending: &Arc<Pending>) {
    let addr = plain(addr);
    if shared.book.lock().is_banned(addr) {
        return;
    }
    if !shared.has_room_for_strangers() {
        // The next one may find some.
        shared.make_room_for_mute();
        return;
    }
    let place = pending.enter();
    let task = shared.clone();
    shared.spawn(async move {
        let shaken = tokio::select! {
            s = timeout(handshake::TIMEOUT, shake::accepted(&task, &mut conn)) => s,
            () = place.token.cancelled() => return tracing::trace!(%addr, "incoming handshake made room"),
            () = task.cancel.cancelled() => return,
        };
        drop(place);
        match shaken {
            Ok(Ok(shake)) => {
                let source = LinkSource::Incoming;
                let shaken = Shaken { conn, shake, addr, source, outgoing: false, rtt: None, told: None };
                let _ = link::run(&task, shaken).await;
            }
            Ok(Err(e)) => tracing::trace!(%addr, %e, "incoming handshake failed"),
            Err(_) => tracing::trace!(%addr, "incoming handshake timed out"),
        }
    });
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn an_unspecified_address_takes_both_families() {
        let direct = NetRoute::default();
        let v4 = bind(&direct, "0.0.0.0:0".parse().unwrap(), true).unwrap();
        let port = v4.local.port();
        assert!(v4.utp.is_some(), "UDP on the same port");
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // Only where this machine has IPv6 at all.
        if std::net::TcpListener::bind("[::1]:0").is_ok() {
            TcpStream::connect(("::1", port)).await.unwrap();
            let v6 = bind(&direct, "[::]:0".parse().unwrap(), true).unwrap();
            TcpStream::connect(("127.0.0.1", v6.local.port())).await.unwrap();
        }
        assert_eq!(bind(&direct, v4.local, true).unwrap().busy, Some(port));
        assert!(bind(&direct, "203.0.113.1:0".parse().unwrap(), false).is_err(), "not an address of this machine");
    }
}

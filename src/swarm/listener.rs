//! Peers that dial us.
//!
//! Invariant: strangers hold at most [`MAX_PENDING`] connections that have not shaken hands, each for ten seconds.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::api::LinkSource;
use super::book::plain;
use super::handshake::{self, Handshake};
use super::link::{self, LinkEnd, Shaken};
use super::shared::Shared;
use super::wire::WireError;
use crate::net::NetRoute;

const MAX_PENDING: usize = 100;

/// Sockets bound for peers.
#[derive(Debug)]
pub struct Listening {
    sockets: Vec<TcpListener>,
    pub local: SocketAddr,
    /// The port asked for was taken.
    busy: Option<u16>,
}

/// Binds `addr`, or the same address with a free port when its port is taken. An unspecified address is joined by
/// that of the other family, where this machine has it.
pub fn bind(route: &NetRoute, addr: SocketAddr) -> io::Result<Listening> {
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
    Ok(Listening { sockets, local, busy })
}

/// Accepts until the swarm ends.
pub fn run(shared: &Arc<Shared>, listening: Listening) {
    let port = listening.local.port();
    let line = match listening.busy {
        Some(busy) => format!("port {busy} is taken · listening on {port}"),
        None => format!("listening on port {port}"),
    };
    shared.post(9, "listen", line);
    let pending = Arc::new(Semaphore::new(MAX_PENDING));
    for socket in listening.sockets {
        shared.spawn(accept(shared.clone(), socket, pending.clone()));
    }
}

async fn accept(shared: Arc<Shared>, socket: TcpListener, pending: Arc<Semaphore>) {
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
        let addr = plain(addr);
        let Ok(permit) = pending.clone().try_acquire_owned() else { continue };
        if shared.book.lock().is_banned(addr) || shared.link_count() >= shared.max_links() {
            continue;
        }
        let task = shared.clone();
        shared.spawn(async move {
            link::tune(&stream);
            let shaken = tokio::select! {
                s = timeout(handshake::TIMEOUT, shake(&task, stream, addr)) => s,
                () = task.cancel.cancelled() => return,
            };
            drop(permit);
            match shaken {
                Ok(Ok(shaken)) => drop(link::run(&task, shaken).await),
                Ok(Err(e)) => tracing::trace!(%addr, %e, "incoming handshake failed"),
                Err(_) => tracing::trace!(%addr, "incoming handshake timed out"),
            }
        });
    }
}

async fn shake(shared: &Shared, mut stream: TcpStream, addr: SocketAddr) -> Result<Shaken, LinkEnd> {
    let mut bytes = [0; handshake::LEN];
    let (head, id) = bytes.split_at_mut(48);
    stream.read_exact(head).await?;
    if head.get(28..) != Some(&shared.config.info_hash.0[..]) {
        return Err(WireError::WrongInfoHash.into());
    }
    // Some wait for our half before they send their id.
    stream.write_all(&Handshake::ours(shared.config.info_hash, shared.peer_id).encode()).await?;
    stream.read_exact(id).await?;
    link::count(shared, 2 * handshake::LEN);
    let peer = Handshake::decode(&bytes)?;
    Ok(Shaken { stream, peer, addr, source: LinkSource::Incoming, outgoing: false, rtt: None, told: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unspecified_address_takes_both_families() {
        let direct = NetRoute::default();
        let v4 = bind(&direct, "0.0.0.0:0".parse().unwrap()).unwrap();
        let port = v4.local.port();
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // Only where this machine has IPv6 at all.
        if std::net::TcpListener::bind("[::1]:0").is_ok() {
            TcpStream::connect(("::1", port)).await.unwrap();
            let v6 = bind(&direct, "[::]:0".parse().unwrap()).unwrap();
            TcpStream::connect(("127.0.0.1", v6.local.port())).await.unwrap();
        }
        assert_eq!(bind(&direct, v4.local).unwrap().busy, Some(port));
        assert!(bind(&direct, "203.0.113.1:0".parse().unwrap()).is_err(), "not an address of this machine");
    }
}

//! Sockets that leave the chosen way.
//!
//! Invariant: a socket towards the outside is tied to its interface before anything is sent from it; whatever hinders
//! that is an error, never a socket that is free.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use librqbit_dualstack_sockets::BindDevice;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

use super::route::{Bind, NetRoute, Socks5};
use super::socks5::{self, Relay, Target};

/// Incoming connections that wait to be accepted.
const BACKLOG: i32 = 128;

impl NetRoute {
    /// A TCP connection to a peer or server. With a proxy it is the proxy that connects.
    pub async fn connect_tcp(&self, to: SocketAddr) -> io::Result<TcpStream> {
        match &self.proxy {
            Some(proxy) if !to.ip().to_canonical().is_loopback() => {
                let stream = self.tcp_to(proxy.addr).await?;
                socks5::connect(stream, proxy, &Target::Addr(to)).await
            }
            _ => self.tcp_to(to).await,
        }
    }

    /// A TCP connection that no proxy takes part in.
    pub(super) async fn tcp_to(&self, to: SocketAddr) -> io::Result<TcpStream> {
        if self.bind.is_none() {
            return TcpStream::connect(to).await;
        }
        let socket = self.toward(to.ip(), Type::STREAM)?;
        TcpSocket::from_std_stream(socket.into()).connect(to).await
    }

    /// A UDP socket towards `to`, not yet connected, that no proxy takes part in.
    pub fn udp_to(&self, to: IpAddr) -> io::Result<UdpSocket> {
        let socket = self.toward(to, Type::DGRAM)?;
        if socket.local_addr()?.as_socket().is_none_or(|a| a.port() == 0) {
            let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            socket.bind(&SocketAddr::new(any, 0).into())?;
        }
        UdpSocket::from_std(socket.into())
    }

    /// Datagrams to and from `to` alone, through the proxy where there is one. A name is only for a proxy to look up.
    pub async fn datagrams(&self, to: Target) -> io::Result<Datagrams> {
        let local = matches!(&to, Target::Addr(a) if a.ip().to_canonical().is_loopback());
        match (&self.proxy, to) {
            (Some(proxy), to) if !local => {
                let relay = self.relay_of(proxy).await?;
                Ok(Datagrams::Proxied { relay, to, v6: false })
            }
            (_, Target::Addr(addr)) => {
                let socket = self.udp_to(addr.ip())?;
                socket.connect(addr).await?;
                Ok(Datagrams::Direct { socket, v6: addr.is_ipv6() })
            }
            (_, Target::Name(name, _)) => Err(super::RouteError::NoSuchName(name).into()),
        }
    }

    /// Datagrams to and from anybody, through the proxy. Fails where there is none, and where it relays none.
    pub async fn relay(&self) -> io::Result<Relay> {
        match &self.proxy {
            Some(proxy) => self.relay_of(proxy).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    async fn relay_of(&self, proxy: &Socks5) -> io::Result<Relay> {
        let control = self.tcp_to(proxy.addr).await?;
        let socket = self.udp_to(proxy.addr.ip())?;
        socks5::associate(control, socket, proxy).await
    }

    /// A listening socket on `at`; an unspecified address means the chosen one. Its port is free again at once.
    pub fn listen(&self, at: SocketAddr) -> io::Result<TcpListener> {
        let (socket, at) = self.at(at, Type::STREAM)?;
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&at.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    }

    /// A UDP socket on `at`, which takes datagrams from anybody; an unspecified address means the chosen one.
    pub fn udp_at(&self, at: SocketAddr) -> io::Result<UdpSocket> {
        let (socket, at) = self.at(at, Type::DGRAM)?;
        socket.bind(&at.into())?;
        UdpSocket::from_std(socket.into())
    }

    /// What a crate that makes its own socket must bind it to, and the interface it must tie it to: those of uTP and the DHT.
    pub fn bind_for_crates(&self, at: SocketAddr) -> io::Result<(SocketAddr, Option<BindDevice>)> {
        let Some(way) = self.way()? else { return Ok((at, None)) };
        if at.ip().to_canonical().is_loopback() {
            return Ok((at, None));
        }
        let ip = match self.bind {
            // Whatever family was asked for: there is no other.
            Some(Bind::Address(ip)) if at.ip().is_unspecified() => ip,
            _ => way.source(at.is_ipv6())?.filter(|_| at.ip().is_unspecified()).unwrap_or(at.ip()),
        };
        Ok((SocketAddr::new(ip, at.port()), way.device()?))
    }

    /// How long to wait for a connection that takes `direct` where nothing is in between: a proxy makes one of its own first.
    pub fn patience(&self, direct: Duration) -> Duration {
        if self.proxy.is_some() { direct * 3 } else { direct }
    }

    /// A socket for one family to be bound to `at`, tied to its interface; and what to bind it to.
    fn at(&self, at: SocketAddr, kind: Type) -> io::Result<(Socket, SocketAddr)> {
        // Every address of ours means the chosen one, whose family it then is.
        let at = match self.bind {
            Some(Bind::Address(ip)) if at.ip().is_unspecified() => SocketAddr::new(ip, at.port()),
            _ => at,
        };
        let socket = new_socket(at.ip(), kind)?;
        if at.is_ipv6() {
            // Its own socket for each family: whether one takes both depends on the machine.
            socket.set_only_v6(true)?;
        }
        if at.ip().to_canonical().is_loopback() {
            return Ok((socket, at));
        }
        let Some(way) = self.way()? else { return Ok((socket, at)) };
        way.tie(&socket, at.is_ipv6())?;
        let ip = match way.source(at.is_ipv6())? {
            Some(own) if at.ip().is_unspecified() => own,
            _ => at.ip(),
        };
        Ok((socket, SocketAddr::new(ip, at.port())))
    }

    fn toward(&self, to: IpAddr, kind: Type) -> io::Result<Socket> {
        let socket = new_socket(to, kind)?;
        if to.to_canonical().is_loopback() {
            return Ok(socket);
        }
        if let Some(way) = self.way()? {
            way.tie(&socket, to.is_ipv6())?;
            if let Some(own) = way.source(to.is_ipv6())? {
                socket.bind(&SocketAddr::new(own, 0).into())?;
            }
        }
        Ok(socket)
    }
}

fn new_socket(family: IpAddr, kind: Type) -> io::Result<Socket> {
    let domain = if family.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Datagrams exchanged with one other side.
#[derive(Debug)]
pub enum Datagrams {
    Direct { socket: UdpSocket, v6: bool },
    Proxied { relay: Relay, to: Target, v6: bool },
}

impl Datagrams {
    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Direct { socket, .. } => socket.send(bytes).await.map(drop),
            Self::Proxied { relay, to, .. } => relay.send_to(bytes, to).await,
        }
    }

    /// The next datagram into `buf`; its length. One that is longer is cut.
    pub async fn recv(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Direct { socket, .. } => socket.recv(buf).await,
            Self::Proxied { relay, to, v6 } => loop {
                let (data, from) = relay.recv_from().await?;
                if matches!((&*to, &from), (Target::Addr(asked), Some(from)) if asked != from) {
                    continue;
                }
                *v6 = from.is_some_and(|a| a.is_ipv6());
                let len = data.len().min(buf.len());
                if let (Some(into), Some(data)) = (buf.get_mut(..len), data.get(..len)) {
                    into.copy_from_slice(data);
                }
                return Ok(len);
            },
        }
    }

    /// The other side speaks IPv6. Behind a proxy this is known once it answered.
    pub fn is_v6(&self) -> bool {
        match self {
            Self::Direct { v6, .. } | Self::Proxied { v6, .. } => *v6,
        }
    }
}

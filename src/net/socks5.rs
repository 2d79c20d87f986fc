//! The client's side of SOCKS5 (RFC 1928, 1929): CONNECT for streams, UDP ASSOCIATE for datagrams.
//!
//! Ours because both must run over sockets that are tied to an interface already, which no crate for it takes for datagrams.
//!
//! Invariant: datagrams go to the proxy's own address, whatever relay address it names; only those that it says came from
//! whom we asked are taken.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::route::Socks5;

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const WITH_LOGIN: u8 = 2;
const CONNECT: u8 = 1;
const ASSOCIATE: u8 = 3;
const V4: u8 = 1;
const NAME: u8 = 3;
const V6: u8 = 4;

/// A proxy that says nothing for this long while a connection is made is not going to: Tor gives up after two minutes,
/// but a peer that takes a quarter of that is of no use.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest content of one that is read.
const MAX_DATAGRAM: usize = 8 * 1024;

/// Longest header of a relayed datagram: 4 bytes, a name of 255 with its length, a port.
const HEADER_MAX: usize = 4 + 256 + 2;

/// Whom a proxy is to reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Addr(SocketAddr),
    /// Looked up by the proxy.
    Name(String, u16),
}

/// Asks the proxy behind `stream` to connect to `to`; the stream then leads there.
pub async fn connect(mut stream: TcpStream, proxy: &Socks5, to: &Target) -> io::Result<TcpStream> {
    let asked = async {
        stream.set_nodelay(true)?;
        hello(&mut stream, proxy).await?;
        request(&mut stream, CONNECT, to).await
    };
    timeout(PATIENCE, asked).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(stream)
}

/// Asks the proxy behind `control` to relay the datagrams of `socket`.
pub async fn associate(mut control: TcpStream, socket: UdpSocket, proxy: &Socks5) -> io::Result<Relay> {
    // Where we send from is not known to us where an address is translated on the way; zeros are what RFC 1928 has for that.
    let any = match proxy.addr {
        SocketAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    };
    let asked = async {
        hello(&mut control, proxy).await?;
        request(&mut control, ASSOCIATE, &Target::Addr(any)).await
    };
    let port = timeout(PATIENCE, asked).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    socket.connect(SocketAddr::new(proxy.addr.ip(), port)).await?;
    Ok(Relay { control, socket, buf: vec![0; HEADER_MAX + MAX_DATAGRAM] })
}

async fn hello(stream: &mut TcpStream, proxy: &Socks5) -> io::Result<()> {
    let methods: &[u8] =
        if proxy.login.is_some() { &[VERSION, 2, NO_LOGIN, WITH_LOGIN] } else { &[VERSION, 1, NO_LOGIN] };
    stream.write_all(methods).await?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await?;
    match (chosen, &proxy.login) {
        ([VERSION, NO_LOGIN], _) => Ok(()),
        ([VERSION, WITH_LOGIN], Some(login)) => {
            let mut out = vec![1];
            for word in [&login.user, &login.password] {
                out.push(u8::try_from(word.len()).map_err(|_| refused("user name or password is too long"))?);
                out.extend_from_slice(word.as_bytes());
            }
            stream.write_all(&out).await?;
            let mut answer = [0; 2];
            stream.read_exact(&mut answer).await?;
            if answer[1] == 0 { Ok(()) } else { Err(refused("it does not take user name and password")) }
        }
        ([VERSION, _], None) => Err(refused("it wants a user name and password")),
        ([VERSION, _], Some(_)) => Err(refused("it takes no user name and password")),
        _ => Err(refused("it does not speak SOCKS5")),
    }
}

/// Sends a request; the port in the answer.
async fn request(stream: &mut TcpStream, command: u8, to: &Target) -> io::Result<u16> {
    let mut out = vec![VERSION, command, 0];
    put(&mut out, to)?;
    stream.write_all(&out).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version, reply, _, kind] = head;
    if version != VERSION {
        return Err(refused("it does not speak SOCKS5"));
    }
    if reply != 0 {
        return Err(reason(reply));
    }
    let rest = match kind {
        V4 => 4,
        V6 => 16,
        NAME => stream.read_u8().await?.into(),
        _ => return Err(refused("its answer makes no sense")),
    };
    let mut skipped = [0; 255];
    stream.read_exact(skipped.get_mut(..rest).unwrap_or_default()).await?;
    stream.read_u16().await
}

fn put(out: &mut Vec<u8>, to: &Target) -> io::Result<()> {
    let port = match to {
        Target::Addr(addr) => {
            match addr.ip() {
                IpAddr::V4(ip) => {
                    out.push(V4);
                    out.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    out.push(V6);
                    out.extend_from_slice(&ip.octets());
                }
            }
            addr.port()
        }
        Target::Name(name, port) => {
            let len = u8::try_from(name.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            out.extend_from_slice(&[NAME, len]);
            out.extend_from_slice(name.as_bytes());
            *port
        }
    };
    out.extend_from_slice(&port.to_be_bytes());
    Ok(())
}

/// RFC 1928, section 6.
fn reason(reply: u8) -> io::Error {
    use io::ErrorKind::*;
    let (kind, said) = match reply {
        2 => (PermissionDenied, "it does not allow that"),
        3 => (NetworkUnreachable, "that network cannot be reached"),
        4 => (HostUnreachable, "that host cannot be reached"),
        5 => (ConnectionRefused, "the connection was refused"),
        6 => (TimedOut, "there was no answer"),
        7 => (Unsupported, "it does not offer that"),
        8 => (Unsupported, "it does not know that kind of address"),
        _ => (Other, "it failed"),
    };
    io::Error::new(kind, format!("the proxy says: {said}"))
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, format!("the proxy is of no use: {why}"))
}

/// Datagrams through the proxy. They end with the connection that asked for them.
#[derive(Debug)]
pub struct Relay {
    control: TcpStream,
    socket: UdpSocket,
    buf: Vec<u8>,
}

impl Relay {
    pub async fn send_to(&self, bytes: &[u8], to: &Target) -> io::Result<()> {
        let mut out = Vec::with_capacity(HEADER_MAX + bytes.len());
        out.extend_from_slice(&[0, 0, 0]);
        put(&mut out, to)?;
        out.extend_from_slice(bytes);
        self.socket.send(&out).await.map(drop)
    }

    /// The next datagram, and from whom; `None` where the proxy tells a name. Fails when the proxy ends it.
    pub async fn recv_from(&mut self) -> io::Result<(&[u8], Option<SocketAddr>)> {
        let mut nothing = [0];
        let (start, end, from) = loop {
            let n = tokio::select! {
                n = self.socket.recv(&mut self.buf) => n?,
                // Nothing is ever said there but the end.
                n = self.control.read(&mut nothing) => match n? {
                    0 => return Err(io::ErrorKind::ConnectionAborted.into()),
                    _ => continue,
                },
            };
            if let Some((from, data)) = self.buf.get(..n).and_then(unwrap) {
                // The content is what the datagram ends in.
                break (n - data.len(), n, from);
            }
        };
        Ok((self.buf.get(start..end).unwrap_or_default(), from))
    }
}

/// Sender and content of a relayed datagram; `None` for fragments, which nobody sends, and nonsense. A sender told by its
/// name has no address.
fn unwrap(datagram: &[u8]) -> Option<(Option<SocketAddr>, &[u8])> {
    let (&[_, _, fragment, kind], rest) = datagram.split_first_chunk::<4>()?;
    if fragment != 0 {
        return None;
    }
    let (ip, rest) = match kind {
        V4 => rest.split_first_chunk::<4>().map(|(ip, rest)| (Some(IpAddr::from(*ip)), rest))?,
        V6 => rest.split_first_chunk::<16>().map(|(ip, rest)| (Some(IpAddr::from(*ip)), rest))?,
        NAME => {
            let (&len, rest) = rest.split_first()?;
            (None, rest.get(usize::from(len)..)?)
        }
        _ => return None,
    };
    let (port, data) = rest.split_first_chunk::<2>()?;
    Some((ip.map(|ip| SocketAddr::new(ip, u16::from_be_bytes(*port))), data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relayed_datagrams_are_unwrapped() {
        assert_eq!(unwrap(b"\0\0\0\x01\x01\x02\x03\x04\0\x50hi"), Some(("1.2.3.4:80".parse().ok(), &b"hi"[..])));
        assert_eq!(unwrap(b"\0\0\0\x03\x01h\0\x50"), Some((None, &b""[..])));
        for bad in [
            &b""[..],
            b"\0\0\x01\x01\x01\x02\x03\x04\0\x50hi",
            b"\0\0\0\x01\x01\x02",
            b"\0\0\0\x03\xffh",
            b"\0\0\0\x09",
        ] {
            assert_eq!(unwrap(bad), None, "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_datagram_is_unwrapped_or_dropped(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let _ = unwrap(&bytes);
        }
    }
}

//! What a play asks of the network, on 10.99.0.1: name server, trackers, web seed, a peer, the DHT's well-known nodes, and
//! a SOCKS5 proxy. Each notes who came: "peer 10.77.1.2".

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::world::World;

const HERE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
pub const DNS: u16 = 53;
pub const HTTP_TRACKER: u16 = 8080;
pub const UDP_TRACKER: u16 = 8081;
pub const WEB: u16 = 8082;
pub const PEER: u16 = 6889;
pub const SOCKS: u16 = 1080;
/// Of the DHT's well-known nodes.
const DHT: [u16; 2] = [6881, 25401];

#[derive(Default)]
struct Log {
    seen: Mutex<Vec<String>>,
    relays: Mutex<Vec<u16>>,
}

impl Log {
    fn note(&self, what: &str, from: SocketAddr) {
        self.seen.lock().unwrap().push(format!("{what} {}", from.ip()));
    }
}

pub struct Services(Arc<Log>);

impl Services {
    /// Serves `file` as the web seed, whatever path is asked for. All end with the test's process.
    pub fn start(world: &World, file: &Path) -> Services {
        let log = Arc::new(Log::default());
        let (here, file) = (log.clone(), file.to_owned());
        world.outside(move || {
            // Threads inherit the namespace of the one that starts them.
            udp(&here, "dns", DNS, dns);
            udp(&here, "udp-tracker", UDP_TRACKER, udp_tracker);
            for port in DHT {
                udp(&here, "dht", port, |_| None);
            }
            tcp(&here, "http-tracker", HTTP_TRACKER, |s, _| http_tracker(s));
            tcp(&here, "web", WEB, move |s, _| web(s, &file));
            tcp(&here, "peer", PEER, |s, _| drop(s));
            tcp(&here, "socks", SOCKS, |s, log| _ = socks(s, log));
        });
        Services(log)
    }

    pub fn seen(&self) -> Vec<String> {
        self.0.seen.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.0.seen.lock().unwrap().clear();
    }

    /// Ports that the proxy relays datagrams on.
    pub fn relays(&self) -> Vec<u16> {
        self.0.relays.lock().unwrap().clone()
    }
}

fn udp(log: &Arc<Log>, what: &'static str, port: u16, answer: fn(&[u8]) -> Option<Vec<u8>>) {
    let socket = UdpSocket::bind((HERE, port)).unwrap();
    let log = log.clone();
    std::thread::spawn(move || {
        let mut buf = [0; 2048];
        while let Ok((n, from)) = socket.recv_from(&mut buf) {
            log.note(what, from);
            if let Some(answer) = answer(&buf[..n]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
}

fn tcp(
    log: &Arc<Log>,
    what: &'static str,
    port: u16,
    serve: impl Fn(TcpStream, &Arc<Log>) + Clone + Send + Sync + 'static,
) {
    let listener = TcpListener::bind((HERE, port)).unwrap();
    let log = log.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { continue };
            let Ok(from) = stream.peer_addr() else { continue };
            log.note(what, from);
            let (serve, log) = (serve.clone(), log.clone());
            std::thread::spawn(move || serve(stream, &log));
        }
    });
}

/// Every name is here; none has an IPv6 address.
fn dns(question: &[u8]) -> Option<Vec<u8>> {
    let mut out = question.to_vec();
    out.get_mut(2..4)?.copy_from_slice(&[0x81, 0x80]);
    if question.get(question.len() - 4..question.len() - 2)? == [0, 1] {
        out[7] = 1;
        out.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        out.extend_from_slice(&HERE.octets());
    }
    Some(out)
}

fn compact_peer() -> Vec<u8> {
    [&HERE.octets()[..], &PEER.to_be_bytes()].concat()
}

/// BEP 15.
fn udp_tracker(asked: &[u8]) -> Option<Vec<u8>> {
    let action = asked.get(8..12)?;
    let transaction = asked.get(12..16)?;
    Some(match action {
        [0, 0, 0, 0] => [action, transaction, &[7; 8]].concat(),
        _ => [action, transaction, &[0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 1], &compact_peer()].concat(),
    })
}

/// The head of a request, lines in lower case.
fn head(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match stream.read_line(&mut line) {
            Ok(n) if n > 0 => {}
            _ => return None,
        }
        match line.trim() {
            "" => return Some(lines),
            line => lines.push(line.to_ascii_lowercase()),
        }
    }
}

fn http_tracker(stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    if head(&mut stream).is_some() {
        let body = [b"d8:intervali1800e5:peers6:".to_vec(), compact_peer(), b"e".to_vec()].concat();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let _ = stream.get_mut().write_all(&[head.into_bytes(), body].concat());
    }
}

/// Ranged GETs on kept connections; a server that takes no bids.
fn web(stream: TcpStream, file: &PathBuf) {
    let bytes = std::fs::read(file).unwrap();
    let mut stream = BufReader::new(stream);
    while let Some(head) = head(&mut stream) {
        if head.first().is_some_and(|l| l.starts_with("post ")) {
            let len = head.iter().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |l| l.parse().unwrap());
            let read = stream.read_exact(&mut vec![0; len]);
            let said = stream.get_mut().write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
            if read.and(said).is_err() {
                return;
            }
            continue;
        }
        let range = head.iter().find_map(|l| l.strip_prefix("range: bytes="));
        let (from, to) = range.and_then(|r| r.split_once('-')).expect("a request without a range");
        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap());
        let to = to.min(bytes.len() - 1);
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{to}/{}\r\nContent-Length: {}\r\n\r\n",
            bytes.len(),
            to + 1 - from
        );
        if stream.get_mut().write_all(head.as_bytes()).is_err()
            || stream.get_mut().write_all(&bytes[from..=to]).is_err()
        {
            return;
        }
    }
}

/// RFC 1928 with user name and password. Names are all here.
fn socks(mut s: TcpStream, log: &Arc<Log>) -> Option<()> {
    let take = |n: usize, s: &mut TcpStream| {
        let mut buf = vec![0; n];
        s.read_exact(&mut buf).ok().map(|()| buf)
    };
    let count = take(2, &mut s)?[1];
    assert!(take(count.into(), &mut s)?.contains(&2), "no login offered");
    s.write_all(&[5, 2]).ok()?;
    let len = take(2, &mut s)?[1];
    let user = take(len.into(), &mut s)?;
    let len = take(1, &mut s)?[0];
    let password = take(len.into(), &mut s)?;
    let known = (&user[..], &password[..]) == (b"me", b"p@ss");
    s.write_all(&[1, u8::from(!known)]).ok()?;
    let command = take(3, &mut s)?[1];
    let to = target(&mut s, log)?;
    if command == 1 {
        let Ok(other) = TcpStream::connect(to) else {
            s.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
            return None;
        };
        s.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).ok()?;
        let (mut s2, mut other2) = (s.try_clone().ok()?, other.try_clone().ok()?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut s2, &mut other2);
            let _ = other2.shutdown(std::net::Shutdown::Write);
        });
        let mut other = other;
        let _ = std::io::copy(&mut other, &mut s);
        let _ = s.shutdown(std::net::Shutdown::Write);
        return Some(());
    }
    // UDP ASSOCIATE: one client, and whoever answers it.
    let (near, far) = (UdpSocket::bind((HERE, 0)).ok()?, UdpSocket::bind((HERE, 0)).ok()?);
    let port = near.local_addr().ok()?.port();
    log.relays.lock().unwrap().push(port);
    // Its address is not told, as many proxies do not.
    s.write_all(&[&[5, 0, 0, 1, 0, 0, 0, 0][..], &port.to_be_bytes()].concat()).ok()?;
    let (near2, far2, log2) = (near.try_clone().ok()?, far.try_clone().ok()?, log.clone());
    std::thread::spawn(move || {
        let mut buf = [0; 2048];
        while let Ok((n, from)) = near2.recv_from(&mut buf) {
            let mut rest = &buf[3..n];
            let Some(to) = target(&mut rest, &log2) else { continue };
            let _ = far2.send_to(rest, to);
            let _ = near2.connect(from);
        }
    });
    std::thread::spawn(move || {
        let mut buf = [0; 2048];
        while let Ok((n, from)) = far.recv_from(&mut buf) {
            let SocketAddr::V4(from) = from else { continue };
            let head = [&[0, 0, 0, 1][..], &from.ip().octets(), &from.port().to_be_bytes()].concat();
            let _ = near.send(&[&head, &buf[..n]].concat());
        }
    });
    // As long as its connection stands.
    let _ = s.read(&mut [0]);
    Some(())
}

/// Reads an address; a name is looked up here and noted.
fn target(from: &mut impl Read, log: &Log) -> Option<SocketAddr> {
    let mut take = |n: usize| {
        let mut buf = vec![0; n];
        from.read_exact(&mut buf).ok().map(|()| buf)
    };
    let ip = match take(1)?[0] {
        1 => Ipv4Addr::from(<[u8; 4]>::try_from(take(4)?).ok()?),
        3 => {
            let len = take(1)?[0];
            let name = String::from_utf8(take(len.into())?).ok()?;
            log.seen.lock().unwrap().push(format!("socks name {name}"));
            HERE
        }
        _ => return None,
    };
    let port = u16::from_be_bytes(take(2)?.try_into().ok()?);
    Some((ip, port).into())
}

//! Names. The system's resolver sends its questions the way it likes, so where an interface is chosen the name servers are
//! asked from here, over sockets that are tied to it.
//!
//! Ours and not hickory's resolver: what is needed is a stub that asks for two record types, and that one brings more
//! code than all else in this layer.
//!
//! Invariant: with a bind no question goes to a name server on this machine, since that one would pass it on its own way;
//! with a proxy no question goes anywhere.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::route::{NetRoute, RouteError};
use super::socks5::Target;

const PORT: u16 = 53;
const A: u16 = 1;
const AAAA: u16 = 28;
const INTERNET: u16 = 1;

/// Name servers asked, each [`TRIES`] times; as the C library's resolver.
const MAX_SERVERS: usize = 3;
const TRIES: usize = 2;
/// A name server that takes longer is of no use to a player.
const WAIT: Duration = Duration::from_secs(2);
/// Addresses taken from one answer.
const MAX_ADDRS: usize = 32;
/// What a resolver without EDNS may be sent over UDP is 512 bytes (RFC 1035); some send more all the same.
const MAX_DATAGRAM: usize = 4096;

/// Where the system keeps its name servers. The first is, with systemd-resolved, only a pointer to this machine itself; the
/// others then hold the real ones.
const SERVERS: [&str; 3] =
    ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf"];
const HOSTS: &str = "/etc/hosts";
/// Larger files than this hold something else.
const FILE_MAX: u64 = 1 << 20;

impl NetRoute {
    /// The addresses of `host`, which may be one itself. Behind a proxy a name is refused: only the proxy may look it up.
    pub async fn lookup(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(vec![(ip, port).into()]);
        }
        // RFC 6761: never a question for the network.
        let name = host.trim_end_matches('.').to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") {
            return Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
        }
        if self.proxy.is_some() {
            return Err(RouteError::NameBehindProxy(name).into());
        }
        let ips = match &self.bind {
            None => return Ok(tokio::net::lookup_host((host, port)).await?.collect()),
            Some(_) => self.ask_bound(&name).await?,
        };
        Ok(ips.into_iter().map(|ip| (ip, port).into()).collect())
    }

    /// What to hand to [`NetRoute::datagrams`] for `host`: its first address of each family, or its name, where the proxy
    /// looks it up.
    pub async fn targets(&self, host: &str, port: u16) -> io::Result<Vec<Target>> {
        match self.lookup(host, port).await {
            Err(_) if self.proxy.is_some() => Ok(vec![Target::Name(host.to_owned(), port)]),
            Err(e) => Err(e),
            Ok(addrs) => {
                let first = |v6: bool| addrs.iter().find(|a| a.is_ipv6() == v6).copied().map(Target::Addr);
                Ok(first(false).into_iter().chain(first(true)).collect())
            }
        }
    }

    async fn ask_bound(&self, name: &str) -> Result<Vec<IpAddr>, RouteError> {
        let way = self.way()?.ok_or_else(|| RouteError::NoSuchName(name.to_owned()))?;
        let usable = |ip: &IpAddr| way.source(ip.is_ipv6()).is_ok();
        if let Some(found) = read(Path::new(HOSTS)).map(|text| hosts(&text, name)).filter(|f| !f.is_empty()) {
            return Ok(found.into_iter().filter(usable).collect());
        }
        let servers = self.name_servers();
        let servers: Vec<_> = servers.into_iter().filter(usable).take(MAX_SERVERS).collect();
        if servers.is_empty() {
            return Err(RouteError::NoNameServer(way.name().to_owned()));
        }
        for server in servers.iter().cycle().take(servers.len() * TRIES) {
            let (v4, v6) = tokio::join!(self.ask(*server, name, A), self.ask(*server, name, AAAA));
            // One family that is not answered for must not hide the other.
            match (v4, v6) {
                (Err(_), Err(_)) => {}
                (v4, v6) => {
                    let both = v4.unwrap_or_default().into_iter().chain(v6.unwrap_or_default());
                    let found: Vec<IpAddr> = both.filter(usable).collect();
                    return if found.is_empty() { Err(RouteError::NoSuchName(name.to_owned())) } else { Ok(found) };
                }
            }
        }
        Err(RouteError::NameServerSilent(way.name().to_owned()))
    }

    /// The user's, or the system's as far as they are not this machine itself.
    fn name_servers(&self) -> Vec<IpAddr> {
        if let Some(ip) = self.name_server {
            return vec![ip];
        }
        let found = SERVERS.iter().filter_map(|p| read(Path::new(p))).map(|text| name_servers(&text));
        found.filter(|s| !s.is_empty()).map(Vec::from_iter).next().unwrap_or_default()
    }

    async fn ask(&self, server: IpAddr, name: &str, kind: u16) -> io::Result<Vec<IpAddr>> {
        let id: u16 = rand::random();
        let question = question(id, name, kind).ok_or(io::ErrorKind::InvalidInput)?;
        let server = SocketAddr::new(server, PORT);
        let socket = self.udp_to(server.ip())?;
        socket.connect(server).await?;
        socket.send(&question).await?;
        let mut buf = vec![0; MAX_DATAGRAM];
        let deadline = Instant::now() + WAIT;
        loop {
            let n = timeout_at(deadline, socket.recv(&mut buf)).await.map_err(|_| io::ErrorKind::TimedOut)??;
            match answer(buf.get(..n).unwrap_or_default(), &question) {
                Some(Said::Addrs(found)) => return Ok(found),
                Some(Said::Cut) => break,
                Some(Said::Failed) => return Err(io::ErrorKind::Other.into()),
                // A stranger's.
                None => {}
            }
        }
        timeout(WAIT, self.ask_tcp(server, &question)).await.map_err(|_| io::ErrorKind::TimedOut)?
    }

    /// The same over TCP, where the answer is too long for a datagram.
    async fn ask_tcp(&self, server: SocketAddr, question: &[u8]) -> io::Result<Vec<IpAddr>> {
        let mut stream = self.tcp_to(server).await?;
        let len = u16::try_from(question.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        stream.write_all(&[&len.to_be_bytes()[..], question].concat()).await?;
        let len = stream.read_u16().await?;
        let mut buf = vec![0; len.into()];
        stream.read_exact(&mut buf).await?;
        match answer(&buf, question) {
            Some(Said::Addrs(found)) => Ok(found),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// A small text file of the system's; `None` where there is none.
fn read(path: &Path) -> Option<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(FILE_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// `nameserver` lines of a resolv.conf, without those on this machine.
fn name_servers(text: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|l| l.trim().strip_prefix("nameserver"));
    let ips = lines.filter_map(|l| l.split_whitespace().next()?.parse::<IpAddr>().ok());
    ips.filter(|ip| !ip.to_canonical().is_loopback() && !ip.is_unspecified()).take(MAX_SERVERS).collect()
}

/// The addresses that a hosts file gives `name`.
fn hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let lines = text.lines().filter_map(|l| l.split('#').next());
    lines
        .filter_map(|l| {
            let mut words = l.split_whitespace();
            let ip = words.next()?.parse::<IpAddr>().ok()?;
            words.any(|w| w.eq_ignore_ascii_case(name)).then_some(ip)
        })
        .take(MAX_ADDRS)
        .collect()
}

/// A question for one type of record (RFC 1035, section 4); `None` for what is no name.
fn question(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(name.len() + 18);
    out.extend_from_slice(&id.to_be_bytes());
    // Recursion desired; one question.
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let len = u8::try_from(label.len()).ok().filter(|n| (1..=63).contains(n))?;
        out.push(len);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&INTERNET.to_be_bytes());
    (name.len() <= 253).then_some(out)
}

/// What a name server said.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// None where the name has none of that type, or does not exist.
    Addrs(Vec<IpAddr>),
    /// It does not fit a datagram.
    Cut,
    Failed,
}

/// Reads an answer to `question`; `None` for anything else. The addresses are those in the answer section: a recursive
/// server puts there the chain of aliases and what it ends in, and nothing else.
fn answer(bytes: &[u8], question: &[u8]) -> Option<Said> {
    let number = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let asked = question.get(12..)?;
    let kind = asked.get(asked.len().checked_sub(4)?..)?.first_chunk().copied().map(u16::from_be_bytes)?;
    let flags = number(2)?;
    let same = bytes.get(..2) == question.get(..2) && flags & 0x8000 != 0 && number(4)? == 1;
    // Servers may change the case of a name's letters.
    if !same || !bytes.get(12..12 + asked.len())?.eq_ignore_ascii_case(asked) {
        return None;
    }
    match flags & 0x000f {
        // No error; no such name.
        0 | 3 => {}
        _ => return Some(Said::Failed),
    }
    if flags & 0x0200 != 0 {
        return Some(Said::Cut);
    }
    let mut at = 12 + asked.len();
    let mut found = Vec::new();
    for _ in 0..number(6)? {
        at = skip_name(bytes, at)?;
        let (record, class, len) = (number(at)?, number(at + 2)?, usize::from(number(at + 8)?));
        let data = bytes.get(at + 10..at + 10 + len)?;
        at += 10 + len;
        let ip = match (record, class) {
            (A, INTERNET) => <[u8; 4]>::try_from(data).ok().map(IpAddr::from),
            (AAAA, INTERNET) => <[u8; 16]>::try_from(data).ok().map(IpAddr::from),
            _ => None,
        };
        found.extend(ip.filter(|ip| ip.is_ipv6() == (kind == AAAA) && found.len() < MAX_ADDRS));
    }
    Some(Said::Addrs(found))
}

/// Where the name at `at` ends: after its labels, or after the pointer that stands for the rest of them.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            n if n & 0xc0 == 0xc0 => return Some(at + 2),
            n if n < 64 => at += 1 + usize::from(n),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer with an alias and what it stands for.
    fn answered(question: &[u8], flags: u16, records: &[(u16, &[u8])]) -> Vec<u8> {
        let mut out = question.to_vec();
        out[2..4].copy_from_slice(&flags.to_be_bytes());
        out[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        for (kind, data) in records {
            out.extend_from_slice(&[0xc0, 12]);
            out.extend_from_slice(&kind.to_be_bytes());
            out.extend_from_slice(&[0, 1, 0, 0, 0, 60]);
            out.extend_from_slice(&(data.len() as u16).to_be_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    #[test]
    fn an_answer_is_read_past_aliases_and_a_strangers_is_not() {
        let q = question(7, "tracker.example", A).unwrap();
        let alias: (u16, &[u8]) = (5, b"\x01x\xc0\x0c");
        let good = answered(&q, 0x8180, &[alias, (A, &[1, 2, 3, 4]), (AAAA, &[0; 16]), (A, &[9])]);
        assert_eq!(answer(&good, &q), Some(Said::Addrs(vec!["1.2.3.4".parse().unwrap()])));
        assert_eq!(answer(&good, &question(8, "tracker.example", A).unwrap()), None);
        assert_eq!(answer(&good, &question(7, "tracker.exampl3", A).unwrap()), None);
        assert_eq!(answer(&q, &q), None, "a question is no answer");
        assert_eq!(answer(&answered(&q, 0x8183, &[]), &q), Some(Said::Addrs(vec![])));
        assert_eq!(answer(&answered(&q, 0x8182, &[]), &q), Some(Said::Failed));
        assert_eq!(answer(&answered(&q, 0x8380, &[]), &q), Some(Said::Cut));
    }

    #[test]
    fn names_that_are_none_are_not_asked_for() {
        let long = "a.".repeat(127) + "b";
        for bad in ["", "a..b", &"x".repeat(64), &long] {
            assert_eq!(question(1, bad, A), None, "{bad}");
        }
    }

    #[test]
    fn the_systems_files_are_read() {
        let conf =
            "# x\nnameserver 127.0.0.53\n nameserver 10.0.0.1 # y\nnameserver fd00::1\nnameserver ::1\nsearch a\n";
        assert_eq!(name_servers(conf), ["10.0.0.1".parse::<IpAddr>().unwrap(), "fd00::1".parse().unwrap()]);
        assert_eq!(
            hosts("10.0.0.9 a Seed.Example # b\nx y\n", "seed.example"),
            ["10.0.0.9".parse::<IpAddr>().unwrap()]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_answer_is_read_or_dropped(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), flags in 0u16..) {
            let q = question(7, "a.b", AAAA).unwrap();
            let _ = answer(&bytes, &q);
            let mut whole = answered(&q, flags | 0x8000, &[(A, &[0; 4]), (AAAA, &[1; 16])]);
            whole.append(&mut bytes);
            whole[6] = 0xff;
            let _ = answer(&whole, &q);
        }
    }
}

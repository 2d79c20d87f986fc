//! Announces and scrapes over UDP (BEP 15, 41), to the tracker's IPv4 and IPv6 address at once.
//!
//! Invariant: only datagrams of the tracker's own address with our transaction's number are believed.

use std::time::Duration;

use bytes::{Buf, BufMut};
use futures::future::{Either, select};
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::client;
use super::pex::compact;
use super::tracker::{Announce, Answer, Counts, Occasion, TrackerError};
use crate::net::{Datagrams, NetRoute, RouteError, Target};

const PROTOCOL: u64 = 0x0417_2710_1980;
const CONNECT: u32 = 0;
const ANNOUNCE: u32 = 1;
const SCRAPE: u32 = 2;
const ERROR: u32 = 3;
/// An option of the announce (BEP 41).
const URL_DATA: u8 = 2;

/// Wait for an answer before the datagram is sent again. BEP 15 says 15 s, 30 s …: at the start of a play that is the
/// price of one lost datagram, and trackers answer within a round trip or not at all.
const TRIES: [Duration; 4] =
    [Duration::from_millis(1000), Duration::from_secs(2), Duration::from_secs(4), Duration::from_secs(8)];

/// Wait for the other family's answer once there is one: a machine whose IPv6 leads nowhere must not wait for it.
const OTHER_FAMILY: Duration = Duration::from_millis(500);

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest datagram that is read.
const MAX_DATAGRAM: usize = 8 * 1024;

/// Announces; gives the bytes both ways too. Fails when no address of the tracker answers.
pub async fn announce(route: &NetRoute, url: &Url, a: &Announce) -> Result<(Answer, u64), TrackerError> {
    let mut targets = resolve(route, url).await?.into_iter();
    let (v4, v6) = (targets.next(), targets.next());
    let one = |to: Option<Target>| async move {
        match to {
            Some(to) => announce_to(route, to, url, a).await,
            None => Err(TrackerError::Unreachable),
        }
    };
    let (first, other) = match select(Box::pin(one(v4)), Box::pin(one(v6))).await {
        Either::Left((x, rest)) => (x, rest),
        Either::Right((y, rest)) => (y, rest),
    };
    match first {
        Ok((mut x, n)) => Ok(match timeout(OTHER_FAMILY, other).await {
            Ok(Ok((y, m))) => {
                x.peers.extend(y.peers);
                (x, n + m)
            }
            _ => (x, n),
        }),
        // Of two errors the one that says more: that there is no address of a family says nothing.
        Err(e) => other.await.map_err(|f| {
            let says_less = |e: &TrackerError| matches!(e, TrackerError::Unreachable);
            if says_less(&f) { e } else { f }
        }),
    }
}

/// Asks how many are in the swarm; gives the bytes both ways too.
pub async fn scrape(route: &NetRoute, url: &Url, info_hash: [u8; 20]) -> Result<(Counts, u64), TrackerError> {
    let to = resolve(route, url).await?.into_iter().next().ok_or(TrackerError::Unreachable)?;
    let (mut socket, connection, bytes) = connect(route, to).await?;
    let mut message = Vec::new();
    message.put_u64(connection);
    message.put_u32(SCRAPE);
    message.put_slice(&info_hash);
    let (body, more) = exchange(&mut socket, &message, SCRAPE).await?;
    let mut body = &body[..];
    let mut number = || body.try_get_u32().map_err(|_| TrackerError::Nonsense);
    let (seeds, _completed, others) = (number()?, number()?, number()?);
    Ok((Counts { seeds, others }, bytes + more))
}

/// The first address of each family; behind a proxy, the name.
async fn resolve(route: &NetRoute, url: &Url) -> Result<Vec<Target>, TrackerError> {
    let port = url.port().unwrap_or(80);
    let host = url.host_str().ok_or(TrackerError::Unreachable)?;
    let found = timeout(RESOLVE_TIMEOUT, route.targets(host, port)).await;
    found.map_err(|_| TrackerError::Silent)?.map_err(|e| unreachable(&e))
}

/// What kept a socket from being made, in the words of the route, where it was the route.
fn unreachable(e: &std::io::Error) -> TrackerError {
    match e.get_ref().and_then(|e| e.downcast_ref::<RouteError>()) {
        Some(e) => TrackerError::Route(e.clone()),
        None => TrackerError::Unreachable,
    }
}

async fn announce_to(
    route: &NetRoute,
    tracker: Target,
    url: &Url,
    a: &Announce,
) -> Result<(Answer, u64), TrackerError> {
    let (mut socket, connection, bytes) = connect(route, tracker).await?;
    let (body, more) = exchange(&mut socket, &request(connection, url, a), ANNOUNCE).await?;
    Ok((parse(&body, socket.is_v6())?, bytes + more))
}

/// A socket, and the number by which the tracker knows it for a minute.
async fn connect(route: &NetRoute, tracker: Target) -> Result<(Datagrams, u64, u64), TrackerError> {
    let opened = timeout(RESOLVE_TIMEOUT, route.datagrams(tracker)).await.map_err(|_| TrackerError::Silent)?;
    let mut socket = opened.map_err(|e| unreachable(&e))?;
    let mut hello = Vec::new();
    hello.put_u64(PROTOCOL);
    hello.put_u32(CONNECT);
    let (body, bytes) = exchange(&mut socket, &hello, CONNECT).await?;
    let connection = (&body[..]).try_get_u64().map_err(|_| TrackerError::Nonsense)?;
    Ok((socket, connection, bytes))
}

/// The announce up to its action; the transaction's number goes in between.
fn request(connection: u64, url: &Url, a: &Announce) -> Vec<u8> {
    let mut out = Vec::with_capacity(98);
    out.put_u64(connection);
    out.put_u32(ANNOUNCE);
    out.put_slice(&a.info_hash);
    out.put_slice(&a.peer_id);
    out.put_u64(a.downloaded);
    out.put_u64(a.left);
    out.put_u64(a.uploaded);
    out.put_u32(match a.occasion {
        Occasion::Regular => 0,
        Occasion::Completed => 1,
        Occasion::Started => 2,
        Occasion::Stopped => 3,
    });
    out.put_u32(0);
    out.put_u32(a.key);
    out.put_u32(a.want);
    out.put_u16(a.port);
    // BEP 41: path and query, in parts of 255 bytes; a passkey may be in them.
    let path = match (url.path(), url.query()) {
        ("" | "/", None) => String::new(),
        (path, None) => path.to_owned(),
        (path, Some(query)) => format!("{path}?{query}"),
    };
    for part in path.as_bytes().chunks(255) {
        out.put_u8(URL_DATA);
        out.put_u8(part.len() as u8);
        out.put_slice(part);
    }
    out
}

/// Sends `message` (which lacks its transaction number, due at byte 12) until it is answered; gives what follows the
/// answer's number, and the bytes both ways.
async fn exchange(socket: &mut Datagrams, message: &[u8], action: u32) -> Result<(Vec<u8>, u64), TrackerError> {
    let transaction: u32 = rand::random();
    let (head, tail) = message.split_at_checked(12).ok_or(TrackerError::Nonsense)?;
    let message = [head, &transaction.to_be_bytes(), tail].concat();
    let mut buf = vec![0; MAX_DATAGRAM];
    let mut bytes = 0;
    for wait in TRIES {
        socket.send(&message).await.map_err(|_| TrackerError::Unreachable)?;
        bytes += message.len() as u64;
        let deadline = Instant::now() + wait;
        while let Ok(got) = timeout_at(deadline, socket.recv(&mut buf)).await {
            let n = got.map_err(|_| TrackerError::Unreachable)?;
            bytes += n as u64;
            let mut answer = buf.get(..n).unwrap_or_default();
            let (Ok(kind), Ok(number)) = (answer.try_get_u32(), answer.try_get_u32()) else { continue };
            if number != transaction {
                continue;
            }
            if kind == ERROR {
                return Err(TrackerError::Refused(format!("refused: {}", client::clean(answer).unwrap_or_default())));
            }
            return if kind == action { Ok((answer.to_vec(), bytes)) } else { Err(TrackerError::Nonsense) };
        }
    }
    Err(TrackerError::Silent)
}

pub fn parse(mut body: &[u8], v6: bool) -> Result<Answer, TrackerError> {
    let mut number = || body.try_get_u32().map_err(|_| TrackerError::Nonsense);
    let (interval, others, seeds) = (number()?, number()?, number()?);
    let interval = Duration::from_secs(interval.into());
    let counts = Some(Counts { seeds, others });
    Ok(Answer { peers: compact(body, v6).collect(), interval, counts, ..Answer::default() })
}

#[cfg(test)]
mod tests {
    use tokio::net::UdpSocket;

    use super::*;

    fn about() -> Announce {
        Announce {
            info_hash: [1; 20],
            peer_id: [2; 20],
            port: 6881,
            uploaded: 0,
            downloaded: 0,
            left: 9,
            occasion: Occasion::Started,
            key: 3,
            want: 200,
            id: None,
        }
    }

    /// A tracker that loses the first datagram, sends a stranger's answer, then the right one.
    async fn tracker(socket: UdpSocket) {
        let mut buf = [0; 200];
        let _lost = socket.recv_from(&mut buf).await.unwrap();
        let (n, from) = socket.recv_from(&mut buf).await.unwrap();
        assert_eq!((n, u64::from_be_bytes(buf[..8].try_into().unwrap())), (16, PROTOCOL));
        let answer = |kind: u32, number: &[u8], body: &[u8]| [&kind.to_be_bytes()[..], number, body].concat();
        socket.send_to(&answer(CONNECT, b"nope", &[9; 8]), from).await.unwrap();
        socket.send_to(&answer(CONNECT, &buf[12..16], &[7; 8]), from).await.unwrap();
        let (n, from) = socket.recv_from(&mut buf).await.unwrap();
        assert_eq!((&buf[..8], &buf[16..36]), (&[7u8; 8][..], &[1u8; 20][..]));
        assert_eq!(&buf[92..n], b"\0\0\0\xc8\x1a\xe1\x02\x09/announce"[..].split_at(0).1);
        let mut body = Vec::new();
        [900u32, 4, 7].iter().for_each(|x| body.put_u32(*x));
        body.extend_from_slice(&[10, 0, 0, 1, 0x1a, 0xe1, 99]);
        socket.send_to(&answer(ANNOUNCE, &buf[12..16], &body), from).await.unwrap();
        let (_, from) = socket.recv_from(&mut buf).await.unwrap();
        socket.send_to(&answer(CONNECT, &buf[12..16], &[5; 8]), from).await.unwrap();
        let (n, from) = socket.recv_from(&mut buf).await.unwrap();
        assert_eq!(
            (n, &buf[..12], &buf[16..36]),
            (36, &b"\x05\x05\x05\x05\x05\x05\x05\x05\0\0\0\x02"[..], &[1u8; 20][..])
        );
        let body = b"\0\0\0\x08\0\0\0\x50\0\0\0\x02";
        socket.send_to(&answer(SCRAPE, &buf[12..16], body), from).await.unwrap();
    }

    #[test]
    fn a_long_address_goes_in_parts() {
        let url = Url::parse(&format!("udp://t.example:1/{}?k=1", "x".repeat(300))).unwrap();
        let bytes = request(1, &url, &about());
        // The transaction's number, 4 bytes, is put in later.
        let options = &bytes[94..];
        assert_eq!((&options[..3], options[257..260].to_vec()), (&[2, 255, b'/'][..], vec![2, 50, b'x']));
        assert!(options.ends_with(b"x?k=1") && options.len() == 2 + 255 + 2 + 50);
        assert_eq!(request(1, &Url::parse("udp://t.example:1").unwrap(), &about()).len(), 94);
    }

    #[tokio::test]
    async fn a_lost_datagram_and_a_strangers_do_no_harm() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("udp://{}/announce", socket.local_addr().unwrap())).unwrap();
        let serving = tokio::spawn(tracker(socket));
        let (answer, bytes) = announce(&NetRoute::default(), &url, &about()).await.unwrap();
        assert_eq!(answer.peers, ["10.0.0.1:6881".parse().unwrap()]);
        assert_eq!((answer.interval, bytes > 100), (Duration::from_secs(900), true));
        assert_eq!(answer.counts, Some(Counts { seeds: 7, others: 4 }));
        assert_eq!(scrape(&NetRoute::default(), &url, [1; 20]).await.unwrap().0, Counts { seeds: 8, others: 2 });
        serving.await.unwrap();
    }

    #[test]
    fn short_answers_are_nonsense() {
        assert!(parse(&[0; 11], false).is_err());
        assert!(parse(&[0; 12], false).is_ok_and(|a| a.peers.is_empty()));
    }
}

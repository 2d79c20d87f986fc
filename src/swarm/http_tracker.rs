//! Announces over HTTP (BEP 3, 7, 23).

use std::collections::HashMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use parking_lot::Mutex;
use url::Url;

use super::benc::Value;
use super::client;
use super::pex::compact;
use super::tracker::{Announce, Answer, Occasion, TrackerError};
use crate::net::{HttpWay, NetRoute, http_way, redirects, routed};

/// The longest answer that is read: 200 peers are 1,200 bytes compact, 20 kB as dictionaries.
const MAX_ANSWER: usize = 512 * 1024;

/// Peers taken from one answer.
const MAX_PEERS: usize = 500;

/// Clients kept: two for each way out, of which there are more than two only while a tunnel comes and goes.
const MAX_CLIENTS: usize = 8;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(20);
const AGENT: &str = concat!("Sluicegate/", env!("CARGO_PKG_VERSION"));

/// HTTP clients, made when first needed and shared by all trackers of a torrent.
#[derive(Debug)]
pub struct Http {
    route: NetRoute,
    /// Those for `http` know no root certificates: reading them takes longer than an announce.
    clients: Mutex<HashMap<(bool, HttpWay), reqwest::Client>>,
}

impl Http {
    pub fn new(route: NetRoute) -> Self {
        Self { route, clients: Mutex::default() }
    }

    /// Announces; gives the bytes of the answer too.
    pub async fn announce(&self, url: &Url, a: &Announce) -> Result<(Answer, u64), TrackerError> {
        let mut url = url.clone();
        let query = query(a, url.query());
        url.set_query(Some(&query));
        let plain = url.scheme() == "http";
        let answer = self.get(plain, url.clone()).await;
        let bytes = match answer {
            // It may have sent us on to https.
            Err(TrackerError::Unreachable) if plain => self.get(false, url).await?,
            other => other?,
        };
        Ok((parse(&bytes)?, bytes.len() as u64 + query.len() as u64))
    }

    async fn get(&self, plain: bool, url: Url) -> Result<Vec<u8>, TrackerError> {
        let client = self.client(plain, &url)?;
        let failed = |e: reqwest::Error| if e.is_timeout() { TrackerError::Silent } else { TrackerError::Unreachable };
        let mut response = client.get(url).send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(TrackerError::Refused(format!("refused with HTTP status {}", response.status().as_u16())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(TrackerError::Nonsense);
            }
        }
        Ok(body)
    }

    fn client(&self, plain: bool, url: &Url) -> Result<reqwest::Client, TrackerError> {
        let way = http_way(&self.route, url).map_err(TrackerError::Route)?;
        let mut clients = self.clients.lock();
        let key = (plain, way);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let builder = reqwest::Client::builder()
            .user_agent(AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(redirects(&self.route, &key.1));
        let builder = if plain { builder.tls_certs_only([]) } else { builder };
        let builder = routed(builder, &key.1).map_err(TrackerError::Route)?;
        let client = builder.build().map_err(|_| TrackerError::Unreachable)?;
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// `already` is the query that the tracker's URL has of its own.
fn query(a: &Announce, already: Option<&str>) -> String {
    let mut q = already.map(|q| format!("{q}&")).unwrap_or_default();
    q.push_str("info_hash=");
    escape(&mut q, &a.info_hash);
    q.push_str("&peer_id=");
    escape(&mut q, &a.peer_id);
    let _ = write!(
        q,
        "&port={}&uploaded={}&downloaded={}&left={}&compact=1&no_peer_id=1&numwant=200&key={:08x}",
        a.port, a.uploaded, a.downloaded, a.left, a.key
    );
    q.push_str(match a.occasion {
        Occasion::Regular => "",
        Occasion::Started => "&event=started",
        Occasion::Completed => "&event=completed",
        Occasion::Stopped => "&event=stopped",
    });
    q
}

fn escape(out: &mut String, bytes: &[u8]) {
    for &b in bytes {
        if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
            out.push(b as char);
        } else {
            let _ = write!(out, "%{b:02X}");
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Answer, TrackerError> {
    let (dict, _) = Value::read(bytes).ok_or(TrackerError::Nonsense)?;
    if let Some(reason) = dict.bytes("failure reason") {
        let reason = client::clean(reason).unwrap_or_default();
        return Err(TrackerError::Refused(format!("refused: {reason}")));
    }
    let Value::Dict(_) = dict else { return Err(TrackerError::Nonsense) };
    let seconds = |key| dict.int(key).and_then(|n| u64::try_from(n).ok()).map(Duration::from_secs);
    let interval =
        seconds("interval").unwrap_or(Duration::from_secs(1800)).max(seconds("min interval").unwrap_or_default());
    let mut peers: Vec<SocketAddr> = match dict.get("peers") {
        Some(Value::Bytes(b)) => compact(b, false).take(MAX_PEERS).collect(),
        Some(Value::List(l)) => l.iter().filter_map(peer).take(MAX_PEERS).collect(),
        _ => Vec::new(),
    };
    peers.extend(compact(dict.bytes("peers6").unwrap_or_default(), true).take(MAX_PEERS));
    Ok(Answer { peers, interval })
}

fn peer(dict: &Value<'_>) -> Option<SocketAddr> {
    let ip: IpAddr = std::str::from_utf8(dict.bytes("ip")?).ok()?.parse().ok()?;
    Some(SocketAddr::new(ip, u16::try_from(dict.int("port")?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_either_shape_are_read() {
        let compact = b"d8:intervali900e12:min intervali1000e5:peers6:\x01\x02\x03\x04\x1a\xe16:peers60:e";
        let read = parse(compact).unwrap();
        assert_eq!(read.peers, ["1.2.3.4:6881".parse().unwrap()]);
        assert_eq!(read.interval, Duration::from_secs(1000));
        let long = b"d8:intervali0e5:peersld2:ip3:::14:porti7eed2:ip1:x4:porti7eeee";
        assert_eq!(parse(long).unwrap().peers, ["[::1]:7".parse().unwrap()]);
        let refusal = parse(b"d14:failure reason11:not\x07 today!e").unwrap_err();
        assert_eq!(refusal.to_string(), "refused: not today!");
        for nonsense in ["", "<html>", "i5e", "d"] {
            assert!(matches!(parse(nonsense.as_bytes()), Err(TrackerError::Nonsense)), "{nonsense}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_answer_is_read_or_refused(peers in proptest::collection::vec(proptest::num::u8::ANY, 0..40), interval in i64::MIN..) {
            let mut answer = format!("d8:intervali{interval}e12:min intervali{interval}e5:peers{}:", peers.len()).into_bytes();
            answer.extend_from_slice(&peers);
            let _ = parse(&answer);
            answer.push(b'e');
            let read = parse(&answer).unwrap();
            proptest::prop_assert!(read.peers.len() == peers.len() / 6);
        }
    }

    #[test]
    fn the_query_keeps_the_trackers_own_and_escapes_bytes() {
        let a = Announce {
            info_hash: *b"\x00az~/\xff..............",
            peer_id: [b'p'; 20],
            port: 6881,
            uploaded: 1,
            downloaded: 2,
            left: 3,
            occasion: Occasion::Started,
            key: 0xab,
        };
        let q = query(&a, Some("auth=k"));
        assert!(
            q.starts_with("auth=k&info_hash=%00az~%2F%FF....") && q.ends_with("&key=000000ab&event=started"),
            "{q}"
        );
    }
}

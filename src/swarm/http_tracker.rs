//! Announces and scrapes over HTTP (BEP 3, 7, 23, 48).

use std::collections::HashMap;
use std::fmt::Write;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use parking_lot::Mutex;
use url::Url;

use super::benc::Value;
use super::client;
use super::pex::compact;
use super::tracker::{Announce, Answer, Counts, Occasion, TrackerError};
use crate::net::{HttpWay, NetRoute, http_way, redirects, routed};

/// The longest answer that is read: 200 peers are 1,200 bytes compact, 20 kB as dictionaries.
const MAX_ANSWER: usize = 512 * 1024;

/// Peers taken from one answer.
pub const MAX_PEERS: usize = 500;

/// Clients kept: two for each way out, of which there are more than two only while a tunnel comes and goes.
const MAX_CLIENTS: usize = 8;

/// The longest `tracker id` that is given back.
const MAX_ID: usize = 256;

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

    /// Asks how many are in the swarm; gives the bytes of the answer too. Fails at once where the tracker has no such
    /// address (BEP 48).
    pub async fn scrape(&self, url: &Url, info_hash: [u8; 20]) -> Result<(Counts, u64), TrackerError> {
        let url = scrape_url(url, info_hash).ok_or(TrackerError::Unreachable)?;
        let bytes = self.get(url.scheme() == "http", url).await?;
        Ok((parse_scrape(&bytes, &info_hash)?, bytes.len() as u64))
    }

    async fn get(&self, plain: bool, url: Url) -> Result<Vec<u8>, TrackerError> {
        let client = self.client(plain, &url).await?;
        let failed = |e: reqwest::Error| if e.is_timeout() { TrackerError::Silent } else { TrackerError::Unreachable };
        let request = client.get(url).header(reqwest::header::ACCEPT_ENCODING, "gzip");
        let mut response = request.send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(TrackerError::Refused(format!("refused with HTTP status {}", response.status().as_u16())));
        }
        let packed = response.headers().get(reqwest::header::CONTENT_ENCODING).is_some_and(|e| e == "gzip");
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(TrackerError::Nonsense);
            }
        }
        if packed { unpack(&body) } else { Ok(body) }
    }

    async fn client(&self, plain: bool, url: &Url) -> Result<reqwest::Client, TrackerError> {
        let way = http_way(&self.route, url).map_err(TrackerError::Route)?;
        let key = (plain, way);
        if let Some(client) = self.clients.lock().get(&key) {
            return Ok(client.clone());
        }
        let builder = reqwest::Client::builder()
            .user_agent(AGENT)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(redirects(&self.route, &key.1));
        let builder = routed(builder, &key.1).map_err(TrackerError::Route)?;
        let built = if plain {
            builder.tls_certs_only([]).build()
        } else {
            // The system's certificates are hundreds of files: a thread that may wait for the disk reads them.
            let built = tokio::task::spawn_blocking(|| builder.build()).await;
            built.map_err(|_| TrackerError::Unreachable)?
        };
        let client = built.map_err(|_| TrackerError::Unreachable)?;
        let mut clients = self.clients.lock();
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// No more than [`MAX_ANSWER`], whatever a few bytes claim to hold.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, TrackerError> {
    let mut out = Vec::new();
    let read = flate2::read::GzDecoder::new(packed).take(MAX_ANSWER as u64 + 1).read_to_end(&mut out);
    if read.is_ok() && out.len() <= MAX_ANSWER { Ok(out) } else { Err(TrackerError::Nonsense) }
}

/// BEP 48: where the last part of the path starts with "announce", the same with "scrape".
fn scrape_url(announce: &Url, info_hash: [u8; 20]) -> Option<Url> {
    let (folder, last) = announce.path().rsplit_once('/')?;
    let path = format!("{folder}/scrape{}", last.strip_prefix("announce")?);
    let mut query = announce.query().map(|q| format!("{q}&")).unwrap_or_default();
    query.push_str("info_hash=");
    escape(&mut query, &info_hash);
    let mut url = announce.clone();
    url.set_path(&path);
    url.set_query(Some(&query));
    Some(url)
}

pub fn parse_scrape(bytes: &[u8], info_hash: &[u8; 20]) -> Result<Counts, TrackerError> {
    let (dict, _) = Value::read(bytes).ok_or(TrackerError::Nonsense)?;
    let Some(Value::Dict(files)) = dict.get("files") else { return Err(TrackerError::Nonsense) };
    let file = files.iter().find(|(hash, _)| *hash == info_hash).map(|(_, v)| v);
    file.and_then(counts).ok_or(TrackerError::Nonsense)
}

/// `complete` and `incomplete`, where there are both.
fn counts(dict: &Value<'_>) -> Option<Counts> {
    let number = |key| dict.int(key).map(|n| u32::try_from(n.max(0)).unwrap_or(u32::MAX));
    Some(Counts { seeds: number("complete")?, others: number("incomplete")? })
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
        "&port={}&uploaded={}&downloaded={}&left={}&compact=1&no_peer_id=1&numwant={}&key={:08x}",
        a.port, a.uploaded, a.downloaded, a.left, a.want, a.key
    );
    if let Some(id) = &a.id {
        q.push_str("&trackerid=");
        escape(&mut q, id);
    }
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

pub fn parse(bytes: &[u8]) -> Result<Answer, TrackerError> {
    let (dict, _) = Value::read(bytes).ok_or(TrackerError::Nonsense)?;
    if let Some(reason) = dict.bytes("failure reason") {
        let reason = client::clean(reason).unwrap_or_default();
        return Err(TrackerError::Refused(format!("refused: {reason}")));
    }
    let Value::Dict(_) = dict else { return Err(TrackerError::Nonsense) };
    let seconds = |key| dict.int(key).and_then(|n| u64::try_from(n).ok()).map(Duration::from_secs);
    let interval = seconds("interval").unwrap_or(Duration::from_secs(1800));
    let mut peers: Vec<SocketAddr> = match dict.get("peers") {
        Some(Value::Bytes(b)) => compact(b, false).take(MAX_PEERS).collect(),
        Some(Value::List(l)) => l.iter().filter_map(peer).take(MAX_PEERS).collect(),
        _ => Vec::new(),
    };
    peers.extend(compact(dict.bytes("peers6").unwrap_or_default(), true).take(MAX_PEERS));
    let id = dict.bytes("tracker id").filter(|id| id.len() <= MAX_ID).map(<[u8]>::to_vec);
    let warning = dict.bytes("warning message").and_then(client::clean);
    Ok(Answer { peers, interval, min_interval: seconds("min interval"), counts: counts(&dict), id, warning })
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
        assert_eq!((read.interval, read.min_interval), (Duration::from_secs(900), Some(Duration::from_secs(1000))));
        let long = b"d8:intervali0e5:peersld2:ip3:::14:porti7eed2:ip1:x4:porti7eeee";
        assert_eq!(parse(long).unwrap().peers, ["[::1]:7".parse().unwrap()]);
        let full =
            b"d8:completei7e10:incompletei-1e8:intervali9e5:peers0:10:tracker id3:a&b15:warning message5:old\x07!e";
        let read = parse(full).unwrap();
        assert_eq!((read.counts, read.id.as_deref()), (Some(Counts { seeds: 7, others: 0 }), Some(&b"a&b"[..])));
        assert_eq!(read.warning.as_deref(), Some("old!"));
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
            want: 200,
            id: Some(b"a&b".to_vec()),
        };
        let q = query(&a, Some("auth=k"));
        assert!(
            q.starts_with("auth=k&info_hash=%00az~%2F%FF....")
                && q.ends_with("&numwant=200&key=000000ab&trackerid=a%26b&event=started"),
            "{q}"
        );
    }

    #[test]
    fn a_scrape_is_asked_for_where_there_is_one() {
        let of = |u: &str| scrape_url(&Url::parse(u).unwrap(), [b'a'; 20]).map(|u| u.to_string());
        let query = format!("info_hash={}", "a".repeat(20));
        assert_eq!(of("http://t.example/announce"), Some(format!("http://t.example/scrape?{query}")));
        assert_eq!(
            of("https://t.example/k/announce.php?p=1"),
            Some(format!("https://t.example/k/scrape.php?p=1&{query}"))
        );
        assert_eq!((of("http://t.example/a"), of("http://t.example/announce/x")), (None, None));
        let answer =
            [&b"d5:filesd20:"[..], &[b'a'; 20], b"d8:completei5e10:downloadedi50e10:incompletei10eeee"].concat();
        assert_eq!(parse_scrape(&answer, &[b'a'; 20]).unwrap(), Counts { seeds: 5, others: 10 });
        assert!(parse_scrape(&answer, &[b'b'; 20]).is_err() && parse_scrape(b"d5:filesi5ee", &[b'a'; 20]).is_err());
    }

    #[test]
    fn a_packed_answer_is_unpacked_only_so_far() {
        use std::io::Write as _;
        let pack = |bytes: &[u8]| {
            let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            w.write_all(bytes).unwrap();
            w.finish().unwrap()
        };
        assert_eq!(unpack(&pack(b"d5:peers0:e")).unwrap(), b"d5:peers0:e");
        assert!(unpack(&pack(&vec![0; 50 << 20])).is_err() && unpack(b"rubbish").is_err());
    }
}

//! Announcing to trackers (BEP 3, 12, 15): every one of them, at once, from the first moment.
//!
//! Invariant: no tracker is asked more often than [`LEAST`], whatever interval it or an error suggests; what it answers
//! is bounded in size; its URL is shown without its path, which may hold a passkey.
//!
//! Ours and not `librqbit-tracker-comms`: that one spins on an interval of 0, reads an answer of any size, waits a minute
//! after one lost datagram, never says `stopped` or `completed`, and does not tell which tracker gave what. Tiers are not
//! tried in turn (BEP 12): waiting for the first one's timeout costs more than an announce.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use url::Url;

use super::api::LinkSource;
use super::http_tracker::Http;
use super::shared::Shared;
use super::udp_tracker;
use crate::net::RouteError;

/// Trackers of one torrent; more are ignored.
const MAX_TRACKERS: usize = 100;

/// Bounds of the time between two announces.
const LEAST: Duration = Duration::from_secs(30);
const MOST: Duration = Duration::from_secs(2 * 3600);

/// First pause after a failure; doubles up to [`SLOWEST`].
const RETRY: Duration = Duration::from_secs(3);
const SLOWEST: Duration = Duration::from_secs(15 * 60);

/// Time for a `stopped` while the program ends.
const LAST_WORD: Duration = Duration::from_millis(600);

/// Port that is announced when nobody can dial us: trackers refuse 0.
const NO_PORT: u16 = 1;

/// What a tracker said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub peers: Vec<SocketAddr>,
    pub interval: Duration,
}

/// Why a tracker gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum TrackerError {
    #[error("{0}")]
    Refused(String),
    #[error("no answer")]
    Silent,
    #[error("not reachable")]
    Unreachable,
    #[error("its answer makes no sense")]
    Nonsense,
    #[error("not asked: {0}")]
    Route(#[from] RouteError),
}

/// What an announce is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    Regular,
    Started,
    Completed,
    Stopped,
}

/// What is announced.
#[derive(Debug, Clone, Copy)]
pub struct Announce {
    pub info_hash: [u8; 20],
    pub peer_id: [u8; 20],
    pub port: u16,
    pub uploaded: u64,
    pub downloaded: u64,
    pub left: u64,
    pub occasion: Occasion,
    pub key: u32,
}

/// Starts announcing to all trackers of the configuration.
pub fn start(shared: &Arc<Shared>) {
    let key = rand::random();
    let http = Arc::new(Http::new(shared.config.network.route.clone()));
    let mut seen = std::collections::HashSet::new();
    for url in shared.config.trackers.iter().flatten() {
        let Ok(url) = Url::parse(url.trim()) else { continue };
        let known = matches!(url.scheme(), "http" | "https" | "udp") && url.host().is_some();
        if known && seen.len() < MAX_TRACKERS && seen.insert(url.clone()) {
            shared.spawn(run(shared.clone(), url, http.clone(), key));
        }
    }
}

/// "1 peer", "14 peers".
pub fn peers(n: usize) -> String {
    format!("{n} {}", if n == 1 { "peer" } else { "peers" })
}

/// As people may see it.
fn display(url: &Url) -> String {
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

async fn run(shared: Arc<Shared>, url: Url, http: Arc<Http>, key: u32) {
    let name = display(&url);
    let post = |what: &str| shared.post(1, url.as_str(), format!("{name} · {what}"));
    post("asking");
    let (mut started, mut failures) = (false, 0u32);
    // Whoever starts with everything never completes it.
    let mut completed = shared.left() == Some(0);
    loop {
        let done = shared.left() == Some(0);
        let occasion = match (started, done && !completed) {
            (false, _) => Occasion::Started,
            (true, true) => Occasion::Completed,
            (true, false) => Occasion::Regular,
        };
        let said = tokio::select! {
            a = ask(&shared, &url, &http, key, occasion) => a,
            () = shared.cancel.cancelled() => break,
        };
        let pause = match said {
            Ok(answer) => {
                failures = 0;
                started = true;
                completed |= done;
                post(&peers(answer.peers.len()));
                shared.found(answer.peers, LinkSource::Tracker);
                answer.interval.clamp(LEAST, MOST)
            }
            Err(e) => {
                post(&e.to_string());
                failures += 1;
                let slower = RETRY.saturating_mul(1 << (failures - 1).min(12)).min(SLOWEST);
                // A tracker that answers with a refusal is alive: asking it again soon is only rude.
                if matches!(e, TrackerError::Refused(_)) { slower.max(LEAST) } else { slower }
            }
        };
        tokio::select! {
            () = sleep(pause) => {}
            () = shared.cancel.cancelled() => break,
        }
    }
    if started {
        let _ = timeout(LAST_WORD, ask(&shared, &url, &http, key, Occasion::Stopped)).await;
    }
}

async fn ask(shared: &Shared, url: &Url, http: &Http, key: u32, occasion: Occasion) -> Result<Answer, TrackerError> {
    let announce = Announce {
        info_hash: shared.config.info_hash.0,
        peer_id: shared.peer_id,
        port: shared.public_port().unwrap_or(NO_PORT),
        uploaded: shared.traffic.payload_out.load(Ordering::Relaxed),
        downloaded: shared.traffic.payload_in.load(Ordering::Relaxed),
        // Not known before the metadata is; but not 0, which would make us a seed.
        left: shared.left().unwrap_or(16 * 1024),
        occasion,
        key,
    };
    let (answer, bytes) = match url.scheme() {
        "udp" => udp_tracker::announce(&shared.config.network.route, url, &announce).await?,
        _ => http.announce(url, &announce).await?,
    };
    shared.traffic.other.fetch_add(bytes, Ordering::Relaxed);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_passkey_is_not_shown() {
        let url = Url::parse("https://user:pw@tracker.example:8443/0123456789abcdef/announce?auth=x").unwrap();
        assert_eq!(display(&url), "https://tracker.example:8443");
        assert_eq!(display(&Url::parse("udp://[2001:db8::1]:6969").unwrap()), "udp://[2001:db8::1]:6969");
    }
}

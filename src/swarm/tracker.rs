//! Announcing to trackers (BEP 3, 12, 15): one of each tier, all tiers at once, from the first moment.
//!
//! Invariant: no tracker is asked more often than [`LEAST`], whatever interval it or an error suggests; what it answers
//! is bounded in size; its URL is shown without its path, which may hold a passkey.
//!
//! BEP 12 wants the next tier only when all of one failed, and the next of a tier only when the one before it did. For a
//! player that is a picture that comes later: a dead tracker answers nothing for a quarter of a minute. So every tier is
//! asked at once (libtorrent's `announce_to_all_tiers`), and within a tier the next one is tried when the one before it
//! failed or was silent for [`STAGGER`]. Which one answered is moved to the front, as BEP 12 has it, and is the only one
//! asked from then on. A private torrent (BEP 27) keeps to the letter: one tracker at a time, tier after tier.
//!
//! Ours and not `librqbit-tracker-comms`: that one spins on an interval of 0, reads an answer of any size, waits a minute
//! after one lost datagram, never says `stopped` or `completed`, and does not tell which tracker gave what.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use rand::seq::SliceRandom;
use tokio::time::{Instant, sleep, sleep_until, timeout};
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

/// Silence of a tracker after which the next of its tier is tried beside it: more than a slow round trip with a handshake.
const STAGGER: Duration = Duration::from_secs(2);

/// First pause after a failure; doubles up to [`SLOWEST`].
const RETRY: Duration = Duration::from_secs(3);
const SLOWEST: Duration = Duration::from_secs(15 * 60);

/// With fewer links than this a tracker is asked again as soon as it allows, not only when it suggests.
const HUNGRY: usize = 5;

/// Time for a `stopped` while the program ends, and for a scrape.
const LAST_WORD: Duration = Duration::from_millis(600);
const SCRAPE: Duration = Duration::from_secs(15);

/// Port that is announced when nobody can dial us: trackers refuse 0.
const NO_PORT: u16 = 1;

/// Peers asked for: as many as libtorrent asks for. One who leaves wants none.
const WANT: u32 = 200;

/// How many are in the swarm, as a tracker counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub seeds: u32,
    pub others: u32,
}

/// What a tracker said.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub peers: Vec<SocketAddr>,
    pub interval: Duration,
    /// Sooner than this it does not want to be asked.
    pub min_interval: Option<Duration>,
    pub counts: Option<Counts>,
    /// To be given back with the next announce.
    pub id: Option<Vec<u8>>,
    pub warning: Option<String>,
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
#[derive(Debug, Clone)]
pub struct Announce {
    pub info_hash: [u8; 20],
    pub peer_id: [u8; 20],
    pub port: u16,
    pub uploaded: u64,
    pub downloaded: u64,
    pub left: u64,
    pub occasion: Occasion,
    pub key: u32,
    /// Peers wanted.
    pub want: u32,
    /// What this tracker called itself (`tracker id`).
    pub id: Option<Vec<u8>>,
}

/// A tracker and how it went with it.
#[derive(Debug)]
struct Tracker {
    url: Url,
    /// As people may see it.
    name: String,
    /// Its tier; a private torrent's task has several.
    tier: usize,
    id: Option<Vec<u8>>,
    /// It knows of us.
    started: bool,
    failures: u32,
    not_before: Instant,
}

/// Starts announcing to the trackers of the configuration.
pub fn start(shared: &Arc<Shared>) {
    let http = Arc::new(Http::new(shared.config.network.route.clone()));
    let tiers = tiers(&shared.config.trackers);
    let together = if shared.is_private() { vec![tiers.into_iter().flatten().collect()] } else { tiers };
    let key = rand::random();
    for trackers in together.into_iter().filter(|t: &Vec<Tracker>| !t.is_empty()) {
        let asking = Asking { shared: shared.clone(), http: http.clone(), key, private: shared.is_private() };
        shared.spawn(asking.run(trackers));
    }
}

/// The tiers, each in an order of its own (BEP 12); what is there twice, or is no tracker we can ask, left out.
fn tiers(config: &[Vec<String>]) -> Vec<Vec<Tracker>> {
    let (mut seen, mut out) = (HashSet::new(), Vec::new());
    for (tier, urls) in config.iter().enumerate() {
        let mut trackers = Vec::new();
        for url in urls.iter().filter_map(|u| Url::parse(u.trim()).ok()) {
            let known = matches!(url.scheme(), "http" | "https" | "udp") && url.host().is_some();
            if known && seen.len() < MAX_TRACKERS && seen.insert(url.clone()) {
                let (name, not_before) = (display(&url), Instant::now());
                trackers.push(Tracker { url, name, tier, id: None, started: false, failures: 0, not_before });
            }
        }
        trackers.shuffle(&mut rand::rng());
        out.push(trackers);
    }
    out
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

/// "14 peers · 120 seeds, 3 others", and what else it wants to say.
fn said(answer: &Answer) -> String {
    let mut s = peers(answer.peers.len());
    if let Some(c) = answer.counts {
        let (seeds, others) = (plural(c.seeds, "seed"), plural(c.others, "other"));
        s.push_str(&format!(" · {seeds}, {others}"));
    }
    if let Some(w) = &answer.warning {
        s.push_str(&format!(" · it says: {w}"));
    }
    s
}

fn plural(n: u32, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// What goes to the front of its tier (BEP 12); gives where that is.
fn promote(trackers: &mut [Tracker], winner: usize) -> usize {
    let Some(tier) = trackers.get(winner).map(|t| t.tier) else { return winner };
    let front = trackers.iter().position(|t| t.tier == tier).unwrap_or(winner);
    if let Some(part) = trackers.get_mut(front..=winner) {
        part.rotate_right(1);
    }
    front
}

/// How long to wait after so many failures in a row.
fn pause_after(failures: u32, error: &TrackerError) -> Duration {
    let slower = RETRY.saturating_mul(1 << failures.saturating_sub(1).min(12)).min(SLOWEST);
    // A tracker that answers with a refusal is alive: asking it again soon is only rude.
    if matches!(error, TrackerError::Refused(_)) { slower.max(LEAST) } else { slower }
}

/// When to ask again.
fn pause_until_next(answer: &Answer, hungry: bool) -> Duration {
    let regular = answer.interval.max(answer.min_interval.unwrap_or_default());
    let next = answer.min_interval.filter(|_| hungry).unwrap_or(regular).min(regular);
    next.clamp(LEAST, MOST)
}

/// One tier's task.
struct Asking {
    shared: Arc<Shared>,
    http: Arc<Http>,
    key: u32,
    private: bool,
}

impl Asking {
    async fn run(self, mut trackers: Vec<Tracker>) {
        for (i, t) in trackers.iter().enumerate() {
            self.post(t, if i == 0 { "asking" } else { "in reserve" });
        }
        let mut done = self.shared.done.subscribe();
        // Whoever starts with everything never completes it.
        let mut completed = self.shared.left() == Some(0);
        loop {
            let here = *done.borrow_and_update();
            let fetched = self.shared.traffic.payload_in.load(Ordering::Relaxed) > 0;
            let news = here && !completed && fetched;
            let round = tokio::select! {
                r = self.round(&mut trackers, news) => r,
                () = self.shared.cancel.cancelled() => break,
            };
            let next = match round {
                Some(pause) => {
                    completed |= here;
                    Instant::now() + pause
                }
                None => trackers.iter().map(|t| t.not_before).min().unwrap_or_else(|| Instant::now() + MOST),
            };
            tokio::select! {
                () = sleep_until(next) => {}
                Ok(()) = done.changed(), if !completed => {}
                () = self.shared.cancel.cancelled() => break,
            }
        }
        let goodbye = trackers.iter().filter(|t| t.started).map(|t| self.ask(t, Occasion::Stopped));
        let _ = timeout(LAST_WORD, futures::future::join_all(goodbye)).await;
    }

    /// Asks one tracker after the other until one answers; gives the pause until it wants to be asked again.
    async fn round(&self, trackers: &mut [Tracker], completed: bool) -> Option<Duration> {
        let now = Instant::now();
        let due: Vec<usize> =
            trackers.iter().enumerate().filter(|(_, t)| t.not_before <= now).map(|(i, _)| i).collect();
        let mut waiting = due.into_iter();
        let (winner, answer) = {
            let list = &*trackers;
            let ask = |i: usize| async move {
                let Some(t) = list.get(i) else { return (i, Err(TrackerError::Unreachable)) };
                let occasion = match (t.started, completed) {
                    (false, _) => Occasion::Started,
                    (true, true) => Occasion::Completed,
                    (true, false) => Occasion::Regular,
                };
                (i, self.ask(t, occasion).await)
            };
            let mut asked: FuturesUnordered<_> = waiting.next().map(ask).into_iter().collect();
            let mut failed = Vec::new();
            let won = loop {
                tokio::select! {
                    answered = asked.next() => match answered {
                        Some((i, Ok(answer))) => break Some((i, answer)),
                        Some((i, Err(e))) => {
                            failed.push((i, e));
                            asked.extend(waiting.next().map(ask));
                        }
                        None => break None,
                    },
                    () = sleep(STAGGER), if !self.private && waiting.len() > 0 => asked.extend(waiting.next().map(ask)),
                }
            };
            drop(asked);
            for (i, e) in failed {
                let Some(t) = trackers.get_mut(i) else { continue };
                t.failures += 1;
                t.not_before = Instant::now() + pause_after(t.failures, &e);
                self.post(t, &e.to_string());
            }
            won?
        };
        let at = promote(trackers, winner);
        let t = trackers.get_mut(at)?;
        (t.failures, t.started, t.not_before) = (0, true, now);
        if answer.id.is_some() {
            t.id.clone_from(&answer.id);
        }
        let hungry = self.shared.link_count() < HUNGRY && self.shared.left() != Some(0);
        let pause = pause_until_next(&answer, hungry);
        self.post(t, &said(&answer));
        match answer.counts {
            Some(counts) => self.shared.counted(t.url.as_str(), counts),
            None => self.scrape(t, &answer),
        }
        self.shared.found(answer.peers, LinkSource::Tracker);
        Some(pause)
    }

    /// Asks how many there are, where the announce did not tell; beside everything else.
    fn scrape(&self, t: &Tracker, answer: &Answer) {
        let (shared, http, url) = (self.shared.clone(), self.http.clone(), t.url.clone());
        let (name, peers, warning) = (t.name.clone(), peers(answer.peers.len()), answer.warning.clone());
        self.shared.spawn(async move {
            let hash = shared.config.info_hash.0;
            let asked = async {
                match url.scheme() {
                    "udp" => udp_tracker::scrape(&shared.config.network.route, &url, hash).await,
                    _ => http.scrape(&url, hash).await,
                }
            };
            let counts = tokio::select! {
                c = timeout(SCRAPE, asked) => c,
                () = shared.cancel.cancelled() => return,
            };
            let Ok(Ok((counts, bytes))) = counts else { return };
            shared.traffic.other.fetch_add(bytes, Ordering::Relaxed);
            shared.counted(url.as_str(), counts);
            let rest = said(&Answer { counts: Some(counts), warning, ..Answer::default() });
            let rest = rest.split_once(" · ").map_or("", |r| r.1);
            shared.post(1, url.as_str(), format!("{name} · {peers} · {rest}"));
        });
    }

    fn post(&self, t: &Tracker, what: &str) {
        self.shared.post(1, t.url.as_str(), format!("{} · {what}", t.name));
    }

    async fn ask(&self, t: &Tracker, occasion: Occasion) -> Result<Answer, TrackerError> {
        let shared = &self.shared;
        let announce = Announce {
            info_hash: shared.config.info_hash.0,
            peer_id: shared.peer_id,
            port: shared.public_port().unwrap_or(NO_PORT),
            uploaded: shared.traffic.payload_out.load(Ordering::Relaxed),
            downloaded: shared.traffic.payload_in.load(Ordering::Relaxed),
            // Not known before the metadata is; but not 0, which would make us a seed.
            left: shared.left().unwrap_or(16 * 1024),
            occasion,
            key: self.key,
            want: if occasion == Occasion::Stopped { 0 } else { WANT },
            id: t.id.clone(),
        };
        let (answer, bytes) = match t.url.scheme() {
            "udp" => udp_tracker::announce(&shared.config.network.route, &t.url, &announce).await?,
            _ => self.http.announce(&t.url, &announce).await?,
        };
        shared.traffic.other.fetch_add(bytes, Ordering::Relaxed);
        Ok(answer)
    }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;

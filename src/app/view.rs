//! From what stream and player say to what the window draws.
//!
//! Invariant: a view is built only when something in it changed; what did not change is shared, not copied.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::snapshot::{EngineSnapshot, HealthSample, LinkView, PeerView};
use crate::app::words::count;
use crate::stream::{StreamPeer, StreamStatus};
use crate::swarm::api::{LinkInfo, LinkSource};

/// Two minutes of four samples a second.
const SAMPLES: usize = 480;
const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// The buffer's last two minutes of play: time that stands still draws nothing.
#[derive(Default)]
pub struct HealthLog {
    ring: VecDeque<HealthSample>,
    last: Option<Instant>,
    shared: Arc<[HealthSample]>,
}

impl HealthLog {
    /// Takes a sample when one is due.
    pub fn sample(&mut self, now: Instant, engine: &EngineSnapshot) {
        if self.last.is_some_and(|t| now.saturating_duration_since(t) < SAMPLE_EVERY) {
            return;
        }
        // Steps of 250 ms even when the caller is a little late each time, but no catching up after a pause.
        let next = self.last.map(|t| t + SAMPLE_EVERY).filter(|t| now.saturating_duration_since(*t) < SAMPLE_EVERY);
        self.last = Some(next.unwrap_or(now));
        if self.ring.len() == SAMPLES {
            self.ring.pop_front();
        }
        self.ring.push_back(HealthSample {
            ahead_s: engine.ahead_s as f32,
            swarm: engine.swarm_rate as f32,
            server: engine.server_rate as f32,
        });
        self.shared = self.ring.iter().copied().collect();
    }

    pub fn shared(&self) -> Arc<[HealthSample]> {
        self.shared.clone()
    }
}

/// Letters as qBittorrent shows them: D/d we want and get / are choked, U/u the same the other way, K it would give but we
/// want nothing, ? we would give but it wants nothing, I it came to us, H/X/L from DHT, PEX, the local network, E
/// encrypted, P over uTP.
pub fn flags(info: &LinkInfo, view: &LinkView) -> String {
    let mut f = String::new();
    match (view.interested, view.choked) {
        (true, false) => f.push('D'),
        (true, true) => f.push('d'),
        (false, false) => f.push('K'),
        (false, true) => {}
    }
    match (view.peer_interested, view.choking) {
        (true, false) => f.push('U'),
        (true, true) => f.push('u'),
        (false, false) => f.push('?'),
        (false, true) => {}
    }
    if !info.outgoing || info.source == LinkSource::Incoming {
        f.push('I');
    }
    match info.source {
        LinkSource::Dht => f.push('H'),
        LinkSource::Pex => f.push('X'),
        LinkSource::Lsd => f.push('L'),
        LinkSource::User | LinkSource::Tracker | LinkSource::Incoming => {}
    }
    if info.encrypted {
        f.push('E');
    }
    if info.utp {
        f.push('P');
    }
    f
}

/// Share of the pieces a peer has, 0 to 1.
pub fn has(view: &LinkView, engine: &EngineSnapshot) -> f32 {
    let all = engine.pieces.len();
    if all == 0 { 0.0 } else { (view.pieces as f32 / all as f32).min(1.0) }
}

/// The connected peers, the fastest first, so that the table is steady and what matters is on top.
pub fn peers(status: &StreamStatus) -> Arc<[PeerView]> {
    let mut peers: Vec<&StreamPeer> = status.peers.iter().collect();
    peers.sort_by(|a, b| b.view.down.total_cmp(&a.view.down).then(a.view.link.cmp(&b.view.link)));
    let view = |p: &StreamPeer| PeerView {
        addr: p.info.addr.to_string(),
        client: p.info.client.clone(),
        flags: flags(&p.info, &p.view),
        has: has(&p.view, &status.engine),
        down: p.view.down,
        up: p.view.up,
        in_flight: p.view.in_flight,
    };
    peers.into_iter().map(view).collect()
}

/// The servers by their lines, those in use with what is known of them: "http://host/film · takes bids".
pub fn servers(status: &StreamStatus) -> Vec<String> {
    let known = |i: usize| status.engine.servers.iter().find(|s| usize::try_from(s.origin.0) == Ok(i));
    let line = |(i, line): (usize, &String)| match known(i) {
        // Why one was left says more.
        Some(s) if !line.contains(" · ") => match (s.resting, s.takes_bids) {
            (true, _) => format!("{line} · failed, tried again soon"),
            (false, Some(true)) => format!("{line} · takes bids"),
            (false, Some(false)) => format!("{line} · takes no bids"),
            (false, None) => line.clone(),
        },
        _ => line.clone(),
    };
    status.servers.iter().enumerate().map(line).collect()
}

/// "720p · H.264 · AAC stereo · from 14 peers and one server".
pub fn subtitle(description: &str, status: Option<&StreamStatus>) -> String {
    let mut parts = Vec::new();
    if !description.is_empty() {
        parts.push(with_lines(description));
    }
    if let Some(s) = status {
        let servers = match s.engine.origins {
            0 => None,
            1 => Some("one server".to_owned()),
            n => Some(format!("{n} servers")),
        };
        match (s.peers.len(), servers) {
            (0, None) => {}
            (0, Some(servers)) => parts.push(format!("from {servers}")),
            (n, None) => parts.push(format!("from {}", count(n, "peer", "peers"))),
            (n, Some(servers)) => parts.push(format!("from {} and {servers}", count(n, "peer", "peers"))),
        }
    }
    parts.join(" · ")
}

/// "1280×720 · …" as people say it: "720p · …".
fn with_lines(description: &str) -> String {
    let (size, rest) = description.split_once(" · ").map_or((description, ""), |(a, b)| (a, b));
    let parsed = size.split_once('×').and_then(|(w, h)| Some((w.parse::<u32>().ok()?, h.parse::<u32>().ok()?)));
    let Some((width, height)) = parsed else { return description.to_owned() };
    // A wide film is cut at top and bottom: its width says which format it was made for.
    let lines = [(3840, 2160), (2560, 1440), (1920, 1080), (1280, 720)]
        .into_iter()
        .find(|(w, h)| width == *w && height <= *h)
        .map_or(height, |(_, h)| h);
    if rest.is_empty() { format!("{lines}p") } else { format!("{lines}p · {rest}") }
}

/// Whether the window would draw the same: compared before publishing, so that an idle pause repaints nothing.
pub fn same(a: &StreamStatus, b: &StreamStatus) -> bool {
    let (x, y) = (&a.engine, &b.engine);
    let rate = |r: f64| (r / 1024.0).round() as i64;
    let numbers = |e: &EngineSnapshot| {
        let rates = [rate(e.swarm_rate), rate(e.server_rate), rate(e.upload_rate), (e.ahead_s * 10.0).round() as i64];
        let held = (e.peer_budget, e.server_share);
        (rates, e.pieces_here, e.totals, e.waiting, e.gate_open, held, e.origins, e.file_pieces.clone())
    };
    let link = |l: &LinkView| {
        let state = (l.link, l.pieces, l.in_flight, l.choked, l.choking, l.interested, l.peer_interested);
        (state, rate(l.down), rate(l.up))
    };
    numbers(x) == numbers(y)
        && x.bids.back() == y.bids.back()
        && x.links.iter().map(link).eq(y.links.iter().map(link))
        && servers(a) == servers(b)
        && a.error == b.error
        && a.discovery.known == b.discovery.known
        && a.discovery.connecting == b.discovery.connecting
        && a.discovery.sources == b.discovery.sources
        && a.peers.len() == b.peers.len()
        && (Arc::ptr_eq(&x.pieces, &y.pieces) || x.pieces == y.pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::snapshot::ServerView;
    use crate::units::OriginId;

    #[test]
    fn films_are_named_by_their_lines() {
        assert_eq!(subtitle("1280×720 · H.264", None), "720p · H.264");
        assert_eq!(subtitle("1920×800 · H.264", None), "1080p · H.264");
        assert_eq!(subtitle("FLAC stereo", None), "FLAC stereo");
        let mut s = StreamStatus::default();
        assert_eq!(subtitle("", Some(&s)), "");
        s.engine = Arc::new(EngineSnapshot { origins: 1, ..Default::default() });
        assert_eq!(subtitle("640×360", Some(&s)), "360p · from one server");
    }

    #[test]
    fn flags_as_other_clients_show_them() {
        let mut info = LinkInfo {
            addr: "1.2.3.4:5".parse().unwrap(),
            peer_id: [0; 20],
            client: String::new(),
            source: LinkSource::Pex,
            outgoing: true,
            rtt: None,
            encrypted: false,
            utp: false,
        };
        let mut view = LinkView { interested: true, choking: true, peer_interested: true, ..Default::default() };
        assert_eq!(flags(&info, &view), "DuX");
        (view.choked, view.choking, info.outgoing, info.source) = (true, false, false, LinkSource::Incoming);
        assert_eq!(flags(&info, &view), "dUI");
        (info.encrypted, info.utp) = (true, true);
        (view.choked, view.peer_interested) = (false, false);
        assert_eq!(flags(&info, &view), "D?IEP");
    }

    #[test]
    fn servers_are_shown_with_what_is_known_of_them() {
        let view = |origin, takes_bids, resting| ServerView {
            origin: OriginId(origin),
            takes_bids,
            rate: None,
            unspent_bits: 0,
            on_its_way: 0,
            resting,
        };
        let servers =
            vec![view(0, Some(true), false), view(1, Some(false), false), view(2, None, true), view(4, None, false)];
        let lines = ["http://a/", "http://b/", "http://c/", "http://d/ · refuses connections", "http://e/"];
        let status = StreamStatus {
            engine: Arc::new(EngineSnapshot { servers, ..Default::default() }),
            servers: lines.map(str::to_owned).to_vec(),
            ..Default::default()
        };
        let wanted = [
            "http://a/ · takes bids",
            "http://b/ · takes no bids",
            "http://c/ · failed, tried again soon",
            "http://d/ · refuses connections",
            "http://e/",
        ];
        assert_eq!(super::servers(&status), wanted);
        assert!(!same(&status, &StreamStatus { engine: Arc::default(), ..status.clone() }));
    }

    #[test]
    fn the_log_keeps_two_minutes() {
        let mut log = HealthLog::default();
        let start = Instant::now();
        let mut engine = EngineSnapshot::default();
        for ms in (0..200_000).step_by(50) {
            engine.ahead_s = f64::from(ms);
            log.sample(start + Duration::from_millis(ms as u64), &engine);
        }
        let kept = log.shared();
        assert_eq!(kept.len(), SAMPLES);
        assert!(kept.windows(2).all(|w| w[1].ahead_s - w[0].ahead_s == 250.0));
    }

    #[test]
    fn only_a_difference_one_can_see_counts() {
        let a = StreamStatus::default();
        let mut b = a.clone();
        b.engine = Arc::new(EngineSnapshot { at: crate::units::Instant(5), swarm_rate: 3.0, ..Default::default() });
        assert!(same(&a, &b));
        b.engine = Arc::new(EngineSnapshot { pieces_here: 1, ..Default::default() });
        assert!(!same(&a, &b));
    }
}

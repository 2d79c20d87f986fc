//! What is going on, in words and numbers: what play waits for, what was asked, which step of opening this is.
//!
//! Invariant: pure functions of plain values; nothing here looks at a clock.

use crate::app::snapshot::{Step, Waiting};
use crate::engine::Phase;
use crate::media::api::PlayerPhase;
use crate::stream::StreamStatus;
use crate::swarm::api::DiscoveryStatus;

/// What the player does, as the engine counts deadlines. `seeking` says that a seek was asked for and the clock has not
/// run since: a picture that waits for the gate is then part of the seek, not of the start.
pub fn engine_phase(phase: PlayerPhase, seeking: bool) -> Phase {
    match phase {
        PlayerPhase::Opening | PlayerPhase::Ready if seeking => Phase::Seeking,
        PlayerPhase::Opening | PlayerPhase::Ready => Phase::Opening,
        PlayerPhase::Playing => Phase::Playing,
        PlayerPhase::Paused => Phase::Paused,
        PlayerPhase::Seeking => Phase::Seeking,
        PlayerPhase::Starved => Phase::Stalled,
        PlayerPhase::Ended | PlayerPhase::Failed => Phase::Ended,
    }
}

/// `1 peer`, `2 peers`.
pub fn count(n: usize, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// Where was asked: "3 trackers, the DHT and the local network". `None` when nowhere.
pub fn asked(d: &DiscoveryStatus) -> Option<String> {
    let is = |s: &&String, word: &str| s.get(..word.len()).is_some_and(|p| p.eq_ignore_ascii_case(word));
    let trackers = d.sources.iter().filter(|s| s.contains("://")).count();
    let mut parts = Vec::new();
    if trackers > 0 {
        parts.push(count(trackers, "tracker", "trackers"));
    }
    if d.sources.iter().any(|s| is(&s, "DHT")) {
        parts.push("the DHT".to_owned());
    }
    if d.sources.iter().any(|s| is(&s, "local") || is(&s, "LSD")) {
        parts.push("the local network".to_owned());
    }
    let last = parts.pop()?;
    Some(if parts.is_empty() { last } else { format!("{} and {last}", parts.join(", ")) })
}

/// Why there is no peer: "looking for peers: asked 3 trackers and the DHT, 14 addresses known, trying 5".
fn looking_for_peers(d: &DiscoveryStatus) -> String {
    let mut parts = Vec::new();
    match asked(d) {
        Some(asked) => parts.push(format!("asked {asked}")),
        None if d.known == 0 => parts.push("no tracker, DHT or address to ask".to_owned()),
        None => {}
    }
    match d.known {
        0 => parts.push("no address yet".to_owned()),
        n => parts.push(format!("{} known", count(n, "address", "addresses"))),
    }
    if d.connecting > 0 {
        parts.push(format!("trying {}", d.connecting));
    }
    format!("looking for peers: {}", parts.join(", "))
}

/// Why nobody sends anything yet. Without `peers` only servers may be asked.
pub fn looking(s: &StreamStatus, peers: bool) -> String {
    match (peers, s.servers.first()) {
        (true, _) => looking_for_peers(&s.discovery),
        (false, Some(server)) => format!("waiting for the server: {server}"),
        // A stream that has only just begun has not named its servers yet.
        (false, None) if s.engine.pieces.is_empty() => String::new(),
        (false, None) => "no server is known, and peers may not be asked".to_owned(),
    }
}

/// What play waits for; `None` while it waits for nothing.
pub fn waiting(s: &StreamStatus, peers: bool) -> Option<String> {
    let engine = &s.engine;
    let w = engine.waiting.as_ref()?;
    if engine.links.is_empty() && engine.origins == 0 && !w.from_server {
        return Some(looking(s, peers));
    }
    Some(waiting_for(w, engine.origins, &s.discovery))
}

fn waiting_for(w: &Waiting, origins: u32, d: &DiscoveryStatus) -> String {
    if w.peers_with_it == 0 && !w.from_server && origins == 0 {
        let asked = asked(d).map(|a| format!(": asked {a}")).unwrap_or_default();
        return format!("nobody has piece {} yet{asked}", w.piece);
    }
    let have = match w.peers_with_it {
        0 => "no peer has it".to_owned(),
        1 => "1 peer has it".to_owned(),
        n => format!("{n} peers have it"),
    };
    let server = if w.from_server { ", the server sends it" } else { "" };
    format!("waiting for piece {}: {} of {} blocks, {have}{server}", w.piece, w.blocks_here, w.blocks)
}

/// How far the start rule is: "1.2 of 2 s".
pub fn buffered(ahead_s: f64, goal_s: f64) -> String {
    format!("{:.1} of {:.0} s", ahead_s.clamp(0.0, goal_s), goal_s)
}

/// How what plays was handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Torrent,
    Magnet,
    Url,
    Local,
    Demo,
}

/// How far opening is.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// What was handed over has been read.
    pub resolved: bool,
    /// The torrent's own description is here.
    pub metadata: bool,
    pub links: usize,
    pub servers: u32,
    /// Payload has come from anyone, or was on disk.
    pub bytes: bool,
    /// The demuxer knows the film.
    pub index: bool,
    pub ahead_s: f64,
    pub goal_s: f64,
    /// Addresses known and being tried, and where they came from.
    pub discovery: DiscoveryStatus,
}

/// The steps of opening, the done ones first and the current one last.
pub fn steps(kind: Kind, p: &Progress) -> Vec<Step> {
    let first = match kind {
        Kind::Torrent => "Reading the torrent",
        Kind::Magnet => "Reading the link",
        Kind::Url => "Asking the server",
        Kind::Local => "Opening the file",
        Kind::Demo => "Starting a swarm on this machine",
    };
    let mut all = vec![(first.to_owned(), p.resolved)];
    let swarm = matches!(kind, Kind::Torrent | Kind::Magnet | Kind::Demo);
    if kind == Kind::Magnet {
        let asked = asked(&p.discovery).unwrap_or_else(|| "the network".to_owned());
        all.push((format!("Asking {asked} for peers"), p.metadata || p.links > 0));
        all.push((format!("Getting the metadata from {}", count(p.links, "peer", "peers")), p.metadata));
    }
    if swarm {
        let found = p.links > 0 || p.servers > 0 || p.bytes;
        let text = match (p.links, p.servers) {
            (0, 0) => "Connecting to peers".to_owned(),
            (0, _) => "Connected to a server".to_owned(),
            (n, _) => format!("Connected to {}", count(n, "peer", "peers")),
        };
        all.push((text, found));
    }
    all.push(("Reading the film's index".to_owned(), p.index));
    if kind != Kind::Local {
        all.push((format!("Buffering: {}", buffered(p.ahead_s, p.goal_s)), false));
    }
    let current = all.iter().position(|(_, done)| !done).unwrap_or(all.len());
    all.into_iter().take(current + 1).map(|(text, done)| Step { text, done }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::snapshot::EngineSnapshot;
    use crate::units::PieceIndex;

    fn discovery(sources: &[&str], known: usize, connecting: usize) -> DiscoveryStatus {
        let sources = sources.iter().map(|s| (*s).to_owned()).collect();
        DiscoveryStatus { sources, known, connecting, ..DiscoveryStatus::default() }
    }

    fn stalled(here: u32, peers: u32, from_server: bool) -> EngineSnapshot {
        let waiting = Waiting {
            piece: PieceIndex(118),
            blocks_here: here,
            blocks: 64,
            peers_with_it: peers,
            on_its_way: 0,
            from_server,
        };
        EngineSnapshot { waiting: Some(waiting), origins: u32::from(from_server), ..Default::default() }
    }

    fn with_link(mut e: EngineSnapshot) -> EngineSnapshot {
        e.links.push(crate::engine::snapshot::LinkView { choked: true, choking: true, ..Default::default() });
        e
    }

    #[test]
    fn what_play_waits_for() {
        let d = discovery(&["udp://a:1 · 14 peers", "http://b/x · none", "https://c · none", "DHT · 61 nodes"], 14, 5);
        let nobody = discovery(&[], 0, 0);
        let status = |e: &EngineSnapshot, d: &DiscoveryStatus| StreamStatus {
            engine: std::sync::Arc::new(e.clone()),
            discovery: d.clone(),
            ..Default::default()
        };
        let text = |e: &EngineSnapshot, d| waiting(&status(e, d), true).unwrap();
        assert_eq!(waiting(&status(&EngineSnapshot::default(), &d), true), None);
        let w = with_link(stalled(3, 2, false));
        assert_eq!(text(&w, &d), "waiting for piece 118: 3 of 64 blocks, 2 peers have it");
        let w = with_link(stalled(3, 1, true));
        assert_eq!(text(&w, &d), "waiting for piece 118: 3 of 64 blocks, 1 peer has it, the server sends it");
        let w = with_link(stalled(0, 0, false));
        assert_eq!(text(&w, &d), "nobody has piece 118 yet: asked 3 trackers and the DHT");
        let w = stalled(0, 0, false);
        assert_eq!(text(&w, &d), "looking for peers: asked 3 trackers and the DHT, 14 addresses known, trying 5");
        assert_eq!(text(&w, &nobody), "looking for peers: no tracker, DHT or address to ask, no address yet");
        let here = EngineSnapshot { pieces: vec![Default::default(); 9].into(), ..w.clone() };
        let mut alone = status(&here, &nobody);
        assert_eq!(waiting(&alone, false).unwrap(), "no server is known, and peers may not be asked");
        alone.servers = vec!["http://h/ · refuses connections".into()];
        assert_eq!(waiting(&alone, false).unwrap(), "waiting for the server: http://h/ · refuses connections");
        assert_eq!(asked(&discovery(&["Local network · 0"], 0, 0)).unwrap(), "the local network");
    }

    #[test]
    fn phases() {
        use PlayerPhase as P;
        for (player, seeking, engine) in [
            (P::Opening, false, Phase::Opening),
            (P::Ready, false, Phase::Opening),
            (P::Ready, true, Phase::Seeking),
            (P::Seeking, true, Phase::Seeking),
            (P::Playing, true, Phase::Playing),
            (P::Paused, false, Phase::Paused),
            (P::Starved, false, Phase::Stalled),
            (P::Ended, false, Phase::Ended),
        ] {
            assert_eq!(engine_phase(player, seeking), engine, "{player:?}");
        }
    }

    #[test]
    fn opening_goes_step_by_step() {
        let last = |k, p: &Progress| {
            let s = steps(k, p);
            assert!(s.iter().rev().skip(1).all(|s| s.done), "{s:?}");
            (s.len(), s.last().unwrap().text.clone())
        };
        let mut p = Progress { goal_s: 2.0, ..Default::default() };
        assert_eq!(last(Kind::Magnet, &p), (1, "Reading the link".into()));
        p.resolved = true;
        p.discovery = discovery(&["udp://a:1 · none", "DHT · 3 nodes"], 0, 0);
        assert_eq!(last(Kind::Magnet, &p), (2, "Asking 1 tracker and the DHT for peers".into()));
        p.links = 3;
        assert_eq!(last(Kind::Magnet, &p), (3, "Getting the metadata from 3 peers".into()));
        p.metadata = true;
        assert_eq!(last(Kind::Magnet, &p), (5, "Reading the film's index".into()));
        p.links = 0;
        assert_eq!(last(Kind::Torrent, &p), (2, "Connecting to peers".into()));
        (p.bytes, p.index, p.ahead_s) = (true, true, 1.23);
        assert_eq!(last(Kind::Torrent, &p), (4, "Buffering: 1.2 of 2 s".into()));
        assert_eq!(last(Kind::Local, &p), (2, "Reading the film's index".into()));
    }
}

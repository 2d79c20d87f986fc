//! The live line of a headless play on a terminal: buffer, rates, pieces, peers, and what play waits for.
//!
//! Invariant: nothing is written where stderr is no terminal, and what is written never wraps: a wrapped line could not
//! be overwritten.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::app::failure::one_line;
use crate::app::session::Facts;
use crate::media::api::PlayerPhase;
use crate::units::MediaTime;

const EVERY: Duration = Duration::from_millis(250);
/// Where the terminal does not tell its width.
const WIDTH: usize = 80;

pub struct StatusLine {
    terminal: bool,
    last: Option<Instant>,
    drawn: bool,
}

impl StatusLine {
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), last: None, drawn: false }
    }

    /// Draws the line when it is due.
    pub fn draw(&mut self, now: Instant, facts: &Facts) {
        if !self.terminal || self.last.is_some_and(|t| now.saturating_duration_since(t) < EVERY) {
            return;
        }
        self.last = Some(now);
        self.drawn = true;
        let line = fit(&parts(facts), width().saturating_sub(2));
        // A terminal that is gone is no reason to end the play.
        let _ = write!(std::io::stderr().lock(), "\r\x1b[2K{line}");
    }

    /// Takes the line away, for what is printed next.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.drawn) {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }
}

/// What there is to say, what matters most first.
fn parts(facts: &Facts) -> Vec<String> {
    let p = &facts.player;
    let mut parts = Vec::new();
    if facts.player_opened.is_some() && p.phase != PlayerPhase::Opening {
        let of = p.duration.map(|d| format!("/{}", clock(d))).unwrap_or_default();
        parts.push(format!("{}{of}", clock(p.at)));
    }
    parts.extend(facts.waiting.clone().filter(|w| !w.is_empty()));
    if let Some(s) = &facts.stream {
        let e = &s.engine;
        parts.push(format!("{:.1} s ahead", e.ahead_s));
        parts.push(rates(e.swarm_rate, e.server_rate));
        if !e.pieces.is_empty() {
            parts.push(format!("{}/{} pieces", e.pieces_here, e.pieces.len()));
        }
        parts.push(crate::app::words::count(s.peers.len(), "peer", "peers"));
    }
    parts
}

/// As many parts as fit into `width` characters; a first one that alone is too long is cut.
fn fit(parts: &[String], width: usize) -> String {
    let mut line = String::new();
    for part in parts {
        let longer = if line.is_empty() { part.clone() } else { format!("{line} · {part}") };
        if !line.is_empty() && longer.chars().count() > width {
            break;
        }
        line = longer;
    }
    one_line(&line, width)
}

/// "swarm 1.2 + server 0.3 MB/s".
fn rates(swarm: f64, server: f64) -> String {
    match swarm.max(server) {
        r if r >= 1e6 => format!("swarm {:.1} + server {:.1} MB/s", swarm / 1e6, server / 1e6),
        _ => format!("swarm {:.0} + server {:.0} kB/s", swarm / 1e3, server / 1e3),
    }
}

/// "1:02:03", "02:03".
fn clock(t: MediaTime) -> String {
    let s = t.0.max(0) / 1_000_000;
    let (h, m, s) = (s / 3600, s / 60 % 60, s % 60);
    if h > 0 { format!("{h}:{m:02}:{s:02}") } else { format!("{m:02}:{s:02}") }
}

#[cfg(unix)]
fn width() -> usize {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is a valid winsize for the call to fill; a descriptor that is no terminal only gives an error.
    let told = unsafe { libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &mut size) } == 0;
    if told && size.ws_col > 0 { usize::from(size.ws_col) } else { WIDTH }
}

#[cfg(not(unix))]
fn width() -> usize {
    WIDTH
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::snapshot::EngineSnapshot;
    use crate::stream::StreamStatus;
    use std::sync::Arc;

    #[test]
    fn all_that_matters_on_one_line() {
        let engine = EngineSnapshot {
            ahead_s: 12.34,
            swarm_rate: 1_230_000.0,
            pieces: vec![Default::default(); 300].into(),
            pieces_here: 120,
            ..Default::default()
        };
        let mut facts = Facts {
            stream: Some(Arc::new(StreamStatus { engine: Arc::new(engine), ..Default::default() })),
            player_opened: Some(Instant::now()),
            waiting: Some("waiting for piece 9".into()),
            ..Default::default()
        };
        facts.player.phase = PlayerPhase::Starved;
        facts.player.at = MediaTime(42_000_000);
        facts.player.duration = Some(MediaTime(3_690_000_000));
        let parts = parts(&facts);
        let all = "00:42/1:01:30 · waiting for piece 9 · 12.3 s ahead · swarm 1.2 + server 0.0 MB/s · 120/300 pieces · 0 peers";
        assert_eq!(fit(&parts, 200), all);
        assert_eq!(fit(&parts, 60), "00:42/1:01:30 · waiting for piece 9 · 12.3 s ahead");
        assert_eq!(fit(&parts, 8), "00:42/1:…");
        assert_eq!(fit(&super::parts(&Facts::default()), 80), "");
        assert_eq!(rates(0.0, 85_400.0), "swarm 0 + server 85 kB/s");
    }
}

//! What a headless play reports: one JSON object, times in seconds from the start of the process.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::app::process::Usage;
use crate::app::session::Facts;

/// The report. Times that never came are null.
#[derive(Debug, Serialize)]
pub struct Report {
    pub metadata_s: Option<f64>,
    pub first_byte_s: Option<f64>,
    pub first_frame_s: Option<f64>,
    pub start_s: Option<f64>,
    pub seeks: Vec<Seek>,
    pub stalls: Vec<Stall>,
    pub stalled_s: f64,
    /// Media seconds the clock ran; without a clock, what was decoded.
    pub played_s: f64,
    pub bytes: Bytes,
    pub frames: Frames,
    pub bids: Vec<Bid>,
    pub cpu_s: f64,
    pub rss_peak_bytes: u64,
    pub peers: Vec<Peer>,
    pub title: String,
    pub duration_s: Option<f64>,
    pub ended: bool,
    /// The sentence it ended with, when it failed.
    pub error: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Seek {
    pub to_s: f64,
    /// From the command to the first picture at the goal; null where the play ended before it came.
    pub first_frame_s: Option<f64>,
}

#[derive(Debug, Serialize)]
pub struct Stall {
    pub at_s: f64,
    pub media_s: f64,
    pub for_s: f64,
}

#[derive(Debug, Default, Serialize)]
pub struct Bytes {
    pub swarm: u64,
    pub server: u64,
    pub duplicate: u64,
    pub corrupt: u64,
    pub uploaded: u64,
    pub protocol: u64,
}

#[derive(Debug, Serialize)]
pub struct Frames {
    pub decoded: u64,
    pub presented: u64,
    pub late: u64,
    pub dropped: u64,
}

#[derive(Debug, Serialize)]
pub struct Bid {
    pub at_s: f64,
    pub max_bits: u64,
    pub grant_bits: u64,
    pub used_bits: u64,
}

#[derive(Debug, Serialize)]
pub struct Peer {
    pub addr: String,
    pub client: String,
    pub flags: String,
    pub has: f64,
    pub received: u64,
    pub sent: u64,
    /// Still connected at the end.
    pub connected: bool,
}

impl Report {
    pub fn new(facts: &Facts, started: Instant, usage: Usage, ended: bool, error: Option<String>) -> Self {
        let since = |t: Instant| t.saturating_duration_since(started);
        let player = &facts.player;
        let opened = facts.player_opened.map(since).unwrap_or_default();
        let of_player = |d: Option<Duration>| d.map(|d| seconds(opened + d));
        let stream_at = facts.stream_started.map(since).unwrap_or_default().as_secs_f64();
        let stream = facts.stream.as_deref();
        let bytes = stream.map(|s| {
            let t = s.engine.totals;
            Bytes {
                swarm: t.swarm,
                server: t.server,
                duplicate: t.duplicate,
                corrupt: t.corrupt,
                uploaded: t.uploaded,
                protocol: s.discovery.protocol_bytes,
            }
        });
        Self {
            metadata_s: facts.metadata.map(|t| seconds(since(t))),
            first_byte_s: facts.first_byte.map(|t| seconds(since(t))),
            // Sound alone has a first moment, but no picture.
            first_frame_s: of_player(player.first_frame.filter(|_| player.frames.decoded > 0)),
            start_s: of_player(player.started),
            seeks: player
                .seeks
                .iter()
                .map(|s| (s.to, Some(seconds(s.first_frame_after))))
                .chain(player.seeking_to.map(|to| (to, None)))
                .map(|(to, first_frame_s)| Seek { to_s: round(to.as_secs_f64()), first_frame_s })
                .collect(),
            stalls: player
                .stalls
                .iter()
                .map(|s| Stall {
                    at_s: seconds(opened + s.at),
                    media_s: round(s.media.as_secs_f64()),
                    for_s: seconds(s.lasted),
                })
                .collect(),
            stalled_s: seconds(player.stalls.iter().map(|s| s.lasted).sum()),
            played_s: seconds(player.played),
            bytes: bytes.unwrap_or_default(),
            frames: Frames {
                decoded: player.frames.decoded,
                presented: player.frames.presented,
                late: player.frames.late,
                dropped: player.frames.dropped,
            },
            bids: facts
                .bids
                .iter()
                .map(|b| Bid {
                    at_s: round(stream_at + b.at.as_secs_f64()),
                    max_bits: b.max_bits,
                    grant_bits: b.grant_bits,
                    used_bits: b.used_bits,
                })
                .collect(),
            cpu_s: seconds(usage.cpu),
            rss_peak_bytes: usage.rss_peak,
            peers: facts
                .peers
                .values()
                .map(|p| Peer {
                    addr: p.addr.clone(),
                    client: p.client.clone(),
                    flags: p.flags.clone(),
                    has: round(f64::from(p.has)),
                    received: p.received,
                    sent: p.sent,
                    connected: p.connected,
                })
                .collect(),
            title: facts.title.clone(),
            duration_s: player.duration.map(|d| round(d.as_secs_f64())),
            ended,
            error,
        }
    }

    /// As JSON, with a line end.
    pub fn json(&self) -> serde_json::Result<Vec<u8>> {
        let mut out = serde_json::to_vec_pretty(self)?;
        out.push(b'\n');
        Ok(out)
    }

    /// One line for people, at the end of a play.
    pub fn summary(&self) -> String {
        let opt = |t: Option<f64>| t.map_or_else(|| "never".to_owned(), |t| format!("{t:.2} s"));
        let mut parts = vec![
            format!("played {:.1} s", self.played_s),
            format!("first picture after {}", opt(self.first_frame_s)),
            format!("start after {}", opt(self.start_s)),
        ];
        parts.push(match self.stalls.len() {
            0 => "no stall".to_owned(),
            1 => format!("1 stall of {:.1} s", self.stalled_s),
            n => format!("{n} stalls, {:.1} s in all", self.stalled_s),
        });
        if self.bytes.swarm + self.bytes.server > 0 {
            let mb = |b: u64| b as f64 / 1e6;
            parts.push(format!(
                "{:.1} MB from the swarm, {:.1} MB from the server",
                mb(self.bytes.swarm),
                mb(self.bytes.server)
            ));
        }
        parts.join(" · ")
    }
}

fn seconds(d: Duration) -> f64 {
    round(d.as_secs_f64())
}

/// To microseconds: more digits are noise.
fn round(s: f64) -> f64 {
    (s * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::api::{SeekRecord, StallRecord};
    use crate::units::MediaTime;

    #[test]
    fn the_keys_and_the_clock() {
        let started = Instant::now();
        let s = Duration::from_secs;
        let mut facts =
            Facts { player_opened: Some(started + s(2)), metadata: Some(started + s(1)), ..Default::default() };
        facts.player.first_frame = Some(s(3));
        facts.player.frames.decoded = 1;
        facts.player.seeking_to = Some(MediaTime(9_000_000));
        facts.player.stalls =
            vec![StallRecord { at: s(4), media: MediaTime(5_000_000), lasted: Duration::from_millis(1500) }];
        facts.player.seeks =
            vec![SeekRecord { to: MediaTime(7_000_000), first_frame_after: Duration::from_millis(250) }];
        let json = Report::new(&facts, started, Usage::default(), true, None).json().unwrap();
        let v: serde_json::Value = serde_json::from_slice(&json).unwrap();
        for key in [
            "metadata_s",
            "first_byte_s",
            "first_frame_s",
            "start_s",
            "seeks",
            "stalls",
            "stalled_s",
            "played_s",
            "bytes",
            "frames",
            "bids",
            "cpu_s",
            "rss_peak_bytes",
            "peers",
        ] {
            assert!(v.get(key).is_some(), "{key}");
        }
        assert_eq!(v["first_frame_s"], 5.0);
        assert_eq!(v["start_s"], serde_json::Value::Null);
        assert_eq!(v["stalls"][0]["at_s"], 6.0);
        assert_eq!(v["stalled_s"], 1.5);
        assert_eq!(v["seeks"][0]["first_frame_s"], 0.25);
        assert_eq!(v["seeks"][1], serde_json::json!({ "to_s": 9.0, "first_frame_s": null }));
        assert_eq!(v["bytes"]["protocol"], 0);
    }
}

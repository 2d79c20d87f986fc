//! Forecasts against what was recorded of real peers: each request of a recorded play is booked on the link as the engine
//! books it, and what was forecast of it is compared with when its block came.
//!
//! Two simpler forecasts are made beside it, of the same requests: one that takes each block for as long as the last one of that
//! link, and one that takes every answer for as long as all answers before took on average.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::config::Config;
use super::super::links::Link;
use crate::units::{BlockRef, Instant, LinkId, PieceIndex};

/// Pieces of the films that were recorded, at most.
const PIECES: u32 = 1024;
const TICK: Duration = Duration::from_millis(100);

/// One line of a recording.
struct Row<'a> {
    at: Instant,
    what: &'a str,
    link: LinkId,
    detail: &'a str,
}

fn rows(csv: &str) -> impl Iterator<Item = Row<'_>> {
    csv.lines().skip(1).map(|line| {
        let mut cells = line.split(',');
        let mut cell = || cells.next().unwrap();
        let at = Instant::from_secs_f64(cell().parse::<f64>().unwrap() / 1e3);
        Row { at, what: cell(), link: LinkId(cell().parse().unwrap()), detail: cell() }
    })
}

fn block(detail: &str) -> BlockRef {
    let (piece, block) = detail.split_once(':').unwrap();
    BlockRef { piece: PieceIndex(piece.parse().unwrap()), block: block.parse().unwrap() }
}

/// How the simpler forecasts see one link.
#[derive(Default)]
struct Naive {
    last: Option<Instant>,
    interval: Option<f64>,
}

/// What was said of a request.
struct Said {
    at: Instant,
    expected: Instant,
    deviation: f64,
    known: bool,
    by_interval: Option<f64>,
    by_average: Option<f64>,
}

/// Sums over the requests that were answered and of which all three said something.
#[derive(Debug, Default)]
struct Score {
    answers: u32,
    within_2: f64,
    within_4: f64,
    bias: f64,
    error: f64,
    of_interval: f64,
    of_average: f64,
}

impl Score {
    fn book(&mut self, now: Instant, said: &Said) {
        let took = now.since(said.at).as_secs_f64();
        let (Some(interval), Some(average), true) = (said.by_interval, said.by_average, said.known) else { return };
        let late = now.as_secs_f64() - said.expected.as_secs_f64();
        self.answers += 1;
        self.within_2 += f64::from(u8::from(late <= 2.0 * said.deviation));
        self.within_4 += f64::from(u8::from(late <= 4.0 * said.deviation));
        self.bias += late;
        self.error += late.abs();
        self.of_interval += (took - interval).abs();
        self.of_average += (took - average).abs();
    }

    fn mean(self) -> Self {
        let n = f64::from(self.answers.max(1));
        Self {
            answers: self.answers,
            within_2: self.within_2 / n,
            within_4: self.within_4 / n,
            bias: self.bias / n,
            error: self.error / n,
            of_interval: self.of_interval / n,
            of_average: self.of_average / n,
        }
    }
}

/// Plays a recording again.
fn replay(csv: &str) -> Score {
    let config = Config::default();
    let mut links: BTreeMap<LinkId, (Link, Naive)> = BTreeMap::new();
    let mut said: BTreeMap<(LinkId, BlockRef), Said> = BTreeMap::new();
    let (mut score, mut answers, mut all) = (Score::default(), 0.0, 0.0);
    let mut tick = Instant::ZERO;
    for row in rows(csv) {
        while tick + TICK <= row.at {
            tick = tick + TICK;
            links.values_mut().for_each(|(l, _)| l.fade(tick, &config));
        }
        if row.what == "up" {
            let rtt = row.detail.parse::<f64>().ok().map(|ms| Duration::from_secs_f64(ms / 1e3));
            links.insert(row.link, (Link::new(row.link, PIECES, rtt, row.at), Naive::default()));
            continue;
        }
        let typical = typical(links.values().map(|l| &l.0), row.at, &config);
        let Some((l, naive)) = links.get_mut(&row.link) else { continue };
        match row.what {
            "down" => drop(links.remove(&row.link)),
            "choke" | "unchoke" => {
                l.choked = row.what == "choke";
                if l.choked {
                    l.asks.clear();
                    l.meter.idle();
                }
            }
            "ask" => {
                let b = block(row.detail);
                let queued = l.asks.len() as f64 + 1.0;
                let (known, deviation) =
                    (l.meter.rate().is_some() && l.lateness().mean().is_some(), l.lateness().dev());
                l.ask(row.at, b, typical, &config);
                let by_average = (answers > 0.0).then(|| all / answers);
                let by_interval = naive.interval.map(|i| queued * i);
                let expected = l.asks.back().map_or(row.at, |a| a.expected);
                said.insert((row.link, b), Said { at: row.at, expected, deviation, known, by_interval, by_average });
            }
            "cancel" => {
                l.cancel(row.at, block(row.detail), &config);
                said.remove(&(row.link, block(row.detail)));
            }
            "reject" => l.refused(block(row.detail)),
            "block" | "again" => {
                let b = block(row.detail);
                l.arrived(row.at, b, 16 * 1024, &config);
                naive.interval = naive.last.map(|t| row.at.since(t).as_secs_f64());
                naive.last = Some(row.at);
                if let Some(s) = said.remove(&(row.link, b)) {
                    score.book(row.at, &s);
                    answers += 1.0;
                    all += row.at.since(s.at).as_secs_f64();
                }
            }
            other => panic!("no such record: {other}"),
        }
    }
    score.mean()
}

/// As the engine has it: the average of those that serve.
fn typical<'a>(links: impl Iterator<Item = &'a Link>, now: Instant, config: &Config) -> f64 {
    let rates: Vec<f64> = links.filter(|l| !l.choked).filter_map(|l| l.meter.rate_at(now)).collect();
    if rates.is_empty() { config.rate_unknown } else { rates.iter().sum::<f64>() / rates.len() as f64 }
}

/// The forecasts of one recording: how many answers must count, and how far off they may be on average, seconds.
fn holds(name: &str, csv: &str, least: u32, error: f64) {
    let s = replay(csv);
    println!("{name}: {s:?}");
    assert!(s.answers >= least, "{name}: {s:?}");
    assert!(s.within_4 >= 0.95 && s.within_2 >= 0.85, "{name}: {s:?}");
    assert!(s.error <= error && s.bias.abs() <= error / 2.0, "{name}: {s:?}");
    assert!(s.error < 0.8 * s.of_interval.min(s.of_average), "{name}: no better than a simpler forecast: {s:?}");
}

/// Eight peers of 1 to 4 Mbit/s, 40 ms away.
#[test]
fn steady_peers_answer_as_forecast() {
    holds("ample", include_str!("../../../tests/scenarios/ample.csv"), 700, 0.02);
    holds("bigpieces", include_str!("../../../tests/scenarios/bigpieces.csv"), 700, 0.02);
}

/// The first seconds, in which rates are being learnt, and a seek that withdraws what was asked for.
#[test]
fn forecasts_hold_while_rates_are_learnt_and_over_a_seek() {
    holds("seek", include_str!("../../../tests/scenarios/seek.csv"), 300, 0.02);
}

/// One packet in a hundred lost, 20 to 240 ms away, and uplinks that change by a factor of up to seven every few seconds.
#[test]
fn forecasts_follow_peers_whose_rates_change() {
    holds("rough", include_str!("../../../tests/scenarios/rough.csv"), 700, 0.1);
}

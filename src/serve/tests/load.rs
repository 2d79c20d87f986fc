//! Fifty viewers that bid and read what they are granted, over real sockets: who got how much, by bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::{of, pattern, start};
use crate::serve::ServeOptions;
use crate::serve::bids::BIDS_PATH;

const VIEWERS: usize = 50;
const BYTES_PER_S: u64 = 4_000_000;

fn jain(x: &[f64]) -> f64 {
    x.iter().sum::<f64>().powi(2) / (x.len() as f64 * x.iter().map(|v| v * v).sum::<f64>())
}

#[tokio::test]
async fn viewers_that_bid_alike_get_alike_and_get_what_they_were_granted() {
    let dir = tempfile::tempdir().unwrap();
    let film = pattern(4_000_000);
    std::fs::write(dir.path().join("film.mkv"), &film).unwrap();
    let path = dir.path().join("film.mkv");
    let server = Arc::new(start(ServeOptions { bytes_per_s: Some(BYTES_PER_S), ..of(&path) }).await);
    let got: Arc<Vec<AtomicU64>> = Arc::new((0..VIEWERS).map(|_| AtomicU64::new(0)).collect());
    let granted = Arc::new(AtomicU64::new(0));
    let film = Arc::new(film);
    let began = Instant::now();
    let tasks: Vec<_> = (0..VIEWERS)
        .map(|i| {
            let (server, got, granted, film) = (server.clone(), got.clone(), granted.clone(), film.clone());
            tokio::spawn(async move {
                let viewer = format!("viewer-{i}");
                let mut at = i * 10_000;
                let mut ranges = JoinSet::new();
                // As a player does: a bid each second, whatever is still being read.
                let mut second = tokio::time::interval(Duration::from_secs(1));
                loop {
                    second.tick().await;
                    while let Some(read) = ranges.try_join_next() {
                        read.unwrap();
                    }
                    // Three times what each can get in a second: a range of all that the first is granted, while it is alone,
                    // would be read for most of the test.
                    let bid = json!({
                        "info_hash": "ab".repeat(20), "viewer": viewer, "horizon_ms": 15000, "max_bits": 2_000_000,
                    });
                    let url = format!("{}{BIDS_PATH}", server.url);
                    let post = server.client.post(url).header("content-type", "application/json");
                    let told = post.body(bid.to_string()).send().await.unwrap();
                    assert_eq!(told.status(), 200);
                    let told: Value = serde_json::from_slice(&told.bytes().await.unwrap()).unwrap();
                    let len = told["grant_bits"].as_u64().unwrap() as usize / 8;
                    granted.fetch_add(len as u64, Ordering::Relaxed);
                    if len == 0 {
                        continue;
                    }
                    at = if at + len > film.len() { 0 } else { at };
                    let (server, got, film, viewer) = (server.clone(), got.clone(), film.clone(), viewer.clone());
                    let (from, grant) = (at, told["grant"].as_str().unwrap().to_owned());
                    at += len;
                    ranges.spawn(async move {
                        let range = format!("bytes={from}-{}", from + len - 1);
                        let asked =
                            [("range", range.as_str()), ("sluicegate-viewer", &viewer), ("sluicegate-grant", &grant)];
                        let mut body = server.ask(reqwest::Method::GET, "/", &asked).await;
                        let mut read = from;
                        // Counted as it comes: whole ranges are as coarse as what is to be told apart.
                        while let Some(part) = body.chunk().await.unwrap() {
                            assert!(part == film[read..read + part.len()], "other bytes than were asked for");
                            got[i].fetch_add(part.len() as u64, Ordering::Relaxed);
                            read += part.len();
                        }
                        assert_eq!(read, from + len);
                    });
                }
            })
        })
        .collect();
    let sums = || got.iter().map(|g| g.load(Ordering::Relaxed) as f64).collect::<Vec<_>>();
    let have = async |bytes: f64| {
        while sums().iter().sum::<f64>() < bytes {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(!tasks.iter().any(|t| t.is_finished()), "a viewer failed");
        }
        sums()
    };
    // Whoever bids first bids alone, and is granted all it asks for: what counts for fairness comes after everybody is here.
    let before = have(16e6).await;
    let (sums, took) = (have(48e6).await, began.elapsed().as_secs_f64());
    for task in tasks {
        task.abort();
    }
    let since: Vec<f64> = sums.iter().zip(&before).map(|(s, b)| s - b).collect();
    assert!(jain(&since) > 0.95, "{since:?}");
    // No more went out, and no more was promised, than the capacity allows: what may be promised ahead, and what lapses.
    let total: f64 = sums.iter().sum();
    assert!(total <= BYTES_PER_S as f64 * (took + 0.1), "{total} in {took} s");
    let promised = granted.load(Ordering::Relaxed) as f64;
    assert!(promised <= 2.0 * BYTES_PER_S as f64 * (took + 1.0), "{promised} in {took} s");
    let page = server.ask(reqwest::Method::GET, "/metrics", &[]).await.text().await.unwrap();
    let sent = |class: &str| {
        let name = format!("sluicegate_sent_bytes_total{{class=\"{class}\"}}");
        let line = page.lines().find(|l| l.starts_with(&name)).unwrap_or_else(|| panic!("no {name} in\n{page}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert!(sent("Granted") >= total, "all of it went first");
    assert!(sent("Leftover") < 0.05 * total, "{}", sent("Leftover"));
}

//! Turns as responses take them: by bytes and order, never by the clock.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::engine::Bid;
use crate::serve::gate::{GRANT, Gate, GateOptions, Granted, Stopped, VIEWER, viewer_key};
use crate::units::Instant;

pub fn gate(capacity: Option<u64>) -> Gate {
    let options = GateOptions { capacity, secret: Some(b"secret".to_vec()), ..GateOptions::default() };
    Gate::new(options, CancellationToken::new())
}

/// The same by a clock of milliseconds that somebody else turns.
fn gate_by(capacity: u64, ms: Arc<AtomicU64>) -> Gate {
    let options = GateOptions { capacity: Some(capacity), ..GateOptions::default() };
    let clock = move || Instant(ms.load(Ordering::Relaxed) * 1_000_000);
    Gate::by_clock(options, CancellationToken::new(), Box::new(clock))
}

/// Whose clock waits for the machine: however long that pauses, a millisecond goes by, and everybody has had a turn before the
/// next. What a pause lets go at once goes to those who wait, and who has one connection waits for one chunk.
fn steady(capacity: u64) -> Gate {
    let ms = Arc::new(AtomicU64::new(0));
    let gate = gate_by(capacity, ms.clone());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            ms.fetch_add(1, Ordering::Relaxed);
        }
    });
    gate
}

pub fn ip(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))
}

pub fn headers(viewer: &str, grants: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if !viewer.is_empty() {
        headers.insert(VIEWER, viewer.parse().unwrap());
    }
    if !grants.is_empty() {
        headers.insert(GRANT, grants.join(", ").parse().unwrap());
    }
    headers
}

pub fn bid(gate: &Gate, viewer: &str, address: u8, bits: u64) -> Granted {
    let bid = Bid { max_bits: bits, due_bits: Vec::new() };
    gate.bid(viewer_key(viewer).unwrap(), ip(address), &bid).unwrap()
}

/// The value of one line of the metrics page.
pub fn counted(gate: &Gate, name: &str) -> u64 {
    let page = gate.metrics().render();
    let line = page.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("no {name} in\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_body_comes_through_whole() {
    for capacity in [None, Some(1 << 33)] {
        let data: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
        let turn = gate(capacity).admit(&HeaderMap::new(), ip(1), data.len() as u64);
        let source = Body::from(data.clone()).into_data_stream();
        let parts: Vec<Bytes> = turn.body(source).into_data_stream().map(Result::unwrap).collect().await;
        assert_eq!(parts.concat(), data);
        assert!(parts.iter().all(|p| p.len() <= 128 * 1024));
    }
}

#[tokio::test]
async fn a_range_longer_than_its_grant_goes_in_two_classes() {
    let gate = gate(Some(800_000_000));
    // What is over is the last of the capacity: the viewer has had its share.
    let all = bid(&gate, "v", 1, u64::MAX >> 20);
    let mut turn = gate.admit(&headers("v", &[&all.grant]), ip(1), 200_000_000);
    assert_eq!(turn.granted_bits(), 800_000_000, "the whole of the grant, and no more on top");
    assert!(turn.take(10).await.unwrap() > 0);
    drop(turn);
    let few = gate.admit(&headers("", &[&all.grant]), ip(1), 1_000);
    assert_eq!(few.granted_bits(), 8_000, "a grant says whose it is");
    assert_eq!(gate.admit(&HeaderMap::new(), ip(1), 100_000).granted_bits(), 0);
}

#[tokio::test]
async fn a_grant_counts_once_and_what_was_not_sent_comes_back() {
    let gate = gate(Some(80_000_000));
    let g = bid(&gate, "v", 1, 8_000_000);
    assert_eq!(g.grant_bits, 8_000_000);
    let mut first = gate.admit(&headers("v", &[&g.grant]), ip(1), 600_000);
    assert_eq!(first.granted_bits(), 4_800_000);
    let taken = first.take(100_000).await.unwrap() as u64;
    drop(first);
    assert_eq!(counted(&gate, "sluicegate_returned_bits_total"), 4_800_000 - taken * 8);
    // What the grant lacks is bid for on the spot; the level leaves it.
    let second = gate.admit(&headers("v", &[&g.grant]), ip(1), 1_000_000);
    assert_eq!(second.granted_bits(), 8_000_000);
    drop(second);
    let spent = counted(&gate, "sluicegate_spent_bits_total") - counted(&gate, "sluicegate_returned_bits_total");
    assert_eq!(spent, taken * 8);
}

#[tokio::test]
async fn several_grants_are_spent_in_their_order() {
    let ms = Arc::new(AtomicU64::new(0));
    let gate = gate_by(80_000_000, ms.clone());
    let a = bid(&gate, "v", 1, 2_000_000);
    ms.store(120, Ordering::Relaxed);
    let b = bid(&gate, "v", 1, 2_000_000);
    let turn = gate.admit(&headers("v", &[&a.grant, &b.grant]), ip(1), 375_000);
    assert_eq!(turn.granted_bits(), 3_000_000);
    assert_eq!(counted(&gate, "sluicegate_granted_bits_total"), 4_000_000, "nothing had to be bid for");
}

#[tokio::test]
async fn another_server_of_the_same_secret_honours_a_grant_once() {
    let (a, b) = (gate(Some(8_000_000)), gate(Some(8_000_000)));
    let g = bid(&a, "v", 1, 1_000_000);
    assert_eq!(b.admit(&headers("v", &[&g.grant]), ip(1), 125_000).granted_bits(), 1_000_000);
    assert_eq!(counted(&b, "sluicegate_granted_bits_total"), 0);
    let other =
        Gate::new(GateOptions { secret: Some(b"other".to_vec()), ..GateOptions::default() }, CancellationToken::new());
    let _ = other.admit(&headers("v", &[&g.grant]), ip(1), 125_000);
    assert_eq!(counted(&other, "sluicegate_bids_refused_total{reason=\"Forged\"}"), 1);
}

#[tokio::test]
async fn a_stop_ends_those_who_wait_and_those_who_come() {
    let stop = CancellationToken::new();
    let gate = Gate::new(GateOptions { capacity: Some(8_000), ..GateOptions::default() }, stop.clone());
    let waiting: Vec<_> = (0..20)
        .map(|i| {
            let mut turn = gate.admit(&HeaderMap::new(), ip(i), 1 << 30);
            tokio::spawn(async move {
                loop {
                    if let Err(e) = turn.take(1 << 20).await {
                        return e;
                    }
                }
            })
        })
        .collect();
    tokio::task::yield_now().await;
    stop.cancel();
    for task in waiting {
        assert_eq!(task.await.unwrap(), Stopped);
    }
    assert_eq!(gate.admit(&HeaderMap::new(), ip(1), 10).take(10).await, Err(Stopped));
}

/// A gate, with connections that take all they get until told to stop: what each was let send.
pub struct Drain {
    done: Arc<AtomicBool>,
    sums: Vec<Arc<AtomicU64>>,
}

impl Drain {
    pub fn new() -> Self {
        Self { done: Arc::default(), sums: Vec::new() }
    }

    pub fn add(&mut self, gate: &Gate, headers: HeaderMap, address: IpAddr, len: u64) {
        let sum = Arc::new(AtomicU64::new(0));
        self.sums.push(sum.clone());
        let (gate, done) = (gate.clone(), self.done.clone());
        tokio::spawn(async move {
            let mut turn = gate.admit(&headers, address, len);
            let mut left = len;
            while left > 0 && !done.load(Ordering::Relaxed) {
                let Ok(n) = turn.take(left as usize).await else { return };
                left -= n as u64;
                sum.fetch_add(n as u64, Ordering::Relaxed);
            }
        });
    }

    pub fn sums(&self) -> Vec<u64> {
        self.sums.iter().map(|s| s.load(Ordering::Relaxed)).collect()
    }

    /// Until all together got so much.
    pub async fn until(&self, bytes: u64) -> Vec<u64> {
        while self.sums().iter().sum::<u64>() < bytes {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let sums = self.sums();
        self.done.store(true, Ordering::Relaxed);
        sums
    }
}

#[tokio::test]
async fn leftover_is_even_between_addresses_whatever_their_connections() {
    let gate = steady(64_000_000);
    let mut drain = Drain::new();
    for _ in 0..16 {
        drain.add(&gate, HeaderMap::new(), ip(1), 1 << 30);
    }
    drain.add(&gate, HeaderMap::new(), ip(2), 1 << 30);
    let sums = drain.until(8_000_000).await;
    let (many, one) = (sums[..16].iter().sum::<u64>() as f64, sums[16] as f64);
    assert!((many / one - 1.0).abs() < 0.15, "{many} {one}");
}

#[tokio::test]
async fn granted_bytes_go_before_leftover() {
    let gate = steady(16_000_000);
    let g = bid(&gate, "v", 1, 16_000_000);
    let mut drain = Drain::new();
    for i in 10..40 {
        drain.add(&gate, HeaderMap::new(), ip(i), 1 << 30);
    }
    drain.add(&gate, headers("v", &[&g.grant]), ip(1), 2_000_000);
    while drain.sums()[30] < 2_000_000 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let others: u64 = drain.sums()[..30].iter().sum();
    // A burst may go before the granted one is there at all, and each poll that finds it done is a little late.
    assert!(others < 1_000_000, "{others} bytes went past a grant");
    drain.until(0).await;
}

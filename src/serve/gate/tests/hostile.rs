//! Viewers that mean harm: counted, bounded, and nobody else is slowed.

use axum::http::{HeaderMap, StatusCode};
use serde_json::json;

use super::bids::{good, post};
use super::turns::{Drain, bid, counted, gate, headers, ip};
use crate::serve::gate::{GRANT, VIEWER};

#[tokio::test]
async fn a_flood_of_bids_is_turned_away_and_others_are_served() {
    let gate = gate(Some(8_000_000));
    let (mut fine, mut refused) = (0, 0);
    for _ in 0..2_000 {
        let bid = json!({"info_hash": "00".repeat(20), "viewer": "flood", "max_bits": 80_000_000u64});
        match post(&gate, &bid).await.0 {
            StatusCode::OK => fine += 1,
            StatusCode::TOO_MANY_REQUESTS => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(refused > 0 && fine + refused == 2_000);
    assert_eq!(counted(&gate, "sluicegate_bids_refused_total{reason=\"TooSoon\"}"), refused);
    let (status, told) = post(&gate, &good("honest", 400_000)).await;
    assert_eq!((status, &told["grant_bits"]), (StatusCode::OK, &json!(400_000)));
}

#[tokio::test]
async fn made_up_viewers_of_one_address_leave_others_their_share() {
    let gate = gate(Some(80_000_000));
    for i in 0..1_000 {
        let _ = bid(&gate, &format!("sybil{i}"), 66, 100_000_000);
    }
    let honest = bid(&gate, "honest", 2, 5_000_000);
    assert!(honest.grant_bits > 0, "squeezed out");
}

#[tokio::test]
async fn forged_stolen_and_used_up_grants_are_counted_and_worth_nothing() {
    let gate = gate(Some(8_000_000));
    let g = bid(&gate, "v", 1, 8_000_000);
    assert_eq!(g.grant_bits, 8_000_000);
    let forged = g.grant.replacen(|c: char| c.is_ascii_digit(), "a", 8);
    let stolen = gate.admit(&headers("thief", &[&g.grant, &forged]), ip(6), 1_000_000);
    // The thief has what it would have got without: its own share of what is left to promise.
    assert!(stolen.granted_bits() <= 4_000_000, "{}", stolen.granted_bits());
    assert_eq!(counted(&gate, "sluicegate_bids_refused_total{reason=\"Forged\"}"), 1);
    assert_eq!(counted(&gate, "sluicegate_bids_refused_total{reason=\"Void\"}"), 1);
    let mut turn = gate.admit(&headers("v", &[&g.grant]), ip(1), 1_000_000);
    assert_eq!(turn.granted_bits(), 8_000_000, "the theft cost it nothing");
    let mut left = 1_000_000;
    while left > 0 {
        left -= turn.take(left).await.unwrap();
    }
    drop(turn);
    let _ = gate.admit(&headers("v", &[&g.grant]), ip(1), 1_000_000);
    assert_eq!(counted(&gate, "sluicegate_bids_refused_total{reason=\"Void\"}"), 2, "replayed");
}

#[tokio::test]
async fn strange_headers_are_as_none() {
    let gate = gate(Some(8_000_000));
    let mut strange = HeaderMap::new();
    strange.insert(VIEWER, axum::http::HeaderValue::from_bytes(b"\xff\xfe").unwrap());
    strange.append(GRANT, axum::http::HeaderValue::from_bytes(b"\xff").unwrap());
    strange.append(GRANT, ",,, ,".parse().unwrap());
    for _ in 0..100 {
        strange.append(GRANT, "00,11,22,33".parse().unwrap());
    }
    assert_eq!(gate.admit(&strange, ip(1), u64::MAX).granted_bits(), 0);
    // Of a thousand grants eight are looked at.
    assert_eq!(counted(&gate, "sluicegate_bids_refused_total{reason=\"Forged\"}"), 8);
    assert_eq!(gate.admit(&headers("v", &[]), ip(1), 0).granted_bits(), 0);
}

#[tokio::test]
async fn readers_that_take_nothing_hold_nothing() {
    let gate = gate(Some(64_000_000));
    // A thousand turns that were let in and never ask: they hold neither bytes nor the rate.
    let idle: Vec<_> = (0..1_000).map(|i| gate.admit(&HeaderMap::new(), ip((i % 250) as u8), 1 << 30)).collect();
    // A hundred that asked once and are never polled again.
    let mut stuck = Vec::new();
    for i in 0..100 {
        let mut turn = gate.admit(&HeaderMap::new(), ip(i), 1 << 30);
        stuck.push(Box::pin(async move {
            loop {
                let _ = turn.take(1 << 20).await;
            }
        }));
    }
    for s in &mut stuck {
        let _ = futures::poll!(s);
    }
    let mut drain = Drain::new();
    drain.add(&gate, HeaderMap::new(), ip(200), 1 << 30);
    drain.add(&gate, HeaderMap::new(), ip(201), 1 << 30);
    let sums = drain.until(4_000_000).await;
    assert!((sums[0] as f64 / sums[1] as f64 - 1.0).abs() < 0.2, "{sums:?}");
    // Each of the stuck was served one chunk at most.
    let sent = counted(&gate, "sluicegate_sent_bytes_total{class=\"Leftover\"}");
    assert!(sent <= sums.iter().sum::<u64>() + 101 * 128 * 1024, "{sent}");
    drop((idle, stuck));
}

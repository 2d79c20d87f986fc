//! Bids over HTTP, in the server's own terms: what is answered to what.

use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use futures::StreamExt;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};

use super::turns::{counted, gate, headers, ip};
use crate::serve::bids::{BIDS_PATH, Known, Visitor, router};
use crate::serve::gate::Gate;

const HASH: &str = "00112233445566778899aabbccddeeff00112233";

pub fn good(viewer: &str, bits: u64) -> Value {
    json!({"info_hash": HASH, "viewer": viewer, "horizon_ms": 15000, "max_bits": bits, "due_bits": [bits, 0, 0]})
}

pub async fn post_raw(gate: &Gate, known: Known, kind: &str, body: Body) -> Response<Body> {
    let mut request = Request::post(BIDS_PATH).header("content-type", kind).body(body).unwrap();
    request.extensions_mut().insert(Visitor(ip(1)));
    TowerToHyperService::new(router(gate.clone(), known)).call(request).await.unwrap()
}

pub async fn post(gate: &Gate, bid: &Value) -> (StatusCode, Value) {
    let response = post_raw(gate, Known::Any, "application/json", Body::from(bid.to_string())).await;
    let status = response.status();
    (status, serde_json::from_slice(&to_bytes(response.into_body(), 10_000).await.unwrap()).unwrap())
}

#[tokio::test]
async fn a_bid_is_answered_with_a_grant_that_its_viewer_can_spend() {
    let gate = gate(Some(80_000_000));
    let mut bid = good("alice", 4_000_000);
    bid["color"] = json!("blue");
    let (status, told) = post(&gate, &bid).await;
    assert_eq!((status, &told["grant_bits"], &told["expires_ms"]), (StatusCode::OK, &json!(4_000_000), &json!(2000)));
    let grant = told["grant"].as_str().unwrap();
    assert_eq!(gate.admit(&headers("alice", &[grant]), ip(1), 500_000).granted_bits(), 4_000_000);
    assert_eq!(counted(&gate, "sluicegate_bids_total"), 1);
    assert_eq!(counted(&gate, "sluicegate_bid_duration_seconds_count"), 1);
    assert_eq!(counted(&gate, "sluicegate_viewers_bidding"), 1);
}

#[tokio::test]
async fn numbers_may_be_missing_where_they_only_help() {
    let gate = gate(None);
    let (status, told) = post(&gate, &json!({"info_hash": HASH, "viewer": "v", "max_bits": 9})).await;
    assert_eq!((status, &told["grant_bits"]), (StatusCode::OK, &json!(9)));
}

#[tokio::test]
async fn bad_bids_are_refused_with_a_sentence_and_counted() {
    let gate = gate(Some(80_000_000));
    let with = |field: &str, value: Value| {
        let mut bid = good("v", 1000);
        bid[field] = value;
        bid
    };
    let bad = [
        with("max_bits", json!(-1)),
        with("max_bits", json!(1.5)),
        with("max_bits", json!("1000")),
        with("max_bits", json!(1e300)),
        with("max_bits", Value::Null),
        with("due_bits", json!([1, -1])),
        with("due_bits", json!(vec![1; 61])),
        with("horizon_ms", json!(u64::MAX)),
        with("horizon_ms", json!(-5)),
        with("viewer", json!("")),
        with("viewer", json!("a b")),
        with("viewer", json!("x".repeat(65))),
        with("info_hash", json!("zz112233445566778899aabbccddeeff00112233")),
        with("info_hash", json!("0011")),
        json!([]),
        json!(null),
    ];
    for bid in &bad {
        let (status, told) = post(&gate, bid).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{bid}");
        let error = told["error"].as_str().unwrap();
        assert!(error.ends_with('.') && error.len() > 10, "{error}");
    }
    let refused = counted(&gate, "sluicegate_bids_refused_total{reason=\"Malformed\"}");
    assert_eq!(refused, bad.len() as u64);
    assert_eq!(counted(&gate, "sluicegate_viewers "), 0, "nobody is remembered for it");
}

#[tokio::test]
async fn an_absurd_bid_is_cut_to_what_is_not() {
    let gate = gate(None);
    let (status, told) = post(&gate, &good("v", u64::MAX)).await;
    assert_eq!(status, StatusCode::OK);
    assert!(told["grant_bits"].as_u64().unwrap() <= 7_500_000_000);
}

#[tokio::test]
async fn what_is_no_bid_is_refused_before_it_is_read() {
    let gate = gate(None);
    let wrong = post_raw(&gate, Known::Any, "text/plain", Body::from("{}")).await;
    assert_eq!(wrong.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let fine = Body::from(good("v", 1).to_string());
    let fine = post_raw(&gate, Known::Any, "Application/JSON; charset=utf-8", fine).await;
    assert_eq!(fine.status(), StatusCode::OK);
    let large = post_raw(&gate, Known::Any, "application/json", Body::from(vec![b' '; 5000])).await;
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    // Nested deeply, in what would be skipped.
    let deep = format!("{{\"x\": {}", "[".repeat(4000));
    let deep = post_raw(&gate, Known::Any, "application/json", Body::from(deep)).await;
    assert_eq!(deep.status(), StatusCode::BAD_REQUEST);
    let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>("       ")).take_while(|_| async { true });
    let endless = post_raw(&gate, Known::Any, "application/json", Body::from_stream(endless)).await;
    assert_eq!(endless.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let get = Request::get(BIDS_PATH).body(Body::empty()).unwrap();
    assert_eq!(
        TowerToHyperService::new(router(gate, Known::Any)).call(get).await.unwrap().status(),
        StatusCode::METHOD_NOT_ALLOWED
    );
}

#[tokio::test]
async fn a_torrent_that_is_not_here_is_told_so() {
    let gate = gate(None);
    let only = |hash: [u8; 20]| Known::Only(Arc::new([hash].into()));
    let ask = |known| post_raw(&gate, known, "application/json", Body::from(good("v", 1).to_string()));
    let unknown = ask(only([1; 20])).await;
    assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    let told = to_bytes(unknown.into_body(), 1000).await.unwrap();
    assert!(String::from_utf8_lossy(&told).contains("info hash"));
    let mut hash = [0u8; 20];
    for (i, byte) in hash.iter_mut().enumerate() {
        *byte = (i as u8 % 16) * 0x11;
    }
    assert_eq!(ask(only(hash)).await.status(), StatusCode::OK);
}

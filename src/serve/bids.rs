//! `POST /v1/bids`: a viewer says what the swarm is about to miss, and is granted its share of the server at once.
//!
//! `{"info_hash": "40 hex digits", "viewer": "id", "horizon_ms": 15000, "max_bits": n, "due_bits": [n per second]}`, answered by
//! `{"grant_bits": n, "expires_ms": from now on, "grant": "…"}`; or an error's status and `{"error": "a sentence"}`. Fields
//! that are not known here are passed over.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::allocate::{DUE_MOST, Refusal};
use super::gate::{Gate, Reason, viewer_key};
use crate::engine::Bid;

/// Where bids are taken.
pub const BIDS_PATH: &str = "/v1/bids";

/// A bid of 60 seconds in the largest of numbers has 1.5 kB.
const BODY_MOST: usize = 4 * 1024;
/// A bid is one packet. Whoever takes longer to send it than this is after the connection.
const BODY_TIME: Duration = Duration::from_secs(5);
/// A horizon's end is at most so far off, and is not worth a refusal.
const HORIZON_MOST: u64 = 3_600_000;

/// Who asks, as a request extension: set by whoever accepts the connection, from the socket or from what a trusted proxy
/// says. Fairness counts requests to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visitor(pub IpAddr);

/// The torrents that bids may name.
#[derive(Debug, Clone, Default)]
pub enum Known {
    /// Any: the server does not know what its files are of.
    #[default]
    Any,
    /// These info hashes only; others get a 404 that says so.
    Only(Arc<HashSet<[u8; 20]>>),
}

#[derive(Debug, Deserialize)]
struct Said {
    info_hash: String,
    viewer: String,
    #[serde(default)]
    horizon_ms: u64,
    max_bits: u64,
    #[serde(default)]
    due_bits: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Told {
    error: String,
}

#[derive(Clone)]
struct Desk {
    gate: Gate,
    known: Known,
}

/// The route that takes bids. Requests need a [`Visitor`]. Who may bid is for the caller to check before.
pub fn router(gate: Gate, known: Known) -> Router {
    Router::new().route(BIDS_PATH, post(answer)).with_state(Desk { gate, known })
}

async fn answer(State(desk): State<Desk>, request: Request) -> Response {
    let began = Instant::now();
    let visitor = request.extensions().get::<Visitor>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |v| v.0);
    let (head, body) = request.into_parts();
    let said = match read(&head.headers, body).await {
        Ok(said) => said,
        Err(refused) => return refused.told(&desk.gate),
    };
    match desk.granted(visitor, said) {
        Ok(granted) => {
            desk.gate.metrics().gate.bid(began.elapsed().as_secs_f64());
            ([(header::CACHE_CONTROL, "no-store")], Json(granted)).into_response()
        }
        Err(refused) => refused.told(&desk.gate),
    }
}

impl Desk {
    fn granted(&self, visitor: IpAddr, said: Said) -> Result<super::gate::Granted, Refused> {
        let bad = |why: &str| Refused::of(StatusCode::BAD_REQUEST, Reason::Malformed, why);
        let hash = info_hash(&said.info_hash).ok_or_else(|| bad("info_hash is not 40 hex digits."))?;
        let viewer = viewer_key(&said.viewer)
            .ok_or_else(|| bad("viewer is not an id of 1 to 64 letters, digits or -._~ characters."))?;
        if said.horizon_ms > HORIZON_MOST || said.due_bits.len() > DUE_MOST {
            return Err(bad(&format!("The horizon is longer than an hour, or due_bits than {DUE_MOST} seconds.")));
        }
        if let Known::Only(known) = &self.known
            && !known.contains(&hash)
        {
            let why = "No file here is of the torrent with this info hash.";
            return Err(Refused::of(StatusCode::NOT_FOUND, Reason::UnknownTorrent, why));
        }
        let bid = Bid { max_bits: said.max_bits, due_bits: said.due_bits };
        self.gate.bid(viewer, visitor, &bid).map_err(|refusal| {
            let (status, reason, wait) = match refusal {
                Refusal::TooSoon { wait } => (StatusCode::TOO_MANY_REQUESTS, Reason::TooSoon, wait),
                Refusal::Crowded | Refusal::AddressCrowded => {
                    (StatusCode::SERVICE_UNAVAILABLE, Reason::Crowded, Duration::from_secs(2))
                }
                Refusal::Horizon => (StatusCode::BAD_REQUEST, Reason::Malformed, Duration::ZERO),
            };
            let mut refused = Refused::of(status, reason, &sentence(&refusal.to_string()));
            refused.retry_s = wait.as_millis().div_ceil(1000) as u64;
            refused
        })
    }
}

/// A request's bid, read in bounded space and time.
async fn read(headers: &HeaderMap, body: Body) -> Result<Said, Refused> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        let why = "A bid is sent as application/json.";
        return Err(Refused::of(StatusCode::UNSUPPORTED_MEDIA_TYPE, Reason::Malformed, why));
    }
    let bytes = tokio::time::timeout(BODY_TIME, to_bytes(body, BODY_MOST)).await;
    let bytes =
        bytes.map_err(|_| Refused::of(StatusCode::REQUEST_TIMEOUT, Reason::TooSlow, "The bid came too slowly."))?;
    let too_large = |_| Refused::of(StatusCode::PAYLOAD_TOO_LARGE, Reason::TooLarge, "A bid has 4 KiB at most.");
    let bytes = bytes.map_err(too_large)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Refused::of(StatusCode::BAD_REQUEST, Reason::Malformed, &format!("The bid cannot be read: {e}.")))
}

#[derive(Debug)]
struct Refused {
    status: StatusCode,
    reason: Reason,
    why: String,
    /// Zero: asking again does not help.
    retry_s: u64,
}

impl Refused {
    fn of(status: StatusCode, reason: Reason, why: &str) -> Self {
        Self { status, reason, why: why.to_owned(), retry_s: 0 }
    }

    fn told(self, gate: &Gate) -> Response {
        gate.metrics().gate.refused(self.reason);
        let mut response = (self.status, Json(Told { error: self.why })).into_response();
        if self.retry_s > 0 {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(self.retry_s));
        }
        response
    }
}

fn info_hash(hex: &str) -> Option<[u8; 20]> {
    let mut hash = [0; 20];
    if hex.len() != 40 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// With a capital and a full stop.
fn sentence(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).chain(['.']).collect()).unwrap_or_default()
}

//! `POST /v1/bids`: a viewer says what the swarm is about to miss, and is granted its share of the server at once.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::routing::post;

use super::gate::Gate;

/// Where bids are taken.
pub const BIDS_PATH: &str = "/v1/bids";

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

/// The route that takes bids. Requests need a [`Visitor`]. Who may bid is for the caller to check before.
pub fn router(gate: Gate, known: Known) -> Router {
    let _ = (gate, known);
    Router::new().route(BIDS_PATH, post(|| async { StatusCode::NOT_IMPLEMENTED }))
}

//! What the HTTP side counts, for Prometheus.

use axum::http::StatusCode;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Status {
    /// Of the codes this server sends: a dozen.
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Why {
    why: &'static str,
}

/// Counted over the life of the server.
#[derive(Debug, Default)]
pub struct HttpCounts {
    requests: Family<Status, Counter>,
    refused: Family<Why, Counter>,
    broken: Counter,
    stalled: Counter,
}

impl HttpCounts {
    pub fn register(registry: &mut Registry) -> Self {
        let counts = Self::default();
        registry.register("requests", "Requests answered, by status", counts.requests.clone());
        registry.register("refused", "Requests and connections refused, by reason", counts.refused.clone());
        registry.register(
            "broken",
            "Answers broken off by the server: the file changed, or could not be read",
            counts.broken.clone(),
        );
        registry.register(
            "stalled",
            "Connections closed because nothing was taken of an answer",
            counts.stalled.clone(),
        );
        counts
    }

    pub fn answered(&self, status: StatusCode, broken: bool) {
        self.requests.get_or_create(&Status { code: status.as_u16() }).inc();
        if broken {
            self.broken.inc();
        }
    }

    /// A request or a connection was refused.
    pub fn refused(&self, why: &'static str) {
        self.refused.get_or_create(&Why { why }).inc();
    }

    pub fn stalled(&self, connections: usize) {
        self.stalled.inc_by(connections as u64);
    }
}

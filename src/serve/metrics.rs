//! What the server counts, for Prometheus.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::gate::GateCounts;
use super::http::HttpCounts;

/// All that is counted; cheap to clone its parts.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Connections open now.
    pub connections: Gauge,
    /// Of bids, grants and bytes.
    pub gate: GateCounts,
    /// Of requests and connections.
    pub http: HttpCounts,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("sluicegate");
        let connections = Gauge::default();
        registry.register("connections", "Connections open now", connections.clone());
        let http = HttpCounts::register(&mut registry);
        let gate = GateCounts::register(&mut registry);
        Self { registry, connections, gate, http }
    }
}

impl Metrics {
    /// In the text format of OpenMetrics (`application/openmetrics-text; version=1.0.0; charset=utf-8`).
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}

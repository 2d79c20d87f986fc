//! One line in the log for each request, when it is over.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use tokio::time::Instant;

use crate::serve::gate::Gate;

/// What is told of a request; at debug, since a player makes some each second. Written when dropped.
pub struct Told {
    gate: Gate,
    from: IpAddr,
    method: Method,
    path: String,
    status: StatusCode,
    began: Instant,
    bytes: u64,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The reader went away.
    Left,
    Whole,
    Broken,
}

impl Told {
    /// `path` without its query: that may hold a signature.
    pub fn new(gate: Gate, from: IpAddr, method: Method, path: String) -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Self { gate, from, method, path, status, began: Instant::now(), bytes: 0, end: End::Left }
    }

    pub fn status(&mut self, status: StatusCode) {
        self.status = status;
    }

    pub fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// All was handed over.
    pub fn whole(&mut self) {
        self.end = End::Whole;
    }

    /// It could not be finished.
    pub fn broken(&mut self, why: &std::io::Error) {
        self.end = End::Broken;
        // The server's own end is no news.
        if why.kind() != std::io::ErrorKind::ConnectionAborted {
            tracing::warn!(path = self.path, "an answer was broken off: {why}");
        }
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.gate.metrics().http.answered(self.status, self.end == End::Broken);
        let took = millis(self.began.elapsed());
        tracing::debug!(
            from = %self.from,
            method = %self.method,
            path = self.path,
            status = self.status.as_u16(),
            bytes = self.bytes,
            took_ms = took,
            end = match self.end { End::Left => "left", End::Whole => "whole", End::Broken => "broken" },
            "request"
        );
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

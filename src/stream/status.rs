//! What a stream shows of itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::snapshot::{EngineSnapshot, LinkView};
use crate::swarm::api::{DiscoveryStatus, LinkInfo};
use crate::units::LinkId;

/// A stream at one moment.
#[derive(Debug, Clone, Default)]
pub struct StreamStatus {
    pub engine: Arc<EngineSnapshot>,
    pub peers: Arc<[StreamPeer]>,
    pub discovery: DiscoveryStatus,
    /// One line per server: its address, and why it was left if it was.
    pub servers: Vec<String>,
    /// The stream cannot go on: one sentence. What was downloaded stays.
    pub error: Option<String>,
}

/// One connected peer.
#[derive(Debug, Clone)]
pub struct StreamPeer {
    pub info: LinkInfo,
    pub view: LinkView,
}

/// Joins what swarm and engine know of each link.
pub(super) fn peers(links: &BTreeMap<LinkId, LinkInfo>, engine: &EngineSnapshot) -> Arc<[StreamPeer]> {
    engine
        .links
        .iter()
        .filter_map(|view| Some(StreamPeer { info: links.get(&view.link)?.clone(), view: view.clone() }))
        .collect()
}

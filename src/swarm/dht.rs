//! The DHT (BEP 5, 32), by librqbit's node; and the nodes that are remembered, so that the next play finds peers at once.
//!
//! Invariant: the file of nodes is read as the garbage it may be: at most [`MAX_NODES`] of each family, none believed
//! further than that it is worth one question. It does not hold an id of our own, which would tell one user from another.

use std::collections::HashSet;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use librqbit_core::hash_id::Id20;
use librqbit_dht::{Dht, DhtConfig, DhtState};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, sleep, timeout};

use super::api::LinkSource;
use super::discovery::{ends_with, way_changed};
use super::shared::Shared;
use super::{lookup, tracker};
use crate::net::Target;

const RANK: u8 = 2;
const KEY: &str = "dht";

/// Well-known nodes, which only lead to others.
const BOOTSTRAP: [&str; 3] = ["dht.transmissionbt.com:6881", "dht.libtorrent.org:25401", "router.bittorrent.com:6881"];
/// Longest that well-known nodes are looked up before a start; with nodes remembered nobody waits for them.
const LOOKUP: Duration = Duration::from_secs(5);
const LOOKUP_WARM: Duration = Duration::from_millis(300);
/// Nodes that make a start warm.
const WARM: usize = 8;

/// Nodes remembered of each family: the 8 closest to any hash are among the neighbours of any of these.
const MAX_NODES: usize = 200;
/// Of the file; that many lines are 25 kB.
const MAX_FILE: u64 = 64 * 1024;
/// What the file begins with.
const HEAD: &str = "sluicegate dht nodes 1";
/// Nodes are remembered this long after the start, for players that are killed, then again and again.
const FIRST_SAVE: Duration = Duration::from_secs(60);
const SAVE_EVERY: Duration = Duration::from_secs(300);

/// Time until the DHT is tried again after it failed.
const RETRY: Duration = Duration::from_secs(10);

/// Peers of one lookup by proxy that will do for a while; with fewer it is made again sooner.
const ENOUGH: usize = 50;
/// Peers told apart for the count that is shown.
const MAX_COUNTED: usize = 10_000;
const LOOKUP_AGAIN: Duration = Duration::from_secs(60);

/// A node as others know it.
type Node = (Id20, SocketAddr);

/// Looks for peers until the swarm ends or the torrent turns out to be private.
pub async fn run(shared: Arc<Shared>) {
    let route = &shared.config.network.route;
    shared.post(RANK, KEY, "DHT · joining".into());
    let mut nodes = load(shared.config.network.dht_nodes.as_deref()).await;
    if !route.free_datagrams() {
        tokio::select! {
            () = by_proxy(&shared, nodes) => {}
            () = shared.public_discovery.cancelled() => private(&shared),
        }
        return;
    }
    loop {
        let index = route.way().ok().flatten().map(|w| w.index);
        tokio::select! {
            r = once(&shared, &mut nodes) => if let Err(e) = r {
                tracing::debug!("DHT: {e:#}");
                shared.post(RANK, KEY, format!("DHT · {}", words(&e)));
                tokio::select! {
                    () = sleep(RETRY) => {}
                    () = shared.public_discovery.cancelled() => {}
                }
            },
            () = way_changed(&shared, index) => {}
        }
        if shared.public_discovery.is_cancelled() {
            break;
        }
    }
    private(&shared);
}

/// Discovery was ended: where the swarm goes on, since the torrent is private.
fn private(shared: &Shared) {
    if !shared.cancel.is_cancelled() {
        shared.post(RANK, KEY, "DHT · off, the torrent is private".into());
    }
}

/// Lookups through the proxy, where it relays datagrams; we are no node ourselves, since nobody can ask us.
async fn by_proxy(shared: &Shared, mut nodes: Vec<Node>) {
    let network = &shared.config.network;
    let entries: Vec<Target> = bootstrap_names(shared)
        .iter()
        .filter_map(|n| n.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))))
        .map(|(host, port)| match host.parse() {
            Ok(ip) => Target::Addr(SocketAddr::new(ip, port)),
            Err(_) => Target::Name(host.to_owned(), port),
        })
        .collect();
    let mut known = HashSet::new();
    loop {
        let looked = async {
            let mut relay = network.route.relay().await?;
            lookup::run(&mut relay, Id20::new(shared.config.info_hash.0), &nodes, &entries).await
        };
        let (line, pause) = match looked.await {
            Ok(found) => {
                let few = found.peers.len() < ENOUGH;
                known.extend(found.peers.iter().copied().take(MAX_COUNTED.saturating_sub(known.len())));
                shared.found(found.peers, LinkSource::Dht);
                let line = format!("DHT by the proxy · {} nodes · {}", found.nodes.len(), tracker::peers(known.len()));
                keep(shared, &mut nodes, found.nodes).await;
                (line, if few { LOOKUP_AGAIN } else { SAVE_EVERY })
            }
            Err(e) => (format!("DHT · off: {e}"), SAVE_EVERY),
        };
        shared.post(RANK, KEY, line);
        sleep(pause).await;
    }
}

fn words(e: &anyhow::Error) -> String {
    let routed = e.chain().find_map(|e| {
        let io = e.downcast_ref::<io::Error>().and_then(|e| e.get_ref()?.downcast_ref::<crate::net::RouteError>());
        e.downcast_ref::<crate::net::RouteError>().or(io)
    });
    routed.map_or_else(|| "not available".to_owned(), ToString::to_string)
}

/// One node's life: until it fails, or discovery ends. Leaves in `nodes` those it knew.
async fn once(shared: &Arc<Shared>, nodes: &mut Vec<Node>) -> anyhow::Result<()> {
    let (token, _guard) = ends_with(shared);
    let mut bootstrap = bootstrap(shared, nodes.len() >= WARM).await;
    if bootstrap.is_empty() {
        // The crate's node ends when it has nobody to ask at the start.
        bootstrap.extend(nodes.iter().take(WARM).map(|n| n.1.to_string()));
    }
    anyhow::ensure!(!bootstrap.is_empty(), "no node is known");
    let (at, device) = shared.config.network.route.bind_for_crates((std::net::Ipv6Addr::UNSPECIFIED, 0).into())?;
    let start = |at: SocketAddr| {
        let config = DhtConfig {
            bootstrap_addrs: Some(bootstrap.clone()),
            listen_addr: Some(at),
            cancellation_token: Some(token.clone()),
            bind_device: device.as_ref(),
            ..knowing(nodes)
        };
        DhtState::with_config(config)
    };
    let dht = match start(at).await {
        // A machine without IPv6.
        Err(_) if at.ip() == IpAddr::from(std::net::Ipv6Addr::UNSPECIFIED) => {
            start((std::net::Ipv4Addr::UNSPECIFIED, 0).into()).await?
        }
        other => other?,
    };
    let ended = look(shared, &dht, nodes).await;
    remember(shared, &dht, nodes).await;
    ended
}

/// Asks for peers, and shows what comes of it.
async fn look(shared: &Arc<Shared>, dht: &Dht, nodes: &mut Vec<Node>) -> anyhow::Result<()> {
    let mut show = interval(Duration::from_secs(1));
    let mut save = interval_at(Instant::now() + FIRST_SAVE, SAVE_EVERY);
    save.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut found = 0usize;
    loop {
        let port = shared.public_port();
        let mut peers = dht.get_peers(Id20::new(shared.config.info_hash.0), port);
        while port == shared.public_port() {
            tokio::select! {
                addr = peers.next() => {
                    let Some(addr) = addr else { anyhow::bail!("the DHT ended") };
                    // Nobody out there knows who listens on this machine.
                    if !addr.ip().to_canonical().is_loopback() || !shared.config.network.dht_bootstrap.is_empty() {
                        found += 1;
                        shared.found([addr], LinkSource::Dht);
                    }
                }
                _ = show.tick() => {
                    let stats = dht.stats();
                    let line = match stats.routing_table_size + stats.routing_table_size_v6 {
                        0 => "DHT · joining".into(),
                        1 => format!("DHT · 1 node · {}", tracker::peers(found)),
                        n => format!("DHT · {n} nodes · {}", tracker::peers(found)),
                    };
                    shared.post(RANK, KEY, line);
                }
                _ = save.tick() => remember(shared, dht, nodes).await,
                () = shared.public_discovery.cancelled() => return Ok(()),
            }
        }
    }
}

fn bootstrap_names(shared: &Shared) -> Vec<String> {
    let mut names: Vec<String> = match shared.config.network.dht_bootstrap.as_slice() {
        [] => BOOTSTRAP.map(str::to_owned).into(),
        own => own.to_vec(),
    };
    // Those of the torrent itself (BEP 5).
    names.extend(shared.config.nodes.iter().map(|(host, port)| match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }));
    names
}

/// Where the DHT is joined. The crate looks names up by the system's resolver, so that it gets names only where that is
/// the way out.
async fn bootstrap(shared: &Shared, warm: bool) -> Vec<String> {
    let network = &shared.config.network;
    let names = bootstrap_names(shared);
    if network.route.is_direct() {
        return names;
    }
    let lookup = async |name: &String| {
        let (host, port) = name.rsplit_once(':')?;
        network.route.lookup(host, port.parse().ok()?).await.ok()
    };
    let all = futures::future::join_all(names.iter().map(lookup));
    let found = timeout(if warm { LOOKUP_WARM } else { LOOKUP }, all).await.unwrap_or_default();
    found.into_iter().flatten().flatten().map(|a| a.to_string()).collect()
}

/// A node that knows these others. Its id is new: of the crate's own choice half is the same in each of its nodes.
fn knowing(nodes: &[Node]) -> DhtConfig<'static> {
    let id = Id20::new(rand::random());
    // The type of a table has no name outside the crate, so that one is made from text.
    let table = || empty_table(id);
    let mut config = DhtConfig {
        peer_id: Some(id),
        routing_table: serde_json::from_value(table()).ok(),
        routing_table_v6: serde_json::from_value(table()).ok(),
        ..DhtConfig::default()
    };
    for (id, addr) in nodes {
        let table = if addr.is_ipv6() { &mut config.routing_table_v6 } else { &mut config.routing_table };
        if let Some(table) = table {
            let _ = table.add_node(*id, *addr);
        }
    }
    config
}

/// As the crate writes a routing table in which there is nothing.
fn empty_table(id: Id20) -> serde_json::Value {
    serde_json::json!({
        "id": id.as_string(),
        "size": 0,
        "buckets": {
            "data": [{
                "bits": 160,
                "start": "00".repeat(20),
                "end_inclusive": "ff".repeat(20),
                "data": { "Leaf": { "nodes": [] } },
            }],
            "size": 0,
            "max_size": 512,
        },
    })
}

/// The nodes it knows, those that answered last first; kept in `nodes` and written to the file.
async fn remember(shared: &Shared, dht: &Dht, nodes: &mut Vec<Node>) {
    let near = Id20::new(shared.config.info_hash.0);
    let known: Vec<Node> = dht.with_routing_tables(|v4, v6| {
        let now = std::time::Instant::now();
        let best = |n: Vec<Node>| n.into_iter().take(MAX_NODES);
        let v4 = v4.sorted_by_distance_from(near, now).iter().map(|n| (n.id(), n.addr())).collect();
        let v6 = v6.sorted_by_distance_from(near, now).iter().map(|n| (n.id(), n.addr())).collect();
        best(v4).chain(best(v6)).collect()
    });
    keep(shared, nodes, known).await;
}

/// The same for nodes that came otherwise. None is no news.
async fn keep(shared: &Shared, nodes: &mut Vec<Node>, known: Vec<Node>) {
    if known.is_empty() {
        return;
    }
    nodes.clone_from(&known);
    let Some(path) = shared.config.network.dht_nodes.clone() else { return };
    let saved = tokio::task::spawn_blocking(move || write(&path, &known)).await;
    if let Ok(Err(e)) = saved {
        tracing::debug!("the DHT's nodes were not saved: {e}");
    }
}

/// Replaces the file as a whole; only the user may read it.
fn write(path: &Path, nodes: &[Node]) -> io::Result<()> {
    let lines = nodes.iter().map(|(id, addr)| format!("{} {addr}\n", id.as_string()));
    let text: String = std::iter::once(format!("{HEAD}\n")).chain(lines).collect();
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let temp = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options.open(&temp).and_then(|mut f| io::Write::write_all(&mut f, text.as_bytes()));
    let placed = written.and_then(|()| std::fs::rename(&temp, path));
    if placed.is_err() {
        // Best effort: the error that matters is the one returned.
        let _ = std::fs::remove_file(&temp);
    }
    placed
}

async fn load(path: Option<&Path>) -> Vec<Node> {
    let Some(path) = path.map(Path::to_owned) else { return Vec::new() };
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        // What comes after that many bytes is left out.
        let read = std::fs::File::open(path).and_then(|f| f.take(MAX_FILE).read_to_end(&mut bytes));
        read.map(|_| parse(&String::from_utf8_lossy(&bytes)))
    });
    read.await.ok().and_then(Result::ok).unwrap_or_default()
}

/// Lines that are no node are left out.
fn parse(text: &str) -> Vec<Node> {
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        return Vec::new();
    }
    let mut left = [MAX_NODES; 2];
    let node = |l: &str| {
        let (id, addr) = l.split_once(' ')?;
        let addr: SocketAddr = addr.parse().ok()?;
        let asked = addr.port() != 0 && !addr.ip().is_unspecified() && !addr.ip().is_multicast();
        let id = id.parse::<Id20>().ok().filter(|_| id.len() == 40)?;
        asked.then_some((id, addr))
    };
    let mut take = |n: &Node| {
        let left = &mut left[usize::from(n.1.is_ipv6())];
        *left = left.saturating_sub(1);
        *left > 0
    };
    lines.filter_map(node).filter(|n| take(n)).collect()
}

#[cfg(test)]
#[path = "dht_tests.rs"]
mod tests;

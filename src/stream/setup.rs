//! From what the user named to a running driver: metadata from peers, a video's length from its server, the store.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::driver::{Driver, Parts};
use super::{Order, Shared, StreamConfig, StreamError, StreamSource, StreamStatus};
use crate::engine::{Engine, Event};
use crate::origin::{Bidder, get_small, probe_url};
use crate::swarm::Swarm;
use crate::swarm::api::{KnownTorrent, LinkInfo, SwarmConfig, SwarmEvent};
use crate::torrent::{DiskPool, Magnet, Metainfo, Store, StoreError};
use crate::units::{LinkId, PieceSet};

/// Events of the swarm that may wait for the driver: a few milliseconds of blocks at gigabit speed, then sockets wait.
const SWARM_EVENTS: usize = 1024;
/// The same for chunks of ranged GETs.
const ORIGIN_EVENTS: usize = 256;
/// Threads for the store: one hashes while another writes.
const DISK_THREADS: usize = 2;
const PUBLISH_EVERY: Duration = Duration::from_millis(250);
/// The largest .torrent file that is taken from an address in a magnet link.
const MAX_TORRENT: usize = 64 << 20;

/// Runs a stream from start to stop. Failures are told to the viewer and leave what was downloaded as it is.
pub(super) async fn run(
    rt: Handle,
    source: StreamSource,
    config: StreamConfig,
    shared: Arc<Shared>,
    events: UnboundedReceiver<Event>,
    mut orders: UnboundedReceiver<Order>,
) {
    let (swarm_tx, swarm_rx) = mpsc::channel(SWARM_EVENTS);
    let plain_url = match &source {
        StreamSource::Video { url } => Some(url.clone()),
        _ => None,
    };
    let mut prelude = Prelude { links: BTreeMap::new(), swarm: None, swarm_rx };
    let opened = tokio::select! {
        stopped = orders.recv() => {
            if let Some(Order::Stop(done)) = stopped { let _ = done.send(()); }
            if let Some(swarm) = &prelude.swarm { swarm.shutdown().await; }
            return;
        }
        opened = prelude.open(&rt, source, &config, &shared, swarm_tx.clone()) => opened,
    };
    let (meta, store, have) = match opened {
        Ok(opened) => opened,
        Err(e) => {
            refuse(&shared, &mut orders, &e).await;
            return;
        }
    };
    // What is on disk plays without anybody.
    let on_disk = have.count() + store.unproven().count() > 0;
    if !config.use_swarm && !config.use_server && plain_url.is_none() && !on_disk {
        refuse(&shared, &mut orders, &StreamError::NoSource).await;
        return;
    }
    let (origin_tx, origin_rx) = mpsc::channel(ORIGIN_EVENTS);
    let (origins, refused) = if config.use_server || plain_url.is_some() {
        super::origins::Servers::start(
            &rt,
            &meta,
            plain_url.as_deref(),
            &config.web_seeds,
            &config.network.route,
            bidder(&meta),
            &origin_tx,
        )
    } else {
        Default::default()
    };
    let store = Arc::new(store);
    let seed = seed_of(&meta);
    let rules = crate::engine::Config { priority: config.priority, ..Default::default() };
    let mut engine = Engine::new(meta.layout, have, seed, rules);
    engine.set_padding(meta.files.iter().filter(|f| f.padding && !f.range.is_empty()).map(|f| f.range).collect());
    shared.known.store(Some(Arc::new((meta.clone(), store.clone()))));
    (shared.wake)();
    let parts = Parts {
        engine,
        meta,
        pool: Arc::new(DiskPool::new(store.clone(), DISK_THREADS)),
        store,
        swarm: prelude.swarm,
        links: prelude.links,
        swarm_rx: prelude.swarm_rx,
        origins,
        refused,
        origin_rx,
        // Kept so that the channels never close while the driver runs.
        _keep: (swarm_tx, origin_tx),
    };
    Driver::new(parts, shared).run(events, orders).await;
}

/// Tells why nothing can be streamed, until the viewer lets go.
async fn refuse(shared: &Shared, orders: &mut UnboundedReceiver<Order>, why: &StreamError) {
    shared.fail(&why.to_string());
    if let Some(Order::Stop(done)) = orders.recv().await {
        let _ = done.send(());
    }
}

/// The swarm before the torrent is known.
struct Prelude {
    links: BTreeMap<LinkId, LinkInfo>,
    swarm: Option<Swarm>,
    swarm_rx: mpsc::Receiver<SwarmEvent>,
}

impl Prelude {
    async fn open(
        &mut self,
        rt: &Handle,
        source: StreamSource,
        config: &StreamConfig,
        shared: &Shared,
        events: mpsc::Sender<SwarmEvent>,
    ) -> Result<(Arc<Metainfo>, Store, PieceSet), StreamError> {
        match source {
            StreamSource::Torrent(meta) => {
                let (store, have) = open_store(config, &meta).await?;
                if config.use_swarm {
                    let known = known(&meta, &have);
                    self.start(rt, swarm_config(&meta, &[], config), Some(known), events)?;
                }
                Ok((meta, store, have))
            }
            StreamSource::Seed(place) => {
                let opened = tokio::task::spawn_blocking(move || Store::in_place(&place)).await;
                let (store, have) = opened.unwrap_or(Err(StoreError::Closed))?;
                let meta = store.meta().clone();
                if config.use_swarm {
                    self.start(rt, swarm_config(&meta, &[], config), Some(known(&meta, &have)), events)?;
                }
                Ok((meta, store, have))
            }
            StreamSource::Magnet(magnet) => {
                if let Some(meta) = cached(config, &magnet).await {
                    let meta = Arc::new(meta);
                    let (store, have) = open_store(config, &meta).await?;
                    if config.use_swarm {
                        let known = known(&meta, &have);
                        self.start(rt, swarm_config(&meta, &magnet.peers, config), Some(known), events)?;
                    }
                    return Ok((meta, store, have));
                }
                if !config.use_swarm {
                    return Err(StreamError::NeedsPeers);
                }
                // Without peers there is nobody to ask for the metadata, whatever servers the link names.
                self.start(rt, magnet_config(&magnet, config), None, events)?;
                let info = tokio::select! {
                    info = self.metadata(shared) => info,
                    info = from_sources(&magnet, config) => info,
                };
                let meta = Arc::new(Metainfo::from_info(info, &magnet)?);
                let (store, have) = open_store(config, &meta).await?;
                if let Some(swarm) = &self.swarm {
                    swarm.set_torrent(known(&meta, &have));
                }
                Ok((meta, store, have))
            }
            StreamSource::Video { url } => {
                let probe =
                    probe_url(&config.network.route, &url).await.map_err(|e| StreamError::Origin(e.to_string()))?;
                let meta = Metainfo::plain_video(&url, probe.len)
                    .ok_or_else(|| StreamError::Origin("This video has no length, so it cannot be streamed.".into()))?;
                let meta = Arc::new(meta);
                let (store, have) = open_store(config, &meta).await?;
                Ok((meta, store, have))
            }
        }
    }

    fn start(
        &mut self,
        rt: &Handle,
        config: SwarmConfig,
        known: Option<KnownTorrent>,
        events: mpsc::Sender<SwarmEvent>,
    ) -> Result<(), StreamError> {
        self.swarm = Some(Swarm::start(rt, config, known, events).map_err(|e| StreamError::Swarm(e.to_string()))?);
        Ok(())
    }

    /// Waits for the info dictionary, and shows meanwhile who was found.
    async fn metadata(&mut self, shared: &Shared) -> bytes::Bytes {
        let mut publish = tokio::time::interval(PUBLISH_EVERY);
        loop {
            tokio::select! {
                event = self.swarm_rx.recv() => match event {
                    Some(SwarmEvent::Metadata(info)) => return info,
                    Some(SwarmEvent::Up { link, info }) => { self.links.insert(link, info); }
                    Some(SwarmEvent::Down { link, .. }) => { self.links.remove(&link); }
                    Some(SwarmEvent::Client { link, client }) => {
                        if let Some(l) = self.links.get_mut(&link) { l.client = client; }
                    }
                    Some(_) => {}
                    None => pending::<()>().await,
                },
                _ = publish.tick() => {
                    let discovery = self.swarm.as_ref().map(Swarm::status).unwrap_or_default();
                    shared.status.store(Arc::new(StreamStatus { discovery, ..StreamStatus::default() }));
                    (shared.wake)();
                }
            }
        }
    }
}

/// Who bids: an id drawn for this stream alone, so that nobody can tell two streams of one viewer.
fn bidder(meta: &Metainfo) -> Bidder {
    Bidder { viewer: format!("{:032x}", rand::random::<u128>()), info_hash: meta.info_hash.to_string() }
}

/// Ties are broken by the torrent and the process: viewers of one film do not all want the same rare piece first.
fn seed_of(meta: &Metainfo) -> u64 {
    let hash = meta.info_hash.0.iter().fold(0u64, |h, b| h.rotate_left(7) ^ u64::from(*b));
    hash ^ u64::from(std::process::id()) << 32
}

fn known(meta: &Metainfo, have: &PieceSet) -> KnownTorrent {
    KnownTorrent { layout: meta.layout, info_bytes: meta.info_bytes.clone(), private: meta.private, have: have.clone() }
}

fn swarm_config(meta: &Metainfo, peers: &[std::net::SocketAddr], config: &StreamConfig) -> SwarmConfig {
    SwarmConfig {
        info_hash: meta.info_hash,
        listen: config.listen,
        peers: config.peers.iter().chain(peers).copied().collect(),
        trackers: meta.trackers.clone(),
        nodes: meta.nodes.clone(),
        dht: config.dht,
        lsd: config.lsd,
        pex: config.pex,
        private: meta.private,
        max_links: config.max_links,
        encryption: config.encryption,
        utp: config.utp,
        network: config.network.clone(),
    }
}

fn magnet_config(magnet: &Magnet, config: &StreamConfig) -> SwarmConfig {
    SwarmConfig {
        info_hash: magnet.info_hash,
        listen: config.listen,
        peers: config.peers.iter().chain(&magnet.peers).copied().collect(),
        trackers: magnet.trackers.iter().map(|t| vec![t.clone()]).collect(),
        nodes: Vec::new(),
        dht: config.dht,
        lsd: config.lsd,
        pex: config.pex,
        private: false,
        max_links: config.max_links,
        encryption: config.encryption,
        utp: config.utp,
        network: config.network.clone(),
    }
}

/// The info dictionary from a .torrent file behind one of the link's own addresses (`xs=`), whichever is first to have the
/// right one; else never.
async fn from_sources(magnet: &Magnet, config: &StreamConfig) -> bytes::Bytes {
    let sources = magnet.sources.iter().filter(|_| config.use_server);
    let mut asked: FuturesUnordered<_> = sources
        .map(async |url| {
            let file = get_small(&config.network.route, url, MAX_TORRENT).await.ok()?;
            let parsed = tokio::task::spawn_blocking(move || Metainfo::parse(&file)).await.ok()?;
            parsed.ok().filter(|m| m.info_hash == magnet.info_hash).map(|m| m.info_bytes)
        })
        .collect();
    while let Some(answer) = asked.next().await {
        if let Some(info) = answer {
            return info;
        }
    }
    pending().await
}

/// The metadata of a magnet that was opened before.
async fn cached(config: &StreamConfig, magnet: &Magnet) -> Option<Metainfo> {
    let (dir, magnet) = (config.cache_dir.clone(), magnet.clone());
    tokio::task::spawn_blocking(move || Metainfo::cached(&dir, &magnet)).await.ok().flatten()
}

/// Opens the store off the network threads.
async fn open_store(config: &StreamConfig, meta: &Arc<Metainfo>) -> Result<(Store, PieceSet), StreamError> {
    let (dir, meta) = (config.cache_dir.clone(), meta.clone());
    match tokio::task::spawn_blocking(move || Store::open(&dir, meta)).await {
        Ok(opened) => Ok(opened?),
        Err(_) => Err(StreamError::Origin("Opening the cache folder failed unexpectedly.".into())),
    }
}

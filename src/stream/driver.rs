//! The loop that carries out: events from sockets, store and reader into the engine, its actions out to them.
//!
//! Invariant: no block is written while another source's write of it runs, nor once it is here. Otherwise a late answer of a liar
//! could land behind the hash check.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc::{Receiver, Sender, UnboundedReceiver};
use tokio::time::Instant as Clock;

use super::origins::Servers;
use super::status::peers;
use super::wanted::{self, Wanted};
use super::{Order, Shared, StreamStatus};
use crate::engine::{Action, Engine, Event};
use crate::origin::BidOut;
use crate::origin::api::OriginEvent;
use crate::swarm::Swarm;
use crate::swarm::api::{LinkCommand, LinkInfo, SwarmEvent};
use crate::torrent::{DiskPool, Metainfo, Store, StoreError};
use crate::units::{BLOCK_LEN, BlockRef, ByteRange, FetchId, Instant, Layout, LinkId, PieceIndex};

/// Blocks being written, and jobs of the store, before sockets are read on: 32 MiB of blocks.
const JOBS: usize = 2048;
/// Blocks handed to the disk at once: they came together, and one wakeup writes them all.
const WRITE_BATCH: usize = 64;
/// Pieces of an earlier run hashed at a time.
const PROVING: usize = 2;
/// Events taken in before the engine decides once about all of them.
const BATCH: usize = 256;
const PUBLISH_EVERY: Duration = Duration::from_millis(250);
const SAVE_EVERY: Duration = Duration::from_secs(30);

/// What a driver is made of.
pub(super) struct Parts {
    pub engine: Engine,
    pub meta: Arc<Metainfo>,
    pub store: Arc<Store>,
    pub pool: Arc<DiskPool>,
    pub swarm: Option<Swarm>,
    pub links: BTreeMap<LinkId, LinkInfo>,
    pub swarm_rx: Receiver<SwarmEvent>,
    pub origins: Servers,
    pub refused: Vec<String>,
    pub origin_rx: Receiver<OriginEvent>,
    pub _keep: (Sender<SwarmEvent>, Sender<OriginEvent>),
}

/// A job of the store that ended.
enum Done {
    Blocks(Vec<(LinkId, BlockRef)>, Result<(), StoreError>),
    Server(FetchId, u64, Vec<BlockRef>, Result<(), StoreError>),
    Verify(PieceIndex, Result<bool, StoreError>),
    /// A piece whose hash does not check, with a sum of each of its blocks.
    Corrupt(PieceIndex, Vec<u64>),
    Sums(PieceIndex, Vec<u64>),
    /// A piece that lay on disk without proof was hashed.
    Proven(PieceIndex, bool),
    Read(Wanted, Result<Bytes, StoreError>),
}

/// One running stream.
pub(super) struct Driver {
    p: Parts,
    shared: Arc<Shared>,
    start: Clock,
    jobs: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Blocks with writes under way: whose, and how many (a range comes in chunks that end within blocks).
    writing: HashMap<BlockRef, (Option<FetchId>, u32)>,
    /// Blocks of peers that came since the engine last decided, with where each goes.
    came: Vec<(LinkId, BlockRef)>,
    came_bytes: Vec<(u64, Bytes)>,
    /// What peers are to be sent, as far as the engine has just said.
    wanted: Vec<Wanted>,
    unproven: VecDeque<PieceIndex>,
    /// Keys the sums of blocks: a liar who does not know it cannot make a false block look like the true one.
    sum_key: RandomState,
    actions: Vec<Action>,
    published: Clock,
    /// Something happened since.
    unpublished: bool,
    saved: Clock,
    dirty: bool,
    failed: bool,
}

impl Driver {
    pub fn new(parts: Parts, shared: Arc<Shared>) -> Self {
        let now = Clock::now();
        Self {
            p: parts,
            shared,
            start: now,
            jobs: FuturesUnordered::new(),
            writing: HashMap::new(),
            came: Vec::new(),
            came_bytes: Vec::new(),
            wanted: Vec::new(),
            unproven: VecDeque::new(),
            sum_key: RandomState::new(),
            actions: Vec::new(),
            published: now - PUBLISH_EVERY,
            unpublished: true,
            saved: now,
            dirty: false,
            failed: false,
        }
    }

    fn now(&self) -> Instant {
        Instant(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// Runs until told to stop.
    pub async fn run(mut self, mut events: UnboundedReceiver<Event>, mut orders: UnboundedReceiver<Order>) {
        let mut batch: Vec<Event> = Vec::with_capacity(BATCH);
        for range in self.here_before() {
            self.shared.shelf.playable(range);
        }
        self.unproven = self.p.store.unproven().iter().collect();
        (0..PROVING).for_each(|_| self.prove_next());
        batch.extend(self.p.links.iter().map(|(link, info)| Event::LinkUp { link: *link, rtt: info.rtt }));
        batch.extend(self.p.origins.ids().into_iter().map(|origin| Event::OriginUp {
            origin,
            bidding: None,
            rtt: None,
        }));
        loop {
            let now = self.now();
            for event in batch.iter().filter(|e| !matches!(e, Event::Tick | Event::Bitfield { .. })) {
                tracing::trace!(at = now.as_secs_f64(), ?event);
            }
            self.p.engine.handle_all(now, batch.drain(..), &mut self.actions);
            self.carry_out();
            self.publish(now);
            self.save_now_and_then();
            let wakeup = self.p.engine.next_wakeup().map(|t| self.start + Duration::from_nanos(t.0));
            // The last of several changes must show as well, also when nothing follows it.
            let publish = (self.unpublished && !self.failed).then(|| self.published + PUBLISH_EVERY);
            let room = self.room();
            tokio::select! {
                biased;
                order = orders.recv() => {
                    self.stop().await;
                    if let Some(Order::Stop(done)) = order { let _ = done.send(()); }
                    return;
                }
                Some(event) = events.recv() => batch.push(event),
                Some(done) = self.jobs.next(), if !self.jobs.is_empty() => self.done(done, &mut batch),
                Some(event) = self.p.origin_rx.recv(), if room => self.take_origin(event, &mut batch),
                Some(event) = self.p.swarm_rx.recv(), if room => self.take_swarm(event, &mut batch),
                () = sleep_until(wakeup) => batch.push(Event::Tick),
                () = sleep_until(publish) => continue,
            }
            self.unpublished = true;
            self.drain(&mut events, &mut batch);
        }
    }

    /// Whether more may be taken from sockets.
    fn room(&self) -> bool {
        self.jobs.len() + self.writing.len() < JOBS
    }

    /// Takes what else is there without waiting, so that the engine decides about it at once.
    fn drain(&mut self, events: &mut UnboundedReceiver<Event>, batch: &mut Vec<Event>) {
        while batch.len() < BATCH {
            let Ok(event) = events.try_recv() else { break };
            batch.push(event);
        }
        while batch.len() < BATCH && !self.jobs.is_empty() {
            let Some(Some(done)) = self.jobs.next().now_or_never() else { break };
            self.done(done, batch);
        }
        while batch.len() < BATCH && self.room() {
            let Ok(event) = self.p.origin_rx.try_recv() else { break };
            self.take_origin(event, batch);
        }
        while batch.len() < BATCH && self.came.len() < WRITE_BATCH && self.room() {
            let Ok(event) = self.p.swarm_rx.try_recv() else { break };
            self.take_swarm(event, batch);
        }
        self.write_what_came();
    }

    /// Hands the blocks that peers sent to the disk, all with one call.
    fn write_what_came(&mut self) {
        if self.came.is_empty() {
            return;
        }
        let (came, bytes) = (std::mem::take(&mut self.came), std::mem::take(&mut self.came_bytes));
        let pool = self.p.pool.clone();
        self.jobs.push(async move { Done::Blocks(came, pool.write_all(bytes).await) }.boxed());
    }

    fn here_before(&self) -> Vec<ByteRange> {
        self.p.engine.verified().iter().map(|p| self.p.meta.layout.piece_range(p)).collect()
    }

    fn take_swarm(&mut self, event: SwarmEvent, batch: &mut Vec<Event>) {
        if matches!(event, SwarmEvent::Block { .. }) {
            self.shared.first_byte.get_or_init(std::time::Instant::now);
        }
        let block = |piece, begin: u32| BlockRef { piece, block: begin / BLOCK_LEN };
        batch.push(match event {
            SwarmEvent::Metadata(_) => return,
            SwarmEvent::Up { link, info } => {
                let rtt = info.rtt;
                self.p.links.insert(link, info);
                Event::LinkUp { link, rtt }
            }
            SwarmEvent::Client { link, client } => {
                if let Some(l) = self.p.links.get_mut(&link) {
                    l.client = client;
                }
                return;
            }
            SwarmEvent::Down { link, .. } => {
                self.p.links.remove(&link);
                Event::LinkDown { link }
            }
            SwarmEvent::Bitfield { link, pieces } => Event::Bitfield { link, pieces },
            SwarmEvent::Have { link, piece } => Event::Have { link, piece },
            SwarmEvent::Choked { link } => Event::Choked { link },
            SwarmEvent::Unchoked { link } => Event::Unchoked { link },
            SwarmEvent::Interested { link, interested } => Event::Interested { link, interested },
            SwarmEvent::Block { link, piece, begin, data } => {
                let block = block(piece, begin);
                let range = self.p.meta.layout.block_range(block);
                // Only whole blocks are ever asked for.
                if !begin.is_multiple_of(BLOCK_LEN) || range.len() != data.len() as u64 {
                    return;
                }
                if !self.p.engine.takes(link, block) || !self.begin(block, None) {
                    batch.push(Event::BlockDuplicate { link, block });
                    return;
                }
                self.came.push((link, block));
                self.came_bytes.push((range.start, data));
                return;
            }
            SwarmEvent::Rejected { link, piece, begin, .. } => {
                Event::BlockRejected { link, block: block(piece, begin) }
            }
            SwarmEvent::DontHave { link, piece } => Event::DontHave { link, piece },
            SwarmEvent::AllowedFast { link, piece } => Event::AllowedFast { link, piece },
            SwarmEvent::Suggested { link, piece } => Event::Suggested { link, piece },
            SwarmEvent::FastGranted { link, piece } => Event::FastGranted { link, piece },
            SwarmEvent::Requested { link, piece, begin, len } => Event::BlockRequested { link, piece, begin, len },
            SwarmEvent::Unrequested { link, piece, begin, len } => Event::BlockUnrequested { link, piece, begin, len },
            SwarmEvent::Sent { link, len } => Event::BlockSent { link, len },
        });
    }

    fn take_origin(&mut self, event: OriginEvent, batch: &mut Vec<Event>) {
        match event {
            OriginEvent::Up { origin, bidding, rtt } => {
                self.p.origins.back(origin);
                batch.push(Event::OriginUp { origin, bidding, rtt });
            }
            OriginEvent::Down { origin, reason } => {
                self.p.origins.leave(origin, reason);
                batch.push(Event::OriginDown { origin });
            }
            OriginEvent::Granted { origin, name, bits, life } => {
                let expires = self.now() + life;
                let grant = self.p.origins.granted(name);
                batch.push(Event::Granted { origin, grant, bits, expires });
            }
            OriginEvent::BidFailed { origin, plain } => batch.push(Event::BidFailed { origin, plain }),
            OriginEvent::Bytes { fetch, offset, data } => {
                self.shared.first_byte.get_or_init(std::time::Instant::now);
                if self.p.origins.begin_write(fetch, offset, &data) {
                    self.write_from_server(fetch, offset, data);
                }
            }
            OriginEvent::Done { fetch } => {
                if let Some(whole) = self.p.origins.end(fetch, true) {
                    batch.push(ended(fetch, whole));
                }
            }
            OriginEvent::Failed { fetch, reason } => {
                tracing::debug!(?fetch, reason, "a range failed");
                if let Some(whole) = self.p.origins.end(fetch, false) {
                    batch.push(ended(fetch, whole));
                }
            }
        }
    }

    /// Hashes the next piece that lay on disk without proof: a few at a time, so that sockets need not wait.
    fn prove_next(&mut self) {
        if let Some(piece) = self.unproven.pop_front() {
            let pool = self.p.pool.clone();
            self.jobs.push(async move { Done::Proven(piece, pool.verify(piece).await.unwrap_or(false)) }.boxed());
        }
    }

    /// Whether a write of the block may begin: it is not here, and nobody else's write of it runs.
    fn begin(&mut self, block: BlockRef, by: Option<FetchId>) -> bool {
        if self.p.engine.has_block(block) {
            return false;
        }
        match self.writing.entry(block) {
            Entry::Vacant(e) => {
                e.insert((by, 1));
                true
            }
            Entry::Occupied(mut e) if by.is_some() && e.get().0 == by => {
                e.get_mut().1 += 1;
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    fn end(&mut self, block: BlockRef) {
        if let Entry::Occupied(mut e) = self.writing.entry(block) {
            e.get_mut().1 -= 1;
            if e.get().1 == 0 {
                e.remove();
            }
        }
    }

    /// Writes those blocks of a chunk that are still missing.
    fn write_from_server(&mut self, fetch: FetchId, offset: u64, data: Bytes) {
        let layout = self.p.meta.layout;
        let end = offset + data.len() as u64;
        let chunk = ByteRange::new(offset, end);
        let mut parts: Vec<(u64, Bytes)> = Vec::new();
        let mut blocks = Vec::new();
        for block in layout.blocks_in(chunk) {
            if !self.begin(block, Some(fetch)) {
                continue;
            }
            blocks.push(block);
            let r = layout.block_range(block).intersect(chunk);
            match parts.last_mut() {
                // Neighbours go to disk in one write.
                Some((at, bytes)) if *at + bytes.len() as u64 == r.start => {
                    *bytes = data.slice((*at - offset) as usize..(r.end - offset) as usize);
                }
                _ => parts.push((r.start, data.slice((r.start - offset) as usize..(r.end - offset) as usize))),
            }
        }
        let pool = self.p.pool.clone();
        let job = async move { Done::Server(fetch, end, blocks, pool.write_all(parts).await) };
        self.jobs.push(job.boxed());
    }

    fn done(&mut self, done: Done, batch: &mut Vec<Event>) {
        match done {
            Done::Blocks(blocks, Ok(())) => {
                for (link, block) in blocks {
                    self.end(block);
                    batch.push(Event::BlockArrived { link, block });
                }
            }
            Done::Server(fetch, end, blocks, Ok(())) => {
                for b in blocks {
                    self.end(b);
                }
                let step = self.p.origins.end_write(fetch, end);
                batch.extend(step.upto.map(|upto| Event::ServerBytes { fetch, upto }));
                batch.extend(step.ended.map(|whole| ended(fetch, whole)));
            }
            Done::Verify(piece, Ok(true)) => {
                self.dirty = true;
                batch.push(Event::PieceVerified { piece });
            }
            Done::Verify(piece, Ok(false)) => batch.push(Event::PieceCorrupt { piece }),
            Done::Corrupt(piece, sums) => {
                batch.push(Event::Sums { piece, sums });
                batch.push(Event::PieceCorrupt { piece });
            }
            Done::Sums(piece, sums) => batch.push(Event::Sums { piece, sums }),
            // Bytes of an earlier run, unless somebody has begun to write over them since.
            Done::Proven(piece, proven) => {
                self.prove_next();
                let free = self.p.engine.untouched(piece) && self.writing.keys().all(|b| b.piece != piece);
                if proven && free {
                    self.dirty = true;
                    batch.push(Event::PieceVerified { piece });
                }
            }
            Done::Read(Wanted { link, piece, blocks, .. }, Ok(mut data)) => {
                for (begin, len) in blocks {
                    let data = data.split_to(data.len().min(len as usize));
                    self.send(link, LinkCommand::Send { piece, begin, data });
                }
            }
            // A block that cannot be read is not sent; the peer asks again or somebody else. Of a piece that is gone no
            // peer asks any more, once all know.
            Done::Read(Wanted { link, piece, blocks, .. }, Err(e)) => {
                tracing::warn!("cannot read for a peer: {e}");
                for (begin, len) in blocks {
                    self.send(link, LinkCommand::Reject { piece, begin, len });
                    batch.push(Event::BlockUnrequested { link, piece, begin, len });
                }
                if let (StoreError::Gone, Some(swarm)) = (&e, &self.p.swarm) {
                    swarm.retract(piece);
                }
            }
            Done::Blocks(_, Err(e)) | Done::Server(_, _, _, Err(e)) | Done::Verify(_, Err(e)) => self.fail(&e),
        }
    }

    /// The disk refuses: no more is asked for, what is here stays.
    fn fail(&mut self, e: &StoreError) {
        self.failed = true;
        self.shared.fail(&e.to_string());
    }

    fn send(&self, link: LinkId, command: LinkCommand) {
        if let Some(swarm) = &self.p.swarm {
            swarm.send(link, command);
        }
    }

    fn carry_out(&mut self) {
        let layout = self.p.meta.layout;
        for action in std::mem::take(&mut self.actions) {
            tracing::trace!(at = self.start.elapsed().as_secs_f64(), ?action);
            match action {
                Action::Request { .. } | Action::Fetch { .. } if self.failed => {}
                Action::Request { link, block } | Action::Cancel { link, block } => {
                    let (piece, begin) = (block.piece, block.block * BLOCK_LEN);
                    let len = layout.block_range(block).len() as u32;
                    let asks = matches!(action, Action::Request { .. });
                    let command = match asks {
                        true => LinkCommand::Request { piece, begin, len },
                        false => LinkCommand::Cancel { piece, begin, len },
                    };
                    self.send(link, command);
                }
                Action::Interest { link, interested } => self.send(link, LinkCommand::Interested(interested)),
                Action::Choke { link, choke } => self.send(link, LinkCommand::Choke(choke)),
                Action::RejectBlock { link, piece, begin, len } => {
                    self.send(link, LinkCommand::Reject { piece, begin, len });
                }
                Action::SendBlock { link, piece, begin, len } => {
                    let start = layout.piece_range(piece).start + u64::from(begin);
                    wanted::add(&mut self.wanted, link, start, piece, (begin, len));
                }
                Action::Verify { piece } => {
                    let (pool, key) = (self.p.pool.clone(), self.sum_key.clone());
                    let job = async move {
                        match pool.verify(piece).await {
                            Ok(false) => Done::Corrupt(piece, sums(&pool, layout, piece, &key).await),
                            other => Done::Verify(piece, other),
                        }
                    };
                    self.jobs.push(job.boxed());
                }
                Action::Sum { piece } => {
                    let (pool, key) = (self.p.pool.clone(), self.sum_key.clone());
                    self.jobs.push(async move { Done::Sums(piece, sums(&pool, layout, piece, &key).await) }.boxed());
                }
                Action::Announce { piece } => {
                    if let Some(swarm) = &self.p.swarm {
                        swarm.announce(piece);
                    }
                }
                Action::Playable { range } => self.shared.shelf.playable(range),
                Action::Void { piece } => self.shared.shelf.void(layout.piece_range(piece)),
                Action::Fetch { fetch, origin, range, grants } => {
                    self.p.origins.fetch(fetch, origin, range, &grants);
                }
                Action::AbortFetch { fetch } => self.p.origins.abort(fetch),
                Action::RenewOrigins => self.p.origins.renew(),
                Action::DropOrigin { origin } => {
                    self.p.origins.leave(origin, "sent bytes whose hash failed".into());
                }
                Action::Bid { origin, bid } => {
                    self.p.origins.bid(origin, BidOut { max_bits: bid.max_bits, due_bits: bid.due_bits });
                }
                Action::PeerReceiveBudget { bytes_per_s } => {
                    if let Some(swarm) = &self.p.swarm {
                        swarm.set_receive_budget(bytes_per_s);
                    }
                }
                Action::WantPeers { count } => {
                    if let Some(swarm) = &self.p.swarm {
                        swarm.want(count as usize);
                    }
                }
                Action::Ban { link } => self.send(link, LinkCommand::Close { ban: true }),
                Action::Gate { open } => {
                    self.shared.gate.store(open, Ordering::Release);
                    (self.shared.wake)();
                }
            }
        }
        self.read_what_is_wanted();
    }

    fn read_what_is_wanted(&mut self) {
        for wanted in std::mem::take(&mut self.wanted) {
            let pool = self.p.pool.clone();
            let job = async move {
                let data = pool.read(wanted.bytes.start, wanted.bytes.len() as usize).await;
                Done::Read(wanted, data)
            };
            self.jobs.push(job.boxed());
        }
    }

    /// Puts a new status up: four times a second, and at once when what is waited for changes.
    fn publish(&mut self, now: Instant) {
        if !self.failed && self.published.elapsed() >= PUBLISH_EVERY {
            self.publish_now(now);
        }
    }

    fn publish_now(&mut self, now: Instant) {
        let mut engine = self.p.engine.snapshot(now);
        // The same pieces stay the same `Arc`: whoever draws them sees at once that there is nothing to redraw.
        let before = self.shared.status.load().engine.pieces.clone();
        if let Some(e) = Arc::get_mut(&mut engine).filter(|e| e.pieces == before) {
            e.pieces = before;
        }
        self.published = Clock::now();
        self.unpublished = false;
        let mut servers = self.p.origins.lines();
        servers.extend(self.p.refused.iter().cloned());
        let discovery = self.p.swarm.as_ref().map(Swarm::status).unwrap_or_default();
        let peers = peers(&self.p.links, &engine);
        self.shared.status.store(Arc::new(StreamStatus { engine, peers, discovery, servers, error: None }));
        (self.shared.wake)();
    }

    fn save_now_and_then(&mut self) {
        if self.dirty && self.saved.elapsed() >= SAVE_EVERY {
            self.dirty = false;
            self.saved = Clock::now();
            let (store, have) = (self.p.store.clone(), self.p.engine.verified().clone());
            // Losing this costs a re-hash, not bytes: the next one is in half a minute.
            drop(tokio::task::spawn_blocking(move || store.save_resume(&have)));
        }
    }

    /// Writes end first, then the resume data that speaks of them, then the links close.
    async fn stop(mut self) {
        self.shared.shelf.close();
        let mut batch = Vec::new();
        let writes = async {
            while let Some(done) = self.jobs.next().await {
                self.done(done, &mut batch);
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(500), writes).await;
        let now = self.now();
        self.p.engine.handle_all(now, batch, &mut self.actions);
        if !self.failed {
            self.publish_now(now);
        }
        let (store, have) = (self.p.store.clone(), self.p.engine.verified().clone());
        if let Ok(Err(e)) = tokio::task::spawn_blocking(move || store.save_resume(&have)).await {
            tracing::warn!("resume data not saved: {e}");
        }
        if let Some(swarm) = &self.p.swarm {
            let _ = tokio::time::timeout(Duration::from_millis(400), swarm.shutdown()).await;
        }
    }
}

/// A keyed sum of each block of a piece as it lies in the store; empty where it cannot be read.
async fn sums(pool: &DiskPool, layout: Layout, piece: PieceIndex, key: &RandomState) -> Vec<u64> {
    let mut out = Vec::new();
    for block in layout.blocks_in(layout.piece_range(piece)) {
        let range = layout.block_range(block);
        let Ok(data) = pool.read(range.start, range.len() as usize).await else { return Vec::new() };
        out.push(key.hash_one(&data));
    }
    out
}

fn ended(fetch: FetchId, whole: bool) -> Event {
    if whole { Event::ServerDone { fetch } } else { Event::ServerFailed { fetch } }
}

async fn sleep_until(at: Option<Clock>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

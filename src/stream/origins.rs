//! The servers of a stream, and the order in which a range's bytes reach the store.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::net::NetRoute;
use crate::origin::api::{OriginEvent, OriginMap, OriginPart};
use crate::origin::{BidOut, Bidder, Origin, display_url, web_seed_map};
use crate::torrent::{Metainfo, web_seed_input};
use crate::units::{ByteRange, FetchId, GrantId, OriginId};

/// Servers used at once: more than a few only split the bids.
const MOST: usize = 4;
/// Names of grants kept: four origins, a few a second each, for some seconds.
const GRANTS_KEPT: usize = 256;

/// One server and what is known of it.
struct Server {
    origin: Origin,
    url: String,
    left: Option<String>,
}

/// All servers, by id.
#[derive(Default)]
pub(super) struct Servers {
    all: BTreeMap<OriginId, Server>,
    at: BTreeMap<FetchId, OriginId>,
    progress: BTreeMap<FetchId, Progress>,
    /// What origins call their grants; the last ones, for they live seconds.
    grants: BTreeMap<GrantId, String>,
    granted: u32,
}

/// Writes of one fetch that are not in the store yet. They end in any order; progress is told without a gap.
#[derive(Default)]
struct Progress {
    writes: VecDeque<(u64, bool)>,
    ended: Option<bool>,
}

/// What a finished write means.
pub(super) struct Step {
    /// All before this is in the store.
    pub upto: Option<u64>,
    /// The fetch is over: whether all of it was delivered.
    pub ended: Option<bool>,
}

impl Servers {
    /// Starts the servers that the torrent and the user name. URLs that make no sense are listed with the reason.
    pub fn start(
        rt: &tokio::runtime::Handle,
        meta: &Metainfo,
        plain_url: Option<&str>,
        extra: &[String],
        route: &NetRoute,
        bidder: Bidder,
        events: &mpsc::Sender<OriginEvent>,
    ) -> (Self, Vec<String>) {
        let mut servers = Self::default();
        let bidder = Arc::new(bidder);
        let mut refused = Vec::new();
        let input = web_seed_input(meta);
        let whole = ByteRange::new(0, meta.layout.total_len());
        let plain = plain_url
            .map(|u| Ok((u.to_owned(), OriginMap { parts: vec![OriginPart { range: whole, url: u.to_owned() }] })));
        let seeds =
            extra.iter().chain(&meta.web_seeds).map(|u| match web_seed_map(u, meta.multi_file, &meta.name, &input) {
                Ok(map) => Ok((u.clone(), map)),
                Err(e) => Err(format!("{} · {e}", display_url(u))),
            });
        for each in plain.into_iter().chain(seeds) {
            match each {
                Ok((url, map)) if servers.all.len() < MOST && servers.all.values().all(|s| s.url != url) => {
                    let id = OriginId(servers.all.len() as u32);
                    let origin = Origin::start(rt, id, map, route.clone(), bidder.clone(), events.clone());
                    servers.all.insert(id, Server { origin, url, left: None });
                }
                Ok(_) => {}
                Err(line) => refused.push(line),
            }
        }
        (servers, refused)
    }

    pub fn ids(&self) -> Vec<OriginId> {
        self.all.keys().copied().collect()
    }

    pub fn fetch(&mut self, fetch: FetchId, origin: OriginId, range: ByteRange, grants: &[GrantId]) {
        if let Some(s) = self.all.get(&origin) {
            self.at.insert(fetch, origin);
            self.progress.insert(fetch, Progress::default());
            s.origin.fetch(fetch, range, grants.iter().filter_map(|g| self.grants.get(g).cloned()).collect());
        }
    }

    /// What is asked from here on goes over new connections.
    pub fn renew(&self) {
        self.all.values().for_each(|s| s.origin.renew());
    }

    pub fn bid(&self, origin: OriginId, bid: BidOut) {
        if let Some(s) = self.all.get(&origin) {
            s.origin.bid(bid);
        }
    }

    /// An origin gave a grant under this name.
    pub fn granted(&mut self, name: String) -> GrantId {
        let id = GrantId(self.granted);
        self.granted = self.granted.wrapping_add(1);
        self.grants.insert(id, name);
        while self.grants.len() > GRANTS_KEPT {
            self.grants.pop_first();
        }
        id
    }

    pub fn abort(&mut self, fetch: FetchId) {
        self.progress.remove(&fetch);
        if let Some(s) = self.at.remove(&fetch).and_then(|o| self.all.get(&o)) {
            s.origin.abort(fetch);
        }
    }

    /// The server is left alone, for this reason.
    pub fn leave(&mut self, origin: OriginId, reason: String) {
        if let Some(s) = self.all.get_mut(&origin) {
            s.left = Some(reason);
        }
    }

    /// It answers again.
    pub fn back(&mut self, origin: OriginId) {
        if let Some(s) = self.all.get_mut(&origin) {
            s.left = None;
        }
    }

    /// Bytes came: whether they are still wanted.
    pub fn begin_write(&mut self, fetch: FetchId, offset: u64, data: &Bytes) -> bool {
        match self.progress.get_mut(&fetch) {
            Some(p) => {
                p.writes.push_back((offset + data.len() as u64, false));
                true
            }
            None => false,
        }
    }

    /// The write that ends at `end` is in the store.
    pub fn end_write(&mut self, fetch: FetchId, end: u64) -> Step {
        let Some(p) = self.progress.get_mut(&fetch) else { return Step { upto: None, ended: None } };
        if let Some(w) = p.writes.iter_mut().find(|w| w.0 == end && !w.1) {
            w.1 = true;
        }
        let mut upto = None;
        while let Some((e, true)) = p.writes.front().copied() {
            upto = Some(e);
            p.writes.pop_front();
        }
        Step { upto, ended: self.ended(fetch) }
    }

    /// The server's part of the fetch is over; `None` while writes are still to end.
    pub fn end(&mut self, fetch: FetchId, whole: bool) -> Option<bool> {
        self.progress.get_mut(&fetch)?.ended = Some(whole);
        self.ended(fetch)
    }

    fn ended(&mut self, fetch: FetchId) -> Option<bool> {
        let p = self.progress.get(&fetch)?;
        let ended = p.ended.filter(|_| p.writes.is_empty())?;
        self.progress.remove(&fetch);
        self.at.remove(&fetch);
        Some(ended)
    }

    /// One line per server.
    pub fn lines(&self) -> Vec<String> {
        self.all
            .values()
            .map(|s| match &s.left {
                None => display_url(&s.url),
                Some(why) => format!("{} · {why}", display_url(&s.url)),
            })
            .collect()
    }
}

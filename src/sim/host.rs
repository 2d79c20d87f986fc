//! A node that runs the engine: a viewer, or a seed. What a driver is with sockets, this is with the world's network.

use std::collections::{BTreeMap, BTreeSet};

use super::player::Player;
use super::record::Recorder;
use super::store::{Bytes, Store};
use super::watch::Watch;
use crate::engine::{Engine, Event};
use crate::units::{BlockRef, ByteRange, FetchId, Instant, Layout, LinkId, PieceIndex};

/// One engine and what is around it.
pub(super) struct Host {
    pub engine: Engine,
    pub store: Store,
    pub player: Option<Player>,
    pub watch: Option<Box<Watch>>,
    pub recorder: Option<Box<Recorder>>,
    /// Events of this moment, not handled yet.
    pub inbox: Vec<Event>,
    pub wake_at: Option<Instant>,
    pub play_at: Option<Instant>,
    /// The link to the origin, and what was asked of it that is still to come.
    pub origin: Option<LinkId>,
    pub fetches: BTreeMap<FetchId, ByteRange>,
    /// Nodes it will not deal with again.
    pub banned: BTreeSet<u32>,
    pub links_wanted: u32,
    /// Pieces that peers are still to be told of.
    pub news: Vec<PieceIndex>,
    /// When it was last woken by time alone, and whether it ever asked for that again at once.
    pub ticked: Option<Instant>,
    pub spun: bool,
    /// It has seen the film's end and will go.
    pub leaving: bool,
    /// Bytes that the server sent while the viewer came, and until when that is.
    pub opening: u64,
    pub opens_until: Instant,
    /// Times its engine was called.
    pub handled: u64,
}

impl Host {
    /// A block came from a peer.
    pub fn block(&mut self, link: LinkId, block: BlockRef, lie: u32) {
        let event = match self.engine.takes(link, block) && self.store.write(block, Bytes::Peer(lie)) {
            true => Event::BlockArrived { link, block },
            false => Event::BlockDuplicate { link, block },
        };
        self.inbox.push(event);
    }

    /// Bytes of a fetch came; they end with a block.
    pub fn range(&mut self, now: Instant, layout: &Layout, fetch: FetchId, upto: u64, lie: u32) {
        // Of a fetch that was cut short meanwhile nothing is taken.
        let Some(left) = self.fetches.get_mut(&fetch) else { return };
        for b in layout.blocks_in(ByteRange::new(left.start, upto.min(left.end))) {
            let fresh = self.store.write(b, Bytes::Server(lie));
            if now < self.opens_until {
                self.opening += layout.block_range(b).len();
            }
            if let Some(w) = &mut self.watch {
                w.server_bytes(layout.block_range(b).len(), fresh);
            }
        }
        left.start = upto.min(left.end);
        self.inbox.push(Event::ServerBytes { fetch, upto });
        if left.is_empty() {
            self.fetches.remove(&fetch);
            self.inbox.push(Event::ServerDone { fetch });
        }
    }
}

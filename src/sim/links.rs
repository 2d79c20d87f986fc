//! Links between nodes: slots that are used again, numbers that never are, and messages on their way.

use std::collections::VecDeque;
use std::time::Duration;

use super::agenda::Agenda;
use super::step::{LaneKey, Step};
use crate::engine::Bid;
use crate::units::{BlockRef, ByteRange, FetchId, Instant, LinkId, PieceIndex, PieceSet};

/// What nodes tell each other besides payload.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    Bitfield(PieceSet),
    Have(PieceIndex),
    Choke(bool),
    Interested(bool),
    Request {
        piece: PieceIndex,
        begin: u32,
        len: u32,
    },
    Cancel {
        piece: PieceIndex,
        begin: u32,
        len: u32,
    },
    Reject(BlockRef),
    /// The piece is answered although choked (BEP 6).
    Allowed(PieceIndex),
    Fetch {
        fetch: FetchId,
        range: ByteRange,
    },
    Abort(FetchId),
    Bid(Bid),
    Granted {
        bits: u64,
        expires: Instant,
    },
}

/// One link between two nodes.
#[derive(Debug, Clone, Default)]
pub(super) struct Link {
    /// Its number; 0 is a free slot.
    pub id: u32,
    pub ends: [u32; 2],
    pub delay: Duration,
    /// Hands were shaken.
    pub up: bool,
    /// From a viewer to the origin: no peer's link.
    pub server: bool,
    mail: [VecDeque<(Instant, Message)>; 2],
}

/// All links.
#[derive(Debug, Default)]
pub(super) struct Links {
    slots: Vec<Link>,
    free: Vec<u32>,
    last: u32,
}

impl Links {
    /// A new link from `ends[0]`, who dials, to `ends[1]`.
    pub fn open(&mut self, ends: [u32; 2], delay: Duration, server: bool) -> LaneKey {
        self.last += 1;
        let link = Link { id: self.last, ends, delay, server, ..Link::default() };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = link;
                slot
            }
            None => {
                self.slots.push(link);
                self.slots.len() as u32 - 1
            }
        };
        LaneKey { lane: slot * 2, link: self.last }
    }

    pub fn get(&self, key: LaneKey) -> Option<&Link> {
        self.slots.get(key.slot() as usize).filter(|l| l.id == key.link)
    }

    pub fn get_mut(&mut self, key: LaneKey) -> Option<&mut Link> {
        self.slots.get_mut(key.slot() as usize).filter(|l| l.id == key.link)
    }

    /// Who receives on the lane.
    pub fn to(&self, key: LaneKey) -> Option<u32> {
        self.get(key).map(|l| l.ends[1 - key.end()])
    }

    /// Who sends on the lane.
    pub fn from(&self, key: LaneKey) -> Option<u32> {
        self.get(key).map(|l| l.ends[key.end()])
    }

    pub fn close(&mut self, key: LaneKey) -> Option<Link> {
        let l = self.get_mut(key)?;
        let closed = std::mem::take(l);
        self.free.push(key.slot());
        Some(closed)
    }

    /// Posts a message; `not_before` gathers several.
    pub fn post(
        &mut self,
        now: Instant,
        key: LaneKey,
        message: Message,
        not_before: Instant,
        agenda: &mut Agenda<Step>,
    ) {
        let Some(l) = self.get_mut(key) else { return };
        let at = now.max(not_before) + l.delay;
        let mail = &mut l.mail[key.end()];
        // In order, and one step for all that come at the same time.
        let at = mail.back().map_or(at, |m| m.0.max(at));
        if mail.back().is_none_or(|m| m.0 != at) {
            agenda.push(at, Step::Mail(key));
        }
        mail.push_back((at, message));
    }

    /// The next message due by now on the lane.
    pub fn next_mail(&mut self, now: Instant, key: LaneKey) -> Option<Message> {
        let mail = &mut self.get_mut(key)?.mail[key.end()];
        mail.pop_front_if(|m| m.0 <= now).map(|m| m.1)
    }
}

/// A node's own links by number, lowest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Book(Vec<(u32, u32)>);

impl Book {
    /// Books the lane on which the node sends.
    pub fn add(&mut self, key: LaneKey) {
        let at = self.0.partition_point(|e| e.0 < key.link);
        self.0.insert(at, (key.link, key.lane));
    }

    pub fn remove(&mut self, link: u32) {
        self.0.retain(|e| e.0 != link);
    }

    /// The lane on which the node sends over a link.
    pub fn lane(&self, link: LinkId) -> Option<LaneKey> {
        let i = self.0.binary_search_by_key(&link.0, |e| e.0).ok()?;
        Some(LaneKey { lane: self.0[i].1, link: link.0 })
    }

    pub fn lanes(&self) -> impl Iterator<Item = LaneKey> + '_ {
        self.0.iter().map(|e| LaneKey { lane: e.1, link: e.0 })
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

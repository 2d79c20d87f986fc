//! A node's ends of its links. Each side has a number of its own for a link, which it never uses again: a step for a link that is
//! gone finds none, and does nothing.

use std::collections::VecDeque;
use std::time::Duration;

use super::post::Post;
use super::step::{Message, Parcel, Step};
use crate::units::{BLOCK_LEN, Instant, LinkId};

/// A new connection's window: ten packets (RFC 6928), here one block.
const FIRST_WINDOW: f64 = BLOCK_LEN as f64;

/// One end of one link.
#[derive(Debug)]
pub(super) struct End {
    pub id: LinkId,
    /// Who is at the other end, and what the link is called there, once that is known.
    pub peer: u32,
    pub far: Option<LinkId>,
    /// One way.
    pub delay: Duration,
    /// This side dialled.
    pub dialled: bool,
    /// Hands were shaken.
    pub up: bool,
    /// Between a viewer and the origin: no peer's link.
    pub server: bool,
    /// When the last message comes that was posted: none overtakes it.
    mail: Instant,
    /// When the last parcel comes that was sent, and when the last one that came is read.
    pub sent: Instant,
    pub read: Instant,
    /// Parcels that came and are not through the line yet, and whether the last of them is held to the budget.
    pub reading: u32,
    pub held: bool,
    /// What waits in the receiver's buffers for the budget, and whether packets were lost when it came.
    pub kept: VecDeque<(Parcel, bool)>,
    pub out: Flow,
}

/// What goes out over a link: one flow of the node's uplink.
#[derive(Debug)]
pub(super) struct Flow {
    pub queue: VecDeque<Parcel>,
    pub sending: Option<Parcel>,
    pub unacked: u64,
    pub window: f64,
    pub threshold: f64,
    pub cut_at: Option<Instant>,
    /// The receiver said that it holds its peers back.
    pub held: bool,
}

impl End {
    /// Posts a message; it comes after those posted before.
    pub fn post(&mut self, message: Message, post: &mut Post) {
        let Some(far) = self.far else { return };
        let at = self.mail.max(post.now + self.delay);
        self.mail = at;
        post.send(at, self.peer, Step::Mail(far, message));
    }

    /// Posts what need not keep its place among the messages; it is read at the next full `every`.
    pub fn post_gathered(&mut self, message: Message, every: u64, post: &mut Post) {
        let Some(far) = self.far else { return };
        let at = post.now + self.delay;
        let at = Instant(at.0.checked_next_multiple_of(every).unwrap_or(at.0));
        post.send(at, self.peer, Step::Mail(far, message));
    }
}

/// A node's ends by their numbers, lowest first.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// In the order of `list`: every step looks one up, and numbers apart from what they number are found with less memory.
    ids: Vec<LinkId>,
    list: Vec<End>,
    last: u32,
}

impl Ends {
    /// A new link to `peer`.
    pub fn open(&mut self, peer: u32, far: Option<LinkId>, delay: Duration, server: bool) -> LinkId {
        self.last += 1;
        let id = LinkId(self.last);
        let out = Flow {
            queue: VecDeque::new(),
            sending: None,
            unacked: 0,
            window: FIRST_WINDOW,
            threshold: f64::INFINITY,
            cut_at: None,
            held: false,
        };
        let none = Instant::ZERO;
        let dialled = far.is_none();
        let end = End {
            id,
            peer,
            far,
            delay,
            dialled,
            up: false,
            server,
            mail: none,
            sent: none,
            read: none,
            reading: 0,
            held: false,
            kept: VecDeque::new(),
            out,
        };
        self.ids.push(id);
        self.list.push(end);
        id
    }

    pub fn get(&self, id: LinkId) -> Option<&End> {
        self.list.get(self.ids.binary_search(&id).ok()?)
    }

    pub fn get_mut(&mut self, id: LinkId) -> Option<&mut End> {
        self.list.get_mut(self.ids.binary_search(&id).ok()?)
    }

    pub fn remove(&mut self, id: LinkId) -> Option<End> {
        let i = self.ids.binary_search(&id).ok()?;
        self.ids.remove(i);
        (i < self.list.len()).then(|| self.list.remove(i))
    }

    pub fn iter(&self) -> impl Iterator<Item = &End> {
        self.list.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut End> {
        self.list.iter_mut()
    }

    pub fn ids(&self) -> Vec<LinkId> {
        self.ids.clone()
    }

    /// Links to peers, up or being made.
    pub fn peers(&self) -> usize {
        self.iter().filter(|e| !e.server).count()
    }

    pub fn linked(&self, peer: u32) -> bool {
        self.iter().any(|e| e.peer == peer)
    }
}

//! What comes to a node, payload and messages, and what it tells all its peers.
//!
//! Invariant: nothing in here decides; an engine is told, a script is asked, the server's part is in `web`.

use std::sync::Arc;

use super::node::{Actor, ORIGIN, Turn};
use super::script::Deed;
use super::step::{Cargo, Message, Parcel, Step};
use crate::engine::Event;
use crate::units::{BLOCK_LEN, BlockRef, GrantId, Instant, LinkId, PieceIndex};

/// Gathered announcements are read so many times in the while they are gathered for.
const READS: u64 = 4;

impl Turn<'_> {
    /// Posts a message over a link; nothing if it is gone.
    pub fn post(&mut self, link: LinkId, message: Message) {
        if let Some(end) = self.n.ends.get_mut(link) {
            end.post(message, &mut self.n.post);
        }
    }

    /// Hands payload to a link's socket.
    pub fn send(&mut self, link: LinkId, parcel: Parcel) {
        if let Some(end) = self.n.ends.get_mut(link) {
            self.n.access.send(end, parcel, &mut self.n.post);
        }
    }

    /// Says over a link that the node chokes, or no longer.
    pub fn choke(&mut self, link: LinkId, on: bool) {
        if let Some(end) = self.n.ends.get_mut(link) {
            self.n.access.choke(end, on, &mut self.n.post);
        }
    }

    pub fn mail(&mut self, link: LinkId, message: Message) {
        let gone = self.n.ends.get(link).is_none();
        // All that is read at one moment is handled at once.
        let more = self.n.post.more_mail();
        match &mut self.n.actor {
            Actor::Host(h) => {
                match message {
                    _ if gone => {}
                    Message::Bitfield(pieces) => {
                        let allowed = self.allow(link, &pieces);
                        let Some(h) = self.n.host() else { return };
                        h.inbox.push(Event::Bitfield { link, pieces: *pieces });
                        h.inbox.extend(allowed);
                    }
                    Message::Cancel { piece, begin, len } => {
                        h.inbox.push(Event::BlockUnrequested { link, piece, begin, len });
                        // What was not sent yet need not be.
                        let block = BlockRef { piece, block: begin / BLOCK_LEN };
                        let which = |c: &Cargo| matches!(c, Cargo::Block { block: b, .. } if *b == block);
                        if let Some(end) = self.n.ends.get_mut(link) {
                            end.unsend(which);
                        }
                    }
                    Message::Haves(pieces) => h.inbox.extend(pieces.iter().map(|p| Event::Have { link, piece: *p })),
                    m => h.inbox.extend(event(link, m)),
                }
                if !more && self.n.host().is_some_and(|h| !h.inbox.is_empty()) {
                    self.drive();
                }
            }
            Actor::Script(_) if gone => {}
            Actor::Script(_) => {
                self.script_mail(link, message);
                self.script_settle();
            }
            Actor::Web(_) => self.web_mail(link, message),
            Actor::Away => {}
        }
    }

    /// Tells all peers of a piece, with what else there is to tell in the same while.
    pub fn announce(&mut self, piece: PieceIndex) {
        let (now, every) = (self.now(), self.ctx.have_every);
        match &mut self.n.actor {
            Actor::Host(h) if every > 0 => {
                h.news.push(piece);
                if h.news.len() == 1 {
                    self.n.post.later(Instant((now.0 / every + 1) * every), Step::Announce);
                }
            }
            Actor::Host(_) | Actor::Script(_) => {
                for end in self.n.ends.iter_mut().filter(|e| e.up && !e.server) {
                    end.post(Message::Have(piece), &mut self.n.post);
                }
            }
            Actor::Away | Actor::Web(_) => {}
        }
    }

    pub fn announce_gathered(&mut self) {
        let every = (self.ctx.have_every / READS).max(1);
        let Some(h) = self.n.host() else { return };
        let news = std::mem::take(&mut h.news);
        // Mostly it is one, and needs no place of its own.
        let message = if let &[one] = news.as_slice() { Message::Have(one) } else { Message::Haves(Arc::new(news)) };
        for end in self.n.ends.iter_mut().filter(|e| e.up && !e.server) {
            end.post_gathered(message.clone(), every, &mut self.n.post);
        }
    }

    /// Parcels have left the node whole.
    pub fn uplink(&mut self) {
        let mut sent = Vec::new();
        let n = &mut *self.n;
        n.access.uplink(&mut n.ends, &mut n.dice, &mut n.post, &mut sent);
        if sent.is_empty() {
            return;
        }
        match &mut self.n.actor {
            Actor::Host(h) => {
                let blocks = sent.iter().filter(|s| !matches!(s.1.cargo, Cargo::Choke(_)));
                h.inbox.extend(blocks.map(|(link, p)| Event::BlockSent { link: *link, len: p.len }));
                if !h.inbox.is_empty() {
                    self.drive();
                }
            }
            Actor::Script(_) => {
                for (link, _) in sent {
                    self.script_serve(link);
                }
                self.script_settle();
            }
            Actor::Away | Actor::Web(_) => {}
        }
    }

    pub fn deliver(&mut self, link: LinkId, parcel: Parcel) {
        let (now, layout) = (self.now(), self.ctx.film.layout);
        let Some(from) = self.n.ends.get(link).map(|e| e.peer) else { return };
        match &mut self.n.actor {
            Actor::Host(h) => {
                match parcel.cargo {
                    Cargo::Block { block, lie } => {
                        if let Some(r) = &mut h.recorder {
                            r.arrived(now, link, block, from);
                        }
                        h.block(link, block, lie);
                    }
                    Cargo::Range { fetch, upto, lie } => h.range(now, &layout, fetch, upto, lie),
                    Cargo::Choke(true) => h.inbox.push(Event::Choked { link }),
                    Cargo::Choke(false) => h.inbox.push(Event::Unchoked { link }),
                }
                self.drive();
            }
            Actor::Script(s) => {
                if let Some(d) = s.desks.get_mut(&link) {
                    d.asked = match parcel.cargo {
                        // What was asked before a choke is not answered.
                        Cargo::Choke(true) => u32::MAX,
                        Cargo::Choke(false) => 0,
                        Cargo::Block { .. } | Cargo::Range { .. } => d.asked.saturating_sub(1),
                    };
                }
                let mut deeds = Vec::new();
                s.ask(link, &layout, &mut self.n.dice, &mut deeds);
                self.carry_deeds(deeds);
            }
            Actor::Away | Actor::Web(_) => {}
        }
    }

    pub fn hashed(&mut self, piece: PieceIndex) {
        let Some(h) = self.n.host() else { return };
        h.store.checking.remove(&piece);
        if h.store.is_true(piece) {
            h.store.verified.insert(piece);
            h.inbox.push(Event::PieceVerified { piece });
        } else {
            h.inbox.push(Event::Sums { piece, sums: h.store.sums(piece) });
            h.inbox.push(Event::PieceCorrupt { piece });
        }
        self.drive();
    }

    fn script_mail(&mut self, link: LinkId, message: Message) {
        let now = self.now();
        let mut deeds = Vec::new();
        let Actor::Script(s) = &mut self.n.actor else { return };
        let dice = &mut self.n.dice;
        match message {
            Message::Interested(on) => s.interest(now, link, on),
            Message::Request { piece, begin, .. } => {
                s.request(link, BlockRef { piece, block: begin / BLOCK_LEN }, dice, &mut deeds);
            }
            Message::Cancel { piece, begin, .. } => s.cancel(link, BlockRef { piece, block: begin / BLOCK_LEN }),
            Message::Bitfield(has) => {
                if let Some(d) = s.desks.get_mut(&link) {
                    d.theirs = Some(*has);
                }
            }
            Message::Have(piece) => s.note_have(link, &[piece]),
            Message::Haves(pieces) => s.note_have(link, &pieces),
            _ => {}
        }
        self.carry_deeds(deeds);
        self.script_serve(link);
    }

    fn script_serve(&mut self, link: LinkId) {
        let (now, layout) = (self.now(), self.ctx.film.layout);
        let mut deeds = Vec::new();
        let (Actor::Script(s), Some(end)) = (&mut self.n.actor, self.n.ends.get(link)) else { return };
        s.serve(now, link, &layout, end.unsent(), &mut self.n.dice, &mut deeds);
        self.carry_deeds(deeds);
    }

    pub fn script_step(&mut self) {
        let now = self.now();
        let mut deeds = Vec::new();
        let Actor::Script(s) = &mut self.n.actor else { return };
        if s.step_at != Some(now) {
            return;
        }
        s.step_at = None;
        s.step(now, &mut self.n.dice, &mut deeds);
        let links: Vec<LinkId> = s.desks.values().filter(|d| !d.queue.is_empty()).map(|d| d.link).collect();
        self.carry_deeds(deeds);
        for link in links {
            self.script_serve(link);
        }
        self.script_settle();
    }

    /// Makes the step at which the script goes on by itself.
    pub fn script_settle(&mut self) {
        let now = self.now();
        let Actor::Script(s) = &mut self.n.actor else { return };
        let Some(at) = s.next().map(|t| t.max(now)).filter(|t| s.step_at.is_none_or(|s| *t < s)) else { return };
        s.step_at = Some(at);
        self.n.post.later(at, Step::Script);
    }

    fn carry_deeds(&mut self, deeds: Vec<Deed>) {
        let layout = self.ctx.film.layout;
        for deed in deeds {
            match deed {
                Deed::Choke(link, on) => self.choke(link, on),
                Deed::Reject(link, block) => self.post(link, Message::Reject(block)),
                Deed::Have(piece) => self.announce(piece),
                Deed::Ask(link, block) => {
                    let len = layout.block_range(block).len() as u32;
                    self.post(link, Message::Request { piece: block.piece, begin: block.block * BLOCK_LEN, len });
                }
                Deed::Send(link, block, lies) => {
                    let cargo = Cargo::Block { block, lie: if lies { self.n.id + 1 } else { 0 } };
                    let len = layout.block_range(block).len() as u32;
                    self.send(link, Parcel { cargo, len });
                }
            }
        }
    }
}

/// What a message is to an engine.
fn event(link: LinkId, message: Message) -> Option<Event> {
    Some(match message {
        Message::Bitfield(pieces) => Event::Bitfield { link, pieces: *pieces },
        Message::Have(piece) => Event::Have { link, piece },
        Message::Interested(interested) => Event::Interested { link, interested },
        Message::Request { piece, begin, len } => Event::BlockRequested { link, piece, begin, len },
        Message::Cancel { piece, begin, len } => Event::BlockUnrequested { link, piece, begin, len },
        Message::Reject(block) => Event::BlockRejected { link, block },
        Message::Allowed(piece) => Event::AllowedFast { link, piece },
        Message::Granted(g) => Event::Granted { origin: ORIGIN, grant: GrantId(0), bits: g.bits, expires: g.expires },
        Message::Haves(_) | Message::Fetch(..) | Message::Abort(_) | Message::Bid(_) => return None,
    })
}

//! The reading half of a link: bytes to messages to events.
//!
//! Invariant: an event is sent only for what was checked against the torrent; before the torrent is known, what the peer
//! has and allows is kept, compactly, and said once it is. Reads draw from the shared budget only when there is
//! something to read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use librqbit_sha1_wrapper::{ISha1, Sha1};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::api::SwarmEvent;
use super::budget;
use super::chatter::Chatter;
use super::conn::ReadHalf;
use super::fast;
use super::handshake::{Extended, OUR_DONT_HAVE, OUR_METADATA, OUR_PEX};
use super::link::{LinkEnd, count, extended};
use super::merit::Taken;
use super::metadata::{MetadataMessage, Progress, Verdict};
use super::pex;
use super::queue::Queue;
use super::shared::{Known, Shared};
use super::wire::{Decoder, MAX_RAW_BITFIELD, MAX_REQUEST, Message, Span};
use crate::units::{BLOCK_LEN, LinkId, PieceIndex, PieceSet};

/// Silence after which a peer is given up (they say something every two minutes).
pub const IDLE: Duration = Duration::from_secs(180);

/// Room asked of the allocator at a time: two blocks with what is around them, once blocks come; little before. It
/// doubles while a peer fills it with one read, for each read costs a system call and a look at all else.
const ROOM_BLOCKS: usize = 36 * 1024;
const ROOM_TALK: usize = 4 * 1024;
const ROOM_MOST: usize = 4 * ROOM_BLOCKS;

/// The most that one read takes from the shared budget, where there is one.
const MOST: usize = 32 * 1024;

/// What a peer said it has before the number of pieces was known.
#[derive(Debug, Default)]
struct Raw {
    all: bool,
    bits: Vec<u8>,
    /// Pieces it allows while it chokes us.
    allowed: Vec<u32>,
}

/// Of [`Raw::allowed`]; BEP 6 recommends ten.
const MAX_ALLOWED: usize = 64;

/// Times its whole length that one peer gets the metadata of us: once, and again after a crash or two.
const METADATA_SHARE: u64 = 3;

/// PEX messages that come too soon before a peer that floods is dropped.
const MAX_HASTY: u32 = 10;

/// See the module.
pub struct Reader<'a> {
    shared: &'a Arc<Shared>,
    link: LinkId,
    addr: SocketAddr,
    queue: Arc<Queue>,
    fast: bool,
    known: Option<Arc<Known>>,
    raw: Raw,
    pieces: PieceSet,
    choked: bool,
    interested: bool,
    extended: Extended,
    /// It was granted what BEP 6 wants a newcomer to have, or needs it no longer.
    granted: bool,
    /// Bytes of metadata it got of us.
    metadata_out: u64,
    pex_heard: Option<Instant>,
    pex_hasty: u32,
    pex_next: Instant,
    pex_told: pex::Told,
    chatter: Chatter,
    /// The peer said more than that it lives.
    pub spoke: bool,
}

type Step = Result<(), LinkEnd>;

impl<'a> Reader<'a> {
    pub fn new(
        shared: &'a Arc<Shared>,
        link: LinkId,
        addr: SocketAddr,
        queue: Arc<Queue>,
        fast: bool,
        known: Option<Arc<Known>>,
    ) -> Self {
        let pieces = known.as_ref().map(|k| PieceSet::new(k.layout.piece_count())).unwrap_or_default();
        Self {
            shared,
            link,
            addr,
            queue,
            fast,
            known,
            raw: Raw::default(),
            pieces,
            choked: true,
            interested: false,
            extended: Extended::default(),
            granted: !fast,
            metadata_out: 0,
            pex_heard: None,
            pex_hasty: 0,
            pex_next: Instant::now() + pex::FIRST,
            pex_told: pex::Told::default(),
            chatter: Chatter::new(Instant::now()),
            spoke: false,
        }
    }

    /// Reads until the link ends. `early` was read already.
    pub async fn run(
        &mut self,
        rd: ReadHalf,
        early: BytesMut,
        torrent: watch::Receiver<Option<Arc<Known>>>,
    ) -> LinkEnd {
        match self.read(rd, early, torrent).await {
            Ok(()) => LinkEnd::Closed,
            Err(end) => end,
        }
    }

    async fn read(
        &mut self,
        mut rd: ReadHalf,
        early: BytesMut,
        mut torrent: watch::Receiver<Option<Arc<Known>>>,
    ) -> Step {
        let mut rate = self.shared.budget.watch();
        if rate.borrow_and_update().is_some() {
            self.narrow(&rd, *rate.borrow());
        }
        let mut decoder = Decoder::default();
        if let Some(k) = &self.known {
            decoder.set_pieces(k.layout.piece_count());
        }
        let (mut buf, mut room) = (early, ROOM_TALK);
        let (mut heard, mut paused) = (Instant::now(), None);
        let mut tick = Instant::now() + self.tick();
        loop {
            while let Some(m) = decoder.next(&mut buf)? {
                self.chatter.take(&m, Instant::now())?;
                if matches!(m, Message::Block { .. }) {
                    room = room.max(ROOM_BLOCKS);
                }
                self.handle(m).await?;
            }
            let missing = decoder.missing(&buf);
            if buf.capacity() - buf.len() < missing.max(room / 4) {
                buf.reserve(missing.max(room));
            }
            tokio::select! {
                ready = rd.readable(), if paused.is_none() => {
                    ready?;
                    let now = Instant::now();
                    let most = if rate.borrow().is_some() { MOST } else { ROOM_MOST };
                    match self.shared.budget.take(most.min(buf.capacity() - buf.len()), now) {
                        Err(wait) => paused = Some(now + wait),
                        Ok(most) => match rd.try_read(&mut buf, most) {
                            Ok(0) => return Ok(()),
                            Ok(n) => {
                                self.shared.budget.give_back(most - n);
                                count(self.shared, n);
                                heard = now;
                                room = fit(room, n);
                            }
                            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => self.shared.budget.give_back(most),
                            Err(e) => return Err(e.into()),
                        },
                    }
                }
                () = sleep_until(paused.unwrap_or(tick)), if paused.is_some() => paused = None,
                Ok(()) = torrent.changed() => {
                    let now_known = torrent.borrow_and_update().clone();
                    if let (None, Some(k)) = (&self.known, now_known) {
                        decoder.set_pieces(k.layout.piece_count());
                        self.learn(k).await?;
                    }
                }
                Ok(()) = rate.changed() => {
                    let to = *rate.borrow_and_update();
                    self.narrow(&rd, to);
                    paused = None;
                }
                () = sleep_until(tick) => {
                    tick = Instant::now() + self.tick();
                    // A reader that was held back heard nothing of its own accord.
                    if rate.borrow().is_none() && heard.elapsed() > IDLE {
                        return Err(LinkEnd::Idle);
                    }
                    self.ask_metadata();
                    self.tell_peers();
                    self.grant().await?;
                }
            }
        }
    }

    /// While metadata is missing, a peer's silence must be noticed soon; and peers are told of soon after the start.
    fn tick(&self) -> Duration {
        let early = self.known.is_none() || self.pex_next < Instant::now() + pex::FIRST;
        Duration::from_secs(if early { 1 } else { 10 })
    }

    fn narrow(&self, rd: &ReadHalf, rate: Option<u64>) {
        rd.narrow(rate.map(|r| budget::receive_window(r, self.shared.link_count())));
    }

    async fn tell(&self, event: SwarmEvent) -> Step {
        self.shared.tell(event).await.map_err(|()| LinkEnd::ByUs)
    }

    async fn handle(&mut self, m: Message) -> Step {
        let link = self.link;
        if m != Message::KeepAlive && !std::mem::replace(&mut self.spoke, true) {
            self.queue.merit.lock().spoke();
        }
        match m {
            Message::KeepAlive | Message::Port(_) => Ok(()),
            Message::Suggest(p) => self.suggested(p).await,
            Message::AllowedFast(p) => self.allowed(p).await,
            Message::Choke => self.choke(true).await,
            Message::Unchoke => self.choke(false).await,
            Message::Interested => self.interest(true).await,
            Message::NotInterested => self.interest(false).await,
            Message::Have(p) => self.have(p).await,
            Message::Bitfield(bits) => match &self.known {
                None => {
                    (self.raw.all, self.raw.bits) = (false, bits.to_vec());
                    Ok(())
                }
                Some(k) => match PieceSet::from_wire(&bits, k.layout.piece_count()) {
                    Some(set) => self.has(set).await,
                    None => Err(LinkEnd::Breach("its bitfield does not fit the torrent")),
                },
            },
            Message::HaveAll => match &self.known {
                None => {
                    self.raw.all = true;
                    Ok(())
                }
                Some(k) => self.has(PieceSet::full(k.layout.piece_count())).await,
            },
            Message::HaveNone => {
                (self.raw.all, self.raw.bits) = (false, Vec::new());
                if self.known.is_some() {
                    self.queue.take_back_interest();
                }
                if self.pieces.count() > 0 {
                    self.has(PieceSet::new(self.pieces.universe())).await
                } else {
                    self.grant().await
                }
            }
            Message::Request(s) => self.request(s).await,
            Message::Cancel(s) if self.queue.unasked(s) => {
                self.tell(SwarmEvent::Unrequested { link, piece: PieceIndex(s.piece), begin: s.begin, len: s.len })
                    .await
            }
            Message::Cancel(_) => Ok(()),
            Message::Block { piece, begin, data } => self.block(piece, begin, data).await,
            Message::Reject(s) if self.known.is_some() && self.queue.merit.lock().refused(s) => {
                self.tell(SwarmEvent::Rejected { link, piece: PieceIndex(s.piece), begin: s.begin, len: s.len }).await
            }
            Message::Reject(_) => Ok(()),
            Message::Extended { id: 0, payload } => self.handshake(&payload).await,
            Message::Extended { id: OUR_METADATA, payload } => self.metadata(&payload).await,
            Message::Extended { id: OUR_PEX, payload } => self.hear_peers(&payload),
            Message::Extended { id: OUR_DONT_HAVE, payload } => match payload.first_chunk::<4>() {
                Some(p) => self.lost(u32::from_be_bytes(*p)).await,
                None => Ok(()),
            },
            Message::Extended { .. } => Ok(()),
        }
    }

    async fn choke(&mut self, choked: bool) -> Step {
        let link = self.link;
        let news = std::mem::replace(&mut self.choked, choked) != choked && self.known.is_some();
        // With BEP 6 each request is still answered, by a reject where not by a block.
        if choked && !self.fast {
            self.queue.merit.lock().choked();
        }
        match (news, choked) {
            (false, _) => Ok(()),
            (true, true) => self.tell(SwarmEvent::Choked { link }).await,
            (true, false) => self.tell(SwarmEvent::Unchoked { link }).await,
        }
    }

    async fn interest(&mut self, interested: bool) -> Step {
        let news = std::mem::replace(&mut self.interested, interested) != interested && self.known.is_some();
        if news { self.tell(SwarmEvent::Interested { link: self.link, interested }).await } else { Ok(()) }
    }

    async fn has(&mut self, set: PieceSet) -> Step {
        // Interest was said before we knew: taken back where there is none, before the driver decides.
        if self.shared.have().is_some_and(|have| set.iter().all(|p| have.contains(p))) {
            self.queue.take_back_interest();
        }
        self.pieces = set;
        self.mark_seed();
        self.tell(SwarmEvent::Bitfield { link: self.link, pieces: self.pieces.clone() }).await?;
        self.grant().await
    }

    /// Others hear from us which peers are seeds.
    fn mark_seed(&self) {
        if self.pieces.is_full() {
            self.shared.flag(self.link, pex::SEED);
        }
    }

    /// BEP 6: a peer with hardly a piece gets a few although it is choked, so that it has something to trade with.
    async fn grant(&mut self) -> Step {
        let Some(k) = self.known.clone().filter(|_| !self.granted) else { return Ok(()) };
        if self.pieces.count() >= fast::SET {
            self.granted = true;
            return Ok(());
        }
        for piece in fast::allowed_set(self.addr.ip(), self.shared.config.info_hash, &k.layout) {
            if !self.pieces.contains(piece) && self.shared.has(piece) {
                self.granted = true;
                self.queue.grant(piece.0, k.layout.piece_range(piece).len() as u32);
                self.tell(SwarmEvent::FastGranted { link: self.link, piece }).await?;
            }
        }
        Ok(())
    }

    /// The peer answers for this piece while it chokes us. Of a piece that does not exist, or from one that did not say
    /// that it speaks BEP 6, it means nothing.
    async fn allowed(&mut self, p: u32) -> Step {
        match &self.known {
            None if self.raw.allowed.len() < MAX_ALLOWED => self.raw.allowed.push(p),
            Some(k) if self.fast && p < k.layout.piece_count() => {
                return self.tell(SwarmEvent::AllowedFast { link: self.link, piece: PieceIndex(p) }).await;
            }
            _ => {}
        }
        Ok(())
    }

    async fn suggested(&mut self, p: u32) -> Step {
        // Before the torrent is known there is nothing to be hinted at: a hint is about now.
        let known = self.known.as_ref().is_some_and(|k| self.fast && p < k.layout.piece_count());
        if known { self.tell(SwarmEvent::Suggested { link: self.link, piece: PieceIndex(p) }).await } else { Ok(()) }
    }

    async fn have(&mut self, p: u32) -> Step {
        let Some(k) = &self.known else {
            let at = p as usize / 8;
            if at >= MAX_RAW_BITFIELD {
                return Err(LinkEnd::Breach("it has a piece no torrent has"));
            }
            if at >= self.raw.bits.len() {
                self.raw.bits.resize(at + 1, 0);
            }
            if let Some(byte) = self.raw.bits.get_mut(at) {
                *byte |= 0x80 >> (p % 8);
            }
            return Ok(());
        };
        if p >= k.layout.piece_count() {
            return Err(LinkEnd::Breach("it has a piece the torrent does not have"));
        }
        let piece = PieceIndex(p);
        if !self.pieces.insert(piece) {
            return Ok(());
        }
        self.mark_seed();
        self.tell(SwarmEvent::Have { link: self.link, piece }).await
    }

    /// `lt_donthave`: the peer lost a piece.
    async fn lost(&mut self, p: u32) -> Step {
        if self.known.is_none() {
            if let Some(byte) = self.raw.bits.get_mut(p as usize / 8) {
                *byte &= !(0x80 >> (p % 8));
            }
            return Ok(());
        }
        let piece = PieceIndex(p);
        if !self.pieces.remove(piece) {
            return Ok(());
        }
        self.shared.unflag(self.link, pex::SEED);
        self.tell(SwarmEvent::DontHave { link: self.link, piece }).await
    }

    /// The torrent became known: says what was kept.
    async fn learn(&mut self, known: Arc<Known>) -> Step {
        let n = known.layout.piece_count();
        let Raw { all, mut bits, allowed } = std::mem::take(&mut self.raw);
        bits.resize((n as usize).div_ceil(8), 0);
        let set = if all { Some(PieceSet::full(n)) } else { PieceSet::from_wire(&bits, n) };
        let set = set.ok_or(LinkEnd::Breach("its bitfield does not fit the torrent"))?;
        // So that it can get the metadata from us in turn.
        if self.extended != Extended::default() {
            self.queue.push(extended(self.shared, self.addr, Some(&known)));
        }
        self.known = Some(known);
        self.pieces = PieceSet::new(n);
        if set.count() > 0 {
            self.has(set).await?;
        }
        for p in allowed {
            self.allowed(p).await?;
        }
        self.grant().await?;
        let link = self.link;
        if !self.choked {
            self.tell(SwarmEvent::Unchoked { link }).await?;
        }
        if self.interested {
            self.tell(SwarmEvent::Interested { link, interested: true }).await?;
        }
        Ok(())
    }

    async fn request(&mut self, s: Span) -> Step {
        let Some(k) = &self.known else {
            self.queue.refuse(s);
            return self.chatter.refused(Instant::now());
        };
        if !inside(k, s) || s.len > MAX_REQUEST {
            return Err(LinkEnd::Breach("it asked for bytes that do not exist"));
        }
        // It may have asked before it read that the piece is gone.
        if !self.shared.has(PieceIndex(s.piece)) {
            self.queue.refuse(s);
            return self.chatter.refused(Instant::now());
        }
        if !self.queue.asked(s) {
            return self.chatter.refused(Instant::now());
        }
        let link = self.link;
        self.tell(SwarmEvent::Requested { link, piece: PieceIndex(s.piece), begin: s.begin, len: s.len }).await
    }

    async fn block(&mut self, piece: u32, begin: u32, data: Bytes) -> Step {
        // Nothing was asked for yet; what comes anyway is dropped.
        let Some(k) = &self.known else { return Ok(()) };
        let len = data.len() as u32;
        if !inside(k, Span { piece, begin, len }) || len > BLOCK_LEN {
            return Err(LinkEnd::Breach("it sent bytes that do not exist"));
        }
        match self.queue.merit.lock().block(Span { piece, begin, len }, Instant::now()) {
            Taken::Asked => {}
            Taken::Unasked => return Ok(()),
            Taken::Flood => return Err(LinkEnd::Breach("it sent blocks that nobody asked for")),
        }
        self.shared.traffic.payload_in.fetch_add(u64::from(len), Ordering::Relaxed);
        self.tell(SwarmEvent::Block { link: self.link, piece: PieceIndex(piece), begin, data }).await
    }

    async fn handshake(&mut self, payload: &[u8]) -> Step {
        let Some(mut e) = Extended::parse(payload) else { return Ok(()) };
        // It may learn the size later, but a peer that ever claims another one has none.
        e.metadata_size = self.extended.metadata_size.or(e.metadata_size);
        if let Some(port) = e.port
            && !self.shared.listens_at(self.link, port)
        {
            return Err(LinkEnd::Breach("it is connected already"));
        }
        let client = e.client.clone().filter(|c| Some(c) != self.extended.client.as_ref());
        self.queue.takes_dont_have(e.dont_have.unwrap_or(0));
        self.extended = e;
        if let Some(client) = client {
            self.tell(SwarmEvent::Client { link: self.link, client }).await?;
        }
        self.ask_metadata();
        Ok(())
    }

    fn ask_metadata(&self) {
        if let (None, Some(id), Some(size)) = (&self.known, self.extended.metadata, self.extended.metadata_size) {
            let pieces = self.shared.metadata.lock().ask(self.link, size, Instant::now());
            for p in pieces {
                self.queue.push(Message::Extended { id, payload: MetadataMessage::Request(p).encode() });
            }
        }
    }

    async fn metadata(&mut self, payload: &Bytes) -> Step {
        match MetadataMessage::parse(payload) {
            None => Ok(()),
            Some(MetadataMessage::Request(piece)) => {
                self.serve_metadata(piece);
                Ok(())
            }
            Some(MetadataMessage::Reject(piece)) => {
                self.shared.metadata.lock().refused(self.link, Some(piece));
                Ok(())
            }
            Some(MetadataMessage::Data { piece, total, data }) => {
                let progress = self.shared.metadata.lock().data(self.link, piece, total, data);
                match progress {
                    Progress::More => self.ask_metadata(),
                    Progress::Garbage => return Err(LinkEnd::Breach("its metadata is garbage")),
                    Progress::Whole { bytes, from } => self.check_metadata(bytes, &from).await?,
                }
                Ok(())
            }
        }
    }

    /// A piece of the metadata, or a word that there is none: not known, no such piece, or more than a peer's share.
    fn serve_metadata(&mut self, piece: u32) {
        let Some(id) = self.extended.metadata else { return };
        let info = self.known.as_ref().map(|k| k.info_bytes.clone()).unwrap_or_default();
        let mut answer = MetadataMessage::answer(&info, piece);
        if let MetadataMessage::Data { data, .. } = &answer {
            self.metadata_out += data.len() as u64;
            if self.metadata_out > METADATA_SHARE * info.len() as u64 {
                answer = MetadataMessage::Reject(piece);
            }
        }
        // One that asks for all at once and reads slowly is told to come again, rather than left waiting.
        if !self.queue.push(Message::Extended { id, payload: answer.encode() }) {
            self.queue.push(Message::Extended { id, payload: MetadataMessage::Reject(piece).encode() });
        }
    }

    async fn check_metadata(&mut self, bytes: Bytes, from: &[LinkId]) -> Step {
        let hashed = bytes.clone();
        let sum = tokio::task::spawn_blocking(move || {
            let mut sha = Sha1::new();
            sha.update(&hashed);
            sha.finish()
        });
        let good = sum.await.is_ok_and(|s| s == self.shared.config.info_hash.0);
        let verdict = self.shared.metadata.lock().checked(bytes.len(), from, good);
        match verdict {
            Verdict::First => return self.tell(SwarmEvent::Metadata(bytes)).await,
            Verdict::Again => {}
            Verdict::Liar(liar) => self.shared.close(liar, true),
        }
        self.ask_metadata();
        Ok(())
    }

    fn hear_peers(&mut self, payload: &[u8]) -> Step {
        if !self.shared.uses_pex() {
            return Ok(());
        }
        if self.pex_heard.is_some_and(|at| at.elapsed() < pex::MIN_INTERVAL) {
            self.pex_hasty += 1;
            let flood = self.pex_hasty > MAX_HASTY;
            return if flood { Err(LinkEnd::Breach("it floods us with addresses")) } else { Ok(()) };
        }
        self.pex_heard = Some(Instant::now());
        // A peer on this machine may speak of others on it; a stranger may not make us knock on our own doors.
        let here = self.addr.ip().is_loopback();
        let added = pex::added(payload).unwrap_or_default();
        self.shared.found_by_pex(added.into_iter().filter(|p| here || !p.addr.ip().to_canonical().is_loopback()));
        Ok(())
    }

    fn tell_peers(&mut self) {
        let Some(id) = self.extended.pex else { return };
        if Instant::now() < self.pex_next || !self.shared.uses_pex() {
            return;
        }
        self.pex_next = Instant::now() + pex::INTERVAL;
        if let Some(payload) = self.pex_told.next(self.shared.dialable(self.link).into_iter()) {
            self.queue.push(Message::Extended { id, payload });
        }
    }
}

/// The room for the next reads after one that brought `n` bytes.
fn fit(room: usize, n: usize) -> usize {
    match room {
        ROOM_BLOCKS.. if n + n / 2 >= room => (2 * room).min(ROOM_MOST),
        ROOM_BLOCKS.. if n < room / 8 => (room / 2).max(ROOM_BLOCKS),
        _ => room,
    }
}

/// Whether the span is a real stretch of a real piece.
fn inside(k: &Known, s: Span) -> bool {
    let len = k.layout.piece_range(PieceIndex(s.piece)).len();
    s.piece < k.layout.piece_count() && s.len > 0 && u64::from(s.begin) + u64::from(s.len) <= len
}

//! What waits to be written to one peer.
//!
//! Invariant: bounded. Control messages go before blocks, so a request never waits behind an upload; one block at a time
//! leaves the queue. A request that is cancelled before it was written leaves no trace. Each request of the peer is answered
//! exactly once where the peer speaks BEP 6, by its block or by a reject, and at most once where it does not.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::handshake::OUR_QUEUE;
use super::wire::{Message, Span, put_block_head};

/// Control messages one slow peer may make us hold; 4 MiB at most, since extended messages are at most 16 KiB and few.
const MAX_CONTROL: usize = 20_000;

/// Bytes of extended messages (metadata we serve) one slow peer may make us hold.
const MAX_EXTENDED: usize = 512 * 1024;

/// Bytes of blocks that wait for one peer; more are dropped, the peer asks again.
const MAX_BLOCKS: usize = 4 * 1024 * 1024;

/// Written with one call at most: enough for any burst of requests, little enough to write at once.
const BATCH: usize = 32 * 1024;

/// See the module.
#[derive(Debug)]
pub struct Queue {
    inner: Mutex<Inner>,
    wake: Notify,
    /// The peer speaks BEP 6.
    fast: bool,
}

#[derive(Debug)]
struct Inner {
    control: VecDeque<Message>,
    extended_bytes: usize,
    blocks: VecDeque<(Span, Bytes)>,
    block_bytes: usize,
    /// Asked by the peer, not yet answered.
    asked: HashSet<Span>,
    /// Pieces it may ask for while choked (BEP 6), and the bytes it may yet: each byte once.
    granted: HashMap<u32, u32>,
    /// The id under which it takes lt_donthave; 0 is none.
    dont_have: u8,
    choking: bool,
    interested: bool,
    /// The driver decided about interest; what was said early is its own from then on.
    decided: bool,
    overflow: bool,
}

/// The next bytes for the socket.
#[derive(Debug, Default)]
pub struct Batch {
    pub head: BytesMut,
    /// Follows `head`, uncopied.
    pub block: Bytes,
}

impl Queue {
    pub fn new(fast: bool) -> Self {
        let inner = Inner {
            control: VecDeque::new(),
            extended_bytes: 0,
            blocks: VecDeque::new(),
            block_bytes: 0,
            asked: HashSet::new(),
            granted: HashMap::new(),
            dont_have: 0,
            choking: true,
            interested: false,
            decided: false,
            overflow: false,
        };
        Self { inner: Mutex::new(inner), wake: Notify::new(), fast }
    }

    /// Adds a control message. False when it is an extended one for which there is no room until the peer reads more.
    pub fn push(&self, m: Message) -> bool {
        let mut q = self.inner.lock();
        if let Message::Extended { payload, .. } = &m {
            if q.extended_bytes + payload.len() > MAX_EXTENDED {
                return false;
            }
            q.extended_bytes += payload.len();
        }
        q.add(m);
        drop(q);
        self.wake.notify_one();
        true
    }

    /// The peer may ask for this piece while choked, `bytes` of it in all (BEP 6); tells it so.
    pub fn grant(&self, piece: u32, bytes: u32) {
        let mut q = self.inner.lock();
        q.granted.insert(piece, bytes);
        q.add(Message::AllowedFast(piece));
        drop(q);
        self.wake.notify_one();
    }

    /// The id under which the peer takes lt_donthave; 0 when it does not.
    pub fn takes_dont_have(&self, id: u8) {
        self.inner.lock().dont_have = id;
    }

    /// We have the piece no longer: it is told, if it understands; a Have that waits is withdrawn.
    pub fn retract(&self, piece: u32) {
        let mut q = self.inner.lock();
        q.granted.remove(&piece);
        if let Some(at) = q.control.iter().rposition(|m| *m == Message::Have(piece)) {
            q.control.remove(at);
        } else if q.dont_have != 0 {
            let (id, payload) = (q.dont_have, Bytes::copy_from_slice(&piece.to_be_bytes()));
            q.extended_bytes += payload.len();
            q.add(Message::Extended { id, payload });
        }
        drop(q);
        self.wake.notify_one();
    }

    /// Withdraws a request of ours: unwritten it just disappears.
    pub fn cancel(&self, span: Span) {
        let mut q = self.inner.lock();
        if let Some(at) = q.control.iter().rposition(|m| *m == Message::Request(span)) {
            q.control.remove(at);
            return;
        }
        drop(q);
        self.push(Message::Cancel(span));
    }

    /// The peer was told already, with the first bytes.
    pub fn was_told_interested(&self) {
        self.inner.lock().interested = true;
    }

    /// The peer has nothing for us: takes back what was said early, unless the driver has decided by now.
    pub fn take_back_interest(&self) {
        let mut q = self.inner.lock();
        if q.decided || !std::mem::take(&mut q.interested) {
            return;
        }
        drop(q);
        self.push(Message::NotInterested);
    }

    /// Says so only where it is news.
    pub fn set_interested(&self, interested: bool) {
        let mut q = self.inner.lock();
        q.decided = true;
        let before = std::mem::replace(&mut q.interested, interested);
        drop(q);
        if before != interested {
            self.push(if interested { Message::Interested } else { Message::NotInterested });
        }
    }

    /// Chokes or unchokes the peer; choking drops what it asked for, but for pieces it was granted.
    pub fn set_choking(&self, choking: bool) {
        let mut q = self.inner.lock();
        if q.choking == choking {
            return;
        }
        q.choking = choking;
        q.add(if choking { Message::Choke } else { Message::Unchoke });
        if choking {
            let Inner { blocks, block_bytes, asked, granted, .. } = &mut *q;
            let mut dropped: Vec<Span> = Vec::new();
            blocks.retain(|(span, _)| {
                let stays = granted.contains_key(&span.piece);
                if !stays {
                    *block_bytes -= span.len as usize;
                    dropped.push(*span);
                }
                stays
            });
            dropped.extend(asked.extract_if(|span| !granted.contains_key(&span.piece)));
            if self.fast {
                dropped.into_iter().for_each(|span| q.add(Message::Reject(span)));
            }
        }
        drop(q);
        self.wake.notify_one();
    }

    /// The peer asks for something. False when it may not: choked and not granted, or too much at once; it is told where
    /// it can be.
    pub fn asked(&self, span: Span) -> bool {
        let mut q = self.inner.lock();
        if q.asked.contains(&span) || q.blocks.iter().any(|(s, _)| *s == span) {
            return false;
        }
        let may = q.asked.len() < OUR_QUEUE as usize && (!q.choking || q.spend(span));
        if may {
            q.asked.insert(span);
        } else if self.fast {
            q.add(Message::Reject(span));
            drop(q);
            self.wake.notify_one();
        }
        may
    }

    /// The peer asks for what we do not have, or cannot know yet.
    pub fn refuse(&self, span: Span) {
        if self.fast {
            self.push(Message::Reject(span));
        }
    }

    /// The peer withdraws what it asked for. False when it was answered already or never asked.
    pub fn unasked(&self, span: Span) -> bool {
        let mut q = self.inner.lock();
        let was = q.asked.remove(&span);
        if let Some(at) = q.blocks.iter().position(|(s, _)| *s == span) {
            q.blocks.remove(at);
            q.block_bytes -= span.len as usize;
        } else if !was {
            return false;
        }
        drop(q);
        if self.fast {
            self.push(Message::Reject(span));
        }
        was
    }

    /// What the peer asked for will not be answered; it is told where it can be.
    pub fn reject(&self, span: Span) {
        let was = self.inner.lock().asked.remove(&span);
        if was && self.fast {
            self.push(Message::Reject(span));
        }
    }

    /// Adds a block the peer asked for; dropped when it no longer wants it or reads too slowly.
    pub fn send(&self, piece: u32, begin: u32, data: Bytes) {
        let span = Span { piece, begin, len: data.len() as u32 };
        let mut q = self.inner.lock();
        if !q.asked.remove(&span) {
            return;
        }
        if q.block_bytes + data.len() > MAX_BLOCKS {
            drop(q);
            if self.fast {
                self.push(Message::Reject(span));
            }
            return;
        }
        q.block_bytes += data.len();
        q.blocks.push_back((span, data));
        drop(q);
        self.wake.notify_one();
    }

    /// Fills `batch` with the next bytes to write; false when there are none.
    pub fn take(&self, batch: &mut Batch) -> bool {
        batch.head.clear();
        batch.block = Bytes::new();
        let mut q = self.inner.lock();
        while batch.head.len() < BATCH {
            let Some(m) = q.control.pop_front() else { break };
            if let Message::Extended { payload, .. } = &m {
                q.extended_bytes -= payload.len();
            }
            m.put(&mut batch.head);
        }
        if q.control.is_empty()
            && let Some((span, data)) = q.blocks.pop_front()
        {
            q.block_bytes -= data.len();
            put_block_head(&mut batch.head, span.piece, span.begin, data.len());
            batch.block = data;
        }
        !batch.head.is_empty()
    }

    /// Resolves when something was added since the last call.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    /// The peer takes so little that it cannot be kept.
    pub fn overflowed(&self) -> bool {
        self.inner.lock().overflow
    }
}

impl Inner {
    fn add(&mut self, m: Message) {
        self.overflow |= self.control.len() >= MAX_CONTROL;
        if !self.overflow {
            self.control.push_back(m);
        }
    }

    /// Takes a request of a choked peer off what it was granted; false when that is not enough.
    fn spend(&mut self, span: Span) -> bool {
        let Some(left) = self.granted.get_mut(&span.piece) else { return false };
        match left.checked_sub(span.len) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Decoder;
    use super::*;

    fn span(piece: u32) -> Span {
        Span { piece, begin: 0, len: 4 }
    }

    fn written(q: &Queue) -> Vec<Message> {
        let (mut batch, mut all) = (Batch::default(), BytesMut::new());
        while q.take(&mut batch) {
            all.extend_from_slice(&batch.head);
            all.extend_from_slice(&batch.block);
        }
        let mut d = Decoder::default();
        std::iter::from_fn(|| d.next(&mut all).unwrap()).collect()
    }

    #[test]
    fn requests_go_before_blocks() {
        let q = Queue::new(true);
        q.set_choking(false);
        assert!(q.asked(span(1)));
        q.send(1, 0, Bytes::from_static(b"abcd"));
        q.push(Message::Request(span(9)));
        let got = written(&q);
        assert_eq!(got[..2], [Message::Unchoke, Message::Request(span(9))]);
        assert!(matches!(got[2..], [Message::Block { piece: 1, .. }]));
    }

    #[test]
    fn early_interest_is_taken_back_only_before_the_driver_decides() {
        let q = Queue::new(true);
        q.was_told_interested();
        q.set_interested(true);
        q.take_back_interest();
        assert_eq!(written(&q), []);
        let q = Queue::new(true);
        q.was_told_interested();
        q.take_back_interest();
        q.take_back_interest();
        q.set_interested(true);
        assert_eq!(written(&q), [Message::NotInterested, Message::Interested]);
    }

    #[test]
    fn a_request_cancelled_in_time_leaves_no_trace() {
        let q = Queue::new(false);
        q.push(Message::Request(span(1)));
        q.push(Message::Request(span(2)));
        q.cancel(span(1));
        assert_eq!(written(&q), [Message::Request(span(2))]);
        q.cancel(span(2));
        assert_eq!(written(&q), [Message::Cancel(span(2))]);
    }

    #[test]
    fn each_request_of_a_peer_is_answered_once() {
        let q = Queue::new(true);
        assert!(!q.asked(span(0)), "choked");
        q.set_choking(false);
        for p in 1..=3 {
            assert!(q.asked(span(p)));
        }
        assert!(!q.asked(span(3)), "asked twice");
        q.send(1, 0, Bytes::from_static(b"abcd"));
        assert!(q.unasked(span(2)));
        q.send(2, 0, Bytes::from_static(b"abcd"));
        assert!(!q.unasked(span(1)) && !q.unasked(span(7)));
        q.set_choking(true);
        q.set_choking(true);
        let got = written(&q);
        let rejects = |p| got.iter().filter(|m| **m == Message::Reject(span(p))).count();
        assert_eq!([0, 1, 2, 3, 7].map(rejects), [1, 1, 1, 1, 0]);
        assert_eq!(got.iter().filter(|m| **m == Message::Choke).count(), 1);
        assert!(!got.iter().any(|m| matches!(m, Message::Block { .. })));
    }

    #[test]
    fn a_choked_peer_gets_what_it_was_granted_once() {
        let q = Queue::new(true);
        q.grant(1, 8);
        assert!(q.asked(span(1)) && !q.asked(span(2)));
        q.send(1, 0, Bytes::from_static(b"abcd"));
        assert!(q.asked(Span { begin: 4, ..span(1) }) && !q.asked(Span { begin: 8, ..span(1) }), "each byte once");
        let got = written(&q);
        assert_eq!(got[0], Message::AllowedFast(1));
        assert!(got.contains(&Message::Reject(span(2))) && matches!(got.last(), Some(Message::Block { piece: 1, .. })));
        // What was granted survives a choke, what was not is rejected although its block was waiting already.
        q.set_choking(false);
        assert!(q.asked(span(1)) && q.asked(span(3)) && q.asked(span(4)));
        q.send(1, 0, Bytes::from_static(b"abcd"));
        q.send(3, 0, Bytes::from_static(b"abcd"));
        q.set_choking(true);
        let got = written(&q);
        let rejected = |p| got.contains(&Message::Reject(span(p)));
        assert_eq!([1, 3, 4].map(rejected), [false, true, true]);
        assert!(matches!(got.last(), Some(Message::Block { piece: 1, .. })));
        assert_eq!(q.inner.lock().block_bytes, 0);
    }

    #[test]
    fn a_piece_given_up_is_told_to_those_who_understand() {
        let q = Queue::new(true);
        q.retract(7);
        assert_eq!(written(&q), []);
        q.takes_dont_have(9);
        q.push(Message::Have(8));
        q.retract(8);
        assert_eq!(written(&q), [], "never told that we had it");
        q.retract(7);
        assert_eq!(written(&q), [Message::Extended { id: 9, payload: Bytes::from_static(&[0, 0, 0, 7]) }]);
    }

    #[test]
    fn a_peer_that_reads_nothing_is_noticed_and_holds_little() {
        let q = Queue::new(false);
        for i in 0..MAX_CONTROL as u32 + 5 {
            q.push(Message::Have(i));
        }
        assert!(q.overflowed());
        let q = Queue::new(false);
        for _ in 0..100 {
            q.push(Message::Extended { id: 1, payload: Bytes::from(vec![0; 16 * 1024]) });
        }
        assert!(q.inner.lock().extended_bytes <= MAX_EXTENDED && !q.overflowed());
    }
}

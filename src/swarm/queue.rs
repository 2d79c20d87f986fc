//! What waits to be written to one peer.
//!
//! Invariant: bounded. Control messages go before blocks, so a request never waits behind an upload; one block at a time
//! leaves the queue. A request that is cancelled before it was written leaves no trace, and each request of the peer is
//! answered at most once: by its block, or, where the peer speaks BEP 6, by a reject.

use std::collections::{HashSet, VecDeque};

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
            choking: true,
            interested: false,
            decided: false,
            overflow: false,
        };
        Self { inner: Mutex::new(inner), wake: Notify::new(), fast }
    }

    /// Adds a control message.
    pub fn push(&self, m: Message) {
        let mut q = self.inner.lock();
        if let Message::Extended { payload, .. } = &m {
            if q.extended_bytes + payload.len() > MAX_EXTENDED {
                return;
            }
            q.extended_bytes += payload.len();
        }
        q.overflow |= q.control.len() >= MAX_CONTROL;
        if !q.overflow {
            q.control.push_back(m);
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

    /// Chokes or unchokes the peer; choking drops what it asked for.
    pub fn set_choking(&self, choking: bool) {
        let mut q = self.inner.lock();
        if q.choking == choking {
            return;
        }
        q.choking = choking;
        q.control.push_back(if choking { Message::Choke } else { Message::Unchoke });
        if choking {
            q.blocks.clear();
            q.block_bytes = 0;
            let asked = std::mem::take(&mut q.asked);
            if self.fast {
                q.control.extend(asked.into_iter().map(Message::Reject));
            }
        }
        drop(q);
        self.wake.notify_one();
    }

    /// The peer asks for something. False when it may not: choked, or too much at once; it is told where it can be.
    pub fn asked(&self, span: Span) -> bool {
        let mut q = self.inner.lock();
        let take = !q.choking && q.asked.len() < OUR_QUEUE as usize && !q.asked.contains(&span);
        if take {
            q.asked.insert(span);
            return true;
        }
        let again = q.asked.contains(&span);
        drop(q);
        if self.fast && !again {
            self.push(Message::Reject(span));
        }
        false
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

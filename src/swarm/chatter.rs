//! How much a peer may say besides blocks.
//!
//! Invariant: what a peer can make us decide is bounded in time, however short its messages: five bytes can make the engine
//! plan anew, or a set of 20,000 pieces be laid out. Honest peers stay below by far. Sans-IO: time comes in.

use std::time::Duration;

use tokio::time::Instant;

use super::link::LinkEnd;
use super::wire::Message;

/// Points that pile up while a peer is quiet, and how many come back in a second.
const MOST: f64 = 1000.0;
const PER_SECOND: f64 = 50.0;

/// See the module.
#[derive(Debug)]
pub struct Chatter {
    left: f64,
    at: Instant,
}

impl Chatter {
    pub fn new(now: Instant) -> Self {
        Self { left: MOST, at: now }
    }

    /// Takes a message off what the peer may say.
    ///
    /// # Errors
    /// [`LinkEnd::Breach`] when it is too much; the same for the others here.
    pub fn take(&mut self, m: &Message, now: Instant) -> Result<(), LinkEnd> {
        self.spend(cost(m), now)
    }

    /// It asked for what it may not have. Each choke may leave five hundred requests in the air.
    pub fn refused(&mut self, now: Instant) -> Result<(), LinkEnd> {
        self.spend(0.5, now)
    }

    fn spend(&mut self, points: f64, now: Instant) -> Result<(), LinkEnd> {
        if points == 0.0 {
            return Ok(());
        }
        let passed = now.saturating_duration_since(self.at).min(Duration::from_secs(3600));
        self.left = (self.left + passed.as_secs_f64() * PER_SECOND).min(MOST) - points;
        self.at = now;
        if self.left < 0.0 { Err(LinkEnd::Breach("it says too much and gives too little")) } else { Ok(()) }
    }
}

/// By what it makes us do, and by how often an honest peer says it.
fn cost(m: &Message) -> f64 {
    match m {
        // Bounded by what was asked, by the number of pieces, by its own length; and the faster we serve, the more is
        // asked of us.
        Message::Block { .. } | Message::Reject(_) | Message::Have(_) | Message::Request(_) => 0.0,
        // Few of the requests of an honest peer are withdrawn.
        Message::Cancel(_) => 0.02,
        // Ten at the start; a hint now and then.
        Message::KeepAlive | Message::Port(_) | Message::AllowedFast(_) | Message::Suggest(_) => 1.0,
        // Every ten seconds or so.
        Message::Choke | Message::Unchoke | Message::Interested | Message::NotInterested => 5.0,
        // Metadata comes and goes in up to 2048 pieces of 16 KiB each way, others each minute; lt_donthave for each piece
        // that a peer's cache gives up.
        Message::Extended { payload, .. } => 0.2 + payload.len() as f64 / 64_000.0,
        // Once, by the standard.
        Message::Bitfield(_) | Message::HaveAll | Message::HaveNone => 100.0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::wire::Span;
    use super::*;

    /// How many of these a peer may say at once, up to a million.
    fn at_once(m: &Message) -> usize {
        let now = Instant::now();
        let mut c = Chatter::new(now);
        (0..1_000_000).take_while(|_| c.take(m, now).is_ok()).count()
    }

    #[test]
    fn what_is_dear_is_counted_and_blocks_are_free() {
        assert_eq!(at_once(&Message::HaveAll), 10);
        assert_eq!(at_once(&Message::Unchoke), 200);
        assert_eq!(at_once(&Message::Have(1)), 1_000_000);
        let metadata = Message::Extended { id: 3, payload: Bytes::from(vec![0; 16 * 1024 + 60]) };
        assert!((2048..3000).contains(&at_once(&metadata)));
        let now = Instant::now();
        let mut c = Chatter::new(now);
        assert_eq!((0..9999).take_while(|_| c.refused(now).is_ok()).count(), 2000);
    }

    #[test]
    fn a_busy_honest_peer_is_never_dropped() {
        let start = Instant::now();
        let mut c = Chatter::new(start);
        let span = Span { piece: 1, begin: 0, len: 16384 };
        for second in 0..600u64 {
            let now = start + Duration::from_secs(second);
            let mut say = |m: Message| c.take(&m, now).unwrap();
            (0..1000).for_each(|_| say(Message::Request(span)));
            (0..200).for_each(|_| say(Message::Cancel(span)));
            if second.is_multiple_of(10) {
                [Message::Choke, Message::Unchoke, Message::Interested, Message::NotInterested]
                    .into_iter()
                    .for_each(&mut say);
                say(Message::Extended { id: 1, payload: Bytes::from(vec![0; 600]) });
            }
        }
    }

    #[test]
    fn a_flood_ends_soon_at_any_pace_above_the_bound() {
        let start = Instant::now();
        let mut c = Chatter::new(start);
        let said = (0..10_000u64).take_while(|i| {
            let now = start + Duration::from_millis(i * 50);
            c.take(&Message::Choke, now).is_ok()
        });
        // A hundred points a second against fifty that come back.
        assert!((150..500).contains(&said.count()));
    }
}

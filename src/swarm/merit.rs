//! Who deserves a place when there are more peers than places: what a link was asked for, what came of it, and since when
//! nothing did.
//!
//! Invariant: a block that was not asked of a link is never taken from it, and what is remembered of requests is bounded
//! ([`MOST_ASKS`]). Sans-IO: time comes in.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::wire::Span;

/// Requests remembered: what may be outstanding (250), and as many again that were withdrawn and may still be answered,
/// several seeks over.
const MOST_ASKS: usize = 1024;

/// A peer that has shaken hands and then says nothing, not even what it has, is no peer after this.
const MUTE: Duration = Duration::from_secs(2);

/// Asked for blocks, and none came: the engine counts such a link as snubbing after as long.
const STALLING: Duration = Duration::from_secs(6);

/// Nothing went either way: some choke a newcomer for three rounds of ten seconds before its turn comes.
const IDLE: Duration = Duration::from_secs(60);

/// The same while hardly anybody gives: then a stranger is worth more than one that keeps us waiting.
const IDLE_IN_NEED: Duration = Duration::from_secs(12);

/// Blocks that a peer may send without having been asked, and one more for so many that it was asked for: a request that
/// was withdrawn and made again may be answered twice.
const UNASKED_FREE: u64 = 64;
const UNASKED_SHARE: u64 = 8;

/// How much a link is worth keeping, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// Said nothing yet; places are not counted against it.
    Mute,
    /// Lets requests lie.
    Stalling,
    /// Nothing has passed for a while.
    Idle,
    /// Too young to tell, or of use.
    Good,
}

/// What came of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    Asked,
    /// Drop it.
    Unasked,
    /// Drop it and the peer.
    Flood,
}

/// See the module.
#[derive(Debug)]
pub struct Merit {
    since: Instant,
    spoke: bool,
    /// What may still be answered, and whether we still want it.
    open: HashMap<Span, bool>,
    /// The same and more, oldest first.
    order: VecDeque<Span>,
    /// Of `open`, those that we want.
    wanted: usize,
    /// Since when it owes us the next block.
    owing: Option<Instant>,
    /// When a block last went either way.
    moved: Option<Instant>,
    gave: bool,
    blocks: u64,
    unasked: u64,
}

impl Merit {
    pub fn new(now: Instant) -> Self {
        Self {
            since: now,
            spoke: false,
            open: HashMap::new(),
            order: VecDeque::new(),
            wanted: 0,
            owing: None,
            moved: None,
            gave: false,
            blocks: 0,
            unasked: 0,
        }
    }

    /// A message came.
    pub fn spoke(&mut self) {
        self.spoke = true;
    }

    /// A request goes out.
    pub fn ask(&mut self, span: Span, now: Instant) {
        self.owing.get_or_insert(now);
        match self.open.insert(span, true) {
            Some(wanted) => self.wanted += usize::from(!wanted),
            None => {
                self.wanted += 1;
                self.order.push_back(span);
            }
        }
        while self.order.len() > MOST_ASKS {
            if let Some(old) = self.order.pop_front() {
                self.close(old);
            }
        }
    }

    /// A request was taken back before it went out.
    pub fn unask(&mut self, span: Span) {
        self.close(span);
    }

    /// A request is withdrawn: the block may be on its way already.
    pub fn withdraw(&mut self, span: Span) {
        if let Some(wanted) = self.open.get_mut(&span) {
            self.wanted -= usize::from(std::mem::take(wanted));
        }
        self.settle();
    }

    /// The peer refuses a request. False when it was not asked.
    pub fn refused(&mut self, span: Span) -> bool {
        self.close(span)
    }

    /// It chokes us and answers no more, but for what is on its way.
    pub fn choked(&mut self) {
        self.open.values_mut().for_each(|wanted| *wanted = false);
        self.wanted = 0;
        self.settle();
    }

    /// A block came.
    pub fn block(&mut self, span: Span, now: Instant) -> Taken {
        if self.close(span) {
            self.blocks += 1;
            self.gave = true;
            self.moved = Some(now);
            self.owing = (self.wanted > 0).then_some(now);
            return Taken::Asked;
        }
        self.unasked += 1;
        if self.unasked > UNASKED_FREE + self.blocks / UNASKED_SHARE { Taken::Flood } else { Taken::Unasked }
    }

    /// A block went out.
    pub fn sent(&mut self, now: Instant) {
        self.moved = Some(now);
    }

    fn close(&mut self, span: Span) -> bool {
        let Some(wanted) = self.open.remove(&span) else { return false };
        self.wanted -= usize::from(wanted);
        if self.order.front() == Some(&span) {
            self.order.pop_front();
        }
        if self.open.is_empty() {
            self.order.clear();
        }
        self.settle();
        true
    }

    fn settle(&mut self) {
        if self.wanted == 0 {
            self.owing = None;
        }
    }

    pub fn is_mute(&self) -> bool {
        !self.spoke
    }

    /// It gave something lately.
    pub fn gives(&self, now: Instant) -> bool {
        self.gave && self.moved.is_some_and(|at| now.saturating_duration_since(at) < IDLE_IN_NEED)
    }

    /// `in_need`: hardly anybody gives.
    pub fn worth(&self, now: Instant, in_need: bool) -> Worth {
        let since = |at: Instant| now.saturating_duration_since(at);
        let idle = since(self.moved.unwrap_or(self.since));
        if !self.spoke && since(self.since) > MUTE {
            Worth::Mute
        } else if self.owing.is_some_and(|at| since(at) > STALLING) {
            Worth::Stalling
        } else if idle > if in_need { IDLE_IN_NEED } else { IDLE } {
            Worth::Idle
        } else {
            Worth::Good
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(piece: u32) -> Span {
        Span { piece, begin: 0, len: 4 }
    }

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn only_what_was_asked_is_taken_and_each_once() {
        let now = Instant::now();
        let mut m = Merit::new(now);
        m.ask(span(1), now);
        m.ask(span(2), now);
        m.unask(span(2));
        assert_eq!(m.block(span(1), now), Taken::Asked);
        assert_eq!([m.block(span(1), now), m.block(span(2), now), m.block(span(3), now)], [Taken::Unasked; 3]);
        assert!(!m.refused(span(1)));
        let floods = (0..UNASKED_FREE).filter(|_| m.block(span(9), now) == Taken::Flood).count();
        assert_eq!(floods, 3);
    }

    #[test]
    fn requests_remembered_are_bounded_however_they_end() {
        let now = Instant::now();
        let mut m = Merit::new(now);
        for i in 0..10_000 {
            m.ask(span(i), now);
            if i % 3 == 0 {
                m.block(span(i), now);
            }
            assert!(m.open.len() <= MOST_ASKS && m.order.len() <= MOST_ASKS);
        }
        assert_eq!(m.block(span(9_998), now), Taken::Asked);
        assert_eq!(m.block(span(1), now), Taken::Unasked, "forgotten");
    }

    #[test]
    fn a_link_is_worth_what_it_does() {
        let now = Instant::now();
        let mut m = Merit::new(now);
        assert_eq!((m.worth(now + secs(1), true), m.worth(now + secs(3), false)), (Worth::Good, Worth::Mute));
        m.spoke();
        assert_eq!((m.worth(now + secs(13), false), m.worth(now + secs(13), true)), (Worth::Good, Worth::Idle));
        assert_eq!(m.worth(now + secs(61), false), Worth::Idle);
        m.ask(span(1), now + secs(60));
        m.ask(span(2), now + secs(65));
        assert_eq!(m.worth(now + secs(67), false), Worth::Stalling);
        m.block(span(1), now + secs(67));
        assert_eq!(m.worth(now + secs(72), false), Worth::Good);
        assert_eq!(m.worth(now + secs(74), false), Worth::Stalling);
        m.withdraw(span(2));
        assert!(m.worth(now + secs(74), false) == Worth::Good && m.gives(now + secs(74)) && !m.gives(now + secs(90)));
    }
}

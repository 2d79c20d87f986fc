//! Who speaks to whom: nodes find, dial and leave each other, with the time that takes on the way.
//!
//! Invariant: a link has an end at both nodes or soon has none: who hangs up says so, and who is told of a link that it does not
//! know says so as well.

use std::time::Duration;

use super::node::{Actor, ORIGIN, Turn};
use super::step::{Call, Message, Step};
use crate::engine::Event;
use crate::units::LinkId;

/// A node looks for more links this often.
const DIAL_EVERY: Duration = Duration::from_secs(5);

impl Turn<'_> {
    /// Dials another node; hands are shaken two round trips later (SYN and answer, handshake and answer).
    fn connect(&mut self, to: u32, server: bool) {
        let (now, delay) = (self.now(), self.ctx.delay(self.n.id, to));
        let link = self.n.ends.open(to, None, delay, server);
        self.n.post.send(now + delay, to, Step::Call(Call { node: self.n.id, link, server }));
        self.begin(link, server);
    }

    fn begin(&mut self, link: LinkId, server: bool) {
        match &mut self.n.actor {
            Actor::Host(h) if server => h.origin = Some(link),
            Actor::Script(s) => s.meet(link),
            Actor::Host(_) | Actor::Away | Actor::Web(_) => {}
        }
    }

    pub fn find(&mut self) {
        if let Some(origin) = self.ctx.origin.filter(|_| self.n.host().is_some_and(|h| h.origin.is_none())) {
            self.connect(origin, true);
        }
    }

    pub fn called(&mut self, call: Call) {
        let (now, delay) = (self.now(), self.ctx.delay(self.n.id, call.node));
        let takes = match &self.n.actor {
            Actor::Away => false,
            Actor::Web(_) => call.server,
            Actor::Script(_) => !self.n.ends.linked(call.node),
            Actor::Host(h) => !h.banned.contains(&call.node) && !self.n.ends.linked(call.node),
        };
        if !takes {
            return self.n.post.send(now + delay, call.node, Step::Gone(call.link));
        }
        let link = self.n.ends.open(call.node, Some(call.link), delay, call.server);
        let answer = Call { node: self.n.id, link, ..call };
        self.n.post.send(now + delay, call.node, Step::Answer { link: call.link, call: answer });
        self.n.post.later(now + delay * 3, Step::Meet(link));
        self.begin(link, call.server);
    }

    pub fn answered(&mut self, link: LinkId, call: Call) {
        let now = self.now();
        match self.n.ends.get_mut(link) {
            Some(end) => {
                end.far = Some(call.link);
                let at = now + end.delay * 2;
                self.n.post.later(at, Step::Meet(link));
            }
            // Hung up meanwhile.
            None => {
                let delay = self.ctx.delay(self.n.id, call.node);
                self.n.post.send(now + delay, call.node, Step::Gone(call.link));
            }
        }
    }

    pub fn meet(&mut self, link: LinkId) {
        let Some(end) = self.n.ends.get_mut(link) else { return };
        end.up = true;
        let rtt = end.delay * 2;
        if end.server {
            let bidding = self.ctx.bidding;
            return self.tell(Event::OriginUp { origin: ORIGIN, bidding: Some(bidding), rtt: Some(rtt) });
        }
        let rtt = end.dialled.then_some(rtt);
        let (has, takes) = match &self.n.actor {
            Actor::Host(h) => (h.store.verified.clone(), false),
            Actor::Script(s) => (s.has.clone(), s.habits.takes > 0),
            Actor::Away | Actor::Web(_) => return,
        };
        end.post(Message::Bitfield(Box::new(has)), &mut self.n.post);
        if takes {
            end.post(Message::Interested(true), &mut self.n.post);
        }
        self.tell(Event::LinkUp { link, rtt });
    }

    /// The node closes a link: the other side learns of it after the path's delay.
    pub fn close(&mut self, link: LinkId) {
        let up = self.n.ends.get(link).is_some_and(|e| e.up && !e.server);
        self.hang_up(link);
        if up && self.n.host().is_some() {
            let now = self.now();
            self.n.post.later(now, Step::Down(link));
        }
    }

    pub fn hang_up(&mut self, link: LinkId) {
        let Some(end) = self.n.ends.remove(link) else { return };
        self.n.access.close(&end, &mut self.n.post);
        self.forget(link);
        if let Some(far) = end.far {
            let at = self.now() + end.delay;
            self.n.post.send(at, end.peer, Step::Gone(far));
        }
    }

    /// The other side closed the link, or did not take it.
    pub fn gone(&mut self, link: LinkId) {
        let Some(end) = self.n.ends.remove(link) else { return };
        self.n.access.close(&end, &mut self.n.post);
        self.forget(link);
        match &mut self.n.actor {
            Actor::Host(h) if end.server && end.up => {
                // A reset: ranges fail, and it is given up.
                let failed = std::mem::take(&mut h.fetches).into_keys();
                h.inbox.extend(failed.map(|fetch| Event::ServerFailed { fetch }));
                self.tell(Event::OriginDown { origin: ORIGIN });
            }
            Actor::Host(_) if end.up => self.tell(Event::LinkDown { link }),
            Actor::Web(w) => w.forget(end.peer),
            Actor::Host(_) | Actor::Away | Actor::Script(_) => {}
        }
    }

    fn forget(&mut self, link: LinkId) {
        match &mut self.n.actor {
            Actor::Host(h) if h.origin == Some(link) => h.origin = None,
            Actor::Script(s) => drop(s.desks.remove(&link)),
            Actor::Host(_) | Actor::Away | Actor::Web(_) => {}
        }
    }

    /// Looks for more peers, as many as are wanted.
    pub fn dial(&mut self) {
        let now = self.now();
        if matches!(self.n.actor, Actor::Away) {
            return;
        }
        self.n.post.later(now + DIAL_EVERY, Step::Dial);
        let have = self.n.ends.peers();
        let Some(want) = self.n.host().map(|h| h.links_wanted as usize) else { return };
        // Half of what is missing: others look for it as well.
        let mut dials = want.saturating_sub(have).div_ceil(2);
        let found = self.ctx.listed.len();
        // Those found are drawn blindly, as a tracker gives them: some are linked already.
        for _ in 0..3 * want {
            if dials == 0 {
                break;
            }
            let Some(other) = self.ctx.listed.get(self.n.dice.below(found)).copied() else { break };
            let banned = self.n.host().is_some_and(|h| h.banned.contains(&other));
            if other == self.n.id || banned || self.n.ends.linked(other) {
                continue;
            }
            self.connect(other, false);
            dials -= 1;
        }
    }
}

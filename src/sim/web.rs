//! The server of the film: it sends the ranges it is asked for, and grants bids.

use std::time::Duration;

use super::node::{Actor, Turn};
use super::scenario::OriginSpec;
use super::step::{Cargo, Granted, Message, Parcel};
use crate::engine::Bid;
use crate::units::{Instant, LinkId};

/// A grant that is not used is void after this, by the time it reaches who bid.
const GRANT_LIFE: Duration = Duration::from_secs(2);

/// The server's state.
#[derive(Debug)]
pub(super) struct Web {
    spec: OriginSpec,
}

impl Web {
    pub fn new(spec: OriginSpec) -> Self {
        Self { spec }
    }

    /// What the bid that came over this link is granted.
    fn grant(&mut self, _now: Instant, _link: LinkId, bid: &Bid) -> u64 {
        (bid.max_bits as f64 * self.spec.grants) as u64
    }
}

impl Turn<'_> {
    /// The server answers.
    pub fn web_mail(&mut self, link: LinkId, message: Message) {
        let (now, ctx) = (self.now(), self.ctx);
        let node = &mut *self.n;
        let (Actor::Web(web), Some(end)) = (&mut node.actor, node.ends.get_mut(link)) else { return };
        match message {
            Message::Fetch(fetch, range) => {
                for b in ctx.film.layout.blocks_in(*range) {
                    let bytes = ctx.film.layout.block_range(b).intersect(*range);
                    let lie = if node.dice.chance(web.spec.lies) { u32::MAX } else { 0 };
                    let cargo = Cargo::Range { fetch, upto: bytes.end, lie };
                    node.access.send(end, Parcel { cargo, len: bytes.len() as u32 }, &mut node.post);
                }
            }
            Message::Abort(fetch) => {
                end.unsend(|c| matches!(c, Cargo::Range { fetch: f, .. } if *f == fetch));
            }
            Message::Bid(bid) => {
                let bits = web.grant(now, link, &bid);
                let expires = now + GRANT_LIFE + end.delay;
                end.post(Message::Granted(Box::new(Granted { bits, expires })), &mut node.post);
            }
            _ => {}
        }
    }
}

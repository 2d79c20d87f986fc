//! The server of the film: it sends the ranges it is asked for, and grants bids.

use super::node::{Actor, Turn};
use super::origin::Desk;
use super::scenario::OriginSpec;
use super::step::{Cargo, Granted, Message, Parcel};
use super::world::MBIT;
use crate::units::LinkId;

/// The server's state.
#[derive(Debug)]
pub(super) struct Web {
    spec: OriginSpec,
    /// Where it takes bids, if it does.
    desk: Option<Desk>,
}

impl Web {
    pub fn new(spec: OriginSpec) -> Self {
        Self { desk: Desk::new(&spec, MBIT), spec }
    }

    /// The viewer is gone.
    pub fn forget(&mut self, viewer: u32) {
        if let Some(desk) = &mut self.desk {
            desk.forget(viewer);
        }
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
                if let Some(desk) = &mut web.desk {
                    desk.spend(now, end.peer, range.len() * 8);
                }
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
                let granted = web.desk.as_mut().and_then(|desk| desk.bid(now, end.peer, &bid));
                // Refused is granted nothing.
                let (bits, life) = granted.unwrap_or_default();
                // It counts from when the viewer hears of it, as in the protocol.
                let expires = now + life + end.delay;
                end.post(Message::Granted(Box::new(Granted { bits, expires })), &mut node.post);
            }
            _ => {}
        }
    }
}

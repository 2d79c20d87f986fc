//! One place in the network, and what happens there: it comes, takes its steps, and goes.
//!
//! Invariant: a turn changes its own node and nothing else. What it reads besides is the same for all through a window of time
//! ([`Ctx`]), and what it does to others are letters: so nodes may take their turns in any order, and at once.

use std::sync::Arc;
use std::time::Duration;

use super::dice::Dice;
use super::ends::Ends;
use super::film::Film;
use super::host::Host;
use super::net::Access;
use super::player::Player;
use super::post::Post;
use super::report::Outcome;
use super::scenario::{Group, Kind};
use super::script::Script;
use super::step::Step;
use super::store::Store;
use super::watch::Watch;
use super::web::Web;
use super::world::Options;
use crate::engine::{Engine, Event};
use crate::units::{ByteRange, Instant, MediaTime, OriginId, PieceIndex, PieceSet};

/// Links that a viewer seeks, where its group does not say.
const LINKS: u32 = 30;
/// What a server sends a viewer in so long after it came is the price of its start, not of what the swarm lacks.
const OPENING: Duration = Duration::from_secs(15);
/// The origin's number, as engines know it.
pub(super) const ORIGIN: OriginId = OriginId(0);

/// What is the same for all nodes within one window of time.
pub(super) struct Ctx {
    pub film: Arc<Film>,
    pub groups: Vec<Group>,
    pub options: Options,
    pub tracing: bool,
    /// Announcements are gathered for so many nanoseconds.
    pub have_every: u64,
    pub origin: Option<u32>,
    pub origin_after: Duration,
    /// The server takes bids.
    pub bidding: bool,
    /// One way from each node to the middle of the network.
    pub delays: Vec<Duration>,
    /// Which nodes are scripts: they know nothing of the fast extension.
    pub scripted: Vec<bool>,
    /// The least time from any node to another.
    pub least: Duration,
    /// Who could be found when the window began.
    pub listed: Vec<u32>,
}

impl Ctx {
    /// One way from node to node.
    pub fn delay(&self, a: u32, b: u32) -> Duration {
        let of = |n: u32| self.delays.get(n as usize).copied().unwrap_or_default();
        of(a) + of(b)
    }
}

/// What is written down of the turns of many nodes.
#[derive(Default)]
pub(super) struct Log {
    pub steps: u64,
    pub handled: u64,
    pub outcomes: Vec<Outcome>,
    /// What was found wrong: when, at which node, in words.
    pub faults: Vec<(Instant, u32, String)>,
    /// Lines of the trace.
    pub lines: Vec<(Instant, u32, String)>,
    /// Who came, and who went.
    pub moves: Vec<(Instant, u32, bool)>,
}

/// What runs in a node now.
pub(super) enum Actor {
    Away,
    Host(Box<Host>),
    Script(Box<Script>),
    Web(Box<Web>),
}

/// One place in the network.
pub(super) struct Node {
    pub id: u32,
    pub actor: Actor,
    /// Which group it is of; the origin is of none.
    pub group: Option<usize>,
    pub up: f64,
    /// How far into the film it is when it comes, seconds: those of a steady population who came before the start.
    pub place: f64,
    pub dice: Dice,
    pub post: Post,
    pub ends: Ends,
    pub access: Access,
}

impl Node {
    pub fn host(&mut self) -> Option<&mut Host> {
        match &mut self.actor {
            Actor::Host(h) => Some(h),
            Actor::Away | Actor::Script(_) | Actor::Web(_) => None,
        }
    }
}

/// A node's turn: it takes what is due there.
pub(super) struct Turn<'a> {
    pub n: &'a mut Node,
    pub ctx: &'a Ctx,
    pub log: &'a mut Log,
}

impl Turn<'_> {
    pub fn now(&self) -> Instant {
        self.n.post.now
    }

    /// Takes all steps before `until`.
    pub fn take_all(&mut self, until: Instant) {
        while let Some(step) = self.n.post.pop(until) {
            self.log.steps += 1;
            self.take(step);
        }
    }

    fn take(&mut self, step: Step) {
        let now = self.now();
        match step {
            Step::Join => self.join(),
            Step::Leave => self.leave(),
            Step::Dial => self.dial(),
            Step::Find => self.find(),
            Step::Call(call) => self.called(call),
            Step::Answer { link, call } => self.answered(link, call),
            Step::Meet(link) => self.meet(link),
            Step::Gone(link) => self.gone(link),
            Step::Down(link) => self.tell(Event::LinkDown { link }),
            Step::Mail(link, message) => self.mail(link, message),
            Step::Announce => self.announce_gathered(),
            Step::Uplink => self.uplink(),
            Step::Arrive(link, parcel) => {
                let Some(end) = self.n.ends.get_mut(link) else { return };
                if let Some(parcel) = self.n.access.arrive(end, parcel, &mut self.n.post) {
                    self.deliver(link, parcel);
                }
            }
            Step::Take(link, parcel, waits) => {
                let Some(end) = self.n.ends.get_mut(link) else { return };
                if let Some(parcel) = self.n.access.take(end, parcel, waits, &mut self.n.post) {
                    self.deliver(link, parcel);
                }
            }
            Step::Read => {
                if let Some((link, parcel)) = self.n.access.read(&mut self.n.ends, &mut self.n.post) {
                    self.deliver(link, parcel);
                }
            }
            Step::Ack(link, ack) => {
                if let Some(end) = self.n.ends.get_mut(link) {
                    self.n.access.acked(end, ack, &mut self.n.post);
                }
            }
            Step::Hashed(piece) => self.hashed(piece),
            Step::Wake => {
                if let Some(h) = self.n.host().filter(|h| h.wake_at == Some(now)) {
                    h.wake_at = None;
                    self.tell(Event::Tick);
                }
            }
            Step::Play => {
                if let Some(h) = self.n.host().filter(|h| h.play_at == Some(now)) {
                    h.play_at = None;
                    self.drive();
                }
            }
            Step::Script => self.script_step(),
        }
    }

    /// Books something wrong, in words.
    pub fn fault(&mut self, what: String) {
        let (now, id) = (self.now(), self.n.id);
        self.log.faults.push((now, id, what));
    }

    pub fn tell(&mut self, event: Event) {
        if let Some(h) = self.n.host() {
            h.inbox.push(event);
            self.drive();
        }
    }

    pub fn group(&self) -> Option<&Group> {
        self.n.group.and_then(|g| self.ctx.groups.get(g))
    }

    fn join(&mut self) {
        let ctx = self.ctx;
        let group = self.n.group.and_then(|g| ctx.groups.get(g));
        let Some(g) = group.filter(|_| matches!(self.n.actor, Actor::Away)) else { return };
        let now = self.now();
        let pieces = ctx.film.layout.piece_count();
        let mut has = match (g.kind, g.has) {
            (Kind::Viewer, _) => self.seen_before(g),
            (_, share) if share >= 1.0 => PieceSet::full(pieces),
            (_, share) => {
                let mut has = PieceSet::new(pieces);
                (0..pieces).filter(|_| self.n.dice.chance(share)).for_each(|p| {
                    has.insert(PieceIndex(p));
                });
                has
            }
        };
        let byte = |s: f64| ctx.film.timeline.offset_of(MediaTime::from_secs_f64(s));
        for p in ctx.film.layout.pieces_in(ByteRange::new(byte(g.lacks.0), byte(g.lacks.1))) {
            has.remove(PieceIndex(p));
        }
        self.log.moves.push((now, self.n.id, true));
        if g.stay > 0.0 {
            let stays = self.n.dice.exponential(g.stay);
            self.n.post.later(now + Duration::from_secs_f64(stays), Step::Leave);
        }
        if g.kind == Kind::Peer {
            let script = Script::new(now, g.habits.clone(), has, self.n.up, &mut self.n.dice);
            self.n.actor = Actor::Script(Box::new(script));
            self.script_settle();
        } else {
            self.host_joins(g, has);
        }
        let links = if g.links == 0 && g.kind == Kind::Viewer { LINKS } else { g.links };
        if links > 0 {
            if let Some(h) = self.n.host() {
                h.links_wanted = links;
            }
            // Where others are is learnt at a distance, too: those who come at the same moment find each other.
            self.n.post.later(now + self.ctx.least, Step::Dial);
        }
    }

    /// What a viewer who came before the start has by now.
    fn seen_before(&mut self, g: &Group) -> PieceSet {
        let (film, place) = (&self.ctx.film, self.n.place);
        let mut has = PieceSet::new(film.layout.piece_count());
        if place > 0.0 {
            let rate = film.layout.total_len() as f64 / film.timeline.duration().as_secs_f64().max(1e-3);
            let pace = if self.n.up > rate { (g.viewing.earned * self.n.up / rate).max(1.0) } else { 1.0 };
            let upto = place * pace + self.n.dice.between(0.0, 2.0 * g.viewing.ahead);
            let upto = film.timeline.offset_of(MediaTime::from_secs_f64(upto));
            let whole = |p: &u32| film.layout.piece_range(PieceIndex(*p)).end <= upto;
            (0..film.layout.piece_count()).take_while(whole).for_each(|p| {
                has.insert(PieceIndex(p));
            });
        }
        has
    }

    fn host_joins(&mut self, g: &Group, has: PieceSet) {
        let (now, film, options) = (self.now(), &self.ctx.film, &self.ctx.options);
        let player = (g.kind == Kind::Viewer).then(|| {
            let at = |s: f64| now + Duration::from_secs_f64(s);
            let seeks = g.viewing.seeks.iter().map(|(a, to)| (at(*a), MediaTime::from_secs_f64(*to))).collect();
            let from = MediaTime::from_secs_f64(self.n.place + self.n.dice.between(0.0, g.viewing.from));
            Player::new(film.clone(), options.config.tick, now, from, seeks)
        });
        let seed = self.n.dice.seed();
        let host = Host {
            engine: Engine::new(film.layout, has.clone(), seed, options.config.clone()),
            store: Store::new(film.layout, has),
            watch: options.watch.then(|| Box::new(Watch::new(film.layout, options.config.clone()))),
            recorder: options.record.then(Box::default),
            player,
            inbox: Vec::new(),
            wake_at: None,
            play_at: None,
            origin: None,
            fetches: Default::default(),
            banned: Default::default(),
            links_wanted: 0,
            news: Vec::new(),
            ticked: None,
            spun: false,
            leaving: false,
            opening: 0,
            opens_until: if self.n.place > 0.0 { now } else { now + OPENING },
            handled: 0,
        };
        self.n.actor = Actor::Host(Box::new(host));
        // A seed has chosen nothing to play.
        if g.kind != Kind::Viewer {
            return;
        }
        if g.viewing.hops > 0.0 {
            self.hop(g.viewing.hops);
        }
        self.tell(Event::FileChosen { range: self.ctx.film.whole() });
        if self.ctx.origin.is_some() {
            self.n.post.later(now + self.ctx.origin_after, Step::Find);
        }
    }

    /// Draws the viewer's next seek.
    pub fn hop(&mut self, every: f64) {
        let at = self.now() + Duration::from_secs_f64(self.n.dice.exponential(every));
        let to = self.n.dice.between(0.0, self.ctx.film.timeline.duration().as_secs_f64());
        if let Some(p) = self.n.host().and_then(|h| h.player.as_mut()) {
            p.will_seek(at, MediaTime::from_secs_f64(to));
        }
    }

    fn leave(&mut self) {
        if matches!(self.n.actor, Actor::Away) {
            return;
        }
        self.book_outcome();
        self.n.actor = Actor::Away;
        for link in self.n.ends.ids() {
            self.hang_up(link);
        }
        // What was still before it happens to nobody.
        self.n.post.clear();
        let now = self.now();
        self.log.moves.push((now, self.n.id, false));
        if let Some(stay) = self.group().filter(|g| g.again).map(|g| g.stay) {
            let away = self.n.dice.exponential(stay.max(1.0));
            self.n.post.later(now + Duration::from_secs_f64(away), Step::Join);
        }
    }
}

//! The world: nodes, links, a clock, and the loop that takes one step after the other.
//!
//! Invariant: everything that happens comes from the agenda, all chance from one seed, and nothing is looked up by hash: the
//! same scenario and seed give the same trace to the byte.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::agenda::Agenda;
use super::dice::Dice;
use super::film::Film;
use super::host::Host;
use super::links::{Links, Message};
use super::net::{Cargo, Net, Parcel};
use super::origin::Desk;
use super::player::Player;
use super::report::Outcome;
use super::scenario::{Group, Habits, Kind, OriginSpec, Scenario, ScenarioError};
use super::script::{Deed, Script};
use super::step::{LaneKey, Step};
use super::store::Store;
use super::trace::Trace;
use super::watch::Watch;
use crate::engine::{Config, Engine, Event};
use crate::units::{
    BLOCK_LEN, BlockRef, ByteRange, FetchId, Instant, LinkId, MediaTime, OriginId, PieceIndex, PieceSet,
};

/// Bits per second in bytes.
pub(super) const MBIT: f64 = 125_000.0;
/// A node looks for more links this often.
const DIAL_EVERY: Duration = Duration::from_secs(5);
/// Links a viewer seeks where its group does not say.
const LINKS: u32 = 30;
/// What a server sends a viewer in so long after it came is the price of its start, not of what the swarm lacks.
const OPENING: Duration = Duration::from_secs(15);
/// The origin's number, as engines know it.
const ORIGIN: OriginId = OriginId(0);

/// How a world is run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub seed: u64,
    pub config: Config,
    /// Hold every engine against the world's books after every step.
    pub watch: bool,
    /// Call [`Engine::check`] after each so many steps of an engine; 0 is never.
    pub check_every: u64,
    /// Keep what was forecast of each request, and what came of it.
    pub record: bool,
    pub trace: Trace,
}

/// What runs in a node now.
pub(super) enum Actor {
    Away,
    Host(Box<Host>),
    Script(Box<Script>),
    Web(OriginSpec),
}

/// One place in the network.
pub(super) struct Node {
    pub actor: Actor,
    /// Which group it is of; the origin is of none.
    pub group: Option<usize>,
    pub up: f64,
    pub came: Instant,
    /// How far into the film it is when it comes, seconds: those of a steady population who came before the start.
    place: f64,
    /// Its place in the list of those that are here.
    listed: Option<usize>,
}

/// The world.
pub struct World {
    pub(super) now: Instant,
    pub(super) agenda: Agenda<Step>,
    pub(super) dice: Dice,
    pub(super) film: Arc<Film>,
    pub(super) net: Net,
    pub(super) links: Links,
    pub(super) nodes: Vec<Node>,
    pub(super) options: Options,
    pub(super) groups: Vec<Group>,
    have_every: Duration,
    end: Instant,
    origin: Option<u32>,
    origin_after: Duration,
    /// Peers that can be found now.
    listed: Vec<u32>,
    sent: Vec<(LaneKey, Parcel)>,
    /// Where a bidding origin takes bids.
    pub(super) desk: Option<Desk>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) faults: Vec<String>,
    steps: u64,
    handled: u64,
}

impl World {
    /// Makes the world of a scenario.
    ///
    /// # Errors
    /// When the scenario asks for the impossible.
    pub fn new(scenario: &Scenario, options: Options) -> Result<Self, ScenarioError> {
        scenario.check()?;
        let mut dice = Dice::new(options.seed);
        let film = Arc::new(scenario.film.make(&mut dice)?);
        let mut options = options;
        if scenario.tick > 0.0 {
            options.config.tick = Duration::from_secs_f64(scenario.tick);
        }
        let mut world = Self {
            now: Instant::ZERO,
            agenda: Agenda::default(),
            film,
            net: Net::default(),
            links: Links::default(),
            nodes: Vec::new(),
            options,
            groups: scenario.groups.clone(),
            have_every: Duration::from_secs_f64(scenario.have_every.clamp(0.0, 60.0)),
            end: Instant::from_secs_f64(scenario.seconds),
            origin: None,
            origin_after: Duration::ZERO,
            listed: Vec::new(),
            sent: Vec::new(),
            desk: scenario.origin.as_ref().and_then(|o| Desk::new(o, MBIT)),
            outcomes: Vec::new(),
            faults: Vec::new(),
            steps: 0,
            handled: 0,
            dice,
        };
        for (i, g) in scenario.groups.iter().enumerate() {
            world.populate(i, g);
        }
        if let Some(o) = &scenario.origin {
            let ms = Duration::from_secs_f64(o.delay_ms / 1e3);
            world.origin = Some(world.nodes.len() as u32);
            world.origin_after = Duration::from_secs_f64(o.after);
            world.net.add(o.up * MBIT, 1e12, ms, Duration::ZERO);
            let (up, came) = (o.up * MBIT, Instant::ZERO);
            world.nodes.push(Node { actor: Actor::Web(o.clone()), group: None, up, came, place: 0.0, listed: None });
            if o.dies > 0.0 {
                world.agenda.push(Instant::from_secs_f64(o.dies), Step::Die);
            }
        }
        Ok(world)
    }

    fn populate(&mut self, index: usize, g: &Group) {
        let film = self.film.timeline.duration().as_secs_f64();
        let mut poisson = if g.steady { -film } else { g.at };
        for k in 0.. {
            if g.steady {
                poisson += self.dice.exponential(film / f64::from(g.count));
            }
            if g.steady && Instant::from_secs_f64(poisson) >= self.end || !g.steady && k >= g.count {
                break;
            }
            let up = if g.either {
                if self.dice.chance(0.5) { g.up_most } else { g.up }
            } else if g.up_most > g.up {
                self.dice.between(g.up, g.up_most)
            } else {
                g.up
            } * MBIT;
            let ms =
                if g.delay_ms_most > g.delay_ms { self.dice.between(g.delay_ms, g.delay_ms_most) } else { g.delay_ms };
            let [delay, jitter] = [ms, g.jitter_ms].map(|ms| Duration::from_secs_f64(ms / 1e3));
            self.net.add(up, g.down * MBIT, delay, jitter);
            let at = if g.steady {
                poisson.max(0.0)
            } else if g.poisson && g.over > 0.0 {
                poisson += self.dice.exponential(g.over / f64::from(g.count));
                poisson
            } else {
                g.at + g.over * f64::from(k) / f64::from(g.count)
            };
            let node = self.nodes.len() as u32;
            let came = Instant::ZERO;
            let place = if g.steady { (-poisson).max(0.0) } else { 0.0 };
            self.nodes.push(Node { actor: Actor::Away, group: Some(index), up, came, place, listed: None });
            self.agenda.push(Instant::from_secs_f64(at), Step::Join(node));
        }
    }

    /// Virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Steps taken, and events handled by engines.
    pub fn work(&self) -> (u64, u64) {
        (self.steps, self.handled)
    }

    pub fn trace(&self) -> &Trace {
        &self.options.trace
    }

    /// Runs to the scenario's end.
    pub fn run(&mut self) {
        self.run_until(self.end);
    }

    /// Runs until then, or until nothing more would ever happen.
    pub fn run_until(&mut self, end: Instant) {
        while self.agenda.next_at().is_some_and(|t| t <= end) {
            let Some((at, step)) = self.agenda.pop() else { break };
            self.now = at;
            self.steps += 1;
            self.take(step);
        }
        self.now = self.now.max(end);
    }

    fn take(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Join(n) => self.join(n),
            Step::Leave(n) => self.leave(n),
            Step::Die => self.origin_dies(),
            Step::Dial(n) => self.dial(n),
            Step::Meet(key) => self.meet(key),
            Step::Gone(n, link) => self.tell(n, Event::LinkDown { link }),
            Step::Mail(key) => self.mail(key),
            Step::Uplink(n) => {
                let mut sent = std::mem::take(&mut self.sent);
                self.net.uplink(now, n, &mut self.agenda, &mut self.dice, &mut sent);
                for (key, parcel) in sent.drain(..) {
                    self.left(n, key, parcel);
                }
                self.sent = sent;
            }
            Step::Arrive(key) => {
                if let Some(parcel) = self.net.arrive(now, key, &mut self.agenda) {
                    self.deliver(key, parcel);
                }
            }
            Step::Take(key) => {
                if let Some(parcel) = self.net.take(key) {
                    self.deliver(key, parcel);
                }
            }
            Step::Refill(key) => self.net.refill(now, key, &mut self.agenda),
            Step::Hashed(n, piece) => self.hashed(n, piece),
            Step::Wake(n) => {
                if let Some(h) = self.host(n).filter(|h| h.wake_at == Some(now)) {
                    h.wake_at = None;
                    self.tell(n, Event::Tick);
                }
            }
            Step::Play(n) => {
                if let Some(h) = self.host(n).filter(|h| h.play_at == Some(now)) {
                    h.play_at = None;
                    self.drive(n);
                }
            }
            Step::Script(n) => self.script_step(n),
        }
    }

    pub(super) fn host(&mut self, n: u32) -> Option<&mut Host> {
        match &mut self.nodes.get_mut(n as usize)?.actor {
            Actor::Host(h) => Some(h),
            Actor::Away | Actor::Script(_) | Actor::Web(_) => None,
        }
    }

    fn script(&mut self, n: u32) -> Option<&mut Script> {
        match &mut self.nodes.get_mut(n as usize)?.actor {
            Actor::Script(s) => Some(s),
            Actor::Away | Actor::Host(_) | Actor::Web(_) => None,
        }
    }

    pub(super) fn group(&self, n: u32) -> Option<Group> {
        self.nodes[n as usize].group.and_then(|g| self.groups.get(g)).cloned()
    }

    fn join(&mut self, n: u32) {
        let Some(g) = self.group(n).filter(|_| matches!(self.nodes[n as usize].actor, Actor::Away)) else { return };
        let now = self.now;
        let pieces = self.film.layout.piece_count();
        let has = match (g.kind, g.has) {
            (Kind::Viewer, _) => self.seen_before(n, &g),
            (_, share) if share >= 1.0 => PieceSet::full(pieces),
            (_, share) => {
                let mut has = PieceSet::new(pieces);
                (0..pieces).filter(|_| self.dice.chance(share)).for_each(|p| {
                    has.insert(PieceIndex(p));
                });
                has
            }
        };
        let node = &mut self.nodes[n as usize];
        node.came = now;
        node.listed = Some(self.listed.len());
        self.listed.push(n);
        if g.stay > 0.0 {
            let stays = self.dice.exponential(g.stay);
            self.agenda.push(now + Duration::from_secs_f64(stays), Step::Leave(n));
        }
        let up = self.nodes[n as usize].up;
        if g.kind == Kind::Peer {
            let script = Script::new(now, g.habits.clone(), has, up, &mut self.dice);
            self.nodes[n as usize].actor = Actor::Script(Box::new(script));
            self.script_settle(n);
        } else {
            self.host_joins(n, &g, has);
        }
        let links = if g.links == 0 && g.kind == Kind::Viewer { LINKS } else { g.links };
        if links > 0 {
            if let Some(h) = self.host(n) {
                h.links_wanted = links;
            }
            self.agenda.push(now, Step::Dial(n));
        }
    }

    /// What a viewer who came before the start has by now.
    fn seen_before(&mut self, n: u32, g: &Group) -> PieceSet {
        let (film, place) = (self.film.clone(), self.nodes[n as usize].place);
        let mut has = PieceSet::new(film.layout.piece_count());
        if place > 0.0 {
            let upto = place + self.dice.between(0.0, 2.0 * g.viewing.ahead);
            let upto = film.timeline.offset_of(MediaTime::from_secs_f64(upto));
            let whole = |p: &u32| film.layout.piece_range(PieceIndex(*p)).end <= upto;
            (0..film.layout.piece_count()).take_while(whole).for_each(|p| {
                has.insert(PieceIndex(p));
            });
        }
        has
    }

    fn host_joins(&mut self, n: u32, g: &Group, has: PieceSet) {
        let (now, layout) = (self.now, self.film.layout);
        let player = (g.kind == Kind::Viewer).then(|| {
            let at = |s: f64| now + Duration::from_secs_f64(s);
            let seeks = g.viewing.seeks.iter().map(|(a, to)| (at(*a), MediaTime::from_secs_f64(*to)));
            let seeks: VecDeque<_> = seeks.collect();
            let place = self.nodes[n as usize].place;
            let from = MediaTime::from_secs_f64(place + self.dice.between(0.0, g.viewing.from));
            Player::new(self.film.clone(), self.options.config.tick, now, from, seeks)
        });
        let seed = self.dice.seed();
        let host = Host {
            engine: Engine::new(layout, has.clone(), seed, self.options.config.clone()),
            store: Store::new(layout, has),
            watch: self.options.watch.then(|| Box::new(Watch::new(layout, self.options.config.clone()))),
            recorder: self.options.record.then(Box::default),
            player,
            book: super::links::Book::default(),
            inbox: Vec::new(),
            wake_at: None,
            play_at: None,
            origin: None,
            fetches: Default::default(),
            banned: Default::default(),
            links_wanted: 0,
            ticked: None,
            spun: false,
            leaving: false,
            opening: 0,
            opens_until: if self.nodes[n as usize].place > 0.0 { now } else { now + OPENING },
            handled: 0,
        };
        self.nodes[n as usize].actor = Actor::Host(Box::new(host));
        // A seed has chosen nothing to play.
        if g.kind != Kind::Viewer {
            return;
        }
        if g.viewing.hops > 0.0 {
            self.hop(n, g.viewing.hops);
        }
        self.tell(n, Event::FileChosen { range: self.film.whole() });
        if let Some(origin) = self.origin {
            let key = self.connect(n, origin, true);
            self.agenda.push(now + self.origin_after + self.net.delay(n, origin) * 4, Step::Meet(key));
        }
    }

    /// Draws the viewer's next seek.
    pub(super) fn hop(&mut self, n: u32, every: f64) {
        let at = self.now + Duration::from_secs_f64(self.dice.exponential(every));
        let to = self.dice.between(0.0, self.film.timeline.duration().as_secs_f64());
        if let Some(p) = self.host(n).and_then(|h| h.player.as_mut()) {
            p.will_seek(at, MediaTime::from_secs_f64(to));
        }
    }

    fn leave(&mut self, n: u32) {
        let node = &mut self.nodes[n as usize];
        let Some(place) = node.listed.take() else { return };
        self.listed.swap_remove(place);
        if let Some(moved) = self.listed.get(place) {
            self.nodes[*moved as usize].listed = Some(place);
        }
        self.book_outcome(n);
        if let Some(desk) = &mut self.desk {
            desk.forget(n);
        }
        let keys: Vec<LaneKey> = match &self.nodes[n as usize].actor {
            Actor::Host(h) => h.book.lanes().chain(h.origin).collect(),
            Actor::Script(s) => s.desks.values().map(|d| d.key).collect(),
            Actor::Away | Actor::Web(_) => Vec::new(),
        };
        self.nodes[n as usize].actor = Actor::Away;
        for key in keys {
            self.close(key);
        }
        if let Some(g) = self.group(n).filter(|g| g.again) {
            let away = self.dice.exponential(g.stay.max(1.0));
            self.agenda.push(self.now + Duration::from_secs_f64(away), Step::Join(n));
        }
    }

    /// The origin is gone. Whoever waits for it learns of it by a reset: ranges fail, and it is given up.
    fn origin_dies(&mut self) {
        let Some(origin) = self.origin.take() else { return };
        self.nodes[origin as usize].actor = Actor::Away;
        self.desk = None;
        for n in 0..self.nodes.len() as u32 {
            let Some(h) = self.host(n) else { continue };
            let Some(key) = h.origin else { continue };
            let failed: Vec<FetchId> = std::mem::take(&mut h.fetches).into_keys().collect();
            self.close(key);
            for fetch in failed {
                self.tell(n, Event::ServerFailed { fetch });
            }
            self.tell(n, Event::OriginDown { origin: ORIGIN });
        }
    }

    /// Opens a link; hands are shaken later.
    fn connect(&mut self, from: u32, to: u32, server: bool) -> LaneKey {
        let key = self.links.open([from, to], self.net.delay(from, to), server);
        self.net.open(key.slot(), key.link, [from, to], server);
        for (n, key) in [(from, key), (to, key.back())] {
            match &mut self.nodes[n as usize].actor {
                Actor::Host(h) if server => h.origin = Some(key),
                Actor::Host(h) => h.book.add(key),
                Actor::Script(s) => s.meet(key),
                Actor::Away | Actor::Web(_) => {}
            }
        }
        key
    }

    /// Closes a link: who is at its ends learns of it, the other side after the path's delay.
    pub(super) fn close(&mut self, key: LaneKey) {
        let Some(link) = self.links.close(key) else { return };
        self.net.close(self.now, key.slot(), &mut self.agenda);
        for (end, n) in link.ends.into_iter().enumerate() {
            let far = if end == key.end() { Duration::ZERO } else { link.delay };
            match &mut self.nodes[n as usize].actor {
                Actor::Host(h) if link.server => h.origin = None,
                Actor::Host(h) => {
                    h.book.remove(link.id);
                    if link.up {
                        self.agenda.push(self.now + far, Step::Gone(n, LinkId(link.id)));
                    }
                }
                Actor::Script(s) => {
                    s.desks.remove(&link.id);
                }
                Actor::Away | Actor::Web(_) => {}
            }
        }
    }

    /// Looks for more peers, as many as are wanted.
    fn dial(&mut self, n: u32) {
        if self.nodes[n as usize].listed.is_none() {
            return;
        }
        self.agenda.push(self.now + DIAL_EVERY, Step::Dial(n));
        let Some((mut have, want)) = self.host(n).map(|h| (h.book.len(), h.links_wanted as usize)) else { return };
        let found = self.listed.len();
        // Those found are drawn blindly, as a tracker gives them: some are linked already.
        for _ in 0..found.min(3 * want) {
            if have >= want {
                break;
            }
            let Some(other) = self.listed.get(self.dice.below(found)).copied() else { break };
            if other == n || self.linked(n, other) || self.bans(n, other) || self.bans(other, n) {
                continue;
            }
            let key = self.connect(n, other, false);
            // SYN and answer, handshake and answer.
            self.agenda.push(self.now + self.net.delay(n, other) * 4, Step::Meet(key));
            have += 1;
        }
    }

    fn bans(&mut self, n: u32, other: u32) -> bool {
        self.host(n).is_some_and(|h| h.banned.contains(&other))
    }

    fn linked(&self, n: u32, other: u32) -> bool {
        let Actor::Host(h) = &self.nodes[n as usize].actor else { return false };
        h.book.lanes().any(|key| self.links.to(key) == Some(other))
    }

    fn meet(&mut self, key: LaneKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        link.up = true;
        let (ends, delay, server) = (link.ends, link.delay, link.server);
        if server {
            let Actor::Web(o) = &self.nodes[ends[1] as usize].actor else { return };
            let bidding = o.bidding;
            return self.tell(ends[0], Event::OriginUp { origin: ORIGIN, bidding, rtt: Some(delay * 2) });
        }
        for (end, n) in ends.into_iter().enumerate() {
            let mine = if end == 0 { key } else { key.back() };
            let has = match &self.nodes[n as usize].actor {
                Actor::Host(h) => h.store.verified.clone(),
                Actor::Script(s) => s.has.clone(),
                Actor::Away | Actor::Web(_) => continue,
            };
            self.post(mine, Message::Bitfield(has));
            let takes = self.script(n).is_some_and(|s| s.habits.takes > 0);
            if takes {
                self.post(mine, Message::Interested(true));
            }
            if self.host(n).is_some() {
                let rtt = (end == 0).then_some(delay * 2);
                self.tell(n, Event::LinkUp { link: key.id(), rtt });
            }
        }
        self.allow(ends[0], ends[1], key);
        self.allow(ends[1], ends[0], key.back());
    }

    pub(super) fn post(&mut self, key: LaneKey, message: Message) {
        self.links.post(self.now, key, message, self.now, &mut self.agenda);
    }

    /// Tells all peers of a piece, with what else there is to tell in the same while.
    pub(super) fn announce(&mut self, n: u32, piece: PieceIndex) {
        let every = self.have_every.as_nanos() as u64;
        let at = self.now.0.checked_div(every).map_or(self.now, |n| Instant((n + 1) * every));
        let lanes: Vec<LaneKey> = match &self.nodes[n as usize].actor {
            Actor::Host(h) => h.book.lanes().collect(),
            Actor::Script(s) => s.desks.values().map(|d| d.key).collect(),
            Actor::Away | Actor::Web(_) => return,
        };
        for key in lanes {
            if self.links.get(key).is_some_and(|l| l.up) {
                self.links.post(self.now, key, Message::Have(piece), at, &mut self.agenda);
            }
        }
    }

    fn mail(&mut self, key: LaneKey) {
        let Some(n) = self.links.to(key) else { return };
        while let Some(message) = self.links.next_mail(self.now, key) {
            match &mut self.nodes[n as usize].actor {
                Actor::Host(h) => {
                    if let Message::Cancel { piece, begin, .. } = message {
                        // What was not sent yet need not be.
                        let block = BlockRef { piece, block: begin / BLOCK_LEN };
                        let which = |c: &Cargo| matches!(c, Cargo::Block { block: b, .. } if *b == block);
                        self.net.unsend(key.back(), which);
                    }
                    h.inbox.extend(event(key.id(), message));
                }
                Actor::Script(_) => self.script_mail(n, key.link, message),
                Actor::Web(o) => {
                    let o = o.clone();
                    self.web_mail(&o, key.back(), message);
                }
                Actor::Away => {}
            }
        }
        self.drive(n);
        self.script_settle(n);
    }

    /// A parcel left the node whole.
    fn left(&mut self, n: u32, key: LaneKey, parcel: Parcel) {
        match &self.nodes[n as usize].actor {
            Actor::Host(_) => self.tell(n, Event::BlockSent { link: key.id(), len: parcel.len }),
            Actor::Script(_) => {
                self.script_serve(n, key.link);
                self.script_settle(n);
            }
            Actor::Away | Actor::Web(_) => {}
        }
    }

    fn deliver(&mut self, key: LaneKey, parcel: Parcel) {
        let (now, layout) = (self.now, self.film.layout);
        let (Some(n), Some(from)) = (self.links.to(key), self.links.from(key)) else { return };
        match &mut self.nodes[n as usize].actor {
            Actor::Host(h) => {
                match parcel.cargo {
                    Cargo::Block { block, lie } => {
                        if let Some(r) = &mut h.recorder {
                            r.arrived(now, key.id(), block, from);
                        }
                        h.block(key.id(), block, lie);
                    }
                    Cargo::Range { fetch, upto, lie } => h.range(now, &layout, fetch, upto, lie),
                }
                self.drive(n);
            }
            Actor::Script(s) => {
                if let Some(d) = s.desks.get_mut(&key.link) {
                    d.asked = d.asked.saturating_sub(1);
                }
                let mut deeds = Vec::new();
                s.ask(key.link, &layout, &mut self.dice, &mut deeds);
                self.carry_deeds(n, deeds);
            }
            Actor::Away | Actor::Web(_) => {}
        }
    }

    fn hashed(&mut self, n: u32, piece: PieceIndex) {
        let Some(h) = self.host(n) else { return };
        h.store.checking.remove(&piece);
        if h.store.is_true(piece) {
            h.store.verified.insert(piece);
            h.inbox.push(Event::PieceVerified { piece });
        } else {
            h.inbox.push(Event::Sums { piece, sums: h.store.sums(piece) });
            h.inbox.push(Event::PieceCorrupt { piece });
        }
        self.drive(n);
    }

    pub(super) fn tell(&mut self, n: u32, event: Event) {
        if let Some(h) = self.host(n) {
            h.inbox.push(event);
            self.drive(n);
        }
    }

    fn script_mail(&mut self, n: u32, link: u32, message: Message) {
        let (now, layout) = (self.now, self.film.layout);
        let mut deeds = Vec::new();
        let Actor::Script(s) = &mut self.nodes[n as usize].actor else { return };
        match message {
            Message::Interested(on) => s.interest(now, link, on),
            Message::Request { piece, begin, .. } => {
                s.request(link, BlockRef { piece, block: begin / BLOCK_LEN }, &mut self.dice, &mut deeds);
            }
            Message::Cancel { piece, begin, .. } => s.cancel(link, BlockRef { piece, block: begin / BLOCK_LEN }),
            Message::Bitfield(has) => {
                if let Some(d) = s.desks.get_mut(&link) {
                    d.theirs = Some(has);
                }
            }
            Message::Have(piece) => {
                if let Some(t) = s.desks.get_mut(&link).and_then(|d| d.theirs.as_mut()) {
                    t.insert(piece);
                }
            }
            Message::Choke(on) => {
                if let Some(d) = s.desks.get_mut(&link) {
                    // What was asked before a choke is not answered.
                    d.asked = if on { u32::MAX } else { 0 };
                }
                s.ask(link, &layout, &mut self.dice, &mut deeds);
            }
            _ => {}
        }
        self.carry_deeds(n, deeds);
        self.script_serve(n, link);
    }

    fn script_serve(&mut self, n: u32, link: u32) {
        let (now, layout) = (self.now, self.film.layout);
        let mut deeds = Vec::new();
        let Actor::Script(s) = &mut self.nodes[n as usize].actor else { return };
        let Some(key) = s.desks.get(&link).map(|d| d.key) else { return };
        s.serve(now, link, &layout, self.net.unsent(key), &mut self.dice, &mut deeds);
        self.carry_deeds(n, deeds);
    }

    fn script_step(&mut self, n: u32) {
        let now = self.now;
        let mut deeds = Vec::new();
        let Actor::Script(s) = &mut self.nodes[n as usize].actor else { return };
        if s.step_at != Some(now) {
            return;
        }
        s.step_at = None;
        s.step(now, &mut self.dice, &mut deeds);
        let links: Vec<u32> = s.desks.values().filter(|d| !d.queue.is_empty()).map(|d| d.key.link).collect();
        self.carry_deeds(n, deeds);
        for link in links {
            self.script_serve(n, link);
        }
        self.script_settle(n);
    }

    /// Makes the step at which the script goes on by itself.
    fn script_settle(&mut self, n: u32) {
        let now = self.now;
        let Actor::Script(s) = &mut self.nodes[n as usize].actor else { return };
        let Some(at) = s.next().map(|t| t.max(now)).filter(|t| s.step_at.is_none_or(|s| *t < s)) else { return };
        s.step_at = Some(at);
        self.agenda.push(at, Step::Script(n));
    }

    fn carry_deeds(&mut self, n: u32, deeds: Vec<Deed>) {
        let layout = self.film.layout;
        for deed in deeds {
            match deed {
                Deed::Choke(key, on) => self.post(key, Message::Choke(on)),
                Deed::Reject(key, block) => self.post(key, Message::Reject(block)),
                Deed::Have(piece) => self.announce(n, piece),
                Deed::Ask(key, block) => {
                    let len = layout.block_range(block).len() as u32;
                    self.post(key, Message::Request { piece: block.piece, begin: block.block * BLOCK_LEN, len });
                }
                Deed::Send(key, block, lies) => {
                    let cargo = Cargo::Block { block, lie: if lies { n + 1 } else { 0 } };
                    let len = layout.block_range(block).len() as u32;
                    self.net.send(self.now, key, Parcel { cargo, len }, &mut self.agenda);
                }
            }
        }
    }

    /// The origin answers. `key` is its lane to who asked.
    fn web_mail(&mut self, o: &OriginSpec, key: LaneKey, message: Message) {
        match message {
            Message::Fetch { fetch, range } => {
                if let (Some(desk), Some(n)) = (&mut self.desk, self.links.to(key)) {
                    desk.spend(self.now, n, range.len() * 8);
                }
                for b in self.film.layout.blocks_in(range) {
                    let bytes = self.film.layout.block_range(b).intersect(range);
                    let lie = if self.dice.chance(o.lies) { u32::MAX } else { 0 };
                    let cargo = Cargo::Range { fetch, upto: bytes.end, lie };
                    let parcel = Parcel { cargo, len: bytes.len() as u32 };
                    self.net.send(self.now, key, parcel, &mut self.agenda);
                }
            }
            Message::Abort(fetch) => {
                self.net.unsend(key, |c| matches!(c, Cargo::Range { fetch: f, .. } if *f == fetch))
            }
            Message::Bid(bid) => {
                let (Some(desk), Some(n)) = (&mut self.desk, self.links.to(key)) else { return };
                let Some((bits, life)) = desk.bid(self.now, n, &bid) else { return };
                // It counts from when the viewer hears of it, as in the protocol.
                let expires = self.now + life + self.links.get(key).map_or(Duration::ZERO, |l| l.delay);
                self.post(key, Message::Granted { bits, expires });
            }
            _ => {}
        }
    }

    pub(super) fn count_handled(&mut self, events: usize) {
        self.handled += events as u64;
    }

    /// A recorder's or watcher's words, with the node they are about.
    pub(super) fn habits_of(&self, n: u32) -> Option<Habits> {
        self.group(n).filter(|g| g.kind == Kind::Peer).map(|g| g.habits)
    }

    /// The bytes of the film.
    pub fn film_len(&self) -> u64 {
        ByteRange::len(self.film.whole())
    }
}

/// What a message is to an engine.
fn event(link: LinkId, message: Message) -> Option<Event> {
    Some(match message {
        Message::Bitfield(pieces) => Event::Bitfield { link, pieces },
        Message::Have(piece) => Event::Have { link, piece },
        Message::Choke(true) => Event::Choked { link },
        Message::Choke(false) => Event::Unchoked { link },
        Message::Interested(interested) => Event::Interested { link, interested },
        Message::Request { piece, begin, len } => Event::BlockRequested { link, piece, begin, len },
        Message::Cancel { piece, begin, len } => Event::BlockUnrequested { link, piece, begin, len },
        Message::Reject(block) => Event::BlockRejected { link, block },
        Message::Granted { bits, expires } => Event::Granted { origin: ORIGIN, bits, expires },
        Message::Allowed(piece) => Event::AllowedFast { link, piece },
        Message::Fetch { .. } | Message::Abort(_) | Message::Bid(_) => return None,
    })
}

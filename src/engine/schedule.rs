//! Which block is asked of which link: earliest deadline first, each block of the link that will be first with it.
//!
//! Two passes share the work. The **full pass** (each tick, and at once when the clock waits) walks all that is due, soonest
//! first, and keeps for each link the time until its queue is done. A block goes to the link with the least finish time; if
//! that link's queue is full the block is only *reserved* there, so that a slow link with room does not take what a fast
//! one will bring sooner. What no link brings in time is the server's (claim 2: by forecast, not only when it is late).
//! In between, a link that has room again **tops up**: it takes the first free block that it will surely bring in time,
//! and leaves what it would not to the next full pass. That costs a look at one link, however many there are.

use std::collections::BTreeSet;

use super::agenda::{Agenda, Due};
use super::candidates::{Candidate, Finish};
use super::config::Config;
use super::links::Ask;
use super::outlook::Outlook;
use super::table::LinkSet;
use super::zones::Zones;
use super::{Action, Engine};
use crate::units::{BlockRef, Instant, LinkId};

/// Blocks looked at in one pass: the window of an 80 Mbit/s film.
const DUE_MOST: usize = 10_000;

/// What passes leave behind for each other.
#[derive(Debug, Clone, Default)]
pub(super) struct Passes {
    /// Of the last full pass.
    agenda: Option<Agenda>,
    zones: Zones,
    typical: f64,
    pressing: bool,
    /// Links for which urgent blocks are reserved: no bulk may be put before those.
    held: LinkSet,
    /// Links that may have room again.
    pub idle: LinkSet,
    scratch: Scratch,
}

/// Memory that full passes use one after the other: several a second, in a world of thousands of engines.
#[derive(Debug, Clone, Default)]
struct Scratch {
    able: Vec<usize>,
    blocks: Vec<Due>,
    finishes: Vec<(BlockRef, Finish)>,
}

impl Passes {
    /// When a full pass is due because something presses, given that something happened since.
    pub fn next(&self, config: &Config) -> Option<Instant> {
        self.agenda.as_ref().filter(|_| self.pressing).map(|a| a.at + config.pressing)
    }
}

/// A full pass under way.
pub(super) struct Pass {
    pub links: Vec<Candidate>,
    /// Links for which urgent blocks are reserved.
    pub held: LinkSet,
    pub typical: f64,
    /// What servers could bring: nothing is asked of them while blocks are given away.
    pub servers: Outlook,
    /// Blocks that the swarm is forecast to miss, soonest first.
    miss: Vec<Due>,
    /// A block of the window is forecast to be late from peers and server alike.
    late: bool,
    /// A server may bring the beginnings of pieces that peers do not finish.
    shares: bool,
    /// Of the piece at hand, seconds until the last of what peers are to bring in time is all but surely here.
    latest: f64,
    /// Of the piece at hand, seconds until it is of use from peers, where the picture waits for it.
    whole: f64,
    /// Blocks that a server would bring before the one at hand.
    before: usize,
    /// Blocks under way that a server would have to complete, once they press.
    rescues: usize,
    /// Links that a block was taken back from.
    relieved: LinkSet,
}

impl Pass {
    /// Whether a server would have the block at hand sooner than `finish`.
    fn server_first(&self, finish: f64) -> bool {
        self.servers.usable() && self.servers.time_for(self.before + 1) < finish
    }
}

impl Engine {
    /// Spreads requests over links and server, as much of it as what happened asks for.
    pub(super) fn schedule(&mut self, now: Instant, tick: bool, actions: &mut Vec<Action>) {
        let pressed = self.passes.next(&self.config).is_some_and(|t| t <= now);
        let waits = self.position.waits();
        if tick || self.restart || self.stirred && (waits || pressed || self.passes.agenda.is_none()) {
            self.stirred = false;
            self.passes.idle.clear();
            self.plan(now, actions);
        } else {
            // What is stirred and not pressing waits for the next tick; links with room do not.
            self.stirred &= self.passes.pressing;
            let idle = std::mem::take(&mut self.passes.idle);
            for link in idle.iter() {
                self.top_up(now, link, actions);
            }
        }
    }

    /// The full pass.
    fn plan(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let layout = *self.board.layout();
        let Some(mut agenda) = self.position.agenda(now, &layout, &self.config, DUE_MOST) else { return };
        if std::mem::take(&mut self.restart) {
            self.cancel_stale(now, &agenda, actions);
            self.renew_origins(actions);
            self.priority.jumped();
        }
        let missing = agenda.pieces().iter().find(|d| !self.board.is_here(d.piece));
        let pressing = missing.is_some_and(|d| d.in_s < self.config.urgent.as_secs_f64());
        let typical = self.typical_rate(now);
        let links = self.candidates(now, pressing, typical);
        let mut held = std::mem::take(&mut self.passes.held);
        held.clear();
        let servers = self.servers.outlook(now, &self.config);
        let shares = self.shares_pieces();
        let mut pass = Pass {
            links,
            held,
            typical,
            servers,
            miss: Vec::new(),
            late: false,
            shares,
            latest: 0.0,
            whole: 0.0,
            before: 0,
            rescues: 0,
            relieved: LinkSet::default(),
        };
        let zones = self.position.zones(now, &self.config);
        if !pressing {
            self.earn(now, &zones, &mut pass, actions);
        }
        let mut scratch = std::mem::take(&mut self.passes.scratch);
        self.finishes(now, typical, &mut scratch.finishes);
        self.spread(now, &agenda, &mut scratch, &mut pass, actions);
        self.playout.late = pass.late;
        self.serve_misses(now, &pass.miss, actions);
        self.owe(now, &pass.miss, actions);
        self.fill_room(now, &pass, &zones, actions);
        // What is left is for links that have room before the next pass; in steady play that is nothing.
        agenda.keep(|p| self.board.has_free(p));
        let mut idle = std::mem::take(&mut self.passes.idle);
        idle.clear();
        self.passes = Passes { agenda: Some(agenda), zones, typical, pressing, held: pass.held, idle, scratch };
    }

    /// Walks all that is due: what is under way is watched, what is not is given away.
    fn spread(
        &mut self,
        now: Instant,
        agenda: &Agenda,
        scratch: &mut Scratch,
        pass: &mut Pass,
        actions: &mut Vec<Action>,
    ) {
        let Scratch { able, blocks, finishes } = scratch;
        let urgent_s = self.config.urgent.as_secs_f64();
        let held = self.priority.hold().is_some();
        let waits = self.position.waits();
        for piece in agenda.pieces() {
            if self.board.is_here(piece.piece) {
                continue;
            }
            agenda.blocks(*piece, self.board.absent(piece.piece), blocks);
            // What is free before a block, from the end, is the server's before it.
            let mut free = 0;
            if pass.shares {
                let plays = agenda.end_first(self.board.of_peers(piece.piece), blocks);
                free = blocks.iter().take(plays).filter(|d| self.board.is_free(d.block)).count();
            }
            (pass.latest, pass.whole) = (0.0, 0.0);
            able.clear();
            let mut able_known = false;
            let missed = pass.miss.len();
            for d in blocks.iter() {
                pass.before = if pass.shares { missed + free } else { pass.miss.len() };
                // Peers that are held back now will not be when the window's blocks are due: a hold must not feed itself.
                let counts = !held || d.own_s < urgent_s;
                if let Some(finish) = self.expected(now, d.block, finishes) {
                    self.watch(now, d, finish, counts, pass, actions);
                    continue;
                }
                // In steady play most blocks are on their way: who could bring one is looked for when one is not.
                if !std::mem::replace(&mut able_known, true) {
                    self.able(piece.piece, &pass.links, able);
                    if waits && pass.shares {
                        pass.whole = self.whole(pass, able, blocks.len(), missed + free);
                    }
                }
                if pass.shares {
                    free = free.saturating_sub(1);
                    pass.before = missed + free;
                }
                self.give(now, d, able, counts, pass, actions);
            }
        }
    }

    /// A block under way: the server may complete it, or a second link.
    fn watch(
        &mut self,
        now: Instant,
        d: &Due,
        Finish { finish, surely }: Finish,
        counts: bool,
        pass: &mut Pass,
        actions: &mut Vec<Action>,
    ) {
        let urgent = d.in_s < self.config.urgent.as_secs_f64();
        if pass.shares && surely < d.in_s {
            pass.latest = pass.latest.max(surely);
        }
        let mut finish = finish;
        if self.last_call(d, surely, &pass.servers, pass.before) {
            pass.miss.push(*d);
        } else if (urgent || finish > d.in_s)
            && let Some(second) = self.hedge(now, d, finish, pass, actions)
        {
            if urgent {
                return;
            }
            finish = second;
        }
        let due_s = d.in_s.max(self.grace());
        if !counts || finish <= due_s {
            return;
        }
        // Who was asked for it is late with it, but a server can still bring it in time: the clock needs not wait for that.
        if pass.servers.usable() && pass.servers.time_for(pass.before + pass.rescues + 1) < due_s {
            pass.rescues += 1;
            self.take_back(now, d, finish, pass, actions);
        } else {
            pass.late = true;
        }
    }

    /// A block that waits deep in the queue of a link that will be late with it is free again, for who is not: while it waits there
    /// that costs nothing. A link that became slow would else be late with all that it was asked for, one block after the other.
    fn take_back(&mut self, now: Instant, d: &Due, finish: f64, pass: &mut Pass, actions: &mut Vec<Action>) {
        let Some(&[link]) = self.board.cell(d.block).map(|c| &*c.asked) else { return };
        let Some(l) = self.links.get(&link).filter(|_| !pass.relieved.contains(link)) else { return };
        if l.waits_deep(d.block) && finish > d.in_s + self.config.comfort.as_secs_f64() {
            // What stands behind it comes sooner now: one at a time.
            pass.relieved.insert(link);
            self.cancel(now, link, d.block, false, actions);
        }
    }

    /// A block that nobody was asked for: it goes to the link that would finish it first, or to the server.
    fn give(
        &mut self,
        now: Instant,
        d: &Due,
        able: &[usize],
        counts: bool,
        pass: &mut Pass,
        actions: &mut Vec<Action>,
    ) {
        let rank = |i: usize| pass.links[i].rank();
        let may = able.iter().copied().filter(|i| self.board.admits(d.block, pass.links[*i].link));
        let best = may.min_by(|a, b| rank(*a).total_cmp(&rank(*b)));
        let finish = best.map_or(f64::INFINITY, |i| pass.links[i].eta + pass.links[i].block_s);
        let dev = best.map_or(0.0, |i| pass.links[i].dev);
        let server_s = pass.servers.time_for(pass.before);
        // Of a link whose rate is a guess more is kept to spare.
        let known = best.is_some_and(|i| pass.links[i].known);
        let spare = server_s + if known { self.config.margin } else { self.config.comfort }.as_secs_f64();
        let surely = finish + self.config.miss_deviations * dev;
        // What a peer brings makes all that peers bring of the piece due: that must not make late what is in time.
        let misses = surely.max(pass.latest) > d.in_s - spare && (counts || best.is_none());
        // Of what the clock waits for the first is the best, on average, and a peer's block is of use once its piece is whole. Not
        // of what comes after: the server is not asked for that before it presses, and while the clock stands nothing does.
        let by_peers = match d.own_s < self.awaited_s() {
            true if known => pass.whole.max(finish + self.config.margin.as_secs_f64()),
            true => pass.whole.max(surely),
            false => surely,
        };
        if misses && pass.server_first(by_peers) {
            pass.miss.push(*d);
            // They are the server's, if it may be asked: a peer that began one would mostly be late with it, and
            // its bytes be lost; further on there is what it brings in time.
            if pass.servers.affords(pass.miss.len()) || best.is_none_or(|i| pass.links[i].room == 0) {
                pass.late |= server_s > d.own_s.max(self.grace());
                return;
            }
        }
        pass.late |= counts && finish > d.in_s.max(self.grace());
        let Some(c) = best.and_then(|i| pass.links.get_mut(i)) else { return };
        c.eta += c.block_s;
        let link = c.link;
        if pass.shares {
            pass.latest = pass.latest.max(surely);
        }
        if c.room > 0 {
            c.room -= 1;
            self.ask(now, link, d.block, pass.typical, actions);
        } else if d.in_s < self.config.urgent.as_secs_f64() {
            pass.held.insert(link);
        }
    }

    /// Links that still have room take bulk. It waits on links that still have urgent blocks to be sent; where all urgent ones
    /// are under way, only a short queue of bulk stands before the next.
    fn fill_room(&mut self, now: Instant, pass: &Pass, zones: &Zones, actions: &mut Vec<Action>) {
        for c in pass.links.iter().filter(|c| c.room > 0 && !pass.held.contains(c.link)) {
            let asked = self.ask_ahead(now, c.link, c.room, zones, pass.typical, actions);
            if asked == 0 {
                self.ask_missed(now, c, pass, actions);
            }
        }
    }

    /// A link that has nothing else to give begins on what was left to the server: no room is wasted.
    fn ask_missed(&mut self, now: Instant, c: &Candidate, pass: &Pass, actions: &mut Vec<Action>) {
        let urgent_s = self.config.urgent.as_secs_f64();
        let mut eta = c.eta;
        let mut room = c.room;
        for d in pass.miss.iter().filter(|d| d.own_s >= urgent_s) {
            let answers = self.links.get(&c.link).is_some_and(|l| l.answers(d.block.piece));
            if room == 0 || !answers || !self.board.is_free(d.block) || !self.board.admits(d.block, c.link) {
                continue;
            }
            eta += c.block_s;
            // Late from the start is late.
            if eta < d.in_s {
                room -= 1;
                self.ask(now, c.link, d.block, pass.typical, actions);
            }
        }
    }

    /// One link has room again: it takes what it will surely bring in time, then bulk.
    fn top_up(&mut self, now: Instant, link: LinkId, actions: &mut Vec<Action>) {
        let (pressing, typical) = (self.passes.pressing, self.passes.typical);
        let Some(l) = self.links.get(&link).filter(|l| l.serves() && l.useful > 0) else { return };
        let mut c = self.candidate(now, l, pressing, typical);
        // What is reserved for it comes with the next full pass.
        if c.room == 0 || self.passes.held.contains(link) {
            return;
        }
        let zones = self.passes.zones;
        // One that fell silent is tried with bulk: a full pass gives it what is due where there is nobody better.
        if l.snubbed || !pressing && self.gives_nothing(&zones) {
            self.ask_ahead(now, link, c.room, &zones, typical, actions);
            return;
        }
        let Some(agenda) = self.passes.agenda.take() else { return };
        let shares = self.shares_pieces();
        let since = now.since(agenda.at).as_secs_f64();
        let mut blocks = Vec::new();
        for piece in agenda.pieces() {
            if c.room == 0 {
                break;
            }
            let answers = self.links.get(&link).is_some_and(|l| l.answers(piece.piece));
            let in_time = c.rank() + self.config.comfort.as_secs_f64() < piece.in_s - since;
            if !answers || !in_time || !self.board.has_free(piece.piece) {
                continue;
            }
            let free = |block| {
                let b = BlockRef { piece: piece.piece, block };
                self.board.is_free(b) && self.board.admits(b, link)
            };
            agenda.blocks(*piece, free, &mut blocks);
            if shares {
                agenda.end_first(std::iter::empty(), &mut blocks);
            }
            for d in blocks.iter().take(c.room) {
                c.eta += c.block_s;
                c.room -= 1;
                self.ask(now, link, d.block, typical, actions);
            }
        }
        self.passes.agenda = Some(agenda);
        if c.room > 0 {
            self.ask_ahead(now, link, c.room, &zones, typical, actions);
        }
    }

    /// Sends and books one request.
    pub(super) fn ask(&mut self, now: Instant, link: LinkId, block: BlockRef, typical: f64, actions: &mut Vec<Action>) {
        if self.allowance(now) == 0 {
            return;
        }
        let Some(l) = self.links.get_mut(&link) else { return };
        if !l.answers(block.piece) || !self.board.ask(block, link) {
            return;
        }
        l.ask(now, block, typical, &self.config);
        self.availability.take(block.piece);
        actions.push(Action::Request { link, block });
    }

    pub(super) fn ask_of(&self, link: LinkId, block: BlockRef) -> Option<&Ask> {
        self.links.get(&link)?.asks.iter().find(|a| a.block == block)
    }

    /// Lateness that the start rule overlooks while the clock stands: what is due "now" cannot be here now.
    fn grace(&self) -> f64 {
        self.config.start.as_secs_f64()
    }

    /// After a jump: requests for what is no longer due stand before those that are, so they are withdrawn first.
    fn cancel_stale(&mut self, now: Instant, agenda: &Agenda, actions: &mut Vec<Action>) {
        let pieces: BTreeSet<_> = agenda.pieces().iter().map(|d| d.piece).collect();
        let due = |b: BlockRef| pieces.contains(&b.piece) && !self.board.block_here(b);
        let mut stale = Vec::new();
        for l in self.links.values().filter(|l| pieces.iter().any(|p| l.has.contains(*p))) {
            stale.extend(l.asks.iter().map(|a| a.block).filter(|b| !due(*b)).map(|b| (l.id, b)));
        }
        for (link, block) in stale {
            self.cancel(now, link, block, false, actions);
        }
        self.abort_stale(&pieces, actions);
    }
}

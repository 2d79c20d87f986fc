//! A viewer: a demuxer that reads ahead, a first picture, and a clock that runs while the engine's gate is open.
//!
//! Invariant: the clock never passes a byte that is not playable, and stands at the very moment at which it would.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::film::Film;
use super::store::Store;
use crate::engine::{Event, Phase};
use crate::units::{ByteRange, Instant, MediaTime};

/// How far the demuxer reads ahead of the clock: its packet queues are full then.
const READ_AHEAD: Duration = Duration::from_secs(10);
/// What one read asks for, bytes.
const READ: u64 = 32 * 1024;

/// What a viewer saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Seconds from its coming to the first picture.
    pub first: Option<f64>,
    /// Seconds from its coming until the clock ran.
    pub started: Option<f64>,
    /// Seconds from each seek to its picture.
    pub seeks: Vec<f64>,
    /// How often, and how long in all, the clock stood for want of bytes.
    pub stalls: u32,
    pub stalled: f64,
    /// Film played, seconds.
    pub played: f64,
    /// Bytes played that were not the film's.
    pub false_bytes: u64,
    pub ended: bool,
}

/// The state of one viewer.
#[derive(Debug)]
pub(super) struct Player {
    film: Arc<Film>,
    /// How often it says where its clock is.
    told_every: Duration,
    came: Instant,
    pub phase: Phase,
    pub media: MediaTime,
    /// When `media` was brought up to date.
    at: Instant,
    pub gate: bool,
    /// Parts of the opening that were read.
    opened: usize,
    reader: u64,
    blocked: Option<u64>,
    asked_at: Instant,
    picture: bool,
    shown_to: u64,
    told: Option<(Phase, Instant)>,
    /// Seeks to come.
    seeks: VecDeque<(Instant, MediaTime)>,
    stalled_at: Option<Instant>,
    pub seen: Seen,
}

impl Player {
    pub fn new(
        film: Arc<Film>,
        told_every: Duration,
        came: Instant,
        from: MediaTime,
        seeks: VecDeque<(Instant, MediaTime)>,
    ) -> Self {
        Self {
            told_every,
            came,
            phase: Phase::Opening,
            media: from,
            at: came,
            gate: false,
            opened: 0,
            reader: 0,
            blocked: None,
            asked_at: came,
            picture: false,
            shown_to: 0,
            told: None,
            seeks,
            stalled_at: None,
            seen: Seen::default(),
            film,
        }
    }

    /// Puts one more seek into the list.
    pub fn will_seek(&mut self, at: Instant, to: MediaTime) {
        self.seeks.push_back((at, to));
    }

    pub fn seeks_left(&self) -> usize {
        self.seeks.len()
    }

    /// The byte the clock is at.
    pub fn offset(&self) -> u64 {
        self.film.timeline.offset_of(self.media).min(self.film.layout.total_len())
    }

    /// Seconds of film from the clock on that may be played without a gap.
    pub fn ahead(&self, store: &mut Store) -> f64 {
        let end = store.run_end(self.offset());
        self.time_of(end).as_secs_f64() - self.media.as_secs_f64()
    }

    /// Seconds of film from the clock to a byte.
    pub fn seconds_to(&self, offset: u64) -> f64 {
        self.time_of(offset).as_secs_f64() - self.media.as_secs_f64()
    }

    /// Film that is left.
    pub fn left(&self) -> f64 {
        self.film.timeline.duration().as_secs_f64() - self.media.as_secs_f64()
    }

    pub fn is_open(&self) -> bool {
        self.opened == self.film.opening.len()
    }

    fn time_of(&self, offset: u64) -> MediaTime {
        let line = &self.film.timeline;
        if offset >= self.film.layout.total_len() { line.duration() } else { line.time_of(offset) }
    }

    /// Brings everything up to now; what the engine is to be told goes into `out`.
    pub fn step(&mut self, now: Instant, store: &mut Store, out: &mut Vec<Event>) {
        self.run_clock(now, store);
        if let Some((_, to)) = self.seeks.pop_front_if(|s| s.0 <= now) {
            self.seek(now, to, out);
        }
        self.read(store, now, out);
        // A gate that is open in the step of a seek is the gate of before.
        if out.is_empty() {
            self.start(now);
        }
        let due = self.told.is_none_or(|(phase, at)| phase != self.phase || now.since(at) >= self.told_every);
        if due && (self.phase != Phase::Ended || self.told.is_some_and(|t| t.0 != Phase::Ended)) {
            self.told = Some((self.phase, now));
            out.push(Event::Playhead { at: self.media, phase: self.phase });
        }
    }

    /// When to look again at the latest.
    pub fn next(&self, now: Instant, store: &mut Store) -> Option<Instant> {
        let told = (self.phase != Phase::Ended).then(|| self.told.map_or(now, |t| t.1) + self.told_every);
        let runs_dry =
            (self.phase == Phase::Playing).then(|| now + Duration::from_secs_f64(self.ahead(store).max(1e-6)));
        let seek = self.seeks.front().map(|s| s.0);
        [told, runs_dry, seek].into_iter().flatten().min().map(|t| t.max(now + Duration::from_nanos(1)))
    }

    fn run_clock(&mut self, now: Instant, store: &mut Store) {
        let dt = now.since(self.at);
        if self.phase == Phase::Playing && self.gate {
            let end = store.run_end(self.offset());
            let limit = self.time_of(end);
            let to = (self.media + dt).min(limit.max(self.media));
            self.show(to, end, store);
            self.seen.played += to.as_secs_f64() - self.media.as_secs_f64();
            let spent = Duration::from_micros((to.0 - self.media.0).max(0) as u64);
            self.media = to;
            if to >= self.film.timeline.duration() {
                self.phase = Phase::Ended;
                self.seen.ended = true;
            } else if to >= limit {
                self.phase = Phase::Stalled;
                self.stalled_at = Some(self.at + spent);
                self.seen.stalls += 1;
            }
        }
        self.at = now;
    }

    /// The bytes up to this time go to the screen, as far as they may be played: between two points of the index the first byte
    /// of the next is the first that is needed, though the clock is not there yet.
    fn show(&mut self, to: MediaTime, end: u64, store: &Store) {
        let from = self.offset().max(self.shown_to);
        let upto = self.film.timeline.offset_of(to).min(end);
        if upto > from {
            let range = ByteRange::new(from, upto);
            if store.lie_in(range) != 0 {
                self.seen.false_bytes += range.len();
            }
            self.shown_to = upto;
        }
    }

    fn seek(&mut self, now: Instant, to: MediaTime, out: &mut Vec<Event>) {
        if !self.is_open() {
            return;
        }
        self.end_stall(now);
        self.media = to.min(self.film.timeline.duration());
        self.phase = Phase::Seeking;
        self.picture = false;
        self.asked_at = now;
        self.reader = self.offset();
        self.shown_to = 0;
        self.blocked = None;
        out.push(Event::ReaderAt { offset: self.reader });
        self.told = Some((self.phase, now));
        out.push(Event::Playhead { at: self.media, phase: self.phase });
    }

    /// The demuxer reads as far as it may and wants to.
    fn read(&mut self, store: &mut Store, now: Instant, out: &mut Vec<Event>) {
        while let Some(part) = self.film.opening.get(self.opened).copied() {
            self.reader = self.reader.clamp(part.start, part.end);
            self.reader = store.run_end(self.reader).min(part.end);
            if self.reader < part.end {
                return self.wait(store, out);
            }
            self.opened += 1;
            if self.is_open() {
                self.reader = self.offset();
                out.push(Event::Timeline(self.film.timeline.clone()));
                if self.media > MediaTime::ZERO {
                    // Resumed where it was left: for the engine a seek before the first picture.
                    self.phase = Phase::Seeking;
                }
            }
        }
        let line = &self.film.timeline;
        let goal = line.offset_of(self.media + READ_AHEAD).max(self.offset() + self.film.picture);
        let goal = goal.min(self.film.layout.total_len());
        self.reader = self.reader.max(store.run_end(self.reader).min(goal));
        let picture = (self.offset() + self.film.picture).min(self.film.layout.total_len());
        if !self.picture && self.reader >= picture {
            self.picture = true;
            let took = now.since(self.asked_at).as_secs_f64();
            if self.seen.first.is_none() {
                self.seen.first = Some(now.since(self.came).as_secs_f64());
            } else {
                self.seen.seeks.push(took);
            }
        }
        if self.reader < goal {
            self.wait(store, out);
        } else if self.blocked.take().is_some() {
            out.push(Event::ReaderAt { offset: self.reader });
            out.push(Event::ReaderResumed);
        }
    }

    fn wait(&mut self, store: &mut Store, out: &mut Vec<Event>) {
        let at = store.run_end(self.reader);
        if self.blocked != Some(at) {
            self.blocked = Some(at);
            let range = ByteRange::new(at, (at + READ).min(self.film.layout.total_len()));
            out.push(Event::ReaderBlocked { range });
        }
    }

    /// The clock starts once there is a picture and the gate is open.
    fn start(&mut self, now: Instant) {
        let waits = matches!(self.phase, Phase::Opening | Phase::Seeking | Phase::Stalled);
        if waits && self.gate && self.picture && self.is_open() && self.told.is_some_and(|t| t.0 == self.phase) {
            self.end_stall(now);
            self.phase = Phase::Playing;
            self.at = now;
            self.seen.started.get_or_insert(now.since(self.came).as_secs_f64());
        }
    }

    /// How long it has stood by now in the stall it is in, seconds.
    pub fn stands(&self, now: Instant) -> f64 {
        self.stalled_at.map_or(0.0, |at| now.since(at).as_secs_f64())
    }

    /// Books a stall that is over, or still going on at the end.
    pub fn end_stall(&mut self, now: Instant) {
        if let Some(at) = self.stalled_at.take() {
            self.seen.stalled += now.since(at).as_secs_f64();
        }
    }
}

//! All that the threads of one player share, under one lock, and the rule when the clock runs.
//! Invariants: `serial` names the current seek, queues hold nothing older; the clock runs exactly if the gate is open,
//! the user did not pause, something is there to show and nothing ran dry; `refresh` alone starts and stops it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::api::{FrameCounts, IndexPoints, Pace, PlayerOptions, PlayerPhase, PlayerStatus, SeekRecord, StallRecord};
use super::clock::Clock;
use super::error::MediaError;
use super::packets::PacketQueue;
use super::pictures::Pictures;
use super::ring::AudioLink;
use crate::stream::reader::Cancel;
use crate::units::MediaTime;

/// Video and sound of the same moment lie at most this far apart in a file; a queue that is empty while the demuxer is
/// further ahead than this has nothing to hold at this moment, rather than being late.
const INTERLEAVE_US: i64 = 1_000_000;
/// Sound and picture end a little before they have ended: a dry ring is noticed before it is heard twice.
const DRY_US: i64 = 10_000;
/// Media that must be queued before a clock that ran dry goes on, or it would stutter from packet to packet.
const REFILL_US: i64 = 400_000;

/// One decoder's side.
#[derive(Default)]
pub(super) struct Lane {
    pub exists: bool,
    pub queue: PacketQueue,
    /// All of this serial is decoded and handed on.
    pub drained: bool,
    /// The decoder waits for a packet.
    pub waiting: bool,
    /// Media time up to which this serial is decoded, microseconds.
    pub end: Option<i64>,
}

impl Lane {
    fn flush(&mut self) {
        self.queue.clear();
        (self.drained, self.end) = (false, None);
    }

    fn hungry(&self) -> bool {
        self.exists && !self.drained && self.waiting && self.queue.is_empty() && !self.queue.ended
    }
}

/// Where the play goes, until the first picture from there is decoded.
#[derive(Clone, Copy)]
pub(super) struct Goal {
    pub to: MediaTime,
    pub asked: Instant,
    pub is_seek: bool,
}

/// The sound card's side, as far as the clock needs it.
#[derive(Default)]
pub(super) struct AudioOut {
    pub link: Option<Arc<AudioLink>>,
    pub rate: u32,
    /// Frame index in the ring and its media time, for this serial.
    pub base: Option<(u64, i64)>,
}

pub(super) struct State {
    pub options: PlayerOptions,
    pub made: Instant,
    pub stop: bool,
    pub serial: u64,
    /// For the demuxer, until it takes it.
    pub seek: Option<MediaTime>,
    pub goal: Option<Goal>,
    /// Where this serial began.
    pub begin: MediaTime,
    pub opened: bool,
    pub gate: bool,
    pub paused: bool,
    pub volume: f32,
    pub muted: bool,
    pub video: Lane,
    pub audio: Lane,
    /// The demuxer sleeps because the queues are full.
    pub demux_full: bool,
    /// How far the demuxer got in this serial, microseconds.
    pub demux_at: i64,
    pub pictures: Pictures,
    pub clock: Clock,
    pub out: AudioOut,
    pub index: Option<IndexPoints>,
    pub status: PlayerStatus,
    /// What ended the bytes early; shown once all that came before it was played.
    pub fault: Option<String>,
    starved: bool,
    counted_to: MediaTime,
    dirty: bool,
}

/// The lock and what threads wait on.
pub(super) struct Shared {
    state: Mutex<State>,
    pub cancel: Cancel,
    /// The demuxer: room in a queue, a seek, the end.
    pub demux: Condvar,
    /// Decoders: packets, room, a new serial, the clock starting or stopping.
    pub decode: Condvar,
    pub pacer: Condvar,
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Shared {
    pub(super) fn new(options: PlayerOptions, cancel: Cancel, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        let now = Instant::now();
        let begin = MediaTime(options.start_at.0.max(0));
        let mut clock = Clock::new(now);
        clock.set(begin, now);
        let state = State {
            made: now,
            stop: false,
            serial: 0,
            seek: (begin > MediaTime::ZERO).then_some(begin),
            goal: Some(Goal { to: begin, asked: now, is_seek: false }),
            begin,
            opened: false,
            gate: false,
            paused: false,
            volume: options.volume,
            muted: options.muted,
            video: Lane::default(),
            audio: Lane::default(),
            demux_full: false,
            demux_at: i64::MIN,
            pictures: Pictures::new(options.keep_pictures && options.pace == Pace::Clock),
            clock,
            out: AudioOut::default(),
            index: None,
            status: PlayerStatus { at: begin, ..PlayerStatus::default() },
            fault: None,
            starved: false,
            counted_to: begin,
            dirty: false,
            options,
        };
        Self {
            state: Mutex::new(state),
            cancel,
            demux: Condvar::new(),
            decode: Condvar::new(),
            pacer: Condvar::new(),
            wake,
        }
    }

    /// Works on the state, applies the rules, and wakes whoever is concerned, outside the lock.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let result = work(&mut state);
        self.settle(state);
        result
    }

    /// The bare lock, for waiting on a condvar.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn settle(&self, mut state: MutexGuard<'_, State>) {
        let ran = state.clock.running();
        state.refresh(Instant::now());
        let (dirty, turned) = (std::mem::take(&mut state.dirty), state.clock.running() != ran);
        drop(state);
        if dirty || turned {
            self.pacer.notify_all();
            self.decode.notify_all();
        }
        if dirty {
            (self.wake)();
        }
    }
}

impl State {
    pub(super) fn unpaced(&self) -> bool {
        self.options.pace == Pace::None
    }

    /// Says something to the user, or anything else the app should look at.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        self.dirty |= self.status.note.as_ref() != Some(&text);
        self.status.note = Some(text);
    }

    /// Takes a note back that no longer holds.
    pub(super) fn clear_note(&mut self, text: &str) {
        if self.status.note.as_deref() == Some(text) {
            self.status.note = None;
            self.dirty = true;
        }
    }

    pub(super) fn publish_index(&mut self, index: IndexPoints) {
        self.index = Some(index);
        self.dirty = true;
    }

    pub(super) fn fail(&mut self, sentence: String) {
        if self.status.error.is_none() {
            self.status.error = Some(sentence);
        }
    }

    /// Begins anew at `to`: everything queued is void.
    pub(super) fn start_serial(&mut self, to: MediaTime, now: Instant) {
        self.serial += 1;
        self.seek = Some(to);
        self.goal = Some(Goal { to, asked: now, is_seek: true });
        (self.begin, self.counted_to) = (to, to);
        self.video.flush();
        self.audio.flush();
        self.pictures.flush();
        self.out.base = None;
        self.clock.run(false, now);
        self.clock.set(to, now);
        (self.starved, self.demux_full) = (false, false);
        self.demux_at = i64::MIN;
        self.fault = None;
        self.set_run(false);
    }

    /// The first picture (or sound, where there is no picture) at the goal is decoded.
    pub(super) fn reach_goal(&mut self, now: Instant) {
        let Some(goal) = self.goal.take() else { return };
        if self.status.first_frame.is_none() {
            self.status.first_frame = Some(now.saturating_duration_since(self.made));
        }
        if goal.is_seek {
            let after = now.saturating_duration_since(goal.asked);
            // A player left running for days must not grow by its records.
            if self.status.seeks.len() < 10_000 {
                self.status.seeks.push(SeekRecord { to: goal.to, first_frame_after: after });
            }
        }
        self.dirty = true;
    }

    /// Media time now; bends the clock to the sound card where one plays.
    pub(super) fn now(&mut self, now: Instant) -> MediaTime {
        if self.clock.running() {
            match self.audible(now) {
                Audible::At(at) => self.clock.steer(at, now),
                Audible::NotYet => self.clock.hold(now),
                Audible::Wall => self.clock.go_on(now),
            }
        }
        let at = self.clock.at(now);
        if !self.unpaced() {
            self.count(at, self.clock.running());
        }
        at
    }

    /// Adds what was played since the last count.
    fn count(&mut self, at: MediaTime, ran: bool) {
        if ran {
            let us = at.0.saturating_sub(self.counted_to.0).max(0) as u64;
            self.status.played += Duration::from_micros(us);
        }
        self.counted_to = at;
    }

    fn audible(&self, now: Instant) -> Audible {
        let (Some(link), Some((index, us)), Some(end)) = (&self.out.link, self.out.base, self.audio.end) else {
            return Audible::Wall;
        };
        let at = self.clock.at(now).0;
        let over = self.audio.drained || (self.audio.queue.is_empty() && self.demux_at > at + INTERLEAVE_US);
        if over && at >= end - DRY_US {
            return Audible::Wall;
        }
        let Some(heard) = link.heard(now) else { return Audible::NotYet };
        let us_of = |frames: u64| (frames as i128 * 1_000_000 / i128::from(self.out.rate.max(1))) as i64;
        let eaten = heard.read + heard.ate;
        if eaten < index {
            return Audible::NotYet;
        }
        let last = us + us_of(eaten - index);
        let first = if heard.read >= index { us + us_of(heard.read - index) } else { us - us_of(index - heard.read) };
        let moved = heard.since.as_micros() as i64 - heard.latency.as_micros() as i64;
        Audible::At(MediaTime((first + moved).min(last)))
    }

    /// Whether a stream that should have something at `at` has run dry because bytes are missing.
    fn dry(&self, at: MediaTime) -> bool {
        if self.demux_full || self.demux_at > at.0 + INTERLEAVE_US {
            return false;
        }
        let past = |lane: &Lane| lane.hungry() && lane.end.is_some_and(|e| at.0 >= e - DRY_US);
        (past(&self.video) && self.pictures.len() == 0) || past(&self.audio)
    }

    /// Media queued ahead of the clock, microseconds: the least of the streams.
    pub(super) fn ahead(&self, at: MediaTime) -> i64 {
        let of = |lane: &Lane| {
            let decoded = lane.end.map_or(0, |e| e - at.0).max(0);
            lane.exists.then(|| lane.queue.span().saturating_add(decoded))
        };
        match (of(&self.video), of(&self.audio)) {
            (Some(v), Some(a)) => v.min(a),
            (v, a) => v.or(a).unwrap_or(0),
        }
    }

    fn refilled(&self, at: MediaTime) -> bool {
        let enough = |lane: &Lane| !lane.exists || lane.drained || lane.queue.ended || !lane.hungry();
        let ended = [&self.video, &self.audio].iter().all(|l| !l.exists || l.drained || l.queue.ended);
        let full = self.demux_full || self.demux_at > at.0 + INTERLEAVE_US;
        full || ended || (enough(&self.video) && enough(&self.audio) && self.ahead(at) >= REFILL_US)
    }

    /// Sound is there, or will not come for this moment.
    fn audio_ready(&self, at: MediaTime) -> bool {
        let a = &self.audio;
        let skips = a.queue.is_empty() && (self.demux_full || self.demux_at > at.0 + INTERLEAVE_US);
        !a.exists || a.drained || a.end.is_some() || skips
    }

    fn over(&self, at: MediaTime) -> bool {
        let done = |l: &Lane| !l.exists || (l.drained && (self.unpaced() || l.end.is_none_or(|e| at.0 >= e - DRY_US)));
        self.opened && self.goal.is_none() && done(&self.video) && done(&self.audio) && self.pictures.len() == 0
    }

    fn set_run(&mut self, run: bool) {
        if let Some(link) = &self.out.link {
            link.run.store(run, std::sync::atomic::Ordering::Release);
        }
    }

    /// The one place where the clock starts and stops and the phase changes.
    fn refresh(&mut self, now: Instant) {
        let at = self.now(now);
        if self.clock.running() {
            self.pictures.advance(at);
        }
        self.arrive(now);
        let over = self.over(at);
        if over && let Some(fault) = self.fault.take() {
            self.fail(fault);
        }
        if self.clock.running() && (!self.gate || self.dry(at)) && !over {
            self.starved = true;
        }
        if self.starved && self.gate && self.refilled(at) {
            self.starved = false;
        }
        let can = self.goal.is_none() && self.opened && self.status.error.is_none() && !over;
        let run = can && self.gate && !self.paused && !self.starved && !self.unpaced() && self.audio_ready(at);
        if run != self.clock.running() {
            self.clock.run(run, now);
        }
        self.set_run(run);
        if run || (self.unpaced() && can) {
            self.status.started.get_or_insert(now.saturating_duration_since(self.made));
        }
        if let Some(stall) = self.status.stalls.last_mut().filter(|_| self.status.phase == PlayerPhase::Starved) {
            stall.lasted = now.saturating_duration_since(self.made).saturating_sub(stall.at);
        }
        self.enter(self.phase(over), now);
        self.status.at = self.goal.map_or_else(|| self.shown_at(at), |g| g.to);
        if self.unpaced() {
            self.count(self.status.at, self.goal.is_none());
        }
        self.status.queued_s = self.ahead(at) as f64 / 1e6;
        self.status.frames = FrameCounts { decoded: self.status.frames.decoded, ..self.pictures.counts };
    }

    /// A goal that no picture will reach is reached by sound, or by the end; a file without either has failed.
    fn arrive(&mut self, now: Instant) {
        let gone = |l: &Lane| !l.exists || l.drained;
        if self.goal.is_none() || !self.opened || !gone(&self.video) || !(gone(&self.audio) || self.audio.end.is_some())
        {
            return;
        }
        if self.video.end.is_none() && self.audio.end.is_none() && self.status.first_frame.is_none() {
            let fault = self.fault.take().unwrap_or_else(|| MediaError::Undecodable.to_string());
            return self.fail(fault);
        }
        self.reach_goal(now);
    }

    fn shown_at(&self, at: MediaTime) -> MediaTime {
        let end = if self.unpaced() { MediaTime(self.video.end.or(self.audio.end).unwrap_or(0)) } else { at };
        let last = self.status.duration.unwrap_or(MediaTime(i64::MAX));
        end.clamp(MediaTime::ZERO, last.max(MediaTime::ZERO))
    }

    fn phase(&self, over: bool) -> PlayerPhase {
        match () {
            _ if self.status.error.is_some() => PlayerPhase::Failed,
            _ if self.goal.is_some() && self.status.first_frame.is_none() => PlayerPhase::Opening,
            _ if self.goal.is_some() => PlayerPhase::Seeking,
            _ if over => PlayerPhase::Ended,
            _ if self.unpaced() => PlayerPhase::Playing,
            _ if self.paused => PlayerPhase::Paused,
            _ if self.starved => PlayerPhase::Starved,
            _ if self.clock.running() => PlayerPhase::Playing,
            _ => PlayerPhase::Ready,
        }
    }

    fn enter(&mut self, phase: PlayerPhase, now: Instant) {
        if phase == self.status.phase {
            return;
        }
        if phase == PlayerPhase::Starved && self.status.stalls.len() < 10_000 {
            let at = now.saturating_duration_since(self.made);
            self.status.stalls.push(StallRecord { at, media: self.clock.at(now), lasted: Duration::ZERO });
        }
        self.status.phase = phase;
        self.dirty = true;
    }
}

enum Audible {
    At(MediaTime),
    /// The card has not taken the first sample of this place yet.
    NotYet,
    /// No sound, or its end: the machine's clock goes on.
    Wall,
}

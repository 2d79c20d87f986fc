//! A film that plays: carries the player's phase and position down to the stream, and the stream's gate up to the player.
//!
//! Invariant: this decides nothing about bytes. The engine opens and shuts the gate; the clock is the player's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::app::failure::Failure;
use crate::app::session::drive::{MOVING, RESTING};
use crate::app::session::{Facts, Film, SessionCommand, SessionView, Stage};
use crate::app::snapshot::{PlayState, Playing, StreamView, StripMap, VideoTap};
use crate::app::view::{HealthLog, peers, same, servers, subtitle};
use crate::app::words;
use crate::engine::{Phase, Timeline};
use crate::media::Player;
use crate::media::api::{PlayerPhase, PlayerStatus};
use crate::stream::{Stream, StreamStatus};
use crate::units::{ByteRange, MediaTime};

/// Seconds the start rule wants buffered, for the words on screen; the rule itself is the engine's.
pub const START_GOAL_S: f64 = 2.0;
/// The same after a stall.
const REBUFFER_GOAL_S: f64 = 4.0;
/// The engine hears of the position this often while it moves.
const PLAYHEAD_EVERY: Duration = Duration::from_millis(100);
/// Numbers on screen change at most this often; what the user did shows at once.
const NUMBERS_EVERY: Duration = Duration::from_millis(100);
/// A gate that is open right after a seek or a stall was told to the engine may be the gate of before.
const GATE_SETTLES: Duration = Duration::from_millis(20);
/// After this long without a change, a paused film is looked at less often.
const CALM_AFTER: Duration = Duration::from_secs(2);

/// What is played.
pub struct FilmSource {
    /// See [`Film::key`].
    pub key: String,
    pub title: String,
    pub magnet: Option<String>,
    /// Its bytes in torrent space; empty for a local file.
    pub file: ByteRange,
    pub piece_len: u32,
    /// Peers may be asked for it.
    pub has_peers: bool,
}

pub struct FilmPlay {
    player: Player,
    source: FilmSource,
    volume: f32,
    muted: bool,
    /// What the user wants, whatever the player does right now.
    paused: bool,
    /// A seek was asked for and the clock has not run since.
    seeking: bool,
    stalled: bool,
    status: PlayerStatus,
    stream: Option<Arc<StreamStatus>>,
    gate: Option<bool>,
    gate_from: Instant,
    told: Option<(Instant, MediaTime, Phase)>,
    /// The index as last given to the stream: where its points lie in memory, and the duration.
    index: Option<(usize, MediaTime)>,
    strip: Option<Arc<StripMap>>,
    log: HealthLog,
    shown: Option<(Instant, Shown)>,
    shown_stream: Option<Arc<StreamStatus>>,
    changed_at: Instant,
}

/// What is on screen besides the stream's numbers: compared to tell whether to publish.
#[derive(PartialEq, Clone)]
struct Shown {
    state: PlayState,
    duration: Option<MediaTime>,
    seeking_to: Option<MediaTime>,
    volume: f32,
    muted: bool,
    waiting: Option<String>,
    description: String,
    note: Option<String>,
    strip: usize,
    /// In tenths of a second: finer nobody sees.
    at_ds: i64,
}

impl FilmPlay {
    pub fn new(player: Player, source: FilmSource, volume: f32, muted: bool, start_at: MediaTime) -> Self {
        let now = Instant::now();
        Self {
            player,
            source,
            volume,
            muted,
            paused: false,
            seeking: false,
            stalled: false,
            status: PlayerStatus { at: start_at, ..Default::default() },
            stream: None,
            gate: None,
            gate_from: now,
            told: None,
            index: None,
            strip: None,
            log: HealthLog::default(),
            shown: None,
            shown_stream: None,
            changed_at: now,
        }
    }

    /// No picture yet, and none was shown before.
    pub fn is_opening(&self) -> bool {
        self.status.phase == PlayerPhase::Opening && self.shown.is_none()
    }

    pub fn has_index(&self) -> bool {
        self.index.is_some()
    }

    pub fn command(&mut self, command: SessionCommand, stream: Option<&Stream>) {
        match command {
            SessionCommand::TogglePause if self.status.phase == PlayerPhase::Ended => {
                self.pause(false);
                self.seek(MediaTime::ZERO, stream);
            }
            SessionCommand::TogglePause => self.pause(!self.paused),
            SessionCommand::SeekTo(to) => self.seek(to, stream),
            SessionCommand::SeekBy(s) if s.is_finite() => {
                let from = self.status.seeking_to.unwrap_or(self.status.at);
                self.seek(MediaTime::from_secs_f64(from.as_secs_f64() + s), stream);
            }
            SessionCommand::SetVolume(v) => {
                self.volume = v;
                self.player.set_volume(v);
            }
            SessionCommand::SetMuted(m) => {
                self.muted = m;
                self.player.set_muted(m);
            }
            SessionCommand::SeekBy(_) | SessionCommand::PlayFile(_) => {}
        }
    }

    fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.player.set_paused(paused);
    }

    fn seek(&mut self, to: MediaTime, stream: Option<&Stream>) {
        let to = MediaTime(to.0.clamp(0, self.status.duration.map_or(i64::MAX, |d| d.0)));
        self.seeking = true;
        if let Some(stream) = stream {
            // The engine first: it cancels what no longer matters while the player is still flushing.
            self.tell(Instant::now(), to, Phase::Seeking, stream);
        }
        self.player.seek(to);
        if stream.is_some() {
            // After the seek: a gate shut on a clock that runs would count as a stall.
            self.set_gate(false);
            self.gate_from = Instant::now() + GATE_SETTLES;
        }
        // A second step from here counts from the goal, also before the player has said anything.
        self.status.seeking_to = Some(to);
    }

    fn set_gate(&mut self, open: bool) {
        if self.gate != Some(open) {
            self.gate = Some(open);
            self.player.set_gate(open);
        }
    }

    fn tell(&mut self, now: Instant, at: MediaTime, phase: Phase, stream: &Stream) {
        self.told = Some((now, at, phase));
        stream.playhead(at, phase);
    }

    /// Looks at player and stream and carries between them. Answers how long to sleep at most.
    pub fn step(
        &mut self,
        now: Instant,
        stream: Option<&Stream>,
        facts: &Mutex<Facts>,
    ) -> Result<Option<Duration>, Failure> {
        self.status = self.player.status();
        if self.status.phase == PlayerPhase::Playing {
            (self.seeking, self.stalled) = (false, false);
        }
        match stream {
            Some(stream) => self.carry(now, stream),
            None => self.set_gate(true),
        }
        let waiting = self.waiting_text();
        {
            let mut facts = facts.lock();
            facts.player.clone_from(&self.status);
            // Until there is a picture, the steps of opening say it better.
            if !self.is_opening() {
                facts.waiting = waiting;
            }
        }
        if self.status.phase == PlayerPhase::Failed {
            let what = self.status.error.clone().unwrap_or_else(|| "This cannot be played".to_owned());
            let advice = match stream {
                Some(_) => "What has arrived is kept; try another file, or open it again",
                None => "Try another file",
            };
            return Err(Failure::input(what, advice));
        }
        Ok(self.sleep(now))
    }

    fn carry(&mut self, now: Instant, stream: &Stream) {
        self.give_timeline(stream);
        let phase = words::engine_phase(self.status.phase, self.seeking);
        if phase == Phase::Stalled && !self.stalled {
            self.stalled = true;
            self.set_gate(false);
            self.gate_from = now + GATE_SETTLES;
        }
        let at = self.status.seeking_to.filter(|_| phase == Phase::Seeking).unwrap_or(self.status.at);
        let due = match self.told {
            Some((then, told_at, told)) => {
                let moved = told_at != at && now.saturating_duration_since(then) >= PLAYHEAD_EVERY;
                told != phase || moved || (phase == Phase::Seeking && told_at != at)
            }
            None => true,
        };
        if due {
            self.tell(now, at, phase, stream);
        }
        let open = stream.gate_open();
        if !open || now >= self.gate_from {
            self.set_gate(open);
        }
        let status = stream.status();
        let moving = !matches!(phase, Phase::Paused | Phase::Ended)
            || status.engine.swarm_rate + status.engine.server_rate > 1.0;
        if moving && !self.is_opening() {
            self.log.sample(now, &status.engine);
        }
        self.stream = Some(status);
    }

    /// The demuxer's index once it is known, and again when it grew (an mkv's cues come late); until then, straight
    /// through the duration.
    fn give_timeline(&mut self, stream: &Stream) {
        let index = self.player.index();
        let (points, duration) = match &index {
            Some(i) => (i.points.clone(), i.duration),
            None => match self.status.duration {
                Some(d) => (Arc::default(), d),
                None => return,
            },
        };
        let print = (if points.is_empty() { 0 } else { points.as_ptr() as usize }, duration);
        if self.index == Some(print) || duration <= MediaTime::ZERO {
            return;
        }
        self.index = Some(print);
        let len = self.source.file.len();
        let timeline = Arc::new(match points.is_empty() {
            true => Timeline::linear(duration, len),
            false => Timeline::new(points.to_vec(), duration, len),
        });
        stream.timeline(timeline.clone());
        let (file, piece_len) = (self.source.file, self.source.piece_len);
        self.strip = Some(Arc::new(StripMap { timeline, file, piece_len }));
    }

    fn state(&self) -> PlayState {
        match self.status.phase {
            PlayerPhase::Playing => PlayState::Playing,
            PlayerPhase::Ended => PlayState::Ended,
            _ if self.paused => PlayState::Paused,
            PlayerPhase::Paused => PlayState::Paused,
            _ => PlayState::Waiting,
        }
    }

    /// What the clock waits for; `None` while it runs or the user paused it.
    fn waiting_text(&self) -> Option<String> {
        let status = self.stream.as_ref()?;
        if self.state() != PlayState::Waiting {
            return None;
        }
        if let Some(text) = words::waiting(status, self.source.has_peers) {
            return Some(text);
        }
        let goal = if self.stalled { REBUFFER_GOAL_S } else { START_GOAL_S };
        (self.gate == Some(false)).then(|| format!("buffering: {}", words::buffered(status.engine.ahead_s, goal)))
    }

    fn sleep(&self, now: Instant) -> Option<Duration> {
        let still = matches!(self.state(), PlayState::Paused | PlayState::Ended) && !self.seeking;
        match (still, self.stream.is_some()) {
            (false, _) => Some(MOVING),
            // A local film that stands has nothing to say until somebody does something.
            (true, false) => None,
            (true, true) if now.saturating_duration_since(self.changed_at) < CALM_AFTER => Some(MOVING * 4),
            (true, true) => Some(RESTING),
        }
    }

    /// The view, when something in it changed: at once what the user or the player did, numbers a few times a second.
    pub fn view_if_changed(&mut self, now: Instant) -> Option<SessionView> {
        if self.status.phase == PlayerPhase::Opening && self.shown.is_none() {
            return None;
        }
        let shown = Shown {
            state: self.state(),
            duration: self.status.duration,
            seeking_to: self.status.seeking_to,
            volume: self.volume,
            muted: self.muted,
            waiting: self.waiting_text(),
            description: self.status.description.clone(),
            note: self.status.note.clone(),
            strip: self.strip.as_ref().map_or(0, |s| Arc::as_ptr(s) as usize),
            at_ds: self.status.at.0 / 100_000,
        };
        let numbers_same = match (&self.stream, &self.shown_stream) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b) || same(a, b),
            (a, b) => a.is_none() == b.is_none(),
        };
        if let Some((then, old)) = &self.shown {
            let acted = Shown { at_ds: old.at_ds, waiting: old.waiting.clone(), ..shown.clone() } != *old;
            let numbers = !numbers_same || shown != *old;
            let due = now.saturating_duration_since(*then) >= NUMBERS_EVERY;
            if !(acted || (numbers && due)) {
                return None;
            }
        }
        let view = self.view(&shown);
        self.changed_at = now;
        self.shown = Some((now, shown));
        self.shown_stream = self.stream.clone();
        Some(view)
    }

    fn view(&self, shown: &Shown) -> SessionView {
        let s = &self.status;
        let stream = self.stream.as_ref().map(|status| StreamView {
            engine: status.engine.clone(),
            peers: peers(status),
            peers_known: status.discovery.known,
            history: self.log.shared(),
            waiting_text: shown.waiting.clone(),
            sources: status.discovery.sources.clone(),
            servers: servers(status),
            file: self.source.file,
            piece_len: self.source.piece_len,
        });
        let playing = Playing {
            title: self.source.title.clone(),
            subtitle: subtitle(&s.description, self.stream.as_deref()),
            state: shown.state,
            at: s.at,
            duration: s.duration,
            volume: self.volume,
            muted: self.muted,
            seeking_to: s.seeking_to,
            video: VideoTap(self.player.pictures()),
            stream,
            strip: self.strip.clone(),
        };
        let film = Film {
            key: self.source.key.clone(),
            title: self.source.title.clone(),
            magnet: self.source.magnet.clone(),
            at: s.seeking_to.unwrap_or(s.at),
            duration: s.duration,
            ended: s.phase == PlayerPhase::Ended,
        };
        SessionView { stage: Stage::Playing(Box::new(playing)), note: s.note.clone(), film: Some(film) }
    }
}

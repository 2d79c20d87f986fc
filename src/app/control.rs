//! The app behind the window: takes its commands, holds at most one session, settings and history, and publishes one
//! snapshot.
//!
//! Invariant: one thread (`sluicegate-app`) does all of it. [`App`] only queues commands and hands out the last snapshot,
//! so nothing a window calls ever blocks.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::app::failure::{ErrorText, Failure, one_line};
use crate::app::history::{Entry, History};
use crate::app::net::{NetOverrides, runtime};
use crate::app::open::{Wanted, classify};
use crate::app::paths::Paths;
use crate::app::session::{
    Closed, Film, NetOptions, Opened, Session, SessionCommand, SessionOptions, SessionView, Several, Stage,
};
use crate::app::settings::{Settings, leave_template};
use crate::app::signal::Signal;
use crate::app::snapshot::{AppHandle, Command, Screen, Snapshot};
use crate::media::api::PlayerOptions;

/// What to open at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpenAtStart {
    Text(String),
    Path(PathBuf),
    Demo,
}

#[derive(Debug, Clone)]
pub struct AppOptions {
    pub open: Option<OpenAtStart>,
    pub net: NetOverrides,
    pub paths: Paths,
}

#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error("The network could not be started: {0}")]
    Runtime(std::io::Error),
    #[error("No thread could be started: {0}")]
    Thread(std::io::Error),
}

struct Shared {
    snapshot: ArcSwap<Snapshot>,
    on_change: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
    commands: Mutex<VecDeque<Command>>,
    signal: Arc<Signal>,
    stop: AtomicBool,
}

/// Commands kept for a thread that is busy; a window sends a few per second at most.
const COMMANDS_MAX: usize = 1024;
/// The position is written down this often while it moves, so that a crash costs little.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// Closing a stream takes about a second at most.
const CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// The window's end of the app. Dropping it ends everything, waiting until resume data and history are saved.
pub struct App {
    shared: Arc<Shared>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl App {
    /// Starts the app's thread; returns at once.
    pub fn start(options: AppOptions) -> Result<Arc<App>, AppError> {
        let rt = runtime().map_err(AppError::Runtime)?;
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::default(),
            on_change: Mutex::default(),
            commands: Mutex::default(),
            signal: Arc::default(),
            stop: AtomicBool::new(false),
        });
        let for_thread = shared.clone();
        let body = move || {
            let mut control = Control::new(rt, options, for_thread);
            control.run();
            control.end();
        };
        let thread = std::thread::Builder::new().name("sluicegate-app".into()).spawn(body).map_err(AppError::Thread)?;
        Ok(Arc::new(App { shared, thread: Mutex::new(Some(thread)) }))
    }

    /// Ends session and app; returns when resume data and history are saved, a few seconds at most. Only the first call
    /// does something.
    pub fn shutdown(&self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.signal.notify();
        let thread = self.thread.lock().take();
        if thread.is_some_and(|t| t.join().is_err()) {
            tracing::error!("the app's thread panicked");
        }
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.shutdown();
    }
}

impl AppHandle for App {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot.load_full()
    }

    fn send(&self, command: Command) {
        let mut queue = self.shared.commands.lock();
        if queue.len() < COMMANDS_MAX {
            queue.push_back(command);
        }
        drop(queue);
        self.shared.signal.notify();
    }

    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>) {
        *self.shared.on_change.lock() = Some(Arc::from(wake));
    }
}

/// What is open.
struct Current {
    session: Session,
    /// What was opened, where it can be said in words.
    uri: Option<String>,
    /// The demo is no film to go back to.
    demo: bool,
    seen: Option<Arc<SessionView>>,
}

struct Control {
    rt: tokio::runtime::Runtime,
    net: NetOptions,
    paths: Paths,
    history: History,
    volume: f32,
    muted: bool,
    current: Option<Current>,
    /// The last session that was closed.
    closed: Option<Closed>,
    error: Option<ErrorText>,
    notice: Option<String>,
    /// The session's note that the user has read.
    dismissed: Option<String>,
    saved: Instant,
    shared: Arc<Shared>,
    /// The snapshot no longer says what is so.
    stale: bool,
    open: Option<OpenAtStart>,
}

impl Control {
    fn new(rt: tokio::runtime::Runtime, options: AppOptions, shared: Arc<Shared>) -> Self {
        let AppOptions { open, net, paths } = options;
        let (settings, notice) = Settings::load(&paths.settings_file());
        let history = History::load(&paths.history_file());
        let volume = settings.volume.or(history.volume).unwrap_or(1.0);
        Self {
            rt,
            net: net.over(&settings, &paths),
            volume,
            muted: history.muted,
            history,
            paths,
            current: None,
            closed: None,
            error: None,
            notice,
            dismissed: None,
            saved: Instant::now(),
            shared,
            stale: true,
            open,
        }
    }

    fn run(&mut self) {
        match self.open.take() {
            Some(OpenAtStart::Text(text)) => self.command(Command::Open(text)),
            Some(OpenAtStart::Path(path)) => self.command(Command::OpenPath(path)),
            Some(OpenAtStart::Demo) => self.command(Command::PlayDemo),
            None => {}
        }
        self.publish();
        // Not before the network is on its way.
        leave_template(&self.paths.settings_file());
        while !self.shared.stop.load(Ordering::Acquire) {
            self.shared.signal.wait(self.current.is_some().then_some(SAVE_EVERY));
            let commands = std::mem::take(&mut *self.shared.commands.lock());
            for command in commands {
                self.command(command);
            }
            self.look();
            self.publish();
            if self.current.is_some() && self.saved.elapsed() >= SAVE_EVERY {
                self.remember();
                self.save();
            }
        }
    }

    /// The way out: the position is written down first, whatever closing takes.
    fn end(mut self) {
        self.close();
        self.save();
        if let Some(closed) = &self.closed {
            let until = Instant::now() + CLOSE_LIMIT;
            while !closed.is_closed() && Instant::now() < until {
                self.shared.signal.wait(Some(Duration::from_millis(20)));
            }
        }
        self.rt.shutdown_timeout(Duration::from_millis(300));
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Open(text) => match classify(&text) {
                Ok(wanted) => {
                    let words = text.trim();
                    let uri = (!words.contains('\n')).then(|| words.to_owned());
                    self.open_wanted(wanted, uri);
                }
                Err(failure) => self.refuse(failure),
            },
            Command::OpenPath(path) => self.open_wanted(Wanted::Path(path), None),
            Command::PlayDemo => self.open(Opened::Demo, None),
            Command::Close => {
                self.close();
                self.save();
                self.error = None;
                self.stale = true;
            }
            Command::PlayFile(index) => self.to_session(SessionCommand::PlayFile(index)),
            Command::TogglePause => self.to_session(SessionCommand::TogglePause),
            Command::SeekTo(to) => self.to_session(SessionCommand::SeekTo(to)),
            Command::SeekBy(s) => self.to_session(SessionCommand::SeekBy(s)),
            Command::SetVolume(v) if v.is_finite() => {
                let louder = v > self.volume;
                self.volume = v.clamp(0.0, 1.0);
                // Turning it up is meant to be heard.
                self.set_muted(self.muted && !louder);
                self.to_session(SessionCommand::SetVolume(self.volume));
            }
            Command::SetVolume(_) => {}
            Command::ToggleMute => self.set_muted(!self.muted),
            Command::ForgetRecent(index) => {
                self.history.forget(index);
                self.save();
                self.stale = true;
            }
            Command::DismissNotice => {
                self.notice = None;
                self.dismissed = self.session_note();
                self.stale = true;
            }
        }
    }

    fn set_muted(&mut self, muted: bool) {
        self.muted = muted;
        self.to_session(SessionCommand::SetMuted(muted));
        self.history.set_sound(self.volume, muted);
    }

    fn to_session(&self, command: SessionCommand) {
        if let Some(current) = &self.current {
            current.session.send(command);
        }
    }

    /// What cannot be opened does not end a film that plays.
    fn refuse(&mut self, failure: Failure) {
        if self.current.is_some() {
            self.notice = Some(failure.text.to_string());
        } else {
            self.error = Some(failure.text);
        }
        self.stale = true;
    }

    fn open_wanted(&mut self, wanted: Wanted, uri: Option<String>) {
        let (wanted, uri) = match wanted {
            Wanted::Path(path) => {
                let path = std::path::absolute(&path).unwrap_or(path);
                let uri = path.to_str().map(str::to_owned);
                (self.path_or_magnet(&path, uri.as_deref()), uri)
            }
            Wanted::Url(url) => (Wanted::Url(url.clone()), Some(url)),
            other => (other, uri),
        };
        self.open(Opened::Wanted(wanted), uri);
    }

    /// A .torrent that was opened before and is gone since opens by its magnet link.
    fn path_or_magnet(&self, path: &Path, uri: Option<&str>) -> Wanted {
        let magnet = || classify(self.history.magnet_for(uri?)?).ok();
        let gone = matches!(path.try_exists(), Ok(false));
        gone.then(magnet).flatten().unwrap_or_else(|| Wanted::Path(path.to_owned()))
    }

    fn open(&mut self, opened: Opened, uri: Option<String>) {
        self.close();
        (self.error, self.dismissed, self.stale) = (None, None, true);
        let options = SessionOptions {
            net: self.net.clone(),
            player: PlayerOptions { volume: self.volume, muted: self.muted, ..Default::default() },
            several: Several::Ask,
            resume: self.history.resume_points(),
            after: self.closed.clone(),
        };
        let signal = self.shared.signal.clone();
        let demo = matches!(opened, Opened::Demo);
        match Session::start(self.rt.handle(), opened, options, Arc::new(move || signal.notify())) {
            Ok(session) => {
                self.current = Some(Current { session, uri, demo, seen: None });
                self.look();
            }
            Err(e) => self.refuse(Failure::machine(format!("No thread could be started: {e}"), "Close other programs")),
        }
    }

    /// Ends what is open, keeping the position. It goes down on its own thread.
    fn close(&mut self) {
        self.remember();
        if let Some(current) = self.current.take() {
            self.closed = Some(current.session.close());
        }
    }

    /// Takes in what the session says.
    fn look(&mut self) {
        let Some(current) = &mut self.current else { return };
        let view = current.session.view();
        if current.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &view)) {
            return;
        }
        let first_film = view.film.is_some() && current.seen.as_ref().is_none_or(|s| s.film.is_none());
        current.seen = Some(view.clone());
        self.stale = true;
        if first_film {
            self.remember();
        }
        if let Stage::Failed(failure) = &view.stage {
            self.close();
            self.save();
            self.error = Some(failure.text.clone());
        }
    }

    /// Puts the film that plays into the history.
    fn remember(&mut self) {
        let Some(current) = self.current.as_ref().filter(|c| !c.demo) else { return };
        let Some(film) = current.seen.as_ref().and_then(|v| v.film.as_ref()) else { return };
        if let Some(uri) = current.uri.clone().or_else(|| film.magnet.clone()) {
            self.history.note(entry(film, uri));
        }
    }

    fn save(&mut self) {
        self.saved = Instant::now();
        self.history.set_sound(self.volume, self.muted);
        if let Err(e) = self.history.save() {
            tracing::warn!("history not saved: {e}");
        }
    }

    fn session_note(&self) -> Option<String> {
        self.current.as_ref()?.seen.as_ref()?.note.clone()
    }

    /// Publishes what changed, then wakes the window.
    fn publish(&mut self) {
        if !std::mem::take(&mut self.stale) {
            return;
        }
        let seen = self.current.as_ref().and_then(|c| c.seen.as_ref());
        let screen = match seen.map(|v| &v.stage) {
            None | Some(Stage::Failed(_)) => Screen::Home { recent: self.history.recent(), error: self.error.clone() },
            Some(Stage::Opening(o)) => Screen::Opening(o.clone()),
            Some(Stage::Choose { name, files, suggested }) => {
                Screen::Choose { name: name.clone(), files: files.clone(), suggested: *suggested }
            }
            Some(Stage::Playing(p)) => Screen::Playing(p.clone()),
        };
        let note = self.session_note().filter(|n| self.dismissed.as_ref() != Some(n));
        let notice = self.notice.clone().or(note).map(|n| one_line(&n, 400));
        self.shared.snapshot.store(Arc::new(Snapshot { screen, notice }));
        let wake = self.shared.on_change.lock().clone();
        if let Some(wake) = wake {
            wake();
        }
    }
}

fn entry(film: &Film, uri: String) -> Entry {
    let duration_s = film.duration.map_or(0.0, |d| d.as_secs_f64());
    let at_s = if film.ended { duration_s } else { film.at.as_secs_f64().max(0.0) };
    Entry { key: film.key.clone(), title: film.title.clone(), uri, magnet: film.magnet.clone(), at_s, duration_s }
}

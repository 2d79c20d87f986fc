//! A play without a window: the same session, null outputs, and a report. This is how all is measured.
//!
//! Invariant: nothing stands between the start of the process and the network: no history, no window, no look-up that is
//! not asked for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::app::args::SeekAt;
use crate::app::ending::on_end;
use crate::app::failure::{Failure, clause, sentence};
use crate::app::net::{NetOverrides, runtime};
use crate::app::paths::Paths;
use crate::app::process::usage;
use crate::app::report::Report;
use crate::app::session::{Facts, Opened, Session, SessionCommand, SessionOptions, Several, Stage};
use crate::app::settings::Settings;
use crate::app::signal::Signal;
use crate::app::status_line::StatusLine;
use crate::media::api::{AudioSink, Pace, PlayerOptions, PlayerPhase};

/// What to play and how long.
#[derive(Debug, Clone)]
pub struct HeadlessOptions {
    pub opened: Opened,
    pub net: NetOverrides,
    /// Of a torrent with several; otherwise the largest.
    pub file: Option<usize>,
    /// From the start of the process; otherwise to the end of the film.
    pub play_for: Option<Duration>,
    pub seeks: Vec<SeekAt>,
    /// After the end, stay and upload until ended (or until `play_for` is over).
    pub seed: bool,
    /// As fast as it decodes.
    pub no_clock: bool,
    pub frames_md5: Option<PathBuf>,
    pub report: Option<PathBuf>,
    /// The start of the process.
    pub started: Instant,
}

/// The status line and a lost wakeup need no more.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Saving and closing takes about a second at most; waiting longer helps nobody.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// Why it ended.
enum End {
    /// The film did, and there is nothing else to stay for.
    Film,
    Time,
    Interrupted,
    Failed(Failure),
}

/// A measurement of half an hour must not be lost for want of a folder: looked for before the play, not after.
fn check_folder(report: Option<&Path>) -> Result<(), Failure> {
    let folder = report.and_then(Path::parent).filter(|f| !f.as_os_str().is_empty());
    match folder {
        Some(f) if !f.is_dir() => Err(Failure::input(
            format!("There is no folder {} for the report", f.display()),
            "Make it, or name another",
        )),
        _ => Ok(()),
    }
}

/// Plays, with the live line and the last words on stderr. Answers the exit code: 0 fine, 2 bad input, 1 the rest.
pub fn run(options: HeadlessOptions) -> u8 {
    if let Err(failure) = check_folder(options.report.as_deref()) {
        return say(&failure);
    }
    let rt = match runtime() {
        Ok(rt) => rt,
        Err(e) => return say(&Failure::machine(format!("The network could not be started: {e}"), "Try again")),
    };
    let code = play(&rt, options);
    rt.shutdown_timeout(Duration::from_millis(200));
    code
}

fn play(rt: &tokio::runtime::Runtime, options: HeadlessOptions) -> u8 {
    let paths = Paths::find();
    let (settings, problem) = Settings::load(&paths.settings_file());
    let session_options = SessionOptions {
        net: options.net.over(&settings, &paths),
        player: PlayerOptions {
            audio: AudioSink::Null,
            pace: if options.no_clock { Pace::None } else { Pace::Clock },
            keep_pictures: false,
            frames_md5: options.frames_md5.clone(),
            ..Default::default()
        },
        several: Several::Take(options.file),
        resume: Default::default(),
        after: None,
    };
    let signal = Arc::new(Signal::default());
    let wake = signal.clone();
    let session = Session::start(rt.handle(), options.opened.clone(), session_options, Arc::new(move || wake.notify()));
    let session = match session {
        Ok(s) => s,
        Err(e) => return say(&Failure::machine(format!("No thread could be started: {e}"), "Close other programs")),
    };
    if let Some(problem) = problem {
        eprintln!("{}", sentence(&problem));
    }
    let interrupted = on_interrupt(rt, signal.clone());
    let mut line = StatusLine::new();
    let mut to_the_end = false;
    let end = watch(&session, &options, &signal, &interrupted, &mut line, &mut to_the_end);
    line.clear();
    session.close_and_wait(CLOSE_LIMIT);
    finish(&session.facts(), end, to_the_end, &options)
}

/// Until there is nothing more to play or to stay for. Says whether it was played to the end.
fn watch(
    session: &Session,
    options: &HeadlessOptions,
    signal: &Signal,
    interrupted: &AtomicBool,
    line: &mut StatusLine,
    to_the_end: &mut bool,
) -> End {
    let mut seeks = options.seeks.clone();
    seeks.sort_by_key(|s| std::cmp::Reverse(s.at));
    let mut seeked = false;
    loop {
        let now = Instant::now();
        let since_start = now.saturating_duration_since(options.started);
        if interrupted.load(Ordering::Acquire) {
            return End::Interrupted;
        }
        if let Stage::Failed(failure) = &session.view().stage {
            return End::Failed(failure.clone());
        }
        if options.play_for.is_some_and(|limit| since_start >= limit) {
            return End::Time;
        }
        let (phase, duration) = session.with_facts(|f| {
            line.draw(now, f);
            (f.player.phase, f.player.duration)
        });
        // The end counts only when the player said so after it heard of the last seek.
        if phase == PlayerPhase::Ended && seeks.is_empty() && !seeked && !*to_the_end {
            *to_the_end = true;
            if !options.seed {
                return End::Film;
            }
            line.clear();
            eprintln!("Played to the end. What is here is uploaded to whoever asks, until you press Ctrl-C.");
        }
        if phase != PlayerPhase::Ended {
            seeked = false;
        }
        // A seek before the first picture would be a start elsewhere, not a seek.
        let ready = !matches!(phase, PlayerPhase::Opening | PlayerPhase::Failed);
        if ready
            && seeks.last().is_some_and(|s| s.at <= since_start)
            && let Some(to) = seeks.last().and_then(|s| s.to.resolve(duration))
        {
            seeks.pop();
            seeked = true;
            session.send(SessionCommand::SeekTo(to));
            continue;
        }
        let next = [seeks.last().map(|s| s.at), options.play_for];
        let next = next.into_iter().flatten().filter(|t| *t > since_start).min();
        signal.wait(Some(next.map_or(LOOK_EVERY, |t| (t - since_start).min(LOOK_EVERY))));
    }
}

/// Set when it is asked to end; asked again it ends at once.
fn on_interrupt(rt: &tokio::runtime::Runtime, signal: Arc<Signal>) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = flag.clone();
    rt.spawn(on_end(move || {
        set.store(true, Ordering::Release);
        signal.notify();
    }));
    flag
}

fn finish(facts: &Facts, end: End, to_the_end: bool, options: &HeadlessOptions) -> u8 {
    let failure = match &end {
        End::Failed(f) => Some(f),
        _ => None,
    };
    let report = Report::new(facts, options.started, usage(), to_the_end, failure.map(|f| f.text.what.clone()));
    let mut code = match failure {
        Some(f) => say(f),
        None => {
            let waiting = facts.waiting.as_ref().filter(|w| !w.is_empty());
            match waiting.filter(|_| facts.player.first_frame.is_none()) {
                Some(waiting) => eprintln!("{}", sentence(&format!("Nothing was played: {}", clause(waiting)))),
                None => eprintln!("{}", report.summary()),
            }
            0
        }
    };
    if let Some(path) = &options.report {
        let written = report.json().map_err(std::io::Error::from).and_then(|j| std::fs::write(path, j));
        if let Err(e) = written {
            let path = path.display();
            code = say(&Failure::machine(format!("The report {path} could not be written: {e}"), "Name another file"));
        }
    }
    code
}

/// Prints an error; answers its exit code.
fn say(failure: &Failure) -> u8 {
    eprintln!("{}", failure.text);
    failure.exit_code()
}

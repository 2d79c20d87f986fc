//! The thread that keeps moments: applies the rules of the state when a picture falls due or something runs dry, and
//! writes the checksums of pictures whose moment came. It sleeps while the clock stands.

use std::time::{Duration, Instant};

use super::error::MediaError;
use super::framemd5::LineFile;
use super::state::{Shared, State};

/// A clock that runs is looked at this often, due picture or not: a dry stream must not go unnoticed.
const LOOK: Duration = Duration::from_millis(50);
const LEAST: Duration = Duration::from_millis(1);

pub(super) fn run(shared: &Shared) {
    let path = shared.lock().options.frames_md5.clone();
    let mut file = None;
    if let Some(path) = path {
        match LineFile::create(&path) {
            Ok(f) => file = Some(f),
            Err(e) => shared.with(|s| s.fail(MediaError::Checksums(e.to_string()).to_string())),
        }
    }
    loop {
        let (lines, stop) = shared.with(|s| (std::mem::take(&mut s.pictures.lines), s.stop));
        if let Some(f) = file.as_mut().filter(|_| !lines.is_empty())
            && let Err(e) = f.write(&lines)
        {
            shared.with(|s| s.fail(MediaError::Checksums(e.to_string()).to_string()));
            file = None;
        }
        if stop {
            return;
        }
        let mut s = shared.lock();
        // The rules may have put lines there after they were taken.
        if s.stop || !s.pictures.lines.is_empty() {
            continue;
        }
        match nap(&mut s) {
            Some(nap) => drop(shared.pacer.wait_for(&mut s, nap)),
            None => shared.pacer.wait(&mut s),
        }
        // Room in the queue of pictures, made by this or by the window.
        drop(s);
        shared.with(|_| ());
        shared.decode.notify_all();
    }
}

fn nap(s: &mut State) -> Option<Duration> {
    if !s.clock.running() {
        return None;
    }
    let at = s.now(Instant::now());
    let due = s.pictures.next_at().map(|t| Duration::from_micros(t.0.saturating_sub(at.0).max(0) as u64));
    Some(due.unwrap_or(LOOK).clamp(LEAST, LOOK))
}

//! A handle to the player's threads. Invariant: no call here blocks on bytes or decoding; dropping it ends every
//! thread, in the order demuxer (with its decoders), then pacer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::api::{IndexPoints, PlayerOptions, PlayerStatus};
use super::io::SharedReader;
use super::picture::{Picture, PictureSource};
use super::state::{Shared, State};
use super::{demux, pacer};
use crate::stream::reader::Reader;
use crate::units::MediaTime;

/// Plays what a [`Reader`] reads.
pub struct Player {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Player {
    /// Starts at once; what goes wrong is in [`PlayerStatus::error`]. `wake` is called, from any thread, on every change
    /// of phase, index or note, and must do no work.
    pub fn open(reader: Reader, options: PlayerOptions, wake: Arc<dyn Fn() + Send + Sync>) -> Self {
        let cancel = reader.cancel();
        let shared = Arc::new(Shared::new(options, cancel, wake));
        let mut player = Self { shared: shared.clone(), threads: Vec::new() };
        let (work, bytes) = (shared.clone(), SharedReader::new(reader));
        player.start("demux", move || demux::run(&work, &bytes));
        player.start("pacer", move || pacer::run(&shared));
        player
    }

    fn start(&mut self, name: &str, work: impl FnOnce() + Send + 'static) {
        match demux::spawn(&self.shared, name, work) {
            Ok(thread) => self.threads.push(thread),
            Err(e) => self.shared.with(|s| s.fail(e.to_string())),
        }
    }

    /// The player at this moment.
    pub fn status(&self) -> PlayerStatus {
        self.shared.with(|_| ());
        self.shared.lock().status_now()
    }

    /// The clock runs only while the gate is open (and nothing else holds it).
    pub fn set_gate(&self, open: bool) {
        self.shared.with(|s| s.gate = open);
    }

    pub fn set_paused(&self, paused: bool) {
        self.shared.with(|s| s.paused = paused);
    }

    /// Goes to the first picture at or after `to`, clamped to the film. A later call replaces one under way.
    pub fn seek(&self, to: MediaTime) {
        self.shared.with(|s| {
            let last = s.status.duration.filter(|d| d.0 > 0).unwrap_or(MediaTime(i64::MAX / 4));
            s.start_serial(to.clamp(MediaTime::ZERO, last), Instant::now());
            // While opening there is no read to end: the demuxer seeks once it knows the file.
            if s.opened {
                self.shared.cancel.set();
            }
        });
        self.notify();
    }

    /// 0 to 1.
    pub fn set_volume(&self, volume: f32) {
        let volume = if volume.is_finite() { volume.clamp(0.0, 1.0) } else { return };
        self.shared.with(|s| {
            s.volume = volume;
            s.apply_gain();
        });
    }

    pub fn set_muted(&self, muted: bool) {
        self.shared.with(|s| {
            s.muted = muted;
            s.apply_gain();
        });
    }

    /// The demuxer's index; `None` until the head is read. Grows while some containers play.
    pub fn index(&self) -> Option<IndexPoints> {
        self.shared.lock().index.clone()
    }

    /// Where a window pulls pictures from.
    pub fn pictures(&self) -> Arc<dyn PictureSource> {
        Arc::new(Pull(self.shared.clone()))
    }

    fn notify(&self) {
        self.shared.demux.notify_all();
        self.shared.decode.notify_all();
        self.shared.pacer.notify_all();
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.shared.with(|s| s.stop = true);
        self.shared.cancel.set();
        // Once more under the lock: a demuxer that was just clearing the cancel for a seek has seen `stop` by now.
        drop(self.shared.lock());
        self.shared.cancel.set();
        self.notify();
        self.threads.drain(..).for_each(|t| drop(t.join()));
    }
}

impl State {
    fn apply_gain(&self) {
        if let Some(link) = &self.out.link {
            let gain = if self.muted { 0.0 } else { self.volume };
            link.gain.store(gain.to_bits(), Ordering::Relaxed);
        }
    }

    fn status_now(&self) -> PlayerStatus {
        PlayerStatus { seeking_to: self.goal.filter(|g| g.is_seek).map(|g| g.to), ..self.status.clone() }
    }
}

/// A picture that is not decoded in time is looked for this often.
const LATE: Duration = Duration::from_millis(10);

struct Pull(Arc<Shared>);

impl PictureSource for Pull {
    fn current(&self, ahead: Duration) -> Option<Arc<Picture>> {
        let (picture, room) = self.0.with(|s| {
            let before = s.pictures.len();
            let at = s.now(Instant::now());
            let at = if s.clock.running() { at + ahead } else { at };
            let picture = s.pictures.current(at);
            (picture, s.pictures.len() < before)
        });
        if room {
            self.0.decode.notify_all();
        }
        picture
    }

    fn next_in(&self, ahead: Duration) -> Option<Duration> {
        let mut s = self.0.lock();
        if !s.clock.running() {
            return None;
        }
        let at = s.now(Instant::now());
        match s.pictures.next_at() {
            Some(t) => Some(Duration::from_micros(t.0.saturating_sub(at.0).max(0) as u64).saturating_sub(ahead)),
            // The decoder is behind: look again soon. Sound alone, or after the last picture, moves nothing.
            None => (s.video.exists && !s.video.drained).then_some(LATE),
        }
    }
}

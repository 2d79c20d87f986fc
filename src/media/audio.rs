//! The audio decode thread: packets to samples in the device's ring, or to nowhere on the machine's clock. Invariant:
//! within a serial the samples written are contiguous in media time; gaps are filled with silence, overlaps cut.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ffmpeg_next::codec::Context;
use ffmpeg_next::{Packet, decoder, frame};

use super::device::Device;
use super::error::MediaError;
use super::line::{JITTER_US, Line};
use super::open::{Timing, Track};
use super::resample::Resampler;
use super::ring::AudioLink;
use super::state::Shared;

/// Sound decoded ahead where no ring says how much.
const SILENT_AHEAD_US: i64 = 400_000;
/// How often a full ring is looked at again: the callback must not notify.
const RING_NAP: Duration = Duration::from_millis(20);
/// A running device that has not called back for this long is gone, whatever it says.
const DEAD: Duration = Duration::from_secs(3);
/// A sound server that restarts, or headphones put back, are there again within half a minute.
const RETRY_AFTER: Duration = Duration::from_secs(3);
const RETRIES: u32 = 10;
const GONE: &str = "The sound card went away: playing without sound.";

pub(super) struct AudioDecoder {
    shared: Arc<Shared>,
    decoder: decoder::Audio,
    track: Track,
    timing: Timing,
    serial: u64,
    line: Line,
    device: Option<Device>,
    /// Sound begins again where the clock is, not where the serial began.
    resume: bool,
    retry_at: Option<Instant>,
    retries_left: u32,
    link: Arc<AudioLink>,
    resampler: Resampler,
    samples: Vec<f32>,
}

enum Job {
    Packet(Packet),
    End,
    Serial,
    Stop,
}

impl AudioDecoder {
    pub(super) fn new(shared: Arc<Shared>, track: Track, timing: Timing) -> Result<Self, MediaError> {
        let failed = |_| MediaError::DecoderFailed(track.codec.clone());
        let mut context = Context::from_parameters(track.params.clone()).map_err(failed)?.decoder();
        context.set_packet_time_base(track.time_base);
        let decoder = context.audio().map_err(failed)?;
        let (serial, gain) = {
            let s = shared.lock();
            (s.serial, if s.muted { 0.0 } else { s.volume })
        };
        let link = Arc::new(AudioLink::new(gain));
        let resampler = Resampler::new(48_000, 2);
        let samples = Vec::new();
        Ok(Self {
            shared,
            decoder,
            track,
            timing,
            serial,
            line: Line::default(),
            device: None,
            resume: false,
            retry_at: None,
            retries_left: RETRIES,
            link,
            resampler,
            samples,
        })
    }

    pub(super) fn run(mut self, device: bool) {
        if device {
            self.open_device();
        }
        loop {
            match self.job() {
                Job::Packet(packet) => {
                    for _ in 0..2 {
                        match self.decoder.send_packet(&packet) {
                            Err(ffmpeg_next::Error::Other { errno }) if errno == ffmpeg_next::error::EAGAIN => {
                                self.receive();
                            }
                            _ => break,
                        }
                    }
                    self.receive();
                }
                Job::End => {
                    let _ = self.decoder.send_eof();
                    self.receive();
                    self.decoder.flush();
                    let serial = self.serial;
                    self.shared.with(|s| s.audio.drained |= s.serial == serial);
                    self.shared.pacer.notify_all();
                }
                Job::Serial => {}
                Job::Stop => return,
            }
        }
    }

    fn open_device(&mut self) {
        match Device::open(self.link.clone()) {
            Ok(device) => self.attach(device),
            Err(_) => self.shared.with(|s| s.note("No sound card: playing without sound.")),
        }
    }

    /// The device went away: another one takes over if there is any, else the machine's clock. Sound goes on where the
    /// clock is; what lay in the old ring is gone.
    fn lose_device(&mut self) {
        self.device = None;
        let gain = self.link.gain.load(Ordering::Relaxed);
        self.link = Arc::new(AudioLink::new(f32::from_bits(gain)));
        self.line.restart();
        self.resume = true;
        self.shared.with(|s| {
            s.out.link = None;
            s.out.base = None;
        });
        self.retries_left = RETRIES;
        self.reopen();
    }

    /// Opens the default device again; a failure is tried again later, a few times.
    fn reopen(&mut self) {
        self.retry_at = None;
        match Device::open(self.link.clone()) {
            Ok(device) => {
                self.resume = true;
                self.attach(device);
                self.shared.with(|s| s.clear_note(GONE));
            }
            Err(_) => {
                self.retry_at = (self.retries_left > 0).then(|| Instant::now() + RETRY_AFTER);
                self.retries_left = self.retries_left.saturating_sub(1);
                self.shared.with(|s| s.note(GONE));
            }
        }
    }

    fn attach(&mut self, device: Device) {
        self.resampler = Resampler::new(device.rate, device.channels);
        let (link, rate) = (self.link.clone(), device.rate);
        self.line.restart();
        self.device = Some(device);
        self.shared.with(|s| {
            link.gain.store(if s.muted { 0.0 } else { s.volume }.to_bits(), Ordering::Relaxed);
            s.out.link = Some(link);
            s.out.rate = rate;
            s.out.base = None;
        });
    }

    fn job(&mut self) -> Job {
        let shared = self.shared.clone();
        let mut s = shared.lock();
        loop {
            if s.stop {
                return Job::Stop;
            }
            if s.serial != self.serial {
                self.serial = s.serial;
                s.audio.waiting = false;
                if self.device.is_some() {
                    self.link.discard_until.store(self.line.written(), Ordering::Release);
                }
                drop(s);
                self.decoder.flush();
                self.resampler.reset();
                self.line.forget();
                self.resume = false;
                return Job::Serial;
            }
            if let Some(q) = s.audio.queue.pop() {
                s.audio.waiting = false;
                self.shared.demux.notify_all();
                return Job::Packet(q.packet);
            }
            if s.audio.queue.ended && !s.audio.drained {
                s.audio.waiting = false;
                return Job::End;
            }
            s.audio.waiting = true;
            self.shared.decode.wait(&mut s);
        }
    }

    fn receive(&mut self) {
        let mut frame = frame::Audio::empty();
        while self.decoder.receive_frame(&mut frame).is_ok() {
            self.place(&mut frame);
        }
    }

    /// Puts a frame where its timestamp says: silence before it, or a part of it cut away.
    fn place(&mut self, frame: &mut frame::Audio) {
        if self.retry_at.is_some_and(|t| Instant::now() >= t) {
            self.reopen();
        }
        let rate = i64::from(frame.rate().max(1));
        let lasts = frame.samples() as i64 * 1_000_000 / rate;
        let stamp = frame.timestamp().map(|t| self.timing.at(t, self.track.time_base));
        let out_rate = self.device.as_ref().map_or(rate, |d| i64::from(d.rate));
        self.line.set_rate(out_rate);
        let (paced, now) = {
            let mut s = self.shared.lock();
            let now = s.now(Instant::now());
            // The machine's clock went on without sound, or sound begins late in the film: this goes where the clock
            // is, not where sound left off.
            let late = s.clock.running() && self.line.next().unwrap_or(s.begin.0) + JITTER_US < now.0;
            if self.line.next().is_none() || late {
                let resume = std::mem::take(&mut self.resume);
                self.line.begin(if late || resume { now.0 } else { s.begin.0 });
                s.out.base = self.line.base();
            }
            (!s.unpaced(), now)
        };
        let at = stamp.map_or(self.line.next().unwrap_or(now.0), |t| t - self.resampler.held_us());
        if self.line.is_past(at, lasts) {
            return;
        }
        let mut samples = std::mem::take(&mut self.samples);
        samples.clear();
        let channels = self.device.as_ref().map_or(2, |d| d.channels);
        let done = if self.device.is_some() { self.resampler.run(frame, &mut samples) } else { Ok(()) };
        if done.is_ok() {
            let made = if self.device.is_some() { samples.len() / channels } else { frame.samples() };
            let base = self.line.base();
            let placed = self.line.place(at, made);
            if self.line.base() != base {
                let (serial, base) = (self.serial, self.line.base());
                self.shared.with(|s| {
                    if s.serial == serial {
                        s.out.base = base;
                    }
                });
            }
            let rest = samples.get(placed.cut * channels..).unwrap_or(&[]);
            // Where the silence before it finds no place any more, neither does the sound.
            if placed.gap == 0 || !paced || self.silence(placed.gap, channels) {
                self.write(rest, made - placed.cut, channels);
            }
        }
        self.samples = samples;
    }

    /// Hands on so many frames of silence. False as in [`Self::write`].
    fn silence(&mut self, mut frames: usize, channels: usize) -> bool {
        let quiet = [0.0f32; 4096];
        while frames > 0 {
            let n = frames.min(quiet.len() / channels.max(1));
            let part = if self.device.is_some() { &quiet[..n * channels] } else { &[] };
            if self.stale() || !self.write(part, n, channels) {
                return false;
            }
            frames -= n;
        }
        true
    }

    fn stale(&self) -> bool {
        let s = self.shared.lock();
        s.stop || s.serial != self.serial
    }

    /// Hands on `frames` frames, waiting for room; without a device only their time counts. False: what is left is
    /// void, a seek or another device took its place.
    fn write(&mut self, mut samples: &[f32], mut frames: usize, channels: usize) -> bool {
        loop {
            let mut done = frames;
            if let Some(device) = &mut self.device {
                let room = device.ring.slots() / channels * channels;
                let (now, later) = samples.split_at(room.min(samples.len()));
                let (_, left) = device.ring.push_partial_slice(now);
                debug_assert!(left.is_empty());
                samples = later;
                done = now.len() / channels;
            }
            frames = if samples.is_empty() { 0 } else { frames.saturating_sub(done) };
            self.line.wrote(done);
            let (serial, next) = (self.serial, self.line.next());
            self.shared.with(|s| {
                if s.serial == serial {
                    s.audio.end = next;
                }
            });
            if !self.wait(frames == 0) {
                return false;
            }
            if frames == 0 {
                return true;
            }
        }
    }

    /// Waits until there is room. False: what is left is void.
    fn wait(&mut self, done: bool) -> bool {
        let shared = self.shared.clone();
        let mut s = shared.lock();
        loop {
            if s.stop || s.serial != self.serial {
                return false;
            }
            let running = s.clock.running();
            match &self.device {
                _ if s.unpaced() => return true,
                Some(_) if done => return true,
                Some(device) => {
                    let dead = running && device.silent(&self.link) > DEAD;
                    if dead || self.link.lost.load(Ordering::Acquire) {
                        drop(s);
                        self.lose_device();
                        return false;
                    }
                    if device.ring.slots() >= device.channels * 64 {
                        return true;
                    }
                    if running {
                        self.shared.decode.wait_for(&mut s, RING_NAP);
                    } else {
                        self.shared.decode.wait(&mut s);
                    }
                }
                None => {
                    let ahead = self.line.next().unwrap_or(0) - s.now(Instant::now()).0;
                    if ahead <= SILENT_AHEAD_US {
                        return true;
                    }
                    if running {
                        let nap = Duration::from_micros((ahead - SILENT_AHEAD_US / 2).max(1000) as u64);
                        self.shared.decode.wait_for(&mut s, nap);
                    } else {
                        self.shared.decode.wait(&mut s);
                    }
                }
            }
        }
    }
}

//! The audio decode thread: packets to samples in the device's ring, or to nowhere on the machine's clock. Invariant:
//! within a serial the samples written are contiguous in media time; gaps are filled with silence, overlaps cut.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ffmpeg_next::codec::Context;
use ffmpeg_next::{Packet, decoder, frame};

use super::device::Device;
use super::error::MediaError;
use super::open::{Timing, Track};
use super::resample::Resampler;
use super::ring::AudioLink;
use super::state::Shared;

/// Sound decoded ahead where no ring says how much.
const SILENT_AHEAD_US: i64 = 400_000;
/// Timestamps closer than this are contiguous: containers round to a millisecond or worse.
const JITTER_US: i64 = 40_000;
/// The longest silence between two frames that is believed.
const GAP_MAX_US: i64 = 30_000_000;
/// How often a full ring is looked at again: the callback must not notify.
const RING_NAP: Duration = Duration::from_millis(20);
/// A running device that has not called back for this long is gone, whatever it says.
const DEAD: Duration = Duration::from_secs(2);
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
    /// Media time of the next sample to write.
    next: Option<i64>,
    device: Option<Device>,
    /// Sound begins again where the clock is, not where the serial began.
    resume: bool,
    retry_at: Option<Instant>,
    retries_left: u32,
    link: Arc<AudioLink>,
    resampler: Resampler,
    /// Frames written to the ring, ever.
    written: u64,
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
            next: None,
            device: None,
            resume: false,
            retry_at: None,
            retries_left: RETRIES,
            link,
            resampler,
            written: 0,
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
        (self.written, self.next, self.resume) = (0, None, true);
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
                (self.next, self.resume) = (None, true);
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
        self.device = Some(device);
        self.shared.with(|s| {
            link.gain.store(if s.muted { 0.0 } else { s.volume }.to_bits(), Ordering::Relaxed);
            s.out.link = Some(link);
            s.out.rate = rate;
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
                self.link.discard_until.store(self.written, Ordering::Release);
                drop(s);
                self.decoder.flush();
                self.resampler.reset();
                (self.next, self.resume) = (None, false);
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
        let (paced, now) = {
            let mut s = self.shared.lock();
            let now = s.now(Instant::now());
            // The machine's clock went on without sound, or sound begins late in the film: this goes where the clock
            // is, not where sound left off.
            let late = s.clock.running() && self.next.unwrap_or(s.begin.0) + JITTER_US < now.0;
            if self.next.is_none() || late {
                let resume = std::mem::take(&mut self.resume);
                self.next = Some(if late || resume { now.0 } else { s.begin.0 });
                s.out.base = Some((self.written, self.next.unwrap_or(0)));
            }
            (!s.unpaced(), now)
        };
        let next = self.next.unwrap_or(now.0);
        let at = stamp.map_or(next, |t| t - self.resampler.held_us());
        if at.saturating_add(lasts) <= next - JITTER_US / 2 {
            return;
        }
        self.samples.clear();
        let channels = self.device.as_ref().map_or(2, |d| d.channels);
        let out_rate = self.device.as_ref().map_or(rate, |d| i64::from(d.rate));
        if self.device.is_some() {
            let mut samples = std::mem::take(&mut self.samples);
            let done = self.resampler.run(frame, &mut samples);
            self.samples = samples;
            if done.is_err() {
                return;
            }
        }
        let made = if self.device.is_some() { self.samples.len() / channels } else { frame.samples() };
        let off = at.saturating_sub(next);
        let frames_of = |us: i64| usize::try_from(us.max(0) as i128 * i128::from(out_rate) / 1_000_000).unwrap_or(0);
        let (gap, cut) = match off {
            // The demuxer is never this far ahead: the time is damaged, and not worth hours of silence.
            o if o > GAP_MAX_US => (0, 0),
            o if o > JITTER_US => (frames_of(o), 0),
            o if o < -JITTER_US / 2 => (0, frames_of(-o).min(made)),
            _ => (0, 0),
        };
        if gap > 0 && paced {
            self.silence(gap, channels, out_rate);
        }
        let samples = std::mem::take(&mut self.samples);
        self.write(samples.get(cut * channels..).unwrap_or(&[]), made - cut, channels, out_rate);
        self.samples = samples;
    }

    fn silence(&mut self, mut frames: usize, channels: usize, rate: i64) {
        let quiet = [0.0f32; 4096];
        while frames > 0 && !self.stale() {
            let n = frames.min(quiet.len() / channels.max(1));
            let part = if self.device.is_some() { &quiet[..n * channels] } else { &[] };
            self.write(part, n, channels, rate);
            frames -= n;
        }
    }

    fn stale(&self) -> bool {
        let s = self.shared.lock();
        s.stop || s.serial != self.serial
    }

    /// Hands on `frames` frames, waiting for room; without a device only their time counts.
    fn write(&mut self, mut samples: &[f32], frames: usize, channels: usize, rate: i64) {
        let from = self.next.unwrap_or(0);
        let us = |frames: usize| frames as i64 * 1_000_000 / rate.max(1);
        let mut done = 0;
        loop {
            if let Some(device) = &mut self.device {
                let room = device.ring.slots() / channels * channels;
                let (now, later) = samples.split_at(room.min(samples.len()));
                let (_, left) = device.ring.push_partial_slice(now);
                debug_assert!(left.is_empty());
                samples = later;
                done += now.len() / channels;
                self.written += (now.len() / channels) as u64;
            } else {
                done = frames;
                samples = &[];
            }
            self.next = Some(from + us(done));
            let (serial, next) = (self.serial, self.next);
            self.shared.with(|s| {
                if s.serial == serial {
                    s.audio.end = next;
                }
            });
            if !self.wait(samples.is_empty()) {
                return;
            }
            if samples.is_empty() {
                return;
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
                    let dead = running && self.link.heard(Instant::now()).is_some_and(|h| h.since > DEAD);
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
                    let ahead = self.next.unwrap_or(0) - s.now(Instant::now()).0;
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

//! Where the decoder hands samples to the sound card's callback, and where the callback tells how far it is.
//! Invariant: nothing on the callback's side locks, allocates, waits or logs.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use rtrb::Consumer;

/// A change of loudness takes this long, so that it does not click.
const RAMP_S: f32 = 0.008;
/// More than any real device reports; a wild number must not pull the clock.
const MAX_LATENCY: Duration = Duration::from_millis(750);

/// Shared by the callback and everybody else, atomics only.
pub(super) struct AudioLink {
    pub run: AtomicBool,
    /// `f32` bits, 0 to 1, mute included.
    pub gain: AtomicU32,
    /// Frames before this index, counted from the first ever written, belong to an older serial.
    pub discard_until: AtomicU64,
    /// The device is gone; said by its error callback.
    pub lost: AtomicBool,
    epoch: Instant,
    // A sequence lock: odd while the three below are being written.
    seq: AtomicU32,
    read: AtomicU64,
    ate: AtomicU64,
    at_ns: AtomicU64,
    latency_ns: AtomicU64,
}

/// What the callback last said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    /// Index of the first frame of the last buffer.
    pub read: u64,
    /// Frames taken for it.
    pub ate: u64,
    pub since: Duration,
    pub latency: Duration,
}

impl AudioLink {
    pub(super) fn new(gain: f32) -> Self {
        Self {
            run: AtomicBool::new(false),
            gain: AtomicU32::new(gain.to_bits()),
            discard_until: AtomicU64::new(0),
            lost: AtomicBool::new(false),
            epoch: Instant::now(),
            seq: AtomicU32::new(0),
            read: AtomicU64::new(0),
            ate: AtomicU64::new(0),
            at_ns: AtomicU64::new(0),
            latency_ns: AtomicU64::new(0),
        }
    }

    fn publish(&self, read: u64, ate: u64, latency: Duration) {
        let now = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let seq = self.seq.load(Ordering::Relaxed);
        self.seq.store(seq.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        self.read.store(read, Ordering::Relaxed);
        self.ate.store(ate, Ordering::Relaxed);
        self.at_ns.store(now, Ordering::Relaxed);
        self.latency_ns.store(latency.as_nanos() as u64, Ordering::Relaxed);
        self.seq.store(seq.wrapping_add(2), Ordering::Release);
    }

    /// `None` before the first callback, or while one writes for too long.
    pub(super) fn heard(&self, now: Instant) -> Option<Heard> {
        for _ in 0..16 {
            let seq = self.seq.load(Ordering::Acquire);
            let (read, ate) = (self.read.load(Ordering::Relaxed), self.ate.load(Ordering::Relaxed));
            let (at, latency) = (self.at_ns.load(Ordering::Relaxed), self.latency_ns.load(Ordering::Relaxed));
            fence(Ordering::Acquire);
            if seq.is_multiple_of(2) && self.seq.load(Ordering::Relaxed) == seq {
                let since = now.saturating_duration_since(self.epoch).saturating_sub(Duration::from_nanos(at));
                return (seq != 0).then_some(Heard { read, ate, since, latency: Duration::from_nanos(latency) });
            }
            std::hint::spin_loop();
        }
        None
    }
}

/// The callback's side.
pub(super) struct Feeder {
    link: std::sync::Arc<AudioLink>,
    ring: Consumer<f32>,
    /// Samples per frame in the ring.
    channels: usize,
    read: u64,
    gain: f32,
    step: f32,
}

impl Feeder {
    pub(super) fn new(link: std::sync::Arc<AudioLink>, ring: Consumer<f32>, channels: usize, rate: u32) -> Self {
        let step = 1.0 / (RAMP_S * rate.max(1) as f32);
        Self { link, ring, channels: channels.max(1), read: 0, gain: 0.0, step }
    }

    /// Fills one buffer of `width` samples per frame; `write` puts a value into a sample.
    pub(super) fn fill<T>(&mut self, out: &mut [T], width: usize, latency: Duration, write: impl Fn(f32) -> T) {
        self.discard();
        let run = self.link.run.load(Ordering::Acquire);
        let target = if run { f32::from_bits(self.link.gain.load(Ordering::Relaxed)).clamp(0.0, 1.0) } else { 0.0 };
        let first = self.read;
        for frame in out.chunks_mut(width.max(1)) {
            // Stopping takes the few frames of the ramp, then nothing.
            let take = (run || self.gain > 0.0) && self.ring.slots() >= self.channels;
            self.gain += (target - self.gain).clamp(-self.step, self.step);
            let mut last = 0.0;
            for i in 0..frame.len().max(self.channels) {
                if take && i < self.channels {
                    last = self.ring.pop().unwrap_or(0.0) * self.gain;
                }
                // Mono goes to both sides; a surround device plays stereo on its first two.
                let value = if i < self.channels || (self.channels == 1 && i < 2) { last } else { 0.0 };
                if let Some(sample) = frame.get_mut(i) {
                    *sample = write(value);
                }
            }
            self.read += u64::from(take);
            if !take {
                self.gain = if run { self.gain } else { 0.0 };
            }
        }
        self.link.publish(first, self.read - first, latency.min(MAX_LATENCY));
    }

    fn discard(&mut self) {
        let old = self.link.discard_until.load(Ordering::Acquire).saturating_sub(self.read);
        let frames = (self.ring.slots() / self.channels).min(usize::try_from(old).unwrap_or(usize::MAX));
        if frames > 0
            && let Ok(chunk) = self.ring.read_chunk(frames * self.channels)
        {
            chunk.commit_all();
            self.read += frames as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn stopping_ramps_down_then_takes_nothing_and_old_frames_are_skipped() {
        let link = Arc::new(AudioLink::new(1.0));
        let (mut tx, rx) = rtrb::RingBuffer::new(20_000);
        let mut feeder = Feeder::new(link.clone(), rx, 2, 48_000);
        for _ in 0..20_000 {
            tx.push(0.5f32).unwrap();
        }
        link.run.store(true, Ordering::Release);
        let mut out = vec![9.0f32; 2048];
        feeder.fill(&mut out, 2, Duration::ZERO, |v| v);
        assert!(out[0] < 0.01 && out[2047] == 0.5);
        link.run.store(false, Ordering::Release);
        feeder.fill(&mut out, 2, Duration::ZERO, |v| v);
        let steps = out.chunks(2).map(|f| f[0]).collect::<Vec<_>>();
        assert!(steps.windows(2).all(|w| (w[0] - w[1]).abs() < 0.01), "it clicked");
        let read = feeder.read;
        feeder.fill(&mut out, 2, Duration::ZERO, |v| v);
        assert_eq!((feeder.read, out[0], out[2047]), (read, 0.0, 0.0));
        link.discard_until.store(read + 1000, Ordering::Release);
        feeder.fill(&mut out, 2, Duration::ZERO, |v| v);
        assert_eq!(feeder.read, read + 1000);
        let heard = link.heard(Instant::now()).unwrap();
        assert_eq!((heard.read, heard.ate), (read + 1000, 0));
    }
}

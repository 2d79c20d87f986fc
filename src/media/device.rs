//! The sound card. Invariant: opening it never fails the play; what goes wrong is a sentence, and silence is kept on
//! the machine's clock instead.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use cpal::traits::{DeviceTrait, HostTrait, StreamTrait};
use cpal::{BufferSize, ErrorKind, FromSample, SampleFormat, SizedSample, StreamConfig};
use rtrb::Producer;

use super::ring::{AudioLink, Feeder};

/// Samples decoded ahead for the callback: bridges a busy decoder, small enough that a seek is heard at once.
const RING_S: f64 = 0.4;
/// 40 ms per callback. Devices' own choice goes down to 10 ms, which a busy machine misses; the clock knows the
/// latency, so that a longer buffer costs nothing but a later reaction to pause.
const PERIODS_PER_S: u32 = 25;

/// A stream goes on after most errors; one that did nothing else for this long does not.
const ERRORS_ONLY: Duration = Duration::from_secs(1);
/// Between two such errors: what reports them asks again at once, and would keep the processor from whom it waits for.
const ERROR_NAP: Duration = Duration::from_millis(5);

/// An open device that asks for samples. Dropping it ends the callback.
pub(super) struct Device {
    pub ring: Producer<f32>,
    pub rate: u32,
    /// Samples per frame in the ring.
    pub channels: usize,
    opened: Instant,
    _stream: cpal::Stream,
}

impl Device {
    /// Opens the default device.
    pub(super) fn open(link: Arc<AudioLink>) -> Result<Self, cpal::Error> {
        quiet();
        let none = || cpal::Error::from(ErrorKind::DeviceNotAvailable);
        let device = cpal::default_host().default_output_device().ok_or_else(none)?;
        let supported = device.default_output_config()?;
        let format = supported.sample_format();
        let mut config: StreamConfig = supported.config();
        if let cpal::SupportedBufferSize::Range { min, max } = *supported.buffer_size() {
            config.buffer_size = BufferSize::Fixed((config.sample_rate / PERIODS_PER_S).clamp(min, max.max(min)));
        }
        let width = usize::from(config.channels.max(1));
        let (channels, rate) = (width.min(2), config.sample_rate);
        let (ring, consumer) = rtrb::RingBuffer::new((f64::from(rate) * RING_S) as usize * channels);
        let feeder = Feeder::new(link.clone(), consumer, channels, rate);
        let stream = match format {
            SampleFormat::F32 => build::<f32>(&device, config, feeder, width, link),
            SampleFormat::I16 => build::<i16>(&device, config, feeder, width, link),
            SampleFormat::U16 => build::<u16>(&device, config, feeder, width, link),
            SampleFormat::I32 => build::<i32>(&device, config, feeder, width, link),
            SampleFormat::U8 => build::<u8>(&device, config, feeder, width, link),
            SampleFormat::F64 => build::<f64>(&device, config, feeder, width, link),
            _ => Err(cpal::Error::from(ErrorKind::UnsupportedConfig)),
        }?;
        stream.play()?;
        Ok(Self { ring, rate, channels, opened: Instant::now(), _stream: stream })
    }

    /// How long it has not asked for samples.
    pub(super) fn silent(&self, link: &AudioLink) -> Duration {
        silence(link, self.opened)
    }
}

fn silence(link: &AudioLink, opened: Instant) -> Duration {
    let since_opened = opened.elapsed();
    link.heard(Instant::now()).map_or(since_opened, |heard| heard.since.min(since_opened))
}

/// Whether the stream is over. Any other error is passed by: PulseAudio's plugin for ALSA answers every question with an
/// I/O error until the server has first told it the time, and plays from then on.
fn ends(kind: ErrorKind) -> bool {
    use ErrorKind::{DeviceNotAvailable, HostUnavailable, PermissionDenied, StreamInvalidated};
    matches!(kind, DeviceNotAvailable | HostUnavailable | PermissionDenied | StreamInvalidated)
}

/// ALSA writes its search for a card to the terminal, over the player's own status line.
#[cfg(target_os = "linux")]
fn quiet() {
    // SAFETY: the signature of alsa-lib's error.h, but for the handler's arguments; see below.
    unsafe extern "C" {
        fn snd_lib_error_set_handler(handler: Option<unsafe extern "C" fn()>) -> std::ffi::c_int;
    }
    extern "C" fn ignore() {}
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        // SAFETY: libasound is linked by cpal. It calls the handler with arguments that a C function may leave unread,
        // and the caller takes them away again.
        let _ = unsafe { snd_lib_error_set_handler(Some(ignore)) };
    });
}

#[cfg(not(target_os = "linux"))]
fn quiet() {}

fn build<T: SizedSample + FromSample<f32>>(
    device: &cpal::Device,
    config: StreamConfig,
    mut feeder: Feeder,
    width: usize,
    link: Arc<AudioLink>,
) -> Result<cpal::Stream, cpal::Error> {
    let failed = link.clone();
    let fill = move |out: &mut [T], info: &cpal::OutputCallbackInfo| {
        let when = info.timestamp();
        let latency = when.playback.saturating_duration_since(when.callback);
        let work = std::panic::AssertUnwindSafe(|| feeder.fill(out, width, latency, T::from_sample));
        // Nothing in there panics; if it ever does, it must not unwind into the sound system.
        if std::panic::catch_unwind(work).is_err() {
            link.lost.store(true, Ordering::Release);
        }
    };
    let opened = Instant::now();
    let lost = move |e: cpal::Error| match e.kind() {
        ErrorKind::Xrun | ErrorKind::DeviceChanged | ErrorKind::RealtimeDenied => {}
        kind if ends(kind) || silence(&failed, opened) > ERRORS_ONLY => failed.lost.store(true, Ordering::Release),
        _ => std::thread::sleep(ERROR_NAP),
    };
    device.build_output_stream(config, fill, lost, Some(Duration::from_secs(3)))
}

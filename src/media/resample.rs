//! Decoded sound in the shape the device wants. Invariant: the resampler fits the frame it is given; a stream that
//! changes its rate or channels midway gets a new one.

use ffmpeg_next::format::Sample;
use ffmpeg_next::format::sample::Type;
use ffmpeg_next::software::resampling::Context;
use ffmpeg_next::software::resampling::context::Definition;
use ffmpeg_next::{ChannelLayout, Error, frame};

const PACKED: Sample = Sample::F32(Type::Packed);

pub(super) struct Resampler {
    rate: u32,
    layout: ChannelLayout,
    context: Option<Context>,
}

impl Resampler {
    /// `channels`: 1 or 2, per frame of the output.
    pub(super) fn new(rate: u32, channels: usize) -> Self {
        let layout = if channels == 1 { ChannelLayout::MONO } else { ChannelLayout::STEREO };
        Self { rate, layout, context: None }
    }

    /// Forgets what it held back, after a seek.
    pub(super) fn reset(&mut self) {
        self.context = None;
    }

    /// Media time, microseconds, of the samples it still holds.
    pub(super) fn held_us(&self) -> i64 {
        let held = self.context.as_ref().and_then(Context::delay).map_or(0, |d| d.output);
        held.saturating_mul(1_000_000) / i64::from(self.rate.max(1))
    }

    /// Appends the frame's samples, interleaved, to `out`.
    pub(super) fn run(&mut self, input: &mut frame::Audio, out: &mut Vec<f32>) -> Result<(), Error> {
        if input.samples() == 0 || input.rate() == 0 {
            return Err(Error::InvalidData);
        }
        if input.channel_layout().is_empty() {
            input.set_channel_layout(ChannelLayout::default(i32::from(input.channels().max(1))));
        }
        let from = Definition { format: input.format(), channel_layout: input.channel_layout(), rate: input.rate() };
        if self.context.as_ref().is_none_or(|c| *c.input() != from) {
            let made = Context::get(from.format, from.channel_layout, from.rate, PACKED, self.layout, self.rate)?;
            self.context = Some(made);
        }
        let Some(context) = &mut self.context else { return Err(Error::InvalidData) };
        let delay = context.delay().map_or(0, |d| d.output).max(0) as u64;
        let room = delay + input.samples() as u64 * u64::from(self.rate) / u64::from(from.rate) + 64;
        let room = usize::try_from(room).map_err(|_| Error::InvalidData)?;
        // A fresh frame each time: the wrapper sizes a reused one by the input and holds samples back.
        let mut output = frame::Audio::new(PACKED, room, self.layout);
        context.run(input, &mut output)?;
        let samples = output.samples().min(room) * self.layout.channels().max(1) as usize;
        out.extend(output.data(0).as_chunks::<4>().0.iter().take(samples).map(|b| f32::from_ne_bytes(*b)));
        Ok(())
    }
}

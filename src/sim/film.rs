//! What is played: how many bytes, how long, how they are laid out.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::dice::Dice;
use super::scenario::ScenarioError;
use crate::engine::Timeline;
use crate::units::{ByteRange, Layout, MediaTime};

/// A film, as a scenario describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilmSpec {
    /// Bytes.
    pub len: u64,
    /// Bytes of a piece.
    pub piece: u32,
    pub seconds: f64,
    /// Bytes from the place of play on that the first picture takes.
    pub picture: u64,
    /// Bytes that probing the container reads at its start.
    pub probe: u64,
    /// Bytes at the end that must be read before anything plays: an index written last.
    pub tail: u64,
    /// How much the bitrate swings: 0 is constant, 0.5 between half and one and a half times the mean, every two seconds.
    pub swing: f64,
}

impl Default for FilmSpec {
    /// Three minutes at 2 Mbit/s.
    fn default() -> Self {
        Self {
            len: 46_000_000,
            piece: 256 * 1024,
            seconds: 180.0,
            picture: 256 * 1024,
            probe: 128 * 1024,
            tail: 0,
            swing: 0.0,
        }
    }
}

/// A film, made.
#[derive(Debug)]
pub(super) struct Film {
    pub layout: Layout,
    pub timeline: Arc<Timeline>,
    pub picture: u64,
    /// What the player reads before it knows the timeline, in this order.
    pub opening: Vec<ByteRange>,
}

/// A point of the index each so often.
const POINT: f64 = 2.0;

impl FilmSpec {
    pub(super) fn make(&self, dice: &mut Dice) -> Result<Film, ScenarioError> {
        let layout = Layout::new(self.len, self.piece).ok_or(ScenarioError::Film)?;
        if !(self.seconds > 0.0 && self.seconds < 1e6 && (0.0..1.0).contains(&self.swing)) {
            return Err(ScenarioError::Film);
        }
        let whole = Duration::from_secs_f64(self.seconds);
        let duration = MediaTime::ZERO + whole;
        let timeline = if self.swing > 0.0 {
            let parts = (self.seconds / POINT).ceil().max(1.0) as usize;
            let weights: Vec<f64> = (0..parts).map(|_| dice.between(1.0 - self.swing, 1.0 + self.swing)).collect();
            let sum: f64 = weights.iter().sum();
            let mut before = 0.0;
            let points = weights.iter().enumerate().map(|(i, w)| {
                let offset = (before / sum * self.len as f64) as u64;
                before += w;
                (offset, MediaTime::from_secs_f64(i as f64 * POINT))
            });
            Timeline::new(points.collect(), duration, self.len)
        } else {
            Timeline::linear(duration, self.len)
        };
        let mut opening = vec![ByteRange::new(0, self.probe.min(self.len))];
        if self.tail > 0 {
            opening.push(ByteRange::new(self.len.saturating_sub(self.tail), self.len));
        }
        Ok(Film { layout, timeline: Arc::new(timeline), picture: self.picture.max(1), opening })
    }
}

impl Film {
    pub fn whole(&self) -> ByteRange {
        ByteRange::new(0, self.layout.total_len())
    }
}

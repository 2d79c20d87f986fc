//! What happened, line by line, so that two runs can be held against each other to the byte.

use std::fmt::Write as _;

use crate::units::Instant;

/// Where the lines go.
#[derive(Debug, Clone, Default)]
pub enum Trace {
    /// Nowhere: for speed.
    #[default]
    Off,
    /// Into one sum (FNV-1a, 64 bits): for comparing long runs.
    Sum { sum: u64, lines: u64, line: String },
    /// Into memory: for reading.
    Text(String),
}

impl Trace {
    /// A trace that is only summed up.
    pub fn sum() -> Self {
        Self::Sum { sum: 0xcbf2_9ce4_8422_2325, lines: 0, line: String::new() }
    }

    pub fn text() -> Self {
        Self::Text(String::new())
    }

    pub fn is_on(&self) -> bool {
        !matches!(self, Self::Off)
    }

    /// One line: time in nanoseconds, node, what.
    pub(super) fn line(&mut self, now: Instant, node: u32, what: &str) {
        // Writing into a string cannot fail.
        match self {
            Self::Off => {}
            Self::Sum { sum, lines, line } => {
                line.clear();
                let _ = writeln!(line, "{} {node} {what}", now.0);
                *lines += 1;
                *sum = line.bytes().fold(*sum, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
            }
            Self::Text(text) => {
                let _ = writeln!(text, "{} {node} {what}", now.0);
            }
        }
    }

    /// Sum and number of lines so far, where they are summed.
    pub fn total(&self) -> Option<(u64, u64)> {
        match self {
            Self::Sum { sum, lines, .. } => Some((*sum, *lines)),
            Self::Off | Self::Text(_) => None,
        }
    }
}

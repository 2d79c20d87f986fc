//! Where decoded sound belongs: the frames written so far against media time. Invariant: media time is reckoned from the
//! count of frames since one base and never summed up frame by frame, so that rounding does not grow over a long film.

/// Timestamps closer than this are contiguous: containers round to a millisecond or worse.
pub(super) const JITTER_US: i64 = 40_000;
/// The longest silence between two frames that is believed.
const GAP_MAX_US: i64 = 30_000_000;

/// The place in the ring, or on the machine's clock where there is no ring.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    /// Frames written, ever: into one ring.
    written: u64,
    rate: i64,
    /// A frame's index and its media time, microseconds; `None` until the place is known.
    base: Option<(u64, i64)>,
    /// Nothing is written since the base was set: it may still move to where the first frame really lies.
    fresh: bool,
}

/// What comes before a decoded frame, and what of it is left out; both in frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    pub gap: usize,
    pub cut: usize,
}

impl Line {
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn base(&self) -> Option<(u64, i64)> {
        self.base
    }

    /// Media time of the next frame to write, microseconds.
    pub(super) fn next(&self) -> Option<i64> {
        self.base.map(|(index, us)| us.saturating_add(self.us_of(self.written.saturating_sub(index))))
    }

    /// A new ring: nothing is written, and where sound goes is not known.
    pub(super) fn restart(&mut self) {
        *self = Self { rate: self.rate, ..Self::default() };
    }

    /// The next frame's place is not known any more.
    pub(super) fn forget(&mut self) {
        (self.base, self.fresh) = (None, false);
    }

    /// Sound goes on at this media time.
    pub(super) fn begin(&mut self, us: i64) {
        (self.base, self.fresh) = (Some((self.written, us)), true);
    }

    /// Frames per second from now on.
    pub(super) fn set_rate(&mut self, rate: i64) {
        if rate != self.rate {
            let next = self.next();
            self.rate = rate.max(1);
            self.base = next.map(|us| (self.written, us));
        }
    }

    pub(super) fn wrote(&mut self, frames: usize) {
        self.written = self.written.saturating_add(frames as u64);
        self.fresh &= frames == 0;
    }

    /// Whether a frame at `at` that lasts `lasts` microseconds is over before the place begins.
    pub(super) fn is_past(&self, at: i64, lasts: i64) -> bool {
        let slack = if self.fresh { 0 } else { JITTER_US / 2 };
        self.next().is_some_and(|next| at.saturating_add(lasts) <= next - slack)
    }

    /// Finds the place for `made` frames that begin at media time `at`.
    pub(super) fn place(&mut self, at: i64, made: usize) -> Placed {
        let next = self.next().unwrap_or(at);
        let off = at.saturating_sub(next);
        if self.fresh && off.abs() <= JITTER_US {
            // What comes first decides where the line lies: within the jitter it would else be off by as much for good.
            let cut = self.frames_of(-off).min(made);
            self.base = Some((self.written, at.saturating_add(self.us_of(cut as u64))));
            return Placed { gap: 0, cut };
        }
        match off {
            // The demuxer is never this far ahead: the time is damaged, and not worth hours of silence.
            o if o > GAP_MAX_US => Placed { gap: 0, cut: 0 },
            o if o > JITTER_US => Placed { gap: self.frames_of(o), cut: 0 },
            o if o < -JITTER_US / 2 => Placed { gap: 0, cut: self.frames_of(-o).min(made) },
            _ => Placed { gap: 0, cut: 0 },
        }
    }

    fn us_of(&self, frames: u64) -> i64 {
        (i128::from(frames) * 1_000_000 / i128::from(self.rate.max(1))) as i64
    }

    fn frames_of(&self, us: i64) -> usize {
        usize::try_from(i128::from(us.max(0)) * i128::from(self.rate) / 1_000_000).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rate: i64) -> Line {
        let mut line = Line::default();
        line.set_rate(rate);
        line
    }

    #[test]
    fn ten_hours_of_frames_neither_drift_nor_get_silence_put_between_them() {
        for (rate, samples) in [(44_100, 1024u64), (48_000, 1024), (11_025, 1152)] {
            let mut line = line(rate);
            line.begin(0);
            for i in 0..(36_000 * rate as u64 / samples) {
                let at = (i as i128 * samples as i128 * 1_000_000 / rate as i128) as i64;
                assert_eq!(line.place(at, samples as usize), Placed { gap: 0, cut: 0 }, "frame {i} at {rate} Hz");
                line.wrote(samples as usize);
                assert!((line.next().unwrap() - at - samples as i64 * 1_000_000 / rate).abs() <= 1);
            }
        }
    }

    #[test]
    fn the_first_frame_says_where_the_line_lies() {
        let mut line = line(48_000);
        // Found again in the middle of a frame: the part before is left out, to the sample.
        line.begin(1_030_000);
        assert!(line.is_past(1_000_000, 21_333) && !line.is_past(1_021_333, 21_333));
        assert_eq!(line.place(1_021_333, 1024), Placed { gap: 0, cut: 416 });
        assert_eq!(line.base(), Some((0, 1_029_999)));
        line.wrote(1024 - 416);
        // Late by less than the jitter: no silence, the line itself begins later.
        line.begin(2_000_000);
        assert_eq!(line.place(2_015_000, 1024), Placed { gap: 0, cut: 0 });
        line.wrote(1024);
        assert_eq!(line.next(), Some(2_036_333));
        // From then on the jitter is left alone, and what is really missing is filled.
        assert_eq!(line.place(2_046_333, 1024), Placed { gap: 0, cut: 0 });
        assert_eq!(line.place(2_136_333, 1024), Placed { gap: 4800, cut: 0 });
    }

    #[test]
    fn a_new_ring_has_no_place_until_it_is_told() {
        let mut line = line(48_000);
        line.begin(0);
        line.wrote(4800);
        line.restart();
        assert_eq!((line.next(), line.base(), line.written()), (None, None, 0));
        line.begin(500_000);
        assert_eq!((line.next(), line.base()), (Some(500_000), Some((0, 500_000))));
    }

    #[test]
    fn damaged_times_neither_overflow_nor_ask_for_hours_of_silence() {
        let mut line = line(48_000);
        line.begin(0);
        line.wrote(1);
        for at in [i64::MAX, i64::MIN, i64::MAX / 2, -1] {
            let placed = line.place(at, 1024);
            assert!(placed.gap == 0 && placed.cut <= 1024, "{at}: {placed:?}");
            line.is_past(at, i64::MAX);
        }
        line.begin(i64::MAX);
        line.wrote(1 << 40);
        assert_eq!(line.next(), Some(i64::MAX));
    }
}

//! Decoded pictures waiting for their moment, and the one on screen. Invariant: times in the queue rise; what is
//! counted as presented was on screen (or, without a window, had its moment), and each picture is counted once.

use std::collections::VecDeque;
use std::sync::Arc;

use super::api::FrameCounts;
use super::picture::Picture;
use crate::units::MediaTime;

/// A decoded picture with its moment.
pub(super) struct Timed {
    /// `None` where nobody looks.
    pub picture: Option<Arc<Picture>>,
    pub at: MediaTime,
    /// Microseconds it is meant to stay.
    pub lasts: i64,
    /// Its line for the file of checksums.
    pub line: Option<String>,
}

/// Queue and screen.
#[derive(Default)]
pub(super) struct Pictures {
    queue: VecDeque<Timed>,
    shown: Option<Arc<Picture>>,
    /// Moment and length of the shown one, until it was counted.
    uncounted: Option<(MediaTime, i64)>,
    /// A window pulls pictures; otherwise each counts as presented when its moment comes.
    pub pulled: bool,
    pub counts: FrameCounts,
    /// Lines of pictures whose moment came, for whoever writes them.
    pub lines: Vec<String>,
}

impl Pictures {
    pub(super) fn new(pulled: bool) -> Self {
        Self { pulled, ..Self::default() }
    }

    /// Forgets what waits; what is on screen stays.
    pub(super) fn flush(&mut self) {
        self.queue.clear();
        self.settle();
    }

    pub(super) fn push(&mut self, picture: Timed) {
        self.queue.push_back(picture);
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn next_at(&self) -> Option<MediaTime> {
        self.queue.front().map(|p| p.at)
    }

    /// Puts on screen what belongs there at `now`. Those passed over count as dropped.
    pub(super) fn advance(&mut self, now: MediaTime) {
        while self.queue.front().is_some_and(|p| p.at <= now) {
            let Some(picture) = self.queue.pop_front() else { break };
            let passed = self.queue.front().is_some_and(|next| next.at <= now);
            self.show(picture, passed, now);
        }
    }

    /// Puts a picture on screen whatever the time: the first one at a new place.
    pub(super) fn show_now(&mut self, picture: Timed) {
        let at = picture.at;
        self.show(picture, false, at);
    }

    fn show(&mut self, picture: Timed, passed: bool, now: MediaTime) {
        self.settle();
        self.lines.extend(picture.line);
        if passed {
            self.counts.dropped += 1;
            return;
        }
        if picture.picture.is_some() {
            self.shown = picture.picture;
        }
        self.uncounted = Some((picture.at, picture.lasts));
        if !self.pulled {
            self.count(now);
        }
    }

    /// The picture on screen, counted as presented from now on.
    pub(super) fn current(&mut self, now: MediaTime) -> Option<Arc<Picture>> {
        self.advance(now);
        self.count(now);
        self.shown.clone()
    }

    fn count(&mut self, now: MediaTime) {
        if let Some((at, lasts)) = self.uncounted.take() {
            self.counts.presented += 1;
            self.counts.late += u64::from(now.0.saturating_sub(at.0) > lasts / 2);
        }
    }

    /// The shown one leaves without anybody having looked.
    fn settle(&mut self) {
        if self.uncounted.take().is_some() {
            self.counts.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(ms: i64) -> Timed {
        Timed { picture: None, at: MediaTime(ms * 1000), lasts: 40_000, line: Some(ms.to_string()) }
    }

    #[test]
    fn each_picture_is_counted_once_and_those_passed_over_are_dropped() {
        let mut p = Pictures { pulled: true, ..Default::default() };
        p.show_now(timed(0));
        (40..=200).step_by(40).for_each(|ms| p.push(timed(ms)));
        p.current(MediaTime(10_000));
        p.current(MediaTime(20_000));
        p.current(MediaTime(45_000));
        p.current(MediaTime(150_000)); // 80 is passed over, 120 is 30 ms late
        let c = p.counts;
        assert_eq!((c.presented, c.dropped, c.late), (3, 1, 1));
        p.advance(MediaTime(165_000));
        p.advance(MediaTime(200_000)); // nobody looked at 160
        assert_eq!((p.counts.presented, p.counts.dropped), (3, 2));
        assert_eq!(p.lines, ["0", "40", "80", "120", "160", "200"]);
    }
}

//! The demuxer's own index as points "these bytes are needed then". Invariant: bounded, whatever the file claims.

use std::sync::Arc;

use ffmpeg_next::{ffi, format::context::Input};

use super::api::IndexPoints;
use super::open::Timing;
use crate::units::MediaTime;

/// One point per stream and this much media is finer than any piece and keeps a long film under a few MB.
const STEP_US: i64 = 100_000;
/// Three streams of a day-long film; a hostile index ends here.
const MAX_POINTS: usize = 2_000_000;

/// Entries the demuxer holds for the streams, to notice growth.
pub(super) fn size(input: &Input, streams: &[usize]) -> usize {
    streams
        .iter()
        .filter_map(|&i| input.stream(i))
        // SAFETY: the stream belongs to `input`, which outlives the call.
        .map(|s| unsafe { ffi::avformat_index_get_entries_count(s.as_ptr()) }.max(0) as usize)
        .sum()
}

/// Reads the index entries of `streams`, thinned to [`STEP_US`].
pub(super) fn read(input: &Input, streams: &[usize], timing: &Timing) -> IndexPoints {
    let mut points = Vec::new();
    for stream in streams.iter().filter_map(|&i| input.stream(i)) {
        let tb = stream.time_base();
        // SAFETY: as in `size`.
        let count = unsafe { ffi::avformat_index_get_entries_count(stream.as_ptr()) };
        let mut next = i64::MIN;
        for i in 0..count {
            // SAFETY: `i` is below the count, nothing reads from `input` meanwhile; the entry is copied at once.
            let entry = unsafe { ffi::avformat_index_get_entry(stream.as_ptr().cast_mut(), i).as_ref() };
            let Some(entry) = entry else { break };
            let Ok(pos) = u64::try_from(entry.pos) else { continue };
            let at = timing.at(entry.timestamp, tb);
            if at >= next {
                next = at.saturating_add(STEP_US);
                points.push((pos, MediaTime(at.max(0))));
            }
            if points.len() >= MAX_POINTS {
                break;
            }
        }
    }
    // One entry is what a demuxer notes in passing, not an index.
    if points.len() < 2 {
        points.clear();
    }
    IndexPoints { points: Arc::from(points), duration: timing.duration.unwrap_or_default() }
}

//! What the app hands to a player and what it reads off one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::units::MediaTime;

/// Where the samples go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AudioSink {
    /// The default sound card; without one a silent sink on the wall clock, and a note that says so.
    #[default]
    Device,
    /// A silent sink on the wall clock.
    Null,
}

/// What sets the pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pace {
    /// The audio clock, or the wall clock where there is no audio.
    #[default]
    Clock,
    /// As fast as it decodes: every picture counts as presented once decoded, audio is decoded and thrown away.
    None,
}

/// How to play.
#[derive(Debug, Clone)]
pub struct PlayerOptions {
    pub audio: AudioSink,
    pub pace: Pace,
    /// Keep decoded pictures for a window. Headless play drops each as its time comes.
    pub keep_pictures: bool,
    /// Write `ffmpeg -f framemd5` lines of the video stream here, in presentation order.
    pub frames_md5: Option<PathBuf>,
    pub start_at: MediaTime,
    /// 0 to 1.
    pub volume: f32,
    pub muted: bool,
}

impl Default for PlayerOptions {
    fn default() -> Self {
        Self {
            audio: AudioSink::Device,
            pace: Pace::Clock,
            keep_pictures: true,
            frames_md5: None,
            start_at: MediaTime::ZERO,
            volume: 1.0,
            muted: false,
        }
    }
}

/// What the player is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlayerPhase {
    /// Reading head and index, decoding the first picture.
    #[default]
    Opening,
    /// A picture is ready and the clock waits for the gate (start, seek).
    Ready,
    Playing,
    Paused,
    /// A seek: no picture from the new place yet.
    Seeking,
    /// Ran dry: the clock stands until the gate opens again and there is something to show.
    Starved,
    Ended,
    /// See [`PlayerStatus::error`].
    Failed,
}

/// One seek, from the command to the first picture at its goal.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SeekRecord {
    pub to: MediaTime,
    pub first_frame_after: Duration,
}

/// One stall: the clock stood although the user wanted it to run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StallRecord {
    /// Since the player was made.
    pub at: Duration,
    pub media: MediaTime,
    /// So far, while it lasts.
    pub lasted: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameCounts {
    pub decoded: u64,
    pub presented: u64,
    /// Presented more than half a frame's time after their moment.
    pub late: u64,
    /// Never presented, because the next one's time had come.
    pub dropped: u64,
}

/// The player at one moment.
#[derive(Debug, Clone, Default)]
pub struct PlayerStatus {
    pub phase: PlayerPhase,
    pub at: MediaTime,
    pub duration: Option<MediaTime>,
    pub seeking_to: Option<MediaTime>,
    /// Since the player was made, when the first picture was decoded.
    pub first_frame: Option<Duration>,
    /// Since the player was made, when the clock first ran.
    pub started: Option<Duration>,
    /// Media seconds the clock ran; without a clock, what was decoded.
    pub played: Duration,
    pub seeks: Vec<SeekRecord>,
    pub stalls: Vec<StallRecord>,
    pub frames: FrameCounts,
    /// "1280×720 · H.264 · AAC stereo"
    pub description: String,
    /// Something the user should know that does not stop play ("No sound card: playing without sound").
    pub note: Option<String>,
    /// One plain sentence, when it failed.
    pub error: Option<String>,
    /// Demuxed but not yet presented, seconds.
    pub queued_s: f64,
}

/// Bytes needed when, by the demuxer's index: `(offset in the file, media time)` per sample or cue, in any order.
#[derive(Debug, Clone, Default)]
pub struct IndexPoints {
    pub points: Arc<[(u64, MediaTime)]>,
    pub duration: MediaTime,
}

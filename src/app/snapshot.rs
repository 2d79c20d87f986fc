//! The one border between app and window: a [`Snapshot`] out, [`Command`]s in.
//!
//! Architecture invariant: the window knows nothing of the program but this file's types (and what they re-export).

use std::path::PathBuf;
use std::sync::Arc;

pub use crate::app::failure::ErrorText;
pub use crate::engine::Timeline;
pub use crate::engine::snapshot::{
    BidRecord, EngineSnapshot, LinkView, Origin, PieceCell, PieceState, Totals, Waiting,
};
pub use crate::media::picture::{ColorMatrix, Picture, PictureSource, PixelLayout, Plane, PlaneData};
pub use crate::units::{ByteRange, LinkId, MediaTime, PieceIndex};

/// What the window asks for. Never answered directly: the next [`Snapshot`] shows what came of it.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Anything a user may hand us: path, magnet, info hash, URL.
    Open(String),
    OpenPath(PathBuf),
    /// One of [`Screen::Choose`]'s files, by its index in the torrent.
    PlayFile(usize),
    PlayDemo,
    /// Stop what is opening or playing and go home.
    Close,
    TogglePause,
    SeekTo(MediaTime),
    /// Seconds, forwards or backwards.
    SeekBy(f64),
    /// 0 to 1.
    SetVolume(f32),
    ToggleMute,
    ForgetRecent(usize),
    /// Close the sentence shown in [`Snapshot::notice`].
    DismissNotice,
}

/// All the window draws, except the picture itself.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    pub screen: Screen,
    /// One plain sentence that needs no answer ("No sound card: playing without sound").
    pub notice: Option<String>,
}

#[derive(Debug, Clone)]
pub enum Screen {
    Home {
        recent: Vec<Recent>,
        /// What went wrong with the last thing opened, and what to do about it.
        error: Option<ErrorText>,
    },
    Opening(Opening),
    Choose {
        name: String,
        files: Vec<FileChoice>,
        /// Index within `files` of the suggestion. `None`: there is no video in here.
        suggested: Option<usize>,
    },
    Playing(Box<Playing>),
}

impl Default for Screen {
    fn default() -> Self {
        Self::Home { recent: Vec::new(), error: None }
    }
}

/// A stream opened before.
#[derive(Debug, Clone, PartialEq)]
pub struct Recent {
    pub title: String,
    /// What [`Command::Open`] takes.
    pub uri: String,
    /// Where the viewer was, 0 to 1.
    pub watched: f32,
}

/// Between asking and the first picture.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    pub title: String,
    /// In order, the current one last that is not done.
    pub steps: Vec<Step>,
    /// What it looked for so far and found nothing ("3 trackers, DHT, local network; no peers yet").
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// "Asking trackers and the DHT for peers"
    pub text: String,
    pub done: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileChoice {
    /// Index in the torrent, for [`Command::PlayFile`].
    pub index: usize,
    pub path: String,
    pub bytes: u64,
    pub is_video: bool,
}

/// A film that plays, stands or waits.
#[derive(Debug, Clone)]
pub struct Playing {
    pub title: String,
    /// "720p · H.264 · from 14 peers and one server"
    pub subtitle: String,
    pub state: PlayState,
    pub at: MediaTime,
    /// `None` until known.
    pub duration: Option<MediaTime>,
    pub volume: f32,
    pub muted: bool,
    /// A seek is under way to here.
    pub seeking_to: Option<MediaTime>,
    /// Pictures for time t; pulled at paint time, never pushed.
    pub video: VideoTap,
    /// `None` for a local file: there is no swarm to show.
    pub stream: Option<StreamView>,
    /// The demuxer's index as the strip needs it.
    pub strip: Option<Arc<StripMap>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlayState {
    Playing,
    Paused,
    /// The clock stands; `StreamView::engine.waiting` and `StreamView::waiting_text` say what for.
    Waiting,
    Ended,
}

/// The swarm, the server and the buffer at one moment.
#[derive(Debug, Clone)]
pub struct StreamView {
    pub engine: Arc<EngineSnapshot>,
    pub peers: Arc<[PeerView]>,
    /// Addresses known, connected or not.
    pub peers_known: usize,
    /// Oldest first, a sample each 250 ms, at most two minutes.
    pub history: Arc<[HealthSample]>,
    /// "waiting for piece 118: 3 of 64 blocks, 2 peers have it"
    pub waiting_text: Option<String>,
    /// Where peers are looked for, with the last answer ("udp://… : 14 peers", "DHT: 61 nodes").
    pub sources: Vec<String>,
    /// Server addresses in use, and why one was left ("ignored Range").
    pub servers: Vec<String>,
    /// The chosen file's bytes in torrent space.
    pub file: ByteRange,
    pub piece_len: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HealthSample {
    pub ahead_s: f32,
    /// Bytes per second.
    pub swarm: f32,
    pub server: f32,
}

/// One connected peer.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerView {
    pub addr: String,
    /// "qBittorrent 5.1"
    pub client: String,
    /// Letters as other clients show them: D/d downloading from it, choked; U/u the other way; I incoming; X from PEX …
    pub flags: String,
    /// Share of the pieces it has, 0 to 1.
    pub has: f32,
    /// Bytes per second.
    pub down: f64,
    pub up: f64,
    pub in_flight: u32,
}

/// Which piece each moment of the film lies in: media time to torrent space.
#[derive(Debug, Clone, Default)]
pub struct StripMap {
    pub timeline: Arc<Timeline>,
    pub file: ByteRange,
    pub piece_len: u32,
}

impl StripMap {
    /// The pieces that the moments `from..to` need, as indices; never empty.
    pub fn pieces(&self, from: MediaTime, to: MediaTime) -> std::ops::Range<u32> {
        let len = u64::from(self.piece_len.max(1));
        let last = self.file.end.saturating_sub(1).max(self.file.start);
        let a = (self.file.start + self.timeline.offset_of(from)).min(last);
        let b = (self.file.start + self.timeline.offset_of(to)).clamp(a, last);
        (a / len) as u32..(b / len) as u32 + 1
    }
}

/// Where the window pulls pictures from.
#[derive(Clone)]
pub struct VideoTap(pub Arc<dyn PictureSource>);

impl std::fmt::Debug for VideoTap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VideoTap")
    }
}

/// What the window holds of the app. Neither call blocks.
pub trait AppHandle: Send + Sync {
    fn snapshot(&self) -> Arc<Snapshot>;

    fn send(&self, command: Command);

    /// `wake` is called, from any thread, whenever a new snapshot is there. It must do no work.
    fn on_change(&self, wake: Box<dyn Fn() + Send + Sync>);
}

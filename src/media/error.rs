//! What can be wrong with a video, each as one sentence a user can read.

/// Why a video cannot be played, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    #[error("This is not a video, or its beginning is damaged.")]
    NotMedia,
    #[error("The index of this video is broken, so it cannot be played.")]
    BrokenIndex,
    #[error("There is neither video nor sound in this file.")]
    NothingToPlay,
    /// The name of the codec.
    #[error("This video uses {0}, which this build of FFmpeg cannot decode.")]
    NoDecoder(String),
    #[error("The decoder for {0} could not be started.")]
    DecoderFailed(String),
    #[error("Nothing in this video could be decoded.")]
    Undecodable,
    /// The sentence that came with the bytes' error.
    #[error("{0}")]
    Bytes(String),
    #[error("The file of frame checksums cannot be written: {0}.")]
    Checksums(String),
    #[error("The player failed inside while playing this video.")]
    Inside,
    #[error("A part of the player could not be started: {0}.")]
    Thread(String),
}

//! A decoded picture as the window uploads it: planes, never converted on the CPU.

use std::sync::Arc;
use std::time::Duration;

/// One decoded picture: planes as the decoder left them.
#[derive(Clone)]
pub struct Picture {
    /// Unique per picture: the same number needs no new upload.
    pub serial: u64,
    pub width: u32,
    pub height: u32,
    /// Width ÷ height of one sample.
    pub sample_aspect: f32,
    /// Clockwise, in degrees: 0, 90, 180, 270.
    pub rotation: u16,
    pub format: PixelLayout,
    pub matrix: ColorMatrix,
    pub full_range: bool,
    pub planes: [Plane; 3],
}

/// One plane of samples.
#[derive(Clone, Default)]
pub struct Plane {
    pub data: Arc<PlaneData>,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// In samples.
    pub width: u32,
    pub height: u32,
}

/// Owner of plane bytes: a decoder's own frame, kept alive without a copy.
pub struct PlaneData {
    bytes: Box<dyn AsRef<[u8]> + Send + Sync>,
}

impl PlaneData {
    pub fn new(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self { bytes: Box::new(bytes) }
    }

    pub fn bytes(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }
}

impl Default for PlaneData {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelLayout {
    /// Three planes of 8-bit samples; chroma may be smaller.
    Yuv8,
    /// Three planes of little-endian 16-bit words holding `bits` bits (9 to 16).
    Yuv16 { bits: u8 },
    /// Luma and interleaved chroma, 8 bit.
    Nv12,
    /// One plane, RGBA.
    Rgba,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorMatrix {
    Bt601,
    Bt709,
    Bt2020,
}

/// The screen pulls the picture for now; the decoder never pushes.
pub trait PictureSource: Send + Sync {
    /// The picture that belongs on screen `ahead` from now, which is what it takes to get it there; `None` before the
    /// first. While the clock stands, the one that belongs there now.
    fn current(&self, ahead: Duration) -> Option<Arc<Picture>>;

    /// How long until the next picture must be asked for to be there in time; `None` while the clock stands, and where
    /// no picture will come.
    fn next_in(&self, ahead: Duration) -> Option<Duration>;
}

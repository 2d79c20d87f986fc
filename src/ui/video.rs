//! The picture on the GPU: planes go up as they were decoded, the fragment shader makes colours of them.
//!
//! Invariants: a picture is uploaded once per serial number; no byte is handed to GL that the plane's owner does not
//! hold; every GL call happens in a paint callback or on exit, when the context is current.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use eframe::egui::{self, PaintCallback, Rect, vec2};
use eframe::{egui_glow, glow};

use super::video_gl::GlVideo;
use crate::app::snapshot::{ColorMatrix, Picture, PixelLayout};

/// Draws pictures; owns what lives on the GPU for it.
#[derive(Clone, Default)]
pub struct VideoPainter {
    gpu: Arc<Mutex<Gpu>>,
    latency: Arc<Latency>,
}

#[derive(Default)]
struct Gpu {
    /// Made at the first picture, and anew when the context is another.
    video: Option<(Arc<glow::Context>, GlVideo)>,
    trouble: Option<String>,
}

impl VideoPainter {
    /// What it takes from asking for a picture to having it on the screen.
    pub fn latency(&self) -> Duration {
        Duration::from_micros(self.latency.0.load(Ordering::Relaxed))
    }

    /// Draws `picture` as large as fits in `area`, in its own shape; gives the place it takes.
    pub fn paint(&self, painter: &egui::Painter, area: Rect, picture: Arc<Picture>) -> Rect {
        let rect = fit(area, shape(&picture));
        let gpu = self.gpu.clone();
        let way = OnItsWay { since: Instant::now(), latency: self.latency.clone() };
        let callback = egui_glow::CallbackFn::new(move |_info, painter| {
            // Held until the frame is dropped, and by nothing else.
            let _ = &way;
            // A panic elsewhere while painting leaves nothing half-done that the next upload would not replace.
            let mut gpu = gpu.lock().unwrap_or_else(PoisonError::into_inner);
            gpu.paint(painter.gl(), &picture);
        });
        painter.add(PaintCallback { rect, callback: Arc::new(callback) });
        rect
    }

    /// Why there is no picture, in one plain sentence.
    pub fn trouble(&self) -> Option<String> {
        self.gpu.lock().unwrap_or_else(PoisonError::into_inner).trouble.clone()
    }

    /// Frees all that lives on the GPU. The context must be current.
    pub fn destroy(&self, gl: &glow::Context) {
        let mut gpu = self.gpu.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, video)) = gpu.video.take() {
            video.destroy(gl);
        }
    }
}

/// Microseconds from asking for a picture to its frame's end, smoothed.
#[derive(Default)]
struct Latency(AtomicU64);

/// More is no steady latency but a hitch; looking that far ahead would show pictures too early afterwards.
const LATENCY_MAX: Duration = Duration::from_millis(60);

/// Lives as long as the frame it is drawn in: eframe drops what it painted after it swapped the buffers.
struct OnItsWay {
    since: Instant,
    latency: Arc<Latency>,
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let took = self.since.elapsed().min(LATENCY_MAX).as_micros() as u64;
        let old = self.latency.0.load(Ordering::Relaxed);
        self.latency.0.store(if old == 0 { took } else { (old * 7 + took) / 8 }, Ordering::Relaxed);
    }
}

impl Gpu {
    fn paint(&mut self, gl: &Arc<glow::Context>, picture: &Picture) {
        // Names of a context that is gone mean nothing in the next: forget, never delete them.
        if self.video.as_ref().is_some_and(|(of, _)| !Arc::ptr_eq(of, gl)) {
            self.video = None;
        }
        if self.video.is_none() {
            match GlVideo::new(gl) {
                Ok(video) => self.video = Some((gl.clone(), video)),
                Err(e) => {
                    if self.trouble.is_none() {
                        tracing::warn!("video shader: {e}");
                    }
                    self.trouble = Some("This graphics driver cannot draw video.".to_owned());
                    return;
                }
            }
        }
        if let Some((_, video)) = &mut self.video {
            self.trouble = video.paint(gl, picture).err().map(str::to_owned);
        }
    }
}

/// Width and height of the picture as it is to be seen, in samples of height.
fn shape(p: &Picture) -> egui::Vec2 {
    let aspect =
        if p.sample_aspect.is_finite() && (0.01..100.0).contains(&p.sample_aspect) { p.sample_aspect } else { 1.0 };
    let upright = vec2((p.width as f32 * aspect).max(1.0), (p.height as f32).max(1.0));
    if p.rotation % 180 == 90 { vec2(upright.y, upright.x) } else { upright }
}

/// The largest rectangle of the given shape inside `area`, in the middle.
fn fit(area: Rect, shape: egui::Vec2) -> Rect {
    let scale = (area.width() / shape.x).min(area.height() / shape.y).max(0.0);
    Rect::from_center_size(area.center(), shape * scale)
}

/// How a sample becomes a colour: `rgb = matrix · (sample · scale − offset)`, matrix by columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Conversion {
    pub matrix: [f32; 9],
    pub offset: [f32; 3],
}

/// The conversion from Y'CbCr of `bits` bits, as a texture unit gives it (0 to 1), to R'G'B'.
pub(super) fn conversion(matrix: ColorMatrix, full_range: bool, bits: u8) -> Conversion {
    let (kr, kb) = match matrix {
        ColorMatrix::Bt601 => (0.299, 0.114),
        ColorMatrix::Bt709 => (0.2126, 0.0722),
        ColorMatrix::Bt2020 => (0.2627, 0.0593),
    };
    let kg = 1.0 - kr - kb;
    let max = f64::from((1u32 << bits.clamp(8, 16)) - 1);
    let step = f64::from(1u32 << (bits.clamp(8, 16) - 8));
    // ITU-T H.273: limited range puts black at 16, white at 235 and chroma in 16..240, times 2^(bits − 8).
    let (y_scale, c_scale, y_zero) =
        if full_range { (1.0, 1.0, 0.0) } else { (max / (219.0 * step), max / (224.0 * step), 16.0 * step / max) };
    let c_zero = 128.0 * step / max;
    let (rv, bu) = (2.0 * (1.0 - kr), 2.0 * (1.0 - kb));
    let (gu, gv) = (-bu * kb / kg, -rv * kr / kg);
    let m = [y_scale, y_scale, y_scale, 0.0, gu * c_scale, bu * c_scale, rv * c_scale, gv * c_scale, 0.0];
    Conversion { matrix: m.map(|x| x as f32), offset: [y_zero as f32, c_zero as f32, c_zero as f32] }
}

/// Planes a layout uses, and the bytes of one texel in each.
pub(super) fn texel_bytes(format: PixelLayout) -> &'static [usize] {
    match format {
        PixelLayout::Yuv8 => &[1, 1, 1],
        PixelLayout::Yuv16 { .. } => &[2, 2, 2],
        PixelLayout::Nv12 => &[1, 2],
        PixelLayout::Rgba => &[4],
    }
}

/// Rows of a plane as GL may read them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rows<'a> {
    pub bytes: &'a [u8],
    /// Texels from one row to the next.
    pub row_texels: usize,
}

/// Checks that `height` rows of `width` texels lie within `bytes`; `None` when they do not, or when rows do not start
/// at whole texels.
pub(super) fn rows(bytes: &[u8], stride: usize, width: u32, height: u32, texel: usize) -> Option<Rows<'_>> {
    let row = (width as usize).checked_mul(texel)?;
    if width == 0 || height == 0 || stride < row || !stride.is_multiple_of(texel) {
        return None;
    }
    let need = stride.checked_mul(height as usize - 1)?.checked_add(row)?;
    Some(Rows { bytes: bytes.get(..need)?, row_texels: stride / texel })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::snapshot::{Plane, PlaneData};

    fn convert(c: &Conversion, yuv: [f32; 3]) -> [u8; 3] {
        let d = [yuv[0] - c.offset[0], yuv[1] - c.offset[1], yuv[2] - c.offset[2]];
        [0, 1, 2].map(|row| {
            let x = c.matrix[row] * d[0] + c.matrix[3 + row] * d[1] + c.matrix[6 + row] * d[2];
            (x.clamp(0.0, 1.0) * 255.0).round() as u8
        })
    }

    #[test]
    fn known_colours_come_out() {
        let eight = |m, full, yuv: [u8; 3]| convert(&conversion(m, full, 8), yuv.map(|x| f32::from(x) / 255.0));
        assert_eq!(eight(ColorMatrix::Bt709, false, [16, 128, 128]), [0, 0, 0]);
        assert_eq!(eight(ColorMatrix::Bt709, false, [235, 128, 128]), [255, 255, 255]);
        assert_eq!(eight(ColorMatrix::Bt709, true, [255, 128, 128]), [255, 255, 255]);
        // Full red, by the definitions of BT.709 and BT.601 at limited range.
        for (matrix, yuv) in [(ColorMatrix::Bt709, [63, 102, 240]), (ColorMatrix::Bt601, [82, 90, 240])] {
            let [r, g, b] = eight(matrix, false, yuv);
            assert!(r >= 253 && g <= 2 && b <= 2, "{matrix:?} {r} {g} {b}");
        }
        let ten = conversion(ColorMatrix::Bt2020, false, 10);
        assert_eq!(convert(&ten, [940.0, 512.0, 512.0].map(|x| x / 1023.0)), [255, 255, 255]);
        assert_eq!(convert(&ten, [64.0, 512.0, 512.0].map(|x| x / 1023.0)), [0, 0, 0]);
    }

    #[test]
    fn rows_outside_the_plane_never_reach_the_driver() {
        let bytes = [0u8; 100];
        assert_eq!(rows(&bytes, 10, 8, 10, 1).map(|r| r.bytes.len()), Some(98));
        assert_eq!(rows(&bytes, 10, 8, 11, 1), None);
        assert_eq!(rows(&bytes, 7, 8, 2, 1), None);
        assert_eq!(rows(&bytes, 11, 4, 2, 2), None);
        assert_eq!(rows(&bytes, usize::MAX, 4, 3, 1), None);
        assert_eq!(rows(&bytes, 10, 0, 3, 1), None);
    }

    #[test]
    fn pictures_keep_their_shape() {
        let mut p = Picture {
            serial: 1,
            width: 720,
            height: 576,
            sample_aspect: 64.0 / 45.0,
            rotation: 0,
            format: PixelLayout::Yuv8,
            matrix: ColorMatrix::Bt601,
            full_range: false,
            planes: [0; 3].map(|_| Plane { data: Arc::new(PlaneData::default()), ..Plane::default() }),
        };
        let area = Rect::from_min_size(egui::pos2(0.0, 0.0), vec2(1600.0, 1600.0));
        let r = fit(area, shape(&p));
        assert!((r.width() - 1600.0).abs() < 0.01 && (r.height() - 900.0).abs() < 0.01);
        p.rotation = 90;
        let r = fit(area, shape(&p));
        assert!((r.height() - 1600.0).abs() < 0.01 && (r.width() - 900.0).abs() < 0.01);
        p.sample_aspect = f32::NAN;
        assert!(fit(area, shape(&p)).is_finite());
    }
}

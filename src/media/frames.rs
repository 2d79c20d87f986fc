//! A decoder's frame as planes for the window. Invariant: the planes point into the frame that owns them, and no row
//! reaches past its buffer, whatever the frame claims.

use std::sync::Arc;

use ffmpeg_next::format::Pixel;
use ffmpeg_next::software::scaling::{Context as Scaler, Flags};
use ffmpeg_next::{Rational, color, ffi, frame};

use super::open::Track;
use super::picture::{ColorMatrix, Picture, PixelLayout, Plane, PlaneData};

/// One plane of a frame, kept alive without a copy.
struct FramePlane {
    frame: Arc<frame::Video>,
    index: usize,
    len: usize,
}

impl AsRef<[u8]> for FramePlane {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` was checked against the plane's buffer, which lives as long as the frame and is no longer
        // written to: the decoder gave it away.
        unsafe {
            let data = (*self.frame.as_ptr()).data[self.index];
            std::slice::from_raw_parts(data, self.len)
        }
    }
}

/// Frames to pictures; keeps the scaler for formats the window cannot show as they are.
pub(super) struct Converter {
    sample_aspect: Rational,
    rotation: u16,
    scaler: Option<Held>,
}

/// A scaler is used by one thread at a time only, but FFmpeg's has no thread of its own.
struct Held(Scaler);

// SAFETY: a scaling context is plain memory; the video thread that owns it is the only one to use it.
unsafe impl Send for Held {}

impl Converter {
    pub(super) fn new(track: &Track) -> Self {
        Self { sample_aspect: track.sample_aspect, rotation: track.rotation, scaler: None }
    }

    /// `None` for a frame without a usable picture.
    pub(super) fn picture(&mut self, frame: frame::Video, serial: u64) -> Option<Picture> {
        let matrix = matrix(&frame);
        let full_range = frame.color_range() == color::Range::JPEG || is_full_range(frame.format());
        let (frame, full_range) = match layout(frame.format()) {
            Some(_) if upright(&frame) => (frame, full_range),
            _ => (self.convert(&frame, matrix)?, false),
        };
        let format = layout(frame.format())?;
        let aspect = match self.sample_aspect {
            a if a.numerator() > 0 && a.denominator() > 0 => a,
            _ => frame.aspect_ratio(),
        };
        let sample_aspect = match (aspect.numerator(), aspect.denominator()) {
            (n, d) if n > 0 && d > 0 => n as f32 / d as f32,
            _ => 1.0,
        };
        let (width, height) = (frame.width(), frame.height());
        let frame = Arc::new(frame);
        let plane = |index| plane(&frame, index, format);
        let planes = match format {
            PixelLayout::Nv12 => [plane(0)?, plane(1)?, Plane::default()],
            PixelLayout::Rgba => [plane(0)?, Plane::default(), Plane::default()],
            _ => [plane(0)?, plane(1)?, plane(2)?],
        };
        Some(Picture {
            serial,
            width,
            height,
            sample_aspect,
            rotation: self.rotation,
            format,
            matrix,
            full_range,
            planes,
        })
    }

    /// Anything else becomes 8-bit 4:2:0 in limited range.
    fn convert(&mut self, frame: &frame::Video, matrix: ColorMatrix) -> Option<frame::Video> {
        let (w, h, from) = (frame.width(), frame.height(), frame.format());
        let fits = |s: &Held| s.0.input().format == from && (s.0.input().width, s.0.input().height) == (w, h);
        if !self.scaler.as_ref().is_some_and(fits) {
            let scaler = Scaler::get(from, w, h, Pixel::YUV420P, w, h, Flags::BILINEAR).ok()?;
            self.scaler = Some(Held(scaler));
        }
        let scaler = &mut self.scaler.as_mut()?.0;
        let space = match matrix {
            ColorMatrix::Bt601 => ffi::SWS_CS_ITU601,
            ColorMatrix::Bt709 => ffi::SWS_CS_ITU709,
            ColorMatrix::Bt2020 => ffi::SWS_CS_BT2020,
        };
        let full = frame.color_range() == color::Range::JPEG || is_full_range(from) || is_rgb(from);
        // SAFETY: the context is alive; the coefficient tables are static. swscale would assume BT.601 otherwise.
        unsafe {
            let table = ffi::sws_getCoefficients(space);
            ffi::sws_setColorspaceDetails(scaler.as_mut_ptr(), table, i32::from(full), table, 0, 0, 1 << 16, 1 << 16);
        }
        let mut out = frame::Video::empty();
        scaler.run(frame, &mut out).ok()?;
        Some(out)
    }
}

/// The layout the window knows for a format, if any.
fn layout(format: Pixel) -> Option<PixelLayout> {
    use Pixel as P;
    Some(match format {
        P::YUV420P | P::YUVJ420P | P::YUV422P | P::YUVJ422P | P::YUV444P | P::YUVJ444P => PixelLayout::Yuv8,
        P::YUV420P10LE | P::YUV422P10LE | P::YUV444P10LE => PixelLayout::Yuv16 { bits: 10 },
        P::YUV420P12LE | P::YUV422P12LE | P::YUV444P12LE => PixelLayout::Yuv16 { bits: 12 },
        P::NV12 => PixelLayout::Nv12,
        _ => return None,
    })
}

fn is_full_range(format: Pixel) -> bool {
    matches!(format, Pixel::YUVJ420P | Pixel::YUVJ422P | Pixel::YUVJ444P)
}

fn is_rgb(format: Pixel) -> bool {
    // SAFETY: descriptors are static; a format without one gives null.
    let desc = unsafe { ffi::av_pix_fmt_desc_get(format.into()).as_ref() };
    desc.is_some_and(|d| d.flags & u64::from(ffi::AV_PIX_FMT_FLAG_RGB as u32) != 0)
}

fn matrix(frame: &frame::Video) -> ColorMatrix {
    match frame.color_space() {
        color::Space::BT709 => ColorMatrix::Bt709,
        color::Space::BT2020NCL | color::Space::BT2020CL => ColorMatrix::Bt2020,
        color::Space::BT470BG | color::Space::SMPTE170M | color::Space::FCC => ColorMatrix::Bt601,
        // What broadcasters and every player do with a film that does not say.
        _ if frame.height() >= 720 => ColorMatrix::Bt709,
        _ => ColorMatrix::Bt601,
    }
}

/// Rows from top to bottom; a few decoders hand out frames upside down.
fn upright(frame: &frame::Video) -> bool {
    // SAFETY: plain fields of a live frame.
    unsafe { (*frame.as_ptr()).linesize.iter().take(3).all(|l| *l >= 0) }
}

fn plane(frame: &Arc<frame::Video>, index: usize, format: PixelLayout) -> Option<Plane> {
    // SAFETY: plain fields of a live frame; descriptors are static.
    let (data, stride, desc) = unsafe {
        let f = &*frame.as_ptr();
        (
            f.data[index],
            usize::try_from(f.linesize[index]).ok()?,
            ffi::av_pix_fmt_desc_get(frame.format().into()).as_ref()?,
        )
    };
    let shrink = |n: u32, shift: u8| if index == 0 { n } else { n.div_ceil(1 << shift) };
    let (width, height) = (shrink(frame.width(), desc.log2_chroma_w), shrink(frame.height(), desc.log2_chroma_h));
    let row = width as usize
        * match format {
            PixelLayout::Yuv16 { .. } => 2,
            PixelLayout::Nv12 if index == 1 => 2,
            PixelLayout::Rgba => 4,
            _ => 1,
        };
    if data.is_null() || width == 0 || height == 0 || stride < row {
        return None;
    }
    let least = stride * (height as usize - 1) + row;
    let len = (stride * height as usize).min(buffer_after(frame, data)?);
    if len < least {
        return None;
    }
    let data = PlaneData::new(FramePlane { frame: frame.clone(), index, len });
    Some(Plane { data: Arc::new(data), stride, width, height })
}

/// Bytes from `data` to the end of the buffer that holds it.
fn buffer_after(frame: &frame::Video, data: *const u8) -> Option<usize> {
    // SAFETY: the buffer references of a live frame; only their addresses and sizes are read.
    unsafe {
        (*frame.as_ptr()).buf.iter().filter_map(|b| b.as_ref()).find_map(|b| {
            let end = (b.data as usize).checked_add(b.size)?;
            (b.data as usize..end).contains(&(data as usize)).then(|| end - data as usize)
        })
    }
}

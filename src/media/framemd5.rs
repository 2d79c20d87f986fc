//! Checksums of decoded pictures, in the format of `ffmpeg -f framemd5`. Invariant: equal, line by line, to what
//! `ffmpeg -i FILE -map 0:v:0 -f framemd5 -` (5.1, its default frame timing) writes for the same pictures.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use ffmpeg_next::{Rational, ffi, frame};
use md5::{Digest, Md5};

use super::open::{Timing, Track};

/// Makes a line per picture; the header comes with the first one.
pub(super) struct Lines {
    from: Rational,
    /// One over the frame rate, as ffmpeg's encoder ticks.
    to: Rational,
    start_us: i64,
    sample_aspect: Rational,
    next: Option<i64>,
    headed: bool,
    raw: Vec<u8>,
}

impl Lines {
    pub(super) fn new(track: &Track, timing: &Timing) -> Self {
        let rate = match track.frame_rate {
            r if r.numerator() > 0 && r.denominator() > 0 => r,
            _ => Rational(25, 1),
        };
        Self {
            from: track.time_base,
            to: Rational(rate.denominator(), rate.numerator()),
            start_us: track.own_start_us.unwrap_or(timing.start_us).max(timing.start_us),
            sample_aspect: track.sample_aspect,
            next: Some(0),
            headed: false,
            raw: Vec::new(),
        }
    }

    /// After a seek the times start where the picture lies, not after the last one.
    pub(super) fn restart(&mut self) {
        self.next = None;
    }

    /// The line, with the header before the first; `None` for a picture ffmpeg would leave out, or one without bytes.
    pub(super) fn line(&mut self, frame: &frame::Video) -> Option<String> {
        let (w, h) = (i32::try_from(frame.width()).ok()?, i32::try_from(frame.height()).ok()?);
        // SAFETY: the frame is alive, and the buffer has the size the first call asks for.
        let size = unsafe {
            let f = &*frame.as_ptr();
            let format = frame.format().into();
            let size = ffi::av_image_get_buffer_size(format, w, h, 1);
            self.raw.resize(usize::try_from(size).ok()?, 0);
            let data = f.data.as_ptr().cast::<*const u8>();
            ffi::av_image_copy_to_buffer(self.raw.as_mut_ptr(), size, data, f.linesize.as_ptr(), format, w, h, 1)
        };
        let digest = Md5::digest(self.raw.get(..usize::try_from(size).ok()?)?);
        let (pts, duration) = self.tick(frame)?;
        let hash: String = digest.iter().map(|b| format!("{b:02x}")).collect();
        let mut line = String::new();
        if !std::mem::replace(&mut self.headed, true) {
            let sar = match self.sample_aspect {
                a if a.numerator() > 0 => a,
                _ => frame.aspect_ratio(),
            };
            line = format!(
                "#format: frame checksums\n#version: 2\n#hash: MD5\n#software: sluicegate {}\n#tb 0: {}/{}\n\
                 #media_type 0: video\n#codec_id 0: rawvideo\n#dimensions 0: {w}x{h}\n#sar 0: {}/{}\n\
                 #stream#, dts,        pts, duration,     size, hash\n",
                env!("CARGO_PKG_VERSION"),
                self.to.numerator(),
                self.to.denominator(),
                sar.numerator(),
                sar.denominator().max(1),
            );
        }
        line += &format!("0, {pts:>10}, {pts:>10}, {duration:>8}, {size:>8}, {hash}");
        Some(line)
    }

    /// The tick ffmpeg gives the picture: variable frame rate, ticks that never fall.
    fn tick(&mut self, frame: &frame::Video) -> Option<(i64, i64)> {
        let per_tick = f64::from(self.to.numerator()) / f64::from(self.to.denominator());
        let ticks =
            |ts: i64| ts as f64 * f64::from(self.from.numerator()) / f64::from(self.from.denominator()) / per_tick;
        let mut at = match frame.timestamp() {
            Some(ts) => ticks(ts) - self.start_us as f64 / 1e6 / per_tick,
            None => self.next.unwrap_or(0) as f64,
        };
        let lasts = ticks(frame.packet().duration).round().max(1.0);
        let mut pts = at.round() as i64;
        if let Some(next) = self.next {
            let before = at - next as f64;
            let delta = before + lasts;
            if before < 0.0 && delta > 0.0 {
                at = next as f64;
            }
            if delta <= -0.6 {
                return None;
            }
            pts = if delta > 0.6 { at.round() as i64 } else { next };
        }
        self.next = Some(pts.saturating_add(1));
        Some((pts, 1))
    }
}

/// The file the lines go to.
pub(super) struct LineFile(BufWriter<File>);

impl LineFile {
    pub(super) fn create(path: &Path) -> std::io::Result<Self> {
        Ok(Self(BufWriter::new(File::create(path)?)))
    }

    pub(super) fn write(&mut self, lines: &[String]) -> std::io::Result<()> {
        lines.iter().try_for_each(|l| writeln!(self.0, "{l}"))?;
        self.0.flush()
    }
}

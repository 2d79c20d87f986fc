//! Frame checksums: what ffmpeg says of the original, and how much of it a play showed.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use super::media::ffmpeg;
use super::process::tool;
use super::text;

/// One line of a framemd5 file.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Seconds.
    pub at: f64,
    pub size: u64,
    pub md5: String,
}

/// What ffmpeg decodes of the first video stream.
pub fn reference(film: &Path) -> Vec<Frame> {
    let out = tool(ffmpeg().args(["-i", text(film), "-map", "0:v:0", "-vsync", "passthrough", "-f", "framemd5", "-"]));
    let frames = parse(&String::from_utf8(out.stdout).unwrap());
    let distinct: std::collections::HashSet<_> = frames.iter().map(|f| &f.md5).collect();
    assert_eq!(distinct.len(), frames.len(), "two frames of {} are alike: no good as a reference", film.display());
    frames
}

/// Reads the format of `ffmpeg -f framemd5`.
pub fn parse(text: &str) -> Vec<Frame> {
    let mut tb = (1.0, 1.0);
    let mut out = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("#tb 0: ") {
            let (num, den) = rest.split_once('/').unwrap();
            tb = (num.trim().parse::<f64>().unwrap(), den.trim().parse::<f64>().unwrap());
        }
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        let f: Vec<&str> = line.split(',').map(str::trim).collect();
        assert_eq!(f.len(), 6, "not a framemd5 line: {line}");
        out.push(Frame {
            at: f[2].parse::<f64>().unwrap() * tb.0 / tb.1,
            size: f[4].parse().unwrap(),
            md5: f[5].to_owned(),
        });
    }
    out
}

/// Checks that both are the same pictures at the same times.
pub fn assert_same(ours: &[Frame], original: &[Frame]) {
    for (i, (a, b)) in ours.iter().zip(original).enumerate() {
        assert_eq!((a.size, &a.md5), (b.size, &b.md5), "frame {i}, at {:.3} s, is another picture", b.at);
        assert!((a.at - b.at).abs() < 0.002, "frame {i} is shown at {:.4} s, not at {:.4} s", a.at, b.at);
    }
    assert_eq!(ours.len(), original.len(), "number of frames");
}

/// The stretches of the original that were shown, in the order shown: indices into `original`. Fails on a picture that is
/// not in it.
pub fn runs(ours: &[Frame], original: &[Frame]) -> Vec<Range<usize>> {
    let index: HashMap<&str, usize> = original.iter().enumerate().map(|(i, f)| (f.md5.as_str(), i)).collect();
    let mut out: Vec<Range<usize>> = Vec::new();
    for (n, f) in ours.iter().enumerate() {
        let i = *index.get(f.md5.as_str()).unwrap_or_else(|| panic!("line {n}: the film holds no such picture: {f:?}"));
        match out.last_mut() {
            Some(r) if r.end == i => r.end = i + 1,
            _ => out.push(i..i + 1),
        }
    }
    out
}

/// The first frame that is shown at or after `at` seconds.
pub fn index_at(original: &[Frame], at: f64) -> usize {
    original.iter().position(|f| f.at >= at - 0.0005).unwrap_or(original.len())
}

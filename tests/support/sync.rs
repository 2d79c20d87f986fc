//! Picture and sound measured on one clock: when the demo's flashes are on the screen, when its beeps are at the sink.
//!
//! One ffmpeg records both with the machine's clock as time stamps, so that no start-up time has to be guessed.

use std::process::Command;
use std::time::Duration;

use super::process::{Guard, tool};
use super::screen::{Area, Screen};
use super::{temp_dir, text};

/// One beep and the flash nearest to it.
#[derive(Debug, Clone, Copy)]
pub struct Beat {
    /// Seconds, the beep's on the recording's clock.
    pub at: f64,
    /// Sound minus picture, milliseconds: above zero the sound is late.
    pub late_ms: f64,
}

/// Rate of the recorded screen: its frames bound how exactly a flash can be timed.
const RATE: u32 = 60;

/// Where on the screen the demo's square flashes (white for two frames of each second, else black).
pub fn find_flash(screen: &Screen) -> Option<Area> {
    const STEP: usize = 8;
    let (w, h) = (screen.width / STEP, screen.height / STEP);
    let size = format!("{}x{}", screen.width, screen.height);
    let mut ffmpeg = Command::new("ffmpeg");
    let grab = ["-f", "x11grab", "-framerate", "25", "-video_size", &size, "-draw_mouse", "0", "-i", &screen.display];
    let small = format!("scale={w}:{h}:flags=neighbor");
    let out = tool(
        screen
            .beside(&mut ffmpeg)
            .args(["-hide_banner", "-loglevel", "error", "-nostdin"])
            .args(grab)
            .args(["-t", "3.2", "-vf", &small, "-pix_fmt", "gray", "-f", "rawvideo", "-"]),
    );
    let frames: Vec<&[u8]> = out.stdout.chunks_exact(w * h).collect();
    let share = |i: usize, is: fn(u8) -> bool| frames.iter().filter(|f| is(f[i])).count() as f64 / frames.len() as f64;
    // The burned-in time turns white as well, but for whole seconds.
    let rises = |i: usize| frames.windows(2).filter(|f| f[0][i] <= 225 && f[1][i] > 225).count();
    let blinks: Vec<usize> = (0..w * h)
        .filter(|&i| (0.02..0.16).contains(&share(i, |v| v > 225)) && share(i, |v| v < 40) > 0.55 && rises(i) >= 2)
        .collect();
    // The square is the one thing that blinks like this; its middle pixel stands for it.
    let middle = *blinks.get(blinks.len() / 2)?;
    Some(Area { x: (middle % w) * STEP, y: (middle / w) * STEP, width: STEP, height: STEP })
}

/// Records for so many seconds: the beeps, each with its flash. Those whose flash was not seen are left out.
pub fn measure(screen: &Screen, flash: Area, seconds: u32) -> Vec<Beat> {
    let dir = temp_dir();
    let (seen, heard) = (dir.path().join("seen.txt"), dir.path().join("heard.txt"));
    let at = format!("{}+{},{}", screen.display, flash.x, flash.y);
    let size = format!("{}x{}", flash.width, flash.height);
    let eye = format!(
        "[0:v]scale=1:1,format=gray,signalstats,settb=1/1000000,metadata=print:key=lavfi.signalstats.YAVG:file={}[v]",
        text(&seen)
    );
    // A millisecond at a time, and of each only what is near 1 kHz.
    let ear = format!(
        "[1:a]aresample=48000,pan=mono|c0=c0,bandpass=f=1000:width_type=h:w=300,asetnsamples=48,astats=metadata=1:reset=1,\
         asettb=1/1000000,ametadata=print:key=lavfi.astats.Overall.RMS_level:file={}[a]",
        text(&heard)
    );
    let mut c = Command::new("ffmpeg");
    let log = dir.path().join("log");
    let mut recorder = Guard::spawn(
        screen
            .beside(&mut c)
            .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-copyts", "-thread_queue_size", "4096"])
            .args([
                "-f",
                "x11grab",
                "-framerate",
                &RATE.to_string(),
                "-video_size",
                &size,
                "-draw_mouse",
                "0",
                "-i",
                &at,
            ])
            .args(["-thread_queue_size", "4096", "-f", "pulse", "-fragment_size", "1920", "-i", "cap.monitor"])
            .args(["-filter_complex", &format!("{eye};{ear}"), "-map", "[v]", "-map", "[a]", "-f", "null", "-"]),
        Some(&log),
    );
    std::thread::sleep(Duration::from_secs(u64::from(seconds)));
    recorder.signal(libc::SIGINT);
    assert!(recorder.wait(Duration::from_secs(20)).is_some(), "the recorder does not end: {}", recorder.log());
    let half_frame = 0.5 / f64::from(RATE);
    // On average a flash is half a recorded frame old when it is seen.
    let flashes: Vec<f64> = onsets(&std::fs::read_to_string(&seen).unwrap(), 128.0).map(|t| t - half_frame).collect();
    let beeps: Vec<f64> = onsets(&std::fs::read_to_string(&heard).unwrap(), -30.0).collect();
    beeps
        .iter()
        .filter_map(|&b| {
            let nearest = flashes.iter().copied().min_by(|x, y| (x - b).abs().total_cmp(&(y - b).abs()))?;
            Some(Beat { at: b, late_ms: (b - nearest) * 1000.0 })
        })
        // One of each a second: what is further apart belongs to another second.
        .filter(|beat| beat.late_ms.abs() < 500.0)
        .collect()
}

/// Times in seconds at which a value rises above `level` after at least 300 ms below it.
fn onsets(printed: &str, level: f64) -> impl Iterator<Item = f64> {
    let (mut at, mut last_above, mut out) = (0.0, f64::NEG_INFINITY, Vec::new());
    let mut first = true;
    for line in printed.lines() {
        if let Some(pts) = line.split_once("pts:").map(|x| x.1) {
            at = pts.split_whitespace().next().unwrap_or("0").parse::<f64>().unwrap_or(0.0) / 1e6;
        } else if let Some((_, value)) = line.split_once('=') {
            let above = value.trim().parse::<f64>().is_ok_and(|v| v > level);
            // What is above from the start began at an unknown time.
            if above && !first && at - last_above > 0.3 {
                out.push(at);
            }
            if above || first {
                last_above = at;
            }
            first = false;
        }
    }
    out.into_iter()
}

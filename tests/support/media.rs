//! Small real films, made by ffmpeg once and kept in the build folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use super::process::tool;
use super::text;

/// Raise it when a recipe changes: films of an older one are made anew.
const RECIPES: u32 = 1;

/// 30 s, 640x360, H.264 and AAC, the index at the front. No two frames are alike.
pub fn mp4() -> PathBuf {
    film(
        "clip.mp4",
        &[
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-g",
            "50",
            "-b:v",
            "900k",
            "-c:a",
            "aac",
            "-movflags",
            "+faststart",
        ],
    )
}

/// The same picture and sound with the index at the end.
pub fn mp4_index_at_end() -> PathBuf {
    let from = mp4();
    made("tail.mp4", |out| {
        tool(ffmpeg().args(["-i", text(&from), "-c", "copy", "-map", "0", text(out)]));
    })
}

/// H.264 with B-frames and Opus in Matroska.
pub fn mkv() -> PathBuf {
    film(
        "clip.mkv",
        &["-c:v", "libx264", "-preset", "veryfast", "-g", "100", "-bf", "3", "-b:v", "900k", "-c:a", "libopus"],
    )
}

/// VP8 and Vorbis in WebM.
pub fn webm() -> PathBuf {
    film(
        "clip.webm",
        &["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", "75", "-b:v", "900k", "-c:a", "libvorbis"],
    )
}

/// 12 s of 1920x1080 at 30 pictures a second and some 4 Mbit/s.
pub fn full_hd() -> PathBuf {
    made("hd.mp4", |out| {
        let picture = "testsrc2=s=1920x1080:r=30:d=12,format=yuv420p";
        let sound = "sine=f=330:r=48000:d=12,volume=0.2";
        tool(
            ffmpeg()
                .args(["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, "-threads", "2"])
                .args(["-c:v", "libx264", "-preset", "veryfast", "-g", "60", "-b:v", "4M", "-c:a", "aac"])
                .args(["-ac", "2", "-movflags", "+faststart", "-shortest", text(out)]),
        );
    })
}

/// The clip of the demo, and where it shows its flashes (assets/make-demo.sh).
pub fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo.mp4")
}

fn film(name: &str, codec: &[&str]) -> PathBuf {
    made(name, |out| {
        let picture = "testsrc2=s=640x360:r=25:d=30,noise=alls=12:allf=t:all_seed=7,format=yuv420p";
        let sound = "sine=f=330:r=48000:d=30,volume=0.2";
        tool(
            ffmpeg()
                .args(["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, "-threads", "2"])
                .args(codec)
                .args(["-ac", "2", "-shortest", text(out)]),
        );
    })
}

/// An ffmpeg that is quiet, never asks and overwrites.
pub fn ffmpeg() -> Command {
    let mut c = Command::new("ffmpeg");
    c.args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"]);
    c
}

/// `name` in the build folder, made when it is not there. It appears whole or not at all.
pub fn made(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("media-{RECIPES}"));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join(name);
    if path.exists() {
        return path;
    }
    // A film made from another one comes through here twice on one thread: hold the lock for the last step only.
    let part = dir.join(format!("{}-{:?}-{name}", std::process::id(), std::thread::current().id()));
    make(&part);
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    std::fs::rename(&part, &path).unwrap();
    path
}

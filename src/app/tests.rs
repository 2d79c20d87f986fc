//! The app as a whole on a real film: a session without a window, and the app behind one.

use std::path::{Path, PathBuf};
use std::process::Command as Run;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::headless::{self, HeadlessOptions};
use crate::app::net::NetOverrides;
use crate::app::open::Wanted;
use crate::app::paths::Paths;
use crate::app::session::Opened;
use crate::app::snapshot::{AppHandle, Command, PlayState, Screen, Snapshot};
use crate::app::{App, AppOptions};
use crate::units::MediaTime;

/// Long enough for the slowest machine; nothing waits for it when all is well.
const LIMIT: Duration = Duration::from_secs(60);

fn film(dir: &Path, seconds: u32) -> PathBuf {
    let path = dir.join("A film.mp4");
    let video = format!("testsrc2=s=160x90:r=25:d={seconds}");
    let done = Run::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &video, "-c:v", "libx264", "-g", "25", "-pix_fmt", "yuv420p"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(done.success());
    path
}

fn headless(path: PathBuf, dir: &Path) -> HeadlessOptions {
    HeadlessOptions {
        opened: Opened::Wanted(Wanted::Path(path)),
        net: NetOverrides { cache: Some(dir.join("cache")), ..Default::default() },
        file: None,
        play_for: None,
        seeks: Vec::new(),
        no_clock: true,
        seed: false,
        frames_md5: None,
        report: Some(dir.join("report.json")),
        started: Instant::now(),
    }
}

fn report(dir: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(dir.join("report.json")).unwrap()).unwrap()
}

#[test]
fn a_local_film_plays_to_its_end_frame_by_frame() {
    let dir = tempfile::tempdir().unwrap();
    let path = film(dir.path(), 3);
    let md5 = dir.path().join("frames");
    let options = HeadlessOptions { frames_md5: Some(md5.clone()), ..headless(path.clone(), dir.path()) };
    assert_eq!(headless::run(options), 0);
    let report = report(dir.path());
    assert_eq!(report["frames"]["presented"], 75);
    assert_eq!(report["ended"], true);
    assert!(report["first_frame_s"].as_f64().unwrap() > 0.0);
    let reference = Run::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(&path)
        .args(["-map", "0:v:0", "-f", "framemd5", "-"])
        .output()
        .unwrap();
    let frames = |bytes: &[u8]| -> Vec<String> {
        String::from_utf8_lossy(bytes).lines().filter(|l| !l.starts_with('#')).map(str::to_owned).collect()
    };
    assert_eq!(frames(&std::fs::read(md5).unwrap()), frames(&reference.stdout));
}

#[test]
fn what_cannot_be_played_ends_with_two_and_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let noise = dir.path().join("noise.mp4");
    std::fs::write(&noise, (0..50_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect::<Vec<_>>())
        .unwrap();
    assert_eq!(headless::run(headless(noise, dir.path())), 2);
    assert!(report(dir.path())["error"].as_str().is_some_and(|e| e.ends_with('.')));
    assert_eq!(headless::run(headless(dir.path().join("none.torrent"), dir.path())), 2);
}

fn until(app: &App, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let limit = Instant::now() + LIMIT;
    loop {
        let s = app.snapshot();
        if holds(&s) {
            return s;
        }
        assert!(Instant::now() < limit, "never {what}: {s:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn the_window_side_opens_pauses_seeks_closes_and_remembers() {
    let dir = tempfile::tempdir().unwrap();
    let path = film(dir.path(), 100);
    let options = || AppOptions { open: None, net: NetOverrides::default(), paths: Paths::below(dir.path()) };
    let app = App::start(options()).unwrap();
    app.send(Command::Open("ftp://x/y".into()));
    until(&app, "refused", |s| matches!(&s.screen, Screen::Home { error: Some(e), .. } if e.what.contains("ftp")));
    app.send(Command::Open("/there/is/no.mp4".into()));
    until(&app, "missing", |s| matches!(&s.screen, Screen::Home { error: Some(e), .. } if e.what.contains("no file")));

    app.send(Command::OpenPath(path.clone()));
    let playing = |s: &Snapshot, state| matches!(&s.screen, Screen::Playing(p) if p.state == state);
    until(&app, "playing", |s| playing(s, PlayState::Playing));
    app.send(Command::TogglePause);
    until(&app, "paused", |s| playing(s, PlayState::Paused));
    let goal = MediaTime::from_secs_f64(50.0);
    app.send(Command::SeekTo(goal));
    let there = |s: &Snapshot| matches!(&s.screen, Screen::Playing(p) if p.seeking_to.is_none() && p.at >= goal);
    until(&app, "at the goal", there);
    app.send(Command::SetVolume(0.25));
    until(&app, "quieter", |s| matches!(&s.screen, Screen::Playing(p) if p.volume == 0.25));
    // A film that plays is not ended by words that mean nothing.
    app.send(Command::Open("gopher://x/".into()));
    until(&app, "told", |s| s.notice.as_ref().is_some_and(|n| n.contains("gopher")));
    assert!(playing(&app.snapshot(), PlayState::Paused));
    app.send(Command::Close);
    let home = until(&app, "home", |s| matches!(s.screen, Screen::Home { .. }));
    let Screen::Home { recent, error: None } = &home.screen else { panic!("{home:?}") };
    assert_eq!(recent.len(), 1);
    assert_eq!((recent[0].title.as_str(), (recent[0].watched * 10.0).round()), ("A film", 5.0));
    app.shutdown();

    // Another day it goes on where it was left.
    let app = App::start(options()).unwrap();
    app.send(Command::Open(path.to_str().unwrap().into()));
    until(&app, "going on", |s| matches!(&s.screen, Screen::Playing(p) if p.at >= goal && p.volume == 0.25));
    app.shutdown();
}

//! The player on real files, made by the ffmpeg command line at test time, against that command's own results.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use super::Player;
use super::api::{AudioSink, Pace, PlayerOptions, PlayerPhase, PlayerStatus};
use crate::stream::reader::{ByteSource, Cancel, LocalFile, Reader};
use crate::units::MediaTime;

/// Generous: a loaded machine is slow, a hang is longer.
const LIMIT: Duration = Duration::from_secs(60);

fn ffmpeg(args: &[&str]) -> String {
    let out = Command::new("ffmpeg").args(["-v", "error", "-y", "-nostdin"]).args(args).output().unwrap();
    assert!(out.status.success(), "ffmpeg {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Three seconds of moving picture and a tone.
fn make(dir: &Path, name: &str, args: &[&str]) -> PathBuf {
    let path = dir.join(name);
    let video = "testsrc2=s=320x180:r=25:d=3";
    let mut all = vec!["-f", "lavfi", "-i", video, "-f", "lavfi", "-i", "sine=440:d=3", "-threads", "1"];
    all.extend_from_slice(args);
    all.push(path.to_str().unwrap());
    ffmpeg(&all);
    path
}

fn mp4(dir: &Path) -> PathBuf {
    make(dir, "a.mp4", &["-c:v", "libx264", "-g", "25", "-bf", "2", "-c:a", "aac", "-movflags", "+faststart"])
}

fn reference(path: &Path) -> Vec<String> {
    lines(&ffmpeg(&["-i", path.to_str().unwrap(), "-map", "0:v:0", "-f", "framemd5", "-"]))
}

/// All lines but the one that names the program.
fn lines(text: &str) -> Vec<String> {
    text.lines().filter(|l| !l.starts_with("#software")).map(str::to_owned).collect()
}

fn frames(lines: &[String]) -> Vec<String> {
    lines.iter().filter(|l| !l.starts_with('#')).cloned().collect()
}

fn local(path: &Path) -> Reader {
    Reader::new(Arc::new(LocalFile::open(path).unwrap()))
}

fn headless(pace: Pace, md5: Option<PathBuf>) -> PlayerOptions {
    PlayerOptions { audio: AudioSink::Null, pace, keep_pictures: false, frames_md5: md5, ..PlayerOptions::default() }
}

fn play(reader: Reader, options: PlayerOptions) -> Player {
    Player::open(reader, options, Arc::new(|| ()))
}

fn wait(player: &Player, what: &str, until: impl Fn(&PlayerStatus) -> bool) -> PlayerStatus {
    let start = Instant::now();
    loop {
        let status = player.status();
        if until(&status) {
            return status;
        }
        assert!(start.elapsed() < LIMIT, "no {what}: {status:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn ended(s: &PlayerStatus) -> bool {
    matches!(s.phase, PlayerPhase::Ended | PlayerPhase::Failed)
}

/// Plays a file to its end and gives the checksums.
fn md5_of(path: &Path, pace: Pace, dir: &Path) -> (Vec<String>, PlayerStatus) {
    let out = dir.join("out.md5");
    let player = play(local(path), headless(pace, Some(out.clone())));
    player.set_gate(true);
    let status = wait(&player, "end", ended);
    drop(player);
    (lines(&std::fs::read_to_string(&out).unwrap_or_default()), status)
}

fn same_as_ffmpeg(name: &str, args: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let path = make(dir.path(), name, args);
    let (ours, status) = md5_of(&path, Pace::None, dir.path());
    assert_eq!(status.error, None, "{name}");
    assert_eq!(ours, reference(&path), "{name}");
}

#[test]
fn pictures_equal_ffmpegs_in_every_container() {
    let x264 = ["-c:v", "libx264", "-g", "25", "-bf", "2", "-c:a", "aac"];
    same_as_ffmpeg("last.mp4", &x264);
    same_as_ffmpeg("a.mkv", &x264);
    same_as_ffmpeg("a.ts", &x264);
    same_as_ffmpeg("a.avi", &["-c:v", "mpeg4", "-bf", "2", "-c:a", "libmp3lame"]);
    same_as_ffmpeg(
        "frag.mp4",
        &["-c:v", "libx264", "-g", "25", "-c:a", "flac", "-strict", "-2", "-movflags", "frag_keyframe"],
    );
}

#[test]
fn picture_times_equal_ffmpegs_at_uneven_rates() {
    same_as_ffmpeg("vfr.mkv", &["-vf", "select='not(eq(mod(n,5),2))'", "-fps_mode", "vfr", "-c:v", "libx264", "-an"]);
    same_as_ffmpeg("ntsc.mkv", &["-r", "30000/1001", "-c:v", "libx264", "-bf", "2", "-c:a", "libmp3lame"]);
    same_as_ffmpeg("ntsc.ts", &["-r", "60000/1001", "-c:v", "libx264", "-c:a", "mp2"]);
    same_as_ffmpeg("sar.mp4", &["-vf", "setsar=4/3", "-r", "24", "-c:v", "libx264", "-c:a", "aac"]);
}

#[test]
fn pictures_equal_ffmpegs_in_every_codec() {
    same_as_ffmpeg("vp9.webm", &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libopus"]);
    same_as_ffmpeg("vp8.webm", &["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-c:a", "libvorbis"]);
    same_as_ffmpeg(
        "hevc10.mkv",
        &["-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-c:a", "ac3"],
    );
    same_as_ffmpeg("av1.mp4", &["-c:v", "libsvtav1", "-preset", "12", "-c:a", "aac"]);
    same_as_ffmpeg("444.mp4", &["-c:v", "libx264", "-pix_fmt", "yuv444p", "-an"]);
}

#[test]
fn on_the_clock_every_picture_has_its_moment_in_real_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = mp4(dir.path());
    let (ours, status) = md5_of(&path, Pace::Clock, dir.path());
    assert_eq!(ours, reference(&path));
    assert_eq!(status.frames.presented + status.frames.dropped, 75, "{status:?}");
    assert!(status.stalls.is_empty(), "{status:?}");
    assert!(status.played >= Duration::from_millis(2800) && status.played <= Duration::from_millis(3200), "{status:?}");
    assert_eq!(status.description, "320×180 · H.264 · AAC mono");
}

#[test]
fn a_seek_shows_the_first_picture_at_its_goal_in_every_container() {
    let dir = tempfile::tempdir().unwrap();
    let x264 = ["-c:v", "libx264", "-g", "50", "-bf", "3", "-c:a", "aac"];
    let x265 =
        ["-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "keyint=40:open-gop=1:bframes=3:log-level=0"];
    let vp9 = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-g", "30", "-c:a", "libopus"];
    let xvid = ["-c:v", "mpeg4", "-g", "20", "-c:a", "libmp3lame"];
    let files: [(&str, &[&str]); 6] =
        [("a.mp4", &x264), ("a.mkv", &x264), ("a.ts", &x264), ("open.mkv", &x265), ("a.webm", &vp9), ("a.avi", &xvid)];
    for (name, args) in files {
        let path = make(dir.path(), name, args);
        let all = frames(&reference(&path));
        for to in [0.0, 0.9, 1.5, 2.0, 2.02, 2.5] {
            let out = dir.path().join("seek.md5");
            let player = play(local(&path), headless(Pace::Clock, Some(out.clone())));
            wait(&player, "first picture", |s| s.phase == PlayerPhase::Ready);
            player.seek(MediaTime::from_secs_f64(to));
            wait(&player, "picture after the seek", |s| s.seeks.len() == 1 && s.phase == PlayerPhase::Ready);
            player.set_gate(true);
            let status = wait(&player, "pictures", |s| ended(s) || s.frames.presented > 8);
            drop(player);
            let ours = frames(&lines(&std::fs::read_to_string(&out).unwrap()));
            assert_eq!(ours[0], all[0], "{name} {to}: the picture from before the seek");
            let first = all.iter().position(|l| *l == ours[1]).expect(name);
            assert!(all[first..].starts_with(&ours[1..]), "{name} {to}: {:?}", &ours[..3.min(ours.len())]);
            let at = all[first].split(',').nth(2).unwrap().trim().parse::<f64>().unwrap() / 25.0;
            assert!(at - to > -0.025 && at - to < 0.065, "{name} {to}: first picture at {at}");
            assert_eq!(status.error, None);
        }
    }
}

#[test]
fn the_small_limits_find_the_same_times_as_ffmpegs_own() {
    let dir = tempfile::tempdir().unwrap();
    let x264: &[&str] = &["-c:v", "libx264", "-g", "50", "-bf", "3", "-c:a", "aac"];
    let x265: &[&str] = &["-c:v", "libx265", "-x265-params", "log-level=none", "-c:a", "aac"];
    let deep: &[&str] = &["-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-c:a", "libmp3lame"];
    let plain = ["a.mp4", "a.mkv", "a.ts", "a.avi", "a.flv"].map(|name| (name, x264));
    for (name, codecs) in plain.into_iter().chain([("b.mp4", x265), ("c.mp4", deep)]) {
        let path = make(dir.path(), name, codecs);
        let [small, full] = [false, true].map(|exact| {
            let reader = super::io::SharedReader::new(local(&path));
            super::open::open(&reader, &Cancel::default(), exact).unwrap().unwrap()
        });
        let of = |o: &super::open::Opened| {
            let rate = o.video.as_ref().unwrap().frame_rate;
            (o.timing.start_us, o.timing.duration, rate.numerator() / rate.denominator().max(1), o.description.clone())
        };
        assert_eq!(of(&small), of(&full), "{name}");
    }
}

#[test]
fn no_picture_is_decoded_to_learn_what_the_tables_of_an_mp4_say() {
    let dir = tempfile::tempdir().unwrap();
    let path = mp4(dir.path());
    let pixels = [false, true].map(|exact| {
        let reader = super::io::SharedReader::new(local(&path));
        let opened = super::open::open(&reader, &Cancel::default(), exact).unwrap().unwrap();
        assert!(opened.audio.is_some());
        // SAFETY: the parameters live as long as the track. The format of pixels is what a decoder alone says.
        unsafe { (*opened.video.unwrap().params.as_ptr()).format }
    });
    assert!(pixels[0] < 0 && pixels[1] >= 0, "{pixels:?}");
}

/// A file whose bytes from `open_to` on have not arrived; counts what is read.
struct Arriving {
    bytes: Vec<u8>,
    open_to: Mutex<u64>,
    came: Condvar,
    read: AtomicU64,
    /// Somebody waits for bytes that are not there.
    blocked: AtomicBool,
}

impl Arriving {
    fn new(path: &Path, open_to: u64) -> Arc<Self> {
        let bytes = std::fs::read(path).unwrap();
        Arc::new(Self {
            bytes,
            open_to: Mutex::new(open_to),
            came: Condvar::new(),
            read: AtomicU64::new(0),
            blocked: AtomicBool::new(false),
        })
    }

    fn arrive(&self, upto: u64) {
        *self.open_to.lock().unwrap() = upto;
        self.came.notify_all();
    }
}

impl ByteSource for Arriving {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8], cancel: &Cancel) -> io::Result<usize> {
        let mut open = self.open_to.lock().unwrap();
        while offset >= *open {
            if cancel.is_set() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.blocked.store(true, Ordering::Release);
            open = self.came.wait_timeout(open, Duration::from_millis(20)).unwrap().0;
        }
        let end = (*open).min(self.len()).min(offset + buf.len() as u64);
        let part = &self.bytes[offset as usize..end as usize];
        buf[..part.len()].copy_from_slice(part);
        self.read.fetch_add(part.len() as u64, Ordering::Relaxed);
        Ok(part.len())
    }
}

/// Noise, so that three seconds are some megabytes.
fn heavy(dir: &Path, name: &str) -> PathBuf {
    heavy_with(dir, name, "aac")
}

fn heavy_with(dir: &Path, name: &str, sound: &str) -> PathBuf {
    let args = ["-vf", "noise=alls=60:allf=t", "-c:v", "libx264", "-preset", "ultrafast", "-b:v", "8M", "-g", "25"];
    make(dir, name, &[&args[..], &["-c:a", sound, "-movflags", "+faststart"]].concat())
}

#[test]
fn the_first_picture_needs_little_more_than_its_own_bytes() {
    let dir = tempfile::tempdir().unwrap();
    for (name, sound) in
        [("a.mp4", "aac"), ("a.mkv", "aac"), ("b.mp4", "libmp3lame"), ("c.mp4", "ac3"), ("d.mp4", "eac3")]
    {
        let source = Arriving::new(&heavy_with(dir.path(), name, sound), 200_000);
        let player = play(Reader::new(source.clone()), headless(Pace::Clock, None));
        wait(&player, "first picture from 200 000 bytes", |s| s.first_frame.is_some());
        assert!(source.bytes.len() > 3_000_000 && source.read.load(Ordering::Relaxed) < 400_000, "{name}");
    }
}

#[test]
fn a_seek_shows_its_picture_before_the_following_ones_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let source = Arriving::new(&heavy(dir.path(), "heavy.mp4"), u64::MAX);
    let player = play(Reader::new(source.clone()), headless(Pace::Clock, None));
    wait(&player, "first picture", |s| s.phase == PlayerPhase::Ready);
    let index = player.index().unwrap();
    let goal = MediaTime::from_secs_f64(2.0);
    // Index times are decoding times: the key frame at the goal lies two frames before.
    let key = index.points.iter().filter(|p| p.1.0 >= goal.0 - 80_000).map(|p| p.0).min().unwrap();
    drop(player);
    source.arrive(key + 250_000);
    let player = play(Reader::new(source.clone()), headless(Pace::Clock, None));
    player.seek(goal);
    wait(&player, "picture at the goal", |s| s.seeks.len() == 1);
}

#[test]
fn it_starves_waits_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = heavy(dir.path(), "heavy.mp4");
    let source = Arriving::new(&path, 0);
    source.arrive(source.len() / 3);
    let out = dir.path().join("out.md5");
    let player = play(Reader::new(source.clone()), headless(Pace::Clock, Some(out.clone())));
    player.set_gate(true);
    let status = wait(&player, "stall", |s| s.phase == PlayerPhase::Starved);
    assert_eq!(status.stalls.len(), 1);
    player.set_gate(false);
    source.arrive(source.len());
    wait(&player, "refill", |s| s.queued_s > 0.3);
    assert_eq!(player.status().phase, PlayerPhase::Starved, "the gate is closed");
    player.set_gate(true);
    let status = wait(&player, "end", ended);
    drop(player);
    assert_eq!((status.error, status.stalls.len()), (None, 1));
    assert!(status.stalls[0].lasted > Duration::ZERO);
    assert_eq!(lines(&std::fs::read_to_string(&out).unwrap()), reference(&path));
}

#[test]
fn seeks_end_blocked_reads_and_a_storm_of_them_goes_to_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let path = heavy(dir.path(), "heavy.mp4");
    let source = Arriving::new(&path, 0);
    source.arrive(source.len() / 3);
    let player = play(Reader::new(source.clone()), headless(Pace::Clock, None));
    player.set_paused(true);
    player.set_gate(true);
    wait(&player, "first picture", |s| s.phase == PlayerPhase::Paused);
    for i in 0..50 {
        player.seek(MediaTime::from_secs_f64(2.0 + f64::from(i) / 100.0));
    }
    assert_eq!(player.status().phase, PlayerPhase::Seeking);
    source.arrive(source.len());
    let status = wait(&player, "picture after the storm", |s| s.phase == PlayerPhase::Paused);
    assert_eq!(status.seeks.last().unwrap().to, MediaTime::from_secs_f64(2.49));
    assert_eq!(status.at, MediaTime::from_secs_f64(2.49));
    // Back to where the bytes have been all the time.
    player.seek(MediaTime::from_secs_f64(0.5));
    wait(&player, "picture after seeking back", |s| s.phase == PlayerPhase::Paused && s.at.0 == 500_000);
}

#[test]
fn dropping_it_ends_a_blocked_open_and_a_blocked_read_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = heavy(dir.path(), "heavy.mp4");
    for open in [0, 1000, 300_000] {
        let source = Arriving::new(&path, open);
        let player = play(Reader::new(source.clone()), headless(Pace::Clock, None));
        wait(&player, "blocked read", |_| source.blocked.load(Ordering::Acquire));
        let (done, dropped) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            drop(player);
            done.send(()).unwrap();
        });
        dropped.recv_timeout(LIMIT).expect("dropping hangs");
    }
}

#[test]
fn the_window_gets_planes_and_the_seeked_picture_while_paused() {
    let dir = tempfile::tempdir().unwrap();
    let path = mp4(dir.path());
    let options = PlayerOptions { audio: AudioSink::Null, ..PlayerOptions::default() };
    let player = play(local(&path), options);
    player.set_paused(true);
    wait(&player, "first picture", |s| s.phase == PlayerPhase::Paused);
    let tap = player.pictures();
    let first = tap.current(Duration::ZERO).unwrap();
    assert_eq!((first.width, first.height), (320, 180));
    assert_eq!((first.planes[1].width, first.planes[1].height), (160, 90));
    assert!(first.planes[0].data.bytes().len() >= first.planes[0].stride * 179 + 320);
    assert_eq!(tap.next_in(Duration::ZERO), None);
    player.seek(MediaTime::from_secs_f64(1.5));
    wait(&player, "seek", |s| s.seeks.len() == 1 && s.phase == PlayerPhase::Paused);
    let second = tap.current(Duration::ZERO).unwrap();
    assert_ne!(first.serial, second.serial);
    player.seek(MediaTime::from_secs_f64(900.0));
    let status = wait(&player, "seek past the end", |s| s.seeks.len() == 2);
    assert!(status.at.0 <= 3_100_000, "{status:?}");
    assert_ne!(tap.current(Duration::ZERO).unwrap().serial, second.serial);
}

#[test]
fn the_index_is_on_the_media_clock_and_covers_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = heavy(dir.path(), "heavy.mp4");
    let player = play(local(&path), headless(Pace::Clock, None));
    wait(&player, "first picture", |s| s.phase == PlayerPhase::Ready);
    let index = player.index().unwrap();
    let len = std::fs::metadata(&path).unwrap().len();
    assert!(index.points.len() >= 40, "{}", index.points.len());
    assert!(index.points.iter().all(|p| p.0 < len && p.1 <= index.duration));
    assert!(index.points.iter().any(|p| p.1 == MediaTime::ZERO));
    assert!((index.duration.as_secs_f64() - 3.0).abs() < 0.1);
}

#[test]
fn bad_files_give_one_sentence_and_damage_does_not_end_the_play() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text.mp4");
    std::fs::write(&text, "not a video\n".repeat(5000)).unwrap();
    let player = play(local(&text), headless(Pace::None, None));
    let status = wait(&player, "failure", ended);
    assert_eq!(status.error.as_deref(), Some("This is not a video, or its beginning is damaged."));

    let playlist = dir.path().join("list.mp4");
    std::fs::write(&playlist, "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n")
        .unwrap();
    let player = play(local(&playlist), headless(Pace::None, None));
    assert!(wait(&player, "failure", ended).error.is_some());

    let whole = std::fs::read(heavy(dir.path(), "a.mp4")).unwrap();
    let cut = dir.path().join("cut.mp4");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let player = play(local(&cut), headless(Pace::None, None));
    let status = wait(&player, "end", ended);
    assert_eq!((status.phase, status.error), (PlayerPhase::Ended, None));
    assert!(status.frames.decoded > 20 && status.frames.decoded < 75);

    let mut damaged = whole;
    let half = damaged.len() / 2;
    damaged[half..half + 20_000].fill(0xA5);
    let bad = dir.path().join("bad.mp4");
    std::fs::write(&bad, damaged).unwrap();
    let player = play(local(&bad), headless(Pace::None, None));
    let status = wait(&player, "end", ended);
    assert_eq!((status.phase, status.error), (PlayerPhase::Ended, None));
    assert!(status.frames.decoded > 60, "{:?}", status.frames);
}

#[test]
fn a_codec_nobody_has_is_named_and_play_after_the_end_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = mp4(dir.path());
    let mut strange = std::fs::read(&path).unwrap();
    let at = strange.windows(4).position(|w| w == b"avc1").unwrap();
    // The second one is the sample entry; the first is a brand.
    let next = strange[at + 4..].windows(4).position(|w| w == b"avc1").unwrap() + at + 4;
    strange[next..next + 4].copy_from_slice(b"zz9z");
    let odd = dir.path().join("odd.mp4");
    std::fs::write(&odd, strange).unwrap();
    let player = play(local(&odd), headless(Pace::None, None));
    let error = wait(&player, "failure", ended).error.unwrap();
    assert!(error.ends_with("which this build of FFmpeg cannot decode."), "{error}");

    let player = play(local(&path), headless(Pace::Clock, None));
    player.seek(MediaTime::from_secs_f64(2.7));
    player.set_gate(true);
    wait(&player, "end", ended);
    player.seek(MediaTime::from_secs_f64(2.6));
    wait(&player, "play after the end", |s| s.phase == PlayerPhase::Playing);
    let status = wait(&player, "second end", ended);
    assert_eq!((status.phase, status.seeks.len()), (PlayerPhase::Ended, 2));
}

/// Bytes whose end is lost for good.
struct Failing(Vec<u8>);

impl ByteSource for Failing {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8], _: &Cancel) -> io::Result<usize> {
        let end = (self.0.len() / 2).min(offset as usize + buf.len());
        let part = self.0.get(offset as usize..end).filter(|p| !p.is_empty());
        let part = part.ok_or_else(|| io::Error::other("The disk is full."))?;
        buf[..part.len()].copy_from_slice(part);
        Ok(part.len())
    }
}

#[test]
fn what_came_before_a_lost_disk_is_played_and_then_the_reason_shown() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(heavy(dir.path(), "a.mp4")).unwrap();
    let player = play(Reader::new(Arc::new(Failing(bytes))), headless(Pace::None, None));
    let status = wait(&player, "failure", ended);
    assert_eq!(status.error.as_deref(), Some("The disk is full."));
    assert!(status.frames.presented > 20);
}

#[test]
fn sound_alone_plays_and_a_silent_film_plays() {
    let dir = tempfile::tempdir().unwrap();
    let flac = make(dir.path(), "a.flac", &["-vn", "-t", "1"]);
    let player = play(local(&flac), headless(Pace::Clock, None));
    player.set_gate(true);
    let status = wait(&player, "end", ended);
    assert_eq!(status.error, None);
    assert!(status.played > Duration::from_millis(900), "{status:?}");
    let silent = make(dir.path(), "a.mp4", &["-an", "-t", "1", "-c:v", "libx264"]);
    let (ours, status) = md5_of(&silent, Pace::Clock, dir.path());
    assert_eq!(status.error, None);
    assert_eq!(ours, reference(&silent));
}

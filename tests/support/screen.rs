//! A screen, a window manager and a sound card of a test's own: Xvfb, openbox, a PulseAudio null sink.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::{Guard, tool};
use super::{TempDir, temp_dir, text, wait_for};

/// Every window fills the screen, without a frame; Alt+F4 closes it as a close button would.
const OPENBOX: &str = r#"<openbox_config xmlns="http://openbox.org/3.4/rc">
<keyboard><keybind key="A-F4"><action name="Close"/></keybind></keyboard>
<applications><application class="*"><decor>no</decor><focus>yes</focus><maximized>yes</maximized></application></applications>
</openbox_config>"#;

/// Long enough for anything here to come up on a machine that is slow and busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// All there is to see and hear; ends with the guard.
pub struct Screen {
    pub display: String,
    pub width: usize,
    pub height: usize,
    dir: TempDir,
    // Ended in this order: what draws and listens before what it draws on.
    _guards: Vec<Guard>,
}

/// A picture of the whole screen, three bytes a pixel.
pub struct Shot {
    pub width: usize,
    pub height: usize,
    rgb: Vec<u8>,
}

impl Screen {
    pub fn start(width: usize, height: usize) -> Screen {
        let dir = temp_dir();
        let mut xvfb = Command::new("Xvfb");
        let size = format!("{width}x{height}x24");
        xvfb.args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            &size,
            "+extension",
            "GLX",
            "+extension",
            "RANDR",
            "-nolisten",
            "tcp",
            // Else it starts anew when its last client leaves, and the first look for a window manager may be that: one that
            // connects at the same moment ends.
            "-noreset",
        ]);
        let mut xvfb = Guard::spawn(xvfb.stdout(Stdio::piped()).stderr(Stdio::null()), None);
        let mut number = String::new();
        BufReader::new(xvfb.child.stdout.take().unwrap()).read_line(&mut number).unwrap();
        assert!(!number.trim().is_empty(), "Xvfb did not start");
        let mut screen = Screen { display: format!(":{}", number.trim()), width, height, dir, _guards: Vec::new() };
        std::fs::create_dir(screen.runtime()).unwrap();
        let asound = "</usr/share/alsa/alsa.conf>\npcm.!default { type pulse }\nctl.!default { type pulse }\n";
        std::fs::write(screen.dir.path().join("asound.conf"), asound).unwrap();
        let (rc, log) = (screen.dir.path().join("rc.xml"), screen.dir.path().join("openbox.log"));
        std::fs::write(&rc, OPENBOX).unwrap();
        let mut openbox = Command::new("openbox");
        let openbox = Guard::spawn(screen.beside(&mut openbox).args(["--config-file", text(&rc)]), Some(&log));
        // Without it there is no active window, and a key goes nowhere.
        wait_for("the window manager", PATIENCE, || {
            let mut c = Command::new("xdotool");
            screen.beside(&mut c).arg("get_num_desktops").output().unwrap().status.success().then_some(())
        });
        let socket = format!("module-native-protocol-unix auth-anonymous=1 socket={}/native", text(&screen.runtime()));
        let sink = "module-null-sink sink_name=cap rate=48000 channels=2";
        let log = screen.dir.path().join("pulse.log");
        let mut pulse = Guard::spawn(
            screen
                .beside(&mut Command::new("pulseaudio"))
                .args(["-n", "--daemonize=no", "--exit-idle-time=-1"])
                .args(["--use-pid-file=no", "--disable-shm=yes", "-L", &socket, "-L", sink]),
            Some(&log),
        );
        wait_for("PulseAudio", PATIENCE, || {
            assert!(pulse.runs(), "pulseaudio ended: {}", pulse.log());
            let list = screen.beside(&mut Command::new("pactl")).args(["list", "short", "sinks"]).output().unwrap();
            String::from_utf8_lossy(&list.stdout).contains("cap").then_some(())
        });
        // An idle null sink stalls the first callbacks of whoever plays: somebody must listen.
        let parec = Guard::spawn(
            screen.beside(&mut Command::new("parec")).args([
                "--rate=48000",
                "--latency-msec=20",
                "-d",
                "cap.monitor",
                "/dev/null",
            ]),
            None,
        );
        screen._guards = vec![parec, openbox, pulse, xvfb];
        screen
    }

    /// Sets a command up to run on this screen.
    pub fn beside<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("DISPLAY", &self.display)
            .env_remove("WAYLAND_DISPLAY")
            .env("HOME", self.dir.path())
            .env("XDG_RUNTIME_DIR", self.runtime())
            .env("PULSE_SERVER", format!("unix:{}/native", text(&self.runtime())))
            .env("ALSA_CONFIG_PATH", self.dir.path().join("asound.conf"))
            .env("LIBGL_ALWAYS_SOFTWARE", "1")
    }

    pub fn runtime(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    /// What the screen shows now.
    pub fn shot(&self) -> Shot {
        let mut import = Command::new("import");
        let out = tool(self.beside(&mut import).args(["-window", "root", "-depth", "8", "rgb:-"]));
        assert_eq!(out.stdout.len(), self.width * self.height * 3, "a picture of the whole screen");
        Shot { width: self.width, height: self.height, rgb: out.stdout }
    }

    /// Keeps a picture of the screen for people to look at, in the build folder.
    pub fn keep(&self, name: &str) -> PathBuf {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("shots");
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(format!("{name}.png"));
        let mut import = Command::new("import");
        tool(self.beside(&mut import).args(["-window", "root", text(&path)]));
        path
    }

    /// Runs xdotool and gives what it said.
    pub fn xdotool(&self, args: &[&str]) -> String {
        let mut c = Command::new("xdotool");
        String::from_utf8(tool(self.beside(&mut c).args(args)).stdout).unwrap()
    }

    /// Waits for the window of a process, brings it to the front and gives its id.
    pub fn window_of(&self, process: &mut Guard) -> String {
        let pid = process.pid().to_string();
        let id = wait_for("the window", PATIENCE, || {
            assert!(process.runs(), "the player ended: {}", process.log());
            let mut c = Command::new("xdotool");
            let out = self.beside(&mut c).args(["search", "--onlyvisible", "--pid", &pid]).output().unwrap();
            String::from_utf8_lossy(&out.stdout).lines().last().map(str::to_owned)
        });
        self.xdotool(&["windowactivate", "--sync", &id]);
        id
    }

    /// Drops URIs on a window.
    pub fn drop_on(&self, window: &str, uris: &[&str]) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/xdnd.py");
        // Debian's own Python has the X library.
        let python = if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
        let mut c = Command::new(python);
        tool(self.beside(&mut c).arg(script).arg(window).args(uris));
    }

    /// Puts text on the clipboard; it stays there as long as the guard.
    pub fn clipboard(&self, content: &str) -> Guard {
        let file = self.dir.path().join("clipboard.txt");
        std::fs::write(&file, content).unwrap();
        let mut c = Command::new("xclip");
        let log = self.dir.path().join("xclip.log");
        // Quiet means in the foreground, where its guard can end it.
        let clip = self.beside(&mut c).args(["-quiet", "-selection", "clipboard", "-in", text(&file)]);
        let guard = Guard::spawn(clip, Some(&log));
        wait_for("the clipboard", PATIENCE, || {
            let mut c = Command::new("xclip");
            let out = self.beside(&mut c).args(["-selection", "clipboard", "-out"]).output().unwrap();
            (out.stdout == content.as_bytes()).then_some(())
        });
        guard
    }
}

/// A rectangle on the screen.
#[derive(Debug, Clone, Copy)]
pub struct Area {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

impl Shot {
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let at = (y * self.width + x) * 3;
        [self.rgb[at], self.rgb[at + 1], self.rgb[at + 2]]
    }

    fn pixels(&self, a: Area) -> impl Iterator<Item = [u8; 3]> + '_ {
        let (right, bottom) = ((a.x + a.width).min(self.width), (a.y + a.height).min(self.height));
        (a.y..bottom).flat_map(move |y| (a.x..right).map(move |x| self.pixel(x, y)))
    }

    /// Pixels of a colour, each channel within `tolerance`.
    pub fn count(&self, area: Area, colour: u32, tolerance: u8) -> usize {
        let want = [(colour >> 16) as u8, (colour >> 8) as u8, colour as u8];
        self.pixels(area).filter(|p| (0..3).all(|i| p[i].abs_diff(want[i]) <= tolerance)).count()
    }

    /// Share of the pixels of an area that differ clearly between two pictures, 0 to 1.
    pub fn differs(&self, other: &Shot, area: Area) -> f64 {
        let all = (area.width * area.height) as f64;
        let changed = self.pixels(area).zip(other.pixels(area));
        changed.filter(|(a, b)| (0..3).any(|i| a[i].abs_diff(b[i]) > 12)).count() as f64 / all
    }

    /// Distinct colours in an area, coarsely: an empty surface has few.
    pub fn colours(&self, area: Area) -> usize {
        let set: std::collections::HashSet<[u8; 3]> = self.pixels(area).map(|p| p.map(|c| c >> 3)).collect();
        set.len()
    }

    pub fn whole(&self) -> Area {
        Area { x: 0, y: 0, width: self.width, height: self.height }
    }
}

//! The binary itself, headless, in folders of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::frames::{self, Frame};
use super::process::Guard;
use super::{TempDir, temp_dir};

/// Longest that any headless play of the tests may take; far more than they need.
const LIMIT: Duration = Duration::from_secs(60);

/// How one play went.
#[derive(Debug)]
pub struct Played {
    pub code: Option<i32>,
    /// Standard error and output.
    pub said: String,
    /// What `--report` wrote; null when there was none.
    pub report: Value,
    /// What `--frames-md5` wrote; empty when there was none.
    pub frames: Vec<Frame>,
}

impl Played {
    /// Fails with what the player said when it did not end well.
    pub fn ok(self) -> Played {
        assert_eq!(self.code, Some(0), "{}\nreport: {:#}", self.said, self.report);
        self
    }

    /// A number of the report, by JSON pointer.
    pub fn number(&self, pointer: &str) -> f64 {
        let v = self.report.pointer(pointer).and_then(Value::as_f64);
        v.unwrap_or_else(|| panic!("no number at {pointer} in {:#}\n{}", self.report, self.said))
    }
}

/// A home of its own: settings, history, cache and runtime folder.
pub struct Home {
    pub dir: TempDir,
}

impl Home {
    pub fn new() -> Home {
        let dir = temp_dir();
        for d in ["config", "data", "cache", "state", "run"] {
            std::fs::create_dir(dir.path().join(d)).unwrap();
        }
        Home { dir }
    }

    /// The binary with nothing of the user's around it, and no display.
    pub fn command(&self) -> Command {
        let mut c = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        c.current_dir(self.dir.path()).env("HOME", self.dir.path());
        for (name, dir) in [("CONFIG", "config"), ("DATA", "data"), ("CACHE", "cache"), ("STATE", "state")] {
            c.env(format!("XDG_{name}_HOME"), self.dir.path().join(dir));
        }
        c.env("XDG_RUNTIME_DIR", self.dir.path().join("run"));
        for gone in
            ["DISPLAY", "WAYLAND_DISPLAY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "SLUICEGATE_LOG"]
        {
            c.env_remove(gone);
        }
        c.env("RUST_BACKTRACE", "0");
        c
    }

    /// Runs the binary with these arguments to its end.
    pub fn run<S: Into<OsString>>(&self, args: impl IntoIterator<Item = S>) -> Played {
        self.run_beside(args, |_| ())
    }

    /// The same; `meanwhile` runs while it plays.
    pub fn run_beside<S: Into<OsString>>(
        &self,
        args: impl IntoIterator<Item = S>,
        meanwhile: impl FnOnce(&mut Guard),
    ) -> Played {
        let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
        let value_of = |flag: &str| -> Option<PathBuf> {
            let at = args.iter().position(|a| a == flag)?;
            args.get(at + 1).map(|v| self.dir.path().join(v))
        };
        let (report, frames_file) = (value_of("--report"), value_of("--frames-md5"));
        let mut guard = Guard::spawn(self.command().args(&args), Some(&self.dir.path().join("said.txt")));
        meanwhile(&mut guard);
        let in_time = guard.wait(LIMIT);
        if in_time.is_none() {
            // It is told to end, so that its report says how far it came.
            guard.signal(libc::SIGINT);
            guard.wait(Duration::from_secs(10));
        }
        let read = |p: &Path| std::fs::read_to_string(p).ok();
        let report = report.as_deref().and_then(read).map_or(Value::Null, |t| serde_json::from_str(&t).unwrap());
        let frames = frames_file.as_deref().and_then(read).map(|t| frames::parse(&t)).unwrap_or_default();
        let said = guard.log();
        assert!(!said.contains("panicked at"), "{args:?} panicked:\n{said}");
        let status = in_time.unwrap_or_else(|| {
            panic!("{args:?} still ran after {LIMIT:?}, {} frames:\n{said}\n{report:#}", frames.len());
        });
        Played { code: status.code(), said, report, frames }
    }

    /// `play --headless URI` with a report, and no way to find peers but those given.
    pub fn play<S: Into<OsString>>(&self, uri: impl Into<OsString>, options: impl IntoIterator<Item = S>) -> Played {
        let mut args: Vec<OsString> = vec!["play".into(), "--headless".into(), uri.into()];
        args.extend(["--no-dht", "--no-portmap", "--report", "report.json"].map(OsString::from));
        args.extend(options.into_iter().map(Into::into));
        self.run(args)
    }
}

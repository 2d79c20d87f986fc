//! Child processes that never outlive their test.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Lines of its log that a child of a failed test leaves behind.
const LAST_WORDS: usize = 60;

/// A child in a process group of its own. Dropping it ends the whole group.
pub struct Guard {
    pub child: Child,
    log: Option<PathBuf>,
}

impl Guard {
    /// Starts it; what it says goes to the file `log` where one is given.
    pub fn spawn(command: &mut Command, log: Option<&Path>) -> Guard {
        command.process_group(0).stdin(Stdio::null());
        #[cfg(target_os = "linux")]
        // SAFETY: prctl is a plain system call, allowed between fork and exec. A child whose test's thread ends without
        // dropping its guard (the run was interrupted) is ended by the kernel.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            })
        };
        if let Some(log) = log {
            let file = File::create(log).unwrap();
            command.stdout(file.try_clone().unwrap()).stderr(file);
        }
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot start {:?}: {e}", command.get_program()));
        Guard { child, log: log.map(Path::to_owned) }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits for its end; `None` when it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            if Instant::now() >= end {
                return None;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: i32) {
        // SAFETY: kill has no memory effects; the child is ours and not yet waited for, so its id is still its own.
        unsafe { libc::kill(self.pid() as i32, signal) };
    }

    /// All it said so far.
    pub fn log(&self) -> String {
        self.log
            .as_ref()
            .map(|p| String::from_utf8_lossy(&std::fs::read(p).unwrap_or_default()).into_owned())
            .unwrap_or_default()
    }

    /// The most memory it has held so far, bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
    }

    /// Seconds of processor time it has used so far.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // The name in parentheses may hold spaces; utime and stime are the 14th and 15th field.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        // SAFETY: sysconf takes no pointers.
        ticks / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let last: Vec<&str> = log.lines().rev().take(LAST_WORDS).collect();
            let last: Vec<&str> = last.into_iter().rev().collect();
            eprintln!("the last that process {} said:\n{}", self.pid(), last.join("\n"));
        }
        if self.child.try_wait().is_ok_and(|s| s.is_none()) {
            let group = -(self.child.id() as i32);
            // SAFETY: as above; the group was made by us and its leader is not yet waited for.
            unsafe { libc::kill(group, libc::SIGTERM) };
            if self.wait(Duration::from_secs(3)).is_none() {
                // SAFETY: as above.
                unsafe { libc::kill(group, libc::SIGKILL) };
                let _ = self.child.wait();
            }
        }
    }
}

/// Runs a tool to its end and gives what it wrote; fails with its words when it fails.
pub fn tool(command: &mut Command) -> Output {
    let name = command.get_program().to_string_lossy().into_owned();
    let out = command.stdin(Stdio::null()).output().unwrap_or_else(|e| {
        panic!("cannot start {name}: {e}; packaging/test installs all that the tests need");
    });
    assert!(out.status.success(), "{name} failed: {}", String::from_utf8_lossy(&out.stderr));
    out
}

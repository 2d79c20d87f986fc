//! What the system knows of this process: when it started, what it used.

use std::time::{Duration, Instant};

/// An older process was replaced by `exec` from a script (a build, say): its age says nothing about us.
const BELIEVABLE: Duration = Duration::from_secs(2);

/// When this process was started, so that loading and linking count; `fallback` where the system does not say.
pub fn started(fallback: Instant) -> Instant {
    age().filter(|a| *a < BELIEVABLE).and_then(|a| Instant::now().checked_sub(a)).unwrap_or(fallback).min(fallback)
}

#[cfg(target_os = "linux")]
fn age() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let ticks = start_ticks(&stat)?;
    // SAFETY: sysconf takes no pointer and only reads.
    let per_s = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    let per_s = u64::try_from(per_s).ok().filter(|n| *n > 0)?;
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec for the call to fill.
    if unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut now) } != 0 {
        return None;
    }
    let now = Duration::new(now.tv_sec.try_into().ok()?, now.tv_nsec.try_into().ok()?);
    let start = Duration::from_secs_f64(ticks as f64 / per_s as f64);
    now.checked_sub(start)
}

#[cfg(not(target_os = "linux"))]
fn age() -> Option<Duration> {
    None
}

/// Field 22 of /proc/self/stat. The second field is the program's name in brackets and may hold anything.
#[cfg(target_os = "linux")]
fn start_ticks(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Allows this process as many open files as the system lets it: a crowd of peers must not use up those that the film and
/// its servers need. 1024 is customary to start with, and each connection is one.
#[cfg(unix)]
pub fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is valid for the one struct that the call fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return;
    }
    let wanted = limit.rlim_max.min(FILES);
    if limit.rlim_cur < wanted {
        limit.rlim_cur = wanted;
        // SAFETY: the call only reads the struct. Where it is refused the customary number has to do.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
}

#[cfg(not(unix))]
pub fn raise_file_limit() {}

/// More than all links, handshakes and files of a torrent can use; macOS refuses more than 10240.
#[cfg(unix)]
const FILES: libc::rlim_t = 10_240;

/// What the process used so far.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Usage {
    /// Processor time of all threads, in user and system mode.
    pub cpu: Duration,
    /// The most memory it ever had resident, bytes.
    pub rss_peak: u64,
}

/// Zeros where the system does not say.
#[cfg(unix)]
pub fn usage() -> Usage {
    let mut u = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is valid for one rusage, which the call fills; all zeros is a valid rusage anyway.
    let u = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, u.as_mut_ptr()) != 0 {
            return Usage::default();
        }
        u.assume_init()
    };
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec.try_into().unwrap_or(0)) + Duration::from_micros(t.tv_usec.try_into().unwrap_or(0))
    };
    // Linux counts in KiB, macOS in bytes.
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    let maxrss = u64::try_from(u.ru_maxrss).unwrap_or(0).saturating_mul(unit);
    Usage { cpu: time(u.ru_utime) + time(u.ru_stime), rss_peak: own_rss_peak().unwrap_or(maxrss) }
}

/// Linux carries `ru_maxrss` through `exec`: there it is at least what the program held that started this one, a test of 300 MB
/// for a player of 60. What /proc says of the address space begins with it (proc_pid_status(5)).
#[cfg(target_os = "linux")]
fn own_rss_peak() -> Option<u64> {
    vm_hwm(&std::fs::read_to_string("/proc/self/status").ok()?)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn own_rss_peak() -> Option<u64> {
    None
}

/// The line `VmHWM`, in bytes; the file calls its KiB kB.
#[cfg(target_os = "linux")]
fn vm_hwm(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

/// Zeros where the system does not say.
#[cfg(not(unix))]
pub fn usage() -> Usage {
    Usage::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_never_after_the_fallback() {
        let now = Instant::now();
        assert!(started(now) <= now);
        assert!(usage().rss_peak > 0 || !cfg!(unix));
    }

    #[test]
    #[cfg(unix)]
    fn the_limit_of_open_files_never_falls() {
        let now = || {
            let mut l = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            // SAFETY: the pointer is valid for the one struct that the call fills.
            assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut l) }, 0);
            (l.rlim_cur, l.rlim_max)
        };
        let (before, most) = now();
        raise_file_limit();
        assert_eq!(now(), (before.max(most.min(FILES)), most));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_is_that_of_the_address_space() {
        assert_eq!(vm_hwm("Name:\tVmHWM: 7\nVmPeak:\t 9 kB\nVmHWM:\t   60028 kB\n"), Some(60_028 * 1024));
        assert_eq!(vm_hwm("VmHWM:\t60028\nVmRSS:\t 1 kB\n"), None);
        assert!(own_rss_peak().is_some_and(|p| p > 1 << 20));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_program_may_be_called_anything() {
        let fields: Vec<String> = (3..=52).map(|n: u32| n.to_string()).collect();
        let stat = format!("77 (a) b) (c) {}", fields.join(" "));
        assert_eq!(start_ticks(&stat), Some(22));
        assert_eq!(start_ticks("nonsense"), None);
    }
}

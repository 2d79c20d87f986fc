//! How many sockets and files may be open.

/// Files the process has for itself: its libraries, the log, the runtime, connections to a bucket.
const OWN: usize = 128;

/// Where the system does not say, or says that there is no limit.
const PLENTY: usize = 1 << 17;

/// Raises the soft limit of open files to what the system lets us have, and answers how many there are for connections and
/// for the files they read.
pub fn raise() -> usize {
    system().clamp(OWN * 2, PLENTY) - OWN
}

#[cfg(unix)]
fn system() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a struct of ours that outlives the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return OWN * 2;
    }
    let wanted = limit.rlim_max.min(PLENTY as libc::rlim_t);
    if limit.rlim_cur < wanted {
        let raised = libc::rlimit { rlim_cur: wanted, rlim_max: limit.rlim_max };
        // SAFETY: the pointer is to a struct of ours that outlives the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0 {
            limit = raised;
        }
    }
    usize::try_from(limit.rlim_cur).unwrap_or(PLENTY)
}

#[cfg(not(unix))]
fn system() -> usize {
    PLENTY
}

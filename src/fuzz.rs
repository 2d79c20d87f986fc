//! What the fuzzers feed (tests/fuzz), and what must hold whatever they feed: besides not panicking each target checks that
//! what was read is within its bounds and reads the same when written anew, and [`run`] that no more memory was held than
//! the input's size accounts for.
//!
//! Built for tests and under `cfg(fuzzing)` alone. The tests below replay the corpus that the fuzzers left.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[cfg(any(feature = "gui", fuzzing))]
use crate::app;
use crate::{serve, swarm, torrent};

/// One way in for bytes from outside.
pub struct Target {
    pub name: &'static str,
    /// Reads the input and asserts what must hold.
    run: fn(&[u8]),
    /// The most memory it may hold at a time: this much for each byte of the input …
    per_byte: usize,
    /// … and this much whatever the input, in bytes.
    base: usize,
}

/// All of them. The figures are about twice what the fuzzers found to be the worst.
pub const TARGETS: &[Target] = &[
    Target { name: "wire", run: swarm::fuzz::wire, per_byte: 64, base: 64 << 10 },
    Target { name: "extension", run: swarm::fuzz::extension, per_byte: 256, base: 256 << 10 },
    Target { name: "mse", run: swarm::fuzz::mse, per_byte: 1024, base: 256 << 10 },
    Target { name: "tracker", run: swarm::fuzz::tracker, per_byte: 128, base: 64 << 10 },
    Target { name: "metainfo", run: torrent::fuzz::metainfo, per_byte: 512, base: 64 << 10 },
    Target { name: "magnet", run: torrent::fuzz::magnet, per_byte: 64, base: 1 << 20 },
    Target { name: "resume", run: torrent::fuzz::resume, per_byte: 16, base: 64 << 10 },
    #[cfg(any(feature = "gui", fuzzing))]
    Target { name: "settings", run: app::fuzz::settings, per_byte: 512, base: 64 << 10 },
    #[cfg(any(feature = "gui", fuzzing))]
    Target { name: "open", run: app::fuzz::open, per_byte: 64, base: 512 << 10 },
    Target { name: "request", run: serve::fuzz::request, per_byte: 64, base: 64 << 10 },
];

/// Runs one target over one input. Panics where something that must hold does not.
pub fn run(name: &str, input: &[u8]) {
    let found = TARGETS.iter().find(|t| t.name == name);
    assert!(found.is_some(), "there is no target {name}");
    let Some(t) = found else { return };
    let held = held_by(|| (t.run)(input));
    let most = t.base + t.per_byte * input.len();
    assert!(held <= most, "{name} held {held} bytes for an input of {}", input.len());
}

/// The most bytes that `f` held at a time, by its own thread.
fn held_by(f: impl FnOnce()) -> usize {
    let before = LIVE.get();
    PEAK.set(before);
    f();
    usize::try_from(PEAK.get() - before).unwrap_or(0)
}

thread_local! {
    /// Bytes this thread holds, less what it gave back of others', and the most since [`held_by`] began.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(change: isize) {
    // At the end of a thread its counters are gone, and of no more interest.
    let _ = LIVE.try_with(|live| {
        let now = live.get() + change;
        live.set(now);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    });
}

// SAFETY: each call is handed on to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it moves, both are held.
        count(size as isize);
        // SAFETY: as above.
        let moved = unsafe { System.realloc(ptr, layout, size) };
        count(-(layout.size() as isize));
        moved
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn corpus(target: &str) -> Vec<PathBuf> {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
        let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        entries.map(|e| e.unwrap().path()).collect()
    }

    #[test]
    fn all_that_the_fuzzers_ever_found_still_holds() {
        for t in TARGETS {
            let files = corpus(t.name);
            assert!(files.len() >= 10, "the corpus of {} is not there", t.name);
            for file in files {
                let input = std::fs::read(&file).unwrap();
                let held = std::panic::catch_unwind(|| run(t.name, &input));
                assert!(held.is_ok(), "cargo fuzz run --fuzz-dir tests/fuzz {} {}", t.name, file.display());
            }
        }
    }

    #[test]
    fn what_is_held_is_counted() {
        let held = held_by(|| {
            drop(vec![1u8; 1 << 20]);
            let mut grown = vec![0u8; 1000];
            grown.resize(100_000, 0);
        });
        assert!((1 << 20..(1 << 20) + 4096).contains(&held), "{held}");
        assert!(held_by(|| ()) < 100);
    }

    #[test]
    fn every_target_has_its_fuzzer() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
        let manifest = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        for t in TARGETS {
            let source = std::fs::read_to_string(dir.join(format!("fuzz_targets/{}.rs", t.name))).unwrap();
            assert!(source.contains(&format!("\"{}\"", t.name)) && manifest.contains(&format!("\"{}\"", t.name)));
        }
    }
}

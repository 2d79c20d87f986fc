//! A disk that does not take the bytes: full, or not to be written to.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::nginx::Nginx;
use crate::support::player::Home;
use crate::support::process::tool;
use crate::support::torrent::Torrent;
use crate::support::{TempDir, media, temp_dir, text};
use crate::{Case, readable};

/// A small file system in memory; it is let go of with the guard.
struct Tmpfs {
    dir: TempDir,
}

impl Tmpfs {
    /// `None` where this user may not mount anything.
    fn mount(kib: u32) -> Option<Tmpfs> {
        let dir = temp_dir();
        let size = format!("size={kib}k");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs", text(dir.path())]).output();
        match done {
            Ok(out) if out.status.success() => Some(Tmpfs { dir }),
            _ => {
                eprintln!("Not tested: mounting a small file system takes root.");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn read_only(&self) {
        tool(Command::new("mount").args(["-o", "remount,ro", text(self.path())]));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--lazy", text(self.path())]).status();
    }
}

/// A film of 4 MB from a web seed into the cache folder: ends with a sentence, soon, and not as bad input.
fn cannot_be_kept(cache: &Path, word: &str) {
    let case = Case::new();
    let film = media::mp4();
    let web = Nginx::serve(film.parent().unwrap(), None);
    let t = Torrent::of(&film, case.dir.path(), 32).with_web_seeds(&[web.url("clip.mp4")]);
    let played = Home::new().play(t.path, ["--no-swarm", "--cache", text(cache)]);
    assert!(matches!(played.code, Some(1 | 2)), "{:?}: {}", played.code, played.said);
    assert!(readable(&played.said), "{:?}", played.said);
    assert!(played.said.contains(word), "it should speak of {word:?}: {:?}", played.said);
}

#[test]
fn a_disk_that_fills_up() {
    if let Some(small) = Tmpfs::mount(1024) {
        cannot_be_kept(&small.path().join("cache"), "full");
    }
}

#[test]
fn a_disk_that_is_full_from_the_start() {
    if let Some(small) = Tmpfs::mount(64) {
        let filled = std::fs::write(small.path().join("filler"), vec![1; 1 << 20]);
        assert!(filled.is_err(), "64 KiB took a megabyte");
        cannot_be_kept(&small.path().join("cache"), "full");
    }
}

#[test]
fn a_cache_on_a_read_only_disk() {
    if let Some(small) = Tmpfs::mount(1024) {
        let cache = small.path().join("cache");
        std::fs::create_dir(&cache).unwrap();
        small.read_only();
        cannot_be_kept(&cache, "written");
    }
}

#[test]
fn a_cache_that_is_no_folder() {
    // SAFETY: geteuid takes and changes nothing.
    let root = unsafe { libc::geteuid() } == 0;
    let case = Case::new();
    // For root no permission forbids anything: a file where the folder should be does.
    let cache = if root { case.file("cache", b"") } else { PathBuf::from("/proc/cache") };
    cannot_be_kept(&cache, "cache");
}

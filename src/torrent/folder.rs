//! A folder of ours on disk, and files below it, opened without ever following a link.
//!
//! Invariant: every path is walked from the folder's own descriptor one component at a time, and a symbolic link at any
//! of them is an error. Whoever can write to the cache folder cannot make the player write elsewhere.

use std::fs::File;
use std::io;
use std::path::{Component, Path};

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// Reading too; made, with its folders, when it is not there.
    Write,
}

/// The names along a relative path; an error for any other kind of path.
fn names(path: &Path) -> io::Result<Vec<&std::ffi::OsStr>> {
    let names: Option<Vec<_>> = path
        .components()
        .map(|c| match c {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    names
        .filter(|n| !n.is_empty())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "not a path below the folder"))
}

/// A device, pipe or folder under the name of a file is none of ours.
fn regular(file: File) -> io::Result<File> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::IsADirectory.into()) }
}

#[cfg(unix)]
pub(crate) use unix::Folder;

#[cfg(unix)]
mod unix {
    use std::ffi::{CString, OsStr};
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt};

    use super::{Access, File, Path, io, names, regular};

    pub(crate) struct Folder {
        fd: OwnedFd,
    }

    impl Folder {
        /// Opens a folder by any path, made if need be. Links on the way here are the user's own.
        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            Ok(Self { fd: File::open(path)?.into() })
        }

        /// A folder directly in this one, made if need be; true when it was made. Fails on one that another user
        /// owns: in a shared cache folder anybody can make one of that name first.
        pub(in crate::torrent) fn sub(&self, name: &str) -> io::Result<(Self, bool)> {
            let (fd, made) = enter(self.fd.as_fd(), OsStr::new(name), true)?;
            let owner = File::from(fd.try_clone()?).metadata()?.uid();
            // SAFETY: geteuid has no preconditions and cannot fail.
            let me = unsafe { libc::geteuid() };
            if owner != me && me != 0 {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            Ok((Self { fd }, made))
        }

        /// A regular file below this folder.
        pub(crate) fn file(&self, path: &Path, access: Access) -> io::Result<File> {
            let names = names(path)?;
            let Some((name, folders)) = names.split_last() else { return Err(io::ErrorKind::InvalidInput.into()) };
            let mut at: Option<OwnedFd> = None;
            for folder in folders {
                let from = at.as_ref().map_or(self.fd.as_fd(), |fd| fd.as_fd());
                at = Some(enter(from, folder, access == Access::Write)?.0);
            }
            let flags = match access {
                Access::Read => libc::O_RDONLY,
                Access::Write => libc::O_RDWR | libc::O_CREAT,
            };
            // Without blocking, so that a pipe of that name does not hang us; no effect on a file.
            let fd = open_at(at.as_ref().map_or(self.fd.as_fd(), |fd| fd.as_fd()), name, flags | libc::O_NONBLOCK)?;
            regular(fd.into())
        }

        /// Puts a small file in place whole: after a crash it is the old one or the new one.
        pub(in crate::torrent) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
            use std::io::Write;
            let temp = format!("{name}.new");
            let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
            let mut file = regular(open_at(self.fd.as_fd(), OsStr::new(&temp), flags)?.into())?;
            file.write_all(bytes)?;
            drop(file);
            let (from, to) = (c_string(OsStr::new(&temp))?, c_string(OsStr::new(name))?);
            let fd = self.fd.as_raw_fd();
            // SAFETY: both strings end in NUL and outlive the call; the descriptor is ours and open.
            check(unsafe { libc::renameat(fd, from.as_ptr(), fd, to.as_ptr()) }).map(drop)
        }
    }

    fn enter(at: BorrowedFd<'_>, name: &OsStr, create: bool) -> io::Result<(OwnedFd, bool)> {
        match open_at(at, name, libc::O_RDONLY | libc::O_DIRECTORY) {
            Err(e) if create && e.kind() == io::ErrorKind::NotFound => {}
            opened => return opened.map(|fd| (fd, false)),
        }
        let c_name = c_string(name)?;
        // SAFETY: the string ends in NUL and outlives the call; the descriptor is open for as long as it is borrowed.
        match check(unsafe { libc::mkdirat(at.as_raw_fd(), c_name.as_ptr(), 0o700) }) {
            // Another thread of ours may have been faster.
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
            made => Ok((open_at(at, name, libc::O_RDONLY | libc::O_DIRECTORY)?, made.is_ok())),
        }
    }

    /// One component, never through a link.
    fn open_at(at: BorrowedFd<'_>, name: &OsStr, flags: libc::c_int) -> io::Result<OwnedFd> {
        let name = c_string(name)?;
        let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        loop {
            // SAFETY: the string ends in NUL and outlives the call; the descriptor is open for as long as it is
            // borrowed; the mode is passed as the variadic argument that O_CREAT reads.
            match check(unsafe { libc::openat(at.as_raw_fd(), name.as_ptr(), flags, 0o600 as libc::c_uint) }) {
                // SAFETY: openat just gave us this descriptor and nothing else owns it.
                Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn c_string(name: &OsStr) -> io::Result<CString> {
        Ok(CString::new(name.as_bytes())?)
    }

    fn check(result: libc::c_int) -> io::Result<libc::c_int> {
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }
}

#[cfg(not(unix))]
pub(crate) use other::Folder;

/// Without descriptors to walk from, links are looked for before each use: enough against what lies there, not
/// against someone who swaps it meanwhile.
#[cfg(not(unix))]
mod other {
    use std::path::PathBuf;

    use super::{Access, File, Path, io, names, regular};

    pub(crate) struct Folder {
        path: PathBuf,
    }

    impl Folder {
        pub(crate) fn open(path: &Path) -> io::Result<Self> {
            std::fs::create_dir_all(path)?;
            Ok(Self { path: path.to_owned() })
        }

        pub(in crate::torrent) fn sub(&self, name: &str) -> io::Result<(Self, bool)> {
            let path = self.path.join(name);
            let made = match std::fs::create_dir(&path) {
                Ok(()) => true,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
                Err(e) => return Err(e),
            };
            no_link(&path)?;
            Ok((Self { path }, made))
        }

        pub(crate) fn file(&self, path: &Path, access: Access) -> io::Result<File> {
            let names = names(path)?;
            let mut at = self.path.clone();
            for (i, name) in names.iter().enumerate() {
                at.push(name);
                if i + 1 < names.len() && access == Access::Write {
                    match std::fs::create_dir(&at) {
                        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                        _ => {}
                    }
                }
                no_link(&at)?;
            }
            let write = access == Access::Write;
            regular(File::options().read(true).write(write).create(write).truncate(false).open(at)?)
        }

        pub(in crate::torrent) fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
            let temp = self.path.join(format!("{name}.new"));
            no_link(&temp)?;
            std::fs::write(&temp, bytes)?;
            std::fs::rename(temp, self.path.join(name))
        }
    }

    fn no_link(path: &Path) -> io::Result<()> {
        match std::fs::symlink_metadata(path) {
            Ok(m) if m.is_symlink() => Err(io::ErrorKind::NotADirectory.into()),
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::torrent::StoreError;

    fn refused<T>(r: io::Result<T>) -> bool {
        r.map_err(StoreError::from).is_err_and(|e| matches!(e, StoreError::Foreign))
    }

    #[test]
    fn links_are_never_followed_at_any_place_of_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let root = Folder::open(dir.path()).unwrap();
        let (folder, made) = root.sub("t").unwrap();
        assert!(made && !root.sub("t").unwrap().1);
        let t = dir.path().join("t");
        assert_eq!(t.metadata().unwrap().permissions().mode() & 0o777, 0o700);

        symlink(outside.path(), t.join("sub")).unwrap();
        symlink(outside.path().join("victim"), t.join("film.mkv")).unwrap();
        symlink(outside.path(), dir.path().join("u")).unwrap();
        assert!(refused(folder.file(Path::new("sub/a"), Access::Write)));
        assert!(refused(folder.file(Path::new("film.mkv"), Access::Write)));
        assert!(refused(folder.file(Path::new("film.mkv"), Access::Read)));
        assert!(refused(root.sub("u")));
        symlink(outside.path().join("victim"), t.join("resume.new")).unwrap();
        assert!(refused(folder.replace("resume", b"x")));
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_pipe_or_folder_in_place_of_a_file_is_refused_without_hanging() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let pipe = std::ffi::CString::new(dir.path().join("p").to_str().unwrap()).unwrap();
        // SAFETY: the string ends in NUL and outlives the call.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        std::fs::create_dir(dir.path().join("d")).unwrap();
        for name in ["p", "d"] {
            assert!(refused(folder.file(Path::new(name), Access::Read)), "{name}");
            assert!(refused(folder.file(Path::new(name), Access::Write)), "{name}");
        }
    }

    #[test]
    fn only_paths_below_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        for bad in ["..", "../x", "/etc/x", "a/../../x", ""] {
            assert!(folder.file(Path::new(bad), Access::Write).is_err(), "{bad}");
        }
        folder.file(Path::new("a/b/c"), Access::Write).unwrap();
        assert!(dir.path().join("a/b/c").is_file());
        assert_eq!(folder.file(Path::new("no/c"), Access::Read).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!dir.path().join("no").exists());
    }
}

//! Which files a new torrent is made of, and in which order.
//!
//! Invariant: the same folder gives the same list on every machine: the order is by name, digits by their value, and
//! nothing depends on what the file system lists first. No link leads out of the folder.

use std::cmp::Ordering;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::CreateError;

/// As many as a torrent is read with (see `torrent::parse`).
const MAX_FILES: usize = 300_000;

/// Folders within folders; deeper ones are a loop of mounts.
const MAX_DEPTH: usize = 128;

/// What systems leave in folders for themselves.
const LITTER: &[&str] = &["thumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "__macosx"];

/// A file that goes into the torrent.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    /// Below the folder; empty where the torrent is one file.
    pub components: Vec<String>,
    pub disk: PathBuf,
    pub len: u64,
    pub modified: Option<SystemTime>,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    pub files: Vec<Listed>,
    pub folder: bool,
    /// Links that lead out of the folder, or to folders, and what is neither file nor folder.
    pub left_out: Vec<PathBuf>,
}

/// Lists a file or the files of a folder. `except` is not part of it, wherever it lies.
pub(super) fn scan(root: &Path, except: Option<&Path>) -> Result<Found, CreateError> {
    let at = |e| CreateError::Read { path: root.to_owned(), source: e };
    // A link the user names is followed; what it leads to is the folder that must not be left.
    let real = root.canonicalize().map_err(at)?;
    let meta = std::fs::metadata(&real).map_err(at)?;
    if meta.is_file() {
        let file = Listed { components: Vec::new(), len: meta.len(), modified: meta.modified().ok(), disk: real };
        return Ok(Found { files: vec![file], folder: false, left_out: Vec::new() });
    }
    if !meta.is_dir() {
        return Err(CreateError::NotAFile { path: root.to_owned() });
    }
    let except = except.and_then(|p| p.canonicalize().ok());
    let mut found = Found { files: Vec::new(), folder: true, left_out: Vec::new() };
    let mut folders = vec![(real.clone(), Vec::<String>::new())];
    while let Some((folder, components)) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|e| CreateError::Read { path: folder.clone(), source: e })?;
        for entry in entries {
            let entry = entry.map_err(|e| CreateError::Read { path: folder.clone(), source: e })?;
            let path = entry.path();
            let failed = |e| CreateError::Read { path: path.clone(), source: e };
            let Ok(name) = entry.file_name().into_string() else { return Err(CreateError::Name { path }) };
            let meta = std::fs::symlink_metadata(&path).map_err(failed)?;
            if is_hidden(&name, &meta) {
                continue;
            }
            let mut below = components.clone();
            below.push(name);
            if meta.is_dir() && below.len() < MAX_DEPTH {
                folders.push((path, below));
                continue;
            }
            let Some((disk, meta)) = file_behind(&path, meta, &real) else {
                found.left_out.push(path);
                continue;
            };
            if except.as_ref() == Some(&disk) {
                continue;
            }
            if found.files.len() >= MAX_FILES {
                return Err(CreateError::TooManyFiles { max: MAX_FILES });
            }
            found.files.push(Listed { components: below, len: meta.len(), modified: meta.modified().ok(), disk });
        }
    }
    found.files.sort_by(|a, b| by_name(&a.components, &b.components));
    found.left_out.sort();
    Ok(found)
}

/// The file at `path`, or that a link there leads to within `root`.
fn file_behind(path: &Path, meta: Metadata, root: &Path) -> Option<(PathBuf, Metadata)> {
    if meta.is_file() {
        return Some((path.to_owned(), meta));
    }
    if !meta.is_symlink() {
        return None;
    }
    let disk = path.canonicalize().ok().filter(|p| p.starts_with(root))?;
    let meta = std::fs::metadata(&disk).ok().filter(Metadata::is_file)?;
    Some((disk, meta))
}

fn is_hidden(name: &str, meta: &Metadata) -> bool {
    #[cfg(windows)]
    if std::os::windows::fs::MetadataExt::file_attributes(meta) & 0x2 != 0 {
        return true;
    }
    let _ = meta;
    name.starts_with('.') || LITTER.contains(&name.to_ascii_lowercase().as_str())
}

/// Component by component, so that what is in a folder stays together.
pub(super) fn by_name(a: &[String], b: &[String]) -> Ordering {
    let pairs = a.iter().zip(b).map(|(a, b)| natural(a, b));
    pairs.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
}

/// "Part 2" before "Part 10", without regard to case; names that are equal so far by their bytes.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a, b);
    loop {
        let (digits_x, digits_y) = (digits(x), digits(y));
        if !digits_x.is_empty() && !digits_y.is_empty() {
            let (n, m) = (digits_x.trim_start_matches('0'), digits_y.trim_start_matches('0'));
            match n.len().cmp(&m.len()).then_with(|| n.cmp(m)) {
                Ordering::Equal => {}
                unequal => return unequal,
            }
            x = x.get(digits_x.len()..).unwrap_or_default();
            y = y.get(digits_y.len()..).unwrap_or_default();
            continue;
        }
        let (mut cx, mut cy) = (x.chars(), y.chars());
        match (cx.next(), cy.next()) {
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(p), Some(q)) => match p.to_lowercase().cmp(q.to_lowercase()) {
                Ordering::Equal => {}
                unequal => return unequal,
            },
        }
        (x, y) = (cx.as_str(), cy.as_str());
    }
}

fn digits(s: &str) -> &str {
    let end = s.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(s.len());
    s.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn episodes_come_in_the_order_people_count() {
        let mut names = ["e10.mkv", "E2.mkv", "e1.mkv", "e02.mkv", "Extra", "e", "ébène", "10", "9"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["9", "10", "e", "e1.mkv", "E2.mkv", "e02.mkv", "e10.mkv", "Extra", "ébène"]);
        let long = "9".repeat(400);
        assert_eq!(natural(&long, &format!("1{}", "0".repeat(400))), Ordering::Less);
    }

    proptest! {
        #[test]
        fn the_order_is_an_order(mut names in proptest::collection::vec("[aAbB01 ]{0,5}", 3)) {
            // A sort by what is no total order may panic, and would depend on what came first.
            names.sort_by(|a, b| natural(a, b));
            prop_assert!(natural(&names[0], &names[2]) != Ordering::Greater);
            prop_assert_eq!(natural(&names[0], &names[1]), natural(&names[1], &names[0]).reverse());
            prop_assert_eq!(natural(&names[0], &names[1]) == Ordering::Equal, names[0] == names[1]);
        }
    }

    #[test]
    fn hidden_files_and_litter_stay_out_and_the_output_too() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.mkv", ".git/x", "sub/.hidden", "sub/a.srt", "Thumbs.db", "out.torrent"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
        let found = scan(dir.path(), Some(&dir.path().join("out.torrent"))).unwrap();
        let names: Vec<String> = found.files.iter().map(|f| f.components.join("/")).collect();
        assert_eq!(names, ["b.mkv", "sub/a.srt"]);
        assert!(found.folder && found.left_out.is_empty());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_within_the_folder_and_never_out_of_it() {
        use std::os::unix::fs::symlink;
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("film"), "film").unwrap();
        symlink("film", dir.path().join("again")).unwrap();
        symlink(outside.path().join("secret"), dir.path().join("out")).unwrap();
        symlink(".", dir.path().join("loop")).unwrap();
        symlink("gone", dir.path().join("dangling")).unwrap();
        let found = scan(dir.path(), None).unwrap();
        let names: Vec<(String, u64)> = found.files.iter().map(|f| (f.components.join("/"), f.len)).collect();
        assert_eq!(names, [("again".to_owned(), 4), ("film".to_owned(), 4)]);
        assert_eq!(found.left_out.len(), 3);
    }
}

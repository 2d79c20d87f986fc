//! From the names a torrent gives its files to paths that are safe and distinct on every file system.
//!
//! Invariant: a path from here has only normal components, none of which Windows, macOS or Linux refuses or takes for
//! something else, and no two paths of one [`Names`] are equal when case is ignored or make a file of a folder.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

/// What ext4, NTFS (in UTF-16 units, never more than bytes) and APFS take for one component, in bytes.
const MAX_COMPONENT: usize = 255;

/// Room kept for " (123456)" where a name is taken.
const SUFFIX_ROOM: usize = 12;

/// A longer extension is taken for part of the name, in bytes.
const MAX_EXTENSION: usize = 20;

/// Longest relative path kept as it is, in bytes: macOS allows 1024 with the cache folder's own part in front.
const MAX_PATH: usize = 700;

/// More folders than this around a file and it is put flat.
const MAX_FOLDERS: usize = 32;

/// Where files go whose path no system would take.
const LONG_FOLDER: &str = "_long";

/// Hands out the paths of one torrent's files, in order.
///
/// Holds hashes of lower-cased paths, not the paths: a hostile torrent can nest its folders so that the paths of all
/// of them are a hundred times its own size. Two that share a hash by chance only cost a needless suffix.
pub(super) struct Names {
    folders: HashSet<u64>,
    taken: HashSet<u64>,
    /// Next suffix to try, by what is left of a name once it is cut to make room. Keeps a torrent whose names all
    /// collide linear.
    next: HashMap<u64, u32>,
}

impl Names {
    /// `paths`: the cleaned components of each file that will ask for a path.
    pub(super) fn new(paths: impl Iterator<Item = Vec<String>>) -> Self {
        let mut folders = HashSet::from([key(LONG_FOLDER)]);
        for components in paths.filter(|c| !is_long(c)) {
            let mut at = String::new();
            for folder in components.iter().take(components.len().saturating_sub(1)) {
                if !at.is_empty() {
                    at.push('/');
                }
                at.push_str(folder);
                folders.insert(key(&at));
            }
        }
        Self { folders, taken: HashSet::new(), next: HashMap::new() }
    }

    /// The path of file `index`, given its cleaned components.
    pub(super) fn claim(&mut self, index: usize, components: &[String]) -> PathBuf {
        let Some((name, folders)) = components.split_last() else {
            return self.flat(index, "_");
        };
        if is_long(components) {
            return self.flat(index, name);
        }
        let parent = folders.join("/");
        let join = |name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
        let mut path = join(name);
        if !self.is_free(&path) {
            let (stem, extension) = split_extension(name);
            let stem = cut(stem, MAX_COMPONENT - SUFFIX_ROOM - extension.len());
            let counter_key = key(&join(&format!("{stem}{extension}")));
            let mut n = self.next.get(&counter_key).copied().unwrap_or(2);
            path = loop {
                let candidate = join(&format!("{stem} ({n}){extension}"));
                n = n.saturating_add(1);
                if self.is_free(&candidate) {
                    break candidate;
                }
            };
            self.next.insert(counter_key, n);
        }
        self.taken.insert(key(&path));
        path.split('/').collect()
    }

    fn is_free(&self, path: &str) -> bool {
        let key = key(path);
        !self.taken.contains(&key) && !self.folders.contains(&key)
    }

    /// The index makes it unique; nothing else is ever put in that folder.
    fn flat(&self, index: usize, name: &str) -> PathBuf {
        let (stem, extension) = split_extension(name);
        // What is cut may end in what no name may end in.
        let name = format!("{index} {}{extension}", trim(cut(stem, 120)));
        [LONG_FOLDER, &name].iter().collect()
    }
}

/// One component of a torrent's path as any file system takes it: never empty, `.` or `..`, no separator, drive,
/// control character or name that Windows keeps for devices, at most 255 bytes with the extension kept.
pub(super) fn component(raw: &str) -> String {
    let replaced: String = raw.chars().map(|c| if is_unsafe(c) { '_' } else { c }).collect();
    let mut name = trim(&replaced).to_owned();
    if is_reserved(&name) {
        name.insert(0, '_');
    }
    // Torrents must not reach into the folder where over-long paths are put.
    if fold(&name) == LONG_FOLDER {
        name.insert(0, '_');
    }
    if name.len() > MAX_COMPONENT {
        let (stem, extension) = split_extension(&name);
        name = format!("{}{extension}", cut(stem, MAX_COMPONENT - extension.len()));
        name.truncate(trim(&name).len());
    }
    if name.is_empty() { "_".to_owned() } else { name }
}

/// As people may see it: what could hide or reorder text is replaced, and so is a separator inside a component.
pub(super) fn display_component(raw: &str) -> String {
    raw.chars().map(|c| if c.is_control() || is_direction(c) || c == '/' { '\u{fffd}' } else { c }).collect()
}

/// Leading blanks, and the trailing dots and blanks that Windows drops silently (which makes `..` nothing at all).
fn trim(name: &str) -> &str {
    name.trim_start().trim_end_matches(|c: char| c == '.' || c.is_whitespace())
}

fn is_unsafe(c: char) -> bool {
    c.is_control() || is_direction(c) || matches!(c, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
}

/// Marks that turn the direction of text, or take no room: `gpj.exe` can be made to read `exe.jpg`.
pub(super) fn is_direction(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Names of devices on Windows, whatever their extension.
fn is_reserved(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_uppercase();
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") {
        return true;
    }
    let Some(rest) = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT")) else { return false };
    let mut rest = rest.chars();
    matches!((rest.next(), rest.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
}

/// Name and extension with its dot; a name that is all extension has none.
fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= MAX_EXTENSION => name.split_at(dot),
        _ => (name, ""),
    }
}

/// The longest start of `s` of at most `max` bytes.
fn cut(s: &str, max: usize) -> &str {
    &s[..s.floor_char_boundary(max)]
}

/// No system, or not every one, takes this path.
fn is_long(components: &[String]) -> bool {
    let bytes = components.iter().map(|c| c.len() + 1).sum::<usize>() + SUFFIX_ROOM;
    components.len() > MAX_FOLDERS + 1 || bytes > MAX_PATH
}

/// Equal for paths that a file system without case takes for one. The same in every run, as the paths must be.
fn key(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    fold(path).hash(&mut hasher);
    hasher.finish()
}

/// Equal for names that a file system without case takes for one.
fn fold(s: &str) -> String {
    if s.is_ascii() { s.to_ascii_lowercase() } else { s.to_uppercase().to_lowercase() }
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    fn claim_all(files: &[Vec<&str>]) -> Vec<String> {
        let clean: Vec<Vec<String>> = files.iter().map(|f| f.iter().map(|c| component(c)).collect()).collect();
        let mut names = Names::new(clean.iter().cloned());
        clean.iter().enumerate().map(|(i, c)| names.claim(i, c).to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn hostile_components_become_harmless() {
        let cases = [
            ("..", "_"),
            (".", "_"),
            ("", "_"),
            (" .. ", "_"),
            ("/etc/passwd", "_etc_passwd"),
            ("C:", "C_"),
            ("a\\b", "a_b"),
            ("a\0b\n", "a_b_"),
            ("film.mkv. . ", "film.mkv"),
            ("con", "_con"),
            ("LPT1.mp4", "_LPT1.mp4"),
            ("com¹", "_com¹"),
            ("NUL .txt", "_NUL .txt"),
            ("common.mkv", "common.mkv"),
            ("COM10", "COM10"),
            ("_long", "__long"),
            ("x\u{202e}4pm.exe", "x_4pm.exe"),
        ];
        for (raw, want) in cases {
            assert_eq!(component(raw), want, "{raw:?}");
        }
    }

    #[test]
    fn a_long_name_keeps_its_extension_and_its_characters_whole() {
        let name = component(&format!("{}.mkv", "я".repeat(300)));
        assert!(name.len() <= 255 && name.ends_with(".mkv"), "{name}");
        assert_eq!(component(&"x".repeat(300)).len(), 255);
    }

    #[test]
    fn names_that_collide_get_a_suffix() {
        let got = claim_all(&[
            vec!["a.mkv"],
            vec!["A.MKV"],
            vec!["a (2).mkv"],
            vec!["a.mkv"],
            vec!["a?.mkv"],
            vec!["a*.mkv"],
        ]);
        assert_eq!(got, ["a.mkv", "A (2).MKV", "a (2) (2).mkv", "a (3).mkv", "a_.mkv", "a_ (2).mkv"]);
    }

    #[test]
    fn a_file_named_like_a_folder_steps_aside() {
        assert_eq!(claim_all(&[vec!["Disc"], vec!["disc", "1.mkv"]]), ["Disc (2)", "disc/1.mkv"]);
    }

    #[test]
    fn a_path_no_system_takes_is_put_flat() {
        let deep: Vec<&str> = std::iter::repeat_n("d", 90).chain(["film.mkv"]).collect();
        let long = "n".repeat(200);
        let wide = vec![long.as_str(), &long, &long, &long, "film.mkv"];
        assert_eq!(claim_all(&[deep, wide]), ["_long/0 film.mkv", "_long/1 film.mkv"]);
        let dotted = format!("{}. {}", "x".repeat(118), "y".repeat(100));
        let cut_at_a_dot = vec![long.as_str(), &long, &long, &dotted];
        assert_eq!(claim_all(&[cut_at_a_dot]), [format!("_long/0 {}", "x".repeat(118))]);
    }

    #[test]
    fn many_equal_names_take_linear_time() {
        let names: Vec<String> = (0..10_000).map(|i| format!("{}{:05}", "x".repeat(300), i % 5_000)).collect();
        let got = claim_all(&names.iter().map(|n| vec![n.as_str()]).collect::<Vec<_>>());
        assert_eq!(got.iter().collect::<HashSet<_>>().len(), got.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn paths_stay_below_the_root_and_are_distinct(
            files in prop::collection::vec(prop::collection::vec(r"(\.{1,3}|[aA./\\: \x00cCoOnN]{0,4}|\PC{0,300}|.{0,6})", 1..5), 1..12)
        ) {
            let clean: Vec<Vec<String>> = files.iter().map(|f| f.iter().map(|c| component(c)).collect()).collect();
            let mut names = Names::new(clean.iter().cloned());
            let mut seen = HashSet::new();
            let mut paths = Vec::new();
            for (i, c) in clean.iter().enumerate() {
                let path = names.claim(i, c);
                prop_assert!(path.is_relative());
                prop_assert!(path.components().all(|c| matches!(c, Component::Normal(_))));
                prop_assert!(path.as_os_str().len() <= MAX_PATH + 300);
                for c in path.iter() {
                    let c = c.to_str().unwrap();
                    prop_assert!(!c.is_empty() && c.len() <= MAX_COMPONENT && !c.contains(is_unsafe));
                    prop_assert!(!c.ends_with(['.', ' ']) && !is_reserved(c), "{c:?}");
                }
                prop_assert!(Path::new("/root").join(&path).starts_with("/root"));
                prop_assert!(seen.insert(fold(path.to_str().unwrap())), "{path:?}");
                paths.push(path);
            }
            // No file is another's folder.
            for p in &paths {
                for parent in p.ancestors().skip(1) {
                    prop_assert!(!seen.contains(&fold(parent.to_str().unwrap())));
                }
            }
        }
    }
}

//! What was opened before, and how far it was watched: a small JSON file, newest first.
//!
//! Invariant: at most [`KEPT`] entries, one per film; a file that is not ours is set aside, never an error in the way.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::app::failure::one_line;
use crate::app::paths::{read_bounded, write_atomic};
use crate::app::snapshot::Recent;
use crate::units::MediaTime;

/// Entries kept; a screenful or two, more nobody looks at.
pub const KEPT: usize = 50;
/// A larger file is not one of ours.
const FILE_MAX: u64 = 4 << 20;
/// Going on makes no sense this close to the start …
const RESUME_FROM_S: f64 = 30.0;
/// … or this far to the end (share of the duration).
const RESUME_TO: f64 = 0.95;
const TITLE_MAX: usize = 200;
const URI_MAX: usize = 32 << 10;

/// One film.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Which film it is, however it was opened: "btih:…/3", "file:/films/x.mkv", "url:https://…".
    pub key: String,
    pub title: String,
    /// What was opened.
    pub uri: String,
    /// A magnet link of the same, for when the .torrent file is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub magnet: Option<String>,
    /// Seconds.
    #[serde(default)]
    pub at_s: f64,
    #[serde(default)]
    pub duration_s: f64,
}

impl Entry {
    /// 0 to 1.
    pub fn watched(&self) -> f32 {
        if self.duration_s > 0.0 { (self.at_s / self.duration_s).clamp(0.0, 1.0) as f32 } else { 0.0 }
    }

    /// Where to go on; `None` near the start and near the end.
    pub fn resume(&self) -> Option<MediaTime> {
        let far = self.at_s >= RESUME_FROM_S && self.at_s <= self.duration_s * RESUME_TO;
        far.then(|| MediaTime::from_secs_f64(self.at_s))
    }

    fn sane(&self) -> bool {
        let texts = !self.key.is_empty() && self.key.len() <= URI_MAX && self.uri.len() <= URI_MAX;
        let magnet = self.magnet.as_ref().is_none_or(|m| m.len() <= URI_MAX);
        let number = |n: f64| n.is_finite() && (0.0..1e7).contains(&n);
        texts && magnet && !self.uri.is_empty() && number(self.at_s) && number(self.duration_s)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    #[serde(default)]
    volume: Option<f32>,
    #[serde(default)]
    muted: bool,
    #[serde(default)]
    films: Vec<serde_json::Value>,
}

/// The entries and what else the player remembers by itself.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    entries: Vec<Entry>,
    /// The last one used, 0 to 1.
    pub volume: Option<f32>,
    pub muted: bool,
    changed: bool,
}

impl History {
    /// Reads the file; without one, or with one that is not ours, it is empty. A broken one is set aside as `.broken`.
    pub fn load(path: &Path) -> Self {
        let mut history =
            Self { path: path.to_owned(), entries: Vec::new(), volume: None, muted: false, changed: false };
        let bytes = match read_bounded(path, FILE_MAX) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return history,
            Err(e) => {
                tracing::warn!("history not read: {e}");
                return history;
            }
        };
        let Ok(stored) = serde_json::from_slice::<Stored>(&bytes) else {
            tracing::warn!("history is broken and set aside");
            // What cannot be renamed is overwritten later; nothing else is to be done about it.
            let _ = std::fs::rename(path, path.with_extension("json.broken"));
            return history;
        };
        history.volume = stored.volume.filter(|v| (0.0..=1.0).contains(v));
        history.muted = stored.muted;
        for value in stored.films.into_iter().take(KEPT * 4) {
            if let Ok(mut e) = serde_json::from_value::<Entry>(value)
                && e.sane()
                && history.entries.len() < KEPT
                && !history.entries.iter().any(|o| o.key == e.key)
            {
                e.title = one_line(&e.title, TITLE_MAX);
                history.entries.push(e);
            }
        }
        history
    }

    /// Newest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// As the home screen lists them.
    pub fn recent(&self) -> Vec<Recent> {
        let of = |e: &Entry| Recent { title: e.title.clone(), uri: e.uri.clone(), watched: e.watched() };
        self.entries.iter().map(of).collect()
    }

    /// Where to go on, per film.
    pub fn resume_points(&self) -> HashMap<String, MediaTime> {
        self.entries.iter().filter_map(|e| Some((e.key.clone(), e.resume()?))).collect()
    }

    /// The magnet link that stands for a .torrent file that is gone.
    pub fn magnet_for(&self, uri: &str) -> Option<&str> {
        self.entries.iter().find(|e| e.uri == uri)?.magnet.as_deref()
    }

    /// Puts a film first. A position of zero with no duration keeps what was known.
    pub fn note(&mut self, mut entry: Entry) {
        entry.title = one_line(&entry.title, TITLE_MAX);
        if !entry.sane() {
            return;
        }
        if let Some(i) = self.entries.iter().position(|e| e.key == entry.key) {
            let old = self.entries.remove(i);
            if entry.duration_s == 0.0 {
                (entry.at_s, entry.duration_s) = (old.at_s, old.duration_s);
            }
        }
        self.entries.insert(0, entry);
        self.entries.truncate(KEPT);
        self.changed = true;
    }

    pub fn forget(&mut self, index: usize) {
        if index < self.entries.len() {
            self.entries.remove(index);
            self.changed = true;
        }
    }

    pub fn set_sound(&mut self, volume: f32, muted: bool) {
        self.changed |= self.volume != Some(volume) || self.muted != muted;
        (self.volume, self.muted) = (Some(volume), muted);
    }

    /// Writes the file if anything changed.
    pub fn save(&mut self) -> std::io::Result<()> {
        if !self.changed {
            return Ok(());
        }
        let films = self.entries.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
        let stored = Stored { volume: self.volume, muted: self.muted, films };
        write_atomic(&self.path, &serde_json::to_vec_pretty(&stored)?)?;
        self.changed = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, at_s: f64) -> Entry {
        Entry { key: key.into(), title: key.into(), uri: format!("/{key}"), magnet: None, at_s, duration_s: 1000.0 }
    }

    #[test]
    fn newest_first_bounded_and_saved() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("d").join("history.json");
        let mut h = History::load(&file);
        for i in 0..KEPT + 10 {
            h.note(entry(&format!("f{i}"), 100.0));
        }
        h.note(entry("f30", 500.0));
        h.set_sound(0.5, true);
        h.save().unwrap();
        let mut h = History::load(&file);
        assert_eq!((h.entries().len(), h.entries()[0].key.as_str()), (KEPT, "f30"));
        assert_eq!((h.volume, h.muted), (Some(0.5), true));
        assert_eq!(h.recent()[0].watched, 0.5);
        assert_eq!(h.resume_points()["f30"], MediaTime::from_secs_f64(500.0));
        let mut again = entry("f30", 0.0);
        again.duration_s = 0.0;
        h.note(again);
        assert_eq!(h.entries()[0].at_s, 500.0);
        h.forget(0);
        h.forget(1000);
        assert!(h.entries().iter().all(|e| e.key != "f30"));
    }

    #[test]
    fn going_on_makes_sense_only_in_the_middle() {
        assert_eq!(entry("a", 29.0).resume(), None);
        assert_eq!(entry("a", 31.0).resume(), Some(MediaTime::from_secs_f64(31.0)));
        assert_eq!(entry("a", 951.0).resume(), None);
    }

    #[test]
    fn hostile_files_do_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("history.json");
        for bytes in [
            b"".as_slice(),
            b"[1,2",
            b"\xff\xff",
            b"{\"films\":3}",
            &[b'['; 200_000],
            b"{\"films\":[1,null,{\"key\":\"\",\"title\":\"\",\"uri\":\"\"}],\"volume\":7}",
            b"{\"films\":[{\"key\":\"a\",\"title\":\"t\",\"uri\":\"u\",\"at_s\":-5}]}",
        ] {
            std::fs::write(&file, bytes).unwrap();
            let h = History::load(&file);
            assert!(h.entries().is_empty() && h.volume.is_none());
        }
        std::fs::write(&file, vec![b' '; 5 << 20]).unwrap();
        assert!(History::load(&file).entries().is_empty());
        assert!(History::load(dir.path()).entries().is_empty());
        let mut blocked = History::load(&file.join("x"));
        blocked.note(entry("a", 1.0));
        assert!(blocked.save().is_err());
    }
}

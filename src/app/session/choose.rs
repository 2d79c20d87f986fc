//! Which file of a torrent to play.

use crate::app::failure::{Failure, one_line};
use crate::app::session::Several;
use crate::app::snapshot::FileChoice;
use crate::torrent::{Metainfo, video_files};

/// Files listed at most; nobody reads further, and a hostile torrent may have a million.
const LISTED_MAX: usize = 5_000;

pub enum Choice {
    Play(usize),
    Ask { files: Vec<FileChoice>, suggested: Option<usize> },
}

/// `selected` is what a magnet link asks for (`so=`, BEP 53): the first video among it is what its maker meant to be played.
pub fn choose(meta: &Metainfo, selected: &[usize], several: Several) -> Result<Choice, Failure> {
    let all = video_files(meta);
    // Sorted, as a magnet link gives it.
    let asked = all.iter().copied().filter(|i| selected.binary_search(i).is_ok()).min();
    match (several, all.as_slice()) {
        (Several::Take(Some(i)), _) => match meta.files.get(i) {
            Some(f) if !f.padding && !f.range.is_empty() => Ok(Choice::Play(i)),
            _ => Err(Failure::input(format!("The torrent has no file {i}"), "See its files with sluicegate info")),
        },
        (_, [one]) => Ok(Choice::Play(*one)),
        _ if let Some(first) = asked => Ok(Choice::Play(first)),
        (Several::Take(None), [largest, ..]) => Ok(Choice::Play(*largest)),
        (Several::Take(None), []) => Err(no_video(meta)),
        (Several::Ask, _) => Ok(list(meta, &all)),
    }
}

/// Videos first, each group largest first, so that the suggestion is on top.
fn list(meta: &Metainfo, videos: &[usize]) -> Choice {
    let all = video_files(meta);
    let mut files: Vec<FileChoice> = meta
        .files
        .iter()
        .enumerate()
        .filter(|(_, f)| !f.padding)
        .map(|(index, f)| FileChoice {
            index,
            path: one_line(&f.display, 400),
            bytes: f.range.len(),
            is_video: all.contains(&index),
        })
        .collect();
    files.sort_by(|a, b| b.is_video.cmp(&a.is_video).then(b.bytes.cmp(&a.bytes)).then(a.index.cmp(&b.index)));
    files.truncate(LISTED_MAX);
    let suggested = videos.first().and_then(|v| files.iter().position(|f| f.index == *v));
    Choice::Ask { files, suggested }
}

fn no_video(meta: &Metainfo) -> Failure {
    let mut files: Vec<_> = meta.files.iter().filter(|f| !f.padding).collect();
    files.sort_by_key(|f| std::cmp::Reverse(f.range.len()));
    let names: Vec<String> = files.iter().take(3).map(|f| one_line(&f.display, 80)).collect();
    let more = if files.len() > 3 { format!(" and {} more", files.len() - 3) } else { String::new() };
    let what = format!("{} holds no video, only {}{more}", one_line(&meta.name, 120), names.join(", "));
    Failure::input(what, "Open a torrent with a video in it")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torrent::testing::{TestFile, torrent};

    fn played(files: &[TestFile], selected: &[usize], several: Several) -> Option<usize> {
        match choose(&torrent("show", files, 64).meta(), selected, several).unwrap() {
            Choice::Play(i) => Some(i),
            Choice::Ask { .. } => None,
        }
    }

    #[test]
    fn the_first_video_a_link_selects_is_played() {
        let files =
            || [TestFile::new("a.txt", 9), TestFile::new("b.mkv", 9), TestFile::new("c.mkv", 99), TestFile::pad(3)];
        assert_eq!(played(&files(), &[], Several::Ask), None);
        assert_eq!(played(&files(), &[0, 1, 2, 70], Several::Ask), Some(1));
        assert_eq!(played(&files(), &[2], Several::Take(None)), Some(2));
        assert_eq!(
            played(&files(), &[0, 3], Several::Take(None)),
            Some(2),
            "no video among them: as if none were named"
        );
        assert_eq!(played(&files(), &[2], Several::Take(Some(1))), Some(1), "the user's word counts more");
    }
}

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

/// `selected` is what a magnet link asks for (`so=`): it counts where it names a video.
pub fn choose(meta: &Metainfo, selected: &[usize], several: Several) -> Result<Choice, Failure> {
    let all = video_files(meta);
    let asked: Vec<usize> = all.iter().copied().filter(|i| selected.contains(i)).collect();
    let videos = if asked.is_empty() { &all } else { &asked };
    match (several, videos.as_slice()) {
        (Several::Take(Some(i)), _) => match meta.files.get(i) {
            Some(f) if !f.padding && !f.range.is_empty() => Ok(Choice::Play(i)),
            _ => Err(Failure::input(format!("The torrent has no file {i}"), "See its files with sluicegate info")),
        },
        (_, [one]) => Ok(Choice::Play(*one)),
        (Several::Take(None), [largest, ..]) => Ok(Choice::Play(*largest)),
        (Several::Take(None), []) => Err(no_video(meta)),
        (Several::Ask, _) => Ok(list(meta, videos)),
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

//! Torrents that `sluicegate create` makes: others agree about them, and they play.

use std::path::Path;

use serde_json::Value;

use crate::support::frames::{assert_same, reference};
use crate::support::player::Home;
use crate::support::process::{Guard, tool};
use crate::support::seed::Seed;
use crate::support::torrent::Torrent;
use crate::support::{media, temp_dir, text, wait_for};

/// What `create --json` said.
fn create(home: &Home, args: &[&str]) -> Value {
    let made = home.command().arg("create").args(args).arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "{said}");
    serde_json::from_slice(&made.stdout).unwrap()
}

/// A folder of two episodes and what lies around them.
fn season(film: &Path, folder: &Path) {
    std::fs::create_dir_all(folder.join("Extras/.cache")).unwrap();
    std::fs::copy(film, folder.join("Episode 10.mp4")).unwrap();
    std::fs::write(folder.join("Episode 2.srt"), "1\n00:00:00,000 --> 00:00:01,000\nHello\n").unwrap();
    std::fs::write(folder.join("Extras/.cache/hidden"), "not to be shared").unwrap();
    std::fs::write(folder.join("Extras/cover.jpg"), vec![0x5a; 54_321]).unwrap();
}

#[test]
fn a_folder_made_into_a_torrent_is_seeded_by_transmission_and_plays() {
    let (home, dir, film) = (Home::new(), temp_dir(), media::mp4());
    let folder = dir.path().join("Season, the first");
    season(&film, &folder);
    for align in [false, true] {
        let path = dir.path().join(format!("{align}.torrent"));
        let source = format!("it was made by process {} with padding {align}", std::process::id());
        let mut args = vec![text(&folder), "-o", text(&path), "-s", "32K", "--comment", &source];
        args.extend([
            "--tracker",
            "udp://t.example:1/announce,http://u.example/announce",
            "--tracker",
            "udp://v.example:2",
        ]);
        args.extend(align.then_some("--align"));
        let made = create(&home, &args);
        let names: Vec<&str> = made["files"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
        assert_eq!(names, ["Episode 2.srt", "Episode 10.mp4", "Extras/cover.jpg"]);
        let shown = String::from_utf8(tool(std::process::Command::new("transmission-show").arg(&path)).stdout).unwrap();
        let hash = made["info_hash"].as_str().unwrap();
        assert!(shown.contains(hash) && shown.contains("Tier #2") && shown.contains(&source), "{shown}");
        // Transmission 3 knows no padding: to it these are files like any other.
        for pad in shown.lines().filter_map(|l| l.split_once("/.pad/")?.1.split(' ').next()) {
            std::fs::create_dir_all(folder.join(".pad")).unwrap();
            std::fs::write(folder.join(".pad").join(pad), vec![0; pad.parse().unwrap()]).unwrap();
        }
        // Transmission finds each piece right, or it would not come to seed.
        let torrent = Torrent {
            path,
            info_hash: hash.to_owned(),
            content_dir: dir.path().to_owned(),
            name: "Season, the first".to_owned(),
        };
        let seed = Seed::start(&torrent, None);
        let peer = seed.addr.to_string();
        let magnet = format!("magnet:?xt=urn:btih:{hash}&so=0-1");
        let played =
            home.play(magnet, ["--no-clock", "--no-server", "--frames-md5", "frames.txt", "--peer", &peer]).ok();
        assert_same(&played.frames, &reference(&film));
    }
}

#[test]
fn the_same_files_make_the_same_torrent_and_an_old_one_is_kept() {
    let (home, dir) = (Home::new(), temp_dir());
    let folder = dir.path().join("show");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a.mkv"), vec![7; 100_000]).unwrap();
    // Into the folder itself: it must not become part of what it describes.
    let path = folder.join("show.torrent");
    let first = create(&home, &[text(&folder), "-o", text(&path)]);
    let bytes = std::fs::read(&path).unwrap();
    let again = home.command().args(["create", text(&folder), "-o", text(&path)]).output().unwrap();
    assert_eq!(again.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&again.stderr).contains("is there already"));
    let forced = create(&home, &[text(&folder), "-o", text(&path), "--force"]);
    assert_eq!((std::fs::read(&path).unwrap() == bytes, &forced["info_hash"]), (true, &first["info_hash"]));
    let magnet = home.command().args(["create", text(&folder), "-o", text(&path), "-f", "--magnet"]).output().unwrap();
    let magnet = String::from_utf8(magnet.stdout).unwrap();
    assert_eq!(magnet.trim(), first["magnet"].as_str().unwrap());
    let info = home.command().args(["info", magnet.trim(), "--json"]).output().unwrap();
    assert!(String::from_utf8_lossy(&info.stdout).contains(first["info_hash"].as_str().unwrap()));
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    let (home, dir) = (Home::new(), temp_dir());
    // Holes take no room, and far longer to hash than a signal takes to arrive.
    let huge = dir.path().join("huge.mkv");
    std::fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let log = dir.path().join("said.txt");
    let mut guard =
        Guard::spawn(home.command().args(["create", text(&huge), "-o", text(&out.join("huge.torrent"))]), Some(&log));
    // Once a second until it ends: the first may come before anybody listens for it.
    let mut ended = None;
    wait_for("create to end", std::time::Duration::from_secs(60), || {
        if ended.is_none() && guard.runs() {
            guard.signal(libc::SIGINT);
            ended = guard.wait(std::time::Duration::from_secs(1));
        }
        (ended.is_some() || !guard.runs()).then_some(())
    });
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 0, "{}", guard.log());
}

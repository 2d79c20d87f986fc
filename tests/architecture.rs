//! The layers of design: every arrow between them points down, and this fails on any other.
//!
//! The checker reads the sources as text. It is itself shown to find planted arrows, at the end.

#![allow(clippy::unwrap_used)]

#[path = "architecture/scan.rs"]
mod scan;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use scan::{Named, paths};

/// What each layer may name below `crate`, besides itself.
const ARROWS: &[(&str, &[&str])] = &[
    ("units", &[]),
    ("engine", &["units"]),
    ("net", &["units"]),
    ("torrent", &["units"]),
    ("origin", &["units", "net"]),
    ("swarm", &["units", "net", "torrent"]),
    ("stream", &["units", "net", "engine", "torrent", "swarm", "origin"]),
    // The bid's own type, wherever the engine names it; nothing else of the engine.
    ("serve", &["units", "torrent", "engine::bid", "engine::Bid"]),
    ("sim", &["units", "engine", "serve::allocate"]),
    ("media", &["units", "stream::reader"]),
    ("app", &["units", "net", "engine", "torrent", "swarm", "origin", "stream", "serve", "media"]),
    ("ui", &["units", "app::snapshot"]),
];

/// What a layer may not name from outside the crate. The engine is sans-IO: no clock, socket, thread, channel, file,
/// log or randomness of its own. The window draws and nothing else.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "engine",
        &[
            "std::time::Instant",
            "std::time::SystemTime",
            "std::net",
            "std::thread",
            "std::fs",
            "std::io",
            "std::env",
            "std::process",
            "std::sync::mpsc",
            "std::sync::Mutex",
            "std::sync::RwLock",
            "std::sync::Condvar",
            "tokio",
            "futures",
            "rand",
            "tracing",
            "parking_lot",
            "arc_swap",
            "socket2",
            "libc",
            "reqwest",
        ],
    ),
    ("ui", &["tokio", "std::net", "std::fs", "socket2", "reqwest", "ffmpeg_next", "cpal"]),
];

/// Macros the engine may not call: it has no log. Its tests may.
const SILENT: &[&str] = &["println", "eprintln", "print", "eprint", "dbg"];

/// Crates that belong to one layer alone.
const OWNED: &[(&str, &str)] =
    &[("egui", "ui"), ("eframe", "ui"), ("ffmpeg_next", "media"), ("cpal", "media"), ("axum", "serve")];

/// Longest source file; every longer one in projects of this kind is the one its own people struggle with.
const LONGEST: usize = 800;

/// The modules that files are by a `#[path]` attribute, where that differs from what their names say.
type Renamed = HashMap<String, String>;

/// Finds `#[path = "x.rs"] mod name;` in all files.
fn renamed(files: &[(String, String)]) -> Renamed {
    let mut out = Renamed::new();
    for (file, source) in files {
        let lines: Vec<&str> = source.lines().map(str::trim).collect();
        for (i, line) in lines.iter().enumerate() {
            let Some(target) = line.strip_prefix("#[path = \"").and_then(|l| l.split('"').next()) else { continue };
            let is_mod = |l: &&&str| l.trim_start_matches("pub ").starts_with("mod ");
            let Some(name) = lines[i + 1..].iter().take(3).find(is_mod).and_then(|l| l.split("mod ").nth(1)) else {
                continue;
            };
            let dir = file.rsplit_once('/').map_or(String::new(), |d| format!("{}/", d.0));
            let module = [module_of(file).join("/").as_str(), name.trim_end_matches(';')].join("/");
            out.insert(format!("{dir}{target}"), module);
        }
    }
    out
}

/// `src/ui/panel.rs` is the module `ui::panel`, `src/ui/mod.rs` is `ui`, `src/main.rs` the root.
fn module_of(file: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = file.trim_end_matches(".rs").split('/').collect();
    if matches!(parts.last(), Some(&("mod" | "lib" | "main"))) {
        parts.pop();
    }
    parts
}

/// Everything wrong with one file, a sentence each. `file` is relative to `src/`.
fn faults(file: &str, source: &str) -> Vec<String> {
    faults_in(file, &module_of(file), source)
}

fn faults_in(file: &str, module: &[&str], source: &str) -> Vec<String> {
    let Some((layer, allowed)) = module.first().and_then(|m| ARROWS.iter().find(|a| a.0 == *m)) else {
        // The root and the command line stand above all layers.
        return Vec::new();
    };
    let forbidden = FORBIDDEN.iter().find(|f| f.0 == *layer).map_or(&[][..], |f| f.1);
    let mut out = Vec::new();
    for Named { line, path, is_macro } in paths(source, module) {
        let said = path.join("::");
        if path[0] == "crate" && path.len() > 1 {
            let target = path[1..].join("::");
            let inside = |scope: &str| target == scope || target.starts_with(&format!("{scope}::"));
            if !inside(layer) && !allowed.iter().any(|a| inside(a)) {
                out.push(format!("src/{file}:{line}: {layer} may not use {said}"));
            }
            continue;
        }
        let banned = |ban: &&&str| {
            let within = said == **ban || said.starts_with(&format!("{ban}::"));
            // `use std::time;` or `use std::time::*;` would let the forbidden in under a shorter name.
            let parent = said.trim_end_matches("::*");
            within || (ban.starts_with(&format!("{parent}::")) && (parent.contains("::") || said.ends_with('*')))
        };
        if forbidden.iter().find(banned).is_some() {
            out.push(format!("src/{file}:{line}: {layer} may not use {said}"));
        }
        if is_macro && *layer == "engine" && !module.contains(&"tests") && SILENT.contains(&said.as_str()) {
            out.push(format!("src/{file}:{line}: {layer} may not print"));
        }
        if let Some((_, owner)) =
            OWNED.iter().find(|(name, owner)| path.len() > 1 && path[0] == *name && owner != layer)
        {
            out.push(format!("src/{file}:{line}: {said} belongs to {owner}, not to {layer}"));
        }
    }
    out
}

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn all_sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    files.sort();
    files
        .into_iter()
        .map(|p| {
            let name = p.strip_prefix(&root).unwrap().components().map(|c| c.as_os_str().to_string_lossy());
            (name.collect::<Vec<_>>().join("/"), fs::read_to_string(&p).unwrap())
        })
        .collect()
}

#[test]
fn every_arrow_points_down() {
    let files = all_sources();
    let renamed = renamed(&files);
    let check = |(name, text): &(String, String)| match renamed.get(name) {
        Some(module) => faults_in(name, &module_of(module), text),
        None => faults(name, text),
    };
    let faults: Vec<String> = files.iter().flat_map(check).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
    for (layer, _) in ARROWS {
        let there = files.iter().any(|(name, _)| module_of(name).first() == Some(layer));
        assert!(there, "the layer {layer} has no source file: is the table up to date?");
    }
}

#[test]
fn every_module_belongs_to_a_layer() {
    let strays: Vec<String> = all_sources()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| match module_of(name).first() {
            // What fuzzers run stands above all, and is no part of the player.
            None | Some(&"cli" | &"fuzz") => false,
            Some(layer) => !ARROWS.iter().any(|a| a.0 == *layer),
        })
        .collect();
    assert!(strays.is_empty(), "in no layer: {}", strays.join(", "));
}

#[test]
fn files_stay_readable() {
    let long: Vec<String> = all_sources()
        .into_iter()
        .map(|(name, text)| (name, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(name, lines)| format!("src/{name} has {lines} lines"))
        .collect();
    assert!(long.is_empty(), "split at {LONGEST} lines: {}", long.join(", "));
}

/// What makes a socket, looks a name up or makes an HTTP client, past the layer that keeps to the way the user chose.
const SOCKETS: &[&str] = &[
    "TcpStream::connect(",
    "TcpSocket::new",
    "TcpListener::bind(",
    "UdpSocket::bind(",
    "Socket::new(",
    "lookup_host(",
    ".to_socket_addrs(",
    "reqwest::get(",
];

/// Listens on this machine's behalf, and is not the player: the origin server, and the demo's swarm on loopback.
const HOSTS: &[&str] = &["serve/", "app/demo.rs", "main.rs", "cli.rs", "cli/"];

/// The lines of `text` that pass the layer by; tests may, at the end of a file or in files of their own.
fn free_sockets<'a>(file: &str, text: &'a str) -> Vec<&'a str> {
    let stem = file.trim_end_matches(".rs").rsplit('/').next().unwrap_or_default();
    let test_only = file.contains("/tests/")
        || stem.ends_with("_tests")
        || ["tests", "testing", "hostile", "transmission"].contains(&stem);
    if test_only || file.starts_with("net/") || HOSTS.iter().any(|h| file.starts_with(h)) {
        return Vec::new();
    }
    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let comment = |l: &str| l.trim_start().starts_with("//");
    code.lines().filter(|l| !comment(l) && SOCKETS.iter().any(|s| l.contains(s))).collect()
}

#[test]
fn all_sockets_are_made_in_one_layer() {
    let free: Vec<String> = all_sources()
        .iter()
        .flat_map(|(name, text)| free_sockets(name, text).into_iter().map(move |l| format!("src/{name}: {}", l.trim())))
        .collect();
    assert!(free.is_empty(), "made past src/net, so that no chosen way binds them:\n{}", free.join("\n"));
    let planted = "fn f() {\n    let s = TcpStream::connect(a).await;\n    // UdpSocket::bind(a)\n}\n#[cfg(test)]\nmod tests {\n    UdpSocket::bind(b)\n}\n";
    assert_eq!(free_sockets("swarm/dial.rs", planted).len(), 1);
    assert_eq!(free_sockets("net/socket.rs", planted).len(), 0);
}

/// Each of these must be found; without that, a checker that sees nothing would pass.
#[test]
fn planted_arrows_are_found() {
    let planted = [
        ("engine/board.rs", "use crate::stream::Stream;"),
        ("engine/mod.rs", "pub use crate::{units::Instant, swarm::api as s};"),
        ("engine/board.rs", "fn f() { crate::torrent::meta::parse() }"),
        ("engine/board.rs", "mod tests { use super::super::super::torrent::Metainfo; }"),
        ("engine/board.rs", "use super::super::app;"),
        ("engine/board.rs", "use crate::*;"),
        ("engine/clock.rs", "use std::time::{Duration, Instant};"),
        ("engine/clock.rs", "use std::{collections::HashMap, time};"),
        ("engine/clock.rs", "use std::time::*;"),
        ("engine/clock.rs", "fn f() { let t = std::time::SystemTime::now(); }"),
        ("engine/clock.rs", "use ::std::thread;"),
        ("engine/clock.rs", "fn f() { tracing::info!(\"x\") }"),
        ("engine/clock.rs", "fn f() { println!(\"x\") }"),
        ("engine/pick.rs", "use rand::Rng;"),
        ("engine/pick.rs", "use tokio::sync::mpsc;"),
        ("serve/mod.rs", "use crate::engine::Engine;"),
        ("serve/mod.rs", "use crate::engine::{bid::Bid, board::Board};"),
        ("media/demux.rs", "use crate::stream::Stream;"),
        ("media/demux.rs", "use crate::stream;"),
        ("ui/panel.rs", "use crate::app::App;"),
        ("ui/panel.rs", "use crate::engine::EngineSnapshot;"),
        ("ui/panel.rs", "#[cfg(test)]\nmod tests {\n    use crate::media::picture::Picture;\n}"),
        ("app/mod.rs", "use crate::ui::run;"),
        ("app/mod.rs", "use egui::Context;"),
        ("torrent/mod.rs", "use crate::origin::api::OriginMap;"),
        ("units.rs", "use crate::torrent::Layout;"),
        ("app/mod.rs", "type A = Vec<crate::ui::Panel>;"),
    ];
    for (file, source) in planted {
        assert!(!faults(file, source).is_empty(), "not found in {file}: {source}");
    }
}

/// Each of these is as it should be.
#[test]
fn what_is_allowed_passes() {
    let fine = [
        ("engine/board.rs", "use std::time::Duration;\nuse crate::units::{BlockRef, Instant};\nuse super::api::Event;"),
        (
            "engine/board.rs",
            "// crate::stream is told\n/* use tokio::net; /* std::thread */ */ const A: &str = \"std::net\";",
        ),
        (
            "engine/board.rs",
            "const A: &[u8] = br#\"use crate::app; \" \"#; fn f<'a>(c: char) -> bool { c == '\"' || c == '\\'' }",
        ),
        ("engine/board.rs", "mod tests { use super::*; use crate::engine::Engine; }"),
        ("serve/bids.rs", "use crate::engine::bid::Bid;\nuse crate::engine::Bid as B;"),
        ("media/demux.rs", "use crate::stream::reader::{Cancel, Reader};"),
        ("ui/panel.rs", "use crate::app::snapshot::{self, Snapshot};\nuse super::tokens;"),
        ("app/mod.rs", "use crate::{stream::Stream, media::api::PlayerOptions};"),
        ("main.rs", "use sluicegate::{app, ui};"),
        ("cli/mod.rs", "use crate::app::App;"),
    ];
    for (file, source) in fine {
        assert_eq!(faults(file, source), Vec::<String>::new(), "{file}: {source}");
    }
}

#[test]
fn a_file_named_by_an_attribute_is_the_module_it_says() {
    let parent = "mod a;\n#[cfg(test)]\n#[path = \"parse_tests.rs\"]\nmod tests;\n";
    let files = [("torrent/parse.rs".to_owned(), parent.to_owned())];
    assert_eq!(renamed(&files)["torrent/parse_tests.rs"], "torrent/parse/tests");
    let module = ["torrent", "parse", "tests"];
    let check = |source: &str| faults_in("torrent/parse_tests.rs", &module, source);
    assert_eq!(check("use super::super::testing::torrent;"), Vec::<String>::new());
    assert!(!check("use super::super::super::engine::Engine;").is_empty());
}

#[test]
fn a_path_is_found_with_its_line() {
    let found = paths("\n\nuse a::{b, c::{d, self}};", &["x"]);
    let said: Vec<(usize, String)> = found.iter().map(|n| (n.line, n.path.join("::"))).collect();
    let expect = [(3, "a::b".to_owned()), (3, "a::c::d".to_owned()), (3, "a::c".to_owned())];
    assert_eq!(said, expect);
}

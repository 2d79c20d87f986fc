//! The command line, its signals and its exit codes.

use std::io::Read;
use std::net::TcpStream;
use std::path::Path;
use std::process::Output;

use super::support::origin::{LIMIT, Origin, command};
use super::support::{temp_dir, text, wait_for};

fn said(args: &[&str], env: &[(&str, &str)]) -> (Output, String) {
    let home = temp_dir();
    let output = command(home.path()).envs(env.iter().copied()).args(args).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, text)
}

#[test]
fn it_ends_when_asked_to_and_says_so() {
    let dir = temp_dir();
    std::fs::write(dir.path().join("film.mp4"), b"film").unwrap();
    let mut server = Origin::start(&[text(&dir.path().join("film.mp4")), "--log", "json"]);
    assert_eq!(server.get("/", &[]).body, b"film");
    assert_eq!(server.get("/film.mp4", &[]).body, b"film");
    assert!(server.get("/metrics", &[]).body.starts_with(b"# HELP sluicegate_"));
    // SIGHUP without TLS has nothing to read again, and ends nothing.
    server.guard.signal(libc::SIGHUP);
    let mut idle = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    idle.set_read_timeout(Some(LIMIT)).unwrap();
    wait_for("the hangup", LIMIT, || server.guard.log().contains("nothing to read again").then_some(()));
    server.guard.signal(libc::SIGTERM);
    server.ends(0);
    assert_eq!(idle.read(&mut [0]).unwrap_or(0), 0);
    let log = server.guard.log();
    let lines: Vec<serde_json::Value> =
        log.lines().filter(|l| l.starts_with('{')).map(|l| serde_json::from_str(l).unwrap()).collect();
    let messages: Vec<&str> = lines.iter().filter_map(|l| l["message"].as_str()).collect();
    assert!(["serving", "stopping", "stopped"].iter().all(|m| messages.contains(m)), "{log}");
    drop(server.home);
}

#[test]
fn what_cannot_be_served_is_a_sentence() {
    let dir = temp_dir();
    let film = dir.path().join("film.mp4");
    std::fs::write(&film, b"film").unwrap();
    let film = text(&film);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (args, part) in [
        (&["/no/such/film.mp4", "--listen", "127.0.0.1:0"][..], "cannot be read"),
        (&[film, "--listen", &taken], "cannot be listened on"),
        (&[film, film, "--listen", "127.0.0.1:0"], "film.mp4"),
        (&[film, "--tls-cert", film, "--tls-key", film], "PEM"),
        (&[film, "--token", "short"], "at least 8"),
        (&["s3://", "--listen", "127.0.0.1:0"], "BUCKET"),
        (&["--sign", "/film.mp4"], "token"),
        (&["--sign", "/../x", "--token", "0123456789"], "no path"),
    ] {
        let (output, text) = said(args, &[]);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(part) && text.trim_end().ends_with(['.', '>']), "{args:?}: {text}");
    }
}

#[test]
fn a_signed_address_is_printed_and_works() {
    let dir = temp_dir();
    let (film, token) = (dir.path().join("a film.mp4"), dir.path().join("token"));
    std::fs::write(&film, b"film").unwrap();
    std::fs::write(&token, "a token in a file\n").unwrap();
    let server = Origin::start(&[text(&film), "--token-file", text(&token)]);
    assert_eq!(server.get("/a%20film.mp4", &[]).status, 401);
    assert_eq!(server.get("/a%20film.mp4", &["Authorization: Bearer a token in a file"]).body, b"film");
    let sign = ["--sign", "/a film.mp4", "--for", "1h", "--public-url", "https://films.example/"];
    let (output, text) = said(&sign, &[("SLUICEGATE_TOKEN", "a token in a file")]);
    assert!(output.status.success(), "{text}");
    let path = text.trim().strip_prefix("https://films.example").unwrap();
    assert!(path.starts_with("/a%20film.mp4?expires="), "{path}");
    assert_eq!(server.get(path, &[]).body, b"film");
    assert_eq!(server.get(&path[..path.len() - 1], &[]).status, 401);
}

#[test]
fn help_says_how() {
    let (output, text) = said(&["--help"], &[]);
    assert!(output.status.success());
    for part in ["--capacity", "--torrent-out", "s3://", "SLUICEGATE_TOKEN", "--seed"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(Path::new(env!("CARGO_BIN_EXE_sluicegate")).exists());
}

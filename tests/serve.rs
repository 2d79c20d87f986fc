//! `sluicegate serve`, the program: beside nginx and behind it, with its torrents, its signals and its last words.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "serve/beside_nginx.rs"]
mod beside_nginx;
#[path = "serve/program.rs"]
mod program;
#[path = "serve/torrents.rs"]
mod torrents;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use support::process::Guard;
use support::{TempDir, free_port, temp_dir, wait_for};

/// Generous: only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(60);

/// A running `sluicegate serve`.
struct Server {
    port: u16,
    guard: Guard,
    home: TempDir,
}

/// Never the settings, caches or secrets of whoever runs the tests.
fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.env_clear().env("HOME", home).current_dir(home).arg("serve");
    command
}

impl Server {
    fn start(args: &[&str]) -> Server {
        Server::start_in(temp_dir(), args)
    }

    fn start_in(home: TempDir, args: &[&str]) -> Server {
        let port = free_port();
        let mut command = command(home.path());
        command.args(["--listen", &format!("127.0.0.1:{port}")]).args(args);
        let mut guard = Guard::spawn(&mut command, Some(&home.path().join("log")));
        wait_for("the server", LIMIT, || {
            assert!(guard.runs(), "the server ended: {}", guard.log());
            guard.log().contains("serving").then_some(())
        });
        Server { port, guard, home }
    }

    fn get(&self, path: &str, headers: &[&str]) -> Answer {
        ask(self.port, "GET", path, headers)
    }

    /// Ends with this exit code.
    fn ends(&mut self, code: i32) {
        let status = self.guard.wait(LIMIT).expect("it ends");
        assert_eq!(status.code(), Some(code), "{}", self.guard.log());
    }
}

/// What a server said.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|l| l.split_once(':'));
        lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
    }
}

/// One request on a connection of its own, on loopback.
fn ask(port: u16, method: &str, path: &str, headers: &[&str]) -> Answer {
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).unwrap();
    tcp.set_read_timeout(Some(LIMIT)).unwrap();
    let lines: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    write!(tcp, "{method} {path} HTTP/1.1\r\nHost: films.example\r\nConnection: close\r\n{lines}\r\n").unwrap();
    let mut all = Vec::new();
    tcp.read_to_end(&mut all).unwrap();
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| panic!("no head: {all:?}"));
    let body = all.split_off(end + 4);
    let head = String::from_utf8(all).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body }
}

//! A running `sluicegate serve`, and one plain request to a server.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::process::Guard;
use super::{TempDir, free_port, temp_dir, wait_for};

/// Generous: only a hang reaches it.
pub const LIMIT: Duration = Duration::from_secs(60);

/// `sluicegate serve`: never with the settings, caches or secrets of whoever runs the tests.
pub fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.env_clear().env("HOME", home).current_dir(home).arg("serve");
    command
}

pub struct Origin {
    pub port: u16,
    pub guard: Guard,
    pub home: TempDir,
}

impl Origin {
    /// Starts one on loopback, and waits until it serves.
    pub fn start(args: &[&str]) -> Origin {
        let (home, port) = (temp_dir(), free_port());
        let mut command = command(home.path());
        command.args(["--listen", &format!("127.0.0.1:{port}")]).args(args);
        let mut guard = Guard::spawn(&mut command, Some(&home.path().join("log")));
        wait_for("the origin", LIMIT, || {
            assert!(guard.runs(), "the origin ended: {}", guard.log());
            guard.log().contains("serving").then_some(())
        });
        Origin { port, guard, home }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    pub fn get(&self, path: &str, headers: &[&str]) -> Answer {
        ask(self.port, "GET", path, headers)
    }

    /// The value of a counter or gauge of `/metrics`, as its line begins.
    pub fn counts(&self, name: &str) -> f64 {
        let page = String::from_utf8(self.get("/metrics", &[]).body).unwrap();
        let line = page.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).trim().parse().unwrap()
    }

    /// Ends with this exit code.
    pub fn ends(&mut self, code: i32) {
        let status = self.guard.wait(LIMIT).expect("it ends");
        assert_eq!(status.code(), Some(code), "{}", self.guard.log());
    }
}

/// What a server said.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|l| l.split_once(':'));
        lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim())
    }
}

/// One request on a connection of its own, on loopback.
pub fn ask(port: u16, method: &str, path: &str, headers: &[&str]) -> Answer {
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

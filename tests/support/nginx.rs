//! nginx as a plain web server, with what hostile ones do on request.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::process::Guard;
use super::{TempDir, free_port, temp_dir, text, wait_for};

/// A web server on loopback that serves one folder.
pub struct Nginx {
    pub port: u16,
    dir: TempDir,
    guard: Guard,
}

impl Nginx {
    /// Serves `root`; `bytes_per_s` limits each connection, `None` leaves it free.
    pub fn serve(root: &Path, bytes_per_s: Option<u32>) -> Nginx {
        let (dir, port) = (temp_dir(), free_port());
        let d = text(dir.path());
        let rate = bytes_per_s.map(|r| format!("limit_rate {r};")).unwrap_or_default();
        // As root its workers would run as another user, who may not look into a temporary folder.
        // SAFETY: geteuid takes and changes nothing.
        let user = if unsafe { libc::geteuid() } == 0 { "user root;" } else { "" };
        let conf = format!(
            "{user} daemon off; master_process off; worker_processes 1; pid {d}/pid; error_log {d}/error.log;
            events {{ worker_connections 128; }}
            http {{
                access_log {d}/access.log; client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f;
                uwsgi_temp_path {d}/u; scgi_temp_path {d}/s; types {{ video/mp4 mp4; application/x-bittorrent torrent; }}
                server {{
                    listen 127.0.0.1:{port};
                    location = /status {{ stub_status; access_log off; }}
                    location / {{ root {root}; {rate} }}
                    location /no-range/ {{ alias {root}/; max_ranges 0; }}
                    location /circle/ {{ return 302 /circle$request_uri; }}
                    location /html/ {{ default_type text/html; return 200 '<html>sign in first</html>'; }}
                    location /broken/ {{ return 503; }}
                }}
            }}",
            root = text(root),
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, conf).unwrap();
        let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let error_log = format!("{d}/error.log");
        let mut guard = Guard::spawn(
            Command::new(program).args(["-e", &error_log, "-p", d, "-c", text(&file)]),
            Some(&dir.path().join("log")),
        );
        wait_for("nginx", Duration::from_secs(60), || {
            assert!(guard.runs(), "nginx ended: {}", guard.log());
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Nginx { port, dir, guard }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// Requests so far, a line each.
    pub fn access_log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Answers that it is in the middle of.
    pub fn answering(&self) -> usize {
        let mut tcp = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        tcp.write_all(b"GET /status HTTP/1.0\r\n\r\n").unwrap();
        let mut said = String::new();
        tcp.read_to_string(&mut said).unwrap();
        let of = |word| said.split_once(word).and_then(|(_, rest)| rest.split_whitespace().next()?.parse().ok());
        // This question is one of them.
        of("Writing: ").map_or(0, |n: usize| n.saturating_sub(1))
    }

    /// Sends it a signal. It is one process.
    pub fn signal(&self, signal: i32) {
        self.guard.signal(signal);
    }
}

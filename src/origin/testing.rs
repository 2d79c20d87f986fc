//! Servers to test against: one that answers raw bytes as a test tells it, and a real nginx.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::api::{OriginEvent, OriginMap, OriginPart};
use crate::units::{ByteRange, FetchId};

/// Generous: only a hang reaches it.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Bytes whose value tells their offset.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

pub fn map_of(parts: &[(&str, u64)]) -> OriginMap {
    let mut at = 0;
    let parts = parts.iter().map(|(url, len)| {
        let range = ByteRange::new(at, at + len);
        at += len;
        OriginPart { range, url: (*url).to_owned() }
    });
    OriginMap { parts: parts.collect() }
}

/// One request, as far as these tests look at it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Counted over all connections, from 0.
    pub nth: usize,
    pub connection: usize,
    pub path: String,
    /// `start, end` of a Range header, end exclusive.
    pub range: Option<(usize, usize)>,
    pub head: String,
}

/// A server on loopback that answers by a test's own function, on kept connections. The function gives the stream
/// back to go on, or drops it to close.
pub struct Hostile {
    pub addr: SocketAddr,
    pub asked: Arc<Mutex<Vec<Asked>>>,
    pub connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Hostile {
    pub async fn start<F, R>(answer: F) -> Self
    where
        F: Fn(Asked, TcpStream) -> R + Send + Sync + 'static,
        R: Future<Output = Option<TcpStream>> + Send + 'static,
    {
        Self::start_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap(), answer)
    }

    pub fn start_on<F, R>(listener: TcpListener, answer: F) -> Self
    where
        F: Fn(Asked, TcpStream) -> R + Send + Sync + 'static,
        R: Future<Output = Option<TcpStream>> + Send + 'static,
    {
        let addr = listener.local_addr().unwrap();
        let (asked, connections): (Arc<Mutex<Vec<Asked>>>, Arc<AtomicUsize>) = Default::default();
        let (answer, log, count) = (Arc::new(answer), asked.clone(), connections.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                let connection = count.fetch_add(1, Ordering::SeqCst);
                let (answer, log) = (answer.clone(), log.clone());
                tokio::spawn(async move {
                    while let Some(head) = read_head(&mut stream).await {
                        let asked = {
                            let mut log = log.lock();
                            let asked = parse(head, log.len(), connection);
                            log.push(asked.clone());
                            asked
                        };
                        match answer(asked, stream).await {
                            Some(s) => stream = s,
                            None => return,
                        }
                    }
                });
            }
        });
        Self { addr, asked, connections, task }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut reader = BufReader::with_capacity(1, stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

fn parse(head: String, nth: usize, connection: usize) -> Asked {
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let range = head.lines().find_map(|l| l.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let range = range.and_then(|r| {
        let (a, b) = r.trim().split_once('-')?;
        Some((a.parse().ok()?, b.parse::<usize>().ok()? + 1))
    });
    Asked { nth, connection, path, range, head }
}

/// Writes an answer and keeps the connection.
pub async fn say(mut stream: TcpStream, head: &str, body: &[u8]) -> Option<TcpStream> {
    stream.write_all(head.replace('\n', "\r\n").as_bytes()).await.ok()?;
    stream.write_all(b"\r\n\r\n").await.ok()?;
    stream.write_all(body).await.ok()?;
    Some(stream)
}

/// Answers a range of `data` as a good server does.
pub async fn good(asked: Asked, stream: TcpStream, data: &[u8]) -> Option<TcpStream> {
    match asked.range {
        Some((a, b)) => {
            let b = b.min(data.len());
            let head = partial_head(a, b, data.len());
            say(stream, &head, &data[a..b]).await
        }
        None => say(stream, &format!("HTTP/1.1 200 OK\nContent-Length: {}", data.len()), data).await,
    }
}

pub fn partial_head(a: usize, b: usize, total: usize) -> String {
    let len = b - a;
    format!("HTTP/1.1 206 Partial Content\nContent-Length: {len}\nContent-Range: bytes {a}-{}/{total}", b - 1)
}

/// The next event that is no `Up`.
pub async fn next(rx: &mut mpsc::Receiver<OriginEvent>) -> OriginEvent {
    loop {
        match any(rx).await {
            OriginEvent::Up { .. } => {}
            event => return event,
        }
    }
}

pub async fn any(rx: &mut mpsc::Receiver<OriginEvent>) -> OriginEvent {
    tokio::time::timeout(LIMIT, rx.recv()).await.expect("an event").expect("an open channel")
}

/// The reason of the next `Down`.
pub async fn down(rx: &mut mpsc::Receiver<OriginEvent>) -> String {
    loop {
        if let OriginEvent::Down { reason, .. } = any(rx).await {
            return reason;
        }
    }
}

/// All bytes of a fetch up to its `Done`, checked to be in order from `start`.
pub async fn collect(rx: &mut mpsc::Receiver<OriginEvent>, id: FetchId, start: u64) -> Result<Vec<u8>, String> {
    let mut got = Vec::new();
    loop {
        match next(rx).await {
            OriginEvent::Bytes { fetch, offset, data } if fetch == id => {
                assert_eq!(offset, start + got.len() as u64);
                assert!(data.len() <= 64 * 1024);
                got.extend_from_slice(&data);
            }
            OriginEvent::Done { fetch } if fetch == id => return Ok(got),
            OriginEvent::Failed { fetch, reason } if fetch == id => return Err(reason),
            _ => {}
        }
    }
}

/// Waits for a condition that other tasks bring about.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("never came true: {what}"));
}

/// A real nginx on a free port of loopback, serving a folder; ended when dropped.
pub struct Nginx {
    pub port: u16,
    /// HTTPS with HTTP/2, for `localhost`, by a certificate of its own: `cert.pem` in the folder.
    pub tls_port: Option<u16>,
    pub dir: tempfile::TempDir,
    child: Child,
}

impl Nginx {
    /// `None` where nginx is not installed.
    pub async fn start() -> Option<Self> {
        Self::start_with(false).await
    }

    /// `None` where nginx or openssl is not installed.
    pub async fn start_tls() -> Option<Self> {
        Self::start_with(true).await
    }

    async fn start_with(tls: bool) -> Option<Self> {
        let binary = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/bin/nginx", "/opt/homebrew/bin/nginx"];
        let binary = binary.iter().map(Path::new).find(|p| p.exists())?;
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("www")).unwrap();
        let port = free_port().await;
        let d = dir.path().display();
        let tls_port = match tls {
            true => Some(certify(dir.path()).then_some(free_port().await)?),
            false => None,
        };
        let tls = tls_port.map_or(String::new(), |p| {
            format!("listen 127.0.0.1:{p} ssl http2; ssl_certificate {d}/cert.pem; ssl_certificate_key {d}/key.pem;")
        });
        let conf = format!(
            "master_process off; daemon off; pid {d}/pid; error_log {d}/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ log_format c '$connection $http_range $uri $server_protocol'; access_log {d}/access.log c;\n\
             client_body_temp_path {d}/a; proxy_temp_path {d}/b; fastcgi_temp_path {d}/c; uwsgi_temp_path {d}/d;\n\
             scgi_temp_path {d}/e;\n\
             server {{ listen 127.0.0.1:{port}; {tls} root {d}/www; location /moved/ {{ rewrite ^/moved/(.*) /$1 redirect; }} }} }}\n"
        );
        std::fs::write(dir.path().join("conf"), conf).unwrap();
        let mut command = Command::new(binary);
        command.arg("-c").arg(dir.path().join("conf")).arg("-p").arg(dir.path());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let nginx = Self { port, tls_port, dir, child };
        let connect = async {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LIMIT, connect).await.expect("nginx listens");
        Some(nginx)
    }

    pub fn put(&self, path: &str, data: &[u8]) {
        let path: PathBuf = self.dir.path().join("www").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, data).unwrap();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// `connection, range, path` of each request so far.
    pub fn log(&self) -> Vec<(String, String, String)> {
        let log = std::fs::read_to_string(self.dir.path().join("access.log")).unwrap_or_default();
        let line = |l: &str| {
            let mut words = l.split(' ').map(str::to_owned);
            Some((words.next()?, words.next()?, words.next()?))
        };
        log.lines().filter_map(line).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap().port()
}

/// Makes `cert.pem` and `key.pem` for localhost; false where openssl is not installed.
fn certify(dir: &Path) -> bool {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=sluicegate test", "-addext", "subjectAltName=DNS:localhost"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "key.pem", "-out", "cert.pem"]);
    let status = command.current_dir(dir).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|s| s.success())
}

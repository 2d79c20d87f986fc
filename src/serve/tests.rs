//! The server over real sockets: asked by a plain HTTP client, and by hand where no client would ask like that.

mod access;
mod bucket;
mod demands;
mod ends;
mod load;
mod ranges;
mod tls;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::source::SourceSpec;
use super::{Origin, ServeOptions, Tls};

/// Generous: only a hang reaches it.
const LIMIT: Duration = Duration::from_secs(60);

struct Running {
    url: String,
    addr: SocketAddr,
    metrics: Option<SocketAddr>,
    client: Client,
    origin: Arc<Origin>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// Bytes whose value tells their offset.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|i| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect()
}

fn of(path: &Path) -> ServeOptions {
    ServeOptions { sources: vec![SourceSpec::Path(path.to_owned())], ..ServeOptions::default() }
}

async fn start(options: ServeOptions) -> Running {
    run(Origin::open(options).await.unwrap(), None, false).await
}

async fn run(origin: Origin, tls: Option<Arc<Tls>>, watched: bool) -> Running {
    let bind = || TcpListener::bind("127.0.0.1:0");
    let listener = bind().await.unwrap();
    let watch = if watched { Some(bind().await.unwrap()) } else { None };
    let metrics = watch.as_ref().map(|l| l.local_addr().unwrap());
    let addr = listener.local_addr().unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let (stop, stopped) = oneshot::channel::<()>();
    let origin = Arc::new(origin);
    let running = origin.clone();
    let task = tokio::spawn(async move {
        let shutdown = async {
            let _ = stopped.await;
        };
        running.run(listener, tls, watch, shutdown).await;
    });
    let client = Client::builder().no_proxy().build().unwrap();
    Running { url: format!("{scheme}://{addr}"), addr, metrics, client, origin, stop: Some(stop), task }
}

impl Running {
    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }

    async fn get(&self, path: &str, range: &str) -> Response {
        let range = [("range", range)];
        self.ask(Method::GET, path, if range[0].1.is_empty() { &[] } else { &range }).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Sends these very bytes, and gives what comes back until the server closes.
    async fn raw(&self, request: &[u8]) -> String {
        let mut tcp = self.connect().await;
        tcp.write_all(request).await.unwrap();
        until_closed(&mut tcp).await
    }

    /// The value of a line of `/metrics`, by what stands before its value.
    fn count(&self, line: &str) -> u64 {
        let text = self.origin.metrics().render();
        let value = text.lines().find_map(|l| l.strip_prefix(line)).map(|v| v.trim().parse::<f64>().unwrap() as u64);
        value.unwrap_or(0)
    }

    /// Asks it to end and waits until it did.
    async fn end(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        tokio::time::timeout(LIMIT, &mut self.task).await.expect("it ends").unwrap();
    }
}

/// A reset counts as the end: a server that refuses does not wait for the rest of what it refuses.
async fn until_closed(tcp: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let read = async {
        let mut buf = [0; 4096];
        while let Ok(n) = tcp.read(&mut buf).await {
            if n == 0 {
                break;
            }
            all.extend_from_slice(&buf[..n]);
        }
    };
    tokio::time::timeout(LIMIT, read).await.expect("the server closes");
    String::from_utf8_lossy(&all).into_owned()
}

/// Waits for something that other tasks bring about.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

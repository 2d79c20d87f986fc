//! The server over real sockets, asked by our own origin client and by a plain HTTP client.

use std::path::Path;
use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::{ServeError, serve};

struct Running {
    url: String,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<Result<(), ServeError>>,
}

async fn start(root: &Path, bytes_per_s: Option<u64>) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let root = root.to_owned();
    let task = tokio::spawn(serve(listener, root, bytes_per_s, async {
        let _ = stopped.await;
    }));
    Running { url, client: Client::builder().no_proxy().build().unwrap(), stop: Some(stop), task }
}

impl Running {
    async fn ask(&self, method: Method, path: &str, range: Option<&str>) -> reqwest::Response {
        let mut request = self.client.request(method, format!("{}{path}", self.url));
        if let Some(range) = range {
            request = request.header("range", range);
        }
        request.send().await.unwrap()
    }
}

#[tokio::test]
async fn files_are_served_by_range_and_nothing_outside_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("sub")).unwrap();
    let data: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
    std::fs::write(root.join("sub/a b.bin"), &data).unwrap();
    std::fs::write(dir.path().join("secret"), b"secret").unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(dir.path().join("secret"), root.join("link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), root.join("up")).unwrap();
    }
    let server = start(&root, None).await;
    let part = server.ask(Method::GET, "/sub/a%20b.bin", Some("bytes=500-999")).await;
    assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT);
    assert_eq!(part.headers()["content-range"], "bytes 500-999/100000");
    assert_eq!(part.headers()["content-length"], "500");
    assert!(part.headers().contains_key("etag") && part.headers().contains_key("last-modified"));
    assert_eq!(part.bytes().await.unwrap(), &data[500..1000]);
    let head = server.ask(Method::HEAD, "/sub/a%20b.bin", None).await;
    assert_eq!((head.status(), head.headers()["content-length"].as_bytes()), (StatusCode::OK, &b"100000"[..]));
    assert_eq!(head.bytes().await.unwrap().len(), 0);
    assert_eq!(server.ask(Method::GET, "/sub/a%20b.bin", None).await.bytes().await.unwrap(), data);
    let past = server.ask(Method::GET, "/sub/a%20b.bin", Some("bytes=100000-")).await;
    assert_eq!(past.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    for path in ["/link", "/up/secret", "/%2e%2e/secret", "/sub/..%2f..%2fsecret", "/nothing", "/sub", "/"] {
        let status = server.ask(Method::GET, path, None).await.status();
        assert!(!status.is_success(), "{path}: {status}");
    }
    assert_eq!(server.ask(Method::POST, "/sub/a%20b.bin", None).await.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_single_file_is_served_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a {film}.mkv");
    std::fs::write(&file, b"film").unwrap();
    std::fs::write(dir.path().join("other"), b"other").unwrap();
    let server = start(&file, None).await;
    for path in ["/", "/a%20%7Bfilm%7D.mkv"] {
        assert_eq!(server.ask(Method::GET, path, None).await.bytes().await.unwrap(), "film", "{path}");
    }
    assert_eq!(server.ask(Method::GET, "/other", None).await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn shutdown_breaks_off_what_would_take_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), vec![0; 1_000_000]).unwrap();
    let mut server = start(dir.path(), Some(1000)).await;
    let mut slow = server.ask(Method::GET, "/f", None).await;
    assert!(slow.chunk().await.unwrap().is_some());
    server.stop.take().unwrap().send(()).unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), server.task).await.expect("it ends");
    ended.unwrap().unwrap();
    loop {
        match slow.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a body cut short must not look whole"),
            Err(_) => break,
        }
    }
}

#[tokio::test]
async fn a_root_that_is_not_there_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ended = serve(listener, "/no/such/folder".into(), None, async {}).await;
    assert!(matches!(ended, Err(ServeError::Source(_))));
}

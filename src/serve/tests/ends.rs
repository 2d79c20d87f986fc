//! How it ends.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::super::{Origin, ServeOptions};
use super::{LIMIT, of, run, start};

#[tokio::test]
async fn shutdown_breaks_off_what_would_take_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), vec![0; 1_000_000]).unwrap();
    let mut server = start(ServeOptions { bytes_per_s: Some(1000), ..of(dir.path()) }).await;
    let mut slow = server.get("/f", "").await;
    assert!(slow.chunk().await.unwrap().is_some());
    server.end().await;
    loop {
        match slow.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a body cut short must not look whole"),
            Err(_) => break,
        }
    }
}

#[tokio::test]
async fn what_is_under_way_may_end_within_the_grace() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), vec![7; 200_000]).unwrap();
    let options = ServeOptions { bytes_per_s: Some(200_000), grace: LIMIT, ..of(dir.path()) };
    let mut server = run(Origin::open(options).await.unwrap(), None, true).await;
    let mut under_way = server.get("/f", "").await;
    let mut got = under_way.chunk().await.unwrap().unwrap().len();
    let mut idle = server.connect().await;
    let watch = server.metrics.unwrap();
    let health = async || {
        let mut tcp = TcpStream::connect(watch).await.ok()?;
        tcp.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.ok()?;
        let mut text = String::new();
        tcp.read_to_string(&mut text).await.ok()?;
        Some(text)
    };
    assert!(health().await.unwrap().starts_with("HTTP/1.1 200"));
    let _ = server.stop.take().unwrap().send(());
    // Idle ones go at once, new ones are refused, and whoever watches the server is told.
    assert_eq!(super::until_closed(&mut idle).await, "");
    let stopping = async {
        while !health().await.is_some_and(|h| h.starts_with("HTTP/1.1 503")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, stopping).await.expect("it says that it stops");
    assert!(TcpStream::connect(server.addr).await.is_err());
    while let Some(bytes) = under_way.chunk().await.unwrap() {
        got += bytes.len();
    }
    assert_eq!(got, 200_000);
    // Long before the grace is over.
    tokio::time::timeout(LIMIT / 2, &mut server.task).await.expect("it ends when all is sent").unwrap();
}

#[tokio::test]
async fn dropped_in_the_middle_it_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::File::create(dir.path().join("f")).unwrap().set_len(1 << 30).unwrap();
    let server = start(of(dir.path())).await;
    let mut answer = server.get("/f", "").await;
    assert!(answer.chunk().await.unwrap().is_some());
    server.task.abort();
    let over = async { while let Ok(Some(_)) = answer.chunk().await {} };
    tokio::time::timeout(LIMIT, over).await.expect("its connections end with it");
}

//! Clients that ask for too much, too slowly, or for nothing at all.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::{ConnectionLimits, ServeOptions};
use super::{LIMIT, of, start, until, until_closed};

#[tokio::test]
async fn requests_that_no_client_makes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), b"film").unwrap();
    let server = start(of(dir.path())).await;
    let long = "x".repeat(100_000);
    let many = "A: b\r\n".repeat(2000);
    for (request, status) in [
        ("GET /f HTTP/1.1\r\n\r\n".to_owned(), "400"),
        ("GET /f HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), "400"),
        ("GET /f HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\nGET /g HTTP/1.1\r\n".to_owned(), "400"),
        ("GET /f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), "400"),
        (
            "GET /f HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n".to_owned(),
            "400",
        ),
        ("GET /f HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n".to_owned(), "400"),
        ("GET /f HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(), "400"),
        ("GET /f HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(), "400"),
        ("GET /f HTTP/9.9\r\nHost: a\r\n\r\n".to_owned(), "400"),
        ("nonsense\r\n\r\n".to_owned(), "400"),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), "4"),
        (format!("GET /f HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"), "431"),
        (format!("GET /f HTTP/1.1\r\nHost: a\r\n{many}\r\n"), "431"),
    ] {
        let answer = server.raw(request.as_bytes()).await;
        let shown: String = request.chars().take(80).collect();
        assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), usize::from(!answer.is_empty()), "{shown:?}: {answer}");
    }
    // And it goes on.
    let whole = server.raw(b"GET http://elsewhere/f HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(whole.starts_with("HTTP/1.1 200") && whole.ends_with("film"), "{whole}");
}

#[tokio::test]
async fn idle_connections_give_way_to_those_that_ask() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), b"film").unwrap();
    let connections = ConnectionLimits { total: 8, per_address: 8, ..ConnectionLimits::default() };
    let server = start(ServeOptions { connections, ..of(dir.path()) }).await;
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(server.connect().await);
    }
    for _ in 0..3 {
        assert_eq!(server.get("/f", "").await.bytes().await.unwrap(), "film");
    }
    // The first ones went.
    assert_eq!(until_closed(&mut idle[0]).await, "");
    until("no more than allowed", || server.count("sluicegate_connections") <= 8).await;
}

#[tokio::test]
async fn a_head_that_never_ends_and_a_connection_that_says_nothing_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), b"film").unwrap();
    let connections = ConnectionLimits { idle: Duration::from_millis(300), ..ConnectionLimits::default() };
    let server = start(ServeOptions { connections, ..of(dir.path()) }).await;
    let mut silent = server.connect().await;
    let mut dripping = server.connect().await;
    let (mut half, mut sender) = dripping.split();
    let drip = async {
        // Each byte alone would be within any time between two reads.
        let _ = sender.write_all(b"GET /f HTTP/1.1\r\nHost: a\r\nX: ").await;
        while sender.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let closed = async {
        let mut all = Vec::new();
        let _ = half.read_to_end(&mut all).await;
        all
    };
    let got = tokio::time::timeout(LIMIT, async {
        tokio::select! { () = drip => Vec::new(), got = closed => got }
    });
    assert!(!String::from_utf8_lossy(&got.await.expect("it is closed")).contains("200 OK"));
    assert_eq!(until_closed(&mut silent).await, "");
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_let_go_and_nobody_else_waits() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::File::create(dir.path().join("f")).unwrap().set_len(1 << 30).unwrap();
    let connections = ConnectionLimits { stall: Duration::from_millis(500), ..ConnectionLimits::default() };
    let server = start(ServeOptions { connections, ..of(dir.path()) }).await;
    let mut readers = Vec::new();
    for _ in 0..4 {
        let mut tcp = server.connect().await;
        tcp.write_all(b"GET /f HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        readers.push(tcp);
    }
    assert_eq!(server.get("/f", "bytes=0-99999").await.bytes().await.unwrap().len(), 100_000);
    until("they are let go", || server.count("sluicegate_stalled_total") == 4).await;
    // One whose stream is not read while its connection is.
    let h2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let unread = h2.get(format!("{}/f", server.url)).send().await.unwrap();
    until("it is let go too", || server.count("sluicegate_stalled_total") == 5).await;
    drop(unread);
}

#[tokio::test]
async fn more_answers_than_files_may_be_open_have_to_wait() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::File::create(dir.path().join("f")).unwrap().set_len(1 << 30).unwrap();
    let server = start(ServeOptions { files: 1, ..of(dir.path()) }).await;
    let first = server.get("/f", "").await;
    let busy = server.get("/f", "bytes=0-9").await;
    assert_eq!((busy.status().as_u16(), busy.headers()["retry-after"].as_bytes()), (503, &b"1"[..]));
    drop(first);
    let freed = async {
        while server.get("/f", "bytes=0-9").await.status().as_u16() != 206 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, freed).await.expect("an answer whose reader went away is over");
}

//! An origin against real nginx, and against servers that lie, break and dawdle.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Barrier, mpsc};

use super::api::{OriginEvent, OriginMap};
use super::testing::*;
use super::{Origin, OriginError, get_small, probe_url, web_seed_map};
use crate::net::NetRoute;
use crate::units::{ByteRange, FetchId, OriginId};

mod tls;

const F: FetchId = FetchId(1);

fn start(map: OriginMap) -> (Origin, mpsc::Receiver<OriginEvent>) {
    let (tx, rx) = mpsc::channel(4);
    (Origin::start(&Handle::current(), OriginId(0), map, NetRoute::default(), Default::default(), tx), rx)
}

async fn up(rx: &mut mpsc::Receiver<OriginEvent>) {
    match any(rx).await {
        OriginEvent::Up { rtt, .. } => assert!(rtt.is_some()),
        other => panic!("{other:?}"),
    }
}

/// What a server of `data` that answers by `answer` brings upon itself when all of `data` is fetched.
async fn left_alone<Fut>(len: usize, answer: impl Fn(Asked, TcpStream) -> Fut + Send + Sync + 'static) -> String
where
    Fut: Future<Output = Option<TcpStream>> + Send + 'static,
{
    let server = Hostile::start(answer).await;
    let (origin, mut rx) = start(map_of(&[(&server.url("/v.mkv"), len as u64)]));
    origin.fetch(F, ByteRange::new(0, len as u64), Vec::new());
    let reason = down(&mut rx).await;
    // And it stays so.
    origin.fetch(FetchId(2), ByteRange::new(0, 10), Vec::new());
    assert!(collect(&mut rx, FetchId(2), 0).await.is_err());
    reason
}

#[tokio::test]
async fn nginx_serves_a_folder_over_the_connection_that_was_probed() {
    let Some(nginx) = Nginx::start().await else { return };
    let (a, b) = (pattern(300_000), pattern(70_001));
    nginx.put("seed/Näme/a b#1.mkv", &a);
    nginx.put("seed/Näme/sub/c.txt", &b);
    let files = [
        ("a b#1.mkv".to_owned(), ByteRange::new(0, 300_000), false),
        ("pad".to_owned(), ByteRange::new(300_000, 300_100), true),
        ("sub/c.txt".to_owned(), ByteRange::new(300_100, 370_101), false),
    ];
    let (origin, mut rx) = start(web_seed_map(&nginx.url("/seed"), true, "Näme", &files).unwrap());
    up(&mut rx).await;
    origin.fetch(F, ByteRange::new(1000, 200_000), Vec::new());
    assert_eq!(collect(&mut rx, F, 1000).await.unwrap(), &a[1000..200_000]);
    until("the log has both", || nginx.log().iter().filter(|l| l.1.starts_with("bytes=")).count() >= 2).await;
    let log = nginx.log();
    let connection = |range: &str| log.iter().find(|l| l.1 == range).map(|l| l.0.clone()).unwrap();
    assert_eq!(connection("bytes=0-0"), connection("bytes=1000-199999"));

    // Across the padding, which nobody is asked for.
    origin.fetch(FetchId(2), ByteRange::new(299_990, 300_110), Vec::new());
    let mut got = Vec::new();
    loop {
        match next(&mut rx).await {
            OriginEvent::Bytes { offset, data, .. } => got.push((offset, data.to_vec())),
            OriginEvent::Done { fetch } => break assert_eq!(fetch, FetchId(2)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(got, [(299_990, a[299_990..].to_vec()), (300_100, b[..10].to_vec())]);
}

#[tokio::test]
async fn a_redirect_is_followed_once_and_remembered() {
    let Some(nginx) = Nginx::start().await else { return };
    let data = pattern(50_000);
    nginx.put("v.mp4", &data);
    let (origin, mut rx) = start(map_of(&[(&nginx.url("/moved/v.mp4"), 50_000)]));
    up(&mut rx).await;
    for (i, range) in [(1, 10..20), (2, 20..30)] {
        origin.fetch(FetchId(i), ByteRange::new(range.start, range.end), Vec::new());
        let got = collect(&mut rx, FetchId(i), range.start).await.unwrap();
        assert_eq!(got, &data[range.start as usize..range.end as usize]);
    }
    until("the log has all", || nginx.log().iter().any(|l| l.1 == "bytes=20-29")).await;
    assert_eq!(nginx.log().iter().filter(|l| l.2.starts_with("/moved/")).count(), 1);
}

#[tokio::test]
async fn a_redirect_that_expires_falls_back_to_the_original() {
    let data: Arc<[u8]> = pattern(1000).into();
    let spent: Arc<Mutex<HashSet<String>>> = Arc::default();
    let server = Hostile::start(move |asked, stream| {
        let (data, spent) = (data.clone(), spent.clone());
        async move {
            if !asked.path.starts_with("/signed") {
                let head = format!("HTTP/1.1 302 Found\nLocation: /signed{}\nContent-Length: 0", asked.nth);
                return say(stream, &head, b"").await;
            }
            // Each signed address works once.
            if !spent.lock().insert(asked.path.clone()) {
                return say(stream, "HTTP/1.1 403 Forbidden\nContent-Length: 0", b"").await;
            }
            good(asked, stream, &data).await
        }
    })
    .await;
    let (origin, mut rx) = start(map_of(&[(&server.url("/v"), 1000)]));
    up(&mut rx).await;
    for i in 1..4 {
        origin.fetch(FetchId(i), ByteRange::new(0, 1000), Vec::new());
        assert_eq!(collect(&mut rx, FetchId(i), 0).await.unwrap().len(), 1000);
    }
}

#[tokio::test]
async fn a_range_that_breaks_is_resumed_at_its_last_byte() {
    let data: Arc<[u8]> = pattern(400_000).into();
    let whole = data.clone();
    let server = Hostile::start(move |asked, mut stream| {
        let data = data.clone();
        async move {
            let (a, b) = asked.range?;
            if b - a <= 100_000 {
                return good(asked, stream, &data).await;
            }
            // Promises all, sends 100 kB, hangs up.
            stream = say(stream, &partial_head(a, b, data.len()), &data[a..a + 100_000]).await?;
            let _ = stream.shutdown().await;
            None
        }
    })
    .await;
    let (origin, mut rx) = start(map_of(&[(&server.url("/v.mkv"), 400_000)]));
    origin.fetch(F, ByteRange::new(5, 400_000), Vec::new());
    assert_eq!(collect(&mut rx, F, 5).await.unwrap(), &whole[5..]);
    let asked: Vec<_> = server.asked.lock().iter().filter_map(|a| a.range).filter(|r| *r != (0, 1)).collect();
    assert_eq!(asked, [(5, 400_000), (100_005, 400_000), (200_005, 400_000), (300_005, 400_000)]);
}

#[tokio::test]
async fn a_server_that_breaks_after_each_byte_is_not_asked_for_ever() {
    let server = Hostile::start(|asked, mut stream| async move {
        let (a, b) = asked.range?;
        if b - a == 1 {
            return say(stream, &partial_head(a, b, 1000), b"x").await;
        }
        stream = say(stream, &partial_head(a, b, 1000), b"x").await?;
        let _ = stream.shutdown().await;
        None
    })
    .await;
    let (origin, mut rx) = start(map_of(&[(&server.url("/v"), 1000)]));
    up(&mut rx).await;
    origin.fetch(F, ByteRange::new(0, 1000), Vec::new());
    assert!(collect(&mut rx, F, 0).await.is_err());
    assert_eq!(server.asked.lock().iter().filter(|a| a.range != Some((0, 1))).count(), 3);
}

#[tokio::test]
async fn servers_that_lie_are_left_alone_with_a_reason() {
    const N: usize = 200_000;
    let reason = left_alone(N, |asked, stream| async move {
        let a = asked.range.map_or(0, |r| r.0);
        // Whole body whatever was asked for; to a 1-byte probe as well.
        say(stream, &format!("HTTP/1.1 200 OK\nContent-Length: {N}"), &pattern(N)[a..]).await
    });
    assert_eq!(reason.await, "ignores Range");

    let reason = left_alone(N, |asked, stream| async move {
        let (a, b) = asked.range?;
        say(stream, &partial_head(a, b, 3 + N), &vec![0; b - a]).await
    });
    assert_eq!(reason.await, format!("has a file of {} bytes, not {N}", 3 + N));

    let reason = left_alone(N, |asked, stream| async move {
        let (a, b) = asked.range?;
        let head =
            format!("HTTP/1.1 206 Partial Content\nTransfer-Encoding: chunked\nContent-Range: bytes {a}-{}/{N}", b - 1);
        say(stream, &head, format!("{:x}\r\n{}\r\n0\r\n\r\n", b - a + 7, "x".repeat(b - a + 7)).as_bytes()).await
    });
    assert_eq!(reason.await, "sends more than it says");

    let reason = left_alone(N, |asked, stream| async move {
        let (a, b) = asked.range?;
        let head = partial_head(a, b, N) + "\nContent-Type: text/html";
        say(stream, &head, &vec![b'<'; b - a]).await
    });
    assert_eq!(reason.await, "answers with a web page instead of the file");

    let reason = left_alone(N, |asked, stream| async move {
        let to = if asked.path == "/b" { "/v.mkv" } else { "/b" };
        say(stream, &format!("HTTP/1.1 301 Moved\nLocation: {to}\nContent-Length: 0"), b"").await
    });
    assert_eq!(reason.await, "redirects in a circle");

    let reason = left_alone(N, |asked, stream| async move {
        say(stream, &format!("HTTP/1.1 307 T\nLocation: /{}\nContent-Length: 0", asked.nth), b"").await
    });
    assert_eq!(reason.await, "redirects more than 5 times");

    let reason = left_alone(N, |_, stream| async move {
        say(stream, "HTTP/1.1 302 Found\nLocation: file:///etc/passwd\nContent-Length: 0", b"").await
    });
    assert_eq!(reason.await, "redirects to an address that is none");

    let reason = left_alone(N, |_, stream| async move { say(stream, "HTTP/1.1 404 No\nContent-Length: 0", b"").await });
    assert!(reason.await.starts_with("does not have the file"));
}

#[tokio::test]
async fn garbage_for_an_answer_is_an_unreachable_server_and_no_panic() {
    let server = Hostile::start(|_, mut stream| async move {
        let _ = stream.write_all(b"\x16\x03\x01 what?\r\n\r\n").await;
        None
    })
    .await;
    let (_origin, mut rx) = start(map_of(&[(&server.url("/v"), 10)]));
    assert!(!down(&mut rx).await.is_empty());
}

#[tokio::test]
async fn a_whole_file_may_come_as_a_whole() {
    let data: Arc<[u8]> = pattern(10_000).into();
    let whole = data.clone();
    let server = Hostile::start(move |asked, stream| {
        let data = data.clone();
        async move {
            match asked.range {
                Some((0, 10_000)) => say(stream, "HTTP/1.1 200 OK\nContent-Length: 10000", &data).await,
                _ => good(asked, stream, &data).await,
            }
        }
    })
    .await;
    let (origin, mut rx) = start(map_of(&[(&server.url("/v"), 10_000)]));
    origin.fetch(F, ByteRange::new(0, 10_000), Vec::new());
    assert_eq!(collect(&mut rx, F, 0).await.unwrap(), &whole[..]);
}

#[tokio::test]
async fn bytes_are_told_before_the_range_ends_and_an_abort_ends_it() {
    let server = Hostile::start(|asked, mut stream| async move {
        let (a, b) = asked.range?;
        if b - a == 1 {
            return say(stream, &partial_head(a, b, 1_000_000), b"x").await;
        }
        // A first part, then nothing, for ever.
        stream = say(stream, &partial_head(a, b, 1_000_000), &pattern(1000)).await?;
        std::future::pending::<()>().await;
        Some(stream)
    })
    .await;
    let (origin, mut rx) = start(map_of(&[(&server.url("/v"), 1_000_000)]));
    up(&mut rx).await;
    origin.fetch(F, ByteRange::new(0, 1_000_000), Vec::new());
    let mut got = 0;
    while got < 1000 {
        match next(&mut rx).await {
            OriginEvent::Bytes { data, .. } => got += data.len(),
            other => panic!("{other:?}"),
        }
    }
    origin.abort(F);
    // The next fetch finds a spare connection open: no new one is made for it after it was asked for.
    origin.fetch(FetchId(2), ByteRange::new(7, 8), Vec::new());
    assert_eq!(collect(&mut rx, FetchId(2), 7).await.unwrap(), b"x");
}

#[tokio::test]
async fn a_renewed_server_is_asked_over_a_new_connection_and_over_that_from_then_on() {
    let data: Arc<[u8]> = pattern(10_000).into();
    let served = data.clone();
    let server = Hostile::start(move |asked, stream| {
        let data = served.clone();
        async move { good(asked, stream, &data).await }
    })
    .await;
    let (origin, mut rx) = start(map_of(&[(&server.url("/v"), 10_000)]));
    up(&mut rx).await;
    let over =
        |fetch| server.asked.lock().iter().filter(move |a| a.range == Some(fetch)).map(|a| a.connection).collect();
    let mut used: Vec<Vec<usize>> = Vec::new();
    for n in 0..4u32 {
        if n == 2 {
            origin.renew();
        }
        let (from, to) = (n as usize * 1000, n as usize * 1000 + 500);
        origin.fetch(FetchId(n), ByteRange::new(from as u64, to as u64), Vec::new());
        assert_eq!(collect(&mut rx, FetchId(n), from as u64).await.unwrap(), &data[from..to]);
        used.push(over((from, to)));
    }
    let [a, b, c, d] = <[Vec<usize>; 4]>::try_from(used).unwrap();
    assert!(c.iter().all(|n| !a.contains(n) && !b.contains(n)), "{a:?} {b:?} {c:?}");
    assert!(d.iter().all(|n| !a.contains(n) && !b.contains(n)), "{a:?} {b:?} {d:?}");
}

#[tokio::test]
async fn a_spare_connection_is_kept_beside_a_running_fetch() {
    let server = Hostile::start(|asked, mut stream| async move {
        let (a, b) = asked.range?;
        stream = say(stream, &partial_head(a, b, 1_000_000), &vec![1; (b - a).min(10)]).await?;
        if b - a > 10 {
            std::future::pending::<()>().await;
        }
        Some(stream)
    })
    .await;
    let (origin, mut rx) = start(map_of(&[(&server.url("/v"), 1_000_000)]));
    up(&mut rx).await;
    origin.fetch(F, ByteRange::new(0, 1_000_000), Vec::new());
    assert!(matches!(next(&mut rx).await, OriginEvent::Bytes { .. }));
    let asked = server.asked.clone();
    until("a second connection is probed", || asked.lock().iter().any(|a| a.connection == 1)).await;
    // The fetch may still be told of its connection before the client pools it: let the spare be read to its end.
    let made = || server.connections.load(Ordering::SeqCst);
    origin.fetch(FetchId(2), ByteRange::new(500, 505), Vec::new());
    assert_eq!(collect(&mut rx, FetchId(2), 500).await.unwrap(), [1; 5]);
    assert!(made() <= 3, "{} connections", made());
}

#[tokio::test]
async fn a_short_rest_is_read_to_keep_the_connection() {
    let (gate, together) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(9)));
    let aborted = gate.clone();
    let server = Hostile::start(move |asked, mut stream| {
        let (gate, together) = (gate.clone(), together.clone());
        async move {
            let (a, b) = asked.range?;
            if b - a == 2 {
                // Answers only where nine connections ask: more than the client keeps, so each that it kept is used.
                together.wait().await;
            }
            stream = say(stream, &partial_head(a, b, 100_000), &vec![1; (b - a).min(1000)]).await?;
            if b - a > 1000 {
                gate.wait().await;
                stream.write_all(&vec![1; b - a - 1000]).await.ok()?;
            }
            Some(stream)
        }
    })
    .await;
    let (origin, mut rx) = start(map_of(&[(&server.url("/v"), 100_000)]));
    up(&mut rx).await;
    origin.fetch(F, ByteRange::new(0, 60_000), Vec::new());
    assert!(matches!(next(&mut rx).await, OriginEvent::Bytes { .. }));
    origin.abort(F);
    aborted.wait().await;
    let log = server.asked.clone();
    let first = log.lock().iter().find(|a| a.range == Some((0, 60_000))).map(|a| a.connection);
    for n in (10..).step_by(9) {
        for i in 0..9 {
            origin.fetch(FetchId(n + i), ByteRange::new(0, 2), Vec::new());
        }
        let mut done = 0;
        while done < 9 {
            done += usize::from(matches!(next(&mut rx).await, OriginEvent::Done { .. }));
        }
        // The rest may not have been read yet; once it is, the connection serves again.
        if log.lock().iter().any(|a| a.range == Some((0, 2)) && Some(a.connection) == first) {
            return;
        }
        assert!(n < 3000, "the connection was closed");
    }
}

#[tokio::test]
async fn a_slow_driver_slows_the_socket() {
    let written = Arc::new(AtomicUsize::new(0));
    let stuck = Arc::new(tokio::sync::Notify::new());
    let (count, notify) = (written.clone(), stuck.clone());
    const N: usize = 1 << 30;
    let server = Hostile::start(move |asked, mut stream| {
        let (count, notify) = (count.clone(), notify.clone());
        async move {
            let (a, b) = asked.range?;
            stream = say(stream, &partial_head(a, b, N), b"").await?;
            let block = vec![0; 1 << 16];
            let mut left = b - a;
            while left > 0 {
                let n = left.min(block.len());
                let write = stream.write_all(&block[..n]);
                if tokio::time::timeout(std::time::Duration::from_millis(500), write).await.is_err() {
                    notify.notify_one();
                    return None;
                }
                count.fetch_add(n, Ordering::SeqCst);
                left -= n;
            }
            Some(stream)
        }
    })
    .await;
    let (origin, mut rx) = start(map_of(&[(&server.url("/v"), N as u64)]));
    up(&mut rx).await;
    origin.fetch(F, ByteRange::new(0, N as u64), Vec::new());
    tokio::time::timeout(LIMIT, stuck.notified()).await.expect("the server's writes get stuck");
    assert!(written.load(Ordering::SeqCst) < 64 << 20);
}

#[tokio::test]
async fn a_busy_server_rests_and_comes_back() {
    let server = Hostile::start(|asked, stream| async move {
        match asked.range? {
            (a, b) if b - a > 1 && asked.nth < 3 => {
                say(stream, "HTTP/1.1 503 Busy\nRetry-After: 3\nContent-Length: 0", b"").await
            }
            (a, b) => say(stream, &partial_head(a, b, 100), &vec![1; b - a]).await,
        }
    })
    .await;
    let (origin, mut rx) = start(map_of(&[(&server.url("/v"), 100)]));
    up(&mut rx).await;
    origin.fetch(F, ByteRange::new(0, 100), Vec::new());
    assert!(down(&mut rx).await.starts_with("is busy"));
    assert!(collect(&mut rx, F, 0).await.is_err());
    up(&mut rx).await;
}

#[tokio::test]
async fn a_server_that_comes_late_is_found() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let (origin, mut rx) = start(map_of(&[(&format!("http://{addr}/v"), 100)]));
    assert_eq!(down(&mut rx).await, "refuses connections");
    origin.fetch(F, ByteRange::new(0, 5), Vec::new());
    assert!(collect(&mut rx, F, 0).await.is_err());
    let listener = TcpListener::bind(addr).await.unwrap();
    let _server = Hostile::start_on(listener, |asked, stream| async move { good(asked, stream, &[7; 100]).await });
    up(&mut rx).await;
    origin.fetch(FetchId(2), ByteRange::new(0, 5), Vec::new());
    assert_eq!(collect(&mut rx, FetchId(2), 0).await.unwrap(), [7; 5]);
}

#[tokio::test]
async fn a_url_that_the_user_opens_is_told_apart() {
    let server = Hostile::start(|asked, stream| async move {
        let (head, body): (String, &[u8]) = match asked.path.as_str() {
            "/t" => ("HTTP/1.1 200 OK\nContent-Length: 32".into(), b"d8:announce3:abc4:infod4:name1:xe"),
            "/page" => ("HTTP/1.1 200 OK\nContent-Length: 6\nContent-Type: text/html; charset=utf-8".into(), b"<html>"),
            "/ignores" => ("HTTP/1.1 200 OK\nContent-Length: 10".into(), &[0; 10]),
            "/endless" => ("HTTP/1.1 200 OK\nConnection: close".into(), &[0; 9000]),
            "/huge" => ("HTTP/1.1 200 OK\nContent-Length: 99999999999".into(), b""),
            "/to" => ("HTTP/1.1 302 Found\nLocation: /v\nContent-Length: 0".into(), b""),
            "/v" => return good(asked, stream, &[1; 100_000]).await,
            _ => ("HTTP/1.1 404 Not Found\nContent-Length: 0".into(), b""),
        };
        let close = asked.path == "/endless";
        say(stream, &head, body).await.filter(|_| !close)
    })
    .await;
    let v = probe_url(&NetRoute::default(), &server.url("/to")).await.unwrap();
    assert_eq!((v.len, v.ranges, v.is_torrent), (100_000, true, false));
    assert!(v.final_url.ends_with("/v"));
    assert!(probe_url(&NetRoute::default(), &server.url("/t")).await.unwrap().is_torrent);
    assert!(!probe_url(&NetRoute::default(), &server.url("/ignores")).await.unwrap().ranges);
    for bad in ["/page", "/endless", "/none"] {
        assert!(
            matches!(probe_url(&NetRoute::default(), &server.url(bad)).await, Err(OriginError::Refused { .. })),
            "{bad}"
        );
    }
    assert_eq!(get_small(&NetRoute::default(), &server.url("/t"), 1000).await.unwrap().len(), 32);
    for big in ["/huge", "/endless"] {
        assert!(
            matches!(get_small(&NetRoute::default(), &server.url(big), 1000).await, Err(OriginError::TooLarge { .. })),
            "{big}"
        );
    }
    assert!(matches!(probe_url(&NetRoute::default(), "ftp://h/x").await, Err(OriginError::BadUrl(_))));
    let secret = server.url("/none").replace("http://", "http://user:hunter2@");
    for e in [
        probe_url(&NetRoute::default(), &secret).await.unwrap_err(),
        get_small(&NetRoute::default(), &secret, 9).await.unwrap_err(),
    ] {
        assert!(!e.to_string().contains("hunter2") && !format!("{e:?}").contains("hunter2"), "{e}");
    }
    assert!(
        server
            .asked
            .lock()
            .iter()
            .any(|a| a.head.to_ascii_lowercase().contains("authorization: basic dxnlcjpodw50zxiy"))
    );
}

//! What is sent of which file.

use reqwest::{Client, Method, StatusCode};

use super::super::source::{SourceError, SourceSpec};
use super::super::{Origin, ServeError, ServeOptions};
use super::{of, pattern, run, start};

#[tokio::test]
async fn files_are_served_by_range_and_nothing_outside_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("sub")).unwrap();
    let data = pattern(100_000);
    std::fs::write(root.join("sub/a b.bin"), &data).unwrap();
    std::fs::write(dir.path().join("secret"), b"secret").unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(dir.path().join("secret"), root.join("link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), root.join("up")).unwrap();
    }
    let server = start(of(&root)).await;
    for path in ["/sub/a%20b.bin", "/root/sub/a%20b.bin", "//sub/./a b.bin"] {
        let part = server.get(path, "bytes=500-999").await;
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT, "{path}");
        let headers = part.headers();
        assert_eq!(headers["content-range"], "bytes 500-999/100000");
        assert_eq!(headers["content-length"], "500");
        assert_eq!(headers["accept-ranges"], "bytes");
        assert_eq!(headers["content-type"], "application/octet-stream");
        assert_eq!(headers["access-control-allow-origin"], "*");
        assert!(headers["access-control-expose-headers"].to_str().unwrap().contains("content-range"));
        assert_eq!(headers["sluicegate-bids"], "/v1/bids");
        assert!(headers.contains_key("etag") && headers.contains_key("last-modified"));
        assert_eq!(part.bytes().await.unwrap(), &data[500..1000]);
    }
    let path = "/sub/a%20b.bin";
    assert_eq!(server.get(path, "").await.bytes().await.unwrap(), data);
    assert_eq!(server.get(path, "bytes=-7").await.bytes().await.unwrap(), &data[99_993..]);
    assert_eq!(server.get(path, "bytes=99990-").await.bytes().await.unwrap(), &data[99_990..]);
    for (range, status) in [("bytes=100000-", 416), ("bytes=-0", 416), ("bytes=9-5", 200), ("lines=1-2", 200)] {
        let answer = server.get(path, range).await;
        assert_eq!(answer.status().as_u16(), status, "{range}");
        if status == 416 {
            assert_eq!(answer.headers()["content-range"], "bytes */100000");
        }
    }
    let many = (0..40).map(|i| format!("{i}-{i}")).collect::<Vec<_>>().join(",");
    assert_eq!(server.get(path, &format!("bytes={many}")).await.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    // Ranges are for GET alone (RFC 9110 §14.2).
    let head = server.ask(Method::HEAD, path, &[("range", "bytes=0-1")]).await;
    assert_eq!((head.status(), head.headers()["content-length"].as_bytes()), (StatusCode::OK, &b"100000"[..]));
    assert_eq!(head.bytes().await.unwrap().len(), 0);
    for path in
        ["/link", "/up/secret", "/%2e%2e/secret", "/sub/..%2f..%2fsecret", "/nothing", "/sub", "/", "/root", "/a%00b"]
    {
        assert_eq!(server.get(path, "").await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    // As no client would write it.
    for path in
        ["/../secret", "/sub/../../secret", "/..\\secret", "/sub/..%5c..%5csecret", "/%2e%2e%2fsecret", "secret"]
    {
        let answer =
            server.raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await;
        assert!(!answer.contains("200 OK") && answer.starts_with("HTTP/1.1 4"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn several_ranges_come_as_one_multipart() {
    let dir = tempfile::tempdir().unwrap();
    let data = pattern(50_000);
    std::fs::write(dir.path().join("f.mkv"), &data).unwrap();
    let server = start(of(dir.path())).await;
    let answer = server.get("/f.mkv", "bytes=40000-44999, 0-9, -20").await;
    assert_eq!(answer.status(), StatusCode::PARTIAL_CONTENT);
    assert!(!answer.headers().contains_key("content-range"));
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let told: usize = answer.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let body = answer.bytes().await.unwrap();
    assert_eq!(body.len(), told);
    let mut expected = Vec::new();
    for (i, (from, to)) in [(40_000, 45_000), (0, 10), (49_980, 50_000)].into_iter().enumerate() {
        let line = if i == 0 { "" } else { "\r\n" };
        let range = format!("bytes {from}-{}/50000", to - 1);
        let head = format!("{line}--{boundary}\r\nContent-Type: video/x-matroska\r\nContent-Range: {range}\r\n\r\n");
        expected.extend_from_slice(head.as_bytes());
        expected.extend_from_slice(&data[from..to]);
    }
    expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    assert_eq!(body, expected);
    // Those that overlap are one, and then it is no multipart.
    let one = server.get("/f.mkv", "bytes=0-99,50-199,100-299").await;
    assert_eq!(one.headers()["content-range"], "bytes 0-299/50000");
    assert_eq!(one.bytes().await.unwrap(), &data[..300]);
}

#[tokio::test]
async fn what_a_client_has_is_asked_after() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::write(&path, pattern(1000)).unwrap();
    let server = start(of(dir.path())).await;
    let first = server.get("/f", "").await;
    let told = |name: &str| first.headers()[name].to_str().unwrap().to_owned();
    let (etag, modified) = (told("etag"), told("last-modified"));
    assert!(etag.starts_with('"'), "a strong one: {etag}");
    let ask = |headers: &[(&str, &str)]| {
        let headers: Vec<(String, String)> = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let server = &server;
        async move {
            let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            server.ask(Method::GET, "/f", &headers).await
        }
    };
    let not_modified = ask(&[("if-none-match", &etag)]).await;
    assert_eq!(not_modified.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(not_modified.headers()["etag"], etag.as_str());
    assert_eq!(ask(&[("if-modified-since", &modified)]).await.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(ask(&[("if-match", "\"other\"")]).await.status(), StatusCode::PRECONDITION_FAILED);
    for validator in [&etag, &modified] {
        let part = ask(&[("if-range", validator), ("range", "bytes=0-9")]).await;
        assert_eq!(part.status(), StatusCode::PARTIAL_CONTENT, "{validator}");
    }
    std::fs::write(dir.path().join("new"), pattern(2000)).unwrap();
    std::fs::rename(dir.path().join("new"), &path).unwrap();
    let whole = ask(&[("if-range", &etag), ("range", "bytes=0-9")]).await;
    assert_eq!((whole.status(), whole.content_length()), (StatusCode::OK, Some(2000)));
    assert_eq!(ask(&[("if-none-match", &etag)]).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn each_path_has_its_name_and_a_single_file_the_root_too() {
    let dir = tempfile::tempdir().unwrap();
    let (film, folder) = (dir.path().join("a {film}.mp4"), dir.path().join("Season 1"));
    std::fs::write(&film, b"film").unwrap();
    std::fs::write(dir.path().join("other"), b"other").unwrap();
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("e1.mkv"), b"one").unwrap();
    let single = start(of(&film)).await;
    for path in ["/", "/a%20%7Bfilm%7D.mp4"] {
        let answer = single.get(path, "").await;
        assert_eq!(answer.headers()["content-type"], "video/mp4", "{path}");
        assert_eq!(answer.bytes().await.unwrap(), "film", "{path}");
    }
    assert_eq!(single.get("/other", "").await.status(), StatusCode::NOT_FOUND);
    let paths = |paths: &[&std::path::Path]| {
        let sources = paths.iter().map(|p| SourceSpec::Path(p.to_path_buf())).collect();
        ServeOptions { sources, ..ServeOptions::default() }
    };
    let both = start(paths(&[&film, &folder])).await;
    assert_eq!(both.get("/Season%201/e1.mkv", "").await.bytes().await.unwrap(), "one");
    assert_eq!(both.get("/a%20%7Bfilm%7D.mp4", "").await.bytes().await.unwrap(), "film");
    for path in ["/", "/e1.mkv", "/Season%201", "/Season%201/"] {
        assert_eq!(both.get(path, "").await.status(), StatusCode::NOT_FOUND, "{path}");
    }
    let same = Origin::open(paths(&[&film, &dir.path().join(".").join("a {film}.mp4")])).await;
    assert!(matches!(same, Err(ServeError::Source(SourceError::SameName { .. }))));
    let gone = Origin::open(paths(&[std::path::Path::new("/no/such/folder")])).await;
    assert!(matches!(gone, Err(ServeError::Source(SourceError::Read { .. }))));
    assert!(Origin::open(ServeOptions::default()).await.is_err());
}

#[tokio::test]
async fn http_2_without_tls_and_http_1_0() {
    let dir = tempfile::tempdir().unwrap();
    let data = pattern(300_000);
    std::fs::write(dir.path().join("f"), &data).unwrap();
    let server = run(Origin::open(of(dir.path())).await.unwrap(), None, false).await;
    let h2 = Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let asked = (0..20u64).map(|i| {
        let (h2, url) = (h2.clone(), format!("{}/f", server.url));
        async move {
            let answer =
                h2.get(url).header("range", format!("bytes={}-{}", i * 1000, i * 1000 + 9999)).send().await.unwrap();
            assert_eq!((answer.version(), answer.status().as_u16()), (reqwest::Version::HTTP_2, 206));
            answer.bytes().await.unwrap()
        }
    });
    for (i, body) in futures::future::join_all(asked).await.into_iter().enumerate() {
        assert_eq!(body, &data[i * 1000..i * 1000 + 10_000]);
    }
    assert_eq!(h2.head(format!("{}/f", server.url)).send().await.unwrap().headers()["content-length"], "300000");
    assert_eq!(h2.get(format!("{}/f", server.url)).send().await.unwrap().bytes().await.unwrap(), data);
    let old = server.raw(b"GET /f HTTP/1.0\r\nRange: bytes=0-0\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 206"), "{old}");
}

#[tokio::test]
async fn a_file_that_changes_breaks_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    std::fs::File::create(&path).unwrap().set_len(200 << 20).unwrap();
    let server = start(of(dir.path())).await;
    let mut answer = server.get("/f", "").await;
    assert!(answer.chunk().await.unwrap().is_some());
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(100 << 20).unwrap();
    let mut got = 0u64;
    let ended = loop {
        match answer.chunk().await {
            Ok(Some(bytes)) => got += bytes.len() as u64,
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    assert!(!ended, "what was cut short looks whole after {got} bytes");
    super::until("it is counted", || server.count("sluicegate_broken_total") == 1).await;
    assert_eq!(server.get("/f", "bytes=-1").await.status(), StatusCode::PARTIAL_CONTENT);
}

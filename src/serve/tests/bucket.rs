//! Buckets: a small server that speaks as much S3 as is asked of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use object_store::aws::AmazonS3Builder;
use parking_lot::Mutex;
use reqwest::Method;

use super::super::source::bucket::Bucket;
use super::super::source::{SourceError, Tree};
use super::super::{Origin, ServeOptions};
use super::{Running, pattern, run};

const SLICE: u64 = 4 << 20;

/// Method, key and range of a request.
type Asked = (Method, String, Option<(u64, u64)>);

#[derive(Default)]
struct S3 {
    /// By key: ETag and bytes.
    objects: Mutex<BTreeMap<String, (String, Bytes)>>,
    asked: Mutex<Vec<Asked>>,
    ill: AtomicBool,
}

impl S3 {
    fn put(&self, key: &str, etag: &str, bytes: &[u8]) {
        self.objects.lock().insert(key.to_owned(), (etag.to_owned(), Bytes::copy_from_slice(bytes)));
    }

    fn gets(&self) -> Vec<(u64, u64)> {
        self.asked.lock().iter().filter(|a| a.0 == Method::GET).filter_map(|a| a.2).collect()
    }

    async fn start(self: &Arc<Self>) -> AmazonS3Builder {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(answer).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        AmazonS3Builder::new()
            .with_endpoint(endpoint)
            .with_region("tests")
            .with_access_key_id("id")
            .with_secret_access_key("secret")
    }
}

fn status(code: u16) -> Response {
    Response::builder().status(code).body(Body::empty()).unwrap()
}

async fn answer(State(s3): State<Arc<S3>>, request: Request) -> Response {
    let headers = request.headers();
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    if !header("authorization").is_some_and(|a| a.starts_with("AWS4-HMAC-SHA256 Credential=id/")) {
        return status(403);
    }
    let path = super::super::source::path::decode(request.uri().path()).unwrap();
    let Some(key) = path.strip_prefix("/films").map(|k| k.trim_start_matches('/').to_owned()) else {
        return status(404);
    };
    if s3.ill.load(Ordering::Relaxed) {
        return status(500);
    }
    if key.is_empty() {
        return list(&s3, request.uri().query().unwrap_or_default());
    }
    let range = header("range").and_then(|r| r.strip_prefix("bytes=")?.split_once('-'));
    let range = range.map(|(a, b)| (a.parse::<u64>().unwrap(), b.parse::<u64>().unwrap() + 1));
    s3.asked.lock().push((request.method().clone(), key.clone(), range));
    let Some((etag, bytes)) = s3.objects.lock().get(&key).cloned() else { return status(404) };
    if header("if-match").is_some_and(|m| m != etag) {
        return status(412);
    }
    let (from, to) = range.unwrap_or((0, bytes.len() as u64));
    let part = bytes.slice(from as usize..(to as usize).min(bytes.len()));
    let mut answer = Response::builder()
        .header("etag", etag)
        .header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")
        .header("content-length", part.len());
    if range.is_some() {
        let told = format!("bytes {from}-{}/{}", from + part.len() as u64 - 1, bytes.len());
        answer = answer.status(206).header("content-range", told);
    }
    let body = if request.method() == Method::HEAD { Body::empty() } else { Body::from(part) };
    answer.body(body).unwrap()
}

/// ListObjectsV2.
fn list(s3: &S3, query: &str) -> Response {
    let prefix =
        url::form_urlencoded::parse(query.as_bytes()).find(|(n, _)| n == "prefix").map(|(_, v)| v.into_owned());
    let prefix = prefix.unwrap_or_default();
    let objects = s3.objects.lock();
    let contents = objects.iter().filter(|(k, _)| k.starts_with(&prefix)).map(|(key, (_, bytes))| {
        format!(
            "<Contents><Key>{key}</Key><LastModified>1994-11-06T08:49:37Z</LastModified><Size>{}</Size></Contents>",
            bytes.len()
        )
    });
    let xml = format!("<ListBucketResult>{}</ListBucketResult>", contents.collect::<String>());
    Response::builder().body(Body::from(xml)).unwrap()
}

async fn serve(s3: AmazonS3Builder, prefix: &str) -> Running {
    let bucket = Bucket::open_by(s3, "films", prefix).await.unwrap();
    run(Origin::of(Tree::of_bucket("films", bucket), ServeOptions::default()), None, false).await
}

#[tokio::test]
async fn objects_are_served_by_range_and_never_read_whole() {
    let s3 = Arc::new(S3::default());
    let data = pattern(9 << 20);
    s3.put("a/b c é%.mkv", "\"one\"", &data);
    s3.put("a/.hidden", "\"x\"", b"x");
    let server = serve(s3.start().await, "").await;
    let path = "/a/b%20c%20%C3%A9%25.mkv";
    let head = server.ask(Method::HEAD, path, &[]).await;
    assert_eq!((head.status().as_u16(), head.headers()["content-length"].as_bytes()), (200, &b"9437184"[..]));
    assert_eq!(head.headers()["etag"], "\"one\"");
    assert_eq!(head.headers()["last-modified"], "Sun, 06 Nov 1994 08:49:37 GMT");
    assert!(s3.gets().is_empty());
    let part = server.get(path, "bytes=5000000-5000099").await;
    assert_eq!(part.headers()["content-range"], "bytes 5000000-5000099/9437184");
    assert_eq!(part.bytes().await.unwrap(), &data[5_000_000..5_000_100]);
    assert!(server.get(path, "").await.bytes().await.unwrap() == data);
    let two = server.get(path, "bytes=0-9,9437174-").await.bytes().await.unwrap();
    assert!(two.windows(10).any(|w| w == &data[..10]) && two.windows(10).any(|w| w == &data[data.len() - 10..]));
    assert!(s3.gets().iter().all(|(from, to)| to - from <= SLICE), "{:?}", s3.gets());
    // What is known of an object is asked once in a while, not for each range.
    assert_eq!(s3.asked.lock().iter().filter(|a| a.0 == Method::HEAD).count(), 1);
    for none in ["/a/nothing", "/a", "/", "/a/.hidden", "/films/x"] {
        assert_eq!(server.get(none, "").await.status().as_u16(), 404, "{none}");
    }
    assert_eq!(server.ask(Method::GET, path, &[("if-none-match", "\"one\"")]).await.status().as_u16(), 304);
}

#[tokio::test]
async fn an_object_that_changes_breaks_its_answer() {
    let s3 = Arc::new(S3::default());
    s3.put("film.mkv", "\"one\"", &pattern(30 << 20));
    let server = serve(s3.start().await, "film.mkv").await;
    for path in ["/", "/films"] {
        assert_eq!(server.get(path, "bytes=0-0").await.status().as_u16(), 206, "{path}");
    }
    let mut answer = server.get("/", "").await;
    assert!(answer.chunk().await.unwrap().is_some());
    s3.put("film.mkv", "\"two\"", &vec![0; 30 << 20]);
    let whole = loop {
        match answer.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    assert!(!whole);
    // It was noticed: what is told next is of the new one.
    assert_eq!(server.get("/", "bytes=0-0").await.headers()["etag"], "\"two\"");
}

#[tokio::test]
async fn a_bucket_that_is_empty_or_ill() {
    let s3 = Arc::new(S3::default());
    s3.put("a/f", "\"one\"", b"film");
    let at = s3.start().await;
    let failed = async |bucket: &str, prefix: &str| Bucket::open_by(at.clone(), bucket, prefix).await.err();
    assert!(matches!(failed("films", "b").await, Some(SourceError::EmptyBucket { .. })));
    assert!(failed("others", "").await.is_some());
    assert!(failed("films", "a").await.is_none() && failed("films", "a/f").await.is_none());
    let server = serve(at.clone(), "a").await;
    assert_eq!(server.get("/f", "").await.bytes().await.unwrap(), "film");
    s3.ill.store(true, Ordering::Relaxed);
    let busy = server.get("/other", "").await;
    assert_eq!((busy.status().as_u16(), busy.headers()["retry-after"].as_bytes()), (503, &b"1"[..]));
}

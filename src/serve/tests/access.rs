//! Who may, and what is said to those who may not.

use std::time::{Duration, SystemTime};

use reqwest::{Method, StatusCode};

use super::super::source::SourceSpec;
use super::super::{Origin, ServeOptions};
use super::{of, run, start};

const TOKEN: &str = "a token of tests";

fn guarded(path: &std::path::Path) -> ServeOptions {
    ServeOptions { token: Some(TOKEN.into()), ..of(path) }
}

#[tokio::test]
async fn a_token_opens_everything_and_a_signature_one_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), b"film").unwrap();
    std::fs::write(dir.path().join("g"), b"other").unwrap();
    let server = start(guarded(dir.path())).await;
    let status =
        async |path: &str, headers: &[(&str, &str)]| server.ask(Method::GET, path, headers).await.status().as_u16();
    let refused = server.ask(Method::GET, "/f", &[]).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    assert!(refused.headers()["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
    // Nor is anybody told what there is.
    assert_eq!(status("/nothing", &[]).await, 401);
    let bearer = format!("Bearer {TOKEN}");
    let with = [("authorization", bearer.as_str())];
    let answer = server.ask(Method::GET, "/f", &with).await;
    assert_eq!((answer.status().as_u16(), answer.headers()["cache-control"].as_bytes()), (200, &b"private"[..]));
    assert_eq!(status("/nothing", &with).await, 404);
    assert_eq!(status("/f", &[("authorization", "Bearer wrong")]).await, 401);
    let basic = server.client.get(format!("{}/f", server.url)).basic_auth("any", Some(TOKEN)).send().await.unwrap();
    assert_eq!(basic.status(), StatusCode::OK);

    let good = server.origin.sign("/f", SystemTime::now() + Duration::from_secs(600)).unwrap();
    let gone = server.origin.sign("/f", SystemTime::now() - Duration::from_secs(1)).unwrap();
    assert_eq!(status(&good, &[]).await, 200);
    assert_eq!(status(&good.replace("/f?", "/g?"), &[]).await, 401);
    assert_eq!(status(&good.replace("expires=", "expires=1"), &[]).await, 401);
    assert_eq!(status(&gone, &[]).await, 403);

    assert_eq!(status("/healthz", &[]).await, 200);
    assert_eq!(status("/metrics", &[]).await, 401);
    assert_eq!(status("/metrics", &with).await, 200);
    let preflight = server.ask(Method::OPTIONS, "/f", &[("origin", "https://player.example")]).await;
    assert_eq!(preflight.status(), StatusCode::NO_CONTENT);
    assert!(preflight.headers()["access-control-allow-headers"].to_str().unwrap().contains("range"));

    let bid = |path: &str| format!("{{\"path\":\"{path}\"}}");
    let post = async |body: String, headers: &[(&str, &str)]| {
        let mut request =
            server.client.post(format!("{}/v1/bids", server.url)).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).send().await.unwrap().status().as_u16()
    };
    // What the bid itself is worth is for the gate to say: here it only gets that far, or not.
    for (body, headers, in_) in [
        (bid(&good), &[][..], true),
        (bid("/f"), &with[..], true),
        (bid("/f"), &[][..], false),
        (bid(&gone), &[][..], false),
        (bid(&good.replace("/f?", "/g?")), &[][..], false),
        ("{".into(), &[][..], false),
    ] {
        let said = post(body.clone(), headers).await;
        assert_eq!(!matches!(said, 401 | 403), in_, "{body}: {said}");
    }
    assert_eq!(post("x".repeat(5000), &[]).await, 413);
    assert!(server.count("sluicegate_refused_total{why=\"unauthorized\"}") >= 5);
    assert_eq!(server.count("sluicegate_refused_total{why=\"expired\"}"), 2);
}

#[tokio::test]
async fn methods_and_doors() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("f"), b"film").unwrap();
    let server = start(of(dir.path())).await;
    for (method, path, allow) in [
        (Method::POST, "/f", "GET, HEAD, OPTIONS"),
        (Method::PUT, "/f", "GET, HEAD, OPTIONS"),
        (Method::DELETE, "/nothing", "GET, HEAD, OPTIONS"),
        (Method::GET, "/v1/bids", "POST, OPTIONS"),
        (Method::POST, "/healthz", "GET, HEAD, OPTIONS"),
    ] {
        let answer = server.ask(method.clone(), path, &[]).await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
        assert_eq!(answer.headers()["allow"], allow);
    }
    assert_eq!(server.get("/metrics", "").await.status(), StatusCode::OK);

    let options = ServeOptions { sources: vec![SourceSpec::Path(dir.path().into())], metrics: false, ..of(dir.path()) };
    let server = run(Origin::open(options).await.unwrap(), None, true).await;
    let other = format!("http://{}", server.metrics.unwrap());
    let ask = async |url: String| server.client.get(url).send().await.unwrap();
    assert_eq!(server.get("/metrics", "").await.status(), StatusCode::NOT_FOUND);
    let text = ask(format!("{other}/metrics")).await.text().await.unwrap();
    assert!(text.contains("sluicegate_requests_total{code=\"404\"} 1") && text.ends_with("# EOF\n"), "{text}");
    assert_eq!(ask(format!("{other}/healthz")).await.status(), StatusCode::OK);
    assert_eq!(ask(format!("{other}/f")).await.status(), StatusCode::NOT_FOUND);
}
